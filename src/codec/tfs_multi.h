/* tensorflow.serving.MultiInferenceRequest: several signatures of one model over the same examples.
 *
 * What is read lies in the arena or points into the message. Threads: any.
 * Source: tensorflow_serving/apis/inference.proto. */
#ifndef OT_CODEC_TFS_MULTI_H
#define OT_CODEC_TFS_MULTI_H

#include "codec/tfs_example.h"

#define OT_TFS_TASKS_MAX 32

typedef struct ot_tfs_task {
    ot_tfs_spec spec;
    const char *method; /* "tensorflow/serving/classify"; "" when not sent */
} ot_tfs_task;

typedef struct ot_tfs_multi {
    ot_tfs_task tasks[OT_TFS_TASKS_MAX];
    size_t n; /* >= 1 */
    ot_tfs_examples input;
} ot_tfs_multi;

/* As TensorFlow Serving asks for it: tasks of one model, each with a name, and an input. A version
 * or a label is the first task's to say; another task's must be the same. OT_INVALID, or
 * OT_EXHAUSTED when memory is short. */
ot_rc ot_tfs_multi_pb(const void *p, size_t n, ot_arena *arena, ot_tfs_multi *out,
                      ot_error *err) OT_CHECKED;

#endif
