/* gRPC calls: which method, which message, which answer. Source: gRPC over HTTP2
 * (PROTOCOL-HTTP2.md), "Use of status codes" (statuscodes.md). */
#include "protocol/grpc.h"

#include "codec/number.h"

#include <stdio.h>
#include <string.h>

#define TYPE "application/grpc"

const ot_grpc_service *const ot_grpc_services[] = {
    &ot_grpc_inference,
    &ot_grpc_health,
    &ot_grpc_reflection,
    &ot_grpc_reflection_alpha,
    &ot_grpc_tfs_prediction,
    &ot_grpc_tfs_model,
    NULL,
};

/* ---- which method */

static bool is_type(ot_slice type)
{
    size_t n = sizeof TYPE - 1;
    return type.n >= n && memcmp(type.p, TYPE, n) == 0 &&
           (type.n == n || type.p[n] == ';' || type.p[n] == '+');
}

/* "/package.Service/Method" */
static const ot_grpc_method *find_method(ot_slice path)
{
    for (const ot_grpc_service *const *at = ot_grpc_services; *at != NULL; at++) {
        const ot_grpc_service *s = *at;
        size_t n = strlen(s->name);
        if (path.n < n + 3 || path.p[n + 1] != '/' || memcmp(path.p + 1, s->name, n) != 0) {
            continue;
        }
        ot_slice name = {.p = path.p + n + 2, .n = path.n - n - 2};
        for (size_t i = 0; i < s->n; i++) {
            if (ot_slice_eq(name, s->methods[i].name)) {
                return &s->methods[i];
            }
        }
    }
    return NULL;
}

bool ot_grpc_takes(const ot_http_req *req)
{
    return is_type(ot_http_req_header(req, "content-type")) || find_method(req->path) != NULL;
}

bool ot_grpc_streams(void *arg, const ot_http_req *req)
{
    (void)arg;
    const ot_grpc_method *m = find_method(req->path);
    return m != NULL && m->item != NULL && req->method == OT_HTTP_POST &&
           is_type(ot_http_req_header(req, "content-type"));
}

/* ---- statuses */

typedef struct status {
    char code[12], pushback[16];
    ot_str text, details;
    ot_http_field fields[5];
    size_t n;
} status;

/* The trailers that say why. */
static void make_status(status *s, ot_rc rc, unsigned retry_s, const char *message)
{
    ot_str_init(&s->text);
    ot_str_init(&s->details);
    s->n = 0;
    snprintf(s->code, sizeof s->code, "%d", -(int)rc);
    s->fields[s->n++] = (ot_http_field){"grpc-status", s->code};
    ot_grpc_status_text(message, &s->text);
    s->fields[s->n++] = (ot_http_field){"grpc-message", s->text.data};
    if (rc == OT_UNIMPLEMENTED) {
        s->fields[s->n++] = (ot_http_field){"grpc-accept-encoding", OT_GRPC_CODINGS};
    }
    if (retry_s > 0) {
        snprintf(s->pushback, sizeof s->pushback, "%u", OT_MIN(retry_s, 3600u) * 1000);
        s->fields[s->n++] = (ot_http_field){"grpc-retry-pushback-ms", s->pushback};
        ot_grpc_status_details(-(int)rc, message, retry_s, &s->details);
        if (!s->details.failed) {
            s->fields[s->n++] = (ot_http_field){"grpc-status-details-bin", s->details.data};
        }
    }
}

static void status_done(status *s)
{
    ot_str_done(&s->text);
    ot_str_done(&s->details);
}

static void send_status(ot_worker *w, ot_http_req *req, ot_rc rc, int http, unsigned retry_s,
                        const char *message)
{
    OT_AUTO(status_done) status s;
    make_status(&s, rc, retry_s, message);
    ot_worker_count_answer(w, http);
    ot_http_respond(req, &(ot_http_answer){
                             .status = 200, .type = TYPE, .trailers = s.fields, .n_trailers = s.n});
}

void ot_grpc_fail(ot_worker *w, ot_http_req *req, ot_rc rc, unsigned retry_s, const char *fmt, ...)
{
    char text[OT_ERROR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    send_status(w, req, rc, ot_rc_http(rc), retry_s, text);
}

void ot_grpc_wire_fail(ot_worker *w, ot_call *call, const ot_refusal *why)
{
    send_status(w, call->req, why->rc, why->status, why->retry_s, why->message);
}

void ot_grpc_refused(void *arg, const ot_http_req *req, const char *reason, ot_http_answer *a)
{
    (void)arg;
    if (!is_type(ot_http_req_header(req, "content-type"))) {
        return;
    }
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_http_field *f = ot_arena_calloc(req->arena, 2, sizeof *f);
    char *code = ot_arena_printf(req->arena, "%d", -(int)ot_rc_of_http(a->status));
    ot_grpc_status_text(reason, &text);
    char *message = ot_arena_strdup(req->arena, text.data);
    if (f == NULL || code == NULL || message == NULL) {
        return;
    }
    f[0] = (ot_http_field){"grpc-status", code};
    f[1] = (ot_http_field){"grpc-message", message};
    *a = (ot_http_answer){.status = 200, .type = TYPE, .trailers = f, .n_trailers = 2};
}

/* ---- answers */

void ot_grpc_frame_begin(ot_str *s)
{
    s->failed = false;
    ot_str_clear(s);
    ot_str_add(s, "\0\0\0\0", OT_GRPC_PREFIX);
}

void ot_grpc_answer(ot_worker *w, ot_http_req *req, const ot_http_field *fields, size_t n_fields,
                    ot_str *head, const struct iovec *iov, size_t n_iov)
{
    static const ot_http_field good[] = {{"grpc-status", "0"}};
    struct iovec whole = {head->data, head->len};
    size_t bytes = 0;
    if (head->failed) {
        ot_grpc_fail(w, req, OT_EXHAUSTED, 0, "out of memory for the answer");
        return;
    }
    if (iov == NULL) {
        iov = &whole;
        n_iov = 1;
    }
    for (size_t i = 0; i < n_iov; i++) {
        bytes += iov[i].iov_len;
    }
    if (bytes - OT_GRPC_PREFIX > UINT32_MAX) {
        ot_grpc_fail(w, req, OT_EXHAUSTED, 0,
                     "the answer has %zu bytes; a message has at most 4 GiB", bytes);
        return;
    }
    ot_grpc_prefix(head->data, bytes - OT_GRPC_PREFIX);
    ot_worker_count_answer(w, 200);
    ot_http_respond(req, &(ot_http_answer){.status = 200,
                                           .type = TYPE,
                                           .fields = fields,
                                           .n_fields = n_fields,
                                           .n_unique = n_fields > 0 ? 1 : 0,
                                           .body = iov,
                                           .n_body = n_iov,
                                           .trailers = good,
                                           .n_trailers = 1});
}

/* ---- calls */

size_t ot_grpc_call_fields(const ot_worker *w, const ot_call *call, ot_http_field *fields)
{
    size_t n = 0;
    char *id = ot_arena_alloc(call->arena, OT_PREDICTION_ID_MAX);
    char *rows = ot_arena_alloc(call->arena, OT_I64_TEXT + 1);
    if (id == NULL || rows == NULL) {
        return 0;
    }
    rows[ot_format_u64((uint64_t)call->rows, rows)] = '\0';
    ot_prediction_id_format(id, w->serve->incarnation, call->seq, call->variant->version,
                            call->sampled && !call->constant);
    fields[n++] = (ot_http_field){"overtake-prediction-id", id};
    fields[n++] = (ot_http_field){"overtake-rows", rows};
    if (call->fell_back) {
        fields[n++] =
            (ot_http_field){"overtake-fallback", call->constant ? "constant" : "previous"};
    }
    return n;
}

bool ot_grpc_call_begin(ot_worker *w, ot_call *call, const ot_wire *wire, ot_http_req *req,
                        ot_arena *arena, uint64_t start_ns)
{
    call->wire = wire;
    call->req = req;
    call->arena = arena;
    call->start_ns = start_ns;
    ot_slice timeout = ot_http_req_header(req, "grpc-timeout");
    uint64_t ns;
    if (timeout.p == NULL) {
        return true;
    }
    if (!ot_grpc_timeout(timeout.p, timeout.n, &ns)) {
        ot_worker_refuse(w, call, OT_INVALID, 400, 0,
                         "grpc-timeout '%.*s' is not up to 8 digits and a unit",
                         (int)OT_MIN(timeout.n, 40u), timeout.p);
        return false;
    }
    call->deadline_ns = req->start_ns + ns;
    return true;
}

/* The one message of a unary call. Answers itself when there is none. */
static bool read_message(ot_worker *w, ot_http_req *req, ot_grpc_coding coding, ot_slice *out)
{
    ot_grpc_frame f;
    ot_error err;
    uint64_t max = w->serve->o.body_max;
    ot_rc rc = ot_grpc_frame_read(req->body.p, req->body.n, coding, max, &f, &err);
    if (rc == OT_OK && f.size == 0) {
        rc = req->body.n == 0
                 ? ot_fail(&err, OT_UNIMPLEMENTED, "the call has no message; the method takes one")
                 : ot_fail(&err, OT_INVALID, "the message is cut short: %zu bytes came",
                           req->body.n);
    } else if (rc == OT_OK && f.size != req->body.n) {
        rc = ot_fail(&err, OT_UNIMPLEMENTED,
                     "%zu bytes follow the first message; the method takes one message",
                     req->body.n - f.size);
    }
    if (rc == OT_OK) {
        rc = ot_grpc_message(&f, coding, max, req->arena, &out->p, &out->n, &err);
    }
    if (rc != OT_OK) {
        ot_grpc_fail(w, req, rc, 0, "%s", err.msg);
    }
    return rc == OT_OK;
}

/* What makes it no gRPC call at all; answered in HTTP's words. */
static bool is_call(ot_worker *w, ot_http_req *req)
{
    ot_slice type = ot_http_req_header(req, "content-type");
    if (req->version < 20) {
        ot_worker_error(w, req, 505, "gRPC needs HTTP/2; this request came over HTTP/1");
        return false;
    }
    if (!is_type(type) || (type.n > sizeof TYPE - 1 && type.p[sizeof TYPE - 1] == '+' &&
                           !ot_slice_eq(type, TYPE "+proto"))) {
        ot_worker_error(w, req, 415, "the content type is '%.*s'; this takes " TYPE,
                        (int)OT_MIN(type.n, 80u), type.n > 0 ? type.p : "");
        return false;
    }
    if (req->method != OT_HTTP_POST) {
        ot_worker_error(w, req, 405, "gRPC calls are POST requests");
        return false;
    }
    return true;
}

void ot_grpc_request(ot_worker *w, ot_http_req *req)
{
    if (!is_call(w, req)) {
        return;
    }
    const ot_grpc_method *m = find_method(req->path);
    if (m == NULL) {
        ot_grpc_fail(w, req, OT_UNIMPLEMENTED, 0, "there is no method %.*s",
                     (int)OT_MIN(req->path.n, 200u), req->path.p);
        return;
    }
    ot_slice encoding = ot_http_req_header(req, "grpc-encoding"), message;
    ot_grpc_coding coding;
    if (!ot_grpc_coding_parse(encoding.p, encoding.n, &coding)) {
        ot_grpc_fail(w, req, OT_UNIMPLEMENTED, 0, "grpc-encoding '%.*s' is not one of %s",
                     (int)OT_MIN(encoding.n, 40u), encoding.p, OT_GRPC_CODINGS);
    } else if (m->item != NULL) {
        ot_grpc_stream_open(w, req, m->item, coding);
    } else if (read_message(w, req, coding, &message)) {
        m->unary(w, req, message);
    }
}
