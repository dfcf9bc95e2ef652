/* TensorFlow Serving's REST bodies for :predict: rows (`instances`, answered as `predictions`) and
 * columns (`inputs`, answered as `outputs`), both directions of the server's side.
 * Source: TensorFlow Serving, "RESTful API".
 *
 * The bodies carry neither types nor shapes: they come from the signature's specifications, and
 * what the signature leaves open (-1) from the nesting of the data.
 * Pure: no I/O. What is decoded lies in the arena; numbers are 16-byte aligned.
 * Errors are OT_INVALID (HTTP 400) unless memory is short (OT_EXHAUSTED), and name the tensor.
 * Threads: any. */
#ifndef OT_CODEC_TFS_JSON_H
#define OT_CODEC_TFS_JSON_H

#include "base/str.h"
#include "codec/oip.h"

#define OT_TFS_OUTPUTS_MAX 256 /* of an answer */

/* The inputs of a signature; name NULL: the request names none. An error is the request's answer.
 * Called again, with another name, when the name comes behind the data. */
typedef ot_rc ot_tfs_inputs_fn(void *arg, const char *name, const ot_tensor_spec **specs_out,
                               size_t *n_out, ot_error *err);

typedef struct ot_tfs_predict {
    const char *signature; /* NULL: not sent */
    bool rows;             /* `instances` came, not `inputs` */
    ot_oip_tensor *inputs; /* all of the signature, in its order; names are the signature's */
    int n_inputs;
} ot_tfs_predict;

/* Every input must be there once; element types and nesting are checked as ot_json_tensor_data
 * does, and what a row has below its first axis is the signature's, but the number of rows is the
 * caller's to check. Data of several axes must be nested. Strings may be {"b64": "..."}. Unknown
 * members of the body are skipped, unknown inputs refused. No instances give tensors of zero rows.
 */
ot_rc ot_tfs_predict_decode(const char *body, size_t len, ot_tfs_inputs_fn *find, void *arg,
                            ot_arena *arena, ot_tfs_predict *out, ot_error *err) OT_CHECKED;

/* Appends {"predictions": [...]} (rows: every output needs as many on axis 0) or {"outputs": ...};
 * one output stands without its name. Strings whose tensor's name ends in "_bytes", and strings
 * that are not UTF-8, are written as {"b64": "..."}. */
ot_rc ot_tfs_predict_encode(const ot_tensor *outputs, int n, bool rows, ot_str *out,
                            ot_error *err) OT_CHECKED;

/* ---- shared with the other bodies of this API */

/* Reads {"b64": "..."} and appends the bytes to `out` in the arena; OT_INVALID when it is something
 * else. The standard alphabet, with or without padding. */
ot_rc ot_tfs_b64_read(ot_json_scan *s, ot_arena *arena, ot_text *out, ot_error *err) OT_CHECKED;
/* Whether the next value is such an object; takes nothing. */
bool ot_tfs_b64_next(const ot_json_scan *s, ot_arena *arena);

#endif
