/* Labelled rows of live traffic as a table: what a retrain learns from and a gate scores on. */
#include "quality/labels.h"

#include "base/log.h"
#include "quality/segment.h"
#include "store/blob.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct wanted {
    uint64_t incarnation, seq;
    int64_t version;
    double label;
    float weight;
    bool found;
} wanted;

typedef struct gather {
    ot_quality *q;
    int64_t since_us, max_rows;
    const char *label;
    ot_manifest sig;
    ot_prediction_kind kind;
    wanted *rows;
    size_t n;
    uint8_t *data[Q_SEGMENT_TENSORS_MAX]; /* (n, row) of each input */
    size_t row_bytes[Q_SEGMENT_TENSORS_MAX];
    size_t first, last; /* the range of `rows` that is looked for */
    int64_t misfits;
    ot_store *store;
} gather;

/* ---- which rows */

static ot_rc keep_wanted(void *arg, const ot_outcome_row *o, ot_error *err)
{
    gather *g = arg;
    (void)err;
    g->rows[g->n++] = (wanted){.incarnation = o->incarnation,
                               .seq = o->seq,
                               .version = o->version,
                               .label = o->label,
                               .weight = (float)(1 / o->probability)};
    return OT_OK;
}

static int by_row(const void *a, const void *b)
{
    const wanted *x = a, *y = b;
    if (x->incarnation != y->incarnation) {
        return x->incarnation < y->incarnation ? -1 : 1;
    }
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Each row once: it has one live answer, unless a restarted replica gave its number again. */
static void drop_repeated(gather *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (n == 0 || by_row(&g->rows[n - 1], &g->rows[i]) != 0) {
            g->rows[n++] = g->rows[i];
        }
    }
    g->n = n;
}

/* The champion's inputs are the columns; without one those of the newest row's version. */
static ot_rc signature(ot_txn *txn, gather *g, ot_error *err)
{
    const q_labels_state *st = &g->q->labels->st;
    OT_TRY(q_version_manifest(txn, g->q, st->champion > 0 ? st->champion : g->rows[0].version,
                              &g->sig, err));
    g->kind = g->sig.prediction_kind;
    if (g->sig.n_inputs > Q_SEGMENT_TENSORS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "labelled rows: %zu inputs; at most %d", g->sig.n_inputs,
                       Q_SEGMENT_TENSORS_MAX);
    }
    for (size_t i = 0; i < g->sig.n_inputs; i++) {
        const ot_tensor_spec *s = &g->sig.inputs[i];
        size_t bytes = 0;
        if (s->rank < 1 || !ot_shape_bytes(s->dtype, s->dims + 1, s->rank - 1, &bytes) ||
            bytes == 0 || bytes > OT_TABLE_BYTES_MAX / g->n) {
            return ot_fail(err, OT_INVALID,
                           "labelled rows: input '%s' has no fixed row of numbers, or %zu of them "
                           "are more than a table holds; lower max_rows",
                           s->name, g->n);
        }
        g->row_bytes[i] = bytes;
        g->data[i] = ot_alloc(bytes * g->n);
        if (g->data[i] == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "labelled rows: no memory for %zu rows of '%s'", g->n,
                           s->name);
        }
    }
    return OT_OK;
}

/* ---- their inputs */

/* The segment's tensor for each input; false when it does not have the champion's inputs. */
static bool match_inputs(const gather *g, const q_segment *s, const ot_tensor **out)
{
    for (size_t i = 0; i < g->sig.n_inputs; i++) {
        out[i] = NULL;
        for (size_t k = 0; k < s->n_inputs; k++) {
            if (strcmp(s->inputs[k].name, g->sig.inputs[i].name) == 0 &&
                s->inputs[k].dtype == g->sig.inputs[i].dtype &&
                s->inputs[k].size_bytes == g->row_bytes[i] * s->rows) {
                out[i] = &s->inputs[k];
            }
        }
        if (out[i] == NULL) {
            return false;
        }
    }
    return true;
}

static void copy_rows(gather *g, const ot_segment_row *seg, const q_segment *s,
                      const ot_tensor *const *in)
{
    for (size_t i = 0, k = g->first; i < seg->n && k <= g->last;) {
        const ot_answer *a = &seg->answers[i];
        if (a->seq < g->rows[k].seq || a->row >= s->rows) {
            i++;
            continue;
        }
        if (a->seq > g->rows[k].seq || g->rows[k].found) {
            k++;
            continue;
        }
        for (size_t t = 0; t < g->sig.n_inputs; t++) {
            memcpy(g->data[t] + k * g->row_bytes[t],
                   (const uint8_t *)in[t]->data + a->row * g->row_bytes[t], g->row_bytes[t]);
        }
        g->rows[k++].found = true;
        i++;
    }
}

static bool any_wanted(const gather *g, const ot_segment_row *seg)
{
    size_t i = 0;
    for (size_t k = g->first; k <= g->last && i < seg->n;) {
        if (seg->answers[i].seq == g->rows[k].seq) {
            return true;
        }
        seg->answers[i].seq < g->rows[k].seq ? i++ : k++;
    }
    return false;
}

static ot_rc read_segment(void *arg, const ot_segment_row *seg, ot_error *err)
{
    gather *g = arg;
    OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
    q_segment s;
    const ot_tensor *in[Q_SEGMENT_TENSORS_MAX];
    if (!any_wanted(g, seg)) {
        return OT_OK;
    }
    ot_error e = {0};
    ot_rc rc = ot_blob_read(g->store, &seg->blob, Q_SEGMENT_BYTES_MAX, &bytes, &e);
    if (rc == OT_NOT_FOUND || rc == OT_DATA_LOSS) {
        ot_warn("quality", "deployment %s: the rows of segment %" PRId64 " are left out: %s",
                g->q->cfg.deployment, seg->id, e.msg);
        return OT_OK;
    }
    if (rc != OT_OK) {
        return ot_fail(err, rc, "labelled rows: %s", e.msg);
    }
    json_t *meta = json_loads(seg->meta, 0, NULL);
    if (meta == NULL) {
        return ot_fail(err, OT_EXHAUSTED,
                       "labelled rows: no memory for what segment %" PRId64 " holds", seg->id);
    }
    rc = q_segment_parse(meta, (const uint8_t *)bytes.data, bytes.len, &s, err);
    if (rc == OT_OK && match_inputs(g, &s, in)) {
        copy_rows(g, seg, &s, in);
    } else if (rc == OT_OK) {
        g->misfits++;
    }
    json_decref(meta);
    return rc;
}

static ot_rc read_rows(ot_txn *txn, gather *g, ot_error *err)
{
    for (size_t i = 0; i < g->n;) {
        size_t k = i;
        while (k + 1 < g->n && g->rows[k + 1].incarnation == g->rows[i].incarnation &&
               g->rows[k + 1].seq - g->rows[i].seq < OT_SPAN_MAX) {
            k++;
        }
        g->first = i;
        g->last = k;
        OT_TRY(ot_segments_over(txn, g->q->cfg.deployment, g->rows[i].incarnation, g->rows[i].seq,
                                g->rows[k].seq, true, read_segment, g, err));
        i = k + 1;
    }
    return OT_OK;
}

static bool is_classes(const gather *g)
{
    return g->kind == OT_PREDICTION_SCORES || g->kind == OT_PREDICTION_LABEL;
}

/* Labels are numbers of any kind until a model says that they name classes. */
static bool is_class(double label)
{
    return label == floor(label) && fabs(label) <= 9007199254740992.0; /* 2^53 */
}

/* Rows whose segment is gone, whose inputs are others, or whose label names no class, leave no
 * gap. */
static void close_gaps(gather *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (!g->rows[i].found || (is_classes(g) && !is_class(g->rows[i].label))) {
            continue;
        }
        for (size_t t = 0; t < g->sig.n_inputs; t++) {
            memmove(g->data[t] + n * g->row_bytes[t], g->data[t] + i * g->row_bytes[t],
                    g->row_bytes[t]);
        }
        g->rows[n++] = g->rows[i];
    }
    g->n = n;
}

static ot_rc gather_rows(ot_txn *txn, void *arg, ot_error *err)
{
    gather *g = arg;
    OT_TRY(
        ot_outcomes_live(txn, g->q->cfg.deployment, g->since_us, g->max_rows, keep_wanted, g, err));
    if (g->n == 0) {
        return OT_OK;
    }
    OT_TRY(signature(txn, g, err));
    qsort(g->rows, g->n, sizeof *g->rows, by_row);
    drop_repeated(g);
    OT_TRY(read_rows(txn, g, err));
    close_gaps(g);
    return OT_OK;
}

/* ---- the table */

static ot_rc add_labels(gather *g, ot_table *t, ot_error *err)
{
    bool classes = is_classes(g);
    ot_tensor c = {.dtype = classes ? OT_DT_INT64 : OT_DT_FP64,
                   .rank = 1,
                   .dims = {(int64_t)g->n},
                   .size_bytes = g->n * 8};
    uint8_t *data = ot_alloc(c.size_bytes);
    if (data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "labelled rows: no memory");
    }
    for (size_t i = 0; i < g->n; i++) {
        int64_t whole = classes ? (int64_t)g->rows[i].label : 0;
        memcpy(data + i * 8, classes ? (const void *)&whole : (const void *)&g->rows[i].label, 8);
    }
    c.data = data;
    return ot_table_add_owned(t, g->label, &c, data, err);
}

static ot_rc add_weights(gather *g, ot_table *t, ot_error *err)
{
    ot_tensor c = {.dtype = OT_DT_FP32, .rank = 1, .dims = {(int64_t)g->n}, .size_bytes = g->n * 4};
    float *data = ot_alloc(c.size_bytes);
    if (data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "labelled rows: no memory");
    }
    for (size_t i = 0; i < g->n; i++) {
        data[i] = g->rows[i].weight;
    }
    c.data = data;
    return ot_table_add_owned(t, OT_TABLE_WEIGHT, &c, data, err);
}

static ot_rc fill(gather *g, ot_table *t, ot_error *err)
{
    for (size_t i = 0; i < g->sig.n_inputs; i++) {
        ot_tensor c = {.dtype = g->sig.inputs[i].dtype,
                       .rank = g->sig.inputs[i].rank,
                       .data = g->data[i],
                       .size_bytes = g->n * g->row_bytes[i]};
        memcpy(c.dims, g->sig.inputs[i].dims, sizeof c.dims);
        c.dims[0] = (int64_t)g->n;
        uint8_t *data = g->data[i];
        g->data[i] = NULL; /* the table's from here, also when that fails */
        OT_TRY(ot_table_add_owned(t, g->sig.inputs[i].name, &c, data, err));
    }
    OT_TRY(add_labels(g, t, err));
    OT_TRY(add_weights(g, t, err));
    return ot_table_set_label(t, g->label, err);
}

ot_rc ot_quality_labelled(ot_quality *q, int64_t since_us, int64_t max_rows, const char *label,
                          ot_table *t_out, ot_error *err)
{
    if (max_rows < 1 || max_rows > INT64_C(100000000)) {
        return ot_fail(err, OT_INVALID, "labelled rows: max_rows %" PRId64 "; 1 to 100,000,000",
                       max_rows);
    }
    OT_TRY(q_labels_fresh(q, err));
    gather g = {
        .q = q, .since_us = since_us, .max_rows = max_rows, .label = label, .store = q->store};
    int64_t most = OT_MIN(max_rows, OT_MAX(q->labels->st.joined, 1));
    g.max_rows = most;
    g.rows = ot_calloc((size_t)most, sizeof *g.rows);
    ot_rc rc = g.rows == NULL ? ot_fail(err, OT_EXHAUSTED, "labelled rows: no memory")
                              : ot_store_read(q->store, gather_rows, &g, err);
    if (rc == OT_OK && g.n == 0) {
        rc = ot_fail(err, OT_NOT_FOUND, "deployment %s has no labelled rows there",
                     q->cfg.deployment);
    }
    if (g.misfits > 0) {
        ot_warn("quality",
                "deployment %s: rows of %" PRId64 " segments have other inputs than the "
                "champion and are left out",
                q->cfg.deployment, g.misfits);
    }
    ot_table t;
    ot_table_init(&t);
    if (rc == OT_OK) {
        rc = fill(&g, &t, err);
    }
    if (rc == OT_OK) {
        *t_out = t;
    } else {
        ot_table_done(&t);
    }
    for (size_t i = 0; i < Q_SEGMENT_TENSORS_MAX; i++) {
        ot_free(g.data[i]);
    }
    ot_free(g.rows);
    ot_manifest_done(&g.sig);
    return rc;
}
