/* Registers what a run has packaged, away from the control loop. */
#include "pipeline/job.h"

#include <stdio.h>
#include <string.h>

#define METRICS_MAX (64u << 10)

static ot_rc register_work(void *arg, ot_error *err)
{
    pl_job *j = arg;
    char bundle[OT_PATH_MAX], metrics[OT_PATH_MAX];
    OT_TRY(ot_path_join(bundle, j->dir, "bundle", err));
    /* metrics.json stands beside the model; what a program says of itself is shown, not used. */
    snprintf(metrics, sizeof metrics, "%s", j->model_path);
    char *slash = strrchr(metrics, '/');
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (slash != NULL && (size_t)(slash - metrics) + 14 < sizeof metrics) {
        memcpy(slash, "/metrics.json", 14);
        if (ot_disk_read_all(ot_disk_posix(), metrics, METRICS_MAX, &text, NULL) == OT_OK) {
            json_t *m = json_loadb(text.data, text.len, 0, NULL);
            if (!json_is_object(m)) {
                ot_str_clear(&text);
            }
            json_decref(m);
        }
    }
    ot_register r = {.model = j->app,
                     .app = j->app,
                     .run = j->train_run != 0 ? j->train_run : j->run,
                     .metrics = text.len > 0 ? text.data : NULL,
                     .because = &j->because,
                     .n_because = j->because != 0};
    return ot_registry_register(j->p->store, bundle, &r, &j->registered, err);
}

static void register_done(void *arg, ot_rc rc, const ot_error *err)
{
    pl_job *j = arg;
    pl_app *a = j->a;
    ot_registered r = j->registered;
    pl_job_destroy(j);
    a->busy = false;
    if (rc != OT_CANCELLED) {
        pl_cycle_registered(a, rc, err, &r);
    }
}

void pl_job_register(pl_app *a)
{
    pl_job *j = pl_job_new(a);
    if (j == NULL) {
        return;
    }
    j->step = PL_STEP_PACKAGE; /* nothing new is read from traffic */
    ot_error err = {0};
    ot_rc rc = pl_job_fill(a, j, &err);
    if (rc == OT_OK) {
        pl_job_post(j, register_work, register_done);
        return;
    }
    pl_job_destroy(j);
    pl_cycle_registered(a, rc, &err, NULL);
}
