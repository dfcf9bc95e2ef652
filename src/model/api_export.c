/* The C API of libovertake (include/overtake/overtake.h) over bundle, golden and reference. */
#include "overtake/overtake.h"

#include "model/bundle.h"
#include "model/detect.h"
#include "model/reference.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GOLDEN_ROWS 16

/* What a save works with; made from the caller's arrays, which it points into. */
typedef struct saving {
    const overtake_bundle *in;
    ot_tensor inputs[OT_MANIFEST_TENSORS_MAX], outputs[OT_MANIFEST_TENSORS_MAX];
    int64_t rows;
    ot_manifest sig;
    ot_str golden, trained_on, predicted; /* the parts; empty: absent */
} saving;

static void saving_done(saving *s)
{
    ot_manifest_done(&s->sig);
    ot_str_done(&s->golden);
    ot_str_done(&s->trained_on);
    ot_str_done(&s->predicted);
}

static ot_rc take_array(const char *what, const overtake_array *a, ot_tensor *t, ot_error *err)
{
    if (a->name == NULL || a->datatype == NULL || a->dims == NULL) {
        return ot_fail(err, OT_INVALID, "%s: an array needs name, datatype and dims", what);
    }
    if (a->rank < 1 || a->rank > OT_RANK_MAX) {
        return ot_fail(err, OT_INVALID, "%s '%.128s': rank %d; 1 (the rows) to %d is accepted",
                       what, a->name, (int)a->rank, OT_RANK_MAX);
    }
    *t = (ot_tensor){.name = a->name,
                     .dtype = ot_dtype_parse(a->datatype, strlen(a->datatype)),
                     .rank = a->rank,
                     .data = a->data,
                     .size_bytes = a->size_bytes};
    memcpy(t->dims, a->dims, (size_t)a->rank * sizeof *a->dims);
    if (ot_dtype_size(t->dtype) == 0) {
        return ot_fail(err, OT_INVALID, "%s '%.128s': datatype '%.32s'; numbers and BOOL are taken",
                       what, a->name, a->datatype);
    }
    ot_rc rc = ot_tensor_check(t, err);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "%s", what);
}

static ot_rc take_arrays(saving *s, const char *what, const overtake_array *a, size_t n,
                         ot_tensor *out, ot_error *err)
{
    if (a == NULL || n == 0 || n > OT_MANIFEST_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "%s: %zu arrays; 1 to %d are needed", what, n,
                       OT_MANIFEST_TENSORS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(take_array(what, &a[i], &out[i], err));
        if (s->rows < 0) {
            s->rows = out[i].dims[0];
        }
        if (out[i].dims[0] != s->rows || s->rows < 1) {
            return ot_fail(err, OT_INVALID,
                           "%s '%s': %" PRId64 " rows; the first array has %" PRId64
                           ", and at least one is needed",
                           what, a[i].name, out[i].dims[0], s->rows);
        }
    }
    return OT_OK;
}

/* Names, types and shapes as the arrays have them, with the rows left free. */
static ot_rc make_specs(ot_arena *a, const ot_tensor *t, size_t n, ot_tensor_spec **out,
                        ot_error *err)
{
    *out = ot_arena_calloc(a, n, sizeof **out);
    for (size_t i = 0; *out != NULL && i < n; i++) {
        ot_tensor_spec *spec = &(*out)[i];
        spec->name = ot_arena_strdup(a, t[i].name);
        spec->dtype = t[i].dtype;
        spec->rank = t[i].rank;
        memcpy(spec->dims, t[i].dims, sizeof spec->dims);
        spec->dims[0] = -1;
        if (spec->name == NULL) {
            *out = NULL;
        }
    }
    return *out == NULL ? ot_fail(err, OT_EXHAUSTED, "no memory for the signature") : OT_OK;
}

static ot_rc choose_prediction(saving *s, ot_error *err)
{
    const char *output = s->in->prediction_output, *kind = s->in->prediction_kind;
    if (output == NULL && kind == NULL) {
        s->sig.prediction_kind = ot_prediction_guess(&s->sig, &s->sig.prediction_output);
        return OT_OK;
    }
    int i = output == NULL ? -1 : ot_manifest_output(&s->sig, output);
    if (i < 0) {
        return ot_fail(err, OT_INVALID, "prediction: output '%.128s' is not among the outputs",
                       output == NULL ? "" : output);
    }
    if (kind == NULL || !ot_prediction_kind_parse(kind, &s->sig.prediction_kind)) {
        return ot_fail(err, OT_INVALID,
                       "prediction: kind '%.32s'; scores, label or value is accepted",
                       kind == NULL ? "" : kind);
    }
    s->sig.prediction_output = (size_t)i;
    return OT_OK;
}

static ot_rc make_signature(saving *s, ot_error *err)
{
    const char *format = s->in->format;
    ot_detected found;
    if (format == NULL) {
        OT_TRY(ot_model_detect(ot_disk_posix(), s->in->model_path, &found, err));
        if (strcmp(found.format, OT_FORMAT_BUNDLE) == 0) {
            return ot_fail(err, OT_INVALID, "%s: a bundle already", s->in->model_path);
        }
        format = found.format;
    }
    s->sig.format = ot_arena_strdup(&s->sig.arena, format);
    if (s->sig.format == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the signature");
    }
    OT_TRY(make_specs(&s->sig.arena, s->inputs, s->in->n_inputs, &s->sig.inputs, err));
    s->sig.n_inputs = s->in->n_inputs;
    OT_TRY(make_specs(&s->sig.arena, s->outputs, s->in->n_outputs, &s->sig.outputs, err));
    s->sig.n_outputs = s->in->n_outputs;
    s->sig.batch_max = s->in->batch_max;
    return choose_prediction(s, err);
}

static ot_rc make_golden(saving *s, ot_error *err)
{
    const overtake_bundle *in = s->in;
    if (in->golden_rows < 0 || in->golden_rows > s->rows) {
        return ot_fail(err, OT_INVALID,
                       "golden rows: %" PRId64 "; 0 (16, or as many as there are) to %" PRId64
                       " are accepted",
                       in->golden_rows, s->rows);
    }
    size_t rows =
        (size_t)(in->golden_rows > 0 ? in->golden_rows : OT_MIN(s->rows, (int64_t)GOLDEN_ROWS));
    bool open = in->tolerance_abs == 0 && in->tolerance_rel == 0;
    OT_AUTO(ot_golden_done) ot_golden g = {0};
    OT_TRY(ot_golden_from_batch(s->inputs, in->n_inputs, s->outputs, in->n_outputs, rows,
                                open ? OT_GOLDEN_ABS_DEFAULT : in->tolerance_abs,
                                open ? OT_GOLDEN_REL_DEFAULT : in->tolerance_rel, &g, err));
    return ot_golden_write(&g, &s->golden, err);
}

static ot_rc make_trained_on(saving *s, ot_error *err)
{
    const overtake_bundle *in = s->in;
    ot_tensor ordered[OT_MANIFEST_TENSORS_MAX];
    if (in->n_trained_on == 0) {
        return OT_OK;
    }
    if (in->trained_on == NULL || in->n_trained_on != in->n_inputs) {
        return ot_fail(err, OT_INVALID, "trained_on: %zu arrays; the model has %zu inputs",
                       in->n_trained_on, in->n_inputs);
    }
    for (size_t i = 0; i < in->n_inputs; i++) {
        const overtake_array *a = NULL;
        for (size_t k = 0; k < in->n_trained_on && a == NULL; k++) {
            const char *name = in->trained_on[k].name;
            a = name != NULL && strcmp(name, s->inputs[i].name) == 0 ? &in->trained_on[k] : NULL;
        }
        if (a == NULL) {
            return ot_fail(err, OT_INVALID, "trained_on: input '%.128s' is missing",
                           s->inputs[i].name);
        }
        OT_TRY(take_array("trained_on", a, &ordered[i], err));
        OT_TRY(ot_tensor_matches(&s->sig.inputs[i], &ordered[i], err));
        if (ordered[i].dims[0] != ordered[0].dims[0]) {
            return ot_fail(err, OT_INVALID, "trained_on: '%s' has %" PRId64 " rows, '%s' %" PRId64,
                           ordered[i].name, ordered[i].dims[0], ordered[0].name,
                           ordered[0].dims[0]);
        }
    }
    OT_AUTO(ot_reference_done) ot_reference r = {0};
    ot_rc rc = ot_reference_of_inputs(ordered, in->n_inputs, ordered[0].dims[0], &r, err);
    return rc == OT_OK ? ot_reference_write(&r, &s->trained_on, err)
                       : ot_error_prefix(err, rc, "trained_on");
}

static ot_rc make_predicted(saving *s, ot_error *err)
{
    if (s->sig.prediction_kind == OT_PREDICTION_NONE) {
        return OT_OK;
    }
    OT_AUTO(ot_free_ptr) ot_prediction *p = ot_calloc((size_t)s->rows, sizeof *p);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %" PRId64 " predictions", s->rows);
    }
    OT_TRY(ot_prediction_read(s->sig.prediction_kind, &s->outputs[s->sig.prediction_output],
                              s->rows, p, err));
    OT_AUTO(ot_reference_done) ot_reference r = {0};
    OT_TRY(ot_reference_of_predictions(s->sig.prediction_kind, p, (size_t)s->rows, &r, err));
    return ot_reference_write(&r, &s->predicted, err);
}

static ot_bytes part_of(const ot_str *s)
{
    return (ot_bytes){.p = s->len > 0 ? s->data : NULL, .n = s->len};
}

static ot_rc save(saving *s, const char *dir, ot_digest *digest_out, ot_error *err)
{
    const overtake_bundle *in = s->in;
    OT_TRY(take_arrays(s, "inputs", in->inputs, in->n_inputs, s->inputs, err));
    OT_TRY(take_arrays(s, "outputs", in->outputs, in->n_outputs, s->outputs, err));
    OT_TRY(make_signature(s, err));
    OT_TRY(ot_manifest_check(&s->sig, err));
    OT_TRY(make_golden(s, err));
    OT_TRY(make_trained_on(s, err));
    OT_TRY(make_predicted(s, err));
    ot_bundle_parts parts = {.model_path = in->model_path,
                             .signature = &s->sig,
                             .golden = part_of(&s->golden),
                             .trained_on = part_of(&s->trained_on),
                             .outputs = part_of(&s->predicted)};
    return ot_bundle_build(ot_disk_posix(), dir, &parts, digest_out, err);
}

/* Hands the outcome over in the caller's terms. */
static int answer(ot_rc rc, const ot_digest *d, const ot_error *err, char *digest_out,
                  char *message, size_t message_size)
{
    if (rc == OT_OK && digest_out != NULL) {
        (void)ot_digest_hex(d, digest_out);
    }
    if (message != NULL && message_size > 0) {
        snprintf(message, message_size, "%s", rc == OT_OK ? "" : err->msg);
    }
    return (int)rc;
}

int overtake_api_version(void)
{
    return OVERTAKE_API_VERSION;
}

int overtake_bundle_save(const overtake_bundle *bundle, const char *dir,
                         char digest_out[OVERTAKE_DIGEST_TEXT], char *message, size_t message_size)
{
    ot_error err = {0};
    ot_digest d = {{0}};
    if (bundle == NULL || dir == NULL || bundle->struct_size < sizeof *bundle ||
        bundle->model_path == NULL) {
        return answer(ot_fail(&err, OT_INVALID,
                              "bundle, model_path and dir are needed, and struct_size of %zu or "
                              "more",
                              sizeof *bundle),
                      &d, &err, digest_out, message, message_size);
    }
    saving *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return answer(ot_fail(&err, OT_EXHAUSTED, "no memory"), &d, &err, digest_out, message,
                      message_size);
    }
    s->in = bundle;
    s->rows = -1;
    ot_manifest_init(&s->sig);
    ot_str_init(&s->golden);
    ot_str_init(&s->trained_on);
    ot_str_init(&s->predicted);
    ot_rc rc = save(s, dir, &d, &err);
    saving_done(s);
    ot_free(s);
    return answer(rc, &d, &err, digest_out, message, message_size);
}

int overtake_bundle_verify(const char *dir, char digest_out[OVERTAKE_DIGEST_TEXT], char *message,
                           size_t message_size)
{
    ot_error err = {0};
    ot_digest d = {{0}};
    if (dir == NULL) {
        return answer(ot_fail(&err, OT_INVALID, "dir is needed"), &d, &err, digest_out, message,
                      message_size);
    }
    OT_AUTO(ot_bundle_done) ot_bundle b = {0};
    ot_rc rc = ot_bundle_open(ot_disk_posix(), dir, 0, NULL, &b, &err);
    if (rc == OT_OK) {
        d = b.digest;
    }
    return answer(rc, &d, &err, digest_out, message, message_size);
}
