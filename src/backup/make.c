#include "backup/internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "store/backup.h"
#include "store/blob.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REST_MAX_US 200000
#define REFS_MAX (1u << 26)

typedef struct make {
    ot_store *store;
    ot_disk *disk;
    const ot_backup_options *opt;
    char partial[OT_PATH_MAX];
    char before[OT_PATH_MAX]; /* the newest backup in the folder; "": none */
    bool fan[256];            /* store/blobs/<2 digits> is there */
    ot_digest *refs;
    size_t n_refs, cap_refs;
    ot_manifest_out out;
    ot_backup_report r;
} make;

/* --- at its pace ------------------------------------------------------------------------------ */

static ot_rc rest(void *arg, uint64_t worked_ns, ot_error *err)
{
    const make *m = arg;
    uint64_t share = m->opt->share_percent;
    if (m->opt->stop != NULL && atomic_load(m->opt->stop)) {
        return ot_fail(err, OT_CANCELLED, "the backup was stopped");
    }
    if (share > 0 && share < 100) {
        uint64_t us = worked_ns / 1000 * (100 - share) / share;
        if (us > 0) {
            ot_clock_sleep_us(OT_MIN(us, (uint64_t)REST_MAX_US));
        }
    }
    return OT_OK;
}

/* --- the database ----------------------------------------------------------------------------- */

static ot_rc note_ref(void *arg, const ot_digest *d, ot_error *err)
{
    make *m = arg;
    if (!ot_grow(&m->refs, &m->cap_refs, m->n_refs, sizeof *m->refs, REFS_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the names of more than %zu blobs",
                       m->n_refs);
    }
    m->refs[m->n_refs++] = *d;
    return OT_OK;
}

static ot_rc put_database(make *m, ot_error *err)
{
    char dir[OT_PATH_MAX], path[OT_PATH_MAX];
    ot_snapshot_options o = {.rest = rest, .ref = note_ref, .arg = m};
    ot_snapshot s;
    ot_digest d;
    uint64_t size;
    OT_TRY(ot_path_join(dir, m->partial, "store", err));
    OT_TRY(ot_disk_mkdirs(m->disk, dir, 0700, err));
    OT_TRY(ot_store_snapshot(m->store, dir, &o, &s, err));
    m->r.head.schema = s.schema;
    m->r.head.log = s.head;
    m->r.copied_bytes += s.bytes;
    OT_TRY(ot_path_join(path, dir, "store.db", err));
    OT_TRY(bk_digest(m->disk, path, rest, m, &d, &size, err));
    OT_TRY(ot_manifest_out_begin(&m->out, m->disk, m->partial, &m->r.head, err));
    return ot_manifest_out_file(&m->out, size, &d, "store/store.db", err);
}

/* --- blobs ------------------------------------------------------------------------------------ */

static ot_rc make_fan(make *m, const ot_digest *d, const char *path, ot_error *err)
{
    if (!m->fan[d->b[0]]) {
        OT_TRY(bk_make_parent(m->disk, path, err));
        m->fan[d->b[0]] = true;
    }
    return OT_OK;
}

/* True when the backup before has it. Its bytes are proven when they are restored. */
static bool link_before(make *m, const char *rel, uint64_t size, const char *to)
{
    char from[OT_PATH_MAX];
    ot_stat st;
    return m->before[0] != 0 && ot_path_join(from, m->before, rel, NULL) == OT_OK &&
           m->disk->ops->stat(m->disk, from, &st, NULL) == OT_OK && st.is_regular &&
           st.size == size && m->disk->ops->link(m->disk, from, to, NULL) == OT_OK;
}

static ot_rc put_blob(void *arg, const ot_digest *d, uint64_t size, ot_error *err)
{
    make *m = arg;
    char rel[OT_PATH_MAX], to[OT_PATH_MAX], from[OT_PATH_MAX];
    ot_backup_item want = {.size = size, .sha256 = *d};
    ot_digest got;
    ot_error why = {0};
    ot_backup_blob_path(d, rel);
    OT_TRY(ot_path_join(to, m->partial, rel, err));
    OT_TRY(make_fan(m, d, to, err));
    OT_TRY(rest(m, 0, err));
    if (link_before(m, rel, size, to)) {
        m->r.linked++;
        return ot_manifest_out_blob(&m->out, size, d, err);
    }
    OT_TRY(ot_blob_path(m->store, d, from, err));
    ot_rc rc = bk_copy(m->disk, from, m->disk, to, 0400, &want, rest, m, &got, &size, &why);
    if (rc == OT_DATA_LOSS || rc == OT_NOT_FOUND) {
        /* Damaged: what refers to it, if anything does, is told below. */
        (void)m->disk->ops->unlink(m->disk, to, NULL);
        return OT_OK;
    }
    if (rc != OT_OK) {
        return ot_fail(err, rc, "%s", why.msg);
    }
    m->r.copied_bytes += size;
    return ot_manifest_out_blob(&m->out, size, d, err);
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(ot_digest));
}

/* What the snapshot refers to and the backup has not. */
static ot_rc look_for_missing(make *m, ot_error *err)
{
    if (m->n_refs > 0) {
        qsort(m->refs, m->n_refs, sizeof *m->refs, by_bytes);
    }
    for (size_t i = 0; i < m->n_refs; i++) {
        char rel[OT_PATH_MAX], path[OT_PATH_MAX];
        if (i > 0 && ot_digest_equal(&m->refs[i], &m->refs[i - 1])) {
            continue;
        }
        ot_backup_blob_path(&m->refs[i], rel);
        OT_TRY(ot_path_join(path, m->partial, rel, err));
        if (!ot_disk_exists(m->disk, path)) {
            m->r.head.first_missing =
                m->r.head.missing++ == 0 ? m->refs[i] : m->r.head.first_missing;
            OT_TRY(ot_manifest_out_missing(&m->out, &m->refs[i], err));
        }
    }
    return OT_OK;
}

/* --- runs ------------------------------------------------------------------------------------- */

/* No shim.json: the processes that it names are not the restored store's to end. */
static ot_rc put_run(make *m, const char *runs, const char *id, ot_error *err)
{
    static const char *const kept[] = {"spec.json", "exit.json", "log", "shim.log"};
    for (size_t i = 0; i < OT_COUNT(kept); i++) {
        char rel[OT_PATH_MAX], dir[OT_PATH_MAX], from[OT_PATH_MAX], to[OT_PATH_MAX];
        ot_digest d;
        uint64_t size;
        ot_error why = {0};
        snprintf(rel, sizeof rel, "runs/%.24s/%s", id, kept[i]);
        OT_TRY(ot_path_join(dir, runs, id, err));
        OT_TRY(ot_path_join(from, dir, kept[i], err));
        OT_TRY(ot_path_join(to, m->partial, rel, err));
        if (!ot_disk_exists(m->disk, from)) {
            continue;
        }
        OT_TRY(bk_make_parent(m->disk, to, err));
        ot_rc rc = bk_copy(m->disk, from, m->disk, to, 0600, NULL, rest, m, &d, &size, &why);
        if (rc == OT_NOT_FOUND) {
            continue; /* a run that is laid out anew, just now */
        }
        if (rc != OT_OK) {
            return ot_fail(err, rc, "%s", why.msg);
        }
        m->r.copied_bytes += size;
        OT_TRY(ot_manifest_out_file(&m->out, size, &d, rel, err));
    }
    return OT_OK;
}

static ot_rc put_runs(make *m, ot_error *err)
{
    OT_AUTO(bk_names_done) bk_names names = {0};
    char runs[OT_PATH_MAX];
    if (m->opt->data_dir == NULL) {
        return OT_OK;
    }
    OT_TRY(ot_path_join(runs, m->opt->data_dir, "runs", err));
    if (!ot_disk_exists(m->disk, runs)) {
        return OT_OK;
    }
    OT_TRY(bk_list(m->disk, runs, &names, err));
    for (size_t i = 0; i < names.n; i++) {
        int64_t id;
        if (ot_parse_i64(names.v[i], &id, NULL) == OT_OK && id > 0) {
            OT_TRY(put_run(m, runs, names.v[i], err));
        }
    }
    return OT_OK;
}

/* --- the folder ------------------------------------------------------------------------------- */

/* Half a backup and half a removal look the same and go the same way. */
static ot_rc remove_backup(ot_disk *disk, const char *folder, const char *name, ot_error *err)
{
    char path[OT_PATH_MAX], partial[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, folder, name, err));
    if (ot_has_suffix(name, OT_BACKUP_PARTIAL)) {
        return ot_disk_remove_tree(disk, path, err);
    }
    snprintf(partial, sizeof partial, "%s" OT_BACKUP_PARTIAL, path);
    OT_TRY(disk->ops->rename(disk, path, partial, err));
    return ot_disk_remove_tree(disk, partial, err);
}

static ot_rc remove_partial(ot_disk *disk, const char *folder, ot_error *err)
{
    OT_AUTO(bk_names_done) bk_names names = {0};
    OT_TRY(bk_list(disk, folder, &names, err));
    for (size_t i = 0; i < names.n; i++) {
        if (bk_is_named(names.v[i]) && ot_has_suffix(names.v[i], OT_BACKUP_PARTIAL)) {
            OT_TRY(remove_backup(disk, folder, names.v[i], err));
        }
    }
    return OT_OK;
}

static ot_rc remove_old(make *m, const char *folder, ot_error *err)
{
    OT_AUTO(bk_names_done) bk_names names = {0};
    unsigned seen = 0;
    OT_TRY(bk_list(m->disk, folder, &names, err));
    for (size_t i = names.n; m->opt->keep > 0 && i-- > 0;) {
        if (bk_is_finished(m->disk, folder, names.v[i]) && ++seen > m->opt->keep) {
            OT_TRY(remove_backup(m->disk, folder, names.v[i], err));
            m->r.removed++;
        }
    }
    return OT_OK;
}

/* "20261123T101500.123456Z": names sort as they were made. */
static ot_rc name_it(make *m, const char *folder, ot_error *err)
{
    char text[32], name[32];
    size_t n = 0;
    m->r.head.made_us = ot_clock_wall_us();
    for (const char *p = ot_format_time(m->r.head.made_us, text); *p != 0; p++) {
        if (*p != '-' && *p != ':') {
            name[n++] = *p;
        }
    }
    name[n] = 0;
    OT_TRY(ot_path_join(m->r.path, folder, name, err));
    if (ot_disk_exists(m->disk, m->r.path)) {
        return ot_fail(err, OT_EXISTS, "%s: there is one already", m->r.path);
    }
    n = strlen(m->r.path);
    if (n + sizeof OT_BACKUP_PARTIAL > sizeof m->partial) {
        return ot_fail(err, OT_RANGE, "%s: too long", m->r.path);
    }
    snprintf(m->partial, sizeof m->partial, "%s" OT_BACKUP_PARTIAL, m->r.path);
    return OT_OK;
}

static ot_rc put_all(make *m, ot_error *err)
{
    OT_TRY(put_database(m, err));
    OT_TRY(ot_blob_each(m->store, put_blob, m, err));
    OT_TRY(look_for_missing(m, err));
    return put_runs(m, err);
}

static ot_rc publish(make *m, const char *folder, ot_error *err)
{
    OT_TRY(bk_sync_tree(m->disk, m->partial, err));
    OT_TRY(ot_manifest_out_publish(&m->out, err));
    m->r.head.files = m->out.files;
    m->r.head.bytes = m->out.bytes;
    OT_TRY(m->disk->ops->rename(m->disk, m->partial, m->r.path, err));
    return m->disk->ops->sync_dir(m->disk, folder, err);
}

static ot_rc fill(make *m, const char *folder, ot_error *err)
{
    OT_TRY(remove_partial(m->disk, folder, err));
    OT_TRY(bk_newest(m->disk, folder, m->before, err));
    OT_TRY(name_it(m, folder, err));
    OT_TRY(ot_disk_mkdirs(m->disk, m->partial, 0700, err));
    OT_TRY(ot_blob_hold(m->store, err));
    ot_rc rc = put_all(m, err);
    ot_blob_release(m->store);
    if (rc == OT_OK) {
        rc = publish(m, folder, err);
    }
    ot_manifest_out_done(&m->out);
    ot_free(m->refs);
    if (rc != OT_OK) {
        ot_rc ignored = ot_disk_remove_tree(m->disk, m->partial, NULL);
        (void)ignored;
        return rc;
    }
    return remove_old(m, folder, err);
}

/* Only the system's files can be shared with another process. */
static ot_rc lock_folder(ot_disk *disk, const char *folder, int *fd_out, ot_error *err)
{
    char path[OT_PATH_MAX];
    if (disk != ot_disk_posix()) {
        return OT_OK;
    }
    OT_TRY(ot_path_join(path, folder, "lock", err));
    ot_rc rc = ot_disk_lock_file(path, fd_out, err);
    return rc == OT_UNAVAILABLE
               ? ot_fail(err, rc, "another backup is being made in %s; try again after it", folder)
               : rc;
}

ot_rc ot_backup_make(ot_store *store, const char *dir, const ot_backup_options *opt,
                     ot_backup_report *report_out, ot_error *err)
{
    OT_AUTO(ot_free_ptr) make *m = ot_calloc(1, sizeof *m);
    OT_AUTO(ot_fd_close) int lock = -1;
    if (m == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a backup");
    }
    uint64_t start = ot_clock_mono_ns();
    m->store = store;
    m->disk = ot_store_disk(store);
    m->opt = opt;
    m->out.line = (ot_str)OT_STR_INIT;
    snprintf(m->r.head.program, sizeof m->r.head.program, "%s",
             opt->program != NULL ? opt->program : "unknown");
    OT_TRY(ot_disk_mkdirs_durable(m->disk, dir, 0700, err));
    OT_TRY(lock_folder(m->disk, dir, &lock, err));
    ot_rc rc = fill(m, dir, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "backup into %s", dir);
    }
    m->r.took_us = (int64_t)((ot_clock_mono_ns() - start) / 1000);
    *report_out = m->r;
    return OT_OK;
}
