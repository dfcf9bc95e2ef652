#include "launch/job_spawn.h"

#include "base/mem.h"
#include "base/sock.h"
#include "launch/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define HIGH_FD 16 /* above what the child puts in place */

typedef struct plan {
    const ot_job_spawn *s;
    const char *exe;
    pid_t parent;
    int in[2], out[2], err[2], fail[2];
} plan;

/* These run in the child: only what is safe after a fork. */
static void fail_child(const plan *p)
{
    int errnum = errno;
    ssize_t k = write(p->fail[1], &errnum, sizeof errnum);
    (void)k;
    _exit(127);
}

static void place_fds(const plan *p)
{
    int in = p->s->input ? p->in[0] : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (in < 0 || dup2(in, 0) < 0 || dup2(p->out[1], 1) < 0 || dup2(p->err[1], 2) < 0) {
        fail_child(p);
    }
    if (p->s->key_fd == OT_JOB_KEY_FD ? fcntl(OT_JOB_KEY_FD, F_SETFD, 0) != 0
                                      : dup2(p->s->key_fd, OT_JOB_KEY_FD) < 0) {
        fail_child(p);
    }
}

static void run_child(const plan *p)
{
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != p->parent) {
        _exit(127);
    }
    place_fds(p);
    if (p->s->keep_fd > 0 && fcntl(p->s->keep_fd, F_SETFD, 0) != 0) {
        fail_child(p);
    }
    if (p->s->cpus != NULL) {
        (void)sched_setaffinity(0, sizeof *p->s->cpus, p->s->cpus);
    }
    ot_launch_reset_signals();
    union {
        const char *const *in;
        char *const *out;
    } argv = {.in = p->s->argv}, env = {.in = p->s->env}; /* exec changes neither */
    execve(p->exe, argv.out, env.out);
    fail_child(p);
}

/* All of ours lie above what the child overwrites. */
static bool open_pipe(int fds[2])
{
    int raw[2];
    if (pipe2(raw, O_CLOEXEC) != 0) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        fds[i] = fcntl(raw[i], F_DUPFD_CLOEXEC, HIGH_FD);
        close(raw[i]);
    }
    return fds[0] >= 0 && fds[1] >= 0;
}

static void close_pair(int fds[2])
{
    ot_fd_close(&fds[0]);
    ot_fd_close(&fds[1]);
}

static ot_rc start(plan *p, ot_job_child *out, ot_error *err)
{
    if (!open_pipe(p->out) || !open_pipe(p->err) || !open_pipe(p->fail) ||
        (p->s->input && !open_pipe(p->in))) {
        return ot_fail_errno(err, errno, "pipes to a rank");
    }
    pid_t pid = fork();
    if (pid < 0) {
        return ot_fail_errno(err, errno, "fork of a rank");
    }
    if (pid == 0) {
        run_child(p);
    }
    (void)setpgid(pid, pid); /* here too, so that it is done whoever runs first */
    ot_fd_close(&p->fail[1]);
    int errnum;
    ssize_t k;
    while ((k = read(p->fail[0], &errnum, sizeof errnum)) < 0 && errno == EINTR) {
    }
    if (k == (ssize_t)sizeof errnum) {
        (void)waitpid(pid, NULL, 0);
        return errnum == ENOEXEC
                   ? ot_fail(err, OT_INVALID,
                             "program '%.300s' is neither a binary nor a script with a #! line",
                             p->exe)
                   : ot_fail_errno(err, errnum, "program '%.300s' can't start", p->exe);
    }
    *out = (ot_job_child){.pid = pid, .in = p->in[1], .out = p->out[0], .err = p->err[0]};
    p->in[1] = p->out[0] = p->err[0] = -1;
    ot_sock_nonblock(out->out, true);
    ot_sock_nonblock(out->err, true);
    if (out->in >= 0) {
        ot_sock_nonblock(out->in, true);
    }
    return OT_OK;
}

ot_rc ot_job_spawn_start(const ot_job_spawn *s, ot_job_child *child_out, ot_error *err)
{
    char exe[OT_PATH_MAX];
    OT_TRY(ot_launch_find_program(s->argv[0], ot_launch_env_path(s->env), s->cwd, exe, err));
    plan p = {.s = s,
              .exe = exe,
              .parent = getpid(),
              .in = {-1, -1},
              .out = {-1, -1},
              .err = {-1, -1},
              .fail = {-1, -1}};
    ot_rc rc = start(&p, child_out, err);
    close_pair(p.in);
    close_pair(p.out);
    close_pair(p.err);
    close_pair(p.fail);
    return rc;
}

/* --- CPUs ------------------------------------------------------------------------------------ */

typedef struct cpu {
    int number, package, core;
} cpu;

static int topology(int number, const char *what)
{
    char path[96];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", number, what);
    return ot_disk_read_all(ot_disk_posix(), path, 4096, &text, NULL) == OT_OK ? atoi(text.data)
                                                                               : 0;
}

static int by_place(const void *a, const void *b)
{
    const cpu *x = a, *y = b;
    if (x->package != y->package) {
        return x->package < y->package ? -1 : 1;
    }
    if (x->core != y->core) {
        return x->core < y->core ? -1 : 1;
    }
    return (x->number > y->number) - (x->number < y->number);
}

bool ot_job_cpus(int i, int n, cpu_set_t *out)
{
    static cpu all[CPU_SETSIZE];
    static int count = -1;
    cpu_set_t may;
    if (count < 0 && sched_getaffinity(0, sizeof may, &may) == 0) {
        count = 0;
        for (int c = 0; c < CPU_SETSIZE; c++) {
            if (CPU_ISSET((size_t)c, &may)) {
                all[count++] = (cpu){.number = c,
                                     .package = topology(c, "physical_package_id"),
                                     .core = topology(c, "core_id")};
            }
        }
        qsort(all, (size_t)count, sizeof *all, by_place);
    }
    if (count < n) {
        return false;
    }
    CPU_ZERO(out);
    for (int c = i * count / n; c < (i + 1) * count / n; c++) {
        CPU_SET((size_t)all[c].number, out);
    }
    return true;
}

int ot_job_cpus_each(int n)
{
    cpu_set_t may;
    int count = sched_getaffinity(0, sizeof may, &may) == 0 ? CPU_COUNT(&may) : 1;
    return count > n ? count / n : 1;
}
