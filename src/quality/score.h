/* Rows of data through a model, in batches: what packaging and evaluation share.
 *
 * Threads: one at a time. Lifetime: zero it, open or add, then done (also of a zeroed one). The
 * signature that a scorer shows lives as long as the scorer. */
#ifndef OT_QUALITY_SCORE_H
#define OT_QUALITY_SCORE_H

#include "base/error.h"
#include "codec/tensor.h"
#include "registry/table.h"
#include "runtime/runtime.h"

#include <jansson.h>
#include <stdint.h>

#define OT_SCORE_BATCH 256 /* rows of a run, at most */

typedef struct ot_scorer {
    ot_runtime *rt;
    ot_model *model;
    ot_instance *inst;
    const ot_model_info *info;
} ot_scorer;

/* Loads the model; `format` NULL means detect. `apart` NULL: in this process; else in a worker
 * process (docs/isolation.md), whose folder is made in the folder `apart`. OT_INVALID unless it has
 * exactly one input. */
ot_rc ot_scorer_open(ot_scorer *s, const char *format, const char *path, const char *apart,
                     ot_error *err) OT_CHECKED;
void ot_scorer_done(ot_scorer *s);

/* The model takes text: no rows of numbers go through it, and no label says what is right. */
bool ot_scorer_takes_text(const ot_scorer *s);

/* Rows of a model's input, in its type; `x.dims[0]` is how many. */
typedef struct ot_rows {
    ot_tensor x;
    void *data;
} ot_rows;

/* Appends the table's rows for this input: the column of the input's name, else the only other
 * column (neither `label`, which may be NULL, nor the weights) with as many numbers a row. Numbers
 * become floats where the input takes floats; else the types must agree. OT_INVALID names the
 * columns and their shapes; `where` is the table's name there. */
ot_rc ot_rows_add(ot_rows *r, const ot_tensor_spec *input, const ot_table *t, const char *label,
                  const char *where, ot_error *err) OT_CHECKED;
void ot_rows_done(ot_rows *r);

/* Outputs for rows [at, at + n), each with axis 0 = n; valid during the call. */
typedef ot_rc ot_scored_fn(void *arg, int64_t at, int64_t n, const ot_tensor *outputs,
                           ot_error *err);

/* Runs all rows, `step` of them at a time (1..OT_SCORE_BATCH). */
ot_rc ot_scorer_run(ot_scorer *s, const ot_tensor *rows, int64_t step, ot_scored_fn *fn, void *arg,
                    ot_error *err) OT_CHECKED;

/* P(X >= k) for n fair tosses: the exact one-sided sign test. */
double ot_sign_test_p(int64_t k, int64_t n);

/* A job's spec: an object. */
ot_rc ot_job_read(const char *path, json_t **spec_out, ot_error *err) OT_CHECKED;
/* "isolation" of `o`: NULL for none, the default; for "process" `dir`, the folder of the result. */
ot_rc ot_job_apart(const json_t *o, const char *dir, const char **apart_out,
                   ot_error *err) OT_CHECKED;
/* The folder that a file is in. */
ot_rc ot_job_folder(const char *file, char out[OT_PATH_MAX], ot_error *err) OT_CHECKED;
/* A text that must be there and not be empty. */
ot_rc ot_job_text(const json_t *o, const char *key, const char **out, ot_error *err) OT_CHECKED;
/* Writes the result whole or not at all. Takes over `result`; NULL means that memory was short. */
ot_rc ot_job_write(const char *path, json_t *result, ot_error *err) OT_CHECKED;

#endif
