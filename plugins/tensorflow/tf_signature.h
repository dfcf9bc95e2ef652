/* The signatures of a SavedModel, read from its serialised MetaGraphDef.
 *
 * A walker over the protobuf wire format that knows the few fields in use:
 * MetaGraphDef.signature_def (5), SignatureDef.inputs (1), outputs (2) and method_name (3),
 * TensorInfo.name (1), dtype (2), tensor_shape (3). Source:
 * tensorflow/core/protobuf/meta_graph.proto. Bounded; hostile bytes give an error. Threads: any. */
#ifndef OT_PLUGINS_TENSORFLOW_TF_SIGNATURE_H
#define OT_PLUGINS_TENSORFLOW_TF_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TF_KEY_MAX 256
#define TF_TENSORS_MAX 256
#define TF_OUTPUTS_MAX 32
#define TF_RANK_MAX 8
#define TF_SIGNATURES_MAX 16 /* of a model, that are looked at */

typedef struct tf_tensor_info {
    char key[TF_KEY_MAX];    /* what clients call it */
    char tensor[TF_KEY_MAX]; /* the graph's name: "serving_default_x:0" */
    int dtype;               /* TF_DataType */
    int rank;                /* -1: unknown */
    int64_t dims[TF_RANK_MAX];
} tf_tensor_info;

typedef struct tf_signature {
    char name[TF_KEY_MAX], method[TF_KEY_MAX];
    uint32_t n_inputs, n_outputs;
    tf_tensor_info inputs[TF_TENSORS_MAX]; /* sorted by key: a map has no order of its own */
    tf_tensor_info outputs[TF_OUTPUTS_MAX];
} tf_signature;

/* `want` NULL: serving_default, else serve, else the only one. False: `why` (of n_why bytes) says
 * what is wrong and which signatures there are. */
bool tf_signature_read(const void *meta_graph, size_t n, const char *want, tf_signature *out,
                       char *why, size_t n_why);
/* Names of the signatures that can be asked for, sorted; returns how many. */
uint32_t tf_signature_names(const void *meta_graph, size_t n,
                            char names[TF_SIGNATURES_MAX][TF_KEY_MAX]);

#endif
