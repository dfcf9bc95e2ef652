/* What a process has given up: each try in a child of its own, whose exit code says how it went. */
#include "launch/sandbox.h"

#include "base/disk.h"
#include "base/mem.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char cache[] = "/tmp/overtake-sandbox-XXXXXX", outside[] = "/tmp/overtake-outside-XXXXXX";
static char inside_file[64], outside_file[64];

/* errno of what was tried; 0: it went through. */
static int outcome(long rc)
{
    return rc < 0 ? errno : 0;
}

static int try_exec(void)
{
    char *argv[] = {(char[]){"true"}, NULL};
    return outcome(execv("/bin/true", argv));
}

static int try_fork(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    return outcome(pid);
}

static int try_socket(void)
{
    return outcome(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_unix(void)
{
    return outcome(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_kill(void)
{
    return outcome(kill(getppid(), 0));
}

static int try_write_outside(void)
{
    return outcome(open(outside_file, O_WRONLY | O_CREAT, 0600));
}

static int try_read_outside(void)
{
    return outcome(open(outside_file, O_RDONLY));
}

static int try_chmod(void)
{
    return outcome(chmod(outside_file, 0777));
}

static int try_write_cache(void)
{
    int fd = open(inside_file, O_WRONLY | O_CREAT, 0600);
    return fd >= 0 ? outcome(write(fd, "x", 1)) : errno;
}

static int try_link_out(void)
{
    return outcome(linkat(AT_FDCWD, outside_file, AT_FDCWD, inside_file, 0));
}

static int try_dump(void)
{
    return outcome(prctl(PR_SET_DUMPABLE, 1));
}

static int try_limits(void)
{
    struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY};
    return outcome(setrlimit(RLIMIT_FSIZE, &r));
}

static void *nothing(void *arg)
{
    return arg;
}

static int try_thread(void)
{
    pthread_t t;
    int rc = pthread_create(&t, NULL, nothing, NULL);
    return rc != 0 ? rc : pthread_join(t, NULL);
}

static int try_read_system(void)
{
    return outcome(open("/etc/passwd", O_RDONLY));
}

static int try_memory(void)
{
    void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}

static int try_x32_or_unknown(void)
{
    return outcome(syscall(SYS_unshare, 0));
}

/* Runs `try` in a sandboxed child; its errno, or 200 + the signal that killed it. */
static int in_sandbox(int (*try)(void), bool *files_out)
{
    int status = 0, pipe_fds[2];
    bool files = false;
    if (pipe(pipe_fds) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        ot_str lacks = OT_STR_INIT;
        ot_error err;
        ot_sandbox box = {.cache = cache};
        if (ot_sandbox_files(&box, &lacks, &err) != OT_OK ||
            ot_sandbox_calls(&box, &lacks, &err) != OT_OK ||
            strstr(lacks.data, "seccomp") != NULL) {
            _exit(199);
        }
        files = box.files;
        ssize_t k = write(pipe_fds[1], &files, sizeof files);
        (void)k;
        _exit(try());
    }
    close(pipe_fds[1]);
    ssize_t k = read(pipe_fds[0], &files, sizeof files);
    close(pipe_fds[0]);
    waitpid(pid, &status, 0);
    *files_out = k == (ssize_t)sizeof files && files;
    return WIFSIGNALED(status) ? 200 + WTERMSIG(status) : WEXITSTATUS(status);
}

static const struct {
    const char *what;
    int (*try)(void);
    int want;   /* errno */
    bool files; /* Landlock's doing */
} tries[] = {
    {"starting a program", try_exec, EPERM, false},
    {"a process of its own", try_fork, EPERM, false},
    {"a network socket", try_socket, EPERM, false},
    {"a Unix socket", try_unix, EPERM, false},
    {"signals to others", try_kill, EPERM, false},
    {"making itself readable again", try_dump, EPERM, false},
    {"limits raised", try_limits, EPERM, false},
    {"a call that is not on the list", try_x32_or_unknown, ENOSYS, false},
    {"modes of files of others", try_chmod, EPERM, false},
    {"a file of others under a name in the cache", try_link_out, EPERM, false},
    {"writing outside the cache", try_write_outside, EACCES, true},
    {"reading outside", try_read_outside, EACCES, true},
    {"writing in the cache", try_write_cache, 0, true},
    {"a thread", try_thread, 0, false},
    {"a file of the system", try_read_system, 0, false},
    {"memory", try_memory, 0, false},
};

static void test_filter(void)
{
    struct sock_filter code[OT_SANDBOX_FILTER_MAX];
    size_t n = ot_sandbox_filter(true, 1, code), m = ot_sandbox_filter(false, 1, code);
    ok(n > 100 && n < OT_SANDBOX_FILTER_MAX, "a filter of %zu instructions", n);
    ok(m > 100 && m <= n, "without Landlock one of %zu", m);
    for (size_t i = 0; i < m; i++) {
        bool jump = BPF_CLASS(code[i].code) == BPF_JMP;
        if (jump && i + 1 + OT_MAX(code[i].jt, code[i].jf) >= m) {
            ok(false, "instruction %zu jumps out of the filter", i);
        }
    }
    ok(BPF_CLASS(code[m - 1].code) == BPF_RET, "it ends with a verdict");
}

int main(void)
{
    if (mkdtemp(cache) == NULL || mkdtemp(outside) == NULL) {
        return 1;
    }
    snprintf(inside_file, sizeof inside_file, "%s/f", cache);
    snprintf(outside_file, sizeof outside_file, "%s/f", outside);
    close(open(outside_file, O_WRONLY | O_CREAT, 0600));
    test_filter();
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        bool files = false;
        int got = in_sandbox(tries[i].try, &files);
        if (got == 199) {
            skip("the kernel lets nobody filter system calls here");
        } else if (tries[i].files && !files) {
            skip("the kernel has no Landlock here");
        } else {
            is_int(got, tries[i].want, "%s: %s", tries[i].what,
                   tries[i].want == 0 ? "goes" : "refused");
        }
    }
    ot_error err;
    ok(ot_disk_remove_tree(ot_disk_posix(), cache, &err) == OT_OK &&
           ot_disk_remove_tree(ot_disk_posix(), outside, &err) == OT_OK,
       "cleaning up");
    return tap_done();
}
