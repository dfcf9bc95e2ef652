/* Interpreters that wait for the ranks of a job in waiting (job_spare.h): children of the agent as
 * the ranks are, and each the program of one of them once it is given to it. */
#include "launch/job_agent.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "collective/meet.h"
#include "launch/internal.h"
#include "launch/spare.h"
#include "launch/spare_script.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HIGH_FD 16 /* above what a rank finds in place */
#define HEAR_NS 5000000000ull
#define EARLY_MAX 65536u
#define SAYS_MAX 4096u
#define FIRST_WORDS 9 /* of the interpreter's line, without its own */

extern char **environ;

static void fail(agent *a, const char *why)
{
    ot_job_channel_send(&a->channel, OT_JOB_FAILED, json_pack("{s:s}", "text", why), NULL, 0);
}

/* --- starting -------------------------------------------------------------------------------- */

/* sh -c 'exec "$@"' sh PYTHON... -c MAIN SCRIPT FD NOW MODULES... */
static size_t line(const agent *a, const char *fd, const char *now, const char **argv, size_t max)
{
    static const char *const shell[] = {"/bin/sh", "-c", "exec \"$@\"", "sh"};
    const json_t *python = json_object_get(a->prepare, "python");
    const json_t *modules = json_object_get(a->prepare, "modules");
    size_t n = OT_COUNT(shell), np = json_array_size(python), nm = json_array_size(modules);
    if (np == 0 || np > OT_LAUNCH_WORDS_MAX || nm == 0 || np + nm + FIRST_WORDS >= max) {
        return 0;
    }
    memcpy(argv, shell, sizeof shell);
    for (size_t i = 0; i < np; i++) {
        argv[n++] = json_string_value(json_array_get(python, i));
    }
    argv[n++] = "-c";
    argv[n++] = OT_SPARE_MAIN;
    argv[n++] = ot_spare_script;
    argv[n++] = fd;
    argv[n++] = now;
    for (size_t i = 0; i < nm; i++) {
        argv[n++] = json_string_value(json_array_get(modules, i));
    }
    argv[n] = NULL;
    return n;
}

static ot_rc start_one(agent *a, agent_spare *s, ot_error *err)
{
    const char *argv[OT_LAUNCH_WORDS_MAX + OT_LAUNCH_MODULES_MAX + FIRST_WORDS + 1];
    char fd[16], now[24];
    int pair[2];
    union {
        char **in;
        const char *const *out;
    } env = {.in = environ};
    OT_TRY(ot_sock_pair(pair, err));
    s->talk = pair[0];
    int theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, HIGH_FD);
    close(pair[1]);
    snprintf(fd, sizeof fd, "%d", theirs);
    snprintf(now, sizeof now, "%" PRId64, ot_clock_wall_us());
    ot_job_spawn spawn = {
        .argv = argv, .env = env.out, .cwd = "/", .key_fd = a->key_fd, .keep_fd = theirs};
    ot_rc rc = theirs >= 0 && line(a, fd, now, argv, OT_COUNT(argv)) > 0
                   ? ot_job_spawn_start(&spawn, &s->child, err)
                   : ot_fail(err, OT_INVALID, "what shall wait is no interpreter");
    if (theirs >= 0) {
        close(theirs);
    }
    return rc;
}

ot_rc agent_prepare(agent *a, ot_error *err)
{
    int64_t n = agent_spec_int(a->prepare, "np");
    if (n < 1 || n > OT_MEET_RANKS_MAX) {
        return ot_fail(err, OT_INVALID, "%" PRId64 " ranks in waiting; 1 to %d are allowed", n,
                       (int)OT_MEET_RANKS_MAX);
    }
    OT_TRY(agent_make_key_fd(a, err));
    agent_set_defaults((int)n);
    a->spares = ot_calloc((size_t)n, sizeof *a->spares);
    if (a->spares == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %" PRId64 " ranks in waiting", n);
    }
    for (; a->n_spares < (size_t)n; a->n_spares++) {
        agent_spare *s = &a->spares[a->n_spares];
        *s = (agent_spare){.talk = -1, .child = {.in = -1, .out = -1, .err = -1}};
        OT_TRY(start_one(a, s, err));
    }
    return OT_OK;
}

/* --- waiting --------------------------------------------------------------------------------- */

static void drain(agent_spare *s, int *fd)
{
    char buf[4096];
    ssize_t k;
    while (*fd >= 0 && (k = read(*fd, buf, sizeof buf)) != -1) {
        if (k == 0) {
            ot_fd_close(fd);
            return;
        }
        ot_str_add(&s->early, buf, OT_MIN((size_t)k, EARLY_MAX - s->early.len));
    }
}

/* True when all are ready. */
static bool all_ready(const agent *a)
{
    for (size_t i = 0; i < a->n_spares; i++) {
        if (!a->spares[i].ready) {
            return false;
        }
    }
    return true;
}

static ot_rc hear(agent_spare *s, uint64_t until, char **text, ot_error *err)
{
    size_t n;
    int fd = -1;
    ot_rc rc = ot_sock_recv_msg(s->talk, SAYS_MAX, until, text, &n, &fd, err);
    ot_fd_close(&fd);
    return rc;
}

static void heard(agent *a, agent_spare *s)
{
    char *text = NULL;
    if (hear(s, ot_clock_mono_ns() + HEAR_NS, &text, NULL) != OT_OK) {
        fail(a, "it ended by itself");
        ot_fd_close(&s->talk);
    } else if (strcmp(text, "ready") == 0) {
        s->ready = true;
        if (all_ready(a)) {
            ot_job_channel_send(&a->channel, OT_JOB_READY, NULL, NULL, 0);
        }
    } else {
        fail(a, text);
    }
    ot_free(text);
}

size_t agent_spares_poll(const agent *a, struct pollfd *p)
{
    size_t n = 0;
    for (size_t i = 0; a->spec == NULL && i < a->n_spares; i++) {
        const agent_spare *s = &a->spares[i];
        p[n++] = (struct pollfd){.fd = s->talk, .events = POLLIN};
        p[n++] = (struct pollfd){.fd = s->child.out, .events = POLLIN};
        p[n++] = (struct pollfd){.fd = s->child.err, .events = POLLIN};
    }
    return n;
}

void agent_spares_turn(agent *a, const struct pollfd *p)
{
    for (size_t i = 0; a->spec == NULL && i < a->n_spares; i++, p += 3) {
        agent_spare *s = &a->spares[i];
        drain(s, &s->child.out);
        drain(s, &s->child.err);
        if (p[0].revents != 0 && s->talk >= 0) {
            heard(a, s);
        }
    }
}

/* --- giving ---------------------------------------------------------------------------------- */

static void done(agent_spare *s)
{
    ot_fd_close(&s->talk);
    ot_fd_close(&s->child.out);
    ot_fd_close(&s->child.err);
    ot_str_done(&s->early);
    s->ready = s->offered = false;
}

static void end(agent_spare *s)
{
    if (s->child.pid > 0) {
        (void)kill(-s->child.pid, SIGKILL);
    }
    done(s);
}

/* The rank's words have this interpreter. */
static ot_rc fits(const agent *a, const json_t *words, ot_launch_python *py, ot_error *err)
{
    const json_t *python = json_object_get(a->prepare, "python");
    size_t n = json_array_size(words);
    const char *command = json_string_value(json_array_get(words, n > 0 ? n - 1 : 0));
    const ot_launch_spec spec = {.job = &command, .n_job = 1};
    if (n != 3 || command == NULL) {
        return ot_fail(err, OT_INVALID, "its ranks are no interpreters");
    }
    OT_TRY(ot_launch_spec_python(&spec, py, err));
    bool same = py->script == json_array_size(python);
    for (size_t i = 0; same && i < py->script; i++) {
        same = strcmp(py->words[i], json_string_value(json_array_get(python, i))) == 0;
    }
    return same ? OT_OK : ot_fail(err, OT_PRECONDITION, "the spare has another interpreter");
}

static void add(ot_str *out, const char *text)
{
    ot_str_add(out, text, strlen(text) + 1);
}

void agent_spare_offer(agent *a, agent_rank *r)
{
    ot_launch_python py;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    const json_t *words = json_object_get(a->spec, "argv");
    const char *cwd = json_string_value(json_object_get(a->spec, "cwd"));
    bool other = json_is_true(json_object_get(a->spec, "bind")) || /* what it has is in place */
                 agent_spec_int(a->spec, "input") == r->rank;
    agent_spare *s = a->next_spare < a->n_spares && !other ? &a->spares[a->next_spare++] : NULL;
    ot_error err = {0};
    r->spare = s;
    r->why[0] = 0;
    if (s == NULL) {
        return;
    }
    ot_rc rc = s->ready ? fits(a, words, &py, &err)
                        : ot_fail(&err, OT_UNAVAILABLE, "the spare was still importing, or killed");
    if (rc == OT_OK) {
        add(&text, cwd);
        ot_str_addf(&text, "%zu", py.n_words - py.script);
        ot_str_addc(&text, 0);
        for (size_t i = py.script; i < py.n_words; i++) {
            add(&text, py.words[i]);
        }
        for (char **e = environ; *e != NULL; e++) {
            ot_str_add(&text, *e, strlen(*e) + (e[1] != NULL));
        }
        rc = text.failed ? ot_fail(&err, OT_EXHAUSTED, "no memory to hand the rank over")
                         : ot_sock_send_msg(s->talk, text.data, text.len, -1,
                                            ot_clock_mono_ns() + HEAR_NS, &err);
    }
    s->offered = rc == OT_OK;
    if (rc != OT_OK) {
        snprintf(r->why, sizeof r->why, "%.200s", err.msg);
    }
}

static void tell_output(agent *a, const agent_rank *r, const char *text, size_t n)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    for (int b = 0; b < 4; b++) {
        ot_str_addc(&out, (char)((uint32_t)r->rank >> 8 * b));
    }
    ot_str_addc(&out, 2);
    ot_str_add(&out, text, n);
    if (n > 0 && !out.failed) {
        ot_job_channel_send(&a->channel, OT_JOB_OUTPUT, NULL, out.data, out.len);
    }
}

bool agent_spare_take(agent *a, agent_rank *r)
{
    agent_spare *s = r->spare;
    char *text = NULL, note[300];
    ot_error err = {0};
    r->spare = NULL;
    if (s == NULL) {
        return false;
    }
    bool taken = s->offered;
    if (taken && hear(s, ot_clock_mono_ns() + HEAR_NS, &text, &err) != OT_OK) {
        (void)kill(-s->child.pid, SIGKILL); /* it may have begun in the last moment */
        taken = hear(s, 1, &text, &err) == OT_OK;
    }
    if (taken && strcmp(text, "taken") != 0) {
        snprintf(r->why, sizeof r->why, "%.200s", text);
        taken = false;
    } else if (!taken && r->why[0] == 0) {
        snprintf(r->why, sizeof r->why, "the spare was killed, or did not answer");
    }
    ot_free(text);
    if (taken) {
        tell_output(a, r, s->early.data, s->early.len);
        r->child = s->child;
        s->child = (ot_job_child){.in = -1, .out = -1, .err = -1};
        done(s);
        return true;
    }
    int n = snprintf(note, sizeof note, "[overtake: started cold: %s]\n", r->why);
    tell_output(a, r, note, (size_t)n);
    end(s);
    return false;
}

void agent_spares_end(agent *a)
{
    for (size_t i = a->next_spare; i < a->n_spares; i++) {
        end(&a->spares[i]);
    }
    a->next_spare = a->n_spares;
}
