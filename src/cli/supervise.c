#include "cli/supervise.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define DRAIN_DEFAULT_US 30000000
#define PAUSE_FIRST_US 100000
#define PAUSE_DEFAULT_US 5000000
#define STABLE_DEFAULT_US 10000000

struct child {
    const ot_supervise_child *spec;
    pid_t pid; /* 0: not running */
    uint64_t started_ns;
    uint64_t start_at_ns; /* when to start it again */
    int64_t pause_us;     /* before the next start but one */
    bool asked;           /* we told it to end, to start it anew */
};

struct supervisor {
    struct child children[OT_SUPERVISE_CHILDREN_MAX];
    size_t n;
    ot_supervise_options opt;
    int signal_fd;
    bool stopping, hurry;
};

static void run_child(const ot_supervise_child *c, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    /* A supervisor that is killed takes its children with it: two pairs of them on one data
     * directory would be worse. They drain, and what was theirs is found again by the next. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) {
        _exit(127); /* it was killed before we asked to be told */
    }
    for (size_t i = 0; i < c->n_fds; i++) {
        (void)fcntl(c->fds[i], F_SETFD, 0);
    }
    union {
        const char *const *in;
        char *const *out;
    } argv = {.in = c->argv}; /* exec changes nothing */
    execv(c->exe, argv.out);
    ot_err("up", "%s: can't start %s: %s", c->name, c->exe, strerror(errno));
    _exit(127);
}

static void start(struct supervisor *s, struct child *c)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    c->started_ns = ot_clock_mono_ns();
    if (pid == 0) {
        run_child(c->spec, parent);
    }
    if (pid < 0) {
        ot_err("up", "%s: fork: %s; trying again", c->spec->name, strerror(errno));
        c->start_at_ns = c->started_ns + (uint64_t)s->opt.pause_max_us * 1000;
        return;
    }
    c->pid = pid;
    if (s->opt.started != NULL) {
        s->opt.started(s->opt.arg, (size_t)(c - s->children), pid);
    }
}

static void describe(int status, char *out, size_t n)
{
    if (WIFSIGNALED(status)) {
        snprintf(out, n, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
        snprintf(out, n, "exit %d", WEXITSTATUS(status));
    }
}

static void child_ended(struct supervisor *s, struct child *c, int status)
{
    char how[64], pause[32];
    uint64_t now = ot_clock_mono_ns();
    describe(status, how, sizeof how);
    c->pid = 0;
    if (s->stopping) {
        return;
    }
    if (now - c->started_ns >= (uint64_t)s->opt.stable_us * 1000) {
        c->pause_us = 0;
    }
    c->start_at_ns = now + (uint64_t)c->pause_us * 1000;
    if (c->asked) {
        ot_info("up", "%s ended with %s, as it was told to; starting it anew", c->spec->name, how);
        c->asked = false;
        return;
    }
    ot_warn("up", "%s ended with %s; starting it again %s%s", c->spec->name, how,
            c->pause_us == 0 ? "now" : "in ",
            c->pause_us == 0 ? "" : ot_format_duration(c->pause_us, pause));
    int64_t next = c->pause_us == 0 ? PAUSE_FIRST_US : c->pause_us * 2;
    c->pause_us = OT_MIN(next, s->opt.pause_max_us);
}

/* Also reaps what is not ours: as process 1 of a container, orphans come to us. */
static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < s->n; i++) {
            if (s->children[i].pid == pid) {
                child_ended(s, &s->children[i], status);
            }
        }
    }
}

static void read_signals(struct supervisor *s)
{
    struct signalfd_siginfo si;
    while (read(s->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT) {
            s->hurry = s->stopping;
            s->stopping = true;
        } else if (si.ssi_signo == SIGHUP && !s->stopping) {
            for (size_t i = 0; i < s->n; i++) {
                if (s->children[i].pid > 0) {
                    s->children[i].pause_us = 0;
                    s->children[i].asked = true;
                    (void)kill(s->children[i].pid, SIGTERM);
                }
            }
        }
    }
}

/* Waits for a signal, at most until `until_ns` (0: for ever). */
static void wait_signals(struct supervisor *s, uint64_t until_ns)
{
    uint64_t now = ot_clock_mono_ns();
    int ms = until_ns == 0 ? -1 : until_ns <= now ? 0 : (int)((until_ns - now) / 1000000 + 1);
    struct pollfd p = {.fd = s->signal_fd, .events = POLLIN};
    (void)poll(&p, 1, ms);
    read_signals(s);
    reap(s);
}

static void run(struct supervisor *s)
{
    while (!s->stopping) {
        uint64_t next = 0, now = ot_clock_mono_ns();
        for (size_t i = 0; i < s->n; i++) {
            struct child *c = &s->children[i];
            if (c->pid == 0 && c->start_at_ns <= now) {
                start(s, c);
            }
            if (c->pid == 0 && (next == 0 || c->start_at_ns < next)) {
                next = c->start_at_ns;
            }
        }
        wait_signals(s, next);
    }
}

static void drain(struct supervisor *s, struct child *c)
{
    uint64_t deadline = ot_clock_mono_ns() + (uint64_t)s->opt.drain_us * 1000;
    bool killed = false;
    if (c->pid > 0) {
        (void)kill(c->pid, SIGTERM);
    }
    while (c->pid > 0) {
        bool late = ot_clock_mono_ns() >= deadline;
        if ((late || s->hurry) && !killed) {
            ot_warn("up", "%s is killed: %s", c->spec->name,
                    s->hurry ? "a second signal came" : "it did not end in time");
            (void)kill(c->pid, SIGKILL);
            killed = true;
        }
        wait_signals(s, killed ? 0 : deadline);
    }
}

static ot_rc take_signals(struct supervisor *s, sigset_t *old, ot_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, old);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signal_fd >= 0 ? OT_OK : ot_fail_errno(err, errno, "signalfd");
}

ot_rc ot_supervise(const ot_supervise_child *children, size_t n, const ot_supervise_options *opt,
                   ot_error *err)
{
    struct supervisor s = {.n = n};
    sigset_t old;
    if (n == 0 || n > OT_SUPERVISE_CHILDREN_MAX) {
        return ot_fail(err, OT_INVALID, "%zu children; 1 to %d are allowed", n,
                       OT_SUPERVISE_CHILDREN_MAX);
    }
    s.opt = opt != NULL ? *opt : (ot_supervise_options){0};
    s.opt.drain_us = s.opt.drain_us > 0 ? s.opt.drain_us : DRAIN_DEFAULT_US;
    s.opt.pause_max_us = s.opt.pause_max_us > 0 ? s.opt.pause_max_us : PAUSE_DEFAULT_US;
    s.opt.stable_us = s.opt.stable_us > 0 ? s.opt.stable_us : STABLE_DEFAULT_US;
    for (size_t i = 0; i < n; i++) {
        s.children[i].spec = &children[i];
    }
    OT_TRY(take_signals(&s, &old, err));
    /* Shims of runs outlive the control plane; whoever loses its parent is reaped here. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    run(&s);
    for (size_t i = 0; i < n; i++) {
        drain(&s, &s.children[i]);
    }
    close(s.signal_fd);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return OT_OK;
}
