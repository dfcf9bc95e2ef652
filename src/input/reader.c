#include "input/reader.h"

#include "base/clock.h"
#include "base/mem.h"
#include "input/buffers.h"
#include "input/gather.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* A batch to be read: rows at [from, from + rows) of the epoch's sequence, wrapped at `round_end`.
 */
typedef struct ticket {
    ot_order order;
    uint64_t from, rows, round_at, round_rows;
    ot_batch batch;
    bool ready;
    ot_rc rc;
    ot_error err;
} ticket;

typedef struct cursor {
    uint64_t epoch, taken;
    uint64_t batches; /* of this rank, in this epoch */
    ot_order order;
} cursor;

struct ot_reader {
    ot_source *source;
    ot_reader_options o;
    size_t offsets[OT_INPUT_COLUMNS_MAX];
    size_t batch_bytes, row_bytes; /* with and without padding between columns */
    bool ragged;                   /* one of the columns is */
    ot_buffers *buffers;
    pid_t pid;
    pthread_mutex_t lock;
    pthread_cond_t ready, room;
    /* Synchronization: lock. Tickets [head, tail) are being read or wait to be taken. */
    cursor at;
    ticket *ring;
    size_t n_ring;
    uint64_t head, tail;
    size_t reading;       /* threads with a ticket in hand */
    uint64_t grown_ahead; /* bytes of ragged columns in batches that are ready */
    bool paused, stopping;
    ot_reader_stats stats;
    pthread_t threads[OT_INPUT_THREADS_MAX];
    size_t n_threads;
};

/* --- what is read next */

static void begin_epoch(ot_reader *r, uint64_t epoch, uint64_t taken)
{
    r->at = (cursor){.epoch = epoch, .taken = taken};
    ot_order_init(&r->at.order, r->source->rows, r->o.shuffle, r->o.block, r->o.seed, epoch);
}

/* The rank's part of a round; its rows may wrap within the round. */
static uint64_t share_of(const ot_reader_options *o, uint64_t round, uint64_t *from)
{
    if (o->remainder == OT_REMAINDER_REPEAT) {
        uint64_t each = (round + o->size - 1) / o->size;
        *from = o->rank * each;
        return each;
    }
    return ot_deal_share(round, o->rank, o->size, from);
}

static void next_ticket_locked(ot_reader *r, ticket *t)
{
    const ot_reader_options *o = &r->o;
    for (;;) {
        uint64_t left = r->source->rows - r->at.taken;
        uint64_t round = ot_deal_round(left, o->batch, o->size, o->remainder == OT_REMAINDER_DROP);
        *t = (ticket){.order = r->at.order, .round_at = r->at.taken, .round_rows = round};
        if (round == 0) {
            begin_epoch(r, r->at.epoch + 1, 0);
            t->batch.epoch = r->at.epoch;
            t->ready = true;
            return;
        }
        t->rows = share_of(o, round, &t->from);
        r->at.taken += round;
        t->batch.epoch = r->at.epoch;
        t->batch.taken = r->at.taken;
        if (t->rows > 0 && r->at.batches++ % o->parts == o->part) {
            return;
        }
    }
}

/* --- threads */

static void read_ticket(ot_reader *r, ot_gather *g, uint64_t *rows, ticket *t)
{
    for (uint64_t i = 0; i < t->rows; i++) {
        rows[i] = ot_order_row(&t->order, t->round_at + (t->from + i) % t->round_rows);
    }
    uint8_t *data = ot_buffers_take(r->buffers);
    if (data == NULL) {
        t->rc = ot_fail(&t->err, OT_EXHAUSTED,
                        "no memory for a batch of %zu bytes; the program may "
                        "hold on to too many",
                        r->batch_bytes);
        return;
    }
    ot_grown *grown = ot_buffers_grown(data);
    t->rc = ot_gather_rows(g, rows, t->rows, data, r->offsets, grown, &t->err);
    if (t->rc != OT_OK) {
        ot_buffers_give(data);
        return;
    }
    t->batch.data = data;
    t->batch.rows = t->rows;
    for (size_t c = 0; r->ragged && c < r->source->n_columns; c++) {
        t->batch.grown += grown[c].n;
    }
}

/* How long ragged rows are is known when they are there, so that their bytes may pass the limit by
 * the batches that are in hand then. */
static bool full_locked(const ot_reader *r)
{
    uint64_t ahead = r->tail - r->head;
    return ahead == r->n_ring || (ahead >= 2 && r->grown_ahead > r->o.ahead_bytes);
}

static void *work(void *arg)
{
    ot_reader *r = arg;
    ot_gather g;
    ot_error err;
    OT_AUTO(ot_free_ptr) uint64_t *rows = ot_calloc(r->o.batch, sizeof *rows);
    ot_rc rc = rows == NULL ? ot_fail(&err, OT_EXHAUSTED, "no memory to read ahead") : OT_OK;
    rc = rc == OT_OK ? ot_gather_init(&g, r->source, &err) : rc;
    bool made = rc == OT_OK;
    pthread_mutex_lock(&r->lock);
    while (!r->stopping) {
        if (r->paused || full_locked(r)) {
            pthread_cond_wait(&r->room, &r->lock);
            continue;
        }
        ticket *t = &r->ring[r->tail++ % r->n_ring];
        next_ticket_locked(r, t);
        if (!t->ready) {
            r->reading++;
            pthread_mutex_unlock(&r->lock);
            if (made) {
                read_ticket(r, &g, rows, t);
            } else {
                t->rc = rc;
                t->err = err;
            }
            pthread_mutex_lock(&r->lock);
            r->reading--;
            r->grown_ahead += t->batch.grown;
            t->ready = true;
        }
        pthread_cond_broadcast(&r->ready);
    }
    pthread_mutex_unlock(&r->lock);
    if (made) {
        ot_gather_done(&g);
    }
    return NULL;
}

/* --- calls */

static ot_rc check_place(uint64_t rank, uint64_t size, ot_error *err)
{
    return size >= 1 && rank < size && size <= UINT32_MAX
               ? OT_OK
               : ot_fail(err, OT_INVALID,
                         "rank %" PRIu64 " of %" PRIu64 ": ranks are 0 to size - 1", rank, size);
}

static ot_rc check_options(const ot_source *s, const ot_reader_options *o, ot_error *err)
{
    OT_TRY(check_place(o->rank, o->size, err));
    if (o->parts < 1 || o->part >= o->parts) {
        return ot_fail(err, OT_INVALID, "part %" PRIu64 " of %" PRIu64 ": parts are 0 to parts - 1",
                       o->part, o->parts);
    }
    if (o->batch < 1 || o->batch > UINT32_MAX) {
        return ot_fail(err, OT_INVALID, "a batch of %" PRIu64 " rows; 1 to 4,294,967,295 are taken",
                       o->batch);
    }
    if (o->threads > OT_INPUT_THREADS_MAX) {
        return ot_fail(err, OT_INVALID, "%" PRIu64 " threads; up to %d are taken", o->threads,
                       OT_INPUT_THREADS_MAX);
    }
    if (o->remainder == OT_REMAINDER_DROP && s->rows / o->batch < o->size) {
        return ot_fail(err, OT_INVALID,
                       "%" PRIu64 " rows are less than one batch of %" PRIu64
                       " for each of %" PRIu64
                       " ranks, and what does not fill a batch is dropped: nothing is left",
                       s->rows, o->batch, o->size);
    }
    return OT_OK;
}

static ot_rc lay_out(ot_reader *r, ot_error *err)
{
    uint64_t at = 0;
    for (size_t c = 0; c < r->source->n_columns; c++) {
        r->offsets[c] = (size_t)at;
        const ot_input_column *col = &r->source->columns[c];
        uint64_t bytes, each = col->ragged ? sizeof(int64_t) : col->row_bytes;
        if (__builtin_mul_overflow(r->o.batch, each, &bytes) ||
            bytes > OT_INPUT_BATCH_BYTES_MAX - at) {
            return ot_fail(err, OT_EXHAUSTED,
                           "a batch of %" PRIu64 " rows takes over %llu GiB: make it smaller",
                           r->o.batch, OT_INPUT_BATCH_BYTES_MAX >> 30);
        }
        bytes += col->ragged ? sizeof(ot_input_ragged) + sizeof(int64_t) : 0;
        at += (bytes + 63) / 64 * 64;
        r->row_bytes += col->row_bytes;
        r->ragged |= col->ragged;
    }
    r->batch_bytes = (size_t)at;
    r->o.ahead_bytes = r->o.ahead_bytes == 0 ? OT_INPUT_AHEAD_BYTES : r->o.ahead_bytes;
    r->n_ring =
        (size_t)OT_MIN(OT_MAX(r->o.ahead_bytes / at, (uint64_t)2), (uint64_t)OT_INPUT_AHEAD_MAX);
    return OT_OK;
}

static void stop(ot_reader *r)
{
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_broadcast(&r->room);
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < r->n_threads; i++) {
        pthread_join(r->threads[i], NULL);
    }
}

static void drop_ahead(ot_reader *r)
{
    for (; r->head < r->tail; r->head++) {
        ot_buffers_give(r->ring[r->head % r->n_ring].batch.data);
    }
    r->grown_ahead = 0;
}

void ot_reader_destroy(ot_reader *r)
{
    if (r == NULL || r->pid != getpid()) {
        return; /* a child keeps what its parent's threads work with */
    }
    stop(r);
    drop_ahead(r);
    ot_buffers_unref(r->buffers);
    ot_source_destroy(r->source);
    pthread_cond_destroy(&r->ready);
    pthread_cond_destroy(&r->room);
    pthread_mutex_destroy(&r->lock);
    ot_free(r->ring);
    ot_free(r);
}

static ot_rc start(ot_reader *r, ot_error *err)
{
    OT_TRY(check_options(r->source, &r->o, err));
    OT_TRY(lay_out(r, err));
    r->ring = ot_calloc(r->n_ring, sizeof *r->ring);
    r->buffers =
        ot_buffers_create(r->batch_bytes, r->ragged ? r->source->n_columns : 0, r->n_ring + 2);
    if (r->ring == NULL || r->buffers == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to read ahead");
    }
    ot_source_advise(r->source, !r->o.shuffle || r->o.block > 0);
    begin_epoch(r, 0, 0);
    uint64_t n = r->o.threads > 0 ? r->o.threads : r->source->n_records > 0 ? 2 : 1;
    for (; r->n_threads < n; r->n_threads++) {
        int e = pthread_create(&r->threads[r->n_threads], NULL, work, r);
        if (e != 0) {
            return ot_fail_errno(err, e, "start a thread that reads ahead");
        }
    }
    return OT_OK;
}

ot_rc ot_reader_create(ot_source *source, const ot_reader_options *o, ot_reader **out,
                       ot_error *err)
{
    ot_reader *r = ot_calloc(1, sizeof *r);
    if (r == NULL) {
        ot_source_destroy(source);
        return ot_fail(err, OT_EXHAUSTED, "no memory to read a dataset");
    }
    r->source = source;
    r->o = *o;
    r->pid = getpid();
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&r->ready, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&r->room, NULL);
    pthread_mutex_init(&r->lock, NULL);
    ot_rc rc = start(r, err);
    if (rc != OT_OK) {
        ot_reader_destroy(r);
        return rc;
    }
    *out = r;
    return OT_OK;
}

const ot_source *ot_reader_source(const ot_reader *r)
{
    return r->source;
}

size_t ot_reader_offset(const ot_reader *r, size_t c)
{
    return r->offsets[c];
}

static ot_rc check_process(const ot_reader *r, ot_error *err)
{
    return r->pid == getpid()
               ? OT_OK
               : ot_fail(err, OT_PRECONDITION,
                         "this reader is process %d's, and this is a child of it: open "
                         "the dataset again here",
                         (int)r->pid);
}

static bool ready_locked(const ot_reader *r)
{
    return r->head < r->tail && r->ring[r->head % r->n_ring].ready;
}

ot_rc ot_reader_next(ot_reader *r, uint64_t timeout_ns, ot_batch *out, ot_error *err)
{
    OT_TRY(check_process(r, err));
    pthread_mutex_lock(&r->lock);
    if (!ready_locked(r)) {
        uint64_t since = ot_clock_mono_ns(), until = since + timeout_ns;
        struct timespec ts = {.tv_sec = (time_t)(until / 1000000000),
                              .tv_nsec = (long)(until % 1000000000)};
        int e = 0;
        while (!ready_locked(r) && e != ETIMEDOUT) {
            e = timeout_ns == 0 ? pthread_cond_wait(&r->ready, &r->lock)
                                : pthread_cond_timedwait(&r->ready, &r->lock, &ts);
        }
        r->stats.wait_ns += ot_clock_mono_ns() - since;
    }
    if (!ready_locked(r)) {
        pthread_mutex_unlock(&r->lock);
        return ot_fail(err, OT_TIMEOUT, "no batch within %" PRIu64 " ms", timeout_ns / 1000000);
    }
    ticket *t = &r->ring[r->head % r->n_ring];
    ot_rc rc = t->rc;
    if (rc != OT_OK) {
        if (err != NULL) {
            *err = t->err;
        }
    } else {
        *out = t->batch;
        r->head++;
        r->stats.batches += t->batch.data != NULL;
        r->stats.rows += t->batch.rows;
        r->stats.bytes += t->batch.rows * r->row_bytes + t->batch.grown;
        r->grown_ahead -= t->batch.grown;
        pthread_cond_broadcast(&r->room);
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

ot_rc ot_reader_seek(ot_reader *r, uint64_t epoch, uint64_t taken, uint64_t rank, uint64_t size,
                     ot_error *err)
{
    OT_TRY(check_process(r, err));
    OT_TRY(check_place(rank, size, err));
    if (taken > r->source->rows) {
        return ot_fail(err, OT_INVALID,
                       "%" PRIu64 " rows taken of %" PRIu64 ": the state is of another dataset",
                       taken, r->source->rows);
    }
    ot_reader_options o = r->o;
    o.rank = rank;
    o.size = size;
    OT_TRY(check_options(r->source, &o, err));
    pthread_mutex_lock(&r->lock);
    r->paused = true;
    while (r->reading > 0) {
        pthread_cond_wait(&r->ready, &r->lock);
    }
    drop_ahead(r);
    r->o = o;
    begin_epoch(r, epoch, taken);
    r->paused = false;
    pthread_cond_broadcast(&r->room);
    pthread_mutex_unlock(&r->lock);
    return OT_OK;
}

ot_reader_stats ot_reader_counts(const ot_reader *r)
{
    return r->stats; /* of the calling thread's own calls */
}
