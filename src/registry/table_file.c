/* Tables from and to files: .npz archives, directories of .npy, single .npy files. */
#include "registry/table.h"

#include "base/str.h"
#include "codec/npy.h"
#include "registry/npz.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct listing {
    ot_table *t;
    ot_disk *disk;
    const char *dir;
    size_t n_files;
} listing;

/* The name without ".npy"; false when it does not end so or is too long. */
static bool stem_of(const char *name, char out[256])
{
    size_t n = strlen(name);
    if (!ot_has_suffix(name, ".npy") || n == 4 || n - 4 >= 256) {
        return false;
    }
    memcpy(out, name, n - 4);
    out[n - 4] = 0;
    return true;
}

static ot_rc add_entry(void *arg, const char *name, ot_error *err)
{
    listing *l = arg;
    char stem[256], path[OT_PATH_MAX];
    if (++l->n_files > OT_TABLE_FILES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "more than %d files", OT_TABLE_FILES_MAX);
    }
    if (name[0] == '.' || !stem_of(name, stem)) {
        return OT_OK; /* notes and licences may lie beside the columns */
    }
    OT_TRY(ot_path_join(path, l->dir, name, err));
    return ot_table_add_npy_file(l->t, l->disk, stem, path, err);
}

static ot_rc read_npz(ot_disk *disk, const char *path, ot_table *t, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(disk, path, OT_TABLE_BYTES_MAX, &bytes, err));
    return ot_npz_read(bytes.data, bytes.len, t, err);
}

static ot_rc read_path(ot_disk *disk, const char *path, ot_table *t, ot_error *err)
{
    ot_stat st;
    OT_TRY(disk->ops->stat(disk, path, &st, err));
    if (st.is_dir) {
        listing l = {.t = t, .disk = disk, .dir = path};
        return disk->ops->list(disk, path, add_entry, &l, err);
    }
    if (!st.is_regular) {
        return ot_fail(err, OT_INVALID, "%s; a file or a directory is expected",
                       st.is_link ? "a symbolic link" : "a special file");
    }
    if (ot_has_suffix(path, ".npz")) {
        return read_npz(disk, path, t, err);
    }
    const char *slash = strrchr(path, '/');
    char stem[256];
    if (stem_of(slash == NULL ? path : slash + 1, stem)) {
        return ot_table_add_npy_file(t, disk, stem, path, err);
    }
    return ot_fail(err, OT_INVALID,
                   "a .npz file, a .npy file or a directory of .npy files is "
                   "accepted");
}

ot_rc ot_table_read(ot_disk *disk, const char *path, const char *label, ot_table *t_out,
                    ot_error *err)
{
    ot_table t;
    ot_table_init(&t);
    ot_rc rc = read_path(disk, path, &t, err);
    if (rc == OT_OK && t.n_columns == 0) {
        rc = ot_fail(err, OT_INVALID, "it holds no .npy column");
    }
    if (rc == OT_OK) {
        rc = ot_table_set_label(&t, label, err);
    }
    if (rc != OT_OK) {
        ot_table_done(&t);
        return ot_error_prefix(err, rc, "%s", path);
    }
    ot_table_done(t_out);
    *t_out = t;
    return OT_OK;
}

static ot_rc write_column(ot_disk *disk, const ot_tensor *c, const char *dir, ot_error *err)
{
    char path[OT_PATH_MAX], name[160];
    snprintf(name, sizeof name, "%s.npy", c->name);
    OT_TRY(ot_path_join(path, dir, name, err));
    OT_AUTO(ot_str_done) ot_str head = OT_STR_INIT;
    OT_TRY(ot_npy_header(c, &head, err));
    if (ot_disk_exists(disk, path)) {
        OT_TRY(disk->ops->unlink(disk, path, err));
    }
    ot_file *f;
    OT_TRY(
        disk->ops->open(disk, path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_EXCL, 0644, &f, err));
    ot_rc rc = f->ops->append(f, head.data, head.len, err);
    if (rc == OT_OK && c->size_bytes > 0) {
        rc = f->ops->append(f, c->data, c->size_bytes, err);
    }
    ot_file_close(f);
    return rc;
}

ot_rc ot_table_write_dir(const ot_table *t, ot_disk *disk, const char *dir, ot_error *err)
{
    OT_TRY(ot_disk_mkdirs(disk, dir, 0755, err));
    for (size_t i = 0; i < t->n_columns; i++) {
        OT_TRY(write_column(disk, &t->columns[i], dir, err));
    }
    return OT_OK;
}
