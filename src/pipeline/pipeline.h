/* The pipeline: apps in motion. Data -> run -> bundle -> version -> evaluation -> gate -> stages ->
 * champion, and back again when a trigger says so.
 *
 * One state a app, saved with the events of each change in one transaction, so that a restarted
 * control plane goes on where the last one stood: runs are found again by their directories, stages
 * by the times they were entered. Findings of `quality` and verdicts about the candidate feed it;
 * what it decides shows in the desired state, in runs and in the log.
 *
 * Threads: one (the control loop). Work that takes long goes through the port `async`. Lifetime:
 * create/destroy; the store and the ports outlive it. All times come from the clock seam. */
#ifndef OT_PIPELINE_PIPELINE_H
#define OT_PIPELINE_PIPELINE_H

#include "base/error.h"
#include "base/str.h"
#include "quality/quality.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_pipeline ot_pipeline;

typedef ot_rc ot_pipeline_work_fn(void *arg, ot_error *err);
typedef void ot_pipeline_done_fn(void *arg, ot_rc rc, const ot_error *err);

/* A run as who starts it elsewhere sees it; valid during the call. */
typedef struct ot_pipeline_run {
    const char *app, *step; /* "train", "package", "evaluate" */
    const char *model;      /* train: where the model must lie under DIR/work/ */
    int64_t run;
    int64_t version, champion; /* evaluate: the candidate and what serves (0: nothing does) */
    const char *dir;           /* of the run; may not be there yet */
} ot_pipeline_run;

/* What the pipeline asks of the process around it. */
typedef struct ot_pipeline_ports {
    void *self;
    /* Every replica that is connected, and at least one, serves this version. If not, err says
     * which one does not, and why. NULL: nobody knows, and nothing is switched. */
    ot_rc (*serves)(void *self, const char *deployment, int64_t version, ot_error *err);
    /* The desired state changed: send it to the replicas. */
    void (*desired_changed)(void *self);
    /* Runs `work` away from the loop, then `done` on it. A simulator may do both at once. A failure
     * means that neither is called and that it is tried again later. `done` with OT_CANCELLED: the
     * process ends and `work` was not called. */
    ot_rc (*async)(void *self, ot_pipeline_work_fn *work, ot_pipeline_done_fn *done, void *arg,
                   ot_error *err);
    /* Calls ot_pipeline_run_ended(run) when `fd` becomes readable, then closes it. */
    void (*watch_run)(void *self, int64_t run, int fd);
    /* Starts a run. NULL: it is laid out in its directory and launched as a process. Whoever takes
     * this over leaves in the directory what a process would have left (launch/run.h, jobs.c) and
     * then calls ot_pipeline_run_ended; watch_run is called with fd -1. */
    ot_rc (*start_run)(void *self, const ot_pipeline_run *run, ot_error *err);
    /* Delivers an alert to a webhook; must not block. */
    void (*alert)(void *self, const char *url, const char *json);
} ot_pipeline_ports;

typedef struct ot_pipeline_config {
    ot_store *store;
    const char *data_dir; /* runs/ lies below it */
    const char *exe;      /* our own binary, for runs of our own; NULL: /proc/self/exe */
    ot_pipeline_ports ports;
    bool untidy; /* nothing is ever tidied up: the directory goes as a whole */
} ot_pipeline_config;

/* Loads all apps and finds their runs again. */
ot_rc ot_pipeline_create(const ot_pipeline_config *cfg, ot_pipeline **out,
                         ot_error *err) OT_CHECKED;
void ot_pipeline_destroy(ot_pipeline *p);

/* Puts the operators' file in force, or another one in its place; NULL: none. What it said last is
 * kept in the store: a file that cannot be read or has an error is refused with an event and the
 * kept one stays in force; without one the error is returned. Apps that it does not allow serve on,
 * but start no run and release nothing. Call it before the first tick and when the file changed. */
ot_rc ot_pipeline_site(ot_pipeline *p, const char *path, ot_error *err) OT_CHECKED;

/* Makes an app known or changes it. `file` names it in messages, `dir` (absolute) is where its
 * relative paths and its program lie. With `diff_only` nothing is changed. The answer is a JSON
 * object {"app", "changed": [...], "diff": [...], "started": bool}. While nothing serves, an
 * apply starts a run. */
ot_rc ot_pipeline_apply(ot_pipeline *p, const char *yaml, size_t n, const char *file,
                        const char *dir, const char *actor, bool diff_only, ot_str *json_out,
                        ot_error *err) OT_CHECKED;

/* An app whose champion was made elsewhere: it serves, and its evidence begins now.
 * OT_EXISTS: the app is here already. */
typedef struct ot_pipeline_adopted {
    const char *yaml, *file, *dir; /* as for ot_pipeline_apply */
    const char *bundle;            /* directory of the champion's bundle, copied */
    int64_t since_us;              /* when it began to serve; 0: now */
    int64_t labels_new;            /* that joined since its training began */
    const int64_t *fired_us;       /* when triggers fired before, oldest first */
    size_t n_fired;
} ot_pipeline_adopted;
ot_rc ot_pipeline_adopt(ot_pipeline *p, const ot_pipeline_adopted *in, int64_t *version_out,
                        ot_error *err) OT_CHECKED;

/* Timers: call at ot_pipeline_next_us (wall clock; INT64_MAX: never) and after anything else. */
void ot_pipeline_tick(ot_pipeline *p);
int64_t ot_pipeline_next_us(const ot_pipeline *p);
void ot_pipeline_run_ended(ot_pipeline *p, int64_t run);

/* From replicas. `json` as in docs/architecture.md, "Agent protocol". */
ot_rc ot_pipeline_push(ot_pipeline *p, const char *json, size_t json_len, const void *bin,
                       size_t bin_len, ot_error *err) OT_CHECKED;
void ot_pipeline_observed(ot_pipeline *p, const char *replica, const char *json, size_t json_len);
void ot_pipeline_replica(ot_pipeline *p, const char *replica, bool connected);
/* A replica's process (16 hex digits) is here: labels may come for what it answers before its first
 * rows do. */
void ot_pipeline_incarnation(ot_pipeline *p, const char *incarnation);
/* Another API key was added or revoked: replicas are told. */
void ot_pipeline_clients_changed(ot_pipeline *p);
/* The desired state as the body of a `desired` frame. */
ot_rc ot_pipeline_desired(ot_pipeline *p, ot_str *json_out, ot_error *err) OT_CHECKED;

ot_rc ot_pipeline_labels(ot_pipeline *p, const char *deployment, const ot_label_in *labels,
                         size_t n, const char *actor, ot_label_report *out,
                         ot_error *err) OT_CHECKED;

#define OT_PIPELINE_ARMS_MAX 8 /* of an A/B test, beside the champion */

/* What a person can do. `version` 0 where the verb takes none. */
typedef struct ot_person_act {
    const char *verb; /* train pause resume pin freeze approve reject rollback push release label ab
                         switch load unload */
    const char *app;
    const char *actor;
    const char *role; /* as the event has it; NULL: "person" */
    /* Needed by reject and rollback, and by resume when a budget was spent; else may be NULL. */
    const char *reason;
    int64_t version;   /* pin, release, switch: which one; label: 0 takes the label away */
    const char *path;  /* push: a model or a bundle on this machine, absolute */
    const char *label; /* label: its name; switch: instead of a version */
    struct {
        int64_t version;
        double share;
    } arms[OT_PIPELINE_ARMS_MAX]; /* ab: beside the champion, which has the rest; none ends it */
    size_t n_arms;
    int64_t for_us; /* resume: how long a spent budget is borne; 0: until it recovers */
} ot_person_act;
ot_rc ot_pipeline_act(ot_pipeline *p, const ot_person_act *act, ot_str *json_out,
                      ot_error *err) OT_CHECKED;

/* What a caller of a replica asks for: "load" or "unload" of a deployment. */
typedef struct ot_pipeline_ask {
    const char *replica; /* its id */
    const char *verb;
    const char *deployment;
    const char *key;  /* the id of the API key that came with the request; NULL: none did */
    const char *from; /* the caller's address */
} ot_pipeline_ask;
/* As if a person had said it, where the key or the site allows it: actor is the key's name, role
 * "client". The revision of the desired state that has it was given to the replicas before this
 * returns. */
ot_rc ot_pipeline_asked(ot_pipeline *p, const ot_pipeline_ask *ask, int64_t *revision_out,
                        ot_error *err) OT_CHECKED;

bool ot_pipeline_has_app(const ot_pipeline *p, const char *app);

/* Stops a run that is under way; its cycle ends. OT_PRECONDITION when it has ended or is still
 * being laid out. */
ot_rc ot_pipeline_cancel(ot_pipeline *p, int64_t run, const char *actor, ot_error *err) OT_CHECKED;
/* OT_NOT_FOUND: no app serves that deployment. */
ot_rc ot_pipeline_serves(ot_pipeline *p, const char *deployment, ot_error *err) OT_CHECKED;
/* Accuracy of a version on rows of [from, to) whose label is known. */
ot_rc ot_pipeline_accuracy(ot_pipeline *p, const char *deployment, int64_t version, int64_t from_us,
                           int64_t to_us, ot_accuracy *out, ot_error *err) OT_CHECKED;

/* JSON for people and programs. */
ot_rc ot_pipeline_apps(ot_pipeline *p, ot_str *json_out, ot_error *err) OT_CHECKED;
ot_rc ot_pipeline_app(ot_pipeline *p, const char *app, ot_str *json_out, ot_error *err) OT_CHECKED;
ot_rc ot_pipeline_config_yaml(ot_pipeline *p, const char *app, ot_str *out,
                              ot_error *err) OT_CHECKED;
/* Walks the log backwards from what serves (or with version > 0 from the last word on that
 * version):
 * {"app", "version", "text": "v3 serves because ...", "chain": [{"seq", "type", "text"}...]}. */
ot_rc ot_pipeline_why(ot_pipeline *p, const char *app, int64_t version, ot_str *json_out,
                      ot_error *err) OT_CHECKED;

#endif
