/* NumPy's .npy files (format 1.0, 2.0, 3.0) in memory: header to tensor view and back.
 *
 * Little-endian, C order, types f2 f4 f8 i1-i8 u1-u8 b1. The view points into the file's bytes.
 * Threads: any; pure. Source: numpy.lib.format. */
#ifndef OT_CODEC_NPY_H
#define OT_CODEC_NPY_H

#include "base/error.h"
#include "base/str.h"
#include "codec/tensor.h"

/* The array in p[0..n). The name is left NULL. Data are 64-byte aligned relative to p when NumPy
 * wrote the file. OT_INVALID says what is wrong: not a .npy file, Fortran order, objects, a
 * big-endian or unknown type, rank over OT_RANK_MAX, fewer bytes than the shape needs, or more. */
ot_rc ot_npy_parse(const void *p, size_t n, ot_tensor *out, ot_error *err) OT_CHECKED;
/* Appends the header (version 1.0) that goes before the tensor's data. BF16 and BYTES have no
 * .npy type: OT_INVALID. */
ot_rc ot_npy_header(const ot_tensor *t, ot_str *out, ot_error *err) OT_CHECKED;

#endif
