#include "load/protocol_internal.h"

#include "load/reply.h"
#include "net/http_client.h"

#include <stdio.h>
#include <string.h>

ot_rc ot_load_post(const ot_load_target *t, ot_str *path, const char *type, const char *fields,
                   ot_load_request *r, ot_error *err)
{
    ot_str_addf(&r->head,
                "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\nContent-Type: %s\r\n"
                "%s\r\n",
                path->data, t->url.host, r->body.len, type, fields != NULL ? fields : "");
    r->path = ot_str_take(path);
    return r->path == NULL || r->head.failed || r->body.failed
               ? ot_fail(err, OT_EXHAUSTED, "load: out of memory for requests")
               : OT_OK;
}

ot_rc ot_load_outputs_take(const ot_oip_tensor *from, int n, ot_arena *arena, ot_load_outputs *out,
                           ot_error *err)
{
    ot_tensor *tensors = ot_arena_calloc(arena, OT_MAX((size_t)n, 1u), sizeof *tensors);
    if (tensors == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for an answer");
    }
    for (int i = 0; i < n; i++) {
        tensors[i] = from[i].tensor;
    }
    *out = (ot_load_outputs){tensors, (size_t)n};
    return OT_OK;
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
    char field[64] = "";
    if (header_len >= 0) {
        snprintf(field, sizeof field, OT_OIP_HEADER_NAME ": %lld\r\n", (long long)header_len);
    }
    return ot_load_post(t, &path, header_len >= 0 ? "application/octet-stream" : "application/json",
                        field, r, err);
}

static ot_rc decode_oip(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                        ot_load_outputs *out, ot_error *err)
{
    (void)t;
    int64_t header_len = -1;
    ot_slice h = ot_load_reply_field(a->head.p, a->head.n, OT_OIP_HEADER_NAME);
    if (h.p != NULL) {
        char text[24];
        snprintf(text, sizeof text, "%.*s", (int)OT_MIN(h.n, sizeof text - 1), h.p);
        OT_TRY(ot_parse_i64(text, &header_len, err));
    }
    ot_oip_response r;
    OT_TRY(ot_oip_response_decode(a->body.p, a->body.n, header_len, arena, &r, err));
    return ot_load_outputs_take(r.outputs, r.n_outputs, arena, out, err);
}

/* As the body of an Open Inference Protocol answer says it. */
static void version_oip(const ot_load_answer *a, char out[24])
{
    static const char key[] = "\"model_version\":";
    const char *at = memmem(a->body.p, a->body.n, key, sizeof key - 1);
    const char *end = a->body.p + a->body.n;
    size_t n = 0;
    if (at != NULL) {
        at += sizeof key - 1;
        while (at < end && (*at == ' ' || *at == '"')) {
            at++;
        }
        while (at + n < end && n < 23 && at[n] != '"' && at[n] != ',' && at[n] != '}') {
            n++;
        }
        memcpy(out, at, n);
    }
    out[n] = '\0';
}

/* ---- all */

static const struct {
    const ot_load_wire *wire;
    ot_rc (*ask)(ot_load_target *t, ot_error *err);
    ot_rc (*encode)(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *r,
                    ot_error *err);
    ot_rc (*decode)(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                    ot_load_outputs *out, ot_error *err);
    void (*version)(const ot_load_answer *a, char out[24]);
} protocols[] = {
    [OT_LOAD_OIP_JSON] = {&ot_load_http1, ot_load_ask_oip, encode_oip, decode_oip, version_oip},
    [OT_LOAD_OIP_BINARY] = {&ot_load_http1, ot_load_ask_oip, encode_oip, decode_oip, version_oip},
    [OT_LOAD_GRPC] = {&ot_load_http2, ot_load_ask_grpc, ot_load_encode_grpc, ot_load_decode_grpc,
                      ot_load_version_grpc},
    [OT_LOAD_TFS] = {&ot_load_http1, ot_load_ask_tfs, ot_load_encode_tfs, ot_load_decode_tfs,
                     version_oip},
    [OT_LOAD_TFS_GRPC] = {&ot_load_http2, ot_load_ask_tfs_grpc, ot_load_encode_tfs_grpc,
                          ot_load_decode_tfs_grpc, ot_load_version_tfs_grpc},
};

const char *const ot_load_protocol_names[] = {"rest",      "binary",         "grpc",
                                              "tfserving", "tfserving-grpc", NULL};

const ot_load_wire *ot_load_protocol_wire(ot_load_protocol p)
{
    return protocols[p].wire;
}

ot_rc ot_load_ask(ot_load_target *t, ot_error *err)
{
    return protocols[t->protocol].ask(t, err);
}

void ot_load_version_of(const ot_load_target *t, const ot_load_answer *a, char out[24])
{
    protocols[t->protocol].version(a, out);
}

ot_rc ot_load_encode(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *out,
                     ot_error *err)
{
    ot_load_request r = OT_LOAD_REQUEST_INIT;
    ot_rc rc = protocols[t->protocol].encode(t, inputs, &r, err);
    if (rc != OT_OK) {
        ot_load_request_done(&r);
        return rc;
    }
    *out = r;
    return OT_OK;
}

ot_rc ot_load_decode(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                     ot_load_outputs *out, ot_error *err)
{
    return protocols[t->protocol].decode(t, a, arena, out, err);
}

ot_load_outcome ot_load_status(const ot_load_answer *a)
{
    enum { INVALID_ARGUMENT = 3, NOT_FOUND = 5, EXHAUSTED = 8, PRECONDITION = 9, UNAVAILABLE = 14 };
    if (a->grpc_status > 0) {
        return a->grpc_status == EXHAUSTED || a->grpc_status == UNAVAILABLE ? OT_LOAD_REFUSED
               : a->grpc_status == INVALID_ARGUMENT || a->grpc_status == NOT_FOUND ||
                       a->grpc_status == PRECONDITION
                   ? OT_LOAD_CLIENT_ERROR
                   : OT_LOAD_SERVER_ERROR;
    }
    if (a->status >= 200 && a->status < 300) {
        return OT_LOAD_CORRECT;
    }
    if (a->status == 429 || a->status == 503) {
        return OT_LOAD_REFUSED;
    }
    return a->status >= 500 ? OT_LOAD_SERVER_ERROR : OT_LOAD_CLIENT_ERROR;
}
