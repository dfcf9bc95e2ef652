/* Shared by the files of the pipeline; not for others. */
#ifndef OT_PIPELINE_INTERNAL_H
#define OT_PIPELINE_INTERNAL_H

#include "base/hash.h"
#include "base/mem.h"
#include "launch/spare.h"
#include "pipeline/app.h"
#include "pipeline/pipeline.h"
#include "pipeline/site.h"
#include "registry/registry.h"
#include "rollout/rollout.h"
#include "stats/budget.h"
#include "store/blob.h"
#include "store/events.h"
#include "store/runs.h"

#include <jansson.h>

#define PL_APPS_MAX 256
#define PL_FIRED_MAX 64
#define PL_INCARNATIONS_MAX 256

typedef enum pl_cycle_state {
    PL_IDLE,
    PL_TRAINING,    /* the user's program runs */
    PL_PACKAGING,   /* our own job makes the bundle */
    PL_REGISTERING, /* the bundle goes into the content store */
    PL_EVALUATING,  /* our own job scores it beside the champion */
    PL_RELEASING,   /* the rollout has it */
} pl_cycle_state;
const char *pl_cycle_state_name(pl_cycle_state s);

/* How far the current run has come, beside what its directory says. */
enum {
    PL_RUN_NEW,     /* its row is there */
    PL_RUN_STARTED, /* the log says so, and which data it was given */
    PL_RUN_ENDED,   /* the log says so; what follows from it is still to come */
};

typedef enum pl_step { PL_STEP_TRAIN, PL_STEP_PACKAGE, PL_STEP_EVALUATE } pl_step;

typedef struct pl_data {
    char name[65];
    ot_digest digest;
    int64_t rows;
} pl_data;

/* One way from a cause to a champion or to a refusal. */
typedef struct pl_cycle {
    int64_t number;
    pl_cycle_state state;
    bool pushed; /* a person brought the model; nothing was trained */
    bool by_person;
    char path[1024];   /* pushed: what was brought */
    int64_t train_run; /* whose work directory holds the model; 0 when pushed */
    int64_t first_run; /* the training's first try: what it kept is for those that follow */
    int64_t run;       /* the run that is on now; 0: none */
    int64_t run_phase; /* PL_RUN_* */
    int64_t attempt;
    int64_t version; /* once registered */
    ot_digest bundle;
    uint64_t last_seq; /* the newest event of this cycle: the next one's reason */
    pl_data data[OT_APP_DATA_MAX];
    int64_t n_data;
    ot_rollout rollout;
    char waits[320];        /* what the site makes it wait for, as the log says it; "": nothing */
    int64_t queued_us;      /* since when its next run waits for a place; 0: it does not */
    int64_t watch_since_us; /* the comparison of the current step counts rows from here */
    bool held_told;         /* the log has said that a spent budget holds it */
    /* When each part was reached, for the account of where the time went. */
    int64_t caused_us, trained_us, registered_us, evaluated_us, released_us, promoted_us;
    int64_t train_us; /* time of the user's program */
    int64_t jobs_us;  /* time of our own jobs: packaging and evaluation */
} pl_cycle;

/* Versions that are loaded beside those of the loop: arms of an A/B test, and those that a label
 * names. One of share 0 is at hand. */
#define PL_ARMS_MAX 10
typedef struct pl_arm {
    int64_t version;
    ot_digest bundle;
    double share;
} pl_arm;

#define PL_LABELS_MAX 8
typedef struct pl_label {
    char name[65];
    int64_t version;
} pl_label;

/* Objectives that have an error budget. */
typedef enum pl_objective {
    PL_AVAILABILITY,
    PL_LATENCY,
    PL_ACCURACY,
    PL_OBJECTIVES,
} pl_objective;

/* What the log has said about the budget of an objective. */
typedef struct pl_budget {
    int64_t rule; /* 1 + the rule by which it burns; 0: it does not */
    uint64_t burning_seq;
    bool spent;
    uint64_t spent_seq;
    bool off; /* it took the automation away, and nobody has acted since */
    int64_t off_us;
    int64_t granted_us; /* spent, not off: a person lets the automation go on until then */
} pl_budget;

/* Everything about an app that outlives the process. Plain values. */
typedef struct pl_state {
    bool paused, frozen;
    char held_by[65], held_reason[256];
    int64_t frozen_us;
    int64_t pinned; /* version; 0: none */
    int64_t champion, previous;
    ot_digest champion_bundle, previous_bundle;
    int64_t champion_since_us;
    uint64_t champion_seq; /* the event that put it there */
    bool armed;
    int64_t failures; /* in a row */
    int64_t cool_until_us;
    int64_t fired_us[PL_FIRED_MAX]; /* newest last */
    int64_t n_fired;
    int64_t labels_at_training; /* joined when the last training's data were taken */
    bool degraded, at_risk, drift;
    uint64_t degraded_seq, at_risk_seq, drift_seq;
    char site_refused[512]; /* as the log says it: see pl_app */
    bool hold_told;         /* the log has said that a trigger is held back */
    int64_t cycles;
    pl_cycle cycle;
    ot_digest code; /* the program's folder as a tree in the content store */
    bool unloaded;  /* replicas shall not serve it; no cycle is open then */
    char unloaded_by[65];
    pl_budget budgets[PL_OBJECTIVES];
    pl_arm arms[PL_ARMS_MAX];
    size_t n_arms;
    pl_label labels[PL_LABELS_MAX];
    size_t n_labels;
} pl_state;

/* How a budget stood when it was last looked at. */
typedef struct pl_budget_look {
    bool known; /* the app has the objective */
    double allowed;
    int64_t over_us, at_us;
    ot_budget_counts counts; /* of the period */
    ot_budget_rule rules[OT_BUDGET_RULES];
    double rates[OT_BUDGET_RULES][2]; /* over the long window, over the short one */
    bool holds[OT_BUDGET_RULES];      /* both are over the rule's, and it is no chance */
    int64_t held_us[OT_BUDGET_RULES]; /* when a rule last held, as far as this process knows */
    double rate;                      /* of the period: what is left is 1 - rate */
} pl_budget_look;

typedef struct pl_app {
    ot_pipeline *p;
    ot_app *app;
    pl_state st;
    ot_quality *quality;
    bool busy;                /* an async job is on */
    int64_t watching;         /* the run whose end will be reported; 0: none */
    int64_t again_us;         /* what stands is not looked at before */
    int64_t held_until_us;    /* a release that waits for the site is not looked at before */
    char refused[512];        /* why the site does not allow this app; "": it does */
    bool compares;            /* quality watches what the current step asks for */
    uint64_t act_event;       /* of the first change since a person's act began; 0: none yet */
    char candidate_state[16]; /* as replicas report it */
    int64_t unservable;       /* the champion that a replica could not load, once it was told */
    pl_budget_look looks[PL_OBJECTIVES];
    ot_launch_spare *spare;     /* for its next training; NULL: there is none */
    bool spare_background;      /* it is background work, as its run would be */
    bool spare_starts;          /* an async job starts one */
    int64_t spare_drops;        /* how often what it was for has changed */
    int64_t spare_again_us;     /* not before */
    char spare_why[300];        /* why there is none; "": nothing is known against it */
    bool keeps;                 /* an async job looks for checkpoints */
    int64_t keep_us;            /* when the next one looks */
    int64_t kept_of;            /* the try that has ended and whose checkpoints are registered */
    char kept_why[300];         /* why one could not be registered; "": none that is known */
    int64_t look_us, forget_us; /* when budgets are looked at, when old counts are deleted next */
} pl_app;

struct ot_pipeline {
    ot_store *store;
    char *data_dir, *exe;
    ot_pipeline_ports ports;
    ot_site *site; /* NULL: there is none */
    pl_app *apps[PL_APPS_MAX];
    size_t n_apps;
    int64_t revision;
    bool desired_dirty;
    uint64_t incarnations[PL_INCARNATIONS_MAX]; /* of replicas that said hello, the newest last */
    size_t n_incarnations;
    bool tidying;
    int64_t tidy_us; /* when to tidy up next; 0: not set yet */
};

/* --- state.c ----------------------------------------------------------------------------- */

typedef struct pl_event {
    const char *type;
    char object[OT_OBJECT_TEXT];
    const char *actor; /* NULL: "overtake" */
    const char *role;  /* NULL: a person's, or without an actor the automation's */
    json_t *payload;   /* stolen; "because" is added; NULL: {} */
    uint64_t because[4];
    size_t n_because;
    bool alert; /* somebody must see it: goes to the webhook */
    bool aside; /* neither follows from the cycle nor is a reason for what comes next in it */
    uint64_t *keep_seq; /* in the change's `next`: where its number is kept; NULL: nowhere */
} pl_event;

typedef ot_rc pl_txn_fn(ot_txn *txn, void *arg, pl_state *next, ot_error *err);

#define PL_EVENTS_MAX 4
/* One change of an app: `next` replaces app->st after it is durable together with the events. The
 * reason of the first event defaults to next->cycle.last_seq, of each other one to the one before
 * (those aside left out); cycle.last_seq becomes the last one's seq. `extra` (may be NULL) adds to
 * the transaction, first.
 */
typedef struct pl_change {
    pl_app *app;
    pl_state next;
    pl_event events[PL_EVENTS_MAX];
    size_t n_events;
    uint64_t seqs[PL_EVENTS_MAX]; /* out */
    size_t champion_event; /* 1 + the index of the event that puts a champion there; 0: none does */
    pl_txn_fn *extra;
    void *arg;
} pl_change;

pl_change pl_change_of(pl_app *a);
pl_event *pl_change_event(pl_change *c, const char *type, const char *object, json_t *payload);
ot_rc pl_commit(pl_change *c, ot_error *err) OT_CHECKED;
/* For changes that nobody waits for: a failure is logged, the app keeps its state and its cycle is
 * looked at again. */
bool pl_commit_logged(pl_change *c);
/* Sends an event that is in the log to the app's webhook, when there is one. */
void pl_alert(const pl_app *a, uint64_t seq);
/* What stands is done in a second: it may go well then. */
void pl_cycle_again(pl_app *a);
void pl_change_drop(pl_change *c); /* frees payloads of a change that is not committed */

ot_rc pl_state_load(pl_app *a, bool *found_out, ot_error *err) OT_CHECKED;
json_t *pl_state_json(const pl_state *s);
ot_rc pl_state_parse(const json_t *j, pl_state *out, ot_error *err) OT_CHECKED;
char *pl_object_app(const pl_app *a, char out[96]);
json_t *pl_text(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* {"text": ...} */
/* A string of at most n bytes as JSON; what is not UTF-8 becomes U+FFFD. */
json_t *pl_json_text(const char *s, size_t n);
/* Counts a failure of the loop: cools down, and pauses it when there were too many in a row. */
void pl_change_failure(pl_change *c);
/* Another version serves: what was found about the one before is not about this one. `keep`: the
 * one before stays at hand as the previous version. */
void pl_state_champion(pl_state *s, int64_t version, ot_digest bundle, bool keep);

/* --- cycle.c: cause -> version --------------------------------------------------------------- */

/* A person ends a cycle that waits for the site. */
ot_rc pl_cycle_abandon(pl_app *a, const char *actor, const char *reason, ot_error *err) OT_CHECKED;
/* Puts a new cycle into the change; the caller has checked that none is open, adds the event that
 * caused it, commits and calls pl_cycle_go. */
void pl_cycle_train(pl_change *c, bool by_person);
ot_rc pl_cycle_push(pl_change *c, const char *path, ot_error *err) OT_CHECKED;
/* The same for a version that is registered and was not judged. */
void pl_cycle_release(pl_change *c, const ot_version_row *v);
/* Does what the state asks for next; called after each change and at start. */
void pl_cycle_go(pl_app *a);
/* Something of the cycle is to be done and nothing is under way that will come back to it: an
 * earlier attempt failed, or the process is new. */
bool pl_cycle_stands(const pl_app *a);
void pl_cycle_run_ended(pl_app *a);
/* Ends a cycle that does not promote: cools down, counts a failure where it is one of the loop's,
 * leaves an event of `type`. */
void pl_cycle_end(pl_app *a, const char *type, const char *object, json_t *payload, bool failure);
void pl_run_dir(const ot_pipeline *p, int64_t run, char out[OT_PATH_MAX]);

/* --- ended.c: what is said of a run that ended ------------------------------------------------ */

/* The training run left a model where the app says; else err tells what it left. */
bool pl_ended_has_model(pl_app *a, ot_error *err);
/* Of a failed job of ranks: whose fault it was, in the place of its launcher's exit code. */
void pl_ended_job(const char *dir, ot_launch_exit *x);
/* Payload of run.finished. */
json_t *pl_ended_json(const pl_app *a, pl_step step, const ot_launch_exit *x, const char *dir);

/* --- given.c: what a training was given, as its run's directory says -------------------------- */

typedef struct pl_parent {
    int64_t version; /* what served when it was laid out; 0: nothing */
    ot_digest bundle;
    bool began_from; /* the training begins with it (train.from) */
} pl_parent;

ot_rc pl_given_save_data(const char *dir, const pl_data *data, size_t n, ot_error *err) OT_CHECKED;
/* How many; 0 when it says nothing. */
size_t pl_given_data(const char *dir, pl_data out[OT_APP_DATA_MAX]);
ot_rc pl_given_save_parent(const char *dir, const pl_parent *p, ot_error *err) OT_CHECKED;
/* False: it does not say. */
bool pl_given_parent(const char *dir, pl_parent *out);
/* lineage.json of what the run made (docs/architecture.md); run 0: a person brought it; code NULL:
 * not known. */
json_t *pl_lineage_json(int64_t run, const pl_parent *p, const ot_digest *code, const pl_data *data,
                        size_t n, const char *command);

/* --- jobs.c: what is laid out for runs, away from the loop -------------------------------------
 */

const char *pl_step_name(pl_step s);

/* steps.c: what the shell does in the run's work directory where an app has steps or ranks. */
ot_rc pl_steps_script(const ot_app *app, const char *exe, const char *dir, ot_str *out,
                      ot_error *err) OT_CHECKED;
/* The words of `overtake` that start the ranks, each with a NUL: of an app that has ranks. */
void pl_steps_job(const ot_app *app, const char *dir, ot_str *out);
/* What is run, for the lineage of what comes of it: the training's command, after its steps'. */
void pl_steps_say(const ot_app *app, char *out, size_t room);
/* Lays out the directory of the current run for a step and launches it; ends in
 * pl_cycle_launched on the loop. */
void pl_job_start(pl_app *a, pl_step step);
void pl_cycle_launched(pl_app *a, ot_rc rc, const ot_error *err, const pl_data *data, size_t n_data,
                       int fd);
/* Registers the bundle; ends in pl_cycle_registered on the loop. */
void pl_job_register(pl_app *a);
void pl_cycle_registered(pl_app *a, ot_rc rc, const ot_error *err, const ot_registered *r);

/* --- spares.c ---------------------------------------------------------------------------------
 */

#define PL_TRAIN_ENV 8 /* room for those of a run */
#define PL_SPARE_NOTE 360

/* What every training with these resources has, whichever run it is; `threads` is the text of a
 * variable. */
void pl_train_base(const ot_app_resources *res, int64_t np, char threads[24],
                   ot_launch_env env[PL_TRAIN_ENV], ot_launch_spec *out);
/* Something serves here, which a run must not slow down. */
bool pl_something_serves(const ot_pipeline *p);
void pl_spare_tick(pl_app *a);
int64_t pl_spare_next_us(const pl_app *a);
/* The app's spare, for the training that begins; the caller ends it. NULL: there is none, `note`
 * says why for the run's log, or is "" where the app wants none. */
ot_launch_spare *pl_spare_take(pl_app *a, char note[PL_SPARE_NOTE]);
/* The app has changed, or ends: what was started for it is not for it any more. */
void pl_spare_drop(pl_app *a);
json_t *pl_spare_json(pl_app *a);

/* --- checkpoints.c ---------------------------------------------------------------------------- */

void pl_checkpoints_dir(const ot_pipeline *p, int64_t training, char out[OT_PATH_MAX]);
void pl_checkpoints_tick(pl_app *a);
int64_t pl_checkpoints_next_us(const pl_app *a);
/* {"run", "step", "checkpoint"}: what a try says that it went on from; NULL: from nothing. */
json_t *pl_checkpoints_went_on(const ot_pipeline *p, int64_t training, int64_t run);

/* --- code.c: the program's folder as a tree in the content store -------------------------------
 */

/* Snapshot of `dir`: regular files but hidden ones, data files of the app and what is over the
 * limits (OT_EXHAUSTED names it). */
ot_rc pl_code_snapshot(ot_store *store, const ot_app *app, ot_digest *out,
                       ot_error *err) OT_CHECKED;
ot_rc pl_code_materialise(ot_store *store, const ot_digest *code, const char *dir,
                          ot_error *err) OT_CHECKED;

/* For the collector: the blob belongs to a snapshot. Code is small and versions name it: it is kept
 * for good. */
ot_blob_live_fn pl_code_live;

/* --- apply.c ----------------------------------------------------------------------------------
 */

/* Keeps the file that is in force. */
ot_rc pl_app_save(ot_txn *txn, const ot_pipeline *p, const ot_app *app, ot_error *err) OT_CHECKED;

/* --- tidy.c -----------------------------------------------------------------------------------
 */

void pl_tidy_tick(ot_pipeline *p);
int64_t pl_tidy_next_us(const ot_pipeline *p);

/* --- diff.c ---------------------------------------------------------------------------------- */

/* [{"key": "train.run", "from": text or null, "to": text or null}...] between two effective
 * configurations as ot_app_show prints them; "" is none. */
ot_rc pl_diff(const char *before, const char *after, json_t **list_out, ot_error *err) OT_CHECKED;

/* --- site_rules.c: what the site lets happen now ---------------------------------------------- */

/* Parses an app's file again and holds it to the site, or finds out why it is not allowed: such an
 * app serves on, starts no run and releases nothing. */
void pl_site_hold(pl_app *a);
/* Tells of an app that is not allowed any more, or is again. */
void pl_site_tick(pl_app *a);
/* OT_PRECONDITION when the site does not allow the app. */
ot_rc pl_site_allows(const pl_app *a, ot_error *err) OT_CHECKED;
/* The next run may start now. If not, it has its place in the queue, the log says so once and
 * a->again_us is set. */
bool pl_site_admits_run(pl_app *a);
/* A run ended, or a cycle: those that wait are looked at in this turn. */
void pl_site_wake(ot_pipeline *p);
/* Why no release of the app may move forward now, and until when at least; false: it may. */
bool pl_site_holds_release(const pl_app *a, char why[320], int64_t *until_us);
/* The same; if so, the log says it once and a->held_until_us is set. */
bool pl_site_waits(pl_app *a);
/* Who may approve the step that the release is in. */
ot_rc pl_site_may_approve(const pl_app *a, const char *actor, ot_error *err) OT_CHECKED;

/* --- arms.c: A/B tests, labels, versions at hand ---------------------------------------------- */

ot_rc pl_act_label(pl_app *a, const ot_person_act *act, ot_error *err) OT_CHECKED;
ot_rc pl_act_ab(pl_app *a, const ot_person_act *act, ot_error *err) OT_CHECKED;
/* The version that a switch names, by its label or its number. */
ot_rc pl_arm_named(const pl_app *a, const ot_person_act *act, int64_t *version_out,
                   ot_error *err) OT_CHECKED;
double pl_arms_share(const pl_state *s); /* of all arms together */
/* Another version serves: no arm of it has a share. */
void pl_arms_champion(pl_state *s, int64_t version);
void pl_arms_end(pl_state *s);                   /* no arm has a share */
bool pl_arms_drop(pl_state *s, int64_t version); /* it cannot be served; false: it is no arm */
json_t *pl_arms_json(const pl_state *s);
json_t *pl_labels_json(const pl_state *s);
ot_rc pl_arms_parse(const json_t *arms, json_t *labels, pl_state *s, ot_error *err) OT_CHECKED;

/* --- loaded.c: what has been unloaded -------------------------------------------------------- */

ot_rc pl_act_load(pl_app *a, const ot_person_act *act, ot_error *err) OT_CHECKED;
ot_rc pl_act_unload(pl_app *a, const ot_person_act *act, ot_error *err) OT_CHECKED;
ot_rc pl_need_loaded(const pl_app *a, ot_error *err) OT_CHECKED;

/* --- asked.c ---------------------------------------------------------------------------------- */

/* Whose requests are taken: "admin" or "anyone". */
const char *pl_model_control(const ot_pipeline *p);

/* --- person.c: what people do ------------------------------------------------------------------
 */

const char *pl_reason_of(const ot_person_act *act);
/* The app is not frozen; no cycle is open either. */
ot_rc pl_need_thawed(const pl_app *a, ot_error *err) OT_CHECKED;
ot_rc pl_need_idle(const pl_app *a, ot_error *err) OT_CHECKED;

/* "process" or "none": where replicas and our own jobs run a version (isolation.c). */
const char *pl_isolation_of(const pl_app *a, int64_t version);
/* The same for what the cycle is to pack. */
const char *pl_isolation_of_new(const pl_app *a);
ot_rc pl_version_read(const pl_app *a, int64_t version, ot_version_row *out,
                      ot_error *err) OT_CHECKED;
/* The site lets only versions serve that went through a release. */
ot_rc pl_may_serve(const pl_app *a, const ot_version_row *v, ot_error *err) OT_CHECKED;

/* --- gate.c ----------------------------------------------------------------------------------- */

/* Judges the evaluation's result by the app's gate. `verdict` is a new object with the numbers. */
ot_rc pl_gate_judge(const pl_app *a, const json_t *result, bool *passed_out, json_t **verdict_out,
                    ot_error *err) OT_CHECKED;

/* --- release.c -------------------------------------------------------------------------------- */

void pl_release_start(pl_app *a, json_t *gate);
/* Looks at the comparison and at the clock. */
void pl_release_tick(pl_app *a);
/* The candidate is loaded beside the champion, and all traffic waits to switch to it. */
bool pl_release_awaits(const pl_app *a);
/* OT_OK when every replica serves the candidate; else which does not. */
ot_rc pl_release_waits_for(const pl_app *a, ot_error *err) OT_CHECKED;
ot_rc pl_release_decide(pl_app *a, bool yes, const char *actor, const char *reason,
                        ot_error *err) OT_CHECKED;
void pl_release_watch(pl_app *a); /* tells quality what to compare */
ot_rc pl_release_abort(pl_app *a, const char *actor, const char *reason, ot_error *err) OT_CHECKED;

/* Back to the version before, with its event; the app has one. */
ot_rc pl_switch_back(pl_app *a, const char *actor, const char *reason, ot_error *err) OT_CHECKED;

/* --- trigger.c ---------------------------------------------------------------------------------
 */

void pl_trigger_tick(pl_app *a);
int64_t pl_trigger_next_us(const pl_app *a);

/* --- budget.c ----------------------------------------------------------------------------------
 */

const char *pl_objective_name(pl_objective o);
/* Looks at the budgets when it is time to, and says what changed. */
void pl_budget_tick(pl_app *a);
/* The objective whose spent budget keeps the automation off; NULL: none does. */
const pl_budget *pl_budget_off(const pl_app *a);
/* The current cycle may not go on by itself. What a person began since the budget was spent may. */
bool pl_budget_holds(const pl_app *a);
/* Why the automation is off, for people. */
void pl_budget_why(const pl_app *a, char out[160]);
/* Tells once a cycle that it is held, where it would go on. */
void pl_budget_tell_held(pl_app *a, const char *where);
/* What a person's `resume` gives back, for `for_us` (0: until the budget recovers); what was given
 * for a time already, only with another time. False: nothing of both. */
bool pl_budget_resume(pl_state *s, int64_t for_us);

/* --- budget_view.c -----------------------------------------------------------------------------
 */

json_t *pl_budgets_json(const pl_app *a);

/* --- findings.c --------------------------------------------------------------------------------
 */

void pl_on_finding(void *arg, const ot_finding *f);
/* What the log has and the state has not; into memory, saved with the next change. */
ot_rc pl_findings_catch_up(pl_app *a, ot_error *err) OT_CHECKED;

/* --- pipeline.c --------------------------------------------------------------------------------
 */

pl_app *pl_app_find(const ot_pipeline *p, const char *name);
pl_app *pl_app_of_deployment(ot_pipeline *p, const char *deployment);
ot_rc pl_app_add(ot_pipeline *p, ot_app *app, pl_app **out, ot_error *err) OT_CHECKED;
ot_quality_config pl_quality_config(pl_app *a);
void pl_desired_changed(ot_pipeline *p);
/* Notes every process that said hello as one that may answer for this deployment. */
ot_rc pl_note_incarnations(ot_txn *txn, const ot_pipeline *p, const char *deployment,
                           ot_error *err) OT_CHECKED;

#endif
