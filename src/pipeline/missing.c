/* A program that ended well and left no model where the app says: where else it may lie. */
#include "pipeline/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct near_arg {
    const char *want;
    char best[256];
};

static ot_rc near_entry(void *arg, const char *name, ot_error *err)
{
    (void)err;
    struct near_arg *n = arg;
    if (ot_suggest(n->want, &name, 1) != NULL) {
        snprintf(n->best, sizeof n->best, "%s", name);
    }
    return OT_OK;
}

/* Says where the model may have been written instead: the first segment of the path that is
 * missing, compared with what stands beside it. */
static void find_near(const char *work, const char *rel, char out[512])
{
    char dir[OT_PATH_MAX], shown[512] = "";
    snprintf(dir, sizeof dir, "%s", work);
    out[0] = 0;
    for (const char *p = rel; *p != 0;) {
        char seg[256];
        size_t n = OT_MIN(strcspn(p, "/"), sizeof seg - 1);
        memcpy(seg, p, n);
        seg[n] = 0;
        p += strcspn(p, "/");
        p += *p == '/';
        char next[OT_PATH_MAX];
        if (ot_path_join(next, dir, seg, NULL) != OT_OK) {
            return;
        }
        if (!ot_disk_exists(ot_disk_posix(), next)) {
            struct near_arg near = {.want = seg};
            ot_disk *d = ot_disk_posix();
            (void)d->ops->list(d, dir, near_entry, &near, NULL);
            if (near.best[0] != 0) {
                snprintf(out, 512, "; it wrote %s%s/", shown, near.best);
            }
            return;
        }
        size_t len = strlen(shown);
        snprintf(shown + len, sizeof shown - len, "%s/", seg);
        memcpy(dir, next, sizeof dir);
    }
}

bool pl_model_is_there(pl_app *a, ot_error *err)
{
    char dir[OT_PATH_MAX], work[OT_PATH_MAX], model[OT_PATH_MAX], near[512];
    pl_run_dir(a->p, a->st.cycle.run, dir);
    if (ot_path_join(work, dir, "work", err) != OT_OK ||
        ot_path_join(model, work, a->app->train.model, err) != OT_OK) {
        return false;
    }
    if (ot_disk_exists(ot_disk_posix(), model)) {
        return true;
    }
    find_near(work, a->app->train.model, near);
    (void)ot_fail(err, OT_NOT_FOUND,
                  "run %" PRId64 ": exit 0, but no model at %s%s. Fix train.model. Log: overtake "
                  "logs %" PRId64,
                  a->st.cycle.run, a->app->train.model, near, a->st.cycle.run);
    return false;
}
