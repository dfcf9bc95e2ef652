/* What both halves of the evidence have in common: configuration, the envelope of a push, events,
 * findings, the summary. */
#include "unit/quality/window_fixture.h"

static void test_config(void)
{
    heard h = {0};
    ot_error e = {0};
    ot_quality *q = NULL;
    char name[] = "d1";
    ot_quality_config good = config_of(name, &h), c = good;
    c.deployment = "../x";
    ok(ot_quality_create(store, &c, &q, &e) == OT_INVALID, "a name: %s", e.msg);
    c = good;
    c.model = NULL;
    ok(ot_quality_create(store, &c, &q, &e) == OT_INVALID, "no model: %s", e.msg);
    c = good;
    c.block_us = WINDOW + 1;
    ok(ot_quality_create(store, &c, &q, &e) == OT_INVALID && strstr(e.msg, "whole number") != NULL,
       "windows do not fit: %s", e.msg);
    c = good;
    c.false_alarms_per_year = 0;
    ok(ot_quality_create(store, &c, &q, &e) == OT_INVALID, "never an alarm: %s", e.msg);
    c = good;
    c.ignore_smaller = NAN;
    ok(ot_quality_create(store, &c, &q, &e) == OT_INVALID, "no tolerance: %s", e.msg);
    ok(q == NULL, "nothing was made");

    ok(ot_quality_create(store, &good, &q, &e) == OT_OK, "made: %s", e.msg);
    name[1] = '2';
    is_str(q->cfg.deployment, "d1", "its strings are its own");
    ok(ot_quality_configure(q, &good, &e) == OT_INVALID && strstr(e.msg, "d2") != NULL,
       "another deployment: %s", e.msg);
    name[1] = '1';
    c = good;
    c.block_us = 1;
    ok(ot_quality_configure(q, &c, &e) == OT_INVALID && q->cfg.block_us == BLOCK,
       "a wrong configuration leaves the old one");
    c = good;
    c.app = NULL;
    ok(ot_quality_configure(q, &c, &e) == OT_OK && strcmp(q->cfg.app, "") == 0, "a right one");
    ot_quality_destroy(q);
    ot_quality_destroy(NULL);
}

static void test_promise(void)
{
    ot_quality_config c = {.block_us = 3600 * SECOND, .false_alarms_per_year = 1};
    is_near(q_blocks_per_alarm(&c, 1), 8760, 1e-9, "hours: one a year");
    is_near(q_blocks_per_alarm(&c, 0.5), 17520, 1e-9, "half of the promise lasts twice as long");
    c.false_alarms_per_year = 4;
    is_near(q_blocks_per_alarm(&c, 0.25), 8760, 1e-9, "four a year, a quarter of them");
    c.false_alarms_per_year = 1e9;
    is_near(q_blocks_per_alarm(&c, 0.5), 10, 0, "as few as a detector takes");
    c.false_alarms_per_year = 1e-300;
    is_near(q_blocks_per_alarm(&c, 0.5), 1e12, 0, "as many");
}

/* ---- the envelope */

static ot_rc push_text(ot_quality *q, const char *json, ot_error *err)
{
    err->msg[0] = 0;
    return ot_quality_push(q, json, strlen(json), NULL, 0, err);
}

static void test_envelope(void)
{
#define HEAD "{\"deployment\":\"d\",\"model\":\"digits\","
#define INC "\"incarnation\":\"00000000000000ff\","
    static const struct {
        const char *json, *names;
    } bad[] = {
        {"", "JSON"},
        {"{", "JSON"},
        {"[]", "object"},
        {"{\"seq\":1,\"seq\":2}", "JSON"},
        {"{\"model\":\"digits\"}", "deployment"},
        {"{\"deployment\":\"d\",\"model\":7}", "model"},
        {"{\"deployment\":\"e\",\"model\":\"digits\"}", "'e'"},
        {"{\"deployment\":\"d\",\"model\":\"letters\"}", "'letters'"},
        {HEAD "\"seq\":1,\"stream\":\"window\"}", "incarnation"},
        {HEAD "\"incarnation\":\"ff\",\"seq\":1,\"stream\":\"window\"}", "'ff'"},
        {HEAD "\"incarnation\":\"00000000000000FF\",\"seq\":1,\"stream\":\"window\"}", "00FF"},
        {HEAD "\"incarnation\":\"00000000000000fg\",\"seq\":1,\"stream\":\"window\"}", "00fg"},
        {HEAD "\"incarnation\":\"00000000000000fff\",\"seq\":1,\"stream\":\"window\"}", "0fff"},
        {HEAD INC "\"stream\":\"window\"}", "seq"},
        {HEAD INC "\"seq\":0,\"stream\":\"window\"}", "seq"},
        {HEAD INC "\"seq\":\"1\",\"stream\":\"window\"}", "seq"},
        {HEAD INC "\"seq\":1.5,\"stream\":\"window\"}", "seq"},
        {HEAD INC "\"seq\":99999999999999999999,\"stream\":\"window\"}", "JSON"},
        {HEAD INC "\"seq\":1}", "stream"},
        {HEAD INC "\"seq\":1,\"stream\":\"gossip\"}", "'gossip'"},
    };
    heard h = {0};
    ot_quality_config cfg = config_of("d", &h);
    ot_quality *q = open_quality(&cfg);
    ot_error e = {0};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(push_text(q, bad[i].json, &e) == OT_INVALID && strstr(e.msg, bad[i].names) != NULL,
           "refused: %s", e.msg);
    }
    OT_AUTO(ot_str_done) ot_str big = OT_STR_INIT;
    ot_str_adds(&big, "{\"x\":\"");
    for (int i = 0; i < 300 << 10; i++) {
        ot_str_addc(&big, 'x');
    }
    ot_str_adds(&big, "\"}");
    ok(push_text(q, big.data, &e) == OT_INVALID && strstr(e.msg, "at most") != NULL, "too long: %s",
       e.msg);
    ot_quality_destroy(q);
}

/* ---- notes, events, findings */

typedef struct shared {
    ot_quality *q;
    q_push p;
    bool fresh;
    uint64_t seq;
    char seen[256];
} shared;

static ot_rc note_txn(ot_txn *txn, void *arg, ot_error *err)
{
    shared *s = arg;
    return q_push_note(txn, s->q, &s->p, &s->fresh, err);
}

static ot_rc event_txn(ot_txn *txn, void *arg, ot_error *err)
{
    shared *s = arg;
    OT_TRY(q_event(txn, s->q, "labels.received", "anna", json_pack("{s:i}", "n", 3), NULL, err));
    return q_event(txn, s->q, "drift.restarted", NULL, json_object(), &s->seq, err);
}

static ot_rc no_numbers_txn(ot_txn *txn, void *arg, ot_error *err)
{
    shared *s = arg;
    return q_event(txn, s->q, "drift.restarted", NULL, NULL, &s->seq, err);
}

static ot_rc see_event(void *arg, const ot_event *e, ot_error *err)
{
    shared *s = arg;
    (void)err;
    size_t n = strlen(s->seen);
    snprintf(s->seen + n, sizeof s->seen - n, "%s %s %s %s %s %s;", e->actor, e->role, e->scope,
             e->type, e->object, e->payload);
    return OT_OK;
}

static ot_rc read_txn(ot_txn *txn, void *arg, ot_error *err)
{
    ot_event_query query = {.object = "deployment/shared"};
    return ot_events_read(txn, &query, see_event, arg, err);
}

static void test_shared(void)
{
    heard h = {0};
    ot_error e = {0};
    ot_quality_config cfg = config_of("shared", &h);
    ot_quality *q = open_quality(&cfg);
    shared s = {.q = q, .p = {.incarnation_n = 1, .stream = "sample", .seq = 4}};
    ok(ot_store_write(store, note_txn, &s, &e) == OT_OK && s.fresh, "a push is fresh");
    ok(ot_store_write(store, note_txn, &s, &e) == OT_OK && !s.fresh, "once");
    s.p.stream = "window";
    ok(ot_store_write(store, note_txn, &s, &e) == OT_OK && s.fresh, "in each stream");
    ok(ot_store_write(store, event_txn, &s, &e) == OT_OK && s.seq > 1, "events: %s", e.msg);
    ok(ot_store_read(store, read_txn, &s, &e) == OT_OK, "are there");
    is_str(s.seen,
           "anna person app labels.received deployment/shared {\"n\":3};"
           "overtake automation app drift.restarted deployment/shared {};",
           "with all that they hold");
    is_int(ot_store_write(store, no_numbers_txn, &s, &e), OT_EXHAUSTED,
           "one whose numbers memory did not hold is none: %s", e.msg);
    char words[32];
    q_time_text(BEGIN, BEGIN + 3600 * SECOND, words);
    is_str(words, "22:13 UTC", "a time of the same day");
    q_time_text(BEGIN, BEGIN + 7200 * SECOND, words);
    is_str(words, "2023-11-14 22:13 UTC", "a time of another");
    q_find(q, OT_FINDING_LABELS, 0, 12, "twelve");
    ok(h.other == 1 && strcmp(h.last, "twelve") == 0, "a finding is heard");
    cfg.on_finding = NULL;
    ok(ot_quality_configure(q, &cfg, &e) == OT_OK, "nobody listens");
    q_find(q, OT_FINDING_LABELS, 0, 12, "twelve");
    is_int(h.other, 1, "then nobody hears");
    ot_quality_destroy(q);
}

static void test_summary(void)
{
    heard h = {0};
    ot_error e = {0};
    ot_quality_config cfg = config_of("sum", &h);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_str_adds(&text, " ");
    ok(ot_quality_summary(q, &text, &e) == OT_OK, "summary: %s", e.msg);
    json_t *j = json_loads(text.data, 0, NULL), *d = json_object_get(j, "drift");
    ok(text.data[0] == ' ' && json_is_object(j), "appended, a JSON object");
    is_str(json_string_value(json_object_get(j, "deployment")), "sum", "of the deployment");
    static const char *const keys[] = {
        "learning", "blocks_seen",       "blocks_needed", "evidence",     "threshold", "moved",
        "outputs",  "promise_suspended", "last_block_us", "late_windows", "reason",    "version"};
    for (size_t i = 0; i < OT_COUNT(keys); i++) {
        ok(json_object_get(d, keys[i]) != NULL, "drift has %s", keys[i]);
    }
    json_decref(j);
    ot_quality_destroy(q);
}

/* Each allocation of making one fails once. */
static void test_memory(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("tight", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("tight", version);
    promote(q, version);
    for (int64_t k = 0; k < 5; k++) {
        push_block(q, &r, k);
    }
    ot_quality_destroy(q);
    int failed = 0, wrong = 0;
    for (uint64_t nth = 1; nth < 2000; nth++) {
        ot_error e = {0};
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = ot_quality_create(store, &cfg, &q, &e);
        bool hit = ot_mem_fail_nth(0) >= nth;
        if (rc == OT_OK) {
            wrong += drift_int(q, "blocks_seen") != 4;
            ot_quality_destroy(q);
            if (!hit) {
                break;
            }
            continue;
        }
        failed++;
        wrong += rc != OT_EXHAUSTED;
    }
    ok(failed > 20, "memory was short %d times", failed);
    is_int(wrong, 0, "each time that was the answer, and else all of it is there");
}

int main(void)
{
    fixture_start();
    int64_t version = add_version("digits", true);
    test_config();
    test_promise();
    test_envelope();
    test_shared();
    test_summary();
    test_memory(version);
    fixture_end();
    return tap_done();
}
