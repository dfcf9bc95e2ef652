/* What JSON lists: an index of files (docs/data.md), or a dataset of the store
 * (docs/architecture.md). */
#include "base/hash.h"
#include "base/mem.h"
#include "input/source_internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define INDEX_SCHEMA "overtake.input/1"
#define DATASET_SCHEMA "overtake.dataset/1"
#define DATASET_MAX (1u << 20)

typedef struct listing {
    ot_source *s;
    const ot_source_options *o;
    char dir[OT_PATH_MAX]; /* what paths start from; "": the working directory */
} listing;

static const struct {
    const char *datatype, *descr;
    size_t bytes;
    ot_input_feature feature;
} types[] = {
    {"BOOL", "|b1", 1, OT_FEATURE_NONE},      {"UINT8", "|u1", 1, OT_FEATURE_BYTES},
    {"UINT16", "<u2", 2, OT_FEATURE_NONE},    {"UINT32", "<u4", 4, OT_FEATURE_NONE},
    {"UINT64", "<u8", 8, OT_FEATURE_NONE},    {"INT8", "|i1", 1, OT_FEATURE_NONE},
    {"INT16", "<i2", 2, OT_FEATURE_NONE},     {"INT32", "<i4", 4, OT_FEATURE_NONE},
    {"INT64", "<i8", 8, OT_FEATURE_INT64},    {"FP16", "<f2", 2, OT_FEATURE_NONE},
    {"FP32", "<f4", 4, OT_FEATURE_FLOAT},     {"FP64", "<f8", 8, OT_FEATURE_NONE},
    {"BF16", "bfloat16", 2, OT_FEATURE_NONE}, {"BYTES", "|u1", 1, OT_FEATURE_BYTES},
};

static const char *text_of(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* The whole number under a key that may be missing; false for anything else. */
static bool number_of(json_t *object, const char *key, uint64_t missing, uint64_t *out)
{
    json_t *v = json_object_get(object, key);
    if (v == NULL) {
        *out = missing;
        return true;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0) {
        return false;
    }
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* Type and shape of a column; `like->descr` stays empty where the files say it themselves. */
static ot_rc read_type(json_t *v, ot_input_column *like, ot_error *err)
{
    const char *datatype = text_of(v, "datatype");
    json_t *shape = json_object_get(v, "shape");
    if (datatype == NULL && shape == NULL) {
        return OT_OK;
    }
    size_t t = 0, rank = json_array_size(shape);
    while (t < OT_COUNT(types) && (datatype == NULL || strcmp(types[t].datatype, datatype) != 0)) {
        t++;
    }
    if (t == OT_COUNT(types)) {
        return ot_fail(
            err, OT_INVALID,
            "column '%s': datatype '%.32s'; BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, "
            "FP32, FP64 and BYTES are taken",
            like->name, datatype == NULL ? "" : datatype);
    }
    if (rank < 1 || rank > OT_RANK_MAX || json_integer_value(json_array_get(shape, 0)) != -1) {
        return ot_fail(
            err, OT_INVALID,
            "column '%s': a shape of 1 to %d numbers is expected, of which the first is -1",
            like->name, OT_RANK_MAX);
    }
    snprintf(like->descr, sizeof like->descr, "%s", types[t].descr);
    like->element_bytes = types[t].bytes;
    like->feature = types[t].feature;
    like->rank = (int)rank - 1;
    for (size_t i = 1; i < rank; i++) {
        like->dims[i - 1] = (int64_t)json_integer_value(json_array_get(shape, i));
    }
    bool string = strcmp(types[t].datatype, "BYTES") == 0;
    like->ragged = string ? rank == 1 : rank == 2 && like->dims[0] == -1;
    if (string && !like->ragged) {
        return ot_fail(err, OT_INVALID,
                       "column '%s': BYTES are one string a row: the shape is [-1]", like->name);
    }
    return like->ragged ? OT_OK : ot_source_row_bytes(like, err);
}

static ot_rc path_in(const listing *x, const char *path, char out[OT_PATH_MAX], ot_error *err)
{
    if (path[0] != '/' && x->dir[0] != '\0') {
        return ot_path_join(out, x->dir, path, err);
    }
    if (strlen(path) >= OT_PATH_MAX) {
        return ot_fail(err, OT_RANGE, "%.80s...: a path of %d bytes or more", path, OT_PATH_MAX);
    }
    memcpy(out, path, strlen(path) + 1);
    return OT_OK;
}

static bool is_numpy(const char *path)
{
    return ot_has_suffix(path, ".npy");
}

/* Raw bytes: `rows` of them from byte `at` on, or as many as there are. */
static ot_rc add_raw(listing *x, const ot_input_column *like, json_t *v, const char *path,
                     ot_error *err)
{
    size_t file;
    uint64_t at, rows;
    if (like->descr[0] == '\0') {
        return ot_fail(err, OT_INVALID, "%s: column '%s' needs a datatype and a shape", path,
                       like->name);
    }
    OT_TRY(ot_source_add_file(x->s, path, &file, err));
    uint64_t size = x->s->files[file].size;
    if (!number_of(v, "at", 0, &at) || !number_of(v, "rows", UINT64_MAX, &rows)) {
        return ot_fail(err, OT_INVALID, "%s: 'at' and 'rows' are whole numbers", path);
    }
    if (rows == UINT64_MAX) {
        if (at > size || (size - at) % like->row_bytes != 0) {
            return ot_fail(err, OT_INVALID,
                           "%s: the %" PRIu64 " bytes from byte %" PRIu64
                           " on are no whole rows of %zu bytes (column '%s')",
                           path, at > size ? 0 : size - at, at, like->row_bytes, like->name);
        }
        rows = (size - at) / like->row_bytes;
    }
    return ot_source_add_raw(x->s, like, file, at, rows, err);
}

/* `like`: the column that the file is of; NULL: it has columns of its own. */
static ot_rc add_file(listing *x, const ot_input_column *like, json_t *v, bool records,
                      ot_error *err)
{
    const char *path = json_is_string(v) ? json_string_value(v) : text_of(v, "path");
    const char *hex = text_of(v, "sha256");
    char full[OT_PATH_MAX];
    if (path == NULL || path[0] == '\0') {
        return ot_fail(err, OT_INVALID, "a file without a path");
    }
    OT_TRY(path_in(x, path, full, err));
    size_t file = x->s->n_files;
    hex = x->o->verify ? hex : NULL;
    if (records) {
        return ot_source_add_records(x->s, full, hex, err);
    }
    if (like != NULL && !is_numpy(path)) {
        OT_TRY(add_raw(x, like, v, full, err));
    } else {
        if (ot_has_suffix(path, ".json") || ot_has_prefix(path, "sha256:")) {
            return ot_fail(err, OT_INVALID, "%s: an index within an index", full);
        }
        OT_TRY(ot_source_add_path(x->s, x->o, full, like == NULL ? NULL : like->name, err));
    }
    return hex != NULL ? ot_source_check_digest(x->s, file, hex, err) : OT_OK;
}

static ot_rc add_files(listing *x, const ot_input_column *like, json_t *list, bool records,
                       ot_error *err)
{
    if (list != NULL && !json_is_array(list)) {
        return ot_fail(err, OT_INVALID, "files are a list");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        OT_TRY(add_file(x, like, json_array_get(list, i), records, err));
    }
    return OT_OK;
}

/* A column without files is a feature of the records. */
static ot_rc add_feature(listing *x, const ot_input_column *like, ot_error *err)
{
    size_t at, before = x->s->n_columns;
    if (like->feature == OT_FEATURE_NONE) {
        return ot_fail(
            err, OT_INVALID,
            "feature '%s': FP32 (a float list), INT64 (an int64 list), UINT8 (the bytes of a "
            "bytes list) or BYTES (one string) is expected",
            like->name);
    }
    OT_TRY(ot_source_column(x->s, like->name, &at, err));
    if (at < before) {
        return ot_fail(err, OT_INVALID, "column '%s' is there twice", like->name);
    }
    x->s->columns[at] = *like;
    return OT_OK;
}

static ot_rc add_column(listing *x, json_t *v, bool records, ot_error *err)
{
    const char *name = text_of(v, "name");
    json_t *files = json_object_get(v, "files");
    ot_input_column like = {0};
    if (name == NULL || name[0] == '\0' || strlen(name) > OT_INPUT_NAME_MAX) {
        return ot_fail(err, OT_INVALID, "a column without a name of 1 to %d bytes",
                       OT_INPUT_NAME_MAX);
    }
    memcpy(like.name, name, strlen(name) + 1);
    OT_TRY(read_type(v, &like, err));
    if (files == NULL && records) {
        return add_feature(x, &like, err);
    }
    if (json_array_size(files) == 0) {
        return ot_fail(err, OT_INVALID, "column '%s' has no files", name);
    }
    if (like.ragged) {
        return ot_fail(err, OT_INVALID,
                       "column '%s': only features of records have rows of any length; in files "
                       "they have one",
                       name);
    }
    like.feature = OT_FEATURE_NONE;
    return add_files(x, &like, files, false, err);
}

static ot_rc add_listed(listing *x, json_t *root, ot_error *err)
{
    json_t *columns = json_object_get(root, "columns"), *records = json_object_get(root, "records");
    for (size_t i = 0; i < json_array_size(columns); i++) {
        OT_TRY(add_column(x, json_array_get(columns, i), records != NULL, err));
    }
    OT_TRY(add_files(x, NULL, records, true, err));
    return add_files(x, NULL, json_object_get(root, "shards"), false, err);
}

/* --- datasets: columns are blobs, two directories up and down by their digest */

static ot_rc blob_path(const listing *x, const char *hex, char out[OT_PATH_MAX], ot_error *err)
{
    int n = snprintf(out, OT_PATH_MAX, "%s/%.2s/%s", x->dir, hex, hex);
    return n < OT_PATH_MAX ? OT_OK : ot_fail(err, OT_RANGE, "%s: its path is too long", x->dir);
}

static ot_rc add_blob(listing *x, json_t *v, ot_error *err)
{
    const char *name = text_of(v, "name"), *hex = text_of(v, "sha256");
    char path[OT_PATH_MAX];
    ot_digest d;
    if (name == NULL || hex == NULL || !ot_digest_parse(hex, &d)) {
        return ot_fail(err, OT_DATA_LOSS, "a column needs a name and a sha256");
    }
    OT_TRY(blob_path(x, hex, path, err));
    size_t file;
    OT_TRY(ot_source_add_file(x->s, path, &file, err));
    if (x->o->verify) {
        OT_TRY(ot_source_check_digest(x->s, file, hex, err));
    }
    return ot_source_add_npy(x->s, name, file, 0, x->s->files[file].size, err);
}

static ot_rc add_dataset(listing *x, json_t *root, ot_error *err)
{
    json_t *columns = json_object_get(root, "columns"), *rows = json_object_get(root, "rows");
    for (size_t i = 0; i < json_array_size(columns); i++) {
        OT_TRY(add_blob(x, json_array_get(columns, i), err));
    }
    for (size_t i = 0; i < x->s->n_columns; i++) {
        const ot_input_column *c = &x->s->columns[i];
        if (!json_is_integer(rows) || (uint64_t)json_integer_value(rows) != c->rows) {
            return ot_fail(err, OT_DATA_LOSS, "column '%s' has %" PRIu64 " rows, not what it says",
                           c->name, c->rows);
        }
    }
    return OT_OK;
}

/* --- both */

/* The folder of `path`, `up` levels above it. */
static ot_rc folder_of(listing *x, const char *path, int up, ot_error *err)
{
    if (strlen(path) + 4 >= sizeof x->dir) {
        return ot_fail(err, OT_RANGE, "%.80s...: a path of %d bytes or more", path, OT_PATH_MAX);
    }
    memcpy(x->dir, path, strlen(path) + 1);
    for (int i = 0; i <= up; i++) {
        char *slash = strrchr(x->dir, '/');
        if (slash == NULL) {
            memcpy(x->dir, i == 0 ? "." : "..", i == 0 ? 2 : 3);
            break;
        }
        *slash = '\0';
    }
    return OT_OK;
}

ot_rc ot_source_add_index(ot_source *s, const ot_source_options *o, const char *json, size_t n,
                          const char *path, ot_error *err)
{
    listing x = {.s = s, .o = o};
    json_error_t je;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &je);
    const char *schema = text_of(root, "schema"), *what = path == NULL ? "index" : path;
    ot_rc rc = OT_OK;
    bool dataset = schema != NULL && strcmp(schema, DATASET_SCHEMA) == 0;
    if (root == NULL) {
        rc = ot_fail(err, OT_INVALID, "not JSON: line %d: %s", je.line, je.text);
    } else if (!dataset && (schema == NULL || strcmp(schema, INDEX_SCHEMA) != 0)) {
        rc = ot_fail(err, OT_INVALID, "its schema is '%.64s'; '%s' and '%s' are read",
                     schema == NULL ? "" : schema, INDEX_SCHEMA, DATASET_SCHEMA);
    } else if (path != NULL) {
        rc = folder_of(&x, path, dataset, err);
    } else if (o->directory != NULL) {
        rc = path_in(&x, o->directory, x.dir, err);
    }
    if (rc == OT_OK) {
        rc = dataset ? add_dataset(&x, root, err) : add_listed(&x, root, err);
    }
    json_decref(root);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "%s", what);
}

ot_rc ot_source_add_digest(ot_source *s, const ot_source_options *o, const char *hex, ot_error *err)
{
    ot_digest d;
    listing x = {.s = s, .o = o};
    char path[OT_PATH_MAX], got[OT_DIGEST_HEX];
    if (!ot_digest_parse(hex, &d)) {
        return ot_fail(err, OT_INVALID, "'sha256:%.70s': 64 lower-case digits are expected", hex);
    }
    if (o->store == NULL) {
        return ot_fail(
            err, OT_INVALID,
            "dataset %.12s: by digest it is found in a data directory: say which (store)", hex);
    }
    OT_TRY(ot_path_join(x.dir, o->store, "blobs", err));
    OT_TRY(blob_path(&x, hex, path, err));
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_rc rc = ot_disk_read_all(s->disk, path, DATASET_MAX, &text, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "dataset %.12s", hex);
    }
    ot_digest is = ot_sha256_of(text.data, text.len);
    if (!ot_digest_equal(&is, &d)) {
        return ot_fail(err, OT_DATA_LOSS, "%s: its SHA-256 is %s: it was changed or damaged", path,
                       ot_digest_hex(&is, got));
    }
    return ot_source_add_index(s, o, text.data, text.len, path, err);
}
