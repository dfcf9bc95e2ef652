/* `overtake package SPEC`: a bundle from what a training program wrote. */
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/bundle.h"
#include "model/detect.h"
#include "model/reference.h"
#include "quality/jobs.h"
#include "quality/score.h"
#include "runtime/golden.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_ROWS 16
#define BATCH_MAX 64

typedef struct packing {
    json_t *spec;
    const char *bundle, *result, *label;          /* label may be NULL */
    char model[OT_PATH_MAX], folder[OT_PATH_MAX]; /* the result's folder */
    const char *apart; /* NULL, or the folder of the model's worker process */
    ot_bundle given;   /* what the program wrote, when that is a bundle */
    bool has_given;
    ot_scorer scorer;
    ot_manifest sig;
    ot_rows train, held;
    ot_str trained_on, outputs, golden, lineage; /* parts; empty: absent */
    size_t golden_rows;
    char reason[OT_ERROR_MSG_MAX]; /* why not batched; "" when it is */
} packing;

static void packing_done(packing *p)
{
    ot_rows_done(&p->train);
    ot_rows_done(&p->held);
    ot_str_done(&p->trained_on);
    ot_str_done(&p->outputs);
    ot_str_done(&p->golden);
    ot_str_done(&p->lineage);
    ot_manifest_done(&p->sig);
    ot_scorer_done(&p->scorer);
    ot_bundle_done(&p->given);
    json_decref(p->spec);
}

/* ------------------------------------------------------------------ spec */

static ot_rc dirs_ok(const packing *p, const char *key, ot_error *err)
{
    const json_t *list = json_object_get(p->spec, key);
    bool ok = list == NULL || json_is_array(list);
    for (size_t i = 0; ok && i < json_array_size(list); i++) {
        ok = json_string_length(json_array_get(list, i)) > 0;
    }
    return ok ? OT_OK : ot_fail(err, OT_INVALID, "spec: \"%s\" must be a list of directories", key);
}

static ot_rc read_spec(packing *p, const char *path, ot_error *err)
{
    const char *model;
    OT_TRY(ot_job_read(path, &p->spec, err));
    OT_TRY(ot_job_text(p->spec, "model", &model, err));
    OT_TRY(ot_job_text(p->spec, "bundle", &p->bundle, err));
    OT_TRY(ot_job_text(p->spec, "result", &p->result, err));
    OT_TRY(ot_job_folder(p->result, p->folder, err));
    OT_TRY(ot_job_apart(p->spec, p->folder, &p->apart, err));
    OT_TRY(dirs_ok(p, "train", err));
    OT_TRY(dirs_ok(p, "held_out", err));
    size_t n = strlen(model);
    while (n > 1 && model[n - 1] == '/') {
        n--;
    }
    if (n >= sizeof p->model) {
        return ot_fail(err, OT_RANGE, "spec: \"model\" is longer than %d bytes", OT_PATH_MAX);
    }
    memcpy(p->model, model, n);
    const json_t *label = json_object_get(p->spec, "label");
    const json_t *lineage = json_object_get(p->spec, "lineage");
    if (label != NULL && !json_is_null(label) && !json_is_string(label)) {
        return ot_fail(err, OT_INVALID, "spec: \"label\" must be the name of a column");
    }
    p->label = json_string_value(label);
    if (lineage == NULL || json_is_null(lineage)) {
        return OT_OK;
    }
    char *text = json_is_object(lineage) ? json_dumps(lineage, JSON_INDENT(1)) : NULL;
    if (text == NULL) {
        return ot_fail(err, OT_INVALID, "spec: \"lineage\" must be an object");
    }
    ot_str_adds(&p->lineage, text);
    free(text);
    return p->lineage.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for the lineage") : OT_OK;
}

/* ------------------------------------------------------------------ the model */

static bool is_bundle(const char *dir)
{
    char manifest[OT_PATH_MAX];
    return ot_path_join(manifest, dir, OT_MANIFEST_FILE, NULL) == OT_OK &&
           ot_disk_exists(ot_disk_posix(), manifest);
}

static ot_rc copy_specs(ot_arena *a, const ot_tensor_spec *from, int n, ot_tensor_spec **to,
                        size_t *n_to, ot_error *err)
{
    *to = ot_arena_calloc(a, (size_t)OT_MAX(n, 1), sizeof **to);
    if (*to == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the signature");
    }
    memcpy(*to, from, (size_t)n * sizeof **to); /* names live as long as the model */
    *n_to = (size_t)n;
    return OT_OK;
}

static ot_rc take_signature(packing *p, ot_error *err)
{
    const ot_model_info *info = p->scorer.info;
    if (p->has_given) {
        return ot_manifest_copy_signature(&p->given.manifest, &p->sig, err);
    }
    p->sig.format = info->format;
    OT_TRY(copy_specs(&p->sig.arena, info->inputs, info->n_inputs, &p->sig.inputs, &p->sig.n_inputs,
                      err));
    return copy_specs(&p->sig.arena, info->outputs, info->n_outputs, &p->sig.outputs,
                      &p->sig.n_outputs, err);
}

static ot_rc keep_part(packing *p, const char *path, ot_str *part, ot_error *err)
{
    ot_error why = {0};
    ot_rc rc = ot_bundle_read_part(ot_disk_posix(), &p->given, path, part, &why);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return ot_fail(err, rc, "%s", why.msg);
    }
    return OT_OK;
}

/* A worker process reads the folder that its model's file is in, as that of a bundle may have
 * weights beside it: a lone file gets a folder of its own. */
static ot_rc put_apart(packing *p, ot_error *err)
{
    ot_stat st;
    ot_disk *d = ot_disk_posix();
    OT_TRY(d->ops->stat(d, p->model, &st, err));
    if (st.is_dir) {
        return OT_OK;
    }
    char dir[OT_PATH_MAX], to[OT_PATH_MAX];
    const char *slash = strrchr(p->model, '/');
    OT_TRY(ot_path_join(dir, p->folder, "brought", err));
    OT_TRY(ot_path_join(to, dir, slash == NULL ? p->model : slash + 1, err));
    OT_TRY(ot_disk_remove_tree(d, dir, err)); /* of a try before */
    OT_TRY(ot_disk_mkdirs(d, dir, 0700, err));
    ot_digest digest;
    uint64_t size;
    OT_TRY(ot_file_copy(d, p->model, to, 0600, &digest, &size, err));
    memcpy(p->model, to, sizeof p->model);
    return OT_OK;
}

static ot_rc open_model(packing *p, ot_error *err)
{
    if (!ot_disk_exists(ot_disk_posix(), p->model)) {
        return ot_fail(err, OT_NOT_FOUND, "model %s: nothing is there", p->model);
    }
    if (is_bundle(p->model)) {
        OT_TRY(ot_bundle_open(ot_disk_posix(), p->model, 0, NULL, &p->given, err));
        p->has_given = true;
        OT_TRY(ot_bundle_model_path(&p->given, p->model, err));
        OT_TRY(keep_part(p, OT_BUNDLE_TRAINED_ON, &p->trained_on, err));
        OT_TRY(keep_part(p, OT_BUNDLE_OUTPUTS, &p->outputs, err));
        OT_TRY(keep_part(p, OT_BUNDLE_GOLDEN, &p->golden, err));
        if (p->lineage.len == 0) {
            OT_TRY(keep_part(p, OT_BUNDLE_LINEAGE, &p->lineage, err));
        }
    }
    if (p->apart != NULL && !p->has_given) {
        OT_TRY(put_apart(p, err));
    }
    const char *format = p->has_given ? p->given.manifest.format : NULL;
    OT_TRY(ot_scorer_open(&p->scorer, format, p->model, p->apart, err));
    return take_signature(p, err);
}

/* Rows that are there for reading only; a signature that takes none of them is an error. */
static ot_rc read_rows(packing *p, const char *key, ot_rows *rows, ot_error *err)
{
    size_t i;
    const json_t *dir, *list = json_object_get(p->spec, key);
    if (ot_scorer_takes_text(&p->scorer)) {
        return OT_OK;
    }
    json_array_foreach(list, i, dir)
    {
        const char *path = json_string_value(dir);
        ot_table t;
        ot_table_init(&t);
        ot_rc rc = ot_table_read(ot_disk_posix(), path, NULL, &t, err);
        if (rc == OT_OK) {
            rc = ot_rows_add(rows, &p->scorer.info->inputs[0], &t, p->label, path, err);
        }
        ot_table_done(&t);
        OT_TRY(rc);
    }
    return OT_OK;
}

/* ------------------------------------------------------------------ the prediction */

static ot_prediction_kind kind_of(const ot_tensor_spec *o)
{
    bool one = o->rank == 1 || (o->rank == 2 && o->dims[1] == 1);
    if (ot_dtype_is_float(o->dtype) && o->rank == 2 && o->dims[1] >= 2) {
        return OT_PREDICTION_SCORES;
    }
    if (one && ot_dtype_is_int(o->dtype)) {
        return OT_PREDICTION_LABEL;
    }
    return one && ot_dtype_is_float(o->dtype) ? OT_PREDICTION_VALUE : OT_PREDICTION_NONE;
}

/* Scores say most, then labels; `seen` is an answer to some row (NULL: none), for sizes that the
 * signature leaves open. */
static void choose_prediction(ot_manifest *m, const ot_tensor *seen)
{
    size_t at = 0;
    ot_prediction_kind best = ot_prediction_guess(m, &at);
    for (size_t i = 0; i < m->n_outputs && best != OT_PREDICTION_SCORES; i++) {
        ot_tensor_spec o = m->outputs[i];
        for (int k = 1; seen != NULL && seen[i].rank == o.rank && k < o.rank; k++) {
            o.dims[k] = seen[i].dims[k];
        }
        ot_prediction_kind kind = kind_of(&o);
        /* The kinds are numbered from what says most. */
        if (kind != OT_PREDICTION_NONE && (best == OT_PREDICTION_NONE || kind < best)) {
            best = kind;
            at = i;
        }
    }
    m->prediction_kind = best;
    m->prediction_output = at;
}

/* ------------------------------------------------------------------ answers */

static bool any_nan(const ot_tensor *t, int64_t row)
{
    int64_t each = t->dims[0] > 0 ? ot_tensor_count(t) / t->dims[0] : 0;
    bool found = false;
    for (int64_t k = 0; k < each && !found; k++) {
        found = isnan(ot_tensor_f64_at(t, row * each + k));
    }
    return found;
}

static bool all_finite(const ot_tensor *t, int64_t row)
{
    int64_t each = ot_tensor_count(t) / t->dims[0];
    bool finite = true;
    for (int64_t k = 0; k < each && finite; k++) {
        finite = isfinite(ot_tensor_f64_at(t, row * each + k));
    }
    return finite;
}

typedef struct answers {
    const packing *p;
    const ot_tensor *rows;
    ot_prediction *predictions; /* (rows), or NULL */
    ot_tensor seen[OT_RUNTIME_OUTPUTS_MAX];
    ot_str data[OT_RUNTIME_OUTPUTS_MAX]; /* with `keep`: all outputs, row after row */
    bool keep;
} answers;

static ot_rc check_nan(const answers *a, int64_t at, int64_t n, const ot_tensor *t, ot_error *err)
{
    for (int64_t i = 0; ot_dtype_is_float(t->dtype) && i < n; i++) {
        if (any_nan(t, i) && all_finite(a->rows, at + i)) {
            return ot_fail(err, OT_INVALID,
                           "model %s: output '%s' has a NaN for held-out row %" PRId64
                           ", whose inputs are all finite; a model like that is not packaged",
                           a->p->model, t->name, at + i);
        }
    }
    return OT_OK;
}

static ot_rc keep_output(answers *a, size_t i, const ot_tensor *t, ot_error *err)
{
    ot_tensor *s = &a->seen[i];
    if (s->rank == 0) {
        *s = *t;
        s->dims[0] = 0;
    } else if (s->rank != t->rank || s->dtype != t->dtype ||
               memcmp(s->dims + 1, t->dims + 1, (size_t)(t->rank - 1) * sizeof t->dims[0]) != 0) {
        return ot_fail(err, OT_INVALID, "model %s: output '%s' changes its shape from row to row",
                       a->p->model, t->name);
    }
    ot_str_add(&a->data[i], t->data, t->size_bytes);
    s->dims[0] += t->dims[0];
    s->data = a->data[i].data;
    s->size_bytes = a->data[i].len;
    return a->data[i].failed ? ot_fail(err, OT_EXHAUSTED, "no memory for golden answers") : OT_OK;
}

static ot_rc on_answers(void *arg, int64_t at, int64_t n, const ot_tensor *outputs, ot_error *err)
{
    answers *a = arg;
    const ot_manifest *m = &a->p->sig;
    for (size_t i = 0; i < m->n_outputs; i++) {
        OT_TRY(check_nan(a, at, n, &outputs[i], err));
        if (a->keep) {
            OT_TRY(keep_output(a, i, &outputs[i], err));
        }
    }
    return a->predictions == NULL
               ? OT_OK
               : ot_prediction_read(m->prediction_kind, &outputs[m->prediction_output], n,
                                    a->predictions + at, err);
}

static void answers_done(answers *a)
{
    for (size_t i = 0; i < OT_RUNTIME_OUTPUTS_MAX; i++) {
        ot_str_done(&a->data[i]);
    }
}

static void answers_init(answers *a, const packing *p, const ot_tensor *rows)
{
    *a = (answers){.p = p, .rows = rows};
    for (size_t i = 0; i < OT_RUNTIME_OUTPUTS_MAX; i++) {
        ot_str_init(&a->data[i]);
    }
}

/* ------------------------------------------------------------------ golden answers */

/* The first rows that are finite: JSON has no other numbers. */
static ot_rc first_rows(const ot_tensor *all, ot_tensor *out, ot_str *data, ot_error *err)
{
    *out = *all;
    out->dims[0] = 0;
    for (int64_t i = 0; i < all->dims[0] && out->dims[0] < GOLDEN_ROWS; i++) {
        if (all_finite(all, i)) {
            ot_tensor row = ot_table_slice(all, i, 1);
            ot_str_add(data, row.data, row.size_bytes);
            out->dims[0]++;
        }
    }
    out->data = data->data;
    out->size_bytes = data->len;
    return data->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for golden rows") : OT_OK;
}

static ot_rc prove(packing *p, const ot_golden *g, ot_error *err)
{
    ot_golden_result r;
    int64_t max = p->has_given ? p->given.manifest.batch_max : BATCH_MAX;
    int axis = p->has_given && max > 0 ? 0 : p->scorer.info->batch_axis;
    OT_TRY(
        ot_golden_check(p->scorer.model, g->cases, g->n_cases, g->abs, g->rel, axis, max, &r, err));
    if (!r.correct) {
        return ot_fail(err, OT_DATA_LOSS, "model %s: it does not repeat its golden answers: %.800s",
                       p->model, r.reason);
    }
    p->golden_rows = g->n_cases;
    p->sig.batch_max = r.batching ? max : 0;
    memcpy(p->reason, r.batching ? "" : r.reason, r.batching ? 1 : sizeof p->reason);
    return OT_OK;
}

static ot_rc make_golden(packing *p, const ot_tensor *rows, answers *a, ot_error *err)
{
    a->keep = true;
    OT_TRY(ot_scorer_run(&p->scorer, rows, 1, on_answers, a, err));
    if (p->sig.prediction_kind == OT_PREDICTION_NONE) {
        choose_prediction(&p->sig, a->seen);
    }
    OT_AUTO(ot_golden_done) ot_golden g = {0};
    OT_TRY(ot_golden_from_batch(rows, 1, a->seen, p->sig.n_outputs, (size_t)rows->dims[0],
                                OT_GOLDEN_ABS_DEFAULT, OT_GOLDEN_REL_DEFAULT, &g, err));
    OT_TRY(ot_golden_write(&g, &p->golden, err));
    return prove(p, &g, err);
}

static ot_rc golden(packing *p, ot_error *err)
{
    if (p->golden.len > 0) {
        OT_AUTO(ot_golden_done) ot_golden g = {0};
        OT_TRY(ot_golden_parse(p->golden.data, p->golden.len, &g, err));
        return prove(p, &g, err);
    }
    static const char none[] = "no held-out row with finite numbers to prove batching on";
    ot_tensor rows = {0};
    OT_AUTO(ot_str_done) ot_str data = OT_STR_INIT;
    if (p->held.x.rank > 0) {
        OT_TRY(first_rows(&p->held.x, &rows, &data, err));
    }
    if (rows.rank == 0 || rows.dims[0] == 0) {
        p->sig.batch_max = 0;
        memcpy(p->reason, none, sizeof none);
        return OT_OK;
    }
    answers a;
    answers_init(&a, p, &rows);
    ot_rc rc = make_golden(p, &rows, &a, err);
    answers_done(&a);
    return rc;
}

/* ------------------------------------------------------------------ references */

static ot_rc trained_on(packing *p, ot_error *err)
{
    if (p->trained_on.len > 0 || p->train.x.rank == 0 || p->train.x.dims[0] == 0 ||
        ot_reference_features(&p->sig) == 0) {
        return OT_OK;
    }
    OT_AUTO(ot_reference_done) ot_reference r = {0};
    OT_TRY(ot_reference_of_inputs(&p->train.x, 1, p->train.x.dims[0], &r, err));
    return ot_reference_write(&r, &p->trained_on, err);
}

/* All held-out rows are run even where the reference is the program's own: a NaN among the answers
 * must not get through. */
static ot_rc held_out(packing *p, ot_error *err)
{
    const ot_tensor *rows = &p->held.x;
    if (rows->rank == 0 || rows->dims[0] == 0) {
        return OT_OK;
    }
    bool wanted = p->sig.prediction_kind != OT_PREDICTION_NONE && p->outputs.len == 0;
    size_t n = (size_t)rows->dims[0];
    OT_AUTO(ot_free_ptr) ot_prediction *predictions = ot_calloc(n, sizeof *predictions);
    if (predictions == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %zu predictions", n);
    }
    answers a;
    answers_init(&a, p, rows);
    a.predictions = wanted ? predictions : NULL;
    int64_t step = p->sig.batch_max > 0 ? OT_MIN(p->sig.batch_max, OT_SCORE_BATCH) : 1;
    ot_rc rc = ot_scorer_run(&p->scorer, rows, step, on_answers, &a, err);
    answers_done(&a);
    OT_TRY(rc);
    if (!wanted) {
        return OT_OK;
    }
    OT_AUTO(ot_reference_done) ot_reference r = {0};
    OT_TRY(ot_reference_of_predictions(p->sig.prediction_kind, predictions, n, &r, err));
    return ot_reference_write(&r, &p->outputs, err);
}

/* ------------------------------------------------------------------ the bundle */

static json_t *specs_json(const ot_tensor_spec *s, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *shape = json_array();
        for (int k = 0; k < s[i].rank; k++) {
            json_array_append_new(shape, json_integer(s[i].dims[k]));
        }
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "name", s[i].name, "datatype",
                                              ot_dtype_name(s[i].dtype), "shape", shape));
    }
    return list;
}

static ot_bytes part(const ot_str *s)
{
    return (ot_bytes){s->len > 0 ? s->data : NULL, s->len};
}

static ot_rc finish(packing *p, ot_error *err)
{
    ot_bundle_parts parts = {.model_path = p->model,
                             .signature = &p->sig,
                             .trained_on = part(&p->trained_on),
                             .outputs = part(&p->outputs),
                             .golden = part(&p->golden),
                             .lineage = part(&p->lineage)};
    ot_digest digest;
    char hex[OT_DIGEST_HEX];
    OT_TRY(ot_bundle_build(ot_disk_posix(), p->bundle, &parts, &digest, err));
    if (p->reason[0] == 0) {
        ot_info("package", "bundle %s: batches of up to %" PRId64 " rows", p->bundle,
                p->sig.batch_max);
    } else {
        ot_warn("package", "bundle %s: not batched: %s", p->bundle, p->reason);
    }
    return ot_job_write(p->result,
                        json_pack("{s:s,s:s,s:o,s:o,s:I,s:b,s:s}", "bundle_sha256",
                                  ot_digest_hex(&digest, hex), "format", p->sig.format, "inputs",
                                  specs_json(p->sig.inputs, p->sig.n_inputs), "outputs",
                                  specs_json(p->sig.outputs, p->sig.n_outputs), "golden_rows",
                                  (json_int_t)p->golden_rows, "batching", p->sig.batch_max > 0,
                                  "batching_reason", p->reason),
                        err);
}

static ot_rc package(packing *p, const char *spec_path, ot_error *err)
{
    OT_TRY(read_spec(p, spec_path, err));
    if (ot_disk_exists(ot_disk_posix(), p->bundle)) {
        return ot_fail(err, OT_EXISTS, "bundle %s: it is there already", p->bundle);
    }
    OT_TRY(open_model(p, err));
    OT_TRY(read_rows(p, "train", &p->train, err));
    OT_TRY(read_rows(p, "held_out", &p->held, err));
    if (p->sig.prediction_kind == OT_PREDICTION_NONE) {
        choose_prediction(&p->sig, NULL);
    }
    OT_TRY(golden(p, err));
    if (p->sig.prediction_kind == OT_PREDICTION_NONE) {
        ot_warn("package", "model %s: no output is a class, scores or a value; it is not judged",
                p->model);
    }
    OT_TRY(trained_on(p, err));
    OT_TRY(held_out(p, err));
    return finish(p, err);
}

ot_rc ot_package_job(const char *spec_path, ot_error *err)
{
    OT_AUTO(ot_free_ptr) packing *p = ot_calloc(1, sizeof *p);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory");
    }
    ot_manifest_init(&p->sig);
    ot_str_init(&p->trained_on);
    ot_str_init(&p->outputs);
    ot_str_init(&p->golden);
    ot_str_init(&p->lineage);
    ot_rc rc = package(p, spec_path, err);
    packing_done(p);
    return rc;
}
