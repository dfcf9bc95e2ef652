/* A job whose ranks come and go (`overtake run --min-np`): what is lost is named and left behind,
 * its place is filled again, hosts are found and drained. Who is in the next epoch, the meeting
 * point decides (collective/meet_epochs.c); here processes are started and ended. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "base/str.h"
#include "launch/job_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A host is set aside for a second after a failure, twice as long after each more; what it has done
 * counts half after as long of good behaviour. */
#define ASIDE_FIRST_S 1.0
#define ASIDE_MAX_S 600.0
#define HALF_LIFE_S 300.0
#define FENCE_NS 1000000000u /* for the agent to say what has become of it */

static bool elastic(const job *j)
{
    return j->o->min_np > 0;
}

/* The job goes on: news of its ranks count. */
bool job_goes_on(const job *j)
{
    return !j->failed && !j->stopping && j->interrupted == 0;
}

static int32_t living_on(const job *j, const job_agent *a)
{
    int32_t n = 0;
    for (int32_t w = 0; w < j->n_ranks; w++) {
        n += j->ranks[w].agent == a && !j->ranks[w].ended;
    }
    return n;
}

/* --- starting -------------------------------------------------------------------------------- */

ot_rc job_elastic_prepare(job *j, ot_error *err)
{
    if (!elastic(j)) {
        return OT_OK;
    }
    j->members_next = ot_calloc(OT_MEET_RANKS_MAX, sizeof *j->members_next);
    j->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (j->wake_fd < 0) {
        return ot_fail_errno(err, errno, "eventfd");
    }
    for (int32_t w = 0; w < j->n_ranks; w++) {
        j->ranks[w].local = w - j->ranks[w].agent->host->first;
    }
    return j->members_next != NULL ? OT_OK
                                   : ot_fail(err, OT_EXHAUSTED, "no memory for an elastic job");
}

void job_elastic_release(job *j)
{
    ot_job_discover_done(&j->script);
    ot_job_hosts_done(&j->hosts);
    ot_fd_close(&j->wake_fd);
    ot_free(j->members_next);
    ot_free(j->fences);
}

static void put(json_t *env, const char *name, int32_t x)
{
    (void)json_object_set_new(env, name, json_sprintf("%" PRId32, x));
}

/* A place that makes sense until the meeting point deals the real one: behind those that are there.
 */
static json_t *env_of(const job *j, int32_t w)
{
    static const char *const names[][3] = {
        {"OVERTAKE_RANK", "RANK", "HOROVOD_RANK"},
        {"OVERTAKE_SIZE", "WORLD_SIZE", "HOROVOD_SIZE"},
        {"OVERTAKE_LOCAL_RANK", "LOCAL_RANK", "HOROVOD_LOCAL_RANK"},
        {"OVERTAKE_LOCAL_SIZE", "LOCAL_WORLD_SIZE", "HOROVOD_LOCAL_SIZE"}};
    const job_rank *r = &j->ranks[w];
    int32_t local_size = OT_MAX(living_on(j, r->agent), r->local + 1), cross = 0, cross_size = 0;
    const int32_t values[] = {r->member ? r->rank : j->size, r->member ? j->size : j->size + 1,
                              r->local, local_size};
    for (size_t i = 0; i < j->n_agents; i++) {
        bool has = living_on(j, &j->agents[i]) > r->local;
        cross += has && &j->agents[i] < r->agent;
        cross_size += has;
    }
    json_t *env = json_object();
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        for (size_t k = 0; k < OT_COUNT(names[i]); k++) {
            put(env, names[i][k], values[i]);
        }
    }
    put(env, "OVERTAKE_WORKER", w);
    put(env, "HOROVOD_CROSS_RANK", cross);
    put(env, "HOROVOD_CROSS_SIZE", OT_MAX(cross_size, cross + 1));
    return env;
}

static void spawn(job *j, int32_t w)
{
    job_rank *r = &j->ranks[w];
    ot_job_channel_send(
        &r->agent->channel, OT_JOB_SPAWN,
        json_pack("{s:i,s:i,s:o}", "rank", (int)w, "local", (int)r->local, "env", env_of(j, w)),
        NULL, 0);
}

void job_elastic_begin(job *j, size_t agent)
{
    for (int32_t w = 0; elastic(j) && j->epoch == 0 && w < j->n_ranks; w++) {
        if (j->ranks[w].agent == &j->agents[agent] && !j->ranks[w].ended) {
            spawn(j, w);
        }
    }
}

/* --- what is lost ---------------------------------------------------------------------------- */

void job_elastic_host_failed(job *j, job_agent *a)
{
    uint64_t now = ot_clock_mono_ns();
    char took[32];
    if (!elastic(j) || !job_goes_on(j) || (a->failed_ns != 0 && now - a->failed_ns < 500000000u)) {
        return; /* several at once are one failure of it */
    }
    double since_s = (double)(now - a->failed_ns) * 1e-9;
    a->failures = (a->failed_ns != 0 ? a->failures * exp2(-since_s / HALF_LIFE_S) : 0) + 1;
    a->failed_ns = now;
    double aside_s = OT_MIN(ASIDE_FIRST_S * exp2(a->failures - 1), ASIDE_MAX_S);
    a->aside_ns = now + (uint64_t)(aside_s * 1e9);
    if (!a->drained) {
        int64_t tenths = (int64_t)(aside_s * 10 + 0.5);
        ot_job_print_say(j->print,
                         "host %s is set aside for %s (failures of late: %.1f), then tried again",
                         a->name, ot_format_duration(tenths * 100000, took), a->failures);
    }
}

static void add_lost(job *j, int32_t w, const char *why)
{
    ot_job_result *r = j->result;
    char name[320];
    size_t n = strlen(r->lost_list);
    job_name(j, w, name);
    snprintf(r->lost_list + n, sizeof r->lost_list - n, "%s%s%s %s", n > 0 ? "; " : "", name,
             j->ranks[w].epoch > 1 ? "" : " of epoch 1", why);
    r->lost_n++;
    job_epoch_lost(j, j->ranks[w].epoch);
}

void job_elastic_check(job *j)
{
    int32_t living = 0, well = 0;
    char why[640];
    for (int32_t r = 0; r < j->size; r++) {
        const job_rank *k = &j->ranks[j->members[r]];
        living += !k->ended && !k->lost && !k->sent_away;
        well += k->ended && !k->lost;
    }
    j->ending |= well > 0;
    if (!job_goes_on(j)) {
        return;
    }
    if (j->first_lost >= 0 && living + well < j->o->min_np) {
        snprintf(why, sizeof why,
                 "%.400s; %" PRId32 " of %" PRId32 " ranks %s left, and --min-np is %" PRId32,
                 j->first_why, living + well, j->size, living + well == 1 ? "is" : "are",
                 j->o->min_np);
        job_fail(j, j->first_lost, j->first_code, why);
    } else if (living == 0) {
        job_stop(j, j->o->grace_us); /* they are done: who waits to be admitted waits for nobody */
    }
}

static void lose(job *j, int32_t w, int code, const char *why)
{
    job_rank *r = &j->ranks[w];
    char name[320], line[400];
    bool fresh = j->epoch > 0 && r->epoch == 0; /* the next epoch may be known before its end is */
    job_name(j, w, name);
    ot_job_print_last(j->print, w, line, sizeof line);
    ot_job_print_say(j->print, "%s %s%s%s%s", name, fresh ? "waited to be admitted and " : "", why,
                     line[0] ? "; its last line: " : "", line);
    if (fresh || r->lost) {
        return;
    }
    r->lost = true;
    add_lost(j, w, why);
    if (j->first_lost < 0) {
        j->first_lost = w;
        j->first_code = code;
        snprintf(j->first_why, sizeof j->first_why, "%s", why);
    }
}

void job_elastic_ended(job *j, int32_t w, int code, const char *why, bool host_lost)
{
    job_rank *r = &j->ranks[w];
    if (!job_goes_on(j)) {
        return;
    }
    if (!r->sent_away && (code != 0 || !r->member)) {
        lose(j, w, code, code != 0 ? why : "ended");
        if (!host_lost) {
            job_elastic_host_failed(j, r->agent);
        }
    }
    job_elastic_check(j);
}

static void send_away(job *j, int32_t w, int64_t grace_us)
{
    job_rank *r = &j->ranks[w];
    r->sent_away = true;
    if (r->agent->open) {
        ot_job_channel_send(
            &r->agent->channel, OT_JOB_KILL,
            json_pack("{s:i,s:I}", "rank", (int)w, "grace_us", (json_int_t)grace_us), NULL, 0);
    }
}

void job_elastic_give_up(job *j, int32_t w, const char *why)
{
    job_rank *r = &j->ranks[w];
    if (r->ended || r->sent_away || !job_goes_on(j)) {
        return;
    }
    lose(j, w, 1, why);
    job_elastic_host_failed(j, r->agent);
    job_tell(j, w, OT_EVENT_LOST, 0, why);
    send_away(j, w, 0);
    job_elastic_check(j);
}

/* --- the meeting point's news ---------------------------------------------------------------- */

static void add_fence(job *j, int32_t process, const char *why, bool cut)
{
    pthread_mutex_lock(&j->lock);
    if (ot_grow(&j->fences, &j->cap_fences, j->n_fences, sizeof *j->fences, JOB_PROCESSES_MAX)) {
        job_fence *f = &j->fences[j->n_fences++];
        *f = (job_fence){.process = process, .cut = cut, .at_ns = ot_clock_mono_ns()};
        snprintf(f->why, sizeof f->why, "%s", why);
    }
    pthread_mutex_unlock(&j->lock);
    job_wake(j);
}

void job_elastic_fence(job *j, int32_t process, const char *why)
{
    add_fence(j, process, why, false);
}

void job_elastic_cut(void *arg, int32_t process, const char *why)
{
    add_fence(arg, process, why, true);
}

/* One that has ended has been named for it by then; who is cut off is named for that. */
static bool next_fence(job *j, uint64_t now, job_fence *out)
{
    bool found = false;
    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < j->n_fences && !found; i++) {
        *out = j->fences[i];
        found = out->cut || now - OT_MIN(now, out->at_ns) >= FENCE_NS;
        if (found) {
            memmove(j->fences + i, j->fences + i + 1, (--j->n_fences - i) * sizeof *out);
        }
    }
    pthread_mutex_unlock(&j->lock);
    return found;
}

/* It has heard so from the meeting point, and has time to say so and to end. */
static void cut_off(job *j, int32_t w, const char *why, uint64_t now)
{
    job_rank *r = &j->ranks[w];
    if (r->ended || r->sent_away || !job_goes_on(j)) {
        return;
    }
    lose(j, w, 1, why);
    job_elastic_host_failed(j, r->agent);
    r->sent_away = r->leaving = true;
    r->left_ns = now;
    job_elastic_check(j);
}

static void take_fences(job *j, uint64_t now)
{
    job_fence f;
    while (next_fence(j, now, &f)) {
        char why[560];
        snprintf(why, sizeof why, "is lost: %s", f.why);
        if (f.process < j->n_ranks && f.cut) {
            cut_off(j, f.process, why, now);
        } else if (f.process < j->n_ranks) {
            job_elastic_give_up(j, f.process, why);
        }
    }
}

/* --- hosts and places ------------------------------------------------------------------------ */

/* Whose host is being drained, and the next epoch is without it. */
static void end_leaving(job *j, uint64_t now)
{
    char name[320];
    for (int32_t w = 0; w < j->n_ranks; w++) {
        job_rank *r = &j->ranks[w];
        if (!r->leaving || r->member || r->ended) {
            continue;
        }
        if (!r->sent_away) {
            job_name(j, w, name);
            ot_job_print_say(j->print, "%s leaves: its host is being drained", name);
            r->sent_away = true;
            r->left_ns = now;
        } else if (r->left_ns != 0 && now - r->left_ns >= (uint64_t)j->o->settle_us * 1000) {
            r->left_ns = 0; /* it had time to end by itself */
            send_away(j, w, j->o->grace_us);
        }
    }
    for (size_t i = 0; i < j->n_agents; i++) {
        job_agent *a = &j->agents[i];
        if (a->drained && a->open && !a->done && living_on(j, a) == 0) {
            ot_job_channel_send(&a->channel, OT_JOB_STOP, json_pack("{s:i}", "grace_us", 0), NULL,
                                0);
            a->done = true;
        }
    }
}

static int32_t free_place(const job *j, const job_agent *a)
{
    for (int32_t local = 0; local < a->host->slots; local++) {
        bool taken = false;
        for (int32_t w = 0; w < j->n_ranks; w++) {
            taken |= j->ranks[w].agent == a && !j->ranks[w].ended && j->ranks[w].local == local;
        }
        if (!taken) {
            return local;
        }
    }
    return -1;
}

static bool add_process(job *j, job_agent *a, int32_t local)
{
    ot_error err = {0};
    if (j->n_ranks == JOB_PROCESSES_MAX || ot_job_print_more(j->print, &err) != OT_OK) {
        ot_job_print_say(j->print,
                         "no process is started any more in place of those that are "
                         "lost: %s",
                         err.msg[0] != 0 ? err.msg : "there were too many");
        j->n_ranks = JOB_PROCESSES_MAX;
        return false;
    }
    int32_t w = j->n_ranks++;
    j->ranks[w] = (job_rank){.agent = a, .local = local, .rank = w};
    spawn(j, w);
    return true;
}

/* Starts what there is a place for; an agent first, where there is none. */
static void fill(job *j, uint64_t now)
{
    int32_t living = 0;
    for (int32_t w = 0; w < j->n_ranks; w++) {
        living += !j->ranks[w].ended && !j->ranks[w].leaving && !j->ranks[w].sent_away;
    }
    for (size_t i = 0; i < j->n_agents && living < j->o->max_np && j->n_ranks < JOB_PROCESSES_MAX;
         i++) {
        job_agent *a = &j->agents[i];
        ot_error err = {0};
        int32_t local;
        if (a->drained || now < a->aside_ns) {
            continue;
        }
        if (!a->open && a->pid == 0 && job_agent_start(j, i, &err) != OT_OK) {
            ot_job_print_say(j->print, "host %s: %s", a->name, err.msg);
            job_elastic_host_failed(j, a);
        }
        while (a->open && !a->done && living < j->o->max_np && (local = free_place(j, a)) >= 0 &&
               add_process(j, a, local)) {
            living++;
        }
    }
}

static void drain(job *j, job_agent *a)
{
    a->drained = true;
    ot_job_print_say(j->print,
                     "host %s is no longer among the job's: its ranks leave at the next "
                     "step boundary",
                     a->name);
    for (int32_t w = 0; w < j->n_ranks; w++) {
        job_rank *r = &j->ranks[w];
        if (r->agent == a && !r->ended && !r->leaving) {
            r->leaving = true;
            job_tell(j, w, OT_EVENT_LEAVING, 0, "");
        }
    }
}

static job_agent *find_host(job *j, const char *name)
{
    for (size_t i = 0; i < j->n_agents; i++) {
        if (strcmp(j->agents[i].host->name, name) == 0) {
            return &j->agents[i];
        }
    }
    return NULL;
}

static void add_host(job *j, const ot_job_host *h)
{
    if (j->n_agents == j->cap_agents) {
        return;
    }
    job_agent *a = &j->agents[j->n_agents];
    *a = (job_agent){0};
    job_host_init(a, &j->hosts.v[j->n_agents], h);
    j->n_agents++;
    ot_job_print_say(j->print, "host %s is one of the job's now, for %" PRId32 " ranks", a->name,
                     h->slots);
}

void job_elastic_hosts(job *j, const ot_job_hosts *hosts)
{
    for (size_t i = 0; i < j->n_agents; i++) {
        job_agent *a = &j->agents[i];
        bool there = false;
        for (size_t k = 0; k < hosts->n && !there; k++) {
            there = strcmp(hosts->v[k].name, a->host->name) == 0;
            j->hosts.v[i].slots = there ? hosts->v[k].slots : j->hosts.v[i].slots;
        }
        if (!there && !a->drained) {
            drain(j, a);
        } else if (there && a->drained && !a->open && a->pid == 0) {
            a->drained = false; /* it has come back */
        }
    }
    for (size_t k = 0; k < hosts->n; k++) {
        if (find_host(j, hosts->v[k].name) == NULL) {
            add_host(j, &hosts->v[k]);
        }
    }
}

static void discover(job *j, uint64_t now)
{
    ot_job_hosts hosts;
    ot_error err = {0};
    const char *script = j->o->discover;
    if (script == NULL) {
        return;
    }
    ot_rc rc = OT_NOT_FOUND;
    if (j->script.pid != 0) {
        rc = ot_job_discover_turn(&j->script, script, &hosts, &err);
    } else if (now >= j->script.next_ns) {
        rc = ot_job_discover_start(&j->script, script, &err);
        j->script.next_ns = now + OT_JOB_DISCOVER_US * (uint64_t)1000;
        rc = rc == OT_OK ? OT_NOT_FOUND : rc;
    }
    if (rc == OT_OK) {
        j->script_failed = false;
        job_elastic_hosts(j, &hosts);
        ot_job_hosts_done(&hosts);
    } else if (rc != OT_NOT_FOUND && !j->script_failed) {
        j->script_failed = true; /* said once; the hosts stay as they are */
        ot_job_print_say(j->print, "%s; the hosts stay as they are", err.msg);
    }
}

void job_elastic_turn(job *j)
{
    uint64_t count, now = ot_clock_mono_ns();
    if (!elastic(j)) {
        return;
    }
    while (read(j->wake_fd, &count, sizeof count) > 0) {
    }
    job_take_formed(j);
    if (!job_goes_on(j)) {
        return;
    }
    take_fences(j, now);
    discover(j, now);
    end_leaving(j, now);
    if (j->epoch > 0 && !j->ending && job_goes_on(j)) {
        fill(j, now);
    }
}
