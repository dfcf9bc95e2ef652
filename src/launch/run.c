#include "launch/run.h"

#include "base/clock.h"
#include "base/mem.h"
#include "launch/cgroup.h"
#include "launch/internal.h"
#include "launch/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETTLE_ROUNDS 200

/* --- starting -------------------------------------------------------------------------------- */

struct start {
    char dir[OT_PATH_MAX]; /* absolute */
    char log[OT_PATH_MAX]; /* shim.log */
    char lock_text[16];
    const char *exe;
    bool background;
    int lock_fd;
    int to_parent[2], to_middle[2]; /* pid or errno up; end of file down */
};

struct report {
    pid_t pid;
    int errnum;
};

/* The functions below run after fork in a process that may have had threads: only what is safe in a
 * signal handler. */
static void send_report(const struct start *s, pid_t pid, int errnum)
{
    struct report r = {.pid = pid, .errnum = errnum};
    ssize_t k = write(s->to_parent[1], &r, sizeof r);
    (void)k;
}

static void exec_shim(const struct start *s)
{
    sigset_t set;
    /* Until the shim listens for them, these wait. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_SETMASK, &set, NULL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool good = null >= 0 && log >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 &&
                dup2(log, 2) == 2 && fcntl(s->lock_fd, F_SETFD, 0) == 0;
    if (good) {
        execl(s->exe, "overtake", "shim", s->dir, "--lock-fd", s->lock_text, (char *)NULL);
    }
    send_report(s, 0, errno);
    _exit(127);
}

/* Starts the shim and stays until the parent has a descriptor of it, so that its number can't be
 * given to somebody else meanwhile. */
static void run_middle(const struct start *s)
{
    char byte;
    ot_launch_part(s->background);
    pid_t pid = fork();
    if (pid == 0) {
        ot_launch_part(s->background);
        exec_shim(s);
    }
    send_report(s, pid, pid < 0 ? errno : 0);
    close(s->to_middle[1]);
    while (read(s->to_middle[0], &byte, 1) < 0 && errno == EINTR) {
    }
    _exit(0);
}

static void close_pair(int fd[2])
{
    ot_fd_close(&fd[0]);
    ot_fd_close(&fd[1]);
}

static bool read_report(int fd, struct report *r)
{
    ssize_t k;
    do {
        k = read(fd, r, sizeof *r);
    } while (k < 0 && errno == EINTR);
    return k == (ssize_t)sizeof *r;
}

/* Reads reports until the pipe ends (the shim's copy closes at exec). */
static ot_rc hear(struct start *s, int *pidfd_out, ot_error *err)
{
    struct report r;
    int pidfd = -1, errnum = 0;
    /* The middle process holds the pipe as long as it waits, so its report comes first or second
     * and the end of file only after it was let go. */
    for (int i = 0; i < 2 && read_report(s->to_parent[0], &r); i++) {
        errnum = r.errnum != 0 ? r.errnum : errnum;
        if (r.pid > 0) {
            pidfd = (int)syscall(SYS_pidfd_open, r.pid, 0);
            ot_fd_close(&s->to_middle[1]);
        } else if (r.pid < 0) {
            break;
        }
    }
    ot_fd_close(&s->to_middle[1]);
    if (errnum != 0) {
        ot_fd_close(&pidfd);
        return ot_fail_errno(err, errnum, "%s: start its shim (%s)", s->dir, s->exe);
    }
    *pidfd_out = pidfd;
    return OT_OK;
}

static ot_rc start_shim(struct start *s, int *pidfd_out, ot_error *err)
{
    if (pipe2(s->to_parent, O_CLOEXEC) != 0 || pipe2(s->to_middle, O_CLOEXEC) != 0) {
        return ot_fail_errno(err, errno, "%s: pipes to its shim", s->dir);
    }
    pid_t middle = fork();
    if (middle < 0) {
        return ot_fail_errno(err, errno, "%s: fork for its shim", s->dir);
    }
    if (middle == 0) {
        run_middle(s);
    }
    ot_fd_close(&s->to_parent[1]);
    ot_rc rc = hear(s, pidfd_out, err);
    while (waitpid(middle, NULL, 0) < 0 && errno == EINTR) {
    }
    return rc;
}

static ot_rc absolute(const char *path, char out[OT_PATH_MAX], ot_error *err)
{
    char cwd[OT_PATH_MAX] = "/";
    if (path[0] != '/' && getcwd(cwd, sizeof cwd) == NULL) {
        return ot_fail_errno(err, errno, "working directory");
    }
    return path[0] == '/' ? ot_path_join(out, "/", path + 1, err)
                          : ot_path_join(out, cwd, path, err);
}

static ot_rc prepare(struct start *s, const char *rundir, const ot_launch_spec *spec, ot_error *err)
{
    char path[OT_PATH_MAX];
    ot_disk *d = ot_disk_posix();
    OT_TRY(ot_launch_spec_check(spec, err));
    OT_TRY(absolute(rundir, s->dir, err));
    OT_TRY(ot_disk_mkdirs(d, s->dir, 0700, err));
    OT_TRY(ot_launch_path(path, s->dir, "spec.json", err));
    if (ot_disk_exists(d, path)) {
        return ot_fail(err, OT_EXISTS, "%s: a run was started here before; take a new directory",
                       s->dir);
    }
    OT_TRY(ot_launch_path(s->log, s->dir, "shim.log", err));
    OT_TRY(ot_launch_path(path, s->dir, "lock", err));
    OT_TRY(ot_disk_lock_file(path, &s->lock_fd, err));
    snprintf(s->lock_text, sizeof s->lock_text, "%d", s->lock_fd);
    return ot_launch_spec_write(s->dir, spec, err);
}

ot_rc ot_launch_start(const char *rundir, const ot_launch_spec *spec, const char *exe, int *fd_out,
                      ot_error *err)
{
    struct start s = {.exe = exe != NULL ? exe : "/proc/self/exe",
                      .background = spec->background,
                      .lock_fd = -1,
                      .to_parent = {-1, -1},
                      .to_middle = {-1, -1}};
    int pidfd = -1;
    ot_rc rc = prepare(&s, rundir, spec, err);
    if (rc == OT_OK) {
        rc = start_shim(&s, &pidfd, err);
        if (rc != OT_OK) {
            char path[OT_PATH_MAX];
            ot_disk *d = ot_disk_posix();
            if (ot_launch_path(path, s.dir, "spec.json", NULL) == OT_OK) {
                (void)d->ops->unlink(d, path,
                                     NULL); /* nothing was started: it may be tried again */
            }
        }
    }
    close_pair(s.to_parent);
    close_pair(s.to_middle);
    ot_fd_close(&s.lock_fd);
    if (rc == OT_OK && fd_out != NULL) {
        *fd_out = pidfd;
    } else {
        ot_fd_close(&pidfd);
    }
    return rc;
}

ot_rc ot_launch_record(const char *rundir, const ot_launch_spec *spec, const ot_launch_exit *end,
                       ot_error *err)
{
    OT_TRY(ot_launch_spec_check(spec, err));
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), rundir, 0755, err));
    OT_TRY(ot_launch_spec_write(rundir, spec, err));
    return ot_launch_exit_write(rundir, end, err);
}

/* --- watching -------------------------------------------------------------------------------- */

static bool exists(const char *rundir, const char *name)
{
    char path[OT_PATH_MAX];
    return ot_launch_path(path, rundir, name, NULL) == OT_OK &&
           ot_disk_exists(ot_disk_posix(), path);
}

/* A shim lives exactly as long as its lock is held. */
static ot_rc shim_lives(const char *rundir, bool *lives_out, ot_error *err)
{
    char path[OT_PATH_MAX];
    int fd = -1;
    OT_TRY(ot_launch_path(path, rundir, "lock", err));
    ot_rc rc = ot_disk_lock_file(path, &fd, err);
    if (rc != OT_OK && rc != OT_UNAVAILABLE) {
        return rc;
    }
    ot_fd_close(&fd);
    *lives_out = rc == OT_UNAVAILABLE;
    return OT_OK;
}

ot_rc ot_launch_poll(const char *rundir, ot_launch_status *status_out, ot_error *err)
{
    ot_launch_status st = {.phase = OT_LAUNCH_ABSENT};
    bool lives = false;
    if (exists(rundir, "spec.json")) {
        /* In this order: a shim that ends between the two has written its record first. */
        if (!exists(rundir, "exit.json")) {
            OT_TRY(shim_lives(rundir, &lives, err));
        }
        if (exists(rundir, "exit.json")) {
            OT_TRY(ot_launch_exit_load(rundir, &st.exit, err));
            st.phase = OT_LAUNCH_FINISHED;
        } else if (lives) {
            ot_launch_shim_record r;
            st.phase = OT_LAUNCH_RUNNING;
            st.shim_pid = ot_launch_shim_load(rundir, &r, NULL) == OT_OK ? r.pid : 0;
        } else {
            st.phase = OT_LAUNCH_GONE;
        }
    }
    *status_out = st;
    return OT_OK;
}

ot_rc ot_launch_watch(const char *rundir, int *fd_out, ot_error *err)
{
    ot_launch_status st;
    ot_launch_shim_record r;
    OT_TRY(ot_launch_poll(rundir, &st, err));
    if (st.phase != OT_LAUNCH_RUNNING) {
        return ot_fail(err, OT_NOT_FOUND, "%s: no run is under way here", rundir);
    }
    if (st.shim_pid == 0) {
        return ot_fail(err, OT_UNAVAILABLE, "%s: its shim is still starting", rundir);
    }
    OT_TRY(ot_launch_shim_load(rundir, &r, err));
    int fd = ot_launch_proc_open(r.pid, r.start_time);
    if (fd < 0) {
        return ot_fail(err, OT_NOT_FOUND, "%s: its shim has ended", rundir);
    }
    *fd_out = fd;
    return OT_OK;
}

ot_rc ot_launch_cancel(const char *rundir, ot_error *err)
{
    ot_launch_status st;
    OT_TRY(ot_launch_poll(rundir, &st, err));
    if (st.phase == OT_LAUNCH_ABSENT) {
        return ot_fail(err, OT_NOT_FOUND, "%s: no run was started here", rundir);
    }
    if (st.phase != OT_LAUNCH_RUNNING) {
        return OT_OK;
    }
    char path[OT_PATH_MAX];
    ot_launch_shim_record r;
    OT_TRY(ot_launch_path(path, rundir, "cancel", err));
    OT_TRY(ot_disk_write_atomic(ot_disk_posix(), path, "", 0, 0600, err));
    if (ot_launch_shim_load(rundir, &r, NULL) == OT_OK) {
        ot_launch_proc p = {.pid = r.pid, .start_time = r.start_time};
        ot_launch_proc_signal(&p, SIGTERM);
    }
    return OT_OK;
}

/* --- after a shim's death -------------------------------------------------------------------- */

static ot_rc kill_left(const char *rundir, const ot_launch_shim_record *r, size_t *killed_out,
                       ot_error *err)
{
    ot_launch_procs procs = {0};
    char entry[sizeof r->mark + sizeof OT_LAUNCH_MARK + 1];
    size_t killed = 0;
    ot_rc rc = OT_OK;
    snprintf(entry, sizeof entry, OT_LAUNCH_MARK "=%s", r->mark);
    for (int round = 0; rc == OT_OK && round < SETTLE_ROUNDS; round++) {
        rc = ot_launch_procs_left(&procs, r->pid, r->start_time, entry, err);
        (void)ot_launch_cgroup_kill(r->cgroup); /* also who changed session and environment */
        if (rc != OT_OK || procs.n == 0) {
            break;
        }
        killed = OT_MAX(killed, procs.n);
        for (size_t i = 0; i < procs.n; i++) {
            ot_launch_proc_signal(&procs.v[i], SIGKILL);
        }
        ot_clock_sleep_us(2000);
    }
    if (rc == OT_OK && procs.n > 0) {
        rc =
            ot_fail(err, OT_UNAVAILABLE, "%s: %zu processes of the lost run do not end (first: %d)",
                    rundir, procs.n, (int)procs.v[0].pid);
    }
    ot_launch_procs_done(&procs);
    ot_launch_cgroup_remove(r->cgroup);
    if (rc == OT_OK) {
        *killed_out = killed;
    }
    return rc;
}

ot_rc ot_launch_settle(const char *rundir, ot_launch_exit *exit_out, ot_error *err)
{
    ot_launch_status st;
    OT_TRY(ot_launch_poll(rundir, &st, err));
    if (st.phase == OT_LAUNCH_FINISHED) {
        *exit_out = st.exit;
        return OT_OK;
    }
    if (st.phase != OT_LAUNCH_GONE) {
        return ot_fail(err, OT_PRECONDITION, "%s: %s", rundir,
                       st.phase == OT_LAUNCH_RUNNING ? "its shim lives"
                                                     : "no run was started here");
    }
    ot_launch_shim_record r;
    ot_launch_exit e = {.state = OT_LAUNCH_LOST, .exit_code = -1};
    ot_rc rc = ot_launch_shim_load(rundir, &r, err);
    if (rc == OT_NOT_FOUND) {
        snprintf(e.message, sizeof e.message,
                 "lost: its shim ended before it started the program; %s/shim.log may say why",
                 rundir);
    } else {
        OT_TRY(rc);
        char boot[40];
        size_t killed = 0;
        ot_launch_boot_id(boot);
        bool rebooted = strcmp(boot, r.boot_id) != 0;
        if (!rebooted) {
            OT_TRY(kill_left(rundir, &r, &killed, err));
        }
        e.started_us = r.started_us;
        snprintf(e.message, sizeof e.message,
                 rebooted ? "lost: the machine was restarted while it ran"
                          : "lost: its shim was killed; %zu of its processes were left and were "
                            "ended",
                 killed);
    }
    e.ended_us = ot_clock_wall_us();
    e.started_us = e.started_us != 0 ? e.started_us : e.ended_us;
    OT_TRY(ot_launch_exit_write(rundir, &e, err));
    *exit_out = e;
    return OT_OK;
}

ot_rc ot_launch_log_read(const char *rundir, uint64_t offset, size_t max, ot_str *out,
                         uint64_t *next_out, ot_error *err)
{
    char path[OT_PATH_MAX];
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    OT_TRY(ot_launch_path(path, rundir, "log", err));
    ot_rc rc = d->ops->open(d, path, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &f, err);
    if (rc == OT_NOT_FOUND) {
        *next_out = offset;
        return OT_OK;
    }
    OT_TRY(rc);
    size_t n = 0;
    rc = ot_str_reserve(out, max) ? f->ops->pread(f, out->data + out->len, max, offset, &n, err)
                                  : ot_fail(err, OT_EXHAUSTED, "%s: no memory to read it", path);
    ot_file_close(f);
    if (rc == OT_OK) {
        out->len += n;
        out->data[out->len] = 0;
        *next_out = offset + n;
    }
    return rc;
}
