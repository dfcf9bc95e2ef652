#include "load/protocol_internal.h"

#include "base/str.h"
#include "codec/tfs_types.h"
#include "net/http_client.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the URL */

/* The segment after `prefix`, up to the next '/'; false when the path does not go on so. */
static bool segment(const char **path, const char *prefix, char *out, size_t cap)
{
    size_t n = strlen(prefix);
    if (strncmp(*path, prefix, n) != 0) {
        return false;
    }
    size_t len = strcspn(*path + n, "/:?#");
    if (len == 0 || len >= cap) {
        return false;
    }
    memcpy(out, *path + n, len);
    out[len] = '\0';
    *path += n + len;
    return true;
}

static ot_rc read_path(const char *path, ot_load_url *u, ot_error *err)
{
    const char *at = path;
    if (*at == '\0' || strcmp(at, "/") == 0) {
        return OT_OK;
    }
    if (!segment(&at, "/v2/models/", u->model, sizeof u->model) &&
        !segment(&at, "/v1/models/", u->model, sizeof u->model)) {
        return ot_fail(err, OT_INVALID, "'%s' is not the path of a model: /v2/models/NAME", path);
    }
    (void)segment(&at, "/versions/", u->version, sizeof u->version);
    if (*at != '\0' && strcmp(at, "/") != 0 && strcmp(at, "/infer") != 0 &&
        strcmp(at, ":predict") != 0) {
        return ot_fail(err, OT_INVALID, "'%s' goes on after the model with '%s'", path, at);
    }
    return OT_OK;
}

ot_rc ot_load_url_parse(const char *text, const ot_load_trust *trust, ot_load_url *out,
                        ot_error *err)
{
    ot_load_url u = {0};
    bool https = ot_has_prefix(text, "https://");
    const char *at = https                            ? text + strlen("https://")
                     : ot_has_prefix(text, "http://") ? text + strlen("http://")
                                                      : text;
    bool is_unix = ot_has_prefix(at, "unix:");
    size_t n = is_unix ? strlen(at) : strcspn(at, "/?#");
    char address[300];
    if (n == 0 || n >= sizeof address || (https && is_unix)) {
        return ot_fail(err, OT_INVALID, "'%s' is no address: http[s]://HOST:PORT", text);
    }
    memcpy(address, at, n);
    address[n] = '\0';
    OT_TRY(ot_addr_parse(address, &u.addr, err));
    OT_TRY(read_path(at + n, &u, err));
    ot_http_host(&u.addr, https, u.host);
    if (https) {
        const ot_tls_client_options o = {
            .name = u.addr.host, .ca = trust->ca, .unverified = trust->unverified};
        OT_TRY(ot_tls_client_create(&o, &u.tls, err));
    }
    *out = u;
    return OT_OK;
}

void ot_load_url_done(ot_load_url *u)
{
    ot_tls_client_destroy(u->tls);
    u->tls = NULL;
}

/* ---- the signature */

static ot_rc ask(const ot_load_url *u, const char *method, const char *path, json_t **out,
                 ot_error *err)
{
    ot_http_client *c;
    ot_http_reply r;
    const ot_http_client_options o = {.struct_size = sizeof o, .tls = u->tls};
    OT_TRY(ot_http_client_create(&u->addr, &o, &c, err));
    ot_http_reply_init(&r);
    ot_rc rc = ot_http_client_simple(c, method, path, NULL, "", 0, &r, err);
    if (rc == OT_OK && r.status != 200) {
        rc = ot_fail(err, r.status == 404 ? OT_NOT_FOUND : OT_UNAVAILABLE,
                     "%s%s answers %d: %.200s", u->host, path, r.status, r.body.data);
    }
    if (rc == OT_OK) {
        *out = json_loadb(r.body.data, r.body.len, 0, NULL);
        if (*out == NULL) {
            rc = ot_fail(err, OT_DATA_LOSS, "%s%s answers with something else than JSON", u->host,
                         path);
        }
    }
    ot_http_reply_done(&r);
    ot_http_client_destroy(c);
    return rc;
}

static ot_rc read_spec(ot_load_target *t, const json_t *j, ot_tensor_spec *s, ot_error *err)
{
    const char *name = json_string_value(json_object_get(j, "name"));
    const char *type = json_string_value(json_object_get(j, "datatype"));
    const json_t *shape = json_object_get(j, "shape");
    size_t rank = json_array_size(shape);
    s->name = name != NULL ? ot_arena_strdup(&t->arena, name) : NULL;
    s->dtype = type != NULL ? ot_dtype_parse(type, strlen(type)) : OT_DT_INVALID;
    if (s->name == NULL || s->dtype == OT_DT_INVALID || !json_is_array(shape) ||
        rank > OT_RANK_MAX) {
        return ot_fail(err, OT_DATA_LOSS, "model '%s': tensor '%s' of type '%s' is not understood",
                       t->url.model, name != NULL ? name : "", type != NULL ? type : "");
    }
    s->rank = (int)rank;
    for (size_t k = 0; k < rank; k++) {
        s->dims[k] = json_integer_value(json_array_get(shape, k));
    }
    return OT_OK;
}

static ot_rc read_specs(ot_load_target *t, const json_t *list, ot_tensor_spec **out, size_t *n_out,
                        ot_error *err)
{
    size_t n = json_array_size(list);
    if (n < 1 || n > OT_LOAD_TENSORS_MAX) {
        return ot_fail(err, OT_DATA_LOSS,
                       "model '%s' has %zu tensors on one side; load takes 1 to %d", t->url.model,
                       n, OT_LOAD_TENSORS_MAX);
    }
    ot_tensor_spec *specs = ot_arena_calloc(&t->arena, n, sizeof *specs);
    if (specs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for a signature");
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(read_spec(t, json_array_get(list, i), &specs[i], err));
    }
    *out = specs;
    *n_out = n;
    return OT_OK;
}

static ot_rc only_model(ot_load_target *t, ot_error *err)
{
    json_t *index = NULL, *m;
    size_t i, ready = 0;
    OT_TRY(ask(&t->url, "POST", "/v2/repository/index", &index, err));
    json_array_foreach(index, i, m)
    {
        const char *name = json_string_value(json_object_get(m, "name"));
        const char *state = json_string_value(json_object_get(m, "state"));
        if (name != NULL && strlen(name) < sizeof t->url.model &&
            (state == NULL || strcmp(state, "READY") == 0) && strcmp(name, t->url.model) != 0) {
            snprintf(t->url.model, sizeof t->url.model, "%s", name);
            ready++;
        }
    }
    json_decref(index);
    return ready == 1 ? OT_OK
                      : ot_fail(err, OT_INVALID,
                                "%s has %zu models that are ready: say which, --model NAME or "
                                "http://%s/v2/models/NAME",
                                t->url.host, ready, t->url.host);
}

static ot_rc model_path(const ot_load_target *t, const char *prefix, const char *suffix,
                        ot_str *path, ot_error *err)
{
    ot_str_adds(path, prefix);
    ot_http_encode(path, t->url.model);
    if (t->url.version[0] != '\0') {
        ot_str_addf(path, "/versions/%s", t->url.version);
    }
    ot_str_adds(path, suffix);
    return path->failed ? ot_fail(err, OT_EXHAUSTED, "load: out of memory") : OT_OK;
}

ot_rc ot_load_ask_oip(ot_load_target *t, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str path = OT_STR_INIT;
    json_t *j = NULL;
    OT_TRY(model_path(t, "/v2/models/", "", &path, err));
    OT_TRY(ask(&t->url, "GET", path.data, &j, err));
    ot_rc rc = read_specs(t, json_object_get(j, "inputs"), &t->inputs, &t->n_inputs, err);
    if (rc == OT_OK) {
        rc = read_specs(t, json_object_get(j, "outputs"), &t->outputs, &t->n_outputs, err);
    }
    json_decref(j);
    return rc;
}

/* {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}} as the list that the Open
 * Inference Protocol has; NULL: out of memory. */
static json_t *tfs_specs(json_t *tensors)
{
    json_t *list = json_array(), *tensor, *dim;
    const char *name;
    json_object_foreach(tensors, name, tensor)
    {
        const char *type = json_string_value(json_object_get(tensor, "dtype"));
        const char *ours = "INVALID";
        for (int k = 1; type != NULL && k < OT_DT_COUNT_; k++) {
            ours = strcmp(ot_tfs_type_name((ot_dtype)k), type) == 0 ? ot_dtype_name((ot_dtype)k)
                                                                    : ours;
        }
        json_t *shape = json_array();
        size_t i;
        json_array_foreach(json_object_get(json_object_get(tensor, "tensor_shape"), "dim"), i, dim)
        {
            const char *size = json_string_value(json_object_get(dim, "size"));
            json_array_append_new(shape, json_integer(size != NULL ? atoll(size) : -1));
        }
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o}", "name", name, "datatype", ours, "shape", shape));
    }
    return list;
}

ot_rc ot_load_ask_tfs(ot_load_target *t, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str path = OT_STR_INIT;
    json_t *j = NULL;
    OT_TRY(model_path(t, "/v1/models/", "/metadata", &path, err));
    OT_TRY(ask(&t->url, "GET", path.data, &j, err));
    json_t *s = json_object_get(j, "metadata");
    s = json_object_get(json_object_get(s, "signature_def"), "signature_def");
    s = json_object_get(s, "serving_default");
    json_t *inputs = tfs_specs(json_object_get(s, "inputs"));
    json_t *outputs = tfs_specs(json_object_get(s, "outputs"));
    ot_rc rc = read_specs(t, inputs, &t->inputs, &t->n_inputs, err);
    if (rc == OT_OK) {
        rc = read_specs(t, outputs, &t->outputs, &t->n_outputs, err);
    }
    json_decref(inputs);
    json_decref(outputs);
    json_decref(j);
    return rc;
}

ot_rc ot_load_target_open(const char *url, const ot_load_trust *trust, const char *model,
                          ot_load_protocol protocol, ot_load_target *out, ot_error *err)
{
    ot_load_target t = {.protocol = protocol};
    if (model != NULL && strlen(model) >= sizeof t.url.model) {
        return ot_fail(err, OT_INVALID, "a model's name has at most %zu bytes",
                       sizeof t.url.model - 1);
    }
    OT_TRY(ot_load_url_parse(url, trust, &t.url, err));
    if (model != NULL) {
        snprintf(t.url.model, sizeof t.url.model, "%s", model);
    }
    ot_arena_init(&t.arena, 4096, 16u << 20);
    ot_rc rc = t.url.model[0] == '\0' ? only_model(&t, err) : OT_OK;
    if (rc == OT_OK) {
        rc = ot_load_ask(&t, err);
    }
    if (rc != OT_OK) {
        ot_load_target_done(&t);
        return rc;
    }
    *out = t;
    return OT_OK;
}

void ot_load_target_done(ot_load_target *t)
{
    ot_load_url_done(&t->url);
    ot_arena_done(&t->arena);
}
