/* `overtake report`: what somebody else needs to help, without secrets and without data. */
#include "api/event_json.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/report.h"
#include "doctor/doctor.h"
#include "launch/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define ANSWER_MAX (16u << 20) /* of one request; a page of events may have 8 MiB and a bit */
#define LOG_TAIL (64u << 10)
#define LOGS 20
#define APPS_MAX 64

extern char **environ;

typedef struct reporting {
    const ot_args *args;
    ot_report report;
    ot_cli_client *client; /* NULL: no control plane answers */
    char data[OT_PATH_MAX];
    int64_t now_us;
} reporting;

/* ------------------------------------------------------------------ secrets that are known */

static void add_secret_file(reporting *r, const char *name)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    char path[OT_PATH_MAX];
    if (ot_path_join(path, r->data, name, NULL) == OT_OK &&
        ot_disk_read_all(ot_disk_posix(), path, 1 << 16, &text, NULL) == OT_OK) {
        text.data[strcspn(text.data, "\r\n")] = 0;
        ot_redactor_add(&r->report.redactor, text.data);
    }
}

/* A webhook is a secret from its host on: its path may be all there is. */
static void add_webhooks(reporting *r, const char *config)
{
    for (const char *p = config; (p = strstr(p, "webhook:")) != NULL; p++) {
        const char *url = strstr(p, "://");
        size_t line = strcspn(p, "\n");
        if (url == NULL || url > p + line) {
            continue;
        }
        const char *path = url + 3 + strcspn(url + 3, "/?\n");
        size_t n = strcspn(path, " \n\"'");
        OT_AUTO(ot_free_ptr) char *copy = ot_strndup(path, n);
        if (copy == NULL) {
            r->report.redactor.failed = true;
        } else {
            ot_redactor_add(&r->report.redactor, copy);
        }
    }
}

static void know_secrets(reporting *r)
{
    const char *token = ot_args_str(r->args, "token");
    add_secret_file(r, "token");
    if (token != NULL) {
        ot_redactor_add(&r->report.redactor, token);
    }
    ot_redactor_add_environment(&r->report.redactor);
    if (ot_args_bool(r->args, "hide-home")) {
        ot_redactor_hide_home(&r->report.redactor);
    }
}

/* ------------------------------------------------------------------ this machine */

static void put_versions(reporting *r)
{
    OT_AUTO(ot_str_done) ot_str os = OT_STR_INIT;
    struct utsname u = {0};
    (void)uname(&u);
    ot_rc rc = ot_disk_read_all(ot_disk_posix(), "/etc/os-release", 1 << 16, &os, NULL);
    const char *name = rc == OT_OK ? strstr(os.data, "PRETTY_NAME=") : NULL;
    char line[128] = "unknown";
    if (name != NULL) {
        name += strlen("PRETTY_NAME=");
        snprintf(line, sizeof line, "%.*s", (int)strcspn(name, "\n"), name);
    }
    json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:I,s:s,s:I}", "overtake", OT_VERSION, "kernel",
                          u.release, "machine", u.machine, "os", line, "cpus",
                          (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "data", r->data, "made_us",
                          (json_int_t)r->now_us);
    char *text = j != NULL ? json_dumps(j, JSON_INDENT(2)) : NULL;
    if (text != NULL) {
        ot_report_add(&r->report, "versions.json", text, strlen(text));
    }
    free(text);
    json_decref(j);
}

/* Values only of what says how programs are found and run; of all others the name. */
static void put_environment(reporting *r)
{
    static const char *const shown[] = {
        "OVERTAKE_", "PATH=", "LD_",   "PYTHON", "VIRTUAL_ENV=", "CONDA_",  "CUDA_",
        "OMP_",      "TF_",   "LANG=", "LC_",    "TZ=",          "TMPDIR=", "NO_COLOR="};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    for (size_t i = 0; environ[i] != NULL; i++) {
        bool all = false;
        for (size_t k = 0; k < OT_COUNT(shown); k++) {
            all = all || ot_has_prefix(environ[i], shown[k]);
        }
        ot_str_addf(&out, "%.*s\n", all ? 4096 : (int)strcspn(environ[i], "="), environ[i]);
    }
    ot_report_add(&r->report, "environment.txt", out.data, out.len);
}

static void on_check(void *arg, const ot_check *c)
{
    ot_str *out = arg;
    ot_str_adds(out, out->len > 1 ? ",\n " : "");
    ot_check_json(c, out);
}

static void put_doctor(reporting *r)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    char exe[OT_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    ot_doctor_options o = {.data_dir = r->data,
                           .exe = exe,
                           .listen = {.host = "127.0.0.1", .port = 8000},
                           .control = {.host = "127.0.0.1", .port = 9000},
                           .no_app = !ot_args_bool(r->args, "app")};
    if (n <= 0) {
        ot_report_left_out(&r->report, "doctor.json", "/proc is not mounted");
        return;
    }
    exe[n] = 0;
    ot_str_addc(&out, '[');
    ot_doctor(&o, on_check, &out);
    ot_str_addc(&out, ']');
    ot_report_add(&r->report, "doctor.json", out.data, out.len);
}

/* ------------------------------------------------------------------ a store that nobody has */

static ot_rc add_event(void *arg, const ot_event *e, ot_error *err)
{
    ot_str *out = arg;
    ot_str_adds(out, out->len > 1 ? ",\n" : "");
    ot_api_event_json(e, out);
    return out->len <= ANSWER_MAX ? OT_OK
                                  : ot_fail(err, OT_EXHAUSTED, "more than 16 MiB of events");
}

static ot_rc read_events(ot_txn *txn, void *arg, ot_error *err)
{
    ot_event_query q = {.newest_first = true, .limit = 1000};
    return ot_events_read(txn, &q, add_event, arg, err);
}

static void put_stopped(reporting *r)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    OT_AUTO(ot_fd_close) int fd = -1;
    char lock[OT_PATH_MAX], dir[OT_PATH_MAX];
    ot_error err = {0};
    ot_store *store;
    if (ot_path_join(lock, r->data, "lock", &err) != OT_OK ||
        ot_path_join(dir, r->data, "store", &err) != OT_OK ||
        !ot_disk_exists(ot_disk_posix(), lock) || !ot_disk_exists(ot_disk_posix(), dir) ||
        ot_disk_lock_file(lock, &fd, &err) != OT_OK ||
        ot_store_open_view(ot_disk_posix(), dir, &store, &err) != OT_OK) {
        return;
    }
    ot_str_addc(&out, '[');
    ot_rc rc = ot_store_read(store, read_events, &out, &err);
    ot_str_addc(&out, ']');
    ot_store_close(store);
    if (rc == OT_OK) {
        ot_report_add(&r->report, "events.json", out.data, out.len);
    } else {
        ot_report_left_out(&r->report, "events.json", err.msg);
    }
}

/* ------------------------------------------------------------------ the control plane */

static ot_rc take(void *arg, const char *p, size_t n, ot_error *err)
{
    ot_str *out = arg;
    if (out->len + n > ANSWER_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "more than %u MiB", ANSWER_MAX >> 20);
    }
    ot_str_add(out, p, n);
    return OT_OK;
}

/* False when it could not be had; then it is among what was left out. */
static bool fetch(reporting *r, const char *name, const char *target, ot_str *out)
{
    ot_error err = {0};
    if (r->client == NULL) {
        return false;
    }
    ot_rc rc = ot_cli_client_stream(r->client, target, take, out, &err);
    if (rc != OT_OK || out->failed) {
        ot_report_left_out(&r->report, name, rc != OT_OK ? err.msg : "no memory");
        return false;
    }
    return true;
}

static void put(reporting *r, const char *name, const char *target)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (fetch(r, name, target, &out)) {
        ot_report_add(&r->report, name, out.data, out.len);
    }
}

static void put_of(reporting *r, const char *kind, const char *app, const char *before,
                   const char *after)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    char name[80];
    snprintf(name, sizeof name, "%s-%.60s.%s", kind, app,
             strcmp(kind, "config") == 0 ? "yaml" : "json");
    ot_cli_target(&target, before, app, after);
    put(r, name, target.data);
}

static void put_app(reporting *r, const char *app, const char *deployment)
{
    put_of(r, "app", app, "/api/v1/apps/", "");
    put_of(r, "config", app, "/api/v1/apps/", "/config");
    put_of(r, "why", app, "/api/v1/apps/", "/why");
    if (deployment != NULL) {
        put_of(r, "windows", deployment, "/api/v1/deployments/", "/windows?points=240");
    }
}

/* Secrets of all apps first: one may show in the log of another. */
static void know_webhooks(reporting *r, const json_t *apps)
{
    size_t i;
    json_t *a;
    json_array_foreach(apps, i, a)
    {
        OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT, config = OT_STR_INIT;
        const char *name = json_string_value(json_object_get(a, "app"));
        ot_cli_target(&target, "/api/v1/apps/", name != NULL ? name : "", "/config");
        if (i < APPS_MAX && fetch(r, "webhooks", target.data, &config)) {
            add_webhooks(r, config.data);
        }
    }
}

static void put_apps(reporting *r)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    size_t i;
    json_t *a;
    if (!fetch(r, "apps.json", "/api/v1/apps", &text)) {
        return;
    }
    json_t *answer = json_loadb(text.data, text.len, 0, NULL);
    const json_t *apps = json_object_get(answer, "apps");
    know_webhooks(r, apps);
    ot_report_add(&r->report, "apps.json", text.data, text.len);
    json_array_foreach(apps, i, a)
    {
        const char *name = json_string_value(json_object_get(a, "app"));
        if (i == APPS_MAX) {
            ot_report_left_out(&r->report, "apps", "there are more than 64");
            break;
        }
        if (name != NULL) {
            put_app(r, name, json_string_value(json_object_get(a, "deployment")));
        }
    }
    json_decref(answer);
}

static void put_control(reporting *r)
{
    ot_error err = {0};
    ot_rc rc = ot_cli_client_open(r->args, &r->client, &err);
    OT_AUTO(ot_str_done) ot_str health = OT_STR_INIT;
    if (rc == OT_OK) {
        rc = ot_cli_client_stream(r->client, "/api/v1/health", take, &health, &err);
    }
    if (rc != OT_OK) {
        ot_report_left_out(&r->report, "all that the control plane knows", err.msg);
        ot_cli_client_close(r->client);
        r->client = NULL;
        put_stopped(r);
        return;
    }
    ot_report_add(&r->report, "health.json", health.data, health.len);
    put_apps(r);
    put(r, "events.json", "/api/v1/events?limit=1000&newest=1");
    put(r, "verify.json", "/api/v1/events/verify");
    put(r, "runs.json", "/api/v1/runs?limit=100");
    put(r, "models.json", "/api/v1/models");
    put(r, "replicas.json", "/api/v1/replicas");
    put(r, "metrics.txt", "/metrics");
}

/* ------------------------------------------------------------------ runs' logs */

typedef struct newest {
    int64_t id[LOGS];
    size_t n;
} newest;

static ot_rc note_run(void *arg, const char *name, ot_error *err)
{
    newest *l = arg;
    int64_t id;
    (void)err;
    if (ot_parse_i64(name, &id, NULL) != OT_OK || id <= 0) {
        return OT_OK;
    }
    size_t at = l->n < LOGS ? l->n++ : LOGS;
    while (at > 0 && l->id[at - 1] < id) {
        if (at < LOGS) {
            l->id[at] = l->id[at - 1];
        }
        at--;
    }
    if (at < LOGS) {
        l->id[at] = id;
    }
    return OT_OK;
}

static void put_tail(reporting *r, int64_t id, const char *file)
{
    OT_AUTO(ot_free_ptr) char *text = ot_alloc(LOG_TAIL);
    char path[OT_PATH_MAX], rel[64], name[80];
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    uint64_t size = 0;
    size_t n = 0;
    snprintf(rel, sizeof rel, "runs/%" PRId64 "/%s", id, file);
    snprintf(name, sizeof name, "runs/%" PRId64 "-%s", id, file);
    if (text == NULL || ot_path_join(path, r->data, rel, NULL) != OT_OK ||
        d->ops->open(d, path, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &f, NULL) != OT_OK) {
        return;
    }
    ot_rc rc = f->ops->size(f, &size, NULL);
    uint64_t from = size > LOG_TAIL ? size - LOG_TAIL : 0;
    if (rc == OT_OK) {
        rc = f->ops->pread(f, text, LOG_TAIL, from, &n, NULL);
    }
    ot_file_close(f);
    if (rc == OT_OK && n > 0) {
        /* A cut line could be the rest of a secret whose beginning would have told. */
        const char *line = from > 0 ? memchr(text, '\n', n) : text;
        size_t skip = line == NULL ? n : (size_t)(line - text) + (from > 0);
        ot_report_add(&r->report, name, text + skip, n - skip);
        if (from > 0) {
            ot_report_left_out(&r->report, name, "of its log only the last 64 KiB");
        }
    }
}

static void put_runs(reporting *r)
{
    char runs[OT_PATH_MAX];
    newest l = {0};
    ot_disk *d = ot_disk_posix();
    if (!ot_args_bool(r->args, "logs")) {
        ot_report_left_out(&r->report, "logs of runs", "--no-logs");
        return;
    }
    if (ot_path_join(runs, r->data, "runs", NULL) != OT_OK || !ot_disk_exists(d, runs) ||
        d->ops->list(d, runs, note_run, &l, NULL) != OT_OK) {
        return;
    }
    for (size_t i = 0; i < l.n; i++) {
        put_tail(r, l.id[i], "exit.json");
        put_tail(r, l.id[i], "shim.log");
        put_tail(r, l.id[i], OT_LAUNCH_JOB);
        put_tail(r, l.id[i], "log");
    }
    if (l.n == LOGS) {
        ot_report_left_out(&r->report, "logs of older runs", "only the newest 20 are here");
    }
}

/* ------------------------------------------------------------------ the file */

static void gather(reporting *r)
{
    know_secrets(r);
    ot_report_left_out(&r->report, "rows, samples, labels, models, data sets", "never taken");
    ot_report_left_out(&r->report, "token, signing key", "never taken");
    ot_report_left_out(&r->report, "what `up` logged",
                       "it goes to standard error: see the journal");
    put_control(r); /* first: it knows of secrets that others may show */
    put_versions(r);
    put_environment(r);
    put_doctor(r);
    put_runs(r);
}

static void name_it(const reporting *r, char folder[64])
{
    char text[32];
    ot_format_time(r->now_us, text);
    snprintf(folder, 64, "overtake-report-%.4s%.2s%.2sT%.2s%.2s%.2sZ", text, text + 5, text + 8,
             text + 11, text + 14, text + 17);
}

static ot_rc make(reporting *r, char path[OT_PATH_MAX], uint64_t *size_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str packed = OT_STR_INIT;
    const char *given = ot_args_pos(r->args, "FILE");
    char folder[64], name[80];
    r->now_us = ot_clock_wall_us();
    name_it(r, folder);
    snprintf(name, sizeof name, "%s.tar.gz", folder);
    OT_TRY(ot_datadir_absolute(given != NULL ? given : name, path, err));
    OT_TRY(ot_datadir_absolute(ot_args_str(r->args, "data"), r->data, err));
    if (ot_disk_exists(ot_disk_posix(), path)) {
        return ot_fail(err, OT_EXISTS, "%s: there is one already; name another file", path);
    }
    OT_TRY(ot_report_init(&r->report, ot_args_size(r->args, "max"), err));
    gather(r);
    OT_TRY(ot_report_pack(&r->report, folder, r->now_us, &packed, err));
    *size_out = packed.len;
    return ot_disk_write_atomic(ot_disk_posix(), path, packed.data, packed.len, 0600, err);
}

static int tell(const reporting *r, const char *path, uint64_t size)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    char text[32];
    if (ot_args_json(r->args)) {
        json_t *j = json_pack("{s:s,s:I,s:I,s:I,s:O}", "file", path, "bytes", (json_int_t)size,
                              "entries", (json_int_t)r->report.n, "redacted",
                              (json_int_t)r->report.redactor.count, "left_out", r->report.left_out);
        int code = ot_cli_print_json(j);
        json_decref(j);
        return code;
    }
    ot_str_addf(&out,
                "%s\n%s, %zu files; %" PRIu64 " secrets were taken out. Look through it before you "
                "send it: manifest.json lists what is in it and what is not.\n",
                path, ot_format_size(size, text), r->report.n, r->report.redactor.count);
    return ot_cli_print(&out);
}

static int run(const ot_args *args)
{
    reporting r = {.args = args};
    char path[OT_PATH_MAX];
    uint64_t size = 0;
    ot_error err = {0};
    ot_rc rc = make(&r, path, &size, &err);
    int code = rc == OT_OK ? tell(&r, path, size) : ot_cli_fail(args, &err);
    ot_cli_client_close(r.client);
    if (r.report.entries != NULL) {
        ot_report_done(&r.report);
    }
    return code;
}

static const ot_opt opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "max",
     .type = OT_OPT_SIZE,
     .def = "32MiB",
     .min = "64KiB",
     .max = "256MiB",
     .help = "how much goes in, before it is packed",
     .env = ""},
    {.name = "logs",
     .type = OT_OPT_BOOL,
     .def = "true",
     .help = "without what the newest runs printed",
     .env = ""},
    {.name = "app",
     .type = OT_OPT_BOOL,
     .def = "true",
     .help = "without the doctor's small app",
     .env = ""},
    {.name = "hide-home",
     .type = OT_OPT_BOOL,
     .def = "true",
     .help = "the home directory as it is, not as ~",
     .env = ""},
};
static const ot_pos pos[] = {{.name = "FILE",
                              .help = "the archive, .tar.gz [overtake-report-TIME.tar.gz here]",
                              .optional = true}};

const ot_command ot_cli_report_command = {
    .name = "report",
    .summary = "pack what somebody else needs to help: no secrets, no data",
    .detail =
        "Versions, what the doctor finds, configuration, status, the last events, metrics, windows "
        "of traffic, the\nend of runs' logs. Without rows, samples and labels. Tokens, keys, "
        "passwords, webhooks, what stands in\nURLs and environment variables named like secrets "
        "are "
        "taken out. Works without a control plane too.",
    OT_OPTS(opts),
    OT_POS(pos),
    .run = run,
};
