#include "collective/trace_internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define CLOSE_NS 200000u /* sleeps that are no further apart are one wait */

struct ot_trace {
    int32_t rank, size;
    /* Synchronization: atomic. */
    _Atomic int64_t offset_ns;
    _Atomic uint64_t clock_error_ns; /* UINT64_MAX: the common clock is not known */
    _Atomic bool on;

    /* Synchronization: of the lock. */
    pthread_mutex_t lock;
    uint64_t begun_ns, last_ns;                          /* of the account; begun 0: not yet */
    double exact_us, lossy_us;                           /* predicted */
    uint64_t blocked, late, input, wire, marks, repeats; /* nanoseconds */
    uint64_t wire_until, input_until, blocked_since;
    int32_t n_blocked;
    uint64_t epoch, first_hash; /* of the plan that repeats */
    uint64_t *late_by;          /* size: nanoseconds, by rank */
    ot_trace_events events;
};

ot_rc ot_trace_create(int32_t rank, int32_t size, ot_trace **out, ot_error *err)
{
    ot_trace *t = ot_calloc(1, sizeof *t);
    if (t != NULL) {
        t->late_by = ot_calloc((size_t)size, sizeof *t->late_by);
    }
    if (t == NULL || t->late_by == NULL) {
        ot_free(t);
        return ot_fail(err, OT_EXHAUSTED, "account of %d ranks: out of memory", size);
    }
    t->rank = rank;
    t->size = size;
    t->clock_error_ns = UINT64_MAX;
    pthread_mutex_init(&t->lock, NULL);
    *out = t;
    return OT_OK;
}

void ot_trace_destroy(ot_trace *t)
{
    if (t != NULL) {
        pthread_mutex_destroy(&t->lock);
        ot_free(t->late_by);
        ot_free(t->events.v);
        ot_free(t);
    }
}

void ot_trace_clock(ot_trace *t, int64_t offset_ns, uint64_t error_ns)
{
    atomic_store(&t->offset_ns, offset_ns);
    atomic_store(&t->clock_error_ns, error_ns);
}

static uint64_t shifted(uint64_t ns, int64_t by)
{
    return by < 0 && ns < (uint64_t)-by ? 0 : ns + (uint64_t)by;
}

ot_late ot_trace_asked(const ot_trace *t, uint64_t ns)
{
    if (t == NULL || ns == 0 || atomic_load(&t->clock_error_ns) == UINT64_MAX) {
        return (ot_late){.rank = -1};
    }
    return (ot_late){shifted(ns, atomic_load(&t->offset_ns)), t->rank};
}

/* --- the ring -------------------------------------------------------------------------------- */

static void set_name(char out[OT_TRACE_NAME], const char *name)
{
    size_t n = strlen(name);
    if (n < OT_TRACE_NAME) {
        memcpy(out, name, n + 1);
    } else {
        memcpy(out, "...", 3);
        memcpy(out + 3, name + n - (OT_TRACE_NAME - 4), OT_TRACE_NAME - 3);
    }
}

static ot_trace_event *add_locked(ot_trace *t, ot_trace_kind what, const char *name)
{
    ot_trace_events *r = &t->events;
    if (r->v == NULL) {
        return NULL;
    }
    ot_trace_event *e = &r->v[(r->first + r->n) % OT_TRACE_EVENTS];
    if (r->n < OT_TRACE_EVENTS) {
        r->n++;
    } else {
        r->first = (r->first + 1) % OT_TRACE_EVENTS;
        r->dropped++;
    }
    e->what = what;
    set_name(e->name, name);
    return e;
}

static void add_slice_locked(ot_trace *t, ot_trace_kind what, const char *name, int32_t rank,
                             uint64_t from, uint64_t to)
{
    ot_trace_event *e = add_locked(t, what, name);
    if (e != NULL) {
        e->rank = rank;
        e->from = from;
        e->to = to;
        e->slept = to - from;
    }
}

ot_rc ot_trace_start(ot_trace *t, ot_error *err)
{
    ot_rc rc = OT_OK;
    pthread_mutex_lock(&t->lock);
    if (t->events.v != NULL) {
        rc = ot_fail(err, OT_PRECONDITION,
                     "a timeline is being recorded already: stop it first (overtake run "
                     "--timeline records the whole job)");
    } else {
        t->events = (ot_trace_events){.v = ot_alloc(OT_TRACE_EVENTS * sizeof *t->events.v)};
        if (t->events.v != NULL) { /* the page faults now, not one an operation */
            memset(t->events.v, 0, OT_TRACE_EVENTS * sizeof *t->events.v);
        }
        rc = t->events.v != NULL
                 ? OT_OK
                 : ot_fail(err, OT_EXHAUSTED, "timeline: no memory for %d events", OT_TRACE_EVENTS);
    }
    atomic_store(&t->on, t->events.v != NULL);
    pthread_mutex_unlock(&t->lock);
    return rc;
}

bool ot_trace_on(const ot_trace *t)
{
    return t != NULL && atomic_load_explicit(&t->on, memory_order_relaxed);
}

void ot_trace_op_add(ot_trace *t, const ot_trace_op *op)
{
    pthread_mutex_lock(&t->lock);
    ot_trace_event *e = add_locked(t, OT_TRACE_OP, op->name);
    if (e != NULL) {
        e->op = *op;
        e->op.name = NULL;
    }
    pthread_mutex_unlock(&t->lock);
}

void ot_trace_waited(ot_trace *t, int32_t rank, const char *name, uint64_t from, uint64_t to)
{
    char cut[OT_TRACE_NAME];
    set_name(cut, name);
    pthread_mutex_lock(&t->lock);
    ot_trace_events *r = &t->events;
    ot_trace_event *e = r->n > 0 ? &r->v[(r->first + r->n - 1) % OT_TRACE_EVENTS] : NULL;
    if (e != NULL && e->what == OT_TRACE_WAIT && e->rank == rank && from - e->to <= CLOSE_NS &&
        strcmp(e->name, cut) == 0) {
        e->slept += to - from;
        e->to = to;
    } else {
        add_slice_locked(t, OT_TRACE_WAIT, cut, rank, from, to);
    }
    pthread_mutex_unlock(&t->lock);
}

ot_rc ot_trace_stop(ot_trace *t, const char *host, ot_str *out, ot_trace_info *info_out,
                    ot_error *err)
{
    pthread_mutex_lock(&t->lock);
    ot_trace_events r = t->events;
    t->events = (ot_trace_events){0};
    atomic_store(&t->on, false);
    pthread_mutex_unlock(&t->lock);
    if (r.v == NULL) {
        return ot_fail(err, OT_PRECONDITION, "no timeline is being recorded: start one first");
    }
    uint64_t error_ns = atomic_load(&t->clock_error_ns);
    *info_out = (ot_trace_info){.dropped = r.dropped,
                                .offset_ns = atomic_load(&t->offset_ns),
                                .error_ns = error_ns,
                                .clock_known = error_ns != UINT64_MAX};
    ot_trace_head_text(out, t->rank, host);
    uint32_t i = 0;
    for (; i < r.n; i++) {
        if (!ot_trace_event_text(out, t->rank, info_out->offset_ns, i + 1,
                                 &r.v[(r.first + i) % OT_TRACE_EVENTS])) {
            break;
        }
    }
    info_out->events = i;
    info_out->dropped += r.n - i;
    ot_free(r.v);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "timeline: no memory for its text") : OT_OK;
}

/* --- the account ----------------------------------------------------------------------------- */

static uint64_t since(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

/* A bucket of the plan that is the first of its epoch to end: it ends once a step. */
static void count_repeats_locked(ot_trace *t, uint64_t epoch, uint64_t hash)
{
    if (epoch != 0 && epoch != t->epoch) {
        t->epoch = epoch;
        t->first_hash = hash;
    }
    t->repeats += epoch != 0 && hash == t->first_hash;
}

void ot_trace_ran(ot_trace *t, const ot_times *times, ot_late late, uint64_t epoch, uint64_t hash)
{
    if (t == NULL) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    uint64_t now = times->wired;
    if (t->begun_ns == 0) {
        t->begun_ns = t->wire_until = t->input_until = now;
    } else {
        uint64_t from = OT_MAX(times->active, t->wire_until);
        if (late.ns != 0) {
            from = OT_MAX(from, shifted(late.ns, -atomic_load(&t->offset_ns)));
        }
        t->wire += since(from, now);
        t->wire_until = OT_MAX(t->wire_until, now);
        count_repeats_locked(t, epoch, hash);
    }
    t->last_ns = OT_MAX(t->last_ns, now);
    pthread_mutex_unlock(&t->lock);
}

void ot_trace_predicted(ot_trace *t, double exact_us, double lossy_us)
{
    if (t == NULL) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->exact_us += exact_us;
    t->lossy_us += lossy_us;
    pthread_mutex_unlock(&t->lock);
}

void ot_trace_block(ot_trace *t)
{
    pthread_mutex_lock(&t->lock);
    if (t->n_blocked++ == 0) {
        t->blocked_since = ot_clock_mono_ns();
    }
    pthread_mutex_unlock(&t->lock);
}

void ot_trace_unblock(ot_trace *t, const char *name, ot_late late)
{
    pthread_mutex_lock(&t->lock);
    uint64_t now = ot_clock_mono_ns(), from = OT_MAX(t->blocked_since, t->begun_ns);
    uint64_t waited = t->begun_ns != 0 ? since(from, now) : 0, by = 0;
    bool others = late.ns != 0 && late.rank != t->rank && late.rank >= 0 && late.rank < t->size;
    if (others) {
        by = OT_MIN(since(from, shifted(late.ns, -atomic_load(&t->offset_ns))), waited);
        t->late += by;
        t->late_by[late.rank] += by;
    }
    t->blocked += waited;
    if (t->events.v != NULL) {
        add_slice_locked(t, OT_TRACE_BLOCKED, name, by > 0 ? late.rank : -1,
                         OT_MIN(t->blocked_since, now), now);
    }
    t->n_blocked--;
    t->blocked_since = now;
    t->last_ns = t->begun_ns != 0 ? now : 0;
    pthread_mutex_unlock(&t->lock);
}

void ot_trace_step(ot_trace *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t now = ot_clock_mono_ns();
    if (t->begun_ns != 0) {
        t->marks++;
        t->last_ns = now;
    }
    add_slice_locked(t, OT_TRACE_STEP, "step", -1, now, now);
    pthread_mutex_unlock(&t->lock);
}

void ot_trace_input(ot_trace *t, uint64_t us)
{
    pthread_mutex_lock(&t->lock);
    uint64_t now = ot_clock_mono_ns(), ns = OT_MIN(us, now / 1000) * 1000;
    uint64_t from = OT_MAX(now - ns, t->input_until); /* what several threads wait for is one */
    if (t->begun_ns != 0) {
        t->input += since(from, now);
    }
    if (from < now) {
        add_slice_locked(t, OT_TRACE_INPUT, "input", -1, from, now);
    }
    t->input_until = now;
    pthread_mutex_unlock(&t->lock);
}

ot_account ot_trace_account(ot_trace *t)
{
    pthread_mutex_lock(&t->lock);
    ot_account a = {.wall = since(t->begun_ns, t->last_ns) / 1000,
                    .blocked = t->blocked / 1000,
                    .late = t->late / 1000,
                    .wire = t->wire / 1000,
                    .steps = t->marks > 0 ? t->marks : t->repeats,
                    .late_rank = -1,
                    .exact = (uint64_t)t->exact_us,
                    .lossy = (uint64_t)t->lossy_us};
    for (int32_t r = 0; r < t->size; r++) {
        if (t->late_by[r] / 1000 > a.late_most) {
            a.late_most = t->late_by[r] / 1000;
            a.late_rank = r;
        }
    }
    a.input = OT_MIN(t->input / 1000, since(a.blocked, a.wall));
    pthread_mutex_unlock(&t->lock);
    return a;
}
