/* What a config.pbtxt says about a loaded model. */
#include "serve/load.h"

#include "base/log.h"

#include <string.h>

/* Takes the configured shape over where the model leaves a size open. */
static ot_rc narrow(ot_tensor_spec *t, const ot_tensor_spec *said, int batch, ot_error *err)
{
    char a[OT_SHAPE_TEXT], b[OT_SHAPE_TEXT];
    bool fits = t->dtype == said->dtype && t->rank == said->rank + batch;
    for (int k = 0; fits && k < said->rank; k++) {
        int64_t *d = &t->dims[k + batch];
        fits = *d < 0 || said->dims[k] < 0 || *d == said->dims[k];
        *d = fits && said->dims[k] >= 0 ? said->dims[k] : *d;
    }
    return fits ? OT_OK
                : ot_fail(err, OT_INVALID, "%s: '%s' is %s %s%s; the model has %s %s",
                          OT_MODEL_CONFIG_FILE, said->name, ot_dtype_name(said->dtype),
                          ot_shape_format(said->dims, said->rank, a),
                          batch > 0 ? " behind the batch axis (max_batch_size)" : "",
                          ot_dtype_name(t->dtype), ot_shape_format(t->dims, t->rank, b));
}

static ot_rc configure_tensors(ot_tensor_spec *specs, size_t n, const ot_tensor_spec *said,
                               size_t n_said, int batch, const char *what, ot_error *err)
{
    for (size_t i = 0; i < n_said; i++) {
        size_t k = 0;
        while (k < n && strcmp(specs[k].name, said[i].name) != 0) {
            k++;
        }
        if (k == n) {
            return ot_fail(err, OT_INVALID,
                           "%s: the model has no %s '%.80s'; the first of %zu is '%s'",
                           OT_MODEL_CONFIG_FILE, what, said[i].name, n, n > 0 ? specs[0].name : "");
        }
        OT_TRY(narrow(&specs[k], &said[i], batch, err));
    }
    return OT_OK;
}

ot_rc ot_variant_configure(ot_variant *v, const ot_model_config *c, ot_error *err)
{
    int batch = c->batch_max > 0 ? 1 : 0;
    if (batch > 0 && !v->rows_known) {
        return ot_fail(
            err, OT_INVALID,
            "%s: max_batch_size is %lld, but axis 0 of the model's inputs and outputs is "
            "not free: it takes no batches; write 0",
            OT_MODEL_CONFIG_FILE, (long long)c->batch_max);
    }
    OT_TRY(configure_tensors(v->sig.inputs, v->sig.n_inputs, c->inputs, c->n_inputs, batch, "input",
                             err));
    OT_TRY(configure_tensors(v->sig.outputs, v->sig.n_outputs, c->outputs, c->n_outputs, batch,
                             "output", err));
    if (c->batch_max == 0) {
        v->merge_max = 1;
    } else if (batch > 0) {
        v->merge_max = c->batch_max;
        v->run_max = c->batch_max;
    }
    if (c->notes[0] != '\0') {
        ot_info("serve", "%s@%s: its %s is followed but for %s", v->model, v->version_text,
                OT_MODEL_CONFIG_FILE, c->notes);
    }
    return OT_OK;
}
