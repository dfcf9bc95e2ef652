/* Windows, answers and labels, in the order and at the times in which they came. */
#include "simulate/world.h"

#include "base/mem.h"
#include "store/windows.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PAGE_WINDOWS 64
#define PAGE_BYTES (256u << 20)

/* A page of windows, copied: the rehearsal has transactions of its own. */
typedef struct page {
    ot_window_row rows[PAGE_WINDOWS];
    size_t n, at;
    int64_t after_id;
    bool end;
    ot_arena arena;
    const char *deployment;
} page;

typedef struct replay {
    world *w;
    page windows;
    size_t call, late;
} replay;

/* ---- windows */

static bool copy(ot_arena *arena, const void **p, size_t n)
{
    void *to = n > 0 ? ot_arena_alloc(arena, n) : NULL;
    if (to != NULL) {
        memcpy(to, *p, n);
    }
    *p = to;
    return n == 0 || to != NULL;
}

static ot_rc keep_window(void *arg, const ot_window_row *row, ot_error *err)
{
    page *p = arg;
    ot_window_row *w = &p->rows[p->n++];
    *w = *row;
    if (!copy(&p->arena, &w->latency, w->n_latency) || !copy(&p->arena, &w->inputs, w->n_inputs) ||
        !copy(&p->arena, &w->outputs, w->n_outputs)) {
        return ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory for windows");
    }
    p->after_id = row->id;
    return OT_OK;
}

static ot_rc read_page(ot_txn *txn, void *arg, ot_error *err)
{
    page *p = arg;
    return ot_windows_after(txn, p->deployment, p->after_id, PAGE_WINDOWS, keep_window, p, err);
}

static ot_rc need_window(replay *r, ot_error *err)
{
    page *p = &r->windows;
    if (p->at < p->n || p->end) {
        return OT_OK;
    }
    ot_arena_reset(&p->arena);
    p->n = p->at = 0;
    OT_TRY(ot_store_read(r->w->rec->store, read_page, p, err));
    p->end = p->n == 0;
    return OT_OK;
}

static int64_t window_time(const ot_window_row *row)
{
    return row->received_us != 0 ? row->received_us : row->end_us;
}

static ot_rc push_window(world *w, const ot_window_row *row, int64_t version, bool outputs,
                         ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str bin = OT_STR_INIT;
    size_t n_outputs = outputs ? row->n_outputs : 0;
    ot_str_add(&bin, row->inputs, row->n_inputs);
    ot_str_add(&bin, row->outputs, n_outputs);
    ot_str_add(&bin, row->latency, row->n_latency);
    ot_str_addf(&json,
                "{\"stream\":\"window\",\"seq\":%" PRIu64
                ",\"incarnation\":\"0000000000000001\",\"deployment\":\"%s\",\"model\":\"%s\","
                "\"version\":%" PRId64 ",\"role\":\"champion\",\"start_us\":%" PRId64
                ",\"length_us\":%" PRId64 ",\"requests\":%" PRId64 ",\"rows\":%" PRId64
                ",\"failed\":%" PRId64 ",\"latency\":{\"p50_us\":%.17g,\"p99_us\":%.17g},"
                "\"inputs_bytes\":%zu,\"outputs_bytes\":%zu,\"latency_bytes\":%zu}",
                ++w->pushed, w->rec->deployment, w->rec->app, version, row->start_us,
                row->end_us - row->start_us, row->requests, row->rows, row->failed, row->p50_us,
                row->p99_us, row->n_inputs, n_outputs, row->n_latency);
    if (json.failed || bin.failed) {
        return ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
    }
    return ot_pipeline_push(w->p, json.data, json.len, bin.data, bin.len, err);
}

/* What the champion saw is seen by the rehearsal's, if it has the cells that it was counted in;
 * what it answered only if it is the same version. */
static ot_rc feed_window(world *w, const ot_window_row *row, ot_error *err)
{
    const world_variants *v = world_variants_at(w, w->now_us);
    int32_t recorded = sim_version_find(w->rec, row->version);
    if (row->role != OT_WINDOW_CHAMPION || v == NULL || v->champion == 0 || recorded < 0) {
        return OT_OK;
    }
    const world_version *champion = &w->versions[v->champion - 1];
    bool same = champion->recorded == recorded;
    if (!same && row->start_us < v->from_us + WORLD_SETTLE_US) {
        return OT_OK; /* of the one before */
    }
    if (champion->bundle != recorded) {
        w->incomparable++;
        return OT_OK;
    }
    return push_window(w, row, v->champion, same, err);
}

/* ---- answers and labels */

/* Answers that were here before their labels. */
static ot_rc feed_early(world *w, const sim_call *c, ot_error *err)
{
    const recording *r = w->rec;
    for (size_t i = 0; i < c->n; i++) {
        const sim_row *x = &r->rows[r->order[c->first + i]];
        for (uint32_t k = 0; k < x->n; k++) {
            const sim_outcome *o = &r->outcomes[x->first + k];
            if (o->joined_us <= x->received_us) {
                OT_TRY(world_answer_row(w, o, err));
            }
        }
    }
    return world_flush(w, err);
}

static void name_row(const world *w, const sim_row *x, char id[48])
{
    snprintf(id, 48, "%016" PRIx64 "-%" PRIx64 "%s", x->incarnation, x->seq,
             w->app->serve.labels.join == OT_JOIN_KEY ? "" : "-1-1");
}

/* The labels of a call. Those that it had beside are ids of no row: how many came together decides
 * what each weighs. */
static ot_rc feed_call(world *w, const sim_call *c, ot_error *err)
{
    const recording *r = w->rec;
    size_t asked = (size_t)OT_MIN(c->asked, (int64_t)OT_LABELS_MAX);
    size_t n = OT_MAX(asked, c->n);
    OT_TRY(feed_early(w, c, err));
    ot_label_in *labels = ot_calloc(n, sizeof *labels);
    char(*ids)[48] = ot_calloc(n, sizeof *ids);
    ot_label_report report = {0};
    ot_rc rc = labels == NULL || ids == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory for %zu labels", n)
                   : OT_OK;
    for (size_t i = 0; rc == OT_OK && i < n; i++) {
        labels[i] = (ot_label_in){.id = "none", .source = "replay"};
        if (i < c->n) {
            const sim_row *x = &r->rows[r->order[c->first + i]];
            name_row(w, x, ids[i]);
            labels[i] = (ot_label_in){.id = ids[i],
                                      .value = x->label,
                                      .source = x->convenience ? "convenience" : "replay"};
        }
    }
    if (rc == OT_OK) {
        ot_error e = {0};
        rc = ot_pipeline_labels(w->p, r->deployment, labels, n, "rehearsal", &report, &e);
        /* Keys of rows that never came are known to nobody here either. */
        rc = rc == OT_OK || rc == OT_INVALID ? OT_OK : ot_fail(err, rc, "%s", e.msg);
    }
    ot_free(labels);
    ot_free(ids);
    return rc;
}

/* Answers that came together after their labels. */
static ot_rc feed_late(replay *r, ot_error *err)
{
    const recording *rec = r->w->rec;
    int64_t us = rec->outcomes[rec->late[r->late]].joined_us;
    while (r->late < rec->n_late && rec->outcomes[rec->late[r->late]].joined_us == us) {
        OT_TRY(world_answer_row(r->w, &rec->outcomes[rec->late[r->late++]], err));
    }
    return world_flush(r->w, err);
}

/* ---- in their order */

typedef enum source { WINDOW, CALL, LATE, NOTHING } source;

static source next_of(const replay *r, int64_t *us)
{
    const recording *rec = r->w->rec;
    const page *p = &r->windows;
    source s = NOTHING;
    *us = INT64_MAX;
    if (p->at < p->n) {
        *us = window_time(&p->rows[p->at]);
        s = WINDOW;
    }
    if (r->call < rec->n_calls && rec->calls[r->call].received_us < *us) {
        *us = rec->calls[r->call].received_us;
        s = CALL;
    }
    if (r->late < rec->n_late && rec->outcomes[rec->late[r->late]].joined_us < *us) {
        *us = rec->outcomes[rec->late[r->late]].joined_us;
        s = LATE;
    }
    return s;
}

static ot_rc feed(replay *r, source s, int64_t us, ot_error *err)
{
    world *w = r->w;
    OT_TRY(world_advance(w, us, err));
    switch (s) {
    case WINDOW:
        OT_TRY(feed_window(w, &r->windows.rows[r->windows.at++], err));
        break;
    case CALL:
        OT_TRY(feed_call(w, &w->rec->calls[r->call++], err));
        break;
    case LATE:
        OT_TRY(feed_late(r, err));
        break;
    case NOTHING:
        break;
    }
    return world_advance(w, us, err);
}

/* What came before the beginning is left out. */
static void skip(replay *r)
{
    const recording *rec = r->w->rec;
    while (r->call < rec->n_calls && rec->calls[r->call].received_us < r->w->now_us) {
        r->call++;
    }
    while (r->late < rec->n_late && rec->outcomes[rec->late[r->late]].joined_us < r->w->now_us) {
        r->late++;
    }
}

static ot_rc run(replay *r, int64_t until_us, ot_error *err)
{
    int64_t begin = r->w->now_us;
    skip(r);
    for (;;) {
        int64_t us;
        OT_TRY(need_window(r, err));
        source s = next_of(r, &us);
        if (s == NOTHING || us > until_us) {
            return world_advance(r->w, until_us, err);
        }
        if (s == WINDOW && us < begin) {
            r->windows.at++;
            continue;
        }
        OT_TRY(feed(r, s, us, err));
    }
}

ot_rc world_replay(world *w, int64_t until_us, ot_error *err)
{
    replay *r = ot_calloc(1, sizeof *r);
    if (r == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
    }
    r->w = w;
    r->windows.deployment = w->rec->deployment;
    ot_arena_init(&r->windows.arena, 1u << 20, PAGE_BYTES);
    ot_rc rc = run(r, until_us, err);
    ot_arena_done(&r->windows.arena);
    ot_free(r);
    return rc;
}
