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
ot_rc ot_load_decode_grpc(const ot_load_answer *a, ot_arena *arena, ot_load_outputs *out,
                          ot_error *err) OT_CHECKED;
void ot_load_version_grpc(const ot_load_answer *a, char out[24]);
/* Asks for the signature. */
ot_rc ot_load_ask_grpc(ot_load_target *t, ot_error *err) OT_CHECKED;

#endif
