/* Golden answers: inputs with the outputs that the model gave where it was made, and how far an
 * answer may lie from them. They are run where the model is loaded.
 *
 * A case is one row in the form that the model takes (its batch axis, if any, is 1).
 * Threads: any; immutable once read. Lifetime: init by parse or from_batch, done by ot_golden_done;
 * tensors point into the arena.
 * Errors: OT_INVALID names the case, the tensor and the value; golden values are finite. */
#ifndef OT_MODEL_GOLDEN_H
#define OT_MODEL_GOLDEN_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "codec/tensor.h"
#include "model/manifest.h"

#include <stddef.h>

#define OT_GOLDEN_CASES_MAX 1024
#define OT_GOLDEN_BYTES_MAX (64u << 20)
#define OT_GOLDEN_ABS_DEFAULT 1e-4
#define OT_GOLDEN_REL_DEFAULT 1e-3

typedef struct ot_golden_row {
    ot_tensor *inputs, *outputs;
    size_t n_inputs, n_outputs;
} ot_golden_row;

typedef struct ot_golden {
    double abs, rel; /* |got - want| <= abs + rel * |want| */
    ot_golden_row *cases;
    size_t n_cases;
    ot_arena arena;
} ot_golden;

void ot_golden_done(ot_golden *g); /* also of a zeroed one; also for OT_AUTO */

ot_rc ot_golden_parse(const char *json, size_t n, ot_golden *g_out, ot_error *err) OT_CHECKED;
ot_rc ot_golden_write(const ot_golden *g, ot_str *out, ot_error *err) OT_CHECKED;

/* Cases from the first `rows` rows of a batch: axis 0 of each tensor is the row. Copies. */
ot_rc ot_golden_from_batch(const ot_tensor *inputs, size_t n_inputs, const ot_tensor *outputs,
                           size_t n_outputs, size_t rows, double abs, double rel, ot_golden *g_out,
                           ot_error *err) OT_CHECKED;

/* Every case has each input and output of the signature, once, with its type and shape. */
ot_rc ot_golden_matches(const ot_golden *g, const ot_manifest *m, ot_error *err) OT_CHECKED;

/* Compares an answer with what was expected: same type and shape, floats within tolerance,
 * integers and BYTES equal. OT_DATA_LOSS names the output, the first element that differs, both
 * values and the tolerance; a NaN in the answer differs from everything. */
ot_rc ot_golden_compare(const ot_tensor *want, const ot_tensor *got, double abs, double rel,
                        ot_error *err) OT_CHECKED;

#endif
