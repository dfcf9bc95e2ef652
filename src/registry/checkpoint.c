#include "registry/checkpoint.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/bundle.h"
#include "registry/registry.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANIFEST OT_MANIFEST_FILE
#define SAVED "saved.json"
#define FILES "files"
#define FOUND_MAX 4096 /* entries of the folder that are looked at */

char *ot_checkpoint_name(char out[OT_CHECKPOINT_NAME], int64_t step, const ot_digest *bundle)
{
    char hex[OT_DIGEST_HEX];
    ot_digest_hex(bundle, hex);
    snprintf(out, OT_CHECKPOINT_NAME, "%015" PRId64 "-%.16s", step % (OT_CHECKPOINT_STEP_MAX + 1),
             hex);
    return out;
}

static bool is_name(const char *s)
{
    return strlen(s) == OT_CHECKPOINT_NAME - 1 && strspn(s, "0123456789") == 15 && s[15] == '-' &&
           strspn(s + 16, "0123456789abcdef") == 16;
}

/* --- what is there --------------------------------------------------------------------------- */

typedef struct found {
    char (*names)[OT_CHECKPOINT_NAME];
    size_t n, cap;
} found;

static ot_rc note(void *arg, const char *name, ot_error *err)
{
    found *f = arg;
    if (!is_name(name)) {
        return OT_OK;
    }
    if (!ot_grow(&f->names, &f->cap, f->n, sizeof *f->names, FOUND_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "more than %d checkpoints in one folder", FOUND_MAX);
    }
    memcpy(f->names[f->n++], name, OT_CHECKPOINT_NAME);
    return OT_OK;
}

static int newest_first(const void *a, const void *b)
{
    return strcmp(b, a);
}

/* --- what is known --------------------------------------------------------------------------- */

typedef struct known {
    int64_t training;
    char names[OT_CHECKPOINT_KEEP_MAX][OT_CHECKPOINT_NAME];
    size_t n;
} known;

static ot_rc note_known(void *arg, const ot_checkpoint_row *row, ot_error *err)
{
    known *k = arg;
    (void)err;
    if (k->n < OT_CHECKPOINT_KEEP_MAX) {
        ot_checkpoint_name(k->names[k->n++], row->step, &row->bundle);
    }
    return OT_OK;
}

static ot_rc known_txn(ot_txn *txn, void *arg, ot_error *err)
{
    known *k = arg;
    return ot_checkpoint_each(txn, k->training, note_known, k, err);
}

static bool is_known(const known *k, const char *name)
{
    for (size_t i = 0; i < k->n; i++) {
        if (strcmp(k->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* --- taking one ------------------------------------------------------------------------------ */

typedef struct work {
    ot_store *store;
    const ot_checkpoint_training *t;
    char dir[OT_PATH_MAX]; /* of this one */
    ot_str text;           /* of its manifest */
    ot_checkpoint_manifest manifest;
    ot_checkpoint_saved saved;
    ot_digest digest;
    ot_bundle_file_row *files;
} work;

static void work_done(work *w)
{
    ot_str_done(&w->text);
    ot_free(w->manifest.files);
    ot_free(w->saved.metrics);
    ot_free(w->files);
}

static ot_rc read_files(work *w, const char *name, ot_error *err)
{
    char path[OT_PATH_MAX], should[OT_CHECKPOINT_NAME];
    OT_AUTO(ot_str_done) ot_str saved = OT_STR_INIT;
    OT_TRY(ot_path_join(path, w->dir, MANIFEST, err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, OT_MANIFEST_BYTES_MAX, &w->text, err));
    w->digest = ot_sha256_of(w->text.data, w->text.len);
    OT_TRY(ot_checkpoint_manifest_parse(w->text.data, w->text.len, &w->manifest, err));
    OT_TRY(ot_path_join(path, w->dir, SAVED, err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, 2 * OT_CHECKPOINT_METRICS_MAX, &saved, err));
    OT_TRY(ot_checkpoint_saved_parse(saved.data, saved.len, &w->saved, err));
    if (strcmp(ot_checkpoint_name(should, w->saved.step, &w->digest), name) != 0) {
        return ot_fail(err, OT_DATA_LOSS, "what its files say is %s", should);
    }
    return OT_OK;
}

/* Of the user's: anything may stand there, and a named pipe would be waited for. */
static ot_rc put_file(work *w, const ot_checkpoint_file *f, ot_error *err)
{
    char files[OT_PATH_MAX], path[OT_PATH_MAX];
    ot_stat st;
    ot_digest d;
    OT_TRY(ot_path_join(files, w->dir, FILES, err));
    OT_TRY(ot_path_join(path, files, f->path, err));
    OT_TRY(ot_disk_posix()->ops->stat(ot_disk_posix(), path, &st, err));
    if (!st.is_regular || st.size != f->size) {
        return ot_fail(err, OT_DATA_LOSS, "'%.200s' is not the file of %" PRIu64 " bytes", f->path,
                       f->size);
    }
    OT_TRY(ot_blob_put_file(w->store, ot_disk_posix(), path, OT_MAX(f->size, (uint64_t)1), &d, NULL,
                            err));
    return ot_digest_equal(&d, &f->sha256)
               ? OT_OK
               : ot_fail(err, OT_DATA_LOSS, "'%.200s' does not give its digest", f->path);
}

static ot_rc put_files(work *w, ot_error *err)
{
    size_t n = w->manifest.n_files;
    w->files = ot_calloc(n + 1, sizeof *w->files);
    if (w->files == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %zu files", n);
    }
    for (size_t i = 0; i < n; i++) {
        const ot_checkpoint_file *f = &w->manifest.files[i];
        OT_TRY(put_file(w, f, err));
        w->files[i] = (ot_bundle_file_row){.path = f->path, .size = f->size, .blob = f->sha256};
    }
    /* No file of a checkpoint is called so: they lie in a folder of their own. */
    w->files[n] =
        (ot_bundle_file_row){.path = "/" MANIFEST, .size = w->text.len, .blob = w->digest};
    return ot_blob_put(w->store, w->text.data, w->text.len, NULL, err);
}

static ot_rc take_txn(ot_txn *txn, void *arg, ot_error *err)
{
    work *w = arg;
    for (size_t i = 0; i <= w->manifest.n_files; i++) {
        if (!ot_blob_exists(w->store, &w->files[i].blob)) {
            return ot_fail(err, OT_ABORTED, "'%.200s' was collected meanwhile; it is tried again",
                           w->files[i].path);
        }
    }
    const ot_checkpoint_row row = {.training = w->t->training,
                                   .run = OT_MAX(w->saved.run, w->t->training),
                                   .step = w->saved.step,
                                   .bundle = w->digest,
                                   .made_us = w->saved.made_us,
                                   .app = w->t->app,
                                   .metrics = w->saved.metrics};
    OT_TRY(
        ot_checkpoint_add(txn, &row, w->files, w->manifest.n_files + 1, ot_clock_wall_us(), err));
    return ot_checkpoint_prune(txn, w->t->training, w->t->keep, err);
}

static ot_rc take(ot_store *store, const ot_checkpoint_training *t, const char *name, ot_error *err)
{
    work w = {.store = store, .t = t, .text = OT_STR_INIT};
    OT_TRY(ot_path_join(w.dir, t->dir, name, err));
    ot_rc rc = read_files(&w, name, err);
    if (rc == OT_OK) {
        rc = put_files(&w, err);
    }
    if (rc == OT_OK) {
        rc = ot_store_write(store, take_txn, &w, err);
    }
    work_done(&w);
    if (rc != OT_OK && !ot_disk_exists(ot_disk_posix(), w.dir)) {
        return OT_OK; /* the program has removed it */
    }
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "checkpoint %s", name);
}

ot_rc ot_checkpoint_take(ot_store *store, const ot_checkpoint_training *t, ot_error *err)
{
    found f = {0};
    known *k = NULL;
    if (!ot_disk_exists(ot_disk_posix(), t->dir)) {
        return OT_OK;
    }
    ot_rc rc = ot_disk_posix()->ops->list(ot_disk_posix(), t->dir, note, &f, err), last = OT_OK;
    if (rc == OT_OK && f.n > 0) {
        k = ot_calloc(1, sizeof *k);
        rc = k != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for checkpoints");
    }
    if (rc == OT_OK && f.n > 0) {
        qsort(f.names, f.n, sizeof *f.names, newest_first);
        k->training = t->training;
        rc = ot_store_read(store, known_txn, k, err);
    }
    for (size_t i = 0; rc == OT_OK && i < OT_MIN(f.n, t->keep); i++) {
        ot_rc one = is_known(k, f.names[i]) ? OT_OK : take(store, t, f.names[i], err);
        last = one != OT_OK ? one : last;
    }
    ot_free(f.names);
    ot_free(k);
    return rc != OT_OK ? rc : last;
}

/* --- giving it back -------------------------------------------------------------------------- */

typedef struct newest {
    int64_t training;
    bool there;
    ot_checkpoint_row row; /* its texts are not kept */
    ot_str metrics;
} newest;

static ot_rc note_newest(void *arg, const ot_checkpoint_row *row, ot_error *err)
{
    newest *n = arg;
    if (n->there) {
        return OT_OK;
    }
    n->there = true;
    n->row = *row;
    n->row.app = n->row.metrics = NULL;
    ot_str_adds(&n->metrics, row->metrics);
    return n->metrics.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a checkpoint") : OT_OK;
}

static ot_rc newest_txn(ot_txn *txn, void *arg, ot_error *err)
{
    newest *n = arg;
    return ot_checkpoint_each(txn, n->training, note_newest, n, err);
}

static ot_rc copy_out(ot_store *store, const ot_checkpoint_file *f, const char *dir, ot_error *err)
{
    char from[OT_PATH_MAX], to[OT_PATH_MAX];
    ot_digest d;
    uint64_t size;
    OT_TRY(ot_blob_path(store, &f->sha256, from, err));
    OT_TRY(ot_path_join(to, dir, f->path, err));
    char *slash = strrchr(to, '/');
    *slash = 0;
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), to, 0755, err));
    *slash = '/';
    OT_TRY(ot_file_copy(ot_disk_posix(), from, to, 0444, &d, &size, err));
    return ot_digest_equal(&d, &f->sha256) ? OT_OK
                                           : ot_fail(err, OT_DATA_LOSS, "%s: damaged", from);
}

static ot_rc fill(ot_store *store, const newest *n, const char *dir, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT, saved = OT_STR_INIT;
    ot_checkpoint_manifest m;
    OT_TRY(ot_blob_read(store, &n->row.bundle, OT_MANIFEST_BYTES_MAX, &text, err));
    OT_TRY(ot_checkpoint_manifest_parse(text.data, text.len, &m, err));
    ot_rc rc = ot_path_join(path, dir, FILES, err);
    for (size_t i = 0; rc == OT_OK && i < m.n_files; i++) {
        rc = copy_out(store, &m.files[i], path, err);
    }
    ot_free(m.files);
    OT_TRY(rc);
    ot_str_addf(&saved,
                "{\"step\": %" PRId64 ", \"made_us\": %" PRId64 ", \"run\": %" PRId64
                ", \"metrics\": %s}",
                n->row.step, n->row.made_us, n->row.run, n->metrics.data);
    OT_TRY(ot_path_join(path, dir, MANIFEST, err));
    OT_TRY(ot_disk_write_atomic(ot_disk_posix(), path, text.data, text.len, 0644, err));
    OT_TRY(ot_path_join(path, dir, SAVED, err));
    return ot_disk_write_atomic(ot_disk_posix(), path, saved.data, saved.len, 0644, err);
}

static ot_rc give(ot_store *store, const ot_checkpoint_training *t, const newest *n, ot_error *err)
{
    char name[OT_CHECKPOINT_NAME], dir[OT_PATH_MAX], staging[OT_PATH_MAX];
    ot_disk *d = ot_disk_posix();
    OT_TRY(ot_path_join(dir, t->dir, ot_checkpoint_name(name, n->row.step, &n->row.bundle), err));
    if (ot_disk_exists(d, dir)) {
        return OT_OK;
    }
    snprintf(staging, sizeof staging, "%.4000s/.%s.tmp", t->dir, name); /* swept by the program */
    OT_TRY(ot_disk_remove_tree(d, staging, err));
    OT_TRY(ot_disk_mkdirs(d, staging, 0755, err));
    OT_TRY(fill(store, n, staging, err));
    OT_TRY(d->ops->rename(d, staging, dir, err));
    return d->ops->sync_dir(d, t->dir, err);
}

ot_rc ot_checkpoint_give(ot_store *store, const ot_checkpoint_training *t, ot_error *err)
{
    newest n = {.training = t->training, .metrics = OT_STR_INIT};
    ot_rc rc = ot_store_read(store, newest_txn, &n, err);
    if (rc == OT_OK && n.there) {
        rc = give(store, t, &n, err);
    }
    ot_str_done(&n.metrics);
    return rc;
}

bool ot_checkpoint_went_on(const char *dir, int64_t run, ot_checkpoint_row *out)
{
    char file[40], path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    snprintf(file, sizeof file, "went-on-%" PRId64 ".json", run);
    if (ot_path_join(path, dir, file, NULL) != OT_OK ||
        ot_disk_read_all(ot_disk_posix(), path, 4096, &text, NULL) != OT_OK) {
        return false;
    }
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    const char *hex = json_string_value(json_object_get(j, "checkpoint"));
    *out = (ot_checkpoint_row){.run = json_integer_value(json_object_get(j, "run")),
                               .step = json_integer_value(json_object_get(j, "step"))};
    bool there = hex != NULL && ot_digest_parse(hex, &out->bundle);
    json_decref(j);
    return there;
}
