/* tensorflow.serving.ModelService over gRPC: the state of versions, and which models are loaded.
 * Source: tensorflow_serving/apis, tensorflow_serving/config. */
#include "protocol/grpc.h"
#include "protocol/tfs.h"
#include "serve/control.h"

#include <string.h>

#define MODELS_MAX 1024
#define STATUS_UNKNOWN 2 /* tensorflow.error.Code */

/* ---- GetModelStatus */

static ot_rc status_request(ot_slice message, ot_arena *arena, ot_tfs_target *t, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    ot_tfs_spec spec = {.name = ""};
    ot_pb_init(&r, message.p, message.n, "GetModelStatusRequest");
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_tfs_pb_spec_read(&r, &f, arena, &spec, err));
        }
    } while (f.number != 0);
    return ot_tfs_target_of(&spec, t, err);
}

/* StatusProto as field `number`. */
static void put_status(ot_str *s, uint32_t number, const char *message)
{
    size_t status = ot_pb_begin(s, number);
    if (message[0] != '\0') {
        ot_pb_put_uint(s, 1, STATUS_UNKNOWN);
        ot_pb_put_string(s, 2, message);
    }
    ot_pb_end(s, status, 0);
}

static void get_model_status(ot_worker *w, ot_http_req *req, ot_slice message)
{
    ot_tfs_target t;
    const ot_dep *d;
    const ot_arm *arm;
    ot_error err;
    ot_rc rc = status_request(message, req->arena, &t, &err);
    if (rc == OT_OK) {
        rc = ot_tfs_find(w, &t, &d, &arm, &err);
    }
    if (rc != OT_OK) {
        ot_grpc_fail(w, req, rc, 0, "%s", err.msg);
        return;
    }
    ot_tfs_status all[OT_TARGET_VARIANTS_MAX];
    size_t n = ot_tfs_statuses(d, arm, all);
    ot_str *s = &w->head;
    ot_grpc_frame_begin(s);
    for (size_t i = 0; i < n; i++) {
        size_t one = ot_pb_begin(s, 1);
        ot_pb_put_uint(s, 1, all[i].version);
        ot_pb_put_uint(s, 2, (uint64_t)all[i].state);
        put_status(s, 3, all[i].message);
        ot_pb_end(s, one, 0);
    }
    ot_grpc_answer(w, req, NULL, 0, s, NULL, 0);
}

/* ---- HandleReloadConfigRequest: the models of the list are loaded, others unloaded, one after the
 * other */

typedef struct step {
    const char *name;
    ot_repo_op op;
} step;

typedef struct reload {
    const char *names[MODELS_MAX];
    size_t n_names;
    step steps[2 * MODELS_MAX];
    size_t n_steps, at;
} reload;

static ot_rc check_base(const ot_worker *w, const char *name, const char *base, ot_error *err)
{
    char path[OT_PATH_MAX];
    size_t n = strlen(base);
    while (n > 1 && base[n - 1] == '/') {
        n--;
    }
    if (w->serve->o.dir == NULL) {
        return n == 0 ? OT_OK
                      : ot_fail(err, OT_INVALID,
                                "model '%s': base_path is not taken: the control plane knows what "
                                "its versions are",
                                name);
    }
    OT_TRY(ot_path_join(path, w->serve->o.dir, name, err));
    return n == 0 || (strlen(path) == n && memcmp(path, base, n) == 0)
               ? OT_OK
               : ot_fail(
                     err, OT_INVALID,
                     "model '%s': base_path '%.200s' is not %s; models lie in the directory that "
                     "is served",
                     name, base, path);
}

/* ModelConfig. */
static ot_rc model_read(const ot_worker *w, const ot_pb *list, const ot_pb_field *at,
                        ot_arena *arena, reload *r, ot_error *err)
{
    static const char *const refused[] = {
        [7] = "model_version_policy", [8] = "version_labels", [9] = "logging_config"};
    ot_pb m;
    ot_pb_field f;
    const char *name = "", *base = "";
    OT_TRY(ot_pb_enter(list, at, "config", "ModelConfig", &m, err));
    do {
        OT_TRY(ot_pb_next(&m, &f, err));
        if (f.number == 1 || f.number == 2) {
            OT_TRY(ot_pb_string(&m, &f, f.number == 1 ? "name" : "base_path", arena,
                                f.number == 1 ? &name : &base, err));
        } else if (f.number >= 7 && f.number <= 9) {
            return ot_fail(err, OT_INVALID,
                           "model '%.64s': %s is not taken; name and base_path are", name,
                           refused[f.number]);
        }
    } while (f.number != 0);
    if (!ot_name_ok(name) || r->n_names == MODELS_MAX) {
        return ot_fail(err, OT_INVALID, "'%.64s' can't be loaded: %s", name,
                       r->n_names == MODELS_MAX ? "there are too many models in the list"
                                                : "a model needs a name (letters, digits, . _ -)");
    }
    r->names[r->n_names++] = name;
    return check_base(w, name, base, err);
}

/* ReloadConfigRequest.config.model_config_list. */
static ot_rc config_read(const ot_worker *w, ot_slice message, ot_arena *arena, reload *r,
                         ot_error *err)
{
    ot_pb request, config, list;
    ot_pb_field f;
    bool seen = false;
    ot_pb_init(&request, message.p, message.n, "ReloadConfigRequest");
    for (;;) {
        OT_TRY(ot_pb_next(&request, &f, err));
        if (f.number == 0) {
            break;
        }
        if (f.number != 1) {
            continue;
        }
        OT_TRY(ot_pb_enter(&request, &f, "config", "ModelServerConfig", &config, err));
        for (;;) {
            OT_TRY(ot_pb_next(&config, &f, err));
            if (f.number == 0) {
                break;
            }
            if (f.number != 1) {
                continue;
            }
            seen = true;
            OT_TRY(ot_pb_enter(&config, &f, "model_config_list", "ModelConfigList", &list, err));
            do {
                OT_TRY(ot_pb_next(&list, &f, err));
                if (f.number == 1) {
                    OT_TRY(model_read(w, &list, &f, arena, r, err));
                }
            } while (f.number != 0);
        }
    }
    return seen ? OT_OK
                : ot_fail(err, OT_INVALID,
                          "the request has no config.model_config_list, which is "
                          "what is taken");
}

static bool listed(const reload *r, const char *name)
{
    for (size_t i = 0; i < r->n_names; i++) {
        if (strcmp(r->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* What must happen: first loads, so that a list that can't be had changes little. */
static ot_rc plan(const ot_worker *w, ot_arena *arena, reload *r, ot_error *err)
{
    const ot_route *route = atomic_load_explicit(&w->serve->route, memory_order_acquire);
    for (size_t i = 0; i < r->n_names; i++) {
        const ot_dep *d = ot_route_find(route, r->names[i], strlen(r->names[i]));
        if (d == NULL || d->n_live == 0) {
            r->steps[r->n_steps++] = (step){r->names[i], OT_REPO_LOAD};
        }
    }
    for (size_t i = 0; i < route->n_deps && i < MODELS_MAX; i++) {
        if (!listed(r, route->deps[i]->name)) {
            /* The route may be another one by then. */
            const char *name = ot_arena_strdup(arena, route->deps[i]->name);
            if (name == NULL) {
                return ot_fail(err, OT_EXHAUSTED, "out of memory for the list of models");
            }
            r->steps[r->n_steps++] = (step){name, OT_REPO_UNLOAD};
        }
    }
    return OT_OK;
}

static void step_done(ot_worker *w, ot_http_req *req, const ot_repo_answer *a);

static void next_step(ot_worker *w, ot_http_req *req)
{
    reload *r = req->user;
    if (r->at < r->n_steps) {
        const step *s = &r->steps[r->at];
        ot_control_repo(w, req, s->op, s->name, strlen(s->name), step_done);
        return;
    }
    ot_grpc_frame_begin(&w->head);
    put_status(&w->head, 1, "");
    ot_grpc_answer(w, req, NULL, 0, &w->head, NULL, 0);
}

static void step_done(ot_worker *w, ot_http_req *req, const ot_repo_answer *a)
{
    reload *r = req->user;
    const step *s = &r->steps[r->at++];
    if (a->status != 200) {
        ot_grpc_fail(w, req, ot_rc_of_http(a->status), a->retry_s, "model '%s' could not be %s: %s",
                     s->name, s->op == OT_REPO_LOAD ? "loaded" : "unloaded", a->error);
        return;
    }
    next_step(w, req);
}

static void handle_reload_config(ot_worker *w, ot_http_req *req, ot_slice message)
{
    reload *r = ot_arena_calloc(req->arena, 1, sizeof *r);
    ot_error err;
    ot_rc rc = r == NULL ? ot_fail(&err, OT_EXHAUSTED, "out of memory for the list of models")
                         : config_read(w, message, req->arena, r, &err);
    if (rc == OT_OK) {
        rc = plan(w, req->arena, r, &err);
    }
    if (rc != OT_OK) {
        ot_grpc_fail(w, req, rc, 0, "%s", err.msg);
        return;
    }
    req->user = r;
    next_step(w, req);
}

static const ot_grpc_method methods[] = {
    {"GetModelStatus", get_model_status, NULL},
    {"HandleReloadConfigRequest", handle_reload_config, NULL},
};

const ot_grpc_service ot_grpc_tfs_model = {
    .name = "tensorflow.serving.ModelService", .methods = methods, .n = OT_COUNT(methods)};
