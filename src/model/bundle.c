/* Opening and verifying a bundle. */
#include "model/bundle_internal.h"

#include <inttypes.h>
#include <string.h>

void ot_bundle_done(ot_bundle *b)
{
    ot_manifest_done(&b->manifest);
    ot_free(b->dir);
    *b = (ot_bundle){0};
}

typedef struct inspection {
    ot_bundle *b;
    bool *seen; /* one a file of the manifest */
    bool manifest_seen;
} inspection;

static ot_rc inspect_file(void *arg, const char *rel, const ot_stat *st, ot_error *err)
{
    inspection *in = arg;
    const ot_manifest *m = &in->b->manifest;
    in->b->size_bytes += st->size;
    if (in->b->size_bytes > OT_BUNDLE_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "larger than the limit of %llu bytes",
                       OT_BUNDLE_BYTES_MAX);
    }
    if (strcmp(rel, OT_MANIFEST_FILE) == 0) {
        in->manifest_seen = true;
        return OT_OK;
    }
    const ot_manifest_file *f = ot_manifest_file_find(m, rel);
    if (f == NULL) {
        return ot_fail(err, OT_INVALID, "'%s' is there and not in the manifest", rel);
    }
    if (st->size != f->size) {
        return ot_fail(err, OT_DATA_LOSS, "'%s' has %" PRIu64 " bytes; the manifest says %" PRIu64,
                       rel, st->size, f->size);
    }
    in->seen[f - m->files] = true;
    return OT_OK;
}

static ot_rc inspect_tree(ot_disk *disk, ot_bundle *b, ot_error *err)
{
    inspection in = {.b = b, .seen = ot_calloc(b->manifest.n_files, sizeof(bool))};
    if (in.seen == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to verify it");
    }
    ot_rc rc = ot_tree_walk(disk, b->dir, inspect_file, &in, err);
    bool has_model = false;
    for (size_t i = 0; rc == OT_OK && i < b->manifest.n_files; i++) {
        has_model |= ot_has_prefix(b->manifest.files[i].path, OT_BUNDLE_MODEL "/");
        if (!in.seen[i]) {
            rc = ot_fail(err, OT_NOT_FOUND, "'%s' is in the manifest and not there",
                         b->manifest.files[i].path);
        }
    }
    if (rc == OT_OK && !has_model) {
        rc = ot_fail(err, OT_INVALID, "the manifest lists no file below '%s/'", OT_BUNDLE_MODEL);
    }
    ot_free(in.seen);
    return rc;
}

static ot_rc verify_digests(ot_disk *disk, const ot_bundle *b, ot_error *err)
{
    for (size_t i = 0; i < b->manifest.n_files; i++) {
        const ot_manifest_file *f = &b->manifest.files[i];
        char path[OT_PATH_MAX], want[OT_DIGEST_HEX], got[OT_DIGEST_HEX];
        OT_TRY(ot_path_join(path, b->dir, f->path, err));
        ot_digest d;
        uint64_t size;
        OT_TRY(ot_file_digest(disk, path, &d, &size, err));
        if (size != f->size || !ot_digest_equal(&d, &f->sha256)) {
            return ot_fail(err, OT_DATA_LOSS,
                           "'%s' has SHA-256 %s; the manifest says %s: it was changed or damaged",
                           f->path, ot_digest_hex(&d, got), ot_digest_hex(&f->sha256, want));
        }
    }
    return OT_OK;
}

static ot_rc read_manifest(ot_disk *disk, const char *dir, const ot_digest *expect, ot_bundle *b,
                           ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, dir, OT_MANIFEST_FILE, err));
    ot_stat st;
    OT_TRY(disk->ops->stat(disk, path, &st, err));
    if (!st.is_regular) {
        return ot_fail(err, OT_INVALID, "'%s' is not a regular file", OT_MANIFEST_FILE);
    }
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(disk, path, OT_MANIFEST_BYTES_MAX, &text, err));
    b->digest = ot_sha256_of(text.data, text.len);
    if (expect != NULL && !ot_digest_equal(expect, &b->digest)) {
        char want[OT_DIGEST_HEX], got[OT_DIGEST_HEX];
        return ot_fail(err, OT_DATA_LOSS, "'%s' has SHA-256 %s; %s is expected", OT_MANIFEST_FILE,
                       ot_digest_hex(&b->digest, got), ot_digest_hex(expect, want));
    }
    return ot_manifest_parse(text.data, text.len, &b->manifest, err);
}

static ot_rc open_bundle(ot_disk *disk, unsigned flags, const ot_digest *expect, ot_bundle *b,
                         ot_error *err)
{
    OT_TRY(read_manifest(disk, b->dir, expect, b, err));
    OT_TRY(inspect_tree(disk, b, err));
    if (flags & OT_BUNDLE_TRUST_CONTENT) {
        return OT_OK;
    }
    OT_TRY(verify_digests(disk, b, err));
    if (ot_manifest_file_find(&b->manifest, OT_BUNDLE_GOLDEN) != NULL) {
        OT_AUTO(ot_golden_done) ot_golden g = {0};
        OT_TRY(ot_bundle_golden(disk, b, &g, err));
    }
    return OT_OK;
}

ot_rc ot_bundle_open(ot_disk *disk, const char *dir, unsigned flags, const ot_digest *expect,
                     ot_bundle *b_out, ot_error *err)
{
    ot_bundle b = {.dir = ot_strdup(dir)};
    ot_manifest_init(&b.manifest);
    ot_rc rc = b.dir == NULL ? ot_fail(err, OT_EXHAUSTED, "no memory")
                             : open_bundle(disk, flags, expect, &b, err);
    if (rc != OT_OK) {
        ot_bundle_done(&b);
        return ot_error_prefix(err, rc, "bundle %s", dir);
    }
    *b_out = b;
    return OT_OK;
}

ot_rc ot_bundle_model_path(const ot_bundle *b, char out[OT_PATH_MAX], ot_error *err)
{
    const char *only = NULL;
    size_t n = 0;
    for (size_t i = 0; i < b->manifest.n_files; i++) {
        if (ot_has_prefix(b->manifest.files[i].path, OT_BUNDLE_MODEL "/")) {
            only = b->manifest.files[i].path;
            n++;
        }
    }
    bool one_file = n == 1 && strchr(only + sizeof OT_BUNDLE_MODEL, '/') == NULL;
    /* A SavedModel without variables is one file, and still is opened as a directory. */
    if (one_file && strcmp(only, OT_BUNDLE_MODEL "/saved_model.pb") == 0) {
        one_file = false;
    }
    return ot_path_join(out, b->dir, one_file ? only : OT_BUNDLE_MODEL, err);
}

ot_rc ot_bundle_read_part(ot_disk *disk, const ot_bundle *b, const char *path, ot_str *out,
                          ot_error *err)
{
    if (ot_manifest_file_find(&b->manifest, path) == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "bundle %s: it has no %s", b->dir, path);
    }
    char full[OT_PATH_MAX];
    OT_TRY(ot_path_join(full, b->dir, path, err));
    return ot_disk_read_all(disk, full, OT_BUNDLE_PART_BYTES_MAX, out, err);
}

ot_rc ot_bundle_golden(ot_disk *disk, const ot_bundle *b, ot_golden *g_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_bundle_read_part(disk, b, OT_BUNDLE_GOLDEN, &text, err));
    ot_golden g = {0};
    OT_TRY(ot_golden_parse(text.data, text.len, &g, err));
    ot_rc rc = ot_golden_matches(&g, &b->manifest, err);
    if (rc != OT_OK) {
        ot_golden_done(&g);
        return rc;
    }
    *g_out = g;
    return OT_OK;
}
