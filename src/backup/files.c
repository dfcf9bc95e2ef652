/* Files, as backups and restores move them. */
#include "backup/internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (1u << 20)
#define NAMES_MAX 10000000
#define DEPTH_MAX 16

typedef struct stream {
    ot_file *in, *out; /* out NULL: only digested */
    bk_rest_fn *rest;
    void *arg;
    ot_sha256 sha;
    uint64_t size;
} stream;

static ot_rc move_piece(stream *s, char *buffer, size_t *n_out, ot_error *err)
{
    uint64_t since = ot_clock_mono_ns();
    OT_TRY(s->in->ops->pread(s->in, buffer, CHUNK, s->size, n_out, err));
    ot_sha256_add(&s->sha, buffer, *n_out);
    if (s->out != NULL && *n_out > 0) {
        OT_TRY(s->out->ops->pwrite(s->out, buffer, *n_out, s->size, err));
    } else if (s->out != NULL) {
        OT_TRY(s->out->ops->sync(s->out, false, err));
    }
    s->size += *n_out;
    return s->rest != NULL ? s->rest(s->arg, ot_clock_mono_ns() - since, err) : OT_OK;
}

static ot_rc move_bytes(stream *s, const char *name, ot_error *err)
{
    OT_AUTO(ot_free_ptr) char *buffer = ot_alloc(CHUNK);
    if (buffer == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to read it", name);
    }
    ot_sha256_init(&s->sha);
    for (size_t n = 1; n > 0;) {
        OT_TRY(move_piece(s, buffer, &n, err));
    }
    return OT_OK;
}

ot_rc bk_digest(ot_disk *disk, const char *path, bk_rest_fn *rest, void *arg, ot_digest *sha_out,
                uint64_t *size_out, ot_error *err)
{
    stream s = {.rest = rest, .arg = arg};
    OT_TRY(disk->ops->open(disk, path, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &s.in, err));
    ot_rc rc = move_bytes(&s, path, err);
    ot_file_close(s.in);
    if (rc == OT_OK) {
        *sha_out = ot_sha256_done(&s.sha);
        *size_out = s.size;
    }
    return rc;
}

static ot_rc check(const char *from, const ot_backup_item *want, const ot_digest *got,
                   uint64_t size, ot_error *err)
{
    char a[OT_DIGEST_HEX], b[OT_DIGEST_HEX];
    if (want == NULL || (want->size == size && ot_digest_equal(&want->sha256, got))) {
        return OT_OK;
    }
    return ot_fail(err, OT_DATA_LOSS,
                   "%s: it has %" PRIu64
                   " bytes with digest %.16s; the backup was made with %" PRIu64
                   " bytes and %.16s: it was edited or damaged",
                   from, size, ot_digest_hex(got, a), want->size, ot_digest_hex(&want->sha256, b));
}

ot_rc bk_copy(ot_disk *disk, const char *from, ot_disk *to_disk, const char *to, unsigned mode,
              const ot_backup_item *expect, bk_rest_fn *rest, void *arg, ot_digest *sha_out,
              uint64_t *size_out, ot_error *err)
{
    stream s = {.rest = rest, .arg = arg};
    OT_TRY(disk->ops->open(disk, from, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &s.in, err));
    ot_rc rc = to_disk->ops->open(to_disk, to, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_EXCL, mode,
                                  &s.out, err);
    if (rc == OT_OK) {
        rc = move_bytes(&s, from, err);
    }
    ot_file_close(s.in);
    ot_file_close(s.out);
    OT_TRY(rc);
    ot_digest got = ot_sha256_done(&s.sha);
    OT_TRY(check(from, expect, &got, s.size, err));
    *sha_out = got;
    *size_out = s.size;
    return OT_OK;
}

ot_rc bk_make_parent(ot_disk *disk, const char *path, ot_error *err)
{
    char dir[OT_PATH_MAX];
    size_t n = (size_t)(strrchr(path, '/') - path);
    memcpy(dir, path, n);
    dir[n] = 0;
    return ot_disk_exists(disk, dir) ? OT_OK : ot_disk_mkdirs(disk, dir, 0700, err);
}

/* --- names ------------------------------------------------------------------------------------ */

static ot_rc note_name(void *arg, const char *name, ot_error *err)
{
    bk_names *l = arg;
    if (!ot_grow(&l->v, &l->cap, l->n, sizeof *l->v, NAMES_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for more than %zu names", l->n);
    }
    l->v[l->n] = ot_strdup(name);
    if (l->v[l->n] == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a name");
    }
    l->n++;
    return OT_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

ot_rc bk_list(ot_disk *disk, const char *dir, bk_names *out, ot_error *err)
{
    OT_TRY(disk->ops->list(disk, dir, note_name, out, err));
    if (out->n > 0) {
        qsort(out->v, out->n, sizeof *out->v, by_text);
    }
    return OT_OK;
}

void bk_names_done(bk_names *l)
{
    for (size_t i = 0; i < l->n; i++) {
        ot_free(l->v[i]);
    }
    ot_free(l->v);
    *l = (bk_names){0};
}

static ot_rc sync_below(ot_disk *disk, const char *dir, int depth, ot_error *err)
{
    OT_AUTO(bk_names_done) bk_names names = {0};
    char path[OT_PATH_MAX];
    ot_stat st;
    OT_TRY(bk_list(disk, dir, &names, err));
    for (size_t i = 0; i < names.n; i++) {
        OT_TRY(ot_path_join(path, dir, names.v[i], err));
        OT_TRY(disk->ops->stat(disk, path, &st, err));
        if (st.is_dir && depth < DEPTH_MAX) {
            OT_TRY(sync_below(disk, path, depth + 1, err));
        }
    }
    return disk->ops->sync_dir(disk, dir, err);
}

ot_rc bk_sync_tree(ot_disk *disk, const char *dir, ot_error *err)
{
    return sync_below(disk, dir, 0, err);
}

bool bk_is_named(const char *name)
{
    static const char shape[] = "00000000T000000.000000Z";
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        bool fits = shape[i] == '0' ? name[i] >= '0' && name[i] <= '9' : name[i] == shape[i];
        if (!fits) {
            return false;
        }
    }
    const char *rest = name + sizeof shape - 1;
    return rest[0] == 0 || strcmp(rest, OT_BACKUP_PARTIAL) == 0;
}

bool bk_is_finished(ot_disk *disk, const char *folder, const char *name)
{
    char dir[OT_PATH_MAX], path[OT_PATH_MAX];
    return bk_is_named(name) && !ot_has_suffix(name, OT_BACKUP_PARTIAL) &&
           ot_path_join(dir, folder, name, NULL) == OT_OK &&
           ot_path_join(path, dir, OT_BACKUP_MANIFEST, NULL) == OT_OK && ot_disk_exists(disk, path);
}

ot_rc bk_newest(ot_disk *disk, const char *folder, char out[OT_PATH_MAX], ot_error *err)
{
    OT_AUTO(bk_names_done) bk_names names = {0};
    OT_TRY(bk_list(disk, folder, &names, err));
    for (size_t i = names.n; i-- > 0;) {
        if (bk_is_finished(disk, folder, names.v[i])) {
            return ot_path_join(out, folder, names.v[i], err);
        }
    }
    out[0] = 0;
    return OT_OK;
}
