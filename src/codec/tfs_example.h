/* tensorflow.Example, what :classify and :regress send: from JSON and from gRPC, and as inputs of a
 * model.
 *
 * Examples are kept serialised, the context (features that all share) before each one's own: in
 * protobuf that merges them, and the later feature of a name stands. What is read lies in the arena
 * or points into the message. Errors are OT_INVALID unless memory is short (OT_EXHAUSTED) and name
 * the example and the feature.
 * Threads: any. Sources: tensorflow/core/example, tensorflow_serving/apis/input.proto. */
#ifndef OT_CODEC_TFS_EXAMPLE_H
#define OT_CODEC_TFS_EXAMPLE_H

#include "codec/tfs_pb.h"

typedef struct ot_tfs_examples {
    const char *signature; /* NULL: not sent; only from JSON */
    ot_text *items;        /* a serialised Example each */
    int64_t n;             /* >= 1 */
} ot_tfs_examples;

/* The REST body: {"signature_name", "context": {...}, "examples": [{feature: value or list}...]}.
 * Whole numbers and bools are int64, other numbers float (a list with one of them is all float),
 * strings and {"b64": "..."} bytes. */
ot_rc ot_tfs_examples_json(const char *body, size_t len, ot_arena *arena, ot_tfs_examples *out,
                           ot_error *err) OT_CHECKED;
/* The field of a request that is an Input. */
ot_rc ot_tfs_examples_pb(const ot_pb *message, const ot_pb_field *f, ot_arena *arena,
                         ot_tfs_examples *out, ot_error *err) OT_CHECKED;

/* The examples as they are: a BYTES tensor of shape [n], for models that parse them. */
ot_rc ot_tfs_examples_tensor(const ot_tfs_examples *e, const char *name, ot_arena *arena,
                             ot_tensor *out, ot_error *err) OT_CHECKED;
/* Whether the first one has a feature of that name. */
bool ot_tfs_examples_have(const ot_tfs_examples *e, const char *name);
/* A tensor for each input, its rows being the features of its name: for models with plain tensors.
 * One dimension of a row may be open (-1): all examples then have as many values as the first. An
 * int64 feature fits integers (in range), BOOL (0, 1) and floats, a float feature floats, bytes
 * BYTES. Other features are passed over. */
ot_rc ot_tfs_examples_columns(const ot_tfs_examples *e, const ot_tensor_spec *specs, size_t n,
                              ot_arena *arena, ot_oip_tensor **out, ot_error *err) OT_CHECKED;

#endif
