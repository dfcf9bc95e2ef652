/* `overtake evaluate SPEC`: scores of one or two bundles on the same rows. */
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/bundle.h"
#include "model/prediction.h"
#include "quality/jobs.h"
#include "quality/score.h"
#include "runtime/golden.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BUNDLES_MAX 2
#define DATA_MAX 256

typedef struct contestant {
    const char *name;
    ot_bundle bundle;
    ot_scorer scorer;
} contestant;

typedef struct evaluation {
    json_t *spec;
    const char *result;
    contestant c[BUNDLES_MAX];
    size_t n;
    json_t *data; /* results by data set */
} evaluation;

/* ------------------------------------------------------------------ bundles */

static ot_rc open_contestant(contestant *c, const json_t *o, const char *folder, ot_error *err)
{
    const char *dir, *apart;
    char path[OT_PATH_MAX];
    OT_TRY(ot_job_text(o, "name", &c->name, err));
    OT_TRY(ot_job_text(o, "dir", &dir, err));
    OT_TRY(ot_job_apart(o, folder, &apart, err));
    if (!ot_name_ok(c->name) || strcmp(c->name, "rows") == 0 || ot_has_prefix(c->name, "only_") ||
        ot_has_prefix(c->name, "p_")) {
        return ot_fail(err, OT_INVALID, "spec: a bundle cannot be called '%.80s' in a result",
                       c->name);
    }
    ot_rc rc = ot_bundle_open(ot_disk_posix(), dir, 0, NULL, &c->bundle, err);
    if (rc == OT_OK) {
        rc = ot_bundle_model_path(&c->bundle, path, err);
    }
    if (rc == OT_OK) {
        rc = ot_scorer_open(&c->scorer, c->bundle.manifest.format, path, apart, err);
    }
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "bundle '%s'", c->name);
    }
    ot_prediction_kind kind = c->bundle.manifest.prediction_kind;
    bool judged = !ot_scorer_takes_text(&c->scorer);
    if (judged && kind != OT_PREDICTION_SCORES && kind != OT_PREDICTION_LABEL) {
        return ot_fail(err, OT_INVALID,
                       "bundle '%s': its prediction is '%s'; scores and label can be compared with "
                       "labels",
                       c->name, ot_prediction_kind_name(kind));
    }
    return OT_OK;
}

/* What came from another server was packaged there: here is another machine, with its own runtime.
 */
static ot_rc prove(contestant *c, ot_error *err)
{
    OT_AUTO(ot_golden_done) ot_golden g = {0};
    ot_golden_result r;
    int64_t max = c->bundle.manifest.batch_max;
    if (ot_manifest_file_find(&c->bundle.manifest, OT_BUNDLE_GOLDEN) == NULL) {
        return OT_OK;
    }
    OT_TRY(ot_bundle_golden(ot_disk_posix(), &c->bundle, &g, err));
    OT_TRY(ot_golden_check(c->scorer.model, g.cases, g.n_cases, g.abs, g.rel, max > 0 ? 0 : -1, max,
                           &r, err));
    return r.correct ? OT_OK
                     : ot_fail(err, OT_DATA_LOSS,
                               "bundle '%s': it does not repeat its golden answers: %.800s",
                               c->name, r.reason);
}

static ot_rc open_all(evaluation *e, ot_error *err)
{
    const json_t *list = json_object_get(e->spec, "bundles");
    size_t n = json_array_size(list);
    char folder[OT_PATH_MAX];
    OT_TRY(ot_job_folder(e->result, folder, err));
    if (n < 1 || n > BUNDLES_MAX) {
        return ot_fail(err, OT_INVALID, "spec: \"bundles\" must be a list of 1 to %d; it has %zu",
                       BUNDLES_MAX, n);
    }
    for (size_t i = 0; i < n; i++) {
        e->n = i + 1;
        OT_TRY(open_contestant(&e->c[i], json_array_get(list, i), folder, err));
    }
    if (n == 2 && strcmp(e->c[0].name, e->c[1].name) == 0) {
        return ot_fail(err, OT_INVALID, "spec: both bundles are called '%s'", e->c[0].name);
    }
    return prove(&e->c[0], err); /* the one that is judged; the other serves already */
}

/* ------------------------------------------------------------------ scores */

typedef struct scoring {
    const ot_manifest *m;
    const ot_tensor *labels;
    uint8_t *right; /* (rows) */
    int64_t n_right;
} scoring;

static ot_rc on_scored(void *arg, int64_t at, int64_t n, const ot_tensor *outputs, ot_error *err)
{
    scoring *s = arg;
    ot_prediction p[OT_SCORE_BATCH];
    const ot_tensor *t = &outputs[s->m->prediction_output];
    OT_TRY(ot_prediction_read(s->m->prediction_kind, t, n, p, err));
    for (int64_t i = 0; i < n; i++) {
        /* A NaN for want of a class equals no label. */
        bool right = p[i].value == ot_tensor_f64_at(s->labels, at + i);
        s->right[at + i] = right;
        s->n_right += right;
    }
    return OT_OK;
}

static ot_rc check_labels(const ot_tensor *y, const char *dir, ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    if (ot_tensor_count(y) != y->dims[0]) {
        return ot_fail(err, OT_INVALID, "%s: label column '%s' is %s; one number a row is expected",
                       dir, y->name, ot_shape_format(y->dims, y->rank, shape));
    }
    for (int64_t i = 0; i < y->dims[0]; i++) {
        double x = ot_tensor_f64_at(y, i);
        if (!isfinite(x) || x != floor(x)) {
            return ot_fail(err, OT_INVALID,
                           "%s: label column '%s' has %g in row %" PRId64
                           "; a class is a whole number",
                           dir, y->name, x, i);
        }
    }
    return OT_OK;
}

static ot_rc score(contestant *c, const ot_table *t, const char *dir, uint8_t *right,
                   int64_t *n_right_out, ot_error *err)
{
    const ot_manifest *m = &c->bundle.manifest;
    ot_rows rows = {0};
    scoring s = {.m = m, .labels = ot_table_column(t, t->label), .right = right};
    ot_rc rc = ot_rows_add(&rows, &c->scorer.info->inputs[0], t, t->label, dir, err);
    if (rc == OT_OK) {
        int64_t step = m->batch_max > 0 ? OT_MIN(m->batch_max, OT_SCORE_BATCH) : 1;
        rc = ot_scorer_run(&c->scorer, &rows.x, step, on_scored, &s, err);
    }
    ot_rows_done(&rows);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "bundle '%s'", c->name);
    }
    *n_right_out = s.n_right;
    return OT_OK;
}

static void add_pair(const evaluation *e, json_t *out, const uint8_t *a, const uint8_t *b,
                     int64_t rows)
{
    int64_t only[2] = {0, 0};
    char key[80];
    for (int64_t i = 0; i < rows; i++) {
        only[0] += a[i] && !b[i];
        only[1] += b[i] && !a[i];
    }
    for (size_t k = 0; k < 2; k++) {
        snprintf(key, sizeof key, "only_%s", e->c[k].name);
        json_object_set_new(out, key, json_integer((json_int_t)only[k]));
    }
    int64_t n = only[0] + only[1];
    json_object_set_new(out, "p_better", json_real(ot_sign_test_p(only[0], n)));
    json_object_set_new(out, "p_worse", json_real(ot_sign_test_p(only[1], n)));
}

static ot_rc score_table(evaluation *e, const ot_table *t, const char *dir, json_t *out,
                         ot_error *err)
{
    size_t n = (size_t)t->rows;
    if (n == 0) {
        return ot_fail(err, OT_INVALID, "%s: no rows to score on", dir);
    }
    OT_TRY(check_labels(ot_table_column(t, t->label), dir, err));
    OT_AUTO(ot_free_ptr) uint8_t *right = ot_calloc(n, BUNDLES_MAX);
    if (right == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory for %zu scores", dir, n);
    }
    json_object_set_new(out, "rows", json_integer((json_int_t)n));
    for (size_t i = 0; i < e->n; i++) {
        int64_t n_right = 0;
        OT_TRY(score(&e->c[i], t, dir, right + i * n, &n_right, err));
        json_object_set_new(out, e->c[i].name,
                            json_pack("{s:I,s:f}", "right", (json_int_t)n_right, "accuracy",
                                      (double)n_right / (double)n));
    }
    if (e->n == 2) {
        add_pair(e, out, right, right + n, t->rows);
    }
    return OT_OK;
}

static ot_rc score_data(evaluation *e, const json_t *o, ot_error *err)
{
    const char *name, *dir, *label;
    OT_TRY(ot_job_text(o, "name", &name, err));
    OT_TRY(ot_job_text(o, "dir", &dir, err));
    OT_TRY(ot_job_text(o, "label", &label, err));
    if (json_object_get(e->data, name) != NULL) {
        return ot_fail(err, OT_INVALID, "spec: two data sets are called '%.80s'", name);
    }
    json_t *out = json_object();
    ot_table t;
    ot_table_init(&t);
    ot_rc rc = ot_table_read(ot_disk_posix(), dir, label, &t, err);
    if (rc == OT_OK) {
        rc = score_table(e, &t, dir, out, err);
    }
    ot_table_done(&t);
    if (json_object_set_new(e->data, name, out) != 0 && rc == OT_OK) {
        rc = ot_fail(err, OT_INVALID, "spec: data set name '%.80s' is not possible", name);
    }
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "data '%s'", name);
}

static ot_rc evaluate(evaluation *e, const char *spec_path, ot_error *err)
{
    OT_TRY(ot_job_read(spec_path, &e->spec, err));
    OT_TRY(ot_job_text(e->spec, "result", &e->result, err));
    const json_t *list = json_object_get(e->spec, "data");
    if (!json_is_array(list) || json_array_size(list) > DATA_MAX) {
        return ot_fail(err, OT_INVALID, "spec: \"data\" must be a list of at most %d data sets",
                       DATA_MAX);
    }
    OT_TRY(open_all(e, err));
    e->data = json_object();
    for (size_t i = 0; i < e->n; i++) {
        if (ot_scorer_takes_text(&e->c[i].scorer)) {
            ot_warn("evaluate", "bundle '%s' takes text, which no held-out rows judge",
                    e->c[i].name);
            list = NULL;
        }
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        OT_TRY(score_data(e, json_array_get(list, i), err));
    }
    return ot_job_write(e->result, json_pack("{s:O}", "data", e->data), err);
}

ot_rc ot_evaluate_job(const char *spec_path, ot_error *err)
{
    evaluation e = {0};
    ot_rc rc = evaluate(&e, spec_path, err);
    for (size_t i = 0; i < e.n; i++) {
        ot_scorer_done(&e.c[i].scorer);
        ot_bundle_done(&e.c[i].bundle);
    }
    json_decref(e.data);
    json_decref(e.spec);
    return rc;
}
