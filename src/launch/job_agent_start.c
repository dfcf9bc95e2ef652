/* How the ranks of a host start: what they find in their environment. */
#include "launch/job_agent.h"

#include "base/mem.h"
#include "base/sock.h"
#include "collective/meet.h"
#include "launch/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern char **environ;

int64_t agent_spec_int(const json_t *spec, const char *name)
{
    return json_integer_value(json_object_get(spec, name));
}

static const char *spec_text(const json_t *spec, const char *name)
{
    const char *s = json_string_value(json_object_get(spec, name));
    return s != NULL ? s : "";
}

static ot_rc spec_check(const agent *a, const json_t *spec, ot_error *err)
{
    const json_t *hosts = json_object_get(spec, "hosts"), *argv = json_object_get(spec, "argv");
    int64_t node = agent_spec_int(spec, "node"), size = agent_spec_int(spec, "size");
    if (strcmp(spec_text(spec, "version"), a->version) != 0) {
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "the launcher is version %s, this host has %s; install the same on all",
                       spec_text(spec, "version"), a->version);
    }
    int64_t here = node >= 0 ? json_integer_value(json_array_get(hosts, (size_t)node)) : 0;
    if (node < 0 || (size_t)node >= json_array_size(hosts) || json_array_size(argv) == 0 ||
        json_array_size(argv) > OT_LAUNCH_ARGS_MAX || size < 1 || size > OT_MEET_RANKS_MAX ||
        here < 1 || here > OT_MEET_RANKS_MAX) {
        return ot_fail(err, OT_INVALID, "what the launcher sent is not a job");
    }
    return OT_OK;
}

static void set(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void set(const char *name, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)setenv(name, text, 1);
}

static int32_t ranks_of(const agent *a, size_t node)
{
    const json_t *hosts = json_object_get(a->spec, "hosts");
    return (int32_t)json_integer_value(json_array_get(hosts, node));
}

void agent_set_defaults(int ranks)
{
    char each[16];
    snprintf(each, sizeof each, "%d", ot_job_cpus_each(ranks));
    (void)setenv("OMP_NUM_THREADS", each, 0);
    (void)setenv("PYTHONFAULTHANDLER", "1", 0); /* a crash, and OT_JOB_DUMP, print where it was */
    (void)setenv("PYTHONUNBUFFERED", "1", 0);   /* the last line before a kill is worth more */
}

static void set_common(const agent *a)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(a->spec, "env"), name, value)
    {
        (void)setenv(name, json_string_value(value), 1);
    }
    int64_t size = agent_spec_int(a->spec, "size"), node = agent_spec_int(a->spec, "node");
    set("OVERTAKE_SIZE", "%" PRId64, size);
    set("OVERTAKE_LOCAL_SIZE", "%zu", a->n);
    set("OVERTAKE_RENDEZVOUS", "%s", spec_text(a->spec, "rendezvous"));
    set("OVERTAKE_KEY_FD", "%d:%d:%d", OT_JOB_KEY_FD, (int)getpid(), a->key_fd);
    set("OVERTAKE_RESTART", "%" PRId64, agent_spec_int(a->spec, "restart"));
    set("WORLD_SIZE", "%" PRId64, size);
    set("LOCAL_WORLD_SIZE", "%zu", a->n);
    set("GROUP_RANK", "%" PRId64, node);
    set("GROUP_WORLD_SIZE", "%zu", json_array_size(json_object_get(a->spec, "hosts")));
    set("MASTER_ADDR", "%s", spec_text(a->spec, "master"));
    set("MASTER_PORT", "%" PRId64, agent_spec_int(a->spec, "master_port"));
    set("HOROVOD_SIZE", "%" PRId64, size);
    set("HOROVOD_LOCAL_SIZE", "%zu", a->n);
    agent_set_defaults(ranks_of(a, (size_t)node));
}

static void set_rank(const agent *a, int32_t local, int32_t rank)
{
    size_t nodes = json_array_size(json_object_get(a->spec, "hosts"));
    size_t node = (size_t)agent_spec_int(a->spec, "node");
    int cross = 0, cross_size = 0;
    for (size_t i = 0; i < nodes; i++) {
        cross += i < node && ranks_of(a, i) > local;
        cross_size += ranks_of(a, i) > local;
    }
    set("OVERTAKE_RANK", "%" PRId32, rank);
    set("OVERTAKE_LOCAL_RANK", "%" PRId32, local);
    set("RANK", "%" PRId32, rank);
    set("LOCAL_RANK", "%" PRId32, local);
    set("HOROVOD_RANK", "%" PRId32, rank);
    set("HOROVOD_LOCAL_RANK", "%" PRId32, local);
    set("HOROVOD_CROSS_RANK", "%d", cross);
    set("HOROVOD_CROSS_SIZE", "%d", cross_size);
}

static void set_errors(const agent *a, const agent_rank *r)
{
    const char *errors = spec_text(a->spec, "errors");
    if (errors[0] != 0) { /* torch.distributed's record decorator writes there */
        set("OVERTAKE_ERROR_FILE", "%s/rank-%" PRId32 ".error", errors, r->rank);
        set("TORCHELASTIC_ERROR_FILE", "%s/rank-%" PRId32 ".error", errors, r->rank);
    }
}

/* `local`: which of the host's shares it is bound to. */
static ot_rc start_rank(agent *a, agent_rank *r, int32_t local, ot_error *err)
{
    const char *argv[OT_LAUNCH_ARGS_MAX + 1] = {NULL};
    const json_t *words = json_object_get(a->spec, "argv");
    int each = ranks_of(a, (size_t)agent_spec_int(a->spec, "node"));
    cpu_set_t cpus;
    union {
        char **in;
        const char *const *out;
    } env = {.in = environ};
    for (size_t i = 0; i < json_array_size(words); i++) {
        argv[i] = json_string_value(json_array_get(words, i));
    }
    set_errors(a, r);
    env.in = environ;
    bool bind = json_is_true(json_object_get(a->spec, "bind")) && ot_job_cpus(local, each, &cpus);
    bool warm = agent_spare_take(a, r);
    ot_job_spawn s = {.argv = argv,
                      .env = env.out,
                      .cwd = spec_text(a->spec, "cwd"),
                      .key_fd = a->key_fd,
                      .input = agent_spec_int(a->spec, "input") == r->rank,
                      .cpus = bind ? &cpus : NULL};
    if (!warm) {
        OT_TRY(ot_job_spawn_start(&s, &r->child, err));
    }
    r->alive = true;
    a->n_alive++;
    ot_job_channel_send(&a->channel, OT_JOB_STARTED,
                        json_pack("{s:i,s:i}", "rank", r->rank, "pid", (int)r->child.pid), NULL, 0);
    return OT_OK;
}

ot_rc agent_make_key_fd(agent *a, ot_error *err)
{
    a->key_fd = memfd_create("overtake-key", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return a->key_fd >= 0 ? OT_OK : ot_fail_errno(err, errno, "memory file for the job's key");
}

static ot_rc open_key(agent *a, ot_error *err)
{
    const char *key = spec_text(a->spec, "key");
    if (a->key_fd < 0) {
        OT_TRY(agent_make_key_fd(a, err));
    }
    if (write(a->key_fd, key, strlen(key)) != (ssize_t)strlen(key) ||
        fcntl(a->key_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) != 0) {
        return ot_fail_errno(err, errno, "memory file for the job's key");
    }
    return OT_OK;
}

static ot_rc start_all(agent *a, ot_error *err)
{
    size_t node = (size_t)agent_spec_int(a->spec, "node");
    int32_t first = 0;
    for (size_t i = 0; i < node; i++) {
        first += ranks_of(a, i);
    }
    a->n = a->cap = (size_t)ranks_of(a, node);
    a->ranks = ot_calloc(a->n, sizeof *a->ranks);
    if (a->ranks == NULL) {
        a->n = 0;
        return ot_fail(err, OT_EXHAUSTED, "no memory for the ranks");
    }
    for (size_t i = 0; i < a->n; i++) {
        a->ranks[i] =
            (agent_rank){.rank = first + (int32_t)i, .child = {.in = -1, .out = -1, .err = -1}};
    }
    set_common(a);
    for (size_t i = 0; i < a->n && a->n_spares > 0; i++) { /* all at once */
        set_errors(a, &a->ranks[i]);
        set_rank(a, (int32_t)i, a->ranks[i].rank);
        agent_spare_offer(a, &a->ranks[i]);
    }
    agent_spares_end(a);
    for (size_t i = 0; i < a->n; i++) {
        set_rank(a, (int32_t)i, a->ranks[i].rank);
        OT_TRY(start_rank(a, &a->ranks[i], (int32_t)i, err));
    }
    return OT_OK;
}

ot_rc agent_start(agent *a, ot_error *err)
{
    const char *cwd = spec_text(a->spec, "cwd");
    OT_TRY(spec_check(a, a->spec, err));
    OT_TRY(open_key(a, err));
    if (chdir(cwd) != 0) {
        return ot_fail_errno(err, errno, "working directory '%.300s', which the launcher has", cwd);
    }
    a->elastic = json_is_true(json_object_get(a->spec, "elastic"));
    if (a->elastic) {
        set_common(a);
        return OT_OK;
    }
    return start_all(a, err);
}

/* The place of one that has ended, else a new one. */
static agent_rank *place(agent *a)
{
    for (size_t i = 0; i < a->n; i++) {
        const agent_rank *r = &a->ranks[i];
        if (!r->alive && r->child.out < 0 && r->child.err < 0) {
            return &a->ranks[i];
        }
    }
    if (!ot_grow(&a->ranks, &a->cap, a->n, sizeof *a->ranks, OT_MEET_RANKS_MAX)) {
        return NULL;
    }
    return &a->ranks[a->n++];
}

ot_rc agent_spawn(agent *a, const json_t *spec, ot_error *err)
{
    const char *name;
    json_t *value, *env = json_object_get(spec, "env");
    agent_rank *r = place(a);
    if (r == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no place for one more rank on this host");
    }
    *r = (agent_rank){.rank = (int32_t)agent_spec_int(spec, "rank"),
                      .child = {.in = -1, .out = -1, .err = -1}};
    json_object_foreach(env, name, value)
    {
        (void)setenv(name, json_string_value(value), 1);
    }
    set_errors(a, r);
    agent_spare_offer(a, r);
    return start_rank(a, r, (int32_t)agent_spec_int(spec, "local"), err);
}
