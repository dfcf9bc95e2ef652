#include "launch/spare.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "launch/internal.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANSWER_US 5000000 /* how long its shim may take to answer before it is ended */

struct ot_launch_spare {
    int channel, pidfd; /* of its shim */
    char *key;          /* what a run must have to fit */
    ot_launch_spare_state state;
    uint64_t memory;
    char why[300];
};

/* --- what fits ------------------------------------------------------------------------------- */

static bool is_runs_own(const char *name)
{
    return ot_has_prefix(name, "OVERTAKE_");
}

/* All that takes effect before the script is known, as a text. */
static ot_rc make_key(const ot_launch_spec *spec, const ot_launch_python *py, char **out,
                      ot_error *err)
{
    json_t *words = json_array(), *env = json_object();
    for (size_t i = 0; i < py->script; i++) {
        json_array_append_new(words, json_string(py->words[i]));
    }
    for (size_t i = 0; i < spec->n_env; i++) {
        const char *v = spec->env[i].value;
        if (!is_runs_own(spec->env[i].name)) {
            json_object_set_new(env, spec->env[i].name, v != NULL ? json_string(v) : json_null());
        }
    }
    json_t *key =
        json_pack("{s:o,s:o,s:I,s:i,s:i,s:b,s:i}", "python", words, "env", env, "memory",
                  (json_int_t)spec->memory_limit_bytes, "nice", spec->nice, "weight",
                  (int)spec->cpu_weight, "background", spec->background, "np", (int)spec->np);
    *out = key != NULL ? json_dumps(key, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(key);
    return *out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for it");
}

static const char *path_of_modules(const ot_launch_spec *spec)
{
    for (size_t i = 0; i < spec->n_env; i++) {
        if (strcmp(spec->env[i].name, "PYTHONPATH") == 0) {
            return spec->env[i].value;
        }
    }
    return getenv("PYTHONPATH");
}

/* A folder that is relative means another one where the run will work. */
static ot_rc check_path(const char *path, ot_error *err)
{
    for (const char *p = path; p != NULL && *path != 0; p = strchr(p, ':')) {
        p += p != path;
        if (*p != '/') {
            return ot_fail(err, OT_INVALID, "PYTHONPATH holds a folder that is not absolute");
        }
    }
    return OT_OK;
}

static ot_rc check(const ot_launch_spare_ask *ask, ot_launch_python *py, ot_error *err)
{
    OT_TRY(ot_launch_spec_python(ask->spec, py, err));
    OT_TRY(check_path(path_of_modules(ask->spec), err));
    if (ask->n_modules == 0 || ask->n_modules > OT_LAUNCH_MODULES_MAX) {
        return ot_fail(err, OT_INVALID, "%zu modules to import; 1 to %d are allowed",
                       ask->n_modules, OT_LAUNCH_MODULES_MAX);
    }
    for (size_t i = 0; i < ask->n_modules; i++) {
        if (!ot_launch_module_ok(ask->modules[i])) {
            return ot_fail(err, OT_INVALID, "'%.80s' is not a module's name", ask->modules[i]);
        }
    }
    return OT_OK;
}

/* --- starting and watching ------------------------------------------------------------------- */

/* Two messages: the spec; then the memory that it may take and the modules, each with a NUL. */
static ot_rc tell(const ot_launch_spare *s, const ot_launch_spare_ask *ask, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str more = OT_STR_INIT;
    uint64_t until = ot_clock_mono_ns() + ANSWER_US * 1000ull;
    char *text = NULL;
    ot_str_addf(&more, "%" PRIu64, ask->memory_max);
    for (size_t i = 0; i < ask->n_modules; i++) {
        ot_str_addc(&more, 0);
        ot_str_adds(&more, ask->modules[i]);
    }
    OT_TRY(ot_launch_spec_text(ask->spec, &text, err));
    ot_rc rc = more.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for it")
                           : ot_sock_send_msg(s->channel, text, strlen(text), -1, until, err);
    free(text);
    return rc != OT_OK ? rc : ot_sock_send_msg(s->channel, more.data, more.len, -1, until, err);
}

static ot_rc start(ot_launch_spare *s, const ot_launch_spare_ask *ask, ot_error *err)
{
    int pair[2];
    OT_TRY(ot_sock_pair(pair, err));
    s->channel = pair[0];
    ot_launch_detached d = {.what = "-",
                            .option = "--spare-fd",
                            .exe = ask->exe,
                            .log = "/dev/null",
                            .background = ask->spec->background,
                            .fd = pair[1]};
    ot_rc rc = ot_launch_detach(&d, &s->pidfd, err);
    ot_fd_close(&pair[1]);
    return rc == OT_OK ? tell(s, ask, err) : rc;
}

ot_rc ot_launch_spare_start(const ot_launch_spare_ask *ask, ot_launch_spare **out, ot_error *err)
{
    ot_launch_python py;
    OT_TRY(check(ask, &py, err));
    ot_launch_spare *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for it");
    }
    s->channel = s->pidfd = -1;
    ot_rc rc = make_key(ask->spec, &py, &s->key, err);
    if (rc == OT_OK) {
        rc = start(s, ask, err);
    }
    if (rc != OT_OK) {
        ot_launch_spare_end(s);
        return rc;
    }
    *out = s;
    return OT_OK;
}

static bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

static void ended(ot_launch_spare *s, const char *why)
{
    s->state = OT_LAUNCH_SPARE_ENDED;
    snprintf(s->why, sizeof s->why, "%s", why);
    ot_fd_close(&s->channel);
}

ot_launch_spare_state ot_launch_spare_look(ot_launch_spare *s)
{
    while (s->channel >= 0 && readable(s->channel, 0)) {
        char *text = NULL;
        size_t n;
        int fd = -1;
        uint64_t until = ot_clock_mono_ns() + ANSWER_US * 1000ull; /* it writes whole messages */
        ot_rc rc = ot_sock_recv_msg(s->channel, sizeof s->why, until, &text, &n, &fd, NULL);
        ot_fd_close(&fd);
        if (rc != OT_OK) {
            ended(s, "it was killed");
        } else if (sscanf(text, "ready %" SCNu64, &s->memory) == 1) {
            s->state = OT_LAUNCH_SPARE_READY;
        } else {
            ended(s, text);
        }
        ot_free(text);
    }
    return s->state;
}

uint64_t ot_launch_spare_memory(const ot_launch_spare *s)
{
    return s->memory;
}

const char *ot_launch_spare_why(const ot_launch_spare *s)
{
    return s->why;
}

void ot_launch_spare_end(ot_launch_spare *s)
{
    if (s != NULL) {
        ot_fd_close(&s->channel);
        ot_fd_close(&s->pidfd);
        free(s->key);
        ot_free(s);
    }
}

/* --- giving ---------------------------------------------------------------------------------- */

static ot_rc fits(ot_launch_spare *s, const ot_launch_spec *spec, ot_error *err)
{
    ot_launch_python py;
    char *key = NULL;
    OT_TRY(ot_launch_spec_python(spec, &py, err));
    OT_TRY(make_key(spec, &py, &key, err));
    bool same = strcmp(key, s->key) == 0;
    free(key);
    if (!same) {
        return ot_fail(err, OT_PRECONDITION,
                       "the spare has another interpreter, environment or limits");
    }
    switch (ot_launch_spare_look(s)) {
    case OT_LAUNCH_SPARE_READY:
        /* What cannot be ended for certain could take the run twice. */
        return s->pidfd >= 0
                   ? OT_OK
                   : ot_fail(err, OT_UNAVAILABLE, "this kernel has no descriptors of processes");
    case OT_LAUNCH_SPARE_IMPORTS:
        return ot_fail(err, OT_UNAVAILABLE, "the spare was still importing");
    case OT_LAUNCH_SPARE_ENDED:
        break;
    }
    return ot_fail(err, OT_UNAVAILABLE, "the spare has ended: %.250s", s->why);
}

static ot_rc hear_taken(ot_launch_spare *s, uint64_t until, ot_error *err)
{
    char *text = NULL;
    size_t n;
    int fd = -1;
    OT_TRY(ot_sock_recv_msg(s->channel, sizeof s->why, until, &text, &n, &fd, err));
    ot_fd_close(&fd);
    bool taken = strcmp(text, "taken") == 0;
    ot_rc rc = taken ? OT_OK : ot_fail(err, OT_UNAVAILABLE, "the spare has ended: %.250s", text);
    ot_free(text);
    return rc;
}

/* The shim does not answer: from its death on it takes nothing any more. What it took before, it
 * said before. */
static ot_rc give_up(ot_launch_spare *s, ot_error *err)
{
    if (syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0) == 0) {
        (void)readable(s->pidfd, ANSWER_US / 1000);
    }
    return hear_taken(s, 1, err);
}

ot_rc ot_launch_spare_give(ot_launch_spare *s, const ot_launch_spec *spec, const char *rundir,
                           int lock_fd, int *pidfd_out, ot_error *err)
{
    uint64_t until = ot_clock_mono_ns() + ANSWER_US * 1000ull;
    OT_TRY(fits(s, spec, err));
    ot_rc rc = ot_sock_send_msg(s->channel, rundir, strlen(rundir), lock_fd, until, err);
    if (rc == OT_OK) {
        rc = hear_taken(s, until, err);
    }
    if (rc != OT_OK && give_up(s, err) != OT_OK) {
        return ot_fail(err, OT_UNAVAILABLE, "the spare was killed, or did not answer");
    }
    *pidfd_out = s->pidfd;
    s->pidfd = -1;
    return OT_OK;
}
