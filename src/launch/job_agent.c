/* The agent of a host: starts its ranks, hands on what they print, tells what becomes of them.
 *
 * What it is to run (OT_JOB_START):
 *     {"version": "0.1.0", "key": "...", "rendezvous": "10.0.0.1:4000", "size": 4, "node": 1,
 *      "hosts": [2, 2], "argv": [...], "env": {"NAME": "value"}, "cwd": "/home/me", "bind": false,
 *      "input": -1, "restart": 0, "master": "a", "master_port": 23456, "errors": "/home/me/out"}
 * `hosts` is how many ranks each host has, `node` which of them this is. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "collective/meet.h"
#include "launch/internal.h"
#include "launch/job.h"
#include "launch/job_channel.h"
#include "launch/job_spawn.h"
#include "launch/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS 1000
#define CHUNK 32768
#define OUTPUT_QUEUE_MAX (4u << 20) /* then ranks wait with printing */
#define INPUT_QUEUE_MAX (1u << 20)
#define KILL_ROUNDS 500

extern char **environ;

typedef struct agent_rank {
    int32_t rank;
    ot_job_child child;
    bool alive, dumped; /* dumped: it is printing where it is, and ends by that */
} agent_rank;

typedef struct agent {
    const char *version;
    ot_job_channel channel;
    int signal_fd, key_fd;
    json_t *spec;
    agent_rank *ranks;
    size_t n, n_alive;
    ot_str input; /* for the rank that reads */
    bool input_ended, stopping, done;
    uint64_t kill_at_ns; /* 0: not stopping */
} agent;

/* --- starting -------------------------------------------------------------------------------- */

static int64_t spec_int(const json_t *spec, const char *name)
{
    return json_integer_value(json_object_get(spec, name));
}

static const char *spec_text(const json_t *spec, const char *name)
{
    const char *s = json_string_value(json_object_get(spec, name));
    return s != NULL ? s : "";
}

static ot_rc spec_check(const agent *a, const json_t *spec, ot_error *err)
{
    const json_t *hosts = json_object_get(spec, "hosts"), *argv = json_object_get(spec, "argv");
    int64_t node = spec_int(spec, "node"), size = spec_int(spec, "size");
    if (strcmp(spec_text(spec, "version"), a->version) != 0) {
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "the launcher is version %s, this host has %s; install the same on all",
                       spec_text(spec, "version"), a->version);
    }
    if (node < 0 || (size_t)node >= json_array_size(hosts) || json_array_size(argv) == 0 ||
        json_array_size(argv) > OT_LAUNCH_ARGS_MAX || size < 1 || size > OT_MEET_RANKS_MAX ||
        json_integer_value(json_array_get(hosts, (size_t)node)) < 1 ||
        json_integer_value(json_array_get(hosts, (size_t)node)) > size) {
        return ot_fail(err, OT_INVALID, "what the launcher sent is not a job");
    }
    return OT_OK;
}

static void set(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void set(const char *name, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)setenv(name, text, 1);
}

static int32_t ranks_of(const agent *a, size_t node)
{
    const json_t *hosts = json_object_get(a->spec, "hosts");
    return (int32_t)json_integer_value(json_array_get(hosts, node));
}

static void set_common(const agent *a)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(a->spec, "env"), name, value)
    {
        (void)setenv(name, json_string_value(value), 1);
    }
    int64_t size = spec_int(a->spec, "size"), node = spec_int(a->spec, "node");
    set("OVERTAKE_SIZE", "%" PRId64, size);
    set("OVERTAKE_LOCAL_SIZE", "%zu", a->n);
    set("OVERTAKE_RENDEZVOUS", "%s", spec_text(a->spec, "rendezvous"));
    set("OVERTAKE_KEY_FD", "%d:%d:%d", OT_JOB_KEY_FD, (int)getpid(), a->key_fd);
    set("OVERTAKE_RESTART", "%" PRId64, spec_int(a->spec, "restart"));
    set("WORLD_SIZE", "%" PRId64, size);
    set("LOCAL_WORLD_SIZE", "%zu", a->n);
    set("GROUP_RANK", "%" PRId64, node);
    set("GROUP_WORLD_SIZE", "%zu", json_array_size(json_object_get(a->spec, "hosts")));
    set("MASTER_ADDR", "%s", spec_text(a->spec, "master"));
    set("MASTER_PORT", "%" PRId64, spec_int(a->spec, "master_port"));
    set("HOROVOD_SIZE", "%" PRId64, size);
    set("HOROVOD_LOCAL_SIZE", "%zu", a->n);
    char each[16];
    snprintf(each, sizeof each, "%d", ot_job_cpus_each((int)a->n));
    (void)setenv("OMP_NUM_THREADS", each, 0);
    (void)setenv("PYTHONFAULTHANDLER", "1", 0); /* a crash, and OT_JOB_DUMP, print where it was */
    (void)setenv("PYTHONUNBUFFERED", "1", 0);   /* the last line before a kill is worth more */
}

static void set_rank(const agent *a, int32_t local, int32_t rank)
{
    size_t nodes = json_array_size(json_object_get(a->spec, "hosts"));
    size_t node = (size_t)spec_int(a->spec, "node");
    int cross = 0, cross_size = 0;
    for (size_t i = 0; i < nodes; i++) {
        cross += i < node && ranks_of(a, i) > local;
        cross_size += ranks_of(a, i) > local;
    }
    set("OVERTAKE_RANK", "%" PRId32, rank);
    set("OVERTAKE_LOCAL_RANK", "%" PRId32, local);
    set("RANK", "%" PRId32, rank);
    set("LOCAL_RANK", "%" PRId32, local);
    set("HOROVOD_RANK", "%" PRId32, rank);
    set("HOROVOD_LOCAL_RANK", "%" PRId32, local);
    const char *errors = spec_text(a->spec, "errors");
    if (errors[0] != 0) { /* torch.distributed's record decorator writes there */
        set("OVERTAKE_ERROR_FILE", "%s/rank-%" PRId32 ".error", errors, rank);
        set("TORCHELASTIC_ERROR_FILE", "%s/rank-%" PRId32 ".error", errors, rank);
    }
    set("HOROVOD_CROSS_RANK", "%d", cross);
    set("HOROVOD_CROSS_SIZE", "%d", cross_size);
}

static ot_rc start_rank(agent *a, size_t i, const char *const *argv, const char *cwd, ot_error *err)
{
    agent_rank *r = &a->ranks[i];
    cpu_set_t cpus;
    union {
        char **in;
        const char *const *out;
    } env;
    set_rank(a, (int32_t)i, r->rank);
    env.in = environ;
    bool bind =
        json_is_true(json_object_get(a->spec, "bind")) && ot_job_cpus((int)i, (int)a->n, &cpus);
    ot_job_spawn s = {.argv = argv,
                      .env = env.out,
                      .cwd = cwd,
                      .key_fd = a->key_fd,
                      .input = spec_int(a->spec, "input") == r->rank,
                      .cpus = bind ? &cpus : NULL};
    OT_TRY(ot_job_spawn_start(&s, &r->child, err));
    r->alive = true;
    a->n_alive++;
    ot_job_channel_send(&a->channel, OT_JOB_STARTED,
                        json_pack("{s:i,s:i}", "rank", r->rank, "pid", (int)r->child.pid), NULL, 0);
    return OT_OK;
}

static ot_rc open_key(agent *a, ot_error *err)
{
    const char *key = spec_text(a->spec, "key");
    a->key_fd = memfd_create("overtake-key", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (a->key_fd < 0 || write(a->key_fd, key, strlen(key)) != (ssize_t)strlen(key) ||
        fcntl(a->key_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) != 0) {
        return ot_fail_errno(err, errno, "memory file for the job's key");
    }
    return OT_OK;
}

static ot_rc start_all(agent *a, ot_error *err)
{
    const char *argv[OT_LAUNCH_ARGS_MAX + 1] = {NULL}, *cwd = spec_text(a->spec, "cwd");
    size_t node = (size_t)spec_int(a->spec, "node");
    const json_t *words = json_object_get(a->spec, "argv");
    int32_t first = 0;
    for (size_t i = 0; i < json_array_size(words); i++) {
        argv[i] = json_string_value(json_array_get(words, i));
    }
    for (size_t i = 0; i < node; i++) {
        first += ranks_of(a, i);
    }
    a->n = (size_t)ranks_of(a, node);
    a->ranks = ot_calloc(a->n, sizeof *a->ranks);
    if (a->ranks == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %zu ranks", a->n);
    }
    for (size_t i = 0; i < a->n; i++) {
        a->ranks[i] =
            (agent_rank){.rank = first + (int32_t)i, .child = {.in = -1, .out = -1, .err = -1}};
    }
    OT_TRY(open_key(a, err));
    if (chdir(cwd) != 0) {
        return ot_fail_errno(err, errno, "working directory '%.300s', which the launcher has", cwd);
    }
    set_common(a);
    for (size_t i = 0; i < a->n; i++) {
        OT_TRY(start_rank(a, i, argv, cwd, err));
    }
    return OT_OK;
}

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
        if (spec_check(a, json, &err) != OT_OK || start_all(a, &err) != OT_OK) {
            give_up(a, &err);
        }
        break;
    case OT_JOB_SIGNAL:
        signal_ranks(a, (int)spec_int(json, "signal"),
                     json_is_true(json_object_get(json, "group")));
        break;
    case OT_JOB_STOP:
        stop(a, spec_int(json, "grace_us"));
        break;
    case OT_JOB_DUMP:
        dump(a, spec_int(json, "rank"));
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
    return n;
}

static void turn(agent *a, struct pollfd *p)
{
    size_t n = fill_poll(a, p), had = a->n;
    int ms = TICK_MS;
    uint64_t now = ot_clock_mono_ns();
    if (a->kill_at_ns != 0) {
        ms = a->kill_at_ns > now ? (int)OT_MIN((a->kill_at_ns - now) / 1000000 + 1, 1000u) : 0;
    }
    (void)poll(p, (nfds_t)n, ms);
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
    if (!a->done && a->n_alive == 0 && (a->n > 0 || a->stopping)) {
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
