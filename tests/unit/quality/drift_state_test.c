/* The drift half and what the store holds of it: the process goes and comes back, memory is short,
 * champions and settings change. */
#include "unit/quality/window_fixture.h"

/* One deployment goes on, the other is opened anew after every third window: within a block, within
 * the warm-up, after it. */
static void test_reopen(int64_t version)
{
    heard h1 = {0}, h2 = {0};
    ot_quality_config c1 = config_of("goes-on", &h1), c2 = config_of("reopened", &h2);
    ot_quality *q1 = open_quality(&c1), *q2 = open_quality(&c2);
    replica r1 = replica_of("goes-on", version), r2 = replica_of("reopened", version);
    promote(q1, version);
    promote(q2, version);
    for (int64_t k = 0; k < 2 * 70; k++) {
        r1.w.law.shift_1 = r2.w.law.shift_1 = k >= 2 * 50 ? 0.6 : 0;
        r1.w.start_us = r2.w.start_us = BEGIN + k * WINDOW;
        r1.w.seq++;
        r2.w.seq++;
        push_window(q1, &r1.w);
        push_window(q2, &r2.w);
        if (k % 3 == 0) {
            ot_quality_destroy(q2);
            q2 = open_quality(&c2);
        }
        if (k == 40) {
            ok(same_state("goes-on", "reopened"), "the same state within the warm-up");
        }
    }
    ok(same_state("goes-on", "reopened"), "the same state after it");
    is_int(events_of("reopened", "windows.received", NULL),
           events_of("goes-on", "windows.received", NULL), "as many blocks");
    ok(h1.drift == 1 && h2.drift == 1, "both found it");
    is_str(h2.last, h1.last, "in the same words");
    ot_quality_destroy(q1);
    ot_quality_destroy(q2);
}

/* Gaps, windows that come late, and the process away after each of them. */
static void test_reopen_out_of_order(int64_t version)
{
    static const int at_window[] = {0, 1, 12, 6, 13, 12, 15, 14, 11, 13, 30, 29, 20, 33, 28, 34};
    heard h1 = {0}, h2 = {0};
    ot_quality_config c1 = config_of("order-1", &h1), c2 = config_of("order-2", &h2);
    ot_quality *q1 = open_quality(&c1), *q2 = open_quality(&c2);
    replica r1 = replica_of("order-1", version), r2 = replica_of("order-2", version);
    OT_AUTO(ot_str_done) ot_str last1 = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str last2 = OT_STR_INIT;
    promote(q1, version);
    promote(q2, version);
    for (size_t i = 0; i < OT_COUNT(at_window); i++) {
        r1.w.start_us = r2.w.start_us = BEGIN + at_window[i] * WINDOW;
        r1.w.seq++;
        r2.w.seq++;
        push_window(q1, &r1.w);
        push_window(q2, &r2.w);
        ot_quality_destroy(q2);
        q2 = open_quality(&c2);
    }
    is_int(drift_int(q1, "late_windows"), 5, "of those out of order five were too late");
    is_int(drift_int(q2, "late_windows"), 5, "the same when it was away after each");
    is_int(events_of("order-2", "windows.received", &last2),
           events_of("order-1", "windows.received", &last1), "as many blocks");
    is_str(last2.data, last1.data, "of the same windows");
    ok(same_state("order-1", "order-2"), "the same state");
    ot_quality_destroy(q1);
    ot_quality_destroy(q2);
}

/* A window without counts (a replica that has no time to count) adds nothing to the evidence. */
static void test_no_counts(int64_t version)
{
    heard h = {0};
    ot_quality_config c1 = config_of("counts-1", &h), c2 = config_of("counts-2", &h);
    ot_quality *q1 = open_quality(&c1), *q2 = open_quality(&c2);
    window_of w1 = replica_of("counts-1", version).w, w2 = replica_of("counts-2", version).w;
    ot_error e = {0};
    promote(q1, version);
    promote(q2, version);
    for (int64_t k = 0; k < 4; k++) {
        w1.start_us = w2.start_us = BEGIN + 2 * k * WINDOW;
        w1.seq = w2.seq = (uint64_t)(2 * k + 1);
        push_window(q1, &w1);
        push_window(q2, &w2);
        made_push m;
        w2.start_us += WINDOW;
        w2.seq++;
        make_window(&w2, &m);
        json_t *j = json_loads(m.json.data, 0, NULL);
        size_t skip = (size_t)(json_integer_value(json_object_get(j, "inputs_bytes")) +
                               json_integer_value(json_object_get(j, "outputs_bytes")));
        json_object_set_new(j, "inputs_bytes", json_integer(0));
        json_object_set_new(j, "outputs_bytes", json_integer(0));
        char *text = json_dumps(j, 0);
        is_int(ot_quality_push(q2, text, strlen(text), m.bin.data + skip, m.bin.len - skip, &e),
               OT_OK, "a window without counts");
        free(text);
        json_decref(j);
        made_push_done(&m);
        w1.start_us += WINDOW; /* closes the block of before on this side too */
        w1.seq++;
        w1.role = "champion";
        w1.rows = 0;
        push_window(q1, &w1);
        w1.rows = 200;
    }
    ok(same_state("counts-1", "counts-2"), "is one without rows");
    ot_quality_destroy(q1);
    ot_quality_destroy(q2);
}

/* Every allocation of a push that closes a block fails once; what was pushed again counts once. */
static void test_memory(int64_t version)
{
    heard h1 = {0}, h2 = {0};
    ot_quality_config c1 = config_of("calm", &h1), c2 = config_of("short", &h2);
    ot_quality *q1 = open_quality(&c1), *q2 = open_quality(&c2);
    replica r1 = replica_of("calm", version), r2 = replica_of("short", version);
    promote(q1, version);
    promote(q2, version);
    push_blocks(q1, &r1, 0, 34);
    push_blocks(q2, &r2, 0, 31);
    int failed = 0, wrong = 0;
    uint64_t nth = 1;
    for (int64_t k = 2 * 31; k < 2 * 34; k++) { /* the warm-up ends among them */
        made_push m;
        ot_error e = {0};
        ot_rc rc = OT_UNKNOWN;
        r2.w.seq++;
        r2.w.start_us = BEGIN + k * WINDOW;
        make_window(&r2.w, &m);
        for (int i = 0; i < 400 && rc != OT_OK; i++) {
            (void)ot_mem_fail_nth(nth);
            rc = push_made(q2, &m, &e);
            bool hit = ot_mem_fail_nth(0) >= nth;
            failed += rc != OT_OK;
            wrong += rc != OT_OK && (rc != OT_EXHAUSTED || !hit);
            nth = rc == OT_OK ? 1 : nth + 1;
        }
        if (rc != OT_OK) {
            wrong++;
        }
        made_push_done(&m);
    }
    ok(failed > 20, "memory was short %d times", failed);
    is_int(wrong, 0, "each time that was the answer");
    ok(same_state("calm", "short"), "and the state is as if it had not been");
    is_int(events_of("short", "windows.received", NULL),
           events_of("calm", "windows.received", NULL), "nothing was counted twice");
    ot_quality_destroy(q1);
    ot_quality_destroy(q2);
}

static void test_promoted(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("promoted", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("promoted", version);
    ot_error e = {0};
    promote(q, version);
    push_blocks(q, &r, 0, 10);
    is_int(drift_int(q, "blocks_seen"), 9, "nine blocks");
    promote_ask undone = {.q = q, .version = version + 1, .after = OT_ABORTED};
    is_int(ot_store_write(store, promote_txn, &undone, &e), OT_ABORTED,
           "a promotion that is undone");
    is_int(drift_int(q, "blocks_seen"), 9, "changes nothing");
    is_int(drift_int(q, "version"), version, "nor the champion");
    promote(q, version + 1);
    is_int(drift_int(q, "version"), version + 1, "a new champion");
    is_int(drift_int(q, "blocks_seen"), 0, "learns anew");
    is_int(drift_int(q, "last_block_us"), -1, "no block yet");
    push_blocks(q, &r, 10, 14);
    is_int(drift_int(q, "blocks_seen"), 0, "not from the old one's windows");
    replica r2 = replica_of("promoted", version + 1);
    r2.w.incarnation = 5;
    push_blocks(q, &r2, 12, 16);
    is_int(drift_int(q, "blocks_seen"), 3, "but from its own");
    promote(q, version);
    is_int(drift_int(q, "blocks_seen"), 0, "back to the old one: anew too");
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    push_blocks(q, &r, 20, 22);
    is_int(drift_int(q, "blocks_seen"), 1, "from what comes since");
    is_int(events_of("promoted", "drift.restarted", NULL), 0,
           "a promotion says itself what it starts");
    ot_quality_destroy(q);
}

static void test_configure(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("set", &h), other;
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("set", version);
    ot_error e = {0};
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    promote(q, version);
    push_blocks(q, &r, 0, 10);
    other = cfg;
    other.accuracy_at_least = 0.9;
    other.sample_keep_us *= 2;
    ok(ot_quality_configure(q, &other, &e) == OT_OK, "what the evidence does not depend on");
    is_int(drift_int(q, "blocks_seen"), 9, "changes nothing");
    is_int(events_of("set", "drift.restarted", NULL), 0, "and leaves no event");
    static const char *const what[] = {"block",  "blocks_per_day", "baseline",
                                       "cycles", "tolerance",      "false alarms"};
    int64_t k = 10;
    for (int i = 0; i < 6; i++, k += 10) {
        other.block_us = i == 0 ? 2 * BLOCK : cfg.block_us;
        other.blocks_per_day += i == 1;
        other.baseline_days += i == 2;
        other.cycles = i == 3 ? 1 : 0;
        other.ignore_smaller += i == 4 ? 0.1 : 0;
        other.false_alarms_per_year *= i == 5 ? 2 : 1;
        ok(ot_quality_configure(q, &other, &e) == OT_OK, "%s: %s", what[i], e.msg);
        is_int(events_of("set", "drift.restarted", &last), i + 1, "the evidence starts anew");
        is_int(drift_int(q, "blocks_seen"), 0, "with nothing");
        push_blocks(q, &r, k, k + 6);
        ok(drift_int(q, "blocks_seen") >= 2, "and goes on");
    }
    ok(strstr(last.data, "settings") != NULL, "the event says why: %s", last.data);
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    is_int(events_of("set", "drift.restarted", NULL), 7, "settings that changed while it was away");
    ot_quality_destroy(q);
}

static void test_no_reference(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("bare", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("bare", version);
    promote(q, version);
    is_int(push_blocks(q, &r, 0, 4), 0, "a champion without references");
    is_int(events_of("bare", "windows.received", NULL), 3, "has blocks");
    json_t *d = drift_of(q);
    const char *why = json_string_value(json_object_get(d, "reason"));
    ok(why != NULL && strstr(why, "trained_on") != NULL,
       "and the reason that there is no evidence: %s", why == NULL ? "" : why);
    is_int(json_is_true(json_object_get(d, "learning")), 0, "it does not learn");
    why = json_string_value(json_object_get(json_object_get(d, "outputs"), "reason"));
    ok(why != NULL && strstr(why, "outputs.hist") != NULL, "of the outputs too");
    json_decref(d);
    promote(q, 999);
    d = drift_of(q);
    ok(json_string_value(json_object_get(d, "reason")) != NULL, "so has one that is not there");
    json_decref(d);
    ot_quality_destroy(q);
}

static ot_rc damage_txn(ot_txn *txn, void *arg, ot_error *err)
{
    look *l = arg;
    return ot_quality_state_set(txn, l->deployment, l->part, "nonsense", 8, err);
}

static void test_damaged(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("hurt", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("hurt", version);
    promote(q, version);
    push_blocks(q, &r, 0, 4);
    ot_quality_destroy(q);
    look l = {.deployment = "hurt", .part = "drift.inputs"};
    ot_error e = {0};
    ok(ot_store_write(store, damage_txn, &l, &e) == OT_OK, "kept evidence is damaged");
    q = open_quality(&cfg);
    is_int(events_of("hurt", "drift.restarted", NULL), 1, "then it starts anew and says so");
    is_int(push_blocks(q, &r, 4, 8), 0, "and goes on");
    is_int(drift_int(q, "blocks_seen"), 3, "with what comes");
    ot_quality_destroy(q);
}

int main(void)
{
    fixture_start();
    int64_t v1 = add_version("digits", true), v2 = add_version("digits", true);
    int64_t bare = add_version("digits", false);
    ok(v2 == v1 + 1, "two versions");
    test_reopen(v1);
    test_reopen_out_of_order(v1);
    test_no_counts(v1);
    test_memory(v1);
    test_promoted(v1);
    test_configure(v1);
    test_no_reference(bare);
    test_damaged(v1);
    fixture_end();
    return tap_done();
}
