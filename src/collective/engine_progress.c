/* The progress thread: sleeps, obeys, moves bytes. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "collective/engine_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define TURN_BUDGET ((uint64_t)4 << 20)

ot_rc ot_engine_push_locked(ot_engine *e, ot_order c, ot_error *err)
{
    if (e->n_commands == e->cap_commands) {
        size_t cap = OT_MAX(2 * e->cap_commands, (size_t)64);
        ot_order *grown = ot_realloc(e->commands, cap * sizeof *grown);
        if (grown == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "request: out of memory");
        }
        e->commands = grown;
        e->cap_commands = cap;
    }
    e->commands[e->n_commands++] = c;
    return OT_OK;
}

void ot_engine_wake(ot_engine *e)
{
    uint64_t one = 1;
    while (write(e->wake_watch.fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

ot_rc ot_engine_push(ot_engine *e, ot_order c, bool wakes, ot_error *err)
{
    pthread_mutex_lock(&e->lock);
    ot_rc rc = ot_engine_push_locked(e, c, err);
    pthread_mutex_unlock(&e->lock);
    if (rc == OT_OK && wakes) {
        ot_engine_wake(e);
    }
    return rc;
}

void ot_engine_on_wake(void *arg, uint32_t events)
{
    ot_engine *e = arg;
    uint64_t n;
    (void)events;
    while (read(e->wake_watch.fd, &n, sizeof n) < 0 && errno == EINTR) {
    }
}

/* An engine that fails is most often told so by a rank that is lost: who that is may be known soon.
 */
void ot_engine_on_carrier(void *arg, uint32_t events)
{
    ot_engine *e = arg;
    ot_error why = {.rc = OT_OK};
    (void)events;
    if (ot_carrier_turn(e->carrier, ot_exec_carried, &why) != OT_OK) {
        ot_engine_suspect(e, e->rank, &why);
    }
}

static void submit(ot_engine *e, uint64_t handle, bool more)
{
    ot_ticket *k = ot_engine_on_find(e, handle);
    if (k == NULL) {
        return;
    }
    k->taken = true;
    ot_group *g = ot_engine_group_of(e, k->group);
    if (e->failing || e->failed || e->abandoned) {
        ot_ticket_end(e->tickets, k, &e->verdict, e->culprit);
    } else if (g == NULL) {
        ot_error err;
        (void)ot_fail(&err, OT_NOT_FOUND, "group %d is no more", k->group);
        ot_ticket_end(e->tickets, k, &err, -1);
    } else {
        ot_group_submit(g, k, more);
    }
}

void ot_engine_drop_group(ot_engine *e, int32_t id)
{
    for (size_t i = 0; i < e->n_groups; i++) {
        if (ot_group_id(e->groups[i]) == id) {
            ot_group_destroy(e->groups[i]);
            e->groups[i] = e->groups[--e->n_groups];
            ot_mesh_forget(e->mesh, id);
            return;
        }
    }
}

static void add_group(ot_engine *e, ot_group *g)
{
    ot_group **grown = ot_realloc(e->groups, (e->n_groups + 1) * sizeof(ot_group *));
    if (grown == NULL) {
        ot_error err;
        (void)ot_fail(&err, OT_EXHAUSTED, "group: out of memory");
        ot_group_destroy(g);
        ot_engine_on_failed(e, &err);
        return;
    }
    e->groups = grown;
    e->groups[e->n_groups++] = g;
    ot_mesh_made(e->mesh, ot_group_id(g));
}

/* What is open can't be taken back from the other ranks: all links end with it. If nothing is, what
 * they still wait for is sent. */
static void abandon(ot_engine *e)
{
    ot_error why;
    if (e->failing || e->failed) {
        return;
    }
    (void)ot_fail(&why, OT_ABORTED, "this rank (%d) goes on to the next epoch (overtake_reform)",
                  e->rank);
    pthread_mutex_lock(&e->tickets->lock);
    bool open = e->tickets->open > 0;
    pthread_mutex_unlock(&e->tickets->lock);
    e->abandoned = true;
    e->verdict = why;
    e->culprit = -1;
    e->failing = open;
}

static void obey(ot_engine *e, const ot_order *c)
{
    ot_group *g;
    switch (c->kind) {
    case OT_SUBMIT:
        submit(e, c->handle, c->more);
        break;
    case OT_WAITING:
        g = ot_engine_group_of(e, c->group);
        if (g != NULL && !e->failing && !e->failed) {
            ot_group_waiting(g, c->handle);
        }
        break;
    case OT_GROUP_ADD:
        add_group(e, c->add);
        break;
    case OT_GROUP_DROP:
        ot_engine_drop_group(e, c->group);
        break;
    case OT_ABANDON:
        abandon(e);
        break;
    case OT_STOP:
        e->stop_ns = ot_clock_mono_ns();
        break;
    }
}

void ot_engine_take_commands(ot_engine *e)
{
    pthread_mutex_lock(&e->lock);
    ot_order *list = e->commands;
    size_t n = e->n_commands, cap = e->cap_commands;
    e->commands = e->taken;
    e->cap_commands = e->cap_taken;
    e->n_commands = 0;
    pthread_mutex_unlock(&e->lock);
    e->taken = list;
    e->cap_taken = cap;
    for (size_t i = 0; i < n; i++) {
        obey(e, &list[i]);
    }
}

static uint64_t moved_bytes(const ot_engine *e, ot_exec_stats *sum)
{
    *sum = (ot_exec_stats){0};
    for (size_t i = 0; i < e->n_groups; i++) {
        ot_exec_stats s = ot_group_stats(e->groups[i]);
        sum->bytes_in += s.bytes_in;
        sum->bytes_out += s.bytes_out;
        sum->runs += s.runs;
    }
    return sum->bytes_in + sum->bytes_out;
}

void ot_engine_pulse(ot_engine *e)
{
    ot_exec_stats s;
    (void)moved_bytes(e, &s);
    ot_pulse p = {.steps = e->program_steps,
                  .samples = e->program_samples,
                  .operations = s.runs,
                  .bytes_in = s.bytes_in,
                  .bytes_out = s.bytes_out};
    p.slowest = -1;
    for (int32_t r = 0; r < e->size; r++) {
        p.waits_us += e->ranks[r].waited_us;
        if (e->ranks[r].waited_us > 0 &&
            (p.slowest < 0 || e->ranks[r].waited_us > e->ranks[p.slowest].waited_us)) {
            p.slowest = r;
        }
    }
    ot_engine_add_account(e, &p);
    if (!e->meet_gone) {
        ot_meet_pulse(e->meet, &p);
    }
}

static void look(ot_engine *e, uint64_t now)
{
    ot_exec_stats s;
    uint64_t moved = moved_bytes(e, &s);
    if (moved != e->moved_bytes) {
        e->moved_bytes = moved;
        e->moved_ns = now;
    }
    ot_engine_judge_suspect(e, now);
    if (now - e->looked_ns > OT_LOOK_NS && !e->failed) {
        e->looked_ns = now;
        for (size_t i = 0; i < e->n_groups; i++) {
            ot_group_look(e->groups[i], now);
        }
        ot_engine_look_at_open(e, now);
    }
    if (now - e->pulse_ns > OT_PULSE_NS) {
        e->pulse_ns = now;
        ot_engine_pulse(e);
    }
}

/* How long to sleep: there is something to look at a few times a second while anything is open. */
static int64_t sleep_us(ot_engine *e, uint64_t mesh_ns)
{
    uint64_t now = ot_clock_mono_ns(), until = e->pulse_ns + OT_PULSE_NS;
    until = OT_MIN(until, mesh_ns);
    pthread_mutex_lock(&e->tickets->lock);
    if (e->tickets->open > 0) {
        until = OT_MIN(until, e->looked_ns + OT_LOOK_NS);
    }
    pthread_mutex_unlock(&e->tickets->lock);
    if (e->suspects && !e->failed) {
        until = OT_MIN(until, e->suspect_ns + OT_SUSPECT_NS + 1000000u);
    }
    return until > now ? (int64_t)((until - now) / 1000) + 1 : 1000;
}

/* The time is put down to the rank that the oldest operation waits for. */
static void sleep_on(ot_engine *e, int64_t us)
{
    const char *name = "";
    int32_t rank = us > 0 ? ot_group_waits_for(e->groups[0], &name) : -1;
    uint64_t start = us > 0 ? ot_clock_mono_ns() : 0;
    ot_poller_wait(e->poller, us);
    if (us <= 0) {
        return;
    }
    uint64_t slept = ot_clock_mono_ns() - start, asked = (uint64_t)us * 1000;
    if (slept > asked) {
        e->moved_ns += slept - asked; /* who wakes late accuses nobody for it */
    }
    if (rank >= 0) {
        e->ranks[rank].waited_us += slept / 1000;
        if (ot_trace_on(e->trace)) {
            ot_trace_waited(e->trace, rank, name, start, start + slept);
        }
    }
}

/* Asked to stop, and everything has gone that others may wait for. */
static bool may_stop(ot_engine *e)
{
    bool idle = true;
    for (size_t i = 0; i < e->n_groups; i++) {
        idle &= ot_group_idle(e->groups[i]);
    }
    return e->stop_ns != 0 && (idle || e->failed || ot_clock_mono_ns() - e->stop_ns > OT_PULSE_NS);
}

void *ot_engine_progress(void *arg)
{
    ot_engine *e = arg;
    bool more = false;
    uint64_t mesh_ns = UINT64_MAX;
    while (!may_stop(e)) {
        sleep_on(e, more ? 0 : sleep_us(e, mesh_ns));
        ot_engine_take_commands(e);
        more = false;
        for (size_t i = 0; i < e->n_groups; i++) {
            more |= ot_group_turn(e->groups[i], TURN_BUDGET);
        }
        mesh_ns = ot_mesh_turn(e->mesh);
        look(e, ot_clock_mono_ns());
        if (e->failing) {
            ot_engine_carry_out(e);
            ot_engine_send_timeline(e);
        }
    }
    return NULL;
}
