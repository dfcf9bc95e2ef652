/* A chunk: sampled rows of one variant with one row shape, column after column.
 *
 * Threads: one at a time. Lifetime: heap. */
#ifndef OT_SERVE_CHUNK_H
#define OT_SERVE_CHUNK_H

#include "serve/sample.h"

typedef struct ot_column {
    ot_tensor_spec row; /* shape without the row axis; name lies in the chunk's memory */
    size_t row_bytes;   /* of numbers; 0 of BYTES */
    uint8_t *data;
    ot_str bytes; /* of BYTES, row after row: each element a u32 length and its bytes */
} ot_column;

struct ot_chunk {
    ot_chunk *next;
    ot_dep *dep; /* a reference */
    char model[OT_SERVE_NAME];
    uint64_t version;
    bool shadow;
    bool row_axis; /* a row is a slice of axis 0, not the whole tensor */
    size_t rows, cap;
    uint64_t opened_ns;
    size_t bytes;     /* of the whole chunk, without those of BYTES */
    size_t text;      /* bytes of all BYTES */
    size_t row_bytes; /* of all columns, seq, time and probability */
    uint64_t *seq;
    int64_t *time_us;
    float *probability;
    size_t n_inputs, n_outputs; /* 0 inputs in a shadow chunk */
    ot_column *inputs, *outputs;
    ot_str keys; /* rows times (u16 length + bytes), once a row had a key */
    bool has_keys;
};

/* Shaped like the tensors given (those of a call, or of a shadow run). OT_EXHAUSTED when memory is
 * short or one row is larger than a segment. `row_axis`: see above. */
ot_rc ot_chunk_create(ot_dep *dep, const ot_variant *v, bool shadow, bool row_axis,
                      const ot_tensor *inputs, size_t n_inputs, const ot_tensor *outputs,
                      size_t n_outputs, size_t cap_rows, ot_chunk **chunk_out,
                      ot_error *err) OT_CHECKED;
void ot_chunk_destroy(ot_chunk *c); /* NULL is fine */
/* Same columns with the same row shapes. */
bool ot_chunk_fits(const ot_chunk *c, const ot_tensor *inputs, size_t n_inputs,
                   const ot_tensor *outputs, size_t n_outputs);
bool ot_chunk_alike(const ot_chunk *a, const ot_chunk *b); /* may share a segment */
/* What row `from` takes of BYTES; SIZE_MAX: it is none. */
size_t ot_chunk_text(const ot_chunk *c, const ot_tensor *inputs, const ot_tensor *outputs,
                     int64_t from);
/* Copies row `from` of the tensors to the end; there must be room for a row. False: out of memory,
 * nothing was added. */
bool ot_chunk_add(ot_chunk *c, uint64_t seq, int64_t time_us, float probability, ot_slice key,
                  const ot_tensor *inputs, const ot_tensor *outputs, int64_t from);

/* Rows [at, at + n) of an input's column as a tensor, with the axis of rows if there is one. */
ot_tensor ot_chunk_rows(const ot_chunk *c, const ot_column *column, size_t at, size_t n);
/* The bytes of a column. */
struct iovec ot_chunk_column(const ot_chunk *c, const ot_column *column);

/* Appends the members of a sample push and its binary parts for a list of alike chunks. */
void ot_chunk_describe(const ot_chunk *first, ot_str *fields_out);

#endif
