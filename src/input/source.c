#include "input/source.h"

#include "base/hash.h"
#include "base/mem.h"
#include "codec/npy.h"
#include "input/source_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- files */

static ot_rc map_file(ot_input_file *file, const char *path, ot_error *err)
{
    OT_TRY(file->f->ops->size(file->f, &file->size, err));
    if (file->size == 0) {
        return OT_OK; /* of a shard that got no records */
    }
    void *p = mmap(NULL, file->size, PROT_READ, MAP_SHARED, file->f->ops->fd(file->f), 0);
    if (p == MAP_FAILED) {
        return ot_fail_errno(err, errno, "%s: map %" PRIu64 " bytes", path, file->size);
    }
    file->map = p;
    return OT_OK;
}

ot_rc ot_source_add_file(ot_source *s, const char *path, size_t *file_out, ot_error *err)
{
    if (!ot_grow(&s->files, &s->cap_files, s->n_files, sizeof *s->files, OT_INPUT_FILES_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no room for it; %d files are taken", path,
                       OT_INPUT_FILES_MAX);
    }
    ot_input_file file = {.path = ot_strdup(path)};
    if (file.path == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to open it", path);
    }
    ot_rc rc = s->disk->ops->open(s->disk, path, OT_OPEN_READ, 0, &file.f, err);
    if (rc == OT_OK) {
        rc = map_file(&file, path, err);
    }
    if (rc != OT_OK) {
        ot_file_close(file.f);
        ot_free(file.path);
        return rc;
    }
    *file_out = s->n_files;
    s->files[s->n_files++] = file;
    return OT_OK;
}

ot_rc ot_source_add_memory(ot_source *s, const char *path, uint64_t size, uint8_t **p_out,
                           size_t *file_out, ot_error *err)
{
    if (size > OT_INPUT_UNPACKED_MAX - s->unpacked) {
        return ot_fail(
            err, OT_EXHAUSTED,
            "%s: its deflated members take over %llu GiB; write it with numpy.savez, which "
            "is mapped where it lies",
            path, OT_INPUT_UNPACKED_MAX >> 30);
    }
    if (!ot_grow(&s->files, &s->cap_files, s->n_files, sizeof *s->files, OT_INPUT_FILES_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no room for it; %d files are taken", path,
                       OT_INPUT_FILES_MAX);
    }
    ot_input_file file = {.path = ot_strdup(path), .size = size};
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || file.path == NULL) {
        if (p != MAP_FAILED) {
            munmap(p, size);
        }
        ot_free(file.path);
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory for %" PRIu64 " bytes", path, size);
    }
    file.map = p;
    s->unpacked += size;
    *p_out = p;
    *file_out = s->n_files;
    s->files[s->n_files++] = file;
    return OT_OK;
}

static void unmap(ot_input_file *f)
{
    union {
        const uint8_t *c;
        void *p;
    } at = {.c = f->map};
    if (at.p != NULL) {
        munmap(at.p, f->size);
        f->map = NULL;
    }
}

void ot_source_hold(ot_source *s, size_t file, uint8_t *p, uint64_t size)
{
    ot_input_file *f = &s->files[file];
    unmap(f);
    ot_file_close(f->f);
    f->f = NULL;
    f->map = p;
    f->size = size;
    s->unpacked += size;
}

ot_rc ot_source_check_digest(const ot_source *s, size_t file, const char *hex, ot_error *err)
{
    const ot_input_file *f = &s->files[file];
    char got[OT_DIGEST_HEX];
    ot_digest d = ot_sha256_of(f->map, f->size);
    if (strcmp(ot_digest_hex(&d, got), hex) != 0) {
        return ot_fail(err, OT_DATA_LOSS,
                       "%s: its SHA-256 is %s; %.64s was written down. It was changed or damaged: "
                       "fetch it again",
                       f->path, got, hex);
    }
    return OT_OK;
}

/* --- columns */

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= OT_INPUT_NAME_MAX;
}

ot_rc ot_source_column(ot_source *s, const char *name, size_t *column_out, ot_error *err)
{
    if (!name_ok(name)) {
        return ot_fail(err, OT_INVALID, "column '%.140s': a name of 1 to %d bytes is taken", name,
                       OT_INPUT_NAME_MAX);
    }
    for (size_t i = 0; i < s->n_columns; i++) {
        if (strcmp(s->columns[i].name, name) == 0) {
            *column_out = i;
            return OT_OK;
        }
    }
    if (!ot_grow(&s->columns, &s->cap_columns, s->n_columns, sizeof *s->columns,
                 OT_INPUT_COLUMNS_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "column '%s': no room for it; %d columns are taken", name,
                       OT_INPUT_COLUMNS_MAX);
    }
    ot_input_column *c = &s->columns[s->n_columns];
    *c = (ot_input_column){0};
    memcpy(c->name, name, strlen(name) + 1);
    *column_out = s->n_columns++;
    return OT_OK;
}

/* Type and shape of a row are what they were in the pieces before. */
static ot_rc agree(ot_input_column *c, const ot_input_column *like, const char *path, ot_error *err)
{
    char have[OT_SHAPE_TEXT], want[OT_SHAPE_TEXT];
    if (c->descr[0] == '\0') {
        memcpy(c->descr, like->descr, sizeof c->descr);
        memcpy(c->dims, like->dims, sizeof c->dims);
        c->rank = like->rank;
        c->element_bytes = like->element_bytes;
        c->row_bytes = like->row_bytes;
        return OT_OK;
    }
    if (strcmp(c->descr, like->descr) != 0 || c->rank != like->rank ||
        memcmp(c->dims, like->dims, (size_t)c->rank * sizeof *c->dims) != 0) {
        return ot_fail(err, OT_INVALID,
                       "%s: column '%s' has rows %s %s; the files before have %s %s", path, c->name,
                       like->descr, ot_shape_format(like->dims, like->rank, have), c->descr,
                       ot_shape_format(c->dims, c->rank, want));
    }
    return OT_OK;
}

ot_rc ot_source_row_bytes(ot_input_column *c, ot_error *err)
{
    int64_t count;
    char shape[OT_SHAPE_TEXT];
    if (!ot_shape_count(c->dims, c->rank, &count) || count == 0 ||
        __builtin_mul_overflow((size_t)count, c->element_bytes, &c->row_bytes) ||
        c->row_bytes > OT_INPUT_ROW_BYTES_MAX) {
        return ot_fail(err, OT_INVALID, "column '%s': a row of %s %s; 1 byte to 1 GiB is taken",
                       c->name, c->descr, ot_shape_format(c->dims, c->rank, shape));
    }
    return OT_OK;
}

static ot_rc add_piece(ot_source *s, const ot_input_column *like, ot_input_piece piece,
                       ot_error *err)
{
    size_t i;
    const char *path = s->files[piece.file].path;
    OT_TRY(ot_source_column(s, like->name, &i, err));
    ot_input_column *c = &s->columns[i];
    if (c->feature != OT_FEATURE_NONE) {
        return ot_fail(err, OT_INVALID, "%s: column '%s' is a feature of records already", path,
                       c->name);
    }
    OT_TRY(agree(c, like, path, err));
    if (piece.rows > (UINT64_C(1) << 60) - c->rows) {
        return ot_fail(err, OT_RANGE, "%s: column '%s' has more than 2^60 rows", path, c->name);
    }
    if (!ot_grow(&c->pieces, &c->cap_pieces, c->n_pieces, sizeof *c->pieces, OT_INPUT_FILES_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory for column '%s'", path, c->name);
    }
    piece.first = c->rows;
    if (piece.rows > 0) {
        c->pieces[c->n_pieces++] = piece;
    }
    c->rows += piece.rows;
    return OT_OK;
}

ot_rc ot_source_add_raw(ot_source *s, const ot_input_column *like, size_t file, uint64_t at,
                        uint64_t rows, ot_error *err)
{
    const ot_input_file *f = &s->files[file];
    uint64_t bytes;
    if (__builtin_mul_overflow(rows, (uint64_t)like->row_bytes, &bytes) || at > f->size ||
        bytes > f->size - at) {
        return ot_fail(err, OT_INVALID,
                       "%s: column '%s' needs %" PRIu64 " rows of %zu bytes from byte %" PRIu64
                       " on; the file has %" PRIu64 " bytes",
                       f->path, like->name, rows, like->row_bytes, at, f->size);
    }
    return add_piece(s, like, (ot_input_piece){.file = file, .at = at, .rows = rows}, err);
}

ot_rc ot_source_add_npy(ot_source *s, const char *name, size_t file, uint64_t at, uint64_t n,
                        ot_error *err)
{
    const ot_input_file *f = &s->files[file];
    ot_npy_head h;
    ot_rc rc = ot_npy_head_read(f->map + at, n, &h, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s: column '%.128s'", f->path, name);
    }
    if (h.rank < 1) {
        return ot_fail(err, OT_INVALID, "%s: column '%.128s' is a single number; axis 0 is the row",
                       f->path, name);
    }
    if (!name_ok(name)) {
        return ot_fail(err, OT_INVALID, "%s: column '%.140s': a name of 1 to %d bytes is taken",
                       f->path, name, OT_INPUT_NAME_MAX);
    }
    ot_input_column like = {.rank = h.rank - 1, .element_bytes = h.element_bytes};
    memcpy(like.name, name, strlen(name) + 1);
    memcpy(like.descr, h.descr, sizeof like.descr);
    like.descr[0] = like.descr[0] == '>' ? '<' : like.descr[0];
    memcpy(like.dims, h.dims + 1, (size_t)like.rank * sizeof *like.dims);
    rc = ot_source_row_bytes(&like, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s", f->path);
    }
    ot_input_piece piece = {.file = file,
                            .at = at + h.data_at,
                            .rows = (uint64_t)h.dims[0],
                            .swap_bytes = h.swap_bytes,
                            .fortran = h.fortran && h.rank > 1};
    return add_piece(s, &like, piece, err);
}

/* --- whole */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ot_input_column *)a)->name, ((const ot_input_column *)b)->name);
}

/* All columns have as many rows, after each shard, so that shards can't make up for each other. */
static ot_rc check_rows(const ot_source *s, const char *path, ot_error *err)
{
    for (size_t i = 1; i < s->n_columns; i++) {
        const ot_input_column *a = &s->columns[0], *b = &s->columns[i];
        if (a->rows != b->rows) {
            return ot_fail(err, OT_INVALID,
                           "%s%scolumn '%s' has %" PRIu64 " rows, column '%s' has %" PRIu64, path,
                           path[0] == '\0' ? "" : ": ", a->name, a->rows, b->name, b->rows);
        }
    }
    return OT_OK;
}

/* Swaps the asked columns to the front, in their order, and forgets the others. */
static ot_rc choose(ot_source *s, const ot_source_options *o, ot_error *err)
{
    for (size_t k = 0; k < o->n_columns; k++) {
        size_t i = k;
        while (i < s->n_columns && strcmp(s->columns[i].name, o->columns[k]) != 0) {
            i++;
        }
        if (i == s->n_columns) {
            const char *names[OT_INPUT_COLUMNS_MAX];
            for (size_t j = 0; j < s->n_columns; j++) {
                names[j] = s->columns[j].name;
            }
            const char *near = ot_suggest(o->columns[k], names, s->n_columns);
            return ot_fail(err, OT_NOT_FOUND, "no column '%.128s' (once); did you mean '%s'?",
                           o->columns[k], near != NULL ? near : s->columns[0].name);
        }
        ot_input_column chosen = s->columns[i];
        s->columns[i] = s->columns[k];
        s->columns[k] = chosen;
    }
    for (size_t i = o->n_columns; i < s->n_columns; i++) {
        ot_free(s->columns[i].pieces);
    }
    s->n_columns = o->n_columns;
    return OT_OK;
}

static ot_rc seal(ot_source *s, const ot_source_options *o, ot_error *err)
{
    OT_TRY(check_rows(s, "", err));
    if (s->n_columns == 0 || s->columns[0].rows == 0) {
        return ot_fail(err, OT_INVALID, "the dataset has no %s",
                       s->n_columns == 0 ? "columns" : "rows");
    }
    qsort(s->columns, s->n_columns, sizeof *s->columns, by_name);
    if (o->n_columns > 0) {
        OT_TRY(choose(s, o, err));
    }
    s->rows = s->columns[0].rows;
    s->mapped = !o->read;
    for (size_t i = 0; i < s->n_columns; i++) {
        const ot_input_column *c = &s->columns[i];
        s->bytes += c->row_bytes * c->rows;
        for (size_t k = 0; o->read && k < c->n_pieces; k++) {
            if (c->pieces[k].fortran && s->files[c->pieces[k].file].f != NULL) {
                return ot_fail(
                    err, OT_UNIMPLEMENTED,
                    "%s: column '%s' is in Fortran order, which is only read mapped; save it "
                    "with numpy.ascontiguousarray(a)",
                    s->files[c->pieces[k].file].path, c->name);
            }
        }
    }
    for (size_t i = 0; o->read && i < s->n_files; i++) {
        if (s->files[i].f != NULL) {
            unmap(&s->files[i]);
        }
    }
    return OT_OK;
}

static ot_rc open_all(ot_source *s, const ot_source_options *o, ot_error *err)
{
    if ((o->index != NULL) == (o->n_paths > 0)) {
        return ot_fail(err, OT_INVALID, "give paths or an index, one of them");
    }
    if (o->index != NULL) {
        OT_TRY(ot_source_add_index(s, o, o->index, strlen(o->index), NULL, err));
    }
    for (size_t i = 0; i < o->n_paths; i++) {
        OT_TRY(ot_source_add_path(s, o, o->paths[i], NULL, err));
        OT_TRY(check_rows(s, o->paths[i], err));
    }
    ot_rc rc = seal(s, o, err);
    return rc == OT_OK || o->n_paths == 0
               ? rc
               : ot_error_prefix(err, rc, "%s%s", o->paths[0], o->n_paths > 1 ? " and others" : "");
}

ot_rc ot_source_create(const ot_source_options *o, ot_source **out, ot_error *err)
{
    ot_source *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to open a dataset");
    }
    s->disk = o->disk;
    ot_rc rc = open_all(s, o, err);
    if (rc != OT_OK) {
        ot_source_destroy(s);
        return rc;
    }
    *out = s;
    return OT_OK;
}

void ot_source_destroy(ot_source *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->n_files; i++) {
        unmap(&s->files[i]);
        ot_file_close(s->files[i].f);
        ot_free(s->files[i].path);
    }
    for (size_t i = 0; i < s->n_columns; i++) {
        ot_free(s->columns[i].pieces);
    }
    for (size_t i = 0; i < s->n_records; i++) {
        ot_free(s->records[i].at);
    }
    ot_free(s->files);
    ot_free(s->columns);
    ot_free(s->records);
    ot_free(s);
}

void ot_source_advise(const ot_source *s, bool runs)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE), all = 0;
    for (size_t i = 0; i < s->n_files; i++) {
        all += s->files[i].size;
    }
    for (size_t i = 0; i < s->n_files; i++) {
        union {
            const uint8_t *c;
            void *p;
        } at = {.c = s->files[i].map};
        if (at.p != NULL && s->files[i].f != NULL) {
            /* What fits in memory is read whole by the first epoch anyway, so read ahead of it. */
            int advice = all <= memory / 2 ? MADV_WILLNEED : runs ? MADV_NORMAL : MADV_RANDOM;
            (void)madvise(at.p, s->files[i].size, advice);
        }
    }
}
