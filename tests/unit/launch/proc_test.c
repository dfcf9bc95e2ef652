#include "launch/proc.h"

#include "tap.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK "OVERTAKE_RUN_MARK=0123456789abcdef0123456789abcdef"

static bool has(const ot_launch_procs *s, pid_t pid)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->v[i].pid == pid) {
            return true;
        }
    }
    return false;
}

/* A sleeping grandchild; with `mark` it is a program of its own with the mark in its environment,
 * in a session of its own. The pids come through a pipe. */
static void fork_tree(bool mark, pid_t *child_out, pid_t *grandchild_out)
{
    int p[2];
    pid_t pids[2] = {0};
    if (pipe(p) != 0) {
        return;
    }
    pids[0] = fork();
    if (pids[0] == 0) {
        pid_t g = fork();
        if (g == 0) {
            char *argv[] = {(char[]){"sleep"}, (char[]){"60"}, NULL};
            char *env[] = {(char[]){"A=1"}, (char[]){MARK}, (char[]){"B=2"}, NULL};
            if (mark) {
                setsid();
                execve("/bin/sleep", argv, env);
            }
            pause();
            _exit(0);
        }
        if (write(p[1], &g, sizeof g) < 0) {
            _exit(1);
        }
        pause();
        _exit(0);
    }
    if (read(p[0], &pids[1], sizeof pids[1]) != (ssize_t)sizeof pids[1]) {
        pids[1] = 0;
    }
    close(p[0]);
    close(p[1]);
    *child_out = pids[0];
    *grandchild_out = pids[1];
}

static void test_read(void)
{
    ot_launch_proc me;
    ot_error err = {0};
    is_int(ot_launch_proc_read(getpid(), &me, &err), OT_OK, "ourselves %s", err.msg);
    ok(me.ppid == getppid() && me.session == getsid(0) && me.state == 'R' && me.start_time > 0 &&
           me.rss_bytes > 100000,
       "parent, session, state, start, memory");
    ok(ot_launch_proc_alive(getpid(), me.start_time), "alive");
    ok(!ot_launch_proc_alive(getpid(), me.start_time + 1), "another start, another process");
    ok(ot_launch_proc_read(999999999, &me, &err) == OT_NOT_FOUND, "nobody: %s", err.msg);
    (void)prctl(PR_SET_NAME, ") R 1 (x");
    ok(ot_launch_proc_read(getpid(), &me, &err) == OT_OK && me.ppid == getppid(),
       "a name that looks like fields");
    ok(ot_launch_proc_pss(&me) > 0 && ot_launch_proc_pss(&me) <= me.rss_bytes * 2,
       "proportional memory");
    char boot[40];
    ot_launch_boot_id(boot);
    is_int(strlen(boot), 36, "boot id");
}

static void test_tree(void)
{
    ot_launch_procs s = {0};
    pid_t child = 0, grandchild = 0;
    fork_tree(false, &child, &grandchild);
    ok(ot_launch_procs_tree(&s, getpid(), NULL) == OT_OK && s.n == 2 && has(&s, child) &&
           has(&s, grandchild),
       "child and grandchild");
    ok(ot_launch_procs_tree(&s, child, NULL) == OT_OK && s.n == 1 && has(&s, grandchild),
       "beneath the child");
    ot_launch_proc g = s.v[0], wrong = g;
    wrong.start_time++;
    ot_launch_proc_signal(&wrong, SIGKILL);
    int fd = ot_launch_proc_open(g.pid, g.start_time + 1);
    ok(fd < 0 && ot_launch_proc_alive(g.pid, g.start_time), "a recycled number is not signalled");
    fd = ot_launch_proc_open(g.pid, g.start_time);
    ok(fd >= 0, "a descriptor of exactly it");
    close(fd);
    ot_launch_proc_signal(&g, SIGKILL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    ok(ot_launch_procs_tree(&s, getpid(), NULL) == OT_OK && s.n == 0, "nobody is left");
    ot_launch_procs_done(&s);
}

static void test_left(void)
{
    ot_launch_procs s = {0};
    pid_t child = 0, grandchild = 0;
    fork_tree(true, &child, &grandchild);
    bool seen = false;
    for (int i = 0; i < 200 && !seen; i++) { /* until it has its own environment */
        usleep(10000);
        seen = ot_launch_procs_left(&s, 999999999, 0, MARK, NULL) == OT_OK && s.n == 1;
    }
    ok(seen && has(&s, grandchild), "found by its mark, in another session");
    ok(ot_launch_procs_left(&s, 999999999, 0, "OVERTAKE_RUN_MARK=ffff", NULL) == OT_OK && s.n == 0,
       "not by another mark");
    ok(ot_launch_procs_left(&s, grandchild, 0, "X=", NULL) == OT_OK && s.n == 0,
       "a session whose number somebody has now is not taken for the old one");
    kill(grandchild, SIGKILL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);

    /* A session whose leader has ended, as a killed shim leaves it. */
    int p[2];
    pid_t member = 0;
    ok(pipe(p) == 0, "pipe");
    pid_t leader = fork();
    if (leader == 0) {
        setsid();
        pid_t m = fork();
        if (m == 0) {
            pause();
        }
        _exit(write(p[1], &m, sizeof m) < 0);
    }
    ok(read(p[0], &member, sizeof member) == (ssize_t)sizeof member, "its member");
    waitpid(leader, NULL, 0);
    ok(ot_launch_procs_left(&s, leader, 0, "X=", NULL) == OT_OK && s.n == 1 && has(&s, member),
       "found by its session");
    ok(ot_launch_procs_left(&s, leader, UINT64_MAX, "X=", NULL) == OT_OK && s.n == 0,
       "who started before the shim is not its own");
    kill(member, SIGKILL);
    close(p[0]);
    close(p[1]);
    ot_launch_procs_done(&s);
}

int main(void)
{
    test_read();
    test_tree();
    test_left();
    return tap_done();
}
