/* Codecs: fewer bytes for an allreduce of F32, by two shots.
 *
 * Each rank encodes its numbers once and sends every owner its chunk; the owner decodes what came,
 * sums it in F32 in rank order, encodes the sum once and sends it to all; every rank, the owner
 * too, takes the decoded copy: all hold the same bits. What encoding leaves behind is kept in a
 * residual and added the next time (error feedback; Seide et al. 2014, Karimireddy et al. 2019).
 *
 * What goes by F16 is divided by the number of ranks before: the sum would overflow else.
 *
 *     pack -> ALLTOALL of bytes (sends, recvs) -> sum -> ALLGATHER of bytes (sends) -> unpack
 *
 * Threads: pure. Encoded bytes may lie at any alignment. */
#ifndef OT_COLLECTIVE_CODEC_H
#define OT_COLLECTIVE_CODEC_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ot_codec {
    OT_CODEC_F16, /* no residual */
    OT_CODEC_BF16,
    OT_CODEC_INT8, /* blocks of OT_CODEC_BLOCK numbers with a scale each, residual */
    OT_CODECS
} ot_codec;

/* Chunks begin at multiples of it. INT8: a block is its scale (F32, little-endian), then a signed
 * byte a number: scale * byte is the number. A block with a number that is not finite decodes to
 * NaNs and leaves its residual as it was. */
#define OT_CODEC_BLOCK 512
/* So many numbers are on their way at once: whole blocks. */
#define OT_CODEC_PART ((uint64_t)512 << 10)

const char *ot_codec_name(ot_codec c); /* "int8" */
bool ot_codec_keeps(ot_codec c);       /* has a residual */
uint64_t ot_codec_bytes(ot_codec c, uint64_t n);
/* residual: n numbers, added before and left behind after; NULL: none. */
void ot_codec_encode(ot_codec c, void *out, const float *in, float *residual, uint64_t n);
void ot_codec_decode(ot_codec c, float *out, const void *in, uint64_t n);
/* acc[i] += what in[i] decodes to. */
void ot_codec_add(ot_codec c, float *acc, const void *in, uint64_t n);

/* A tensor, or a part of one, in an allreduce. Blocks begin anew with each. */
typedef struct ot_span {
    const float *in; /* NULL: zeros */
    float *out;      /* NULL: not wanted; may be in */
    /* Of what this rank sends and, where it is the owner, of the sum: what is left of that is this
     * rank's to send the next time. NULL: nothing is kept. */
    float *residual;
    uint64_t count;
    float before, after; /* factors */
} ot_span;

/* Who owns what in an allreduce of spans. */
typedef struct ot_twoshot {
    ot_codec codec;
    int32_t rank, size;
    const ot_span *spans;
    size_t n;
    uint64_t blocks, bytes; /* of all; bytes: the sum of sends */
    uint64_t *sends;        /* size of them: bytes to each rank, and of each rank's sum */
    uint64_t *recvs;        /* size of them: bytes of the own chunk, from each */
} ot_twoshot;

/* The spans outlive it. */
ot_rc ot_twoshot_init(ot_twoshot *t, ot_codec c, int32_t rank, int32_t size, const ot_span *spans,
                      size_t n, ot_error *err) OT_CHECKED;
void ot_twoshot_done(ot_twoshot *t);
uint64_t ot_twoshot_heard(const ot_twoshot *t); /* sum of recvs */
void ot_twoshot_pack(const ot_twoshot *t, void *out);
/* in: what all sent, ot_twoshot_heard; out: the encoded sum of the own chunk, sends[rank] bytes. */
void ot_twoshot_sum(const ot_twoshot *t, void *out, const void *in);
/* in: all sums, `bytes` of them. */
void ot_twoshot_unpack(const ot_twoshot *t, const void *in);

#endif
