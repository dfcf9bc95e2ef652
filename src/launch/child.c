#include "launch/child.h"

#include "launch/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_FD 3
#define CLOSE_MAX 65536 /* descriptors looked at where close_range is missing */

typedef struct plan {
    const ot_launch_child *c;
    pid_t parent;
    int fail; /* where the child writes errno */
} plan;

/* In the child, only what is safe after a fork. */
static void fail_child(const plan *p)
{
    int errnum = errno;
    ssize_t k = write(p->fail, &errnum, sizeof errnum);
    (void)k;
    _exit(127);
}

static void close_from(int first)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, ~0u, 0) == 0) {
        return;
    }
#endif
    for (int fd = first; fd < CLOSE_MAX; fd++) {
        close(fd);
    }
}

/* Moves what is given out of the way of 3, 4, ... first: it may lie there in another order. */
static void place_fds(plan *p)
{
    const ot_launch_child *c = p->c;
    int high = FIRST_FD + (int)OT_LAUNCH_CHILD_FDS_MAX + 2, moved[OT_LAUNCH_CHILD_FDS_MAX];
    int fail = fcntl(p->fail, F_DUPFD_CLOEXEC, high), out = fcntl(c->output, F_DUPFD, high);
    if (fail < 0 || out < 0) {
        fail_child(p);
    }
    p->fail = fail;
    for (size_t i = 0; i < c->n_fds; i++) {
        if ((moved[i] = fcntl(c->fds[i], F_DUPFD, high)) < 0) {
            fail_child(p);
        }
    }
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) {
        fail_child(p);
    }
    for (size_t i = 0; i < c->n_fds; i++) {
        if (dup2(moved[i], FIRST_FD + (int)i) < 0) {
            fail_child(p);
        }
    }
    int last = FIRST_FD + (int)c->n_fds;
    if (dup3(p->fail, last, O_CLOEXEC) < 0) {
        fail_child(p);
    }
    p->fail = last;
    close_from(last + 1);
}

/* Root without capabilities is an account as any other, but for the files that it owns. Without new
 * privileges, executing gives none back. */
static void drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};
    (void)syscall(SYS_capset, &head, none);
}

static void run_child(plan *p)
{
    const ot_launch_child *c = p->c;
    (void)setpgid(0, 0); /* a Ctrl-C at our terminal is ours to handle */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != p->parent) {
        _exit(127);
    }
    ot_launch_reset_signals();
    ot_launch_oom_first();
    place_fds(p);
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        (c->cwd != NULL && chdir(c->cwd) != 0)) {
        fail_child(p);
    }
    drop_capabilities();
    union {
        const char *const *in;
        char *const *out;
    } argv = {.in = c->argv}, env = {.in = c->env}; /* exec changes neither */
    execve(c->exe, argv.out, env.out);
    fail_child(p);
}

static ot_rc start(const ot_launch_child *c, pid_t *pid_out, ot_error *err)
{
    int pipe_fds[2], errnum = 0;
    if (c->n_fds > OT_LAUNCH_CHILD_FDS_MAX) {
        return ot_fail(err, OT_RANGE, "%s: %zu descriptors for it; the limit is %d", c->exe,
                       c->n_fds, OT_LAUNCH_CHILD_FDS_MAX);
    }
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return ot_fail_errno(err, errno, "%s: pipe", c->exe);
    }
    plan p = {.c = c, .parent = getpid(), .fail = pipe_fds[1]};
    pid_t pid = fork();
    if (pid == 0) {
        run_child(&p);
    }
    int fork_errno = errno;
    ot_fd_close(&pipe_fds[1]);
    ssize_t k = 0;
    while (pid > 0 && (k = read(pipe_fds[0], &errnum, sizeof errnum)) < 0 && errno == EINTR) {
    }
    ot_fd_close(&pipe_fds[0]);
    if (pid < 0) {
        return ot_fail_errno(err, fork_errno, "%s: fork", c->exe);
    }
    if (k == (ssize_t)sizeof errnum) {
        (void)waitpid(pid, NULL, 0);
        return ot_fail_errno(err, errnum, "%s: cannot be started", c->exe);
    }
    *pid_out = pid;
    return OT_OK;
}

/* ---- the thread that starts them */

static struct {
    pthread_once_t once;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Synchronization: under lock. One request at a time. */
    bool running, answered;
    const ot_launch_child *ask;
    pid_t pid;
    ot_rc rc;
    ot_error *err;
} starter = {.once = PTHREAD_ONCE_INIT,
             .lock = PTHREAD_MUTEX_INITIALIZER,
             .changed = PTHREAD_COND_INITIALIZER};

static void *starter_main(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&starter.lock);
    for (;;) {
        while (starter.ask == NULL || starter.answered) {
            pthread_cond_wait(&starter.changed, &starter.lock);
        }
        starter.rc = start(starter.ask, &starter.pid, starter.err);
        starter.answered = true;
        pthread_cond_broadcast(&starter.changed);
    }
    return NULL;
}

static void start_starter(void)
{
    pthread_t t;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are other threads' to take */
    starter.running = pthread_create(&t, NULL, starter_main, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (starter.running) {
        pthread_detach(t);
    }
}

void ot_launch_child_prepare(void)
{
    pthread_once(&starter.once, start_starter);
}

ot_rc ot_launch_child_start(const ot_launch_child *c, pid_t *pid_out, ot_error *err)
{
    ot_launch_child_prepare();
    pthread_mutex_lock(&starter.lock);
    while (starter.running && starter.ask != NULL) {
        pthread_cond_wait(&starter.changed, &starter.lock);
    }
    if (!starter.running) {
        pthread_mutex_unlock(&starter.lock);
        return ot_fail(err, OT_UNAVAILABLE, "%s: no thread to start it", c->exe);
    }
    starter.ask = c;
    starter.err = err;
    starter.answered = false;
    pthread_cond_broadcast(&starter.changed);
    while (!starter.answered) {
        pthread_cond_wait(&starter.changed, &starter.lock);
    }
    ot_rc rc = starter.rc;
    if (rc == OT_OK) {
        *pid_out = starter.pid;
    }
    starter.ask = NULL;
    pthread_cond_broadcast(&starter.changed);
    pthread_mutex_unlock(&starter.lock);
    return rc;
}
