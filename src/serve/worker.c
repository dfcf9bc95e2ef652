#include "serve/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "codec/grpc.h"
#include "serve/more.h"
#include "serve/record.h"
#include "serve/sleep.h"
#include "serve/thread.h"
#include "serve/trace.h"

#include <stdio.h>

#define READY_START 256
#define COUNT_SALT UINT64_C(0x636f756e74)
/* Time that the inline runs of one turn may take; what is left goes to the pool, where limits,
 * deadlines and priorities hold and every core takes part. */
#define TURN_NS 10000000

static void bump(_Atomic uint64_t *x, uint64_t n)
{
    /* One writer: no locked instruction is needed. */
    atomic_store_explicit(x, atomic_load_explicit(x, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void ot_worker_count_answer(ot_worker *w, int status)
{
    bump(&w->answers[(unsigned)(status / 100) % OT_COUNT(w->answers)], 1);
}

/* ---- counting and sampling */

static void count_failure(ot_worker *w, ot_variant *v)
{
    ot_share *share = &v->shares[w->index];
    bump(&share->totals.failed, 1);
    share->active->failed++;
}

static void count_call(ot_worker *w, ot_call *call, uint64_t now_ns)
{
    ot_share *share = &call->variant->shares[w->index];
    uint64_t ns = now_ns - OT_MIN(call->start_ns, now_ns);
    ot_totals *t = &share->totals;
    bump(&t->requests, 1);
    bump(&t->rows, (uint64_t)call->rows);
    bump(&t->latency_ns, ns);
    bump(&t->latency[ot_latency_step(ns / 1000)], 1);
    if (call->taken_ns != 0) {
        ot_serve_stage_add(&t->stages, OT_SERVE_QUEUE, call->start_ns, call->taken_ns, 1);
        ot_serve_stage_add(&t->stages, OT_SERVE_BATCH, call->taken_ns, call->run_from_ns, 1);
        ot_serve_stage_add(&t->stages, OT_SERVE_RUN, call->run_from_ns, call->run_to_ns, 1);
    }
    ot_cell *cell = share->active;
    cell->requests++;
    cell->rows += (uint64_t)call->rows;
    ot_latency_add(&cell->latency, ns);
    if ((call->rc != OT_OK && call->rc != OT_CANCELLED) || call->fell_back) {
        count_failure(w, call->asked);
    }
    const ot_variant *v = call->variant;
    if (call->rc != OT_OK || call->constant || (!cell->has_inputs && !cell->has_outputs)) {
        return;
    }
    if (ot_budget_takes(&w->budget, ot_serve_mix(w->serve->incarnation, call->seq, COUNT_SALT))) {
        ot_count_rows(&v->schema, cell, &w->scratch, call->inputs, v->sig.n_inputs, call->outputs,
                      (size_t)call->n_outputs, call->rows);
    }
}

void ot_worker_flush_samples(ot_worker *w, bool force)
{
    uint64_t now = ot_clock_mono_ns();
    for (ot_share **at = &w->open; *at != NULL;) {
        ot_share *share = *at;
        if (share->chunk != NULL && !force && !ot_sampler_due(share->chunk, now)) {
            at = &share->next_open;
            continue;
        }
        /* Handing the chunk over may end the last use of the variant: take it off first. */
        *at = share->next_open;
        share->open = false;
        if (share->chunk != NULL) {
            ot_sampler_flush(w->serve->sampler, &share->chunk);
        }
    }
}

static void sample_tick(void *arg)
{
    ot_worker *w = arg;
    ot_worker_flush_samples(w, false);
    if (w->open != NULL) {
        ot_loop_timer_set(w->loop, &w->sample_timer,
                          ot_loop_now_ns(w->loop) + OT_SAMPLE_CHUNK_NS / 2, sample_tick, w);
    }
}

static void sample_call(ot_worker *w, const ot_call *call, ot_share *share, uint64_t now_ns)
{
    ot_sampler_take(w->serve->sampler, &share->chunk, call, now_ns);
    if (share->open || share->chunk == NULL) {
        return;
    }
    if (w->open == NULL) {
        ot_loop_timer_set(w->loop, &w->sample_timer,
                          ot_loop_now_ns(w->loop) + OT_SAMPLE_CHUNK_NS / 2, sample_tick, w);
    }
    share->open = true;
    share->next_open = w->open;
    w->open = share;
}

/* Requests whose answers are being written: those of one batch share the time that counts. */
typedef struct encoding {
    ot_serve_stage_totals *stages; /* NULL: none yet */
    uint64_t since_ns, n;
} encoding;

static void end_encoding(encoding *e)
{
    if (e->stages != NULL) {
        ot_serve_stage_add(e->stages, OT_SERVE_ENCODE, e->since_ns, ot_clock_mono_ns(), e->n);
    }
    *e = (encoding){0};
}

static void begin_encoding(encoding *e, ot_worker *w, const ot_call *call)
{
    ot_serve_stage_totals *stages = &call->variant->shares[w->index].totals.stages;
    if (stages != e->stages || call->run_to_ns != e->since_ns || call->taken_ns == 0) {
        end_encoding(e);
    }
    if (call->taken_ns != 0) {
        *e = (encoding){stages, call->run_to_ns, e->n + 1};
    }
}

static void answer_traced(ot_worker *w, ot_call *call)
{
    ot_span span;
    ot_span_fill(&span, call);
    ot_worker_answer(w, call);
    span.end_ns = ot_clock_mono_ns();
    ot_tracer_add(w->serve->tracer, &span);
}

static void answer_all(ot_worker *w, ot_call *const *calls, size_t n)
{
    encoding e = {0};
    for (size_t i = 0; i < n; i++) {
        void *block = calls[i]->block;
        ot_dep *dep = calls[i]->left_turn ? calls[i]->dep : NULL;
        begin_encoding(&e, w, calls[i]);
        if (w->serve->recorder != NULL) {
            ot_recorder_take(w->serve->recorder, calls[i]);
        }
        if (calls[i]->trace != NULL && calls[i]->trace->sampled) {
            answer_traced(w, calls[i]);
        } else {
            ot_worker_answer(w, calls[i]); /* the call's memory is gone after this */
        }
        ot_free(block);
        if (dep != NULL) {
            end_encoding(&e); /* before the variant may go */
            ot_dep_unref(dep);
        }
    }
    end_encoding(&e);
}

/* Counts, samples and answers calls that have their results. */
static void finish(ot_worker *w, ot_call *const *calls, size_t n)
{
    uint64_t now = ot_clock_mono_ns();
    for (size_t i = 0; i < n; i++) {
        count_call(w, calls[i], now);
    }
    uint64_t counted = ot_clock_mono_ns();
    bump(&w->count_ns, counted - now);
    ot_budget_spend(&w->budget, counted, counted - now);
    for (size_t i = 0; i < n && w->serve->sampler != NULL; i++) {
        if (calls[i]->sampled && calls[i]->rc == OT_OK && !calls[i]->constant) {
            sample_call(w, calls[i], &calls[i]->variant->shares[w->index], now);
        }
    }
    answer_all(w, calls, n);
}

/* ---- batches */

static void leave_turn(ot_call *call)
{
    call->left_turn = true;
    ot_dep_ref(call->dep);
}

/* Runs n calls that fit each other on this worker and answers them. */
static void run_inline(ot_worker *w, ot_variant *v, ot_call **calls, size_t n, int64_t rows)
{
    if (!ot_exec_run(&w->exec, v, calls, n)) {
        for (size_t i = 0; i < n; i++) {
            leave_turn(calls[i]);
            ot_sleep_wait(w->serve, calls[i]);
        }
        return;
    }
    ot_totals *t = &v->shares[w->index].totals;
    bump(&t->batches, 1);
    bump(&t->run_ns, w->exec.run_ns);
    bump(&t->batch_rows[ot_cost_bucket(rows)], 1);
    finish(w, calls, n);
    ot_exec_release(&w->exec);
}

static void to_pool(ot_worker *w, ot_call *call)
{
    leave_turn(call);
    ot_error err;
    ot_rc rc = ot_pool_add(w->serve->pool, call, &err);
    if (rc != OT_OK) {
        ot_call_fail(call, rc, err.msg);
        finish(w, &call, 1);
    }
}

/* How many rows to run together inline: what costs least a row and not longer than a worker may be
 * held up. */
static int64_t inline_rows(const ot_worker *w, const ot_variant *v, int64_t rows)
{
    int64_t most = ot_cost_best(&v->cost, rows, OT_MAX(ot_variant_merge_max(v), 1));
    while (most > 1 && ot_cost_predict(&v->cost, most) > (uint64_t)w->serve->o.inline_us * 1000) {
        most /= 2;
    }
    return most;
}

static bool is_for_pool(const ot_worker *w, const ot_call *call)
{
    uint32_t most = call->dep->limits.concurrency;
    /* A worker process that hangs must not hold this loop up, so it never runs inline. */
    return call->variant->info.isolated || ot_call_streams(call) || w->turn_ns > TURN_NS ||
           (most != 0 && most < w->serve->n_workers) ||
           ot_cost_predict(&call->variant->cost, call->rows) >
               (uint64_t)w->serve->o.inline_us * 1000;
}

/* Answers a call whose deadline passes before an inline run could end. */
static bool drop_late(ot_worker *w, ot_call *call)
{
    if (call->deadline_ns == 0) {
        return false;
    }
    uint64_t run_ns = ot_cost_predict(&call->variant->cost, call->rows);
    if (ot_clock_mono_ns() + run_ns <= call->deadline_ns) {
        return false;
    }
    char text[96];
    snprintf(text, sizeof text, "the deadline would pass: a run takes about %.3f ms",
             (double)run_ns / 1e6);
    ot_call_fail(call, OT_TIMEOUT, text);
    finish(w, &call, 1);
    return true;
}

/* All calls of this turn that fit calls[0], in pieces. */
static void run_group(ot_worker *w, ot_call **calls, size_t n, int64_t rows)
{
    ot_variant *v = calls[0]->variant;
    int64_t most = inline_rows(w, v, rows);
    for (size_t at = 0; at < n;) {
        if (is_for_pool(w, calls[at])) {
            to_pool(w, calls[at++]);
            continue;
        }
        if (drop_late(w, calls[at])) {
            at++;
            continue;
        }
        size_t k = at;
        int64_t sum = 0;
        do {
            sum += calls[k++]->rows;
        } while (k < n && k - at < OT_EXEC_CALLS_MAX && sum + calls[k]->rows <= most &&
                 calls[k]->rows > 0 && calls[at]->rows > 0);
        run_inline(w, v, &calls[at], k - at, sum);
        w->turn_ns += w->exec.run_ns;
        at = k;
    }
}

/* The first of the calls with the highest priority. */
static const ot_call *most_urgent(ot_call *const *ready, size_t n)
{
    const ot_call *best = ready[0];
    for (size_t i = 1; i < n; i++) {
        best = ready[i]->priority < best->priority ? ready[i] : best;
    }
    return best;
}

/* Takes the calls that fit `first` out, in their order. */
static size_t gather_group(const ot_call *first, ot_call **ready, size_t n, ot_call **group,
                           int64_t *rows_out)
{
    size_t taken = 0, kept = 0;
    *rows_out = 0;
    for (size_t i = 0; i < n; i++) {
        ot_call *c = ready[i];
        if (c->variant == first->variant && ot_call_fits(first, c)) {
            group[taken++] = c;
            *rows_out += c->rows;
        } else {
            ready[kept++] = c;
        }
    }
    return taken;
}

static void on_batch(void *arg)
{
    ot_worker *w = arg;
    w->turn_ns = 0;
    while (w->n_ready > 0) {
        int64_t rows;
        ot_call **group = w->ready + w->ready_cap; /* the second half is for this */
        const ot_call *first = w->mixed ? most_urgent(w->ready, w->n_ready) : w->ready[0];
        size_t n = gather_group(first, w->ready, w->n_ready, group, &rows);
        w->n_ready -= n;
        run_group(w, group, n, rows);
    }
    w->mixed = false;
}

bool ot_worker_enqueue(ot_worker *w, ot_call *call)
{
    if (w->n_ready == w->ready_cap) {
        size_t cap = w->ready_cap * 2;
        ot_call **grown = ot_realloc(w->ready, 2 * cap * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        w->ready = grown;
        w->ready_cap = cap;
    }
    w->ready[w->n_ready++] = call;
    w->mixed |= call->priority != w->ready[0]->priority;
    return true;
}

/* ---- back from the pool */

static void on_done(void *arg)
{
    ot_worker *w = arg;
    pthread_mutex_lock(&w->lock);
    ot_call *list = w->done;
    w->done = NULL;
    w->done_tail = &w->done;
    pthread_mutex_unlock(&w->lock);
    ot_more_deliver(w); /* what these calls gave before their last responses */
    while (list != NULL) {
        ot_call *call = list;
        list = call->next;
        ot_totals *t = &call->variant->shares[w->index].totals;
        bump(&t->batches, 1);
        bump(&t->batch_rows[ot_cost_bucket(call->rows)], 1);
        finish(w, &call, 1);
    }
}

void ot_worker_done(void *arg, ot_call *call)
{
    (void)arg;
    ot_worker *w = call->worker;
    call->next = NULL;
    pthread_mutex_lock(&w->lock);
    bool was_empty = w->done == NULL;
    *w->done_tail = call;
    w->done_tail = &call->next;
    pthread_mutex_unlock(&w->lock);
    while (was_empty && ot_loop_post(w->loop, on_done, w) != OT_OK) {
        ot_clock_sleep_us(200); /* its queue is full: it will be run */
    }
}

/* ---- life */

static void *worker_main(void *arg)
{
    ot_worker *w = arg;
    ot_error err;
    ot_thread_prompt();
    if (ot_loop_run(w->loop, &err) != OT_OK) {
        ot_err("serve", "worker %u: %s", w->index, err.msg);
    }
    return NULL;
}

/* The limit is on messages; where a body may be one with a prefix, there is room for that. */
static uint64_t body_max(void *arg, const ot_http_req *req)
{
    const ot_worker *w = arg;
    return w->serve->o.body_max + (req->version == 20 ? OT_GRPC_PREFIX : 0);
}

static ot_rc make_http(ot_worker *w, ot_error *err)
{
    ot_http_options o;
    ot_http_options_init(&o);
    o.limits.body_max = w->serve->o.body_max + OT_GRPC_PREFIX;
    o.body_max = body_max;
    o.conns_max = w->serve->o.conns_max;
    o.handler = w->serve->o.protocols->request;
    o.streams = w->serve->o.protocols->streams;
    o.refused = w->serve->o.protocols->refused;
    o.arg = w;
    return ot_http_server_create(w->loop, &o, &w->http, err);
}

ot_rc ot_worker_create(ot_serve *s, unsigned index, ot_worker **w_out, ot_error *err)
{
    ot_worker *w = ot_calloc(1, sizeof *w);
    if (w == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "worker: out of memory");
    }
    w->serve = s;
    w->index = index;
    w->seq = (uint64_t)index << OT_WORKER_SEQ_SHIFT | 1;
    w->budget = (ot_budget){.fraction = s->o.count_budget, .start_ns = ot_clock_mono_ns()};
    w->done_tail = &w->done;
    w->more_tail = &w->more;
    pthread_cond_init(&w->more_taken, NULL);
    w->asks_tail = &w->asks;
    ot_str_init(&w->head);
    pthread_mutex_init(&w->lock, NULL);
    w->ready_cap = READY_START;
    w->ready = ot_calloc(2 * w->ready_cap, sizeof(ot_call *));
    ot_rc rc = w->ready == NULL ? ot_fail(err, OT_EXHAUSTED, "worker: out of memory")
                                : ot_exec_init(&w->exec, index, err);
    if (rc == OT_OK) {
        rc = ot_oip_memo_create(&w->memo, err);
    }
    if (rc == OT_OK) {
        rc = ot_loop_create(0, &w->loop, err);
    }
    if (rc == OT_OK) {
        ot_loop_hook_add(w->loop, &w->batch_hook, OT_HOOK_BATCH, on_batch, w);
        ot_loop_hook_add(w->loop, &w->reclaim_hook, OT_HOOK_RECLAIM, ot_worker_asks, w);
        rc = make_http(w, err);
    }
    if (rc != OT_OK) {
        ot_worker_destroy(w);
        return rc;
    }
    *w_out = w;
    return OT_OK;
}

ot_rc ot_worker_start(ot_worker *w, ot_error *err)
{
    char name[16];
    snprintf(name, sizeof name, "worker-%u", w->index);
    OT_TRY(ot_thread_start(&w->thread, name, worker_main, w, err));
    w->running = true;
    return OT_OK;
}

void ot_worker_stop(ot_worker *w)
{
    if (w != NULL && w->running) {
        ot_loop_stop(w->loop);
        pthread_join(w->thread, NULL);
        w->running = false;
    }
}

void ot_worker_destroy(ot_worker *w)
{
    if (w == NULL) {
        return;
    }
    if (w->http != NULL) {
        ot_http_server_destroy(w->http);
    }
    ot_upstream_destroy(w->upstream);
    if (w->loop != NULL) {

        ot_loop_destroy(w->loop);
    }
    ot_exec_done(&w->exec);
    ot_count_scratch_done(&w->scratch);
    ot_str_done(&w->head);
    ot_oip_memo_destroy(w->memo);
    ot_free(w->ready);
    pthread_cond_destroy(&w->more_taken);
    pthread_mutex_destroy(&w->lock);
    ot_free(w);
}
