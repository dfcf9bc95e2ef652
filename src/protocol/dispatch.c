/* Dispatch of requests: the Open Inference Protocol's paths, repository, statistics, metrics. */
#include "protocol/protocol.h"

#include "protocol/coding.h"
#include "protocol/describe.h"
#include "protocol/grpc.h"
#include "protocol/tfs.h"
#include "protocol/wire_rest.h"
#include "serve/control.h"
#include "serve/external.h"
#include "serve/metrics.h"

#include <jansson.h>
#include <string.h>

#define SEGMENTS_MAX 8

typedef struct target {
    ot_slice model; /* p NULL: the path names none */
    uint64_t version;
} target;

static void not_found(ot_worker *w, ot_http_req *req)
{
    ot_worker_error(w, req, 404, "there is nothing at %.*s", (int)OT_MIN(req->path.n, 200u),
                    req->path.p);
}

static const ot_route *route_of(const ot_worker *w)
{
    return atomic_load_explicit(&w->serve->route, memory_order_acquire);
}

/* The deployment and the variant that speaks for it: the version asked for, else the champion.
 * Answers 404 or 503 itself. */
static const ot_dep *find(ot_worker *w, ot_http_req *req, const target *t, const ot_variant **v_out)
{
    const ot_dep *d;
    ot_error err;
    ot_rc rc = ot_route_variant(route_of(w), t->model.p, t->model.n, t->version, &d, v_out, &err);
    if (rc != OT_OK) {
        ot_worker_error(w, req, ot_rc_http(rc), "%s", err.msg);
        return NULL;
    }
    return d;
}

/* ---- what is at a model's path */

typedef enum leaf { LEAF_MODEL, LEAF_READY, LEAF_STATS, LEAF_CONFIG, LEAF_DRIFT } leaf;

static void add_drift(const ot_dep *d, ot_str *out)
{
    ot_str_addf(out, "{\"name\":\"%s\",\"variants\":[", d->name);
    for (size_t i = 0; i < d->n_arms; i++) {
        if (i > 0) {
            ot_str_addc(out, ',');
        }
        ot_drift_json(d->arms[i].variant, out);
    }
    ot_str_adds(out, "]}");
}

static void get_leaf(ot_worker *w, ot_http_req *req, const target *t, leaf what)
{
    const ot_variant *v;
    if (!ot_worker_allow(w, req, false)) {
        return;
    }
    const ot_dep *d = find(w, req, t, &v);
    if (d == NULL) {
        return;
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    switch (what) {
    case LEAF_MODEL:
        ot_describe_model(d, v, &out);
        break;
    case LEAF_READY:
        ot_str_addf(&out, "{\"name\":\"%s\",\"ready\":true}", d->name);
        break;
    case LEAF_STATS:
        ot_describe_stats(d, t->version != 0 ? v : NULL, &out);
        break;
    case LEAF_CONFIG:
        ot_describe_config(d, v, &out);
        break;
    case LEAF_DRIFT:
        add_drift(d, &out);
        break;
    }
    ot_worker_json(w, req, 200, &out);
}

static void all_stats(ot_worker *w, ot_http_req *req)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    const ot_route *r = route_of(w);
    if (!ot_worker_allow(w, req, false)) {
        return;
    }
    ot_str_adds(&out, "{\"model_stats\":[");
    for (size_t i = 0; i < r->n_deps; i++) {
        OT_AUTO(ot_str_done) ot_str one = OT_STR_INIT;
        ot_describe_stats(r->deps[i], NULL, &one);
        size_t head = strlen("{\"model_stats\":["), tail = strlen("]}");
        if (one.len > head + tail) {
            if (out.data[out.len - 1] != '[') {
                ot_str_addc(&out, ',');
            }
            ot_str_add(&out, one.data + head, one.len - head - tail);
        }
    }
    ot_str_adds(&out, "]}");
    ot_worker_json(w, req, 200, &out);
}

static bool parse_version(ot_slice s, uint64_t *out)
{
    uint64_t x = 0;
    for (size_t i = 0; i < s.n && s.n <= 18; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
        x = x * 10 + (uint64_t)(s.p[i] - '0');
    }
    *out = x;
    return s.n > 0 && s.n <= 18 && x > 0;
}

/* Below /v2/models/: NAME [versions/V] [LEAF]. */
static void models(ot_worker *w, ot_http_req *req, const ot_slice *seg, size_t n)
{
    target t = {.model = seg[0]};
    size_t at = 1;
    if (n >= 3 && ot_slice_eq(seg[1], "versions")) {
        if (!parse_version(seg[2], &t.version)) {
            ot_worker_error(w, req, 404, "'%.*s' is not a version", (int)OT_MIN(seg[2].n, 40u),
                            seg[2].p);
            return;
        }
        at = 3;
    }
    if (at == n) {
        get_leaf(w, req, &t, LEAF_MODEL);
        return;
    }
    if (at + 2 == n && ot_slice_eq(seg[at], "trace")) {
        const ot_variant *v;
        if (find(w, req, &t, &v) != NULL && !ot_extensions(w, req, seg + at, 2)) {
            not_found(w, req);
        }
        return;
    }
    if (at + 1 != n) {
        not_found(w, req);
        return;
    }
    static const struct {
        const char *name;
        leaf what;
    } leaves[] = {{"ready", LEAF_READY},
                  {"stats", LEAF_STATS},
                  {"config", LEAF_CONFIG},
                  {"drift", LEAF_DRIFT}};
    if (ot_slice_eq(seg[at], "infer")) {
        if (ot_worker_allow(w, req, true)) {
            ot_wire_rest_infer(w, req, t.model.p, t.model.n, t.version);
        }
        return;
    }
    for (size_t i = 0; i < OT_COUNT(leaves); i++) {
        if (ot_slice_eq(seg[at], leaves[i].name)) {
            get_leaf(w, req, &t, leaves[i].what);
            return;
        }
    }
    not_found(w, req);
}

/* ---- the rest of /v2 */

static void health(ot_worker *w, ot_http_req *req, ot_slice what)
{
    bool is_ready = ot_slice_eq(what, "ready");
    if (!is_ready && !ot_slice_eq(what, "live")) {
        not_found(w, req);
        return;
    }
    if (!ot_worker_allow(w, req, false)) {
        return;
    }
    bool draining = atomic_load_explicit(&w->serve->draining, memory_order_relaxed);
    if (is_ready && (draining || !route_of(w)->ready)) {
        ot_worker_error(w, req, 503,
                        draining ? "the server is going down"
                                 : "not everything that is wanted is loaded");
        return;
    }
    const char *body = is_ready ? "{\"ready\":true}" : "{\"live\":true}";
    ot_worker_count_answer(w, 200);
    ot_http_respond_bytes(req, 200, "application/json", body, strlen(body));
}

static void write_index(ot_worker *w, ot_http_req *req, const ot_repo_answer *a, bool all)
{
    if (a->status != 200) {
        ot_worker_error(w, req, a->status, "%s", a->error);
        return;
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_addc(&out, '[');
    for (size_t i = 0; i < a->n_rows; i++) {
        const ot_repo_row *row = &a->rows[i];
        if (!all && strcmp(row->state, "READY") != 0) {
            continue;
        }
        ot_str_addf(&out, "%s{\"name\":\"%s\"", out.len > 1 ? "," : "", row->name);
        if (row->version > 0) {
            ot_str_addf(&out, ",\"version\":\"%llu\"", (unsigned long long)row->version);
        }
        ot_str_addf(&out, ",\"state\":\"%s\",\"reason\":\"", row->state);
        ot_str_add_json(&out, row->reason, strlen(row->reason));
        ot_str_adds(&out, "\"}");
    }
    ot_str_addc(&out, ']');
    ot_worker_json(w, req, 200, &out);
}

static void reply_index(ot_worker *w, ot_http_req *req, const ot_repo_answer *a)
{
    write_index(w, req, a, true);
}

static void reply_ready(ot_worker *w, ot_http_req *req, const ot_repo_answer *a)
{
    write_index(w, req, a, false);
}

static void reply_loaded(ot_worker *w, ot_http_req *req, const ot_repo_answer *a)
{
    if (a->status != 200) {
        ot_call call = {.req = req};
        ot_wire_rest_fail(
            w, &call,
            &(ot_refusal){.status = a->status, .retry_s = a->retry_s, .message = a->error});
        return;
    }
    ot_worker_count_answer(w, 200);
    ot_http_respond_bytes(req, 200, "application/json", "{}", 2);
}

/* What a load may say. What a model is lies in its folder; it is not taken from a request. */
static ot_rc take_parameter(const char *key, ot_error *err)
{
    if (strcmp(key, "unload_dependents") == 0) {
        return OT_OK; /* nothing depends on a model */
    }
    if (strcmp(key, "config") == 0 || ot_has_prefix(key, "file:")) {
        return ot_fail(
            err, OT_UNIMPLEMENTED,
            "'%.60s' in a request is not supported: write %s into the model's folder and "
            "load again",
            key, key[0] == 'c' ? "config.pbtxt" : "the files");
    }
    return ot_fail(err, OT_INVALID, "the parameter '%.60s' is not known", key);
}

static ot_rc take_body(ot_repo_op op, json_t *body, bool *ready_out, ot_error *err)
{
    const char *key, *name;
    json_t *value, *ignored;
    json_object_foreach(body, key, value)
    {
        if (op == OT_REPO_INDEX && strcmp(key, "ready") == 0 && json_is_boolean(value)) {
            *ready_out = json_is_true(value);
            continue;
        }
        if (op == OT_REPO_INDEX || strcmp(key, "parameters") != 0 || !json_is_object(value)) {
            return ot_fail(err, OT_INVALID, "'%.60s': expected {%s}", key,
                           op == OT_REPO_INDEX ? "\"ready\": true" : "\"parameters\": {...}");
        }
        json_object_foreach(value, name, ignored)
        {
            OT_TRY(take_parameter(name, err));
        }
    }
    return OT_OK;
}

static void ask_repository(ot_worker *w, ot_http_req *req, ot_repo_op op, ot_slice name)
{
    ot_error err;
    json_error_t why;
    bool ready = false;
    if (!ot_coding_take(w, req)) {
        return;
    }
    json_t *body = req->body.n > 0 ? json_loadb(req->body.p, req->body.n, 0, &why) : json_object();
    ot_rc rc = json_is_object(body)
                   ? take_body(op, body, &ready, &err)
                   : ot_fail(&err, OT_INVALID, "the body is not a JSON object%s%.120s",
                             body == NULL && req->body.n > 0 ? ": " : "",
                             body == NULL && req->body.n > 0 ? why.text : "");
    json_decref(body);
    if (rc != OT_OK) {
        ot_worker_error(w, req, ot_rc_http(rc), "%s", err.msg);
        return;
    }
    ot_control_repo(w, req, op, name.p, name.n,
                    op != OT_REPO_INDEX ? reply_loaded
                    : ready             ? reply_ready
                                        : reply_index);
}

/* Below /v2/repository/: index, models/NAME/load, models/NAME/unload. */
static void repository(ot_worker *w, ot_http_req *req, const ot_slice *seg, size_t n)
{
    if (n == 1 && ot_slice_eq(seg[0], "index")) {
        if (ot_worker_allow(w, req, true)) {
            ask_repository(w, req, OT_REPO_INDEX, (ot_slice){"", 0});
        }
        return;
    }
    bool load = n == 3 && ot_slice_eq(seg[0], "models") && ot_slice_eq(seg[2], "load");
    bool unload = n == 3 && ot_slice_eq(seg[0], "models") && ot_slice_eq(seg[2], "unload");
    if (!load && !unload) {
        not_found(w, req);
        return;
    }
    if (ot_worker_allow(w, req, true)) {
        ask_repository(w, req, load ? OT_REPO_LOAD : OT_REPO_UNLOAD, seg[1]);
    }
}

static void metrics(ot_worker *w, ot_http_req *req)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (!ot_worker_allow(w, req, false)) {
        return;
    }
    ot_metrics_text(w->serve, route_of(w), &out);
    if (out.failed) {
        ot_worker_error(w, req, 503, "out of memory for the answer");
        return;
    }
    ot_worker_count_answer(w, 200);
    ot_http_respond_bytes(req, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
}

static void dispatch(ot_worker *w, ot_http_req *req, const ot_slice *seg, size_t n)
{
    if (n == 1 && ot_slice_eq(seg[0], "metrics")) {
        metrics(w, req);
    } else if (n == 2 && ot_slice_eq(seg[0], "v1") && ot_slice_eq(seg[1], "models")) {
        ot_chat_models(w, req);
    } else if (n >= 2 && ot_slice_eq(seg[0], "v1") &&
               ((n == 2 && ot_slice_eq(seg[1], "completions")) ||
                (n == 3 && ot_slice_eq(seg[1], "chat") && ot_slice_eq(seg[2], "completions")))) {
        ot_chat_complete(w, req);
    } else if (n >= 3 && ot_slice_eq(seg[0], "v1") && ot_slice_eq(seg[1], "models")) {
        ot_tfs_rest(w, req, seg + 2, n - 2);
    } else if (n == 0 || !ot_slice_eq(seg[0], "v2")) {
        not_found(w, req);
    } else if (n == 1) {
        OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
        if (ot_worker_allow(w, req, false)) {
            ot_describe_server(&out);
            ot_worker_json(w, req, 200, &out);
        }
    } else if (n == 3 && ot_slice_eq(seg[1], "models") && ot_slice_eq(seg[2], "stats") &&
               ot_route_find(route_of(w), "stats", 5) == NULL) {
        all_stats(w, req);
    } else if (n >= 3 && ot_slice_eq(seg[1], "models")) {
        models(w, req, seg + 2, n - 2);
    } else if (n >= 3 && ot_slice_eq(seg[1], "repository")) {
        repository(w, req, seg + 2, n - 2);
    } else if (n == 3 && ot_slice_eq(seg[1], "health")) {
        health(w, req, seg[2]);
    } else if (!ot_extensions(w, req, seg + 1, n - 1)) {
        not_found(w, req);
    }
}

/* The path that nearly all requests have: "/v2/models/NAME/infer". */
static bool infer_fast(ot_worker *w, ot_http_req *req)
{
    static const char head[] = "/v2/models/", tail[] = "/infer";
    size_t h = sizeof head - 1, t = sizeof tail - 1, n = req->path.n;
    if (req->method != OT_HTTP_POST || n <= h + t || memcmp(req->path.p, head, h) != 0 ||
        memcmp(req->path.p + n - t, tail, t) != 0) {
        return false;
    }
    const char *name = req->path.p + h;
    size_t len = n - h - t;
    if (memchr(name, '/', len) != NULL || memchr(name, '%', len) != NULL) {
        return false;
    }
    ot_wire_rest_infer(w, req, name, len, 0);
    return true;
}

static bool has_path(const ot_http_req *req, const char *prefix)
{
    size_t n = strlen(prefix);
    return req->path.n >= n && memcmp(req->path.p, prefix, n) == 0;
}

/* What asks about more than a call of its own, which is admitted where it begins. */
static bool admitted(ot_worker *w, ot_http_req *req)
{
    const ot_access *a = route_of(w)->access;
    const ot_serve_options *o = &w->serve->o;
    ot_denial why;
    if (a == NULL ||
        (o->open_health &&
         (has_path(req, "/v2/health/") || has_path(req, "/grpc.health.v1.Health/"))) ||
        (o->open_metrics && ot_slice_eq(req->path, "/metrics")) ||
        ot_worker_note_client(req, ot_access_who(a, req, &why))) {
        return true;
    }
    ot_worker_count_answer(w, why.status);
    ot_access_deny(req, &why);
    return false;
}

static void request(void *arg, ot_http_req *req)
{
    ot_worker *w = arg;
    if (w->serve->access_log != NULL) {
        ot_access_log_begin(w->serve->access_log, w->index, req);
    }
    if (infer_fast(w, req) || ot_tfs_rest_fast(w, req) || !admitted(w, req)) {
        return;
    }
    if (ot_grpc_takes(req)) {
        ot_grpc_request(w, req);
        return;
    }
    ot_slice seg[SEGMENTS_MAX];
    size_t n;
    ot_error err;
    ot_rc rc = ot_http_path_split(req->path, req->arena, seg, SEGMENTS_MAX, &n, &err);
    if (rc != OT_OK) {
        ot_worker_error(w, req, rc == OT_RANGE ? 404 : 400, "%s", err.msg);
        return;
    }
    if (n > 1 && seg[n - 1].n == 0) { /* "/v2/" is "/v2" */
        n--;
    }
    dispatch(w, req, seg, n);
}

const ot_serve_protocols ot_protocols = {
    .request = request,
    .streams = ot_grpc_streams,
    .refused = ot_grpc_refused,
};
