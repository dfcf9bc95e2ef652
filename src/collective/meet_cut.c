/* Hosts of an elastic job that reach the meeting point and not each other.
 *
 * A rank that can't link with another ends the epoch for all. Before the next is formed the lowest
 * rank of each machine tries the others, so that it is known which links are missing now, and the
 * hosts go that have to (collective/cut.h). A link that answered again is not held against anybody;
 * if the same pair says it once more in the next epoch, though, what was said counts. A machine
 * that was set aside is tried before a process of it is admitted again. */
#include "base/clock.h"
#include "base/mem.h"
#include "collective/cut.h"
#include "collective/meet_internal.h"
#include "collective/meet_try.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CUT_MAX 64                               /* machines that are remembered */
#define ANSWER_NS (OT_MEET_TRY_NS + 1500000000u) /* who has not answered by then says nothing */

struct meet_trial {
    uint64_t number, until_ns;
    int32_t n, awaited;
    ot_member *first; /* of each machine, the member of the lowest rank */
    int32_t *ranks;   /* that one's, in the epoch that has ended; -1: it is new */
    ot_cut_host *hosts;
    bool *answered;
    uint8_t *cut;     /* n by n */
    char (*why)[256]; /* of each, how a link failed */
};

/* Between two machines it may be other ranks of theirs. */
static bool same_pair(const meet_pair *a, const meet_pair *b)
{
    bool within = strcmp(a->machine[0], a->machine[1]) == 0;
    for (int i = 0; i < 2; i++) {
        if (strcmp(a->machine[0], b->machine[i]) == 0 &&
            strcmp(a->machine[1], b->machine[1 - i]) == 0 &&
            (!within || (a->worker[0] == b->worker[i] && a->worker[1] == b->worker[1 - i]))) {
            return true;
        }
    }
    return false;
}

static void say_pair(char out[400], const int32_t ranks[2], const ot_member *const m[2])
{
    size_t n = 0;
    for (int i = 0; i < 2; i++) {
        n += (size_t)snprintf(out + n, 400 - n, i > 0 ? " and " : "");
        n += (size_t)(ranks[i] >= 0
                          ? snprintf(out + n, 400 - n, "rank %" PRId32 " (host %.120s)", ranks[i],
                                     m[i]->host)
                          : snprintf(out + n, 400 - n, "a new process (host %.120s)", m[i]->host));
    }
    snprintf(out + n, 400 - n, " can't link");
}

void meet_cut_said(ot_meet_server *s, int32_t from, int32_t to, const char *text)
{
    meet_pair *p = &s->said;
    if (s->min == 0 || p->epoch != 0 || from == to) {
        return;
    }
    const ot_member *m[2] = {&s->members[from], &s->members[to]};
    p->epoch = s->epoch;
    for (int i = 0; i < 2; i++) {
        p->worker[i] = m[i]->worker;
        snprintf(p->machine[i], sizeof p->machine[i], "%s", m[i]->machine);
    }
    snprintf(p->how, sizeof p->how, "%s", text);
}

/* --- the trial ------------------------------------------------------------------------------- */

static void free_trial(meet_trial *t)
{
    if (t != NULL) {
        ot_free(t->first);
        ot_free(t->ranks);
        ot_free(t->hosts);
        ot_free(t->answered);
        ot_free(t->cut);
        ot_free(t->why);
        ot_free(t);
    }
}

void meet_cut_done(ot_meet_server *s)
{
    free_trial(s->trial);
    s->trial = NULL;
    ot_free(s->cut);
}

/* Those that ask for the next epoch: members by rank, then the new ones. NULL after the last. */
static meet_conn *asker(ot_meet_server *s, int32_t *at, meet_conn **new_ones)
{
    while (*at < s->size) {
        meet_slot *sl = &s->slots[(*at)++];
        if (sl->next != NULL) {
            return sl->next;
        }
    }
    while (*new_ones != NULL) {
        meet_conn *c = *new_ones;
        *new_ones = c->next;
        if (meet_waits(c)) {
            return c;
        }
    }
    return NULL;
}

static int32_t find_machine(const meet_trial *t, const char *machine)
{
    for (int32_t i = 0; i < t->n; i++) {
        if (strcmp(t->first[i].machine, machine) == 0) {
            return i;
        }
    }
    return -1;
}

static void add_asker(meet_trial *t, const meet_conn *c)
{
    int32_t i = find_machine(t, c->member.machine);
    if (i < 0) {
        i = t->n++;
        t->first[i] = c->member;
        t->first[i].rank = i;
        t->ranks[i] = c->slot;
        t->hosts[i].fresh = true;
    }
    t->hosts[i].ranks++;
    t->hosts[i].fresh &= c->slot < 0;
}

static meet_trial *new_trial(ot_meet_server *s)
{
    meet_trial *t = ot_calloc(1, sizeof *t);
    int32_t n = 0, at = 0;
    meet_conn *rest = s->conns, *c;
    while (asker(s, &at, &rest) != NULL) {
        n++;
    }
    n = OT_MIN(n, OT_MEET_RANKS_MAX);
    if (t == NULL || (t->first = ot_calloc((size_t)n, sizeof *t->first)) == NULL ||
        (t->ranks = ot_calloc((size_t)n, sizeof *t->ranks)) == NULL ||
        (t->hosts = ot_calloc((size_t)n, sizeof *t->hosts)) == NULL) {
        free_trial(t);
        return NULL;
    }
    at = 0;
    rest = s->conns;
    while (n-- > 0 && (c = asker(s, &at, &rest)) != NULL) {
        add_asker(t, c);
    }
    t->answered = ot_calloc((size_t)t->n, sizeof *t->answered);
    t->cut = ot_calloc((size_t)t->n, (size_t)t->n);
    t->why = ot_calloc((size_t)t->n, sizeof *t->why);
    if (t->answered == NULL || t->cut == NULL || t->why == NULL) {
        free_trial(t);
        return NULL;
    }
    return t;
}

static void ask(ot_meet_server *s, meet_trial *t)
{
    OT_AUTO(ot_str_done) ot_str message = OT_STR_INIT;
    int32_t at = 0;
    meet_conn *rest = s->conns, *c;
    t->number = ++s->n_trials;
    t->until_ns = ot_clock_mono_ns() + ANSWER_NS;
    ot_meet_put_try(&message, t->number, t->first, t->n);
    while (!message.failed && (c = asker(s, &at, &rest)) != NULL) {
        int32_t i = find_machine(t, c->member.machine);
        if (i >= 0 && t->first[i].worker == c->member.worker) {
            ot_str_add(&c->out, message.data, message.len);
            t->awaited++;
        }
    }
    at = 0;
    rest = s->conns;
    while ((c = asker(s, &at, &rest)) != NULL) {
        meet_flush(s, c);
    }
}

void meet_cut_take(ot_meet_server *s, const meet_conn *c, const ot_meet_frame *f)
{
    meet_trial *t = s->trial;
    uint64_t number;
    const uint8_t *missed;
    size_t bytes;
    char why[256];
    ot_error err;
    int32_t i = t != NULL ? find_machine(t, c->member.machine) : -1;
    if (ot_meet_get_tried(f, &number, why, &missed, &bytes, &err) != OT_OK || i < 0 ||
        number != t->number || t->answered[i] || t->first[i].worker != c->member.worker ||
        bytes != (size_t)(t->n + 7) / 8) {
        return; /* of a trial that is over, or not in its form: it says nothing */
    }
    t->answered[i] = true;
    t->awaited--;
    memcpy(t->why[i], why, sizeof why);
    for (int32_t k = 0; k < t->n; k++) {
        t->cut[(size_t)i * (size_t)t->n + (size_t)k] = missed[k / 8] >> k % 8 & 1;
    }
    s->form_due |= t->awaited == 0;
}

void meet_cut_tick(ot_meet_server *s, uint64_t now)
{
    s->form_due |= s->trial != NULL && now >= s->trial->until_ns;
}

/* --- what comes of it ------------------------------------------------------------------------ */

static void remember(ot_meet_server *s, const char *machine)
{
    s->cut = s->cut != NULL ? s->cut : ot_calloc(CUT_MAX, sizeof *s->cut);
    if (s->cut != NULL) { /* else its next process is admitted untried */
        snprintf(s->cut[s->n_cut++ % CUT_MAX], sizeof *s->cut, "%s", machine);
    }
}

static bool was_cut(const ot_meet_server *s, const char *machine)
{
    for (size_t i = 0; s->cut != NULL && i < OT_MIN(s->n_cut, (size_t)CUT_MAX); i++) {
        if (strcmp(s->cut[i], machine) == 0) {
            return true;
        }
    }
    return false;
}

/* `worker` -1: all of the machine. */
static void send_off(ot_meet_server *s, const char *machine, int32_t worker, const char *why)
{
    for (int32_t r = 0; r < s->size; r++) {
        const meet_conn *c = s->slots[r].next;
        if (c != NULL && strcmp(c->member.machine, machine) == 0 &&
            (worker < 0 || c->member.worker == worker)) {
            meet_cut_off(s, r, why);
        }
    }
    for (meet_conn *c = s->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (meet_waits(c) && worker < 0 && strcmp(c->member.machine, machine) == 0) {
            meet_cut_off_new(s, c, why);
        }
    }
    if (worker < 0) {
        remember(s, machine);
    }
}

static void say_cut(ot_meet_server *s, const char *why, const char *who, const char *as)
{
    char text[900];
    size_t n = strlen(s->cut_text);
    snprintf(s->cut_text + n, sizeof s->cut_text - n, "%s%s", n > 0 ? "; " : "", why);
    snprintf(text, sizeof text, "%s: %s is set aside, %s", why, who, as);
    if (s->ops.waiting != NULL) {
        s->ops.waiting(s->ops.arg, text);
    }
}

static void host_goes(ot_meet_server *s, const meet_trial *t, int32_t i)
{
    const ot_cut_host *h = &t->hosts[i];
    bool own = t->cut[(size_t)i * (size_t)t->n + (size_t)h->cause] != 0;
    const char *how = t->why[own ? i : h->cause];
    const ot_member *m[2] = {&t->first[h->cause], &t->first[i]};
    char pair[400], why[600], who[140];
    say_pair(pair, (int32_t[]){t->ranks[h->cause], t->ranks[i]}, m);
    snprintf(why, sizeof why, "%s, though both reach the launcher: %.180s", pair, how);
    snprintf(who, sizeof who, "the host of the latter, %.100s,", m[1]->host);
    say_cut(s, why, who,
            h->fresh && !t->hosts[h->cause].fresh ? "as it is new"
            : h->more                             ? "as more ranks can't reach it"
                                                  : "as its ranks are the higher ones");
    send_off(s, t->first[i].machine, -1, why);
}

/* What was said counts as what was found. */
static void take_said(ot_meet_server *s, meet_trial *t)
{
    const meet_pair *p = &s->said;
    int32_t a = find_machine(t, p->machine[0]), b = find_machine(t, p->machine[1]);
    if (a < 0 || b < 0) {
        return; /* one of them has not come again */
    }
    if (a != b) {
        t->cut[(size_t)a * (size_t)t->n + (size_t)b] = 1;
        snprintf(t->why[a], sizeof t->why[a], "%s", p->how);
    } else {
        char pair[400], why[600], who[32];
        int32_t r[2] = {meet_slot_of(s, p->worker[0]), meet_slot_of(s, p->worker[1])};
        say_pair(pair, r, (const ot_member *[]){&t->first[a], &t->first[a]});
        snprintf(why, sizeof why, "%s: %.180s", pair, p->how);
        snprintf(who, sizeof who, "rank %" PRId32, OT_MAX(r[0], r[1]));
        say_cut(s, why, who, "as it is the higher one");
        send_off(s, p->machine[0], p->worker[r[1] > r[0]], why);
    }
}

static void settle(ot_meet_server *s, meet_trial *t)
{
    bool any = false;
    for (size_t i = 0; i < (size_t)t->n * (size_t)t->n; i++) {
        any |= t->cut[i] != 0;
    }
    if (!any && s->said.epoch != 0) {
        bool again =
            s->said_before.epoch + 1 == s->said.epoch && same_pair(&s->said, &s->said_before);
        s->said_before = s->said;
        if (again) {
            take_said(s, t);
        }
    }
    ot_cut_decide(t->hosts, t->cut, t->n);
    for (int32_t i = 0; i < t->n; i++) {
        if (t->hosts[i].goes) {
            host_goes(s, t, i);
        }
    }
}

static bool wanted(ot_meet_server *s)
{
    bool is = s->said.epoch != 0;
    for (const meet_conn *c = s->conns; c != NULL && !is; c = c->next) {
        is = meet_waits(c) && was_cut(s, c->member.machine);
    }
    return is;
}

bool meet_cut_settled(ot_meet_server *s)
{
    if (s->trial == NULL) {
        s->cut_text[0] = 0;
        if (!wanted(s) || (s->trial = new_trial(s)) == NULL) {
            return true;
        }
        if (s->trial->n > 1) {
            ask(s, s->trial);
        }
    }
    meet_trial *t = s->trial;
    if (t->awaited > 0 && ot_clock_mono_ns() < t->until_ns) {
        return false;
    }
    settle(s, t);
    s->said = (meet_pair){0};
    free_trial(t);
    s->trial = NULL;
    return true;
}
