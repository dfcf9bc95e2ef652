#include "runtime/external.h"

#include "base/disk.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1u << 20)
#define SECRET_MAX 4096
#define TIMEOUT_MS_DEFAULT 5000
#define TIMEOUT_MS_MAX 600000

/* ---- tensors */

static ot_rc read_spec(const json_t *j, ot_external *x, ot_tensor_spec *t, ot_error *err)
{
    const char *name = json_string_value(json_object_get(j, "name"));
    const char *type = json_string_value(json_object_get(j, "datatype"));
    const json_t *shape = json_object_get(j, "shape");
    if (name == NULL || type == NULL || !json_is_array(shape) ||
        json_array_size(shape) > OT_RANK_MAX) {
        return ot_fail(err, OT_INVALID, "a tensor needs name, datatype and a shape of at most %d",
                       OT_RANK_MAX);
    }
    *t = (ot_tensor_spec){.name = ot_arena_strdup(&x->arena, name),
                          .dtype = ot_dtype_parse(type, strlen(type)),
                          .rank = (int)json_array_size(shape)};
    for (int i = 0; i < t->rank; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        t->dims[i] = json_integer_value(d);
        if (!json_is_integer(d) || t->dims[i] < -1) {
            return ot_fail(err, OT_INVALID, "tensor '%.64s': its shape has a size that is none",
                           name);
        }
    }
    if (t->dtype == OT_DT_INVALID) {
        return ot_fail(err, OT_INVALID, "tensor '%.64s': datatype '%.20s' is not known", name,
                       type);
    }
    return t->name != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "out of memory");
}

ot_rc ot_external_specs(const void *json, const char *key, ot_external *x, ot_tensor_spec **out,
                        size_t *n_out, ot_error *err)
{
    const json_t *list = json_object_get(json, key);
    size_t n = json_array_size(list);
    if (n < 1 || n > OT_EXTERNAL_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "%s: a list of 1 to %d tensors is expected", key,
                       OT_EXTERNAL_TENSORS_MAX);
    }
    ot_tensor_spec *specs = ot_arena_calloc(&x->arena, n, sizeof *specs);
    if (specs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(read_spec(json_array_get(list, i), x, &specs[i], err));
    }
    *out = specs;
    *n_out = n;
    return OT_OK;
}

/* ---- where it is */

static ot_rc read_url(const char *url, ot_external *x, bool *https_out, ot_error *err)
{
    char host[320];
    const char *whole = url != NULL ? url : "";
    *https_out = ot_has_prefix(whole, "https://");
    url = whole + (*https_out ? strlen("https://") : strlen("http://"));
    size_t n = *https_out || ot_has_prefix(whole, "http://") ? strcspn(url, "/") : 0;
    if (n == 0 || n + 5 >= sizeof host || strpbrk(url, "?# \t\r\n@") != NULL) {
        return ot_fail(err, OT_INVALID,
                       "url '%.200s' is not http://HOST:PORT[/PATH] or https://HOST[:PORT][/PATH]",
                       whole);
    }
    memcpy(host, url, n);
    host[n] = '\0';
    const char *colon = strrchr(host, ':');
    if (colon == NULL || strchr(colon, ']') != NULL) {
        strcat(host, *https_out ? ":443" : ":80");
    }
    OT_TRY(ot_addr_parse(host, &x->addr, err));
    size_t path = strlen(url + n);
    while (path > 0 && url[n + path - 1] == '/') {
        path--;
    }
    x->base = ot_arena_strndup(&x->arena, url + n, path);
    return x->base != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "out of memory");
}

static bool is_clean(const char *z)
{
    for (; *z != '\0'; z++) {
        if ((unsigned char)*z < 0x20 || *z == 0x7f) {
            return false;
        }
    }
    return true;
}

/* What a name of external.json stands for: a file in a folder that the operator has made. */
static ot_rc secret_path(const char *what, const char *name, char out[OT_PATH_MAX], ot_error *err)
{
    const char *dir = getenv("OVERTAKE_SECRETS");
    if (dir == NULL || dir[0] == '\0') {
        return ot_fail(err, OT_PRECONDITION,
                       "%s '%s' is asked for, and OVERTAKE_SECRETS does not name the folder that "
                       "has it",
                       what, name);
    }
    return ot_path_join(out, dir, name, err);
}

static ot_rc read_secret(const char *name, ot_str *out, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(secret_path("auth: secret", name, path, err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, SECRET_MAX, out, err));
    size_t n = out->data != NULL ? strcspn(out->data, "\r\n") : 0;
    if (n == 0) {
        return ot_fail(err, OT_INVALID, "auth: secret '%s' is empty", name);
    }
    out->data[n] = '\0';
    out->len = n;
    return is_clean(out->data) ? OT_OK
                               : ot_fail(err, OT_INVALID,
                                         "auth: secret '%s' has characters that a header can't "
                                         "carry",
                                         name);
}

static ot_rc read_auth(const json_t *auth, ot_str *headers, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str secret = OT_STR_INIT;
    const char *header = json_string_value(json_object_get(auth, "header"));
    const char *prefix = json_string_value(json_object_get(auth, "prefix"));
    const char *name = json_string_value(json_object_get(auth, "secret"));
    if (auth == NULL) {
        return OT_OK;
    }
    if (name == NULL || !ot_name_ok(name)) {
        return ot_fail(err, OT_INVALID, "auth.secret '%.80s' is not the name of a secret",
                       name != NULL ? name : "");
    }
    if ((header != NULL && !ot_name_ok(header)) || (prefix != NULL && !is_clean(prefix))) {
        return ot_fail(err, OT_INVALID, "auth: header or prefix is not one of a header");
    }
    OT_TRY(read_secret(name, &secret, err));
    ot_str_addf(headers, "%s: %s%s\r\n", header != NULL ? header : "authorization",
                prefix != NULL   ? prefix
                : header == NULL ? "Bearer "
                                 : "",
                secret.data);
    return OT_OK;
}

/* ---- TLS */

static ot_rc read_tls(const json_t *tls, bool https, ot_external *x, ot_error *err)
{
    const json_t *verify = json_object_get(tls, "verify"), *ca = json_object_get(tls, "ca");
    const json_t *name = json_object_get(tls, "name");
    const char *ca_name = json_string_value(ca);
    char path[OT_PATH_MAX];
    if (!https) {
        return tls == NULL ? OT_OK
                           : ot_fail(err, OT_INVALID, "tls: the url is not one of https://");
    }
    if (tls != NULL && !json_is_object(tls)) {
        return ot_fail(err, OT_INVALID, "tls: an object with ca, name, verify is expected");
    }
    if ((ca != NULL && (ca_name == NULL || !ot_name_ok(ca_name))) ||
        (verify != NULL && !json_is_boolean(verify)) ||
        (name != NULL && json_string_length(name) == 0)) {
        return ot_fail(err, OT_INVALID,
                       "tls: ca is the name of a file in the folder of secrets, name a host name, "
                       "verify true or false");
    }
    if (ca_name != NULL) {
        OT_TRY(secret_path("tls: ca", ca_name, path, err));
    }
    ot_tls_client_options o = {.name = name != NULL ? json_string_value(name) : x->addr.host,
                               .ca = ca_name != NULL ? path : NULL,
                               .unverified = json_is_false(verify)};
    x->unverified = o.unverified;
    ot_rc rc = ot_tls_client_create(&o, &x->tls, err);
    return rc == OT_OK ? rc : ot_error_prefix(err, rc, "tls");
}

/* ---- the whole */

static ot_rc read_protocol(const json_t *root, ot_external *x, ot_error *err)
{
    const char *protocol = json_string_value(json_object_get(root, "protocol"));
    const json_t *timeout = json_object_get(root, "timeout_ms");
    json_int_t ms = timeout != NULL ? json_integer_value(timeout) : TIMEOUT_MS_DEFAULT;
    bool openai = protocol != NULL && strcmp(protocol, "openai") == 0;
    if (!openai && (protocol == NULL || strcmp(protocol, "oip") != 0)) {
        return ot_fail(err, OT_INVALID, "protocol '%.40s' is neither oip nor openai",
                       protocol != NULL ? protocol : "");
    }
    if (ms < 1 || ms > TIMEOUT_MS_MAX) {
        return ot_fail(err, OT_INVALID, "timeout_ms is not a number of 1 to %d", TIMEOUT_MS_MAX);
    }
    x->protocol = openai ? OT_EXTERNAL_OPENAI : OT_EXTERNAL_OIP;
    x->timeout_us = ms * 1000;
    return OT_OK;
}

static ot_rc read_signature(const json_t *root, ot_external *x, ot_error *err)
{
    static const ot_tensor_spec chat[2] = {
        {.name = "request", .dtype = OT_DT_BYTES, .rank = 1, .dims = {1}},
        {.name = "response", .dtype = OT_DT_BYTES, .rank = 1, .dims = {1}}};
    if (x->protocol == OT_EXTERNAL_OPENAI) {
        ot_tensor_spec *both = ot_arena_alloc(&x->arena, sizeof chat);
        if (both == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "out of memory");
        }
        memcpy(both, chat, sizeof chat);
        x->inputs = &both[0];
        x->outputs = &both[1];
        x->n_inputs = x->n_outputs = 1;
        return OT_OK;
    }
    if (json_object_get(root, "inputs") == NULL && json_object_get(root, "outputs") == NULL) {
        return OT_OK; /* the server says */
    }
    OT_TRY(ot_external_specs(root, "inputs", x, &x->inputs, &x->n_inputs, err));
    return ot_external_specs(root, "outputs", x, &x->outputs, &x->n_outputs, err);
}

static ot_rc read_root(const json_t *root, ot_external *x, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str headers = OT_STR_INIT;
    const char *model = json_string_value(json_object_get(root, "model"));
    if (model == NULL || model[0] == '\0' || strlen(model) > 200 || !is_clean(model)) {
        return ot_fail(err, OT_INVALID, "model: the name that the server knows is expected");
    }
    OT_TRY(read_protocol(root, x, err));
    bool https;
    OT_TRY(read_url(json_string_value(json_object_get(root, "url")), x, &https, err));
    OT_TRY(read_tls(json_object_get(root, "tls"), https, x, err));
    OT_TRY(read_auth(json_object_get(root, "auth"), &headers, err));
    x->model = ot_arena_strdup(&x->arena, model);
    x->headers = ot_arena_strdup(&x->arena, headers.data != NULL ? headers.data : "");
    if (x->model == NULL || x->headers == NULL || headers.failed) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory");
    }
    return read_signature(root, x, err);
}

ot_rc ot_external_read(const char *json, size_t n, const char *where, ot_external *out,
                       ot_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &why);
    ot_external x = {0};
    if (!json_is_object(root)) {
        json_decref(root);
        return ot_fail(err, OT_INVALID, "%s: line %d: %s", where, root == NULL ? why.line : 1,
                       root == NULL ? why.text : "an object is expected");
    }
    ot_arena_init(&x.arena, 4096, 1u << 20);
    ot_rc rc = read_root(root, &x, err);
    json_decref(root);
    if (rc != OT_OK) {
        ot_external_done(&x);
        return ot_error_prefix(err, rc, "%s", where);
    }
    *out = x;
    return OT_OK;
}

ot_rc ot_external_open(const char *path, ot_external *out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, FILE_MAX, &text, err));
    return ot_external_read(text.data != NULL ? text.data : "", text.len, path, out, err);
}

void ot_external_done(ot_external *x)
{
    ot_tls_client_destroy(x->tls);
    ot_arena_done(&x->arena);
    *x = (ot_external){0};
}

/* ---- completions */

ot_rc ot_external_chat(const ot_external *x, const char *json, size_t n, bool plain,
                       const char **path_out, ot_str *body_out, ot_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(json, n, 0, &why);
    if (!json_is_object(root)) {
        json_decref(root);
        return ot_fail(err, OT_INVALID, "the body is not a JSON object: %s",
                       root == NULL ? why.text : "it is something else");
    }
    bool chat = json_object_get(root, "messages") != NULL;
    if (!chat && json_object_get(root, "prompt") == NULL) {
        json_decref(root);
        return ot_fail(err, OT_INVALID, "the body has neither messages nor a prompt");
    }
    json_object_set_new(root, "model", json_string(x->model));
    if (plain) {
        json_object_del(root, "stream");
        json_object_del(root, "stream_options");
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    ot_str_adds(body_out, text != NULL ? text : "");
    bool lost = text == NULL || body_out->failed;
    free(text);
    *path_out = chat ? "/v1/chat/completions" : "/v1/completions";
    return lost ? ot_fail(err, OT_EXHAUSTED, "out of memory for the request") : OT_OK;
}

/* ---- answers */

ot_rc ot_external_status(int status)
{
    switch (status) {
    case 200:
        return OT_OK;
    case 400:
    case 413:
    case 422:
        return OT_INVALID;
    case 408:
    case 504:
        return OT_TIMEOUT;
    case 429:
        return OT_EXHAUSTED;
    case 502:
    case 503:
        return OT_UNAVAILABLE;
    default: /* of our own making: 401, 403, 404; or its fault */
        return OT_INTERNAL;
    }
}

ot_rc ot_external_outputs(const ot_tensor_spec *specs, size_t n, const ot_oip_response *r,
                          ot_tensor *out, ot_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const ot_tensor *t = NULL;
        for (int k = 0; k < r->n_outputs && t == NULL; k++) {
            if (strcmp(r->outputs[k].tensor.name, specs[i].name) == 0) {
                t = &r->outputs[k].tensor;
            }
        }
        if (t == NULL) {
            return ot_fail(err, OT_DATA_LOSS, "the server's answer has no output '%s'",
                           specs[i].name);
        }
        ot_error why;
        if (ot_tensor_matches(&specs[i], t, &why) != OT_OK) {
            return ot_fail(err, OT_DATA_LOSS, "the server's answer: %s", why.msg);
        }
        out[i] = *t;
        out[i].name = specs[i].name;
    }
    return OT_OK;
}
