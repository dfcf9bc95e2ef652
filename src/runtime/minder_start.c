/* Starting a worker process: its folder, its environment, the messages that load the model in it.
 */
#include "runtime/minder.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "launch/child.h"
#include "launch/sandbox.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* ---- its folder */

ot_rc ot_minder_make_dir(ot_minder *m, ot_error *err)
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
        ot_minder_end(m, "the model is unloaded");
    }
    return OT_OK;
}

ot_rc ot_minder_send(ot_minder *m, const json_t *message, int pass_fd, uint64_t until,
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

ot_rc ot_minder_receive(ot_minder *m, uint64_t until, json_t **reply_out, ot_error *err)
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
        rc = ot_minder_send(m, m->spec.program, -1, until, err);
    }
    if (rc == OT_OK) {
        rc = ot_minder_send(m, m->spec.load, -1, until, err);
    }
    if (rc == OT_OK) {
        rc = ot_minder_receive(m, until, loaded_out, err);
    }
    if (rc == OT_TIMEOUT) {
        char text[32];
        ot_minder_end(m, "loading took too long");
        return ot_fail(err, OT_TIMEOUT, "loading took over %s",
                       ot_format_duration(m->spec.how.load_us, text));
    }
    return rc;
}

ot_rc ot_minder_start(ot_minder *m, json_t **loaded_out, ot_error *err)
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
        ot_minder_end(m, "the model could not be loaded");
    }
    ot_minder_reap(m);
    if (died) {
        pthread_mutex_lock(&m->lock);
        rc = ot_fail(err, OT_INTERNAL, "while loading: %s", m->why.msg);
        pthread_mutex_unlock(&m->lock);
    }
    return rc;
}
