#include "store/events.h"

#include "base/clock.h"
#include "store/core.h"
#include "store/events_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void add_u64(ot_sha256 *c, uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++) {
        b[i] = (uint8_t)(v >> (8 * i));
    }
    ot_sha256_add(c, b, sizeof b);
}

static void add_text(ot_sha256 *c, const char *z)
{
    size_t n = strlen(z);
    uint8_t b[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    ot_sha256_add(c, b, sizeof b);
    ot_sha256_add(c, z, n);
}

ot_digest ot_event_hash(const ot_event *e)
{
    ot_sha256 c;
    ot_sha256_init(&c);
    ot_sha256_add(&c, "OTEVENT1", 8);
    add_u64(&c, e->seq);
    ot_sha256_add(&c, e->prev.b, sizeof e->prev.b);
    add_u64(&c, (uint64_t)e->time_us);
    add_text(&c, e->actor);
    add_text(&c, e->role);
    add_text(&c, e->scope);
    add_text(&c, e->type);
    add_text(&c, e->object);
    ot_sha256_add(&c, e->payload_hash.b, sizeof e->payload_hash.b);
    return ot_sha256_done(&c);
}

static ot_rc check_text(const char *what, const char *z, ot_error *err)
{
    size_t n = strlen(z);
    if (n > OT_EVENT_NAME_MAX) {
        return ot_fail(err, OT_INVALID, "event: %s '%.40s...' has %zu bytes; at most %d", what, z,
                       n, OT_EVENT_NAME_MAX);
    }
    return OT_OK;
}

static ot_rc check_type(const char *type, ot_error *err)
{
    OT_TRY(check_text("type", type, err));
    size_t n = strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    if (n == 0 || type[n] != 0) {
        return ot_fail(err, OT_INVALID,
                       "event: type '%.80s'; it needs 1 to %d characters of [a-z0-9._-]", type,
                       OT_EVENT_NAME_MAX);
    }
    return OT_OK;
}

static ot_rc check_payload(const char *payload, size_t n, ot_error *err)
{
    if (n > OT_EVENT_PAYLOAD_MAX) {
        return ot_fail(err, OT_INVALID, "event: payload of %zu bytes; at most %u", n,
                       OT_EVENT_PAYLOAD_MAX);
    }
    if (n < 2 || payload[0] != '{' || payload[n - 1] != '}') {
        return ot_fail(err, OT_INVALID, "event: payload '%.40s' is not a JSON object", payload);
    }
    return OT_OK;
}

ot_rc ot_events_head(ot_txn *txn, ot_event_head *head_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, "SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1", &s, err));
    OT_TRY(ot_stmt_step(s, "read the log's head", &row, err));
    ot_event_head head = {0};
    if (row) {
        head.seq = (uint64_t)ot_col_i64(s, 0);
        if (!ot_col_digest(s, 1, &head.hash)) {
            return ot_fail(err, OT_DATA_LOSS, "event %" PRIu64 ": its hash is damaged", head.seq);
        }
    }
    *head_out = head;
    return OT_OK;
}

void ot_event_head_format(const ot_event_head *h, char out[OT_EVENT_HEAD_LINE + 1])
{
    char hex[OT_DIGEST_HEX];
    snprintf(out, OT_EVENT_HEAD_LINE + 1, "%020" PRIu64 " %s\n", h->seq,
             ot_digest_hex(&h->hash, hex));
}

bool ot_event_head_parse(const char *text, ot_event_head *out)
{
    char hex[OT_DIGEST_HEX];
    return strnlen(text, OT_EVENT_HEAD_LINE - 1) == OT_EVENT_HEAD_LINE - 1 &&
           sscanf(text, "%20" SCNu64 " %64s", &out->seq, hex) == 2 &&
           ot_digest_parse(hex, &out->hash);
}

/* The head of the open transaction; read once, then carried along. */
static ot_rc know_head(ot_txn *txn, ot_event_group *g, ot_error *err)
{
    if (g->head_known) {
        return OT_OK;
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_events_head(txn, &g->head, err));
    OT_TRY(ot_stmt_get(txn, "SELECT time_us FROM event WHERE seq = ?1", &s, err));
    OT_TRY(ot_bind_i64(s, 1, (int64_t)g->head.seq, err));
    OT_TRY(ot_stmt_step(s, "read the log's head", &row, err));
    g->head_time_us = row ? ot_col_i64(s, 0) : INT64_MIN;
    g->head_known = true;
    return OT_OK;
}

static ot_rc insert(ot_txn *txn, const ot_event *e, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO event(seq, time_us, actor, role, scope, type, object, prev,"
                       " hash, payload_hash, payload)"
                       " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, (int64_t)e->seq, err));
    OT_TRY(ot_bind_i64(s, 2, e->time_us, err));
    OT_TRY(ot_bind_text(s, 3, e->actor, err));
    OT_TRY(ot_bind_text(s, 4, e->role, err));
    OT_TRY(ot_bind_text(s, 5, e->scope, err));
    OT_TRY(ot_bind_text(s, 6, e->type, err));
    OT_TRY(ot_bind_text(s, 7, e->object, err));
    OT_TRY(ot_bind_digest(s, 8, &e->prev, err));
    OT_TRY(ot_bind_digest(s, 9, &e->hash, err));
    OT_TRY(ot_bind_digest(s, 10, &e->payload_hash, err));
    OT_TRY(ot_bind_text(s, 11, e->payload, err));
    return ot_stmt_run(s, "append an event", err);
}

/* Copies an event for the listeners of the group. */
static bool remember(ot_event_group *g, const ot_event *e)
{
    if (!ot_grow(&g->items, &g->cap, g->count, sizeof *g->items, 0)) {
        return false;
    }
    ot_event copy = *e;
    const char **text[] = {&copy.actor, &copy.role,   &copy.scope,
                           &copy.type,  &copy.object, &copy.payload};
    for (size_t i = 0; i < OT_COUNT(text); i++) {
        *text[i] = ot_arena_strdup(&g->arena, *text[i]);
        if (*text[i] == NULL) {
            return false;
        }
    }
    g->items[g->count++] = copy;
    return true;
}

static bool has_listeners(ot_store *s)
{
    pthread_mutex_lock(&s->listeners_m);
    bool any = s->listener_count > 0;
    pthread_mutex_unlock(&s->listeners_m);
    return any;
}

static const char *or_empty(const char *z)
{
    return z == NULL ? "" : z;
}

ot_rc ot_event_append(ot_txn *txn, const ot_event_in *in, uint64_t *seq_out, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "append an event", err));
    ot_event e = {
        .time_us = in->time_us != 0 ? in->time_us : ot_clock_wall_us(),
        .actor = or_empty(in->actor),
        .role = or_empty(in->role),
        .scope = or_empty(in->scope),
        .type = or_empty(in->type),
        .object = or_empty(in->object),
        .payload = in->payload == NULL ? "{}" : in->payload,
    };
    size_t n = strlen(e.payload);
    OT_TRY(check_text("actor", e.actor, err));
    OT_TRY(check_text("role", e.role, err));
    OT_TRY(check_text("scope", e.scope, err));
    OT_TRY(check_type(e.type, err));
    OT_TRY(check_text("object", e.object, err));
    OT_TRY(check_payload(e.payload, n, err));
    ot_event_group *g = &txn->store->events;
    OT_TRY(know_head(txn, g, err));
    e.seq = g->head.seq + 1;
    e.time_us = OT_MAX(e.time_us, g->head_time_us);
    e.prev = g->head.hash;
    e.payload_hash = ot_sha256_of(e.payload, n);
    e.hash = ot_event_hash(&e);
    OT_TRY(insert(txn, &e, err));
    if (has_listeners(txn->store) && !remember(g, &e)) {
        return ot_fail(err, OT_EXHAUSTED, "event %s: no memory to announce it", e.type);
    }
    g->head = (ot_event_head){.seq = e.seq, .hash = e.hash};
    g->head_time_us = e.time_us;
    if (seq_out != NULL) {
        *seq_out = e.seq;
    }
    return OT_OK;
}

ot_rc ot_event_erase_payload(ot_txn *txn, uint64_t seq, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_txn_need_write(txn, "erase a payload", err));
    OT_TRY(ot_stmt_get(txn, "UPDATE event SET payload = NULL WHERE seq = ?1", &s, err));
    OT_TRY(ot_bind_i64(s, 1, (int64_t)seq, err));
    OT_TRY(ot_stmt_run(s, "erase a payload", err));
    return ot_txn_changes(txn) == 1
               ? OT_OK
               : ot_fail(err, OT_NOT_FOUND, "event %" PRIu64 ": there is none", seq);
}

/* How many events one batch of the index takes: what a writer then waits for at most. */
#define INDEX_BATCH 5000

ot_rc ot_events_index(ot_txn *txn, ot_error *err)
{
    static const char *const steps[] = {
        "INSERT OR IGNORE INTO event_object(object, seq) SELECT object, seq FROM event"
        " WHERE seq > (SELECT upto FROM event_indexed) ORDER BY seq LIMIT ?1",
        "UPDATE event_indexed SET upto = ifnull((SELECT max(seq) FROM (SELECT seq FROM event"
        " WHERE seq > upto ORDER BY seq LIMIT ?1)), upto)",
    };
    for (size_t i = 0; i < OT_COUNT(steps); i++) {
        OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
        OT_TRY(ot_stmt_get(txn, steps[i], &s, err));
        OT_TRY(ot_bind_i64(s, 1, INDEX_BATCH, err));
        OT_TRY(ot_stmt_run(s, "index events", err));
    }
    return OT_OK;
}

ot_event_mark ot_event_group_mark(const ot_event_group *g)
{
    return (ot_event_mark){
        .count = g->count,
        .head_known = g->head_known,
        .head_time_us = g->head_time_us,
        .head = g->head,
    };
}

void ot_event_group_rewind(ot_event_group *g, const ot_event_mark *mark)
{
    g->count = mark->count;
    g->head_known = mark->head_known;
    g->head_time_us = mark->head_time_us;
    g->head = mark->head;
}

void ot_event_group_clear(ot_event_group *g)
{
    g->count = 0;
    ot_arena_reset(&g->arena);
}

void ot_event_group_deliver(ot_store *s)
{
    ot_listener listeners[OT_STORE_LISTENERS_MAX];
    pthread_mutex_lock(&s->listeners_m);
    size_t n = s->listener_count;
    memcpy(listeners, s->listeners, n * sizeof *listeners);
    s->listeners_running = true;
    pthread_mutex_unlock(&s->listeners_m);
    for (size_t i = 0; i < n; i++) {
        listeners[i].fn(listeners[i].arg, s->events.items, s->events.count);
    }
    pthread_mutex_lock(&s->listeners_m);
    s->listeners_running = false;
    pthread_cond_broadcast(&s->listeners_cv);
    pthread_mutex_unlock(&s->listeners_m);
}

ot_rc ot_store_on_event(ot_store *s, ot_store_event_fn *fn, void *arg, ot_error *err)
{
    ot_rc rc = OT_OK;
    pthread_mutex_lock(&s->listeners_m);
    if (s->listener_count == OT_STORE_LISTENERS_MAX) {
        rc = ot_fail(err, OT_EXHAUSTED, "store %s: more than %d event listeners", s->dir,
                     OT_STORE_LISTENERS_MAX);
    } else {
        s->listeners[s->listener_count++] = (ot_listener){.fn = fn, .arg = arg};
    }
    pthread_mutex_unlock(&s->listeners_m);
    return rc;
}

void ot_store_off_event(ot_store *s, ot_store_event_fn *fn, void *arg)
{
    pthread_mutex_lock(&s->listeners_m);
    for (size_t i = 0; i < s->listener_count; i++) {
        if (s->listeners[i].fn == fn && s->listeners[i].arg == arg) {
            memmove(&s->listeners[i], &s->listeners[i + 1],
                    (s->listener_count - i - 1) * sizeof *s->listeners);
            s->listener_count--;
            break;
        }
    }
    while (s->listeners_running) {
        pthread_cond_wait(&s->listeners_cv, &s->listeners_m);
    }
    pthread_mutex_unlock(&s->listeners_m);
}
