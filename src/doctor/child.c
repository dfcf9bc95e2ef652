/* Child processes of the doctor. */
#include "doctor/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (4u << 20)
#define POLL_US 5000

extern char **environ;

/* Options of ours from the environment would make another child of it than the one that is meant.
 */
static void clear_environment(void)
{
    for (size_t i = 0; environ[i] != NULL;) {
        if (ot_has_prefix(environ[i], "OVERTAKE_") &&
            !ot_has_prefix(environ[i], "OVERTAKE_PLUGIN_PATH=")) {
            char name[256];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(environ[i], "="), environ[i]);
            if (unsetenv(name) == 0) {
                i = 0;
                continue;
            }
        }
        i++;
    }
}

static void become(const char *const *argv, int null, int out, int errors)
{
    char *copy[32];
    size_t n = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    clear_environment();
    for (; argv[n] != NULL && n < 31; n++) {
        copy[n] = strdup(argv[n]);
    }
    copy[n] = NULL;
    if (dup2(null, 0) >= 0 && dup2(out, 1) >= 0 && dup2(errors, 2) >= 0) {
        execvp(copy[0], copy);
    }
    _exit(127);
}

ot_rc dr_child_start(const char *const *argv, const char *errors, dr_child *out, ot_error *err)
{
    int pipes[2];
    ot_file *null, *log = NULL;
    ot_disk *d = ot_disk_posix();
    OT_TRY(d->ops->open(d, "/dev/null", OT_OPEN_READ | OT_OPEN_WRITE, 0, &null, err));
    ot_rc rc = errors == NULL
                   ? OT_OK
                   : d->ops->open(d, errors, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_APPEND, 0600,
                                  &log, err);
    if (rc == OT_OK && pipe2(pipes, O_CLOEXEC) != 0) {
        rc = ot_fail_errno(err, errno, "%s", argv[0]);
    }
    if (rc == OT_OK) {
        pid_t pid = fork();
        int none = null->ops->fd(null);
        if (pid == 0) {
            become(argv, none, pipes[1], log != NULL ? log->ops->fd(log) : none);
        }
        ot_fd_close(&pipes[1]);
        *out = (dr_child){.pid = pid, .out = pipes[0]};
        if (pid < 0) {
            rc = ot_fail_errno(err, errno, "%s", argv[0]);
            ot_fd_close(&out->out);
        }
    }
    ot_file_close(null);
    ot_file_close(log);
    return rc;
}

ot_rc dr_child_read(dr_child *c, bool line, int64_t us, ot_str *out, ot_error *err)
{
    uint64_t end = ot_clock_mono_ns() + (uint64_t)us * 1000;
    char buffer[4096];
    for (;;) {
        uint64_t now = ot_clock_mono_ns();
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        int wait = now < end ? (int)((end - now) / 1000000) + 1 : 0;
        /* One that talks on and on is as late as one that says nothing. */
        if (now >= end || poll(&p, 1, wait) == 0) {
            return ot_fail(err, OT_TIMEOUT, "no answer in %lld s", (long long)(us / 1000000));
        }
        ssize_t n = read(c->out, buffer, sizeof buffer);
        if (n > 0 && out->len < OUTPUT_MAX) {
            ot_str_add(out, buffer, (size_t)n);
        }
        if (n == 0 || (n < 0 && errno != EINTR) || (line && memchr(out->data, '\n', out->len))) {
            return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for its output") : OT_OK;
        }
    }
}

int dr_child_end(dr_child *c, int64_t us)
{
    uint64_t end = ot_clock_mono_ns() + (uint64_t)us * 1000;
    int status = 0;
    bool killed = false;
    ot_fd_close(&c->out);
    (void)kill(c->pid, SIGTERM);
    while (waitpid(c->pid, &status, killed ? 0 : WNOHANG) == 0) {
        if (ot_clock_mono_ns() >= end) {
            (void)kill(c->pid, SIGKILL);
            killed = true;
            continue;
        }
        ot_clock_sleep_us(POLL_US);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

ot_rc dr_child_run(const char *const *argv, int64_t us, ot_str *out, ot_error *err)
{
    dr_child c;
    int status = 0;
    OT_TRY(dr_child_start(argv, NULL, &c, err));
    ot_rc rc = dr_child_read(&c, false, us, out, err);
    if (rc != OT_OK) {
        (void)dr_child_end(&c, 0);
        return rc;
    }
    ot_fd_close(&c.out);
    (void)waitpid(c.pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return ot_fail(err, OT_ABORTED, "%s ended with %s %d", argv[0],
                       WIFEXITED(status) ? "code" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
    return OT_OK;
}
