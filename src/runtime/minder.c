/* Who minds a worker process: starts it, loads the model in it, watches it, starts it again. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "launch/child.h"
#include "launch/proc.h"
#include "launch/sandbox.h"
#include "runtime/isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BACK_OFF_FIRST_MS 100
#define BACK_OFF_MAX_MS 30000
#define STEADY_NS UINT64_C(60000000000) /* up for so long: the back-off begins anew */
#define END_MS 1000                     /* for an orderly end, before it is killed */
#define LOOK_MS 1000                    /* between looks at memory and cache */
#define LOG_TAIL 4096
#define WALK_MAX 100000 /* entries of a cache that are added up */

struct ot_minder {
    ot_minder_spec spec;
    char *dir, *cache, *log; /* dir holds the two others; ours alone */
    pthread_t thread;
    int quit[2];
    /* Synchronization: written by the minder with `lock` held, read without. */
    _Atomic uint64_t up;
    pthread_mutex_t talk; /* one message and its answer at a time; before `lock` */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the first load has ended, or a process */
    /* Synchronization: under lock. */
    bool tried, stopping;
    ot_error why;
    json_t *loaded;
    pid_t pid;
    int sock; /* also read by who holds `talk` */
    char killed_for[200];
    /* The minder's own. */
    uint64_t started, number;
    unsigned back_off_ms;
};

/* ---- its folder */

static ot_rc make_dir(ot_minder *m, ot_error *err)
{
    const char *root = m->spec.how.dir != NULL ? m->spec.how.dir : getenv("TMPDIR");
    root = root != NULL ? root : "/tmp";
    m->dir = ot_asprintf("%s/overtake-worker-XXXXXX", root);
    if (m->dir == NULL || mkdtemp(m->dir) == NULL) {
        ot_rc rc =
            ot_fail_errno(err, m->dir == NULL ? ENOMEM : errno, "worker: a folder in %s", root);
        ot_free(m->dir);
        m->dir = NULL;
        return rc;
    }
    m->cache = ot_asprintf("%s/cache", m->dir);
    m->log = ot_asprintf("%s/log", m->dir);
    if (m->cache == NULL || m->log == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "worker: out of memory");
    }
    return ot_disk_mkdirs(ot_disk_scratch(), m->cache, 0700, err);
}

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

/* Waits for the process's end, then tells everybody who waits for it. */
static void reap(ot_minder *m)
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

static void kill_it(ot_minder *m, const char *reason)
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

/* ---- starting */

static bool env_passes(const char *entry)
{
    static const char *const prefixes[] = {
        "PATH=",         "HOME=",         "LANG=", "LC_",     "TZ=",           "LD_LIBRARY_PATH=",
        "VIRTUAL_ENV=",  "CONDA_PREFIX=", "OMP_",  "MKL_",    "OPENBLAS_",     "TF_",
        "KERAS_",        "ORT_",          "CUDA_", "NVIDIA_", "ASAN_OPTIONS=", "UBSAN_OPTIONS=",
        "TSAN_OPTIONS=",
    };
    for (size_t i = 0; i < OT_COUNT(prefixes); i++) {
        if (ot_has_prefix(entry, prefixes[i])) {
            return true;
        }
    }
    const char *equals = strchr(entry, '=');
    return ot_has_prefix(entry, "OVERTAKE_") && equals != NULL && equals - entry > 4 &&
           ot_has_prefix(equals - 4, "_LIB=");
}

static const char **make_env(const ot_minder *m, ot_arena *a)
{
    extern char **environ;
    size_t n = 0, used = 0;
    while (environ[n] != NULL) {
        n++;
    }
    const char **env = ot_arena_calloc(a, n + 8, sizeof *env);
    if (env == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (env_passes(environ[i])) {
            env[used++] = environ[i];
        }
    }
    env[used++] = ot_arena_printf(a, "TMPDIR=%s", m->cache);
    env[used++] = ot_arena_printf(a, "XDG_CACHE_HOME=%s", m->cache);
    env[used++] = ot_arena_printf(a, "OVERTAKE_WORKER_CACHE=%s", m->cache);
    env[used++] = "PYTHONDONTWRITEBYTECODE=1";
    env[used++] = "PYTHONUNBUFFERED=1";
    return env[used - 3] != NULL && env[used - 4] != NULL && env[used - 5] != NULL ? env : NULL;
}

static ot_rc spawn(ot_minder *m, ot_error *err)
{
    int pair[2];
    ot_file *log;
    ot_disk *d = ot_disk_scratch();
    OT_TRY(
        d->ops->open(d, m->log, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_APPEND, 0600, &log, err));
    ot_rc rc = ot_sock_pair(pair, err);
    if (rc != OT_OK) {
        ot_file_close(log);
        return rc;
    }
    ot_arena a;
    ot_arena_init(&a, 65536, 4u << 20);
    int fds[2] = {pair[1], m->spec.extra_fd};
    ot_launch_child child = {.exe = m->spec.how.program != NULL ? m->spec.how.program
                                                                : "/proc/self/exe",
                             .argv = m->spec.argv,
                             .env = make_env(m, &a),
                             .fds = fds,
                             .n_fds = m->spec.extra_fd >= 0 ? 2 : 1,
                             .output = log->ops->fd(log)};
    pid_t pid = 0;
    rc = child.env == NULL ? ot_fail(err, OT_EXHAUSTED, "worker: out of memory")
                           : ot_launch_child_start(&child, &pid, err);
    ot_arena_done(&a);
    ot_file_close(log);
    ot_fd_close(&pair[1]);
    if (rc != OT_OK) {
        ot_fd_close(&pair[0]);
        return rc;
    }
    pthread_mutex_lock(&m->lock);
    m->pid = pid;
    m->sock = pair[0];
    bool stopping = m->stopping;
    pthread_mutex_unlock(&m->lock);
    if (stopping) {
        kill_it(m, "the model is unloaded");
    }
    return OT_OK;
}

static ot_rc send_json(ot_minder *m, const json_t *message, int pass_fd, uint64_t until,
                       ot_error *err)
{
    char *text = json_dumps(message, JSON_COMPACT);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "worker: a message that cannot be written as JSON");
    }
    ot_rc rc = ot_sock_send_msg(m->sock, text, strlen(text), pass_fd, until, err);
    free(text);
    return rc;
}

/* {"ok": true, ...} or the error that the worker has. */
static ot_rc receive(ot_minder *m, uint64_t until, json_t **reply_out, ot_error *err)
{
    char *text;
    size_t n;
    int fd;
    OT_TRY(ot_sock_recv_msg(m->sock, OT_RING_TEXT_MAX, until, &text, &n, &fd, err));
    ot_fd_close(&fd); /* nothing that a worker sends is taken */
    json_error_t where;
    json_t *reply = json_loadb(text, n, 0, &where);
    ot_free(text);
    if (!json_is_object(reply)) {
        json_decref(reply);
        return ot_fail(err, OT_INTERNAL, "the worker's answer is not JSON: %s", where.text);
    }
    if (!json_is_true(json_object_get(reply, "ok"))) {
        json_int_t code = json_integer_value(json_object_get(reply, "code"));
        const char *why = json_string_value(json_object_get(reply, "message"));
        ot_rc rc = ot_fail(err, code < 0 && code >= OT_UNAUTHENTICATED ? (ot_rc)code : OT_INTERNAL,
                           "%s", why != NULL ? why : "no reason was given");
        json_decref(reply);
        return rc;
    }
    *reply_out = reply;
    return OT_OK;
}

/* The filter of system calls, for a worker that installs it itself: hex, for the pid that it has.
 */
static json_t *filter_text(pid_t pid)
{
    struct sock_filter code[OT_SANDBOX_FILTER_MAX];
    char hex[sizeof code * 2 + 1];
    size_t n = ot_sandbox_filter(ot_sandbox_has_files(), pid, code);
    ot_hex((const uint8_t *)code, n * sizeof code[0], hex);
    return json_string(hex);
}

static ot_rc load(ot_minder *m, json_t **loaded_out, ot_error *err)
{
    json_object_set_new(m->spec.load, "cache", json_string(m->cache));
    json_object_set_new(m->spec.load, "filter", filter_text(m->pid));
    json_object_set_new(m->spec.load, "log", json_string(m->log));
    uint64_t until = ot_clock_mono_ns() + (uint64_t)m->spec.how.load_us * 1000;
    ot_rc rc = OT_OK;
    if (m->spec.program != NULL) {
        json_object_set_new(m->spec.program, "cache", json_string(m->cache));
        rc = send_json(m, m->spec.program, -1, until, err);
    }
    if (rc == OT_OK) {
        rc = send_json(m, m->spec.load, -1, until, err);
    }
    if (rc == OT_OK) {
        rc = receive(m, until, loaded_out, err);
    }
    if (rc == OT_TIMEOUT) {
        char text[32];
        kill_it(m, "loading took too long");
        return ot_fail(err, OT_TIMEOUT, "loading took over %s",
                       ot_format_duration(m->spec.how.load_us, text));
    }
    return rc;
}

static ot_rc start(ot_minder *m, json_t **loaded_out, ot_error *err)
{
    m->started = ot_clock_mono_ns();
    OT_TRY(spawn(m, err));
    ot_rc rc = load(m, loaded_out, err);
    if (rc == OT_OK) {
        return OT_OK;
    }
    struct pollfd p = {.fd = m->sock, .events = POLLRDHUP};
    bool died = poll(&p, 1, 0) > 0;
    if (!died) {
        kill_it(m, "the model could not be loaded");
    }
    reap(m);
    if (died) {
        pthread_mutex_lock(&m->lock);
        rc = ot_fail(err, OT_INTERNAL, "while loading: %s", m->why.msg);
        pthread_mutex_unlock(&m->lock);
    }
    return rc;
}

/* ---- watching */

static bool quits(ot_minder *m, int timeout_ms)
{
    struct pollfd p = {.fd = m->quit[0], .events = POLLIN};
    return poll(&p, 1, timeout_ms) > 0;
}

static void look(ot_minder *m)
{
    char reason[160], size[32];
    const ot_isolation *how = &m->spec.how;
    ot_launch_proc p;
    if (how->memory_max > 0 && ot_launch_proc_read(m->pid, &p, NULL) == OT_OK &&
        p.rss_bytes > how->memory_max) {
        snprintf(reason, sizeof reason, "it holds more memory than %s",
                 ot_format_size(how->memory_max, size));
        kill_it(m, reason);
        return;
    }
    walk w = {.dir = m->dir};
    ot_disk *d = ot_disk_scratch();
    ot_rc rc = d->ops->list(d, m->dir, add_entry, &w, NULL);
    if (w.bytes > how->cache_max || rc == OT_EXHAUSTED) {
        snprintf(reason, sizeof reason, "it wrote more than %s, or %d files, to its cache and log",
                 ot_format_size(how->cache_max, size), WALK_MAX);
        kill_it(m, reason);
    }
}

/* Until the process has ended; false when the model is unloaded. */
static bool watch(ot_minder *m)
{
    for (;;) {
        struct pollfd p[] = {{.fd = m->sock, .events = POLLRDHUP},
                             {.fd = m->quit[0], .events = POLLIN}};
        int n = poll(p, 2, LOOK_MS);
        if (n > 0 && p[1].revents != 0) {
            return false;
        }
        if (n > 0 && p[0].revents != 0) {
            kill_it(m, "");
            return true;
        }
        if (n == 0) {
            look(m);
        }
    }
}

static void back_off(ot_minder *m)
{
    bool steady = ot_clock_mono_ns() - m->started > STEADY_NS;
    m->back_off_ms = steady || m->back_off_ms == 0
                         ? BACK_OFF_FIRST_MS
                         : OT_MIN(m->back_off_ms * 2, (unsigned)BACK_OFF_MAX_MS);
    pthread_mutex_lock(&m->lock);
    ot_err("isolate", "%s; it is started again in %u ms", m->why.msg, m->back_off_ms);
    pthread_mutex_unlock(&m->lock);
}

static void first_ends(ot_minder *m, ot_rc rc, const ot_error *err, json_t *loaded)
{
    pthread_mutex_lock(&m->lock);
    if (rc != OT_OK) {
        m->why = *err;
    }
    m->loaded = loaded;
    m->tried = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

/* The end: the socket closes, the process leaves, or is made to. */
static void end_process(ot_minder *m)
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

static void *minder_main(void *arg)
{
    ot_minder *m = arg;
    for (bool first = true;; first = false) {
        ot_error err;
        json_t *loaded = NULL;
        ot_rc rc = start(m, &loaded, &err);
        if (rc == OT_OK) {
            pthread_mutex_lock(&m->lock);
            atomic_store(&m->up, ++m->number);
            pthread_mutex_unlock(&m->lock);
        }
        if (first) {
            first_ends(m, rc, &err, loaded);
            if (rc != OT_OK) {
                return NULL;
            }
        } else {
            json_decref(loaded);
        }
        if (rc == OT_OK) {
            if (!watch(m)) {
                end_process(m);
                return NULL;
            }
            reap(m);
        } else {
            pthread_mutex_lock(&m->lock);
            (void)ot_fail(&m->why, OT_UNAVAILABLE, "model %s could not be loaded again: %s",
                          m->spec.name, err.msg);
            pthread_mutex_unlock(&m->lock);
        }
        back_off(m);
        if (quits(m, (int)m->back_off_ms)) {
            return NULL;
        }
    }
}

ot_rc ot_minder_create(const ot_minder_spec *spec, ot_minder **m_out, json_t **loaded_out,
                       ot_error *err)
{
    ot_minder *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        json_decref(spec->load);
        json_decref(spec->program);
        return ot_fail(err, OT_EXHAUSTED, "worker: out of memory");
    }
    m->spec = *spec;
    m->sock = m->quit[0] = m->quit[1] = -1;
    pthread_mutex_init(&m->talk, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    ot_rc rc = make_dir(m, err);
    if (rc == OT_OK && pipe2(m->quit, O_CLOEXEC) != 0) {
        rc = ot_fail_errno(err, errno, "worker: pipe");
    }
    if (rc == OT_OK && pthread_create(&m->thread, NULL, minder_main, m) != 0) {
        ot_fd_close(&m->quit[1]);
        rc = ot_fail(err, OT_UNAVAILABLE, "worker: no thread");
    }
    if (rc == OT_OK) {
        pthread_mutex_lock(&m->lock);
        while (!m->tried) {
            pthread_cond_wait(&m->changed, &m->lock);
        }
        pthread_mutex_unlock(&m->lock);
        *loaded_out = m->loaded;
        rc = m->loaded != NULL ? OT_OK : ot_fail(err, m->why.rc, "%s", m->why.msg);
    }
    if (rc != OT_OK) {
        ot_minder_destroy(m);
        return rc;
    }
    *m_out = m;
    return OT_OK;
}

void ot_minder_destroy(ot_minder *m)
{
    if (m == NULL) {
        return;
    }
    if (m->quit[1] >= 0) {
        pthread_mutex_lock(&m->lock);
        m->stopping = true;
        bool up = atomic_load(&m->up) != 0;
        pthread_mutex_unlock(&m->lock);
        if (!up) {
            kill_it(m, "the model is unloaded"); /* in the middle of being loaded again */
        }
        ssize_t k = write(m->quit[1], "q", 1);
        (void)k;
        pthread_join(m->thread, NULL);
    }
    ot_fd_close(&m->quit[0]);
    ot_fd_close(&m->quit[1]);
    ot_error err;
    if (m->dir != NULL && ot_disk_remove_tree(ot_disk_scratch(), m->dir, &err) != OT_OK) {
        ot_warn("isolate", "model %s: %s", m->spec.name, err.msg);
    }
    json_decref(m->spec.load);
    json_decref(m->spec.program);
    ot_free(m->dir);
    ot_free(m->cache);
    ot_free(m->log);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->talk);
    ot_free(m);
}

/* ---- talking */

uint64_t ot_minder_up(const ot_minder *m)
{
    return atomic_load_explicit(&m->up, memory_order_acquire);
}

void ot_minder_why(ot_minder *m, ot_error *err)
{
    pthread_mutex_lock(&m->lock);
    (void)ot_fail(err, OT_UNAVAILABLE, "%s; it is started again",
                  m->why.msg[0] != '\0' ? m->why.msg : "its worker process is gone");
    pthread_mutex_unlock(&m->lock);
}

pid_t ot_minder_pid(ot_minder *m)
{
    pthread_mutex_lock(&m->lock);
    pid_t pid = m->pid;
    pthread_mutex_unlock(&m->lock);
    return pid;
}

/* What is known only then is how it died. */
static void wait_for_death(ot_minder *m, uint64_t up)
{
    struct timespec until;
    (void)timespec_get(&until, TIME_UTC);
    until.tv_sec += 2;
    pthread_mutex_lock(&m->lock);
    while (up != 0 && ot_minder_up(m) == up &&
           pthread_cond_timedwait(&m->changed, &m->lock, &until) != ETIMEDOUT) {
    }
    pthread_mutex_unlock(&m->lock);
}

ot_rc ot_minder_tell(ot_minder *m, uint64_t up, json_t *message, int pass_fd, bool reply,
                     ot_error *err)
{
    json_t *answer = NULL;
    ot_rc rc;
    pthread_mutex_lock(&m->talk);
    if (message == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "worker: out of memory");
    } else if (up == 0 || ot_minder_up(m) != up) {
        rc = OT_UNAVAILABLE;
    } else {
        uint64_t until = ot_clock_mono_ns() + (uint64_t)m->spec.how.hang_us * 1000;
        rc = send_json(m, message, pass_fd, until, err);
        if (rc == OT_OK && reply) {
            rc = receive(m, until, &answer, err);
        }
    }
    pthread_mutex_unlock(&m->talk);
    json_decref(message);
    json_decref(answer);
    if (rc == OT_TIMEOUT) {
        char why[80], text[32];
        snprintf(why, sizeof why, "it did not answer within %s",
                 ot_format_duration(m->spec.how.hang_us, text));
        ot_minder_kill(m, up, why);
        rc = OT_UNAVAILABLE;
    }
    if (rc == OT_UNAVAILABLE) {
        wait_for_death(m, up);
        ot_minder_why(m, err);
    }
    return rc;
}

void ot_minder_kill(ot_minder *m, uint64_t up, const char *reason)
{
    if (ot_minder_up(m) == up) {
        kill_it(m, reason);
    }
}
