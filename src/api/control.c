#include "api/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sock.h"
#include "registry/promote.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 64
#define WORKER_QUEUE 1024
#define BACKUP_QUEUE 4
#define POSTS_MAX 256
#define CONNS_MAX 256
#define MEMORY_MAX (96u << 20)
#define CACHE_KIB 256
#define DRAIN_MS 5000
#define DRAIN_GRACE_MS 500 /* who has just connected is about to ask */
#define TICK_MAX_US 60000000
#define TICK_MIN_US 1000

struct api_watch {
    api *a;
    int64_t run;
    int fd;
    ot_watch watch;
    api_watch *next;
};

/* ------------------------------------------------------------------ ports of the pipeline */

static void desired_changed(void *self)
{
    api *a = self;
    if (a->hub != NULL) {
        ot_hub_desired_changed(a->hub);
    }
}

static const json_t *find_variant(const json_t *observed, const char *deployment, int64_t version)
{
    size_t i, k;
    const json_t *d, *v;
    json_array_foreach(json_object_get(observed, "deployments"), i, d)
    {
        const char *name = json_string_value(json_object_get(d, "name"));
        json_array_foreach(json_object_get(d, "variants"), k, v)
        {
            if (name != NULL && strcmp(name, deployment) == 0 &&
                json_integer_value(json_object_get(v, "version")) == version) {
                return v;
            }
        }
    }
    return NULL;
}

static ot_rc serves(void *self, const char *deployment, int64_t version, ot_error *err)
{
    api *a = self;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    size_t i;
    const json_t *replica;
    ot_hub_json(a->hub, &text);
    json_t *list = text.failed ? NULL : json_loadb(text.data, text.len, 0, NULL);
    ot_rc rc = json_array_size(list) > 0 ? OT_OK
                                         : ot_fail(err, OT_PRECONDITION, "no replica is connected");
    json_array_foreach(list, i, replica)
    {
        const json_t *v = find_variant(json_object_get(replica, "observed"), deployment, version);
        const char *state = json_string_value(json_object_get(v, "state"));
        if (rc == OT_OK && (state == NULL || strcmp(state, "serving") != 0)) {
            rc = ot_fail(err, OT_PRECONDITION, "v%" PRId64 " of '%s' is %s at replica %s", version,
                         deployment, state != NULL ? state : "not there",
                         json_string_value(json_object_get(replica, "id")));
        }
    }
    json_decref(list);
    return rc;
}

static ot_rc async(void *self, ot_pipeline_work_fn *work, ot_pipeline_done_fn *done, void *arg,
                   ot_error *err)
{
    api *a = self;
    return ot_aside_submit(a->aside, work, done, arg, err);
}

static void watch_free(api_watch *w)
{
    api_watch **at = &w->a->watches;
    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
    ot_loop_unwatch(w->a->loop, &w->watch);
    ot_fd_close(&w->fd);
    ot_free(w);
}

static void on_run_ended(void *arg, unsigned events)
{
    (void)events;
    api_watch *w = arg;
    api *a = w->a;
    int64_t run = w->run;
    watch_free(w);
    a->touched = true;
    ot_pipeline_run_ended(a->pipeline, run);
}

static void watch_run(void *self, int64_t run, int fd)
{
    api *a = self;
    ot_error err = {0};
    api_watch *w = ot_calloc(1, sizeof *w);
    if (w != NULL) {
        *w = (api_watch){.a = a, .run = run, .fd = fd, .next = a->watches};
        if (ot_loop_watch(a->loop, &w->watch, fd, OT_LOOP_READ, on_run_ended, w, &err) == OT_OK) {
            a->watches = w;
            return;
        }
        ot_free(w);
    }
    ot_err("control", "run %" PRId64 " is not watched and is looked at after a restart: %s", run,
           w == NULL ? "no memory" : err.msg);
    ot_fd_close(&fd);
}

static void alert(void *self, const char *url, const char *json)
{
    api *a = self;
    ot_alerts_post(a->alerts, url, json);
}

/* ------------------------------------------------------------------ what agents say */

static ot_rc on_push(void *self, const char *json, size_t json_len, const void *bin, size_t bin_len,
                     ot_error *err)
{
    api *a = self;
    a->touched = true;
    return ot_pipeline_push(a->pipeline, json, json_len, bin, bin_len, err);
}

static void on_observed(void *self, const char *agent, const char *json, size_t json_len)
{
    api *a = self;
    a->touched = true;
    ot_pipeline_observed(a->pipeline, agent, json, json_len);
}

static void on_connected(void *self, const char *agent, bool is)
{
    api *a = self;
    a->touched = true;
    ot_pipeline_replica(a->pipeline, agent, is);
    const char *incarnation = is ? ot_hub_incarnation(a->hub, agent) : NULL;
    if (incarnation != NULL) {
        ot_pipeline_incarnation(a->pipeline, incarnation);
    }
}

static const char *text_of(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s != NULL ? s : "";
}

static void on_asked(void *self, const char *agent, const char *json, size_t json_len, ot_str *out)
{
    api *a = self;
    ot_error err = {0};
    int64_t revision = 0;
    json_t *j = json_loadb(json, json_len, 0, NULL);
    ot_pipeline_ask ask = {.replica = agent,
                           .verb = text_of(j, "verb"),
                           .deployment = text_of(j, "deployment"),
                           .key = json_string_value(json_object_get(j, "key")),
                           .from = text_of(j, "from")};
    a->touched = true;
    ot_rc rc = a->stopping ? ot_fail(&err, OT_UNAVAILABLE, "the control plane is going down")
                           : ot_pipeline_asked(a->pipeline, &ask, &revision, &err);
    if (rc == OT_OK) {
        ot_str_addf(out, "\"revision\":%" PRId64, revision);
    } else {
        ot_info("control", "refused at %s: %.40s of '%.64s' for %.64s: %s", agent, ask.verb,
                ask.deployment, ask.from, err.msg);
        ot_str_addf(out, "\"code\":%d,\"error\":\"", -(int)rc);
        ot_str_add_json(out, err.msg, strlen(err.msg));
        ot_str_addc(out, '"');
    }
    json_decref(j);
}

static ot_rc desired(void *self, ot_str *json_out, ot_error *err)
{
    api *a = self;
    return ot_pipeline_desired(a->pipeline, json_out, err);
}

/* ------------------------------------------------------------------ time */

static void on_timer(void *arg)
{
    api *a = arg;
    a->touched = true;
}

/* The pipeline counts on the wall clock, which may jump: no wait is longer than a minute. */
static void tick(api *a)
{
    ot_pipeline_tick(a->pipeline);
    int64_t next = ot_pipeline_next_us(a->pipeline), now = ot_clock_wall_us();
    int64_t wait = next > now + TICK_MAX_US ? TICK_MAX_US : OT_MAX(next - now, TICK_MIN_US);
    ot_loop_timer_set(a->loop, &a->timer, ot_clock_mono_ns() + (uint64_t)wait * 1000, on_timer, a);
}

static void on_turn(void *arg)
{
    api *a = arg;
    if (a->touched && !a->stopping) {
        a->touched = false;
        tick(a);
    }
    api_streams_turn(a);
}

/* ------------------------------------------------------------------ the end */

static void on_drained(void *arg)
{
    api *a = arg;
    ot_loop_stop(a->loop);
}

static void on_signal(void *arg)
{
    api *a = arg;
    if (a->stopping) {
        ot_loop_stop(a->loop);
        return;
    }
    a->stopping = true;
    atomic_store(&a->no_backups, true);
    ot_info("control", "draining");
    api_streams_close(a);
    ot_http_server_drain(a->http, DRAIN_GRACE_MS, DRAIN_MS, on_drained, a);
}

static void on_reload(void *arg)
{
    api *a = arg;
    ot_error err = {0};
    if (ot_pipeline_site(a->pipeline, a->opt->site_path, &err) != OT_OK) {
        ot_err("control", "the site file is not in force: %s", err.msg);
    }
    ot_tls_watch_now(&a->tls_watch);
    a->touched = true;
}

/* ------------------------------------------------------------------ the start */

/* A Unix socket of the data directory, for this user only. */
static ot_rc open_socket(const api *a, const char *name, int *fd_out, ot_error *err)
{
    char text[OT_PATH_MAX + 32];
    ot_addr addr;
    snprintf(text, sizeof text, "unix:%s/%s", a->opt->data_dir, name);
    OT_TRY(ot_addr_parse(text, &addr, err));
    /* The data directory is ours: whoever still answers there is a child of a control plane that
     * was killed, on its way to another program. */
    ot_disk *d = ot_disk_posix();
    (void)d->ops->unlink(d, addr.host, NULL);
    mode_t old = umask(0177); /* before other threads are here: it is the process's */
    ot_rc rc = ot_sock_listen(&addr, BACKLOG, fd_out, err);
    umask(old);
    OT_TRY(rc);
    ot_sock_nonblock(*fd_out, true);
    return OT_OK;
}

static ot_rc open_sockets(api *a, ot_error *err)
{
    OT_TRY(open_socket(a, "agent.sock", &a->agent_fd, err));
    return a->opt->tls.cert != NULL ? open_socket(a, OT_API_LOCAL, &a->local_fd, err) : OT_OK;
}

static ot_rc open_store(api *a, ot_error *err)
{
    char dir[OT_PATH_MAX];
    ot_store_options o = {.struct_size = sizeof o, .cache_kib = CACHE_KIB};
    OT_TRY(ot_path_join(dir, a->opt->data_dir, "store", err));
    return ot_store_open(ot_disk_posix(), dir, &o, &a->store, err);
}

static ot_rc open_pipeline(api *a, ot_error *err)
{
    ot_pipeline_config cfg = {.store = a->store,
                              .data_dir = a->opt->data_dir,
                              .exe = a->opt->exe,
                              .ports = {.self = a,
                                        .serves = serves,
                                        .desired_changed = desired_changed,
                                        .async = async,
                                        .watch_run = watch_run,
                                        .alert = alert}};
    ot_hub_ops ops = {.self = a,
                      .push = on_push,
                      .observed = on_observed,
                      .connected = on_connected,
                      .asked = on_asked,
                      .desired = desired};
    OT_TRY(ot_alerts_create(a->store, &a->alerts, err));
    OT_TRY(ot_aside_create(a->loop, WORKER_QUEUE, &a->aside, err));
    OT_TRY(ot_aside_create(a->loop, BACKUP_QUEUE, &a->backups, err));
    OT_TRY(ot_pipeline_create(&cfg, &a->pipeline, err));
    OT_TRY(ot_pipeline_site(a->pipeline, a->opt->site_path, err));
    return ot_hub_create(a->loop, a->agent_fd, &ops, &a->hub, err);
}

static ot_rc open_http(api *a, ot_error *err)
{
    ot_http_options o;
    ot_http_options_init(&o);
    o.conns_max = CONNS_MAX;
    o.memory_max_bytes = MEMORY_MAX;
    o.handler = api_handle;
    o.body_max = api_body_max;
    o.arg = a;
    OT_TRY(ot_http_server_create(a->loop, &o, &a->http, err));
    if (a->local_fd >= 0) {
        OT_TRY(ot_tls_create(&a->opt->tls, &a->tls, err));
        ot_tls_watch_start(&a->tls_watch, a->loop, a->tls, "control", a->opt->tls.cert);
        OT_TRY(ot_http_server_listen(a->http, a->local_fd, NULL, err));
    }
    return ot_http_server_listen(a->http, a->opt->listen_fd, a->tls, err);
}

static void name_unnamed(api *a)
{
    const char *user = getenv("USER");
    if (user == NULL ||
        ot_auth_actor((ot_slice){.p = user, .n = strlen(user)}, "", a->unnamed, NULL) != OT_OK ||
        a->unnamed[0] == 0) {
        snprintf(a->unnamed, sizeof a->unnamed, "uid-%u", (unsigned)geteuid());
    }
}

static ot_rc open_keys(api *a, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(a->incoming, a->opt->data_dir, OT_INCOMING_DIR, err));
    OT_TRY(ot_path_join(path, a->opt->data_dir, OT_SIGNER_FILE, err));
    return ot_signer_open(ot_disk_posix(), path, &a->signer, err);
}

static ot_rc start(api *a, ot_error *err)
{
    name_unnamed(a);
    OT_TRY(open_keys(a, err));
    OT_TRY(ot_auth_load(&a->auth, a->opt->data_dir, ot_sock_port(a->opt->listen_fd), err));
    a->auth.tls = a->opt->tls.cert != NULL;
    OT_TRY(ot_loop_create(POSTS_MAX, &a->loop, err));
    OT_TRY(ot_loop_signal(a->loop, SIGTERM, on_signal, a, err));
    OT_TRY(ot_loop_signal(a->loop, SIGINT, on_signal, a, err));
    OT_TRY(ot_loop_signal(a->loop, SIGHUP, on_reload, a, err));
    OT_TRY(open_sockets(a, err));
    OT_TRY(open_store(a, err));
    OT_TRY(ot_log_head_open(a->store, a->opt->data_dir, &a->log_head, err));
    OT_TRY(open_pipeline(a, err));
    OT_TRY(api_streams_create(a, err));
    OT_TRY(open_http(a, err));
    a->touched = true;
    ot_loop_hook_add(a->loop, &a->hook, OT_HOOK_BATCH, on_turn, a);
    ot_loop_again(a->loop);
    return api_supervisor_start(a, err);
}

/* What jobs had finished is still saved, so the pipeline goes after the worker; requests that wait
 * for a job are answered then, so the server goes after both. */
static void finish(api *a)
{
    ot_hub_destroy(a->hub);
    a->hub = NULL;
    if (a->backups != NULL) {
        atomic_store(&a->no_backups, true);
        ot_aside_stop(a->backups);
    }
    if (a->aside != NULL) {
        ot_aside_stop(a->aside);
    }
    while (a->watches != NULL) {
        watch_free(a->watches);
    }
    if (a->loop != NULL) {
        api_supervisor_stop(a);
        ot_loop_timer_cancel(a->loop, &a->timer);
        ot_tls_watch_stop(&a->tls_watch);
        ot_loop_hook_remove(a->loop, &a->hook);
    }
    if (a->streams != NULL) {
        api_streams_close(a);
        api_streams_destroy(a);
    }
    ot_pipeline_destroy(a->pipeline);
    ot_aside_destroy(a->aside);
    ot_aside_destroy(a->backups);
    ot_http_server_destroy(a->http);
    ot_tls_destroy(a->tls);
    ot_alerts_destroy(a->alerts);
    ot_log_head_close(a->log_head);
    ot_store_close(a->store);
    ot_loop_destroy(a->loop);
    ot_fd_close(&a->agent_fd);
    ot_fd_close(&a->local_fd);
    ot_signer_wipe(&a->signer);
}

ot_rc ot_api_run(const ot_api_options *o, ot_error *err)
{
    api a = {.opt = o, .agent_fd = -1, .local_fd = -1};
    ot_rc rc = start(&a, err);
    if (rc == OT_OK) {
        ot_info("control", "serving %s", o->data_dir);
        rc = ot_loop_run(a.loop, err);
    }
    finish(&a);
    return rc;
}
