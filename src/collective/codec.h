/* Codecs: fewer bytes for an allreduce of F32, by two shots.
 *
 * Each rank encodes its numbers once and sends every owner its chunk; the owner decodes what came,
 * sums it in F32 in rank order, encodes the sum once and sends it to all; every rank, the owner
 * too, takes the decoded copy: all hold the same bits. What encoding leaves behind is kept in a
 * residual and added the next time (error feedback; Seide et al. 2014, Karimireddy et al. 2019).
 *
 * An average is asked for by scaling the input by 1/n before: F16 would overflow else.
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

const char *ot_codec_name(ot_codec c); /* "int8" */
bool ot_codec_keeps(ot_codec c);       /* has a residual */
uint64_t ot_codec_bytes(ot_codec c, uint64_t n);
/* residual: n numbers, added before and left behind after; NULL: none. */
void ot_codec_encode(ot_codec c, void *out, const float *in, float *residual, uint64_t n);
void ot_codec_decode(ot_codec c, float *out, const void *in, uint64_t n);
/* acc[i] += what in[i] decodes to. */
void ot_codec_add(ot_codec c, float *acc, const void *in, uint64_t n);

/* Who owns what in an allreduce of `count` numbers. */
typedef struct ot_twoshot {
    ot_codec codec;
    int32_t rank, size;
    uint64_t count;
    uint64_t *sends; /* size of them: bytes to each rank, and of each rank's sum */
    uint64_t *recvs; /* size of them: bytes of the own chunk, from each */
} ot_twoshot;

ot_rc ot_twoshot_init(ot_twoshot *t, ot_codec c, int32_t rank, int32_t size, uint64_t count,
                      ot_error *err) OT_CHECKED;
void ot_twoshot_done(ot_twoshot *t);
uint64_t ot_twoshot_bytes(const ot_twoshot *t); /* sum of sends */
uint64_t ot_twoshot_heard(const ot_twoshot *t); /* sum of recvs */
uint64_t ot_twoshot_owned(const ot_twoshot *t); /* numbers of the own chunk */
/* out: ot_twoshot_bytes; residual: `count` numbers or NULL. */
void ot_twoshot_pack(const ot_twoshot *t, void *out, const float *in, float *residual);
/* in: what all sent, ot_twoshot_heard; acc: room for the own chunk; out: its encoded sum,
 * sends[rank] bytes; residual: as many numbers as are owned, or NULL. */
void ot_twoshot_sum(const ot_twoshot *t, void *out, const void *in, float *acc, float *residual);
/* in: all sums, ot_twoshot_bytes; out: `count` numbers. */
void ot_twoshot_unpack(const ot_twoshot *t, float *out, const void *in);

#endif
