#include "model/detect.h"

#include "base/str.h"
#include "model/bundle_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NULL_JSON_MAX (1u << 20)
#define NAMES_SHOWN 6

/* The top level of a protobuf message: which of the fields that matter are there, with the wire
 * type that they should have. Payloads are stepped over, not read. */
typedef struct wire {
    uint64_t varint_1; /* field 1 as a varint; 0 when absent */
    bool has_len_2, has_len_7;
    bool whole; /* the fields tile the file exactly */
} wire;

static bool read_varint(const uint8_t *p, size_t n, size_t *at, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && *at < n; shift += 7) {
        uint8_t b = p[(*at)++];
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* Takes one field at file offset *pos; false when what is there is no field of `size` bytes. */
static ot_rc scan_field(ot_file *f, uint64_t size, uint64_t *pos, wire *w, bool *ok_out,
                        ot_error *err)
{
    uint8_t head[24];
    size_t n, at = 0;
    uint64_t tag, value = 0;
    *ok_out = false;
    OT_TRY(f->ops->pread(f, head, sizeof head, *pos, &n, err));
    if (!read_varint(head, n, &at, &tag) || tag >> 3 == 0) {
        return OT_OK;
    }
    uint64_t skip;
    switch (tag & 7) {
    case 0:
        if (!read_varint(head, n, &at, &value)) {
            return OT_OK;
        }
        skip = 0;
        break;
    case 1:
        skip = 8;
        break;
    case 2:
        if (!read_varint(head, n, &at, &skip)) {
            return OT_OK;
        }
        break;
    case 5:
        skip = 4;
        break;
    default:
        return OT_OK;
    }
    if (skip > size - *pos - at) {
        return OT_OK;
    }
    *pos += at + skip;
    if (tag == (1 << 3 | 0)) {
        w->varint_1 = value;
    }
    w->has_len_2 |= tag == (2 << 3 | 2);
    w->has_len_7 |= tag == (7 << 3 | 2);
    *ok_out = true;
    return OT_OK;
}

static ot_rc scan_wire(ot_disk *disk, const char *path, wire *w, ot_error *err)
{
    enum { FIELDS_MAX = 100000 };
    ot_file *f;
    ot_stat st;
    *w = (wire){0};
    OT_TRY(ot_regular_open(disk, path, &f, &st, err));
    uint64_t pos = 0;
    ot_rc rc = OT_OK;
    bool ok = st.size > 0;
    for (int i = 0; rc == OT_OK && ok && pos < st.size && i < FIELDS_MAX; i++) {
        rc = scan_field(f, st.size, &pos, w, &ok, err);
    }
    ot_file_close(f);
    w->whole = ok && pos == st.size;
    return rc;
}

/* ModelProto: 1 ir_version (int64), 7 graph. */
static ot_rc is_onnx(ot_disk *disk, const char *path, bool *yes_out, ot_error *err)
{
    wire w;
    OT_TRY(scan_wire(disk, path, &w, err));
    *yes_out = w.whole && w.varint_1 >= 1 && w.varint_1 < 1000 && w.has_len_7;
    return OT_OK;
}

/* SavedModel: 1 saved_model_schema_version (int64), 2 meta_graphs. */
static ot_rc is_saved_model(ot_disk *disk, const char *path, bool *yes_out, ot_error *err)
{
    wire w;
    OT_TRY(scan_wire(disk, path, &w, err));
    *yes_out = w.whole && w.varint_1 >= 1 && w.varint_1 < 1000 && w.has_len_2;
    return OT_OK;
}

/* Formats that are one JSON object in a file of this name. */
static const struct {
    const char *file, *format;
} objects[] = {{"null.json", "null"}, {"external.json", "external"}};

static ot_rc is_object(ot_disk *disk, const char *path, bool *yes_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(disk, path, NULL_JSON_MAX, &text, err));
    size_t i = strspn(text.data, " \t\r\n");
    *yes_out = text.data[i] == '{';
    return OT_OK;
}

static ot_rc found(ot_detected *out, const char *format, const char *path, ot_error *err)
{
    if (strlen(path) >= sizeof out->path) {
        return ot_fail(err, OT_RANGE, "%.80s...: path longer than %d bytes", path, OT_PATH_MAX);
    }
    out->format = format;
    snprintf(out->path, sizeof out->path, "%s", path);
    return OT_OK;
}

typedef struct listing {
    char onnx[OT_PATH_MAX]; /* the last .onnx file's name */
    size_t n_onnx, n_entries;
    ot_str shown;
} listing;

static ot_rc list_entry(void *arg, const char *name, ot_error *err)
{
    (void)err;
    listing *l = arg;
    if (ot_has_suffix(name, ".onnx")) {
        snprintf(l->onnx, sizeof l->onnx, "%s", name);
        l->n_onnx++;
    }
    if (l->n_entries++ < NAMES_SHOWN) {
        ot_str_addf(&l->shown, "%s%s", l->n_entries > 1 ? ", " : "", name);
    }
    return OT_OK;
}

static ot_rc detect_onnx_in(ot_disk *disk, const char *path, ot_detected *out, ot_error *err)
{
    listing l = {.shown = OT_STR_INIT};
    ot_rc rc = disk->ops->list(disk, path, list_entry, &l, err);
    if (rc == OT_OK && l.n_onnx == 1) {
        char file[OT_PATH_MAX];
        rc = ot_path_join(file, path, l.onnx, err);
        bool yes = false;
        if (rc == OT_OK) {
            rc = is_onnx(disk, file, &yes, err);
        }
        if (rc == OT_OK) {
            rc = yes ? found(out, "onnx", file, err)
                     : ot_fail(err, OT_INVALID, "%s: not an ONNX model, or cut short", file);
        }
    } else if (rc == OT_OK && l.n_onnx > 1) {
        rc = ot_fail(err, OT_INVALID, "%s: %zu .onnx files (%s); name the one that is the model",
                     path, l.n_onnx, l.shown.data);
    } else if (rc == OT_OK) {
        rc = ot_fail(err, OT_INVALID,
                     "%s: no model; it holds %s%s. Accepted: a .onnx file, a SavedModel directory, "
                     "a bundle",
                     path, l.n_entries == 0 ? "nothing" : l.shown.data,
                     l.n_entries > NAMES_SHOWN ? ", ..." : "");
    }
    ot_str_done(&l.shown);
    return rc;
}

static ot_rc detect_dir(ot_disk *disk, const char *path, ot_detected *out, ot_error *err)
{
    char file[OT_PATH_MAX];
    OT_TRY(ot_path_join(file, path, OT_MANIFEST_FILE, err));
    if (ot_disk_exists(disk, file)) {
        return found(out, OT_FORMAT_BUNDLE, path, err);
    }
    bool yes = false;
    OT_TRY(ot_path_join(file, path, "saved_model.pb", err));
    if (ot_disk_exists(disk, file)) {
        OT_TRY(is_saved_model(disk, file, &yes, err));
        return yes ? found(out, "saved_model", path, err)
                   : ot_fail(err, OT_INVALID, "%s: not a SavedModel, or cut short", file);
    }
    OT_TRY(ot_path_join(file, path, "model.py", err));
    if (ot_disk_exists(disk, file)) {
        return found(out, "python", path, err);
    }
    OT_TRY(ot_path_join(file, path, "chain.json", err));
    if (ot_disk_exists(disk, file)) {
        OT_TRY(is_object(disk, file, &yes, err));
        return yes ? found(out, "chain", path, err)
                   : ot_fail(err, OT_INVALID, "%s: a JSON object is expected", file);
    }
    for (size_t i = 0; i < OT_COUNT(objects); i++) {
        OT_TRY(ot_path_join(file, path, objects[i].file, err));
        if (ot_disk_exists(disk, file)) {
            OT_TRY(is_object(disk, file, &yes, err));
            return yes ? found(out, objects[i].format, file, err)
                       : ot_fail(err, OT_INVALID, "%s: a JSON object is expected", file);
        }
    }
    return detect_onnx_in(disk, path, out, err);
}

ot_rc ot_model_detect(ot_disk *disk, const char *path, ot_detected *out, ot_error *err)
{
    ot_stat st;
    ot_rc rc = disk->ops->stat(disk, path, &st, err);
    if (rc == OT_NOT_FOUND) {
        return ot_fail(err, OT_NOT_FOUND, "no model at %s", path);
    }
    OT_TRY(rc);
    if (st.is_dir) {
        return detect_dir(disk, path, out, err);
    }
    if (!st.is_regular) {
        return ot_fail(err, OT_INVALID, "%s: %s; a file or a directory is expected", path,
                       st.is_link ? "a symbolic link" : "a special file");
    }
    bool yes = false;
    const char *slash = strrchr(path, '/');
    for (size_t i = 0; i < OT_COUNT(objects); i++) {
        if (strcmp(slash == NULL ? path : slash + 1, objects[i].file) == 0) {
            OT_TRY(is_object(disk, path, &yes, err));
            if (yes) {
                return found(out, objects[i].format, path, err);
            }
        }
    }
    OT_TRY(is_onnx(disk, path, &yes, err));
    return yes ? found(out, "onnx", path, err)
               : ot_fail(err, OT_INVALID,
                         "%s: not an ONNX model, or cut short (%" PRIu64 " bytes). Accepted: a "
                         ".onnx file, a SavedModel directory, a bundle",
                         path, st.size);
}
