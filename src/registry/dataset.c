#include "registry/dataset.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/npy.h"
#include "store/blob.h"
#include "store/models.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* --- what a dataset's JSON says */

typedef struct description {
    int64_t rows;
    char label[OT_ROW_NAME * 2]; /* "" when there is none */
    size_t n_columns;
    struct {
        char name[OT_ROW_NAME * 2 + 1];
        ot_tensor_spec spec;
        ot_digest sha256;
    } columns[OT_TABLE_COLUMNS_MAX];
} description;

static ot_rc put_column(ot_store *store, const ot_tensor *c, ot_digest *digest_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str head = OT_STR_INIT;
    OT_TRY(ot_npy_header(c, &head, err));
    ot_blob_writer *w;
    OT_TRY(ot_blob_writer_create(store, (uint64_t)head.len + c->size_bytes, &w, err));
    ot_rc rc = ot_blob_writer_append(w, head.data, head.len, err);
    if (rc == OT_OK && c->size_bytes > 0) {
        rc = ot_blob_writer_append(w, c->data, c->size_bytes, err);
    }
    if (rc == OT_OK) {
        rc = ot_blob_writer_commit(w, NULL, digest_out, NULL, err);
    }
    ot_blob_writer_destroy(w);
    return rc;
}

static void describe_column(ot_str *out, const ot_tensor *c, const ot_digest *d, bool first)
{
    char hex[OT_DIGEST_HEX];
    ot_str_addf(out, "%s{\"name\": \"%s\", \"datatype\": \"%s\", \"shape\": [-1",
                first ? "" : ",\n  ", c->name, ot_dtype_name(c->dtype));
    for (int k = 1; k < c->rank; k++) {
        ot_str_addf(out, ", %" PRId64, c->dims[k]);
    }
    ot_str_addf(out, "], \"sha256\": \"%s\"}", ot_digest_hex(d, hex));
}

ot_rc ot_dataset_put(ot_store *store, const ot_table *t, ot_digest *digest_out, ot_error *err)
{
    if (t->n_columns == 0) {
        return ot_fail(err, OT_INVALID, "dataset: it has no columns");
    }
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ot_str_addf(&json, "{\"schema\": \"%s\", \"rows\": %" PRId64, OT_DATASET_SCHEMA, t->rows);
    if (t->label != NULL) {
        ot_str_addf(&json, ", \"label\": \"%s\"", t->label); /* a clean name: nothing to escape */
    }
    ot_str_adds(&json, ",\n \"columns\": [");
    for (size_t i = 0; i < t->n_columns; i++) {
        ot_digest d;
        ot_rc rc = put_column(store, &t->columns[i], &d, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "dataset: column '%s'", t->columns[i].name);
        }
        describe_column(&json, &t->columns[i], &d, i == 0);
    }
    ot_str_adds(&json, "]}\n");
    if (json.failed) {
        return ot_fail(err, OT_EXHAUSTED, "dataset: no memory to describe it");
    }
    return ot_blob_put(store, json.data, json.len, digest_out, err);
}

static ot_rc bad_json(ot_error *err, const char *what)
{
    return ot_fail(err, OT_DATA_LOSS, "not a dataset: %s", what);
}

static ot_rc parse_shape(json_t *shape, ot_tensor_spec *s, ot_error *err)
{
    size_t n = json_array_size(shape);
    if (n < 1 || n > OT_RANK_MAX) {
        return bad_json(err, "a column's shape");
    }
    s->rank = (int)n;
    for (size_t i = 0; i < n; i++) {
        s->dims[i] = (int64_t)json_integer_value(json_array_get(shape, i));
        if (i == 0 ? s->dims[0] != -1 : s->dims[i] < 1) {
            return bad_json(err, "a column's shape");
        }
    }
    return OT_OK;
}

static ot_rc parse_column(json_t *v, description *d, ot_error *err)
{
    const char *name = json_string_value(json_object_get(v, "name"));
    const char *dt = json_string_value(json_object_get(v, "datatype"));
    const char *hex = json_string_value(json_object_get(v, "sha256"));
    size_t i = d->n_columns;
    if (name == NULL || dt == NULL || hex == NULL || !ot_column_name_ok(name) ||
        !ot_digest_parse(hex, &d->columns[i].sha256)) {
        return bad_json(err, "a column needs name, datatype, shape and sha256");
    }
    snprintf(d->columns[i].name, sizeof d->columns[i].name, "%s", name);
    d->columns[i].spec =
        (ot_tensor_spec){.name = d->columns[i].name, .dtype = ot_dtype_parse(dt, strlen(dt))};
    OT_TRY(parse_shape(json_object_get(v, "shape"), &d->columns[i].spec, err));
    d->n_columns++;
    return OT_OK;
}

static ot_rc parse_root(json_t *root, description *d, ot_error *err)
{
    const char *schema = json_string_value(json_object_get(root, "schema"));
    json_t *columns = json_object_get(root, "columns"), *label = json_object_get(root, "label");
    if (schema == NULL || strcmp(schema, OT_DATASET_SCHEMA) != 0) {
        return ot_fail(err, OT_INVALID, "its schema is '%.64s'; this program reads '%s'",
                       schema == NULL ? "" : schema, OT_DATASET_SCHEMA);
    }
    size_t n = json_array_size(columns);
    if (n < 1 || n > OT_TABLE_COLUMNS_MAX || !json_is_integer(json_object_get(root, "rows")) ||
        (label != NULL &&
         !(json_is_string(label) && ot_column_name_ok(json_string_value(label))))) {
        return bad_json(err, "rows, label or the list of columns");
    }
    d->rows = (int64_t)json_integer_value(json_object_get(root, "rows"));
    snprintf(d->label, sizeof d->label, "%s", label == NULL ? "" : json_string_value(label));
    for (size_t i = 0; i < n; i++) {
        OT_TRY(parse_column(json_array_get(columns, i), d, err));
    }
    return OT_OK;
}

static ot_rc read_description(ot_store *store, const ot_digest *digest, description **out,
                              ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_blob_read(store, digest, OT_DATASET_JSON_MAX, &text, err));
    description *d = ot_calloc(1, sizeof *d);
    if (d == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory");
    }
    json_error_t je;
    json_t *root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
    ot_rc rc = root == NULL ? bad_json(err, je.text) : parse_root(root, d, err);
    json_decref(root);
    if (rc != OT_OK) {
        ot_free(d);
        return rc;
    }
    *out = d;
    return OT_OK;
}

/* --- loading */

static ot_rc load_column(ot_store *store, const description *d, size_t i, ot_table *t,
                         ot_error *err)
{
    char path[OT_PATH_MAX];
    const char *name = d->columns[i].name;
    OT_TRY(ot_blob_verify(store, &d->columns[i].sha256, err));
    OT_TRY(ot_blob_path(store, &d->columns[i].sha256, path, err));
    OT_TRY(ot_table_add_npy_file(t, ot_store_disk(store), name, path, err));
    const ot_tensor *c = ot_table_column(t, name);
    if (c->dims[0] != d->rows || ot_tensor_matches(&d->columns[i].spec, c, NULL) != OT_OK) {
        return ot_fail(err, OT_DATA_LOSS, "column '%s' is not what its dataset says", name);
    }
    return OT_OK;
}

static ot_rc load(ot_store *store, const description *d, ot_table *t, ot_error *err)
{
    for (size_t i = 0; i < d->n_columns; i++) {
        OT_TRY(load_column(store, d, i, t, err));
    }
    return ot_table_set_label(t, d->label[0] == 0 ? NULL : d->label, err);
}

static ot_rc prefix_digest(ot_error *err, ot_rc rc, const ot_digest *digest)
{
    char hex[OT_DIGEST_HEX];
    return ot_error_prefix(err, rc, "dataset %.12s", ot_digest_hex(digest, hex));
}

ot_rc ot_dataset_load(ot_store *store, const ot_digest *digest, ot_table *t_out, ot_error *err)
{
    OT_AUTO(ot_free_ptr) description *d = NULL;
    ot_rc rc = read_description(store, digest, &d, err);
    if (rc != OT_OK) {
        return prefix_digest(err, rc, digest);
    }
    ot_table t;
    ot_table_init(&t);
    rc = load(store, d, &t, err);
    if (rc != OT_OK) {
        ot_table_done(&t);
        return prefix_digest(err, rc, digest);
    }
    ot_table_done(t_out);
    *t_out = t;
    return OT_OK;
}

ot_rc ot_dataset_materialise(ot_store *store, const ot_digest *digest, const char *dir,
                             ot_split which, double fraction, int64_t *rows_out, ot_error *err)
{
    OT_AUTO(ot_table_done) ot_table all = {0};
    OT_AUTO(ot_table_done) ot_table part = {0};
    OT_TRY(ot_dataset_load(store, digest, &all, err));
    const ot_table *t = &all;
    if (which != OT_SPLIT_ALL) {
        OT_TRY(ot_table_split(&all, which, fraction, &part, err));
        t = &part;
    }
    OT_TRY(ot_table_write_dir(t, ot_store_disk(store), dir, err));
    if (rows_out != NULL) {
        *rows_out = t->rows;
    }
    return OT_OK;
}

/* --- recording */

typedef struct record {
    ot_store *store;
    const description *d;
    ot_dataset_row row;
    const char *source;
} record;

static ot_rc record_txn(ot_txn *txn, void *arg, ot_error *err)
{
    record *r = arg;
    ot_digest blobs[OT_TABLE_COLUMNS_MAX];
    for (size_t i = 0; i < r->d->n_columns; i++) {
        blobs[i] = r->d->columns[i].sha256;
        if (!ot_blob_exists(r->store, &blobs[i])) {
            return ot_fail(err, OT_ABORTED, "column '%s' was collected meanwhile; put it again",
                           r->d->columns[i].name);
        }
    }
    if (!ot_blob_exists(r->store, &r->row.digest)) {
        return ot_fail(err, OT_ABORTED, "it was collected meanwhile; put it again");
    }
    return ot_dataset_row_add(txn, &r->row, r->source, blobs, r->d->n_columns, err);
}

ot_rc ot_dataset_record(ot_store *store, const char *name, const ot_digest *digest,
                        const char *source_json, ot_error *err)
{
    if (name != NULL && name[0] != 0 && !ot_name_ok(name)) {
        return ot_fail(err, OT_INVALID,
                       "dataset '%.80s': 1 to 64 characters of A-Z a-z 0-9 . _ - are accepted",
                       name);
    }
    OT_AUTO(ot_free_ptr) description *d = NULL;
    ot_rc rc = read_description(store, digest, &d, err);
    if (rc != OT_OK) {
        return prefix_digest(err, rc, digest);
    }
    record r = {.store = store,
                .d = d,
                .source = source_json,
                .row = {.digest = *digest, .rows = d->rows, .created_us = ot_clock_wall_us()}};
    snprintf(r.row.name, sizeof r.row.name, "%s", name == NULL ? "" : name);
    for (size_t i = 0; i < d->n_columns; i++) {
        uint64_t size = 0;
        OT_TRY(ot_blob_size(store, &d->columns[i].sha256, &size, err));
        r.row.size_bytes += size;
    }
    rc = ot_store_write(store, record_txn, &r, err);
    return rc == OT_OK ? OT_OK : prefix_digest(err, rc, digest);
}

ot_rc ot_dataset_import(ot_store *store, const char *name, const char *path, const char *label,
                        ot_digest *digest_out, int64_t *rows_out, ot_error *err)
{
    OT_AUTO(ot_table_done) ot_table t = {0};
    OT_TRY(ot_table_read(ot_store_disk(store), path, label, &t, err));
    ot_digest d;
    OT_TRY(ot_dataset_put(store, &t, &d, err));
    OT_AUTO(ot_str_done) ot_str source = OT_STR_INIT;
    ot_str_adds(&source, "{\"path\": \"");
    ot_str_add_json(&source, path, strlen(path));
    ot_str_adds(&source, "\"}");
    if (source.failed) {
        return ot_fail(err, OT_EXHAUSTED, "dataset: no memory");
    }
    OT_TRY(ot_dataset_record(store, name, &d, source.data, err));
    *digest_out = d;
    if (rows_out != NULL) {
        *rows_out = t.rows;
    }
    return OT_OK;
}
