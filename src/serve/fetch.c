#include "serve/load.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COPY_BYTES (1u << 20)

static ot_rc blob_path(const char *blobs, const char *hex, char out[OT_PATH_MAX], ot_error *err)
{
    char name[80];
    snprintf(name, sizeof name, "%.2s/%s", hex, hex);
    return ot_path_join(out, blobs, name, err);
}

static ot_rc copy_file(ot_disk *disk, const char *from, const char *to, ot_error *err)
{
    ot_file *in, *out = NULL;
    OT_TRY(disk->ops->open(disk, from, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &in, err));
    ot_rc rc =
        disk->ops->open(disk, to, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_EXCL, 0600, &out, err);
    char *buffer = ot_alloc(COPY_BYTES);
    if (rc == OT_OK && buffer == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "fetch: out of memory");
    }
    uint64_t at = 0;
    size_t n = COPY_BYTES;
    while (rc == OT_OK && n == COPY_BYTES) {
        rc = in->ops->pread(in, buffer, COPY_BYTES, at, &n, err);
        if (rc == OT_OK && n > 0) {
            rc = out->ops->pwrite(out, buffer, n, at, err);
            at += n;
        }
    }
    ot_free(buffer);
    ot_file_close(in);
    ot_file_close(out);
    return rc;
}

/* A hard link costs no space: blobs are never changed, and the link is read-only for us. */
static ot_rc take_blob(ot_disk *disk, const char *blobs, const char *hex, const char *dir,
                       const char *rel, ot_error *err)
{
    char from[OT_PATH_MAX], to[OT_PATH_MAX];
    OT_TRY(blob_path(blobs, hex, from, err));
    OT_TRY(ot_path_join(to, dir, rel, err));
    char *slash = strrchr(to, '/');
    *slash = '\0';
    OT_TRY(ot_disk_mkdirs(disk, to, 0700, err));
    *slash = '/';
    if (disk->ops->link(disk, from, to, NULL) == OT_OK) {
        return OT_OK;
    }
    return copy_file(disk, from, to, err);
}

static ot_rc stage(ot_disk *disk, const char *blobs, const char *hex, const char *dir,
                   ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(take_blob(disk, blobs, hex, dir, OT_MANIFEST_FILE, err));
    OT_TRY(ot_path_join(path, dir, OT_MANIFEST_FILE, err));
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(disk, path, OT_MANIFEST_BYTES_MAX, &json, err));
    OT_AUTO(ot_manifest_done) ot_manifest m;
    ot_manifest_init(&m);
    OT_TRY(ot_manifest_parse(json.data, json.len, &m, err));
    for (size_t i = 0; i < m.n_files; i++) {
        char file[OT_DIGEST_HEX];
        OT_TRY(take_blob(disk, blobs, ot_digest_hex(&m.files[i].sha256, file), dir, m.files[i].path,
                         err));
    }
    return OT_OK;
}

/* ---- what was verified is remembered */

#define SEAL ".seal"

static ot_rc add_file(ot_disk *disk, const char *dir, const char *rel, ot_str *out, ot_error *err)
{
    char path[OT_PATH_MAX];
    ot_stat st;
    OT_TRY(ot_path_join(path, dir, rel, err));
    OT_TRY(disk->ops->stat(disk, path, &st, err));
    ot_str_addf(out, "%" PRIu64 " %" PRIu64 " %" PRId64 " %s\n", st.inode, st.size, st.ctime_us,
                rel);
    return OT_OK;
}

/* Inode, size and change time of each file: while they are the same nobody has written there, for
 * the directory is ours alone and a change time cannot be set. */
static ot_rc seal_text(ot_disk *disk, const ot_bundle *b, ot_str *out, ot_error *err)
{
    OT_TRY(add_file(disk, b->dir, OT_MANIFEST_FILE, out, err));
    for (size_t i = 0; i < b->manifest.n_files; i++) {
        OT_TRY(add_file(disk, b->dir, b->manifest.files[i].path, out, err));
    }
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "fetch: out of memory") : OT_OK;
}

static bool is_sealed(ot_disk *disk, const ot_bundle *b, const char *seal)
{
    OT_AUTO(ot_str_done) ot_str now = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str then = OT_STR_INIT;
    return seal_text(disk, b, &now, NULL) == OT_OK &&
           ot_disk_read_all(disk, seal, OT_MANIFEST_BYTES_MAX, &then, NULL) == OT_OK &&
           now.len == then.len && memcmp(now.data, then.data, now.len) == 0;
}

/* A seal that is cut off or was not written costs a verification next time, no more. */
static void write_seal(ot_disk *disk, const ot_bundle *b, const char *seal)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error err;
    ot_file *f = NULL;
    ot_rc rc = seal_text(disk, b, &text, &err);
    if (rc == OT_OK) {
        rc = disk->ops->open(disk, seal, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_TRUNC, 0600, &f,
                             &err);
    }
    if (rc == OT_OK) {
        rc = f->ops->pwrite(f, text.data, text.len, 0, &err);
    }
    ot_file_close(f);
    if (rc != OT_OK) {
        ot_warn("serve", "bundle %s will be verified again: %s", b->dir, err.msg);
    }
}

/* The bundle that the cache has, verified now or before. */
static ot_rc open_cached(ot_disk *disk, const char *dir, const char *seal, const ot_digest *want,
                         ot_bundle *b_out, ot_error *err)
{
    OT_TRY(ot_bundle_open(disk, dir, OT_BUNDLE_TRUST_CONTENT, want, b_out, err));
    if (is_sealed(disk, b_out, seal)) {
        return OT_OK;
    }
    ot_bundle_done(b_out);
    OT_TRY(ot_bundle_open(disk, dir, 0, want, b_out, err));
    write_seal(disk, b_out, seal);
    return OT_OK;
}

ot_rc ot_fetch_bundle(ot_disk *disk, const char *blobs, const char *cache, const char *hex,
                      ot_bundle *b_out, ot_error *err)
{
    char dir[OT_PATH_MAX], seal[OT_PATH_MAX], temporary[OT_PATH_MAX], name[112];
    ot_digest want;
    if (!ot_digest_parse(hex, &want)) {
        return ot_fail(err, OT_INVALID, "'%.80s' is not a SHA-256 in hex", hex);
    }
    OT_TRY(ot_path_join(dir, cache, hex, err));
    snprintf(name, sizeof name, "%s" SEAL, hex);
    OT_TRY(ot_path_join(seal, cache, name, err));
    if (ot_disk_exists(disk, dir)) {
        if (open_cached(disk, dir, seal, &want, b_out, err) == OT_OK) {
            return OT_OK;
        }
        ot_warn("serve", "fetched again: %s", err->msg);
        OT_TRY(ot_disk_remove_tree(disk, dir, err));
    }
    /* Two replicas may be here at a time: one name each. */
    snprintf(name, sizeof name, ".%s.%ld", hex, (long)getpid());
    OT_TRY(ot_path_join(temporary, cache, name, err));
    OT_TRY(ot_disk_remove_tree(disk, temporary, err));
    OT_TRY(ot_disk_mkdirs(disk, temporary, 0700, err));
    ot_rc rc = stage(disk, blobs, hex, temporary, err);
    if (rc == OT_OK) {
        ot_bundle b = {0};
        rc = ot_bundle_open(disk, temporary, 0, &want, &b, err);
        ot_bundle_done(&b);
    }
    if (rc == OT_OK) {
        rc = disk->ops->rename(disk, temporary, dir, err);
    }
    if (rc != OT_OK && ot_disk_exists(disk, dir)) {
        rc = OT_OK; /* the other one was faster */
        ot_rc ignored = ot_disk_remove_tree(disk, temporary, NULL);
        (void)ignored;
    }
    if (rc != OT_OK) {
        ot_rc ignored = ot_disk_remove_tree(disk, temporary, NULL);
        (void)ignored;
        return ot_error_prefix(err, rc, "bundle %.12s", hex);
    }
    OT_TRY(ot_bundle_open(disk, dir, OT_BUNDLE_TRUST_CONTENT, &want, b_out, err));
    write_seal(disk, b_out, seal);
    return OT_OK;
}

typedef struct prune {
    ot_disk *disk;
    const char *cache;
    const char *const *keep;
    size_t n;
} prune;

static ot_rc prune_entry(void *arg, const char *name, ot_error *err)
{
    prune *p = arg;
    char path[OT_PATH_MAX];
    size_t n = strlen(name) - (ot_has_suffix(name, SEAL) ? strlen(SEAL) : 0);
    for (size_t i = 0; i < p->n; i++) {
        if (strlen(p->keep[i]) == n && memcmp(p->keep[i], name, n) == 0) {
            return OT_OK;
        }
    }
    OT_TRY(ot_path_join(path, p->cache, name, err));
    return ot_disk_remove_tree(p->disk, path, err);
}

void ot_fetch_prune(ot_disk *disk, const char *cache, const char *const *keep, size_t n)
{
    prune p = {disk, cache, keep, n};
    ot_error err;
    if (disk->ops->list(disk, cache, prune_entry, &p, &err) != OT_OK) {
        ot_warn("serve", "cache: %s", err.msg);
    }
}
