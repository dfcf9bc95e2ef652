/* What :classify and :regress answer, made of a model's outputs, as JSON and as messages of gRPC.
 *
 * Threads: any; the views point at the outputs. Sources:
 * tensorflow_serving/apis/classification.proto, regression.proto. */
#ifndef OT_CODEC_TFS_RESULT_H
#define OT_CODEC_TFS_RESULT_H

#include "codec/tfs_pb.h"

/* Labels and scores of `rows` examples, `classes` of them each. */
typedef struct ot_tfs_classes {
    int64_t rows, classes;
    const ot_tensor *labels; /* BYTES or integers; NULL: the class's number */
    const ot_tensor *scores; /* floats; NULL: 0, as TensorFlow Serving does */
} ot_tfs_classes;

/* From outputs `classes` and `scores` ([n, classes] or [n]); without both, from output number
 * `prediction` (negative: from the only one): floats are scores, integers and strings labels. */
ot_rc ot_tfs_classes_find(const ot_tensor *outputs, int n, int prediction, ot_tfs_classes *out,
                          ot_error *err) OT_CHECKED;
/* Appends {"results": [[[label, score]...]...]}. */
ot_rc ot_tfs_classes_json(const ot_tfs_classes *c, ot_str *out, ot_error *err) OT_CHECKED;
/* Appends ClassificationResult as field `number`. */
ot_rc ot_tfs_classes_pb(const ot_tfs_classes *c, uint32_t number, ot_str *out,
                        ot_error *err) OT_CHECKED;

/* The output `outputs`, else number `prediction`, else the only one: numbers of shape [n] or
 * [n, 1]. */
ot_rc ot_tfs_values_find(const ot_tensor *outputs, int n, int prediction, const ot_tensor **out,
                         ot_error *err) OT_CHECKED;
/* Appends {"results": [value...]}. */
void ot_tfs_values_json(const ot_tensor *t, ot_str *out);
/* Appends RegressionResult as field `number`. */
void ot_tfs_values_pb(const ot_tensor *t, uint32_t number, ot_str *out);

#endif
