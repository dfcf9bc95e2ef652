#include "serve/shadow_chat.h"

#include "base/log.h"
#include "net/http_upstream.h"
#include "runtime/external.h"
#include "serve/thread.h"

#include <stdatomic.h>
#include <string.h>

struct ot_chat_shadow {
    ot_chat_answered_fn *answered;
    void *arg;
    ot_loop *loop;
    ot_upstream *upstream; /* the loop's thread's */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    /* Synchronization: under lock. */
    ot_chat_copy *waiting, **tail;
    size_t n_waiting, bytes;
    /* The loop's thread's. */
    ot_chat_copy *on;
    size_t n_on;
};

static void free_copy(ot_chat_copy *c)
{
    ot_str_done(&c->body);
    ot_str_done(&c->answer);
    ot_dep_unref(c->dep);
    ot_free(c);
}

/* ---- on the loop */

static void pump(void *arg);

static void copy_ends(ot_chat_copy *c, bool good)
{
    ot_chat_shadow *s = c->owner;
    *c->at = c->next;
    if (c->next != NULL) {
        c->next->at = c->at;
    }
    s->n_on--;
    s->answered(s->arg, good ? c : NULL);
    free_copy(c);
    pump(s);
}

static void on_head(void *arg, const ot_http_response *r)
{
    ot_chat_copy *c = arg;
    c->status = r->status;
}

static void on_data(void *arg, const char *p, size_t n)
{
    ot_chat_copy *c = arg;
    if (c->answer.len + n <= OT_CHAT_SHADOW_ANSWER_MAX) {
        ot_str_add(&c->answer, p, n);
    }
    if (c->answer.failed || c->answer.len + n > OT_CHAT_SHADOW_ANSWER_MAX) {
        ot_upstream_cancel(c->call);
        copy_ends(c, false);
    }
}

static void on_end(void *arg, ot_rc rc, const ot_error *why)
{
    (void)why;
    ot_chat_copy *c = arg;
    copy_ends(c, rc == OT_OK && c->status == 200);
}

static const ot_upstream_ops ops = {on_head, on_data, on_end};

static bool start_copy(ot_chat_shadow *s, ot_chat_copy *c)
{
    const ot_external *x = c->variant->external;
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str headers = OT_STR_INIT;
    ot_str_addf(&target, "%s%s", x->base, c->path);
    ot_str_addf(&headers, "%sContent-Type: application/json\r\n", x->headers);
    struct iovec body = {c->body.data, c->body.len};
    ot_upstream_request r = {.addr = &x->addr,
                             .tls = x->tls,
                             .method = "POST",
                             .target = target.data,
                             .headers = headers.data,
                             .body = &body,
                             .n_body = 1,
                             .timeout_us = x->timeout_us};
    ot_error err;
    return !target.failed && !headers.failed &&
           ot_upstream_start(s->upstream, &r, &ops, c, &c->call, &err) == OT_OK;
}

/* Starts what waits, as far as there is room. */
static void pump(void *arg)
{
    ot_chat_shadow *s = arg;
    while (s->n_on < OT_CHAT_SHADOW_AT_ONCE) {
        pthread_mutex_lock(&s->lock);
        ot_chat_copy *c = s->waiting;
        if (c != NULL) {
            s->waiting = c->next;
            s->tail = s->waiting != NULL ? s->tail : &s->waiting;
            s->n_waiting--;
            s->bytes -= c->body.len;
        }
        pthread_mutex_unlock(&s->lock);
        if (c == NULL) {
            return;
        }
        if (!start_copy(s, c)) {
            s->answered(s->arg, NULL);
            free_copy(c);
            continue;
        }
        c->next = s->on;
        c->at = &s->on;
        if (s->on != NULL) {
            s->on->at = &c->next;
        }
        s->on = c;
        s->n_on++;
    }
}

static void *shadow_main(void *arg)
{
    ot_chat_shadow *s = arg;
    ot_error err;
    ot_thread_lower(OT_THREAD_NICE_BACKGROUND);
    if (ot_loop_run(s->loop, &err) != OT_OK) {
        ot_err("sample", "copies of completions: %s", err.msg);
    }
    return NULL;
}

/* ---- on the sampler's thread */

bool ot_chat_shadow_for(const ot_variant *v)
{
    return v->external != NULL && v->external->protocol == OT_EXTERNAL_OPENAI;
}

static ot_chat_copy *make_copy(ot_chat_shadow *s, const ot_chunk *live, size_t row,
                               const ot_variant *v)
{
    ot_tensor t = ot_chunk_rows(live, &live->inputs[0], row, 1);
    size_t offset = 0, n;
    const char *json;
    ot_error err;
    ot_chat_copy *c = NULL;
    if (t.dtype != OT_DT_BYTES || !ot_tensor_bytes_next(&t, &offset, &json, &n) ||
        (c = ot_calloc(1, sizeof *c)) == NULL) {
        return NULL;
    }
    ot_str_init(&c->body);
    ot_str_init(&c->answer);
    c->owner = s;
    c->dep = ot_dep_ref(live->dep);
    c->variant = v;
    c->seq = live->seq[row];
    c->time_us = live->time_us[row];
    c->probability = live->probability[row];
    if (ot_external_chat(v->external, json, n, true, &c->path, &c->body, &err) != OT_OK) {
        free_copy(c);
        return NULL;
    }
    return c;
}

static bool enqueue(ot_chat_shadow *s, ot_chat_copy *c)
{
    pthread_mutex_lock(&s->lock);
    bool room = s->n_waiting < OT_CHAT_SHADOW_WAIT_MAX &&
                s->bytes + c->body.len <= OT_CHAT_SHADOW_BYTES_MAX;
    if (room) {
        c->next = NULL;
        *s->tail = c;
        s->tail = &c->next;
        s->n_waiting++;
        s->bytes += c->body.len;
    }
    pthread_mutex_unlock(&s->lock);
    return room;
}

size_t ot_chat_shadow_add(ot_chat_shadow *s, const ot_chunk *live, const ot_variant *v)
{
    size_t taken = 0;
    for (size_t i = 0; i < live->rows && live->n_inputs == 1; i++) {
        ot_chat_copy *c = make_copy(s, live, i, v);
        if (c != NULL && enqueue(s, c)) {
            taken++;
        } else if (c != NULL) {
            free_copy(c);
        }
    }
    if (taken > 0) {
        ot_rc ignored = ot_loop_post(s->loop, pump, s); /* full: it is being pumped */
        (void)ignored;
    }
    return taken;
}

/* ---- life */

ot_rc ot_chat_shadow_create(ot_chat_answered_fn *answered, void *arg, ot_chat_shadow **out,
                            ot_error *err)
{
    ot_chat_shadow *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "sampler: out of memory");
    }
    s->answered = answered;
    s->arg = arg;
    s->tail = &s->waiting;
    pthread_mutex_init(&s->lock, NULL);
    ot_rc rc = ot_loop_create(0, &s->loop, err);
    if (rc == OT_OK) {
        rc = ot_upstream_create(s->loop, &s->upstream, err);
    }
    if (rc != OT_OK) {
        ot_chat_shadow_destroy(s);
        return rc;
    }
    *out = s;
    return OT_OK;
}

ot_rc ot_chat_shadow_start(ot_chat_shadow *s, ot_error *err)
{
    OT_TRY(ot_thread_start(&s->thread, "chat-shadow", shadow_main, s, err));
    s->running = true;
    return OT_OK;
}

void ot_chat_shadow_stop(ot_chat_shadow *s)
{
    if (s != NULL && s->running) {
        ot_loop_stop(s->loop);
        pthread_join(s->thread, NULL);
        s->running = false;
    }
}

void ot_chat_shadow_destroy(ot_chat_shadow *s)
{
    if (s == NULL) {
        return;
    }
    ot_upstream_destroy(s->upstream); /* cuts what is on */
    ot_chat_copy *lists[] = {s->on, s->waiting};
    for (size_t i = 0; i < OT_COUNT(lists); i++) {
        while (lists[i] != NULL) {
            ot_chat_copy *c = lists[i];
            lists[i] = c->next;
            free_copy(c);
        }
    }
    if (s->loop != NULL) {
        ot_loop_destroy(s->loop);
    }
    pthread_mutex_destroy(&s->lock);
    ot_free(s);
}
