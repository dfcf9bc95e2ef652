/* Low rank: a matrix M (rows, cols) goes over the wire as P (rows, rank) and Q (cols, rank), whose
 * product stands for it, with error feedback (PowerSGD; Vogels et al. 2019):
 *
 *     begin    P = M Q, where M = in * before + residual      P is summed over the ranks
 *     middle   P made orthonormal; sums = M' P                sums is summed over the ranks
 *     end      Q = sums / ranks; out = P Q' * after; residual = M - P Q'
 *
 * Q is the last step's: one power iteration a step. P, Q and sums lie transposed, a row of `rows`
 * or `cols` numbers for each of `rank`. M is never written down: each of the three reads `in` and
 * `residual` once. From sums with the same bits all ranks make the same bits, whatever their
 * instruction set.
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_LOWRANK_H
#define OT_COLLECTIVE_LOWRANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_lowrank {
    size_t rows, cols, rank;
    const float *in;          /* rows * cols */
    float *out;               /* the same; may be in */
    size_t in_step, out_step; /* cols; 0: all rows are the first */
    float before, after;
    float *residual; /* rows * cols, kept from step to step */
    float *q;        /* rank * cols, the same */
    float *p, *sums; /* rank * rows, rank * cols: on their way */
} ot_lowrank;

/* Are P and Q together less than half of M? */
bool ot_lowrank_pays(size_t rows, size_t cols, size_t rank);
/* The first Q: numbers that depend on the sizes alone. */
void ot_lowrank_seed(ot_lowrank *l);
void ot_lowrank_begin(ot_lowrank *l);
void ot_lowrank_middle(ot_lowrank *l);
/* false: P or Q is not finite, on all ranks alike: out is NaN, the residual stays as it was, Q
 * begins anew. */
bool ot_lowrank_end(ot_lowrank *l, int32_t ranks);

#endif
