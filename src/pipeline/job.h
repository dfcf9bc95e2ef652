/* A job: what the directory of a run is made from. It owns copies of all it reads, so that the app
 * may change while it works. Between jobs.c (on the loop), lay_out.c (away from it) and register.c.
 */
#ifndef OT_PIPELINE_JOB_H
#define OT_PIPELINE_JOB_H

#include "pipeline/internal.h"
#include "registry/dataset.h"

typedef struct pl_job_data {
    char name[65], label[129], path[OT_PATH_MAX]; /* path "" for labelled traffic */
    ot_table table;                               /* labelled traffic, taken on the loop */
    bool has_table, known;                        /* known: digest stands already */
    ot_digest digest;
    int64_t rows;
    bool in_training;
} pl_job_data;

typedef struct pl_job {
    pl_app *a;
    ot_pipeline *p;
    pl_step step;
    int64_t run;
    char dir[OT_PATH_MAX];
    char app[65], model_rel[1024], command[4096];
    ot_str script; /* train: its steps or ranks; empty: it has none */
    ot_str job;    /* train: what its spare would become (pl_steps_job); empty: nothing */
    int64_t np;    /* train: its ranks, all here; 0: one process; -1: ranks on hosts */
    int from;
    ot_app_resources res;
    double held_out;
    ot_digest code, champion, candidate;
    bool has_champion;
    int64_t champion_version;
    const char *isolation,
        *champion_isolation;      /* of the model that is packed or judged; literals */
    bool background;              /* something serves here, which a run must not slow down */
    char model_path[OT_PATH_MAX]; /* package: what to package */
    int64_t train_run, first_run;
    pl_job_data data[OT_APP_DATA_MAX];
    size_t n_data;
    ot_registered registered;
    uint64_t because;
    ot_launch_spare *spare;   /* train: what it may start in */
    char note[PL_SPARE_NOTE]; /* train: why there is none */
    size_t checkpoints;       /* train: so many are kept of it */
    int fd;                   /* out: watches the shim */
} pl_job;

/* jobs.c. NULL: no memory; it is tried again. */
pl_job *pl_job_new(pl_app *a);
void pl_job_destroy(pl_job *j);
/* What the app says of it now. */
ot_rc pl_job_fill(pl_app *a, pl_job *j, ot_error *err) OT_CHECKED;
/* Hands it over; when nobody can take it now, it is destroyed and the tick comes back to it. */
void pl_job_post(pl_job *j, ot_pipeline_work_fn *work, ot_pipeline_done_fn *done);

/* lay_out.c: an ot_pipeline_work_fn. OT_EXISTS: the run's directory is in use. */
ot_rc pl_job_lay_out(void *arg, ot_error *err) OT_CHECKED;
/* The data that the training was given; how many. */
size_t pl_job_given(const pl_job *j, pl_data out[OT_APP_DATA_MAX]);

/* checkpoints.c, away from the loop: what an earlier try of the training kept is registered, and
 * the newest of it at hand for this one. */
void pl_checkpoints_before(const pl_job *j);

#endif
