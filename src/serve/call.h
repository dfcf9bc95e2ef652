/* A call: one infer request on its way through a worker, a batch and back.
 *
 * Threads: one at a time: the worker that received it, then maybe a pool thread, then that worker
 * again. Lifetime: lies in `arena`; ends with the answer. A protocol may put it at the start of a
 * struct of its own. */
#ifndef OT_SERVE_CALL_H
#define OT_SERVE_CALL_H

#include "codec/oip_memo.h"
#include "net/http_server.h"
#include "serve/route.h"
#include "serve/wire.h"

struct ot_call {
    ot_call *next;
    /* Set by the protocol. */
    const ot_wire *wire;
    ot_http_req *req;  /* of a stream: several calls have the same one */
    ot_arena *arena;   /* the request's; of a stream: the message's */
    uint64_t start_ns; /* when its first byte was seen */
    ot_client *client; /* whose key it came with; for the turn in which it began; or NULL */
    ot_slice label;    /* of the variant that is to answer (ot_dep_label); p NULL: what the header
                          overtake-label says */

    ot_worker *worker;
    ot_dep *dep;         /* a reference is held once the call left its turn */
    ot_variant *variant; /* the one that answers; dep keeps it */
    ot_variant *asked;   /* the one that was to answer, when a fallback did */
    bool left_turn;
    bool sampled, fell_back, constant;
    uint64_t seq;           /* of its first row */
    struct ot_trace *trace; /* NULL: not traced; see trace.h */
    int64_t rows;           /* 1 where rows are not known */
    int64_t time_us;
    uint64_t deadline_ns; /* 0: none */
    /* When its batch was taken, and the time in the runtime; 0: it was never run. */
    uint64_t taken_ns, run_from_ns, run_to_ns;
    ot_priority priority;       /* as asked until ot_worker_go, then one of the three */
    ot_slice key;               /* the caller's; p NULL: none */
    struct ot_passing *passing; /* of a call that is passed on to another server, or NULL */
    ot_oip_request in;
    ot_tensor *inputs; /* in the order of the signature */
    size_t unpacked;   /* bytes of its body, if that came compressed */

    /* The pool's queue. */
    uint64_t queued_ns, cost_ns; /* since when, and what it is predicted to add */
    uint64_t ahead_ns;           /* the wait that runs before it were predicted to make */

    /* The result. */
    ot_rc rc;
    const char *message; /* why it failed; static or in the arena */
    unsigned retry_s;    /* when it may be worth trying again; 0: as the code has it */
    int n_outputs;
    ot_tensor *outputs; /* in the order of the signature; room is made with the call */
    void *block;        /* owns the outputs' data, or NULL: they are the executor's */
};

/* Checks call->in against the variant's signature and fills inputs, outputs and rows.
 * Errors are OT_INVALID and name the tensor, what was sent and what is expected. */
ot_rc ot_call_check(ot_call *call, const ot_variant *v, ot_error *err) OT_CHECKED;
/* Decodes an Open Inference Protocol body (JSON, binary extension) and checks it. Nothing of it is
 * needed after the request was answered; `memo` is the calling thread's. */
ot_rc ot_call_decode(ot_call *call, const ot_variant *v, int64_t header_len, ot_oip_memo *memo,
                     ot_error *err) OT_CHECKED;
/* The output that is the i-th of the answer (as asked for, else in the signature's order), with its
 * name; `binary_out` may be NULL. Refused when the version that answered has no such output. */
int ot_call_n_outputs(const ot_call *call);
ot_rc ot_call_output(const ot_call *call, int i, ot_tensor *t_out, bool *binary_out,
                     ot_error *err) OT_CHECKED;
/* Same shapes but for the rows: can share a batch. */
bool ot_call_fits(const ot_call *a, const ot_call *b);
/* The Open Inference Protocol's answer; `tensors` has room for OT_OIP_TENSORS_MAX and stays with
 * it. */
ot_rc ot_call_response(const ot_call *call, ot_oip_tensor *tensors, ot_oip_response *out,
                       ot_error *err) OT_CHECKED;
/* The opposite: appends the answer's first part to `head` and sets the rest. */
ot_rc ot_call_encode(const ot_call *call, ot_oip_memo *memo, ot_str *head, ot_oip_encoded *out,
                     ot_error *err) OT_CHECKED;
void ot_call_fail(ot_call *call, ot_rc rc, const char *message); /* copies the message */

/* "INCARNATION-SEQ-VERSION-S"; returns the length. */
#define OT_PREDICTION_ID_MAX 64
size_t ot_prediction_id_format(char out[OT_PREDICTION_ID_MAX], uint64_t incarnation, uint64_t seq,
                               uint64_t version, bool sampled);

#endif
