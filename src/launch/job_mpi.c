#include "launch/job_mpi.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "launch/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_NS 60000000000u
#define LOOK_US 20000
#define LOOK_MS 50
#define END_NS 5000000000u
#define ENV_MAX (1u << 20)

extern char **environ;

static void name(char out[OT_PATH_MAX], const char *dir, const char *rank, const char *what)
{
    snprintf(out, OT_PATH_MAX, "%s/%s%s", dir, rank, what);
}

/* --- the keeper of mpirun -------------------------------------------------------------------- */

static void run_mpirun(const char *dir, int32_t np)
{
    char n[16], self[OT_PATH_MAX] = "", told[OT_PATH_MAX + 16];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    ot_launch_reset_signals();
    snprintf(n, sizeof n, "%d", np);
    ssize_t k = readlink("/proc/self/exe", self, sizeof self - 1);
    self[k > 0 ? k : 0] = 0;
    snprintf(told, sizeof told, "--mpi-stand-in=%s", dir);
    /* It says nothing on its output; a rank that is lost is ours to care for. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(null, STDOUT_FILENO);
    }
    execlp("mpirun", "mpirun", "--allow-run-as-root", "--oversubscribe", "--enable-recovery",
           "--mca", "orte_tmpdir_base", dir, "-np", n, self, "run", told, (char *)NULL);
    fprintf(stderr, "overtake run: mpirun can't start: %s\n", strerror(errno));
    _exit(127);
}

static void say(ot_rc rc, const ot_error *err)
{
    if (rc != OT_OK) {
        fprintf(stderr, "overtake run: %s\n", err->msg);
    }
}

/* Until the launcher's end of the pipe is closed. */
static void await_end(pid_t *mpirun, const char *dir, int end)
{
    char failed[OT_PATH_MAX];
    struct pollfd fd = {.fd = end, .events = POLLIN};
    ot_error err = {.rc = OT_OK};
    while (poll(&fd, 1, LOOK_MS) <= 0) {
        int status;
        if (*mpirun > 0 && waitpid(*mpirun, &status, WNOHANG) == *mpirun) {
            *mpirun = 0;
            name(failed, dir, "", "failed");
            say(ot_disk_write_atomic(ot_disk_posix(), failed, "", 0, 0600, &err), &err);
        }
    }
}

static void keep(const char *dir, int32_t np, int end)
{
    char fifo[OT_PATH_MAX];
    (void)setsid();
    name(fifo, dir, "", "end");
    int hold = mkfifo(fifo, 0600) == 0 ? open(fifo, O_RDWR | O_CLOEXEC) : -1;
    pid_t mpirun = hold >= 0 ? fork() : -1;
    if (mpirun == 0) {
        run_mpirun(dir, np);
    }
    await_end(&mpirun, dir, end);
    ot_fd_close(&hold); /* the stand-ins end, and mpirun with them */
    uint64_t until = ot_clock_mono_ns() + END_NS;
    while (mpirun > 0 && waitpid(mpirun, NULL, WNOHANG) == 0) {
        if (ot_clock_mono_ns() > until) {
            (void)kill(mpirun, SIGKILL);
        }
        ot_clock_sleep_us(LOOK_US);
    }
    ot_error err = {.rc = OT_OK};
    say(ot_disk_remove_tree(ot_disk_posix(), dir, &err), &err);
    _exit(0);
}

/* A child of nobody's: the launcher waits for all of its own. */
static ot_rc start_keeper(const ot_job_mpi *m, int32_t np, int end, ot_error *err)
{
    pid_t pid = fork();
    if (pid < 0) {
        return ot_fail_errno(err, errno, "fork");
    }
    if (pid == 0) {
        pid_t keeper = fork();
        if (keeper == 0) {
            int ours = m->end;
            ot_fd_close(&ours);
            keep(m->dir, np, end);
        }
        _exit(keeper < 0);
    }
    int status = 1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status == 0 ? OT_OK : ot_fail(err, OT_EXHAUSTED, "fork: no more processes");
}

/* --- the launcher ---------------------------------------------------------------------------- */

static bool there(const char *dir, const char *rank, const char *what)
{
    char path[OT_PATH_MAX];
    name(path, dir, rank, what);
    return ot_disk_exists(ot_disk_posix(), path);
}

static ot_rc await_all(const ot_job_mpi *m, int32_t np, ot_error *err)
{
    uint64_t until = ot_clock_mono_ns() + START_NS;
    for (int32_t r = 0; r < np;) {
        char rank[16];
        snprintf(rank, sizeof rank, "%d", r);
        if (there(m->dir, rank, ".env")) {
            r++;
        } else if (there(m->dir, "", "failed")) {
            return ot_fail(err, OT_UNAVAILABLE,
                           "--engine mpi: mpirun ended before it had started %d processes; what it "
                           "says stands above. On Debian it is in openmpi-bin",
                           np);
        } else if (ot_clock_mono_ns() > until) {
            return ot_fail(err, OT_TIMEOUT,
                           "--engine mpi: mpirun had not started %d processes after a minute", np);
        } else {
            ot_clock_sleep_us(LOOK_US);
        }
    }
    return OT_OK;
}

ot_rc ot_job_mpi_start(int32_t np, ot_job_mpi *out, ot_error *err)
{
    const char *tmp = getenv("TMPDIR");
    ot_job_mpi m;
    int ends[2];
    int n = snprintf(m.dir, sizeof m.dir, "%s/overtake-mpi-XXXXXX",
                     tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
    if (n >= (int)sizeof m.dir || mkdtemp(m.dir) == NULL) {
        return ot_fail_errno(err, errno, "a folder '%.80s'", m.dir);
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        int saved = errno;
        (void)rmdir(m.dir);
        return ot_fail_errno(err, saved, "pipe");
    }
    m.end = ends[1];
    ot_rc rc = start_keeper(&m, np, ends[0], err);
    ot_fd_close(&ends[0]);
    rc = rc == OT_OK ? await_all(&m, np, err) : rc;
    if (rc != OT_OK) {
        ot_job_mpi_stop(&m);
        return rc;
    }
    *out = m;
    return OT_OK;
}

/* Who watches this process may end all that it leaves behind: the keeper has its time. */
void ot_job_mpi_stop(ot_job_mpi *m)
{
    uint64_t until = ot_clock_mono_ns() + 2 * END_NS;
    ot_fd_close(&m->end);
    while (ot_disk_exists(ot_disk_posix(), m->dir) && ot_clock_mono_ns() < until) {
        ot_clock_sleep_us(LOOK_US);
    }
}

/* --- stand-ins and ranks --------------------------------------------------------------------- */

/* What mpirun says to a process of its own begins so. */
static bool told(const char *variable)
{
    return strncmp(variable, "OMPI_", 5) == 0 || strncmp(variable, "PMIX_", 5) == 0 ||
           strncmp(variable, "PMI_", 4) == 0;
}

int ot_job_mpi_stand_in(const char *dir)
{
    char path[OT_PATH_MAX], byte;
    OT_AUTO(ot_str_done) ot_str env = OT_STR_INIT;
    ot_error err = {.rc = OT_OK};
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    for (char **e = environ; *e != NULL; e++) {
        if (told(*e)) {
            ot_str_add(&env, *e, strlen(*e) + 1);
        }
    }
    name(path, dir, rank != NULL ? rank : "none", ".env");
    if (rank == NULL || env.failed ||
        ot_disk_write_atomic(ot_disk_posix(), path, env.data, env.len, 0600, &err) != OT_OK) {
        fprintf(stderr, "overtake run: mpirun is not Open MPI's, or %s\n", err.msg);
        return 1;
    }
    name(path, dir, "", "end");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && read(fd, &byte, 1) < 0 && errno == EINTR) {
    }
    return 0;
}

ot_rc ot_job_mpi_take_over(const char *dir, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str env = OT_STR_INIT;
    const char *rank = getenv("OVERTAKE_RANK");
    name(path, dir, rank != NULL ? rank : "none", ".env");
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, ENV_MAX, &env, err));
    for (size_t at = 0; at < env.len; at += strlen(env.data + at) + 1) {
        char *line = env.data + at, *eq = strchr(line, '=');
        if (eq != NULL) {
            *eq = 0;
            if (setenv(line, eq + 1, 1) != 0) {
                return ot_fail_errno(err, errno, "%s", line);
            }
            *eq = '=';
        }
    }
    return OT_OK;
}
