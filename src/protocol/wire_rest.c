/* The Open Inference Protocol over HTTP: infer requests in JSON and with the binary extension. */
#include "protocol/wire_rest.h"

#include "protocol/coding.h"

#include <stdio.h>
#include <string.h>

static char *put_u64(char *end, uint64_t x)
{
    *--end = '\0';
    do {
        *--end = (char)('0' + x % 10);
        x /= 10;
    } while (x != 0);
    return end;
}

size_t ot_wire_rest_fields(const ot_worker *w, const ot_call *call, ot_wire_rest_text *text,
                           ot_http_field fields[OT_WIRE_REST_FIELDS])
{
    ot_prediction_id_format(text->id, w->serve->incarnation, call->seq, call->variant->version,
                            call->sampled && !call->constant);
    fields[0] = (ot_http_field){"overtake-prediction-id", text->id};
    fields[1] = (ot_http_field){"overtake-rows",
                                put_u64(text->rows + sizeof text->rows, (uint64_t)call->rows)};
    if (!call->fell_back) {
        return 2;
    }
    fields[2] = (ot_http_field){"overtake-fallback", call->constant ? "constant" : "previous"};
    return 3;
}

static void answer_rest(ot_worker *w, ot_call *call)
{
    ot_str_clear(&w->head);
    w->head.failed = false;
    ot_oip_encoded e;
    ot_error err;
    ot_rc rc = ot_call_encode(call, w->memo, &w->head, &e, &err);
    if (rc == OT_OK && w->head.failed) {
        rc = ot_fail(&err, OT_EXHAUSTED, "out of memory for the answer");
    }
    if (rc != OT_OK) {
        ot_call_fail(call, rc, err.msg);
        ot_worker_answer(w, call);
        return;
    }
    ot_wire_rest_text text;
    char length[24];
    ot_http_field fields[OT_WIRE_REST_FIELDS + 1];
    size_t n = ot_wire_rest_fields(w, call, &text, fields);
    if (e.header_len >= 0) {
        fields[n++] = (ot_http_field){OT_OIP_HEADER_NAME,
                                      put_u64(length + sizeof length, (uint64_t)e.header_len)};
    }
    struct iovec iov[1 + OT_OIP_TENSORS_MAX];
    iov[0] = (struct iovec){w->head.data, w->head.len};
    for (int i = 0; i < e.n_blobs; i++) {
        iov[1 + i] = e.blobs[i];
    }
    ot_worker_count_answer(w, 200);
    ot_coding_respond(call->req,
                      &(ot_http_answer){.status = 200,
                                        .type = e.header_len >= 0 ? "application/octet-stream"
                                                                  : "application/json",
                                        .fields = fields,
                                        .n_fields = n,
                                        .body = iov,
                                        .n_body = 1 + (size_t)e.n_blobs});
}

void ot_wire_rest_fail(ot_worker *w, ot_call *call, const ot_refusal *why)
{
    char seconds[24];
    ot_http_field retry = {"Retry-After", put_u64(seconds + sizeof seconds, why->retry_s)};
    w->head.failed = false;
    ot_str_clear(&w->head);
    ot_oip_error_body(&w->head, why->message);
    struct iovec iov = {w->head.data, w->head.len};
    ot_worker_count_answer(w, why->status);
    ot_http_field accept = {"Accept-Encoding", OT_CODINGS};
    ot_http_respond(call->req, &(ot_http_answer){.status = why->status,
                                                 .type = "application/json",
                                                 .fields = why->status == 415 ? &accept : &retry,
                                                 .n_fields = why->retry_s > 0 || why->status == 415,
                                                 .body = &iov,
                                                 .n_body = 1});
}

static const ot_wire rest = {.name = "rest", .answer = answer_rest, .fail = ot_wire_rest_fail};

void ot_wire_rest_infer(ot_worker *w, ot_http_req *req, const char *name, size_t n,
                        uint64_t version)
{
    ot_call *call = ot_arena_calloc(req->arena, 1, sizeof *call);
    if (call == NULL) {
        ot_worker_error(w, req, 503, "out of memory for the request");
        return;
    }
    call->wire = &rest;
    call->req = req;
    call->arena = req->arena;
    call->start_ns = req->start_ns;
    int64_t header_len = -1;
    ot_slice h = ot_http_req_header(req, OT_OIP_HEADER_NAME);
    if (h.p != NULL) {
        uint64_t x;
        if (!ot_worker_number(h, INT64_MAX, &x)) {
            ot_worker_error(w, req, 400, "%s '%.*s' is not a number of bytes", OT_OIP_HEADER_NAME,
                            (int)OT_MIN(h.n, 40u), h.p);
            return;
        }
        header_len = (int64_t)x;
    }
    if (!ot_worker_begin(w, call, name, n, version) || !ot_coding_take_call(call)) {
        return;
    }
    ot_error err;
    ot_rc rc = ot_call_decode(call, call->variant, header_len, w->memo, &err);
    if (rc != OT_OK) {
        ot_worker_refuse(w, call, rc, rc == OT_EXHAUSTED ? 413 : 400, 0, "%s", err.msg);
        return;
    }
    ot_worker_go(w, call);
}
