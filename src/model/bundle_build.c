/* Building a bundle: a staging directory beside the target, synced, then renamed. */
#include "model/bundle_internal.h"

#include "base/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR_MODE 0755
#define FILE_MODE 0644

typedef struct builder {
    ot_disk *disk;
    const char *staging;
    const char *from; /* the model's directory */
    ot_manifest m;
    uint64_t total;
} builder;

static ot_rc add_entry(builder *b, const char *rel, uint64_t size, const ot_digest *d,
                       ot_error *err)
{
    if (b->m.n_files == OT_MANIFEST_FILES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "more than %d files", OT_MANIFEST_FILES_MAX);
    }
    b->total += size;
    if (b->total > OT_BUNDLE_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "larger than the limit of %llu bytes",
                       OT_BUNDLE_BYTES_MAX);
    }
    const char *path = ot_arena_strdup(&b->m.arena, rel);
    if (path == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to list its files");
    }
    b->m.files[b->m.n_files++] = (ot_manifest_file){.path = path, .size = size, .sha256 = *d};
    return OT_OK;
}

/* Makes the folders above `rel` in the staging directory and gives the file's path there. */
static ot_rc stage_path(builder *b, const char *rel, char out[OT_PATH_MAX], ot_error *err)
{
    OT_TRY(ot_path_join(out, b->staging, rel, err));
    char *slash = strrchr(out, '/');
    *slash = 0;
    ot_rc rc = ot_disk_mkdirs(b->disk, out, DIR_MODE, err);
    *slash = '/';
    return rc;
}

static ot_rc copy_file(builder *b, const char *from, const char *rel, ot_error *err)
{
    char to[OT_PATH_MAX];
    OT_TRY(stage_path(b, rel, to, err));
    ot_digest d;
    uint64_t size;
    OT_TRY(ot_file_copy(b->disk, from, to, FILE_MODE, &d, &size, err));
    return add_entry(b, rel, size, &d, err);
}

static ot_rc copy_tree_file(void *arg, const char *rel, const ot_stat *st, ot_error *err)
{
    (void)st;
    builder *b = arg;
    char from[OT_PATH_MAX], to[OT_PATH_MAX];
    OT_TRY(ot_path_join(from, b->from, rel, err));
    OT_TRY(ot_path_join(to, OT_BUNDLE_MODEL, rel, err));
    return copy_file(b, from, to, err);
}

static ot_rc copy_model(builder *b, const char *path, ot_error *err)
{
    ot_stat st;
    OT_TRY(b->disk->ops->stat(b->disk, path, &st, err));
    if (st.is_dir) {
        b->from = path;
        OT_TRY(ot_tree_walk(b->disk, path, copy_tree_file, b, err));
        return b->m.n_files > 0
                   ? OT_OK
                   : ot_fail(err, OT_INVALID, "%s: an empty directory; a model is expected", path);
    }
    const char *slash = strrchr(path, '/');
    char rel[OT_PATH_MAX];
    OT_TRY(ot_path_join(rel, OT_BUNDLE_MODEL, slash == NULL ? path : slash + 1, err));
    return copy_file(b, path, rel, err);
}

static ot_rc add_part(builder *b, const char *rel, ot_bytes part, ot_error *err)
{
    if (part.p == NULL) {
        return OT_OK;
    }
    if (part.n > OT_BUNDLE_PART_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s: %zu bytes; the limit is %u", rel, part.n,
                       OT_BUNDLE_PART_BYTES_MAX);
    }
    char to[OT_PATH_MAX];
    OT_TRY(stage_path(b, rel, to, err));
    OT_TRY(ot_disk_write_atomic(b->disk, to, part.p, part.n, FILE_MODE, err));
    ot_digest d = ot_sha256_of(part.p, part.n);
    return add_entry(b, rel, part.n, &d, err);
}

/* Golden answers that do not fit would make a bundle that can never be opened. */
static ot_rc check_golden(const ot_manifest *m, ot_bytes golden, ot_error *err)
{
    if (golden.p == NULL) {
        return OT_OK;
    }
    OT_AUTO(ot_golden_done) ot_golden g = {0};
    OT_TRY(ot_golden_parse(golden.p, golden.n, &g, err));
    return ot_golden_matches(&g, m, err);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const ot_manifest_file *)a)->path, ((const ot_manifest_file *)b)->path);
}

static ot_rc sync_above(void *arg, const char *rel, const ot_stat *st, ot_error *err)
{
    (void)st;
    builder *b = arg;
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, b->staging, rel, err));
    for (char *slash; (slash = strrchr(path, '/')) != NULL;) {
        *slash = 0;
        if (strlen(path) < strlen(b->staging)) {
            break;
        }
        OT_TRY(b->disk->ops->sync_dir(b->disk, path, err));
    }
    return OT_OK;
}

static ot_rc stage(builder *b, const ot_bundle_parts *parts, ot_digest *digest_out, ot_error *err)
{
    b->m.files = ot_arena_calloc(&b->m.arena, OT_MANIFEST_FILES_MAX, sizeof *b->m.files);
    if (b->m.files == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to list its files");
    }
    OT_TRY(ot_manifest_check(&b->m, err));
    OT_TRY(check_golden(&b->m, parts->golden, err));
    OT_TRY(b->disk->ops->mkdir(b->disk, b->staging, DIR_MODE, err));
    OT_TRY(copy_model(b, parts->model_path, err));
    OT_TRY(add_part(b, OT_BUNDLE_TRAINED_ON, parts->trained_on, err));
    OT_TRY(add_part(b, OT_BUNDLE_OUTPUTS, parts->outputs, err));
    OT_TRY(add_part(b, OT_BUNDLE_GOLDEN, parts->golden, err));
    OT_TRY(add_part(b, OT_BUNDLE_LINEAGE, parts->lineage, err));
    qsort(b->m.files, b->m.n_files, sizeof *b->m.files, by_path);
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_manifest_write(&b->m, &text, err));
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, b->staging, OT_MANIFEST_FILE, err));
    OT_TRY(ot_disk_write_atomic(b->disk, path, text.data, text.len, FILE_MODE, err));
    OT_TRY(ot_tree_walk(b->disk, b->staging, sync_above, b, err));
    *digest_out = ot_sha256_of(text.data, text.len);
    return OT_OK;
}

static ot_rc publish(ot_disk *disk, const char *staging, const char *dir, ot_error *err)
{
    OT_TRY(disk->ops->rename(disk, staging, dir, err));
    char parent[OT_PATH_MAX];
    snprintf(parent, sizeof parent, "%s", dir);
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        snprintf(parent, sizeof parent, ".");
    } else {
        slash[slash == parent ? 1 : 0] = 0;
    }
    return disk->ops->sync_dir(disk, parent, err);
}

ot_rc ot_bundle_build(ot_disk *disk, const char *dir, const ot_bundle_parts *parts,
                      ot_digest *digest_out, ot_error *err)
{
    if (ot_disk_exists(disk, dir)) {
        return ot_fail(err, OT_EXISTS, "bundle %s: it is there already", dir);
    }
    uint64_t tag;
    ot_random_bytes(&tag, sizeof tag);
    OT_AUTO(ot_free_ptr) char *staging = ot_asprintf("%s.%016" PRIx64 ".tmp", dir, tag);
    builder b = {.disk = disk, .staging = staging};
    ot_manifest_init(&b.m);
    ot_digest d;
    ot_rc rc = staging == NULL ? ot_fail(err, OT_EXHAUSTED, "no memory")
                               : ot_manifest_copy_signature(parts->signature, &b.m, err);
    if (rc == OT_OK) {
        rc = stage(&b, parts, &d, err);
        if (rc == OT_OK) {
            rc = publish(disk, staging, dir, err);
        }
        if (rc != OT_OK) {
            ot_error ignored;
            ot_rc left = ot_disk_remove_tree(disk, staging, &ignored);
            (void)left; /* the first failure is what the caller learns */
        }
    }
    ot_manifest_done(&b.m);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "bundle %s", dir);
    }
    *digest_out = d;
    return OT_OK;
}
