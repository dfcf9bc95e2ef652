#include "launch/proc.h"

#include "base/disk.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROCS_MAX 262144
#define ENVIRON_MAX (256u << 10)

/* Up to n - 1 bytes of a small file of /proc, NUL-terminated. */
static ot_rc read_small(const char *path, char *buf, size_t n, size_t *n_out, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    OT_TRY(d->ops->open(d, path, OT_OPEN_READ, 0, &f, err));
    size_t got = 0;
    ot_rc rc = f->ops->pread(f, buf, n - 1, 0, &got, err);
    ot_file_close(f);
    buf[rc == OT_OK ? got : 0] = 0;
    if (rc == OT_OK && n_out != NULL) {
        *n_out = got;
    }
    return rc;
}

void ot_launch_procs_done(ot_launch_procs *s)
{
    ot_free(s->v);
    *s = (ot_launch_procs){0};
}

static bool procs_add(ot_launch_procs *s, const ot_launch_proc *p)
{
    if (!ot_grow(&s->v, &s->cap, s->n, sizeof *s->v, PROCS_MAX)) {
        return false;
    }
    s->v[s->n++] = *p;
    return true;
}

/* proc(5): "pid (comm) state ppid pgrp session ..."; comm may hold spaces and parentheses. */
ot_rc ot_launch_proc_read(pid_t pid, ot_launch_proc *out, ot_error *err)
{
    char path[40], buf[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    OT_TRY(read_small(path, buf, sizeof buf, NULL, err));
    char *p = strrchr(buf, ')');
    int ppid, session;
    uint64_t start;
    int64_t rss;
    if (p == NULL ||
        sscanf(p + 1,
               " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64
               " %*u %" SCNd64,
               &out->state, &ppid, &session, &start, &rss) != 5) {
        return ot_fail(err, OT_INTERNAL, "%s: not in the form of proc(5)", path);
    }
    out->pid = pid;
    out->ppid = ppid;
    out->session = session;
    out->start_time = start;
    out->rss_bytes = rss > 0 ? (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
    return OT_OK;
}

bool ot_launch_proc_alive(pid_t pid, uint64_t start_time)
{
    ot_launch_proc p;
    return ot_launch_proc_read(pid, &p, NULL) == OT_OK && p.start_time == start_time &&
           p.state != 'Z' && p.state != 'X';
}

void ot_launch_boot_id(char out[40])
{
    size_t n = 0;
    if (read_small("/proc/sys/kernel/random/boot_id", out, 40, &n, NULL) != OT_OK) {
        out[0] = 0;
    }
    out[strcspn(out, "\n")] = 0;
}

static ot_rc scan_entry(void *arg, const char *name, ot_error *err)
{
    ot_launch_procs *s = arg;
    char *end;
    long pid = strtol(name, &end, 10);
    ot_launch_proc p;
    if (*end != 0 || pid <= 0 || ot_launch_proc_read((pid_t)pid, &p, NULL) != OT_OK) {
        return OT_OK; /* not a process, or it ended meanwhile */
    }
    if (!procs_add(s, &p)) {
        return ot_fail(err, OT_EXHAUSTED, "/proc: more than %d processes, or no memory", PROCS_MAX);
    }
    return OT_OK;
}

static ot_rc scan(ot_launch_procs *s, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    s->n = 0;
    return d->ops->list(d, "/proc", scan_entry, s, err);
}

static int by_pid(const void *a, const void *b)
{
    const ot_launch_proc *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

static ot_launch_proc *find(ot_launch_procs *s, pid_t pid)
{
    ot_launch_proc key = {.pid = pid};
    return s->n == 0 ? NULL : bsearch(&key, s->v, s->n, sizeof *s->v, by_pid);
}

/* Walks up to the root; the number of steps is bounded because /proc is not one snapshot. */
static bool descends(ot_launch_procs *s, const ot_launch_proc *p, pid_t root)
{
    for (int i = 0; p != NULL && i < 1024; i++) {
        if (p->ppid == root) {
            return true;
        }
        p = p->ppid > 1 ? find(s, p->ppid) : NULL;
    }
    return false;
}

ot_rc ot_launch_procs_tree(ot_launch_procs *s, pid_t root, ot_error *err)
{
    OT_TRY(scan(s, err));
    if (s->n > 0) {
        qsort(s->v, s->n, sizeof *s->v, by_pid);
    }
    ot_launch_procs kept = {0};
    for (size_t i = 0; i < s->n; i++) {
        if (s->v[i].state != 'Z' && s->v[i].state != 'X' && descends(s, &s->v[i], root) &&
            !procs_add(&kept, &s->v[i])) {
            ot_launch_procs_done(&kept);
            return ot_fail(err, OT_EXHAUSTED, "processes of the run: no memory to list them");
        }
    }
    ot_launch_procs_done(s);
    *s = kept;
    return OT_OK;
}

void ot_launch_procs_kill_tree(ot_launch_procs *s, pid_t root)
{
    if (ot_launch_procs_tree(s, root, NULL) != OT_OK) {
        s->n = 0;
    }
    for (size_t i = 0; i < s->n; i++) {
        ot_launch_proc_signal(&s->v[i], SIGKILL);
    }
}

static bool has_mark(pid_t pid, const char *entry, char *buf)
{
    char path[40];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    if (read_small(path, buf, ENVIRON_MAX, &n, NULL) != OT_OK) {
        return false; /* gone, or another user's */
    }
    const char *at = memmem(buf, n, entry, strlen(entry));
    return at != NULL && (at == buf || at[-1] == 0);
}

ot_rc ot_launch_procs_left(ot_launch_procs *s, pid_t session, uint64_t start_time,
                           const char *entry, ot_error *err)
{
    char *buf = ot_alloc(ENVIRON_MAX);
    if (buf == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "processes of the run: no memory to look at them");
    }
    ot_rc rc = scan(s, err);
    /* A number is not given to a new process while a session bears it: if somebody has it now, the
     * session is empty and its number means somebody else. */
    bool by_session = true;
    for (size_t i = 0; rc == OT_OK && i < s->n; i++) {
        by_session = by_session && (s->v[i].pid != session || s->v[i].state == 'Z');
    }
    size_t kept = 0;
    for (size_t i = 0; rc == OT_OK && i < s->n; i++) {
        ot_launch_proc p = s->v[i];
        bool ours = by_session && p.session == session && p.start_time >= start_time;
        if (p.pid != getpid() && p.state != 'Z' && p.state != 'X' &&
            (ours || has_mark(p.pid, entry, buf))) {
            s->v[kept++] = p;
        }
    }
    s->n = kept;
    ot_free(buf);
    return rc;
}

uint64_t ot_launch_proc_pss(const ot_launch_proc *p)
{
    char path[48], buf[2048];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)p->pid);
    uint64_t kb;
    const char *at =
        read_small(path, buf, sizeof buf, NULL, NULL) == OT_OK ? strstr(buf, "\nPss:") : NULL;
    if (at == NULL || sscanf(at + 5, " %" SCNu64, &kb) != 1) {
        return p->rss_bytes;
    }
    return kb * 1024;
}

void ot_launch_proc_doing(pid_t pid, char *out, size_t size)
{
    char path[40], status[4096], where[128], state[64] = "is gone";
    int threads = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (read_small(path, status, sizeof status, NULL, NULL) == OT_OK) {
        const char *at = strstr(status, "\nState:"), *n = strstr(status, "\nThreads:");
        char word[48] = "";
        if (at != NULL && sscanf(at, "\nState: %*c (%47[^)]", word) == 1) {
            snprintf(state, sizeof state, "is %s", word);
        }
        (void)(n != NULL && sscanf(n, "\nThreads: %d", &threads));
    }
    snprintf(path, sizeof path, "/proc/%d/wchan", (int)pid);
    bool known = read_small(path, where, sizeof where, NULL, NULL) == OT_OK && where[0] != 0 &&
                 strcmp(where, "0") != 0;
    snprintf(out, size, "%s%s%s, %d threads", state, known ? " in " : "", known ? where : "",
             threads);
}

void ot_launch_part(bool background)
{
    if (!background) {
        (void)setsid(); /* refused when we lead a session already: as good */
        return;
    }
    (void)setpgid(0, 0);
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (tty >= 0) {
        (void)ioctl(tty, TIOCNOTTY);
        close(tty);
    }
}

void ot_launch_proc_background(pid_t pid)
{
    char path[40];
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    snprintf(path, sizeof path, "/proc/%d/autogroup", (int)pid);
    if (d->ops->open(d, path, OT_OPEN_WRITE, 0, &f, NULL) == OT_OK) {
        (void)f->ops->append(f, "19", 2, NULL); /* refused when too frequent: the next scan comes */
        ot_file_close(f);
    }
}

int ot_launch_proc_open(pid_t pid, uint64_t start_time)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        return -1;
    }
    /* The descriptor holds whoever had the number when it was opened: check that it is ours. */
    if (!ot_launch_proc_alive(pid, start_time)) {
        close(fd);
        return -1;
    }
    return fd;
}

void ot_launch_proc_signal(const ot_launch_proc *p, int signo)
{
    int fd = ot_launch_proc_open(p->pid, p->start_time);
    if (fd >= 0) {
        (void)syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0);
        close(fd);
    }
}
