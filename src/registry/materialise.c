/* Bundles out of the content store: hard links to blobs or copies, verified, whole or not at all.
 */
#include "registry/registry.h"

#include "base/random.h"
#include "base/str.h"
#include "model/bundle.h"

#include <inttypes.h>
#include <string.h>

/* BLOBS/AA/SHA256 */
static ot_rc blob_path(const char *blobs_dir, const ot_digest *d, char out[OT_PATH_MAX],
                       ot_error *err)
{
    char hex[OT_DIGEST_HEX], rel[OT_DIGEST_HEX + 3];
    ot_digest_hex(d, hex);
    rel[0] = hex[0];
    rel[1] = hex[1];
    rel[2] = '/';
    memcpy(rel + 3, hex, OT_DIGEST_HEX);
    return ot_path_join(out, blobs_dir, rel, err);
}

/* Where the files come from and how they are placed. */
typedef struct source {
    ot_disk *disk;
    const char *blobs_dir;
    bool copy;
} source;

static ot_rc place_file(const source *s, const ot_digest *blob, const char *dir, const char *rel,
                        ot_error *err)
{
    char from[OT_PATH_MAX], to[OT_PATH_MAX];
    OT_TRY(blob_path(s->blobs_dir, blob, from, err));
    OT_TRY(ot_path_join(to, dir, rel, err));
    char *slash = strrchr(to, '/');
    *slash = 0;
    OT_TRY(ot_disk_mkdirs(s->disk, to, 0755, err));
    *slash = '/';
    if (!s->copy && s->disk->ops->link(s->disk, from, to, NULL) == OT_OK) {
        return OT_OK;
    }
    /* Another file system, or no links there: a copy. It also says what is wrong with the blob. */
    ot_digest d;
    uint64_t size;
    return ot_file_copy(s->disk, from, to, s->copy ? 0644 : 0444, &d, &size, err);
}

static ot_rc read_manifest(const source *s, const ot_digest *bundle, ot_manifest *m, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(blob_path(s->blobs_dir, bundle, path, err));
    OT_TRY(ot_disk_read_all(s->disk, path, OT_MANIFEST_BYTES_MAX, &text, err));
    ot_digest d = ot_sha256_of(text.data, text.len);
    if (!ot_digest_equal(&d, bundle)) {
        return ot_fail(err, OT_DATA_LOSS, "%s: its bytes do not give its name: damaged", path);
    }
    return ot_manifest_parse(text.data, text.len, m, err);
}

static ot_rc stage(const source *s, const ot_digest *bundle, const char *staging, ot_error *err)
{
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    OT_AUTO(ot_bundle_done) ot_bundle b = {0};
    OT_TRY(read_manifest(s, bundle, &m, err));
    OT_TRY(ot_disk_mkdirs(s->disk, staging, 0755, err));
    for (size_t i = 0; i < m.n_files; i++) {
        OT_TRY(place_file(s, &m.files[i].sha256, staging, m.files[i].path, err));
    }
    OT_TRY(place_file(s, bundle, staging, OT_MANIFEST_FILE, err));
    return ot_bundle_open(s->disk, staging, 0, bundle, &b, err);
}

static ot_rc replace(ot_disk *disk, const char *staging, const char *dir, ot_error *err)
{
    OT_TRY(ot_disk_remove_tree(disk, dir, err));
    return disk->ops->rename(disk, staging, dir, err);
}

static ot_rc materialise(const source *s, const ot_digest *bundle, const char *dir, ot_error *err)
{
    ot_disk *disk = s->disk;
    if (ot_disk_exists(disk, dir)) {
        OT_AUTO(ot_bundle_done) ot_bundle b = {0};
        if (ot_bundle_open(disk, dir, 0, bundle, &b, NULL) == OT_OK) {
            return OT_OK;
        }
    }
    uint64_t tag;
    ot_random_bytes(&tag, sizeof tag);
    OT_AUTO(ot_free_ptr) char *staging = ot_asprintf("%s.%016" PRIx64 ".tmp", dir, tag);
    if (staging == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory");
    }
    ot_rc rc = stage(s, bundle, staging, err);
    if (rc == OT_OK) {
        rc = replace(disk, staging, dir, err);
    }
    if (rc != OT_OK) {
        char hex[OT_DIGEST_HEX];
        ot_rc left = ot_disk_remove_tree(disk, staging, NULL);
        (void)left; /* the first failure is what the caller learns */
        return ot_error_prefix(err, rc, "bundle %.12s", ot_digest_hex(bundle, hex));
    }
    return OT_OK;
}

ot_rc ot_registry_materialise_from(ot_disk *disk, const char *blobs_dir, const ot_digest *bundle,
                                   const char *dir, ot_error *err)
{
    source s = {.disk = disk, .blobs_dir = blobs_dir};
    return materialise(&s, bundle, dir, err);
}

static ot_rc from_store(ot_store *store, bool copy, const ot_digest *bundle, const char *dir,
                        ot_error *err)
{
    char blobs[OT_PATH_MAX];
    OT_TRY(ot_path_join(blobs, ot_store_dir(store), "blobs", err));
    source s = {.disk = ot_store_disk(store), .blobs_dir = blobs, .copy = copy};
    return materialise(&s, bundle, dir, err);
}

ot_rc ot_registry_materialise(ot_store *store, const ot_digest *bundle, const char *dir,
                              ot_error *err)
{
    return from_store(store, false, bundle, dir, err);
}

ot_rc ot_registry_copy_out(ot_store *store, const ot_digest *bundle, const char *dir, ot_error *err)
{
    return from_store(store, true, bundle, dir, err);
}
