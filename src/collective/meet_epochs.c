/* Who is in the next epoch of an elastic job.
 *
 * The slots are the members of the present epoch, at first the processes that the job begins with.
 * A member that has ended its epoch asks for the next on a new connection; it is formed when every
 * member has asked, has left, or is known to be lost. Who is new waits until then. This is the only
 * place that decides: a side of a cut network that can't reach it has no next epoch. */
#include "base/clock.h"
#include "base/mem.h"
#include "collective/meet_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int32_t meet_slot_of(const ot_meet_server *s, int32_t worker)
{
    for (int32_t r = 0; r < s->size; r++) {
        if (s->slots[r].worker == worker) {
            return r;
        }
    }
    return -1;
}

static bool out(const meet_slot *sl)
{
    return sl->told || sl->left;
}

bool meet_lacks(const ot_meet_server *s, int32_t rank)
{
    const meet_slot *sl = &s->slots[rank];
    return s->min > 0 ? !out(sl) && sl->next == NULL : !sl->here;
}

bool meet_waits(const meet_conn *c)
{
    return !c->dead && c->phase == MEET_ASKS && c->slot < 0 && !c->held;
}

static int32_t count_waiting(const ot_meet_server *s)
{
    int32_t n = 0;
    for (const meet_conn *c = s->conns; c != NULL; c = c->next) {
        n += meet_waits(c);
    }
    return n;
}

static meet_conn *find_new(ot_meet_server *s, int32_t worker)
{
    for (meet_conn *c = s->conns; c != NULL; c = c->next) {
        if (c->phase == MEET_ASKS && c->slot < 0 && c->member.worker == worker) {
            return c;
        }
    }
    return NULL;
}

void meet_asker_gone(ot_meet_server *s, meet_conn *c)
{
    meet_slot *sl = c->slot >= 0 ? &s->slots[c->slot] : NULL;
    if (sl != NULL && sl->next == c) {
        sl->next = NULL;
        sl->lost_at_ns = out(sl) ? 0 : ot_clock_mono_ns() + s->grace_ns;
    }
    s->counts_due |= sl == NULL;
    c->slot = -1;
}

/* --- who asks -------------------------------------------------------------------------------- */

static void set_asking(ot_meet_server *s, meet_conn *c, const ot_member *m, int32_t slot)
{
    meet_set_phase(s, c, MEET_ASKS, 0);
    c->member = *m;
    c->slot = slot;
    s->form_due = true;
    if (slot >= 0) {
        s->slots[slot].next = c;
        s->slots[slot].lost_at_ns = 0;
    } else {
        ot_meet_put_text(&c->out, OT_MEET_QUEUED, "");
        s->counts_due = true;
    }
    if (s->asked_ns == 0) {
        s->asked_ns = ot_clock_mono_ns();
        s->next_waiting_ns = s->asked_ns + s->waiting_ns;
    }
    if (s->ops.arrived != NULL) {
        s->ops.arrived(s->ops.arg, m);
    }
    meet_flush(s, c);
}

static void set_aside(ot_meet_server *s, meet_conn *c, const ot_member *m)
{
    meet_refuse(s, c,
                "process %" PRId64 " of host %s was set aside: it was taken for lost, and the job "
                "goes on without it. It has nothing to do any more",
                m->pid, m->host);
}

static void say_over(ot_meet_server *s, meet_conn *c)
{
    ot_meet_put_text(&c->out, OT_MEET_OVER, s->failed);
    meet_set_phase(s, c, MEET_CLOSING, ot_clock_mono_ns() + MEET_CLOSING_NS);
    meet_flush(s, c);
}

bool meet_take_asker(ot_meet_server *s, meet_conn *c, uint64_t epoch, const ot_member *m)
{
    int32_t r = meet_slot_of(s, m->worker);
    meet_slot *sl = r >= 0 ? &s->slots[r] : NULL;
    meet_conn *other = sl != NULL ? sl->next : find_new(s, m->worker);
    bool begins = epoch == 0 && !s->all_here; /* the job, or anew after all have left */
    if (m->worker < 0) {
        meet_refuse(s, c, "process %" PRId64 " of host %s: it has no number in this elastic job",
                    m->pid, m->host);
    } else if (s->failed[0] != 0) {
        say_over(s, c);
    } else if (sl != NULL && sl->left && epoch == 0) {
        return false; /* it begins anew, when all have left */
    } else if (epoch != 0 && (sl == NULL || out(sl) || epoch != s->epoch)) {
        set_aside(s, c, m);
    } else if (other != NULL || (sl != NULL && epoch == 0 && !begins)) {
        meet_refuse(s, c,
                    "process %" PRId64 " of host %s: process %" PRId64 " is here already; one "
                    "process of a rank calls overtake_init",
                    m->pid, m->host, other != NULL ? other->member.pid : s->members[r].pid);
    } else if (sl != NULL && out(sl)) {
        set_aside(s, c, m);
    } else {
        if (sl != NULL && sl->c != NULL) { /* its end is still on the way */
            sl->moved = true;
            meet_drop(s, sl->c);
        }
        set_asking(s, c, m, r);
    }
    return true;
}

static void refuse_cut(ot_meet_server *s, meet_conn *c, const char *why)
{
    if (s->ops.cut != NULL) {
        s->ops.cut(s->ops.arg, c->member.worker, why);
    }
    meet_refuse(s, c,
                "process %" PRId64 " of host %s was set aside: %.300s. It has nothing to do any "
                "more",
                c->member.pid, c->member.host, why);
}

void meet_cut_off(ot_meet_server *s, int32_t slot, const char *why)
{
    meet_slot *sl = &s->slots[slot];
    sl->told = true; /* nobody hears of it: all have left this epoch */
    refuse_cut(s, sl->next, why);
}

void meet_cut_off_new(ot_meet_server *s, meet_conn *c, const char *why)
{
    refuse_cut(s, c, why);
}

void meet_take_told(ot_meet_server *s, ot_event *e)
{
    int32_t r = meet_slot_of(s, e->rank);
    meet_conn *c = r >= 0 ? s->slots[r].next : find_new(s, e->rank);
    bool ends =
        e->kind == OT_EVENT_EXITED || e->kind == OT_EVENT_KILLED || e->kind == OT_EVENT_LOST;
    if (c != NULL && ends) {
        meet_drop(s, c);
    } else if (c != NULL && r < 0) {
        c->held = e->kind == OT_EVENT_STOPPED || (c->held && e->kind != OT_EVENT_CONTINUED);
        s->form_due = s->counts_due = true;
    }
    if (r >= 0 && e->kind == OT_EVENT_LEAVING) {
        s->slots[r].leaving = true;
        s->counts_due = true;
    } else if (r >= 0) {
        e->rank = r;
        meet_relay(s, e, -1);
    }
}

/* --- the next epoch -------------------------------------------------------------------------- */

static void fail_all(ot_meet_server *s, int32_t n)
{
    snprintf(s->failed, sizeof s->failed,
             "%" PRId32 " rank%s left, and --min-np is %" PRId32 ": the job ends%s%.400s", n,
             n == 1 ? " is" : "s are", s->min, s->cut_text[0] != 0 ? ". " : "", s->cut_text);
    for (meet_conn *c = s->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->phase == MEET_ASKS) {
            say_over(s, c);
        }
    }
}

/* Those that are new, in the order in which they were started. */
static meet_conn *next_new(ot_meet_server *s, int32_t after)
{
    meet_conn *best = NULL;
    for (meet_conn *c = s->conns; c != NULL; c = c->next) {
        if (meet_waits(c) && c->member.worker > after &&
            (best == NULL || c->member.worker < best->member.worker)) {
            best = c;
        }
    }
    return best;
}

static void seat(meet_conn *c, int32_t rank, meet_slot *slots, ot_member *members)
{
    members[rank] = c->member;
    members[rank].rank = rank;
    slots[rank] = (meet_slot){.c = c, .here = true, .worker = c->member.worker};
    c->phase = MEET_IN;
    c->slot = -1;
    c->rank = rank;
}

/* Those of the last epoch that aren't in this one hear why. */
static void send_away(ot_meet_server *s, bool drain)
{
    for (int32_t r = 0; r < s->size; r++) {
        meet_slot *sl = &s->slots[r];
        if (sl->c != NULL) {
            meet_conn *c = sl->c;
            sl->c = NULL;
            c->rank = -1;
            set_aside(s, c, &s->members[r]);
        }
        if (sl->next != NULL && drain && sl->leaving) {
            meet_refuse(s, sl->next,
                        "rank %" PRId32 " (host %s) is to leave: its host is being drained, and "
                        "the job goes on without it. It has nothing to do any more",
                        r, s->members[r].host);
        }
    }
}

static void form(ot_meet_server *s, bool drain, int32_t n)
{
    meet_slot *slots = ot_calloc((size_t)n, sizeof *slots);
    ot_member *members = ot_calloc((size_t)n, sizeof *members);
    int32_t *workers = ot_calloc((size_t)n, sizeof *workers), at = 0;
    if (slots == NULL || members == NULL || workers == NULL) {
        ot_free(slots);
        ot_free(members);
        ot_free(workers);
        return; /* the next turn may find memory */
    }
    send_away(s, drain);
    for (int32_t r = 0; r < s->size && at < n; r++) {
        if (s->slots[r].next != NULL) {
            seat(s->slots[r].next, at++, slots, members);
        }
    }
    meet_conn *c = NULL;
    for (int32_t last = -1; at < n && (c = next_new(s, last)) != NULL;) {
        last = c->member.worker;
        seat(c, at++, slots, members);
    }
    ot_free(s->slots);
    ot_free(s->members);
    s->slots = slots;
    s->members = members;
    s->size = s->n_here = at;
    s->n_left = 0;
    s->asked_ns = 0;
    s->form_due = false;
    s->counts_due = true;
    for (int32_t r = 0; r < at; r++) {
        workers[r] = slots[r].worker;
    }
    if (s->ops.formed != NULL) {
        s->ops.formed(s->ops.arg, s->epoch + 1, workers, at);
    }
    ot_free(workers);
    (void)meet_complete(s);
}

static void try_form(ot_meet_server *s)
{
    int32_t stay = 0, leave = 0;
    for (int32_t r = 0; r < s->size; r++) {
        if (meet_lacks(s, r)) {
            return;
        }
    }
    if (!meet_cut_settled(s)) {
        return;
    }
    int32_t new_ones = count_waiting(s);
    for (int32_t r = 0; r < s->size; r++) {
        stay += !out(&s->slots[r]) && !s->slots[r].leaving;
        leave += !out(&s->slots[r]) && s->slots[r].leaving;
    }
    if (stay + leave == 0) {
        return; /* nobody has the state of the job */
    }
    new_ones = OT_MIN(new_ones, OT_MEET_RANKS_MAX - stay - leave);
    bool drain = leave > 0 && stay > 0 && stay + new_ones >= s->min;
    int32_t n = stay + (drain ? 0 : leave) + new_ones;
    if (n < s->min) {
        fail_all(s, n);
    } else {
        form(s, drain, n);
    }
}

static void send_counts(ot_meet_server *s)
{
    OT_AUTO(ot_str_done) ot_str message = OT_STR_INIT;
    int32_t leaving = 0;
    for (int32_t r = 0; r < s->size; r++) {
        leaving += s->slots[r].leaving && !out(&s->slots[r]);
    }
    ot_meet_put_counts(&message, count_waiting(s), leaving);
    if (!message.failed) {
        s->counts_due = false;
        meet_send_to_all(s, &message, -1);
    }
}

void meet_turn_epochs(ot_meet_server *s)
{
    if (s->min > 0 && s->form_due && s->failed[0] == 0) {
        s->form_due = false;
        try_form(s);
    }
    if (s->min > 0 && s->counts_due) {
        send_counts(s);
    }
}

/* Alive, and does not ask while others wait: it is set aside. */
static void give_up_lacking(ot_meet_server *s, uint64_t limit_ns)
{
    char took[32];
    for (int32_t r = 0; r < s->size; r++) {
        if (meet_lacks(s, r)) {
            ot_event e = {.kind = OT_EVENT_LOST, .rank = r};
            snprintf(e.text, sizeof e.text, "it did not %s within %s, and is set aside",
                     s->epoch > 0 ? "ask for the next epoch" : "arrive",
                     ot_format_duration((int64_t)(limit_ns / 1000), took));
            meet_relay(s, &e, -1);
        }
    }
}

void meet_tick_epochs(ot_meet_server *s, uint64_t now)
{
    uint64_t limit = s->epoch > 0 ? s->reform_ns : s->timeout_ns;
    bool asked = s->epoch == 0, lacks = false;
    for (int32_t r = 0; r < s->size; r++) {
        asked |= s->slots[r].next != NULL;
        lacks |= meet_lacks(s, r);
    }
    if (!asked) {
        s->asked_ns = 0;
    }
    meet_cut_tick(s, now);
    if (s->asked_ns == 0 || !lacks || s->failed[0] != 0) {
        return;
    }
    if (limit != 0 && now - s->asked_ns >= limit) {
        give_up_lacking(s, limit);
    } else if (now >= s->next_waiting_ns) {
        char text[400];
        meet_say_missing(s, now, text, sizeof text);
        s->next_waiting_ns = now + s->waiting_ns;
        if (s->ops.waiting != NULL) {
            s->ops.waiting(s->ops.arg, text);
        }
    }
}
