/* Live calls of a variant that is an external server: passed on from the worker's loop, which waits
 * for nothing. Golden answers, warm-up, shadow copies and fallbacks go through the runtime
 * (runtime/external.h), on threads that may wait.
 *
 * Threads: the worker's. A call ends like one from the pool: counted, sampled, answered by its
 * wire. One that failed goes to the pool when its deployment has a fallback, which runs there. */
#ifndef OT_SERVE_EXTERNAL_H
#define OT_SERVE_EXTERNAL_H

#include "serve/completion.h"
#include "serve/worker.h"

/* The answer of a chat completion that goes on: bytes as they came. */
typedef struct ot_passing {
    ot_call *call;
    ot_upstream_call *upstream; /* NULL: it has ended */
    bool chat;                  /* a completion that came as one; else tensors */
    bool streams;               /* and its client wants it in pieces */
    const char *path;           /* of a completion that came as one, as it was asked for */
    int status;
    int64_t header_len;
    char type[80];
    ot_str body;        /* of an answer that is taken whole */
    bool begun;         /* the client's stream has begun */
    ot_str pending;     /* what had no room in it */
    ot_str line;        /* of the stream, for what it says of usage */
    ot_completion *sum; /* what a stream adds up to, for who keeps the call; or NULL */
    bool settled;       /* the call has its result */
    bool ended;         /* all has come; `pending` is still to go */
    ot_rc end_rc;
    char end_why[240];
} ot_passing;

/* Passes the call on; call->passing is NULL or what the chat handler has put there. */
void ot_external_go(ot_worker *w, ot_call *call);

/* chat.c: POST /v1/chat/completions and /v1/completions, GET /v1/models. */
void ot_chat_complete(ot_worker *w, ot_http_req *req);
void ot_chat_models(ot_worker *w, ot_http_req *req);
/* The client's stream begins; false: it has gone. */
bool ot_chat_begin(ot_passing *p);

/* {"usage": {...}} of a completion, or of an event of its stream. */
void ot_external_count_usage(ot_passing *p, const char *json, size_t n);
/* The client has room again, or has gone. */
void ot_external_client_event(void *arg);

#endif
