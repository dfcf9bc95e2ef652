/* Answers that go on: events as they happen, the output of a run.
 *
 * A stream holds no data of its own, only how far it has come: what a slow reader has not taken
 * waits in the store or in the run's log. A reader that takes nothing at all is cut by the server
 * (net/http_server.h, progress) and the log says so. */
#include "api/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "launch/hosts.h"
#include "launch/run.h"
#include "store/events.h"
#include "store/runs.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#define STREAMS_MAX 64
#define EVENTS_A_TURN 256
#define LOG_PIECE 65536
#define LOG_PIECES_A_TURN 16
#define FOLLOW_NS UINT64_C(100000000)
#define BEAT_NS UINT64_C(15000000000)

typedef struct stream {
    api *a;
    ot_http_req *req;
    bool is_log, follow;
    bool full;             /* the reader has not taken what was sent; on_event tells */
    bool more;             /* there is more to send at once */
    uint64_t at;           /* last seq; offset into the log */
    int64_t run, rank;     /* rank -1: the whole run's */
    ot_event_query wanted; /* of events: type and object; its texts lie in the request's arena */
    struct stream *next;
} stream;

struct api_streams {
    stream *list;
    unsigned n, followers;
    ot_timer beat, follow;
    bool closed;
    atomic_bool fresh; /* Synchronization: set by any thread that commits, taken by the loop */
};

static void stream_end(stream *s)
{
    api_streams *all = s->a->streams;
    stream **at = &all->list;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    all->n--;
    all->followers -= s->is_log && s->follow;
    ot_http_stream_end(s->req);
    ot_free(s);
}

static void cut(stream *s)
{
    if (s->full) {
        ot_info("api", "%s stream ended: its reader did not take what was sent",
                s->is_log ? "log" : "event");
    }
    stream_end(s);
}

/* False when nothing more can be sent now; the stream may be gone then. */
static bool sent(stream *s, ot_rc rc)
{
    if (rc == OT_EXHAUSTED) {
        s->full = true;
    } else if (rc != OT_OK) {
        cut(s);
    }
    return rc == OT_OK;
}

/* ------------------------------------------------------------------ events */

struct reading {
    stream *s;
    unsigned n;
    ot_rc rc;
};

/* Not left to the store's query: a filter that seldom fits would have it look through the whole
 * log, and a stream would not know how far it has come. */
static bool is_wanted(const ot_event_query *q, const ot_event *e)
{
    if (q->type_prefix != NULL && !ot_has_prefix(e->type, q->type_prefix)) {
        return false;
    }
    return q->object == NULL || (q->object_prefix ? ot_has_prefix(e->object, q->object)
                                                  : strcmp(e->object, q->object) == 0);
}

static ot_rc send_event(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    struct reading *r = arg;
    OT_AUTO(ot_str_done) ot_str line = OT_STR_INIT;
    if (is_wanted(&r->s->wanted, e)) {
        ot_api_event_json(e, &line);
        ot_str_addc(&line, '\n');
        r->rc = line.failed ? OT_CANCELLED : ot_http_stream_write(r->s->req, line.data, line.len);
    }
    if (r->rc == OT_OK) {
        r->s->at = e->seq;
        r->n++;
    }
    return r->rc;
}

static ot_rc read_events(ot_txn *txn, void *arg, ot_error *err)
{
    struct reading *r = arg;
    ot_event_query q = {.after_seq = r->s->at, .limit = EVENTS_A_TURN};
    return ot_events_read(txn, &q, send_event, r, err);
}

static void send_events(stream *s)
{
    struct reading r = {.s = s};
    ot_error err = {0};
    ot_rc rc = ot_store_read(s->a->store, read_events, &r, &err);
    if (rc != OT_OK && r.rc == OT_OK) {
        ot_err("api", "event stream: %s", err.msg);
        stream_end(s);
        return;
    }
    s->more = r.n == EVENTS_A_TURN;
    (void)sent(s, r.rc);
}

/* ------------------------------------------------------------------ a run's log */

struct over_arg {
    int64_t run;
    bool over;
};

static ot_rc over_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct over_arg *o = arg;
    ot_arena arena;
    ot_run run;
    ot_arena_init(&arena, 16384, 8u << 20);
    ot_rc rc = ot_store_run_get(txn, o->run, &arena, &run, err);
    o->over = rc == OT_OK && run.state != OT_RUN_QUEUED && run.state != OT_RUN_RUNNING;
    ot_arena_done(&arena);
    return rc;
}

static void send_log(stream *s)
{
    char dir[OT_PATH_MAX];
    ot_error err = {0};
    struct over_arg o = {.run = s->run};
    api_run_dir(s->a, s->run, dir);
    /* Asked before the log is read: what is there then is all there will be. */
    ot_rc rc = s->follow ? ot_store_read(s->a->store, over_txn, &o, &err) : OT_OK;
    s->more = true;
    for (int i = 0; rc == OT_OK && i < LOG_PIECES_A_TURN; i++) {
        OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
        uint64_t next = s->at;
        rc = ot_launch_rank_log_read(dir, s->rank, s->at, LOG_PIECE, &text, &next, &err);
        if (rc != OT_OK || text.len == 0) {
            s->more = false;
            break;
        }
        if (!sent(s, ot_http_stream_write(s->req, text.data, text.len))) {
            return;
        }
        s->at = next;
    }
    if (rc != OT_OK) {
        ot_err("api", "run %" PRId64 ": log: %s", s->run, err.msg);
    }
    if (rc != OT_OK || (!s->more && (!s->follow || o.over))) {
        stream_end(s);
    }
}

/* ------------------------------------------------------------------ turns */

static void send_more(stream *s)
{
    if (s->is_log) {
        send_log(s);
    } else {
        send_events(s);
    }
}

void api_streams_turn(api *a)
{
    api_streams *all = a->streams;
    if (all == NULL || all->list == NULL) {
        return;
    }
    bool fresh = atomic_exchange(&all->fresh, false), again = false;
    for (stream *s = all->list, *next; s != NULL; s = next) {
        next = s->next;
        bool news = s->more || (fresh && !s->is_log);
        if (news && !s->full) {
            s->more = false;
            send_more(s);
        }
    }
    for (stream *s = all->list; s != NULL; s = s->next) {
        again = again || (s->more && !s->full);
    }
    if (again) {
        ot_loop_again(a->loop);
    }
}

static void on_event(void *arg)
{
    stream *s = arg;
    if (s->req->cancelled) {
        cut(s);
        return;
    }
    s->full = false;
    s->more = true;
}

static void on_follow(void *arg)
{
    api *a = arg;
    api_streams *all = a->streams;
    for (stream *s = all->list; s != NULL; s = s->next) {
        s->more = s->more || (s->is_log && s->follow);
    }
    if (all->followers > 0) {
        ot_loop_timer_set(a->loop, &all->follow, ot_clock_mono_ns() + FOLLOW_NS, on_follow, a);
    }
}

/* So that a reader knows that the stream stands. */
static void on_beat(void *arg)
{
    api *a = arg;
    api_streams *all = a->streams;
    for (stream *s = all->list, *next; s != NULL; s = next) {
        next = s->next;
        if (!s->is_log && !s->full) {
            (void)sent(s, ot_http_stream_write(s->req, "\n", 1));
        }
    }
    if (all->list != NULL) {
        ot_loop_timer_set(a->loop, &all->beat, ot_clock_mono_ns() + BEAT_NS, on_beat, a);
    }
}

static void nothing(void *arg)
{
    (void)arg;
}

/* On whatever thread commits. The post only wakes the loop: where it does not fit, the loop has
 * turns to come anyway, and looks at `fresh` at the end of each. */
static void on_commit(void *arg, const ot_event *events, size_t n)
{
    (void)events;
    (void)n;
    api *a = arg;
    if (!atomic_exchange(&a->streams->fresh, true)) {
        (void)!ot_loop_post(a->loop, nothing, NULL);
    }
}

ot_rc api_streams_create(api *a, ot_error *err)
{
    a->streams = ot_calloc(1, sizeof *a->streams);
    if (a->streams == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "streams: no memory");
    }
    atomic_init(&a->streams->fresh, false);
    return ot_store_on_event(a->store, on_commit, a, err);
}

void api_streams_close(api *a)
{
    a->streams->closed = true;
    while (a->streams->list != NULL) {
        stream_end(a->streams->list);
    }
}

void api_streams_destroy(api *a)
{
    ot_store_off_event(a->store, on_commit, a);
    ot_loop_timer_cancel(a->loop, &a->streams->beat);
    ot_loop_timer_cancel(a->loop, &a->streams->follow);
    ot_free(a->streams);
    a->streams = NULL;
}

/* ------------------------------------------------------------------ the requests */

static ot_rc stream_begin(api *a, const api_call *c, const stream *model, const char *type,
                          ot_error *err)
{
    api_streams *all = a->streams;
    if (all->closed) {
        return ot_fail(err, OT_UNAVAILABLE, "the control plane is ending");
    }
    if (all->n == STREAMS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%d streams are open already; close one", STREAMS_MAX);
    }
    stream *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "stream: no memory");
    }
    *s = *model;
    s->a = a;
    s->req = c->req;
    s->more = true;
    s->next = all->list;
    all->list = s;
    all->n++;
    all->followers += s->is_log && s->follow;
    ot_http_answer head = {.status = 200, .type = type};
    ot_http_stream_begin(c->req, &head, on_event, s);
    if (!s->is_log && !all->beat.active) {
        ot_loop_timer_set(a->loop, &all->beat, ot_clock_mono_ns() + BEAT_NS, on_beat, a);
    }
    if (all->followers > 0 && !all->follow.active) {
        ot_loop_timer_set(a->loop, &all->follow, ot_clock_mono_ns() + FOLLOW_NS, on_follow, a);
    }
    return OT_OK;
}

static ot_rc head_txn(ot_txn *txn, void *arg, ot_error *err)
{
    ot_event_head head;
    OT_TRY(ot_events_head(txn, &head, err));
    *(int64_t *)arg = (int64_t)head.seq;
    return OT_OK;
}

ot_rc api_event_stream(api *a, const api_call *c, ot_error *err)
{
    int64_t after = -1;
    OT_TRY(ot_query_i64(c->req->query, "after", c->req->arena, 0, INT64_MAX, &after, err));
    if (after < 0) {
        OT_TRY(ot_store_read(a->store, head_txn, &after, err));
    }
    stream model = {.at = (uint64_t)after};
    OT_TRY(api_event_filter(c->req, &model.wanted, err));
    return stream_begin(a, c, &model, "application/x-ndjson", err);
}

ot_rc api_run_log(api *a, const api_call *c, ot_error *err)
{
    stream model = {.is_log = true, .rank = -1};
    struct over_arg o = {0};
    OT_TRY(api_number(c->name[0], "run", &model.run, err));
    OT_TRY(ot_query_flag(c->req->query, "follow", c->req->arena, &model.follow, err));
    OT_TRY(ot_query_i64(c->req->query, "rank", c->req->arena, 0, OT_JOB_SLOTS_MAX - 1, &model.rank,
                        err));
    o.run = model.run;
    OT_TRY(ot_store_read(a->store, over_txn, &o, err)); /* is there such a run? */
    return stream_begin(a, c, &model, "text/plain; charset=utf-8", err);
}
