/* Who is to blame when something breaks. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "collective/engine_internal.h"
#include "collective/verdict.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *ot_engine_host_of(const ot_engine *e, int32_t rank)
{
    return rank >= 0 && rank < e->size ? e->members[rank].host : "unknown";
}

void ot_engine_judge(ot_engine *e, int32_t culprit, const ot_error *why)
{
    if (!e->failing && !e->failed) {
        e->failing = true;
        e->culprit = culprit;
        e->verdict = *why;
        if (e->settings.min_np > 0 && ot_meet_epoch(e->meet) > 1 && culprit >= 0) {
            /* Another process may have that rank by the time this is read. */
            (void)ot_error_prefix(&e->verdict, why->rc, "epoch %" PRIu64, ot_meet_epoch(e->meet));
        }
    }
}

/* The others hear of it, too: those that have no link to the culprit. */
void ot_engine_tell(ot_engine *e, int32_t culprit, bool link, const ot_error *why)
{
    ot_event ev = {.kind = OT_EVENT_FAILED, .rank = e->rank, .code = culprit + 1, .link = link};
    snprintf(ev.host, sizeof ev.host, "%s", ot_engine_host_of(e, e->rank));
    snprintf(ev.text, sizeof ev.text, "%s", why->msg);
    if (!e->meet_gone) {
        ot_meet_say(e->meet, &ev);
    }
}

/* After an event: the end of a rank, or what one says of itself. */
static void judge_event(ot_engine *e, const ot_event *ev)
{
    ot_error why;
    char next[OT_VERDICT_NEXT] = "those that go on are in the next epoch";
    OT_AUTO(ot_free_ptr) bool *gone = ot_calloc((size_t)e->size, sizeof *gone);
    for (int32_t r = 0; gone != NULL && r < e->size; r++) {
        gone[r] = e->ranks[r].gone;
    }
    if (gone != NULL && (e->settings.min_np == 0 || ev->kind != OT_EVENT_FAILED)) {
        ot_verdict_next(gone, e->size, e->settings.min_np, next);
    }
    ot_verdict_of_event(ev, next, &why);
    ot_engine_judge(e, ot_event_culprit(ev), &why);
}

static void on_event(ot_engine *e, const ot_event *ev)
{
    if (ev->rank < 0 || ev->rank >= e->size || ev->rank == e->rank) {
        return;
    }
    ot_rank_state *r = &e->ranks[ev->rank];
    if (ev->kind == OT_EVENT_STOPPED || ev->kind == OT_EVENT_STUCK) {
        if (!r->stopped) {
            ot_warn("collective", "rank %d (host %s) is %s%s%s: operations wait for it", ev->rank,
                    ev->host, ot_event_kind_text(ev->kind), ev->text[0] != '\0' ? ": " : "",
                    ev->text);
        }
        r->stopped = true;
    } else if (ev->kind == OT_EVENT_CONTINUED) {
        if (r->stopped) {
            ot_warn("collective", "rank %d (host %s) goes on", ev->rank, ev->host);
        }
        r->stopped = false;
    } else if (ev->kind == OT_EVENT_LEFT || ev->kind == OT_EVENT_MOVED) {
        r->left = true;
        r->moved = ev->kind == OT_EVENT_MOVED;
        r->left_ns = ot_clock_mono_ns();
    } else if (ot_event_ends(ev) && !r->left) {
        r->gone |= ev->kind != OT_EVENT_FAILED;
        judge_event(e, ev);
    }
}

/* Rank 0 serves the meeting point where no launcher does: with the one the other is gone. */
static void meet_is_gone(ot_engine *e, const ot_error *why)
{
    bool at_rank_0 = !e->o.id.launched;
    e->meet_gone = true;
    ot_poller_remove(e->poller, &e->meet_watch);
    if (at_rank_0 && (e->rank == 0 || e->ranks[0].left)) {
        return;
    }
    ot_error v;
    if (why->rc == OT_PRECONDITION) { /* it has set this rank aside */
        ot_engine_judge(e, e->rank, why);
        return;
    }
    (void)ot_fail(&v, OT_UNAVAILABLE, "%s%s%s: %s. Start the job again",
                  at_rank_0 ? "rank 0 (host " : "the launcher is gone",
                  at_rank_0 ? ot_engine_host_of(e, 0) : "", at_rank_0 ? ") is gone" : "", why->msg);
    ot_engine_judge(e, at_rank_0 ? 0 : -1, &v);
}

void ot_engine_on_meet(void *arg, uint32_t events)
{
    ot_engine *e = arg;
    (void)events;
    for (;;) {
        ot_event ev;
        ot_error err = {.rc = OT_OK};
        ot_rc rc = ot_meet_next(e->meet, &ev, &err);
        if (rc == OT_OK) {
            on_event(e, &ev);
            continue;
        }
        ot_engine_take_clock(e);
        if (rc != OT_NOT_FOUND) {
            meet_is_gone(e, &err);
        }
        int32_t waiting, leaving;
        ot_meet_counts(e->meet, &waiting, &leaving);
        e->waiting = waiting;
        e->leaving = leaving;
        return;
    }
}

void ot_engine_suspect(ot_engine *e, int32_t peer, const ot_error *why)
{
    if (!e->suspects || e->ranks[e->suspect].left) {
        e->suspects = true;
        e->suspect = peer;
        e->suspect_why = *why;
        e->suspect_ns = ot_clock_mono_ns();
    }
}

void ot_engine_carry_out(ot_engine *e)
{
    e->over = true; /* before anybody hears of it */
    for (size_t i = 0; i < e->n_groups; i++) {
        ot_group_abort(e->groups[i], &e->verdict);
    }
    ot_tickets_end_all(e->tickets, &e->verdict, e->culprit);
    e->failing = false;
    e->failed = true;
    if (e->stop_ns == 0 && !e->abandoned) {
        ot_warn("collective", "rank %d: %s", e->rank, e->verdict.msg);
    }
}

/* Of the tickets that the thread has heard of, the one that has been open longest; NULL: none. */
static ot_ticket *oldest_open(ot_engine *e)
{
    ot_ticket *oldest = NULL;
    pthread_mutex_lock(&e->tickets->lock);
    for (size_t i = 0; e->tickets->open > 0 && i < OT_TICKETS_MAX; i++) {
        ot_ticket *k = e->tickets->slots[i];
        if (k != NULL && k->taken && !k->done &&
            (oldest == NULL || k->since_ns < oldest->since_ns)) {
            oldest = k;
        }
    }
    pthread_mutex_unlock(&e->tickets->lock);
    return oldest;
}

static void describe_stall(ot_engine *e, const ot_ticket *k, char *text, size_t size,
                           int32_t *rank_out)
{
    ot_group *g = ot_engine_group_of(e, k->group);
    *rank_out = -1;
    text[0] = '\0';
    if (g != NULL) {
        ot_group_stall(g, k, text, size, rank_out);
    }
    for (int32_t r = 0; r < e->size; r++) {
        if (e->ranks[r].stopped) {
            size_t n = strlen(text);
            snprintf(text + n, size - n, "%srank %d (host %s) is stopped", n > 0 ? "; " : "", r,
                     ot_engine_host_of(e, r));
            *rank_out = r;
        }
    }
}

/* Of the ranks that have left, in the group (NULL: in the world), the first; the others may have
 * left because of it. -1: none. */
static int32_t first_to_leave(const ot_engine *e, const ot_group *g)
{
    int32_t first = -1;
    for (int32_t r = 0; r < e->size; r++) {
        if (e->ranks[r].left && (g == NULL || ot_group_has(g, r)) &&
            (first < 0 || e->ranks[r].left_ns < e->ranks[first].left_ns)) {
            first = r;
        }
    }
    return first;
}

/* 'T' stopped, 't' traced, 'R', 'S', ...; 0: not known. */
static char process_state(pid_t pid)
{
    char path[40];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (ot_disk_read_all(ot_disk_posix(), path, 4096, &text, NULL) != OT_OK) {
        return 0;
    }
    const char *p = strrchr(text.data, ')'); /* "pid (comm) state ...": proc(5) */
    return p != NULL && p[1] == ' ' ? p[2] : 0;
}

/* Where no launcher of ours watches the processes, ranks that share a machine watch each other. */
static void watch_neighbours(ot_engine *e)
{
    for (int32_t r = 0; r < e->size; r++) {
        pid_t pid = ot_mesh_pid(e->mesh, r);
        char state = pid > 0 && !e->ranks[r].left ? process_state(pid) : 0;
        bool stopped = state == 'T' || state == 't';
        if (state == 0 || stopped == e->ranks[r].stopped) {
            continue;
        }
        ot_event ev = {.kind = stopped ? OT_EVENT_STOPPED : OT_EVENT_CONTINUED, .rank = r};
        snprintf(ev.host, sizeof ev.host, "%s", ot_engine_host_of(e, r));
        on_event(e, &ev);
        if (!e->meet_gone) {
            ot_meet_say(e->meet, &ev);
        }
    }
}

/* An operation that takes too long, and one that a rank has left for ever. */
void ot_engine_look_at_open(ot_engine *e, uint64_t now)
{
    ot_ticket *k = oldest_open(e);
    if (k == NULL) {
        return;
    }
    if (!e->o.id.launched) {
        watch_neighbours(e);
    }
    char text[512];
    int32_t rank;
    describe_stall(e, k, text, sizeof text, &rank);
    pthread_mutex_lock(&e->lock);
    memcpy(e->stall_text, text, sizeof text);
    e->stall_rank = rank;
    pthread_mutex_unlock(&e->lock);
    uint64_t age = now - k->since_ns;
    ot_error v;
    int32_t left = first_to_leave(e, ot_engine_group_of(e, k->group));
    if (rank >= 0 && !e->ranks[rank].left) {
        left = -1; /* if that one waits for who has left, it says so itself */
    }
    if (left >= 0 && age > OT_LEFT_NS && now - e->ranks[left].left_ns > OT_LEFT_NS &&
        now - e->moved_ns > OT_LEFT_NS) {
        ot_verdict_of_left(left, ot_engine_host_of(e, left), e->ranks[left].moved, &v);
        ot_engine_tell(e, left, false, &v);
        ot_engine_judge(e, left, &v);
        return;
    }
    if (e->settings.timeout_us > 0 && age > (uint64_t)e->settings.timeout_us * 1000) {
        char limit[32];
        (void)ot_fail(&v, OT_TIMEOUT,
                      "'%s' was not done after %s, the time-out of operations: %s. Look at what "
                      "that rank does, or give operations more time",
                      k->sig.name, ot_format_duration(e->settings.timeout_us, limit),
                      text[0] != '\0' ? text : "it is not known for whom it waits");
        ot_engine_tell(e, rank, false, &v);
        ot_engine_judge(e, rank, &v);
    }
}

/* Of the ranks that have left, the one to blame for that the oldest operation waits; -1: it waits
 * for nobody who has left, and a link may well end with who is through. */
static int32_t waits_for_who_left(ot_engine *e)
{
    char text[512];
    int32_t rank = -1;
    ot_ticket *k = oldest_open(e);
    if (k != NULL) {
        describe_stall(e, k, text, sizeof text, &rank);
    }
    return rank >= 0 && e->ranks[rank].left ? first_to_leave(e, ot_engine_group_of(e, k->group))
                                            : -1;
}

/* Time is up for the meeting point to say what has become of whom. */
void ot_engine_judge_suspect(ot_engine *e, uint64_t now)
{
    if (!e->suspects || e->failing || e->failed || now - e->suspect_ns <= OT_SUSPECT_NS) {
        return;
    }
    ot_error v;
    int32_t culprit = e->suspect;
    if (e->ranks[culprit].left) {
        culprit = waits_for_who_left(e);
        if (culprit < 0) {
            e->suspect_ns = now; /* looked at again */
            return;
        }
        ot_verdict_of_left(culprit, ot_engine_host_of(e, culprit), e->ranks[culprit].moved, &v);
    } else {
        ot_verdict_of_link(culprit, ot_engine_host_of(e, culprit), e->settings.min_np > 0,
                           &e->suspect_why, &v);
    }
    ot_engine_tell(e, culprit, !e->ranks[culprit].left && culprit != e->rank, &v);
    ot_engine_judge(e, culprit, &v);
}
