#include "serve/trace.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/http_client.h"
#include "net/https.h"
#include "serve/server.h"
#include "serve/thread.h"

#include <stdio.h>
#include <string.h>

#define TRACE_SALT UINT64_C(0x7472616365)
#define QUEUE_MAX 8192 /* requests */
#define SEND_MAX 512   /* in one request to the collector */
#define TICK_US 500000
#define IO_US 3000000
#define LAST_IO_US 1000000 /* when the server ends */
#define BACKOFF_MAX_US 30000000
#define ANSWER_MAX (1u << 20)

struct ot_tracer {
    ot_http_client *client; /* NULL: https */
    char origin[300], target[256];
    char instance[65];
    uint64_t incarnation, below; /* sampled: a hash below it */
    bool all;
    pthread_t thread;
    bool running, down; /* down: the last try failed */
    int64_t backoff_us;
    ot_span *sending;
    ot_str body;

    pthread_mutex_t lock;
    pthread_cond_t filled;
    /* Synchronization: under lock. A ring. */
    ot_span *queue;
    size_t at, n;
    bool stopping;
    uint64_t sent, dropped;
};

/* ---- context */

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum |= p[i];
    }
    return sum == 0;
}

static bool hex_field(const char *p, size_t n_bytes, uint8_t *out)
{
    char text[33];
    for (size_t i = 0; i < 2 * n_bytes; i++) {
        if (p[i] >= 'A' && p[i] <= 'F') {
            return false; /* lower case only */
        }
        text[i] = p[i];
    }
    text[2 * n_bytes] = '\0';
    return ot_unhex(text, n_bytes, out);
}

bool ot_traceparent_parse(ot_slice s, ot_trace *out)
{
    ot_trace t = {.has_parent = true};
    uint8_t version, flags;
    if (s.p == NULL || s.n < 55 || s.p[2] != '-' || s.p[35] != '-' || s.p[52] != '-' ||
        !hex_field(s.p, 1, &version) || version == 0xff || !hex_field(s.p + 3, 16, t.id) ||
        !hex_field(s.p + 36, 8, t.parent) || !hex_field(s.p + 53, 1, &flags)) {
        return false;
    }
    /* Later versions may have more behind a further dash. */
    if (version == 0 ? s.n != 55 : s.n > 55 && s.p[55] != '-') {
        return false;
    }
    if (all_zero(t.id, sizeof t.id) || all_zero(t.parent, sizeof t.parent)) {
        return false;
    }
    t.sampled = (flags & 1) != 0;
    *out = t;
    return true;
}

void ot_traceparent_format(const ot_trace *t, char out[OT_TRACEPARENT_MAX])
{
    char id[33], span[17];
    ot_hex(t->id, sizeof t->id, id);
    ot_hex(t->span, sizeof t->span, span);
    snprintf(out, OT_TRACEPARENT_MAX, "00-%s-%s-%02x", id, span, t->sampled ? 1u : 0u);
}

/* ---- on the workers */

void ot_trace_begin(const ot_tracer *t, ot_call *call, ot_slice traceparent)
{
    ot_trace trace = {0};
    uint64_t hash = ot_serve_mix(t->incarnation, call->seq, TRACE_SALT);
    if (!ot_traceparent_parse(traceparent, &trace)) {
        if (!t->all && hash >= t->below) {
            return;
        }
        uint64_t more = ot_serve_mix(t->incarnation, call->seq, TRACE_SALT + 1);
        memcpy(trace.id, &hash, 8);
        memcpy(trace.id + 8, &more, 8);
        trace.sampled = true;
    }
    uint64_t span = ot_serve_mix(t->incarnation, call->seq, TRACE_SALT + 2) | 1;
    memcpy(trace.span, &span, sizeof trace.span);
    ot_trace *kept = ot_arena_alloc(call->arena, sizeof *kept);
    if (kept != NULL) {
        *kept = trace;
        call->trace = kept;
    }
}

void ot_span_fill(ot_span *s, const ot_call *call)
{
    *s = (ot_span){
        .trace = *call->trace,
        .wall_ns = ot_clock_wall_us() * 1000 - (int64_t)ot_clock_mono_ns(),
        .start_ns = call->start_ns,
        .taken_ns = call->taken_ns,
        .run_from_ns = call->run_from_ns,
        .run_to_ns = call->run_to_ns,
        .version = call->variant->version,
        .seq = call->seq,
        .rows = call->rows,
        .wire = call->wire->name,
        .failed = call->rc != OT_OK,
        .fell_back = call->fell_back,
    };
    snprintf(s->deployment, sizeof s->deployment, "%s", call->variant->deployment);
    snprintf(s->model, sizeof s->model, "%s", call->variant->model);
    if (call->rc != OT_OK && call->message != NULL) {
        snprintf(s->message, sizeof s->message, "%s", call->message);
    }
}

void ot_tracer_add(ot_tracer *t, const ot_span *s)
{
    pthread_mutex_lock(&t->lock);
    if (t->n < QUEUE_MAX) {
        t->queue[(t->at + t->n++) % QUEUE_MAX] = *s;
        if (t->n == SEND_MAX) {
            pthread_cond_signal(&t->filled);
        }
    } else {
        t->dropped++;
    }
    pthread_mutex_unlock(&t->lock);
}

void ot_tracer_stats_get(ot_tracer *t, ot_tracer_stats *out)
{
    pthread_mutex_lock(&t->lock);
    *out = (ot_tracer_stats){t->sent, t->dropped};
    pthread_mutex_unlock(&t->lock);
}

/* ---- the sender's thread */

static ot_rc post(ot_tracer *t, ot_error *err)
{
    if (t->client == NULL) {
        char url[sizeof t->origin + sizeof t->target];
        snprintf(url, sizeof url, "%s%s", t->origin, t->target);
        return ot_https_post(url, t->body.data, IO_US, err);
    }
    ot_http_reply r;
    ot_http_reply_init(&r);
    ot_rc rc =
        ot_http_client_simple(t->client, "POST", t->target, "Content-Type: application/json\r\n",
                              t->body.data, t->body.len, &r, err);
    if (rc == OT_OK && (r.status < 200 || r.status > 299)) {
        rc =
            ot_fail(err, OT_UNAVAILABLE, "the collector answers %d: %.100s", r.status, r.body.data);
    }
    ot_http_reply_done(&r);
    return rc;
}

static void send_some(ot_tracer *t, size_t n)
{
    ot_error err;
    ot_str_clear(&t->body);
    t->body.failed = false;
    ot_otlp_json(t->sending, n, t->instance, t->incarnation, &t->body);
    ot_rc rc = t->body.failed ? ot_fail(&err, OT_EXHAUSTED, "out of memory") : post(t, &err);
    if (rc != OT_OK && !t->down) {
        ot_warn("serve", "traces can't be sent to %s%s: %s; they are dropped until they can",
                t->origin, t->target, err.msg);
    } else if (rc == OT_OK && t->down) {
        ot_info("serve", "traces are sent to %s%s again", t->origin, t->target);
    }
    t->down = rc != OT_OK;
    t->backoff_us = rc == OT_OK ? 0 : OT_MIN(OT_MAX(t->backoff_us * 2, TICK_US), BACKOFF_MAX_US);
    pthread_mutex_lock(&t->lock);
    *(rc == OT_OK ? &t->sent : &t->dropped) += n;
    pthread_mutex_unlock(&t->lock);
}

static size_t take_locked(ot_tracer *t)
{
    size_t n = OT_MIN(t->n, (size_t)SEND_MAX);
    for (size_t i = 0; i < n; i++) {
        t->sending[i] = t->queue[(t->at + i) % QUEUE_MAX];
    }
    t->at = (t->at + n) % QUEUE_MAX;
    t->n -= n;
    return n;
}

static void *tracer_main(void *arg)
{
    ot_tracer *t = arg;
    ot_thread_lower(OT_THREAD_NICE_BACKGROUND);
    pthread_mutex_lock(&t->lock);
    for (;;) {
        uint64_t until = ot_clock_mono_ns() + (uint64_t)OT_MAX(t->backoff_us, TICK_US) * 1000;
        for (uint64_t now = 0;
             !t->stopping && (t->n < SEND_MAX || t->down) && (now = ot_clock_mono_ns()) < until;) {
            ot_cond_wait_us(&t->filled, &t->lock, (int64_t)((until - now) / 1000 + 1));
        }
        bool last = t->stopping;
        size_t n = take_locked(t);
        pthread_mutex_unlock(&t->lock);
        if (n > 0) {
            send_some(t, n);
        }
        pthread_mutex_lock(&t->lock);
        if (last && (t->n == 0 || t->down)) {
            break;
        }
    }
    t->dropped += t->n;
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- life */

static ot_rc read_url(ot_tracer *t, const char *url, ot_error *err)
{
    bool tls = ot_has_prefix(url, "https://");
    if (!tls && !ot_has_prefix(url, "http://")) {
        return ot_fail(err, OT_INVALID, "--otlp '%s' does not begin with http:// or https://", url);
    }
    const char *host = url + (tls ? strlen("https://") : strlen("http://"));
    size_t n = strcspn(host, "/?#");
    const char *path = host + n;
    size_t origin = (size_t)(path - url);
    if (n == 0 || origin >= sizeof t->origin || strlen(path) >= sizeof t->target) {
        return ot_fail(err, OT_INVALID, "--otlp '%s' is no address, or too long a one", url);
    }
    snprintf(t->origin, sizeof t->origin, "%.*s", (int)origin, url);
    snprintf(t->target, sizeof t->target, "%s",
             path[0] == '\0' || strcmp(path, "/") == 0 ? "/v1/traces" : path);
    if (tls) {
        return OT_OK;
    }
    ot_addr addr;
    char address[300];
    snprintf(address, sizeof address, "%.*s%s", (int)n, host,
             memchr(host, ':', n) == NULL ? ":4318" : "");
    ot_http_client_options o = {.struct_size = sizeof o,
                                .connect_us = LAST_IO_US,
                                .io_us = LAST_IO_US,
                                .body_max = ANSWER_MAX};
    OT_TRY(ot_addr_parse(address, &addr, err));
    return ot_http_client_create(&addr, &o, &t->client, err);
}

ot_rc ot_tracer_create(const char *url, double sample, const char *instance, uint64_t incarnation,
                       ot_tracer **out, ot_error *err)
{
    ot_tracer *t = ot_calloc(1, sizeof *t);
    if (t == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "tracer: out of memory");
    }
    t->incarnation = incarnation;
    t->all = sample >= 1;
    t->below = t->all ? 0 : (uint64_t)(sample * 0x1p64);
    snprintf(t->instance, sizeof t->instance, "%s", instance);
    ot_str_init(&t->body);
    pthread_mutex_init(&t->lock, NULL);
    ot_cond_init_mono(&t->filled);
    t->queue = ot_calloc(QUEUE_MAX, sizeof *t->queue);
    t->sending = ot_calloc(SEND_MAX, sizeof *t->sending);
    ot_rc rc = t->queue == NULL || t->sending == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "tracer: out of memory")
                   : read_url(t, url, err);
    if (rc != OT_OK) {
        ot_tracer_destroy(t);
        return rc;
    }
    *out = t;
    return OT_OK;
}

ot_rc ot_tracer_start(ot_tracer *t, ot_error *err)
{
    OT_TRY(ot_thread_start(&t->thread, "tracer", tracer_main, t, err));
    t->running = true;
    return OT_OK;
}

void ot_tracer_stop(ot_tracer *t)
{
    if (t == NULL || !t->running) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_signal(&t->filled);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    t->running = false;
    if (t->dropped > 0) {
        ot_info("serve", "traces: %llu requests were sent to the collector, %llu were dropped",
                (unsigned long long)t->sent, (unsigned long long)t->dropped);
    }
}

void ot_tracer_destroy(ot_tracer *t)
{
    if (t == NULL) {
        return;
    }
    ot_http_client_destroy(t->client);
    ot_str_done(&t->body);
    ot_free(t->queue);
    ot_free(t->sending);
    pthread_cond_destroy(&t->filled);
    pthread_mutex_destroy(&t->lock);
    ot_free(t);
}
