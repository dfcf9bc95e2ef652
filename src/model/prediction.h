/* What a model's answer says about a row: the class or the value, and how sure it is.
 *
 * Reads the output tensor that the manifest names. No allocation; fit for the path of a request.
 * Threads: any. */
#ifndef OT_MODEL_PREDICTION_H
#define OT_MODEL_PREDICTION_H

#include "base/error.h"
#include "codec/tensor.h"
#include "model/manifest.h"

#include <stdint.h>

typedef struct ot_prediction {
    int64_t label;     /* the class; -1 when there is none (regression, or NaN among the scores) */
    double value;      /* regression: the value; else the class as a number (NaN without one) */
    double confidence; /* maximum of the scores; NaN for label and value */
} ot_prediction;

/* Predictions of the first `rows` rows of output tensor `t`, whose axis 0 is the row (a tensor of
 * rank 0 is one row). `out` has room for `rows`.
 *   scores: (rows, C) floats, or ranks between of size 1. With C = 1 the score is that of class 1:
 *           label = score >= 0.5, confidence = max(score, 1 - score).
 *   label:  integers or BOOL, one a row.    value: numbers, one a row.
 * OT_INVALID when the tensor does not have that form; BYTES never has. */
ot_rc ot_prediction_read(ot_prediction_kind kind, const ot_tensor *t, int64_t rows,
                         ot_prediction *out, ot_error *err) OT_CHECKED;

/* What a manifest can promise for its prediction: classes of `scores` where the specification fixes
 * the last axis (2 for C = 1); 0 when it is not known or the kind has no classes. */
int64_t ot_prediction_classes(const ot_manifest *m);

/* The kind that a signature suggests when nobody named one: the only output, or one that is called
 * like one (probabilities, scores, ...). OT_PREDICTION_NONE when it is not clear. */
ot_prediction_kind ot_prediction_guess(const ot_manifest *m, size_t *output_out);

#endif
