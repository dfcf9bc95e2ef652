/* How a training is started, as many ranks or in a spare process: what an app may say of it. */
#include "pipeline/app_tables.h"

#include "launch/hosts.h"
#include "launch/spare.h"

#include <inttypes.h>
#include <string.h>

_Static_assert(OT_APP_WARM_MAX <= OT_LAUNCH_MODULES_MAX, "a spare imports all of them");

bool ot_app_is_job(const ot_app *app)
{
    return app->train.np > 0 || app->train.hosts.n > 0;
}

const char *ot_app_host_file(const ot_app *app)
{
    const ot_conf_strs *h = &app->train.hosts;
    return h->n == 1 && strchr(h->v[0], '/') != NULL ? h->v[0] : NULL;
}

/* The hosts as they stand in the app file have room for the ranks. */
static ot_rc check_hosts(const ot_app *app, ot_conf_ctx *ctx, ot_error *err)
{
    const ot_conf_strs *h = &app->train.hosts;
    ot_job_hosts hosts = {0};
    ot_error e = {0};
    ot_rc rc = OT_OK;
    size_t i = 0;
    for (; i < h->n && rc == OT_OK; i++) {
        rc = ot_job_hosts_list(&hosts, h->v[i], &e);
    }
    if (rc != OT_OK) {
        rc = ot_conf_fail(ctx, h->marks[i - 1], err, "train.hosts: %s", e.msg);
    } else {
        int32_t np;
        rc = ot_job_hosts_deal(&hosts, (int32_t)app->train.np, false, &np, &e);
        rc = rc == OT_OK ? OT_OK : ot_conf_fail(ctx, h->marks[0], err, "train.hosts: %s", e.msg);
    }
    ot_job_hosts_done(&hosts);
    return rc;
}

static ot_rc check_warm(const ot_conf_strs *warm, ot_conf_ctx *ctx, ot_error *err)
{
    for (size_t i = 0; i < warm->n; i++) {
        const char *name = warm->v[i];
        if (i == OT_APP_WARM_MAX) {
            return ot_conf_fail(ctx, warm->marks[i], err, "train.warm: more than %d modules",
                                OT_APP_WARM_MAX);
        }
        if (strlen(name) > OT_APP_MODULE_MAX || !ot_launch_module_ok(name)) {
            return ot_conf_fail(ctx, warm->marks[i], err,
                                "train.warm: '%.80s' is not the name of a Python module", name);
        }
    }
    return OT_OK;
}

ot_rc ot_app_check_job(const ot_app *app, ot_conf_ctx *ctx, ot_error *err)
{
    const ot_app_train *t = &app->train;
    if (ot_app_is_job(app) && t->np > 0 && t->min_np > t->np) {
        return ot_conf_fail(ctx, ot_conf_mark_of(&ot_conf_train, t, "min_np"), err,
                            "train.min_np: %" PRId64 " ranks at least, and np begins with %" PRId64,
                            t->min_np, t->np);
    }
    if (ot_app_is_job(app) && t->engine != 0 &&
        (t->hosts.n > 0 || t->min_np > 0 || t->max_restarts > 0)) {
        return ot_conf_fail(ctx, ot_conf_mark_of(&ot_conf_train, t, "engine"), err,
                            "train.engine: %s is for ranks on this machine that are not replaced: "
                            "leave out hosts, min_np and max_restarts, or take overtake",
                            ot_app_engines[t->engine]);
    }
    OT_TRY(check_warm(&t->warm, ctx, err));
    if (ot_app_is_job(app)) {
        return t->hosts.n == 0 || ot_app_host_file(app) != NULL ? OT_OK
                                                                : check_hosts(app, ctx, err);
    }
    const char *of_ranks = t->engine != 0                         ? "engine"
                           : t->wire != 0                         ? "wire"
                           : t->links != NULL && t->links[0] != 0 ? "links"
                           : t->min_np != 0                       ? "min_np"
                           : t->max_restarts != 0                 ? "max_restarts"
                                                                  : NULL;
    return of_ranks == NULL ? OT_OK
                            : ot_conf_fail(ctx, ot_conf_mark_of(&ot_conf_train, t, of_ranks), err,
                                           "train.%s is for a training of ranks: say how many "
                                           "with np, or where with hosts",
                                           of_ranks);
}
