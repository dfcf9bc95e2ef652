/* Low rank: a matrix M (rows, cols) goes over the wire as P (rows, rank) and Q (cols, rank), whose
 * product stands for it, with error feedback (PowerSGD; Vogels et al. 2019):
 *
 *     begin    M = gradient + residual; P = M Q       P is averaged over the ranks
 *     middle   P made orthonormal; Q = M' P           Q is averaged
 *     end      gradient = P Q'; residual = M - P Q'
 *
 * Q is the last step's: one power iteration a step. P and Q lie transposed, a row of `rows` or
 * `cols` numbers for each of `rank`. From averages with the same bits all ranks make the same bits,
 * whatever their instruction set.
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_LOWRANK_H
#define OT_COLLECTIVE_LOWRANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_lowrank {
    size_t rows, cols, rank;
    float *m;        /* rows * cols: the gradient, from end on what stands for it */
    float *residual; /* rows * cols */
    float *p, *q;    /* rank * rows, rank * cols */
} ot_lowrank;

/* Are P and Q together less than half of M? */
bool ot_lowrank_pays(size_t rows, size_t cols, size_t rank);
/* The first Q: numbers that depend on the sizes alone. */
void ot_lowrank_seed(ot_lowrank *l);
void ot_lowrank_begin(ot_lowrank *l);
void ot_lowrank_middle(ot_lowrank *l);
/* false: P or Q is not finite, on all ranks alike: M is NaN, the residual as it was before begin, Q
 * begins anew. */
bool ot_lowrank_end(ot_lowrank *l);

#endif
