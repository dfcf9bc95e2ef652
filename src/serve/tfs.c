#include "serve/tfs.h"

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

ot_rc ot_tfs_signature(const ot_variant *v, const char *name, const ot_manifest **sig_out,
                       ot_error *err)
{
    if (name != NULL && name[0] != '\0' && strcmp(name, OT_TFS_DEFAULT_SIGNATURE) != 0) {
        return ot_fail(err, OT_INVALID, "there is no signature '%.80s'; the model has: %s", name,
                       OT_TFS_DEFAULT_SIGNATURE);
    }
    *sig_out = &v->sig;
    return OT_OK;
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
