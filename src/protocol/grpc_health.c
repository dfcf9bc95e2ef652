/* grpc.health.v1.Health: of the server (""), of each service and of each model. A model's name is a
 * service's name here: "digits". */
#include "protocol/grpc.h"

#include "codec/pb.h"

#include <string.h>

#define NAME_MAX 256

typedef enum serving { UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN } serving;

static const ot_route *route_of(const ot_worker *w)
{
    return atomic_load_explicit(&w->serve->route, memory_order_acquire);
}

static bool draining(const ot_worker *w)
{
    return atomic_load_explicit(&w->serve->draining, memory_order_relaxed);
}

static serving status_of(const ot_worker *w, const char *name)
{
    const ot_route *r = route_of(w);
    bool is_server = name[0] == '\0';
    for (size_t i = 0; ot_grpc_services[i] != NULL; i++) {
        is_server = is_server || strcmp(ot_grpc_services[i]->name, name) == 0;
    }
    if (is_server) {
        return r->ready && !draining(w) ? SERVING : NOT_SERVING;
    }
    const ot_dep *d = ot_route_find(r, name, strlen(name));
    return d == NULL ? SERVICE_UNKNOWN : d->n_live > 0 && !draining(w) ? SERVING : NOT_SERVING;
}

static void put_status(ot_str *s, serving status)
{
    ot_pb_put_uint(s, 1, (uint64_t)status);
}

/* The service that is asked for. Answers itself when the message is none. */
static bool read_name(ot_worker *w, ot_http_req *req, ot_slice message, const char **name_out)
{
    ot_pb r;
    ot_error err;
    const char *name = "";
    ot_pb_field f;
    ot_pb_init(&r, message.p, message.n, "HealthCheckRequest");
    do {
        ot_rc rc = ot_pb_next(&r, &f, &err);
        if (rc == OT_OK && f.number == 1) {
            rc = ot_pb_string(&r, &f, "service", req->arena, &name, &err);
        }
        if (rc != OT_OK) {
            ot_grpc_fail(w, req, rc, 0, "%s", err.msg);
            return false;
        }
    } while (f.number != 0);
    if (strlen(name) >= NAME_MAX) {
        ot_grpc_fail(w, req, OT_NOT_FOUND, 0, "service '%.80s...' is not known", name);
        return false;
    }
    *name_out = name;
    return true;
}

static void check(ot_worker *w, ot_http_req *req, ot_slice message)
{
    const char *name;
    if (!read_name(w, req, message, &name)) {
        return;
    }
    serving status = status_of(w, name);
    if (status == SERVICE_UNKNOWN) {
        ot_grpc_fail(w, req, OT_NOT_FOUND, 0, "service '%s' is not known", name);
        return;
    }
    ot_grpc_frame_begin(&w->head);
    put_status(&w->head, status);
    ot_grpc_answer(w, req, NULL, 0, &w->head, NULL, 0);
}

static void put_listed(ot_worker *w, const char *name)
{
    ot_str *s = &w->head;
    size_t entry = ot_pb_begin(s, 1);
    ot_pb_put_string(s, 1, name);
    size_t value = ot_pb_begin(s, 2);
    put_status(s, status_of(w, name));
    ot_pb_end(s, value, 0);
    ot_pb_end(s, entry, 0);
}

static void list(ot_worker *w, ot_http_req *req, ot_slice message)
{
    (void)message;
    const ot_route *r = route_of(w);
    ot_grpc_frame_begin(&w->head);
    put_listed(w, "");
    for (size_t i = 0; ot_grpc_services[i] != NULL; i++) {
        put_listed(w, ot_grpc_services[i]->name);
    }
    for (size_t i = 0; i < r->n_deps; i++) {
        put_listed(w, r->deps[i]->name);
    }
    ot_grpc_answer(w, req, NULL, 0, &w->head, NULL, 0);
}

/* ---- Watch: a message at first and with each change, until the client or the server goes */

typedef struct watch {
    ot_grpc_open open; /* first */
    ot_worker *worker;
    ot_http_req *req;
    serving told;
    char name[NAME_MAX];
} watch;

static void watch_end(watch *t, const char *code)
{
    ot_http_field field = {"grpc-status", code};
    ot_grpc_open_remove(&t->open);
    ot_worker_count_answer(t->worker, 200);
    ot_http_stream_end_with(t->req, &field, 1); /* the watch lies in the request's arena */
}

static void watch_look(ot_grpc_open *open)
{
    watch *t = (watch *)open;
    ot_worker *w = t->worker;
    serving now = status_of(w, t->name);
    ot_rc rc = OT_OK;
    if (now != t->told) {
        ot_grpc_frame_begin(&w->head);
        put_status(&w->head, now);
        if (!w->head.failed) {
            ot_grpc_prefix(w->head.data, w->head.len - OT_GRPC_PREFIX);
            rc = ot_http_stream_write(t->req, w->head.data, w->head.len);
            t->told = rc == OT_OK ? now : t->told;
        }
    }
    if (draining(w)) {
        watch_end(t, "14"); /* UNAVAILABLE: clients watch another server */
    } else if (rc == OT_CANCELLED || t->req->cancelled) {
        watch_end(t, "1");
    }
}

static void watch_event(void *arg)
{
    watch_look(arg);
}

static void watch_begin(ot_worker *w, ot_http_req *req, ot_slice message)
{
    const char *name;
    if (!read_name(w, req, message, &name)) {
        return;
    }
    watch *t = ot_arena_calloc(req->arena, 1, sizeof *t);
    if (t == NULL) {
        ot_grpc_fail(w, req, OT_EXHAUSTED, 0, "out of memory for a watch");
        return;
    }
    t->worker = w;
    t->req = req;
    t->told = UNKNOWN;
    strcpy(t->name, name);
    ot_grpc_open_add(w, &t->open, watch_look);
    ot_http_stream_begin(req, &(ot_http_answer){.status = 200, .type = "application/grpc"},
                         watch_event, t);
    watch_look(&t->open);
}

static const ot_grpc_method methods[] = {
    {.name = "Check", .unary = check},
    {.name = "List", .unary = list},
    {.name = "Watch", .unary = watch_begin},
};
const ot_grpc_service ot_grpc_health = {"grpc.health.v1.Health", methods, OT_COUNT(methods)};
