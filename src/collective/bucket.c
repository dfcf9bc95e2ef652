#include "collective/bucket_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

/* What comes after the numbers of rows is told apart from them. */
#define SECOND_PART 0x10000u

static double factor(double x)
{
    return x == 0 ? 1 : x;
}

static void set_factors(ot_item *it, const ot_signature *s, int32_t size)
{
    it->before = factor(s->prescale);
    it->after = factor(s->postscale);
    if (s->reduction == OVERTAKE_AVERAGE &&
        (s->kind == OVERTAKE_ALLREDUCE || s->kind == OVERTAKE_REDUCESCATTER)) {
        bool narrow = s->dtype == OVERTAKE_F16 || s->dtype == OVERTAKE_BF16;
        *(narrow ? &it->before : &it->after) /= size;
    }
}

/* --- before the run ----------------------------------------------------------------------- */

ot_rc ot_work_short(const ot_work *w, uint64_t bytes, ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "no memory for %llu bytes of '%s'", (unsigned long long)bytes,
                   w->sig.name);
}

static ot_rc pack_buffer(ot_work *w, size_t bytes, ot_error *err)
{
    w->packed = ot_pool_take(w->place.pool, bytes, &w->packed_size);
    return w->packed != NULL ? OT_OK : ot_work_short(w, bytes, err);
}

/* `count` elements from `in` to `out`, times the factor. */
void ot_work_scaled(const ot_work *w, void *out, const void *in, uint64_t count, double by)
{
    if (by != 1) {
        ot_kernel_scale((overtake_dtype)w->run.dtype, out, in, count, by);
    } else if (out != in && count > 0) {
        memcpy(out, in, count * ot_work_elem(w));
    }
}

void ot_work_load(const ot_work *w, ot_item *it, void *out)
{
    ot_residuals *kept = w->place.residuals;
    ot_residual *left = it->key != 0 ? ot_residual_find(kept, it->key, it->count) : NULL;
    if (it->ticket == NULL) {
        ot_kernel_neutral((overtake_reduction)w->run.reduction, (overtake_dtype)w->run.dtype, out,
                          it->count);
    } else {
        ot_work_scaled(w, out, it->ticket->in, it->count, it->before);
    }
    if (left != NULL) {
        ot_kernel_reduce(OVERTAKE_SUM, OVERTAKE_F32, out, out, left->numbers, it->count);
        memset(left->numbers, 0, it->count * sizeof *left->numbers);
        ot_residual_release(kept, left);
    }
}

void *ot_work_out(const ot_work *w, const ot_item *it)
{
    ot_ticket *k = it->ticket;
    uint64_t bytes = it->count * ot_work_elem(w);
    if (k != NULL && k->out == NULL) {
        k->out = ot_out_make(bytes, 0, NULL);
    }
    return k == NULL || (k->out_bytes != 0 && k->out_bytes < bytes) ? NULL : k->out;
}

/* Where the result goes: the caller's memory, else ours. Memory that is too small is the caller's
 * mistake alone: the others get their result. */
static ot_rc output(ot_work *w, uint64_t bytes, void **out, ot_error *err)
{
    ot_ticket *k = w->items[0].ticket;
    bool parts = w->run.kind == OVERTAKE_ALLGATHER || w->run.kind == OVERTAKE_ALLTOALL;
    if (k == NULL || (k->out != NULL && k->out_bytes != 0 && k->out_bytes < bytes)) {
        w->too_small = k != NULL;
        w->out_need = bytes;
        OT_TRY(pack_buffer(w, bytes, err));
        *out = w->packed;
        return OT_OK;
    }
    if (k->out == NULL) {
        int64_t *splits = NULL;
        k->out = ot_out_make(bytes, parts ? w->place.size : 0, parts ? &splits : NULL);
        if (k->out == NULL) {
            return ot_work_short(w, bytes, err);
        }
        for (int32_t r = 0; splits != NULL && r < w->place.size; r++) {
            splits[r] = (int64_t)w->theirs[r];
        }
        k->result.splits = splits;
    }
    *out = k->out;
    return OT_OK;
}

ot_rc ot_work_build(ot_work *w, ot_run *r, ot_coll_shape *shape, ot_error *err)
{
    shape->kind = (overtake_kind)r->kind;
    shape->rank = w->place.rank;
    shape->size = w->place.size;
    shape->hosts = w->place.hosts;
    OT_TRY(ot_exec_plan(r, w->place.cost, shape, err));
    if (r->schedule.scratch_bytes > 0) {
        ot_pool_give(w->place.pool, w->scratch, w->scratch_size);
        w->scratch = ot_pool_take(w->place.pool, r->schedule.scratch_bytes, &w->scratch_size);
        if (w->scratch == NULL) {
            return ot_work_short(w, r->schedule.scratch_bytes, err);
        }
        r->buffers[OT_BUFFER_SCRATCH] = w->scratch;
    }
    return OT_OK;
}

/* Says what was chosen and why, once a choice. */
static void say_choice(const ot_work *w, ot_loss loss, const ot_coll_shape *shape)
{
    const ot_team_place *p = &w->place;
    unsigned bit = 1u << (w->choice.way == OT_WAY_CODED ? OT_WAY_LOWRANK + 1 + w->choice.codec
                                                        : (unsigned)w->choice.way);
    char why[256];
    if (p->rank == 0 && (p->residuals->said & bit) == 0) {
        p->residuals->said |= bit;
        ot_codec_choice_text(&w->choice, p->cost, loss, shape, why, sizeof why);
        ot_info("collective", "on the wire: '%s' %s", w->sig.name, why);
    }
}

/* Which way a sum goes; the same on all ranks. Where none may be lost, what that would save is
 * accounted. */
static void choose(ot_work *w, const ot_signature *sigs)
{
    const ot_team_place *p = &w->place;
    bool sums = w->run.kind == OVERTAKE_ALLREDUCE && w->run.dtype == OVERTAKE_F32 &&
                (w->run.reduction == OVERTAKE_SUM || w->run.reduction == OVERTAKE_AVERAGE);
    bool exact = p->loss == OT_LOSS_NONE,
         measured = p->cost->local.measured || p->cost->remote.measured;
    if (!sums || (exact && !measured)) {
        return;
    }
    ot_loss loss = exact ? OT_LOSS_ANY : p->loss;
    if (w->lane == OT_LANE_ORDERED && loss == OT_LOSS_ANY) {
        loss = OT_LOSS_HALF; /* without a name it comes once: nothing is kept for the next time */
    }
    ot_coll_shape shape = {.kind = OVERTAKE_ALLREDUCE,
                           .rank = p->rank,
                           .size = p->size,
                           .elem_bytes = (uint32_t)ot_work_elem(w),
                           .hosts = p->hosts};
    for (size_t i = 0; i < w->n; i++) {
        shape.count += w->items[i].count;
        w->items[i].key = loss == OT_LOSS_ANY && !exact ? ot_signature_hash(&sigs[i]) : 0;
    }
    if (w->lane == OT_LANE_PLANNED) {
        ot_work_low_plan(w, sigs);
    }
    ot_codec_choice c = ot_cost_codec(p->cost, loss, &w->low, &shape);
    if (exact) {
        ot_trace_predicted(p->trace, c.exact_us, ot_codec_choice_us(&c));
        return;
    }
    w->choice = c;
    say_choice(w, loss, &shape);
    /* F16 ends at 65,504: the sum of all must fit, too. */
    for (size_t i = 0; i < w->n && w->choice.way == OT_WAY_CODED && w->choice.codec == OT_CODEC_F16;
         i++) {
        w->items[i].before /= p->size;
        w->items[i].after *= p->size;
    }
}

static bool keeps(const ot_work *w, const ot_item *it)
{
    ot_residuals *kept = w->place.residuals;
    ot_residual *left = it->key != 0 ? ot_residual_find(kept, it->key, it->count) : NULL;
    ot_residual_release(kept, left);
    return left != NULL;
}

static ot_rc one(ot_work *w, ot_error *err)
{
    ot_item *it = &w->items[0];
    ot_coll_shape shape = {
        .root = w->sig.root, .elem_bytes = (uint32_t)ot_work_elem(w), .count = it->count};
    void *out;
    OT_TRY(output(w, it->count * ot_work_elem(w), &out, err));
    const void *in = it->ticket != NULL ? it->ticket->in : out;
    if (it->ticket == NULL || it->before != 1 || keeps(w, it)) {
        ot_work_load(w, it, out);
        in = out;
    }
    w->run.buffers[OT_BUFFER_IN] = (void *)(uintptr_t)in;
    w->run.buffers[OT_BUFFER_OUT] = out;
    return ot_work_build(w, &w->run, &shape, err);
}

static ot_rc many(ot_work *w, ot_error *err)
{
    size_t bytes = 0;
    bool sender = w->run.kind != OVERTAKE_BROADCAST || w->sig.root == w->place.rank;
    for (size_t i = 0; i < w->n; i++) {
        w->items[i].offset = bytes;
        bytes += w->items[i].count * ot_work_elem(w);
    }
    OT_TRY(pack_buffer(w, bytes, err));
    for (size_t i = 0; i < w->n; i++) {
        ot_item *it = &w->items[i];
        uint8_t *to = (uint8_t *)w->packed + it->offset;
        if (sender || it->ticket == NULL) {
            ot_work_load(w, it, to);
        }
    }
    w->run.buffers[OT_BUFFER_IN] = w->run.buffers[OT_BUFFER_OUT] = w->packed;
    ot_coll_shape shape = {.root = w->sig.root,
                           .elem_bytes = (uint32_t)ot_work_elem(w),
                           .count = bytes / ot_work_elem(w)};
    return ot_work_build(w, &w->run, &shape, err);
}

/* Rows that each rank gets: the first dims[0] % size one more, or as asked. */
static void deal(const ot_ticket *k, const ot_signature *s, int32_t size, uint64_t *rows)
{
    uint64_t n = s->ndim > 0 ? (uint64_t)s->dims[0] : 1;
    for (int32_t r = 0; r < size; r++) {
        rows[r] = k != NULL && k->splits != NULL
                      ? (uint64_t)k->splits[r]
                      : n / (uint64_t)size + ((uint64_t)r < n % (uint64_t)size);
    }
}

static uint64_t in_elements(uint64_t *counts, const uint64_t *rows, int32_t size, uint64_t row)
{
    uint64_t sum = 0;
    for (int32_t r = 0; r < size; r++) {
        counts[r] = rows[r] * row;
        sum += counts[r];
    }
    return sum;
}

static ot_rc scatter(ot_work *w, ot_error *err)
{
    ot_item *it = &w->items[0];
    size_t elem = ot_work_elem(w);
    void *out;
    deal(it->ticket, &w->sig, w->place.size, w->mine);
    uint64_t row = ot_signature_row(&w->sig), rows = w->mine[w->place.rank];
    (void)in_elements(w->theirs, w->mine, w->place.size, row);
    it->ticket->result.dims[0] = (int64_t)rows;
    OT_TRY(output(w, rows * row * elem, &out, err));
    const void *in = it->ticket->in;
    if (it->before != 1) {
        /* The caller's input stays as it is. */
        w->copy = ot_pool_take(w->place.pool, it->count * elem, &w->copy_size);
        if (w->copy == NULL) {
            return ot_work_short(w, it->count * elem, err);
        }
        ot_work_scaled(w, w->copy, in, it->count, it->before);
        in = w->copy;
    }
    w->run.buffers[OT_BUFFER_IN] = (void *)(uintptr_t)in;
    w->run.buffers[OT_BUFFER_OUT] = out;
    ot_coll_shape shape = {.elem_bytes = (uint32_t)elem, .counts = w->theirs};
    return ot_work_build(w, &w->run, &shape, err);
}

/* The numbers of rows that all bring, told before what they bring. */
static ot_rc tell_rows(ot_work *w, ot_error *err)
{
    static const size_t max = 4096;
    ot_ticket *k = w->items[0].ticket;
    bool gather = w->run.kind == OVERTAKE_ALLGATHER;
    OT_AUTO(ot_free_ptr) uint64_t *ones = ot_alloc((size_t)w->place.size * sizeof *ones);
    if (ones == NULL || (size_t)w->place.size > max) {
        return ot_work_short(w, (uint64_t)w->place.size * sizeof *ones, err);
    }
    for (int32_t r = 0; r < w->place.size; r++) {
        ones[r] = 1;
    }
    deal(k, &k->sig, w->place.size, w->mine);
    if (gather) {
        w->mine[0] = k->sig.ndim > 0 ? (uint64_t)k->sig.dims[0] : 1;
    }
    w->run.buffers[OT_BUFFER_IN] = w->mine;
    w->run.buffers[OT_BUFFER_OUT] = w->theirs;
    ot_coll_shape shape = {
        .elem_bytes = sizeof *ones, .counts = ones, .sends = ones, .recvs = ones};
    return ot_work_build(w, &w->run, &shape, err);
}

static ot_rc parts(ot_work *w, ot_error *err)
{
    ot_ticket *k = w->items[0].ticket;
    size_t n = (size_t)w->place.size, elem = ot_work_elem(w);
    uint64_t row = ot_signature_row(&w->sig), total = 0;
    OT_AUTO(ot_free_ptr) uint64_t *recvs = ot_alloc(n * sizeof *recvs);
    OT_AUTO(ot_free_ptr) uint64_t *sends = ot_alloc(n * sizeof *sends);
    if (recvs == NULL || sends == NULL) {
        return ot_work_short(w, n * sizeof *recvs, err);
    }
    for (size_t r = 0; r < n; r++) {
        if (row > 0 && w->theirs[r] > (UINT64_MAX / 16) / (row * elem) / n) {
            return ot_fail(err, OT_RANGE, "'%s': rank %zu brings %llu rows, which can't be",
                           k->sig.name, r, (unsigned long long)w->theirs[r]);
        }
        recvs[r] = w->theirs[r] * row;
        sends[r] = w->run.kind == OVERTAKE_ALLTOALL ? w->mine[r] * row : 0;
        total += w->theirs[r];
    }
    void *out;
    k->result.dims[0] = (int64_t)total;
    k->result.ndim = OT_MAX(k->sig.ndim, 1);
    OT_TRY(output(w, total * row * elem, &out, err));
    w->run.buffers[OT_BUFFER_IN] = (void *)(uintptr_t)k->in;
    w->run.buffers[OT_BUFFER_OUT] = out;
    ot_coll_shape shape = {
        .elem_bytes = (uint32_t)elem, .counts = recvs, .sends = sends, .recvs = recvs};
    return ot_work_build(w, &w->run, &shape, err);
}

static ot_rc barrier(ot_work *w, ot_error *err)
{
    w->run.buffers[OT_BUFFER_IN] = &w->bytes[0];
    w->run.buffers[OT_BUFFER_OUT] = &w->bytes[1];
    ot_coll_shape shape = {.elem_bytes = 1, .count = 1};
    return ot_work_build(w, &w->run, &shape, err);
}

static ot_rc prepare(ot_run *r, ot_error *err)
{
    ot_work *w = (ot_work *)r;
    switch (r->kind) {
    case OVERTAKE_ALLREDUCE:
    case OVERTAKE_BROADCAST:
        return w->n == 1 ? one(w, err) : many(w, err);
    case OVERTAKE_REDUCESCATTER:
        return scatter(w, err);
    case OVERTAKE_ALLGATHER:
    case OVERTAKE_ALLTOALL:
        return w->knows_parts ? parts(w, err) : tell_rows(w, err);
    case OVERTAKE_BARRIER:
        return barrier(w, err);
    default:
        return OT_OK;
    }
}

/* --- after it ----------------------------------------------------------------------------- */

static void work_free(ot_work *w)
{
    ot_pool_give(w->place.pool, w->packed, w->packed_size);
    ot_pool_give(w->place.pool, w->scratch, w->scratch_size);
    ot_pool_give(w->place.pool, w->copy, w->copy_size);
    ot_work_parts_free(w);
    ot_free(w->mine);
    ot_free(w->theirs);
    ot_free(w);
}

/* What the ticket's out becomes. */
static void hand_back(ot_work *w, ot_item *it)
{
    ot_ticket *k = it->ticket;
    void *out = w->n > 1 || w->choice.way != OT_WAY_EXACT ? ot_work_out(w, it) : k->out;
    if (w->choice.way == OT_WAY_LOWRANK) {
        ot_work_low_end(w, it);
    } else if (w->choice.way == OT_WAY_CODED) {
        return; /* it is there */
    } else if (w->n > 1 && out != NULL) {
        ot_work_scaled(w, out, (uint8_t *)w->packed + it->offset, it->count, it->after);
    } else if (w->run.kind == OVERTAKE_ALLREDUCE && it->after != 1) {
        ot_work_scaled(w, out, out, it->count, it->after);
    } else if (w->run.kind == OVERTAKE_REDUCESCATTER && it->after != 1) {
        ot_work_scaled(w, out, out, w->theirs[w->place.rank], it->after);
    }
}

static void record(const ot_work *w, const ot_item *it)
{
    const ot_ticket *k = it->ticket;
    ot_trace_op op = {.name = k->sig.name,
                      .kind = k->sig.kind,
                      .dtype = k->sig.dtype,
                      .lane = (uint8_t)w->lane,
                      .companions = (uint32_t)w->n,
                      .seq = w->run.seq,
                      .epoch = w->run.epoch,
                      .bytes = it->count * ot_dtype_bytes((overtake_dtype)k->sig.dtype),
                      .asked = k->since_ns,
                      .done = ot_clock_mono_ns(),
                      .times = w->run.times,
                      .late = w->run.late};
    ot_trace_op_add(w->place.trace, &op);
}

static void finish_ticket(ot_work *w, ot_item *it, const ot_error *why)
{
    ot_error own;
    ot_ticket *k = it->ticket;
    if (w->n > 1 || w->choice.way != OT_WAY_EXACT) {
        w->out_need = it->count * ot_work_elem(w);
        w->too_small = k->out != NULL && k->out_bytes != 0 && k->out_bytes < w->out_need;
    }
    if (why == NULL && w->too_small) {
        (void)ot_fail(&own, OT_EXHAUSTED,
                      "'%s': out has room for %llu bytes; the result has %llu: give more room, or "
                      "none and let the library make it",
                      k->sig.name, (unsigned long long)k->out_bytes,
                      (unsigned long long)w->out_need);
        why = &own;
    } else if (why == NULL) {
        hand_back(w, it);
        if (k->out == NULL && it->count > 0 && k->sig.kind != OVERTAKE_BARRIER &&
            k->sig.kind != OVERTAKE_JOIN) {
            (void)ot_work_short(w, it->count, &own);
            why = &own;
        }
    }
    k->result.out = k->out;
    k->result.last_joined = w->last_joined;
    k->late = w->run.late;
    if (w->run.timed) {
        record(w, it);
    }
    ot_work_let_go(w, it); /* before somebody who has waited saves what is kept */
    w->ops.ticket_done(w->ops.arg, k, why);
}

void ot_work_tell(ot_work *w, const ot_error *why)
{
    if (!w->told) {
        w->told = true;
        ot_work_parts_times(w);
        for (size_t i = 0; i < w->n; i++) {
            ot_item *it = &w->items[i];
            if (it->ticket != NULL) {
                finish_ticket(w, it, why);
            } else if (why == NULL && w->choice.way == OT_WAY_LOWRANK) {
                ot_work_low_end(w, it);
            }
        }
        ot_trace_ran(w->place.trace, &w->run.times, w->run.late, w->run.epoch, w->run.hash);
        w->ops.ended(w->ops.arg, w->lane, w->run.seq, why);
    }
    if (w->open == 0) {
        work_free(w);
    }
}

static void ended(ot_run *r, const ot_error *why)
{
    ot_work *w = (ot_work *)r;
    bool by_parts = r->kind == OVERTAKE_ALLGATHER || r->kind == OVERTAKE_ALLTOALL;
    bool again = why == NULL && by_parts && !w->knows_parts;
    if (again) {
        w->knows_parts = by_parts;
        r->holds = false;
        r->first_message = SECOND_PART;
        ot_exec_submit_next(w->exec, r);
        return;
    }
    w->open = 0;
    ot_work_tell(w, why);
}

/* --- the beginning ------------------------------------------------------------------------- */

static void fill(ot_work *w, const ot_bucket *b, ot_ticket *const *tickets)
{
    for (size_t i = 0; i < w->n; i++) {
        const ot_signature *s = &b->signatures[i];
        ot_item *it = &w->items[i];
        it->ticket = tickets[i];
        it->count = ot_signature_count(s);
        set_factors(it, s, w->place.size);
        w->run.bytes += it->count * ot_dtype_bytes((overtake_dtype)s->dtype);
        if (it->ticket != NULL) {
            w->asked = OT_MAX(w->asked, it->ticket->since_ns);
            it->ticket->result.ndim = s->ndim;
            memcpy(it->ticket->result.dims, it->ticket->sig.dims, sizeof s->dims);
        }
    }
    for (int32_t r = 0; b->rows != NULL && r < w->place.size; r++) {
        w->theirs[r] = (uint64_t)b->rows[r];
    }
    w->knows_parts = b->rows != NULL && w->run.kind == OVERTAKE_ALLGATHER;
    bool by_parts = w->run.kind == OVERTAKE_ALLGATHER || w->run.kind == OVERTAKE_ALLTOALL;
    w->run.holds = by_parts && !w->knows_parts;
}

ot_rc ot_work_submit(const ot_team_place *place, ot_exec *exec, ot_exec *second, const ot_bucket *b,
                     ot_ticket *const *tickets, const ot_work_ops *ops, ot_error *err)
{
    uint8_t kind = b->signatures[0].kind;
    if (tickets[0] == NULL && kind != OVERTAKE_ALLREDUCE && kind != OVERTAKE_BARRIER) {
        return ot_fail(err, OT_PRECONDITION, "'%s' runs, and this rank has not asked for it",
                       b->signatures[0].name);
    }
    ot_work *w = ot_calloc(1, sizeof *w + b->n * sizeof w->items[0]);
    if (w != NULL) {
        w->mine = ot_calloc((size_t)place->size, sizeof *w->mine);
        w->theirs = ot_calloc((size_t)place->size, sizeof *w->theirs);
    }
    if (w == NULL || w->mine == NULL || w->theirs == NULL) {
        if (w != NULL) {
            ot_free(w->mine);
            ot_free(w->theirs);
            ot_free(w);
        }
        return ot_fail(err, OT_EXHAUSTED, "operation: out of memory");
    }
    w->place = *place;
    w->exec = exec;
    w->ops = *ops;
    w->lane = b->lane;
    w->n = b->n;
    w->sig = b->signatures[0];
    w->last_joined = b->last_joined;
    w->run = (ot_run){.kind = w->sig.kind,
                      .dtype = w->sig.dtype,
                      .reduction = w->sig.reduction,
                      .epoch = b->epoch,
                      .seq = b->seq,
                      .hash = b->hash,
                      .prepare = prepare,
                      .ended = ended};
    if (w->sig.kind == OVERTAKE_BARRIER) {
        w->run.dtype = OVERTAKE_U8;
        w->run.reduction = OVERTAKE_SUM;
    }
    ot_wire_name(w->run.name, w->sig.name);
    fill(w, b, tickets);
    w->run.timed = ot_trace_on(place->trace);
    w->run.late = ot_trace_asked(place->trace, w->asked);
    choose(w, b->signatures);
    if (w->choice.way != OT_WAY_EXACT) {
        ot_rc rc = ot_work_parts_submit(w, second, err);
        if (rc != OT_OK) {
            work_free(w);
        }
        return rc;
    }
    w->open = 1;
    ot_exec_submit(exec, &w->run);
    return OT_OK;
}
