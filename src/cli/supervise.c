#include "base/clock.h"
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/supervise_internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DRAIN_DEFAULT_US 30000000
#define PAUSE_DEFAULT_US 5000000
#define STABLE_DEFAULT_US 10000000
#define READY_DEFAULT_US 60000000

static void read_signals(supervisor *s)
{
    struct signalfd_siginfo si;
    while (read(s->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT) {
            s->hurry = s->stopping;
            s->stopping = true;
        } else if (si.ssi_signo == SIGHUP && !s->stopping) {
            supervise_roll_asked(s);
        }
    }
}

/* Waits for a signal or for what a child says, at most until `until_ns` (0: for ever). */
static void wait_for_news(supervisor *s, uint64_t until_ns)
{
    struct pollfd p[2 + 2 * OT_SUPERVISE_CHILDREN_MAX];
    nfds_t n = 0;
    uint64_t now = ot_clock_mono_ns();
    int ms = until_ns == 0 ? -1 : until_ns <= now ? 0 : (int)((until_ns - now) / 1000000 + 1);
    p[n++] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
    p[n++] = (struct pollfd){.fd = s->roll.check_fd, .events = POLLIN}; /* -1 is passed over */
    for (size_t i = 0; i < s->n; i++) {
        p[n++] = (struct pollfd){.fd = s->children[i].now.channel, .events = POLLIN};
        p[n++] = (struct pollfd){.fd = s->children[i].next.channel, .events = POLLIN};
    }
    (void)poll(p, n, ms);
    read_signals(s);
    supervise_reap(s);
    for (size_t i = 0; i < s->n; i++) {
        supervise_listen(&s->children[i].now);
        supervise_listen(&s->children[i].next);
    }
    supervise_tell(s);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a == 0 ? b : b == 0 ? a : OT_MIN(a, b);
}

static void run(supervisor *s)
{
    while (!s->stopping) {
        uint64_t roll = supervise_roll_step(s), due = supervise_start_due(s);
        wait_for_news(s, sooner(roll, due));
    }
    supervise_roll_stop(s);
}

static void drain(supervisor *s, supervise_child *c)
{
    uint64_t deadline = ot_clock_mono_ns() + (uint64_t)s->opt.drain_us * 1000;
    supervise_proc *both[] = {&c->now, &c->next};
    bool killed = false;
    for (size_t i = 0; i < OT_COUNT(both); i++) {
        if (both[i]->pid > 0) {
            (void)kill(both[i]->pid, SIGTERM);
        }
    }
    while (c->now.pid > 0 || c->next.pid > 0) {
        bool late = ot_clock_mono_ns() >= deadline;
        if ((late || s->hurry) && !killed) {
            ot_warn("up", "%s is killed: %s", c->spec->name,
                    s->hurry ? "a second signal came" : "it did not end in time");
            for (size_t i = 0; i < OT_COUNT(both); i++) {
                if (both[i]->pid > 0) {
                    (void)kill(both[i]->pid, SIGKILL);
                }
            }
            killed = true;
        }
        wait_for_news(s, killed ? 0 : deadline);
    }
}

static ot_rc take_signals(supervisor *s, sigset_t *old, ot_error *err)
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

static void take_child(supervisor *s, size_t i, const ot_supervise_child *spec)
{
    supervise_child *c = &s->children[i];
    c->spec = spec;
    c->now = c->next = (supervise_proc){.channel = -1};
    if (s->opt.running != NULL) {
        const ot_supervise_running *r = &s->opt.running[i];
        c->now = (supervise_proc){.pid = r->pid,
                                  .channel = r->channel,
                                  .started_ns = ot_clock_mono_ns(),
                                  .ready = r->ready,
                                  .stays = r->stays};
    }
}

ot_rc ot_supervise(const ot_supervise_child *children, size_t n, const ot_supervise_options *opt,
                   ot_error *err)
{
    supervisor s = {.n = n, .roll = {.check_fd = -1}};
    sigset_t old;
    if (n == 0 || n > OT_SUPERVISE_CHILDREN_MAX) {
        return ot_fail(err, OT_INVALID, "%zu children; 1 to %d are allowed", n,
                       OT_SUPERVISE_CHILDREN_MAX);
    }
    s.opt = opt != NULL ? *opt : (ot_supervise_options){0};
    s.opt.drain_us = s.opt.drain_us > 0 ? s.opt.drain_us : DRAIN_DEFAULT_US;
    s.opt.pause_max_us = s.opt.pause_max_us > 0 ? s.opt.pause_max_us : PAUSE_DEFAULT_US;
    s.opt.stable_us = s.opt.stable_us > 0 ? s.opt.stable_us : STABLE_DEFAULT_US;
    s.opt.ready_us = s.opt.ready_us > 0 ? s.opt.ready_us : READY_DEFAULT_US;
    for (size_t i = 0; i < n; i++) {
        take_child(&s, i, &children[i]);
    }
    OT_TRY(take_signals(&s, &old, err));
    /* Shims of runs outlive the control plane; whoever loses its parent is reaped here. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (s.opt.roll) {
        supervise_roll_begin(&s);
    }
    run(&s);
    for (size_t i = 0; i < n; i++) {
        drain(&s, &s.children[i]);
        supervise_close(&s.children[i].now);
    }
    close(s.signal_fd);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return OT_OK;
}
