/* Runs the schedules of all ranks in one thread over queues in memory: any rank, any step that may
 * go on, any number of bytes, as a seed says. Queues are short, so that what needs room in a socket
 * to get on stands still here. */
#ifndef OT_TESTS_SCHEDULE_WORLD_H
#define OT_TESTS_SCHEDULE_WORLD_H

#include "base/mem.h"
#include "base/random.h"
#include "collective/kernel.h"
#include "collective/schedule.h"

#include <stdbool.h>
#include <string.h>

typedef struct world_rank {
    ot_schedule s;
    unsigned char *buffers[OT_BUFFERS];
    uint64_t *done;           /* bytes of each step */
    size_t left;              /* steps that are not complete */
    bool held;                /* does nothing for now */
    uint64_t messages, bytes; /* sent */
} world_rank;

typedef struct world_queue {
    unsigned char data[64];
    size_t first, n;
} world_queue;

typedef struct world {
    int32_t n;
    world_rank *ranks;
    world_queue *queues; /* from * n + to */
    size_t room;         /* of a queue */
    overtake_dtype dtype;
    overtake_reduction op;
    ot_rng rng;
} world;

static bool world_create(world *w, int32_t n, overtake_dtype dtype, uint64_t seed)
{
    *w = (world){.n = n, .dtype = dtype, .op = OVERTAKE_SUM};
    ot_rng_seed(&w->rng, seed);
    size_t ranks = (size_t)n;
    w->ranks = ot_calloc(ranks, sizeof *w->ranks);
    w->queues = ot_calloc(ranks * ranks, sizeof *w->queues);
    /* From one element to all that fit. */
    size_t size = ot_dtype_bytes(dtype);
    w->room = size + ot_rng_below(&w->rng, sizeof w->queues->data - size + 1);
    return w->ranks != NULL && w->queues != NULL;
}

/* Takes the schedule over; in and out stay the caller's. */
static bool world_set(world *w, int32_t rank, ot_schedule *s, void *in, void *out)
{
    world_rank *r = &w->ranks[rank];
    r->s = *s;
    memset(s, 0, sizeof *s);
    r->left = r->s.n;
    r->done = ot_calloc(r->s.n + 1, sizeof *r->done);
    r->buffers[OT_BUFFER_IN] = in;
    r->buffers[OT_BUFFER_OUT] = out;
    r->buffers[OT_BUFFER_SCRATCH] = ot_alloc(r->s.scratch_bytes + 1);
    if (r->buffers[OT_BUFFER_SCRATCH] != NULL) {
        memset(r->buffers[OT_BUFFER_SCRATCH], 0x77, r->s.scratch_bytes + 1);
    }
    for (size_t i = 0; i < r->s.n; i++) {
        r->messages += r->s.steps[i].kind == OT_STEP_SEND;
        r->bytes += r->s.steps[i].kind == OT_STEP_SEND ? r->s.steps[i].bytes : 0;
    }
    return r->done != NULL && r->buffers[OT_BUFFER_SCRATCH] != NULL;
}

static void world_destroy(world *w)
{
    for (int32_t i = 0; w->ranks != NULL && i < w->n; i++) {
        ot_schedule_done(&w->ranks[i].s);
        ot_free(w->ranks[i].done);
        ot_free(w->ranks[i].buffers[OT_BUFFER_SCRATCH]);
    }
    ot_free(w->ranks);
    ot_free(w->queues);
}

static bool world_receives(const ot_step *s)
{
    return s->kind == OT_STEP_RECV || s->kind == OT_STEP_REDUCE;
}

/* What this rank sends to `to` and what that expects, step by step. */
__attribute__((unused)) static bool world_fits(const world *w, int32_t from, int32_t to)
{
    const ot_schedule *a = &w->ranks[from].s, *b = &w->ranks[to].s;
    size_t i = 0, j = 0;
    for (;; i++, j++) {
        while (i < a->n && !(a->steps[i].kind == OT_STEP_SEND && a->steps[i].peer == to)) {
            i++;
        }
        while (j < b->n && !(world_receives(&b->steps[j]) && b->steps[j].peer == from)) {
            j++;
        }
        if (i == a->n || j == b->n) {
            return i == a->n && j == b->n;
        }
        if (a->steps[i].bytes != b->steps[j].bytes) {
            return false;
        }
    }
}

/* Bytes that step i may do now as far as order and dependencies go. */
static uint64_t world_may(const world_rank *r, size_t i)
{
    const ot_step *s = &r->s.steps[i];
    if (s->since >= 0 && r->done[s->since] < r->s.steps[s->since].bytes) {
        return 0;
    }
    for (size_t k = 0; k < i && s->peer >= 0; k++) {
        const ot_step *before = &r->s.steps[k];
        if (before->peer == s->peer && world_receives(before) == world_receives(s) &&
            r->done[k] < before->bytes) {
            return 0;
        }
    }
    return (s->after >= 0 ? r->done[s->after] : s->bytes) - r->done[i];
}

static void world_take(world_queue *q, void *p, size_t n)
{
    memcpy(p, q->data + q->first, n);
    q->first += n;
    q->n -= n;
    if (q->n == 0) {
        q->first = 0;
    }
}

static void world_put(world_queue *q, const void *p, size_t n)
{
    memmove(q->data, q->data + q->first, q->n);
    q->first = 0;
    memcpy(q->data + q->n, p, n);
    q->n += n;
}

/* Does up to `most` bytes of a step; gives how many. */
static uint64_t world_step(world *w, int32_t rank, size_t i, uint64_t most)
{
    world_rank *r = &w->ranks[rank];
    const ot_step *s = &r->s.steps[i];
    uint64_t n = OT_MIN(world_may(r, i), most), size = ot_dtype_bytes(w->dtype);
    unsigned char *from = r->buffers[s->from] + s->from_offset + r->done[i];
    unsigned char *to = r->buffers[s->to] + s->offset + r->done[i];
    unsigned char piece[sizeof w->queues->data];
    if (s->kind == OT_STEP_SEND) {
        world_queue *q = &w->queues[rank * w->n + s->peer];
        n = OT_MIN(n, w->room - q->n);
        world_put(q, r->buffers[s->from] + s->offset + r->done[i], n);
    } else if (world_receives(s)) {
        world_queue *q = &w->queues[s->peer * w->n + rank];
        n = OT_MIN(n, q->n);
        if (s->kind == OT_STEP_REDUCE) {
            n -= n % size;
            world_take(q, piece, n);
            ot_kernel_reduce(w->op, w->dtype, to, from, piece, n / size);
        } else {
            world_take(q, to, n);
        }
    } else if (s->kind == OT_STEP_COPY) {
        memmove(to, from, n);
    } else {
        n -= n % size;
        ot_kernel_reduce(w->op, w->dtype, to, to, from, n / size);
    }
    r->done[i] += n;
    r->left -= n > 0 && r->done[i] == s->bytes;
    return n;
}

/* Until nothing moves; gives how many ranks are not at their end. */
static int32_t world_run(world *w)
{
    for (bool moved = true; moved;) {
        moved = false;
        int32_t begin = (int32_t)ot_rng_below(&w->rng, (uint64_t)w->n);
        for (int32_t k = 0; k < w->n; k++) {
            int32_t rank = (begin + k) % w->n;
            world_rank *r = &w->ranks[rank];
            size_t first = r->s.n > 0 ? ot_rng_below(&w->rng, r->s.n) : 0;
            for (size_t i = 0; i < r->s.n && !r->held && r->left > 0; i++) {
                size_t at = (first + i) % r->s.n;
                if (r->done[at] < r->s.steps[at].bytes) {
                    moved |= world_step(w, rank, at, 8 * (1 + ot_rng_below(&w->rng, 8))) > 0;
                }
            }
        }
    }
    int32_t stuck = 0;
    for (int32_t i = 0; i < w->n; i++) {
        stuck += w->ranks[i].left > 0;
    }
    return stuck;
}

#endif
