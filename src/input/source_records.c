/* TFRecord files: where each record begins. */
#include "base/mem.h"
#include "input/example.h"
#include "input/source_internal.h"
#include "input/tfrecord.h"

#include <inttypes.h>

static ot_rc index_file(const ot_input_file *f, ot_input_records *r, ot_error *err)
{
    size_t cap = 0;
    for (uint64_t at = 0; at < f->size;) {
        ot_tfrecord record;
        ot_rc rc = ot_tfrecord_read(f->map + at, f->size - at, false, &record, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "%s: record %" PRIu64 " at byte %" PRIu64, f->path,
                                   r->rows, at);
        }
        if (!ot_grow(&r->at, &cap, r->rows, sizeof *r->at, 0)) {
            return ot_fail(err, OT_EXHAUSTED, "%s: no memory for %" PRIu64 " records", f->path,
                           r->rows);
        }
        r->at[r->rows++] = at;
        at += record.n + OT_TFRECORD_FRAME;
    }
    return OT_OK;
}

/* The file's first record says what the columns are where nobody else did. */
static ot_rc columns_of(ot_source *s, const ot_input_file *f, ot_error *err)
{
    for (size_t i = 0; i < s->n_columns; i++) {
        if (s->columns[i].feature != OT_FEATURE_NONE) {
            return OT_OK;
        }
    }
    ot_tfrecord record;
    ot_rc rc = ot_tfrecord_read(f->map, f->size, true, &record, err);
    if (rc == OT_OK) {
        rc = ot_example_columns(s, record.data, record.n, err);
    }
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "%s: record 0", f->path);
}

static ot_rc add(ot_source *s, size_t file, ot_input_records *r, ot_error *err)
{
    const ot_input_file *f = &s->files[file];
    ot_error first;
    uint64_t size;
    /* A head that is right can't begin as a packed file does but by chance of the CRC. */
    if (f->size < OT_TFRECORD_HEAD || ot_tfrecord_size(f->map, f->size, &size, &first) != OT_OK) {
        OT_TRY(ot_source_unpack(s, file, err));
    }
    OT_TRY(index_file(f, r, err));
    OT_TRY(r->rows > 0 ? columns_of(s, f, err) : OT_OK);
    if (!ot_grow(&s->records, &s->cap_records, s->n_records, sizeof *s->records,
                 OT_INPUT_FILES_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory for its records", f->path);
    }
    for (size_t i = 0; i < s->n_columns; i++) {
        ot_input_column *c = &s->columns[i];
        if (c->feature != OT_FEATURE_NONE) {
            r->first = c->rows;
            c->rows += r->rows;
        }
    }
    s->records[s->n_records++] = *r;
    return OT_OK;
}

ot_rc ot_source_add_records(ot_source *s, const char *path, const char *hex, ot_error *err)
{
    size_t file;
    OT_TRY(ot_source_add_file(s, path, &file, err));
    if (hex != NULL) { /* of the file as it lies, which may be packed */
        OT_TRY(ot_source_check_digest(s, file, hex, err));
    }
    ot_input_records r = {.file = file};
    ot_rc rc = add(s, file, &r, err);
    if (rc != OT_OK) {
        ot_free(r.at);
    }
    return rc;
}
