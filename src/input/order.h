/* The order in which the rows of a dataset are read, and who reads which.
 *
 * An epoch is a sequence of positions 0..rows-1. `ot_order` says which row stands at a position: a
 * keyed permutation that is computed and never stored, so it costs the same for a thousand rows and
 * for a trillion. It depends on (rows, block, seed, epoch) alone, never on how many ranks there
 * are.
 *
 * Positions are dealt in rounds, one batch for each rank; a round depends on how many rows are left
 * alone, so that what has not been read can be dealt anew to other ranks at any time.
 * Threads: any; pure. */
#ifndef OT_INPUT_ORDER_H
#define OT_INPUT_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#define OT_ORDER_ROUNDS 6
#define OT_ORDER_WINDOW 16 /* blocks whose rows are mixed with each other */

typedef struct ot_order {
    uint64_t rows, block;
    bool shuffled;
    uint64_t keys[OT_ORDER_ROUNDS];
    /* With blocks: their number, and among them where the last, short one stands (blocks: none). */
    uint64_t blocks, short_slot, short_rows;
} ot_order;

/* `shuffled` false: position p is row p. `block` 0: any row may follow any other. Else rows are
 * read in runs of `block` (the last run is shorter): the runs are permuted, and within each
 * OT_ORDER_WINDOW of them all rows. rows < 2^62. */
void ot_order_init(ot_order *o, uint64_t rows, bool shuffled, uint64_t block, uint64_t seed,
                   uint64_t epoch);
/* The row at a position below `rows`; a bijection. */
uint64_t ot_order_row(const ot_order *o, uint64_t position);

/* Rows of the next round when `left` are left: batch * size, except near the end, where the last
 * two rounds are evened out so that every rank has a row in each (impossible only when fewer rows
 * than ranks are left). `drop`: no round but full ones. 0: the epoch has ended. */
uint64_t ot_deal_round(uint64_t left, uint64_t batch, uint64_t size, bool drop);
/* The part of a round of `rows` that a rank reads: [*at, *at + returned). The ranks' parts are
 * consecutive, cover the round, and differ by one row at most. */
uint64_t ot_deal_share(uint64_t rows, uint64_t rank, uint64_t size, uint64_t *at);

#endif
