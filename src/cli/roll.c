/* An upgrade, as the supervisor goes through it: the new binary is checked by a process of its own
 * and executed in place; what then runs replaces the children one after the other. Where a child
 * may have a second beside it, the new one is ready before the old one drains. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/supervise_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK_MAX_NS UINT64_C(30000000000)

static void news(supervisor *s, ot_supervise_news what, const char *why)
{
    const ot_supervise_upgrade *u = s->opt.upgrade;
    if (u == NULL) {
        return;
    }
    if (s->n_news == SUPERVISE_NEWS_MAX) {
        s->n_news--; /* nobody has taken any: the oldest tell how it began */
    }
    char *line = s->news[s->n_news];
    s->n_news += u->news(s->opt.arg, what, why, line, SUPERVISE_LINE_MAX) > 0;
    supervise_tell(s);
}

static void running(const supervisor *s, ot_supervise_running out[OT_SUPERVISE_CHILDREN_MAX])
{
    for (size_t i = 0; i < s->n; i++) {
        const supervise_proc *p = &s->children[i].now;
        out[i] = (ot_supervise_running){
            .pid = p->pid, .channel = p->channel, .ready = p->ready, .stays = p->stays};
    }
}

/* --- the check ---------------------------------------------------------------------------------
 */

static void begin_check(supervisor *s)
{
    supervise_roll *r = &s->roll;
    int fds[2];
    s->opt.upgrade->asked(s->opt.arg);
    r->n_why = 0;
    r->step = ROLL_CHECK;
    r->deadline_ns = ot_clock_mono_ns() + CHECK_MAX_NS;
    r->check_status = 127 << 8;
    r->check_pid = 0;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        r->n_why = (size_t)snprintf(r->why, sizeof r->why, "pipe: %s", strerror(errno));
        return;
    }
    pid_t pid = supervise_fork();
    if (pid == 0) {
        _exit(s->opt.upgrade->check(s->opt.arg, fds[1]));
    }
    close(fds[1]);
    r->check_fd = fds[0];
    r->check_pid = pid;
    if (pid < 0) {
        r->check_pid = 0;
        r->n_why = (size_t)snprintf(r->why, sizeof r->why, "fork: %s", strerror(errno));
    }
}

void supervise_roll_begin(supervisor *s)
{
    s->roll.step = ROLL_BEGIN;
    s->roll.at = 0;
    s->roll.again = s->opt.again;
    s->opt.again = false;
    news(s, OT_SUPERVISE_STARTED, NULL);
}

void supervise_roll_asked(supervisor *s)
{
    if (s->roll.step != ROLL_NONE) {
        ot_info("up", "SIGHUP during an upgrade: another follows it");
        s->roll.again = true;
        return;
    }
    if (s->opt.upgrade != NULL) {
        begin_check(s);
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        s->children[i].now.stays = false;
    }
    supervise_roll_begin(s);
}

/* --- its end -----------------------------------------------------------------------------------
 */

static void done(supervisor *s)
{
    for (size_t i = 0; i < s->n; i++) {
        s->children[i].rolling = false;
    }
    s->roll.step = ROLL_NONE;
    if (s->roll.again) {
        s->roll.again = false;
        supervise_roll_asked(s);
    }
}

/* What was not yet ready has no connection: it may go at once. */
static void end_next(supervise_child *c)
{
    if (c->next.pid > 0) {
        (void)kill(c->next.pid, SIGKILL);
        while (waitpid(c->next.pid, NULL, 0) < 0 && errno == EINTR) {
        }
        supervise_close(&c->next);
        c->next = (supervise_proc){.channel = -1};
    }
    if (c->rolling && c->spec->overlaps) {
        supervise_say(&c->now, "alone\n");
    }
}

static void fail(supervisor *s, const char *why)
{
    ot_supervise_running now[OT_SUPERVISE_CHILDREN_MAX];
    char reason[OT_SUPERVISE_WHY_MAX];
    ot_error err = {0};
    snprintf(reason, sizeof reason, "%s", why);
    for (size_t i = 0; i < s->n; i++) {
        end_next(&s->children[i]);
    }
    ot_err("up", "the upgrade failed: %s", reason);
    if (s->roll.step != ROLL_CHECK && s->opt.upgrade != NULL) {
        running(s, now);
        if (s->opt.upgrade->go_back(s->opt.arg, now, s->roll.again, reason, &err) != OT_OK) {
            ot_err("up", "going on with the new binary: %s", err.msg);
        }
    }
    news(s, OT_SUPERVISE_FAILED, reason);
    done(s);
}

static uint64_t checking(supervisor *s)
{
    supervise_roll *r = &s->roll;
    ssize_t n;
    while (r->check_fd >= 0 && r->n_why < sizeof r->why - 1 &&
           (n = read(r->check_fd, r->why + r->n_why, sizeof r->why - 1 - r->n_why)) > 0) {
        r->n_why += (size_t)n;
    }
    if (r->check_pid > 0 && ot_clock_mono_ns() < r->deadline_ns) {
        return r->deadline_ns;
    }
    ot_fd_close(&r->check_fd);
    r->why[r->n_why] = 0;
    if (r->check_pid > 0) {
        (void)kill(r->check_pid, SIGKILL); /* the reaper takes it */
        r->check_pid = 0;
        fail(s, "the check of the new binary took too long");
    } else if (r->check_status != 0) {
        fail(s, r->n_why > 0 ? r->why : "the new binary could not be checked");
    } else {
        ot_supervise_running now[OT_SUPERVISE_CHILDREN_MAX];
        ot_error err = {0};
        running(s, now);
        ot_rc rc = s->opt.upgrade->take_over(s->opt.arg, now, r->again, &err);
        fail(s, rc != OT_OK ? err.msg : "the new binary was not executed");
    }
    return 0;
}

/* --- a child's turn ----------------------------------------------------------------------------
 */

static void tell_to_end(supervisor *s, supervise_child *c)
{
    s->roll.step = ROLL_LEAVE;
    s->roll.killed = false;
    s->roll.deadline_ns = ot_clock_mono_ns() + (uint64_t)s->opt.drain_us * 1000;
    if (c->now.pid > 0) {
        c->now.asked = true;
        (void)kill(c->now.pid, SIGTERM);
    }
}

static void await_ready(supervisor *s, bool of_next)
{
    s->roll.step = ROLL_READY;
    s->roll.of_next = of_next;
    s->roll.deadline_ns = ot_clock_mono_ns() + (uint64_t)s->opt.ready_us * 1000;
}

static void start(supervisor *s, supervise_child *c, supervise_proc *p)
{
    await_ready(s, p == &c->next);
    c->pause_us = 0;
    supervise_start(s, c, p);
}

static void begin_child(supervisor *s)
{
    supervise_child *c = &s->children[s->roll.at];
    c->rolling = true;
    if (c->now.pid == 0) {
        start(s, c, &c->now); /* it has just ended by itself */
    } else if (c->now.stays) {
        await_ready(s, false);
    } else if (c->spec->overlaps) {
        supervise_say(&c->now, "beside\n");
        start(s, c, &c->next);
    } else {
        tell_to_end(s, c);
    }
}

static void child_is_done(supervisor *s)
{
    s->children[s->roll.at].rolling = false;
    s->roll.at++;
    s->roll.step = ROLL_BEGIN;
}

static uint64_t getting_ready(supervisor *s)
{
    supervise_child *c = &s->children[s->roll.at];
    const supervise_proc *p = s->roll.of_next ? &c->next : &c->now;
    char why[OT_SUPERVISE_WHY_MAX], limit[32];
    if (p->pid == 0) {
        snprintf(why, sizeof why, "%s of the new binary ended with %s before it was ready",
                 c->spec->name, c->ended[0] != 0 ? c->ended : "an error");
        fail(s, why);
    } else if (p->ready && s->roll.of_next) {
        tell_to_end(s, c);
    } else if (p->ready) {
        child_is_done(s);
    } else if (ot_clock_mono_ns() >= s->roll.deadline_ns) {
        snprintf(why, sizeof why, "%s of the new binary was not ready within %s", c->spec->name,
                 ot_format_duration(s->opt.ready_us, limit));
        if (!s->roll.of_next) {
            (void)kill(p->pid, SIGKILL);
        }
        fail(s, why);
    } else {
        return s->roll.deadline_ns;
    }
    return 0;
}

static uint64_t leaving(supervisor *s)
{
    supervise_child *c = &s->children[s->roll.at];
    if (c->now.pid > 0) {
        if (!s->roll.killed && ot_clock_mono_ns() >= s->roll.deadline_ns) {
            ot_warn("up", "%s is killed: it did not end in time", c->spec->name);
            (void)kill(c->now.pid, SIGKILL);
            s->roll.killed = true;
        }
        return s->roll.killed ? 0 : s->roll.deadline_ns;
    }
    if (c->next.pid == 0) {
        start(s, c, &c->now);
        return 0;
    }
    c->now = c->next;
    c->next = (supervise_proc){.channel = -1};
    supervise_say(&c->now, "alone\n");
    child_is_done(s);
    return 0;
}

uint64_t supervise_roll_step(supervisor *s)
{
    supervise_roll *r = &s->roll;
    for (;;) {
        supervise_step step = r->step;
        size_t at = r->at;
        uint64_t wake = 0;
        switch (step) {
        case ROLL_NONE:
            return 0;
        case ROLL_CHECK:
            wake = checking(s);
            break;
        case ROLL_BEGIN:
            if (at < s->n) {
                begin_child(s);
            } else {
                news(s, OT_SUPERVISE_FINISHED, NULL);
                done(s);
            }
            break;
        case ROLL_READY:
            wake = getting_ready(s);
            break;
        case ROLL_LEAVE:
            wake = leaving(s);
            break;
        }
        if (r->step == step && r->at == at) {
            return wake;
        }
    }
}

void supervise_roll_stop(supervisor *s)
{
    if (s->roll.check_pid > 0) {
        (void)kill(s->roll.check_pid, SIGKILL);
    }
    ot_fd_close(&s->roll.check_fd);
    s->roll.step = ROLL_NONE;
}
