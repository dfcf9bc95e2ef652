/* References of a bundle: the distribution of the inputs that a model was trained on, and of its
 * predictions on held-out rows, as histograms (stats/hist.h).
 *
 * Inputs: every number of a row, over all inputs in the order of the signature, is a feature,
 * called NAME, NAME_3 or NAME_3_4 after its tensor and place. Predictions: the features
 * `prediction` (a category for classes, else numeric) and, for scores, `confidence`. Threads: any;
 * immutable once made. Lifetime: made by of_* or read, done by ot_reference_done. */
#ifndef OT_MODEL_REFERENCE_H
#define OT_MODEL_REFERENCE_H

#include "base/error.h"
#include "base/str.h"
#include "codec/tensor.h"
#include "model/manifest.h"
#include "model/prediction.h"
#include "stats/hist.h"

#include <stddef.h>
#include <stdint.h>

#define OT_REFERENCE_BYTES_MAX (64u << 20)
#define OT_REFERENCE_SAMPLE_BYTES (64u << 20) /* floats that cells are chosen from, at most */

typedef struct ot_reference {
    ot_hist_schema *schema;
    ot_hist_table counts;
} ot_reference;

void ot_reference_done(ot_reference *r); /* also of a zeroed one; also for OT_AUTO */

/* Numbers a row of the inputs has; 0 when that is not fixed by the signature, not numeric, or more
 * than OT_HIST_FEATURES_MAX: such inputs are not counted. */
size_t ot_reference_features(const ot_manifest *m);

/* From rows: `inputs` in the order of the signature, axis 0 the row, `rows` of each; numbers or
 * BOOL. Cells are chosen from evenly spaced rows, all rows are counted. */
ot_rc ot_reference_of_inputs(const ot_tensor *inputs, size_t n_inputs, int64_t rows,
                             ot_reference *out, ot_error *err) OT_CHECKED;
ot_rc ot_reference_of_predictions(ot_prediction_kind kind, const ot_prediction *p, size_t n,
                                  ot_reference *out, ot_error *err) OT_CHECKED;

/* The content of reference/NAME.hist, appended. */
ot_rc ot_reference_write(const ot_reference *r, ot_str *out, ot_error *err) OT_CHECKED;
ot_rc ot_reference_read(const void *p, size_t n, ot_reference *out, ot_error *err) OT_CHECKED;

#endif
