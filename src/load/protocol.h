/* The protocols that load speaks: requests made, answers read.
 *
 * Threads: any. */
#ifndef OT_LOAD_PROTOCOL_H
#define OT_LOAD_PROTOCOL_H

#include "load/engine.h"
#include "load/target.h"

/* The transport of the protocol, and how many requests one of its connections may carry at once. */
const ot_load_wire *ot_load_protocol_wire(ot_load_protocol p);

/* `inputs`: in the order of the target's signature. */
ot_rc ot_load_encode(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *out,
                     ot_error *err) OT_CHECKED;

typedef struct ot_load_outputs {
    ot_tensor *tensors; /* in the answer's order; views of the answer or in the arena */
    size_t n;
} ot_load_outputs;
/* Of an answer that says success. */
ot_rc ot_load_decode(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                     ot_load_outputs *out, ot_error *err) OT_CHECKED;
/* The version that answered, as the message says it; "" when it does not. */
void ot_load_version_of(const ot_load_target *t, const ot_load_answer *a, char out[24]);
/* How an answer that does not say success counts; OT_LOAD_CORRECT when it does. */
ot_load_outcome ot_load_status(const ot_load_answer *a);

#endif
