/* The dispatcher: who may call what. A route that is not in the table is denied before anything else
 * looks at the request. */
#include "api/internal.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

const api_route ot_api_routes[] = {
    {"GET", "/healthz", API_OPEN, api_health, "the control plane answers"},
    {"GET", "/metrics", API_READ, api_metrics, "Prometheus text"},
    {"GET", "/api/v1/routes", API_READ, api_routes_list, "this table"},
    {"GET", "/api/v1/status", API_READ, api_status, "version, store, agents, apps"},
    {"GET", "/api/v1/apps", API_READ, api_apps, "all apps"},
    {"POST", "/api/v1/apps", API_WRITE, api_apply, "apply an app file; with diff only say what changes"},
    {"GET", "/api/v1/apps/*", API_READ, api_app, "one app: state, objectives, evidence"},
    {"GET", "/api/v1/apps/*/config", API_READ, api_config, "its effective configuration, YAML"},
    {"GET", "/api/v1/apps/*/why", API_READ, api_why, "the log walked backwards; ?version=N"},
    {"POST", "/api/v1/apps/*/*", API_WRITE, api_act,
     "train push pause resume pin freeze approve reject rollback"},
    {"GET", "/api/v1/events", API_READ, api_events,
     "?after=SEQ&limit=N&type=PREFIX&object=O&wait=MS, or ?last=N"},
    {"GET", "/api/v1/events/verify", API_READ, api_events_verify, "the chain, row by row"},
    {"GET", "/api/v1/runs", API_READ, api_runs, "?app=A&step=S&before=ID&limit=N"},
    {"GET", "/api/v1/runs/*", API_READ, api_run, "one run"},
    {"GET", "/api/v1/runs/*/log", API_READ, api_run_log, "?offset=BYTES"},
    {"POST", "/api/v1/runs/*/cancel", API_WRITE, api_run_cancel, "stop it and its children"},
    {"GET", "/api/v1/models", API_READ, api_models, "all models"},
    {"GET", "/api/v1/models/*", API_READ, api_model, "one model with its versions"},
    {"POST", "/api/v1/deployments/*/labels", API_WRITE, api_labels,
     "{\"labels\": [{\"id\", \"label\", \"source\", \"time_us\"}...]}"},
};
const size_t ot_api_routes_count = OT_COUNT(ot_api_routes);

/* ------------------------------------------------------------------ answers */

void api_json(ot_http_req *req, int status, const ot_str *json)
{
    if (json->failed) {
        ot_http_respond_error(req, 500, "no memory for the answer");
        return;
    }
    ot_http_respond_bytes(req, status, "application/json", json->data, json->len);
}

void api_fail(ot_http_req *req, ot_rc rc, const ot_error *err)
{
    ot_http_respond_error(req, ot_rc_http(rc), "%s", err->msg);
}

json_t *api_body(api_call *c)
{
    json_error_t e;
    json_t *j = json_loadb(c->req->body.p, c->req->body.n, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(j)) {
        json_decref(j);
        ot_http_respond_error(c->req, 400, "the body is not a JSON object: %s",
                              j == NULL ? e.text : "another value");
        return NULL;
    }
    return j;
}

bool api_name(api_call *c, size_t i, char out[129])
{
    size_t n = c->seg[i].n;
    if (n == 0 || n > 128) {
        ot_http_respond_error(c->req, 400, "a name in the path has 1 to 128 bytes");
        return false;
    }
    memcpy(out, c->seg[i].p, n);
    out[n] = 0;
    return true;
}

bool api_query_text(api_call *c, const char *key, char *out, size_t size)
{
    char buf[512];
    size_t n = 0;
    out[0] = 0;
    if (!ot_http_query_get(c->req->query, key, buf, sizeof buf, &n)) {
        return true;
    }
    if (n >= size) {
        ot_http_respond_error(c->req, 400, "?%s= has at most %zu bytes", key, size - 1);
        return false;
    }
    memcpy(out, buf, n);
    out[n] = 0;
    return true;
}

bool api_query_i64(api_call *c, const char *key, int64_t missing, int64_t *out)
{
    char text[32];
    if (!api_query_text(c, key, text, sizeof text)) {
        return false;
    }
    ot_error err = {0};
    *out = missing;
    if (text[0] != 0 && (ot_parse_i64(text, out, &err) != OT_OK || *out < 0)) {
        ot_http_respond_error(c->req, 400, "?%s=%s is not a whole number from 0", key, text);
        return false;
    }
    return true;
}

/* ------------------------------------------------------------------ who calls */

static bool host_is_local(ot_slice host)
{
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
    size_t n = host.n;
    for (size_t i = 0; i < host.n; i++) {
        if (host.p[i] == ':' && (host.p[0] != '[' || (i > 0 && host.p[i - 1] == ']'))) {
            n = i;
            break;
        }
    }
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        if (n == strlen(names[i]) && memcmp(host.p, names[i], n) == 0) {
            return true;
        }
    }
    return false;
}

/* A page of another site that the user's browser has open must not reach the API, also not by a name
 * that was bound to our address: so Host must be ours and Origin, when a browser sends it, too. */
static bool origin_ok(const ot_http_req *req)
{
    if (req->host.p == NULL || !host_is_local(req->host)) {
        return false;
    }
    ot_slice origin = ot_http_req_header(req, "origin");
    if (origin.p == NULL) {
        return true;
    }
    static const char prefix[] = "http://";
    size_t m = sizeof prefix - 1;
    return origin.n == m + req->host.n && memcmp(origin.p, prefix, m) == 0 &&
           memcmp(origin.p + m, req->host.p, req->host.n) == 0;
}

static bool token_ok(const ot_api *api, const ot_http_req *req)
{
    static const char prefix[] = "Bearer ";
    size_t m = sizeof prefix - 1, n = strlen(api->token);
    ot_slice auth = ot_http_req_header(req, "authorization");
    return auth.p != NULL && auth.n == m + n && memcmp(auth.p, prefix, m) == 0 &&
           ot_secret_equal(auth.p + m, api->token, n);
}

static void note_actor(api_call *c)
{
    ot_slice who = ot_http_req_header(c->req, "overtake-actor");
    size_t n = OT_MIN(who.p != NULL ? who.n : 0, sizeof c->actor - 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char ch = (unsigned char)who.p[i];
        c->actor[i] = ch >= 0x21 && ch < 0x7f ? (char)ch : '_';
    }
    if (n == 0) {
        snprintf(c->actor, sizeof c->actor, "operator");
    }
}

/* ------------------------------------------------------------------ routes */

/* Matches a pattern segment by segment against the path as it was sent; fills c->seg with what the
 * stars stood for, decoded. */
static bool route_matches(const char *pattern, ot_slice path, api_call *c)
{
    const char *p = path.p, *end = path.p + path.n;
    c->n_seg = 0;
    while (*pattern != 0) {
        if (p == end || *p != '/') {
            return false;
        }
        p++;
        pattern++;
        size_t n = strcspn(pattern, "/");
        size_t m = 0;
        while (p + m < end && p[m] != '/') {
            m++;
        }
        if (n == 1 && *pattern == '*') {
            if (m == 0 || c->n_seg == API_SEGMENTS_MAX) {
                return false;
            }
            c->seg[c->n_seg++] = (ot_slice){.p = p, .n = m};
        } else if (n != m || memcmp(pattern, p, n) != 0) {
            return false;
        }
        pattern += n;
        p += m;
    }
    return p == end;
}

static const api_route *find_route(api_call *c, bool *path_known)
{
    *path_known = false;
    for (size_t i = 0; i < OT_COUNT(ot_api_routes); i++) {
        const api_route *r = &ot_api_routes[i];
        if (!route_matches(r->path, c->req->path, c)) {
            continue;
        }
        *path_known = true;
        size_t n = strlen(r->method);
        if (c->req->method_text.n == n && memcmp(c->req->method_text.p, r->method, n) == 0) {
            return r;
        }
    }
    return NULL;
}

static void answer_unknown(ot_http_req *req, bool path_known)
{
    if (path_known) {
        static const char body[] = "{\"error\":\"this method does not work here\"}";
        struct iovec v = {.iov_base = (void *)(uintptr_t)body, .iov_len = sizeof body - 1};
        ot_http_field allow = {"Allow", "GET, POST"};
        ot_http_answer a = {.status = 405,
                            .type = "application/json",
                            .fields = &allow,
                            .n_fields = 1,
                            .body = &v,
                            .n_body = 1,
                            .own = OT_HTTP_COPY};
        ot_http_respond(req, &a);
        return;
    }
    ot_http_respond_error(req, 404, "no such route; GET /api/v1/routes lists them");
}

void ot_api_dispatch(void *arg, ot_http_req *req)
{
    api_call c = {.api = arg, .req = req};
    bool path_known;
    const api_route *r = find_route(&c, &path_known);
    if (!origin_ok(req)) {
        ot_http_respond_error(req, 403,
                              "refused: the Host or Origin of this request is not this server");
        return;
    }
    bool open = r != NULL && r->permission == API_OPEN;
    if (!open && !token_ok(c.api, req)) {
        ot_http_respond_error(req, 401,
                              "a token is needed: Authorization: Bearer TOKEN, from the file "
                              "'token' of the data directory");
        return;
    }
    if (r == NULL) {
        answer_unknown(req, path_known);
        return;
    }
    note_actor(&c);
    r->fn(&c);
    if (r->permission == API_WRITE) {
        ot_api_reschedule(c.api);
    }
}

void api_routes_list(api_call *c)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_adds(&out, "{\"routes\":[");
    for (size_t i = 0; i < OT_COUNT(ot_api_routes); i++) {
        const api_route *r = &ot_api_routes[i];
        ot_str_addf(&out, "%s{\"method\":\"%s\",\"path\":\"%s\",\"help\":\"", i ? "," : "",
                    r->method, r->path);
        ot_str_add_json(&out, r->help, strlen(r->help));
        ot_str_adds(&out, "\"}");
    }
    ot_str_adds(&out, "]}");
    api_json(c->req, 200, &out);
}
