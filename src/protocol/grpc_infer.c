/* ModelInfer and ModelStreamInfer of inference.GRPCInferenceService. */
#include "protocol/grpc_oip.h"

#include "codec/oip_pb.h"

#include <string.h>

/* ---- calls */

/* A number, or a label of one. */
static uint64_t read_version(ot_call *call, const char *text)
{
    ot_slice s = {.p = text, .n = strlen(text)};
    uint64_t version = 0;
    if (s.n > 0 && !(ot_worker_number(s, INT64_MAX, &version) && version > 0)) {
        call->label = s;
        return 0;
    }
    return version;
}

/* From a message to a call in this turn's batch, or to a refusal through the call's wire. */
static void begin(ot_worker *w, ot_call *call, ot_slice message, const char **model_out)
{
    ot_oip_pb_request q;
    ot_error err;
    ot_rc rc = ot_oip_pb_request_decode(message.p, message.n, call->arena, &q, &err);
    if (rc != OT_OK) {
        ot_worker_refuse(w, call, rc, ot_rc_http(rc), 0, "%s", err.msg);
        return;
    }
    call->in = q.r;
    *model_out = q.model_name;
    uint64_t version = read_version(call, q.model_version);
    if (!ot_worker_begin(w, call, q.model_name, strlen(q.model_name), version)) {
        return;
    }
    rc = ot_call_check(call, call->variant, &err);
    if (rc != OT_OK) {
        ot_worker_refuse(w, call, rc, ot_rc_http(rc), 0, "%s", err.msg);
        return;
    }
    ot_worker_go(w, call);
}

/* An answer that can't be encoded fails its call. */
static void fail_answer(ot_worker *w, ot_call *call, ot_rc rc, const char *why)
{
    ot_call_fail(call, rc, why);
    ot_worker_answer(w, call);
}

/* ---- one message, one answer */

static void answer_unary(ot_worker *w, ot_call *call)
{
    ot_oip_tensor tensors[OT_OIP_TENSORS_MAX];
    ot_oip_response r;
    ot_oip_pb_encoded e;
    ot_error err;
    ot_grpc_frame_begin(&w->head);
    ot_rc rc = ot_call_response(call, tensors, &r, &err);
    if (rc == OT_OK) {
        rc = ot_oip_pb_response_encode(&r, false, &w->head, &e, &err);
    }
    if (rc != OT_OK) {
        fail_answer(w, call, rc, err.msg);
        return;
    }
    ot_http_field fields[OT_GRPC_FIELDS];
    size_t n = ot_grpc_call_fields(w, call, fields);
    ot_grpc_answer(w, call->req, fields, n, &w->head, e.iov, (size_t)e.n_iov);
}

static const ot_wire unary = {.name = "grpc", .answer = answer_unary, .fail = ot_grpc_wire_fail};

void ot_grpc_model_infer(ot_worker *w, ot_http_req *req, ot_slice message)
{
    const char *model;
    ot_call *call = ot_arena_calloc(req->arena, 1, sizeof *call);
    if (call == NULL) {
        ot_grpc_fail(w, req, OT_EXHAUSTED, 0, "out of memory for the call");
        return;
    }
    if (ot_grpc_call_begin(w, call, &unary, req, req->arena, req->start_ns)) {
        begin(w, call, message, &model);
    }
}

/* ---- streams: what metadata say of a unary answer are parameters of a streamed one */

typedef struct streamed {
    ot_call call; /* first */
    ot_grpc_item *item;
    const char *model;
} streamed;

static int stream_params(const ot_worker *w, const ot_call *call, bool last, ot_param *p)
{
    int n = 0;
    ot_http_field fields[OT_GRPC_FIELDS];
    size_t n_fields = ot_grpc_call_fields(w, call, fields);
    for (size_t i = 0; i < n_fields; i++) {
        p[n++] = (ot_param){.name = fields[i].name, .type = OT_PARAM_STRING, .s = fields[i].value};
    }
    /* What Triton's client looks for when a request may have several answers. */
    p[n++] = (ot_param){.name = "triton_final_response", .type = OT_PARAM_BOOL, .b = last};
    return n;
}

/* A response as a message behind the item's others; false and why. */
static ot_rc add_streamed(ot_worker *w, ot_grpc_item *item, const ot_call *call, bool last,
                          ot_error *err)
{
    ot_oip_tensor tensors[OT_OIP_TENSORS_MAX];
    ot_param params[OT_GRPC_FIELDS + 1];
    ot_oip_response r;
    ot_oip_pb_encoded e;
    ot_str_clear(&w->head);
    w->head.failed = false;
    OT_TRY(ot_call_response(call, tensors, &r, err));
    r.params = (ot_params){params, stream_params(w, call, last, params)};
    OT_TRY(ot_oip_pb_response_encode(&r, true, &w->head, &e, err));
    if (e.bytes > UINT32_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "the answer has %zu bytes; a message has at most 4 GiB",
                       e.bytes);
    }
    size_t mark = ot_grpc_item_frame(item);
    for (int i = 0; i < e.n_iov; i++) {
        ot_str_add(&item->answer, e.iov[i].iov_base, e.iov[i].iov_len);
    }
    ot_grpc_item_framed(item, mark);
    return OT_OK;
}

static void answer_streamed(ot_worker *w, ot_call *call)
{
    ot_grpc_item *item = ((streamed *)call)->item;
    ot_error err;
    ot_rc rc = add_streamed(w, item, call, true, &err);
    if (rc != OT_OK) {
        fail_answer(w, call, rc, err.msg);
        return;
    }
    ot_grpc_item_done(item, OT_OK, NULL);
}

static void more_streamed(ot_worker *w, ot_call *call, const ot_call *now)
{
    streamed *s = (streamed *)call;
    ot_error err;
    if (add_streamed(w, s->item, now, false, &err) != OT_OK) {
        size_t mark = ot_grpc_item_frame(s->item);
        ot_oip_pb_stream_error(err.msg, s->model, now->in.id, &s->item->answer);
        ot_grpc_item_framed(s->item, mark);
    }
    ot_grpc_item_more(s->item);
}

static void fail_streamed(ot_worker *w, ot_call *call, const ot_refusal *why)
{
    (void)w;
    streamed *s = (streamed *)call;
    size_t mark = ot_grpc_item_frame(s->item);
    ot_oip_pb_stream_error(why->message, s->model, call->in.id, &s->item->answer);
    ot_grpc_item_framed(s->item, mark);
    ot_grpc_item_done(s->item, OT_OK, NULL);
}

static const ot_wire stream = {
    .name = "grpc-stream", .answer = answer_streamed, .fail = fail_streamed, .more = more_streamed};

void ot_grpc_model_stream_infer(ot_worker *w, ot_grpc_item *item)
{
    streamed *s = ot_arena_calloc(&item->arena, 1, sizeof *s);
    if (s == NULL) {
        ot_grpc_item_done(item, OT_EXHAUSTED, "out of memory for the call");
        return;
    }
    s->item = item;
    if (ot_grpc_call_begin(w, &s->call, &stream, item->req, &item->arena, item->start_ns)) {
        begin(w, &s->call, item->message, &s->model);
    }
}
