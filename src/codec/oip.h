/* Open Inference Protocol v2 bodies: infer requests and responses, as JSON and with the binary
 * tensor extension (Inference-Header-Content-Length: N; N bytes of JSON, then little-endian blobs
 * in tensor order). Both directions of both messages: the server decodes requests and encodes
 * responses, clients (golden checks, evaluation, load generators) do the opposite.
 *
 * Pure: no I/O. Everything decoded lies in the caller's arena or points into the body, so both must
 * outlive the result. Binary tensors are NOT copied: they point into the body and are not aligned;
 * numbers that came as JSON are 16-byte aligned. Errors are OT_INVALID (HTTP 400) unless memory is
 * short (OT_EXHAUSTED), and name the tensor or the byte offset.
 * Threads: any; values belong to one request. */
#ifndef OT_CODEC_OIP_H
#define OT_CODEC_OIP_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "codec/json_scan.h"
#include "codec/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define OT_OIP_TENSORS_MAX 64 /* inputs; outputs */
#define OT_OIP_PARAMS_MAX 64  /* for each object that has parameters */
#define OT_OIP_HEADER_NAME "Inference-Header-Content-Length"

typedef enum ot_param_type {
    OT_PARAM_BOOL,
    OT_PARAM_INT,
    OT_PARAM_DOUBLE,
    OT_PARAM_STRING,
} ot_param_type;

typedef struct ot_param {
    const char *name;
    ot_param_type type;
    bool b;
    int64_t i;
    double d;      /* set for INT too */
    const char *s; /* NUL-terminated */
} ot_param;

/* Scalars only: a parameter that is null, an array or an object is skipped. */
typedef struct ot_params {
    const ot_param *items;
    int n;
} ot_params;

const ot_param *ot_params_find(const ot_params *p, const char *name); /* NULL when absent */

/* A tensor with its parameters, in either message. `binary`: it came as a blob, or is to be sent as
 * one. The extension's own parameters (binary_data_size, binary_data) are not in `params`. */
typedef struct ot_oip_tensor {
    ot_tensor tensor;
    ot_params params;
    bool binary;
} ot_oip_tensor;

typedef struct ot_oip_output_ask {
    const char *name;
    ot_params params;
    bool binary; /* its own binary_data, else the request's binary_data_output, else false */
} ot_oip_output_ask;

typedef struct ot_oip_request {
    const char *id;   /* NULL: not sent, and then not to be echoed */
    ot_params params; /* without binary_data_output */
    ot_oip_tensor *inputs;
    int n_inputs;
    ot_oip_output_ask *outputs; /* none: every output is wanted, as binary_default says */
    int n_outputs;
    bool binary_default;
} ot_oip_request;

typedef struct ot_oip_response {
    const char *model_name;    /* NULL is left out */
    const char *model_version; /* NULL is left out */
    const char *id;            /* NULL is left out */
    ot_params params;
    ot_oip_tensor *outputs;
    int n_outputs;
} ot_oip_response;

/* header_len: the value of Inference-Header-Content-Length, or -1 when the header was absent.
 * `raw` is the model's only input and serves header_len 0, where the whole body is that tensor: its
 * one -1 axis is inferred (BYTES: the body is the one element); NULL when the model has several
 * inputs or is not known, and then header_len 0 is refused.
 * Refused: malformed JSON, no inputs, a duplicate or empty input name, a negative dimension, more
 * than the caps above, a blob size that is not the shape's, blobs that do not end where the body
 * ends, an input with both data and blob or neither. Unknown keys are ignored. */
ot_rc ot_oip_request_decode(const void *body, size_t len, int64_t header_len,
                            const ot_tensor_spec *raw, ot_arena *arena, ot_oip_request *out,
                            ot_error *err) OT_CHECKED;
ot_rc ot_oip_response_decode(const void *body, size_t len, int64_t header_len, ot_arena *arena,
                             ot_oip_response *out, ot_error *err) OT_CHECKED;

/* An encoded message: `head` (the caller's string, appended to) followed by the blobs, which point
 * at the tensors' own data. */
typedef struct ot_oip_encoded {
    int64_t header_len; /* for Inference-Header-Content-Length; -1: plain JSON, send no header */
    struct iovec blobs[OT_OIP_TENSORS_MAX];
    int n_blobs;
    size_t blob_bytes; /* their sum */
} ot_oip_encoded;

/* Tensors are checked first (ot_tensor_check). JSON data are written flat, floats shortest, NaN and
 * infinities as NaN, Infinity, -Infinity. BYTES that are not UTF-8 cannot go as JSON: OT_INVALID
 * says to ask for binary data. On failure `head` may hold a part and `out` is not
 * to be used. */
ot_rc ot_oip_request_encode(const ot_oip_request *r, ot_str *head, ot_oip_encoded *out,
                            ot_error *err) OT_CHECKED;
ot_rc ot_oip_response_encode(const ot_oip_response *r, ot_str *head, ot_oip_encoded *out,
                             ot_error *err) OT_CHECKED;

/* Appends {"error":"..."}: the only shape that the protocol's clients can decode. */
void ot_oip_error_body(ot_str *out, const char *message);
/* The message of such a body, in the arena; NULL when the body is something else. */
const char *ot_oip_error_message(const void *body, size_t len, ot_arena *arena);
/* Appends the tensor's elements as one flat JSON array, with brackets. */
ot_rc ot_oip_tensor_json(const ot_tensor *t, ot_str *out, ot_error *err) OT_CHECKED;

#endif
