/* Tidying up: what nothing refers to any more leaves the disk, an hour after it could have been
 * needed. Runs keep their record and their log for good; what was laid out for them (data, work,
 * bundle: all of it in the content store or made from it) is kept for the newest runs and for those
 * of open cycles, so that a person can look at a failure. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "registry/checkpoint.h"
#include "registry/promote.h"
#include "store/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIDY_EVERY_US INT64_C(3600000000)
/* After the start, when everything else has been served. */
#define TIDY_FIRST_US INT64_C(60000000)
#define BLOB_GRACE_US INT64_C(3600000000)
#define RUNS_WHOLE 20
#define RUNS_MAX 1000000

typedef struct tidy {
    ot_pipeline *p;
    ot_store *store;
    char runs[OT_PATH_MAX], incoming[OT_PATH_MAX];
    int64_t open[PL_APPS_MAX * 3]; /* runs of open cycles */
    size_t n_open;
    int64_t *ids;
    size_t n_ids, cap_ids;
    int64_t trimmed, unkept; /* runs; trainings whose checkpoints are gone */
    size_t given_up;         /* versions that were coming in */
    ot_blob_report blobs;
} tidy;

/* ---- runs */

static ot_rc note_run(void *arg, const char *name, ot_error *err)
{
    tidy *t = arg;
    int64_t id;
    if (ot_parse_i64(name, &id, NULL) != OT_OK || id <= 0 || t->n_ids == RUNS_MAX) {
        return OT_OK;
    }
    if (!ot_grow(&t->ids, &t->cap_ids, t->n_ids, sizeof *t->ids, 0)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the list of runs");
    }
    t->ids[t->n_ids++] = id;
    return OT_OK;
}

static int newest_first(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return *x > *y ? -1 : *x < *y;
}

static bool is_open(const tidy *t, int64_t id)
{
    for (size_t i = 0; i < t->n_open; i++) {
        if (t->open[i] == id) {
            return true;
        }
    }
    return false;
}

static ot_rc trim_run(tidy *t, int64_t id, ot_error *err)
{
    static const char *const heavy[] = {"work",     "data",   "parent",
                                        "train",    "held",   "candidate",
                                        "champion", "bundle", OT_CHECKPOINTS_DIR};
    char name[24], dir[OT_PATH_MAX], path[OT_PATH_MAX];
    bool any = false;
    snprintf(name, sizeof name, "%" PRId64, id);
    OT_TRY(ot_path_join(dir, t->runs, name, err));
    for (size_t i = 0; i < OT_COUNT(heavy); i++) {
        OT_TRY(ot_path_join(path, dir, heavy[i], err));
        if (ot_disk_exists(ot_disk_posix(), path)) {
            OT_TRY(ot_disk_remove_tree(ot_disk_posix(), path, err));
            any = true;
        }
    }
    t->trimmed += any;
    return OT_OK;
}

static ot_rc trim_runs(tidy *t, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    if (!ot_disk_exists(d, t->runs)) {
        return OT_OK;
    }
    OT_TRY(d->ops->list(d, t->runs, note_run, t, err));
    qsort(t->ids, t->n_ids, sizeof *t->ids, newest_first);
    for (size_t i = RUNS_WHOLE; i < t->n_ids; i++) {
        if (!is_open(t, t->ids[i])) {
            OT_TRY(trim_run(t, t->ids[i], err));
        }
    }
    return OT_OK;
}

/* ---- checkpoints: as long as their runs are whole, and those that a champion comes from */

static ot_rc collect_checkpoints(ot_txn *txn, void *arg, ot_error *err)
{
    tidy *t = arg;
    int64_t before = t->n_ids > RUNS_WHOLE ? t->ids[RUNS_WHOLE - 1] : 0;
    return ot_checkpoint_collect(txn, before, t->open, t->n_open, &t->unkept, err);
}

/* ---- blobs */

static ot_rc tidy_work(void *arg, ot_error *err)
{
    tidy *t = arg;
    OT_TRY(trim_runs(t, err));
    OT_TRY(ot_store_write(t->store, collect_checkpoints, t, err));
    OT_TRY(ot_incoming_sweep(ot_disk_posix(), t->incoming, ot_clock_wall_us() - OT_INCOMING_KEPT_US,
                             &t->given_up, err));
    return ot_registry_collect(t->store, BLOB_GRACE_US, pl_code_live, NULL, &t->blobs, err);
}

static void tidy_done(void *arg, ot_rc rc, const ot_error *err)
{
    tidy *t = arg;
    t->p->tidying = false;
    if (rc != OT_OK) {
        ot_warn("pipeline", "tidying up: %s; tried again in an hour", err->msg);
    } else if (t->trimmed > 0 || t->unkept > 0 || t->given_up > 0 || t->blobs.deleted > 0) {
        char size[32];
        ot_info("pipeline",
                "tidied up: %" PRId64 " old runs, the checkpoints of %" PRId64
                " trainings, %zu uploads that were given up, %" PRIu64 " blobs (%s)",
                t->trimmed, t->unkept, t->given_up, t->blobs.deleted,
                ot_format_size(t->blobs.deleted_bytes, size));
    }
    ot_free(t->ids);
    ot_free(t);
}

int64_t pl_tidy_next_us(const ot_pipeline *p)
{
    return p->tidying ? INT64_MAX : p->tidy_us;
}

void pl_tidy_tick(ot_pipeline *p)
{
    int64_t now = ot_clock_wall_us();
    if (p->tidy_us == 0) {
        p->tidy_us = now + TIDY_FIRST_US;
    }
    if (p->tidying || now < p->tidy_us) {
        return;
    }
    p->tidy_us = now + TIDY_EVERY_US;
    ot_error err = {0};
    tidy *t = ot_calloc(1, sizeof *t);
    ot_rc rc = t == NULL ? ot_fail(&err, OT_EXHAUSTED, "no memory")
                         : ot_path_join(t->runs, p->data_dir, "runs", &err);
    if (rc == OT_OK) {
        rc = ot_path_join(t->incoming, p->data_dir, OT_INCOMING_DIR, &err);
    }
    for (size_t i = 0; rc == OT_OK && i < p->n_apps; i++) {
        const pl_cycle *c = &p->apps[i]->st.cycle;
        if (c->state != PL_IDLE) {
            t->open[t->n_open++] = c->run;
            t->open[t->n_open++] = c->train_run;
            t->open[t->n_open++] = c->first_run;
        }
    }
    if (rc == OT_OK) {
        t->p = p;
        t->store = p->store;
        p->tidying = true;
        rc = p->ports.async(p->ports.self, tidy_work, tidy_done, t, &err);
    }
    if (rc != OT_OK) {
        p->tidying = false;
        ot_free(t);
        ot_warn("pipeline", "tidying up: %s; tried again in an hour", err.msg);
    }
}
