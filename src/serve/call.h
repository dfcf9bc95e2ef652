/* A call: one infer request on its way through a worker, a batch and back.
 *
 * Threads: one at a time: the worker that received it, then maybe a pool thread, then that worker
 * again. Lifetime: lies in the request's arena; ends with the answer. */
#ifndef OT_SERVE_CALL_H
#define OT_SERVE_CALL_H

#include "codec/oip_memo.h"
#include "net/http_server.h"
#include "serve/route.h"

struct ot_worker;

typedef struct ot_call {
    struct ot_call *next;
    ot_http_req *req;
    struct ot_worker *worker;
    ot_dep *dep;         /* a reference is held once the call left its turn */
    ot_variant *variant; /* the one that answers; dep keeps it */
    ot_variant *asked;   /* the one that was to answer, when a fallback did */
    bool left_turn;
    bool sampled, fell_back, constant;
    uint64_t seq; /* of its first row */
    int64_t rows; /* 1 where rows are not known */
    int64_t time_us;
    uint64_t deadline_ns; /* 0: none */
    ot_slice key;         /* the caller's; p NULL: none */
    ot_oip_request in;
    ot_tensor *inputs; /* in the order of the signature */

    /* The result. */
    ot_rc rc;
    const char *message; /* why it failed; static or in the arena */
    int n_outputs;
    ot_tensor *outputs; /* in the order of the signature; room is made with the call */
    void *block;        /* owns the outputs' data, or NULL: they are the executor's */
} ot_call;

/* Decodes and checks the body against the variant's signature, and fills `call` but for seq, key,
 * sampled. Nothing of it is needed after the request was answered; `memo` is the calling thread's.
 * Errors are OT_INVALID and name the tensor, what was sent and what is expected. */
ot_rc ot_call_decode(ot_call *call, const ot_variant *v, int64_t header_len, ot_oip_memo *memo,
                     ot_error *err) OT_CHECKED;
/* Same shapes but for the rows: can share a batch. */
bool ot_call_fits(const ot_call *a, const ot_call *b);
/* Appends the answer's first part to `head` and sets the rest. */
ot_rc ot_call_encode(const ot_call *call, ot_oip_memo *memo, ot_str *head, ot_oip_encoded *out,
                     ot_error *err) OT_CHECKED;
void ot_call_fail(ot_call *call, ot_rc rc, const char *message); /* copies the message */

/* "INCARNATION-SEQ-VERSION-S"; returns the length. */
#define OT_PREDICTION_ID_MAX 64
size_t ot_prediction_id_format(char out[OT_PREDICTION_ID_MAX], uint64_t incarnation, uint64_t seq,
                               uint64_t version, bool sampled);

#endif
