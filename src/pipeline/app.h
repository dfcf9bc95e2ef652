/* The app: one YAML file of the developers' side, parsed and checked.
 *
 * Everything has a default but `schema`, `app`, `train.{run,data,model}` and `serve`. Names that
 * end in `_us` are microseconds. Lifetime: an ot_app owns its arena; immutable after ot_app_parse.
 * Threads: any may read. The reference in docs/app-yaml.md is printed from the same tables. */
#ifndef OT_PIPELINE_APP_H
#define OT_PIPELINE_APP_H

#include "base/expr.h"
#include "pipeline/conf.h"

#define OT_APP_DATA_MAX 16
#define OT_APP_STAGE_MAX 16
#define OT_APP_STEPS_MAX 16
#define OT_APP_SHARES_MAX 8
#define OT_APP_RESOURCES_MAX 8 /* keys of `resources` */
#define OT_APP_STAGE_KEYS_MAX 6
#define OT_APP_TRAIN_KEYS_MAX 16
#define OT_APP_WARM_MAX 16
#define OT_APP_MODULE_MAX 127 /* bytes of a name in `warm` */

enum { OT_APP_ROWS, OT_APP_MODEL };

typedef struct ot_app_data {
    const char *name;
    const char *path;  /* a .npz file or a directory of .npy, relative to the app file; or NULL */
    const char *from;  /* "DEPLOYMENT.labelled", or the name of a step; or NULL */
    int kind;          /* OT_APP_ROWS, or of a step OT_APP_MODEL */
    const char *label; /* the column that holds the label */
    int64_t last_us, max_rows;
    ot_conf_mark mark;
} ot_app_data;

typedef struct ot_app_resources {
    int64_t cpu, gpu;
    uint64_t memory, disk, log;
    int64_t time_us;
    ot_conf_mark marks[OT_APP_RESOURCES_MAX]; /* see ot_conf_mark_of */
} ot_app_resources;

enum { OT_APP_FROM_SCRATCH, OT_APP_FROM_PARENT };

typedef struct ot_app_train {
    const char *run;
    ot_conf_strs data;
    const char *model;
    int from; /* what it begins with: OT_APP_FROM_SCRATCH, OT_APP_FROM_PARENT */
    ot_app_resources resources;
    int64_t retries;
    /* As a job of many ranks: see ot_app_is_job. */
    int64_t np;         /* 0: not said */
    ot_conf_strs hosts; /* HOST:RANKS each, or the one path of a host file */
    int engine, wire;   /* indices in ot_app_engines, ot_app_wires */
    const char *links;  /* a file in the program's folder, or NULL */
    int64_t min_np;     /* elastic: it goes on while so many are left; 0: it is not */
    int64_t max_restarts;
    int64_t checkpoints; /* of a training that stay in the registry */
    ot_conf_strs warm;   /* modules that a spare process has imported */
    ot_conf_mark mark;
    ot_conf_mark marks[OT_APP_TRAIN_KEYS_MAX]; /* see ot_conf_mark_of */
} ot_app_train;

extern const char *const ot_app_engines[], *const ot_app_wires[]; /* their names */

typedef struct ot_app_evaluate {
    double held_out;
    ot_conf_strs metrics;
} ot_app_evaluate;

enum { OT_JOIN_PREDICTION_ID, OT_JOIN_KEY };
enum { OT_FALLBACK_PREVIOUS, OT_FALLBACK_REFUSE };
enum { OT_SERVE_NORMAL, OT_SERVE_HIGH, OT_SERVE_LOW };
enum { OT_ISOLATION_AUTO, OT_ISOLATION_NONE, OT_ISOLATION_PROCESS };

typedef struct ot_app_serve {
    const char *deployment;
    struct {
        int join;
        int64_t expected_within_us;
    } labels;
    struct {
        double rate;
        uint64_t max;
        int64_t keep_us;
    } sample;
    int fallback;
    /* Limits (docs/scheduling.md); 0: not given. */
    int priority;
    int64_t deadline_us, concurrency, queue;
    uint64_t memory, process_memory;
    int isolation;
    ot_conf_mark mark;
} ot_app_serve;

enum { OT_CYCLES_NONE, OT_CYCLES_DAILY, OT_CYCLES_WEEKLY };

typedef struct ot_app_quality {
    int64_t window_us, block_us;
    int64_t blocks_per_day, baseline_days;
    int cycles;
    double ignore_smaller; /* in standard deviations */
} ot_app_quality;

typedef struct ot_app_objectives {
    struct {
        double at_least;
        int64_t over_us;
        ot_conf_mark mark;
    } accuracy;
    struct {
        int64_t at_most_us;
        double share;
        ot_conf_mark mark;
    } latency_p99;
    struct {
        double at_least;
        int64_t over_us;
        ot_conf_mark mark;
    } availability;
    struct {
        ot_conf_rate at_most;
    } false_alarms;
} ot_app_objectives;

typedef struct ot_app_retrain {
    ot_conf_strs when; /* expressions; empty: never by itself */
    ot_conf_rate at_most;
    int64_t pause_after; /* failures in a row */
    int64_t cool_down_us;
    ot_conf_mark mark;
} ot_app_retrain;

typedef enum ot_stage_kind {
    OT_STAGE_GATE,
    OT_STAGE_APPROVAL,
    OT_STAGE_SHADOW,
    OT_STAGE_CANARY,
    OT_STAGE_BLUE_GREEN,
    OT_STAGE_PROBATION,
    OT_STAGE_KINDS,
} ot_stage_kind;

typedef enum ot_otherwise {
    OT_OTHERWISE_STOP,      /* the release ends; the champion stays */
    OT_OTHERWISE_ROLL_BACK, /* the same, said of a version that has a share */
    OT_OTHERWISE_CONTINUE,  /* the next stage is entered */
} ot_otherwise;

typedef struct ot_app_margin {
    const char *data;
    double margin;
} ot_app_margin;

typedef struct ot_app_stage {
    ot_stage_kind kind;
    ot_conf_mark mark;
    /* gate */
    const char *better_on; /* a data set's name or NULL */
    ot_app_margin not_worse_on[OT_APP_DATA_MAX];
    size_t n_not_worse_on;
    const char *require; /* an expression over metrics.* and champion.*, or NULL */
    /* approval */
    ot_conf_strs by; /* who may approve; none: anybody */
    /* waits */
    int64_t until_compared, at_most_us;
    int otherwise;
    double shares[OT_APP_SHARES_MAX];
    size_t n_shares;
    double margin, alpha;
    /* probation; of blue_green its `keep` */
    int64_t for_us;
    int roll_back_if;
    ot_conf_mark margin_mark, until_mark;
    ot_conf_mark marks[OT_APP_STAGE_KEYS_MAX]; /* see ot_conf_mark_of */
} ot_app_stage;

typedef struct ot_app_release {
    ot_app_stage v[OT_APP_STAGE_MAX];
    size_t n;
    ot_conf_mark mark;
} ot_app_release;

/* A program that runs before the training, in the same run. */
typedef struct ot_app_step {
    const char *name, *run;
    ot_conf_strs data;  /* what it takes */
    const char *output; /* what it leaves, relative to the work directory */
    int makes;          /* OT_APP_ROWS, OT_APP_MODEL */
    ot_conf_mark mark;
} ot_app_step;

typedef struct ot_app_steps {
    ot_app_step v[OT_APP_STEPS_MAX];
    size_t n;
} ot_app_steps;

typedef struct ot_app_datas {
    ot_app_data v[OT_APP_DATA_MAX];
    size_t n;
} ot_app_datas;

typedef struct ot_app {
    const char *schema, *app, *owner;
    ot_conf_mark app_mark;
    ot_app_datas data;
    ot_app_steps steps;
    ot_app_train train;
    ot_app_evaluate evaluate;
    ot_app_serve serve;
    ot_app_quality quality;
    ot_app_objectives objectives;
    ot_app_retrain retrain;
    ot_app_release release;
    struct {
        const char *webhook;
        ot_conf_mark mark;
    } alerts;
    const char *file; /* for messages */
    const char *dir;  /* what relative paths start from */
    const char *yaml; /* the text as given */
    ot_arena arena;
} ot_app;

/* `file` is used in messages; `dir` is where relative paths start. On failure nothing is returned
 * and err says file:line:column. Free with ot_app_destroy. */
ot_rc ot_app_parse(const char *yaml, size_t n, const char *file, const char *dir, ot_app **out,
                   ot_error *err) OT_CHECKED;
void ot_app_destroy(ot_app *app);
/* Release stages that cannot end within their at_most at `rows_per_s` rows of traffic: OT_INVALID
 * with the arithmetic. A rate of 0 means that nobody knows: nothing is refused. */
ot_rc ot_app_check_waits(const ot_app *app, double rows_per_s, ot_error *err) OT_CHECKED;

/* The i-th condition of retrain.when, parsed and checked into the arena. A name's `slot` is its
 * ot_condition. */
typedef enum ot_condition {
    OT_CONDITION_DEGRADED,
    OT_CONDITION_AT_RISK,
    OT_CONDITION_ESTIMATE,
    OT_CONDITION_DRIFT,
    OT_CONDITION_LABELS_NEW,
    OT_CONDITION_LABELS_TOTAL,
    OT_CONDITION_CHAMPION_AGE,
    OT_CONDITION_CHAMPION_VERSION,
} ot_condition;
ot_rc ot_app_condition_parse(const ot_app *app, size_t i, ot_arena *arena, ot_expr **out,
                             ot_error *err) OT_CHECKED;
ot_expr_resolve_fn ot_app_condition_type;

const ot_app_data *ot_app_data_find(const ot_app *app, const char *name);
/* The step that makes a data set; NULL: none does. */
const ot_app_step *ot_app_maker(const ot_app *app, const ot_app_data *d);
/* The training or a step of it takes the data set. */
bool ot_app_trains_on(const ot_app *app, const char *name);
/* The training is a job of ranks (`overtake run`), not one process. */
bool ot_app_is_job(const ot_app *app);
/* Its hosts are in this file; NULL: they stand in the app's, or all ranks are here. */
const char *ot_app_host_file(const ot_app *app);
/* All steps, each after those whose output it takes; how many. */
size_t ot_app_steps_order(const ot_app *app, const ot_app_step *out[OT_APP_STEPS_MAX]);
/* The deployment whose labelled traffic `from` names ("digits.labelled" -> "digits"), into out. */
ot_rc ot_app_from_deployment(const char *from, char out[65], ot_error *err) OT_CHECKED;

void ot_app_show(const ot_app *app, ot_str *out); /* effective configuration, YAML */
void ot_app_reference(ot_str *out);               /* Markdown */
const char *ot_stage_name(ot_stage_kind kind);

#endif
