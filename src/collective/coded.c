#include "collective/coded.h"

#include "base/mem.h"

#include <string.h>

/* Tensors that did not come in so many operations come no more. */
#define USES_KEPT 1024
#define KEPT_BYTES_MAX ((uint64_t)8 << 30)

void ot_residuals_done(ot_residuals *r)
{
    for (size_t i = 0; i < r->n; i++) {
        ot_free(r->items[i].own);
    }
    ot_free(r->items);
    memset(r, 0, sizeof *r);
}

/* Drops what is old, and of the rest the oldest until there is room. */
static void make_room(ot_residuals *r, uint64_t bytes)
{
    for (;;) {
        size_t oldest = 0;
        for (size_t i = 1; i < r->n; i++) {
            oldest = r->items[i].used < r->items[oldest].used ? i : oldest;
        }
        if (r->n == 0 ||
            (r->uses - r->items[oldest].used <= USES_KEPT && r->bytes + bytes <= KEPT_BYTES_MAX)) {
            return;
        }
        r->bytes -= r->items[oldest].bytes;
        ot_free(r->items[oldest].own);
        r->items[oldest] = r->items[--r->n];
    }
}

/* NULL: no memory. */
static ot_residual *residual_of(ot_residuals *r, uint64_t key, uint64_t count, uint64_t owned)
{
    r->uses++;
    for (size_t i = 0; i < r->n; i++) {
        if (r->items[i].key == key) {
            r->items[i].used = r->uses;
            return &r->items[i];
        }
    }
    uint64_t bytes = (count + owned) * sizeof(float);
    make_room(r, bytes);
    if (r->n == r->cap) {
        size_t cap = r->cap == 0 ? 16 : 2 * r->cap;
        ot_residual *items = ot_realloc(r->items, cap * sizeof *items);
        if (items == NULL) {
            return NULL;
        }
        r->items = items;
        r->cap = cap;
    }
    float *own = bytes <= KEPT_BYTES_MAX ? ot_calloc(count + owned, sizeof *own) : NULL;
    if (own == NULL) {
        return NULL;
    }
    r->bytes += bytes;
    r->items[r->n] = (ot_residual){key, r->uses, bytes, own, own + count};
    return &r->items[r->n++];
}

/* Two buffers of bytes and one of numbers behind one another; each begins on a cache line. */
static uint64_t line(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static uint64_t bytes_mine(const ot_twoshot *t)
{
    return line(ot_twoshot_bytes(t));
}

static uint64_t bytes_theirs(const ot_twoshot *t)
{
    return line(OT_MAX(ot_twoshot_bytes(t), ot_twoshot_heard(t)));
}

uint64_t ot_coded_room(const ot_twoshot *t)
{
    return bytes_mine(t) + bytes_theirs(t) + line(ot_twoshot_owned(t) * sizeof(float)) + 64;
}

void ot_coded_begin(ot_coded *c, const ot_twoshot *shots, void *room, ot_residuals *residuals,
                    uint64_t key, const float *in, float *out)
{
    *c = (ot_coded){.shots = *shots, .part = 1, .in = in, .out = out, .mine = room};
    c->theirs = (char *)room + bytes_mine(shots);
    c->acc = (float *)(void *)((char *)c->theirs + bytes_theirs(shots));
    const ot_residual *kept =
        ot_codec_keeps(shots->codec)
            ? residual_of(residuals, key, shots->count, ot_twoshot_owned(shots))
            : NULL;
    if (kept != NULL) {
        c->kept = *kept;
    }
    ot_twoshot_pack(&c->shots, c->mine, in, c->kept.own);
}

ot_rc ot_coded_prepare(const ot_coded *c, const int32_t *hosts, const ot_cost_model *cost,
                       ot_run *run, ot_error *err)
{
    ot_coll_shape shape = {.kind = c->part == 1 ? OVERTAKE_ALLTOALL : OVERTAKE_ALLGATHER,
                           .rank = c->shots.rank,
                           .size = c->shots.size,
                           .elem_bytes = 1,
                           .counts = c->shots.sends,
                           .sends = c->shots.sends,
                           .recvs = c->shots.recvs,
                           .hosts = hosts};
    run->buffers[OT_BUFFER_IN] = c->mine;
    run->buffers[OT_BUFFER_OUT] = c->theirs;
    return ot_schedule_build(ot_cost_choose(cost, &shape), &shape, &run->schedule, err);
}

bool ot_coded_next(ot_coded *c)
{
    if (c->part == 1) {
        ot_twoshot_sum(&c->shots, c->mine, c->theirs, c->acc, c->kept.owner);
        c->part = 2;
        return true;
    }
    ot_twoshot_unpack(&c->shots, c->out, c->theirs);
    return false;
}

void ot_coded_done(ot_coded *c)
{
    ot_twoshot_done(&c->shots);
}
