/* The state of an app: saved as one JSON value with the events of each change. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/kv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STATE_SCHEMA 1
#define AGAIN_US 1000000

static const char *const cycle_names[] = {"idle",        "training",   "packaging",
                                          "registering", "evaluating", "releasing"};

const char *pl_step_name(pl_step s)
{
    static const char *const names[] = {"train", "package", "evaluate"};
    return names[s];
}

const char *pl_cycle_state_name(pl_cycle_state s)
{
    return cycle_names[s];
}

json_t *pl_text(const char *fmt, ...)
{
    char text[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_t *j = json_object();
    json_object_set_new(j, "text", pl_json_text(text, strlen(text)));
    return j;
}

json_t *pl_json_text(const char *s, size_t n)
{
    json_t *plain = json_stringn(s, n);
    if (plain != NULL) {
        return plain;
    }
    OT_AUTO(ot_str_done) ot_str quoted = OT_STR_INIT;
    ot_str_addc(&quoted, '"');
    ot_str_add_json(&quoted, s, n);
    ot_str_addc(&quoted, '"');
    return quoted.failed ? NULL : json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY, NULL);
}

char *pl_object_app(const pl_app *a, char out[96])
{
    snprintf(out, 96, "app/%s", a->app->app);
    return out;
}

/* ------------------------------------------------------------------ to and from JSON */

/* The plain members, so that writing and reading cannot drift apart. */
typedef enum kind { K_BOOL, K_INT, K_SEQ, K_TEXT, K_DIGEST } kind;
typedef struct member {
    const char *key;
    kind kind;
    size_t offset, size;
} member;

#define M(struct_, member_, kind_)                                                                 \
    {                                                                                              \
#member_, kind_, offsetof(struct_, member_), sizeof(((struct_ *)0)->member_)               \
    }

static const member state_members[] = {
    M(pl_state, paused, K_BOOL),
    M(pl_state, frozen, K_BOOL),
    M(pl_state, held_by, K_TEXT),
    M(pl_state, held_reason, K_TEXT),
    M(pl_state, frozen_us, K_INT),
    M(pl_state, pinned, K_INT),
    M(pl_state, champion, K_INT),
    M(pl_state, previous, K_INT),
    M(pl_state, champion_bundle, K_DIGEST),
    M(pl_state, previous_bundle, K_DIGEST),
    M(pl_state, champion_since_us, K_INT),
    M(pl_state, champion_seq, K_SEQ),
    M(pl_state, armed, K_BOOL),
    M(pl_state, failures, K_INT),
    M(pl_state, cool_until_us, K_INT),
    M(pl_state, labels_at_training, K_INT),
    M(pl_state, degraded, K_BOOL),
    M(pl_state, at_risk, K_BOOL),
    M(pl_state, drift, K_BOOL),
    M(pl_state, degraded_seq, K_SEQ),
    M(pl_state, at_risk_seq, K_SEQ),
    M(pl_state, drift_seq, K_SEQ),
    M(pl_state, hold_told, K_BOOL),
    M(pl_state, site_refused, K_TEXT),
    M(pl_state, cycles, K_INT),
    M(pl_state, code, K_DIGEST),
    M(pl_state, unloaded, K_BOOL),
    M(pl_state, unloaded_by, K_TEXT),
};
static const member cycle_members[] = {
    M(pl_cycle, number, K_INT),        M(pl_cycle, pushed, K_BOOL),
    M(pl_cycle, by_person, K_BOOL),    M(pl_cycle, path, K_TEXT),
    M(pl_cycle, train_run, K_INT),     M(pl_cycle, run, K_INT),
    M(pl_cycle, run_phase, K_INT),     M(pl_cycle, attempt, K_INT),
    M(pl_cycle, version, K_INT),       M(pl_cycle, bundle, K_DIGEST),
    M(pl_cycle, last_seq, K_SEQ),      M(pl_cycle, watch_since_us, K_INT),
    M(pl_cycle, caused_us, K_INT),     M(pl_cycle, trained_us, K_INT),
    M(pl_cycle, registered_us, K_INT), M(pl_cycle, evaluated_us, K_INT),
    M(pl_cycle, released_us, K_INT),   M(pl_cycle, promoted_us, K_INT),
    M(pl_cycle, train_us, K_INT),      M(pl_cycle, jobs_us, K_INT),
    M(pl_cycle, waits, K_TEXT),        M(pl_cycle, queued_us, K_INT),
    M(pl_cycle, held_told, K_BOOL),    M(pl_cycle, first_run, K_INT),
};
static const member budget_members[] = {
    M(pl_budget, rule, K_INT),       M(pl_budget, burning_seq, K_SEQ), M(pl_budget, spent, K_BOOL),
    M(pl_budget, spent_seq, K_SEQ),  M(pl_budget, off, K_BOOL),        M(pl_budget, off_us, K_INT),
    M(pl_budget, granted_us, K_INT),
};
static const member rollout_members[] = {
    M(ot_rollout, promoted, K_BOOL),
    M(ot_rollout, entered_us, K_INT),
    M(ot_rollout, reason, K_TEXT),
};
static const member step_members[] = {
    M(ot_rollout_step, until_compared, K_INT),
    M(ot_rollout_step, at_most_us, K_INT),
    M(ot_rollout_step, roll_back_if_worse, K_BOOL),
};
static const member data_members[] = {
    M(pl_data, name, K_TEXT),
    M(pl_data, digest, K_DIGEST),
    M(pl_data, rows, K_INT),
};

static json_t *member_json(const member *m, const void *from)
{
    const void *p = (const char *)from + m->offset;
    char hex[OT_DIGEST_HEX];
    switch (m->kind) {
    case K_BOOL:
        return json_boolean(*(const bool *)p);
    case K_INT:
        return json_integer(*(const int64_t *)p);
    case K_SEQ:
        return json_integer((json_int_t) * (const uint64_t *)p);
    case K_TEXT:
        return pl_json_text(p, strlen(p));
    case K_DIGEST:
        return json_string(ot_digest_hex(p, hex));
    }
    return NULL;
}

static json_t *members_json(const member *m, size_t n, const void *from)
{
    json_t *j = json_object();
    for (size_t i = 0; i < n; i++) {
        json_object_set_new(j, m[i].key, member_json(&m[i], from));
    }
    return j;
}

static bool member_parse(const member *m, const json_t *v, void *into)
{
    char *p = (char *)into + m->offset;
    switch (m->kind) {
    case K_BOOL:
        *(bool *)p = json_is_true(v);
        return json_is_boolean(v);
    case K_INT:
        *(int64_t *)(void *)p = json_integer_value(v);
        return json_is_integer(v);
    case K_SEQ:
        *(uint64_t *)(void *)p = (uint64_t)json_integer_value(v);
        return json_is_integer(v);
    case K_TEXT:
        if (!json_is_string(v) || json_string_length(v) >= m->size) {
            return false;
        }
        memcpy(p, json_string_value(v), json_string_length(v) + 1);
        return true;
    case K_DIGEST:
        return json_is_string(v) && ot_digest_parse(json_string_value(v), (ot_digest *)(void *)p);
    }
    return false;
}

/* A member that an older version did not write keeps its zero. */
static ot_rc members_parse(const member *m, size_t n, const json_t *j, void *into, ot_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(j, m[i].key);
        if (v != NULL && !member_parse(&m[i], v, into)) {
            return ot_fail(err, OT_DATA_LOSS, "saved state: '%s' is not what was written",
                           m[i].key);
        }
    }
    return OT_OK;
}

#define MEMBERS(table) (table), OT_COUNT(table)

static json_t *rollout_json(const ot_rollout *r)
{
    json_t *j = members_json(MEMBERS(rollout_members), r);
    json_object_set_new(j, "at", json_integer((json_int_t)r->at));
    json_object_set_new(j, "state", json_integer((json_int_t)r->state));
    json_t *steps = json_array();
    for (size_t i = 0; i < r->n_steps; i++) {
        const ot_rollout_step *s = &r->steps[i];
        json_t *x = members_json(MEMBERS(step_members), s);
        json_object_set_new(x, "kind", json_integer((json_int_t)s->kind));
        json_object_set_new(x, "otherwise", json_integer((json_int_t)s->otherwise));
        json_object_set_new(x, "share", json_real(s->share));
        json_object_set_new(x, "margin", json_real(s->margin));
        json_object_set_new(x, "alpha", json_real(s->alpha));
        json_array_append_new(steps, x);
    }
    json_object_set_new(j, "steps", steps);
    return j;
}

static ot_rc rollout_parse(const json_t *j, ot_rollout *r, ot_error *err)
{
    OT_TRY(members_parse(MEMBERS(rollout_members), j, r, err));
    const json_t *steps = json_object_get(j, "steps");
    r->n_steps = json_array_size(steps);
    r->at = (size_t)json_integer_value(json_object_get(j, "at"));
    r->state = (ot_rollout_state)json_integer_value(json_object_get(j, "state"));
    if (r->n_steps > OT_ROLLOUT_STEPS_MAX || r->at > r->n_steps ||
        r->state > OT_ROLLOUT_ROLLED_BACK ||
        (r->state == OT_ROLLOUT_RUNNING && r->at == r->n_steps && r->n_steps > 0)) {
        return ot_fail(err, OT_DATA_LOSS, "saved state: the release's steps are damaged");
    }
    for (size_t i = 0; i < r->n_steps; i++) {
        const json_t *x = json_array_get(steps, i);
        ot_rollout_step *s = &r->steps[i];
        OT_TRY(members_parse(MEMBERS(step_members), x, s, err));
        s->kind = (ot_rollout_kind)json_integer_value(json_object_get(x, "kind"));
        s->otherwise = (ot_rollout_end)json_integer_value(json_object_get(x, "otherwise"));
        s->share = json_number_value(json_object_get(x, "share"));
        s->margin = json_number_value(json_object_get(x, "margin"));
        s->alpha = json_number_value(json_object_get(x, "alpha"));
        if (s->kind > OT_ROLLOUT_BLUE_GREEN || s->otherwise > OT_ROLLOUT_END_CONTINUE) {
            return ot_fail(err, OT_DATA_LOSS, "saved state: step %zu is damaged", i);
        }
    }
    return OT_OK;
}

json_t *pl_state_json(const pl_state *s)
{
    json_t *j = members_json(MEMBERS(state_members), s);
    json_object_set_new(j, "schema", json_integer(STATE_SCHEMA));
    json_t *fired = json_array();
    for (int64_t i = 0; i < s->n_fired; i++) {
        json_array_append_new(fired, json_integer(s->fired_us[i]));
    }
    json_object_set_new(j, "fired_us", fired);
    json_t *budgets = json_object();
    for (pl_objective o = 0; o < PL_OBJECTIVES; o++) {
        json_object_set_new(budgets, pl_objective_name(o),
                            members_json(MEMBERS(budget_members), &s->budgets[o]));
    }
    json_object_set_new(j, "budgets", budgets);
    json_object_set_new(j, "arms", pl_arms_json(s));
    json_object_set_new(j, "labels", pl_labels_json(s));
    json_t *c = members_json(MEMBERS(cycle_members), &s->cycle);
    json_object_set_new(c, "state", json_string(pl_cycle_state_name(s->cycle.state)));
    json_t *data = json_array();
    for (int64_t i = 0; i < s->cycle.n_data; i++) {
        json_array_append_new(data, members_json(MEMBERS(data_members), &s->cycle.data[i]));
    }
    json_object_set_new(c, "data", data);
    json_object_set_new(c, "rollout", rollout_json(&s->cycle.rollout));
    json_object_set_new(j, "cycle", c);
    return j;
}

static ot_rc cycle_parse(const json_t *j, pl_cycle *c, ot_error *err)
{
    OT_TRY(members_parse(MEMBERS(cycle_members), j, c, err));
    const char *name = json_string_value(json_object_get(j, "state"));
    bool known = false;
    for (size_t i = 0; i < OT_COUNT(cycle_names) && name != NULL; i++) {
        if (strcmp(name, cycle_names[i]) == 0) {
            c->state = (pl_cycle_state)i;
            known = true;
        }
    }
    const json_t *data = json_object_get(j, "data");
    c->n_data = (int64_t)json_array_size(data);
    if (!known || c->n_data > OT_APP_DATA_MAX) {
        return ot_fail(err, OT_DATA_LOSS, "saved state: the cycle is damaged");
    }
    for (int64_t i = 0; i < c->n_data; i++) {
        OT_TRY(members_parse(MEMBERS(data_members), json_array_get(data, (size_t)i), &c->data[i],
                             err));
    }
    return rollout_parse(json_object_get(j, "rollout"), &c->rollout, err);
}

/* An older version had none. */
static ot_rc budgets_parse(const json_t *j, pl_budget *out, ot_error *err)
{
    for (pl_objective o = 0; o < PL_OBJECTIVES; o++) {
        const json_t *b = json_object_get(j, pl_objective_name(o));
        OT_TRY(members_parse(MEMBERS(budget_members), b, &out[o], err));
        if (out[o].rule < 0 || out[o].rule > OT_BUDGET_RULES) {
            return ot_fail(err, OT_DATA_LOSS, "saved state: the budget of %s is damaged",
                           pl_objective_name(o));
        }
    }
    return OT_OK;
}

ot_rc pl_state_parse(const json_t *j, pl_state *out, ot_error *err)
{
    pl_state s = {0};
    if (json_integer_value(json_object_get(j, "schema")) > STATE_SCHEMA) {
        return ot_fail(err, OT_PRECONDITION,
                       "saved state is of a newer version of overtake; start that one");
    }
    OT_TRY(members_parse(MEMBERS(state_members), j, &s, err));
    const json_t *fired = json_object_get(j, "fired_us");
    s.n_fired = (int64_t)OT_MIN(json_array_size(fired), (size_t)PL_FIRED_MAX);
    for (int64_t i = 0; i < s.n_fired; i++) {
        s.fired_us[i] = json_integer_value(json_array_get(fired, (size_t)i));
    }
    OT_TRY(budgets_parse(json_object_get(j, "budgets"), s.budgets, err));
    OT_TRY(pl_arms_parse(json_object_get(j, "arms"), json_object_get(j, "labels"), &s, err));
    OT_TRY(cycle_parse(json_object_get(j, "cycle"), &s.cycle, err));
    *out = s;
    return OT_OK;
}

/* ------------------------------------------------------------------ changes */

pl_change pl_change_of(pl_app *a)
{
    return (pl_change){.app = a, .next = a->st};
}

pl_event *pl_change_event(pl_change *c, const char *type, const char *object, json_t *payload)
{
    assert(c->n_events < PL_EVENTS_MAX);
    pl_event *e = &c->events[c->n_events++];
    *e = (pl_event){.type = type, .payload = payload};
    snprintf(e->object, sizeof e->object, "%s", object);
    return e;
}

void pl_change_drop(pl_change *c)
{
    for (size_t i = 0; i < c->n_events; i++) {
        json_decref(c->events[i].payload);
        c->events[i].payload = NULL;
    }
    c->n_events = 0;
}

static ot_rc append_event(ot_txn *txn, pl_change *c, size_t i, uint64_t before, ot_error *err)
{
    pl_event *e = &c->events[i];
    json_t *payload = e->payload != NULL ? json_copy(e->payload) : json_object();
    json_t *because = json_array();
    for (size_t k = 0; k < e->n_because; k++) {
        json_array_append_new(because, json_integer((json_int_t)e->because[k]));
    }
    if (e->n_because == 0 && before != 0 && !e->aside) {
        json_array_append_new(because, json_integer((json_int_t)before));
    }
    json_object_set_new(payload, "because", because);
    char *text = json_dumps(payload, JSON_COMPACT);
    json_decref(payload);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "event %s: no memory", e->type);
    }
    ot_event_in in = {.actor = e->actor != NULL ? e->actor : "overtake",
                      .role = e->role != NULL    ? e->role
                              : e->actor != NULL ? "person"
                                                 : "automation",
                      .scope = c->app->app->app,
                      .type = e->type,
                      .object = e->object,
                      .payload = text};
    ot_rc rc = ot_event_append(txn, &in, &c->seqs[i], err);
    free(text);
    return rc;
}

static ot_rc save_state(ot_txn *txn, const pl_app *a, const pl_state *s, ot_error *err)
{
    json_t *j = pl_state_json(s);
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "app %s: no memory to save its state", a->app->app);
    }
    ot_rc rc = ot_kv_set(txn, "app.state", a->app->app, text, strlen(text), err);
    free(text);
    return rc;
}

static ot_rc commit_txn(ot_txn *txn, void *arg, ot_error *err)
{
    pl_change *c = arg;
    if (c->extra != NULL) {
        OT_TRY(c->extra(txn, c->arg, &c->next, err));
    }
    uint64_t last = c->next.cycle.last_seq;
    for (size_t i = 0; i < c->n_events; i++) {
        OT_TRY(append_event(txn, c, i, last, err));
        last = c->events[i].aside ? last : c->seqs[i];
        if (c->events[i].keep_seq != NULL) {
            *c->events[i].keep_seq = c->seqs[i];
        }
    }
    c->next.cycle.last_seq = last;
    if (c->champion_event > 0) {
        c->next.champion_seq = c->seqs[c->champion_event - 1];
    }
    return save_state(txn, c->app, &c->next, err);
}

struct alert_ask {
    const char *app;
    uint64_t seq;
    char *text;
};

static ot_rc alert_text(void *arg, const ot_event *e, ot_error *err)
{
    struct alert_ask *ask = arg;
    json_t *payload = e->payload != NULL ? json_loads(e->payload, 0, NULL) : json_null();
    json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:I,s:o?}", "app", ask->app, "type", e->type, "object",
                          e->object, "event", (json_int_t)e->seq, "time_us", (json_int_t)e->time_us,
                          "payload", payload);
    ask->text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return ask->text != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for an alert");
}

static ot_rc alert_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct alert_ask *ask = arg;
    return ot_event_get(txn, ask->seq, alert_text, ask, err);
}

void pl_alert(const pl_app *a, uint64_t seq)
{
    const char *url = a->app->alerts.webhook;
    struct alert_ask ask = {.app = a->app->app, .seq = seq};
    ot_error err = {0};
    if (url == NULL || url[0] == 0 || a->p->ports.alert == NULL) {
        return;
    }
    if (ot_store_read(a->p->store, alert_txn, &ask, &err) == OT_OK) {
        a->p->ports.alert(a->p->ports.self, url, ask.text);
    } else {
        ot_err("pipeline", "app %s: event %" PRIu64 " was not sent as an alert: %s", a->app->app,
               seq, err.msg);
    }
    free(ask.text);
}

ot_rc pl_commit(pl_change *c, ot_error *err)
{
    ot_rc rc = ot_store_write(c->app->p->store, commit_txn, c, err);
    if (rc == OT_OK) {
        c->app->st = c->next;
        if (c->app->act_event == 0 && c->n_events > 0) {
            c->app->act_event = c->seqs[c->n_events - 1];
        }
        for (size_t i = 0; i < c->n_events; i++) {
            if (c->events[i].alert) {
                pl_alert(c->app, c->seqs[i]);
            }
        }
    }
    pl_change_drop(c);
    return rc;
}

void pl_state_champion(pl_state *s, int64_t version, ot_digest bundle, bool keep)
{
    s->previous = keep ? s->champion : 0;
    s->previous_bundle = keep ? s->champion_bundle : (ot_digest){0};
    s->champion = version;
    s->champion_bundle = bundle;
    s->champion_since_us = ot_clock_wall_us();
    s->degraded = s->at_risk = s->drift = false;
    pl_arms_champion(s, version);
}

void pl_change_failure(pl_change *c)
{
    const ot_app *app = c->app->app;
    char object[96];
    c->next.failures++;
    c->next.cool_until_us = ot_clock_wall_us() + app->retrain.cool_down_us;
    if (c->next.failures < app->retrain.pause_after || c->next.paused) {
        return;
    }
    c->next.paused = true;
    snprintf(c->next.held_by, sizeof c->next.held_by, "overtake");
    snprintf(c->next.held_reason, sizeof c->next.held_reason,
             "%" PRId64 " failures in a row; look at the last and resume", c->next.failures);
    pl_event *e = pl_change_event(c, "loop.paused", pl_object_app(c->app, object),
                                  pl_text("paused: %s", c->next.held_reason));
    e->alert = true;
}

void pl_cycle_again(pl_app *a)
{
    a->again_us = ot_clock_wall_us() + AGAIN_US;
}

bool pl_commit_logged(pl_change *c)
{
    ot_error err = {0};
    if (pl_commit(c, &err) == OT_OK) {
        return true;
    }
    ot_err("pipeline", "app %s: not saved: %s", c->app->app->app, err.msg);
    pl_cycle_again(c->app);
    return false;
}

struct load_arg {
    const char *app;
    ot_str text;
};

static ot_rc load_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct load_arg *l = arg;
    return ot_kv_get(txn, "app.state", l->app, &l->text, err);
}

ot_rc pl_state_load(pl_app *a, bool *found_out, ot_error *err)
{
    struct load_arg l = {.app = a->app->app, .text = OT_STR_INIT};
    ot_rc rc = ot_store_read(a->p->store, load_txn, &l, err);
    if (rc == OT_NOT_FOUND) {
        *found_out = false;
        ot_str_done(&l.text);
        return OT_OK;
    }
    if (rc == OT_OK) {
        json_t *j = json_loadb(l.text.data, l.text.len, 0, NULL);
        rc = j != NULL ? pl_state_parse(j, &a->st, err)
                       : ot_fail(err, OT_DATA_LOSS, "app %s: saved state is not JSON", l.app);
        json_decref(j);
        *found_out = rc == OT_OK;
    }
    ot_str_done(&l.text);
    return rc;
}
