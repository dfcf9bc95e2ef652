/* A shim that waits for its run, and the interpreter in it that waits too. */
#include "launch/shim_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "launch/spare.h"
#include "launch/spare_script.h"
#include "launch/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define TICK_MS 100
#define HEAR_NS 5000000000ull /* the other side's time for what it does at once */
#define EARLY_MAX 65536u
#define SAYS_MAX 4096u
#define FIRST_WORDS 11 /* before the modules */

/* --- starting the interpreter ---------------------------------------------------------------- */

static ot_rc hear(int fd, size_t max, uint64_t until, char **text_out, size_t *n_out, ot_error *err)
{
    int pass = -1;
    ot_rc rc = ot_sock_recv_msg(fd, max, until, text_out, n_out, &pass, err);
    ot_fd_close(&pass);
    return rc;
}

/* `more`: the memory that it may take, then the modules, each with a NUL. */
static size_t modules_of(const char *more, size_t n, uint64_t *memory_max,
                         const char *out[OT_LAUNCH_MODULES_MAX])
{
    size_t used = 0;
    *memory_max = strtoull(more, NULL, 10);
    for (const char *p = more + strlen(more) + 1; p < more + n && used < OT_LAUNCH_MODULES_MAX;
         p += strlen(p) + 1) {
        out[used++] = p;
    }
    return used;
}

/* Through a shell, as a cold run: what that does to the environment is the same. */
static size_t interpreter_words(const ot_launch_python *py, const char *fd, const char *now,
                                const char **argv)
{
    static const char *const shell[] = {"/bin/sh", "-c", "exec \"$@\"", "sh"};
    size_t n = OT_COUNT(shell);
    memcpy(argv, shell, sizeof shell);
    for (size_t i = 0; i < py->script; i++) {
        argv[n++] = py->words[i];
    }
    argv[n++] = "-c";
    argv[n++] = OT_SPARE_MAIN;
    argv[n++] = ot_spare_script;
    argv[n++] = fd;
    argv[n++] = now;
    return n;
}

/* The launcher of a job, which waits with its ranks: job_spare.h. */
static size_t launcher_words(const ot_launch_python *py, const char *fd, const char *np,
                             const char **argv)
{
    static const char *const options[] = {"/proc/self/exe", "run", "--spare"};
    size_t n = OT_COUNT(options);
    memcpy(argv, options, sizeof options);
    argv[n++] = fd;
    argv[n++] = "--np";
    argv[n++] = np;
    argv[n++] = "--";
    for (size_t i = 0; i < py->script; i++) {
        argv[n++] = py->words[i];
    }
    argv[n++] = "--"; /* then the modules */
    return n;
}

static ot_rc spawn(ot_shim *s, const char *const *modules, size_t n_modules, int talk,
                   ot_error *err)
{
    ot_launch_python py;
    char fd_text[16], now_text[24], np_text[16];
    const char *argv[FIRST_WORDS + OT_LAUNCH_MODULES_MAX];
    OT_TRY(ot_launch_spec_python(&s->doc.spec, &py, err));
    snprintf(fd_text, sizeof fd_text, "%d", talk);
    snprintf(now_text, sizeof now_text, "%" PRId64, ot_clock_wall_us());
    snprintf(np_text, sizeof np_text, "%" PRId32, s->doc.spec.np);
    size_t n = s->doc.spec.np > 0 ? launcher_words(&py, fd_text, np_text, argv)
                                  : interpreter_words(&py, fd_text, now_text, argv);
    for (size_t i = 0; i < n_modules; i++) {
        argv[n++] = modules[i];
    }
    ot_launch_spec spec = s->doc.spec;
    spec.command = NULL;
    spec.argv = argv;
    spec.n_argv = n;
    spec.cwd = "/";
    return ot_launch_spawn(&spec, "/", s->record.mark, &s->cgroup, talk, &s->child, &s->output,
                           err);
}

static ot_rc start(ot_shim *s, ot_error *err)
{
    ot_shim_spare *w = s->spare;
    char *text = NULL, *more = NULL;
    size_t n = 0, n_more = 0;
    uint64_t until = ot_clock_mono_ns() + HEAR_NS;
    int pair[2] = {-1, -1};
    const char *modules[OT_LAUNCH_MODULES_MAX];
    OT_TRY(hear(w->channel, OT_LAUNCH_SPEC_BYTES_MAX, until, &text, &n, err));
    ot_rc rc = ot_launch_spec_parse(text, n, &s->doc, err);
    ot_free(text);
    OT_TRY(rc);
    OT_TRY(ot_shim_become_owner(s, s->doc.spec.background, err));
    ot_shim_mark_tree(s, &s->doc.spec);
    OT_TRY(hear(w->channel, SAYS_MAX, until, &more, &n_more, err));
    rc = ot_sock_pair(pair, err);
    if (rc == OT_OK) {
        w->talk = pair[0];
        size_t n_modules = modules_of(more, n_more, &w->memory_max, modules);
        rc = spawn(s, modules, n_modules, pair[1], err);
    }
    ot_fd_close(&pair[1]);
    ot_free(more);
    if (rc == OT_OK) {
        (void)fcntl(s->output, F_SETFL, O_NONBLOCK);
        s->usage = (ot_launch_usage){.root = getpid(), .memory_limit = w->memory_max};
    }
    return rc;
}

/* --- waiting --------------------------------------------------------------------------------- */

/* What it prints while it imports goes first into the log of its run. */
static void drain(ot_shim *s)
{
    char buf[16384];
    for (int i = 0; s->output >= 0 && i < 64; i++) {
        ssize_t k = read(s->output, buf, sizeof buf);
        if (k > 0) {
            size_t room = EARLY_MAX - s->spare->early.len;
            ot_str_add(&s->spare->early, buf, OT_MIN((size_t)k, room));
        } else if (k == 0 || (errno != EAGAIN && errno != EINTR)) {
            ot_fd_close(&s->output);
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

static uint64_t tree_memory(ot_shim *s)
{
    uint64_t sum = 0;
    if (ot_launch_procs_tree(&s->usage.procs, getpid(), NULL) == OT_OK) {
        for (size_t i = 0; i < s->usage.procs.n; i++) {
            sum += ot_launch_proc_pss(&s->usage.procs.v[i]);
        }
    }
    return sum;
}

static void no_use(ot_shim *s, const char *why)
{
    snprintf(s->spare->why, sizeof s->spare->why, "%s", why);
}

static void too_big(ot_shim *s, uint64_t used)
{
    char a[32], b[32], why[160];
    snprintf(why, sizeof why, "it took %s of memory, %s is left for it", ot_format_size(used, a),
             ot_format_size(s->spare->memory_max, b));
    no_use(s, why);
}

/* Tells the control plane that it may have it. */
static void ready(ot_shim *s)
{
    char text[64];
    ot_shim_spare *w = s->spare;
    uint64_t memory = tree_memory(s);
    if (memory > w->memory_max) {
        too_big(s, memory);
        return;
    }
    w->ready_at_ns = ot_clock_mono_ns();
    snprintf(text, sizeof text, "ready %" PRIu64, memory);
    if (ot_sock_send_msg(w->channel, text, strlen(text), -1, w->ready_at_ns + HEAR_NS, NULL) !=
        OT_OK) {
        no_use(s, "nobody wants it");
    }
}

static void hear_interpreter(ot_shim *s)
{
    char *text = NULL;
    size_t n;
    if (hear(s->spare->talk, SAYS_MAX, ot_clock_mono_ns() + HEAR_NS, &text, &n, NULL) != OT_OK) {
        no_use(s, "it ended by itself");
    } else if (strcmp(text, "ready") == 0 && s->spare->ready_at_ns == 0) {
        ready(s);
    } else {
        no_use(s, text);
    }
    ot_free(text);
}

static void read_signals(ot_shim *s)
{
    struct signalfd_siginfo si;
    while (read(s->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo != SIGCHLD) {
            no_use(s, "it was told to end");
        }
    }
    (void)ot_shim_reap(s);
    if (s->ended) {
        hear_interpreter(s); /* it may have said why */
    }
}

static void look_at_memory(ot_shim *s)
{
    ot_launch_usage_poll(&s->usage, ot_clock_mono_ns());
    if (s->usage.memory_over) {
        too_big(s, s->usage.memory);
    }
}

/* The run's directory and lock; false: the spare is of no use, or nobody wants it any more. */
static bool wait_for_run(ot_shim *s, char **rundir_out)
{
    ot_shim_spare *w = s->spare;
    while (w->why[0] == 0) {
        struct pollfd p[] = {{.fd = w->channel, .events = POLLIN},
                             {.fd = s->signal_fd, .events = POLLIN},
                             {.fd = w->talk, .events = POLLIN},
                             {.fd = s->output, .events = POLLIN}};
        int n = poll(p, OT_COUNT(p), w->ready_at_ns == 0 ? TICK_MS : -1);
        if (p[0].revents != 0) {
            size_t len;
            return ot_sock_recv_msg(w->channel, OT_PATH_MAX - 1, ot_clock_mono_ns() + HEAR_NS,
                                    rundir_out, &len, &s->lock_fd, NULL) == OT_OK;
        }
        drain(s);
        if (p[1].revents != 0) {
            read_signals(s);
        } else if (p[2].revents != 0) {
            hear_interpreter(s);
        } else if (n == 0) {
            look_at_memory(s);
        }
    }
    return false;
}

/* From here on its trouble is told where a run's shim tells it. */
static void log_to(const char *rundir)
{
    char path[OT_PATH_MAX];
    if (ot_launch_path(path, rundir, "shim.log", NULL) == OT_OK) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0) {
            (void)dup2(fd, 2);
            close(fd);
        }
    }
}

ot_rc ot_shim_spare_wait(ot_shim *s, int channel, char rundir[OT_PATH_MAX], ot_error *err)
{
    char *dir = NULL;
    ot_shim_spare *w = ot_calloc(1, sizeof *w);
    if (w == NULL || fcntl(channel, F_SETFD, FD_CLOEXEC) != 0) {
        ot_free(w);
        return ot_fail(err, OT_EXHAUSTED, "no memory for it, or no channel");
    }
    s->spare = w;
    w->channel = channel;
    w->talk = -1;
    ot_str_init(&w->early);
    ot_rc rc = start(s, err);
    if (rc != OT_OK) {
        no_use(s, err->msg);
    }
    bool given = wait_for_run(s, &dir);
    uint64_t until = ot_clock_mono_ns() + HEAR_NS;
    if (given) {
        snprintf(rundir, OT_PATH_MAX, "%s", dir);
        given = s->lock_fd >= 0 &&
                ot_sock_send_msg(w->channel, "taken", strlen("taken"), -1, until, NULL) == OT_OK;
    } else {
        (void)!ot_sock_send_msg(w->channel, w->why, strlen(w->why), -1, until, NULL);
    }
    ot_free(dir);
    ot_fd_close(&w->channel);
    ot_launch_spec_done(&s->doc);
    ot_launch_usage_done(&s->usage);
    if (!given) {
        ot_shim_kill_tree(s);
        ot_launch_cgroup_remove(s->cgroup.path);
        return ot_fail(err, OT_UNAVAILABLE, "the spare has ended");
    }
    log_to(rundir);
    return OT_OK;
}

void ot_shim_spare_done(ot_shim *s)
{
    if (s->spare != NULL) {
        ot_fd_close(&s->spare->channel);
        ot_fd_close(&s->spare->talk);
        ot_str_done(&s->spare->early);
        ot_free(s->spare);
        s->spare = NULL;
    }
}

/* --- handing over ---------------------------------------------------------------------------- */

static void add(ot_str *out, const char *text)
{
    ot_str_add(out, text, strlen(text) + 1);
}

/* Texts, each with a NUL: the working directory, how many arguments, these, the variables. */
static ot_rc describe(const ot_shim *s, ot_str *out, ot_error *err)
{
    const ot_launch_spec *spec = &s->doc.spec;
    ot_launch_python py;
    OT_TRY(ot_launch_spec_python(spec, &py, err));
    const char *const *words = spec->n_job > 0 ? spec->job : py.words + py.script;
    size_t n = spec->n_job > 0 ? spec->n_job : py.n_words - py.script;
    add(out, spec->cwd != NULL ? spec->cwd : s->rundir);
    ot_str_addf(out, "%zu", n);
    ot_str_addc(out, 0);
    for (size_t i = 0; i < n; i++) {
        add(out, words[i]);
    }
    for (size_t i = 0; i < spec->n_env; i++) {
        if (ot_has_prefix(spec->env[i].name, "OVERTAKE_") && spec->env[i].value != NULL) {
            ot_str_addf(out, "%s=%s", spec->env[i].name, spec->env[i].value);
            ot_str_addc(out, 0);
        }
    }
    ot_str_addf(out, "OVERTAKE_RUN=%" PRId64, spec->run);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory to hand the run over") : OT_OK;
}

/* OK: the script runs from now on. */
static ot_rc ask(ot_shim *s, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    char *answer = NULL;
    size_t n;
    uint64_t until = ot_clock_mono_ns() + HEAR_NS;
    if (s->ended) {
        return ot_fail(err, OT_UNAVAILABLE, "the spare was killed");
    }
    OT_TRY(describe(s, &text, err));
    OT_TRY(ot_sock_send_msg(s->spare->talk, text.data, text.len, -1, until, err));
    OT_TRY(hear(s->spare->talk, SAYS_MAX, until, &answer, &n, err));
    ot_rc rc = strcmp(answer, "taken") == 0 ? OT_OK : ot_fail(err, OT_PRECONDITION, "%s", answer);
    ot_free(answer);
    return rc;
}

/* Ended for certain. It may have begun with the script in the last moment: then that is how the run
 * ended. */
static bool end_interpreter(ot_shim *s)
{
    char *answer = NULL;
    size_t n;
    ot_shim_kill_tree(s);
    bool began = hear(s->spare->talk, SAYS_MAX, 1, &answer, &n, NULL) == OT_OK &&
                 strcmp(answer, "taken") == 0;
    ot_free(answer);
    return began;
}

bool ot_shim_spare_hand_over(ot_shim *s)
{
    ot_shim_spare *w = s->spare;
    ot_error err = {0};
    char note[400], took[32];
    bool warm = ask(s, &err) == OT_OK || end_interpreter(s);
    if (warm) {
        int64_t waited = (int64_t)((ot_clock_mono_ns() - w->ready_at_ns) / 1000);
        snprintf(note, sizeof note, "started in a spare process, %s after it was ready",
                 ot_format_duration(waited, took));
        ot_launch_logfile_note(&s->log, note);
        ot_launch_logfile_add(&s->log, w->early.data, w->early.len);
    } else {
        snprintf(note, sizeof note, "started cold: %.300s", err.msg);
        ot_launch_logfile_note(&s->log, note);
        ot_fd_close(&s->output);
        s->ended = false;
        s->child = 0;
    }
    ot_fd_close(&w->talk);
    return warm;
}
