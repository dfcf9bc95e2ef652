/* Apps, what people do with them, and their labels. */
#include "api/internal.h"

#include "base/clock.h"
#include "base/disk.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define FILE_MAX 512
#define REASON_MAX 1000
#define ID_MAX 256
#define SOURCE_MAX 64

static size_t count_apps(api *a)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (ot_pipeline_apps(a->pipeline, &text, NULL) != OT_OK) {
        return 0;
    }
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    size_t n = json_array_size(json_object_get(j, "apps"));
    json_decref(j);
    return n;
}

ot_rc api_health(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    (void)c;
    return api_give(json_pack("{s:s,s:I,s:I}", "version", a->opt->version, "apps",
                              (json_int_t)count_apps(a), "replicas",
                              (json_int_t)ot_hub_agents(a->hub)),
                    out, err);
}

ot_rc api_apps(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    (void)c;
    return ot_pipeline_apps(a->pipeline, out, err);
}

ot_rc api_app(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    return ot_pipeline_app(a->pipeline, c->name[0], out, err);
}

ot_rc api_config(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    return ot_pipeline_config_yaml(a->pipeline, c->name[0], out, err);
}

ot_rc api_apply(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    const ot_http_req *r = c->req;
    const char *file = "app.yaml", *dir = NULL;
    bool diff = false;
    ot_stat st;
    OT_TRY(ot_query_text(r->query, "file", r->arena, FILE_MAX, &file, err));
    OT_TRY(ot_query_text(r->query, "dir", r->arena, OT_PATH_MAX - 1, &dir, err));
    OT_TRY(ot_query_flag(r->query, "diff", r->arena, &diff, err));
    if (dir == NULL || dir[0] != '/') {
        return ot_fail(err, OT_INVALID,
                       "dir is '%.200s'; the absolute path of the app's folder is expected",
                       dir != NULL ? dir : "");
    }
    ot_disk *d = ot_disk_posix();
    OT_TRY(d->ops->stat(d, dir, &st, err));
    if (!st.is_dir && !st.is_link) {
        return ot_fail(err, OT_INVALID, "dir '%.200s' is not a folder", dir);
    }
    if (r->body.n == 0) {
        return ot_fail(err, OT_INVALID, "%s: the app file is empty", file);
    }
    return ot_pipeline_apply(a->pipeline, r->body.p, r->body.n, file, dir, c->actor, diff, out,
                             err);
}

/* ------------------------------------------------------------------ acts */

static ot_rc text_of(const json_t *j, const char *key, size_t max, const char **out, ot_error *err)
{
    const json_t *v = json_object_get(j, key);
    if (v == NULL || json_is_null(v)) {
        return OT_OK;
    }
    if (!json_is_string(v) || json_string_length(v) > max ||
        strlen(json_string_value(v)) != json_string_length(v)) {
        return ot_fail(err, OT_INVALID, "body: '%s' must be text of at most %zu bytes", key, max);
    }
    *out = json_string_value(v);
    return OT_OK;
}

static ot_rc read_act(const json_t *j, ot_person_act *act, ot_error *err)
{
    const json_t *version = json_object_get(j, "version");
    OT_TRY(text_of(j, "verb", 32, &act->verb, err));
    OT_TRY(text_of(j, "reason", REASON_MAX, &act->reason, err));
    OT_TRY(text_of(j, "path", OT_PATH_MAX - 1, &act->path, err));
    OT_TRY(text_of(j, "label", 64, &act->label, err));
    if (act->verb == NULL) {
        return ot_fail(err, OT_INVALID,
                       "body: 'verb' is needed: train, push, pause, resume, pin, "
                       "freeze, approve, reject, rollback, release, label, ab, switch, load or "
                       "unload");
    }
    const json_t *for_us = json_object_get(j, "for_us");
    if (for_us != NULL && !json_is_null(for_us)) {
        act->for_us = json_integer_value(for_us);
        if (!json_is_integer(for_us) || act->for_us < 1) {
            return ot_fail(err, OT_INVALID, "body: 'for_us' must be microseconds from 1 on");
        }
    }
    if (version != NULL && !json_is_null(version)) {
        act->version = json_integer_value(version);
        if (!json_is_integer(version) || act->version < 1) {
            return ot_fail(err, OT_INVALID, "body: 'version' must be a whole number from 1 on");
        }
    }
    return OT_OK;
}

static ot_rc read_arms(const json_t *list, ot_person_act *act, ot_error *err)
{
    if (list == NULL || json_is_null(list)) {
        return OT_OK;
    }
    if (!json_is_array(list) || json_array_size(list) > OT_PIPELINE_ARMS_MAX) {
        return ot_fail(err, OT_INVALID, "body: 'arms' must be a list of at most %d",
                       OT_PIPELINE_ARMS_MAX);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *version = json_object_get(json_array_get(list, i), "version");
        const json_t *share = json_object_get(json_array_get(list, i), "share");
        if (!json_is_integer(version) || json_integer_value(version) < 1 ||
            !json_is_number(share)) {
            return ot_fail(err, OT_INVALID,
                           "body: arms[%zu] must be {\"version\": 1 and up, \"share\": 0..1}", i);
        }
        act->arms[i].version = json_integer_value(version);
        act->arms[i].share = json_number_value(share);
        act->n_arms = i + 1;
    }
    return OT_OK;
}

ot_rc api_act(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    static const char *const keys[] = {"verb",   "reason", "version", "path",
                                       "for_us", "label",  "arms",    NULL};
    json_t *j = NULL;
    OT_TRY(api_body_object(c, keys, &j, err));
    ot_person_act act = {.app = c->name[0], .actor = c->actor};
    ot_rc rc = read_act(j, &act, err);
    if (rc == OT_OK) {
        rc = read_arms(json_object_get(j, "arms"), &act, err);
    }
    if (rc == OT_OK) {
        rc = ot_pipeline_act(a->pipeline, &act, out, err);
    }
    json_decref(j);
    return rc;
}

ot_rc api_why(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    int64_t version = 0;
    OT_TRY(ot_query_i64(c->req->query, "version", c->req->arena, 1, INT64_MAX, &version, err));
    return ot_pipeline_why(a->pipeline, c->name[0], version, out, err);
}

/* ------------------------------------------------------------------ labels */

static ot_rc read_label(const json_t *j, size_t i, ot_label_in *l, ot_error *err)
{
    const json_t *id = json_object_get(j, "id"), *value = json_object_get(j, "value");
    const json_t *time = json_object_get(j, "time_us");
    if (!json_is_string(id) || json_string_length(id) == 0 || json_string_length(id) > ID_MAX) {
        return ot_fail(err, OT_INVALID, "labels[%zu]: 'id' must be text of 1 to %d bytes", i,
                       ID_MAX);
    }
    if (!json_is_number(value) || !isfinite(json_number_value(value))) {
        return ot_fail(err, OT_INVALID, "labels[%zu]: 'value' must be a number", i);
    }
    if (time != NULL && (!json_is_integer(time) || json_integer_value(time) < 0)) {
        return ot_fail(err, OT_INVALID,
                       "labels[%zu]: 'time_us' must be microseconds since the Unix epoch", i);
    }
    const char *source = NULL;
    ot_error why = {0};
    if (text_of(j, "source", SOURCE_MAX, &source, &why) != OT_OK) {
        return ot_fail(err, OT_INVALID, "labels[%zu]: %s", i, why.msg);
    }
    *l = (ot_label_in){.id = json_string_value(id),
                       .value = json_number_value(value),
                       .source = source,
                       .time_us = json_integer_value(time)};
    return OT_OK;
}

static ot_rc take_labels(api *a, const api_call *c, const json_t *list, ot_label_report *report,
                         ot_error *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0 || n > OT_LABELS_MAX) {
        return ot_fail(err, OT_INVALID, "body: 'labels' must be a list of 1 to %d; it has %zu",
                       OT_LABELS_MAX, n);
    }
    OT_AUTO(ot_free_ptr) ot_label_in *labels = ot_calloc(n, sizeof *labels);
    if (labels == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %zu labels", n);
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(read_label(json_array_get(list, i), i, &labels[i], err));
    }
    return ot_pipeline_labels(a->pipeline, c->name[0], labels, n, c->actor, report, err);
}

ot_rc api_labels(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    static const char *const keys[] = {"labels", NULL};
    json_t *j = NULL;
    ot_label_report r = {0};
    OT_TRY(api_body_object(c, keys, &j, err));
    ot_rc rc = take_labels(a, c, json_object_get(j, "labels"), &r, err);
    json_decref(j);
    OT_TRY(rc);
    return api_give(json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:s}", "accepted", (json_int_t)r.accepted,
                              "joined", (json_int_t)r.joined, "waiting", (json_int_t)r.waiting,
                              "repeated", (json_int_t)r.repeated, "corrected",
                              (json_int_t)r.corrected, "unknown", (json_int_t)r.unknown,
                              "first_unknown", r.first_unknown),
                    out, err);
}

ot_rc api_accuracy(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    const ot_http_req *r = c->req;
    int64_t version = 0, from = 0, to = ot_clock_wall_us() + 1;
    ot_accuracy acc = {0};
    OT_TRY(ot_query_i64(r->query, "version", r->arena, 1, INT64_MAX, &version, err));
    OT_TRY(ot_query_i64(r->query, "from_us", r->arena, 0, INT64_MAX, &from, err));
    OT_TRY(ot_query_i64(r->query, "to_us", r->arena, 0, INT64_MAX, &to, err));
    if (version == 0) {
        return ot_fail(err, OT_INVALID, "version is needed: the number of a version");
    }
    OT_TRY(ot_pipeline_accuracy(a->pipeline, c->name[0], version, from, to, &acc, err));
    json_t *none = json_null();
    bool known = acc.labelled > 0;
    return api_give(json_pack("{s:I,s:I,s:I,s:o,s:o,s:o}", "version", (json_int_t)version,
                              "labelled", (json_int_t)acc.labelled, "right", (json_int_t)acc.right,
                              "estimate", known ? json_real(acc.estimate) : none, "lower",
                              known ? json_real(acc.lower) : none, "upper",
                              known ? json_real(acc.upper) : none),
                    out, err);
}

ot_rc api_replicas(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    (void)c;
    (void)err;
    ot_str_adds(out, "{\"replicas\":");
    ot_hub_json(a->hub, out);
    ot_str_addc(out, '}');
    return OT_OK;
}
