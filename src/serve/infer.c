/* Inference: from a request to a call in this turn's batch, and from a result to an answer. */
#include "serve/worker.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

#define SAMPLE_SALT UINT64_C(0x73616d706c65)
#define FIELDS_MAX 6
#define DEADLINE_MS_MAX 3600000

static bool parse_u64(ot_slice s, uint64_t max, uint64_t *out)
{
    if (s.n == 0 || s.n > 19) {
        return false;
    }
    uint64_t x = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
        x = x * 10 + (uint64_t)(s.p[i] - '0');
    }
    *out = x;
    return x <= max;
}

/* Headers of a request that say how it is to be answered. Answers 400 itself. */
static bool read_headers(ot_worker *w, ot_call *call, int64_t *header_len, uint64_t *version)
{
    ot_http_req *req = call->req;
    uint64_t x;
    *header_len = -1;
    ot_slice h = ot_http_req_header(req, OT_OIP_HEADER_NAME);
    if (h.p != NULL) {
        if (!parse_u64(h, (uint64_t)req->body.n, &x)) {
            ot_worker_error(w, req, 400, "%s '%.*s' is not a number of 0 to %zu, the body's bytes",
                            OT_OIP_HEADER_NAME, (int)OT_MIN(h.n, 40u), h.p, req->body.n);
            return false;
        }
        *header_len = (int64_t)x;
    }
    h = ot_http_req_header(req, "overtake-version");
    if (h.p != NULL && *version == 0) {
        if (!parse_u64(h, INT64_MAX, version) || *version == 0) {
            ot_worker_error(w, req, 400, "overtake-version '%.*s' is not a version number",
                            (int)OT_MIN(h.n, 40u), h.p);
            return false;
        }
    }
    h = ot_http_req_header(req, "overtake-deadline-ms");
    if (h.p != NULL) {
        if (!parse_u64(h, DEADLINE_MS_MAX, &x)) {
            ot_worker_error(w, req, 400, "overtake-deadline-ms '%.*s' is not a number of 0 to %d",
                            (int)OT_MIN(h.n, 40u), h.p, DEADLINE_MS_MAX);
            return false;
        }
        call->deadline_ns = req->start_ns + x * 1000000;
    }
    call->key = ot_http_req_header(req, "overtake-key");
    return true;
}

/* The variant that answers: the one asked for, else by the key's or the prediction id's hash. */
static bool choose(ot_worker *w, ot_call *call, uint64_t version)
{
    const ot_dep *d = call->dep;
    const ot_arm *arm;
    if (version != 0) {
        arm = ot_dep_version(d, version);
        if (arm == NULL) {
            ot_worker_error(w, call->req, 404, "model '%s' has no version %llu loaded", d->name,
                            (unsigned long long)version);
            return false;
        }
    } else if (d->n_live == 1) {
        arm = &d->arms[0];
    } else if (call->key.p != NULL) {
        arm = ot_dep_pick(d, call->key.p, call->key.n);
    } else {
        uint64_t id[2] = {w->serve->incarnation, w->seq};
        arm = ot_dep_pick(d, id, sizeof id);
    }
    if (arm == NULL) {
        ot_http_field retry = {"Retry-After", "1"};
        OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
        char text[OT_SERVE_NOTE + 128];
        snprintf(text, sizeof text, "model '%s' is not ready: %s", d->name,
                 d->state[0] != '\0' ? d->state : "it is being loaded");
        ot_oip_error_body(&body, text);
        struct iovec iov = {body.data, body.len};
        ot_worker_count_answer(w, 503);
        ot_http_respond(call->req, &(ot_http_answer){.status = 503,
                                                     .type = "application/json",
                                                     .fields = &retry,
                                                     .n_fields = 1,
                                                     .body = &iov,
                                                     .n_body = 1});
        return false;
    }
    call->variant = call->asked = arm->variant;
    return true;
}

void ot_worker_infer(ot_worker *w, ot_http_req *req, const char *name, size_t n, uint64_t version)
{
    const ot_route *r = atomic_load_explicit(&w->serve->route, memory_order_acquire);
    ot_dep *dep = ot_route_find(r, name, n);
    if (dep == NULL) {
        ot_worker_error(w, req, 404, "model '%.*s' is not known", (int)OT_MIN(n, 80u), name);
        return;
    }
    ot_call *call = ot_arena_calloc(req->arena, 1, sizeof *call);
    if (call == NULL) {
        ot_worker_error(w, req, 503, "out of memory for the request");
        return;
    }
    call->req = req;
    call->worker = w;
    call->dep = dep;
    int64_t header_len;
    if (!read_headers(w, call, &header_len, &version) || !choose(w, call, version)) {
        return;
    }
    ot_error err;
    ot_rc rc = ot_call_decode(call, call->variant, header_len, w->memo, &err);
    if (rc != OT_OK) {
        ot_worker_error(w, req, rc == OT_EXHAUSTED ? 413 : 400, "%s", err.msg);
        return;
    }
    call->seq = w->seq;
    w->seq += (uint64_t)OT_MAX(call->rows, 1);
    call->time_us = ot_clock_wall_us();
    call->sampled = dep->sampled && (dep->sample_below == UINT64_MAX ||
                                     ot_serve_mix(w->serve->incarnation, call->seq, SAMPLE_SALT) <
                                         dep->sample_below);
    if (!ot_worker_enqueue(w, call)) {
        ot_worker_error(w, req, 503, "out of memory for the batch");
    }
}

/* ---- answers */

void ot_worker_error(ot_worker *w, ot_http_req *req, int status, const char *fmt, ...)
{
    char text[OT_ERROR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ot_worker_count_answer(w, status);
    ot_http_respond_error(req, status, "%s", text);
}

void ot_worker_json(ot_worker *w, ot_http_req *req, int status, const ot_str *body)
{
    if (body->failed) {
        ot_worker_error(w, req, 503, "out of memory for the answer");
        return;
    }
    ot_worker_count_answer(w, status);
    ot_http_respond_bytes(req, status, "application/json", body->data, body->len);
}

static void answer_failure(ot_worker *w, ot_call *call)
{
    int status = ot_rc_http(call->rc);
    bool later = status == 429 || status == 503;
    ot_http_field retry = {"Retry-After", "1"};
    w->head.failed = false;
    ot_str_clear(&w->head);
    char text[OT_ERROR_MSG_MAX];
    snprintf(text, sizeof text, "model '%s': %s", call->dep->name, call->message);
    ot_oip_error_body(&w->head, text);
    struct iovec iov = {w->head.data, w->head.len};
    ot_worker_count_answer(w, status);
    ot_http_respond(call->req, &(ot_http_answer){.status = status,
                                                 .type = "application/json",
                                                 .fields = &retry,
                                                 .n_fields = later ? 1 : 0,
                                                 .body = &iov,
                                                 .n_body = 1});
}

static char *put_u64(char *end, uint64_t x)
{
    *--end = '\0';
    do {
        *--end = (char)('0' + x % 10);
        x /= 10;
    } while (x != 0);
    return end;
}

void ot_worker_answer(ot_worker *w, ot_call *call)
{
    if (call->rc != OT_OK) {
        answer_failure(w, call);
        return;
    }
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
        answer_failure(w, call);
        return;
    }
    char id[OT_PREDICTION_ID_MAX], rows[24], length[24];
    ot_prediction_id_format(id, w->serve->incarnation, call->seq, call->variant->version,
                            call->sampled && !call->constant);
    ot_http_field fields[FIELDS_MAX] = {
        {"overtake-prediction-id", id},
        {"overtake-rows", put_u64(rows + sizeof rows, (uint64_t)call->rows)},
    };
    size_t n = 2;
    if (e.header_len >= 0) {
        fields[n++] = (ot_http_field){OT_OIP_HEADER_NAME,
                                      put_u64(length + sizeof length, (uint64_t)e.header_len)};
    }
    if (call->fell_back) {
        fields[n++] =
            (ot_http_field){"overtake-fallback", call->constant ? "constant" : "previous"};
    }
    struct iovec iov[1 + OT_OIP_TENSORS_MAX];
    iov[0] = (struct iovec){w->head.data, w->head.len};
    for (int i = 0; i < e.n_blobs; i++) {
        iov[1 + i] = e.blobs[i];
    }
    ot_worker_count_answer(w, 200);
    ot_http_respond(call->req,
                    &(ot_http_answer){.status = 200,
                                      .type = e.header_len >= 0 ? "application/octet-stream"
                                                                : "application/json",
                                      .fields = fields,
                                      .n_fields = n,
                                      .body = iov,
                                      .n_body = 1 + (size_t)e.n_blobs});
}
