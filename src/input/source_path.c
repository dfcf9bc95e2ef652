/* Paths by their kinds: folders of .npy, .npz, .npy, TFRecord, JSON. */
#include "base/mem.h"
#include "codec/zip.h"
#include "input/source_internal.h"

#include <stdlib.h>
#include <string.h>

#define INDEX_MAX (64u << 20)
#define FOLDER_FILES_MAX 1024

static ot_rc add_member(ot_source *s, const ot_source_options *o, const char *path, size_t file,
                        const ot_zip_member *m, ot_error *err)
{
    char stem[OT_ZIP_NAME_MAX + 1];
    uint64_t at = (uint64_t)(m->data - s->files[file].map);
    if (!ot_zip_npy_name(m, stem)) {
        return ot_fail(err, OT_INVALID, "npz: member '%.140s'; NAME.npy is expected", m->name);
    }
    if (m->method != 0) {
        uint8_t *to;
        OT_TRY(ot_source_add_memory(s, path, m->size, &to, &file, err));
        OT_TRY(ot_zip_unpack(m, to, err));
        at = 0;
    } else if (o->verify) {
        union {
            const uint8_t *c;
            void *p;
        } here = {.c = m->data}; /* a stored member is only checked where it lies */
        OT_TRY(ot_zip_unpack(m, here.p, err));
    }
    return ot_source_add_npy(s, stem, file, at, m->size, err);
}

static ot_rc add_npz(ot_source *s, const ot_source_options *o, const char *path, ot_error *err)
{
    size_t file;
    ot_zip z;
    OT_TRY(ot_source_add_file(s, path, &file, err));
    ot_rc rc = ot_zip_open(s->files[file].map, s->files[file].size, &z, err);
    for (bool more = true; rc == OT_OK && more;) {
        ot_zip_member m;
        rc = ot_zip_next(&z, &m, &more, err);
        if (rc == OT_OK && more) {
            rc = add_member(s, o, path, file, &m, err);
        }
    }
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "%s", path);
}

static ot_rc add_npy(ot_source *s, const char *path, const char *name, ot_error *err)
{
    const char *slash = strrchr(path, '/'), *base = slash == NULL ? path : slash + 1;
    char stem[OT_INPUT_NAME_MAX + 1];
    size_t file, n = strlen(base) - 4;
    if (name == NULL) {
        if (n < 1 || n > OT_INPUT_NAME_MAX) {
            return ot_fail(err, OT_INVALID, "%s: a column's name has 1 to %d bytes", path,
                           OT_INPUT_NAME_MAX);
        }
        memcpy(stem, base, n);
        stem[n] = '\0';
        name = stem;
    }
    OT_TRY(ot_source_add_file(s, path, &file, err));
    return ot_source_add_npy(s, name, file, 0, s->files[file].size, err);
}

typedef struct folder {
    char *names[FOLDER_FILES_MAX];
    size_t n;
} folder;

static ot_rc list_npy(void *arg, const char *name, ot_error *err)
{
    folder *f = arg;
    if (name[0] == '.' || !ot_has_suffix(name, ".npy")) {
        return OT_OK; /* notes and licences may lie beside the columns */
    }
    if (f->n == FOLDER_FILES_MAX || (f->names[f->n] = ot_strdup(name)) == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "more than %d columns, or no memory", FOLDER_FILES_MAX);
    }
    f->n++;
    return OT_OK;
}

static ot_rc add_folder(ot_source *s, const char *path, ot_error *err)
{
    OT_AUTO(ot_free_ptr) folder *f = ot_calloc(1, sizeof *f);
    if (f == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to read it", path);
    }
    ot_rc rc = s->disk->ops->list(s->disk, path, list_npy, f, err);
    if (rc == OT_OK && f->n == 0) {
        rc = ot_fail(err, OT_INVALID, "%s: a folder without .npy files", path);
    }
    for (size_t i = 0; i < f->n; i++) {
        char file[OT_PATH_MAX];
        rc = rc == OT_OK ? ot_path_join(file, path, f->names[i], err) : rc;
        rc = rc == OT_OK ? add_npy(s, file, NULL, err) : rc;
        ot_free(f->names[i]);
    }
    return rc;
}

static bool is_folder(ot_disk *disk, const char *path)
{
    /* A link to a folder is one too, which stat (of the link) does not say. */
    char dot[OT_PATH_MAX];
    ot_stat st;
    return ot_path_join(dot, path, ".", NULL) == OT_OK &&
           disk->ops->stat(disk, dot, &st, NULL) == OT_OK && st.is_dir;
}

ot_rc ot_source_add_path(ot_source *s, const ot_source_options *o, const char *path,
                         const char *name, ot_error *err)
{
    if (strncmp(path, "sha256:", 7) == 0) {
        return ot_source_add_digest(s, o, path + 7, err);
    }
    if (ot_has_suffix(path, ".npz")) {
        return add_npz(s, o, path, err);
    }
    if (ot_has_suffix(path, ".npy")) {
        return add_npy(s, path, name, err);
    }
    if (ot_has_suffix(path, ".tfrecord") || ot_has_suffix(path, ".tfrecords") ||
        ot_has_suffix(path, ".tfrecord.gz") || ot_has_suffix(path, ".tfrecords.gz")) {
        return ot_source_add_records(s, path, NULL, err);
    }
    if (is_folder(s->disk, path)) {
        return add_folder(s, path, err);
    }
    if (ot_has_suffix(path, ".json")) {
        OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
        OT_TRY(ot_disk_read_all(s->disk, path, INDEX_MAX, &text, err));
        return ot_source_add_index(s, o, text.data, text.len, path, err);
    }
    if (!ot_disk_exists(s->disk, path)) {
        return ot_fail(err, OT_NOT_FOUND, "%s: no such file or folder", path);
    }
    return ot_fail(
        err, OT_INVALID,
        "%s: a folder of .npy, .npz, .npy, .tfrecord or .json is read; other names need an "
        "index that says what they hold (docs/data.md)",
        path);
}
