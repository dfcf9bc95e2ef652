#include "launch/run.h"

#include "base/clock.h"
#include "base/mem.h"
#include "launch/cgroup.h"
#include "launch/internal.h"
#include "launch/proc.h"
#include "launch/spare.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SETTLE_ROUNDS 200

static ot_rc absolute(const char *path, char out[OT_PATH_MAX], ot_error *err)
{
    char cwd[OT_PATH_MAX] = "/";
    if (path[0] != '/' && getcwd(cwd, sizeof cwd) == NULL) {
        return ot_fail_errno(err, errno, "working directory");
    }
    return path[0] == '/' ? ot_path_join(out, "/", path + 1, err)
                          : ot_path_join(out, cwd, path, err);
}

/* The directory with a spec in it, absolute, and its lock. */
static ot_rc prepare(const char *rundir, const ot_launch_spec *spec, char dir[OT_PATH_MAX],
                     int *lock_fd, ot_error *err)
{
    char path[OT_PATH_MAX];
    ot_disk *d = ot_disk_posix();
    OT_TRY(ot_launch_spec_check(spec, err));
    OT_TRY(absolute(rundir, dir, err));
    OT_TRY(ot_disk_mkdirs(d, dir, 0700, err));
    OT_TRY(ot_launch_path(path, dir, "spec.json", err));
    if (ot_disk_exists(d, path)) {
        return ot_fail(err, OT_EXISTS, "%s: a run was started here before; take a new directory",
                       dir);
    }
    OT_TRY(ot_launch_path(path, dir, "lock", err));
    OT_TRY(ot_disk_lock_file(path, lock_fd, err));
    return ot_launch_spec_write(dir, spec, err);
}

static ot_rc start_cold(const char *dir, bool background, const char *exe, int lock_fd,
                        int *pidfd_out, ot_error *err)
{
    char path[OT_PATH_MAX], log[OT_PATH_MAX];
    ot_disk *d = ot_disk_posix();
    OT_TRY(ot_launch_path(log, dir, "shim.log", err));
    ot_launch_detached start = {.what = dir,
                                .option = "--lock-fd",
                                .exe = exe,
                                .log = log,
                                .background = background,
                                .fd = lock_fd};
    ot_rc rc = ot_launch_detach(&start, pidfd_out, err);
    if (rc != OT_OK && ot_launch_path(path, dir, "spec.json", NULL) == OT_OK) {
        (void)d->ops->unlink(d, path, NULL); /* nothing was started: it may be tried again */
    }
    return rc;
}

ot_rc ot_launch_start_warm(const char *rundir, const ot_launch_spec *spec, ot_launch_spare *spare,
                           const char *exe, int *fd_out, ot_error *err)
{
    char dir[OT_PATH_MAX];
    int lock_fd = -1, pidfd = -1;
    bool warm = false;
    ot_error why = {0};
    ot_rc rc = prepare(rundir, spec, dir, &lock_fd, err);
    if (rc == OT_OK && spare != NULL) {
        warm = ot_launch_spare_give(spare, spec, dir, lock_fd, &pidfd, &why) == OT_OK;
        if (!warm) {
            char note[sizeof why.msg + 64];
            ot_launch_spec noted = *spec;
            snprintf(note, sizeof note, "started cold: %s", why.msg);
            noted.note = note;
            rc = ot_launch_spec_write(dir, &noted, err);
        }
    }
    if (rc == OT_OK && !warm) {
        rc = start_cold(dir, spec->background, exe, lock_fd, &pidfd, err);
    }
    ot_fd_close(&lock_fd);
    if (rc == OT_OK && fd_out != NULL) {
        *fd_out = pidfd;
    } else {
        ot_fd_close(&pidfd);
    }
    return rc;
}

ot_rc ot_launch_start(const char *rundir, const ot_launch_spec *spec, const char *exe, int *fd_out,
                      ot_error *err)
{
    return ot_launch_start_warm(rundir, spec, NULL, exe, fd_out, err);
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
    return ot_launch_rank_log_read(rundir, -1, offset, max, out, next_out, err);
}

ot_rc ot_launch_rank_log_read(const char *rundir, int64_t rank, uint64_t offset, size_t max,
                              ot_str *out, uint64_t *next_out, ot_error *err)
{
    char path[OT_PATH_MAX], name[64] = "log";
    if (rank >= 0) {
        snprintf(name, sizeof name, OT_LAUNCH_RANKS "/rank-%" PRId64 ".log", rank);
    }
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    OT_TRY(ot_launch_path(path, rundir, name, err));
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
