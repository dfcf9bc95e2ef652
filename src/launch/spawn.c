#include "launch/spawn.h"

#include "base/mem.h"
#include "launch/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* linux/ioprio.h is missing from older headers. */
#define IOPRIO_WHO_SELF 1
#define IOPRIO_IDLE (3 << 13)
#define OOM_SCORE "500"

enum stage { STAGE_CWD, STAGE_OUTPUT, STAGE_EXEC };

struct failure {
    int errnum;
    enum stage stage;
};

static bool env_overrides(const ot_launch_spec *s, const char *entry)
{
    size_t n = strcspn(entry, "=");
    for (size_t i = 0; i < s->n_env; i++) {
        if (strlen(s->env[i].name) == n && strncmp(s->env[i].name, entry, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Ours without OVERTAKE_* (tokens and addresses are not the program's business), then the spec's,
 * then the two that name the run. */
static const char **env_build(const ot_launch_spec *s, const char *mark, ot_arena *a)
{
    size_t n = 0, used = 0;
    while (environ[n] != NULL) {
        n++;
    }
    const char **env = ot_arena_calloc(a, n + s->n_env + 3, sizeof *env);
    if (env == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (!ot_has_prefix(environ[i], "OVERTAKE_") && !env_overrides(s, environ[i])) {
            env[used++] = environ[i];
        }
    }
    for (size_t i = 0; i < s->n_env; i++) {
        if (s->env[i].value != NULL &&
            (env[used++] = ot_arena_printf(a, "%s=%s", s->env[i].name, s->env[i].value)) == NULL) {
            return NULL;
        }
    }
    env[used++] = ot_arena_printf(a, "OVERTAKE_RUN=%" PRId64, s->run);
    env[used++] = ot_arena_printf(a, OT_LAUNCH_MARK "=%s", mark);
    return env[used - 2] != NULL && env[used - 1] != NULL ? env : NULL;
}

static const char **argv_build(const ot_launch_spec *s, ot_arena *a)
{
    const char **argv = ot_arena_calloc(a, s->n_argv + 4, sizeof *argv);
    if (argv == NULL) {
        return NULL;
    }
    if (s->n_argv > 0) {
        memcpy(argv, s->argv, s->n_argv * sizeof *argv);
    } else {
        argv[0] = "/bin/sh";
        argv[1] = "-c";
        argv[2] = s->command;
    }
    return argv;
}

const char *ot_launch_env_path(const char *const *env)
{
    for (; *env != NULL; env++) {
        if (ot_has_prefix(*env, "PATH=")) {
            return *env + 5;
        }
    }
    return "/usr/local/bin:/usr/bin:/bin";
}

/* These run in the child: only what is safe after a fork. */
static void write_proc(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t k = write(fd, text, strlen(text));
        (void)k;
        close(fd);
    }
}

void ot_launch_oom_first(void)
{
    write_proc("/proc/self/oom_score_adj", OOM_SCORE);
}

static void lower_priority(const ot_launch_spec *s)
{
    if (s->background) {
        /* SCHED_IDLE yields the CPU the moment that anything else wakes up; nice and SCHED_BATCH
         * do not (README.md has figures). */
        struct sched_param p = {0};
        if (sched_setscheduler(0, SCHED_IDLE, &p) != 0) {
            (void)setpriority(PRIO_PROCESS, 0, 19);
        }
        (void)syscall(SYS_ioprio_set, IOPRIO_WHO_SELF, 0, IOPRIO_IDLE);
    }
    if (s->nice > 0) {
        (void)setpriority(PRIO_PROCESS, 0, s->nice);
    }
    ot_launch_oom_first();
}

static void fail_child(int fd, enum stage stage)
{
    struct failure f = {.errnum = errno, .stage = stage};
    ssize_t k = write(fd, &f, sizeof f);
    (void)k;
    _exit(127);
}

struct plan {
    const ot_launch_spec *spec;
    const char *cwd, *exe;
    const char *const *argv, *const *env;
    pid_t parent;
    int keep_fd;
    int out[2], fail[2], go[2];
};

void ot_launch_reset_signals(void)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    for (int i = 1; i < NSIG; i++) {
        (void)sigaction(i, &dfl, NULL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run_child(const struct plan *p)
{
    char byte;
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(p->go[1]);
    /* The shim lets us go when we are in our cgroup; end of file means that it died. */
    if (read(p->go[0], &byte, 1) != 1 || getppid() != p->parent) {
        _exit(127);
    }
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(p->out[1], 1) < 0 || dup2(p->out[1], 2) < 0) {
        fail_child(p->fail[1], STAGE_OUTPUT);
    }
    if (null > 2) {
        close(null);
    }
    if (p->keep_fd >= 0 && fcntl(p->keep_fd, F_SETFD, 0) != 0) {
        fail_child(p->fail[1], STAGE_OUTPUT);
    }
    if (chdir(p->cwd) != 0) {
        fail_child(p->fail[1], STAGE_CWD);
    }
    lower_priority(p->spec);
    ot_launch_reset_signals();
    union {
        const char *const *in;
        char *const *out;
    } argv = {.in = p->argv}, env = {.in = p->env}; /* exec changes neither */
    execve(p->exe, argv.out, env.out);
    fail_child(p->fail[1], STAGE_EXEC);
}

ot_rc ot_launch_find_program(const char *name, const char *path, const char *cwd,
                             char out[OT_PATH_MAX], ot_error *err)
{
    if (strchr(name, '/') != NULL) {
        return snprintf(out, OT_PATH_MAX, "%s", name) < OT_PATH_MAX
                   ? OT_OK
                   : ot_fail(err, OT_INVALID, "program '%.80s...': its path is too long", name);
    }
    for (const char *p = path;; p++) {
        size_t n = strcspn(p, ":");
        int k = snprintf(out, OT_PATH_MAX, "%.*s%s%s", (int)n, n ? p : ".", "/", name);
        struct stat st;
        if (k < OT_PATH_MAX && stat(out, &st) == 0 && S_ISREG(st.st_mode) &&
            access(out, X_OK) == 0) {
            return OT_OK;
        }
        p += n;
        if (*p == 0) {
            break;
        }
    }
    char hint[OT_PATH_MAX];
    bool here = snprintf(hint, sizeof hint, "%s/%s", cwd, name) < (int)sizeof hint &&
                access(hint, F_OK) == 0;
    return ot_fail(err, OT_NOT_FOUND, "program '%.200s' is not in PATH (%.400s)%s", name, path,
                   here ? "; it is in the working directory: write ./ before its name" : "");
}

static ot_rc failure_text(const struct plan *p, const struct failure *f, ot_error *err)
{
    switch (f->stage) {
    case STAGE_CWD:
        return ot_fail_errno(err, f->errnum, "working directory '%.300s'", p->cwd);
    case STAGE_OUTPUT:
        return ot_fail_errno(err, f->errnum, "standard input and output of the program");
    case STAGE_EXEC:
        break;
    }
    char path[2 * OT_PATH_MAX];
    snprintf(path, sizeof path, "%s%s%s", p->exe[0] == '/' ? "" : p->cwd,
             p->exe[0] == '/' ? "" : "/", p->exe);
    if (f->errnum == ENOENT && access(path, F_OK) == 0) {
        return ot_fail(err, OT_NOT_FOUND,
                       "program '%.300s' can't start: the interpreter that its first line or its "
                       "header names is missing",
                       p->exe);
    }
    if (f->errnum == ENOEXEC) {
        return ot_fail(err, OT_INVALID,
                       "program '%.300s' is neither a binary nor a script with a #! line", p->exe);
    }
    return ot_fail_errno(err, f->errnum, "program '%.300s' can't start", p->exe);
}

static void close_pair(int fd[2])
{
    ot_fd_close(&fd[0]);
    ot_fd_close(&fd[1]);
}

static ot_rc pipes_open(struct plan *p, ot_error *err)
{
    if (pipe2(p->out, O_CLOEXEC) != 0 || pipe2(p->fail, O_CLOEXEC) != 0 ||
        pipe2(p->go, O_CLOEXEC) != 0) {
        return ot_fail_errno(err, errno, "pipes to the program");
    }
    return OT_OK;
}

static ot_rc start(struct plan *p, const ot_launch_cgroup *cgroup, pid_t *pid_out, ot_error *err)
{
    OT_TRY(pipes_open(p, err));
    p->parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        return ot_fail_errno(err, errno, "fork");
    }
    if (pid == 0) {
        run_child(p);
    }
    (void)setpgid(pid, pid); /* here too, so that it is done whoever runs first */
    (void)ot_launch_cgroup_add(cgroup, pid);
    ot_fd_close(&p->fail[1]);
    ot_fd_close(&p->out[1]);
    struct failure f;
    ssize_t k = write(p->go[1], "g", 1);
    do {
        k = read(p->fail[0], &f, sizeof f);
    } while (k < 0 && errno == EINTR);
    if (k == (ssize_t)sizeof f) {
        (void)waitpid(pid, NULL, 0);
        return failure_text(p, &f, err);
    }
    *pid_out = pid;
    return OT_OK;
}

ot_rc ot_launch_spawn(const ot_launch_spec *spec, const char *rundir, const char *mark,
                      const ot_launch_cgroup *cgroup, int keep_fd, pid_t *pid_out, int *output_out,
                      ot_error *err)
{
    ot_arena a;
    ot_arena_init(&a, 65536, 16u << 20);
    char exe[OT_PATH_MAX];
    struct plan p = {.spec = spec,
                     .cwd = spec->cwd != NULL ? spec->cwd : rundir,
                     .exe = exe,
                     .argv = argv_build(spec, &a),
                     .env = env_build(spec, mark, &a),
                     .keep_fd = keep_fd,
                     .out = {-1, -1},
                     .fail = {-1, -1},
                     .go = {-1, -1}};
    ot_rc rc = p.argv == NULL || p.env == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "run: no memory for its arguments")
                   : ot_launch_find_program(p.argv[0], ot_launch_env_path(p.env), p.cwd, exe, err);
    if (rc == OT_OK) {
        rc = start(&p, cgroup, pid_out, err);
    }
    if (rc == OT_OK) {
        *output_out = p.out[0];
        p.out[0] = -1;
    }
    close_pair(p.out);
    close_pair(p.fail);
    close_pair(p.go);
    ot_arena_done(&a);
    return rc;
}
