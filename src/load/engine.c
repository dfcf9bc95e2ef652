#include "load/engine_internal.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "base/random.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>

#define EVENTS_MAX 256
#define START_NS UINT64_C(2000000)    /* until the first request */
#define SWEEP_NS UINT64_C(20000000)   /* between looks for timeouts and closed connections */
#define RETRY_NS UINT64_C(100000000)  /* between tries to connect again */
#define GRACE_NS UINT64_C(1000000000) /* for sending what was due and found no connection */

struct ot_load_engine {
    ot_load_options o;
    ot_load_result *result;
    ot_load_conn *conns;
    ot_load_flight *flights;
    ot_load_conn **free; /* ring of connections with room */
    size_t free_at, n_free;
    int epoll;
    ot_rng rng;
    uint64_t now_ns, start_ns, measure_ns, end_ns, last_ns, sweep_ns;
    uint64_t due_ns;     /* of the next request, open loop */
    double due_exact_ns; /* since start_ns */
    uint64_t starved_ns; /* when a request last was due without a free connection */
    uint64_t issued;     /* requests, of all */
    uint64_t measured;   /* of them */
    uint64_t in_flight;
};

const char *ot_load_outcome_name(ot_load_outcome o)
{
    static const char *const names[OT_LOAD_OUTCOMES] = {"correct",      "wrong",        "refused",
                                                        "client_error", "server_error", "malformed",
                                                        "broken",       "timeout",      "unsent"};
    return names[o];
}

uint64_t ot_load_counts_all(const ot_load_counts *c)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < OT_LOAD_OUTCOMES; i++) {
        sum += c->n[i];
    }
    return sum;
}

uint64_t ot_load_counts_failed(const ot_load_counts *c)
{
    return ot_load_counts_all(c) - c->n[OT_LOAD_CORRECT] - c->n[OT_LOAD_WRONG] -
           c->n[OT_LOAD_REFUSED];
}

void ot_load_request_done(ot_load_request *r)
{
    ot_free(r->path);
    ot_str_done(&r->head);
    ot_str_done(&r->body);
}

const ot_load_options *ot_load_options_of(const ot_load_engine *e)
{
    return &e->o;
}

/* ---- connections */

static void list(ot_load_engine *e, ot_load_conn *c)
{
    if (!c->listed && c->fd >= 0 && !c->connecting && c->busy < e->o.streams) {
        c->listed = true;
        e->free[(e->free_at + e->n_free++) % e->o.connections] = c;
    }
}

/* The connection that has had room for longest; NULL when none has. */
static ot_load_conn *take_free(ot_load_engine *e)
{
    while (e->n_free > 0) {
        ot_load_conn *c = e->free[e->free_at];
        e->free_at = (e->free_at + 1) % e->o.connections;
        e->n_free--;
        c->listed = false;
        if (c->fd >= 0 && !c->connecting && c->busy < e->o.streams) {
            return c;
        }
    }
    return NULL;
}

static void watch(ot_load_conn *c)
{
    uint32_t events = EPOLLIN | (ot_load_wants_write(c) ? (uint32_t)EPOLLOUT : 0u);
    if (c->fd >= 0 && events != c->events) {
        struct epoll_event e = {.events = events, .data.ptr = c};
        int op = c->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        (void)epoll_ctl(c->engine->epoll, op, c->fd, &e);
        c->events = events;
    }
}

static void shut(ot_load_conn *c)
{
    ot_load_engine *e = c->engine;
    for (unsigned i = 0; i < e->o.streams && c->busy > 0; i++) {
        if (c->flights[i].busy) {
            ot_load_ended(c, &c->flights[i], OT_LOAD_BROKEN);
        }
    }
    e->o.wire->close(c);
    ot_load_hang_up(c);
    c->events = 0;
    c->connecting = c->wants_write = false;
    c->retry_ns = e->now_ns;
}

static void opened(ot_load_conn *c)
{
    ot_error err;
    ot_tls_step step = ot_load_shake(c, &err);
    if (step == OT_TLS_WAIT) {
        return;
    }
    c->connecting = false;
    ot_sock_nodelay(c->fd);
    if (step == OT_TLS_FAILED || c->engine->o.wire->open(c, &err) != OT_OK) {
        shut(c);
        c->retry_ns = c->engine->now_ns + RETRY_NS;
        return;
    }
    list(c->engine, c);
}

static void connect_again(ot_load_conn *c)
{
    ot_error err;
    ot_load_engine *e = c->engine;
    c->retry_ns = e->now_ns + RETRY_NS;
    if (ot_sock_connect_start(&e->o.addr, &c->fd, &err) == OT_OK) {
        c->connecting = true;
        e->result->reconnects++;
        watch(c);
    }
}

static ot_rc connect_first(ot_load_engine *e, ot_load_conn *c, ot_error *err)
{
    OT_TRY(ot_load_connect(c, err));
    OT_TRY(e->o.wire->open(c, err));
    list(e, c);
    watch(c);
    return OT_OK;
}

static bool readable(ot_load_conn *c)
{
    bool stays = c->engine->o.wire->readable(c);
    while (stays && ot_load_more_in(c)) {
        stays = c->engine->o.wire->readable(c);
    }
    return stays;
}

static void on_event(ot_load_conn *c, uint32_t events)
{
    if (c->fd < 0) {
        return;
    }
    if (c->connecting) {
        if (ot_sock_error(c->fd) != 0) {
            shut(c);
            c->retry_ns = c->engine->now_ns + RETRY_NS;
            return;
        }
        opened(c);
    } else if (((events & EPOLLOUT) != 0 && !c->engine->o.wire->writable(c)) ||
               ((events & ~(uint32_t)EPOLLOUT) != 0 && !readable(c))) {
        shut(c);
        connect_again(c);
        return;
    }
    watch(c);
    list(c->engine, c);
}

/* ---- requests */

static void finish(ot_load_conn *c, ot_load_flight *f, ot_load_outcome how)
{
    ot_load_engine *e = c->engine;
    ot_load_result *r = e->result;
    uint64_t now = ot_clock_mono_ns(), took = now - OT_MIN(f->due_ns, now);
    (f->measured ? &r->measured : &r->warmup)->n[how]++;
    if (f->measured && how == OT_LOAD_CORRECT) {
        ot_latency_add(&r->correct, took);
    } else if (f->measured && how == OT_LOAD_REFUSED) {
        ot_latency_add(&r->refused, took);
    }
    e->last_ns = now;
    f->busy = false;
    c->busy--;
    e->in_flight--;
}

void ot_load_answered(ot_load_conn *c, ot_load_flight *f, const ot_load_answer *a)
{
    const ot_load_options *o = &c->engine->o;
    finish(c, f, o->judge(o->arg, f->request, a, f->measured));
}

void ot_load_ended(ot_load_conn *c, ot_load_flight *f, ot_load_outcome how)
{
    finish(c, f, how);
}

static bool is_closed_loop(const ot_load_engine *e)
{
    return e->o.rate == 0 && e->o.at_ns == NULL;
}

/* Sets when the next request is due; UINT64_MAX: there is none. */
static void plan_next(ot_load_engine *e)
{
    if (e->o.at_ns != NULL) {
        e->due_ns = e->issued < e->o.n_requests ? e->start_ns + e->o.at_ns[e->issued] : UINT64_MAX;
        return;
    }
    if (is_closed_loop(e)) {
        e->due_ns = 0;
    } else {
        double gap = 1e9 / e->o.rate;
        e->due_exact_ns += e->o.poisson ? -log(1 - ot_rng_uniform(&e->rng)) * gap : gap;
        e->due_ns = e->start_ns + (uint64_t)e->due_exact_ns;
    }
    if (e->due_ns >= e->end_ns || (e->o.requests_max > 0 && e->measured >= e->o.requests_max)) {
        e->due_ns = UINT64_MAX;
    }
}

static void issue(ot_load_engine *e, ot_load_conn *c)
{
    ot_load_flight *f = c->flights;
    while (f->busy) {
        f++;
    }
    uint64_t now = ot_clock_mono_ns();
    *f = (ot_load_flight){.busy = true,
                          .request = e->issued % e->o.n_requests,
                          .due_ns = is_closed_loop(e) ? now : e->due_ns,
                          .sent_ns = now};
    f->measured = f->due_ns >= e->measure_ns;
    if (f->measured && f->due_ns <= e->starved_ns) {
        e->result->late++;
    } else if (f->measured) {
        e->result->behind_ns = OT_MAX(e->result->behind_ns, now - OT_MIN(f->due_ns, now));
    }
    c->busy++;
    e->in_flight++;
    e->issued++;
    e->measured += f->measured;
    e->o.wire->send(c, f, &e->o.requests[f->request]);
    watch(c);
    list(e, c);
    plan_next(e);
}

static void issue_due(ot_load_engine *e)
{
    while (e->due_ns <= e->now_ns) {
        if (is_closed_loop(e) && e->now_ns >= e->end_ns) {
            e->due_ns = UINT64_MAX;
            break;
        }
        ot_load_conn *c = take_free(e);
        if (c == NULL) {
            e->starved_ns = is_closed_loop(e) ? 0 : e->now_ns;
            break;
        }
        issue(e, c);
    }
}

/* What is still due and was not sent. */
static void drop_due(ot_load_engine *e)
{
    while (e->due_ns != UINT64_MAX && !is_closed_loop(e)) {
        bool measured = e->due_ns >= e->measure_ns;
        (measured ? &e->result->measured : &e->result->warmup)->n[OT_LOAD_UNSENT]++;
        e->issued++;
        e->measured += measured;
        plan_next(e);
    }
    e->due_ns = UINT64_MAX;
}

static void sweep(ot_load_engine *e)
{
    e->sweep_ns = e->now_ns + SWEEP_NS;
    for (unsigned i = 0; i < e->o.connections; i++) {
        ot_load_conn *c = &e->conns[i];
        for (unsigned k = 0; k < e->o.streams && c->busy > 0; k++) {
            ot_load_flight *f = &c->flights[k];
            if (!f->busy || e->now_ns - OT_MIN(f->sent_ns, e->now_ns) < e->o.timeout_ns) {
                continue;
            }
            bool closes = e->o.wire->cancel == NULL;
            if (!closes) {
                e->o.wire->cancel(c, f);
            }
            ot_load_ended(c, f, OT_LOAD_TIMEOUT);
            if (closes) {
                shut(c);
            }
        }
        if (c->fd < 0 && c->retry_ns <= e->now_ns) {
            connect_again(c);
        }
        list(e, c);
    }
}

/* ---- the run */

static bool stopped(const ot_load_engine *e)
{
    return e->o.stop != NULL && *e->o.stop != 0;
}

/* Waits for events, or until the next request is due or it is time to sweep. */
static int wait_for_events(ot_load_engine *e, struct epoll_event *events)
{
    int n = epoll_wait(e->epoll, events, EVENTS_MAX, 0);
    uint64_t until = e->sweep_ns;
    if (e->n_free > 0 && e->due_ns < until) {
        until = e->due_ns;
    }
    uint64_t now = ot_clock_mono_ns();
    if (n != 0 || until <= now) {
        return n;
    }
    struct timespec t = {(time_t)((until - now) / 1000000000), (long)((until - now) % 1000000000)};
    struct pollfd p = {.fd = e->epoll, .events = POLLIN};
    return ppoll(&p, 1, &t, NULL) > 0 ? epoll_wait(e->epoll, events, EVENTS_MAX, 0) : 0;
}

static void run(ot_load_engine *e)
{
    struct epoll_event events[EVENTS_MAX];
    e->now_ns = ot_clock_mono_ns();
    e->start_ns = e->now_ns + START_NS;
    e->measure_ns = e->start_ns + (e->o.at_ns != NULL ? 0 : e->o.warmup_ns);
    e->end_ns = e->o.at_ns != NULL ? e->start_ns + e->o.at_ns[e->o.n_requests - 1]
                                   : e->measure_ns + e->o.duration_ns;
    e->last_ns = e->measure_ns;
    e->sweep_ns = e->start_ns;
    plan_next(e);
    if (is_closed_loop(e)) {
        e->due_ns = e->start_ns;
    }
    while (e->due_ns != UINT64_MAX || e->in_flight > 0) {
        int n = wait_for_events(e, events);
        e->now_ns = ot_clock_mono_ns();
        for (int i = 0; i < n; i++) {
            on_event(events[i].data.ptr, events[i].events);
        }
        issue_due(e);
        if (e->now_ns >= e->sweep_ns) {
            sweep(e);
        }
        if (stopped(e)) {
            e->end_ns = OT_MIN(e->end_ns, e->now_ns);
            e->due_ns = UINT64_MAX;
        }
        if (e->due_ns != UINT64_MAX && e->now_ns > e->end_ns && e->now_ns - e->end_ns > GRACE_NS) {
            drop_due(e);
        }
    }
    e->result->elapsed_ns = e->last_ns - OT_MIN(e->measure_ns, e->last_ns);
}

static ot_rc prepare(ot_load_engine *e, ot_error *err)
{
    const ot_load_options *o = &e->o;
    if (o->connections < 1 || o->connections > OT_LOAD_CONNECTIONS_MAX || o->streams < 1 ||
        o->streams > OT_LOAD_STREAMS_MAX || o->n_requests < 1 || !(o->rate >= 0) ||
        o->rate > OT_LOAD_RATE_MAX) {
        return ot_fail(err, OT_INVALID,
                       "load: %u connections (1 to %d) of %u streams (1 to %d), %zu requests (at "
                       "least 1), %g a second (0 to %g)",
                       o->connections, OT_LOAD_CONNECTIONS_MAX, o->streams, OT_LOAD_STREAMS_MAX,
                       o->n_requests, o->rate, OT_LOAD_RATE_MAX);
    }
    e->conns = ot_calloc(o->connections, sizeof *e->conns);
    e->flights = ot_calloc((size_t)o->connections * o->streams, sizeof *e->flights);
    e->free = ot_calloc(o->connections, sizeof(ot_load_conn *));
    if (e->conns == NULL || e->flights == NULL || e->free == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for %u connections", o->connections);
    }
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (e->epoll < 0) {
        return ot_fail_errno(err, errno, "load: epoll");
    }
    for (unsigned i = 0; i < o->connections; i++) {
        ot_load_conn *c = &e->conns[i];
        *c = (ot_load_conn){.engine = e, .fd = -1, .flights = &e->flights[i * o->streams]};
    }
    for (unsigned i = 0; i < o->connections; i++) {
        OT_TRY(connect_first(e, &e->conns[i], err));
    }
    return OT_OK;
}

static void clean_up(ot_load_engine *e)
{
    for (unsigned i = 0; e->conns != NULL && i < e->o.connections; i++) {
        if (e->conns[i].engine != NULL) {
            e->o.wire->close(&e->conns[i]);
            ot_load_hang_up(&e->conns[i]);
        }
    }
    ot_fd_close(&e->epoll);
    ot_free(e->conns);
    ot_free(e->flights);
    ot_free(e->free);
}

ot_rc ot_load_run(const ot_load_options *o, ot_load_result *result_out, ot_error *err)
{
    ot_load_result *r = ot_calloc(1, sizeof *r);
    ot_load_engine e = {.o = *o, .result = r, .epoll = -1};
    if (r == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory");
    }
    ot_rng_seed(&e.rng, o->seed);
    ot_rc rc = prepare(&e, err);
    if (rc == OT_OK) {
        struct sched_param priority = {.sched_priority = 1}, normal = {0};
        r->realtime = o->realtime && sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
        (void)prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul); /* wake-ups at their time */
        run(&e);
        (void)prctl(PR_SET_TIMERSLACK, 0ul, 0ul, 0ul, 0ul);
        if (r->realtime) {
            (void)sched_setscheduler(0, SCHED_OTHER, &normal);
        }
        *result_out = *r;
    }
    clean_up(&e);
    ot_free(r);
    return rc;
}
