/* The C API of input (include/overtake/input.h) over source and reader. */
#include "overtake/input.h"

#include "base/mem.h"
#include "input/buffers.h"
#include "input/reader.h"
#include "overtake/collective.h"

#include <stdio.h>
#include <string.h>

struct overtake_input {
    ot_reader *reader;
    uint64_t told_ns; /* of the reader's wait_ns, to the job */
};

static int answer(const ot_error *err, ot_rc rc, char *message, size_t size)
{
    if (message != NULL && size > 0) {
        snprintf(message, size, "%s", rc == OT_OK ? "" : err->msg);
    }
    return rc;
}

static ot_rc check_struct(size_t got, size_t want, const char *what, ot_error *err)
{
    return got == want
               ? OT_OK
               : ot_fail(err, OT_INVALID,
                         "%s: struct_size is %zu; this library's is %zu: header and library are "
                         "of different versions",
                         what, got, want);
}

static ot_rc reader_options(const overtake_input_options *o, ot_reader_options *out, ot_error *err)
{
    if (o->batch < 1 || o->rank < 0 || o->size < 0 || o->part < 0 || o->parts < 0 ||
        o->threads < 0) {
        return ot_fail(
            err, OT_INVALID,
            "batch %lld, rank %d of %d, part %d of %d, %d threads: a batch has 1 row or more, "
            "and no number is negative",
            (long long)o->batch, (int)o->rank, (int)o->size, (int)o->part, (int)o->parts,
            (int)o->threads);
    }
    if (o->remainder < OVERTAKE_REMAINDER_KEEP || o->remainder > OVERTAKE_REMAINDER_REPEAT) {
        return ot_fail(err, OT_INVALID, "remainder %d: keep (0), drop (1) and repeat (2) are taken",
                       (int)o->remainder);
    }
    *out = (ot_reader_options){.batch = (uint64_t)o->batch,
                               .rank = (uint64_t)o->rank,
                               .size = (uint64_t)OT_MAX(o->size, 1),
                               .part = (uint64_t)o->part,
                               .parts = (uint64_t)OT_MAX(o->parts, 1),
                               .shuffle = o->shuffle != 0,
                               .block = o->block,
                               .seed = o->seed,
                               .remainder = (ot_remainder)o->remainder,
                               .threads = (uint64_t)o->threads,
                               .ahead_bytes = o->ahead_bytes};
    return OT_OK;
}

static ot_rc open_input(const overtake_input_options *o, overtake_input *input, ot_error *err)
{
    ot_reader_options ro;
    ot_source *source;
    OT_TRY(check_struct(o->struct_size, sizeof *o, "overtake_input_options", err));
    OT_TRY(reader_options(o, &ro, err));
    ot_source_options so = {.disk = ot_disk_posix(),
                            .paths = o->paths,
                            .n_paths = o->n_paths,
                            .index = o->index,
                            .directory = o->directory,
                            .store = o->store,
                            .columns = o->columns,
                            .n_columns = o->n_columns,
                            .read = o->read != 0,
                            .verify = o->verify != 0};
    OT_TRY(ot_source_create(&so, &source, err));
    return ot_reader_create(source, &ro, &input->reader, err);
}

int overtake_input_open(const overtake_input_options *options, overtake_input **input_out,
                        char *message, size_t message_size)
{
    ot_error err;
    overtake_input *input = ot_calloc(1, sizeof *input);
    ot_rc rc = input == NULL ? ot_fail(&err, OT_EXHAUSTED, "no memory to open a dataset")
                             : open_input(options, input, &err);
    if (rc != OT_OK) {
        ot_free(input);
    } else {
        *input_out = input;
    }
    return answer(&err, rc, message, message_size);
}

void overtake_input_close(overtake_input *input)
{
    if (input != NULL) {
        ot_reader_destroy(input->reader);
        ot_free(input);
    }
}

int overtake_input_column_at(const overtake_input *input, size_t i, overtake_input_column *out)
{
    const ot_source *s = ot_reader_source(input->reader);
    if (i >= s->n_columns) {
        return OT_NOT_FOUND;
    }
    if (out->struct_size != sizeof *out) {
        return OT_INVALID;
    }
    const ot_input_column *c = &s->columns[i];
    out->ndim = c->rank;
    out->row_bytes = c->row_bytes;
    out->ragged = c->ragged;
    out->offset = ot_reader_offset(input->reader, i);
    memcpy(out->name, c->name, sizeof out->name);
    memcpy(out->descr, c->descr, sizeof out->descr);
    memcpy(out->dims, c->dims, sizeof out->dims);
    return OT_OK;
}

int overtake_input_stats_of(const overtake_input *input, overtake_input_stats *out)
{
    if (out->struct_size != sizeof *out) {
        return OT_INVALID;
    }
    const ot_source *s = ot_reader_source(input->reader);
    ot_reader_stats n = ot_reader_counts(input->reader);
    *out = (overtake_input_stats){.struct_size = sizeof *out,
                                  .rows = s->rows,
                                  .bytes = s->bytes,
                                  .batches_read = n.batches,
                                  .rows_read = n.rows,
                                  .bytes_read = n.bytes,
                                  .wait_ns = n.wait_ns};
    return OT_OK;
}

/* What `overtake run --explain` calls input; nobody asks outside of a job. */
static void tell_wait(overtake_input *input)
{
    uint64_t us = (ot_reader_counts(input->reader).wait_ns - input->told_ns) / 1000;
    if (us > 0) {
        (void)overtake_input_wait((int64_t)us);
        input->told_ns += us * 1000;
    }
}

int overtake_input_next(overtake_input *input, double timeout_s, overtake_input_batch *out,
                        char *message, size_t message_size)
{
    ot_error err;
    ot_batch b;
    ot_rc rc = check_struct(out->struct_size, sizeof *out, "overtake_input_batch", &err);
    if (rc == OT_OK) {
        /* A year is for ever; 0 is what the reader takes as that. */
        double s = timeout_s > 0 && timeout_s < 3e7 ? timeout_s : 0;
        uint64_t ns = s > 0 ? OT_MAX((uint64_t)(s * 1e9), (uint64_t)1) : 0;
        rc = ot_reader_next(input->reader, ns, &b, &err);
        tell_wait(input);
    }
    if (rc == OT_OK) {
        *out = (overtake_input_batch){.struct_size = sizeof *out,
                                      .data = b.data,
                                      .rows = (int64_t)b.rows,
                                      .epoch = b.epoch,
                                      .taken = b.taken};
    }
    return answer(&err, rc, message, message_size);
}

int overtake_input_release(void *data)
{
    return ot_buffers_give(data) ? OT_OK : OT_INVALID;
}

int overtake_input_seek(overtake_input *input, uint64_t epoch, uint64_t taken, int32_t rank,
                        int32_t size, char *message, size_t message_size)
{
    ot_error err;
    ot_rc rc =
        rank < 0 || size < 1
            ? ot_fail(&err, OT_INVALID, "rank %d of %d: ranks are 0 to size - 1", (int)rank,
                      (int)size)
            : ot_reader_seek(input->reader, epoch, taken, (uint64_t)rank, (uint64_t)size, &err);
    return answer(&err, rc, message, message_size);
}

int overtake_input_order(uint64_t rows, uint64_t block, uint64_t seed, uint64_t epoch, uint64_t at,
                         size_t n, int64_t *rows_out)
{
    if (rows >= UINT64_C(1) << 62 || at > rows || n > rows - at) {
        return OT_INVALID;
    }
    ot_order o;
    ot_order_init(&o, rows, true, block, seed, epoch);
    for (size_t i = 0; i < n; i++) {
        rows_out[i] = (int64_t)ot_order_row(&o, at + i);
    }
    return OT_OK;
}
