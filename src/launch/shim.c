#include "launch/shim.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "launch/proc.h"
#include "launch/shim_internal.h"
#include "launch/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS 100
#define WRITE_TRIES 60
#define KILL_ROUNDS 500

/* --- stopping -------------------------------------------------------------------------------- */

static void stop(ot_shim *s, ot_launch_state why)
{
    if (s->stopping || s->ended) {
        return;
    }
    int64_t grace = s->doc.spec.grace_us;
    s->stopping = true;
    s->exit.state = why;
    s->kill_at_ns =
        ot_clock_mono_ns() + (uint64_t)(grace > 0 ? grace : OT_LAUNCH_GRACE_DEFAULT_US) * 1000;
    if (why == OT_LAUNCH_OUT_OF_MEMORY) {
        s->kill_at_ns = ot_clock_mono_ns(); /* every moment of grace makes it worse */
    }
    if (s->child > 0) {
        (void)kill(-s->child, SIGTERM);
        (void)kill(-s->child, SIGCONT);
    }
}

/* False when no child is left. */
bool ot_shim_reap(ot_shim *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s->child) {
            s->ended = true;
            s->status = status;
        }
    }
    return pid == 0;
}

/* Ends every descendant. Orphans come to us (subreaper), so when nobody is left the tree is gone.
 * A program that forks faster than it is listed ends in its cgroup, or with the last round. */
void ot_shim_kill_tree(ot_shim *s)
{
    ot_launch_procs procs = {0};
    for (int round = 0; round < KILL_ROUNDS; round++) {
        (void)ot_launch_cgroup_kill(s->cgroup.path);
        if (!ot_shim_reap(s)) {
            break;
        }
        ot_launch_procs_kill_tree(&procs, getpid());
        ot_clock_sleep_us(round < 10 ? 1000 : 10000);
    }
    ot_launch_procs_done(&procs);
}

/* --- watching -------------------------------------------------------------------------------- */

static void drain_output(ot_shim *s)
{
    char buf[65536];
    /* Bounded, so that a program that never stops printing does not keep us from its limits. */
    for (int i = 0; s->output >= 0 && i < 64; i++) {
        ssize_t k = read(s->output, buf, sizeof buf);
        if (k > 0) {
            ot_launch_logfile_add(&s->log, buf, (size_t)k);
        } else if (k == 0 || (errno != EAGAIN && errno != EINTR)) {
            ot_fd_close(&s->output);
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

static void read_signals(ot_shim *s)
{
    struct signalfd_siginfo si;
    while (read(s->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGCHLD) {
            (void)ot_shim_reap(s);
        } else {
            stop(s, OT_LAUNCH_CANCELLED);
        }
    }
}

static bool cancel_asked(const ot_shim *s)
{
    char path[OT_PATH_MAX];
    return ot_launch_path(path, s->rundir, "cancel", NULL) == OT_OK &&
           ot_disk_exists(ot_disk_posix(), path);
}

static void tick(ot_shim *s)
{
    const ot_launch_spec *spec = &s->doc.spec;
    uint64_t now = ot_clock_mono_ns();
    if (cancel_asked(s)) {
        stop(s, OT_LAUNCH_CANCELLED);
    }
    if (s->deadline_ns != 0 && now >= s->deadline_ns) {
        stop(s, OT_LAUNCH_TIMED_OUT);
    }
    ot_launch_usage_poll(&s->usage, now);
    if (spec->memory_limit_bytes > 0 && !s->cgroup.memory && s->usage.memory_over) {
        stop(s, OT_LAUNCH_OUT_OF_MEMORY);
    }
    if (s->usage.disk_over) {
        stop(s, OT_LAUNCH_DISK_QUOTA);
    }
    if (s->kill_at_ns != 0 && now >= s->kill_at_ns) {
        ot_shim_kill_tree(s);
    }
}

static int wait_ms(const ot_shim *s)
{
    uint64_t now = ot_clock_mono_ns(), next = now + TICK_MS * 1000000u;
    if (s->deadline_ns > now && !s->stopping) {
        next = OT_MIN(next, s->deadline_ns);
    }
    if (s->kill_at_ns > now) {
        next = OT_MIN(next, s->kill_at_ns);
    }
    return (int)((next - now + 999999) / 1000000);
}

static void watch(ot_shim *s)
{
    while (!s->ended) {
        struct pollfd p[2] = {{.fd = s->signal_fd, .events = POLLIN},
                              {.fd = s->output, .events = POLLIN}};
        (void)poll(p, 2, wait_ms(s));
        read_signals(s);
        drain_output(s);
        (void)ot_shim_reap(s);
        if (!s->ended) {
            tick(s);
        }
    }
}

/* --- the record ------------------------------------------------------------------------------ */

static void explain_stop(ot_shim *s)
{
    const ot_launch_spec *spec = &s->doc.spec;
    char a[32], b[32], *m = s->exit.message;
    size_t n = sizeof s->exit.message;
    switch (s->exit.state) {
    case OT_LAUNCH_TIMED_OUT:
        snprintf(m, n, "stopped after its time limit of %s; raise resources.time if it needs more",
                 ot_format_duration(spec->time_limit_us, a));
        break;
    case OT_LAUNCH_OUT_OF_MEMORY:
        snprintf(m, n,
                 "used %s of memory, its limit is %s; raise resources.memory if it needs more",
                 ot_format_size(OT_MAX(s->usage.memory_peak, s->usage.memory), a),
                 ot_format_size(spec->memory_limit_bytes, b));
        break;
    case OT_LAUNCH_DISK_QUOTA:
        snprintf(m, n, "wrote %s, its disk limit is %s", ot_format_size(s->usage.disk, a),
                 ot_format_size(spec->disk_limit_bytes, b));
        break;
    default:
        snprintf(m, n, "cancelled after %s",
                 ot_format_duration(s->exit.ended_us - s->exit.started_us, a));
        break;
    }
}

static void explain_exit(ot_shim *s)
{
    char line[384], took[32], *m = s->exit.message;
    size_t n = sizeof s->exit.message;
    ot_launch_logfile_last_line(&s->log, line, sizeof line);
    ot_format_duration(s->exit.ended_us - s->exit.started_us, took);
    const char *quote = line[0] != 0 ? "; its last line: " : "; it printed nothing";
    if (s->exit.signal != 0) {
        const char *hint =
            s->exit.signal == SIGKILL ? " (somebody, or the system for lack of memory)" : "";
        snprintf(m, n, "ended by signal %d, %s%s, after %s%s%s", s->exit.signal,
                 strsignal(s->exit.signal), hint, took, quote, line);
    } else if (s->exit.exit_code == 0) {
        snprintf(m, n, "exit 0 after %s", took);
    } else {
        snprintf(m, n, "exit %d after %s%s%s", s->exit.exit_code, took, quote, line);
    }
}

/* A crash is the program's own doing; these signals come from somebody. */
static bool from_outside(int signo)
{
    return signo == SIGKILL || signo == SIGTERM || signo == SIGINT || signo == SIGHUP ||
           signo == SIGQUIT;
}

static void classify(ot_shim *s)
{
    ot_launch_exit *e = &s->exit;
    e->exit_code = WIFEXITED(s->status) ? WEXITSTATUS(s->status) : -1;
    e->signal = WIFSIGNALED(s->status) ? WTERMSIG(s->status) : 0;
    if (s->doc.spec.command != NULL && e->exit_code > 128 && from_outside(e->exit_code - 128)) {
        /* How a shell tells that its command was ended by a signal. */
        e->signal = e->exit_code - 128;
        e->exit_code = -1;
    }
    if (s->stopping) {
        explain_stop(s);
    } else if (ot_launch_cgroup_oom_kills(&s->cgroup) > 0) {
        e->state = OT_LAUNCH_OUT_OF_MEMORY;
        explain_stop(s);
    } else {
        e->state = e->signal == 0 ? (e->exit_code == 0 ? OT_LAUNCH_SUCCEEDED : OT_LAUNCH_FAILED)
                   : from_outside(e->signal) ? OT_LAUNCH_KILLED
                                             : OT_LAUNCH_FAILED;
        explain_exit(s);
    }
}

static void account(ot_shim *s)
{
    struct rusage ru;
    ot_launch_exit *e = &s->exit;
    /* Orphans are reaped by us, so this covers the whole tree. */
    if (getrusage(RUSAGE_CHILDREN, &ru) == 0) {
        e->cpu_us = (int64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 +
                    ru.ru_utime.tv_usec + ru.ru_stime.tv_usec;
        e->max_rss_bytes = (uint64_t)ru.ru_maxrss * 1024;
    }
    uint64_t peak = OT_MAX(s->usage.memory_peak, ot_launch_cgroup_memory_peak(&s->cgroup));
    e->max_rss_bytes = OT_MAX(e->max_rss_bytes, peak);
    e->log_bytes = s->log.total;
    e->log_truncated = ot_launch_logfile_truncated(&s->log);
}

/* The program may have filled the disk: give somebody the time to make room. */
static int write_record(ot_shim *s)
{
    ot_error err;
    for (int i = 0; i < WRITE_TRIES; i++) {
        if (ot_launch_exit_write(s->rundir, &s->exit, &err) == OT_OK) {
            return 0;
        }
        if (i == 0) {
            ot_err("shim", "run %" PRId64 ": exit record: %s", s->doc.spec.run, err.msg);
        }
        ot_clock_sleep_us(1000000);
    }
    return 1;
}

/* --- set-up ---------------------------------------------------------------------------------- */

static ot_rc take_lock(ot_shim *s, ot_error *err)
{
    char path[OT_PATH_MAX];
    if (s->lock_fd >= 0) {
        return fcntl(s->lock_fd, F_SETFD, FD_CLOEXEC) == 0
                   ? OT_OK
                   : ot_fail_errno(err, errno, "lock descriptor %d", s->lock_fd);
    }
    OT_TRY(ot_launch_path(path, s->rundir, "lock", err));
    return ot_disk_lock_file(path, &s->lock_fd, err);
}

ot_rc ot_shim_become_owner(ot_shim *s, bool background, ot_error *err)
{
    ot_launch_part(background);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        return ot_fail_errno(err, errno, "become the reaper of the run's processes");
    }
    (void)prctl(PR_SET_NAME, "overtake shim");
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signal_fd >= 0 ? OT_OK : ot_fail_errno(err, errno, "signalfd");
}

void ot_shim_mark_tree(ot_shim *s, const ot_launch_spec *spec)
{
    ot_launch_shim_record *r = &s->record;
    uint8_t mark[16];
    ot_random_bytes(mark, sizeof mark);
    ot_hex(mark, sizeof mark, r->mark);
    char name[64];
    snprintf(name, sizeof name, "overtake-%" PRId64 "-%.8s", spec->run, r->mark);
    ot_launch_cgroup_limits limits = {.memory = spec->memory_limit_bytes,
                                      .cpu_weight = spec->cpu_weight,
                                      .background = spec->background};
    ot_launch_cgroup_create(name, &limits, &s->cgroup);
    snprintf(r->cgroup, sizeof r->cgroup, "%s", s->cgroup.path);
}

static ot_rc write_shim_record(ot_shim *s, ot_error *err)
{
    ot_launch_shim_record *r = &s->record;
    ot_launch_proc self;
    OT_TRY(ot_launch_proc_read(getpid(), &self, err));
    r->pid = getpid();
    r->start_time = self.start_time;
    r->started_us = s->exit.started_us = ot_clock_wall_us();
    ot_launch_boot_id(r->boot_id);
    if (s->spare == NULL) { /* else its tree is there already */
        ot_shim_mark_tree(s, &s->doc.spec);
    }
    return ot_launch_shim_write(s->rundir, r, err);
}

static ot_rc set_up(ot_shim *s, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(take_lock(s, err));
    OT_TRY(ot_launch_path(path, s->rundir, "exit.json", err));
    if (ot_disk_exists(ot_disk_posix(), path)) {
        return ot_fail(err, OT_EXISTS, "%s: this run has ended; a directory serves one run", path);
    }
    OT_TRY(ot_launch_spec_load(s->rundir, &s->doc, err));
    if (s->spare == NULL) {
        OT_TRY(ot_shim_become_owner(s, s->doc.spec.background, err));
    }
    OT_TRY(ot_launch_path(path, s->rundir, "log", err));
    uint64_t limit = s->doc.spec.log_limit_bytes;
    OT_TRY(ot_launch_logfile_init(&s->log, path, limit > 0 ? limit : OT_LAUNCH_LOG_DEFAULT, err));
    return write_shim_record(s, err);
}

static ot_rc launch(ot_shim *s, ot_error *err)
{
    if (cancel_asked(s)) {
        s->stopping = true;
        s->exit.state = OT_LAUNCH_CANCELLED;
        return ot_fail(err, OT_CANCELLED, "cancelled before it started");
    }
    const ot_launch_spec *spec = &s->doc.spec;
    const char *cwd = spec->cwd != NULL ? spec->cwd : s->rundir;
    if (spec->note != NULL) {
        ot_launch_logfile_note(&s->log, spec->note);
    }
    if (s->spare == NULL || !ot_shim_spare_hand_over(s)) {
        OT_TRY(ot_launch_spawn(spec, s->rundir, s->record.mark, &s->cgroup, -1, &s->child,
                               &s->output, err));
    }
    (void)fcntl(s->output, F_SETFL, O_NONBLOCK);
    s->usage = (ot_launch_usage){.root = getpid(),
                                 .background = spec->background,
                                 .session = getsid(0),
                                 .memory_limit = spec->memory_limit_bytes,
                                 .disk_limit = spec->disk_limit_bytes,
                                 .disk_dir = spec->disk_dir != NULL ? spec->disk_dir : cwd};
    if (spec->time_limit_us > 0) {
        s->deadline_ns = ot_clock_mono_ns() + (uint64_t)spec->time_limit_us * 1000;
    }
    return OT_OK;
}

static void finish(ot_shim *s)
{
    ot_shim_kill_tree(s);
    for (int i = 0; s->output >= 0 && i < 64; i++) {
        drain_output(s);
    }
    s->exit.ended_us = ot_clock_wall_us();
    classify(s);
    account(s);
    ot_launch_logfile_done(&s->log);
    ot_launch_cgroup_remove(s->cgroup.path);
    ot_launch_usage_done(&s->usage);
}

static void not_started(ot_shim *s, const ot_error *err)
{
    if (s->spare != NULL) {
        ot_shim_kill_tree(s);
    }
    s->exit.state = s->stopping ? OT_LAUNCH_CANCELLED : OT_LAUNCH_SPAWN_FAILED;
    s->exit.exit_code = -1;
    s->exit.ended_us = ot_clock_wall_us();
    s->exit.started_us = s->exit.started_us ? s->exit.started_us : s->exit.ended_us;
    snprintf(s->exit.message, sizeof s->exit.message, "%.500s", err->msg);
    ot_launch_logfile_done(&s->log);
    ot_launch_cgroup_remove(s->cgroup.path);
}

static int run(ot_shim *s)
{
    ot_error err = {0};
    ot_rc rc = set_up(s, &err);
    if (rc == OT_EXISTS || rc == OT_UNAVAILABLE || s->lock_fd < 0) {
        ot_err("shim", "%s: %s", s->rundir, err.msg);
        return 1;
    }
    rc = rc == OT_OK ? launch(s, &err) : rc;
    if (rc == OT_OK) {
        watch(s);
        finish(s);
    } else {
        not_started(s, &err);
    }
    return write_record(s);
}

static ot_shim *shim_new(const char *rundir, int lock_fd)
{
    ot_shim *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        ot_err("shim", "%s: no memory", rundir);
        return NULL;
    }
    *s = (ot_shim){.rundir = rundir, .lock_fd = lock_fd, .signal_fd = -1, .output = -1};
    return s;
}

static void shim_free(ot_shim *s)
{
    ot_launch_spec_done(&s->doc);
    ot_fd_close(&s->signal_fd);
    ot_fd_close(&s->output);
    ot_free(s); /* the lock goes with the process, after the record */
}

int ot_shim_main(const char *rundir, int lock_fd)
{
    ot_shim *s = shim_new(rundir, lock_fd);
    if (s == NULL) {
        return 1;
    }
    int code = run(s);
    shim_free(s);
    return code;
}

int ot_shim_spare_main(int channel)
{
    char rundir[OT_PATH_MAX];
    ot_error err = {0};
    ot_shim *s = shim_new("a spare", -1);
    if (s == NULL) {
        return 1;
    }
    s->rundir = rundir;
    int code = 1;
    if (ot_shim_spare_wait(s, channel, rundir, &err) == OT_OK) {
        code = run(s);
    }
    ot_shim_spare_done(s);
    shim_free(s);
    return code;
}
