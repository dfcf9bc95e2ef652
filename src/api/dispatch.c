/* The dispatcher: checks a request, finds its route, answers its errors. */
#include "api/internal.h"

#include "api/page.h"
#include "base/log.h"
#include "base/sock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a request without a valid token may send: a mistake gets its 401, not a large buffer. */
#define STRANGER_BODY (1u << 20)

void api_fail(ot_http_req *req, ot_rc rc, const ot_error *err)
{
    int status = ot_rc_http(rc);
    if (status >= 500 && rc != OT_UNAVAILABLE && rc != OT_CANCELLED) {
        ot_err("api", "%.*s: %s (%s)", (int)OT_MIN(req->path.n, (size_t)200), req->path.p, err->msg,
               err->where != NULL ? err->where : "?");
    }
    ot_http_respond_error(req, rc == OT_CANCELLED ? 503 : status, "%s", err->msg);
}

static void fail_with_field(ot_http_req *req, int status, const char *name, const char *value,
                            const char *message)
{
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    ot_str_adds(&body, "{\"error\":\"");
    ot_str_add_json(&body, message, strlen(message));
    ot_str_adds(&body, "\"}");
    ot_http_field field = {.name = name, .value = value};
    struct iovec v = {.iov_base = body.data, .iov_len = body.len};
    ot_http_answer a = {.status = status,
                        .type = "application/json",
                        .fields = &field,
                        .n_fields = 1,
                        .body = &v,
                        .n_body = 1,
                        .own = OT_HTTP_COPY};
    ot_http_respond(req, &a);
}

static ot_rc check_site(const api *a, const ot_http_req *req, ot_error *err)
{
    uint8_t ip[OT_SOCK_IP];
    bool local = a->local_fd >= 0 && req->fd >= 0 && !ot_sock_peer_ip(req->fd, ip);
    return ot_auth_check_site(&a->auth, local, req->host, ot_http_req_header(req, "origin"), err);
}

static ot_rc check_token(const api *a, const ot_http_req *req, ot_error *err)
{
    return ot_auth_check_token(&a->auth, ot_http_req_header(req, "authorization"), err);
}

uint64_t api_body_max(void *arg, const ot_http_req *req)
{
    const api *a = arg;
    const char *names[2];
    char allow[64];
    const api_route *r = api_route_find(req->method, req->path, req->arena, names, allow);
    if (r == NULL) {
        return STRANGER_BODY; /* read and thrown away: the answer says what is wrong */
    }
    bool known = check_site(a, req, NULL) == OT_OK && check_token(a, req, NULL) == OT_OK;
    return known ? r->body_max : OT_MIN(r->body_max, STRANGER_BODY);
}

static void respond(ot_http_req *req, const api_route *r, const ot_str *out)
{
    struct iovec v = {.iov_base = out->data, .iov_len = out->len};
    ot_http_answer a = {.status = 200,
                        .type = r->type != NULL ? r->type : "application/json",
                        .body = &v,
                        .n_body = 1,
                        .own = OT_HTTP_COPY};
    ot_http_respond(req, &a);
}

static ot_rc run(api *a, const api_route *r, api_call *c, ot_error *err)
{
    OT_TRY(ot_query_check(c->req->query, r->params, err));
    OT_TRY(ot_auth_actor(ot_http_req_header(c->req, "overtake-actor"), a->unnamed, c->actor, err));
    if (r->own != NULL) {
        return r->own(a, c, err);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    OT_TRY(r->answer(a, c, &out, err));
    if (out.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the answer");
    }
    respond(c->req, r, &out);
    return OT_OK;
}

void api_handle(void *arg, ot_http_req *req)
{
    api *a = arg;
    ot_error err = {0};
    api_call c = {.req = req};
    char allow[64];
    ot_rc rc = check_site(a, req, &err);
    if (rc != OT_OK) {
        api_fail(req, rc, &err);
        return;
    }
    if (api_page_answer(req)) {
        return;
    }
    const api_route *r = api_route_find(req->method, req->path, req->arena, c.name, allow);
    /* What is known here is nobody's business who has no token. */
    if ((r == NULL || !r->open) && check_token(a, req, &err) != OT_OK) {
        fail_with_field(req, 401, "WWW-Authenticate", "Bearer", err.msg);
        return;
    }
    if (r == NULL && allow[0] != 0) {
        fail_with_field(req, 405, "Allow", allow, "this path does not know the method");
        return;
    }
    if (r == NULL) {
        ot_http_respond_error(req, 404, "there is nothing at %.*s; see docs/api.md",
                              (int)OT_MIN(req->path.n, (size_t)200), req->path.p);
        return;
    }
    if (req->method != OT_HTTP_GET && req->method != OT_HTTP_HEAD) {
        a->touched = true;
    }
    rc = run(a, r, &c, &err);
    if (rc != OT_OK) {
        api_fail(req, rc, &err);
    }
}

/* ------------------------------------------------------------------ what handlers share */

static ot_rc check_keys(json_t *j, const char *const *keys, ot_error *err)
{
    size_t n = 0;
    const char *key;
    json_t *v;
    while (keys[n] != NULL) {
        n++;
    }
    json_object_foreach(j, key, v)
    {
        bool known = false;
        for (size_t i = 0; i < n; i++) {
            known = known || strcmp(key, keys[i]) == 0;
        }
        if (known) {
            continue;
        }
        const char *near = ot_suggest(key, keys, n);
        return ot_fail(err, OT_INVALID, "body: '%.64s' is not known here%s%s%s", key,
                       near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                       near != NULL ? "'?" : "");
    }
    return OT_OK;
}

ot_rc api_body_object(const api_call *c, const char *const *keys, json_t **out, ot_error *err)
{
    json_error_t je;
    if (c->req->body.n == 0) {
        return ot_fail(err, OT_INVALID, "body: a JSON object is expected; it is empty");
    }
    json_t *j = json_loadb(c->req->body.p, c->req->body.n, JSON_REJECT_DUPLICATES, &je);
    if (j == NULL) {
        return ot_fail(err, OT_INVALID, "body:%d:%d: %s", je.line, je.column, je.text);
    }
    ot_rc rc = json_is_object(j) ? check_keys(j, keys, err)
                                 : ot_fail(err, OT_INVALID, "body: a JSON object is expected");
    if (rc != OT_OK) {
        json_decref(j);
        return rc;
    }
    *out = j;
    return OT_OK;
}

ot_rc api_give(json_t *j, ot_str *out, ot_error *err)
{
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the answer");
    }
    ot_str_adds(out, text);
    free(text);
    return OT_OK;
}

ot_rc api_number(const char *text, const char *what, int64_t *out, ot_error *err)
{
    int64_t x = 0;
    if (ot_parse_i64(text, &x, NULL) != OT_OK || x < 1) {
        return ot_fail(err, OT_INVALID, "'%.64s' is not the number of a %s", text, what);
    }
    *out = x;
    return OT_OK;
}
