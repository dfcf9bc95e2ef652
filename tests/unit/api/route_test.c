#include "api/internal.h"

#include "tap.h"

static ot_arena arena;

static const api_route *find(ot_http_method m, const char *path, const char *names[2],
                             char allow[64])
{
    names[0] = names[1] = NULL;
    return api_route_find(m, (ot_slice){.p = path, .n = strlen(path)}, &arena, names, allow);
}

/* A route that nobody has a handler for, or that two have, would answer at random. */
static void test_table(void)
{
    for (size_t i = 0; i < api_routes_n; i++) {
        const api_route *r = &api_routes[i];
        ok((r->answer != NULL) != (r->own != NULL), "%s: one handler", r->pattern);
        ok(r->method != OT_HTTP_GET || r->body_max == 0, "%s: GET has no body", r->pattern);
        ok(!r->open || strcmp(r->pattern, "/api/v1/health") == 0, "%s: who needs no token",
           r->pattern);
        for (size_t k = 0; k < i; k++) {
            ok(api_routes[k].method != r->method || strcmp(api_routes[k].pattern, r->pattern) != 0,
               "%s: once", r->pattern);
        }
    }
}

static void test_found(void)
{
    static const struct {
        ot_http_method method;
        const char *path, *pattern, *name;
    } cases[] = {
        {OT_HTTP_GET, "/api/v1/health", "/api/v1/health", NULL},
        {OT_HTTP_HEAD, "/api/v1/health", "/api/v1/health", NULL},
        {OT_HTTP_GET, "/api/v1/apps/digits", "/api/v1/apps/*", "digits"},
        {OT_HTTP_GET, "/api/v1/apps/di%67its/why", "/api/v1/apps/*/why", "digits"},
        {OT_HTTP_POST, "/api/v1/apps/config/act", "/api/v1/apps/*/act", "config"},
        {OT_HTTP_GET, "/api/v1/events/stream", "/api/v1/events/stream", NULL},
        {OT_HTTP_GET, "/api/v1/runs/12/log", "/api/v1/runs/*/log", "12"},
        {OT_HTTP_GET, "/metrics", "/metrics", NULL},
    };
    char allow[64];
    const char *names[2];
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        const api_route *r = find(cases[i].method, cases[i].path, names, allow);
        is_str(r != NULL ? r->pattern : "(none)", cases[i].pattern, "%s", cases[i].path);
        ok(cases[i].name == NULL ? names[0] == NULL
                                 : names[0] != NULL && strcmp(names[0], cases[i].name) == 0,
           "%s: its name", cases[i].path);
    }
}

static void test_not_found(void)
{
    static const struct {
        ot_http_method method;
        const char *path, *allow;
    } cases[] = {
        {OT_HTTP_GET, "/", ""},
        {OT_HTTP_GET, "", ""},
        {OT_HTTP_GET, "api/v1/health", ""},
        {OT_HTTP_GET, "/api/v1/health/", ""},
        {OT_HTTP_GET, "//api/v1/health", ""},
        {OT_HTTP_GET, "/api/v1/Health", ""},
        {OT_HTTP_GET, "/api/v1/apps/", ""},
        {OT_HTTP_GET, "/api/v1/apps//why", ""},
        {OT_HTTP_GET, "/api/v1/apps/a%2fwhy", ""},
        {OT_HTTP_GET, "/api/v1/apps/%00", ""},
        {OT_HTTP_GET, "/api/v1/apps/../health", ""},
        {OT_HTTP_GET, "/a/b/c/d/e/f/g/h/i/j", ""},
        {OT_HTTP_POST, "/api/v1/health", "GET, HEAD"},
        {OT_HTTP_DELETE, "/api/v1/apps", "GET, HEAD, POST"},
        {OT_HTTP_HEAD, "/api/v1/events/stream", "GET"},
        {OT_HTTP_GET, "/api/v1/deployments/d/labels", "POST"},
        {OT_HTTP_OTHER, "/metrics", "GET, HEAD"},
    };
    char allow[64];
    const char *names[2];
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        ok(find(cases[i].method, cases[i].path, names, allow) == NULL, "'%s'", cases[i].path);
        is_str(allow, cases[i].allow, "Allow: '%s'", cases[i].allow);
    }
}

int main(void)
{
    ot_arena_init(&arena, 4096, 1 << 20);
    test_table();
    test_found();
    test_not_found();
    ot_arena_done(&arena);
    return tap_done();
}
