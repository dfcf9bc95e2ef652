#include "serve/external.h"

#include "base/clock.h"
#include "serve/trace.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define BODY_MAX OT_EXTERNAL_BODY_MAX
#define LINE_MAX_BYTES (256u << 10) /* a longer event of a stream says nothing of usage */

/* ---- the end */

static void put_away(ot_passing *p)
{
    ot_str_done(&p->body);
    ot_str_done(&p->pending);
    ot_str_done(&p->line);
    ot_completion_free(p->sum);
    p->sum = NULL;
}

static bool may_fall_back(const ot_passing *p)
{
    const ot_call *c = p->call;
    return c->dep->fallback != OT_FALLBACK_REFUSE && !p->begun && !p->streams &&
           c->rc != OT_INVALID && c->rc != OT_TIMEOUT && c->rc != OT_CANCELLED;
}

/* The call has its result. */
static void settle(ot_passing *p)
{
    ot_call *call = p->call;
    ot_error err;
    p->settled = true;
    call->run_to_ns = ot_clock_mono_ns();
    put_away(p);
    bool pooled = may_fall_back(p) && call->rc != OT_OK &&
                  ot_pool_add(call->worker->serve->pool, call, &err) == OT_OK;
    if (!pooled) {
        ot_worker_done(NULL, call);
    }
}

static void fail(ot_passing *p, ot_rc rc, const char *why)
{
    if (p->upstream != NULL) {
        ot_upstream_cancel(p->upstream);
        p->upstream = NULL;
    }
    ot_call_fail(p->call, rc, why);
    settle(p);
}

/* ---- answers that are taken whole */

static const char *message_of(const ot_passing *p, ot_arena *arena)
{
    json_t *root = json_loadb(p->body.data != NULL ? p->body.data : "", p->body.len, 0, NULL);
    const json_t *e = json_object_get(root, "error");
    const char *text = json_string_value(e);
    text = text != NULL ? text : json_string_value(json_object_get(e, "message"));
    char *kept = text != NULL ? ot_arena_strdup(arena, text) : NULL;
    json_decref(root);
    return kept;
}

static ot_rc take_tensors(ot_passing *p, ot_error *err)
{
    ot_call *call = p->call;
    const ot_manifest *sig = &call->variant->sig;
    ot_oip_response r;
    ot_rc rc =
        ot_oip_response_decode(p->body.data, p->body.len, p->header_len, call->arena, &r, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, OT_DATA_LOSS, "the server's answer");
    }
    OT_TRY(ot_external_outputs(sig->outputs, sig->n_outputs, &r, call->outputs, err));
    for (size_t i = 0; i < sig->n_outputs; i++) {
        if (call->variant->rows_known && call->outputs[i].dims[0] != call->rows) {
            return ot_fail(err, OT_DATA_LOSS,
                           "the server's answer has %" PRId64 " rows for %" PRId64,
                           call->outputs[i].dims[0], call->rows);
        }
    }
    call->n_outputs = (int)sig->n_outputs;
    return OT_OK;
}

/* The one element of `response`. */
static ot_rc take_text(ot_call *call, const char *text, size_t n, ot_error *err)
{
    uint8_t *data = ot_arena_alloc(call->arena, n + 4);
    if (data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the answer");
    }
    for (int i = 0; i < 4; i++) {
        data[i] = (uint8_t)(n >> (8 * i));
    }
    if (n > 0) {
        memcpy(data + 4, text, n);
    }
    call->outputs[0] = (ot_tensor){.name = "response",
                                   .dtype = OT_DT_BYTES,
                                   .rank = 1,
                                   .dims = {1},
                                   .data = data,
                                   .size_bytes = n + 4};
    call->n_outputs = 1;
    return OT_OK;
}

static ot_rc take_completion(ot_passing *p, ot_error *err)
{
    ot_external_count_usage(p, p->body.data, p->body.len);
    return take_text(p->call, p->body.data, p->body.len, err);
}

static void take_whole(ot_passing *p)
{
    ot_call *call = p->call;
    ot_error err;
    ot_rc rc = ot_external_status(p->status);
    if (rc != OT_OK) {
        const char *text = message_of(p, call->arena);
        char why[400];
        snprintf(why, sizeof why, "the server answers %d%s%.300s", p->status,
                 text != NULL ? ": " : "", text != NULL ? text : "");
        fail(p, rc, why);
        return;
    }
    rc = call->variant->external->protocol == OT_EXTERNAL_OIP ? take_tensors(p, &err)
                                                              : take_completion(p, &err);
    if (rc != OT_OK) {
        fail(p, rc, err.msg);
        return;
    }
    call->block = ot_str_take(&p->body); /* binary tensors lie in it */
    settle(p);
}

/* ---- usage */

void ot_external_count_usage(ot_passing *p, const char *json, size_t n)
{
    json_t *root = json_loadb(json, n, 0, NULL);
    const json_t *usage = json_object_get(root, "usage");
    json_int_t prompt = json_integer_value(json_object_get(usage, "prompt_tokens"));
    json_int_t completion = json_integer_value(json_object_get(usage, "completion_tokens"));
    ot_totals *t = &p->call->variant->shares[p->call->worker->index].totals;
    if (prompt > 0) {
        atomic_fetch_add_explicit(&t->prompt_tokens, (uint64_t)prompt, memory_order_relaxed);
    }
    if (completion > 0) {
        atomic_fetch_add_explicit(&t->completion_tokens, (uint64_t)completion,
                                  memory_order_relaxed);
    }
    json_decref(root);
}

/* Server-sent events: "data: {...}" lines
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
static void read_events(ot_passing *p, const char *at, size_t n)
{
    while (n > 0) {
        const char *lf = memchr(at, '\n', n);
        size_t take = lf != NULL ? (size_t)(lf - at) + 1 : n;
        if (p->line.len + take <= LINE_MAX_BYTES) {
            ot_str_add(&p->line, at, take);
        }
        if (lf != NULL) {
            const char *z = p->line.data;
            bool data = z != NULL && !p->line.failed && strncmp(z, "data:", 5) == 0;
            if (data && strstr(z, "\"usage\"") != NULL) {
                ot_external_count_usage(p, z + 5, p->line.len - 5);
            }
            if (data && p->sum != NULL) {
                ot_completion_event(p->sum, z + 5, p->line.len - 5);
            }
            p->line.failed = false;
            ot_str_clear(&p->line);
        }
        at += take;
        n -= take;
    }
}

/* ---- streams */

static void end_stream(ot_passing *p)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (p->end_rc != OT_OK) {
        ot_call_fail(p->call, p->end_rc, p->end_why);
    } else if (p->sum != NULL && ot_completion_write(p->sum, &text)) {
        /* The client has it already. Without this the call has no outputs, and nobody keeps it. */
        ot_rc ignored = take_text(p->call, text.data, text.len, NULL);
        (void)ignored;
    }
    settle(p);
}

static void pass_on(ot_passing *p, const char *at, size_t n)
{
    ot_rc rc = p->pending.len > 0 ? OT_EXHAUSTED : ot_http_stream_write(p->call->req, at, n);
    if (rc == OT_EXHAUSTED) {
        ot_str_add(&p->pending, at, n);
        ot_upstream_pause(p->upstream, true);
    }
    if (p->pending.failed) {
        fail(p, OT_EXHAUSTED, "out of memory for a client that reads slowly");
    }
    /* OT_CANCELLED: the event that says so comes by itself. */
}

void ot_external_client_event(void *arg)
{
    ot_passing *p = arg;
    ot_http_req *req = p->call->req;
    if (p->settled) {
        return; /* its answer is on the way */
    }
    if (req->cancelled) {
        fail(p, OT_CANCELLED, "the client went away");
        return;
    }
    if (p->pending.len > 0) {
        ot_rc rc = ot_http_stream_write(req, p->pending.data, p->pending.len);
        if (rc != OT_OK) {
            return;
        }
        ot_str_clear(&p->pending);
    }
    if (p->ended) {
        end_stream(p);
    } else if (p->upstream != NULL) {
        ot_upstream_pause(p->upstream, false);
    }
}

/* ---- what the server says */

static void on_head(void *arg, const ot_http_response *r)
{
    ot_passing *p = arg;
    ot_slice type = ot_http_response_header(r, "content-type");
    ot_slice length = ot_http_response_header(r, OT_OIP_HEADER_NAME);
    uint64_t x;
    p->status = r->status;
    p->header_len = length.p != NULL && ot_worker_number(length, BODY_MAX, &x) ? (int64_t)x : -1;
    snprintf(p->type, sizeof p->type, "%.*s", (int)OT_MIN(type.n, sizeof p->type - 1),
             type.p != NULL ? type.p : "");
    if (p->streams && r->status == 200 && strncmp(p->type, "text/event-stream", 17) == 0) {
        p->begun = ot_chat_begin(p);
    }
}

static void on_data(void *arg, const char *at, size_t n)
{
    ot_passing *p = arg;
    if (p->begun) {
        read_events(p, at, n);
        pass_on(p, at, n);
        return;
    }
    ot_str_add(&p->body, at, n);
    if (p->body.failed || p->body.len > BODY_MAX) {
        fail(p, OT_EXHAUSTED, "the server's answer is larger than 64 MiB");
    }
}

static void on_end(void *arg, ot_rc rc, const ot_error *why)
{
    ot_passing *p = arg;
    p->upstream = NULL;
    if (!p->begun) {
        if (rc == OT_OK) {
            take_whole(p);
        } else {
            fail(p, rc == OT_DATA_LOSS ? OT_UNAVAILABLE : rc, why->msg);
        }
        return;
    }
    p->end_rc = rc;
    snprintf(p->end_why, sizeof p->end_why, "%.230s", rc != OT_OK ? why->msg : "");
    if (p->pending.len > 0) {
        p->ended = true;
    } else {
        end_stream(p);
    }
}

static const ot_upstream_ops ops = {on_head, on_data, on_end};

/* ---- what it is asked */

static ot_rc encode_tensors(ot_passing *p, ot_str *body, ot_str *target, ot_str *headers,
                            ot_oip_encoded *e, ot_error *err)
{
    ot_call *call = p->call;
    const ot_external *x = call->variant->external;
    size_t n = call->variant->sig.n_inputs;
    ot_oip_tensor *inputs = ot_arena_calloc(call->arena, n, sizeof *inputs);
    if (inputs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the request");
    }
    for (size_t i = 0; i < n; i++) {
        inputs[i] = (ot_oip_tensor){.tensor = call->inputs[i], .binary = true};
        inputs[i].tensor.name = call->variant->sig.inputs[i].name;
    }
    ot_oip_request q = {.inputs = inputs, .n_inputs = (int)n, .binary_default = true};
    OT_TRY(ot_oip_request_encode(&q, body, e, err));
    ot_str_addf(target, "%s/v2/models/", x->base);
    ot_http_encode(target, x->model);
    ot_str_adds(target, "/infer");
    ot_str_addf(headers,
                "Content-Type: application/octet-stream\r\n" OT_OIP_HEADER_NAME ": %" PRId64 "\r\n",
                e->header_len);
    return OT_OK;
}

static ot_rc encode_completion(ot_passing *p, ot_str *body, ot_str *target, ot_str *headers,
                               ot_error *err)
{
    const ot_external *x = p->call->variant->external;
    const ot_tensor *in = &p->call->inputs[0];
    size_t offset = 0, n;
    const char *json, *path;
    if (ot_tensor_count(in) != 1 || !ot_tensor_bytes_next(in, &offset, &json, &n)) {
        return ot_fail(err, OT_INVALID, "input 'request' is one element, a completion's JSON");
    }
    OT_TRY(ot_external_chat(x, json, n, !p->streams, &path, body, err));
    ot_str_addf(target, "%s%s", x->base, p->path != NULL ? p->path : path);
    ot_str_addf(headers, "Content-Type: application/json\r\n");
    return OT_OK;
}

static ot_rc start(ot_worker *w, ot_passing *p, ot_error *err)
{
    ot_call *call = p->call;
    const ot_external *x = call->variant->external;
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str headers = OT_STR_INIT;
    ot_oip_encoded e = {.header_len = -1};
    int64_t timeout = x->timeout_us;
    ot_str_adds(&headers, x->headers);
    OT_TRY(x->protocol == OT_EXTERNAL_OIP ? encode_tensors(p, &body, &target, &headers, &e, err)
                                          : encode_completion(p, &body, &target, &headers, err));
    if (call->trace != NULL) {
        char parent[OT_TRACEPARENT_MAX];
        ot_traceparent_format(call->trace, parent);
        ot_str_addf(&headers, "traceparent: %s\r\n", parent);
    }
    if (body.failed || target.failed || headers.failed) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the request");
    }
    if (call->deadline_ns != 0) {
        uint64_t now = ot_clock_mono_ns();
        if (now >= call->deadline_ns) {
            return ot_fail(err, OT_TIMEOUT, "the deadline has passed");
        }
        timeout = OT_MIN(timeout, (int64_t)((call->deadline_ns - now) / 1000 + 1));
    }
    if (w->upstream == NULL) {
        OT_TRY(ot_upstream_create(w->loop, &w->upstream, err));
    }
    struct iovec iov[1 + OT_OIP_TENSORS_MAX];
    iov[0] = (struct iovec){body.data, body.len};
    for (int i = 0; i < e.n_blobs; i++) {
        iov[1 + i] = e.blobs[i];
    }
    ot_upstream_request r = {.addr = &x->addr,
                             .tls = x->tls,
                             .method = "POST",
                             .target = target.data,
                             .headers = headers.data,
                             .body = iov,
                             .n_body = 1 + (size_t)e.n_blobs,
                             .timeout_us = timeout};
    return ot_upstream_start(w->upstream, &r, &ops, p, &p->upstream, err);
}

void ot_external_go(ot_worker *w, ot_call *call)
{
    ot_passing *p =
        call->passing != NULL ? call->passing : ot_arena_calloc(call->arena, 1, sizeof *p);
    ot_error err;
    if (p == NULL) {
        ot_worker_refuse(w, call, OT_UNAVAILABLE, 503, 0, "out of memory for the request");
        return;
    }
    call->passing = p;
    p->call = call;
    p->header_len = -1;
    ot_str_init(&p->body);
    ot_str_init(&p->pending);
    ot_str_init(&p->line);
    call->left_turn = true;
    ot_dep_ref(call->dep);
    call->taken_ns = call->run_from_ns = ot_clock_mono_ns();
    if (start(w, p, &err) != OT_OK) {
        fail(p, err.rc, err.msg);
    }
}
