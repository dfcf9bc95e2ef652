/* What a replica says about its models and itself: metadata, configuration, statistics.
 *
 * Threads: a worker's (the route must stay for the call). */
#ifndef OT_PROTOCOL_DESCRIBE_H
#define OT_PROTOCOL_DESCRIBE_H

#include "serve/worker.h"

void ot_describe_server(ot_str *out);
void ot_describe_model(const ot_dep *d, const ot_variant *v, ot_str *out);
void ot_describe_config(const ot_dep *d, const ot_variant *v, ot_str *out);
/* Of all variants of the deployment, or of one. */
void ot_describe_stats(const ot_dep *d, const ot_variant *only, ot_str *out);

/* extensions.c: what lies below /v2 and is asked for by clients of Triton alone. False: it is not
 * that. Of one model too: its segments behind the name. */
bool ot_extensions(ot_worker *w, ot_http_req *req, const ot_slice *seg, size_t n);

#endif
