/* What is said of a run that ended, for people: how, why, and where the model may be instead. */
#include "pipeline/internal.h"

#include "launch/job_state.h"

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

bool pl_ended_has_model(pl_app *a, ot_error *err)
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

/* Appends the last lines of the log: what a person looks at first. */
static void add_log_tail(const char *dir, json_t *payload)
{
    OT_AUTO(ot_str_done) ot_str log = OT_STR_INIT;
    uint64_t next = 0;
    if (ot_launch_log_read(dir, 0, 1u << 20, &log, &next, NULL) != OT_OK || log.len == 0) {
        return;
    }
    const char *p = log.data + log.len;
    for (int lines = 0; p > log.data && (size_t)(log.data + log.len - p) < 600; p--) {
        if (p[-1] == '\n' && ++lines > 6) {
            break;
        }
    }
    json_object_set_new(payload, "log_tail", pl_json_text(p, (size_t)(log.data + log.len - p)));
}

/* NULL: it was no job of ranks, or one that did not get so far. The caller's. */
static json_t *job_result(const char *dir)
{
    char path[OT_PATH_MAX];
    json_t *state =
        ot_path_join(path, dir, OT_LAUNCH_JOB, NULL) == OT_OK ? ot_job_state_read(path) : NULL;
    json_t *result = json_incref(json_object_get(state, "result"));
    json_decref(state);
    if (!json_is_object(result)) {
        json_decref(result);
        return NULL;
    }
    return result;
}

void pl_ended_job(const char *dir, ot_launch_exit *x)
{
    if (x->state != OT_LAUNCH_FAILED && x->state != OT_LAUNCH_KILLED) {
        return; /* the limit that it ran into says it */
    }
    json_t *r = job_result(dir);
    const char *why = json_string_value(json_object_get(r, "why"));
    const char *host = json_string_value(json_object_get(r, "host"));
    const char *line = json_string_value(json_object_get(r, "last_line"));
    if (why != NULL && host != NULL) {
        snprintf(x->message, sizeof x->message, "rank %" PRId64 " (host %.100s) %.200s%s%.150s",
                 (int64_t)json_integer_value(json_object_get(r, "rank")), host, why,
                 line != NULL ? "; its last line: " : "", line != NULL ? line : "");
        /* The program is not to blame for a host that is gone. */
        x->state = json_is_true(json_object_get(r, "lost")) ? OT_LAUNCH_LOST : x->state;
    }
    json_decref(r);
}

json_t *pl_ended_json(const pl_app *a, pl_step step, const ot_launch_exit *x, const char *dir)
{
    json_t *job = step == PL_STEP_TRAIN ? job_result(dir) : NULL;
    int64_t lost = json_integer_value(json_object_get(job, "ranks_lost"));
    const char *who = json_string_value(json_object_get(job, "who_was_lost"));
    json_t *j = pl_text("run %" PRId64 " (%s) %s%s%s", a->st.cycle.run, pl_step_name(step),
                        ot_launch_state_name(x->state), x->message[0] ? ": " : "", x->message);
    if (x->state == OT_LAUNCH_SUCCEEDED && lost > 0) { /* what went wrong and was borne */
        json_decref(j);
        j = pl_text("run %" PRId64 " (%s) %s, without %" PRId64 " rank%s that %s lost: %.400s",
                    a->st.cycle.run, pl_step_name(step), ot_launch_state_name(x->state), lost,
                    lost == 1 ? "" : "s", lost == 1 ? "was" : "were", who != NULL ? who : "");
    }
    json_object_set_new(j, "state", json_string(ot_launch_state_name(x->state)));
    json_object_set_new(j, "step", json_string(pl_step_name(step)));
    json_object_set_new(j, "exit_code", json_integer(x->exit_code));
    json_object_set_new(j, "signal", json_integer(x->signal));
    json_object_set_new(j, "wall_us", json_integer(x->ended_us - x->started_us));
    json_object_set_new(j, "cpu_us", json_integer(x->cpu_us));
    json_object_set_new(j, "max_rss_bytes", json_integer((json_int_t)x->max_rss_bytes));
    if (job != NULL) {
        json_object_set_new(j, "job", job);
    }
    if (x->state != OT_LAUNCH_SUCCEEDED) {
        add_log_tail(dir, j);
    }
    return j;
}
