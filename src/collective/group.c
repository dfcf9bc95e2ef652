#include "collective/group.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "collective/mesh.h"

#include <stdio.h>
#include <string.h>

#define ASK_NS 2000000000u
#define GATHER_MAX 256
#define GATHER_BYTES ((uint64_t)32 << 20)
/* A bucket waits for the last of its tensors: no more than the wire carries in a moment. Where
 * numbers may be lost these are more: two halves in a word. By low rank it would be all, but what
 * is in one bucket does not overlap. Two matrices of 4 MiB at 1 Gbit/s took 6% less a step than
 * one, as they take fewer messages, and four no less than two. */
#define BUCKET_US 10000.0
static const double in_a_word[] = {
    [OT_LOSS_NONE] = 1, [OT_LOSS_HALF] = 2, [OT_LOSS_F16] = 2, [OT_LOSS_ANY] = 8};
#define BUCKET_LEAST ((double)(1u << 20))
#define BUCKET_MOST ((double)(32u << 20))

/* The lanes of the plan, the control's, and one for the second parts of each of the former. */
#define LANES OT_GROUP_LANES
#define SECOND(lane) ((lane) + OT_LANES + 1)

/* What an executor or the control calls back with. */
typedef struct lane {
    ot_group *group;
    int32_t lane;
    ot_exec *exec; /* NULL: control */
} lane;

struct ot_group {
    int32_t id, n, rank;
    int32_t *ranks, *hosts;
    const char **host_names;
    ot_group_ops ops;
    lane lanes[LANES];
    ot_control_lane *control;
    ot_plan *plan;
    ot_team_place place;
    ot_pool pool;
    ot_residuals residuals;          /* where there are no others */
    uint64_t asked, asked_ns;        /* the ticket whose laggards were asked for last, and when */
    uint64_t ordered;                /* operations of the lane of unnamed requests */
    ot_ticket *gathered[GATHER_MAX]; /* unnamed, of one call; all are sums */
    size_t n_gathered;
    uint64_t gathered_bytes;
    bool dead;
};

/* --- from lanes and control ----------------------------------------------------------------- */

static void on_want(void *arg, int32_t peer)
{
    lane *l = arg;
    ot_group *g = l->group;
    g->ops.want(g->ops.arg, g->id, l->lane, g->ranks[peer]);
}

static void on_exec_broken(void *arg, int32_t peer, const ot_run *r, const ot_error *why)
{
    lane *l = arg;
    ot_group *g = l->group;
    bool certain = why->rc == OT_PRECONDITION || why->rc == OT_DATA_LOSS;
    g->ops.broken(g->ops.arg, g->ranks[peer], r->name, why, certain);
}

static void on_control_broken(void *arg, int32_t peer, const ot_error *why)
{
    lane *l = arg;
    ot_group *g = l->group;
    g->ops.broken(g->ops.arg, g->ranks[peer], "", why, why->rc == OT_DATA_LOSS);
}

static void on_message(void *arg, int32_t from, const void *p, size_t n)
{
    lane *l = arg;
    ot_group *g = l->group;
    ot_error e = {.rc = OT_OK};
    if (!g->dead && ot_plan_message(g->plan, from, p, n, &e) != OT_OK) {
        g->ops.broken(g->ops.arg, g->ranks[from], "", &e, true);
    }
}

/* --- from work ---------------------------------------------------------------------------- */

static void on_ticket_done(void *arg, ot_ticket *k, const ot_error *why)
{
    ot_group *g = arg;
    g->ops.ticket_done(g->ops.arg, k, why, -1);
}

static void on_ended(void *arg, ot_lane l, uint64_t seq, const ot_error *why)
{
    ot_group *g = arg;
    if (l != OT_LANE_ORDERED && why == NULL && !g->dead) {
        ot_plan_done(g->plan, l, seq);
    }
    if (why != NULL && !g->dead) {
        g->ops.failed(g->ops.arg, why);
    }
}

static void run(ot_group *g, const ot_bucket *b, ot_ticket *const *tickets)
{
    ot_error e = {.rc = OT_OK};
    ot_work_ops ops = {.ticket_done = on_ticket_done, .ended = on_ended, .arg = g};
    if (ot_work_submit(&g->place, g->lanes[b->lane].exec, g->lanes[SECOND(b->lane)].exec, b,
                       tickets, &ops, &e) != OT_OK) {
        g->ops.failed(g->ops.arg, &e);
    }
}

/* --- from the plan ------------------------------------------------------------------------ */

static void on_send(void *arg, int32_t peer, const void *message, size_t n)
{
    ot_group *g = arg;
    ot_control_lane_send(g->control, peer, message, n);
}

static void on_begin(void *arg, const ot_bucket *b)
{
    ot_group *g = arg;
    OT_AUTO(ot_free_ptr) ot_ticket **tickets = ot_calloc(b->n, sizeof *tickets);
    if (tickets == NULL) {
        ot_error e;
        (void)ot_fail(&e, OT_EXHAUSTED, "operation: out of memory");
        g->ops.failed(g->ops.arg, &e);
        return;
    }
    for (size_t i = 0; i < b->n; i++) {
        tickets[i] = b->tickets[i] != 0 ? g->ops.find(g->ops.arg, b->tickets[i]) : NULL;
        if (tickets[i] != NULL) {
            tickets[i]->begun = true;
        }
    }
    run(g, b, tickets);
}

static void on_fail(void *arg, uint64_t ticket, const ot_error *why, int32_t culprit)
{
    ot_group *g = arg;
    ot_ticket *k = ticket != 0 ? g->ops.find(g->ops.arg, ticket) : NULL;
    if (ticket == 0) {
        g->ops.failed(g->ops.arg, why);
    } else if (k != NULL) {
        g->ops.ticket_done(g->ops.arg, k, why, culprit >= 0 ? g->ranks[culprit] : -1);
    }
}

/* --- the group ---------------------------------------------------------------------------- */

static uint64_t bucket_bytes(const ot_team_place *p)
{
    const ot_link_cost *link = &p->cost->local;
    for (int32_t i = 1; i < p->size; i++) {
        link = p->hosts[i] != p->hosts[0] ? &p->cost->remote : link;
    }
    double rate = link->bytes_per_us * (link->measured ? in_a_word[p->loss] : 1);
    return (uint64_t)OT_MIN(OT_MAX(rate * BUCKET_US, BUCKET_LEAST), BUCKET_MOST);
}

static ot_rc make_lanes(ot_group *g, const ot_group_options *with, ot_error *err)
{
    for (int32_t i = 0; i < LANES; i++) {
        lane *l = &g->lanes[i];
        *l = (lane){.group = g, .lane = i};
        if (i != OT_LANE_CONTROL) {
            ot_exec_ops ops = {.want = on_want, .broken = on_exec_broken, .arg = l};
            OT_TRY(ot_exec_create(g->rank, g->n, (uint8_t)i, with->carrier, &ops, &l->exec, err));
        }
    }
    ot_control_lane_ops control = {.want = on_want,
                                   .message = on_message,
                                   .broken = on_control_broken,
                                   .arg = &g->lanes[OT_LANE_CONTROL]};
    OT_TRY(ot_control_lane_create(g->n, &control, &g->control, err));
    ot_plan_options o = {.rank = g->rank,
                         .size = g->n,
                         .bucket_bytes = bucket_bytes(&g->place),
                         .hosts = g->host_names,
                         .learn = !with->no_learn};
    ot_plan_ops plan = {.send = on_send, .begin = on_begin, .fail = on_fail, .arg = g};
    return ot_plan_create(&o, &plan, &g->plan, err);
}

ot_rc ot_group_create(const ot_group_options *o, const ot_group_ops *ops, ot_group **out,
                      ot_error *err)
{
    ot_group *g = ot_calloc(1, sizeof *g);
    size_t n = (size_t)o->n;
    if (g != NULL) {
        ot_residuals_init(&g->residuals);
        g->ranks = ot_calloc(n, sizeof *g->ranks);
        g->hosts = ot_calloc(n, sizeof *g->hosts);
        g->host_names = ot_calloc(n, sizeof *g->host_names);
    }
    if (g == NULL || g->ranks == NULL || g->hosts == NULL || g->host_names == NULL) {
        ot_group_destroy(g);
        return ot_fail(err, OT_EXHAUSTED, "group of %d ranks: out of memory", o->n);
    }
    g->id = o->id;
    g->n = o->n;
    g->ops = *ops;
    for (int32_t i = 0; i < o->n; i++) {
        g->ranks[i] = o->ranks[i];
        g->hosts[i] = o->world_hosts[o->ranks[i]];
        g->host_names[i] = o->world_host_names[o->ranks[i]];
        g->rank = o->ranks[i] == o->me ? i : g->rank;
    }
    g->place = (ot_team_place){.rank = g->rank,
                               .size = g->n,
                               .hosts = g->hosts,
                               .cost = o->cost,
                               .loss = o->loss,
                               .lowrank = o->lowrank,
                               .pool = &g->pool,
                               .residuals = o->residuals != NULL ? o->residuals : &g->residuals,
                               .trace = o->trace};
    ot_rc rc = make_lanes(g, o, err);
    if (rc != OT_OK) {
        ot_group_destroy(g);
        return rc;
    }
    *out = g;
    return OT_OK;
}

void ot_group_destroy(ot_group *g)
{
    if (g == NULL) {
        return;
    }
    g->dead = true;
    for (int32_t i = 0; i < LANES; i++) {
        if (g->lanes[i].exec != NULL) {
            ot_error e;
            (void)ot_fail(&e, OT_CANCELLED, "the group is no more");
            ot_exec_abort(g->lanes[i].exec, &e);
        }
        ot_exec_destroy(g->lanes[i].exec);
    }
    ot_control_lane_destroy(g->control);
    ot_plan_destroy(g->plan);
    ot_pool_done(&g->pool);
    ot_residuals_done(&g->residuals);
    ot_free(g->ranks);
    ot_free(g->hosts);
    ot_free(g->host_names);
    ot_free(g);
}

int32_t ot_group_id(const ot_group *g)
{
    return g->id;
}

/* The unnamed tickets that have been gathered, as one bucket. */
static void run_gathered(ot_group *g)
{
    size_t n = g->n_gathered;
    ot_bucket b = {.seq = g->ordered, .lane = OT_LANE_ORDERED, .n = n};
    uint64_t tickets[GATHER_MAX];
    OT_AUTO(ot_free_ptr) ot_signature *sigs = ot_calloc(n > 0 ? n : 1, sizeof *sigs);
    if (sigs == NULL) {
        ot_error e;
        (void)ot_fail(&e, OT_EXHAUSTED, "operation: out of memory");
        g->ops.failed(g->ops.arg, &e);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t both[2] = {b.hash, ot_signature_hash(&g->gathered[i]->sig)};
        b.hash = ot_hash_stable(both, sizeof both, n);
        sigs[i] = g->gathered[i]->sig;
        tickets[i] = (uint64_t)g->gathered[i]->handle;
        g->gathered[i]->begun = true;
    }
    b.tickets = tickets;
    b.signatures = sigs;
    g->n_gathered = 0;
    g->gathered_bytes = 0;
    if (n > 0) {
        g->ordered++;
        run(g, &b, g->gathered);
    }
}

static void gather(ot_group *g, ot_ticket *k, bool more)
{
    const ot_signature *s = &k->sig;
    const ot_signature *first = g->n_gathered > 0 ? &g->gathered[0]->sig : s;
    uint64_t bytes = ot_signature_count(s) * ot_dtype_bytes((overtake_dtype)s->dtype);
    bool sums = s->kind == OVERTAKE_ALLREDUCE;
    if (g->n_gathered > 0 &&
        (!sums || s->dtype != first->dtype || s->reduction != first->reduction ||
         g->gathered_bytes + bytes > GATHER_BYTES)) {
        run_gathered(g);
    }
    g->gathered[g->n_gathered++] = k;
    g->gathered_bytes += bytes;
    if (!more || !sums || g->n_gathered == GATHER_MAX) {
        run_gathered(g);
    }
}

void ot_group_submit(ot_group *g, ot_ticket *k, bool more)
{
    ot_error e = {.rc = OT_OK};
    if (!k->named) {
        gather(g, k, more);
    } else if (ot_plan_submit(g->plan, &k->sig, (uint64_t)k->handle, &e) != OT_OK) {
        g->ops.ticket_done(g->ops.arg, k, &e, -1);
    }
}

void ot_group_waiting(ot_group *g, uint64_t ticket)
{
    ot_plan_waiting(g->plan, ticket);
}

void ot_group_link(ot_group *g, int32_t i, int32_t peer, ot_link *l, bool asked)
{
    int32_t rank = 0;
    while (rank < g->n && g->ranks[rank] != peer) {
        rank++;
    }
    if (rank == g->n || i < 0 || i >= LANES) {
        l->ops->destroy(l);
    } else if (i == OT_LANE_CONTROL) {
        ot_control_lane_link(g->control, rank, l, asked);
    } else {
        ot_exec_link(g->lanes[i].exec, rank, l);
    }
}

bool ot_group_turn(ot_group *g, uint64_t budget)
{
    bool more = false;
    if (!g->dead) {
        ot_plan_turn(g->plan);
    }
    for (int32_t i = 0; i < LANES && !g->dead; i++) {
        more |= g->lanes[i].exec != NULL && ot_exec_turn(g->lanes[i].exec, budget);
    }
    return more;
}

void ot_group_look(ot_group *g, uint64_t now_ns)
{
    for (int32_t i = 0; i < LANES && !g->dead; i++) {
        if (g->lanes[i].exec != NULL) {
            ot_exec_look(g->lanes[i].exec, now_ns);
        }
    }
    ot_control_lane_look(g->control, now_ns);
}

void ot_group_abort(ot_group *g, const ot_error *why)
{
    g->dead = true;
    for (int32_t i = 0; i < LANES; i++) {
        if (g->lanes[i].exec != NULL) {
            ot_exec_abort(g->lanes[i].exec, why);
        }
    }
}

bool ot_group_idle(const ot_group *g)
{
    for (int32_t i = 0; i < LANES; i++) {
        if (g->lanes[i].exec != NULL && !ot_exec_idle(g->lanes[i].exec)) {
            return false;
        }
    }
    return ot_control_lane_idle(g->control);
}

bool ot_group_has(const ot_group *g, int32_t rank)
{
    for (int32_t i = 0; i < g->n; i++) {
        if (g->ranks[i] == rank) {
            return true;
        }
    }
    return false;
}

static const ot_run *waiting_run(const ot_group *g, int32_t *peer_out)
{
    for (int32_t i = 0; i < LANES; i++) {
        ot_exec *e = g->lanes[i].exec;
        const ot_run *r = e != NULL ? ot_exec_oldest(e, peer_out) : NULL;
        if (r != NULL && *peer_out >= 0) {
            return r;
        }
    }
    return NULL;
}

void ot_group_stall(ot_group *g, const ot_ticket *k, char *text, size_t size, int32_t *rank_out)
{
    *rank_out = -1;
    text[0] = '\0';
    if (k->named && !k->begun) {
        int32_t first = -1;
        if (ot_plan_lacks(g->plan, text, size, &first) == 0 &&
            (g->asked != (uint64_t)k->handle || ot_clock_mono_ns() - g->asked_ns > ASK_NS)) {
            g->asked = (uint64_t)k->handle;
            g->asked_ns = ot_clock_mono_ns();
            ot_plan_ask(g->plan, g->asked);
        }
        *rank_out = first >= 0 ? g->ranks[first] : -1;
        return;
    }
    int32_t peer;
    const ot_run *r = waiting_run(g, &peer);
    if (r != NULL) {
        *rank_out = g->ranks[peer];
        snprintf(text, size, "waiting for what rank %d (host %s) has to send for '%s'", *rank_out,
                 g->host_names[peer], r->name);
    }
}

int32_t ot_group_waits_for(const ot_group *g, const char **name_out)
{
    int32_t peer;
    const ot_run *r = waiting_run(g, &peer);
    *name_out = r != NULL ? r->name : "";
    return r != NULL ? g->ranks[peer] : -1;
}

ot_exec_stats ot_group_stats(const ot_group *g)
{
    ot_exec_stats sum = {0};
    for (int32_t i = 0; i < LANES; i++) {
        ot_exec_stats s = {0};
        if (g->lanes[i].exec != NULL) {
            s = ot_exec_get_stats(g->lanes[i].exec);
        }
        sum.bytes_in += s.bytes_in;
        sum.bytes_out += s.bytes_out;
        sum.runs += s.runs;
    }
    return sum;
}
