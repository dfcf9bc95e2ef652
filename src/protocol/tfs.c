#include "protocol/tfs.h"

#include <string.h>

ot_rc ot_tfs_find(const ot_worker *w, const ot_tfs_target *t, const ot_dep **d_out,
                  const ot_arm **arm_out, ot_error *err)
{
    const ot_route *r = atomic_load_explicit(&w->serve->route, memory_order_acquire);
    const ot_dep *d = ot_route_find(r, t->model.p, t->model.n);
    if (d == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "model '%.*s' is not known", (int)OT_MIN(t->model.n, 80u),
                       t->model.p);
    }
    const ot_arm *arm = NULL;
    if (t->version != 0) {
        arm = ot_dep_version(d, t->version);
        if (arm == NULL) {
            return ot_fail(err, OT_NOT_FOUND, "model '%s' has no version %llu loaded", d->name,
                           (unsigned long long)t->version);
        }
    } else if (t->label.p != NULL) {
        arm = ot_dep_label(d, t->label.p, t->label.n);
        if (arm == NULL) {
            return ot_fail(err, OT_NOT_FOUND,
                           "model '%s' has no version loaded with the label '%.*s'", d->name,
                           (int)OT_MIN(t->label.n, 80u), t->label.p);
        }
    }
    *d_out = d;
    *arm_out = arm;
    return OT_OK;
}

ot_rc ot_tfs_find_variant(const ot_worker *w, const ot_tfs_target *t, const ot_dep **d_out,
                          const ot_variant **v_out, ot_error *err)
{
    const ot_dep *d;
    const ot_arm *arm;
    OT_TRY(ot_tfs_find(w, t, &d, &arm, err));
    if (arm == NULL && d->n_live == 0) {
        return ot_fail(err, OT_UNAVAILABLE, "model '%s' is not ready: %s", d->name,
                       d->state[0] != '\0' ? d->state : "it is being loaded");
    }
    *d_out = d;
    *v_out = arm != NULL ? arm->variant : d->arms[d->n_live - 1].variant;
    return OT_OK;
}

ot_rc ot_tfs_target_of(const ot_tfs_spec *spec, ot_tfs_target *out, ot_error *err)
{
    *out = (ot_tfs_target){.model = {spec->name, strlen(spec->name)}, .version = spec->version};
    if (spec->label == NULL) {
        return OT_OK;
    }
    out->label = (ot_slice){spec->label, strlen(spec->label)};
    return spec->version == 0 ? OT_OK
                              : ot_fail(err, OT_INVALID,
                                        "a version (%llu) and a label ('%.80s') are asked for; "
                                        "name one",
                                        (unsigned long long)spec->version, spec->label);
}

const char *ot_tfs_signature_name(const ot_variant *v)
{
    return v->info.signature[0] != '\0' ? v->info.signature : OT_TFS_DEFAULT_SIGNATURE;
}

const char *ot_tfs_method_name(const ot_variant *v)
{
    return v->info.method[0] != '\0' ? v->info.method : "tensorflow/serving/predict";
}

static ot_rc no_signature(const ot_variant *v, const char *name, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str known = OT_STR_INIT;
    for (const ot_variant *o = v; o != NULL && known.len < 300; o = o->other) {
        ot_str_addf(&known, "%s%s", o != v ? ", " : "", ot_tfs_signature_name(o));
    }
    return ot_fail(err, OT_INVALID, "there is no signature '%.80s'; the model has: %s", name,
                   known.data);
}

ot_rc ot_tfs_signature(ot_variant *v, const char *name, ot_variant **v_out, ot_error *err)
{
    if (name == NULL || name[0] == '\0') {
        *v_out = v;
        return OT_OK;
    }
    for (ot_variant *o = v; o != NULL; o = o->other) {
        if (strcmp(ot_tfs_signature_name(o), name) == 0) {
            *v_out = o;
            return OT_OK;
        }
    }
    if (strcmp(name, OT_TFS_DEFAULT_SIGNATURE) == 0) {
        *v_out = v; /* the one that serves where none has that name */
        return OT_OK;
    }
    return no_signature(v, name, err);
}

ot_rc ot_tfs_take_examples(ot_call *call, const ot_tfs_examples *e, ot_error *err)
{
    const ot_manifest *sig = &call->variant->sig;
    const ot_tensor_spec *in = sig->inputs;
    call->in.n_inputs = (int)sig->n_inputs;
    if (sig->n_inputs == 1 && in->dtype == OT_DT_BYTES && in->rank == 1 &&
        !ot_tfs_examples_have(e, in->name)) {
        call->in.inputs = ot_arena_calloc(call->arena, 1, sizeof *call->in.inputs);
        return call->in.inputs != NULL
                   ? ot_tfs_examples_tensor(e, in->name, call->arena, &call->in.inputs->tensor, err)
                   : ot_fail(err, OT_EXHAUSTED, "out of memory for the request's tensors");
    }
    return ot_tfs_examples_columns(e, in, sig->n_inputs, call->arena, &call->in.inputs, err);
}

int ot_tfs_prediction(const ot_call *call)
{
    const ot_manifest *sig = &call->variant->sig;
    return sig->prediction_kind != OT_PREDICTION_NONE ? (int)sig->prediction_output : -1;
}

const char *ot_tfs_state_name(ot_tfs_state s)
{
    return s == OT_TFS_AVAILABLE ? "AVAILABLE" : s == OT_TFS_LOADING ? "LOADING" : "END";
}

size_t ot_tfs_statuses(const ot_dep *d, const ot_arm *only, ot_tfs_status *out)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_arms; i++) {
        if (only == NULL || only == &d->arms[i]) {
            out[n++] = (ot_tfs_status){d->arms[i].variant->version, OT_TFS_AVAILABLE, ""};
        }
    }
    if (d->n_live == 0 && only == NULL && n < OT_TARGET_VARIANTS_MAX) {
        bool failed = d->state[0] != '\0';
        out[n++] = (ot_tfs_status){0, failed ? OT_TFS_END : OT_TFS_LOADING, d->state};
    }
    return n;
}
