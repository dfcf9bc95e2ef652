/* Watching a worker process: what it takes, its death and what is told of it, its end. */
#include "runtime/minder.h"

#include "base/clock.h"
#include "base/mem.h"
#include "launch/proc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define END_MS 1000   /* for an orderly end, before it is killed */
#define LOOK_MS 1000  /* between looks at cache and log */
#define MEMORY_MS 100 /* at memory, where there is a limit */
#define LOG_TAIL 4096
#define WALK_MAX 100000 /* entries of a cache that are added up */

/* ---- death */

/* The last line of its log that is not blank: where a crash says why. */
static void add_log_tail(const ot_minder *m, ot_str *out)
{
    char buffer[LOG_TAIL + 1];
    size_t n = 0;
    ot_file *f;
    ot_disk *d = ot_disk_scratch();
    uint64_t size = 0;
    if (d->ops->open(d, m->log, OT_OPEN_READ, 0, &f, NULL) != OT_OK) {
        return;
    }
    if (f->ops->size(f, &size, NULL) == OT_OK) {
        uint64_t from = size > LOG_TAIL ? size - LOG_TAIL : 0;
        if (f->ops->pread(f, buffer, LOG_TAIL, from, &n, NULL) != OT_OK) {
            n = 0;
        }
    }
    ot_file_close(f);
    while (n > 0 && (unsigned char)buffer[n - 1] <= ' ') {
        n--;
    }
    buffer[n] = '\0';
    const char *line = strrchr(buffer, '\n');
    line = line != NULL ? line + 1 : buffer;
    if (*line != '\0') {
        ot_str_adds(out, "; its log ends: ");
        for (size_t i = 0; line[i] != '\0' && i < 300; i++) {
            ot_str_addc(out, (unsigned char)line[i] < ' ' ? '?' : line[i]);
        }
    }
}

static void tell_death(ot_minder *m, pid_t pid, int status)
{
    OT_AUTO(ot_str_done) ot_str how = OT_STR_INIT;
    pthread_mutex_lock(&m->lock);
    if (m->killed_for[0] != '\0') {
        ot_str_addf(&how, "was ended: %s", m->killed_for);
    } else if (WIFSIGNALED(status)) {
        int signo = WTERMSIG(status);
        ot_str_addf(&how, "was killed by signal %d (%s)%s", signo, strsignal(signo),
                    signo == SIGKILL ? ", perhaps for lack of memory" : "");
    } else {
        ot_str_addf(&how, "ended by itself with code %d", WEXITSTATUS(status));
    }
    add_log_tail(m, &how);
    m->killed_for[0] = '\0';
    (void)ot_fail(&m->why, OT_UNAVAILABLE, "model %s: its worker process %d %s", m->spec.name,
                  (int)pid, how.data);
    atomic_store(&m->up, 0);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

void ot_minder_reap(ot_minder *m)
{
    siginfo_t info;
    int status = 0;
    pid_t pid = m->pid;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&m->talk);
    pthread_mutex_lock(&m->lock); /* who kills looks at pid under it: no other's number is meant */
    (void)waitpid(pid, &status, 0);
    m->pid = 0;
    ot_fd_close(&m->sock);
    pthread_mutex_unlock(&m->lock);
    tell_death(m, pid, status);
    pthread_mutex_unlock(&m->talk);
    m->spec.down(m->spec.arg);
}

void ot_minder_end(ot_minder *m, const char *reason)
{
    pthread_mutex_lock(&m->lock);
    if (m->pid > 0) {
        if (m->killed_for[0] == '\0') {
            snprintf(m->killed_for, sizeof m->killed_for, "%s", reason);
        }
        (void)kill(m->pid, SIGKILL);
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- watching */

typedef struct walk {
    const char *dir;
    uint64_t bytes;
    unsigned entries;
} walk;

static ot_rc add_entry(void *arg, const char *name, ot_error *err)
{
    walk *w = arg;
    ot_disk *d = ot_disk_scratch();
    char path[OT_PATH_MAX];
    ot_stat st;
    if (++w->entries > WALK_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "over %d entries", WALK_MAX);
    }
    OT_TRY(ot_path_join(path, w->dir, name, err));
    if (d->ops->stat(d, path, &st, NULL) != OT_OK) {
        return OT_OK; /* gone meanwhile */
    }
    w->bytes += st.size;
    if (st.is_dir) {
        walk below = {.dir = path, .bytes = w->bytes, .entries = w->entries};
        ot_rc rc = d->ops->list(d, path, add_entry, &below, err);
        w->bytes = below.bytes;
        w->entries = below.entries;
        return rc == OT_EXHAUSTED ? rc : OT_OK;
    }
    return OT_OK;
}

/* Memory grows faster than files do. */
static void look_at_memory(ot_minder *m)
{
    char reason[160], size[32], max[32];
    uint64_t most = m->spec.how.memory_max;
    ot_launch_proc p;
    if (most > 0 && ot_launch_proc_read(m->pid, &p, NULL) == OT_OK && p.rss_bytes > most) {
        snprintf(reason, sizeof reason,
                 "it holds %s of memory, more than the %s that its process may (process_memory)",
                 ot_format_size(p.rss_bytes, size), ot_format_size(most, max));
        ot_minder_end(m, reason);
    }
}

static void look_at_files(ot_minder *m)
{
    char reason[160], size[32];
    const ot_isolation *how = &m->spec.how;
    walk w = {.dir = m->dir};
    ot_disk *d = ot_disk_scratch();
    ot_rc rc = d->ops->list(d, m->dir, add_entry, &w, NULL);
    if (w.bytes > how->cache_max || rc == OT_EXHAUSTED) {
        snprintf(reason, sizeof reason, "it wrote more than %s, or %d files, to its cache and log",
                 ot_format_size(how->cache_max, size), WALK_MAX);
        ot_minder_end(m, reason);
    }
}

bool ot_minder_watch(ot_minder *m)
{
    int step = m->spec.how.memory_max > 0 ? MEMORY_MS : LOOK_MS;
    for (int passed = 0;;) {
        struct pollfd p[] = {{.fd = m->sock, .events = POLLRDHUP},
                             {.fd = m->quit[0], .events = POLLIN}};
        int n = poll(p, 2, step);
        if (n > 0 && p[1].revents != 0) {
            return false;
        }
        if (n > 0 && p[0].revents != 0) {
            ot_minder_end(m, "");
            return true;
        }
        if (n == 0) {
            look_at_memory(m);
            passed += step;
        }
        if (passed >= LOOK_MS) {
            look_at_files(m);
            passed = 0;
        }
    }
}

void ot_minder_leave(ot_minder *m)
{
    pthread_mutex_lock(&m->lock);
    atomic_store(&m->up, 0);
    pid_t pid = m->pid;
    m->pid = 0; /* from here on it is this function's */
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_lock(&m->talk);
    ot_fd_close(&m->sock);
    pthread_mutex_unlock(&m->talk);
    uint64_t until = ot_clock_mono_ns() + END_MS * UINT64_C(1000000);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (ot_clock_mono_ns() > until) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, NULL, 0);
            return;
        }
        ot_clock_sleep_us(500);
    }
}
