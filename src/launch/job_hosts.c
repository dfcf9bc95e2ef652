/* The meeting point of a job and the agents on its hosts. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "launch/internal.h"
#include "launch/job_internal.h"
#include "launch/job_manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SSH_WORDS_MAX 64
#define OWN_ADDRESSES_MAX 8
#define MASTER_PORT_FIRST 20000u /* below the ports that the kernel gives out by itself */
#define MASTER_PORT_N 12000u

extern char **environ;

/* --- the meeting point ----------------------------------------------------------------------- */

static void on_all_here(void *arg)
{
    job *j = arg;
    pthread_mutex_lock(&j->lock);
    j->all_here = true;
    pthread_mutex_unlock(&j->lock);
}

static void blame(job *j, int32_t rank, const char *how, const char *why, bool lost)
{
    pthread_mutex_lock(&j->lock);
    if (j->blamed < 0) {
        j->blamed = rank;
        j->blamed_lost = lost;
        snprintf(j->blame, sizeof j->blame, "%s: %s", how, why);
    }
    pthread_mutex_unlock(&j->lock);
}

/* A rank that fails an operation says whose fault it is: `code` is that rank + 1. */
static void on_event(void *arg, const ot_event *e)
{
    job *j = arg;
    if (j->o->min_np > 0) {
        if (e->kind == OT_EVENT_LOST) {
            job_elastic_fence(j, e->rank, e->text);
        } /* what they say of each other ends the epoch, not the job */
    } else if (e->kind == OT_EVENT_LOST) {
        blame(j, e->rank, "is lost", e->text, true);
    } else if (e->kind == OT_EVENT_FAILED && e->code > 0 && e->code <= j->o->np) {
        /* A link that has ended is the network's doing or the host's, whoever tells of it first. */
        blame(j, e->code - 1, e->link ? "is lost" : "is at fault", e->text, e->link);
    } else if (e->kind == OT_EVENT_FAILED || e->kind == OT_EVENT_STUCK) {
        ot_job_print_say(j->print, "rank %" PRId32 " (host %s) %s%s%s", e->rank, e->host,
                         e->kind == OT_EVENT_STUCK ? "is stuck" : "has failed",
                         e->text[0] ? ": " : "", e->text);
    }
}

static void on_pulse(void *arg, int32_t rank, const ot_pulse *p)
{
    job *j = arg;
    pthread_mutex_lock(&j->lock);
    j->pulses[rank] = *p; /* of the newest epoch, which has at most OT_MEET_RANKS_MAX */
    pthread_mutex_unlock(&j->lock);
}

static void on_timeline(void *arg, int32_t rank, bool last, const char *p, size_t n)
{
    job *j = arg;
    if (j->timeline != NULL) {
        ot_job_timeline_take(j->timeline, rank, last, p, n);
    }
}

static void on_text(void *arg, const char *text)
{
    job *j = arg;
    ot_job_print_say(j->print, "%s", text);
}

static bool all_local(const job *j)
{
    for (size_t i = 0; i < j->n_agents; i++) {
        if (!j->agents[i].local) {
            return false;
        }
    }
    return true;
}

ot_rc job_server_start(job *j, ot_error *err)
{
    char settings[OT_SETTINGS_MAX];
    uint8_t raw[32];
    ot_meet_server_ops ops = {.all_here = on_all_here,
                              .event = on_event,
                              .pulse = on_pulse,
                              .timeline = on_timeline,
                              .waiting = on_text,
                              .refused = on_text,
                              .formed = job_elastic_formed,
                              .cut = job_elastic_cut,
                              .arg = j};
    ot_random_bytes(raw, sizeof raw);
    ot_hex(raw, sizeof raw, j->key);
    ot_settings given = j->o->settings;
    given.timeline = j->timeline != NULL;
    given.min_np = j->o->min_np;
    given.batch_np = j->o->min_np > 0 && !j->o->keep_batch ? j->o->np : 0;
    ot_settings_format(&given, settings);
    ot_meet_server_options so = {.size = j->o->np,
                                 .key = j->key,
                                 .key_len = strlen(j->key),
                                 .timeout_us = j->o->start_timeout_us,
                                 .settings = settings,
                                 .min = j->o->min_np,
                                 .reform_us = j->o->settings.timeout_us};
    snprintf(so.listen.host, sizeof so.listen.host, "%s",
             all_local(j) && j->o->discover == NULL                        ? "127.0.0.1"
             : j->o->address != NULL && strchr(j->o->address, ':') != NULL ? "::"
                                                                           : "0.0.0.0");
    return ot_meet_server_create(&so, &ops, &j->server, err);
}

/* Where the ranks of a host find it. */
static void rendezvous(const job *j, const job_agent *a, char *out, size_t size)
{
    ot_addr own[OWN_ADDRESSES_MAX], given = {0};
    char text[300];
    uint16_t port = ot_meet_server_port(j->server);
    size_t n = 0, used = 0;
    if (a->local) {
        snprintf(out, size, "127.0.0.1:%u", port);
        return;
    }
    if (j->o->address != NULL) {
        snprintf(given.host, sizeof given.host, "%s", j->o->address);
        own[n++] = given;
    } else {
        n = ot_sock_own_addresses(own, OT_COUNT(own));
    }
    out[0] = 0;
    for (size_t i = 0; i < n; i++) {
        own[i].port = port;
        size_t k = strlen(ot_addr_format(&own[i], text));
        if (used + k + 2 < size) {
            used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? "," : "", text);
        }
    }
    if (used == 0) {
        snprintf(out, size, "127.0.0.1:%u", port);
    }
}

/* --- what an agent is told ------------------------------------------------------------------- */

/* Variables that a program on another host is taken to need; -x adds others. */
static const char *const passed[] = {"PATH",         "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
                                     "CONDA_PREFIX", "LANG",       "LC_ALL",          "TZ"};
static const char *const passed_prefix[] = {"OMP_",  "MKL_", "OPENBLAS_", "NCCL_", "CUDA_",
                                            "TORCH", "TF_",  "KERAS_",    "HF_",   "PYTHON"};

static bool is_passed(const char *entry)
{
    size_t n = strcspn(entry, "=");
    for (size_t i = 0; i < OT_COUNT(passed); i++) {
        if (strlen(passed[i]) == n && memcmp(passed[i], entry, n) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < OT_COUNT(passed_prefix); i++) {
        if (ot_has_prefix(entry, passed_prefix[i])) {
            return true;
        }
    }
    return false;
}

static void put_env(json_t *env, const char *entry)
{
    char name[256];
    size_t n = strcspn(entry, "=");
    snprintf(name, sizeof name, "%.*s", (int)OT_MIN(n, sizeof name - 1), entry);
    const char *value = entry[n] == '=' ? entry + n + 1 : getenv(name);
    json_t *text = value != NULL ? json_string(value) : NULL;
    if (text != NULL) { /* what is not UTF-8 is not passed */
        (void)json_object_set_new(env, name, text);
    }
}

static json_t *env_of(const job *j, const job_agent *a)
{
    json_t *env = json_object();
    for (char **e = environ; !a->local && *e != NULL; e++) {
        if (is_passed(*e)) {
            put_env(env, *e);
        }
    }
    for (size_t i = 0; i < j->o->n_env; i++) {
        put_env(env, j->o->env[i]);
    }
    return env;
}

/* Where torch.distributed's own store would be: any rank may ask for it, so it is said to all. */
static const char *master(const job *j, char out[300])
{
    ot_addr own;
    if (all_local(j)) {
        snprintf(out, 300, "127.0.0.1");
    } else if (!j->agents[0].local) {
        const char *at = strchr(j->agents[0].host->name, '@');
        snprintf(out, 300, "%s", at != NULL ? at + 1 : j->agents[0].host->name);
    } else if (j->o->address != NULL) {
        snprintf(out, 300, "%s", j->o->address);
    } else {
        snprintf(out, 300, "%s", ot_sock_own_addresses(&own, 1) == 1 ? own.host : "127.0.0.1");
    }
    return out;
}

static ot_rc send_start(job *j, size_t i, ot_error *err)
{
    job_agent *a = &j->agents[i];
    char where[600], first[300], cwd[OT_PATH_MAX];
    json_t *argv = json_array(), *hosts = json_array();
    bool good = getcwd(cwd, sizeof cwd) != NULL, elastic = j->o->min_np > 0;
    rendezvous(j, a, where, sizeof where);
    for (size_t k = 0; k < j->o->n_argv; k++) {
        good &= json_array_append_new(argv, json_string(j->o->argv[k])) == 0;
    }
    for (size_t k = 0; k < j->n_agents; k++) {
        const ot_job_host *h = j->agents[k].host;
        good &= json_array_append_new(hosts, json_integer(elastic ? h->slots : h->ranks)) == 0;
    }
    json_t *spec =
        json_pack("{s:s,s:b,s:s,s:s,s:i,s:i,s:o,s:o,s:o,s:s,s:b,s:i,s:i,s:s,s:i,s:s}", "version",
                  j->o->version, "elastic", (int)elastic, "key", j->key, "rendezvous", where,
                  "size", (int)j->o->np, "node", (int)i, "hosts", hosts, "argv", argv, "env",
                  env_of(j, a), "cwd", good ? cwd : "/", "bind", (int)j->o->bind_cores, "input",
                  j->o->input ? 0 : -1, "restart", j->restart, "master", master(j, first),
                  "master_port", (int)j->master_port, "errors", j->errors);
    if (spec == NULL || !good) {
        json_decref(spec);
        return ot_fail(err, OT_INVALID,
                       "the program's words, or the name of this directory, are "
                       "not UTF-8 text");
    }
    ot_job_channel_send(&a->channel, OT_JOB_START, spec, NULL, 0);
    return OT_OK;
}

/* --- starting -------------------------------------------------------------------------------- */

static ot_rc program_path(const job *j, char out[OT_PATH_MAX], ot_error *err)
{
    if (j->o->program != NULL) {
        snprintf(out, OT_PATH_MAX, "%s", j->o->program);
        return OT_OK;
    }
    ssize_t n = readlink("/proc/self/exe", out, OT_PATH_MAX - 1);
    if (n <= 0) {
        return ot_fail_errno(err, errno, "/proc/self/exe");
    }
    out[n] = 0;
    return OT_OK;
}

static ot_rc remote_words(const job *j, const job_agent *a, char *words, size_t size,
                          const char *argv[SSH_WORDS_MAX + 5], ot_error *err)
{
    static char program[OT_PATH_MAX], quoted[4 * OT_PATH_MAX + 3];
    size_t n = 0;
    char *save = NULL;
    snprintf(words, size, "%s", j->o->ssh);
    for (char *w = strtok_r(words, " ", &save); w != NULL && n < SSH_WORDS_MAX;
         w = strtok_r(NULL, " ", &save)) {
        argv[n++] = w;
    }
    if (n == 0) {
        return ot_fail(err, OT_INVALID, "--ssh is empty: it is the command before the host's name");
    }
    OT_TRY(program_path(j, program, err));
    ot_job_quote(program, quoted, sizeof quoted); /* ssh hands its words to a shell */
    argv[n++] = a->host->name;
    argv[n++] = quoted;
    argv[n++] = "run";
    argv[n++] = "--agent";
    argv[n] = NULL;
    return OT_OK;
}

static void run_child(int fd, pid_t parent, const char *exe, const char *const *argv)
{
    union {
        const char *const *in;
        char *const *out;
    } words = {.in = argv}; /* exec changes nothing */
    (void)setpgid(0, 0);    /* a Ctrl-C at our terminal is ours to hand on */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || dup2(fd, 0) < 0 || dup2(fd, 1) < 0) {
        _exit(127);
    }
    ot_launch_reset_signals();
    execvp(exe, words.out);
    dprintf(2, "overtake run: can't start %s: %s\n", exe, strerror(errno));
    _exit(127);
}

ot_rc job_agent_spawn(const char *exe, const char *const *argv, pid_t *pid_out, int *fd_out,
                      ot_error *err)
{
    int ends[2];
    OT_TRY(ot_sock_pair(ends, err));
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        ot_sock_nonblock(ends[1], false);
        run_child(ends[1], parent, exe, argv);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return ot_fail_errno(err, errno, "fork");
    }
    *pid_out = pid;
    *fd_out = ends[0];
    return OT_OK;
}

/* The agent that was there before the job. */
static bool use_prepared(job *j, job_agent *a)
{
    if (!a->local || j->o->prepared_pid == 0 || j->restart > 0 || j->prepared_used) {
        return false;
    }
    j->prepared_used = true;
    a->pid = j->o->prepared_pid;
    a->open = true;
    (void)fcntl(j->o->prepared_fd, F_SETFD, FD_CLOEXEC);
    ot_job_channel_init(&a->channel, j->o->prepared_fd, j->o->prepared_fd);
    return true;
}

static ot_rc run_agent(job *j, job_agent *a, ot_error *err)
{
    static const char *const here[] = {"overtake", "run", "--agent", NULL};
    const char *there[SSH_WORDS_MAX + 5];
    char words[4096];
    int fd;
    if (use_prepared(j, a)) {
        return OT_OK;
    }
    if (!a->local) {
        OT_TRY(remote_words(j, a, words, sizeof words, there, err));
    }
    ot_rc rc = job_agent_spawn(a->local ? "/proc/self/exe" : there[0], a->local ? here : there,
                               &a->pid, &fd, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "host %s", a->name);
    }
    a->open = true;
    ot_job_channel_init(&a->channel, fd, fd);
    return OT_OK;
}

ot_rc job_agent_start(job *j, size_t i, ot_error *err)
{
    job_agent *a = &j->agents[i];
    a->heard = a->done = false;
    a->failed[0] = 0;
    OT_TRY(run_agent(j, a, err));
    OT_TRY(send_start(j, i, err));
    job_elastic_begin(j, i);
    return OT_OK;
}

ot_rc job_agents_start(job *j, ot_error *err)
{
    uint64_t at;
    ot_random_bytes(&at, sizeof at);
    j->master_port = MASTER_PORT_FIRST + (unsigned)(at % MASTER_PORT_N);
    for (size_t i = 0; i < j->n_agents; i++) {
        OT_TRY(job_agent_start(j, i, err));
    }
    return OT_OK;
}

void job_agents_done(job *j)
{
    for (size_t i = 0; i < j->n_agents; i++) {
        if (j->agents[i].open) {
            ot_job_channel_done(&j->agents[i].channel);
            j->agents[i].open = false;
        }
    }
}
