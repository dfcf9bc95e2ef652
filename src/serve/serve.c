#include "serve/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/sock.h"
#include "serve/record.h"
#include "serve/sleep.h"
#include "serve/trace.h"

#include <string.h>

#define SAMPLE_BYTES_DEFAULT (UINT64_C(2) << 30)

void ot_serve_options_init(ot_serve_options *o)
{
    *o = (ot_serve_options){
        .struct_size = sizeof *o,
        .id = "replica-0",
        .workers = 1,
        .pool_threads = 1,
        .poll_us = 2000000,
        .window_us = 60000000,
        .count_budget = 0.02,
        .inline_us = 300,
        .hang_kill_us = 30000000,
        .hang_us = 10000000,
        .queue_max = 1024,
        .wait_us_max = 10000000,
        .drain_ms = 10000,
        .body_max = 64u << 20,
        .trace_sample = 0.01,
        .record_max = 64u << 20,
        .record_sample = 1,
        .conns_max = 16384,
        .access_sample = 1,
        .access_max = 64u << 20,
        .open_health = true,
        .supervisor_fd = -1,
    };
}

static bool wants_tls(const ot_serve_options *o)
{
    bool any = false;
    for (size_t i = 0; i < o->n_listeners; i++) {
        any |= o->listeners[i].tls;
    }
    return any;
}

static ot_rc check(const ot_serve_options *o, ot_error *err)
{
    if ((o->dir == NULL) == (o->agent == NULL)) {
        return ot_fail(err, OT_INVALID,
                       "serve needs a directory with models or, instead of it, "
                       "--agent, the control plane's address");
    }
    if (o->agent != NULL && o->data == NULL) {
        return ot_fail(err, OT_INVALID,
                       "--agent needs --data, a directory for the replica's state");
    }
    if (o->agent != NULL && o->keys != NULL) {
        return ot_fail(
            err, OT_INVALID,
            "--keys is for a replica alone; under a control plane keys are its: overtake "
            "keys add");
    }
    if (o->n_listeners < 1 || o->n_listeners > OT_SERVE_LISTENERS_MAX) {
        return ot_fail(err, OT_INVALID, "%zu listeners; serve needs 1 to %d", o->n_listeners,
                       OT_SERVE_LISTENERS_MAX);
    }
    if ((o->tls.cert != NULL) != (o->tls.key != NULL)) {
        return ot_fail(err, OT_INVALID, "--tls-cert and --tls-key belong together");
    }
    if (o->tls.cert != NULL ? !wants_tls(o) : wants_tls(o) || o->tls.client_ca != NULL) {
        return ot_fail(err, OT_INVALID,
                       "--listen-tls needs --tls-cert and --tls-key, and these (and "
                       "--tls-client-ca) need --listen-tls");
    }
    if (o->workers < 1 || o->workers > OT_SERVE_WORKERS_MAX || o->pool_threads < 1 ||
        o->pool_threads > OT_SERVE_WORKERS_MAX) {
        return ot_fail(err, OT_INVALID, "%u workers and %u pool threads; each may be 1 to %d",
                       o->workers, o->pool_threads, OT_SERVE_WORKERS_MAX);
    }
    if (!(o->count_budget >= 0 && o->count_budget <= 1)) {
        return ot_fail(err, OT_INVALID, "a count budget of %g is not in 0..1", o->count_budget);
    }
    return OT_OK;
}

static ot_rc copy_string(ot_serve *s, const char **z, ot_error *err)
{
    if (*z == NULL) {
        return OT_OK;
    }
    *z = ot_arena_strdup(&s->memory, *z);
    return *z != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "serve: out of memory");
}

static ot_rc copy_options(ot_serve *s, const ot_serve_options *o, ot_error *err)
{
    memcpy(&s->o, o, OT_MIN(o->struct_size, sizeof s->o));
    OT_TRY(copy_string(s, &s->o.dir, err));
    OT_TRY(copy_string(s, &s->o.agent, err));
    OT_TRY(copy_string(s, &s->o.data, err));
    OT_TRY(copy_string(s, &s->o.id, err));
    OT_TRY(copy_string(s, &s->o.plugin_path, err));
    OT_TRY(copy_string(s, &s->o.otlp, err));
    OT_TRY(copy_string(s, &s->o.deployments, err));
    OT_TRY(copy_string(s, &s->o.record, err));
    OT_TRY(copy_string(s, &s->o.keys, err));
    OT_TRY(copy_string(s, &s->o.access_log, err));
    if (s->o.dir != NULL) { /* "models/" is "models" */
        size_t n = strlen(s->o.dir);
        char *dir = ot_arena_strndup(&s->memory, s->o.dir, n);
        while (dir != NULL && n > 1 && dir[n - 1] == '/') {
            dir[--n] = '\0';
        }
        s->o.dir = dir;
    }
    ot_serve_listener *l = ot_arena_calloc(&s->memory, o->n_listeners, sizeof *l);
    if (l == NULL || (o->dir != NULL && s->o.dir == NULL)) {
        return ot_fail(err, OT_EXHAUSTED, "serve: out of memory");
    }
    memcpy(l, o->listeners, o->n_listeners * sizeof *l);
    s->o.listeners = l;
    return OT_OK;
}

static ot_rc make_spool(ot_serve *s, ot_error *err)
{
    char dir[OT_PATH_MAX];
    OT_TRY(ot_path_join(dir, s->o.data, "replica/spool", err));
    OT_TRY(ot_disk_mkdirs(s->disk, dir, 0700, err));
    OT_TRY(ot_spool_open(s->disk, dir, s->incarnation, SAMPLE_BYTES_DEFAULT, &s->spool, err));
    return ot_sampler_create(s->spool, ot_serve_sampler_slot(s), &s->sampler, err);
}

static ot_rc prepare(ot_serve *s, ot_error *err)
{
    ot_random_bytes(&s->incarnation, sizeof s->incarnation);
    s->start_ns = ot_clock_mono_ns();
    s->disk = ot_disk_posix();
    s->n_workers = s->o.workers;
    s->n_slots = ot_serve_loader_slot(s) + 1;
    OT_TRY(ot_loop_create(0, &s->loop, err));
    if (s->o.tls.cert != NULL) {
        OT_TRY(ot_tls_create(&s->o.tls, &s->tls, err));
    }
    ot_sock_raise_limit();
    OT_TRY(ot_runtime_create(s->o.plugin_path, &s->runtime, err));
    if (s->o.agent != NULL) {
        OT_TRY(make_spool(s, err));
    }
    if (s->o.otlp != NULL) {
        OT_TRY(ot_tracer_create(s->o.otlp, s->o.trace_sample, s->o.id, s->incarnation, &s->tracer,
                                err));
    }
    if (s->o.record != NULL) {
        OT_TRY(ot_recorder_create(s->o.record, s->o.record_max, s->o.record_sample, s->incarnation,
                                  &s->recorder, err));
    }
    if (s->o.keyless_each > 0 || s->o.keyless_all > 0) {
        OT_TRY(ot_guests_create(s->o.keyless_each, s->o.keyless_all, &s->guests, err));
    }
    if (s->o.access_log != NULL) {
        OT_TRY(ot_access_log_create(s->disk, s->o.access_log, s->o.access_sample, s->o.access_max,
                                    s->n_workers, &s->access_log, err));
    }
    ot_route *empty;
    OT_TRY(ot_route_create(0, &empty, err));
    atomic_store_explicit(&s->route, empty, memory_order_release);
    return ot_control_create(s, &s->control, err);
}

ot_rc ot_serve_create(const ot_serve_options *o, ot_serve **serve_out, ot_error *err)
{
    OT_TRY(check(o, err));
    ot_serve *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "serve: out of memory");
    }
    ot_arena_init(&s->memory, 4096, 1u << 20);
    ot_rc rc = copy_options(s, o, err);
    if (rc == OT_OK) {
        rc = prepare(s, err);
    }
    if (rc != OT_OK) {
        ot_serve_destroy(s);
        return rc;
    }
    *serve_out = s;
    return OT_OK;
}

ot_loop *ot_serve_loop(ot_serve *s)
{
    return s->loop;
}

/* ---- running */

static void on_wrote(void *arg)
{
    ot_serve *s = arg;
    ot_agent_pump(s->control->agent);
}

/* On the sampler's thread. A post that finds the queue full is made up for by the next one. */
static void wrote_segment(void *arg)
{
    ot_serve *s = arg;
    ot_rc ignored = ot_loop_post(s->loop, on_wrote, s);
    (void)ignored;
}

static void on_asleep(void *arg, ot_call *call)
{
    ot_sleep_wait(arg, call);
}

static ot_rc start_threads(ot_serve *s, ot_error *err)
{
    ot_pool_options pool = {
        .threads = s->o.pool_threads,
        .first_slot = ot_serve_pool_slot(s),
        .queue_max = s->o.queue_max,
        .wait_us_max = s->o.wait_us_max,
        .done = ot_worker_done,
        .asleep = on_asleep,
        .arg = s,
    };
    OT_TRY(ot_pool_create(&pool, &s->pool, err));
    for (unsigned i = 0; i < s->n_workers; i++) {
        OT_TRY(ot_worker_create(s, i, &s->workers[i], err));
    }
    if (s->access_log != NULL) {
        OT_TRY(ot_access_log_start(s->access_log, err));
    }
    for (unsigned i = 0; i < s->n_workers; i++) {
        OT_TRY(ot_worker_start(s->workers[i], err));
    }
    if (s->sampler != NULL) {
        OT_TRY(ot_sampler_start(s->sampler, wrote_segment, s, err));
    }
    if (s->recorder != NULL) {
        OT_TRY(ot_recorder_start(s->recorder, err));
    }
    return s->tracer != NULL ? ot_tracer_start(s->tracer, err) : OT_OK;
}

static void stop_threads(ot_serve *s)
{
    ot_pool_stop(s->pool);
    ot_sampler_stop(s->sampler);
    for (unsigned i = 0; i < s->n_workers; i++) {
        ot_worker_stop(s->workers[i]);
    }
    ot_tracer_stop(s->tracer);
    ot_recorder_stop(s->recorder);
    ot_access_log_stop(s->access_log);
}

void ot_serve_reload(ot_serve *s)
{
    ot_tls_watch_now(&s->tls_watch);
}

ot_rc ot_serve_run(ot_serve *s, ot_error *err)
{
    ot_rc rc = start_threads(s, err);
    if (rc == OT_OK) {
        rc = ot_control_start(s->control, err);
    }
    if (rc == OT_OK) {
        ot_tls_watch_start(&s->tls_watch, s->loop, s->tls, "serve", s->o.tls.cert);
        rc = ot_loop_run(s->loop, err);
    }
    if (rc == OT_OK && s->control->open_err.rc != OT_OK) {
        rc = ot_fail(err, s->control->open_err.rc, "%s", s->control->open_err.msg);
    }
    ot_tls_watch_stop(&s->tls_watch);
    stop_threads(s);
    ot_loader_stop(s->control->loader);
    ot_rc ignored = ot_loop_turn(s->loop, 0, NULL); /* what the threads had still to tell */
    (void)ignored;
    return rc;
}

static void on_stop(void *arg)
{
    ot_serve *s = arg;
    ot_control_drain(s->control);
}

void ot_serve_stop(ot_serve *s)
{
    ot_rc ignored = ot_loop_post(s->loop, on_stop, s);
    (void)ignored;
}

void ot_serve_destroy(ot_serve *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned i = 0; i < s->n_workers; i++) {
        ot_worker_destroy(s->workers[i]);
    }
    ot_access_log_destroy(s->access_log);
    ot_guests_destroy(s->guests);
    /* The last references go with the route and the entries; unloading happens in here. */
    ot_sampler_destroy(s->sampler);
    ot_tracer_destroy(s->tracer);
    ot_recorder_destroy(s->recorder);
    ot_route_destroy(atomic_exchange(&s->route, NULL));
    ot_control_destroy(s->control);
    ot_pool_destroy(s->pool);
    ot_spool_close(s->spool);
    if (s->loop != NULL) {
        ot_loop_destroy(s->loop);
    }
    ot_tls_destroy(s->tls);
    ot_runtime_unref(s->runtime);
    ot_arena_done(&s->memory);
    ot_free(s);
}
