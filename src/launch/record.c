/* The records of a run directory as JSON: spec.json, shim.json, exit.json. */
#include "base/mem.h"
#include "launch/internal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {
    [OT_LAUNCH_SUCCEEDED] = "succeeded",
    [OT_LAUNCH_FAILED] = "failed",
    [OT_LAUNCH_TIMED_OUT] = "timed_out",
    [OT_LAUNCH_OUT_OF_MEMORY] = "out_of_memory",
    [OT_LAUNCH_KILLED] = "killed",
    [OT_LAUNCH_CANCELLED] = "cancelled",
    [OT_LAUNCH_DISK_QUOTA] = "disk_quota",
    [OT_LAUNCH_SPAWN_FAILED] = "spawn_failed",
    [OT_LAUNCH_LOST] = "lost",
};

const char *ot_launch_state_name(ot_launch_state s)
{
    return (size_t)s < OT_COUNT(state_names) ? state_names[s] : "unknown";
}

bool ot_launch_state_parse(const char *s, ot_launch_state *out)
{
    for (size_t i = 0; i < OT_COUNT(state_names); i++) {
        if (strcmp(s, state_names[i]) == 0) {
            *out = (ot_launch_state)i;
            return true;
        }
    }
    return false;
}

bool ot_launch_state_is_infrastructure(ot_launch_state s)
{
    return s == OT_LAUNCH_KILLED || s == OT_LAUNCH_LOST;
}

ot_rc ot_launch_path(char out[OT_PATH_MAX], const char *rundir, const char *name, ot_error *err)
{
    return ot_path_join(out, rundir, name, err);
}

static ot_rc write_json(const char *rundir, const char *name, json_t *o, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_launch_path(path, rundir, name, err));
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(1)) : NULL;
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to write it", path);
    }
    ot_rc rc = ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, err);
    free(text);
    return rc;
}

static ot_rc load_json(const char *rundir, const char *name, size_t max, json_t **out,
                       ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_launch_path(path, rundir, name, err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, max, &text, err));
    json_error_t je;
    json_t *o = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(o)) {
        json_decref(o);
        return ot_fail(err, OT_DATA_LOSS, "%s:%d: not a JSON object: %s", path, je.line, je.text);
    }
    *out = o;
    return OT_OK;
}

/* --- spec.json ------------------------------------------------------------------------------- */

static ot_rc check_env_name(const char *name, ot_error *err)
{
    if (name == NULL || name[0] == 0 || strchr(name, '=') != NULL || strlen(name) > 255) {
        return ot_fail(err, OT_INVALID,
                       "run: env '%.60s': a variable's name has 1 to 255 characters and no '='",
                       name != NULL ? name : "");
    }
    return OT_OK;
}

ot_rc ot_launch_spec_check(const ot_launch_spec *s, ot_error *err)
{
    bool argv = s->n_argv > 0, command = s->command != NULL && s->command[0] != 0;
    if (argv == command) {
        return ot_fail(err, OT_INVALID, "run: give either argv or command, and not empty");
    }
    if (s->n_argv > OT_LAUNCH_ARGS_MAX || s->n_job > OT_LAUNCH_ARGS_MAX) {
        return ot_fail(err, OT_INVALID, "run: %zu arguments; at most %d are allowed",
                       OT_MAX(s->n_argv, s->n_job), OT_LAUNCH_ARGS_MAX);
    }
    if (s->n_env > OT_LAUNCH_ENV_MAX) {
        return ot_fail(err, OT_INVALID, "run: %zu environment variables; at most %d are allowed",
                       s->n_env, OT_LAUNCH_ENV_MAX);
    }
    if (argv && s->argv[0][0] == 0) {
        return ot_fail(err, OT_INVALID, "run: argv[0], the program, is empty");
    }
    for (size_t i = 0; i < s->n_env; i++) {
        OT_TRY(check_env_name(s->env[i].name, err));
    }
    if (s->time_limit_us < 0 || s->grace_us < 0) {
        return ot_fail(err, OT_INVALID, "run: time limit and grace can't be negative");
    }
    if (s->nice < 0 || s->nice > 19) {
        return ot_fail(err, OT_INVALID, "run: nice is %d; 0 to 19 are allowed", s->nice);
    }
    if (s->cpu_weight > 10000) {
        return ot_fail(err, OT_INVALID, "run: cpu_weight is %u; 1 to 10000 are allowed",
                       s->cpu_weight);
    }
    return OT_OK;
}

/* Takes over `value`; false when memory was short or a string is not UTF-8. */
static bool set(json_t *o, const char *key, json_t *value)
{
    return value != NULL && json_object_set_new(o, key, value) == 0;
}

static bool set_int(json_t *o, const char *key, int64_t v)
{
    return v == 0 || set(o, key, json_integer(v));
}

static bool set_bytes(json_t *o, const char *key, uint64_t v)
{
    return set_int(o, key, (int64_t)OT_MIN(v, (uint64_t)INT64_MAX));
}

static bool set_str(json_t *o, const char *key, const char *s)
{
    return s == NULL || set(o, key, json_string(s));
}

static bool set_words(json_t *o, const char *key, const char *const *words, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_string(words[i])) != 0) {
            json_decref(list);
            return false;
        }
    }
    bool good = n == 0 || json_object_set(o, key, list) == 0;
    json_decref(list);
    return good;
}

static json_t *spec_to_json(const ot_launch_spec *s)
{
    json_t *o = json_object(), *env = json_object();
    bool good = o != NULL && env != NULL;
    for (size_t i = 0; good && i < s->n_env; i++) {
        const char *v = s->env[i].value;
        good = set(env, s->env[i].name, v != NULL ? json_string(v) : json_null());
    }
    good = good && set_words(o, "argv", s->argv, s->n_argv) &&
           set_words(o, "job", s->job, s->n_job) && set_int(o, "np", s->np) &&
           set_str(o, "command", s->command) && set_str(o, "cwd", s->cwd) &&
           json_object_set(o, "env", env) == 0 && set_int(o, "run", s->run) &&
           set_int(o, "time_limit_us", s->time_limit_us) && set_int(o, "grace_us", s->grace_us) &&
           set_bytes(o, "memory_limit_bytes", s->memory_limit_bytes) &&
           set_bytes(o, "disk_limit_bytes", s->disk_limit_bytes) &&
           set_str(o, "disk_dir", s->disk_dir) &&
           set_bytes(o, "log_limit_bytes", s->log_limit_bytes) && set_int(o, "nice", s->nice) &&
           set_int(o, "cpu_weight", s->cpu_weight) &&
           (!s->background || set(o, "background", json_true())) && set_str(o, "note", s->note);
    json_decref(env);
    if (!good) {
        json_decref(o);
        return NULL;
    }
    return o;
}

ot_rc ot_launch_spec_text(const ot_launch_spec *spec, char **out, ot_error *err)
{
    OT_TRY(ot_launch_spec_check(spec, err));
    json_t *o = spec_to_json(spec);
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(1)) : NULL;
    json_decref(o);
    if (text == NULL) {
        return ot_fail(err, OT_INVALID,
                       "run: an argument or a variable is not UTF-8 text, or memory is short");
    }
    size_t n = strlen(text);
    if (n > OT_LAUNCH_SPEC_BYTES_MAX / 2) {
        free(text);
        return ot_fail(err, OT_INVALID, "run: its spec has %zu bytes; at most %u are allowed", n,
                       OT_LAUNCH_SPEC_BYTES_MAX / 2);
    }
    *out = text;
    return OT_OK;
}

ot_rc ot_launch_spec_write(const char *rundir, const ot_launch_spec *spec, ot_error *err)
{
    char path[OT_PATH_MAX], *text = NULL;
    OT_TRY(ot_launch_path(path, rundir, "spec.json", err));
    OT_TRY(ot_launch_spec_text(spec, &text, err));
    ot_rc rc = ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, err);
    free(text);
    return rc;
}

static ot_rc get_int(json_t *o, const char *key, int64_t max, int64_t *out, ot_error *err)
{
    json_t *v = json_object_get(o, key);
    if (v == NULL) {
        *out = 0;
        return OT_OK;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max) {
        return ot_fail(err, OT_INVALID, "spec.json: %s is not a whole number from 0 to %" PRId64,
                       key, max);
    }
    *out = json_integer_value(v);
    return OT_OK;
}

static ot_rc get_str(json_t *o, const char *key, const char **out, ot_error *err)
{
    json_t *v = json_object_get(o, key);
    if (v != NULL && !json_is_string(v)) {
        return ot_fail(err, OT_INVALID, "spec.json: %s is not a text", key);
    }
    *out = json_string_value(v);
    return OT_OK;
}

static ot_rc get_words(const json_t *o, const char *key, const char ***words, size_t *n,
                       ot_error *err)
{
    json_t *list = json_object_get(o, key), *v;
    size_t i;
    if (list != NULL && !json_is_array(list)) {
        return ot_fail(err, OT_INVALID, "spec.json: %s is a list of texts", key);
    }
    *words = ot_calloc(json_array_size(list) + 1, sizeof **words);
    if (*words == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "spec.json: no memory to read it");
    }
    json_array_foreach(list, i, v)
    {
        if (!json_is_string(v)) {
            return ot_fail(err, OT_INVALID, "spec.json: %s[%zu] is not a text", key, i);
        }
        (*words)[(*n)++] = json_string_value(v);
    }
    return OT_OK;
}

static ot_rc spec_lists(ot_launch_spec_doc *d, ot_error *err)
{
    json_t *env = json_object_get(d->root, "env"), *v;
    if (env != NULL && !json_is_object(env)) {
        return ot_fail(err, OT_INVALID, "spec.json: env is an object");
    }
    OT_TRY(get_words(d->root, "argv", &d->argv, &d->spec.n_argv, err));
    OT_TRY(get_words(d->root, "job", &d->job, &d->spec.n_job, err));
    d->env = ot_calloc(json_object_size(env) + 1, sizeof *d->env);
    if (d->env == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "spec.json: no memory to read it");
    }
    const char *key;
    json_object_foreach(env, key, v)
    {
        if (!json_is_string(v) && !json_is_null(v)) {
            return ot_fail(err, OT_INVALID, "spec.json: env.%.60s is not a text or null", key);
        }
        d->env[d->spec.n_env++] = (ot_launch_env){.name = key, .value = json_string_value(v)};
    }
    d->spec.argv = d->argv;
    d->spec.job = d->job;
    d->spec.env = d->env;
    return OT_OK;
}

static ot_rc spec_from_json(ot_launch_spec_doc *d, ot_error *err)
{
    ot_launch_spec *s = &d->spec;
    json_t *o = d->root;
    int64_t memory, disk, log, nice, weight, np;
    OT_TRY(spec_lists(d, err));
    OT_TRY(get_str(o, "command", &s->command, err));
    OT_TRY(get_str(o, "cwd", &s->cwd, err));
    OT_TRY(get_str(o, "disk_dir", &s->disk_dir, err));
    OT_TRY(get_str(o, "note", &s->note, err));
    OT_TRY(get_int(o, "run", INT64_MAX, &s->run, err));
    OT_TRY(get_int(o, "time_limit_us", INT64_MAX / 4, &s->time_limit_us, err));
    OT_TRY(get_int(o, "grace_us", INT64_MAX / 4, &s->grace_us, err));
    OT_TRY(get_int(o, "memory_limit_bytes", INT64_MAX, &memory, err));
    OT_TRY(get_int(o, "disk_limit_bytes", INT64_MAX, &disk, err));
    OT_TRY(get_int(o, "log_limit_bytes", INT64_MAX, &log, err));
    OT_TRY(get_int(o, "nice", 19, &nice, err));
    OT_TRY(get_int(o, "cpu_weight", 10000, &weight, err));
    s->memory_limit_bytes = (uint64_t)memory;
    s->disk_limit_bytes = (uint64_t)disk;
    s->log_limit_bytes = (uint64_t)log;
    OT_TRY(get_int(o, "np", INT32_MAX, &np, err));
    s->np = (int32_t)np;
    s->nice = (int)nice;
    s->cpu_weight = (unsigned)weight;
    s->background = json_is_true(json_object_get(o, "background"));
    return ot_launch_spec_check(s, err);
}

ot_rc ot_launch_spec_parse(const char *text, size_t n, ot_launch_spec_doc *out, ot_error *err)
{
    json_error_t je;
    ot_launch_spec_doc d = {.root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je)};
    ot_rc rc =
        json_is_object(d.root)
            ? spec_from_json(&d, err)
            : ot_fail(err, OT_INVALID, "spec.json:%d: not a JSON object: %s", je.line, je.text);
    if (rc != OT_OK) {
        ot_launch_spec_done(&d);
        return rc;
    }
    *out = d;
    return OT_OK;
}

ot_rc ot_launch_spec_load(const char *rundir, ot_launch_spec_doc *out, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_launch_path(path, rundir, "spec.json", err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, OT_LAUNCH_SPEC_BYTES_MAX, &text, err));
    return ot_launch_spec_parse(text.data, text.len, out, err);
}

void ot_launch_spec_done(ot_launch_spec_doc *doc)
{
    json_decref(doc->root);
    ot_free(doc->argv);
    ot_free(doc->job);
    ot_free(doc->env);
    *doc = (ot_launch_spec_doc){0};
}

/* --- exit.json ------------------------------------------------------------------------------- */

ot_rc ot_launch_exit_write(const char *rundir, const ot_launch_exit *e, ot_error *err)
{
    json_t *o = json_object();
    if (o == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "exit.json: no memory to write it");
    }
    /* A message can hold bytes of the program's output that are not text. */
    json_t *message = json_string(e->message);
    bool good = set(o, "state", json_string(ot_launch_state_name(e->state))) &&
                set(o, "exit_code", json_integer(e->exit_code)) &&
                set(o, "signal", json_integer(e->signal)) &&
                set(o, "started_us", json_integer(e->started_us)) &&
                set(o, "ended_us", json_integer(e->ended_us)) &&
                set(o, "cpu_us", json_integer(e->cpu_us)) &&
                set(o, "max_rss_bytes", json_integer((json_int_t)e->max_rss_bytes)) &&
                set(o, "log_bytes", json_integer((json_int_t)e->log_bytes)) &&
                set(o, "log_truncated", json_boolean(e->log_truncated)) &&
                set(o, "message", message != NULL ? message : json_string(""));
    ot_rc rc = write_json(rundir, "exit.json", good ? o : NULL, err);
    json_decref(o);
    return rc;
}

static int64_t int_of(json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

ot_rc ot_launch_exit_load(const char *rundir, ot_launch_exit *out, ot_error *err)
{
    json_t *o;
    OT_TRY(load_json(rundir, "exit.json", 65536, &o, err));
    ot_launch_exit e = {
        .exit_code = (int)int_of(o, "exit_code"),
        .signal = (int)int_of(o, "signal"),
        .started_us = int_of(o, "started_us"),
        .ended_us = int_of(o, "ended_us"),
        .cpu_us = int_of(o, "cpu_us"),
        .max_rss_bytes = (uint64_t)int_of(o, "max_rss_bytes"),
        .log_bytes = (uint64_t)int_of(o, "log_bytes"),
        .log_truncated = json_is_true(json_object_get(o, "log_truncated")),
    };
    const char *state = json_string_value(json_object_get(o, "state"));
    const char *message = json_string_value(json_object_get(o, "message"));
    snprintf(e.message, sizeof e.message, "%s", message != NULL ? message : "");
    bool known = state != NULL && ot_launch_state_parse(state, &e.state);
    ot_rc rc = OT_OK;
    if (!known) {
        rc = ot_fail(err, OT_DATA_LOSS, "%s/exit.json: state '%.40s' is not known", rundir,
                     state != NULL ? state : "");
    } else {
        *out = e;
    }
    json_decref(o);
    return rc;
}

/* --- shim.json ------------------------------------------------------------------------------- */

ot_rc ot_launch_shim_write(const char *rundir, const ot_launch_shim_record *r, ot_error *err)
{
    json_t *o = json_object();
    if (o == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "shim.json: no memory to write it");
    }
    bool good = set(o, "pid", json_integer(r->pid)) &&
                set(o, "start_time", json_integer((json_int_t)r->start_time)) &&
                set(o, "boot_id", json_string(r->boot_id)) &&
                set(o, "mark", json_string(r->mark)) &&
                set(o, "started_us", json_integer(r->started_us)) &&
                set(o, "cgroup", json_string(r->cgroup));
    ot_rc rc = write_json(rundir, "shim.json", good ? o : NULL, err);
    json_decref(o);
    return rc;
}

ot_rc ot_launch_shim_load(const char *rundir, ot_launch_shim_record *out, ot_error *err)
{
    json_t *o;
    OT_TRY(load_json(rundir, "shim.json", 65536, &o, err));
    const char *boot = json_string_value(json_object_get(o, "boot_id"));
    const char *mark = json_string_value(json_object_get(o, "mark"));
    const char *cgroup = json_string_value(json_object_get(o, "cgroup"));
    int64_t pid = int_of(o, "pid");
    ot_rc rc = OT_OK;
    if (pid <= 0 || pid > INT_MAX || boot == NULL || mark == NULL || strlen(mark) != 32) {
        rc = ot_fail(err, OT_DATA_LOSS, "%s/shim.json: pid, boot_id or mark is missing", rundir);
    } else {
        *out = (ot_launch_shim_record){.pid = (pid_t)pid,
                                       .start_time = (uint64_t)int_of(o, "start_time"),
                                       .started_us = int_of(o, "started_us")};
        snprintf(out->boot_id, sizeof out->boot_id, "%s", boot);
        snprintf(out->mark, sizeof out->mark, "%s", mark);
        snprintf(out->cgroup, sizeof out->cgroup, "%s", cgroup != NULL ? cgroup : "");
    }
    json_decref(o);
    return rc;
}
