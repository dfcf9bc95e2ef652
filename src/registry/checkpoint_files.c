/* The two files of a checkpoint, as a program that is not ours wrote them. */
#include "registry/checkpoint.h"

#include "base/mem.h"
#include "model/manifest.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ot_rc load(const char *json, size_t n, json_t **out, ot_error *err)
{
    json_error_t je;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(root)) {
        json_decref(root);
        return ot_fail(err, OT_INVALID, "line %d: %s; a JSON object is expected", je.line,
                       root == NULL ? je.text : "not an object");
    }
    *out = root;
    return OT_OK;
}

static ot_rc parse_file(const json_t *f, ot_checkpoint_file *out, ot_error *err)
{
    const char *path = json_string_value(json_object_get(f, "path"));
    const char *hex = json_string_value(json_object_get(f, "sha256"));
    const json_t *size = json_object_get(f, "size");
    if (path == NULL || !ot_path_is_clean(path) || strlen(path) >= sizeof out->path) {
        return ot_fail(
            err, OT_INVALID,
            "files: '%.80s' is not a relative path of at most %zu bytes without . and ..",
            path != NULL ? path : "", sizeof out->path - 1);
    }
    if (hex == NULL || !ot_digest_parse(hex, &out->sha256) || json_integer_value(size) < 0 ||
        !json_is_integer(size)) {
        return ot_fail(err, OT_INVALID, "files: '%.80s' lacks its size or its SHA-256", path);
    }
    snprintf(out->path, sizeof out->path, "%s", path);
    out->size = (uint64_t)json_integer_value(size);
    return OT_OK;
}

static int by_path(const void *a, const void *b)
{
    const ot_checkpoint_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

static ot_rc parse_files(const json_t *list, ot_checkpoint_manifest *m, ot_error *err)
{
    size_t n = json_array_size(list);
    if (n == 0 || n > OT_MANIFEST_FILES_MAX) {
        return ot_fail(err, OT_INVALID, "files: %zu of them; 1 to %d are accepted", n,
                       OT_MANIFEST_FILES_MAX);
    }
    m->files = ot_calloc(n, sizeof *m->files);
    if (m->files == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %zu files", n);
    }
    for (; m->n_files < n; m->n_files++) {
        OT_TRY(parse_file(json_array_get(list, m->n_files), &m->files[m->n_files], err));
    }
    qsort(m->files, n, sizeof *m->files, by_path);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(m->files[i - 1].path, m->files[i].path) == 0) {
            return ot_fail(err, OT_INVALID, "files: '%.80s' is there twice", m->files[i].path);
        }
    }
    return OT_OK;
}

ot_rc ot_checkpoint_manifest_parse(const char *json, size_t n, ot_checkpoint_manifest *out,
                                   ot_error *err)
{
    json_t *root = NULL;
    ot_checkpoint_manifest m = {0};
    OT_TRY(load(json, n, &root, err));
    const char *schema = json_string_value(json_object_get(root, "schema"));
    ot_rc rc =
        schema != NULL && strcmp(schema, OT_CHECKPOINT_SCHEMA) == 0
            ? parse_files(json_object_get(root, "files"), &m, err)
            : ot_fail(err, OT_INVALID, "schema '%.40s': this program knows " OT_CHECKPOINT_SCHEMA,
                      schema != NULL ? schema : "");
    m.single = json_is_true(json_object_get(root, "single"));
    json_decref(root);
    if (rc != OT_OK) {
        ot_free(m.files);
        return rc;
    }
    *out = m;
    return OT_OK;
}

static ot_rc parse_metrics(const json_t *metrics, char **out, ot_error *err)
{
    char *text = json_is_object(metrics)
                     ? json_dumps(metrics, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15))
                     : strdup("{}");
    if (text != NULL && strlen(text) > OT_CHECKPOINT_METRICS_MAX) {
        size_t n = strlen(text);
        free(text);
        return ot_fail(err, OT_EXHAUSTED, "metrics: %zu bytes; the limit is %u", n,
                       OT_CHECKPOINT_METRICS_MAX);
    }
    *out = text != NULL ? ot_strdup(text) : NULL;
    free(text);
    return *out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for its metrics");
}

ot_rc ot_checkpoint_saved_parse(const char *json, size_t n, ot_checkpoint_saved *out, ot_error *err)
{
    json_t *root = NULL;
    OT_TRY(load(json, n, &root, err));
    const json_t *step = json_object_get(root, "step");
    ot_checkpoint_saved s = {.step = json_integer_value(step),
                             .made_us = json_integer_value(json_object_get(root, "made_us")),
                             .run = json_integer_value(json_object_get(root, "run"))};
    ot_rc rc = OT_OK;
    if (!json_is_integer(step) || s.step < 0 || s.step > OT_CHECKPOINT_STEP_MAX || s.made_us < 0 ||
        s.run < 0) {
        rc = ot_fail(err, OT_INVALID, "step %" PRId64 " of run %" PRId64 " is none", s.step, s.run);
    } else {
        rc = parse_metrics(json_object_get(root, "metrics"), &s.metrics, err);
    }
    json_decref(root);
    if (rc == OT_OK) {
        *out = s;
    }
    return rc;
}
