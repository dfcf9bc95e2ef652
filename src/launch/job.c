/* The launcher of a job: one try after the other, each until nothing of it is left. */
#include "launch/job.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "launch/job_internal.h"
#include "launch/proc.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS 500
#define KILL_ROUNDS 500
#define PROGRESS_NS 1000000000u
#define HEAD_FDS 4 /* before those of the agents */
#define INPUT_QUEUE_MAX (1u << 20)

static const int taken[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

/* --- signals --------------------------------------------------------------------------------- */

static void hand_on_signal(job *j, int signo, bool group)
{
    for (size_t i = 0; i < j->n_agents; i++) {
        if (j->agents[i].open) {
            ot_job_channel_send(&j->agents[i].channel, OT_JOB_SIGNAL,
                                json_pack("{s:i,s:b}", "signal", signo, "group", (int)group), NULL,
                                0);
        }
    }
}

/* As a terminal does it: the first interrupt is the programs' to take, the second is the end. */
static void take_signal(job *j, int signo)
{
    if (signo == SIGUSR1 || signo == SIGUSR2) {
        hand_on_signal(j, signo, false);
        return;
    }
    if (j->interrupted != 0) {
        ot_job_print_say(j->print, "once more (%s): the ranks are killed", strsignal(signo));
        job_stop(j, 0);
        return;
    }
    j->interrupted = signo;
    ot_job_print_say(j->print, "%s: handed on to the ranks; once more kills them",
                     strsignal(signo));
    if (signo == SIGINT || signo == SIGQUIT) {
        hand_on_signal(j, signo, true);
        j->stop_at_ns = ot_clock_mono_ns() + (uint64_t)j->o->grace_us * 1000;
    } else {
        job_stop(j, j->o->grace_us);
    }
}

static void reap(job *j)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == j->script.pid) {
            j->script.ended = true;
            j->script.status = status;
        }
        for (size_t i = 0; i < j->n_agents; i++) {
            job_agent *a = &j->agents[i];
            if (a->pid == pid) {
                a->pid = 0;
                a->status = status;
            }
        }
    }
}

static void read_signals(job *j)
{
    struct signalfd_siginfo si;
    while (read(j->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo != SIGCHLD) {
            take_signal(j, (int)si.ssi_signo);
        }
    }
    reap(j);
}

/* --- the loop -------------------------------------------------------------------------------- */

static void read_agent(job *j, job_agent *a)
{
    ot_frame f;
    ot_error err = {0};
    ot_rc rc;
    bool there = ot_job_channel_fill(&a->channel);
    while ((rc = ot_job_channel_take(&a->channel, &f, &err)) == OT_OK) {
        job_take_frame(j, a, &f);
    }
    if (rc != OT_NOT_FOUND) {
        ot_job_print_say(j->print, "host %s: what its agent sends is not ours: %s", a->name,
                         err.msg);
    }
    if (!there || rc != OT_NOT_FOUND) {
        ot_job_channel_done(&a->channel);
        a->open = false;
    }
}

static void read_input(job *j)
{
    char buf[16384];
    ssize_t k = read(STDIN_FILENO, buf, sizeof buf);
    if (k < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    j->input_open = k > 0;
    if (j->agents[0].open) {
        ot_job_channel_send(&j->agents[0].channel, OT_JOB_INPUT, NULL, buf, k > 0 ? (size_t)k : 0);
    }
}

static bool going_on(const job *j)
{
    for (size_t i = 0; i < j->n_agents; i++) {
        if (j->agents[i].open || j->agents[i].pid != 0) {
            return true;
        }
    }
    return false;
}

static void check_agents(job *j)
{
    for (size_t i = 0; i < j->n_agents; i++) {
        job_agent *a = &j->agents[i];
        if (!a->open && a->pid == 0) {
            job_agent_lost(j, a, a->status);
        }
    }
}

static size_t fill_poll(const job *j, struct pollfd *p)
{
    bool full = ot_job_print_full(j->print);
    size_t queued = j->agents[0].open ? ot_job_channel_queued(&j->agents[0].channel) : 0;
    p[0] = (struct pollfd){.fd = j->signal_fd, .events = POLLIN};
    p[2] = (struct pollfd){.fd = j->wake_fd, .events = POLLIN};
    p[3] = (struct pollfd){.fd = j->script.fd, .events = POLLIN};
    p[1] = (struct pollfd){.fd = j->input_open && queued < INPUT_QUEUE_MAX ? STDIN_FILENO : -1,
                           .events = POLLIN};
    for (size_t i = 0; i < j->n_agents; i++) {
        const job_agent *a = &j->agents[i];
        bool out = a->open && ot_job_channel_queued(&a->channel) > 0;
        p[HEAD_FDS + i] =
            (struct pollfd){.fd = a->open ? a->channel.in : -1,
                            .events = (short)((full ? 0 : POLLIN) | (out ? POLLOUT : 0))};
    }
    return HEAD_FDS + j->n_agents;
}

/* How long to sleep; the print may be full, which nobody wakes us from. */
static int wait_ms(const job *j)
{
    uint64_t now = ot_clock_mono_ns();
    int ms = ot_job_print_full(j->print) ? 20 : TICK_MS;
    if (j->stop_at_ns != 0 && !j->stopping) {
        ms = j->stop_at_ns > now ? (int)OT_MIN((j->stop_at_ns - now) / 1000000 + 1, (uint64_t)ms)
                                 : 0;
    }
    return ms;
}

/* Once a second: on a terminal, and for those that read the file. */
static void show_progress(job *j)
{
    uint64_t now = ot_clock_mono_ns();
    if ((!j->o->progress && j->o->state_file == NULL) || now - j->shown_ns < PROGRESS_NS) {
        return;
    }
    struct winsize w = {0};
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col - 1 : 79;
    char text[256], took[32], line[256];
    pthread_mutex_lock(&j->lock);
    ot_job_rates rates =
        ot_job_rates_of(j->pulses_before, j->pulses, j->size, (now - j->shown_ns) / 1000);
    memcpy(j->pulses_before, j->pulses, (size_t)j->size * sizeof *j->pulses);
    pthread_mutex_unlock(&j->lock);
    j->shown_ns = now;
    job_state_write(j, &rates, false);
    if (!j->o->progress) {
        return;
    }
    ot_job_progress(&rates, j->size, text, sizeof text);
    uint64_t seconds = (now - j->started_ns) / 1000000000u;
    snprintf(line, sizeof line, "[%s] %s", ot_format_duration((int64_t)seconds * 1000000, took),
             text);
    line[OT_MIN((size_t)columns, sizeof line - 1)] = 0;
    ot_job_print_status(j->print, line);
}

static void turn(job *j, struct pollfd *p)
{
    int ms = wait_ms(j);
    size_t n = j->n_agents;
    uint64_t before = ot_clock_mono_ns();
    (void)poll(p, (nfds_t)fill_poll(j, p), ms);
    uint64_t slept = ot_clock_mono_ns() - before, meant = (uint64_t)ms * 1000000u;
    if (p[0].revents != 0) {
        read_signals(j);
    }
    if (p[1].revents != 0) {
        read_input(j);
    }
    job_elastic_turn(j);
    for (size_t i = 0; i < n; i++) {
        job_agent *a = &j->agents[i];
        if (a->open && (p[HEAD_FDS + i].revents & POLLOUT) != 0) {
            (void)ot_job_channel_flush(&a->channel);
        }
        if (a->open && (p[HEAD_FDS + i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            read_agent(j, a);
        }
    }
    show_progress(j);
    check_agents(j);
    job_check_stopped(j, slept > meant + 1000000000u ? slept - meant : 0);
    if (j->stop_at_ns != 0 && !j->stopping && ot_clock_mono_ns() >= j->stop_at_ns) {
        job_stop(j, j->o->grace_us);
    }
}

/* --- one try --------------------------------------------------------------------------------- */

/* Agents end by themselves once their channel is closed; what is left of them here ends now. */
static void sweep(job *j)
{
    ot_launch_procs procs = {0};
    job_agents_done(j);
    for (int round = 0; round < KILL_ROUNDS && waitpid(-1, NULL, WNOHANG) == 0; round++) {
        if (round > 100) {
            ot_launch_procs_kill_tree(&procs, getpid());
        }
        ot_clock_sleep_us(10000);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    ot_launch_procs_done(&procs);
}

static uint64_t steps(job *j)
{
    pthread_mutex_lock(&j->lock);
    uint64_t most = 0;
    for (int32_t r = 0; r < j->size; r++) {
        most = OT_MAX(most, OT_MAX(j->pulses[r].steps, j->pulses[r].operations));
    }
    most += OT_MAX(j->before.steps, j->before.operations);
    pthread_mutex_unlock(&j->lock);
    return most;
}

void job_host_init(job_agent *a, ot_job_host *own, const ot_job_host *from)
{
    char host[256], machine[96];
    const char *name = from->name;
    ot_identity_host(host, machine);
    *own = *from;
    a->host = own;
    a->local = strcmp(name, "localhost") == 0 || strcmp(name, "127.0.0.1") == 0 ||
               strcmp(name, "::1") == 0 || strcmp(name, host) == 0;
    snprintf(a->name, sizeof a->name, "%s", a->local ? host : name);
}

static ot_rc prepare(job *j, ot_error *err)
{
    const ot_job_hosts *h = j->o->hosts;
    bool elastic = j->o->min_np > 0;
    size_t np = (size_t)j->o->np, cap = elastic ? OT_MEET_RANKS_MAX : np;
    j->cap_agents = elastic ? OT_JOB_HOSTS_MAX : h->n;
    j->agents = ot_calloc(j->cap_agents, sizeof *j->agents);
    j->hosts.v = ot_calloc(j->cap_agents, sizeof *j->hosts.v);
    j->ranks = ot_calloc(elastic ? JOB_PROCESSES_MAX : np, sizeof *j->ranks);
    j->members = ot_calloc(cap, sizeof *j->members);
    j->pulses = ot_calloc(cap, sizeof *j->pulses);
    j->pulses_before = ot_calloc(cap, sizeof *j->pulses);
    j->started_ns = j->shown_ns = ot_clock_mono_ns();
    if (j->agents == NULL || j->hosts.v == NULL || j->ranks == NULL || j->members == NULL ||
        j->pulses == NULL || j->pulses_before == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %" PRId32 " ranks", j->o->np);
    }
    j->n_agents = h->n;
    j->n_ranks = j->size = j->o->np;
    for (size_t i = 0; i < h->n; i++) {
        job_host_init(&j->agents[i], &j->hosts.v[i], &h->v[i]);
        for (int32_t r = h->v[i].first; r < h->v[i].first + h->v[i].ranks; r++) {
            j->members[r] = r;
            j->ranks[r] = (job_rank){.agent = &j->agents[i], .rank = r, .member = true};
        }
    }
    return job_elastic_prepare(j, err);
}

static void release(job *j)
{
    job_elastic_release(j);
    ot_free(j->agents);
    ot_free(j->ranks);
    ot_free(j->members);
    ot_free(j->pulses);
    ot_free(j->pulses_before);
    pthread_mutex_destroy(&j->lock);
}

static void end_timeline(job *j)
{
    ot_error err = {0};
    int32_t missing;
    if (j->timeline == NULL) {
        return;
    }
    if (ot_job_timeline_end(j->timeline, &missing, &err) != OT_OK) {
        ot_job_print_say(j->print, "no timeline: %s", err.msg);
    } else if (missing > 0) {
        ot_job_print_say(j->print,
                         "timeline %s: %" PRId32 " of %" PRId32 " ranks did not hand theirs over: "
                         "they did not end by overtake_finalize",
                         j->o->timeline, missing, j->o->np);
    }
    j->timeline = NULL;
}

bool job_explain(const job *j, ot_explain *e)
{
    OT_AUTO(ot_free_ptr) int32_t *hosts = ot_calloc((size_t)j->size, sizeof *hosts);
    if (!j->o->explain || hosts == NULL || j->pulses == NULL) {
        return false;
    }
    for (int32_t r = 0; r < j->size; r++) {
        hosts[r] = (int32_t)(j->ranks[j->members[r]].agent - j->agents);
    }
    ot_job_explain(j->pulses, hosts, j->size, &j->o->settings, e);
    return true;
}

static void explain(job *j)
{
    ot_job_result *r = j->result;
    if (job_explain(j, &r->explain) && r->explain.slow_rank >= 0) {
        snprintf(r->slow_host, sizeof r->slow_host, "%s",
                 j->ranks[j->members[r->explain.slow_rank]].agent->name);
    }
}

static ot_rc run_once(job *j, struct pollfd *p, ot_error *err)
{
    ot_rc rc = prepare(j, err);
    if (rc == OT_OK && j->o->timeline != NULL) {
        rc = ot_job_timeline_create(j->o->timeline, j->o->np, &j->timeline, err);
    }
    rc = rc == OT_OK ? job_server_start(j, err) : rc;
    rc = rc == OT_OK ? job_agents_start(j, err) : rc;
    while (rc == OT_OK && going_on(j)) {
        turn(j, p);
    }
    ot_job_print_status(j->print, "");
    ot_job_discover_done(&j->script);
    sweep(j);
    ot_meet_server_destroy(j->server);
    end_timeline(j);
    explain(j);
    return rc;
}

static void outcome(job *j)
{
    if (j->failed && j->errors[0] != 0) {
        char path[OT_PATH_MAX];
        snprintf(path, sizeof path, "%.4000s/rank-%" PRId32 ".error", j->errors,
                 j->result->process);
        if (ot_disk_exists(ot_disk_posix(), path)) {
            snprintf(j->result->error, sizeof j->result->error, "%s", path);
        }
    }
    if (j->interrupted != 0 && !j->failed) {
        j->result->code = 128 + j->interrupted;
        snprintf(j->result->why, sizeof j->result->why, "the job was ended by %s",
                 strsignal(j->interrupted));
    }
}

static ot_rc run_tries(const ot_job_options *o, ot_job_print *print, int signal_fd,
                       ot_job_result *result, ot_error *err)
{
    struct pollfd *p =
        ot_calloc(HEAD_FDS + (o->min_np > 0 ? OT_JOB_HOSTS_MAX : o->hosts->n), sizeof *p);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %zu hosts", o->hosts->n);
    }
    uint64_t done = 1;
    char errors[OT_PATH_MAX] = "";
    if (o->output_dir != NULL && realpath(o->output_dir, errors) == NULL) {
        ot_free(p);
        return ot_fail_errno(err, errno, "%s", o->output_dir);
    }
    for (int32_t restart = 0;; restart++) {
        *result = (ot_job_result){.rank = -1, .restarts = restart};
        job j = {.o = o,
                 .print = print,
                 .signal_fd = signal_fd,
                 .restart = restart,
                 .input_open = o->input,
                 .blamed = -1,
                 .wake_fd = -1,
                 .script = {.fd = -1, .text = OT_STR_INIT},
                 .first_lost = -1,
                 .errors = errors,
                 .result = result};
        pthread_mutex_init(&j.lock, NULL);
        ot_rc rc = run_once(&j, p, err);
        uint64_t before = done;
        done = rc == OT_OK ? steps(&j) : 0;
        bool again = rc == OT_OK && j.failed && j.interrupted == 0 && restart < o->max_restarts;
        outcome(&j);
        if (again && j.all_here && done == 0 && before == 0) {
            ot_job_print_say(print, "no step was done in two tries: not started again");
            again = false;
        }
        if (rc == OT_OK && !again) {
            job_state_write(&j, &(ot_job_rates){.slowest = -1}, true);
        }
        release(&j);
        if (!again) {
            ot_free(p);
            return rc;
        }
        ot_job_print_say(print, "starting the job again (%" PRId32 " of %" PRId32 " times)",
                         restart + 1, o->max_restarts);
    }
}

ot_rc ot_job_run(const ot_job_options *o, ot_job_result *result_out, ot_error *err)
{
    ot_job_print_options po = {.ranks = o->np,
                               .prefix = o->prefix,
                               .color = o->color,
                               .dir = o->output_dir,
                               .log_limit = o->log_limit};
    ot_job_print *print = NULL;
    sigset_t set, before;
    sigemptyset(&set);
    for (size_t i = 0; i < OT_COUNT(taken); i++) {
        sigaddset(&set, taken[i]);
    }
    sigprocmask(SIG_BLOCK, &set, &before);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    ot_sock_raise_limit();
    int signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    ot_rc rc = signal_fd >= 0 ? ot_job_print_create(&po, &print, err)
                              : ot_fail_errno(err, errno, "signalfd");
    if (rc == OT_OK) {
        rc = run_tries(o, print, signal_fd, result_out, err);
    }
    ot_job_print_destroy(print);
    ot_fd_close(&signal_fd);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return rc;
}
