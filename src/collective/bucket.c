#include "collective/bucket.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

/* Messages of the second part of an operation are told apart from those of the first. */
#define SECOND_PART 0x10000u

typedef struct item {
    ot_ticket *ticket; /* NULL: joined */
    uint64_t count;
    double before, after; /* factors */
    size_t offset;        /* in the packed buffer */
} item;

struct ot_work {
    ot_run run; /* first: the executor hands it back */
    ot_team_place place;
    ot_exec *exec;
    ot_work_ops ops;
    ot_lane lane;
    ot_signature sig; /* of the first tensor */
    int64_t *rows;    /* ALLGATHER: of each rank; else NULL */
    bool knows_parts; /* ALLGATHER, ALLTOALL: what the others bring is known */
    int32_t last_joined;
    uint64_t *mine, *theirs; /* ALLTOALL, ALLGATHER: rows to and from each rank */
    void *packed, *scratch, *copy;
    size_t packed_size, scratch_size, copy_size;
    bool too_small; /* the caller's out: what came went to `packed` */
    uint64_t out_need;
    uint8_t bytes[2]; /* BARRIER */
    ot_coded coded;
    void *room; /* of coded */
    size_t room_size;
    size_t n;
    item items[];
};

/* --- buffers ------------------------------------------------------------------------------ */

static void *pool_take(ot_pool *p, size_t size, size_t *got)
{
    size_t best = OT_COUNT(p->kept);
    for (size_t i = 0; i < OT_COUNT(p->kept); i++) {
        if (p->kept[i].p != NULL && p->kept[i].size >= size && p->kept[i].size / 4 <= size &&
            (best == OT_COUNT(p->kept) || p->kept[i].size < p->kept[best].size)) {
            best = i;
        }
    }
    if (best < OT_COUNT(p->kept)) {
        void *q = p->kept[best].p;
        *got = p->kept[best].size;
        p->kept[best].p = NULL;
        return q;
    }
    *got = OT_MAX((size + 4095) / 4096 * 4096, (size_t)4096);
    return ot_aligned_alloc(4096, *got);
}

static void pool_give(ot_pool *p, void *q, size_t size)
{
    size_t least = 0;
    for (size_t i = 0; q != NULL && i < OT_COUNT(p->kept); i++) {
        if (p->kept[i].p == NULL) {
            p->kept[i].p = q;
            p->kept[i].size = size;
            return;
        }
        least = p->kept[i].size < p->kept[least].size ? i : least;
    }
    if (q != NULL && p->kept[least].size < size) {
        ot_free(p->kept[least].p);
        p->kept[least].p = q;
        p->kept[least].size = size;
        return;
    }
    ot_free(q);
}

void ot_pool_done(ot_pool *p)
{
    for (size_t i = 0; i < OT_COUNT(p->kept); i++) {
        ot_free(p->kept[i].p);
    }
    memset(p, 0, sizeof *p);
}

/* --- signatures --------------------------------------------------------------------------- */

uint64_t ot_signature_count(const ot_signature *s)
{
    uint64_t n = 1;
    for (int32_t i = 0; i < s->ndim; i++) {
        n *= (uint64_t)s->dims[i];
    }
    return n;
}

uint64_t ot_signature_row(const ot_signature *s)
{
    uint64_t n = 1;
    for (int32_t i = 1; i < s->ndim; i++) {
        n *= (uint64_t)s->dims[i];
    }
    return n;
}

uint64_t ot_signature_hash(const ot_signature *s)
{
    ot_signature k;
    memset(&k, 0, sizeof k);
    memcpy(k.name, s->name, strlen(s->name));
    k.kind = s->kind;
    k.dtype = s->dtype;
    k.reduction = s->reduction;
    k.root = s->root;
    k.ndim = s->ndim;
    memcpy(k.dims, s->dims, (size_t)s->ndim * sizeof k.dims[0]);
    if (s->kind == OVERTAKE_ALLGATHER || s->kind == OVERTAKE_ALLTOALL) {
        k.dims[0] = 0;
    }
    k.splits = s->splits;
    k.prescale = s->prescale;
    k.postscale = s->postscale;
    return ot_hash_stable(&k, sizeof k, 0);
}

static double factor(double x)
{
    return x == 0 ? 1 : x;
}

static void set_factors(item *it, const ot_signature *s, int32_t size)
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

static size_t elem_bytes(const ot_work *w)
{
    return ot_dtype_bytes((overtake_dtype)w->run.dtype);
}

static ot_rc short_of(ot_error *err, const ot_work *w, uint64_t bytes)
{
    return ot_fail(err, OT_EXHAUSTED, "no memory for %llu bytes of '%s'", (unsigned long long)bytes,
                   w->sig.name);
}

static ot_rc pack_buffer(ot_work *w, size_t bytes, ot_error *err)
{
    w->packed = pool_take(w->place.pool, bytes, &w->packed_size);
    return w->packed != NULL ? OT_OK : short_of(err, w, bytes);
}

/* `count` elements from `in` to `out`, times the factor. */
static void scaled(const ot_work *w, void *out, const void *in, uint64_t count, double by)
{
    if (by != 1) {
        ot_kernel_scale((overtake_dtype)w->run.dtype, out, in, count, by);
    } else if (out != in && count > 0) {
        memcpy(out, in, count * elem_bytes(w));
    }
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
            return short_of(err, w, bytes);
        }
        for (int32_t r = 0; splits != NULL && r < w->place.size; r++) {
            splits[r] = (int64_t)w->theirs[r];
        }
        k->result.splits = splits;
    }
    *out = k->out;
    return OT_OK;
}

static ot_rc build(ot_work *w, ot_coll_shape *shape, ot_error *err)
{
    shape->kind = (overtake_kind)w->run.kind;
    shape->rank = w->place.rank;
    shape->size = w->place.size;
    shape->hosts = w->place.hosts;
    OT_TRY(ot_schedule_build(ot_cost_choose(w->place.cost, shape), shape, &w->run.schedule, err));
    if (w->run.schedule.scratch_bytes > 0) {
        pool_give(w->place.pool, w->scratch, w->scratch_size);
        w->scratch = pool_take(w->place.pool, w->run.schedule.scratch_bytes, &w->scratch_size);
        if (w->scratch == NULL) {
            return short_of(err, w, w->run.schedule.scratch_bytes);
        }
    }
    w->run.buffers[OT_BUFFER_SCRATCH] = w->scratch;
    return OT_OK;
}

/* Says what was chosen and why, once a choice. */
static void say_choice(const ot_work *w, const ot_codec_choice *c, ot_loss loss,
                       const ot_coll_shape *shape)
{
    const ot_team_place *p = &w->place;
    unsigned bit = 1u << (c->coded ? (unsigned)c->codec : (unsigned)OT_CODECS);
    char why[256];
    if (p->rank == 0 && (p->residuals->said & bit) == 0) {
        p->residuals->said |= bit;
        ot_codec_choice_text(c, p->cost, loss, shape, why, sizeof why);
        ot_info("collective", "on the wire: '%s' %s", w->sig.name, why);
    }
}

/* A sum of all that IN holds, coded if that pays. */
static ot_rc reduce(ot_work *w, ot_coll_shape *shape, ot_error *err)
{
    const ot_team_place *p = &w->place;
    bool sums = w->run.kind == OVERTAKE_ALLREDUCE && w->run.dtype == OVERTAKE_F32 &&
                (w->run.reduction == OVERTAKE_SUM || w->run.reduction == OVERTAKE_AVERAGE);
    if (!sums || p->loss == OT_LOSS_NONE) {
        return build(w, shape, err);
    }
    shape->kind = OVERTAKE_ALLREDUCE;
    shape->rank = p->rank;
    shape->size = p->size;
    shape->hosts = p->hosts;
    /* What has no name comes once: nothing can be kept for the next time. */
    ot_loss loss = w->lane == OT_LANE_ORDERED ? OT_LOSS_HALF : p->loss;
    ot_codec_choice choice = ot_cost_codec(p->cost, loss, shape);
    say_choice(w, &choice, loss, shape);
    if (!choice.coded) {
        return build(w, shape, err);
    }
    ot_twoshot shots;
    OT_TRY(ot_twoshot_init(&shots, choice.codec, p->rank, p->size, shape->count, err));
    w->room = pool_take(p->pool, ot_coded_room(&shots), &w->room_size);
    if (w->room == NULL) {
        ot_twoshot_done(&shots);
        return short_of(err, w, shape->count);
    }
    ot_coded_begin(&w->coded, &shots, w->room, p->residuals, w->run.hash,
                   w->run.buffers[OT_BUFFER_IN], w->run.buffers[OT_BUFFER_OUT]);
    w->run.holds = true;
    w->run.dtype = OVERTAKE_U8;
    return ot_coded_prepare(&w->coded, p->hosts, p->cost, &w->run, err);
}

static ot_rc one(ot_work *w, ot_error *err)
{
    item *it = &w->items[0];
    ot_coll_shape shape = {
        .root = w->sig.root, .elem_bytes = (uint32_t)elem_bytes(w), .count = it->count};
    void *out;
    OT_TRY(output(w, it->count * elem_bytes(w), &out, err));
    const void *in = it->ticket != NULL ? it->ticket->in : out;
    if (it->ticket == NULL) {
        ot_kernel_neutral((overtake_reduction)w->run.reduction, (overtake_dtype)w->run.dtype, out,
                          it->count);
    } else if (it->before != 1) {
        scaled(w, out, in, it->count, it->before);
        in = out;
    }
    w->run.buffers[OT_BUFFER_IN] = (void *)(uintptr_t)in;
    w->run.buffers[OT_BUFFER_OUT] = out;
    return reduce(w, &shape, err);
}

static ot_rc many(ot_work *w, ot_error *err)
{
    size_t bytes = 0;
    bool sender = w->run.kind != OVERTAKE_BROADCAST || w->sig.root == w->place.rank;
    for (size_t i = 0; i < w->n; i++) {
        w->items[i].offset = bytes;
        bytes += w->items[i].count * elem_bytes(w);
    }
    OT_TRY(pack_buffer(w, bytes, err));
    for (size_t i = 0; i < w->n; i++) {
        item *it = &w->items[i];
        uint8_t *to = (uint8_t *)w->packed + it->offset;
        if (it->ticket == NULL) {
            ot_kernel_neutral((overtake_reduction)w->run.reduction, (overtake_dtype)w->run.dtype,
                              to, it->count);
        } else if (sender) {
            scaled(w, to, it->ticket->in, it->count, it->before);
        }
    }
    w->run.buffers[OT_BUFFER_IN] = w->run.buffers[OT_BUFFER_OUT] = w->packed;
    ot_coll_shape shape = {
        .root = w->sig.root, .elem_bytes = (uint32_t)elem_bytes(w), .count = bytes / elem_bytes(w)};
    return reduce(w, &shape, err);
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
    item *it = &w->items[0];
    size_t elem = elem_bytes(w);
    void *out;
    deal(it->ticket, &w->sig, w->place.size, w->mine);
    uint64_t row = ot_signature_row(&w->sig), rows = w->mine[w->place.rank];
    (void)in_elements(w->theirs, w->mine, w->place.size, row);
    it->ticket->result.dims[0] = (int64_t)rows;
    OT_TRY(output(w, rows * row * elem, &out, err));
    const void *in = it->ticket->in;
    if (it->before != 1) {
        /* The caller's input stays as it is. */
        w->copy = pool_take(w->place.pool, it->count * elem, &w->copy_size);
        if (w->copy == NULL) {
            return short_of(err, w, it->count * elem);
        }
        scaled(w, w->copy, in, it->count, it->before);
        in = w->copy;
    }
    w->run.buffers[OT_BUFFER_IN] = (void *)(uintptr_t)in;
    w->run.buffers[OT_BUFFER_OUT] = out;
    ot_coll_shape shape = {.elem_bytes = (uint32_t)elem, .counts = w->theirs};
    return build(w, &shape, err);
}

/* The numbers of rows that all bring, told before what they bring. */
static ot_rc tell_rows(ot_work *w, ot_error *err)
{
    static const size_t max = 4096;
    ot_ticket *k = w->items[0].ticket;
    bool gather = w->run.kind == OVERTAKE_ALLGATHER;
    OT_AUTO(ot_free_ptr) uint64_t *ones = ot_alloc((size_t)w->place.size * sizeof *ones);
    if (ones == NULL || (size_t)w->place.size > max) {
        return short_of(err, w, (uint64_t)w->place.size * sizeof *ones);
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
    return build(w, &shape, err);
}

static ot_rc parts(ot_work *w, ot_error *err)
{
    ot_ticket *k = w->items[0].ticket;
    size_t n = (size_t)w->place.size, elem = elem_bytes(w);
    uint64_t row = ot_signature_row(&w->sig), total = 0;
    OT_AUTO(ot_free_ptr) uint64_t *recvs = ot_alloc(n * sizeof *recvs);
    OT_AUTO(ot_free_ptr) uint64_t *sends = ot_alloc(n * sizeof *sends);
    if (recvs == NULL || sends == NULL) {
        return short_of(err, w, n * sizeof *recvs);
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
    return build(w, &shape, err);
}

static ot_rc barrier(ot_work *w, ot_error *err)
{
    w->run.buffers[OT_BUFFER_IN] = &w->bytes[0];
    w->run.buffers[OT_BUFFER_OUT] = &w->bytes[1];
    ot_coll_shape shape = {.elem_bytes = 1, .count = 1};
    return build(w, &shape, err);
}

static ot_rc prepare(ot_run *r, ot_error *err)
{
    ot_work *w = (ot_work *)r;
    if (w->coded.part != 0) {
        return ot_coded_prepare(&w->coded, w->place.hosts, w->place.cost, r, err);
    }
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
    pool_give(w->place.pool, w->packed, w->packed_size);
    pool_give(w->place.pool, w->scratch, w->scratch_size);
    pool_give(w->place.pool, w->copy, w->copy_size);
    pool_give(w->place.pool, w->room, w->room_size);
    ot_coded_done(&w->coded);
    ot_free(w->mine);
    ot_free(w->theirs);
    ot_free(w);
}

/* What the ticket's out becomes. */
static void hand_back(ot_work *w, item *it)
{
    ot_ticket *k = it->ticket;
    uint64_t count = it->count;
    if (w->n > 1) {
        if (k->out == NULL) {
            k->out = ot_out_make(count * elem_bytes(w), 0, NULL);
        }
        if (k->out != NULL) {
            scaled(w, k->out, (uint8_t *)w->packed + it->offset, count, it->after);
        }
    } else if (w->run.kind == OVERTAKE_ALLREDUCE && it->after != 1) {
        scaled(w, k->out, k->out, count, it->after);
    } else if (w->run.kind == OVERTAKE_REDUCESCATTER && it->after != 1) {
        scaled(w, k->out, k->out, w->theirs[w->place.rank], it->after);
    }
}

static void finish_ticket(ot_work *w, item *it, const ot_error *why)
{
    ot_error own;
    ot_ticket *k = it->ticket;
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
            (void)short_of(&own, w, it->count);
            why = &own;
        }
    }
    k->result.out = k->out;
    k->result.last_joined = w->last_joined;
    w->ops.ticket_done(w->ops.arg, k, why);
}

static void ended(ot_run *r, const ot_error *why)
{
    ot_work *w = (ot_work *)r;
    bool by_parts = r->kind == OVERTAKE_ALLGATHER || r->kind == OVERTAKE_ALLTOALL;
    bool again = why == NULL && by_parts && !w->knows_parts;
    if (why == NULL && w->coded.part != 0) {
        again = ot_coded_next(&w->coded);
        r->dtype = again ? OVERTAKE_U8 : w->sig.dtype;
    }
    if (again) {
        w->knows_parts = by_parts;
        r->holds = false;
        r->first_message = SECOND_PART;
        ot_exec_submit_next(w->exec, r);
        return;
    }
    for (size_t i = 0; i < w->n; i++) {
        if (w->items[i].ticket != NULL) {
            finish_ticket(w, &w->items[i], why);
        }
    }
    ot_work_ops ops = w->ops;
    ot_lane lane = w->lane;
    uint64_t seq = r->seq;
    work_free(w);
    ops.ended(ops.arg, lane, seq, why);
}

static void fill(ot_work *w, const ot_bucket *b, ot_ticket *const *tickets)
{
    for (size_t i = 0; i < w->n; i++) {
        const ot_signature *s = &b->signatures[i];
        item *it = &w->items[i];
        it->ticket = tickets[i];
        it->count = ot_signature_count(s);
        set_factors(it, s, w->place.size);
        w->run.bytes += it->count * ot_dtype_bytes((overtake_dtype)s->dtype);
        if (it->ticket != NULL) {
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

ot_rc ot_work_submit(const ot_team_place *place, ot_exec *exec, const ot_bucket *b,
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
    ot_exec_submit(exec, &w->run);
    return OT_OK;
}
