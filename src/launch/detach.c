/* Starts a shim apart from this process: neither our child nor in our way when we end. */
#include "launch/internal.h"

#include "launch/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct start {
    const ot_launch_detached *d;
    const char *exe;
    char fd_text[16];
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
    int log = open(s->d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool good = null >= 0 && log >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 &&
                dup2(log, 2) == 2 && fcntl(s->d->fd, F_SETFD, 0) == 0;
    if (good) {
        execl(s->exe, "overtake", "shim", s->d->what, s->d->option, s->fd_text, (char *)NULL);
    }
    send_report(s, 0, errno);
    _exit(127);
}

/* Starts the shim and stays until the parent has a descriptor of it, so that its number can't be
 * given to somebody else meanwhile. */
static void run_middle(const struct start *s)
{
    char byte;
    ot_launch_part(s->d->background);
    pid_t pid = fork();
    if (pid == 0) {
        ot_launch_part(s->d->background);
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
        return ot_fail_errno(err, errnum, "%s: start its shim (%s)", s->d->what, s->exe);
    }
    *pidfd_out = pidfd;
    return OT_OK;
}

static ot_rc start(struct start *s, int *pidfd_out, ot_error *err)
{
    if (pipe2(s->to_parent, O_CLOEXEC) != 0 || pipe2(s->to_middle, O_CLOEXEC) != 0) {
        return ot_fail_errno(err, errno, "%s: pipes to its shim", s->d->what);
    }
    pid_t middle = fork();
    if (middle < 0) {
        return ot_fail_errno(err, errno, "%s: fork for its shim", s->d->what);
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

ot_rc ot_launch_detach(const ot_launch_detached *d, int *pidfd_out, ot_error *err)
{
    struct start s = {.d = d,
                      .exe = d->exe != NULL ? d->exe : "/proc/self/exe",
                      .to_parent = {-1, -1},
                      .to_middle = {-1, -1}};
    int pidfd = -1;
    snprintf(s.fd_text, sizeof s.fd_text, "%d", d->fd);
    ot_rc rc = start(&s, &pidfd, err);
    close_pair(s.to_parent);
    close_pair(s.to_middle);
    if (rc == OT_OK) {
        *pidfd_out = pidfd;
    }
    return rc;
}
