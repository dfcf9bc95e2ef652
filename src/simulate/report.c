#include "simulate/report.h"

#include "base/mem.h"
#include "store/events.h"
#include "store/windows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_EVENTS 5000
/* An accuracy is told of so many rows: fewer would be below an objective by chance too often. */
#define PIECE_ROWS 100

/* ---- the log */

/* Why nothing happens by itself. */
enum { BY_PEOPLE, BY_TRIGGER, BY_BUDGET, HOLDS };

typedef struct count {
    const char *app;
    sim_span span;
    int64_t drift, at_risk, degraded, retrains, promotions, rollbacks, refused, failures;
    bool held[HOLDS];
    int64_t held_since_us, held_us; /* without automation */
    json_t *events;
    uint64_t last;
    size_t page;
} count;

static bool is_held(const count *c)
{
    return c->held[BY_PEOPLE] || c->held[BY_TRIGGER] || c->held[BY_BUDGET];
}

static void add_hold(count *c, int64_t until_us)
{
    int64_t from = OT_MAX(c->held_since_us, c->span.from_us);
    c->held_us += OT_MAX(OT_MIN(until_us, c->span.to_us) - from, 0);
}

static int64_t *counter_of(count *c, const char *type)
{
    const struct {
        const char *type;
        int64_t *n;
    } counted[] = {
        {"drift.detected", &c->drift},        {"quality.at_risk", &c->at_risk},
        {"quality.degraded", &c->degraded},   {"trigger.fired", &c->retrains},
        {"version.promoted", &c->promotions}, {"version.rolled_back", &c->rollbacks},
        {"gate.refused", &c->refused},        {"release.stopped", &c->refused},
        {"cycle.failed", &c->failures},
    };
    for (size_t i = 0; i < OT_COUNT(counted); i++) {
        if (strcmp(type, counted[i].type) == 0) {
            return counted[i].n;
        }
    }
    return NULL;
}

/* The loop was stopped, held a trigger back, or had spent a budget: until it went on. */
static void note_hold(count *c, const ot_event *e)
{
    static const struct {
        const char *type;
        int why, change; /* 0: over */
    } marks[] = {
        {"loop.paused", BY_PEOPLE, 1},       {"loop.frozen", BY_PEOPLE, 1},
        {"loop.pinned", BY_PEOPLE, 1},       {"loop.resumed", BY_PEOPLE, 0},
        {"trigger.held", BY_TRIGGER, 1},     {"trigger.fired", BY_TRIGGER, 0},
        {"version.promoted", BY_TRIGGER, 0}, {"budget.spent", BY_BUDGET, 1},
        {"budget.restored", BY_BUDGET, 0},
    };
    bool was = is_held(c);
    for (size_t i = 0; i < OT_COUNT(marks); i++) {
        if (strcmp(e->type, marks[i].type) == 0) {
            c->held[marks[i].why] = marks[i].change != 0;
        }
    }
    if (!was && is_held(c)) {
        c->held_since_us = e->time_us;
    } else if (was && !is_held(c)) {
        add_hold(c, e->time_us);
    }
}

static bool is_data(const char *type)
{
    return ot_has_suffix(type, ".received");
}

static void list_event(count *c, const ot_event *e)
{
    json_t *payload = e->payload != NULL ? json_loads(e->payload, 0, NULL) : NULL;
    json_t *text = json_object_get(payload, "text");
    json_array_append_new(c->events,
                          json_pack("{s:I,s:s,s:s,s:O}", "time_us", (json_int_t)e->time_us, "type",
                                    e->type, "object", e->object, "text",
                                    text != NULL ? text : json_null()));
    json_decref(payload);
}

static ot_rc see_event(void *arg, const ot_event *e, ot_error *err)
{
    count *c = arg;
    (void)err;
    c->last = e->seq;
    c->page++;
    if (strcmp(e->scope, c->app) != 0) {
        return OT_OK;
    }
    note_hold(c, e);
    if (e->time_us <= c->span.from_us || e->time_us > c->span.to_us) {
        return OT_OK;
    }
    int64_t *n = counter_of(c, e->type);
    if (n != NULL) {
        (*n)++;
    }
    if (c->events != NULL && !is_data(e->type)) {
        list_event(c, e);
    }
    return OT_OK;
}

static ot_rc read_log(ot_txn *txn, void *arg, ot_error *err)
{
    count *c = arg;
    do {
        ot_event_query q = {.after_seq = c->last, .limit = PAGE_EVENTS};
        c->page = 0;
        OT_TRY(ot_events_read(txn, &q, see_event, c, err));
    } while (c->page == PAGE_EVENTS);
    return OT_OK;
}

ot_rc sim_count_log(ot_store *store, const char *app, sim_span span, json_t *into, json_t *events,
                    ot_error *err)
{
    count c = {.app = app, .span = span, .events = events};
    OT_TRY(ot_store_read(store, read_log, &c, err));
    if (is_held(&c)) {
        add_hold(&c, span.to_us);
    }
    json_object_set_new(into, "alarms",
                        json_pack("{s:I,s:I,s:I}", "drift", (json_int_t)c.drift, "at_risk",
                                  (json_int_t)c.at_risk, "degraded", (json_int_t)c.degraded));
    json_object_set_new(into, "retrains", json_integer(c.retrains));
    json_object_set_new(into, "promotions", json_integer(c.promotions));
    json_object_set_new(into, "rollbacks", json_integer(c.rollbacks));
    json_object_set_new(into, "refused", json_integer(c.refused));
    json_object_set_new(into, "failures", json_integer(c.failures));
    json_object_set_new(into, "held_us", json_integer(c.held_us));
    return OT_OK;
}

/* ---- accuracy */

static int by_time(const void *a, const void *b)
{
    const world_answer *x = a, *y = b;
    if (x->time_us != y->time_us) {
        return x->time_us < y->time_us ? -1 : 1;
    }
    return (int)x->right - (int)y->right;
}

void sim_sort_answers(world_answer *answers, size_t n)
{
    if (n > 0) {
        qsort(answers, n, sizeof *answers, by_time);
    }
}

/* Time of the pieces of PIECE_ROWS rows, each up to where the next begins, that have fewer right
 * answers than the objective asks for. The last piece takes what is left over. */
static int64_t below_accuracy(const world_answer *a, size_t n, double at_least, sim_span span)
{
    int64_t below = 0;
    for (size_t i = 0, end; i < n; i = end) {
        end = n - i < (size_t)2 * PIECE_ROWS ? n : i + PIECE_ROWS;
        size_t right = 0;
        for (size_t k = i; k < end; k++) {
            right += a[k].right;
        }
        if ((double)right < at_least * (double)(end - i)) {
            below += (end < n ? a[end].time_us : span.to_us) - a[i].time_us;
        }
    }
    return below;
}

/* ---- what windows tell */

typedef struct spells {
    const ot_app *app;
    int64_t slow_us, slow_until, failed_us, failed_until;
} spells;

/* Adds what an interval has beyond those before it, which began no later. */
static void add_spell(int64_t *sum, int64_t *until, int64_t from, int64_t to)
{
    *sum += OT_MAX(to - OT_MAX(from, *until), 0);
    *until = OT_MAX(*until, to);
}

static ot_rc see_window(void *arg, const ot_window_row *w, ot_error *err)
{
    spells *s = arg;
    (void)err;
    const ot_app_objectives *o = &s->app->objectives;
    if (w->role == OT_WINDOW_SHADOW || w->requests == 0) {
        return OT_OK;
    }
    if (w->p99_us > (double)o->latency_p99.at_most_us) {
        add_spell(&s->slow_us, &s->slow_until, w->start_us, w->end_us);
    }
    if ((double)(w->requests - w->failed) < o->availability.at_least * (double)w->requests) {
        add_spell(&s->failed_us, &s->failed_until, w->start_us, w->end_us);
    }
    return OT_OK;
}

typedef struct look {
    const recording *r;
    sim_span span;
    spells s;
} look;

static ot_rc look_at_windows(ot_txn *txn, void *arg, ot_error *err)
{
    look *l = arg;
    return ot_windows_ended(txn, l->r->deployment, l->span.from_us, l->span.to_us + 1, see_window,
                            &l->s, err);
}

static void set_below(json_t *into, const char *name, bool is_set, int64_t us)
{
    json_object_set_new(into, name, is_set ? json_integer(us) : json_null());
}

ot_rc sim_count_below(const recording *r, const ot_app *app, const world_answer *answers, size_t n,
                      sim_span span, json_t *into, ot_error *err)
{
    const ot_app_objectives *o = &app->objectives;
    look l = {.r = r, .span = span, .s = {.app = app}};
    size_t first = 0;
    while (first < n && answers[first].time_us < span.from_us) {
        first++;
    }
    while (n > first && answers[n - 1].time_us > span.to_us) {
        n--;
    }
    OT_TRY(ot_store_read(r->store, look_at_windows, &l, err));
    json_t *below = json_object();
    set_below(below, "accuracy", o->accuracy.mark.line != 0 && n > first,
              below_accuracy(answers + first, n - first, o->accuracy.at_least, span));
    set_below(below, "latency_p99", o->latency_p99.mark.line != 0, l.s.slow_us);
    set_below(below, "availability", o->availability.mark.line != 0, l.s.failed_us);
    json_object_set_new(into, "below_us", below);
    json_object_set_new(into, "labels", json_integer((json_int_t)(n - first)));
    size_t right = 0;
    for (size_t i = first; i < n; i++) {
        right += answers[i].right;
    }
    json_object_set_new(into, "accuracy",
                        n > first ? json_real((double)right / (double)(n - first)) : json_null());
    return OT_OK;
}
