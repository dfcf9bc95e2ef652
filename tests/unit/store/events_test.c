/* The event log: fields, chain, queries, erasure, and what verification says of a log that somebody
 * worked on with another program. */
#include "store/events.h"

#include "crash_disk.h"
#include "store/internal.h"
#include "tap.h"

#include <inttypes.h>
#include <stdio.h>

#define EVENTS 40

static ot_store *store;

static ot_rc append(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_event_append(txn, arg, NULL, err);
}

static ot_rc sql(ot_txn *txn, void *arg, ot_error *err)
{
    int rc = sqlite3_exec(ot_txn_db(txn), arg, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OT_OK : ot_sql_fail(ot_txn_db(txn), rc, "test", err);
}

/* As a person with a database program would, behind the store's back. */
static void tamper(const char *text)
{
    ot_error e;
    OT_AUTO(ot_free_ptr) char *copy = ot_strdup(text);
    if (ot_store_write(store, sql, copy, &e) != OT_OK) {
        ok(false, "%s: %s", text, e.msg);
    }
}

static void fill(void)
{
    ot_error e;
    for (int i = 1; i <= EVENTS; i++) {
        char object[32], payload[64];
        snprintf(object, sizeof object, "model/digits/%d", i % 4);
        snprintf(payload, sizeof payload, "{\"n\":%d}", i);
        ot_event_in in = {
            .actor = "anna",
            .role = "operator",
            .scope = "production",
            .type = i % 2 != 0 ? "model.added" : "run.finished",
            .object = object,
            .payload = payload,
            .time_us = 1000000 + i * 10,
        };
        if (ot_store_write(store, append, &in, &e) != OT_OK) {
            ok(false, "event %d: %s", i, e.msg);
        }
    }
}

static void start(crash_disk *d)
{
    /* Short, so that the log has checkpoints, and its index a part of the events. */
    static const ot_store_options opt = {.struct_size = sizeof opt, .checkpoint_pages = 16};
    ot_error e;
    if (ot_store_open(&d->base, "/s", &opt, &store, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
}

struct verify {
    const ot_event_head *trusted;
    ot_events_verdict v;
};

static ot_rc verify(ot_txn *txn, void *arg, ot_error *err)
{
    struct verify *w = arg;
    return ot_events_verify(txn, w->trusted, &w->v, err);
}

static ot_events_verdict verdict(const ot_event_head *trusted, ot_rc want)
{
    struct verify w = {.trusted = trusted};
    ot_error e;
    is_int(ot_store_read(store, verify, &w, &e), want, "verify: %s",
           want == OT_OK ? "whole" : e.msg);
    return w.v;
}

static void test_tampering(const char *statement, ot_event_fault fault, uint64_t seq,
                           const ot_event_head *trusted)
{
    crash_disk *d = crash_disk_create(false);
    start(d);
    fill();
    tamper(statement);
    ot_events_verdict v = verdict(trusted, OT_DATA_LOSS);
    is_str(ot_event_fault_name(v.fault), ot_event_fault_name(fault), "%.60s: the fault", statement);
    is_int(v.bad_seq, seq, "the first bad row");
    ot_store_close(store);
    crash_disk_destroy(d);
}

struct listing {
    uint64_t seqs[200];
    size_t n;
    bool erased;
};

static ot_rc take(void *arg, const ot_event *e, ot_error *err)
{
    struct listing *l = arg;
    if (l->n == OT_COUNT(l->seqs)) {
        return ot_fail(err, OT_RANGE, "too many");
    }
    l->seqs[l->n++] = e->seq;
    l->erased = e->payload == NULL;
    return OT_OK;
}

struct query {
    ot_event_query q;
    struct listing l;
};

static ot_rc read_events(ot_txn *txn, void *arg, ot_error *err)
{
    struct query *q = arg;
    return ot_events_read(txn, &q->q, take, &q->l, err);
}

static struct listing ask(ot_event_query q)
{
    struct query w = {.q = q};
    ot_error e;
    if (ot_store_read(store, read_events, &w, &e) != OT_OK) {
        ok(false, "reads: %s", e.msg);
    }
    return w.l;
}

static ot_rc get_one(ot_txn *txn, void *arg, ot_error *err)
{
    struct listing *l = arg;
    uint64_t seq = l->seqs[0];
    l->n = 0;
    return ot_event_get(txn, seq, take, l, err);
}

static void test_queries(void)
{
    struct listing l = ask((ot_event_query){0});
    is_int(l.n, EVENTS, "all events");
    ok(l.seqs[0] == 1 && l.seqs[EVENTS - 1] == EVENTS, "from 1 up");
    l = ask((ot_event_query){.after_seq = 10, .limit = 5});
    ok(l.n == 5 && l.seqs[0] == 11 && l.seqs[4] == 15, "a page after a key");
    l = ask((ot_event_query){.newest_first = true, .before_seq = 20, .limit = 3});
    ok(l.n == 3 && l.seqs[0] == 19 && l.seqs[2] == 17, "a page backwards");
    l = ask((ot_event_query){.type_prefix = "model."});
    ok(l.n == EVENTS / 2 && l.seqs[0] == 1, "a type prefix");
    is_int(ask((ot_event_query){.type_prefix = "model.added.x"}).n, 0, "too long a prefix");
    l = ask((ot_event_query){.object = "model/digits/2"});
    ok(l.n == EVENTS / 4 && l.seqs[0] == 2, "an object");
    is_int(ask((ot_event_query){.object = "model/digits/"}).n, 0, "an object is exact");
    l = ask((ot_event_query){.object = "model/digits/", .object_prefix = true});
    ok(l.n == EVENTS && l.seqs[3] == 4, "or a prefix");
    l = ask((ot_event_query){
        .object = "model/digits/1", .type_prefix = "model", .newest_first = true, .limit = 2});
    ok(l.n == 2 && l.seqs[0] == 37 && l.seqs[1] == 33, "type and object, newest first");
    l = ask((ot_event_query){.from_time_us = 1000100, .to_time_us = 1000150});
    ok(l.n == 5 && l.seqs[0] == 10 && l.seqs[4] == 14, "a time range includes its start only");
    is_int(ask((ot_event_query){.from_time_us = 2000000}).n, 0, "a time range after all");
    is_int(ask((ot_event_query){.to_time_us = 5}).n, 0, "and before all");
    l = ask((ot_event_query){.from_time_us = 1000001, .after_seq = 38});
    ok(l.n == 2, "time and key together");
    l.seqs[0] = 7;
    ot_error e;
    ok(ot_store_read(store, get_one, &l, &e) == OT_OK && l.n == 1 && l.seqs[0] == 7, "one event");
    l.seqs[0] = 700;
    is_int(ot_store_read(store, get_one, &l, &e), OT_NOT_FOUND, "none: %s", e.msg);
    l.seqs[0] = UINT64_MAX;
    is_int(ot_store_read(store, get_one, &l, &e), OT_NOT_FOUND, "none: %s", e.msg);
}

static ot_rc read_upto(ot_txn *txn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, "SELECT upto, (SELECT count(*) FROM event_object) FROM event_indexed",
                       &s, err));
    OT_TRY(ot_stmt_step(s, "test", &row, err));
    ((int64_t *)arg)[0] = ot_col_i64(s, 0);
    ((int64_t *)arg)[1] = ot_col_i64(s, 1);
    return OT_OK;
}

static void test_index(void)
{
    int64_t upto[2] = {0};
    ot_error e;
    ok(ot_store_read(store, read_upto, upto, &e) == OT_OK, "looks at the index");
    ok(upto[0] > 0 && upto[0] < EVENTS && upto[1] == upto[0],
       "it has a part of the events: up to %lld", (long long)upto[0]);
}

static void test_fields(void)
{
    char longer[300], *large = ot_alloc(OT_EVENT_PAYLOAD_MAX + 2);
    ot_error e;
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = 0;
    ot_event_in bad[] = {
        {.type = ""},
        {.type = "Model"},
        {.type = "a b"},
        {.type = longer},
        {.type = "t", .actor = longer},
        {.type = "t", .role = longer},
        {.type = "t", .scope = longer},
        {.type = "t", .object = longer},
        {.type = "t", .payload = "[1]"},
        {.type = "t", .payload = ""},
        {.type = "t", .payload = large},
    };
    memset(large, ' ', OT_EVENT_PAYLOAD_MAX + 1);
    large[0] = '{';
    large[OT_EVENT_PAYLOAD_MAX] = '}';
    large[OT_EVENT_PAYLOAD_MAX + 1] = 0;
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        is_int(ot_store_write(store, append, &bad[i], &e), OT_INVALID, "refused: %.100s", e.msg);
    }
    large[OT_EVENT_PAYLOAD_MAX - 1] = '}';
    large[OT_EVENT_PAYLOAD_MAX] = 0;
    ot_event_in most = {.type = "t", .payload = large};
    ok(ot_store_write(store, append, &most, &e) == OT_OK, "the largest payload");
    ot_event_in early = {.type = "t", .time_us = 5};
    ok(ot_store_write(store, append, &early, &e) == OT_OK, "a time before the last event's");
    (void)verdict(NULL, OT_OK);
    ot_free(large);
}

static ot_rc erase(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_event_erase_payload(txn, *(uint64_t *)arg, err);
}

static void test_erasure(void)
{
    uint64_t seq = 12, none = 4000;
    ot_error e;
    ok(ot_store_write(store, erase, &seq, &e) == OT_OK, "a payload is erased");
    is_int(ot_store_write(store, erase, &none, &e), OT_NOT_FOUND, "none: %s", e.msg);
    ot_events_verdict v = verdict(NULL, OT_OK);
    is_int(v.erased, 1, "the chain still verifies");
    struct listing l = ask((ot_event_query){.after_seq = 11, .limit = 1});
    ok(l.n == 1 && l.erased, "and the row says so");
}

/* The encoding of events.h, written out a second time. */
static void test_encoding(void)
{
    uint8_t b[512];
    size_t n = 0;
    crash_disk *d = crash_disk_create(false);
    start(d);
    ot_event_in in = {.actor = "a",
                      .role = "r",
                      .scope = "s",
                      .type = "t",
                      .object = "o",
                      .payload = "{}",
                      .time_us = 0x0102030405};
    ot_error e;
    ok(ot_store_write(store, append, &in, &e) == OT_OK, "the first event");
    static const uint8_t head[] = {'O', 'T', 'E', 'V', 'E', 'N', 'T', '1', 1, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t time_us[] = {5, 4, 3, 2, 1, 0, 0, 0};
    memcpy(b, head, sizeof head);
    n = sizeof head;
    memset(b + n, 0, 32);
    n += 32;
    memcpy(b + n, time_us, 8);
    n += 8;
    for (const char *z = "arsto"; *z != 0; z++) {
        const uint8_t text[] = {1, 0, 0, 0, (uint8_t)*z};
        memcpy(b + n, text, sizeof text);
        n += sizeof text;
    }
    ot_digest payload = ot_sha256_of("{}", 2);
    memcpy(b + n, payload.b, 32);
    n += 32;
    ot_digest want = ot_sha256_of(b, n);
    ot_events_verdict v = verdict(NULL, OT_OK);
    ok(ot_digest_equal(&want, &v.head.hash), "the hash is over the documented bytes");
    ot_store_close(store);
    crash_disk_destroy(d);
}

int main(void)
{
    crash_disk *d = crash_disk_create(false);
    start(d);
    ot_events_verdict v = verdict(NULL, OT_OK);
    is_int(v.rows, 0, "an empty log verifies");
    fill();
    v = verdict(NULL, OT_OK);
    is_int(v.rows, EVENTS, "a full one too");
    ot_event_head head = v.head;
    test_index();
    test_queries();
    test_erasure();
    test_fields();
    (void)verdict(&head, OT_OK);
    ot_store_close(store);
    crash_disk_destroy(d);
    test_encoding();

    test_tampering("UPDATE event SET actor='eve' WHERE seq=17", OT_EVENT_FAULT_EDITED, 17, NULL);
    test_tampering("UPDATE event SET role='admin' WHERE seq=1", OT_EVENT_FAULT_EDITED, 1, NULL);
    test_tampering("UPDATE event SET time_us=time_us+1 WHERE seq=40", OT_EVENT_FAULT_EDITED, 40,
                   NULL);
    test_tampering("UPDATE event SET type='app.deleted' WHERE seq=2", OT_EVENT_FAULT_EDITED, 2,
                   NULL);
    test_tampering("UPDATE event SET object='app/b' WHERE seq=25", OT_EVENT_FAULT_EDITED, 25, NULL);
    test_tampering("UPDATE event SET scope='site' WHERE seq=6", OT_EVENT_FAULT_EDITED, 6, NULL);
    test_tampering("UPDATE event SET payload_hash=x'00' WHERE seq=8", OT_EVENT_FAULT_EDITED, 8,
                   NULL);
    test_tampering("UPDATE event SET seq=CASE seq WHEN 10 THEN -11 WHEN 11 THEN -10 END"
                   " WHERE seq IN (10, 11); UPDATE event SET seq=-seq WHERE seq<0",
                   OT_EVENT_FAULT_EDITED, 10, NULL);
    test_tampering("UPDATE event SET seq=-seq WHERE seq>20; UPDATE event SET seq=1-seq WHERE seq<0;"
                   " INSERT INTO event SELECT 21,time_us,actor,role,scope,type,object,prev,hash,"
                   "payload_hash,payload FROM event WHERE seq=20",
                   OT_EVENT_FAULT_EDITED, 21, NULL);
    test_tampering("UPDATE event SET hash=x'00' WHERE seq=3", OT_EVENT_FAULT_EDITED, 3, NULL);
    test_tampering("UPDATE event SET payload='{\"n\":99}' WHERE seq=9", OT_EVENT_FAULT_PAYLOAD, 9,
                   NULL);
    test_tampering("DELETE FROM event WHERE seq=21", OT_EVENT_FAULT_MISSING, 21, NULL);
    test_tampering("DELETE FROM event WHERE seq<5", OT_EVENT_FAULT_MISSING, 1, NULL);
    test_tampering("UPDATE event SET seq=-1 WHERE seq=1", OT_EVENT_FAULT_MISSING, 1, NULL);
    test_tampering("DELETE FROM event WHERE seq>30", OT_EVENT_FAULT_TRUNCATED, 31, &head);
    test_tampering("DELETE FROM event", OT_EVENT_FAULT_TRUNCATED, 1, &head);
    test_tampering("UPDATE event SET prev=(SELECT hash FROM event WHERE seq=2) WHERE seq=30",
                   OT_EVENT_FAULT_EDITED, 30, NULL);
    ot_event_head other = head;
    other.hash.b[0] ^= 1;
    test_tampering("SELECT 1", OT_EVENT_FAULT_REWRITTEN, EVENTS, &other);
    return tap_done();
}
