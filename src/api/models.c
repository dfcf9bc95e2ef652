/* Models and their versions. */
#include "api/internal.h"

#include "store/models.h"

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

static ot_rc add_version(void *arg, const ot_version_row *v, ot_error *err)
{
    struct model_arg *m = arg;
    char hex[OT_DIGEST_HEX];
    json_t *j =
        json_pack("{s:I,s:s,s:s,s:I,s:s,s:o,s:I,s:I}", "version", (json_int_t)v->version, "bundle",
                  ot_digest_hex(&v->bundle, hex), "format", v->format, "size_bytes",
                  (json_int_t)v->size_bytes, "status", ot_version_status_name(v->status), "run",
                  number_or_null(v->run), "created_us", (json_int_t)v->created_us, "status_us",
                  (json_int_t)v->status_us);
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_rc rc = ot_version_metrics(m->txn, m->name, v->version, &text, err);
    json_t *metrics = rc == OT_OK ? json_loadb(text.data, text.len, 0, NULL) : NULL;
    json_object_set_new(j, "metrics", metrics != NULL ? metrics : json_object());
    json_array_append_new(m->list, j);
    return rc;
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
