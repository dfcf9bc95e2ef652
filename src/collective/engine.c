#include "collective/engine_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "collective/verdict.h"

#include <stdio.h>
#include <string.h>

static void on_want(void *arg, int32_t group, int32_t lane, int32_t peer)
{
    ot_engine *e = arg;
    ot_mesh_want(e->mesh, group, lane, peer);
}

static void on_broken(void *arg, int32_t peer, const char *tensor, const ot_error *why,
                      bool certain)
{
    ot_engine *e = arg;
    (void)tensor;
    if (!certain) {
        ot_engine_suspect(e, peer, why);
        return;
    }
    ot_error v;
    ot_verdict_of_mismatch(peer, ot_engine_host_of(e, peer), e->rank, ot_engine_host_of(e, e->rank),
                           why, &v);
    ot_engine_tell(e, peer, false, &v);
    ot_engine_judge(e, peer, &v);
}

static void on_ticket_done(void *arg, ot_ticket *k, const ot_error *why, int32_t culprit)
{
    ot_engine *e = arg;
    if (why == NULL) {
        atomic_fetch_add(&e->steps, 1);
    }
    bool judged = why != NULL && (e->failing || e->failed);
    ot_ticket_end(e->tickets, k, judged ? &e->verdict : why, judged ? e->culprit : culprit);
}

/* A ticket that is not done is nobody else's; one that is may be gone any moment. */
ot_ticket *ot_engine_on_find(void *arg, uint64_t handle)
{
    ot_engine *e = arg;
    pthread_mutex_lock(&e->tickets->lock);
    ot_ticket *k = ot_ticket_find_locked(e->tickets, (overtake_handle)handle);
    k = k != NULL && !k->done ? k : NULL;
    pthread_mutex_unlock(&e->tickets->lock);
    return k;
}

/* Something of this rank's own: memory is short. The others wait for it, so they are told. */
void ot_engine_on_failed(void *arg, const ot_error *why)
{
    ot_engine *e = arg;
    if (!e->failing && !e->failed) {
        ot_engine_tell(e, e->rank, false, why);
        ot_engine_judge(e, e->rank, why);
    }
}

ot_group *ot_engine_group_of(ot_engine *e, int32_t id)
{
    for (size_t i = 0; i < e->n_groups; i++) {
        if (ot_group_id(e->groups[i]) == id) {
            return e->groups[i];
        }
    }
    return NULL;
}

bool ot_engine_on_has(void *arg, int32_t group)
{
    return ot_engine_group_of(arg, group) != NULL;
}

void ot_engine_on_up(void *arg, int32_t group, int32_t lane, int32_t peer, ot_link *l, bool asked)
{
    ot_engine *e = arg;
    ot_group *g = ot_engine_group_of(e, group);
    if (g == NULL) {
        ot_link_destroy(l);
    } else {
        ot_group_link(g, lane, peer, l, asked);
    }
}

void ot_engine_on_unreached(void *arg, int32_t peer, const ot_error *why)
{
    ot_engine *e = arg;
    ot_engine_suspect(e, peer >= 0 ? peer : e->rank, why);
}

int32_t ot_engine_rank(const ot_engine *e)
{
    return e->rank;
}

void ot_engine_step(ot_engine *e, uint64_t samples)
{
    e->program_steps++;
    e->program_samples += samples;
    ot_trace_step(e->trace);
}

ot_trace *ot_engine_trace(ot_engine *e)
{
    return e->trace;
}

const ot_member *ot_engine_members(const ot_engine *e, int32_t *n_out)
{
    *n_out = e->size;
    return e->members;
}

ot_tickets *ot_engine_tickets(ot_engine *e)
{
    return e->tickets;
}

ot_rc ot_engine_submit(ot_engine *e, ot_ticket *const *k, size_t n, ot_error *err)
{
    ot_rc rc = OT_OK;
    pthread_mutex_lock(&e->lock);
    size_t before = e->n_commands;
    for (size_t i = 0; i < n && rc == OT_OK; i++) {
        ot_order c = {.kind = OT_SUBMIT, .group = k[i]->group, .handle = (uint64_t)k[i]->handle};
        c.more = i + 1 < n && !k[i + 1]->named && k[i + 1]->group == k[i]->group;
        rc = ot_engine_push_locked(e, c, err);
    }
    e->n_commands = rc == OT_OK ? e->n_commands : before;
    pthread_mutex_unlock(&e->lock);
    if (rc == OT_OK) {
        ot_engine_wake(e);
    }
    return rc;
}

void ot_engine_waiting(ot_engine *e, const ot_ticket *k)
{
    ot_order c = {.kind = OT_WAITING, .group = k->group, .handle = (uint64_t)k->handle};
    (void)ot_engine_push(e, c, !k->done, NULL);
}

ot_rc ot_engine_group_add(ot_engine *e, int32_t id, const int32_t *ranks, int32_t n, ot_error *err)
{
    ot_group_options o = {.id = id,
                          .ranks = ranks,
                          .n = n,
                          .me = e->rank,
                          .world_hosts = e->hosts,
                          .world_host_names = e->host_names,
                          .cost = &e->settings.cost,
                          .loss = e->settings.loss,
                          .lowrank = (size_t)e->settings.lowrank,
                          .residuals = id == OVERTAKE_WORLD ? e->o.residuals : NULL,
                          .trace = e->trace,
                          .carrier = id == OVERTAKE_WORLD ? e->carrier : NULL,
                          .no_learn = e->o.no_learn};
    ot_group_ops ops = {.want = on_want,
                        .broken = on_broken,
                        .ticket_done = on_ticket_done,
                        .find = ot_engine_on_find,
                        .failed = ot_engine_on_failed,
                        .arg = e};
    ot_order c = {.kind = OT_GROUP_ADD, .group = id};
    OT_TRY(ot_group_create(&o, &ops, &c.add, err));
    ot_rc rc = ot_engine_push(e, c, true, err);
    if (rc != OT_OK) {
        ot_group_destroy(c.add);
    }
    return rc;
}

void ot_engine_group_drop(ot_engine *e, int32_t id)
{
    ot_order c = {.kind = OT_GROUP_DROP, .group = id};
    (void)ot_engine_push(e, c, true, NULL);
}

ot_engine_epoch ot_engine_epoch_of(const ot_engine *e)
{
    return (ot_engine_epoch){.number = ot_meet_epoch(e->meet),
                             .waiting = e->waiting,
                             .leaving = e->leaving,
                             .batch_ranks =
                                 e->settings.batch_np > 0 ? (int32_t)e->settings.batch_np : e->size,
                             .elastic = e->o.id.worker >= 0,
                             .over = e->over};
}

uint64_t ot_engine_steps(ot_engine *e)
{
    return atomic_load(&e->steps);
}

void ot_engine_stall(ot_engine *e, const ot_ticket *k, char *text, size_t size, int32_t *rank_out)
{
    (void)k;
    pthread_mutex_lock(&e->lock);
    snprintf(text, size, "%s", e->stall_text);
    *rank_out = e->stall_rank;
    pthread_mutex_unlock(&e->lock);
}
