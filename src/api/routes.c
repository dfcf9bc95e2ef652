/* The one table of what the control API knows. */
#include "api/internal.h"

#include <stdio.h>
#include <string.h>

#define SEGMENTS_MAX 8
#define SMALL_BODY (64u << 10)
#define APP_BODY (1u << 20)
#define LABELS_BODY (32u << 20)
#define PIECE_BODY (4u << 20)
#define OPEN_BODY (10u << 20) /* an envelope, and a manifest as a JSON string */

#define PARAMS(...)                                                                                \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
#define EVENT_PARAMS                                                                               \
    PARAMS("after", "before", "limit", "type", "object", "from_us", "to_us", "newest")

const api_route api_routes[] = {
    {.method = OT_HTTP_GET, .pattern = "/api/v1/health", .open = true, .answer = api_health},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/apps", .answer = api_apps},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/apps",
     .params = PARAMS("file", "dir", "diff"),
     .body_max = APP_BODY,
     .answer = api_apply},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/apps/*", .answer = api_app},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/apps/*/config",
     .type = "application/yaml",
     .answer = api_config},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/apps/*/act",
     .body_max = SMALL_BODY,
     .answer = api_act},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/apps/*/why",
     .params = PARAMS("version"),
     .answer = api_why},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/events",
     .params = EVENT_PARAMS,
     .answer = api_events},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/events/stream",
     .params = PARAMS("after", "type", "object"),
     .own = api_event_stream},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/events/verify", .own = api_verify},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/runs",
     .params = PARAMS("app", "limit", "before"),
     .answer = api_runs},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/runs/*", .answer = api_run},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/runs/*/checkpoints", .answer = api_checkpoints},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/runs/*/log",
     .params = PARAMS("follow", "rank"),
     .own = api_run_log},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/runs/*/cancel",
     .body_max = SMALL_BODY,
     .answer = api_cancel},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/models", .answer = api_models},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/models/*", .answer = api_model},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/models/*/versions/*", .answer = api_version},
    {.method = OT_HTTP_POST, .pattern = "/api/v1/models/*/versions/*/sign", .own = api_sign},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/models/*/versions/*/file",
     .params = PARAMS("path", "offset"),
     .own = api_version_file},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/incoming",
     .body_max = OPEN_BODY,
     .own = api_incoming_open},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/incoming/*", .own = api_incoming_status},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/incoming/*/file",
     .params = PARAMS("path", "offset"),
     .body_max = PIECE_BODY,
     .own = api_incoming_write},
    {.method = OT_HTTP_POST, .pattern = "/api/v1/incoming/*/finish", .own = api_incoming_finish},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/keys", .answer = api_keys},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/trust", .answer = api_trust},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/trust",
     .body_max = SMALL_BODY,
     .answer = api_trust_add},
    {.method = OT_HTTP_POST, .pattern = "/api/v1/trust/*/remove", .answer = api_trust_remove},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/clients", .answer = api_clients},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/clients",
     .body_max = SMALL_BODY,
     .answer = api_client_add},
    {.method = OT_HTTP_POST, .pattern = "/api/v1/clients/off", .answer = api_clients_off},
    {.method = OT_HTTP_POST, .pattern = "/api/v1/clients/*/revoke", .answer = api_client_revoke},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/deployments/*/labels",
     .body_max = LABELS_BODY,
     .answer = api_labels},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/deployments/*/accuracy",
     .params = PARAMS("version", "from_us", "to_us"),
     .answer = api_accuracy},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/deployments/*/windows",
     .params = PARAMS("from_us", "to_us", "points"),
     .own = api_windows},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/deployments/*/outcomes",
     .params = PARAMS("from_us", "to_us", "points"),
     .own = api_outcomes},
    {.method = OT_HTTP_GET,
     .pattern = "/api/v1/deployments/*/samples",
     .params = PARAMS("before", "limit"),
     .own = api_samples},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/backups",
     .body_max = SMALL_BODY,
     .own = api_backup},
    {.method = OT_HTTP_POST,
     .pattern = "/api/v1/snapshots",
     .body_max = SMALL_BODY,
     .own = api_snapshot},
    {.method = OT_HTTP_GET, .pattern = "/api/v1/replicas", .answer = api_replicas},
    {.method = OT_HTTP_GET,
     .pattern = "/metrics",
     .type = "text/plain; version=0.0.4; charset=utf-8",
     .answer = api_metrics},
};
const size_t api_routes_n = OT_COUNT(api_routes);

static bool matches(const char *pattern, const ot_slice *seg, size_t n, const char *names[2])
{
    size_t i = 0, k = 0;
    for (const char *p = pattern; *p == '/';) {
        size_t len = strcspn(++p, "/");
        if (i == n) {
            return false;
        }
        bool star = len == 1 && *p == '*';
        if (star && seg[i].n > 0 && k < 2) {
            names[k++] = seg[i].p;
        } else if (star || seg[i].n != len || memcmp(seg[i].p, p, len) != 0) {
            return false;
        }
        p += len;
        i++;
    }
    return i == n;
}

static const char *method_name(ot_http_method m)
{
    return m == OT_HTTP_POST ? "POST" : "GET";
}

const api_route *api_route_find(ot_http_method method, ot_slice path, ot_arena *arena,
                                const char *names[2], char allow_out[64])
{
    ot_slice seg[SEGMENTS_MAX];
    size_t n = 0;
    allow_out[0] = 0;
    if (ot_http_path_split(path, arena, seg, SEGMENTS_MAX, &n, NULL) != OT_OK) {
        return NULL;
    }
    for (size_t i = 0; i < api_routes_n; i++) {
        const api_route *r = &api_routes[i];
        const char *found[2] = {NULL, NULL};
        if (!matches(r->pattern, seg, n, found)) {
            continue;
        }
        bool head = method == OT_HTTP_HEAD && r->method == OT_HTTP_GET && r->own == NULL;
        if (r->method == method || head) {
            names[0] = found[0];
            names[1] = found[1];
            return r;
        }
        size_t len = strlen(allow_out);
        snprintf(allow_out + len, 64 - len, "%s%s%s", len > 0 ? ", " : "", method_name(r->method),
                 r->method == OT_HTTP_GET && r->own == NULL ? ", HEAD" : "");
    }
    return NULL;
}

void ot_api_reference(ot_str *out)
{
    ot_str_adds(out, "| method | path | token | query | body at most | answer |\n"
                     "|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < api_routes_n; i++) {
        const api_route *r = &api_routes[i];
        ot_str_addf(out, "| %s | `%s` | %s |", method_name(r->method), r->pattern,
                    r->open ? "no" : "yes");
        for (const char *const *p = r->params; p != NULL && *p != NULL; p++) {
            ot_str_addf(out, " `%s`", *p);
        }
        ot_str_addf(out, " | %llu | %s |\n", (unsigned long long)r->body_max,
                    r->type != NULL  ? r->type
                    : r->own == NULL ? "application/json"
                                     : "its own");
    }
}
