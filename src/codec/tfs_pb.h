/* TensorFlow Serving's messages of gRPC (package tensorflow.serving) and the TensorProto in them.
 *
 * What is decoded lies in the arena or points into the message; contents of tensors are not copied
 * where they are bytes as they are, and may be unaligned. Errors are OT_INVALID unless memory is
 * short (OT_EXHAUSTED), and name the message, the field or the tensor.
 * Threads: any; values belong to one request.
 * Sources: tensorflow_serving/apis and tensorflow/core/framework (tensor.proto). */
#ifndef OT_CODEC_TFS_PB_H
#define OT_CODEC_TFS_PB_H

#include "codec/oip.h"
#include "codec/pb.h"

/* ModelSpec. */
typedef struct ot_tfs_spec {
    const char *name;      /* never NULL */
    const char *label;     /* NULL: not sent */
    const char *signature; /* NULL: not sent */
    uint64_t version;      /* 0: not sent */
} ot_tfs_spec;

ot_rc ot_tfs_pb_spec_read(const ot_pb *message, const ot_pb_field *f, ot_arena *arena,
                          ot_tfs_spec *out, ot_error *err) OT_CHECKED;
void ot_tfs_pb_spec_put(ot_str *s, uint32_t number, const ot_tfs_spec *spec);

/* A TensorProto: tensor_content, or the values of the type's own field. Fewer values than the shape
 * has are followed by the last one again, none at all are zeros, as TensorFlow reads it; more are
 * refused. The name of `out` is left alone. */
ot_rc ot_tfs_pb_tensor_read(ot_pb *r, ot_arena *arena, ot_tensor *out, ot_error *err) OT_CHECKED;
/* Appends it as field `number`, values in the type's own field: what clients look at. */
void ot_tfs_pb_tensor_put(ot_str *s, uint32_t number, const ot_tensor *t);
/* Appends TensorShapeProto as field `number`; -1 is a dimension of any size. */
void ot_tfs_pb_shape_put(ot_str *s, uint32_t number, const int64_t *dims, int rank);

typedef struct ot_tfs_pb_predict {
    ot_tfs_spec spec;
    ot_oip_tensor *inputs;
    int n_inputs;
    ot_oip_output_ask *outputs; /* output_filter */
    int n_outputs;
} ot_tfs_pb_predict;

ot_rc ot_tfs_pb_predict_decode(const void *p, size_t n, ot_arena *arena, ot_tfs_pb_predict *out,
                               ot_error *err) OT_CHECKED;
/* PredictResponse. The tensors are checked first. */
ot_rc ot_tfs_pb_predict_encode(const ot_tfs_spec *spec, const ot_tensor *outputs, int n,
                               ot_str *out, ot_error *err) OT_CHECKED;

/* The client's side: PredictRequest made, PredictResponse read; what is an output there is in
 * out->inputs. */
ot_rc ot_tfs_pb_request_encode(const ot_tfs_spec *spec, const ot_tensor *inputs, int n, ot_str *out,
                               ot_error *err) OT_CHECKED;
ot_rc ot_tfs_pb_predicted_decode(const void *p, size_t n, ot_arena *arena, ot_tfs_pb_predict *out,
                                 ot_error *err) OT_CHECKED;

#endif
