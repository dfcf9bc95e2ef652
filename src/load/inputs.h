/* The inputs that load sends: made up from a seed after a signature, or read from a file.
 *
 * Threads: any once made. Lifetime: make or read, then done. */
#ifndef OT_LOAD_INPUTS_H
#define OT_LOAD_INPUTS_H

#include "load/target.h"
#include "registry/table.h"

#define OT_LOAD_INPUTS_MAX 65536
#define OT_LOAD_INPUTS_BYTES_MAX (1ull << 30)

typedef struct ot_load_inputs {
    size_t n;           /* requests */
    size_t per_request; /* tensors of each */
    ot_tensor *tensors; /* request after request, each in the order of the specifications */
    ot_arena arena;
    ot_table table; /* of a .npz file */
} ot_load_inputs;

/* Floats in [0, 1), integers 0 to 9, text of eight letters. Axis 0 that is open has `rows` rows;
 * what else is open has `open_dim`. The same seed gives the same inputs on every machine. */
ot_rc ot_load_inputs_make(const ot_tensor_spec *specs, size_t n_specs, size_t n, int64_t rows,
                          int64_t open_dim, uint64_t seed, ot_load_inputs *out,
                          ot_error *err) OT_CHECKED;
/* From a file with a column for each specification (.npz, .npy, a folder of .npy), cut into
 * requests of `rows` rows, or a .json with one request of the Open Inference Protocol or an array
 * of them. At most n requests (0: all). OT_INVALID when a tensor does not fit its
 * specification. */
ot_rc ot_load_inputs_read(const char *path, const ot_tensor_spec *specs, size_t n_specs,
                          int64_t rows, size_t n, ot_load_inputs *out, ot_error *err) OT_CHECKED;
void ot_load_inputs_done(ot_load_inputs *in); /* also of a zeroed one */

static inline const ot_tensor *ot_load_inputs_at(const ot_load_inputs *in, size_t i)
{
    return &in->tensors[i % in->n * in->per_request];
}

#endif
