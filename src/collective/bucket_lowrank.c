/* A bucket by low rank: the P of all its matrices and what goes as it is are one sum, their Q the
 * second one, on a lane of its own; there it overlaps the first sums of the buckets behind it. */
#include "base/hash.h"
#include "base/mem.h"
#include "collective/bucket_internal.h"

#include <string.h>

/* The matrix whose two sides are least: the first dimensions by the others. */
static void split(const ot_signature *s, uint64_t count, size_t *rows, size_t *cols)
{
    uint64_t left = 1;
    *rows = *cols = 0;
    for (int32_t i = 0; i + 1 < s->ndim && count > 0; i++) {
        left *= (uint64_t)s->dims[i];
        if (*rows == 0 || left + count / left < *rows + *cols) {
            *rows = left;
            *cols = count / left;
        }
    }
}

void ot_work_low_plan(ot_work *w, const ot_signature *sigs)
{
    size_t rank = w->place.lowrank;
    w->low.columns = rank;
    for (size_t i = 0; i < w->n; i++) {
        ot_item *it = &w->items[i];
        ot_lowrank *l = &it->low;
        size_t rows, cols;
        split(&sigs[i], it->count, &rows, &cols);
        it->offset = w->low.first;
        it->second = w->low.second;
        if (!ot_lowrank_pays(rows, cols, rank)) {
            w->low.first += it->count;
            continue;
        }
        *l = (ot_lowrank){.rows = rows, .cols = cols, .rank = rank};
        w->low.first += rank * rows;
        w->low.second += rank * cols;
        w->low.within += it->count;
    }
}

/* The numbers of the first sum, of the second one, and of the rows that are read and written where
 * a rank has joined, or its memory is too small. */
static float *first_of(const ot_work *w)
{
    return w->parts[0].room;
}

static float *second_of(const ot_work *w)
{
    return first_of(w) + (w->low.first + 15) / 16 * 16;
}

static float *rows_of(const ot_work *w)
{
    return second_of(w) + (w->low.second + 15) / 16 * 16;
}

static size_t most_cols(const ot_work *w)
{
    size_t most = 0;
    for (size_t i = 0; i < w->n; i++) {
        most = OT_MAX(most, w->items[i].low.cols);
    }
    return most;
}

static ot_rc begin_matrix(ot_work *w, ot_item *it, ot_error *err)
{
    ot_lowrank *l = &it->low;
    uint64_t both[2] = {it->key, l->rank};
    it->kept = ot_residual_take(w->place.residuals, it->key, it->count);
    it->columns = ot_residual_take(w->place.residuals, ot_hash_stable(both, sizeof both, 0),
                                   l->rank * l->cols);
    if (it->kept == NULL || it->columns == NULL) {
        return ot_work_short(w, it->count * sizeof(float), err);
    }
    l->in = it->ticket != NULL ? it->ticket->in : rows_of(w);
    l->in_step = it->ticket != NULL ? l->cols : 0;
    l->before = (float)it->before;
    l->residual = it->kept->numbers;
    l->q = it->columns->numbers;
    l->p = first_of(w) + it->offset;
    l->sums = second_of(w) + it->second;
    if (it->columns->fresh) {
        ot_lowrank_seed(l);
    }
    ot_lowrank_begin(l);
    return OT_OK;
}

static ot_rc sum_of(ot_work *w, ot_run *r, float *numbers, uint64_t count, ot_error *err)
{
    ot_coll_shape shape = {.elem_bytes = sizeof *numbers, .count = count};
    r->buffers[OT_BUFFER_IN] = r->buffers[OT_BUFFER_OUT] = numbers;
    return ot_work_build(w, r, &shape, err);
}

static ot_rc begin(ot_part *p, ot_error *err)
{
    ot_work *w = p->work;
    size_t cols = most_cols(w);
    size_t bytes = (w->low.first + w->low.second + 32 + 2 * cols) * sizeof(float);
    p->room = ot_pool_take(w->place.pool, bytes, &p->room_size);
    if (p->room == NULL) {
        return ot_work_short(w, bytes, err);
    }
    memset(rows_of(w), 0, cols * sizeof(float));
    for (size_t i = 0; i < w->n; i++) {
        ot_item *it = &w->items[i];
        float *to = first_of(w) + it->offset;
        if (it->low.rows > 0) {
            OT_TRY(begin_matrix(w, it, err));
        } else {
            ot_work_load(w, it, to);
        }
    }
    return sum_of(w, &p->first, first_of(w), w->low.first, err);
}

static void middle(ot_part *p)
{
    ot_work *w = p->work;
    for (size_t i = 0; i < w->n; i++) {
        if (w->items[i].low.rows > 0) {
            ot_lowrank_middle(&w->items[i].low);
        }
    }
}

static ot_rc second(ot_part *p, ot_error *err)
{
    return sum_of(p->work, &p->second, second_of(p->work), p->work->low.second, err);
}

void ot_work_low_end(ot_work *w, ot_item *it)
{
    ot_lowrank *l = &it->low;
    float *out = ot_work_out(w, it);
    if (l->rows == 0) {
        if (out != NULL) {
            ot_work_scaled(w, out, first_of(w) + it->offset, it->count, it->after);
        }
        return;
    }
    l->out = out != NULL ? out : rows_of(w) + l->cols;
    l->out_step = out != NULL ? l->cols : 0;
    l->after = (float)(it->after * w->place.size); /* the product is the average */
    (void)ot_lowrank_end(l, w->place.size);
}

/* One tensor after the other, each handed back before the next. */
static void end(ot_part *p)
{
    ot_work_tell(p->work, NULL);
}

const ot_part_ops ot_part_low = {begin, middle, second, end};
