/* Rows whose label is known, what each version answered to them, and in which calls labels came. */
#include "simulate/recording.h"

#include "base/mem.h"
#include "base/str.h"
#include "store/outcomes.h"

#include <inttypes.h>
#include <stdlib.h>

static ot_rc no_memory(const recording *r, ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "recording of %s: no memory for its %zu labels", r->app,
                   r->n_rows);
}

/* ---- labels */

static ot_rc add_row(void *arg, const ot_label_row *l, ot_error *err)
{
    recording *r = arg;
    if (r->n_rows == SIM_ROWS_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "recording of %s: more than %d labels; a shorter serve.sample.keep keeps "
                       "fewer",
                       r->app, SIM_ROWS_MAX);
    }
    sim_row *list = sim_grow(r->rows, r->n_rows, sizeof *list);
    if (list == NULL) {
        return no_memory(r, err);
    }
    r->rows = list;
    list[r->n_rows++] = (sim_row){.incarnation = l->incarnation,
                                  .seq = l->seq,
                                  .label = l->value,
                                  .received_us = l->received_us,
                                  .probability = 1,
                                  .convenience = ot_has_prefix(l->source, "convenience")};
    r->first_us = r->first_us == 0 ? l->received_us : OT_MIN(r->first_us, l->received_us);
    r->last_us = OT_MAX(r->last_us, l->received_us);
    return OT_OK;
}

static int compare_row(uint64_t inc_a, uint64_t seq_a, const sim_row *b)
{
    if (inc_a != b->incarnation) {
        return inc_a < b->incarnation ? -1 : 1;
    }
    return seq_a < b->seq ? -1 : seq_a > b->seq;
}

static int by_number(const void *a, const void *b)
{
    const sim_row *x = a;
    return compare_row(x->incarnation, x->seq, b);
}

static int64_t find_row(const recording *r, uint64_t incarnation, uint64_t seq)
{
    size_t lo = 0, hi = r->n_rows;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_row(incarnation, seq, &r->rows[mid]);
        if (c == 0) {
            return (int64_t)mid;
        }
        lo = c > 0 ? mid + 1 : lo;
        hi = c < 0 ? mid : hi;
    }
    return -1;
}

/* ---- outcomes */

static ot_rc add_outcome(void *arg, const ot_outcome_row *o, ot_error *err)
{
    recording *r = arg;
    int64_t row = find_row(r, o->incarnation, o->seq);
    int32_t version = sim_version_find(r, o->version);
    if (row < 0 || version < 0) {
        return OT_OK; /* its label or its version has gone */
    }
    if (r->n_outcomes == SIM_OUTCOMES_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "recording of %s: more than %d answers to labelled rows; a shorter "
                       "serve.sample.keep keeps fewer",
                       r->app, SIM_OUTCOMES_MAX);
    }
    sim_outcome *list = sim_grow(r->outcomes, r->n_outcomes, sizeof *list);
    if (list == NULL) {
        return no_memory(r, err);
    }
    r->outcomes = list;
    sim_row *x = &r->rows[row];
    x->first = x->n == 0 ? (uint32_t)r->n_outcomes : x->first;
    x->n++;
    x->time_us = x->time_us == 0 || !o->shadow ? o->time_us : x->time_us;
    x->probability = (float)o->probability;
    r->first_us = OT_MIN(r->first_us, o->time_us);
    r->last_us = OT_MAX(r->last_us, o->joined_us);
    list[r->n_outcomes++] = (sim_outcome){.row = (uint32_t)row,
                                          .version = version,
                                          .shadow = o->shadow,
                                          .right = (int8_t)o->right,
                                          .prediction = o->prediction,
                                          .joined_us = o->joined_us};
    return OT_OK;
}

static int judged_by_time(const void *a, const void *b)
{
    const sim_judged *x = a, *y = b;
    if (x->time_us != y->time_us) {
        return x->time_us < y->time_us ? -1 : 1;
    }
    return x->right < y->right ? -1 : x->right > y->right;
}

static ot_rc judge_versions(recording *r, ot_error *err)
{
    for (size_t i = 0; i < r->n_outcomes; i++) {
        const sim_outcome *o = &r->outcomes[i];
        sim_version *v = &r->versions[o->version];
        if (o->right < 0) {
            continue;
        }
        sim_judged *list = sim_grow(v->judged, v->n_judged, sizeof *list);
        if (list == NULL) {
            return no_memory(r, err);
        }
        v->judged = list;
        list[v->n_judged++] =
            (sim_judged){.time_us = r->rows[o->row].time_us, .right = (uint32_t)o->right};
    }
    for (size_t k = 0; k < r->n_versions; k++) {
        sim_version *v = &r->versions[k];
        if (v->n_judged > 0) {
            qsort(v->judged, v->n_judged, sizeof *v->judged, judged_by_time);
        }
        for (size_t i = 1; i < v->n_judged; i++) {
            v->judged[i].right += v->judged[i - 1].right;
        }
    }
    return OT_OK;
}

/* ---- in which order all that came */

typedef struct key {
    uint32_t index, version;
    int64_t us;
    uint64_t incarnation, seq;
    bool shadow;
} key;

static int by_arrival(const void *a, const void *b)
{
    const key *x = a, *y = b;
    if (x->us != y->us) {
        return x->us < y->us ? -1 : 1;
    }
    if (x->incarnation != y->incarnation) {
        return x->incarnation < y->incarnation ? -1 : 1;
    }
    if (x->version != y->version) {
        return x->version < y->version ? -1 : 1;
    }
    if (x->shadow != y->shadow) {
        return x->shadow ? 1 : -1;
    }
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* The indices of `keys`, which are sorted and let go. */
static ot_rc take_sorted(const recording *r, key *keys, size_t n, uint32_t **out, ot_error *err)
{
    uint32_t *list = ot_calloc(n + 1, sizeof *list);
    if (list != NULL && n > 0) {
        qsort(keys, n, sizeof *keys, by_arrival);
        for (size_t i = 0; i < n; i++) {
            list[i] = keys[i].index;
        }
    }
    ot_free(keys);
    *out = list;
    return list != NULL ? OT_OK : no_memory(r, err);
}

static ot_rc order_rows(recording *r, ot_error *err)
{
    key *keys = ot_calloc(r->n_rows + 1, sizeof *keys);
    if (keys == NULL) {
        return no_memory(r, err);
    }
    for (size_t i = 0; i < r->n_rows; i++) {
        const sim_row *x = &r->rows[i];
        keys[i] = (key){.index = (uint32_t)i,
                        .us = x->received_us,
                        .incarnation = x->incarnation,
                        .seq = x->seq};
    }
    return take_sorted(r, keys, r->n_rows, &r->order, err);
}

static ot_rc order_late(recording *r, ot_error *err)
{
    key *keys = ot_calloc(r->n_outcomes + 1, sizeof *keys);
    if (keys == NULL) {
        return no_memory(r, err);
    }
    for (size_t i = 0; i < r->n_outcomes; i++) {
        const sim_outcome *o = &r->outcomes[i];
        const sim_row *x = &r->rows[o->row];
        if (o->joined_us > x->received_us) {
            keys[r->n_late++] = (key){.index = (uint32_t)i,
                                      .version = (uint32_t)o->version,
                                      .us = o->joined_us,
                                      .incarnation = x->incarnation,
                                      .seq = x->seq,
                                      .shadow = o->shadow};
        }
    }
    return take_sorted(r, keys, r->n_late, &r->late, err);
}

/* ---- calls */

/* The event of a call is the first that accepted labels and was written after they came; it tells
 * how many there were with those that were known before or are of no row. */
static int64_t asked_in(const recording *r, size_t *at, int64_t received_us, size_t n)
{
    while (*at < r->n_heard &&
           (r->heard[*at].time_us < received_us || r->heard[*at].accepted == 0)) {
        (*at)++;
    }
    return *at < r->n_heard ? OT_MAX(r->heard[(*at)++].asked, (int64_t)n) : (int64_t)n;
}

static ot_rc make_calls(recording *r, ot_error *err)
{
    size_t heard = 0;
    for (size_t i = 0, k; i < r->n_rows; i = k) {
        int64_t us = r->rows[r->order[i]].received_us;
        for (k = i + 1; k < r->n_rows && r->rows[r->order[k]].received_us == us; k++) {
        }
        sim_call *list = sim_grow(r->calls, r->n_calls, sizeof *list);
        if (list == NULL) {
            return no_memory(r, err);
        }
        r->calls = list;
        list[r->n_calls++] = (sim_call){
            .received_us = us, .first = i, .n = k - i, .asked = asked_in(r, &heard, us, k - i)};
    }
    return OT_OK;
}

ot_rc sim_rows_load(ot_txn *txn, recording *r, ot_error *err)
{
    OT_TRY(ot_labels_received(txn, r->deployment, add_row, r, err));
    if (r->n_rows > 0) {
        qsort(r->rows, r->n_rows, sizeof *r->rows, by_number);
    }
    const ot_outcome_row first = {.incarnation = (uint64_t)INT64_MIN};
    OT_TRY(ot_outcomes_after(txn, r->deployment, &first, INT64_MAX, add_outcome, r, err));
    OT_TRY(judge_versions(r, err));
    OT_TRY(order_rows(r, err));
    OT_TRY(order_late(r, err));
    return make_calls(r, err);
}
