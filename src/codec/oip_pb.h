/* Open Inference Protocol v2 over gRPC: ModelInferRequest to an ot_oip_request, an ot_oip_response
 * to ModelInferResponse (package `inference`).
 *
 * What is decoded lies in the arena or points into the message; raw contents and packed floats are
 * not copied and not aligned. Contents are raw for all inputs or typed for all. Errors are
 * OT_INVALID unless memory is short (OT_EXHAUSTED), and name the field or the tensor.
 * Choices: FP16 and BF16 come raw only (the protocol has no field for them); numbers out of the
 * type's range are refused; shared-memory parameters are refused as over HTTP (oip.h); a parameter
 * without a value is skipped.
 * Threads: any; values belong to one request. */
#ifndef OT_CODEC_OIP_PB_H
#define OT_CODEC_OIP_PB_H

#include "codec/oip.h"
#include "codec/pb.h"

typedef struct ot_oip_pb_request {
    const char *model_name;    /* never NULL */
    const char *model_version; /* "" when not sent */
    ot_oip_request r; /* binary_default: contents were raw, or binary_data_output says so */
} ot_oip_pb_request;

ot_rc ot_oip_pb_request_decode(const void *p, size_t n, ot_arena *arena, ot_oip_pb_request *out,
                               ot_error *err) OT_CHECKED;

#define OT_OIP_PB_IOV (2 * OT_OIP_TENSORS_MAX + 1)

/* An encoded message: pieces of the caller's string and the tensors' own data in between. */
typedef struct ot_oip_pb_encoded {
    struct iovec iov[OT_OIP_PB_IOV];
    int n_iov;
    size_t bytes; /* their sum */
} ot_oip_pb_encoded;

/* Appends to `head`; the pieces begin with what was in it before (a frame's prefix) and are valid
 * until it is changed. Outputs go raw, all of them, when one of them is to be (`binary`) or is of a
 * type that has no other way, else typed. `stream`: as ModelStreamInferResponse. On failure `head`
 * may hold a part. */
ot_rc ot_oip_pb_response_encode(const ot_oip_response *r, bool stream, ot_str *head,
                                ot_oip_pb_encoded *out, ot_error *err) OT_CHECKED;
/* ModelStreamInferResponse that says why; `id` (NULL: none) tells the client which request. */
void ot_oip_pb_stream_error(const char *message, const char *model, const char *id, ot_str *out);

/* The field of InferTensorContents for a type; 0: it has none. */
uint32_t ot_oip_pb_contents_field(ot_dtype dt);

#endif
