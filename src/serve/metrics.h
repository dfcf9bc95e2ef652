/* Prometheus' text of a replica (docs/observability.md).
 *
 * Threads: a worker's (the route must stay for the call). */
#ifndef OT_SERVE_METRICS_H
#define OT_SERVE_METRICS_H

#include "serve/worker.h"

void ot_metrics_text(const ot_serve *s, const ot_route *r, ot_str *out);

#endif
