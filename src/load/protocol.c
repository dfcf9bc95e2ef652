#include "load/protocol.h"

#include "codec/oip.h"
#include "load/reply.h"
#include "net/http_client.h"

#include <stdio.h>
#include <string.h>

const ot_load_wire *ot_load_protocol_wire(ot_load_protocol p)
{
    (void)p;
    return &ot_load_http1;
}

/* ---- Open Inference Protocol, REST */

static ot_rc oip_body(const ot_load_target *t, const ot_tensor *inputs, bool binary, ot_str *body,
                      int64_t *header_len, ot_error *err)
{
    ot_oip_tensor tensors[OT_LOAD_TENSORS_MAX];
    for (size_t i = 0; i < t->n_inputs; i++) {
        tensors[i] = (ot_oip_tensor){.tensor = inputs[i], .binary = binary};
    }
    ot_oip_request r = {.inputs = tensors, .n_inputs = (int)t->n_inputs, .binary_default = binary};
    ot_oip_encoded e;
    OT_TRY(ot_oip_request_encode(&r, body, &e, err));
    for (int i = 0; i < e.n_blobs; i++) {
        ot_str_add(body, e.blobs[i].iov_base, e.blobs[i].iov_len);
    }
    *header_len = e.header_len;
    return OT_OK;
}

static ot_rc encode_oip(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *r,
                        ot_error *err)
{
    int64_t header_len = -1;
    OT_AUTO(ot_str_done) ot_str path = OT_STR_INIT;
    ot_str_adds(&path, "/v2/models/");
    ot_http_encode(&path, t->url.model);
    if (t->url.version[0] != '\0') {
        ot_str_addf(&path, "/versions/%s", t->url.version);
    }
    ot_str_adds(&path, "/infer");
    OT_TRY(oip_body(t, inputs, t->protocol == OT_LOAD_OIP_BINARY, &r->body, &header_len, err));
    ot_str_addf(&r->head, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n", path.data,
                t->url.host, r->body.len);
    if (header_len >= 0) {
        ot_str_addf(&r->head, OT_OIP_HEADER_NAME ": %lld\r\n", (long long)header_len);
    }
    ot_str_adds(&r->head, header_len >= 0 ? "Content-Type: application/octet-stream\r\n\r\n"
                                          : "Content-Type: application/json\r\n\r\n");
    r->path = ot_str_take(&path);
    return r->path == NULL || r->head.failed || r->body.failed
               ? ot_fail(err, OT_EXHAUSTED, "load: out of memory for requests")
               : OT_OK;
}

static ot_rc decode_oip(const ot_load_answer *a, ot_arena *arena, ot_load_outputs *out,
                        ot_error *err)
{
    int64_t header_len = -1;
    ot_slice h = ot_load_reply_field(a->head.p, a->head.n, OT_OIP_HEADER_NAME);
    if (h.p != NULL) {
        char text[24];
        snprintf(text, sizeof text, "%.*s", (int)OT_MIN(h.n, sizeof text - 1), h.p);
        OT_TRY(ot_parse_i64(text, &header_len, err));
    }
    ot_oip_response r;
    OT_TRY(ot_oip_response_decode(a->body.p, a->body.n, header_len, arena, &r, err));
    out->n = (size_t)r.n_outputs;
    out->tensors = ot_arena_calloc(arena, out->n, sizeof *out->tensors);
    if (out->tensors == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for an answer");
    }
    for (size_t i = 0; i < out->n; i++) {
        out->tensors[i] = r.outputs[i].tensor;
    }
    return OT_OK;
}

/* ---- all */

ot_rc ot_load_encode(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *out,
                     ot_error *err)
{
    ot_load_request r = {0};
    ot_str_init(&r.head);
    ot_str_init(&r.body);
    ot_rc rc = encode_oip(t, inputs, &r, err);
    if (rc != OT_OK) {
        ot_load_request_done(&r);
        return rc;
    }
    *out = r;
    return OT_OK;
}

ot_rc ot_load_decode(ot_load_protocol p, const ot_load_answer *a, ot_arena *arena,
                     ot_load_outputs *out, ot_error *err)
{
    (void)p;
    return decode_oip(a, arena, out, err);
}

ot_load_outcome ot_load_status(const ot_load_answer *a)
{
    if (a->status >= 200 && a->status < 300) {
        return OT_LOAD_CORRECT;
    }
    if (a->status == 429 || a->status == 503) {
        return OT_LOAD_REFUSED;
    }
    return a->status >= 500 ? OT_LOAD_SERVER_ERROR : OT_LOAD_CLIENT_ERROR;
}
