/* What the meeting point knows of the ranks: who is here, who has ended, and who is told. */
#include "base/clock.h"
#include "base/mem.h"
#include "collective/meet_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAMED_MAX 16 /* ranks named in one line */

void meet_send_to_all(ot_meet_server *s, const ot_str *message, int32_t except)
{
    for (int32_t r = 0; r < s->size; r++) {
        meet_conn *c = s->slots[r].c;
        if (c != NULL && r != except) {
            ot_str_add(&c->out, message->data, message->len);
            meet_flush(s, c);
        }
    }
}

static bool is_end(ot_event_kind k)
{
    return k == OT_EVENT_EXITED || k == OT_EVENT_KILLED || k == OT_EVENT_LOST;
}

void meet_relay(ot_meet_server *s, ot_event *e, int32_t from)
{
    bool known = e->rank >= 0 && e->rank < s->size;
    meet_slot *sl = known ? &s->slots[e->rank] : NULL;
    if (known && (sl->left || (e->kind == OT_EVENT_LOST && sl->told))) {
        return; /* nothing that comes after it left is the others' business */
    }
    if (known && e->host[0] == 0) {
        snprintf(e->host, sizeof e->host, "%s", s->members[e->rank].host);
    }
    if (known && is_end(e->kind)) {
        sl->told = true;
        sl->lost_at_ns = 0;
        sl->end = *e;
        s->form_due = true;
    }
    if (known && e->kind == OT_EVENT_MOVED) {
        sl->moved = true;
    }
    if (known && e->kind == OT_EVENT_FAILED && e->link && e->code > 0 && e->code <= s->size) {
        meet_cut_said(s, e->rank, e->code - 1, e->text);
    }
    if (known && e->kind == OT_EVENT_LEFT) {
        sl->left = true;
        s->n_left++;
        s->form_due = true;
    }
    OT_AUTO(ot_str_done) ot_str message = OT_STR_INIT;
    ot_meet_put_event(&message, e);
    if (!message.failed) {
        meet_send_to_all(s, &message, from);
    }
    if (s->ops.event != NULL && (from >= 0 || e->kind == OT_EVENT_LOST)) {
        ot_event said = *e;
        bool blames = e->kind == OT_EVENT_FAILED && e->code > 0 && e->code <= s->size;
        said.rank = known && s->min > 0 ? sl->worker : e->rank;
        said.code = blames && s->min > 0 ? s->slots[e->code - 1].worker + 1 : e->code;
        s->ops.event(s->ops.arg, &said);
    }
}

void meet_say_missing(const ot_meet_server *s, uint64_t now, char *text, size_t size)
{
    OT_AUTO(ot_str_done) ot_str names = OT_STR_INIT;
    int32_t lacking = 0;
    char took[32];
    for (int32_t r = 0; r < s->size; r++) {
        if (meet_lacks(s, r) && lacking++ < NAMED_MAX) {
            ot_str_addf(&names, "%s%" PRId32, lacking > 1 ? ", " : "", r);
        }
    }
    if (lacking > NAMED_MAX) {
        ot_str_addf(&names, " and %" PRId32 " more", lacking - NAMED_MAX);
    }
    uint64_t since = s->min > 0 ? s->asked_ns : s->since_ns;
    uint64_t seconds = (now - since + 500000000u) / 1000000000u;
    snprintf(text, size, "waiting for rank%s %s (%" PRId32 " of %" PRId32 " ha%s not %s after %s)",
             lacking == 1 ? "" : "s", names.data, lacking, s->size, lacking == 1 ? "s" : "ve",
             s->min > 0 && s->epoch > 0 ? "asked for the next epoch" : "arrived",
             ot_format_duration((int64_t)seconds * 1000000, took));
}

bool meet_complete(ot_meet_server *s)
{
    ot_rc rc = ot_meet_place(s->members, s->size);
    ot_str_clear(&s->table);
    ot_meet_put_table(&s->table, s->epoch + 1, s->members, s->size, s->settings);
    if (s->table.failed || rc != OT_OK) {
        snprintf(s->failed, sizeof s->failed, "the meeting point has no memory for the table");
        return false;
    }
    s->epoch++;
    s->all_here = true;
    for (int32_t r = 0; r < s->size; r++) {
        meet_conn *c = s->slots[r].c;
        if (c != NULL && c->out.len > 0) { /* what it was told before is still on its way */
            ot_str_add(&c->out, s->table.data, s->table.len);
        } else if (c != NULL) {
            c->table_due = true;
            c->table_at = 0;
        }
    }
    if (s->ops.all_here != NULL) {
        s->ops.all_here(s->ops.arg);
    }
    for (int32_t r = 0; r < s->size; r++) {
        if (s->slots[r].c != NULL) {
            meet_flush(s, s->slots[r].c);
        }
    }
    return true;
}

/* Who has ended will not come: who comes now need not wait for it. */
static void tell_ends(ot_meet_server *s, meet_conn *c)
{
    for (int32_t r = 0; r < s->size; r++) {
        if (s->slots[r].told) {
            ot_meet_put_event(&c->out, &s->slots[r].end);
        }
    }
    meet_flush(s, c);
}

static void admit(ot_meet_server *s, meet_conn *c, const ot_member *m)
{
    meet_slot *sl = &s->slots[m->rank];
    s->members[m->rank] = *m;
    s->members[m->rank].worker = -1;
    *sl = (meet_slot){.c = c, .here = true};
    c->rank = m->rank;
    meet_set_phase(s, c, MEET_IN, 0);
    s->n_here++;
    if (s->since_ns == 0) {
        s->since_ns = ot_clock_mono_ns();
        s->next_waiting_ns = s->since_ns + s->waiting_ns;
    }
    if (s->ops.arrived != NULL) {
        s->ops.arrived(s->ops.arg, m);
    }
    if (s->n_here == s->size) {
        (void)meet_complete(s);
    } else {
        tell_ends(s, c);
    }
}

bool meet_take_member(ot_meet_server *s, meet_conn *c, const ot_meet_frame *f)
{
    ot_member m;
    ot_error err = {0};
    int32_t size;
    uint64_t epoch;
    if (ot_meet_get_member(f, &size, &epoch, &m, &err) != OT_OK) {
        meet_refuse(s, c, "%s", err.msg);
        return true;
    }
    if (s->min > 0) {
        return meet_take_asker(s, c, epoch, &m);
    }
    const meet_slot *sl = m.rank >= 0 && m.rank < s->size ? &s->slots[m.rank] : NULL;
    if (size != s->size || sl == NULL) {
        meet_refuse(s, c,
                    "rank %" PRId32 " of %" PRId32 " (host %s, process %" PRId64
                    "): this job has %" PRId32 " ranks, from 0",
                    m.rank, size, m.host, m.pid, s->size);
    } else if (s->failed[0] != 0) {
        meet_refuse(s, c, "%s", s->failed);
    } else if (s->all_here && sl->left) {
        return false;
    } else if (sl->here) {
        const ot_member *o = &s->members[m.rank];
        meet_refuse(s, c,
                    "rank %" PRId32 " is here already: process %" PRId64 " of host %s; this is "
                    "process %" PRId64 " of host %s. Two processes were given the same rank",
                    m.rank, o->pid, o->host, m.pid, m.host);
    } else {
        admit(s, c, &m);
    }
    return true;
}

/* All have left: who comes now begins anew (init -> finalize -> init). */
static void reset(ot_meet_server *s)
{
    s->all_here = false;
    s->n_here = s->n_left = 0;
    s->since_ns = 0;
    for (int32_t r = 0; r < s->size; r++) {
        if (s->slots[r].c != NULL) {
            s->slots[r].c->rank = -1;
            meet_set_phase(s, s->slots[r].c, MEET_CLOSING, ot_clock_mono_ns() + MEET_CLOSING_NS);
        }
        s->slots[r] = (meet_slot){.worker = s->slots[r].worker};
    }
}

void meet_take_event(ot_meet_server *s, meet_conn *c, ot_event *e)
{
    bool known = e->rank >= 0 && e->rank < s->size;
    bool own = e->rank == c->rank;
    bool seen = known && !is_end(e->kind) && e->kind != OT_EVENT_LEFT &&
                e->kind != OT_EVENT_FAILED && s->slots[e->rank].here &&
                strcmp(s->members[e->rank].machine, s->members[c->rank].machine) == 0;
    if (own || seen) {
        meet_relay(s, e, c->rank);
    }
}

static void give_up(ot_meet_server *s)
{
    char text[400];
    meet_say_missing(s, ot_clock_mono_ns(), text, sizeof text);
    snprintf(s->failed, sizeof s->failed,
             "gave up %s; look at the output of those ranks, or give "
             "them more time",
             text);
    if (s->ops.waiting != NULL) {
        s->ops.waiting(s->ops.arg, s->failed);
    }
    for (int32_t r = 0; r < s->size; r++) {
        meet_conn *c = s->slots[r].c;
        if (c != NULL) {
            ot_meet_put_text(&c->out, OT_MEET_REFUSED, s->failed);
            meet_set_phase(s, c, MEET_CLOSING, ot_clock_mono_ns() + MEET_CLOSING_NS);
            meet_flush(s, c);
        }
    }
}

static void tick_waiting(ot_meet_server *s, uint64_t now)
{
    if (s->all_here || s->since_ns == 0 || s->failed[0] != 0) {
        return;
    }
    if (s->timeout_ns != 0 && now - s->since_ns >= s->timeout_ns) {
        give_up(s);
    } else if (now >= s->next_waiting_ns) {
        char text[400];
        meet_say_missing(s, now, text, sizeof text);
        OT_AUTO(ot_str_done) ot_str message = OT_STR_INIT;
        ot_meet_put_text(&message, OT_MEET_WAITING, text);
        s->next_waiting_ns = now + s->waiting_ns;
        if (s->ops.waiting != NULL) {
            s->ops.waiting(s->ops.arg, text);
        }
        meet_send_to_all(s, &message, -1);
    }
}

void meet_tick_ranks(ot_meet_server *s, uint64_t now)
{
    for (int32_t r = 0; r < s->size; r++) {
        meet_slot *sl = &s->slots[r];
        if (sl->lost_at_ns != 0 && now >= sl->lost_at_ns) {
            ot_event e = {.kind = OT_EVENT_LOST, .rank = r};
            snprintf(e.text, sizeof e.text, "its connection to the meeting point has ended");
            meet_relay(s, &e, -1);
        }
    }
    if (s->min > 0) {
        meet_tick_epochs(s, now);
    } else {
        tick_waiting(s, now);
    }
    if (s->all_here && s->n_left == s->size) {
        reset(s);
    }
}
