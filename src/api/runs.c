/* Runs: their rows; their output is in stream.c. */
#include "api/internal.h"

#include "launch/job_state.h"
#include "launch/run.h"
#include "registry/checkpoint.h"
#include "store/runs.h"

#include <inttypes.h>
#include <stdio.h>

#define ARENA_MAX (64u << 20)

void api_run_dir(const api *a, int64_t run, char out[OT_PATH_MAX])
{
    snprintf(out, OT_PATH_MAX, "%s/runs/%" PRId64, a->opt->data_dir, run);
}

static json_t *or_null(int64_t x)
{
    return x != 0 ? json_integer(x) : json_null();
}

static json_t *run_json(const ot_run *r)
{
    json_t *result = r->result != NULL ? json_loads(r->result, 0, NULL) : NULL;
    return json_pack("{s:I,s:s,s:s,s:s,s:I,s:I,s:o,s:o,s:o,s:o,s:o}", "run", (json_int_t)r->id,
                     "app", r->app, "step", r->step, "state", ot_run_state_name(r->state),
                     "attempt", (json_int_t)r->attempt, "created_us", (json_int_t)r->created_us,
                     "started_us", or_null(r->started_us), "ended_us", or_null(r->ended_us),
                     "parent", or_null(r->parent), "trigger_seq", or_null((int64_t)r->trigger_seq),
                     "result", result != NULL ? result : json_null());
}

struct list_arg {
    ot_run_filter filter;
    json_t *list;
};

static ot_rc list_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct list_arg *l = arg;
    ot_arena arena;
    ot_run *runs = NULL;
    size_t n = 0;
    ot_arena_init(&arena, 16384, ARENA_MAX);
    ot_rc rc = ot_store_run_list(txn, &l->filter, &arena, &runs, &n, err);
    for (size_t i = 0; rc == OT_OK && i < n; i++) {
        json_array_append_new(l->list, run_json(&runs[i]));
    }
    ot_arena_done(&arena);
    return rc;
}

ot_rc api_runs(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    const ot_http_req *r = c->req;
    struct list_arg l = {.filter = {.state = -1}};
    int64_t limit = 100;
    OT_TRY(ot_query_text(r->query, "app", r->arena, 64, &l.filter.app, err));
    OT_TRY(ot_query_i64(r->query, "limit", r->arena, 1, 1000, &limit, err));
    OT_TRY(ot_query_i64(r->query, "before", r->arena, 0, INT64_MAX, &l.filter.before_id, err));
    l.filter.limit = (size_t)limit;
    l.list = json_array();
    ot_rc rc = ot_store_read(a->store, list_txn, &l, err);
    if (rc != OT_OK) {
        json_decref(l.list);
        return rc;
    }
    return api_give(json_pack("{s:o}", "runs", l.list), out, err);
}

struct get_arg {
    int64_t run, first; /* first: of its training */
    json_t *json;
};

static ot_rc get_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct get_arg *g = arg;
    ot_arena arena;
    ot_run run;
    ot_arena_init(&arena, 16384, ARENA_MAX);
    ot_rc rc = ot_store_run_get(txn, g->run, &arena, &run, err);
    if (rc == OT_OK) {
        g->json = run_json(&run);
        rc = ot_store_run_first(txn, g->run, &g->first, err);
    }
    ot_arena_done(&arena);
    return rc;
}

/* What a try of a training says that it went on from. */
static json_t *resumed_json(const api *a, int64_t first, int64_t run)
{
    char dir[OT_PATH_MAX], path[OT_PATH_MAX], hex[OT_DIGEST_HEX];
    ot_checkpoint_row c;
    api_run_dir(a, first, dir);
    if (ot_path_join(path, dir, OT_CHECKPOINTS_DIR, NULL) != OT_OK ||
        !ot_checkpoint_went_on(path, run, &c)) {
        return json_null();
    }
    return json_pack("{s:I,s:I,s:s}", "run", (json_int_t)c.run, "step", (json_int_t)c.step,
                     "checkpoint", ot_digest_hex(&c.bundle, hex));
}

/* How the ranks of a job go, or went; null for one process. */
static json_t *job_json(const api *a, int64_t run)
{
    char dir[OT_PATH_MAX], path[OT_PATH_MAX];
    api_run_dir(a, run, dir);
    json_t *job =
        ot_path_join(path, dir, OT_LAUNCH_JOB, NULL) == OT_OK ? ot_job_state_read(path) : NULL;
    return job != NULL ? job : json_null();
}

ot_rc api_run(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct get_arg g = {0};
    OT_TRY(api_number(c->name[0], "run", &g.run, err));
    ot_rc rc = ot_store_read(a->store, get_txn, &g, err);
    if (rc != OT_OK) {
        json_decref(g.json);
        return rc;
    }
    json_object_set_new(g.json, "job", job_json(a, g.run));
    json_object_set_new(g.json, "resumed_from", resumed_json(a, g.first, g.run));
    return api_give(g.json, out, err);
}

/* --- checkpoints ----------------------------------------------------------------------------- */

static ot_rc add_checkpoint(void *arg, const ot_checkpoint_row *c, ot_error *err)
{
    struct get_arg *g = arg;
    char hex[OT_DIGEST_HEX];
    (void)err;
    json_t *metrics = json_loads(c->metrics, 0, NULL);
    json_array_append_new(
        g->json,
        json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:o}", "checkpoint", ot_digest_hex(&c->bundle, hex),
                  "run", (json_int_t)c->run, "step", (json_int_t)c->step, "made_us",
                  (json_int_t)c->made_us, "size_bytes", (json_int_t)c->size_bytes, "files",
                  (json_int_t)c->files, "metrics", metrics != NULL ? metrics : json_object()));
    return OT_OK;
}

static ot_rc checkpoints_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct get_arg *g = arg;
    OT_TRY(ot_store_run_first(txn, g->run, &g->first, err));
    return ot_checkpoint_each(txn, g->first, add_checkpoint, g, err);
}

ot_rc api_checkpoints(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct get_arg g = {.json = json_array()};
    ot_rc rc = api_number(c->name[0], "run", &g.run, err);
    if (rc == OT_OK) {
        rc = ot_store_read(a->store, checkpoints_txn, &g, err);
    }
    if (rc != OT_OK) {
        json_decref(g.json);
        return rc;
    }
    return api_give(json_pack("{s:I,s:I,s:o}", "run", (json_int_t)g.run, "training",
                              (json_int_t)g.first, "checkpoints", g.json),
                    out, err);
}

ot_rc api_cancel(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    int64_t run = 0;
    OT_TRY(api_number(c->name[0], "run", &run, err));
    OT_TRY(ot_pipeline_cancel(a->pipeline, run, c->actor, err));
    return api_give(json_pack("{s:I}", "run", (json_int_t)run), out, err);
}
