/* NumPy's .npy files (format 1.0, 2.0, 3.0) in memory: header to tensor view and back.
 *
 * Little-endian, C order, types f2 f4 f8 i1-i8 u1-u8 b1. The view points into the file's bytes.
 * Threads: any; pure. Source: numpy.lib.format. */
#ifndef OT_CODEC_NPY_H
#define OT_CODEC_NPY_H

#include "base/error.h"
#include "base/str.h"
#include "codec/tensor.h"

#define OT_NPY_ELEMENT_MAX 65536 /* bytes of one element: texts have many */

/* What a header says, of every type but structures and Python objects. */
typedef struct ot_npy_head {
    char descr[32]; /* NumPy's: "<f4", "|S5", "<M8[ns]" */
    char kind;      /* b i u f c S U M m V */
    bool fortran;   /* the first index varies fastest */
    size_t element_bytes;
    size_t swap_bytes; /* big-endian: runs of so many bytes are to be turned round; else 0 */
    int rank;
    int64_t dims[OT_RANK_MAX];
    size_t data_at, data_bytes; /* from the file's begin */
} ot_npy_head;

/* Of the file p[0..n), whose data must be exactly as long as the header says. */
ot_rc ot_npy_head_read(const void *p, size_t n, ot_npy_head *out, ot_error *err) OT_CHECKED;
/* The array in p[0..n). The name is left NULL. Data are 64-byte aligned relative to p when NumPy
 * wrote the file. OT_INVALID says what is wrong: not a .npy file, Fortran order, objects, a
 * big-endian or unknown type, rank over OT_RANK_MAX, fewer bytes than the shape needs, or more. */
ot_rc ot_npy_parse(const void *p, size_t n, ot_tensor *out, ot_error *err) OT_CHECKED;
/* Appends the header (version 1.0) that goes before the tensor's data. BF16 and BYTES have no
 * .npy type: OT_INVALID. */
ot_rc ot_npy_header(const ot_tensor *t, ot_str *out, ot_error *err) OT_CHECKED;

#endif
