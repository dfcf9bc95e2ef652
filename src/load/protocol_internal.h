/* Between the protocols and what they have in common. */
#ifndef OT_LOAD_PROTOCOL_INTERNAL_H
#define OT_LOAD_PROTOCOL_INTERNAL_H

#include "load/protocol.h"

#include "codec/oip.h"

/* Makes the HTTP/1.1 head for the body that is there. `fields`: more field lines, or NULL. Takes
 * the path. */
ot_rc ot_load_post(const ot_load_target *t, ot_str *path, const char *type, const char *fields,
                   ot_load_request *r, ot_error *err) OT_CHECKED;
ot_rc ot_load_outputs_take(const ot_oip_tensor *from, int n, ot_arena *arena, ot_load_outputs *out,
                           ot_error *err) OT_CHECKED;

ot_rc ot_load_encode_tfs(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *r,
                         ot_error *err) OT_CHECKED;
ot_rc ot_load_decode_tfs(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                         ot_load_outputs *out, ot_error *err) OT_CHECKED;

ot_rc ot_load_encode_grpc(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *r,
                          ot_error *err) OT_CHECKED;
ot_rc ot_load_decode_grpc(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                          ot_load_outputs *out, ot_error *err) OT_CHECKED;
void ot_load_version_grpc(const ot_load_answer *a, char out[24]);

ot_rc ot_load_encode_tfs_grpc(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *r,
                              ot_error *err) OT_CHECKED;
ot_rc ot_load_decode_tfs_grpc(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                              ot_load_outputs *out, ot_error *err) OT_CHECKED;
void ot_load_version_tfs_grpc(const ot_load_answer *a, char out[24]);
/* GetModelMetadataResponse into t->inputs and t->outputs, which have room for
 * OT_LOAD_TENSORS_MAX each. */
ot_rc ot_load_signature_tfs_grpc(ot_load_target *t, ot_slice body, ot_error *err) OT_CHECKED;

/* A call of gRPC: begin, append the message to r->body, end. */
void ot_load_grpc_begin(ot_load_request *r);
ot_rc ot_load_grpc_end(ot_load_request *r, const ot_load_target *t, const char *path,
                       ot_error *err) OT_CHECKED;
/* Sends the one call that was begun and has `read` put what the answer says into t->inputs and
 * t->outputs, as above. Takes r. */
typedef ot_rc ot_load_grpc_read_fn(ot_load_target *t, ot_slice body, ot_error *err);
ot_rc ot_load_grpc_ask(ot_load_target *t, ot_load_request *r, const char *path,
                       ot_load_grpc_read_fn *read, ot_error *err) OT_CHECKED;

/* Asks for the signature, in the target's protocol. */
ot_rc ot_load_ask(ot_load_target *t, ot_error *err) OT_CHECKED;
ot_rc ot_load_ask_oip(ot_load_target *t, ot_error *err) OT_CHECKED;
ot_rc ot_load_ask_tfs(ot_load_target *t, ot_error *err) OT_CHECKED;
ot_rc ot_load_ask_grpc(ot_load_target *t, ot_error *err) OT_CHECKED;
ot_rc ot_load_ask_tfs_grpc(ot_load_target *t, ot_error *err) OT_CHECKED;

#endif
