/* Runs: their rows; their output is in stream.c. */
#include "api/internal.h"

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
    int64_t run;
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
    }
    ot_arena_done(&arena);
    return rc;
}

ot_rc api_run(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct get_arg g = {0};
    OT_TRY(api_number(c->name[0], "run", &g.run, err));
    OT_TRY(ot_store_read(a->store, get_txn, &g, err));
    return api_give(g.json, out, err);
}

ot_rc api_cancel(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    int64_t run = 0;
    OT_TRY(api_number(c->name[0], "run", &run, err));
    OT_TRY(ot_pipeline_cancel(a->pipeline, run, c->actor, err));
    return api_give(json_pack("{s:I}", "run", (json_int_t)run), out, err);
}
