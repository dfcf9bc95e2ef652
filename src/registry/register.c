/* Registration: a bundle's files into the content store, then its version and event together. */
#include "registry/registry.h"

#include "base/clock.h"
#include "base/str.h"
#include "model/bundle.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define DATA_MAX 64

typedef struct lineage {
    bool has_parent;
    ot_digest parent;
    int64_t began_from; /* the version whose weights it began with, where it was made; 0: scratch */
    size_t n_data;
    struct {
        char name[OT_ROW_NAME];
        ot_digest digest;
    } data[DATA_MAX];
} lineage;

typedef struct work {
    ot_store *store;
    const ot_register *r;
    const ot_bundle *b;
    ot_bundle_file_row *files; /* with manifest.json */
    size_t n_files;
    lineage from;
    char *metrics; /* compact JSON; "{}" when there are none */
    ot_registered out;
} work;

static ot_rc parse_data(json_t *data, lineage *l, ot_error *err)
{
    const char *name;
    json_t *v;
    json_object_foreach(data, name, v)
    {
        const char *hex = json_string_value(v);
        if (l->n_data == DATA_MAX) {
            return ot_fail(err, OT_EXHAUSTED, "data: more than %d datasets", DATA_MAX);
        }
        if (!ot_name_ok(name) || hex == NULL || !ot_digest_parse(hex, &l->data[l->n_data].digest)) {
            return ot_fail(err, OT_INVALID, "data.%.64s: the SHA-256 of a dataset is expected",
                           name);
        }
        snprintf(l->data[l->n_data++].name, OT_ROW_NAME, "%s", name);
    }
    return OT_OK;
}

static ot_rc parse_lineage(const ot_str *text, lineage *l, ot_error *err)
{
    json_error_t je;
    json_t *root = json_loadb(text->data, text->len, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(root)) {
        json_decref(root);
        return ot_fail(err, OT_INVALID, "a JSON object is expected");
    }
    json_t *parent = json_object_get(root, "parent"), *data = json_object_get(root, "data");
    ot_rc rc = OT_OK;
    if (parent != NULL && !json_is_null(parent)) {
        l->has_parent =
            json_is_string(parent) && ot_digest_parse(json_string_value(parent), &l->parent);
        if (!l->has_parent) {
            rc = ot_fail(err, OT_INVALID, "parent: the SHA-256 of a bundle or null is expected");
        }
    }
    const json_t *began = json_object_get(json_object_get(root, "began_from"), "version");
    l->began_from = json_integer_value(began);
    if (rc == OT_OK && data != NULL) {
        rc = json_is_object(data) ? parse_data(data, l, err)
                                  : ot_fail(err, OT_INVALID, "data: an object is expected");
    }
    json_decref(root);
    return rc;
}

static ot_rc read_lineage(ot_disk *disk, const ot_bundle *b, lineage *l, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_rc rc = ot_bundle_read_part(disk, b, OT_BUNDLE_LINEAGE, &text, err);
    if (rc == OT_NOT_FOUND) {
        return OT_OK;
    }
    OT_TRY(rc);
    rc = parse_lineage(&text, l, err);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "%s", OT_BUNDLE_LINEAGE);
}

static ot_rc compact_metrics(const char *metrics, char **out, ot_error *err)
{
    const char *text = metrics == NULL ? "{}" : metrics;
    if (strlen(text) > OT_REGISTRY_METRICS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "metrics: %zu bytes; the limit is %u", strlen(text),
                       OT_REGISTRY_METRICS_MAX);
    }
    json_error_t je;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(root)) {
        json_decref(root);
        return ot_fail(err, OT_INVALID, "metrics: line %d: %s; a JSON object is expected", je.line,
                       root == NULL ? je.text : "not an object");
    }
    char *dumped = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    *out = dumped == NULL ? NULL : ot_strdup(dumped);
    free(dumped);
    json_decref(root);
    return *out == NULL ? ot_fail(err, OT_EXHAUSTED, "metrics: no memory") : OT_OK;
}

static ot_rc put_file(work *w, const char *rel, const ot_digest *want, ot_error *err)
{
    char path[OT_PATH_MAX];
    ot_bundle_file_row *f = &w->files[w->n_files];
    OT_TRY(ot_path_join(path, w->b->dir, rel, err));
    OT_TRY(ot_blob_put_file(w->store, ot_store_disk(w->store), path, OT_BUNDLE_BYTES_MAX, &f->blob,
                            &f->size, err));
    if (!ot_digest_equal(&f->blob, want)) {
        return ot_fail(err, OT_DATA_LOSS, "'%s' changed while it was registered", rel);
    }
    f->path = rel;
    w->n_files++;
    return OT_OK;
}

static ot_rc put_files(work *w, ot_error *err)
{
    const ot_manifest *m = &w->b->manifest;
    w->files = ot_calloc(m->n_files + 1, sizeof *w->files);
    if (w->files == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory");
    }
    for (size_t i = 0; i < m->n_files; i++) {
        OT_TRY(put_file(w, m->files[i].path, &m->files[i].sha256, err));
    }
    return put_file(w, OT_MANIFEST_FILE, &w->b->digest, err);
}

static void use_existing(work *w, const ot_version_row *v)
{
    w->out = (ot_registered){
        .version = v->version, .bundle = v->bundle, .event_seq = v->event_seq, .existed = true};
}

static ot_rc find_bundle(void *arg, const ot_version_row *v, ot_error *err)
{
    work *w = arg;
    (void)err;
    if (!w->out.existed && strcmp(v->model, w->r->model) == 0) {
        use_existing(w, v);
    }
    return OT_OK;
}

/* A run that was registered before its process died is asked for again; so is what was expected. */
static ot_rc find_existing(ot_txn *txn, work *w, bool *found_out, ot_error *err)
{
    ot_version_row v;
    *found_out = false;
    if (w->r->expect != NULL) {
        w->out = (ot_registered){0};
        OT_TRY(ot_version_each_of_bundle(txn, &w->b->digest, find_bundle, w, err));
        *found_out = w->out.existed;
        return OT_OK;
    }
    if (w->r->run == 0) {
        return OT_OK;
    }
    ot_rc rc = ot_version_of_run(txn, w->r->model, w->r->run, &v, err);
    if (rc == OT_NOT_FOUND) {
        return OT_OK;
    }
    OT_TRY(rc);
    if (!ot_digest_equal(&v.bundle, &w->b->digest)) {
        return ot_fail(err, OT_EXISTS,
                       "run %" PRId64 " registered another bundle before, as version %" PRId64,
                       w->r->run, v.version);
    }
    use_existing(w, &v);
    *found_out = true;
    return OT_OK;
}

static ot_rc add_rows(ot_txn *txn, work *w, int64_t *model_out, ot_error *err)
{
    int64_t now = ot_clock_wall_us(), model = 0;
    OT_TRY(ot_model_ensure(txn, w->r->model, w->r->app, now, &model, err));
    OT_TRY(ot_bundle_row_add(txn, &w->b->digest, w->b->manifest.format, w->files, w->n_files, now,
                             err));
    ot_version_new v = {.model_id = model,
                        .bundle = w->b->digest,
                        .run = w->r->run,
                        .app = w->r->app,
                        .parent = w->from.has_parent ? &w->from.parent : NULL,
                        .metrics = w->metrics,
                        .now_us = now};
    OT_TRY(ot_version_add(txn, &v, &w->out.version, err));
    for (size_t i = 0; i < w->from.n_data; i++) {
        OT_TRY(ot_version_data_add(txn, model, w->out.version, w->from.data[i].name,
                                   &w->from.data[i].digest, err));
    }
    *model_out = model;
    return OT_OK;
}

static void write_payload(const work *w, ot_str *out)
{
    char hex[OT_DIGEST_HEX];
    ot_str_addf(out, "{\"text\": \"v%" PRId64 " ", w->out.version);
    const char *came = w->r->came != NULL ? w->r->came : "registered";
    ot_str_add_json(out, came, strlen(came));
    if (w->r->run != 0) {
        ot_str_addf(out, " from run %" PRId64, w->r->run);
    }
    bool began = w->r->came == NULL && w->from.began_from > 0; /* elsewhere, numbers are others */
    if (began) {
        ot_str_addf(out, ", which began from v%" PRId64, w->from.began_from);
    }
    ot_str_addf(
        out, "\", \"bundle\": \"%s\", \"format\": \"%s\", \"files\": %zu, \"bytes\": %" PRIu64,
        ot_digest_hex(&w->b->digest, hex), w->b->manifest.format, w->n_files, w->b->size_bytes);
    if (w->r->run != 0) {
        ot_str_addf(out, ", \"run\": %" PRId64, w->r->run);
    }
    if (w->r->app != NULL) {
        ot_str_addf(out, ", \"app\": \"%s\"", w->r->app); /* a clean name */
    }
    if (w->from.has_parent) {
        ot_str_addf(out, ", \"parent\": \"%s\"", ot_digest_hex(&w->from.parent, hex));
    }
    if (began) {
        ot_str_addf(out, ", \"began_from\": %" PRId64, w->from.began_from);
    }
    if (w->r->origin != NULL) {
        ot_str_addf(out, ", \"origin\": %s", w->r->origin);
    }
    ot_str_adds(out, ", \"data\": {");
    for (size_t i = 0; i < w->from.n_data; i++) {
        ot_str_addf(out, "%s\"%s\": \"%s\"", i == 0 ? "" : ", ", w->from.data[i].name,
                    ot_digest_hex(&w->from.data[i].digest, hex));
    }
    ot_str_addf(out, "}, \"reported\": %s, \"because\": [", w->metrics);
    for (size_t i = 0; i < w->r->n_because; i++) {
        ot_str_addf(out, "%s%" PRIu64, i == 0 ? "" : ", ", w->r->because[i]);
    }
    ot_str_adds(out, "]}");
}

static ot_rc leave_registered(ot_txn *txn, work *w, int64_t model, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str payload = OT_STR_INIT;
    write_payload(w, &payload);
    if (payload.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the event");
    }
    char object[OT_OBJECT_TEXT];
    ot_event_in e = {.actor = w->r->actor == NULL ? "overtake" : w->r->actor,
                     .role = w->r->role,
                     .scope = w->r->scope,
                     .type = "version.registered",
                     .object = ot_registry_object(object, w->r->model, w->out.version),
                     .payload = payload.data};
    OT_TRY(ot_event_append(txn, &e, &w->out.event_seq, err));
    return ot_version_set_event(txn, model, w->out.version, w->out.event_seq, err);
}

static ot_rc register_txn(ot_txn *txn, void *arg, ot_error *err)
{
    work *w = arg;
    bool found;
    OT_TRY(find_existing(txn, w, &found, err));
    if (found) {
        return OT_OK;
    }
    for (size_t i = 0; i < w->n_files; i++) {
        if (!ot_blob_exists(w->store, &w->files[i].blob)) {
            return ot_fail(err, OT_ABORTED, "'%s' was collected meanwhile; try again",
                           w->files[i].path);
        }
    }
    w->out = (ot_registered){.bundle = w->b->digest};
    int64_t model = 0;
    OT_TRY(add_rows(txn, w, &model, err));
    return leave_registered(txn, w, model, err);
}

static ot_rc check_request(const ot_register *r, ot_error *err)
{
    if (!ot_name_ok(r->model) || (r->app != NULL && !ot_name_ok(r->app))) {
        return ot_fail(err, OT_INVALID,
                       "model '%.80s' of app '%.80s': names are 1 to 64 characters of A-Z a-z 0-9 "
                       ". _ -, not starting with '.' or '-'",
                       r->model, r->app == NULL ? "" : r->app);
    }
    if (r->run < 0 || r->n_because > OT_REGISTRY_BECAUSE_MAX) {
        return ot_fail(err, OT_INVALID,
                       "run %" PRId64 ", %zu causes; a run of 0 or more and at most %d causes are "
                       "accepted",
                       r->run, r->n_because, OT_REGISTRY_BECAUSE_MAX);
    }
    return OT_OK;
}

ot_rc ot_registry_register(ot_store *store, const char *dir, const ot_register *r,
                           ot_registered *out, ot_error *err)
{
    OT_TRY(check_request(r, err));
    OT_AUTO(ot_bundle_done) ot_bundle b = {0};
    OT_TRY(ot_bundle_open(ot_store_disk(store), dir, 0, r->expect, &b, err));
    work w = {.store = store, .r = r, .b = &b};
    ot_rc rc = read_lineage(ot_store_disk(store), &b, &w.from, err);
    if (rc == OT_OK) {
        rc = compact_metrics(r->metrics, &w.metrics, err);
    }
    if (rc == OT_OK) {
        rc = put_files(&w, err);
    }
    if (rc == OT_OK) {
        rc = ot_store_write(store, register_txn, &w, err);
    }
    ot_free(w.files);
    ot_free(w.metrics);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "model '%s'", r->model);
    }
    *out = w.out;
    return OT_OK;
}
