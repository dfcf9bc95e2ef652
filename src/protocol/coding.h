/* Content codings of requests and answers (RFC 9110, 8.4): gzip and deflate. gRPC has its own.
 *
 * Threads: the worker's. */
#ifndef OT_PROTOCOL_CODING_H
#define OT_PROTOCOL_CODING_H

#include "serve/worker.h"

#define OT_CODINGS "gzip, deflate"

/* Replaces a compressed body by what it holds, within the limit of bodies; a few bytes may hold
 * many, so all of a worker's calls together may hold OT_CODING_BODIES such bodies. False: the call
 * is refused (400 damaged, 413 too large, 415 another coding, 503 too many at a time). */
bool ot_coding_take_call(ot_call *call);
/* The same for a request that is no call and whose body is small. */
bool ot_coding_take(ot_worker *w, ot_http_req *req);
#define OT_CODING_BODIES 4
#define OT_CODING_SMALL (1u << 20)

/* Answers; compressed if the client accepts it and the body is so large that it may pay. */
void ot_coding_respond(ot_http_req *req, const ot_http_answer *a);

#define OT_CODING_LEAST 16384 /* bytes: what is shorter arrives in one round trip anyway */

/* Which of the two an Accept-Encoding prefers. False: none of them. */
bool ot_coding_accepted(ot_slice accept, bool *gzip_out);

#endif
