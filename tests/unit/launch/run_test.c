#include "launch/run.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "launch/internal.h"
#include "launch/proc.h"
#include "tap.h"
#include "unit/launch/finish.h"
#include "unit/launch/program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static char base[] = "/tmp/ot_launch_XXXXXX";
static char self[OT_PATH_MAX];
static int serial;

static const char *new_dir(void)
{
    static char dirs[8][OT_PATH_MAX];
    char *d = dirs[++serial % 8];
    snprintf(d, OT_PATH_MAX, "%s/%d", base, serial);
    return d;
}

static const char *in(const char *dir, const char *name)
{
    static char paths[4][OT_PATH_MAX];
    static int i;
    i = (i + 1) % 4;
    snprintf(paths[i], OT_PATH_MAX, "%s/%s", dir, name);
    return paths[i];
}

static bool run(const char *dir, const ot_launch_spec *spec, ot_launch_exit *e)
{
    ot_error err = {0};
    int fd = -1;
    memset(e, 0, sizeof *e);
    e->state = OT_LAUNCH_LOST;
    if (ot_launch_start(dir, spec, NULL, &fd, &err) != OT_OK) {
        printf("# start: %s\n", err.msg);
        return false;
    }
    return finish(dir, fd, e);
}

static const char *state(const ot_launch_exit *e)
{
    return ot_launch_state_name(e->state);
}

static char *log_of(const char *dir)
{
    static ot_str s = OT_STR_INIT;
    uint64_t next = 0;
    ot_str_clear(&s);
    if (ot_launch_log_read(dir, 0, 8 << 20, &s, &next, NULL) != OT_OK) {
        ot_str_adds(&s, "(no log)");
    }
    return s.data;
}

static pid_t pid_in(const char *path)
{
    int pid = 0;
    for (int i = 0; i < 500 && pid == 0; i++) {
        FILE *f = fopen(path, "r");
        if (f != NULL) {
            if (fscanf(f, "%d", &pid) != 1) {
                pid = 0;
            }
            fclose(f);
        }
        usleep(pid == 0 ? 10000 : 0);
    }
    return pid;
}

static bool gone(pid_t pid)
{
    for (int i = 0; i < 200; i++) {
        ot_launch_proc p;
        if (ot_launch_proc_read(pid, &p, NULL) != OT_OK || p.state == 'Z') {
            return pid > 0;
        }
        usleep(10000);
    }
    return false;
}

static void test_ends(void)
{
    ot_launch_exit e;
    const char *d = new_dir();
    ot_launch_spec s = {.command = "echo out; echo err >&2; cat; exit 0", .run = 12};
    ok(run(d, &s, &e), "a program that succeeds");
    is_str(state(&e), "succeeded", "state");
    ok(e.exit_code == 0 && e.signal == 0 && e.ended_us >= e.started_us && e.started_us > 0 &&
           e.log_bytes == 8 && !e.log_truncated && e.max_rss_bytes > 0,
       "the record: %s", e.message);
    is_str(log_of(d), "out\nerr\n", "both outputs are in the log; the input is empty");

    s.command = "echo fine; echo 'ValueError: bad column' >&2; exit 3";
    ok(run(d = new_dir(), &s, &e) && e.state == OT_LAUNCH_FAILED && e.exit_code == 3 &&
           strstr(e.message, "exit 3") != NULL &&
           strstr(e.message, "its last line: ValueError: bad column") != NULL,
       "a failure says its last line: %s", e.message);
    s.command = "kill -SEGV $$";
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_FAILED && e.signal == SIGSEGV &&
           e.exit_code == -1 && strstr(e.message, "it printed nothing") != NULL,
       "a crash: %s", e.message);
    s.command = "kill -KILL $$";
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_KILLED && e.signal == SIGKILL &&
           ot_launch_state_is_infrastructure(e.state),
       "killed from outside: %s", e.message);
    s.command = "sh -c 'kill -KILL $$'; exit $?";
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_KILLED && e.signal == SIGKILL,
       "the same below the shell: %s", e.message);
    s.command = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
    ok(run(new_dir(), &s, &e) && e.cpu_us > 0, "CPU time is counted (%lld us)",
       (long long)e.cpu_us);
    s.command = "printf '\\033[31m\\377\\001red'; exit 1";
    ok(run(new_dir(), &s, &e) && strstr(e.message, "?[31m??red") != NULL,
       "bytes that are not text do not reach the message: %s", e.message);
    s.command = "exec >&- 2>&-; sleep 0.3; exit 4";
    ok(run(new_dir(), &s, &e) && e.exit_code == 4, "a program that closes its output");
}

static void test_limits(void)
{
    ot_launch_exit e;
    ot_launch_spec s = {.command = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done",
                        .time_limit_us = 300000};
    const char *d = new_dir();
    ok(run(d, &s, &e) && e.state == OT_LAUNCH_TIMED_OUT && strstr(log_of(d), "bye") != NULL &&
           strstr(e.message, "time limit of 300ms") != NULL,
       "the time limit; SIGTERM first: %s", e.message);
    s.command = "trap '' TERM; while :; do sleep 1; done";
    s.grace_us = 200000;
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_TIMED_OUT && e.signal == SIGKILL,
       "then SIGKILL: %s", e.message);

    const char *hog[] = {self, "hog", "300", "1"};
    s = (ot_launch_spec){.argv = hog, .n_argv = 4, .memory_limit_bytes = 100 << 20};
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_OUT_OF_MEMORY &&
           e.max_rss_bytes > 100 << 20 && strstr(e.message, "its limit is 100 MiB") != NULL,
       "a memory hog: %s", e.message);
    const char *hogs[] = {self, "hog", "60", "4"};
    s.argv = hogs;
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_OUT_OF_MEMORY,
       "four processes count together: %s", e.message);
    s = (ot_launch_spec){.command = "sleep 0.4; echo done",
                         .memory_limit_bytes = 200 << 20,
                         .disk_limit_bytes = 1 << 20};
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_SUCCEEDED, "within the limits: %s",
       e.message);

    s = (ot_launch_spec){.command = "mkdir -p a/b; head -c 3000000 /dev/zero > a/b/big; sleep 60",
                         .disk_limit_bytes = 1 << 20};
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_DISK_QUOTA &&
           strstr(e.message, "its disk limit is 1 MiB") != NULL,
       "a disk hog: %s", e.message);
}

static void test_log(void)
{
    ot_launch_exit e;
    ot_stat st = {0};
    const char *d = new_dir();
    ot_launch_spec s = {.command = "yes abcdefghi | head -c 100000000; echo; echo the end",
                        .log_limit_bytes = 1 << 20};
    ok(run(d, &s, &e) && e.state == OT_LAUNCH_SUCCEEDED, "100 MB of output: %s", e.message);
    ok(e.log_bytes == 100000009 && e.log_truncated, "all of it counted, not kept (%llu)",
       (unsigned long long)e.log_bytes);
    ot_rc rc = ot_disk_posix()->ops->stat(ot_disk_posix(), in(d, "log"), &st, NULL);
    ok(rc == OT_OK && st.size > 1000000 && st.size < (1 << 20) + 1000,
       "the log stays at its limit (%llu bytes)", (unsigned long long)st.size);
    char *log = log_of(d);
    ok(strncmp(log, "abcdefghi\n", 10) == 0 &&
           strstr(log, "[overtake: the log limit of 1 MiB is reached") != NULL &&
           strstr(log, " left out; the last 64 KiB follow]\n") != NULL &&
           ot_has_suffix(log, "\nthe end\n"),
       "its start, two marks and its end");

    d = new_dir();
    s = (ot_launch_spec){.command = "printf 0123456789", .log_limit_bytes = 8};
    ok(run(d, &s, &e) && strstr(log_of(d), "89") != NULL && e.log_truncated, "a tiny limit");
    s = (ot_launch_spec){.command = "printf 01234567", .log_limit_bytes = 8};
    ok(run(d = new_dir(), &s, &e) && !e.log_truncated, "exactly the limit");
    is_str(log_of(d), "01234567", "is kept whole");

    ot_str out = OT_STR_INIT;
    uint64_t next = 99;
    ok(ot_launch_log_read(d, 2, 3, &out, &next, NULL) == OT_OK && next == 5 &&
           strcmp(out.data, "234") == 0,
       "a range");
    ok(ot_launch_log_read(d, 100, 3, &out, &next, NULL) == OT_OK && next == 100 && out.len == 3,
       "behind the end");
    ok(ot_launch_log_read(new_dir(), 0, 3, &out, &next, NULL) == OT_OK && next == 0, "no log yet");
    ot_str_done(&out);
}

static void test_environment(void)
{
    ot_launch_exit e;
    const char *d = new_dir();
    setenv("OVERTAKE_TOKEN", "secret", 1);
    setenv("KEEP", "kept", 1);
    setenv("DROP", "dropped", 1);
    setenv("CHANGE", "old", 1);
    ot_launch_env env[] = {{"DROP", NULL}, {"CHANGE", "new"}, {"ADDED", "a b"}, {"EMPTY", ""}};
    ot_launch_spec s = {.command = "echo \"$OVERTAKE_TOKEN|$KEEP|${DROP-none}|$CHANGE|$ADDED|"
                                   "${EMPTY-none}|$OVERTAKE_RUN|$PWD\"",
                        .env = env,
                        .n_env = 4,
                        .run = 7,
                        .cwd = "/"};
    ok(run(d, &s, &e) && e.state == OT_LAUNCH_SUCCEEDED, "environment: %s", e.message);
    is_str(log_of(d), "|kept|none|new|a b||7|/\n", "as the spec says; no secrets");
    const char *policy[] = {self, "policy"};
    s = (ot_launch_spec){.argv = policy, .n_argv = 2, .background = true, .nice = 5};
    char group[64] = "none", want[128];
    FILE *f = fopen("/proc/self/autogroup", "r");
    if (f != NULL) {
        if (fscanf(f, "%63s", group) != 1) {
            group[0] = '\0'; /* no session above us was ever opened: we are in the root group */
        }
        fclose(f);
    }
    snprintf(want, sizeof want, "%d\n%s\n19\n", SCHED_IDLE, group);
    ok(run(d = new_dir(), &s, &e), "in the background");
    is_str(log_of(d), want, "SCHED_IDLE in our session; one that it opens has the least weight");
    unsetenv("OVERTAKE_TOKEN");
}

static void test_not_started(void)
{
    ot_launch_exit e;
    ot_error err = {0};
    const char *d, *argv[] = {"pythonn", "train.py"};
    ot_launch_spec s = {.argv = argv, .n_argv = 2};
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_SPAWN_FAILED && e.exit_code == -1 &&
           strstr(e.message, "program 'pythonn' is not in PATH") != NULL,
       "a missing program is named: %s", e.message);
    argv[0] = "./nothing/here";
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_SPAWN_FAILED &&
           strstr(e.message, "./nothing/here") != NULL,
       "a missing path is named: %s", e.message);
    d = new_dir();
    if (ot_disk_mkdirs(ot_disk_posix(), d, 0700, NULL) != OT_OK ||
        ot_disk_write_atomic(ot_disk_posix(), in(d, "a.sh"), "#!/no/such/interpreter\n", 23, 0700,
                             NULL) != OT_OK ||
        ot_disk_write_atomic(ot_disk_posix(), in(d, "b.sh"), "echo no first line\n", 19, 0700,
                             NULL) != OT_OK) {
        ok(false, "scripts");
    }
    argv[0] = in(d, "a.sh");
    ok(run(new_dir(), &s, &e) && strstr(e.message, "interpreter") != NULL, "no interpreter: %s",
       e.message);
    argv[0] = in(d, "b.sh");
    ok(run(new_dir(), &s, &e) && strstr(e.message, "#! line") != NULL, "no format: %s", e.message);
    argv[0] = d;
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_SPAWN_FAILED, "a directory: %s", e.message);
    argv[0] = "a.sh";
    s.cwd = d;
    ok(run(new_dir(), &s, &e) && strstr(e.message, "write ./ before its name") != NULL,
       "in the working directory only: %s", e.message);
    argv[0] = "true";
    s.cwd = "/no/such/place";
    ok(run(new_dir(), &s, &e) && e.state == OT_LAUNCH_SPAWN_FAILED &&
           strstr(e.message, "working directory '/no/such/place'") != NULL,
       "no working directory: %s", e.message);

    s = (ot_launch_spec){.command = "true"};
    ok(run(d = new_dir(), &s, &e), "a run");
    ok(ot_launch_start(d, &s, NULL, NULL, &err) == OT_EXISTS, "its directory again: %s", err.msg);
    d = new_dir();
    ok(ot_launch_start(d, &s, "/no/overtake", NULL, &err) == OT_NOT_FOUND &&
           strstr(err.msg, "/no/overtake") != NULL,
       "no binary for the shim: %s", err.msg);
    ok(ot_launch_start(d, &s, NULL, NULL, &err) == OT_OK, "and then it may be tried again");
    s.argv = argv;
    s.n_argv = 1;
    ok(ot_launch_start(new_dir(), &s, NULL, NULL, &err) == OT_INVALID, "argv and command: %s",
       err.msg);
    s = (ot_launch_spec){.command = "x", .nice = -5};
    ok(ot_launch_start(new_dir(), &s, NULL, NULL, &err) == OT_INVALID, "nice: %s", err.msg);
}

static void test_daemons(void)
{
    ot_launch_exit e;
    ot_error err = {0};
    const char *d = new_dir();
    const char *argv[] = {self, "daemon", "daemon.pid", "0"};
    ot_launch_spec s = {.argv = argv, .n_argv = 4};
    ok(run(d, &s, &e) && e.state == OT_LAUNCH_SUCCEEDED, "a program that leaves a daemon");
    ok(gone(pid_in(in(d, "daemon.pid"))), "the daemon has ended with it");

    d = new_dir();
    argv[3] = "60";
    int fd = -1;
    ok(ot_launch_start(d, &s, NULL, &fd, &err) == OT_OK, "one that goes on");
    pid_t daemon = pid_in(in(d, "daemon.pid"));
    ot_launch_status st;
    ok(ot_launch_poll(d, &st, &err) == OT_OK && st.phase == OT_LAUNCH_RUNNING && st.shim_pid > 0,
       "is running");
    int again = -1;
    ok(ot_launch_watch(d, &again, &err) == OT_OK && again >= 0, "can be watched again");
    close(again);
    ok(ot_launch_settle(d, &e, &err) == OT_PRECONDITION, "can't be settled: %s", err.msg);
    is_int(ot_launch_cancel(d, &err), OT_OK, "cancel");
    ok(finish(d, fd, &e) && e.state == OT_LAUNCH_CANCELLED, "cancelled: %s", e.message);
    ok(gone(daemon), "its daemon too");
    is_int(ot_launch_cancel(d, &err), OT_OK, "cancel after the end");
    ok(ot_launch_cancel(new_dir(), &err) == OT_NOT_FOUND, "cancel nothing: %s", err.msg);
    ok(ot_launch_watch(d, &again, &err) == OT_NOT_FOUND, "watch after the end: %s", err.msg);

    /* The file alone, as a person might write it. */
    s = (ot_launch_spec){.command = "echo $$ > pid; sleep 60"};
    ok(ot_launch_start(d = new_dir(), &s, NULL, &fd, &err) == OT_OK && pid_in(in(d, "pid")) > 0 &&
           ot_disk_write_atomic(ot_disk_posix(), in(d, "cancel"), "", 0, 0600, NULL) == OT_OK &&
           finish(d, fd, &e) && e.state == OT_LAUNCH_CANCELLED,
       "the file `cancel` is enough: %s", e.message);
}

static void test_starter_dies(void)
{
    const char *d = new_dir();
    pid_t pid = fork();
    if (pid == 0) {
        ot_launch_spec s = {.command = "sleep 3; echo survived"};
        _exit(ot_launch_start(d, &s, NULL, NULL, NULL) == OT_OK ? 0 : 1);
    }
    int status = 1;
    waitpid(pid, &status, 0);
    is_int(status, 0, "the starter has ended");
    ot_launch_status st = {0};
    ok(ot_launch_poll(d, &st, NULL) == OT_OK && st.phase == OT_LAUNCH_RUNNING, "the run goes on");
    for (int i = 0; i < LONG_MS / 10 && st.phase == OT_LAUNCH_RUNNING; i++) {
        usleep(10000);
        if (ot_launch_poll(d, &st, NULL) != OT_OK) {
            break;
        }
    }
    ok(st.phase == OT_LAUNCH_FINISHED && strcmp(log_of(d), "survived\n") == 0, "to its end");
}

static void test_lost(void)
{
    ot_launch_exit e;
    ot_launch_status st;
    ot_error err = {0};
    const char *d = new_dir(), *argv[] = {self, "daemon", "daemon.pid", "60"};
    ot_launch_spec s = {.argv = argv, .n_argv = 4};
    int fd = -1;
    ok(ot_launch_start(d, &s, NULL, &fd, &err) == OT_OK, "start");
    pid_t daemon = pid_in(in(d, "daemon.pid"));
    ok(ot_launch_poll(d, &st, &err) == OT_OK && kill(st.shim_pid, SIGKILL) == 0,
       "kill -9 of the shim");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ok(poll(&p, 1, LONG_MS) == 1, "the descriptor tells at once");
    close(fd);
    ok(ot_launch_poll(d, &st, &err) == OT_OK && st.phase == OT_LAUNCH_GONE, "no record: gone");
    ok(daemon > 0 && kill(daemon, 0) == 0, "the daemon lives");
    ok(ot_launch_settle(d, &e, &err) == OT_OK && e.state == OT_LAUNCH_LOST &&
           ot_launch_state_is_infrastructure(e.state) && strstr(e.message, "; 0 of its") == NULL,
       "settled as lost: %s", e.message);
    ok(gone(daemon), "and the daemon has ended");
    ok(ot_launch_poll(d, &st, &err) == OT_OK && st.phase == OT_LAUNCH_FINISHED &&
           st.exit.state == OT_LAUNCH_LOST,
       "the record is there");
    ok(ot_launch_settle(d, &e, &err) == OT_OK && e.state == OT_LAUNCH_LOST, "settling again");
    ok(ot_launch_settle(new_dir(), &e, &err) != OT_OK, "settling nothing: %s", err.msg);

    /* A machine that went down: the numbers mean other processes now. */
    d = new_dir();
    ot_launch_shim_record r = {.pid = getpid(), .started_us = 5};
    ot_launch_proc me;
    ok(ot_launch_proc_read(getpid(), &me, NULL) == OT_OK, "ourselves");
    r.start_time = me.start_time;
    strcpy(r.boot_id, "another boot");
    memset(r.mark, 'f', 32);
    ok(ot_disk_mkdirs(ot_disk_posix(), d, 0700, NULL) == OT_OK &&
           ot_launch_spec_write(d, &s, &err) == OT_OK &&
           ot_launch_shim_write(d, &r, &err) == OT_OK && ot_launch_settle(d, &e, &err) == OT_OK &&
           strstr(e.message, "the machine was restarted") != NULL && e.started_us == 5,
       "after a restart of the machine nobody is killed: %s", e.message);
    d = new_dir();
    ok(ot_disk_mkdirs(ot_disk_posix(), d, 0700, NULL) == OT_OK &&
           ot_launch_spec_write(d, &s, &err) == OT_OK && ot_launch_settle(d, &e, &err) == OT_OK &&
           e.state == OT_LAUNCH_LOST,
       "a shim that never came up: %s", e.message);
}

int main(int argc, char **argv)
{
    run_as_program(argc, argv);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || mkdtemp(base) == NULL) {
        ok(false, "set-up");
        return tap_done();
    }
    test_ends();
    test_limits();
    test_log();
    test_environment();
    test_not_started();
    test_daemons();
    test_starter_dies();
    test_lost();
    usleep(200000); /* the run that nobody waited for */
    is_int(ot_disk_remove_tree(ot_disk_posix(), base, NULL), OT_OK, "clean up");
    return tap_done();
}
