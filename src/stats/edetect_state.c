/* The written form of an e-detector. See edetect.h and edetect_internal.h.
 *
 * One list of fields serves writing and reading, so that the two cannot part: each field is passed
 * to a function of `io`, which either appends it or takes it from the bytes. What can be computed
 * from other fields (P, costs of bets, the grouping by feature) is computed again. */
#include "stats/edetect_internal.h"

#include "base/mem.h"
#include "stats/bin.h"

enum { MAGIC = 0x4544544f /* "OTDE" */, VERSION = 1 };

typedef struct state_io {
    ot_str *out; /* writing */
    bin_reader in;
    bool bad; /* a value that no writer writes */
} state_io;

/* A NaN stands for "no value" in the ring; elsewhere it never is written. */
static void io_f32(state_io *io, float *x, size_t n, bool nan_ok)
{
    for (size_t i = 0; i < n; i++) {
        if (io->out != NULL) {
            bin_put_f32(io->out, x[i]);
        } else {
            x[i] = bin_get_f32(&io->in);
            io->bad |= !isfinite(x[i]) && !(nan_ok && isnan(x[i]));
        }
    }
}
static void io_f64(state_io *io, double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (io->out != NULL) {
            bin_put_f64(io->out, x[i]);
        } else {
            x[i] = bin_get_finite(&io->in);
        }
    }
}
static void io_i64(state_io *io, int64_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (io->out != NULL) {
            bin_put_u64(io->out, (uint64_t)x[i]);
        } else {
            x[i] = (int64_t)bin_get_u64(&io->in);
        }
    }
}
static void io_u64(state_io *io, uint64_t *x)
{
    int64_t i = (int64_t)*x;
    io_i64(io, &i, 1);
    *x = (uint64_t)i;
}
/* At most `most`. */
static void io_u32(state_io *io, uint32_t *x, uint32_t most)
{
    if (io->out != NULL) {
        bin_put_u32(io->out, *x);
        return;
    }
    *x = bin_get_u32(&io->in);
    if (*x > most) {
        io->bad = true;
        *x = 0;
    }
}
static void io_bool(state_io *io, bool *x)
{
    uint32_t u = *x;
    io_u32(io, &u, 1);
    *x = u != 0;
}

static void io_options(state_io *io, ot_edetect_options *o)
{
    uint32_t cycles = (uint32_t)o->cycles, phase = (uint32_t)o->phase_blocks;
    io_f64(io, &o->blocks_per_alarm, 1);
    io_u32(io, &o->blocks_per_day, UINT32_MAX);
    io_u32(io, &cycles, OT_EDETECT_WEEKLY);
    io_u32(io, &o->warmup_days, UINT32_MAX);
    io_u32(io, &o->hold_days, UINT32_MAX);
    io_f64(io, &o->tolerance, 1);
    io_f64(io, &o->tolerance_share, 1);
    io_u32(io, &phase, UINT32_MAX);
    io_u32(io, &o->mutant, UINT32_MAX);
    o->cycles = (ot_edetect_cycles)cycles;
    o->phase_blocks = (int32_t)phase;
}

static void io_id(state_io *io, ot_score_series *s)
{
    uint32_t kind = s->kind, cell = s->cell;
    io_u32(io, &s->feature, OT_HIST_FEATURES_MAX - 1);
    io_u32(io, &kind, OT_SCORE_KINDS - 1);
    io_u32(io, &cell, OT_HIST_CELLS - 1);
    io_f64(io, &s->weight, 1);
    s->kind = (uint16_t)kind;
    s->cell = (uint16_t)cell;
}

static void io_record(state_io *io, day_record *r)
{
    io_i64(io, &r->day, 1);
    float head[] = {r->r2, r->rbar, r->blocks, r->e_day, r->e_before};
    io_f32(io, head, OT_COUNT(head), false);
    io_f32(io, r->fit, FIT_SUMS, false);
    io_f32(io, r->sse, FILTERS, false);
    r->r2 = head[0];
    r->rbar = head[1];
    r->blocks = head[2];
    r->e_day = head[3];
    r->e_before = head[4];
}

static void io_series(state_io *io, ot_edetect *d, size_t i)
{
    edetect_series *s = &d->s[i];
    size_t slots = edetect_ring_slots(d);
    double day[] = {s->day_we, s->day_w, s->day_w2d, s->day_r, s->day_r2};
    io_bool(io, &s->active);
    io_f64(io, s->xwy, d->p);
    io_f64(io, s->beta, d->p);
    io_f32(io, s->state, FILTERS, false);
    io_f32(io, s->side, FILTERS, false);
    io_f64(io, s->sse, FILTERS);
    io_f64(io, s->fit, FIT_SUMS);
    io_u32(io, &s->filter, FILTERS - 1);
    io_f64(io, &s->phi, 1);
    io_f64(io, &s->tau2, 1);
    io_f64(io, &s->b, 1);
    io_f64(io, &s->k2, 1);
    io_f64(io, &s->sum_e2, 1);
    io_f64(io, &s->sum_ee, 1);
    io_f64(io, &s->e_before, 1);
    io_u32(io, &s->days, UINT32_MAX);
    io_u32(io, &s->moments, MOMENT_DAYS);
    io_u32(io, &s->moment_at, MOMENT_DAYS - 1);
    io_f32(io, s->moment_r2, s->moments, false);
    io_f32(io, s->moment_rbar, s->moments, false);
    io_f32(io, s->moment_blocks, s->moments, false);
    io_f64(io, &s->audit_r2, 1);
    io_f64(io, day, OT_COUNT(day));
    io_u32(io, &s->day_blocks, UINT32_MAX);
    io_record(io, &s->today);
    io_f64(io, s->m, BETS);
    io_f64(io, s->m_day, BETS);
    io_f64(io, s->run, BETS);
    io_f64(io, s->run_day, BETS);
    io_i64(io, s->since, BETS);
    io_i64(io, s->since_day, BETS);
    for (size_t k = 0; k < d->ring_days; k++) {
        io_record(io, &d->held[i * d->ring_days + k]);
    }
    io_f32(io, d->ring_y + i * slots, slots, true);
    s->day_we = day[0];
    s->day_w = day[1];
    s->day_w2d = day[2];
    s->day_r = day[3];
    s->day_r2 = day[4];
}

static void io_feature(state_io *io, edetect_feature *f)
{
    io_i64(io, &f->hot_day, 1);
    io_bool(io, &f->latched);
    io_i64(io, &f->since, 1);
}

static void io_live(state_io *io, ot_edetect *d)
{
    size_t slots = edetect_ring_slots(d);
    io_f64(io, &d->n_median, 1);
    for (size_t i = 0; i < d->p; i++) {
        io_f64(io, d->xwx + i * REGRESSORS_MAX, d->p);
    }
    io_i64(io, d->ring_index, slots);
    io_f32(io, d->ring_w, slots, false);
    for (size_t i = 0; i < d->n && !io->in.failed; i++) {
        io_series(io, d, i);
    }
    for (size_t k = 0; k < d->n_features; k++) {
        io_feature(io, &d->f[k]);
    }
    io_i64(io, &d->open_day, 1);
    io_i64(io, &d->first_day, 1);
    io_u32(io, &d->open_blocks, OT_EDETECT_BLOCKS_PER_DAY_MAX);
    io_u32(io, &d->days_closed, UINT32_MAX);
    io_u32(io, &d->days_learnt, UINT32_MAX);
    io_u64(io, &d->blocks);
    io_u64(io, &d->alarms);
    io_f64(io, &d->evidence, 1);
    io_bool(io, &d->suspended);
    io_i64(io, &d->suspended_since, 1);
    io_u32(io, &d->suspended_series, (uint32_t)d->n - 1);
}

static void io_warmup(state_io *io, edetect_warmup *w, size_t n_series)
{
    io_u32(io, &w->n, w->cap);
    io_i64(io, w->index, w->n);
    io_f32(io, w->rows, w->n, false);
    io_f32(io, w->y, w->n * n_series, false);
    io_f32(io, w->n_y, w->n * n_series, false);
}

void ot_edetect_write(const ot_edetect *detector, ot_str *out)
{
    /* The fields are only read: the list is shared with reading. */
    ot_edetect *d = (ot_edetect *)(uintptr_t)detector;
    state_io io = {.out = out};
    size_t body = bin_record_begin(out, MAGIC, VERSION);
    bin_put_u32(out, (uint32_t)d->n);
    io_options(&io, &d->o);
    for (size_t i = 0; i < d->n; i++) {
        io_id(&io, &d->s[i].id);
    }
    io_bool(&io, &d->live);
    io_i64(&io, &d->last_index, 1);
    if (d->live) {
        io_live(&io, d);
    } else {
        io_warmup(&io, &d->warm, d->n);
    }
    bin_record_end(out, body);
}

/* ---- reading ---- */

/* Options as they are kept: tolerances of 0 mean none. */
static ot_rc check_kept(ot_edetect_options *o, ot_error *err)
{
    ot_edetect_options given = *o;
    given.struct_size = sizeof given;
    given.tolerance = given.tolerance == 0 ? -1 : given.tolerance;
    given.tolerance_share = given.tolerance_share == 0 ? -1 : given.tolerance_share;
    return edetect_check_options(&given, o, err);
}

/* Bytes that a live detector's record must have at least, so that a short record cannot ask for
 * much memory. */
static size_t least_bytes(const ot_edetect_options *o, size_t n)
{
    size_t ring_days = o->hold_days + 1u;
    return n * (ring_days * o->blocks_per_day * sizeof(float) + ring_days * (8 + 4 * 33));
}

static bool sane(const ot_edetect *d)
{
    bool good = d->n_median > 0 && d->last_index >= 0 && d->last_index <= INT64_MAX / 4 &&
                d->open_day == edetect_day(d, d->last_index);
    for (size_t i = 0; i < d->p; i++) {
        good &= d->xwx[i * REGRESSORS_MAX + i] >= 0;
    }
    for (size_t k = 0; k < edetect_ring_slots(d); k++) {
        int64_t index = d->ring_index[k];
        good &= index >= -1 && index <= d->last_index &&
                (index < 0 || edetect_ring_slot(d, index) == k) && d->ring_w[k] >= 0;
    }
    for (size_t i = 0; i < d->n; i++) {
        const edetect_series *s = &d->s[i];
        good &= s->phi >= 0 && s->b >= 0 && s->k2 >= 0 && s->tau2 >= 0 && s->sum_e2 >= 0 &&
                s->day_w >= 0 && (s->moments == MOMENT_DAYS || s->moment_at == s->moments) &&
                (s->day_w > 0) == (s->day_blocks > 0);
        for (size_t k = 0; k < BETS; k++) {
            good &= s->m[k] >= 0 && s->m_day[k] >= 0 && s->run[k] >= 0 && s->run_day[k] >= 0;
        }
    }
    return good;
}

/* False: the sums are of no regression. */
static bool restore_derived(ot_edetect *d)
{
    edetect_solve(d);
    for (size_t i = 0; i < OT_COUNT(d->p_matrix); i++) {
        if (!isfinite(d->p_matrix[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < d->n; i++) {
        edetect_series *s = &d->s[i];
        for (size_t k = 0; k < SIDES; k++) {
            double l = edetect_lambda[k];
            s->block_cost[k] = 1 / (1 + l * s->b + l * l * s->k2 / 2);
        }
    }
    return true;
}

static ot_rc read_body(state_io *io, ot_edetect *d, ot_error *err)
{
    io_bool(io, &d->live);
    io_i64(io, &d->last_index, 1);
    if (d->live) {
        io_live(io, d);
    } else {
        OT_TRY(edetect_warmup_alloc(d, err));
        io_warmup(io, &d->warm, d->n);
    }
    bool good = !io->in.failed && !io->bad && io->in.at == io->in.n;
    good = good && (d->live ? sane(d) : d->last_index >= -1);
    for (uint32_t t = 0; good && !d->live && t < d->warm.n; t++) {
        good = d->warm.index[t] >= 0 && d->warm.index[t] <= d->last_index &&
               (t == 0 || d->warm.index[t] > d->warm.index[t - 1]) && d->warm.rows[t] > 0;
    }
    if (good && d->live) {
        good = restore_derived(d);
    }
    if (!good) {
        return ot_fail(err, OT_INVALID, "detector: its state is malformed near byte %zu",
                       io->in.at);
    }
    return OT_OK;
}

ot_rc ot_edetect_read(const void *p, size_t n, ot_edetect **d_out, ot_error *err)
{
    enum { ID_BYTES = 20 };
    state_io io = {0};
    size_t used = 0;
    OT_TRY(bin_record_open(p, n, MAGIC, VERSION, "detector", &io.in, &used, err));
    ot_edetect_options o = {0};
    size_t count = bin_get_u32(&io.in);
    io_options(&io, &o);
    if (io.bad || io.in.failed || count == 0 || count > OT_EDETECT_SERIES_MAX ||
        count > (io.in.n - io.in.at) / ID_BYTES || used != n) {
        return ot_fail(err, OT_INVALID, "detector: malformed head (%zu series in %zu bytes)", count,
                       n);
    }
    OT_TRY(check_kept(&o, err));
    ot_score_series *series = ot_calloc(count, sizeof *series);
    if (series == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "detector: no memory for %zu series", count);
    }
    for (size_t i = 0; i < count; i++) {
        io_id(&io, &series[i]);
    }
    bool live = io.in.at < io.in.n && io.in.p[io.in.at] != 0;
    ot_edetect *d = NULL;
    ot_rc rc = OT_OK;
    if (io.bad || io.in.failed || (live && io.in.n - io.in.at < least_bytes(&o, count))) {
        rc = ot_fail(err, OT_INVALID, "detector: malformed list of series");
    } else {
        rc = edetect_alloc(&o, series, count, &d, err);
    }
    ot_free(series);
    if (rc == OT_OK) {
        rc = read_body(&io, d, err);
    }
    if (rc != OT_OK) {
        ot_edetect_destroy(d);
        return rc;
    }
    *d_out = d;
    return OT_OK;
}
