/* Processes as /proc shows them: who is in a tree, what it uses, how to signal exactly it.
 *
 * Threads: any. */
#ifndef OT_LAUNCH_PROC_H
#define OT_LAUNCH_PROC_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ot_launch_proc {
    pid_t pid, ppid, session;
    char state;          /* 'Z' zombie ... */
    uint64_t start_time; /* clock ticks since boot: with the pid it names a process for good */
    uint64_t rss_bytes;
} ot_launch_proc;

typedef struct ot_launch_procs {
    ot_launch_proc *v;
    size_t n, cap;
} ot_launch_procs;

void ot_launch_procs_done(ot_launch_procs *s);

ot_rc ot_launch_proc_read(pid_t pid, ot_launch_proc *out, ot_error *err) OT_CHECKED;
bool ot_launch_proc_alive(pid_t pid, uint64_t start_time); /* a zombie is not alive */
void ot_launch_boot_id(char out[40]);

/* The living descendants of `root`, without itself; replaces the set. */
ot_rc ot_launch_procs_tree(ot_launch_procs *s, pid_t root, ot_error *err) OT_CHECKED;
/* Kills every living descendant of `root` that is there now; who does so until none is left ends
 * the tree. */
void ot_launch_procs_kill_tree(ot_launch_procs *s, pid_t root);
/* What a dead shim left: the living members of its session (as long as no new process has its pid)
 * and whoever carries the variable `entry` ("NAME=value") in its environment. */
ot_rc ot_launch_procs_left(ot_launch_procs *s, pid_t session, uint64_t start_time,
                           const char *entry, ot_error *err) OT_CHECKED;

/* Proportional share of memory of one process; its resident size when that can't be read. */
uint64_t ot_launch_proc_pss(const ot_launch_proc *p);
/* "is sleeping in futex_wait_queue, 12 threads": what the kernel says of a process. */
void ot_launch_proc_doing(pid_t pid, char *out, size_t size);
/* A descriptor of exactly this process, or -1 when it is gone. */
int ot_launch_proc_open(pid_t pid, uint64_t start_time);
/* Parts the calling process from who started it: a session of its own; background work gets only a
 * process group of its own and no terminal, and stays in the session. There the kernel's scheduler
 * compares it with serving itself, so that SCHED_IDLE counts; between sessions it compares the
 * sessions (sched(7), autogroup). Safe after a fork. */
void ot_launch_part(bool background);
/* Gives the process's whole session the least weight, where the kernel groups tasks by session
 * (sched(7), autogroup). */
void ot_launch_proc_background(pid_t pid);
/* Signals exactly this process; nothing when it is gone. */
void ot_launch_proc_signal(const ot_launch_proc *p, int signo);

#endif
