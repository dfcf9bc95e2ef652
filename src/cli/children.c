/* The supervisor's children: start, channel, end. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "base/str.h"
#include "cli/supervise_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAUSE_FIRST_US 100000

pid_t supervise_fork(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0) {
        return pid;
    }
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
    return 0;
}

static void run_child(const ot_supervise_child *c, int channel)
{
    for (size_t i = 0; i < c->n_fds; i++) {
        (void)fcntl(c->fds[i], F_SETFD, 0);
    }
    if (channel >= 0) {
        (void)fcntl(channel, F_SETFD, 0);
    }
    union {
        const char *const *in;
        char *const *out;
    } argv = {.in = c->argv}; /* exec changes nothing */
    execv(c->exe, argv.out);
    ot_err("up", "%s: can't start %s: %s", c->name, c->exe, strerror(errno));
    _exit(127);
}

void supervise_start(supervisor *s, supervise_child *c, supervise_proc *p)
{
    int ends[2] = {-1, -1};
    ot_error err = {0};
    pid_t pid = -1;
    *p = (supervise_proc){.channel = -1, .started_ns = ot_clock_mono_ns(), .stays = true};
    ot_rc rc = c->spec->channel != NULL ? ot_sock_pair(ends, &err) : OT_OK;
    if (rc == OT_OK) {
        if (c->spec->channel != NULL) {
            snprintf(c->spec->channel, 16, "%d", ends[1]);
        }
        pid = supervise_fork();
    }
    if (pid == 0) {
        run_child(c->spec, ends[1]);
    }
    ot_fd_close(&ends[1]);
    if (pid < 0) {
        ot_err("up", "%s: can't be started (%s); trying again", c->spec->name,
               rc != OT_OK ? err.msg : strerror(errno));
        ot_fd_close(&ends[0]);
        c->start_at_ns = p->started_ns + (uint64_t)s->opt.pause_max_us * 1000;
        return;
    }
    p->pid = pid;
    p->channel = ends[0];
    p->ready = p->channel < 0;
    if (p == &c->now) {
        supervise_say(p, "alone\n");
    }
    if (s->opt.started != NULL) {
        s->opt.started(s->opt.arg, (size_t)(c - s->children), pid);
    }
}

uint64_t supervise_start_due(supervisor *s)
{
    uint64_t next = 0, now = ot_clock_mono_ns();
    for (size_t i = 0; i < s->n; i++) {
        supervise_child *c = &s->children[i];
        if (c->rolling) {
            continue;
        }
        if (c->now.pid == 0 && c->start_at_ns <= now) {
            supervise_start(s, c, &c->now);
        }
        if (c->now.pid == 0 && (next == 0 || c->start_at_ns < next)) {
            next = c->start_at_ns;
        }
    }
    return next;
}

/* --- the channel -------------------------------------------------------------------------------
 */

static bool say(const supervise_proc *p, const char *line)
{
    struct iovec v = {.iov_len = strlen(line)};
    union {
        const char *in;
        void *out;
    } text = {.in = line}; /* a write changes nothing */
    v.iov_base = text.out;
    return p->channel >= 0 && ot_sock_writev(p->channel, &v, 1) == (ssize_t)v.iov_len;
}

void supervise_say(const supervise_proc *p, const char *line)
{
    if (p->channel >= 0 && !say(p, line)) {
        ot_debug("up", "process %d does not listen", (int)p->pid);
    }
}

void supervise_tell(supervisor *s)
{
    const supervise_proc *p = &s->children[s->opt.log_child].now;
    while (s->n_news > 0 && p->pid > 0 && p->ready && !p->asked && say(p, s->news[0])) {
        s->n_news--;
        memmove(s->news[0], s->news[1], s->n_news * sizeof s->news[0]);
    }
}

void supervise_listen(supervise_proc *p)
{
    char buf[256];
    ssize_t n;
    if (p->channel < 0) {
        return;
    }
    while ((n = ot_sock_read(p->channel, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] == '\n') {
                p->ready |= p->n_said == 5 && memcmp(p->said, "ready", 5) == 0;
                p->n_said = 0;
            } else if (p->n_said < sizeof p->said) {
                p->said[p->n_said++] = buf[i]; /* a line that is longer is none that is known */
            }
        }
    }
    if (n == 0) {
        supervise_close(p); /* it has ended, or is about to */
    }
}

void supervise_close(supervise_proc *p)
{
    ot_fd_close(&p->channel);
}

/* --- the end -----------------------------------------------------------------------------------
 */

static void describe(int status, char *out, size_t n)
{
    if (WIFSIGNALED(status)) {
        snprintf(out, n, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
        snprintf(out, n, "exit %d", WEXITSTATUS(status));
    }
}

static void restart_later(supervisor *s, supervise_child *c, const supervise_proc *was)
{
    char pause[32];
    uint64_t now = ot_clock_mono_ns();
    if (now - was->started_ns >= (uint64_t)s->opt.stable_us * 1000) {
        c->pause_us = 0;
    }
    c->start_at_ns = now + (uint64_t)c->pause_us * 1000;
    ot_warn("up", "%s ended with %s; starting it again %s%s", c->spec->name, c->ended,
            c->pause_us == 0 ? "now" : "in ",
            c->pause_us == 0 ? "" : ot_format_duration(c->pause_us, pause));
    int64_t next = c->pause_us == 0 ? PAUSE_FIRST_US : c->pause_us * 2;
    c->pause_us = OT_MIN(next, s->opt.pause_max_us);
}

static void proc_ended(supervisor *s, supervise_child *c, supervise_proc *p, int status)
{
    supervise_proc was = *p;
    describe(status, c->ended, sizeof c->ended);
    supervise_close(p);
    *p = (supervise_proc){.channel = -1};
    if (s->stopping) {
        return;
    }
    if (c->rolling) {
        ot_log(was.asked ? OT_LOG_INFO : OT_LOG_WARN, "up", "%s (process %d) ended with %s",
               c->spec->name, (int)was.pid, c->ended);
        return;
    }
    restart_later(s, c, &was);
}

void supervise_reap(supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s->roll.check_pid) {
            s->roll.check_pid = 0;
            s->roll.check_status = status;
        }
        for (size_t i = 0; i < s->n; i++) {
            supervise_child *c = &s->children[i];
            if (c->now.pid == pid) {
                proc_ended(s, c, &c->now, status);
            } else if (c->next.pid == pid) {
                proc_ended(s, c, &c->next, status);
            }
        }
    }
}
