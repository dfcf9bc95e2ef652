/* Which versions run in a worker process of their own: what the app says, else those that came
 * another way than by a training of ours. */
#include "pipeline/internal.h"

#include "store/runs.h"

#include <string.h>

struct origin_arg {
    const char *app;
    int64_t version;
    bool trained;
};

static ot_rc read_origin(ot_txn *txn, void *arg, ot_error *err)
{
    struct origin_arg *o = arg;
    ot_version_row row;
    ot_run run;
    ot_arena arena;
    OT_TRY(ot_version_get(txn, o->app, o->version, &row, err));
    if (row.run == 0) {
        return OT_OK; /* another server's */
    }
    ot_arena_init(&arena, 4096, 4u << 20);
    ot_rc rc = ot_store_run_get(txn, row.run, &arena, &run, err);
    /* What a person brought begins with a run too: the one that packed it. */
    o->trained = rc == OT_OK && strcmp(run.step, "train") == 0;
    ot_arena_done(&arena);
    return rc;
}

static const char *choose(const pl_app *a, bool trained)
{
    int m = a->app->serve.isolation;
    bool apart = m == OT_ISOLATION_AUTO ? !trained : m == OT_ISOLATION_PROCESS;
    return apart ? "process" : "none";
}

const char *pl_isolation_of(const pl_app *a, int64_t version)
{
    struct origin_arg o = {.app = a->app->app, .version = version};
    bool asks = a->app->serve.isolation == OT_ISOLATION_AUTO;
    return choose(a,
                  asks && ot_store_read(a->p->store, read_origin, &o, NULL) == OT_OK && o.trained);
}

const char *pl_isolation_of_new(const pl_app *a)
{
    return choose(a, !a->st.cycle.pushed);
}
