/* Models and their versions. */
#include "api/internal.h"

#include "model/bundle.h"
#include "model/manifest.h"
#include "store/blob.h"
#include "store/models.h"

#define LINEAGE_MAX (1u << 20)
#define MODELS_MAX 1000
#define VERSIONS_MAX 1000

static json_t *number_or_null(int64_t x)
{
    return x > 0 ? json_integer(x) : json_null();
}

static json_t *model_json(const ot_model_row *m)
{
    return json_pack("{s:s,s:o,s:I,s:I,s:o,s:o,s:o}", "name", m->name, "app",
                     m->app[0] != 0 ? json_string(m->app) : json_null(), "created_us",
                     (json_int_t)m->created_us, "versions", (json_int_t)m->versions, "latest",
                     number_or_null(m->latest), "champion", number_or_null(m->champion),
                     "challenger", number_or_null(m->challenger));
}

static ot_rc add_model(void *arg, const ot_model_row *row, ot_error *err)
{
    (void)err;
    json_array_append_new(arg, model_json(row));
    return OT_OK;
}

static ot_rc models_txn(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_model_each(txn, NULL, NULL, MODELS_MAX, add_model, arg, err);
}

ot_rc api_models(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    (void)c;
    json_t *list = json_array();
    ot_rc rc = ot_store_read(a->store, models_txn, list, err);
    if (rc != OT_OK) {
        json_decref(list);
        return rc;
    }
    return api_give(json_pack("{s:o}", "models", list), out, err);
}

struct model_arg {
    const char *name;
    ot_txn *txn;
    json_t *model, *list;
};

static ot_rc version_json(ot_txn *txn, const char *model, const ot_version_row *v, json_t **out,
                          ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_version_metrics(txn, model, v->version, &text, err));
    json_t *metrics = json_loadb(text.data, text.len, 0, NULL);
    *out =
        json_pack("{s:I,s:s,s:s,s:I,s:s,s:o,s:I,s:I,s:o}", "version", (json_int_t)v->version,
                  "bundle", ot_digest_hex(&v->bundle, hex), "format", v->format, "size_bytes",
                  (json_int_t)v->size_bytes, "status", ot_version_status_name(v->status), "run",
                  number_or_null(v->run), "created_us", (json_int_t)v->created_us, "status_us",
                  (json_int_t)v->status_us, "metrics", metrics != NULL ? metrics : json_object());
    return *out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for the answer");
}

static ot_rc add_version(void *arg, const ot_version_row *v, ot_error *err)
{
    struct model_arg *m = arg;
    json_t *j = NULL;
    OT_TRY(version_json(m->txn, m->name, v, &j, err));
    json_array_append_new(m->list, j);
    return OT_OK;
}

static ot_rc model_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct model_arg *m = arg;
    ot_model_row row;
    m->txn = txn;
    OT_TRY(ot_model_get(txn, m->name, &row, err));
    m->model = model_json(&row);
    return ot_version_each(txn, m->name, 0, VERSIONS_MAX, add_version, m, err);
}

ot_rc api_model(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct model_arg m = {.name = c->name[0], .list = json_array()};
    ot_rc rc = ot_store_read(a->store, model_txn, &m, err);
    if (rc != OT_OK) {
        json_decref(m.list);
        json_decref(m.model);
        return rc;
    }
    json_object_set_new(m.model, "list", m.list);
    return api_give(m.model, out, err);
}

/* ------------------------------------------------------------------ one version */

struct version_arg {
    const char *model;
    int64_t version;
    ot_digest bundle;
    json_t *json;
};

static ot_rc version_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct version_arg *v = arg;
    ot_version_row row;
    OT_TRY(ot_version_get(txn, v->model, v->version, &row, err));
    v->bundle = row.bundle;
    return version_json(txn, v->model, &row, &v->json, err);
}

/* What the bundle itself says it came from; null when it says nothing. */
static ot_rc lineage_json(ot_store *store, const ot_digest *bundle, json_t **out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str manifest = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    OT_TRY(ot_blob_read(store, bundle, OT_MANIFEST_BYTES_MAX, &manifest, err));
    OT_TRY(ot_manifest_parse(manifest.data, manifest.len, &m, err));
    const ot_manifest_file *f = ot_manifest_file_find(&m, OT_BUNDLE_LINEAGE);
    if (f != NULL) {
        OT_TRY(ot_blob_read(store, &f->sha256, LINEAGE_MAX, &text, err));
    }
    json_t *j = f != NULL ? json_loadb(text.data, text.len, 0, NULL) : NULL;
    *out = j != NULL ? j : json_null();
    return OT_OK;
}

ot_rc api_version(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct version_arg v = {.model = c->name[0]};
    json_t *lineage = NULL;
    OT_TRY(api_number(c->name[1], "version", &v.version, err));
    OT_TRY(ot_store_read(a->store, version_txn, &v, err));
    ot_rc rc = lineage_json(a->store, &v.bundle, &lineage, err);
    if (rc != OT_OK) {
        json_decref(v.json);
        return rc;
    }
    json_object_set_new(v.json, "lineage", lineage);
    return api_give(v.json, out, err);
}
