/* Why: the log walked backwards from an event, along the `because` of each. */
#include "pipeline/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WHY_STEPS_MAX 64

typedef struct found {
    uint64_t seq;
    char type[64], object[128];
    int64_t time_us;
    char actor[65];
    json_t *payload;
} found;

static ot_rc keep(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    found *f = arg;
    json_decref(f->payload);
    f->seq = e->seq;
    f->time_us = e->time_us;
    snprintf(f->type, sizeof f->type, "%s", e->type);
    snprintf(f->object, sizeof f->object, "%s", e->object);
    snprintf(f->actor, sizeof f->actor, "%s", e->actor);
    f->payload = e->payload != NULL ? json_loads(e->payload, 0, NULL) : NULL;
    return OT_OK;
}

typedef struct walk_arg {
    const char *app;
    int64_t version; /* 0: what serves */
    int64_t champion;
    uint64_t champion_seq; /* the event that put it there */
    json_t *chain;
    ot_str text;
    int64_t about; /* the version that the answer is about */
} walk_arg;

static void add_step(walk_arg *w, const found *f)
{
    const char *text = json_string_value(json_object_get(f->payload, "text"));
    char fallback[220];
    if (text == NULL) {
        snprintf(fallback, sizeof fallback, "%s %s", f->type, f->object);
        text = fallback;
    }
    json_array_append_new(w->chain,
                          json_pack("{s:I,s:I,s:s,s:s,s:s,s:s}", "seq", (json_int_t)f->seq,
                                    "time_us", (json_int_t)f->time_us, "type", f->type, "object",
                                    f->object, "actor", f->actor, "text", text));
    ot_str_addf(&w->text, "%s%s", w->text.len > 0 ? " <- " : "", text);
}

/* Breadth first over the causes, each event once: an event may have several. */
static ot_rc walk_back(ot_txn *txn, walk_arg *w, uint64_t from, ot_error *err)
{
    uint64_t queue[WHY_STEPS_MAX];
    size_t head = 0, n = 0;
    queue[n++] = from;
    while (head < n) {
        found f = {0};
        ot_rc rc = ot_event_get(txn, queue[head++], keep, &f, err);
        if (rc != OT_OK) {
            json_decref(f.payload);
            return rc == OT_NOT_FOUND ? OT_OK : rc;
        }
        add_step(w, &f);
        const json_t *because = json_object_get(f.payload, "because");
        for (size_t i = 0; i < json_array_size(because) && n < WHY_STEPS_MAX; i++) {
            uint64_t seq = (uint64_t)json_integer_value(json_array_get(because, i));
            bool seen = seq == 0;
            for (size_t k = 0; k < n; k++) {
                seen = seen || queue[k] == seq;
            }
            if (!seen) {
                queue[n++] = seq;
            }
        }
        json_decref(f.payload);
    }
    return OT_OK;
}

/* The newest event about a version; 0 without one. */
static ot_rc last_about(ot_txn *txn, const walk_arg *w, uint64_t *seq_out, ot_error *err)
{
    char object[OT_OBJECT_TEXT];
    found f = {0};
    ot_event_query q = {
        .object = ot_registry_object(object, w->app, w->about), .newest_first = true, .limit = 1};
    ot_rc rc = ot_events_read(txn, &q, keep, &f, err);
    json_decref(f.payload);
    *seq_out = f.seq;
    return rc;
}

static ot_rc why_txn(ot_txn *txn, void *arg, ot_error *err)
{
    walk_arg *w = arg;
    w->about = w->version > 0 ? w->version : w->champion;
    if (w->about == 0) {
        return ot_fail(err, OT_PRECONDITION, "app %s: no version serves yet", w->app);
    }
    ot_version_row row;
    OT_TRY(ot_version_get(txn, w->app, w->about, &row, err));
    /* What was replaced does not serve for the reason that put another one there. */
    uint64_t from =
        w->about == w->champion || row.status == OT_VERSION_RETIRED ? w->champion_seq : 0;
    if (from == 0) {
        OT_TRY(last_about(txn, w, &from, err));
    }
    if (from == 0) {
        return ot_fail(err, OT_NOT_FOUND, "app %s: the log knows nothing of v%" PRId64, w->app,
                       w->about);
    }
    return walk_back(txn, w, from, err);
}

ot_rc ot_pipeline_why(ot_pipeline *p, const char *app, int64_t version, ot_str *json_out,
                      ot_error *err)
{
    pl_app *a = pl_app_find(p, app);
    if (a == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "app '%.64s' is not here", app);
    }
    walk_arg w = {.app = a->app->app,
                  .version = version,
                  .champion = a->st.champion,
                  .champion_seq = a->st.champion_seq,
                  .chain = json_array(),
                  .text = OT_STR_INIT};
    ot_rc rc = ot_store_read(p->store, why_txn, &w, err);
    if (rc == OT_OK) {
        OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
        bool serves = w.about == a->st.champion;
        ot_str_addf(&text, "v%" PRId64 " %s because %s", w.about,
                    serves ? "serves" : "does not serve", w.text.data);
        json_t *j = json_pack("{s:s,s:I,s:b,s:s,s:O}", "app", w.app, "version", (json_int_t)w.about,
                              "serves", serves, "text", text.data, "chain", w.chain);
        char *dump = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
        json_decref(j);
        if (dump != NULL) {
            ot_str_adds(json_out, dump);
        } else {
            rc = ot_fail(err, OT_EXHAUSTED, "no memory for the answer");
        }
        free(dump);
    }
    json_decref(w.chain);
    ot_str_done(&w.text);
    return rc;
}
