#include "input/gather.h"

#include "base/mem.h"
#include "input/example.h"
#include "input/tfrecord.h"

#include <inttypes.h>
#include <string.h>

ot_rc ot_gather_init(ot_gather *g, const ot_source *s, ot_error *err)
{
    *g = (ot_gather){.source = s, .checked = ot_calloc(s->n_files, sizeof *g->checked)};
    return g->checked != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory to read a dataset");
}

void ot_gather_done(ot_gather *g)
{
    ot_free(g->checked);
    ot_free(g->record);
    *g = (ot_gather){0};
}

/* Once a batch: the file is as long as it was. A page beyond its end would be a SIGBUS. */
static ot_rc check_size(ot_gather *g, size_t file, uint64_t row, ot_error *err)
{
    const ot_input_file *f = &g->source->files[file];
    if (f->f == NULL || g->checked[file] == g->turn) {
        return OT_OK;
    }
    uint64_t size;
    OT_TRY(f->f->ops->size(f->f, &size, err));
    if (size < f->size) {
        return ot_fail(err, OT_DATA_LOSS,
                       "%s: row %" PRIu64 ": the file had %" PRIu64
                       " bytes when it was opened and has "
                       "%" PRIu64 " now: somebody cut it short. Put it back and open it again",
                       f->path, row, f->size, size);
    }
    g->checked[file] = g->turn;
    return OT_OK;
}

static ot_rc read_bytes(const ot_input_file *f, uint64_t at, size_t n, uint64_t row, uint8_t *out,
                        ot_error *err)
{
    size_t got;
    OT_TRY(f->f->ops->pread(f->f, out, n, at, &got, err));
    if (got != n) {
        return ot_fail(err, OT_DATA_LOSS,
                       "%s: row %" PRIu64 ": its %zu bytes at byte %" PRIu64
                       " are not there any more: somebody cut the file short",
                       f->path, row, n, at);
    }
    return OT_OK;
}

/* A read has no moment in which a file that is cut short would be a SIGBUS. A call takes as long as
 * a copy of 10 to 40 KiB, so what is smaller is copied from the mapping. */
static ot_rc fetch(const ot_input_file *f, uint64_t at, size_t n, uint64_t row, uint8_t *out,
                   ot_error *err)
{
    if (f->f != NULL && (f->map == NULL || n >= OT_INPUT_READ_BYTES)) {
        return read_bytes(f, at, n, row, out, err);
    }
    memcpy(out, f->map + at, n);
    return OT_OK;
}

/* The first index varies fastest: a row's elements lie `rows` elements apart. */
static void take_fortran(const ot_input_column *c, const ot_input_piece *p, const uint8_t *base,
                         uint64_t row, uint8_t *out)
{
    int64_t at[OT_RANK_MAX] = {0};
    uint64_t step[OT_RANK_MAX], stride = p->rows;
    for (int d = 0; d < c->rank; d++) {
        step[d] = stride;
        stride *= (uint64_t)c->dims[d];
    }
    uint64_t from = row;
    for (size_t done = 0; done < c->row_bytes; done += c->element_bytes) {
        memcpy(out + done, base + from * c->element_bytes, c->element_bytes);
        int d = c->rank - 1;
        for (; d >= 0 && ++at[d] == c->dims[d]; d--) {
            at[d] = 0;
            from -= step[d] * (uint64_t)(c->dims[d] - 1);
        }
        from += d >= 0 ? step[d] : 0;
    }
}

static void swap(uint8_t *p, size_t bytes, size_t run)
{
    for (uint8_t *end = p + bytes; p < end; p += run) {
        for (size_t i = 0; i < run / 2; i++) {
            uint8_t b = p[i];
            p[i] = p[run - 1 - i];
            p[run - 1 - i] = b;
        }
    }
}

/* The piece that holds a row; most columns have one. */
static const ot_input_piece *piece_of(const ot_input_column *c, uint64_t row)
{
    size_t low = 0, high = c->n_pieces;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (c->pieces[mid].first <= row) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return &c->pieces[low];
}

static ot_rc take_column(ot_gather *g, const ot_input_column *c, const uint64_t *rows, size_t n,
                         uint8_t *out, ot_error *err)
{
    for (size_t i = 0; i < n;) {
        const ot_input_piece *p = piece_of(c, rows[i]);
        uint64_t in = rows[i] - p->first;
        size_t run = 1;
        OT_TRY(check_size(g, p->file, rows[i], err));
        if (p->fortran) {
            take_fortran(c, p, g->source->files[p->file].map + p->at, in, out);
        } else {
            while (i + run < n && rows[i + run] == rows[i] + run && in + run < p->rows) {
                run++;
            }
            OT_TRY(fetch(&g->source->files[p->file], p->at + in * c->row_bytes, run * c->row_bytes,
                         rows[i], out, err));
        }
        if (p->swap_bytes != 0) {
            swap(out, run * c->row_bytes, p->swap_bytes);
        }
        out += run * c->row_bytes;
        i += run;
    }
    return OT_OK;
}

/* --- records */

static ot_rc record_room(ot_gather *g, size_t n, ot_error *err)
{
    if (n > g->record_room) {
        uint8_t *more = ot_realloc(g->record, n);
        if (more == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for a record of %zu bytes", n);
        }
        g->record = more;
        g->record_room = n;
    }
    return OT_OK;
}

/* Record i of a file, checked. It is read, not mapped: parsing it takes longer than the call. */
static ot_rc take_record(ot_gather *g, const ot_input_records *r, uint64_t i, ot_tfrecord *out,
                         ot_error *err)
{
    const ot_input_file *f = &g->source->files[r->file];
    uint64_t at = r->at[i], size = (i + 1 < r->rows ? r->at[i + 1] : f->size) - at;
    if (f->f == NULL) {
        return ot_tfrecord_read(f->map + at, size, true, out, err);
    }
    OT_TRY(record_room(g, (size_t)size, err));
    OT_TRY(read_bytes(f, at, (size_t)size, r->first + i, g->record, err));
    return ot_tfrecord_read(g->record, size, true, out, err);
}

static ot_rc take_records(ot_gather *g, const uint64_t *rows, size_t n, const ot_example_out *to,
                          ot_error *err)
{
    const ot_source *s = g->source;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k + 1 < s->n_records && s->records[k + 1].first <= rows[i]) {
            k++;
        }
        const ot_input_records *r = &s->records[k];
        ot_tfrecord record;
        ot_rc rc = take_record(g, r, rows[i] - r->first, &record, err);
        if (rc == OT_OK) {
            rc = ot_example_read(record.data, record.n, s->columns, s->n_columns, i, to, err);
        }
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "%s: record %" PRIu64 " at byte %" PRIu64,
                                   s->files[r->file].path, rows[i] - r->first,
                                   r->at[rows[i] - r->first]);
        }
    }
    return OT_OK;
}

ot_rc ot_gather_rows(ot_gather *g, const uint64_t *rows, size_t n, uint8_t *out,
                     const size_t *offsets, ot_grown *grown, ot_error *err)
{
    g->turn++;
    const ot_source *s = g->source;
    for (size_t c = 0; c < s->n_columns; c++) {
        if (s->columns[c].feature == OT_FEATURE_NONE) {
            OT_TRY(take_column(g, &s->columns[c], rows, n, out + offsets[c], err));
        }
    }
    ot_example_out to = {.out = out, .offsets = offsets, .grown = grown};
    for (size_t c = 0; c < s->n_columns; c++) {
        if (s->columns[c].ragged) {
            ot_input_ragged *r = (void *)(out + offsets[c]);
            r->splits = (int64_t *)(void *)(r + 1);
            r->splits[0] = 0;
            grown[c].n = 0;
        }
    }
    OT_TRY(s->n_records > 0 ? take_records(g, rows, n, &to, err) : OT_OK);
    for (size_t c = 0; c < s->n_columns; c++) {
        if (s->columns[c].ragged) {
            ((ot_input_ragged *)(void *)(out + offsets[c]))->values = grown[c].p;
        }
    }
    return OT_OK;
}
