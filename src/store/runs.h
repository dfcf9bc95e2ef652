/* Rows of runs: one execution of a step of an app.
 *
 * Threads: writes in a transaction of the store's writer; reads from any reader. Lifetime: rows
 * that are read lie in the caller's arena. */
#ifndef OT_STORE_RUNS_H
#define OT_STORE_RUNS_H

#include "base/error.h"
#include "base/mem.h"
#include "store/store.h"

#include <stddef.h>
#include <stdint.h>

typedef enum ot_run_state {
    OT_RUN_QUEUED,
    OT_RUN_RUNNING,
    OT_RUN_SUCCEEDED,
    OT_RUN_FAILED,
    OT_RUN_CANCELLED,
    OT_RUN_LOST,
    OT_RUN_STATE_COUNT_,
} ot_run_state;

const char *ot_run_state_name(ot_run_state s);
ot_rc ot_run_state_parse(const char *s, ot_run_state *out, ot_error *err) OT_CHECKED;

typedef struct ot_run {
    int64_t id; /* given by insert */
    const char *app, *step;
    ot_run_state state;
    uint32_t attempt;   /* from 1 */
    const char *spec;   /* JSON: what was asked for */
    const char *result; /* JSON: how it ended; NULL until then */
    int64_t created_us; /* and below: 0 while it has not happened */
    int64_t started_us;
    int64_t ended_us;
    int64_t parent;       /* the run that this one repeats or belongs to; 0 for none */
    uint64_t trigger_seq; /* the event that led to it; 0 for none */
} ot_run;

/* Adds a row; `run->id` is ignored. */
ot_rc ot_store_run_insert(ot_txn *txn, const ot_run *run, int64_t *id_out,
                          ot_error *err) OT_CHECKED;
/* Replaces state, attempt, result, started_us and ended_us of run->id. OT_NOT_FOUND. */
ot_rc ot_store_run_update(ot_txn *txn, const ot_run *run, ot_error *err) OT_CHECKED;
ot_rc ot_store_run_get(ot_txn *txn, int64_t id, ot_arena *arena, ot_run *run_out,
                       ot_error *err) OT_CHECKED;

/* The first of the runs that tried the training that a run belongs to; a run that belongs to none
 * is its own. OT_NOT_FOUND. */
ot_rc ot_store_run_first(ot_txn *txn, int64_t id, int64_t *first_out, ot_error *err) OT_CHECKED;

/* How many there are in each state. */
ot_rc ot_store_run_counts(ot_txn *txn, int64_t counts_out[OT_RUN_STATE_COUNT_],
                          ot_error *err) OT_CHECKED;

/* Of the newest `limit` runs of a step: how many were created after `since_us`, and the earliest
 * time among those (0 without any). */
ot_rc ot_store_run_since(ot_txn *txn, const char *step, int64_t since_us, int64_t limit,
                         int64_t *n_out, int64_t *oldest_us_out, ot_error *err) OT_CHECKED;

typedef struct ot_run_filter {
    const char *app;   /* NULL: all */
    const char *step;  /* NULL: all */
    int state;         /* an ot_run_state, or -1: all */
    int64_t before_id; /* only ids below it; 0: from the newest */
    size_t limit;      /* 1..1000 */
} ot_run_filter;

/* Newest first. The next page starts at before_id = the last row's id. */
ot_rc ot_store_run_list(ot_txn *txn, const ot_run_filter *filter, ot_arena *arena,
                        ot_run **runs_out, size_t *n_out, ot_error *err) OT_CHECKED;

#endif
