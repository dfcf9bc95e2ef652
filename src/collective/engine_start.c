/* How a rank joins its job, and leaves it. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "collective/engine_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FINALIZE_NS 60000000000u

/* Those of OVERTAKE_SETTINGS, and what is wrong with them. */
typedef struct given_settings {
    bool given;
    ot_rc rc;
    ot_error why;
    char text[OT_SETTINGS_MAX];
} given_settings;

static void on_waiting(void *arg, const char *text)
{
    (void)arg;
    ot_warn("collective", "%s", text);
}

/* A process alone meets nobody, at a port of its own. */
static void be_alone(ot_identity *id)
{
    uint8_t key[32];
    ot_random_bytes(key, sizeof key);
    ot_hex(key, sizeof key, id->key);
    id->key_len = 2 * sizeof key;
    id->serves = true;
    snprintf(id->rendezvous, sizeof id->rendezvous, "127.0.0.1:0");
}

static ot_rc serve(ot_engine *e, const char *settings, ot_error *err)
{
    ot_identity *id = &e->o.id;
    if (id->size == 1 && id->rendezvous[0] == '\0') {
        be_alone(id);
    }
    ot_meet_server_options o = {.size = id->size,
                                .key = id->key,
                                .key_len = id->key_len,
                                .timeout_us = e->o.timeout_us,
                                .settings = settings};
    ot_meet_server_ops ops = {.waiting = on_waiting, .refused = on_waiting, .arg = e};
    char first[sizeof id->rendezvous];
    if (!id->serves) {
        return OT_OK;
    }
    snprintf(first, sizeof first, "%.*s", (int)strcspn(id->rendezvous, ","), id->rendezvous);
    OT_TRY(ot_addr_parse(first, &o.listen, err));
    if (!ot_addr_is_loopback(&o.listen)) {
        snprintf(o.listen.host, sizeof o.listen.host, "::");
    }
    ot_rc rc = ot_meet_server_create(&o, &ops, &e->server, err);
    if (rc != OT_OK && strcmp(o.listen.host, "::") == 0) {
        snprintf(o.listen.host, sizeof o.listen.host, "0.0.0.0");
        rc = ot_meet_server_create(&o, &ops, &e->server, err);
    }
    if (rc == OT_OK && o.listen.port == 0) {
        snprintf(id->rendezvous, sizeof id->rendezvous, "127.0.0.1:%u",
                 ot_meet_server_port(e->server));
    }
    return rc;
}

/* What this rank's environment says. A launcher of ours has said it for all. */
static void read_given(ot_engine *e, given_settings *g)
{
    ot_settings s;
    g->why = (ot_error){.rc = OT_OK};
    g->rc = ot_settings_given(&s, &g->given, &g->why);
    ot_settings_format(&s, g->text);
    if (e->o.id.launched && g->given) {
        *g = (given_settings){.rc = OT_OK};
        if (e->o.id.rank == 0 && e->o.epoch == 0) {
            ot_warn("collective", "OVERTAKE_SETTINGS is for other launchers: here the options of "
                                  "`overtake run` count");
        }
    }
}

/* What is wrong with it is told to all, so that each can name this rank. */
static ot_rc agree(ot_engine *e, given_settings *g, ot_error *err)
{
    if (g->rc == OT_OK && g->given) {
        g->rc = ot_settings_agree(g->text, ot_meet_settings(e->meet), &g->why);
    }
    if (g->rc == OT_OK) {
        return OT_OK;
    }
    ot_engine_tell(e, e->rank, false, &g->why);
    return ot_fail(err, g->rc, "rank %d (host %s): %s", e->rank, ot_engine_host_of(e, e->rank),
                   g->why.msg);
}

/* The engine that the environment asks for. Why it can't be had is said to all, who then end alike.
 */
static void load_carrier(ot_engine *e, char said[OT_MEET_ENGINE])
{
    ot_error why = {.rc = OT_OK};
    const char *wanted = e->o.engine != NULL ? e->o.engine : ot_carrier_wanted();
    ot_rc rc;
    if (e->o.id.worker >= 0 && strcmp(wanted, OT_CARRIER_BUILT_IN) != 0) {
        rc = ot_fail(&why, OT_PRECONDITION,
                     "engine '%.40s' keeps the ranks that it began with: an elastic job (--min-np) "
                     "takes the engine '" OT_CARRIER_BUILT_IN "'",
                     wanted);
    } else {
        rc = ot_carrier_load(wanted, e->o.id.size, &e->carrier, &why);
    }
    snprintf(said, OT_MEET_ENGINE, "%s%s", rc == OT_OK ? "" : "!",
             rc == OT_OK ? ot_carrier_name(e->carrier) : why.msg);
}

/* All ranks see the same table, so all go on or none. */
static ot_rc compare_carriers(const ot_engine *e, ot_error *err)
{
    for (int32_t r = 0; r < e->size; r++) {
        const ot_member *m = &e->members[r], *first = &e->members[0];
        if (m->engine[0] == '!') {
            return ot_fail(err, OT_PRECONDITION, "rank %d (host %s): %s", r, m->host,
                           m->engine + 1);
        }
        if (strcmp(m->engine, first->engine) != 0) {
            return ot_fail(err, OT_PRECONDITION,
                           "rank %d (host %s) has the engine '%s' and rank 0 (host %s) '%s': set "
                           "OVERTAKE_ENGINE alike on all ranks, with one version of its library",
                           r, m->host, m->engine, first->host, first->engine);
        }
    }
    return OT_OK;
}

static ot_rc join_carrier(ot_engine *e, ot_error *err)
{
    OT_TRY(compare_carriers(e, err));
    if (e->carrier == NULL) {
        return OT_OK;
    }
    OT_TRY(ot_carrier_join(e->carrier, e->rank, e->size, OT_GROUP_LANES, err));
    e->carrier_watch =
        (ot_watch){.fd = ot_carrier_fd(e->carrier), .ready = ot_engine_on_carrier, .arg = e};
    return ot_poller_add(e->poller, &e->carrier_watch, EPOLLIN, err);
}

static ot_rc meet(ot_engine *e, const char *settings, ot_error *err)
{
    const ot_identity *id = &e->o.id;
    OT_TRY(serve(e, settings, err));
    ot_meet_options o = {.server = id->rendezvous,
                         .key = id->key,
                         .key_len = id->key_len,
                         .size = id->size,
                         .timeout_us = e->o.timeout_us,
                         .epoch = e->o.epoch,
                         .reach_us = e->o.reach_us};
    o.self.rank = id->rank;
    o.self.worker = id->worker;
    o.self.pid = getpid();
    ot_identity_host(o.self.host, o.self.machine);
    load_carrier(e, o.self.engine);
    ot_mesh_options m = {
        .poller = e->poller, .key = id->key, .key_len = id->key_len, .no_shm = e->o.no_shm};
    ot_mesh_ops ops = {
        .up = ot_engine_on_up, .failed = ot_engine_on_unreached, .has = ot_engine_on_has, .arg = e};
    OT_TRY(ot_mesh_create(&m, &ops, &o.self, &e->mesh, err));
    return ot_meet_join(&o, &e->meet, err);
}

static ot_rc join(ot_engine *e, ot_error *err)
{
    given_settings given;
    read_given(e, &given);
    OT_TRY(meet(e, given.text, err));
    e->members = ot_meet_members(e->meet, &e->size);
    e->rank = ot_meet_rank(e->meet);
    ot_mesh_members(e->mesh, ot_meet_epoch(e->meet), e->members, e->size, e->rank);
    OT_TRY(agree(e, &given, err));
    OT_TRY(ot_trace_create(e->rank, e->size, &e->trace, err));
    OT_TRY(ot_settings_parse(ot_meet_settings(e->meet), &e->settings, err));
    OT_TRY(join_carrier(e, err));
    return e->settings.timeline ? ot_trace_start(e->trace, err) : OT_OK;
}

static ot_rc learn_hosts(ot_engine *e, ot_error *err)
{
    size_t n = (size_t)e->size;
    e->ranks = ot_calloc(n, sizeof *e->ranks);
    e->hosts = ot_calloc(n, sizeof *e->hosts);
    e->host_names = ot_calloc(n, sizeof *e->host_names);
    if (e->ranks == NULL || e->hosts == NULL || e->host_names == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "job of %d ranks: out of memory", e->size);
    }
    for (int32_t r = 0; r < e->size; r++) {
        e->host_names[r] = e->members[r].host;
        e->hosts[r] = r;
        for (int32_t k = 0; k < r; k++) {
            if (!e->o.no_shm && e->hosts[k] == k &&
                strcmp(e->members[k].machine, e->members[r].machine) == 0) {
                e->hosts[r] = k;
                break;
            }
        }
    }
    return OT_OK;
}

static ot_rc start_thread(ot_engine *e, ot_error *err)
{
    e->meet_watch = (ot_watch){.fd = ot_meet_fd(e->meet), .ready = ot_engine_on_meet, .arg = e};
    OT_TRY(ot_poller_add(e->poller, &e->meet_watch, EPOLLIN, err));
    ot_meet_ask_clock(e->meet);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&e->thread, NULL, ot_engine_progress, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    e->started = rc == 0;
    return rc == 0 ? OT_OK : ot_fail_errno(err, rc, "thread");
}

static ot_rc start(ot_engine *e, ot_error *err)
{
    e->tickets = e->o.tickets;
    OT_TRY(e->tickets != NULL ? OT_OK : ot_tickets_create(&e->tickets, err));
    OT_TRY(ot_poller_create(&e->poller, err));
    e->wake_watch = (ot_watch){.fd = eventfd(0, EFD_CLOEXEC), .ready = ot_engine_on_wake, .arg = e};
    if (e->wake_watch.fd < 0) {
        return ot_fail_errno(err, errno, "eventfd");
    }
    OT_TRY(ot_poller_add(e->poller, &e->wake_watch, EPOLLIN, err));
    OT_TRY(join(e, err));
    OT_TRY(learn_hosts(e, err));
    OT_AUTO(ot_free_ptr) int32_t *all = ot_calloc((size_t)e->size, sizeof *all);
    for (int32_t r = 0; all != NULL && r < e->size; r++) {
        all[r] = r;
    }
    if (all == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "job of %d ranks: out of memory", e->size);
    }
    OT_TRY(ot_engine_group_add(e, OVERTAKE_WORLD, all, e->size, err));
    ot_engine_take_commands(e);
    return start_thread(e, err);
}

static void release(ot_engine *e)
{
    ot_engine_take_commands(e);
    while (e->n_groups > 0) {
        ot_engine_drop_group(e, ot_group_id(e->groups[0]));
    }
    ot_carrier_unload(e->carrier);
    ot_mesh_destroy(e->mesh);
    if (e->meet != NULL) {
        ot_meet_destroy(e->meet);
    }
    if (e->server != NULL) {
        ot_meet_server_destroy(e->server);
    }
    ot_poller_destroy(e->poller);
    if (e->tickets != e->o.tickets) {
        ot_tickets_destroy(e->tickets);
    }
    ot_trace_destroy(e->trace);
    if (e->wake_watch.fd >= 0) {
        close(e->wake_watch.fd);
    }
    pthread_mutex_destroy(&e->lock);
    ot_free(e->commands);
    ot_free(e->taken);
    ot_free(e->groups);
    ot_free(e->ranks);
    ot_free(e->hosts);
    ot_free(e->host_names);
    ot_free(e->timeline_path);
    ot_free(e);
}

ot_rc ot_engine_create(const ot_engine_options *o, ot_engine **out, ot_error *err)
{
    ot_engine *e = ot_calloc(1, sizeof *e);
    if (e == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "init: out of memory");
    }
    e->o = *o;
    e->rank = o->id.rank;
    e->wake_watch.fd = -1;
    e->culprit = e->stall_rank = -1;
    e->pulse_ns = e->moved_ns = ot_clock_mono_ns();
    pthread_mutex_init(&e->lock, NULL);
    ot_rc rc = start(e, err);
    if (rc != OT_OK) {
        release(e);
        return rc;
    }
    *out = e;
    return OT_OK;
}

static void end(ot_engine *e, ot_event_kind how)
{
    ot_tickets_await_all(e->tickets, ot_clock_mono_ns() + FINALIZE_NS);
    ot_order c = {.kind = OT_STOP};
    if (e->started && ot_engine_push(e, c, true, NULL) == OT_OK) {
        pthread_join(e->thread, NULL);
    }
    ot_engine_pulse(e);
    ot_engine_send_timeline(e);
    ot_event left = {.kind = how, .rank = e->rank};
    snprintf(left.host, sizeof left.host, "%s", ot_engine_host_of(e, e->rank));
    if (!e->meet_gone) {
        ot_meet_say(e->meet, &left);
    }
}

void ot_engine_destroy(ot_engine *e)
{
    if (e != NULL) {
        end(e, OT_EVENT_LEFT);
        e->o.tickets = NULL; /* they were taken over: ours to end */
        release(e);
    }
}

void ot_engine_abandon(ot_engine *e)
{
    (void)ot_engine_push(e, (ot_order){.kind = OT_ABANDON}, true, NULL);
}

void ot_engine_move(ot_engine *e, ot_engine_options *next)
{
    end(e, OT_EVENT_MOVED);
    e->o.tickets = e->tickets; /* they stay */
    e->o.epoch = ot_meet_epoch(e->meet);
    e->o.id.rank = e->rank;
    e->o.id.size = e->size;
    *next = e->o;
    release(e);
}
