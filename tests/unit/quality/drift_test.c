/* The drift half against a real store and a real bundle: blocks, evidence, findings, what is
 * refused. */
#include "unit/quality/window_fixture.h"

#define WARM 32 /* blocks of the baseline */

/* ---- blocks */

static void test_no_champion(void)
{
    heard h = {0};
    ot_quality_config cfg = config_of("early", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("early", 1);
    is_int(push_blocks(q, &r, 0, 3), 0, "windows are taken before there is a champion");
    is_int(events_of("early", "windows.received", NULL), 0, "and make no block");
    ot_service s;
    ot_error e = {0};
    ok(ot_quality_service(q, 0, INT64_MAX, 0, &s, &e) == OT_OK && s.windows == 6,
       "they are stored");
    json_t *d = drift_of(q);
    ok(json_string_value(json_object_get(d, "reason")) != NULL &&
           strstr(json_string_value(json_object_get(d, "reason")), "champion") != NULL,
       "the summary says why");
    json_decref(d);
    ot_quality_destroy(q);
}

static void test_close(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("close", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("close", version), other = r;
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    promote(q, version);
    push_block(q, &r, 0);
    other.w.incarnation = 0xdef;
    push_block(q, &other, 0);
    r.w.seq++;
    r.w.start_us = BEGIN + BLOCK;
    push_window(q, &r.w);
    is_int(events_of("close", "windows.received", NULL), 0,
           "a block stays open for a window's length");
    other.w.seq++;
    other.w.start_us = BEGIN + BLOCK - 1;
    push_window(q, &other.w);
    is_int(drift_int(q, "late_windows"), 0, "a replica a little late is in");
    r.w.seq++;
    r.w.start_us = BEGIN + BLOCK + WINDOW;
    push_window(q, &r.w);
    is_int(events_of("close", "windows.received", &last), 1, "then it closes, with one event");
    ok(strstr(last.data, "\"windows\":5") != NULL && strstr(last.data, "\"rows\":1000") != NULL,
       "of what both replicas sent: %s", last.data);
    ok(strstr(last.data, "\"inputs_before\":null") != NULL, "without evidence as yet");
    is_int(drift_int(q, "last_block_us"), BEGIN, "the summary names it");
    is_int(drift_int(q, "blocks_seen"), 1, "and counts it");
    is_int(drift_int(q, "blocks_needed"), WARM, "of those needed");
    is_int(drift_int(q, "learning"), 1, "it learns");
    other.w.seq++;
    push_window(q, &other.w);
    is_int(drift_int(q, "late_windows"), 1, "what comes now is late");
    is_int(events_of("close", "windows.received", NULL), 1, "and changes no block");
    r.w.seq++;
    r.w.role = "canary";
    r.w.start_us = BEGIN + 5 * BLOCK;
    push_window(q, &r.w);
    r.w.seq++;
    r.w.role = "champion";
    r.w.version = version + 1000;
    push_window(q, &r.w);
    is_int(events_of("close", "windows.received", NULL), 1,
           "windows of others than the champion do not count");
    r.w.seq++;
    r.w.version = version;
    push_window(q, &r.w);
    is_int(events_of("close", "windows.received", &last), 2, "a gap closes what was open");
    ok(strstr(last.data, "\"windows\":2") != NULL, "only that: %s", last.data);
    ot_quality_destroy(q);
}

static void test_repeated(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("again", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("again", version);
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    ot_service s;
    promote(q, version);
    push_block(q, &r, 0);
    r.w.seq--;
    r.w.start_us = BEGIN;
    is_int(push_window(q, &r.w), OT_OK, "a push that was counted is acknowledged");
    r.w.seq++;
    is_int(push_window(q, &r.w), OT_OK, "again");
    push_block(q, &r, 1);
    is_int(events_of("again", "windows.received", &last), 1, "the block closes");
    ok(strstr(last.data, "\"windows\":2") != NULL, "and holds each window once: %s", last.data);
    ok(ot_quality_service(q, 0, INT64_MAX, 0, &s, NULL) == OT_OK && s.windows == 4,
       "each is stored once");
    ot_quality_destroy(q);
}

/* ---- evidence */

static void check_drift_event(const heard *h, const char *payload)
{
    json_t *j = json_loads(payload, 0, NULL);
    json_t *moved = json_object_get(j, "moved"), *first = json_array_get(moved, 0);
    is_int(json_array_size(moved), 1, "one feature moved");
    is_str(json_string_value(json_object_get(first, "name")), "x_1", "the right one");
    is_str(json_string_value(json_object_get(first, "kind")), "location", "in its mean");
    is_near(json_number_value(json_object_get(first, "effect")), 0.6, 0.15, "by so much");
    int64_t since = json_integer_value(json_object_get(first, "since_us"));
    ok(llabs(since - (BEGIN + 60 * BLOCK)) <= 2 * BLOCK, "since then (%lld blocks)",
       (long long)((since - BEGIN) / BLOCK));
    ok(json_number_value(json_object_get(j, "evidence")) >=
               json_number_value(json_object_get(j, "threshold")) &&
           json_number_value(json_object_get(j, "threshold")) == 1000,
       "with the numbers");
    is_int(json_integer_value(json_object_get(j, "rows")), 400, "of the block");
    is_int(json_array_size(json_object_get(j, "because")), 1, "because of the block's event");
    is_str(h->last, json_string_value(json_object_get(j, "text")), "the finding says the same");
    json_decref(j);
}

static ot_rc type_of(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    snprintf(arg, 64, "%s", e->type);
    return OT_OK;
}

typedef struct seq_ask {
    uint64_t seq;
    char type[64];
} seq_ask;

static ot_rc seq_txn(ot_txn *txn, void *arg, ot_error *err)
{
    seq_ask *a = arg;
    return ot_event_get(txn, a->seq, type_of, a->type, err);
}

static void test_shift(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("shift", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("shift", version);
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    promote(q, version);
    is_int(push_blocks(q, &r, 0, 60), 0, "60 blocks without a shift");
    is_int(drift_int(q, "learning"), 0, "the baseline is learnt");
    is_int(events_of("shift", "windows.received", &last), 59, "each block has its event");
    ok(strstr(last.data, "\"inputs_before\":null") == NULL &&
           strstr(last.data, "\"outputs_before\":") != NULL,
       "and the event of a block tells the evidence before it: %s", last.data);
    is_int(h.drift + h.at_risk + h.other, 0, "nothing was found");
    r.w.law.shift_1 = 0.6;
    int64_t k = 60;
    for (; k < 90 && h.drift == 0; k++) {
        push_block(q, &r, k);
    }
    is_int(h.drift, 1, "a shift of 0.6 sigma is found (after %lld blocks)", (long long)(k - 60));
    is_int(h.at_risk, 0, "confidence did not fall");
    ok(ot_has_prefix(h.last, "x_1 up 0.") && strstr(h.last, " sigma since ") != NULL,
       "in words: %s", h.last);
    is_int(events_of("shift", "drift.detected", &last), 1, "one event");
    check_drift_event(&h, last.data);
    seq_ask a = {.seq = h.last_seq};
    ok(ot_store_read(store, seq_txn, &a, NULL) == OT_OK, "the finding's event is there");
    is_str(a.type, "drift.detected", "and is that one");
    is_int(push_blocks(q, &r, k, k + 30), 0, "30 blocks more of it");
    is_int(h.drift, 1, "it is said once");
    for (int again = 0; again < 2; again++) {
        json_t *d = drift_of(q), *moved = json_object_get(d, "moved");
        ok(json_array_size(moved) >= 1 &&
               strcmp(json_string_value(json_object_get(json_array_get(moved, 0), "name")),
                      "x_1") == 0,
           "and stays on the page%s", again ? ", over a restart" : "");
        is_int(json_integer_value(json_object_get(d, "alarms")), 1, "one alarm");
        json_decref(d);
        ot_quality_destroy(q);
        q = open_quality(&cfg);
    }
    ot_quality_destroy(q);
}

/* A second feature that moves less is on the page, but not what the alarm is about. */
static void test_two(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("two", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("two", version);
    promote(q, version);
    push_blocks(q, &r, 0, 60);
    r.w.law = (law){.shift_0 = 0.35, .shift_1 = 0.8};
    int64_t k = 60;
    for (; k < 90 && h.drift == 0; k++) {
        push_block(q, &r, k);
    }
    json_t *d = drift_of(q), *moved = json_object_get(d, "moved");
    is_int(json_array_size(moved), 2, "both have evidence");
    ok(json_is_true(json_object_get(json_array_get(moved, 0), "latched")) &&
           json_is_false(json_object_get(json_array_get(moved, 1), "latched")),
       "one is what the alarm is about");
    json_decref(d);
    ok(ot_has_prefix(h.last, "x_1 up 0.") && strstr(h.last, "x_0") == NULL, "it says so: %s",
       h.last);
    /* The other comes after it, over a restart: the same change, so nobody is told again. */
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    uint64_t first = h.last_seq;
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    r.w.law.shift_0 = 0.8;
    for (int64_t to = k + cfg.blocks_per_day; k < to; k++) {
        push_block(q, &r, k);
    }
    is_int(events_of("two", "drift.spread", &last), 1, "what follows is in the log");
    json_t *e = json_loads(last.data, 0, NULL);
    is_int(json_integer_value(json_object_get(e, "first")), (long long)first, "under the alarm");
    is_int(json_integer_value(json_object_get(e, "named")), 2, "with how many it is by now");
    ok(strstr(last.data, "2 inputs by now; also x_0 up 0.") != NULL, "in words: %s", last.data);
    is_int(json_array_size(json_object_get(e, "because")), 2, "because of the block and the alarm");
    json_decref(e);
    is_int(h.drift, 1, "and rings nobody");
    is_int(events_of("two", "drift.detected", &last), 1, "one alarm");
    ot_quality_destroy(q);
}

/* What moves after a cycle in which nothing more was named is another change. */
static void test_apart(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("apart", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("apart", version);
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    promote(q, version);
    push_blocks(q, &r, 0, 60);
    r.w.law.shift_1 = 0.8;
    push_blocks(q, &r, 60, 90);
    is_int(h.drift, 1, "one moves");
    r.w.law.shift_0 = 0.8;
    push_blocks(q, &r, 90, 110);
    ok(h.drift == 2 && ot_has_prefix(h.last, "x_0 up 0."), "the other, days later, rings: %s",
       h.last);
    is_int(events_of("apart", "drift.spread", &last), 0, "as an alarm of its own");
    ot_quality_destroy(q);
}

static void test_outputs(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("outputs", &h);
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("outputs", version);
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    promote(q, version);
    push_blocks(q, &r, 0, 40);
    r.w.law.confidence = 0.7;
    for (int64_t k = 40; k < 80 && h.at_risk == 0; k++) {
        push_block(q, &r, k);
    }
    is_int(h.at_risk, 1, "confidence that falls puts quality at risk: %s", h.last);
    is_int(h.drift, 0, "and is no drift");
    is_int(events_of("outputs", "quality.at_risk", &last), 1, "its event");
    ok(strstr(last.data, "\"confidence\"") != NULL && strstr(last.data, "\"outputs\"") != NULL,
       "names it");
    promote(q, version);
    h = (heard){0};
    r.w.law.confidence = 0;
    push_blocks(q, &r, 100, 140);
    r.w.law.class_2 = 0.6;
    for (int64_t k = 140; k < 180 && h.drift == 0; k++) {
        push_block(q, &r, k);
    }
    ok(h.drift == 1 && h.at_risk == 0, "other answers are drift: %s", h.last);
    const char *of = strstr(h.last, "share of prediction ");
    char way[8] = "";
    double points = 0;
    int class = -1;
    ok(of != NULL &&
           sscanf(of, "share of prediction %d %7s %lf points", &class, way, &points) == 3 &&
           class >= 0 && class <= 2 && strcmp(way, class == 2 ? "up" : "down") == 0 &&
           points > 10 && points < 40,
       "in points of a class");
    promote(q, version);
    h = (heard){0};
    r.w.law.class_2 = 0;
    push_blocks(q, &r, 200, 240);
    r.w.law.confidence = 0.9;
    for (int64_t k = 240; k < 280 && h.drift == 0; k++) {
        push_block(q, &r, k);
    }
    ok(h.drift == 1 && h.at_risk == 0, "confidence that rises is no risk: %s", h.last);
    ot_quality_destroy(q);
}

/* ---- retention and service */

static void test_retention(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("short-lived", &h);
    cfg.sample_keep_us = 10 * BLOCK;
    now_us = BEGIN;
    ot_quality *q = open_quality(&cfg);
    replica r = replica_of("short-lived", version);
    ot_service s;
    ot_error e = {0};
    promote(q, version);
    push_blocks(q, &r, 0, 50);
    ok(ot_quality_service(q, 0, INT64_MAX, 0, &s, &e) == OT_OK, "service");
    ok(s.windows >= 20 && s.windows <= 22, "ten blocks of windows are kept: %lld",
       (long long)s.windows);
    is_int(events_of("short-lived", "windows.received", NULL), 49, "all made blocks");
    ot_quality_destroy(q);
    cfg.sample_keep_us = 0;
    q = open_quality(&cfg);
    push_blocks(q, &r, 50, 60);
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    push_block(q, &r, 60);
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    is_int(events_of("short-lived", "windows.received", &last), 60,
           "open blocks' are never too old");
    ok(strstr(last.data, "\"windows\":2") != NULL, "none is missing: %s", last.data);
    ot_quality_destroy(q);
}

static void test_service(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("service", &h);
    ot_quality *q = open_quality(&cfg);
    window_of w = replica_of("service", version).w;
    ot_service s;
    ot_error e = {0};
    for (int i = 0; i < 4; i++) {
        w.seq++;
        w.start_us = BEGIN + i * WINDOW;
        w.latency_ns = i == 3 ? 9000000 : 1000000;
        w.rows = i == 3 ? 40 : 200;
        push_window(q, &w);
    }
    w.seq++;
    w.role = "shadow";
    w.latency_ns = 99000000;
    push_window(q, &w);
    w.seq++;
    w.role = "canary";
    w.version++;
    w.latency_ns = 1000000;
    push_window(q, &w);
    ok(ot_quality_service(q, BEGIN, BEGIN + 10 * WINDOW, 5000, &s, &e) == OT_OK, "service");
    is_int(s.windows, 5, "windows that answered somebody");
    is_int(s.windows_slow, 1, "one was slow");
    is_int(s.requests, 3 * 200 + 2 * 40, "requests");
    is_int(s.failed, 5, "failed");
    is_near(s.p50_us, 1000, 35, "the median of all together");
    is_near(s.p99_us, 9000, 300, "the 99th percentile of all together");
    ok(ot_quality_service(q, BEGIN + WINDOW, BEGIN + 2 * WINDOW, 0, &s, &e) == OT_OK &&
           s.windows == 1 && s.windows_slow == 0,
       "those that ended in [from, to); no limit, none slow");
    ok(ot_quality_service(q, 0, BEGIN, 0, &s, &e) == OT_OK && s.windows == 0 && s.p99_us == 0,
       "none before");
    ot_quality_destroy(q);
}

/* ---- malformed pushes */

static ot_rc push_edited(ot_quality *q, const made_push *m, const char *from, const char *to,
                         ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    const char *where = strstr(m->json.data, from);
    if (where == NULL) {
        return ot_fail(err, OT_INTERNAL, "'%s' is not in the push", from);
    }
    ot_str_add(&json, m->json.data, (size_t)(where - m->json.data));
    ot_str_adds(&json, to);
    ot_str_adds(&json, where + strlen(from));
    return ot_quality_push(q, json.data, json.len, m->bin.data, m->bin.len, err);
}

static void test_fields(int64_t version)
{
    static const struct {
        const char *from, *to, *names;
    } bad[] = {
        {"\"version\":", "\"versio\":", "version"},
        {"\"version\":", "\"version\":-", "version"},
        {"\"champion\"", "\"boss\"", "role"},
        {"\"champion\"", "7", "role"},
        {"\"start_us\":", "\"start_us\":-", "start_us"},
        {"\"start_us\":", "\"start_us\":9", "clock"},
        {"\"length_us\":5000000", "\"length_us\":0", "length_us"},
        {"\"length_us\":5000000", "\"length_us\":9999999999999", "length_us"},
        {"\"requests\":200", "\"requests\":2.5", "requests"},
        {"\"rows\":200", "\"rows\":-1", "rows"},
        {"\"rows\":200", "\"rows\":199", "200 rows counted of 199"},
        {"\"failed\":1", "\"failed\":\"1\"", "failed"},
        {"\"latency\":{", "\"latenz\":{", "latency"},
        {"\"p50_us\":", "\"p5_us\":", "p50_us"},
        {"\"p99_us\":", "\"p99_us\":-", "p99_us"},
        {"\"inputs_bytes\":", "\"inputs_bytes\":9", "inputs_bytes"},
        {"\"inputs_bytes\":", "\"inputs_bytes\":9999999", "inputs_bytes"},
        {"\"outputs_bytes\":", "\"outputs_byte\":", "outputs_bytes"},
        {"\"latency_bytes\":", "\"latency_bytes\":-", "latency_bytes"},
        {"\"latency_bytes\":", "\"latency_bytes\":0,\"was\":", "latency_bytes"},
    };
    heard h = {0};
    ot_quality_config cfg = config_of("fields", &h);
    ot_quality *q = open_quality(&cfg);
    window_of w = replica_of("fields", version).w;
    made_push m;
    ot_error e = {0};
    promote(q, version);
    w.start_us = BEGIN;
    w.seq = 1;
    now_us = OT_MAX(now_us, BEGIN);
    make_window(&w, &m);
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        e.msg[0] = 0;
        ot_rc rc = push_edited(q, &m, bad[i].from, bad[i].to, &e);
        ok(rc == OT_INVALID && strstr(e.msg, bad[i].names) != NULL, "%s: %s", bad[i].to, e.msg);
    }
    ot_service s;
    ok(ot_quality_service(q, 0, INT64_MAX, 0, &s, &e) == OT_OK && s.windows == 0,
       "nothing of it was stored");
    is_int(push_made(q, &m, &e), OT_OK, "the right one is: %s", e.msg);
    made_push_done(&m);
    ot_quality_destroy(q);
}

/* Each byte of the binary part turned over: what a checksum or a size does not stop must not
 * count. */
static void test_binary(int64_t version)
{
    heard h = {0};
    ot_quality_config cfg = config_of("binary", &h);
    ot_quality *q = open_quality(&cfg);
    window_of w = replica_of("binary", version).w;
    made_push m;
    ot_error e = {0};
    int other = 0;
    promote(q, version);
    w.start_us = BEGIN;
    w.seq = 1;
    make_window(&w, &m);
    for (size_t i = 0; i < m.bin.len; i++) {
        m.bin.data[i] ^= 0x41;
        other += push_made(q, &m, &e) != OT_INVALID;
        m.bin.data[i] ^= 0x41;
    }
    is_int(other, 0, "no damaged byte of %zu gets in", m.bin.len);
    OT_AUTO(ot_str_done) ot_str longer = OT_STR_INIT;
    json_t *j = json_loads(m.json.data, 0, NULL);
    int64_t n_in = json_integer_value(json_object_get(j, "inputs_bytes"));
    json_object_set_new(j, "inputs_bytes", json_integer(n_in + 1));
    char *text = json_dumps(j, 0);
    ot_str_add(&longer, m.bin.data, (size_t)n_in);
    ot_str_addc(&longer, 0);
    ot_str_add(&longer, m.bin.data + n_in, m.bin.len - (size_t)n_in);
    ok(ot_quality_push(q, text, strlen(text), longer.data, longer.len, &e) == OT_INVALID &&
           strstr(e.msg, "after its end") != NULL,
       "nor one with more behind it: %s", e.msg);
    free(text);
    json_decref(j);
    ok(ot_quality_push(q, m.json.data, m.json.len, m.bin.data, m.bin.len - 1, &e) == OT_INVALID,
       "nor a part that is cut: %s", e.msg);
    ok(ot_quality_push(q, m.json.data, m.json.len, NULL, 0, &e) == OT_INVALID, "nor none: %s",
       e.msg);
    made_push_done(&m);
    /* inputs and outputs change places: whole, but of the other's schema */
    make_window(&w, &m);
    ot_reference keep = inputs_ref;
    inputs_ref = outputs_ref;
    outputs_ref = keep;
    made_push swapped;
    make_window(&w, &swapped);
    outputs_ref = inputs_ref;
    inputs_ref = keep;
    ok(push_made(q, &swapped, &e) == OT_INVALID && strstr(e.msg, "inputs") != NULL &&
           strstr(e.msg, "schema") != NULL,
       "nor another schema: %s", e.msg);
    is_int(push_made(q, &m, &e), OT_OK, "the right one does");
    made_push_done(&m);
    made_push_done(&swapped);
    ot_quality_destroy(q);
}

int main(void)
{
    fixture_start();
    int64_t v1 = add_version("digits", true);
    test_no_champion();
    test_fields(v1);
    test_binary(v1);
    test_close(v1);
    test_repeated(v1);
    test_service(v1);
    test_shift(v1);
    test_two(v1);
    test_apart(v1);
    test_outputs(v1);
    test_retention(v1);
    fixture_end();
    return tap_done();
}
