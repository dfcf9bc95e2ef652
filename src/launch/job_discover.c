#include "launch/job_discover.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"
#include "launch/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_MAX (1u << 20)

static void run_child(int fd, pid_t parent, const char *script)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0) {
        _exit(127);
    }
    ot_launch_reset_signals();
    execl("/bin/sh", "sh", "-c", script, (char *)NULL);
    _exit(127);
}

ot_rc ot_job_discover_start(ot_job_discover *d, const char *script, ot_error *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return ot_fail_errno(err, errno, "--host-discovery-script: pipe");
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        run_child(fds[1], parent, script);
    }
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return ot_fail_errno(err, errno, "--host-discovery-script: fork");
    }
    (void)setpgid(pid, pid);
    ot_sock_nonblock(fds[0], true);
    uint64_t now = ot_clock_mono_ns();
    ot_str_clear(&d->text);
    d->pid = pid;
    d->fd = fds[0];
    d->ended = false;
    d->until_ns = now + OT_JOB_DISCOVER_LIMIT_US * (uint64_t)1000;
    d->next_ns = now + OT_JOB_DISCOVER_US * (uint64_t)1000;
    return OT_OK;
}

static void read_some(ot_job_discover *d)
{
    char buf[16384];
    ssize_t k = 0;
    while (d->fd >= 0 && (k = read(d->fd, buf, sizeof buf)) > 0 && d->text.len <= TEXT_MAX) {
        ot_str_add(&d->text, buf, (size_t)k);
    }
    if (d->fd >= 0 &&
        (k == 0 || d->text.len > TEXT_MAX || (k < 0 && errno != EAGAIN && errno != EINTR))) {
        ot_fd_close(&d->fd);
    }
}

ot_rc ot_job_discover_turn(ot_job_discover *d, const char *script, ot_job_hosts *out, ot_error *err)
{
    bool late = d->pid != 0 && ot_clock_mono_ns() >= d->until_ns;
    read_some(d);
    if (late && !d->ended) {
        (void)kill(-d->pid, SIGKILL);
    }
    if (d->pid == 0 || !d->ended || (d->fd >= 0 && !late)) {
        return OT_NOT_FOUND;
    }
    ot_fd_close(&d->fd);
    d->pid = 0;
    if (late || d->text.len > TEXT_MAX || d->text.failed) {
        return ot_fail(
            err, OT_TIMEOUT,
            "--host-discovery-script '%.200s' prints more than %u bytes, or takes longer "
            "than %d s",
            script, TEXT_MAX, OT_JOB_DISCOVER_LIMIT_US / 1000000);
    }
    if (!WIFEXITED(d->status) || WEXITSTATUS(d->status) != 0) {
        return ot_fail(err, OT_UNAVAILABLE, "--host-discovery-script '%.200s' ended with %s %d",
                       script, WIFSIGNALED(d->status) ? "signal" : "exit code",
                       WIFSIGNALED(d->status) ? WTERMSIG(d->status) : WEXITSTATUS(d->status));
    }
    *out = (ot_job_hosts){0};
    ot_rc rc = ot_job_hosts_file(out, d->text.len > 0 ? d->text.data : "", script, err);
    if (rc != OT_OK) {
        ot_job_hosts_done(out);
        return ot_error_prefix(err, rc, "--host-discovery-script");
    }
    return OT_OK;
}

void ot_job_discover_done(ot_job_discover *d)
{
    if (d->pid != 0 && !d->ended) {
        (void)kill(-d->pid, SIGKILL);
    }
    ot_fd_close(&d->fd);
    ot_str_done(&d->text);
    d->pid = 0;
}

ot_rc ot_job_discover_now(const char *script, ot_job_hosts *out, ot_error *err)
{
    ot_job_discover d = {.fd = -1, .text = OT_STR_INIT};
    ot_rc rc = ot_job_discover_start(&d, script, err);
    while (rc == OT_OK && (rc = ot_job_discover_turn(&d, script, out, err)) == OT_NOT_FOUND) {
        struct pollfd p = {.fd = d.fd, .events = POLLIN};
        (void)poll(&p, 1, 20);
        d.ended = d.ended || waitpid(d.pid, &d.status, WNOHANG) == d.pid;
        rc = OT_OK;
    }
    ot_job_discover_done(&d);
    return rc;
}
