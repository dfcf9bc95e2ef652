/* The agent of a host: starts its ranks, hands on what they print, tells what becomes of them.
 *
 * What it is to run (OT_JOB_START):
 *     {"version": "0.1.0", "key": "...", "rendezvous": "10.0.0.1:4000", "size": 4, "node": 1,
 *      "hosts": [2, 2], "argv": [...], "env": {"NAME": "value"}, "cwd": "/home/me", "bind": false,
 *      "input": -1, "restart": 0, "master": "a", "master_port": 23456, "errors": "/home/me/out"}
 * `hosts` is how many ranks each host has, `node` which of them this is. With "elastic": true it
 * starts none: each comes with OT_JOB_SPAWN, and the agent stays when all have ended. */
#include "launch/job_agent.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "collective/meet.h"
#include "launch/internal.h"
#include "launch/job.h"
#include "launch/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS 1000
#define CHUNK 32768
#define OUTPUT_QUEUE_MAX (4u << 20) /* then ranks wait with printing */
#define INPUT_QUEUE_MAX (1u << 20)
#define KILL_ROUNDS 500

/* --- the ranks ------------------------------------------------------------------------------- */

static void hand_on(agent *a, const agent_rank *r, int stream, int *fd, bool all)
{
    char buf[OT_JOB_OUTPUT_HEAD + CHUNK];
    for (int i = 0; *fd >= 0 && (all || i < 4); i++) {
        ssize_t k = read(*fd, buf + OT_JOB_OUTPUT_HEAD, CHUNK);
        if (k < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (k <= 0) {
            ot_fd_close(fd);
            return;
        }
        for (int b = 0; b < 4; b++) {
            buf[b] = (char)((uint32_t)r->rank >> 8 * b);
        }
        buf[4] = (char)stream;
        ot_job_channel_send(&a->channel, OT_JOB_OUTPUT, NULL, buf, OT_JOB_OUTPUT_HEAD + (size_t)k);
    }
}

static void tell(agent *a, const agent_rank *r, ot_event_kind kind, int code)
{
    ot_job_channel_send(
        &a->channel, OT_JOB_EVENT,
        json_pack("{s:i,s:i,s:i}", "rank", r->rank, "kind", (int)kind, "code", code), NULL, 0);
}

static void rank_changed(agent *a, agent_rank *r, const siginfo_t *si)
{
    switch (si->si_code) {
    case CLD_STOPPED:
        tell(a, r, OT_EVENT_STOPPED, si->si_status);
        return;
    case CLD_CONTINUED:
        tell(a, r, OT_EVENT_CONTINUED, 0);
        return;
    case CLD_EXITED:
    case CLD_KILLED:
    case CLD_DUMPED:
        break;
    default:
        return;
    }
    r->alive = false;
    a->n_alive--;
    if (a->elastic) { /* the job goes on: what it has left there ends now */
        (void)kill(-r->child.pid, SIGKILL);
    }
    ot_fd_close(&r->child.in);
    hand_on(a, r, 1, &r->child.out, true); /* what it said last comes before its end */
    hand_on(a, r, 2, &r->child.err, true);
    tell(a, r, si->si_code == CLD_EXITED ? OT_EVENT_EXITED : OT_EVENT_KILLED, si->si_status);
}

/* False when there is no child left. */
static bool reap(agent *a)
{
    for (;;) {
        siginfo_t si = {0};
        if (waitid(P_ALL, 0, &si, WEXITED | WSTOPPED | WCONTINUED | WNOHANG) != 0) {
            return false;
        }
        if (si.si_pid == 0) {
            return true;
        }
        for (size_t i = 0; i < a->n; i++) {
            if (a->ranks[i].alive && a->ranks[i].child.pid == si.si_pid) {
                rank_changed(a, &a->ranks[i], &si);
            }
        }
    }
}

static void kill_tree(agent *a)
{
    ot_launch_procs procs = {0};
    for (int round = 0; round < KILL_ROUNDS && reap(a); round++) {
        ot_launch_procs_kill_tree(&procs, getpid());
        ot_clock_sleep_us(round < 10 ? 1000 : 10000);
    }
    ot_launch_procs_done(&procs);
}

static void signal_ranks(agent *a, int signo, bool group)
{
    for (size_t i = 0; i < a->n; i++) {
        if (a->ranks[i].alive && !(signo == SIGTERM && a->ranks[i].dumped)) {
            (void)kill(group ? -a->ranks[i].child.pid : a->ranks[i].child.pid, signo);
        }
    }
}

static void stop(agent *a, int64_t grace_us)
{
    uint64_t at = ot_clock_mono_ns() + (uint64_t)grace_us * 1000;
    a->kill_at_ns = a->kill_at_ns == 0 ? at : OT_MIN(a->kill_at_ns, at);
    if (!a->stopping && grace_us > 0) {
        signal_ranks(a, SIGTERM, false);
        signal_ranks(a, SIGCONT, true);
    }
    a->stopping = true;
}

/* What the kernel says of it; then SIGABRT, by which Python's faulthandler prints where its threads
 * are. */
static void dump(agent *a, int64_t rank)
{
    for (size_t i = 0; i < a->n; i++) {
        if (a->ranks[i].rank == rank && a->ranks[i].alive) {
            char text[400];
            pid_t pid = a->ranks[i].child.pid;
            ot_launch_proc_doing(pid, text, sizeof text);
            ot_job_channel_send(&a->channel, OT_JOB_DUMPED,
                                json_pack("{s:I,s:s}", "rank", (json_int_t)rank, "text", text),
                                NULL, 0);
            a->ranks[i].dumped = true;
            (void)kill(pid, SIGABRT);
            (void)kill(pid, SIGCONT);
        }
    }
}

/* --- the launcher's frames ------------------------------------------------------------------- */

static void give_up(agent *a, const ot_error *err)
{
    ot_job_channel_send(&a->channel, OT_JOB_FAILED, json_pack("{s:s}", "text", err->msg), NULL, 0);
    stop(a, 0);
}

/* One that can't start has ended. */
static void spawn(agent *a, const json_t *spec)
{
    ot_error err = {0};
    if (a->spec == NULL || a->stopping || agent_spawn(a, spec, &err) == OT_OK) {
        return;
    }
    ot_job_channel_send(&a->channel, OT_JOB_EVENT,
                        json_pack("{s:I,s:i,s:s}", "rank", (json_int_t)agent_spec_int(spec, "rank"),
                                  "kind", (int)OT_EVENT_LOST, "text", err.msg),
                        NULL, 0);
}

/* SIGTERM, and SIGKILL after the grace. */
static void end_rank(agent *a, int64_t rank, int64_t grace_us)
{
    for (size_t i = 0; i < a->n; i++) {
        agent_rank *r = &a->ranks[i];
        if (r->rank == rank && r->alive) {
            r->kill_at_ns = ot_clock_mono_ns() + (uint64_t)grace_us * 1000;
            (void)(grace_us > 0 && kill(r->child.pid, SIGTERM) == 0 &&
                   kill(-r->child.pid, SIGCONT));
        }
    }
}

/* When the next is due; 0: none. */
static uint64_t kill_due(agent *a)
{
    uint64_t now = ot_clock_mono_ns(), next = 0;
    for (size_t i = 0; i < a->n; i++) {
        agent_rank *r = &a->ranks[i];
        if (r->alive && r->kill_at_ns != 0 && now >= r->kill_at_ns) {
            r->kill_at_ns = 0;
            (void)kill(-r->child.pid, SIGKILL);
        } else if (r->alive && r->kill_at_ns != 0 && (next == 0 || r->kill_at_ns < next)) {
            next = r->kill_at_ns;
        }
    }
    return next;
}

static void write_input(agent *a)
{
    for (size_t i = 0; i < a->n; i++) {
        int *fd = &a->ranks[i].child.in;
        while (*fd >= 0 && a->input.len > 0) {
            ssize_t k = write(*fd, a->input.data, a->input.len);
            if (k < 0 && errno == EAGAIN) {
                return;
            }
            if (k < 0 && errno != EINTR) {
                ot_fd_close(fd); /* it reads no more */
                break;
            }
            size_t n = k > 0 ? (size_t)k : 0;
            memmove(a->input.data, a->input.data + n, a->input.len - n);
            a->input.len -= n;
        }
        if (*fd >= 0 && a->input_ended && a->input.len == 0) {
            ot_fd_close(fd);
        }
    }
}

static void take_frame(agent *a, const ot_frame *f)
{
    ot_error err = {0};
    json_t *json = ot_job_frame_json(f);
    switch (f->type) {
    case OT_JOB_START:
        if (a->spec != NULL || json == NULL) {
            break;
        }
        a->spec = json_incref(json);
        if (agent_start(a, &err) != OT_OK) {
            give_up(a, &err);
        }
        break;
    case OT_JOB_PREPARE:
        if (a->spec != NULL || a->prepare != NULL || json == NULL) {
            break;
        }
        a->prepare = json_incref(json);
        if (agent_prepare(a, &err) != OT_OK) {
            give_up(a, &err);
        }
        break;
    case OT_JOB_SPAWN:
        spawn(a, json);
        break;
    case OT_JOB_KILL:
        end_rank(a, agent_spec_int(json, "rank"), agent_spec_int(json, "grace_us"));
        break;
    case OT_JOB_SIGNAL:
        signal_ranks(a, (int)agent_spec_int(json, "signal"),
                     json_is_true(json_object_get(json, "group")));
        break;
    case OT_JOB_STOP:
        stop(a, agent_spec_int(json, "grace_us"));
        break;
    case OT_JOB_DUMP:
        dump(a, agent_spec_int(json, "rank"));
        break;
    case OT_JOB_INPUT:
        a->input_ended = f->bin_len == 0;
        if (a->input.len < INPUT_QUEUE_MAX) {
            ot_str_add(&a->input, f->bin, f->bin_len);
        }
        write_input(a);
        break;
    default:
        break; /* of a newer launcher */
    }
    json_decref(json);
}

static void take_frames(agent *a)
{
    ot_frame f;
    ot_error err = {0};
    ot_rc rc;
    bool there = ot_job_channel_fill(&a->channel);
    while ((rc = ot_job_channel_take(&a->channel, &f, &err)) == OT_OK) {
        take_frame(a, &f);
    }
    if (!there || rc != OT_NOT_FOUND) {
        ot_job_channel_done(&a->channel); /* without a launcher there is no job */
        stop(a, 0);
    }
}

/* --- the loop -------------------------------------------------------------------------------- */

static void read_signals(agent *a)
{
    struct signalfd_siginfo si;
    while (read(a->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo != SIGCHLD) {
            stop(a, 0);
        }
    }
    (void)reap(a);
}

/* All ranks have ended: what they left behind ends too. */
static void finish(agent *a)
{
    kill_tree(a);
    for (size_t i = 0; i < a->n; i++) {
        hand_on(a, &a->ranks[i], 1, &a->ranks[i].child.out, true);
        hand_on(a, &a->ranks[i], 2, &a->ranks[i].child.err, true);
        ot_fd_close(&a->ranks[i].child.out);
        ot_fd_close(&a->ranks[i].child.err);
    }
    ot_job_channel_send(&a->channel, OT_JOB_DONE, NULL, NULL, 0);
    a->done = true;
}

static size_t fill_poll(const agent *a, struct pollfd *p)
{
    size_t n = 0;
    bool full = ot_job_channel_queued(&a->channel) > OUTPUT_QUEUE_MAX;
    p[n++] = (struct pollfd){.fd = a->signal_fd, .events = POLLIN};
    p[n++] = (struct pollfd){.fd = a->channel.in, .events = POLLIN};
    p[n++] = (struct pollfd){.fd = ot_job_channel_queued(&a->channel) > 0 ? a->channel.out : -1,
                             .events = POLLOUT};
    for (size_t i = 0; i < a->n; i++) {
        const ot_job_child *c = &a->ranks[i].child;
        p[n++] = (struct pollfd){.fd = full ? -1 : c->out, .events = POLLIN};
        p[n++] = (struct pollfd){.fd = full ? -1 : c->err, .events = POLLIN};
        p[n++] = (struct pollfd){.fd = a->input.len > 0 ? c->in : -1, .events = POLLOUT};
    }
    return n + agent_spares_poll(a, p + n);
}

static void turn(agent *a, struct pollfd *p)
{
    size_t n = fill_poll(a, p), had = a->n;
    int ms = TICK_MS;
    uint64_t now = ot_clock_mono_ns(), due = kill_due(a);
    due = due == 0 || (a->kill_at_ns != 0 && a->kill_at_ns < due) ? a->kill_at_ns : due;
    if (due != 0) {
        ms = due > now ? (int)OT_MIN((due - now) / 1000000 + 1, 1000u) : 0;
    }
    (void)poll(p, (nfds_t)n, ms);
    agent_spares_turn(a, p + 3 + 3 * had);
    if (p[1].revents != 0) {
        take_frames(a);
    }
    if (p[2].revents != 0 && !ot_job_channel_flush(&a->channel)) {
        ot_job_channel_done(&a->channel);
        stop(a, 0);
    }
    for (size_t i = 0; i < had; i++) {
        agent_rank *r = &a->ranks[i];
        if (p[3 + 3 * i].revents != 0) {
            hand_on(a, r, 1, &r->child.out, false);
        }
        if (p[4 + 3 * i].revents != 0) {
            hand_on(a, r, 2, &r->child.err, false);
        }
    }
    write_input(a);
    if (p[0].revents != 0) {
        read_signals(a);
    }
    if (a->kill_at_ns != 0 && ot_clock_mono_ns() >= a->kill_at_ns) {
        kill_tree(a);
    }
    if (!a->done && a->n_alive == 0 && ((a->n > 0 && !a->elastic) || a->stopping)) {
        finish(a);
    }
}

static int run(const char *version)
{
    agent a = {.version = version, .key_fd = -1, .input = OT_STR_INIT};
    int in = fcntl(0, F_DUPFD_CLOEXEC, 32), out = fcntl(1, F_DUPFD_CLOEXEC, 32);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (in < 0 || out < 0 || null < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0) {
        return 1;
    }
    close(null);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    a.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    ot_job_channel_init(&a.channel, in, out);
    struct pollfd *p = ot_calloc(3 + 3 * (size_t)OT_MEET_RANKS_MAX, sizeof *p);
    while (p != NULL && a.signal_fd >= 0 &&
           !(a.done && (a.channel.in < 0 || ot_job_channel_queued(&a.channel) == 0))) {
        turn(&a, p);
    }
    ot_free(p);
    ot_free(a.ranks);
    agent_spares_end(&a);
    ot_free(a.spares);
    json_decref(a.prepare);
    ot_str_done(&a.input);
    ot_job_channel_done(&a.channel);
    ot_fd_close(&a.key_fd);
    ot_fd_close(&a.signal_fd);
    json_decref(a.spec);
    return 0;
}

/* Ends what an agent that was killed has left: its ranks died with it, what these had started came
 * to us. */
static int guard(pid_t agent_pid)
{
    int status = 0;
    ot_launch_procs procs = {0};
    for (pid_t pid; (pid = wait(&status)) != agent_pid;) {
        if (pid < 0 && errno != EINTR) {
            break;
        }
    }
    for (int round = 0; round < KILL_ROUNDS; round++) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        if (waitpid(-1, NULL, WNOHANG) < 0) {
            break;
        }
        ot_launch_procs_kill_tree(&procs, getpid());
        ot_clock_sleep_us(round < 10 ? 1000 : 10000);
    }
    ot_launch_procs_done(&procs);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int ot_job_agent_main(const char *version)
{
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        ot_err("run", "agent: fork: %s", strerror(errno));
        return 1;
    }
    if (pid > 0) {
        (void)signal(SIGINT, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        return guard(pid);
    }
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)prctl(PR_SET_NAME, "overtake agent");
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    return getppid() == parent ? run(version) : 1;
}
