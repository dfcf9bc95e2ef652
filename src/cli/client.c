#include "cli/client.h"

#include "base/disk.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "net/http_client.h"
#include "net/https.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKEN_BYTES_MAX 4096
#define ADDRESS_BYTES_MAX 512
#define ACTOR_BYTES_MAX 64
#define PROBE_US 1000000
#define ANSWER_MAX (256u << 20)
#define SILENCE_US 600000000 /* of an https:// server; the whole of a request */

struct ot_cli_client {
    ot_http_client *http;
    ot_addr addr;
    ot_str headers; /* Authorization, overtake-actor */
    char address[300];
    char *https;    /* "https://HOST:PORT"; then http is NULL and addr is not set */
    const char *ca; /* whom to trust, a file; NULL: whom the system trusts */
    bool patient;
    const char *data; /* the data directory; NULL when --url named the address */
};

/* One line of a file of the data directory. */
static ot_rc read_line(const char *dir, const char *name, size_t max, ot_str *out, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, dir, name, err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, max, out, err));
    out->len = strcspn(out->data, "\r\n");
    if (out->len > 0) {
        out->data[out->len] = 0;
    }
    return OT_OK;
}

/* "http://HOST:PORT/" or HOST:PORT; an https:// address goes into *https_out as it is. */
static ot_rc read_url(const char *url, ot_addr *out, char **https_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    bool secure = ot_has_prefix(url, "https://");
    ot_str_adds(&text, ot_has_prefix(url, "http://") ? url + 7 : url);
    if (text.len > 0 && text.data[text.len - 1] == '/') {
        text.data[--text.len] = 0;
    }
    if (text.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the address");
    }
    if (!secure) {
        return ot_addr_parse(text.data, out, err);
    }
    size_t host = strlen("https://");
    if (text.len == host || text.len > 256 || strpbrk(text.data + host, "/?#@ ") != NULL) {
        return ot_fail(err, OT_INVALID, "'%.200s': https://HOST or https://HOST:PORT is expected",
                       url);
    }
    *https_out = ot_strdup(text.data);
    return *https_out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for the address");
}

static ot_rc find_address(const ot_args *args, ot_addr *out, char **https_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    const char *url = ot_args_str(args, "url"), *dir = ot_args_str(args, "data");
    if (url != NULL) {
        return read_url(url, out, https_out, err);
    }
    ot_rc rc = read_line(dir, "control.addr", ADDRESS_BYTES_MAX, &text, err);
    if (rc == OT_NOT_FOUND) {
        return ot_fail(err, OT_UNAVAILABLE,
                       "no control plane has run in data directory '%s'; start one with "
                       "`overtake up --data %s`, or name another with --data or --url",
                       dir, dir);
    }
    OT_TRY(rc);
    return ot_addr_parse(text.data, out, err);
}

static ot_rc add_token(const char *token, ot_str *headers, ot_error *err)
{
    for (const char *p = token; *p != 0; p++) {
        if (*p <= ' ' || *p >= 127) {
            return ot_fail(err, OT_INVALID, "the token has characters that a header can't carry");
        }
    }
    if (token[0] != 0) {
        ot_str_addf(headers, "Authorization: Bearer %s\r\n", token);
    }
    return OT_OK;
}

static ot_rc find_token(const ot_args *args, ot_str *headers, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str file = OT_STR_INIT;
    const char *token = ot_args_str(args, "token");
    if (token != NULL) {
        return add_token(token, headers, err);
    }
    ot_rc rc = read_line(ot_args_str(args, "data"), "token", TOKEN_BYTES_MAX, &file, err);
    if (rc == OT_NOT_FOUND) {
        return OT_OK; /* the server says what it wants */
    }
    OT_TRY(rc);
    return add_token(file.data, headers, err);
}

ot_rc ot_cli_client_page(const ot_cli_client *c, ot_str *out, ot_error *err)
{
    static const char scheme[] = "Bearer ";
    const char *token = strstr(c->headers.data, scheme);
    if (c->https == NULL && c->addr.is_unix) {
        return ot_fail(
            err, OT_INVALID,
            "the control plane is at %s, where no browser can ask; name the address that it "
            "listens on with --url https://HOST:PORT, or start it with --control "
            "127.0.0.1:9000",
            c->address);
    }
    ot_str_addf(out, "%s%s/", c->https == NULL ? "http://" : "", c->address);
    if (token != NULL) {
        token += sizeof scheme - 1;
        ot_str_adds(out, "#token=");
        ot_str_add(out, token, strcspn(token, "\r\n"));
    }
    return OT_OK;
}

/* UTF-8, whole characters; what a header can't carry becomes '?'. */
static void add_actor(ot_str *headers)
{
    char actor[ACTOR_BYTES_MAX + 1];
    const char *user = getenv("USER");
    json_t *text = user != NULL && user[0] != 0 ? json_string(user) : NULL;
    if (text != NULL) {
        size_t n = strnlen(user, ACTOR_BYTES_MAX);
        while (n > 0 && ((unsigned char)user[n] & 0xc0) == 0x80) {
            n--;
        }
        snprintf(actor, sizeof actor, "%.*s", (int)n, user);
    } else {
        snprintf(actor, sizeof actor, "uid-%lu", (unsigned long)getuid());
    }
    json_decref(text);
    for (char *p = actor; *p != 0; p++) {
        *p = (unsigned char)*p <= ' ' || *p == 127 ? '?' : *p;
    }
    ot_str_addf(headers, "overtake-actor: %s\r\n", actor);
}

static ot_rc client_new(ot_cli_client **client_out, ot_error *err)
{
    ot_cli_client *c = ot_calloc(1, sizeof *c);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the connection");
    }
    ot_str_init(&c->headers);
    *client_out = c;
    return OT_OK;
}

/* With the address and the token there. */
static ot_rc client_ready(ot_cli_client *c, ot_error *err)
{
    add_actor(&c->headers);
    if (c->headers.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the connection");
    }
    if (c->https != NULL) {
        snprintf(c->address, sizeof c->address, "%s", c->https);
        return OT_OK;
    }
    ot_addr_format(&c->addr, c->address);
    return ot_http_client_create(&c->addr, NULL, &c->http, err);
}

ot_rc ot_cli_client_open(const ot_args *args, ot_cli_client **client_out, ot_error *err)
{
    ot_cli_client *c = NULL;
    OT_TRY(client_new(&c, err));
    c->data = ot_args_str(args, "url") == NULL ? ot_args_str(args, "data") : NULL;
    c->ca = ot_args_str(args, "ca");
    ot_rc rc = find_address(args, &c->addr, &c->https, err);
    if (rc == OT_OK) {
        rc = find_token(args, &c->headers, err);
    }
    if (rc == OT_OK) {
        rc = client_ready(c, err);
    }
    if (rc != OT_OK) {
        ot_cli_client_close(c);
        return rc;
    }
    *client_out = c;
    return OT_OK;
}

static ot_rc open_at(ot_cli_client *c, const char *url, const char *token_file, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str token = OT_STR_INIT;
    OT_TRY(read_url(url, &c->addr, &c->https, err));
    if (c->https == NULL && !ot_addr_is_loopback(&c->addr)) {
        return ot_fail(err, OT_DENIED,
                       "%.200s is another machine, and without TLS everybody on the way could read "
                       "the token: https:// is needed, or a tunnel to a port of this machine",
                       url);
    }
    OT_TRY(ot_disk_read_all(ot_disk_posix(), token_file, TOKEN_BYTES_MAX, &token, err));
    token.len = strcspn(token.data, "\r\n");
    token.data[token.len] = 0;
    OT_TRY(add_token(token.data, &c->headers, err));
    return client_ready(c, err);
}

ot_rc ot_cli_client_open_at(const char *url, const char *token_file, ot_cli_client **client_out,
                            ot_error *err)
{
    ot_cli_client *c = NULL;
    OT_TRY(client_new(&c, err));
    ot_rc rc = open_at(c, url, token_file, err);
    if (rc != OT_OK) {
        ot_cli_client_close(c);
        return rc;
    }
    *client_out = c;
    return OT_OK;
}

void ot_cli_client_close(ot_cli_client *c)
{
    if (c != NULL) {
        if (c->http != NULL) {
            ot_http_client_destroy(c->http);
        }
        ot_str_done(&c->headers);
        ot_free(c->https);
        ot_free(c);
    }
}

ot_rc ot_cli_client_patient(ot_cli_client *c, ot_error *err)
{
    ot_http_client *http;
    ot_http_client_options o = {.struct_size = sizeof o, .io_us = -1};
    if (c->https != NULL) {
        c->patient = true;
        return OT_OK;
    }
    OT_TRY(ot_http_client_create(&c->addr, &o, &http, err));
    ot_http_client_destroy(c->http);
    c->http = http;
    return OT_OK;
}

static ot_rc server_error(const ot_cli_client *c, const ot_http_reply *r, ot_error *err)
{
    json_t *o = json_loadb(r->body.data, r->body.len, 0, NULL);
    json_t *e = json_object_get(o, "error");
    const char *text = json_string_value(json_is_object(e) ? json_object_get(e, "message") : e);
    ot_rc rc = ot_rc_of_http(r->status);
    if (text != NULL) {
        ot_fail(err, rc, "%s", text);
    } else {
        ot_fail(err, rc, "%s answered %d: %.300s", c->address, r->status, r->body.data);
    }
    json_decref(o);
    return rc;
}

/* Nobody there, or somebody who went away in the middle? */
static ot_rc unavailable(const ot_cli_client *c, ot_error *err)
{
    int fd = -1;
    if (ot_sock_connect(&c->addr, PROBE_US, &fd, NULL) == OT_OK) {
        ot_fd_close(&fd);
        return ot_error_prefix(err, OT_UNAVAILABLE, "the control plane broke off");
    }
    if (c->data == NULL) {
        return ot_fail(err, OT_UNAVAILABLE,
                       "no control plane at %s; start one with `overtake up`, or name another with "
                       "--url",
                       c->address);
    }
    return ot_fail(err, OT_UNAVAILABLE,
                   "no control plane at %s; start one with `overtake up` (data directory %s)",
                   c->address, c->data);
}

static ot_rc request(ot_cli_client *c, const ot_http_call *call, ot_http_reply *reply,
                     ot_error *err)
{
    ot_rc rc;
    if (c->https != NULL) {
        rc = ot_https_request(c->https, call, c->ca, ANSWER_MAX, c->patient ? 0 : SILENCE_US, reply,
                              err);
        rc = rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "%s", c->https);
    } else {
        rc = ot_http_client_request(c->http, call, reply, err);
        rc = rc == OT_UNAVAILABLE ? unavailable(c, err) : rc;
    }
    OT_TRY(rc);
    return reply->status >= 400 ? server_error(c, reply, err) : OT_OK;
}

ot_rc ot_cli_client_send(ot_cli_client *c, const char *method, const char *target,
                         const char *content_type, const void *p, size_t n, json_t **answer_out,
                         ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str headers = OT_STR_INIT;
    ot_http_reply reply;
    ot_str_adds(&headers, c->headers.data);
    if (p != NULL) {
        ot_str_addf(&headers, "Content-Type: %s\r\n", content_type);
    }
    if (headers.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the request");
    }
    ot_http_call call = {
        .method = method, .target = target, .headers = headers.data, .body = p, .body_len = n};
    ot_http_reply_init(&reply);
    ot_rc rc = request(c, &call, &reply, err);
    json_t *answer = NULL;
    if (rc == OT_OK && reply.body.len > 0) {
        json_error_t je;
        answer = json_loadb(reply.body.data, reply.body.len, JSON_DECODE_ANY, &je);
        if (answer == NULL) {
            rc = ot_fail(err, OT_DATA_LOSS, "%s %s: the answer is not JSON: %s", method, target,
                         je.text);
        }
    }
    ot_http_reply_done(&reply);
    if (rc == OT_OK) {
        *answer_out = answer;
    }
    return rc;
}

ot_rc ot_cli_client_call(ot_cli_client *c, const char *method, const char *target, json_t *body,
                         json_t **answer_out, ot_error *err)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    if (body != NULL && text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the request");
    }
    ot_rc rc = ot_cli_client_send(c, method, target, "application/json", text,
                                  text != NULL ? strlen(text) : 0, answer_out, err);
    free(text);
    return rc;
}

ot_rc ot_cli_client_stream(ot_cli_client *c, const char *target, ot_cli_data_fn *fn, void *arg,
                           ot_error *err)
{
    ot_http_reply reply;
    ot_http_call call = {
        .method = "GET", .target = target, .headers = c->headers.data, .on_data = fn, .arg = arg};
    ot_http_reply_init(&reply);
    ot_rc rc = request(c, &call, &reply, err);
    ot_http_reply_done(&reply);
    return rc;
}

void ot_cli_target(ot_str *target, const char *prefix, const char *name, const char *suffix)
{
    ot_str_adds(target, prefix);
    ot_http_encode(target, name);
    ot_str_adds(target, suffix);
}

void ot_cli_query(ot_str *target, const char *key, const char *value)
{
    if (value != NULL) {
        ot_str_addf(target, "%c%s=", strchr(target->data, '?') == NULL ? '?' : '&', key);
        ot_http_encode(target, value);
    }
}

void ot_cli_query_i64(ot_str *target, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    ot_cli_query(target, key, text);
}

int ot_cli_client_run(const ot_args *args, const char *method, const ot_str *target, json_t *body,
                      ot_cli_print_fn *print)
{
    ot_error err = {0};
    ot_cli_client *c = NULL;
    json_t *answer = NULL;
    ot_rc rc = target->failed ? ot_fail(&err, OT_EXHAUSTED, "no memory for the request")
                              : ot_cli_client_open(args, &c, &err);
    if (rc == OT_OK) {
        rc = ot_cli_client_call(c, method, target->data, body, &answer, &err);
    }
    ot_cli_client_close(c);
    if (rc != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    int code = 0;
    if (ot_args_json(args) || print == NULL) {
        code = ot_cli_print_json(answer);
    } else {
        OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
        print(answer, &out);
        code = ot_cli_print(&out);
    }
    json_decref(answer);
    return code;
}
