#include "serve/sample.h"

#include "base/clock.h"
#include "base/log.h"
#include "serve/chunk.h"
#include "serve/shadow_chat.h"
#include "serve/thread.h"

#include <pthread.h>
#include <string.h>

#define SEGMENT_PARTS_MAX 512 /* chunks of a segment */
#define SHADOW_BATCH_MAX 64

struct ot_sampler {
    ot_spool *spool;
    ot_exec exec; /* the sampler thread's */
    ot_chat_shadow *chat;
    pthread_t thread;
    bool running;
    ot_loop_fn *wrote;
    void *wrote_arg;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    /* Synchronization: under lock. */
    ot_chunk *queue, **queue_tail;
    bool stopping;
    /* Synchronization: relaxed. */
    _Atomic uint64_t memory, rows, dropped, shadow_rows, shadow_failed, shadow_dropped, segments;
    /* The sampler thread's: lists of alike chunks that wait to become segments. */
    struct segment *open;
};

typedef struct segment {
    struct segment *next;
    ot_chunk *first, **tail;
    size_t bytes, parts;
    uint64_t opened_ns;
} segment;

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void free_chunk(ot_sampler *s, ot_chunk *c)
{
    atomic_fetch_sub_explicit(&s->memory, c->bytes + c->text, memory_order_relaxed);
    ot_chunk_destroy(c);
}

/* Counts the chunk's memory, or drops it when the limit is reached. */
static bool admit(ot_sampler *s, ot_chunk *c)
{
    uint64_t now = atomic_fetch_add_explicit(&s->memory, c->bytes, memory_order_relaxed);
    if (now + c->bytes <= OT_SAMPLE_MEMORY_MAX) {
        return true;
    }
    free_chunk(s, c);
    return false;
}

/* The same for row `from` of the tensors, which is added to the chunk. */
static bool add_row(ot_sampler *s, ot_chunk *c, uint64_t seq, int64_t time_us, float probability,
                    ot_slice key, const ot_tensor *inputs, const ot_tensor *outputs, int64_t from)
{
    size_t text = ot_chunk_text(c, inputs, outputs, from);
    if (text > OT_SAMPLE_SEGMENT_MAX) {
        return false;
    }
    uint64_t now = atomic_fetch_add_explicit(&s->memory, text, memory_order_relaxed);
    if (now + text <= OT_SAMPLE_MEMORY_MAX &&
        ot_chunk_add(c, seq, time_us, probability, key, inputs, outputs, from)) {
        return true;
    }
    atomic_fetch_sub_explicit(&s->memory, text, memory_order_relaxed);
    return false;
}

static void hand_over(ot_sampler *s, ot_chunk **chunk)
{
    ot_chunk *c = *chunk;
    *chunk = NULL;
    c->next = NULL;
    pthread_mutex_lock(&s->lock);
    bool was_empty = s->queue == NULL;
    *s->queue_tail = c;
    s->queue_tail = &c->next;
    if (was_empty) {
        pthread_cond_signal(&s->filled);
    }
    pthread_mutex_unlock(&s->lock);
}

/* On the thread of those copies: the answer goes the way of other chunks. */
static void on_chat_answered(void *arg, const ot_chat_copy *k)
{
    ot_sampler *s = arg;
    ot_chunk *c = NULL;
    ot_error err;
    ot_tensor t = {.name = "response", .dtype = OT_DT_BYTES, .rank = 1, .dims = {1}};
    OT_AUTO(ot_str_done) ot_str data = OT_STR_INIT;
    uint32_t n = k != NULL ? (uint32_t)k->answer.len : 0;
    uint8_t head[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    ot_str_add(&data, head, sizeof head);
    ot_str_add(&data, k != NULL ? k->answer.data : "", n);
    t.data = data.data;
    t.size_bytes = data.len;
    if (k == NULL || data.failed ||
        ot_chunk_create(k->dep, k->variant, true, false, NULL, 0, &t, 1, 1, &c, &err) != OT_OK ||
        !admit(s, c)) {
        add(&s->shadow_failed, 1);
        return;
    }
    c->opened_ns = ot_clock_mono_ns();
    if (add_row(s, c, k->seq, k->time_us, k->probability, (ot_slice){0}, NULL, &t, 0)) {
        add(&s->shadow_rows, 1);
        hand_over(s, &c);
    } else {
        add(&s->shadow_failed, 1);
        free_chunk(s, c);
    }
}

ot_rc ot_sampler_create(ot_spool *spool, unsigned slot, ot_sampler **sampler_out, ot_error *err)
{
    ot_sampler *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "sampler: out of memory");
    }
    s->spool = spool;
    s->queue_tail = &s->queue;
    pthread_mutex_init(&s->lock, NULL);
    ot_cond_init_mono(&s->filled);
    ot_rc rc = ot_exec_init(&s->exec, slot, err);
    if (rc == OT_OK) {
        rc = ot_chat_shadow_create(on_chat_answered, s, &s->chat, err);
    }
    if (rc != OT_OK) {
        ot_sampler_destroy(s);
        return rc;
    }
    *sampler_out = s;
    return OT_OK;
}

void ot_sampler_destroy(ot_sampler *s)
{
    if (s == NULL) {
        return;
    }
    ot_chat_shadow_destroy(s->chat);
    while (s->queue != NULL) {
        ot_chunk *c = s->queue;
        s->queue = c->next;
        free_chunk(s, c);
    }
    ot_exec_done(&s->exec);
    pthread_cond_destroy(&s->filled);
    pthread_mutex_destroy(&s->lock);
    ot_free(s);
}

/* ---- on the worker */

static void drop_rows(ot_sampler *s, const ot_dep *dep, int64_t rows)
{
    add(&s->dropped, (uint64_t)rows);
    ot_spool_count_dropped(s->spool, dep->name, (uint64_t)rows);
}

void ot_sampler_flush(ot_sampler *s, ot_chunk **chunk)
{
    hand_over(s, chunk);
}

bool ot_sampler_due(const ot_chunk *chunk, uint64_t now_ns)
{
    return now_ns - chunk->opened_ns >= OT_SAMPLE_CHUNK_NS;
}

static bool open_chunk(ot_sampler *s, ot_chunk **chunk, const ot_call *call, uint64_t now_ns)
{
    const ot_variant *v = call->variant;
    ot_chunk *c;
    if (ot_chunk_create(call->dep, v, false, v->rows_known, call->inputs, v->sig.n_inputs,
                        call->outputs, (size_t)call->n_outputs, 0, &c, NULL) != OT_OK ||
        !admit(s, c)) {
        return false;
    }
    c->opened_ns = now_ns;
    *chunk = c;
    return true;
}

/* Every tensor has a row for each of the call's, so that rows can be cut out. */
static bool rows_agree(const ot_call *call)
{
    if (call->n_outputs == 0) {
        return false; /* a stream that added up to too much */
    }
    if (!call->variant->rows_known) {
        return true;
    }
    for (int i = 0; i < call->n_outputs; i++) {
        if (call->outputs[i].rank == 0 || call->outputs[i].dims[0] != call->rows) {
            return false;
        }
    }
    return true;
}

void ot_sampler_take(ot_sampler *s, ot_chunk **chunk, const ot_call *call, uint64_t now_ns)
{
    const ot_variant *v = call->variant;
    if (!rows_agree(call)) {
        drop_rows(s, call->dep, call->rows);
        return;
    }
    if (*chunk != NULL && (!ot_chunk_fits(*chunk, call->inputs, v->sig.n_inputs, call->outputs,
                                          (size_t)call->n_outputs) ||
                           (*chunk)->dep != call->dep)) {
        hand_over(s, chunk);
    }
    for (int64_t r = 0; r < call->rows; r++) {
        if (*chunk != NULL &&
            ((*chunk)->rows == (*chunk)->cap || (*chunk)->text > OT_SAMPLE_CHUNK_BYTES)) {
            hand_over(s, chunk);
        }
        if (*chunk == NULL && !open_chunk(s, chunk, call, now_ns)) {
            drop_rows(s, call->dep, call->rows - r);
            return;
        }
        if (add_row(s, *chunk, call->seq + (uint64_t)r, call->time_us, call->dep->sample_rate,
                    call->key, call->inputs, call->outputs, r)) {
            add(&s->rows, 1);
        } else {
            drop_rows(s, call->dep, 1);
        }
    }
}

/* ---- segments */

static void write_segment(ot_sampler *s, segment *g)
{
    OT_AUTO(ot_str_done) ot_str fields = OT_STR_INIT;
    ot_chunk_describe(g->first, &fields);
    size_t columns = 3 + g->first->n_inputs + g->first->n_outputs + 1;
    struct iovec *iov = ot_calloc(columns * g->parts, sizeof *iov);
    size_t n = 0;
    uint64_t rows = 0;
    for (size_t col = 0; col < columns && iov != NULL; col++) {
        for (ot_chunk *c = g->first; c != NULL; c = c->next) {
            struct iovec *v = &iov[n++];
            if (col == 0) {
                *v = (struct iovec){c->seq, c->rows * sizeof *c->seq};
                rows += c->rows;
            } else if (col == 1) {
                *v = (struct iovec){c->time_us, c->rows * sizeof *c->time_us};
            } else if (col == 2) {
                *v = (struct iovec){c->probability, c->rows * sizeof *c->probability};
            } else if (col < 3 + c->n_inputs) {
                *v = ot_chunk_column(c, &c->inputs[col - 3]);
            } else if (col < 3 + c->n_inputs + c->n_outputs) {
                *v = ot_chunk_column(c, &c->outputs[col - 3 - c->n_inputs]);
            } else {
                *v = (struct iovec){c->keys.data, c->keys.len};
            }
        }
    }
    ot_error err;
    if (iov == NULL || fields.failed) {
        ot_spool_count_dropped(s->spool, g->first->dep->name, rows);
    } else if (ot_spool_add(s->spool, OT_STREAM_SAMPLE, g->first->dep->name, rows, fields.data, iov,
                            n, &err) != OT_OK) {
        ot_warn("sample", "%s", err.msg);
    } else {
        add(&s->segments, 1);
        s->wrote(s->wrote_arg);
    }
    ot_free(iov);
    while (g->first != NULL) {
        ot_chunk *c = g->first;
        g->first = c->next;
        free_chunk(s, c);
    }
}

static void close_segment(ot_sampler *s, segment **at)
{
    segment *g = *at;
    write_segment(s, g);
    *at = g->next;
    ot_free(g);
}

static void append_chunk(ot_sampler *s, ot_chunk *c, uint64_t now_ns)
{
    c->next = NULL;
    size_t bytes = c->rows * c->row_bytes + c->text + c->keys.len;
    segment **at = &s->open;
    for (; *at != NULL; at = &(*at)->next) {
        if (ot_chunk_alike((*at)->first, c)) {
            break;
        }
    }
    if (*at != NULL &&
        ((*at)->bytes + bytes > OT_SAMPLE_SEGMENT_MAX || (*at)->parts == SEGMENT_PARTS_MAX)) {
        close_segment(s, at);
        at = &s->open;
        while (*at != NULL) {
            at = &(*at)->next;
        }
    }
    if (*at == NULL) {
        *at = ot_calloc(1, sizeof **at);
        if (*at == NULL) {
            drop_rows(s, c->dep, (int64_t)c->rows);
            free_chunk(s, c);
            return;
        }
        (*at)->tail = &(*at)->first;
        (*at)->opened_ns = c->opened_ns != 0 ? c->opened_ns : now_ns;
    }
    *(*at)->tail = c;
    (*at)->tail = &c->next;
    (*at)->bytes += bytes;
    (*at)->parts++;
}

static void close_old(ot_sampler *s, uint64_t now_ns, bool all)
{
    for (segment **at = &s->open; *at != NULL;) {
        if (all || now_ns - (*at)->opened_ns >= (uint64_t)OT_SAMPLE_SEGMENT_US * 1000) {
            close_segment(s, at);
        } else {
            at = &(*at)->next;
        }
    }
}

/* ---- shadow copies */

/* Rows [at, at + n) of the live chunk as inputs of another variant. */
static void shadow_inputs(const ot_chunk *live, size_t at, size_t n, ot_tensor *inputs)
{
    for (size_t i = 0; i < live->n_inputs; i++) {
        inputs[i] = ot_chunk_rows(live, &live->inputs[i], at, n);
    }
}

/* The inputs in the other variant's order; false when it wants others. */
static bool order_for(const ot_variant *v, const ot_tensor *in, size_t n, ot_tensor *out)
{
    if (v->sig.n_inputs != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        int k = ot_manifest_input(&v->sig, in[i].name);
        if (k < 0 || ot_tensor_matches(&v->sig.inputs[k], &in[i], NULL) != OT_OK) {
            return false;
        }
        out[k] = in[i];
    }
    return true;
}

/* Runs rows [at, at + n) and adds them to *out; false when they cannot be run. */
static bool shadow_piece(ot_sampler *s, const ot_chunk *live, ot_variant *v, size_t at, size_t n,
                         ot_chunk **out)
{
    ot_tensor in[OT_RUNTIME_INPUTS_MAX], ordered[OT_RUNTIME_INPUTS_MAX];
    if (live->n_inputs > OT_RUNTIME_INPUTS_MAX || live->row_axis != v->rows_known) {
        return false;
    }
    shadow_inputs(live, at, n, in);
    ot_error err;
    if (!order_for(v, in, live->n_inputs, ordered) ||
        ot_exec_tensors(&s->exec, v, ordered, &err) != OT_OK) {
        return false;
    }
    const ot_run_result *r = &s->exec.result;
    for (int i = 0; i < r->n_outputs && live->row_axis; i++) {
        if (r->outputs[i].rank == 0 || r->outputs[i].dims[0] != (int64_t)n) {
            return false;
        }
    }
    size_t n_outputs = (size_t)r->n_outputs;
    if (*out != NULL && !ot_chunk_fits(*out, NULL, 0, r->outputs, n_outputs)) {
        return false; /* its shape varies from row to row: only the first shape is kept */
    }
    if (*out == NULL) {
        ot_chunk *c;
        if (ot_chunk_create(live->dep, v, true, live->row_axis, NULL, 0, r->outputs, n_outputs,
                            live->rows, &c, NULL) != OT_OK ||
            !admit(s, c)) {
            return false;
        }
        c->opened_ns = live->opened_ns;
        *out = c;
    }
    for (size_t k = 0; k < n; k++) {
        if (!add_row(s, *out, live->seq[at + k], live->time_us[at + k], live->probability[at + k],
                     (ot_slice){0}, NULL, r->outputs, (int64_t)k)) {
            return false;
        }
    }
    return true;
}

static void run_shadow(ot_sampler *s, const ot_chunk *live, ot_variant *v)
{
    ot_chunk *out = NULL;
    size_t most = (size_t)OT_MAX(ot_variant_merge_max(v), 1);
    most = live->row_axis ? OT_MIN(most, (size_t)SHADOW_BATCH_MAX) : 1;
    for (size_t at = 0; at < live->rows;) {
        size_t n = OT_MIN(most, live->rows - at);
        if (shadow_piece(s, live, v, at, n, &out)) {
            add(&s->shadow_rows, n);
        } else {
            add(&s->shadow_failed, n);
        }
        ot_exec_release(&s->exec);
        at += n;
    }
    if (out != NULL && out->rows > 0) {
        append_chunk(s, out, live->opened_ns);
    } else if (out != NULL) {
        free_chunk(s, out);
    }
}

static void process(ot_sampler *s, ot_chunk *c)
{
    if (c->rows == 0) { /* its only row had no room */
        free_chunk(s, c);
        return;
    }
    if (c->dep->compare && !c->shadow) {
        for (size_t i = 0; i < c->dep->n_arms; i++) {
            ot_variant *v = c->dep->arms[i].variant;
            if (v->version == c->version && strcmp(v->model, c->model) == 0) {
                continue;
            }
            if (ot_chat_shadow_for(v)) {
                add(&s->shadow_dropped, c->rows - ot_chat_shadow_add(s->chat, c, v));
            } else {
                run_shadow(s, c, v);
            }
        }
    }
    append_chunk(s, c, c->opened_ns);
}

/* ---- the thread */

static void *sampler_main(void *arg)
{
    ot_sampler *s = arg;
    ot_thread_lower(OT_THREAD_NICE_BACKGROUND);
    bool stopping = false;
    while (!stopping) {
        pthread_mutex_lock(&s->lock);
        if (s->queue == NULL && !s->stopping) {
            ot_cond_wait_us(&s->filled, &s->lock, s->open != NULL ? 100000 : 1000000);
        }
        ot_chunk *list = s->queue;
        s->queue = NULL;
        s->queue_tail = &s->queue;
        stopping = s->stopping;
        pthread_mutex_unlock(&s->lock);
        while (list != NULL) {
            ot_chunk *c = list;
            list = c->next;
            process(s, c);
        }
        close_old(s, ot_clock_mono_ns(), stopping);
    }
    return NULL;
}

ot_rc ot_sampler_start(ot_sampler *s, ot_loop_fn *wrote, void *arg, ot_error *err)
{
    s->wrote = wrote;
    s->wrote_arg = arg;
    OT_TRY(ot_chat_shadow_start(s->chat, err));
    OT_TRY(ot_thread_start(&s->thread, "sampler", sampler_main, s, err));
    s->running = true;
    return OT_OK;
}

void ot_sampler_stop(ot_sampler *s)
{
    if (s == NULL) {
        return;
    }
    ot_chat_shadow_stop(s->chat);
    if (!s->running) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->filled);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->running = false;
}

void ot_sampler_stats_get(const ot_sampler *s, ot_sampler_stats *out)
{
    *out = (ot_sampler_stats){
        .rows = atomic_load_explicit(&s->rows, memory_order_relaxed),
        .dropped_rows = atomic_load_explicit(&s->dropped, memory_order_relaxed),
        .shadow_rows = atomic_load_explicit(&s->shadow_rows, memory_order_relaxed),
        .shadow_failed = atomic_load_explicit(&s->shadow_failed, memory_order_relaxed),
        .shadow_dropped = atomic_load_explicit(&s->shadow_dropped, memory_order_relaxed),
        .segments = atomic_load_explicit(&s->segments, memory_order_relaxed),
    };
}
