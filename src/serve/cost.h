/* What a run costs by the number of its rows: a moving average for each power of two.
 *
 * Threads: any. Synchronization: relaxed atomics; a lost update costs a little precision. */
#ifndef OT_SERVE_COST_H
#define OT_SERVE_COST_H

#include <stdatomic.h>
#include <stdint.h>

#define OT_COST_BUCKETS 17 /* 1, 2, 4, ... 65536 rows */

typedef struct ot_cost {
    _Atomic uint64_t ns[OT_COST_BUCKETS]; /* 0: not seen yet */
} ot_cost;

unsigned ot_cost_bucket(int64_t rows); /* floor(log2(rows)), capped; 0 for rows < 1 */
void ot_cost_add(ot_cost *c, int64_t rows, uint64_t ns);
/* From the nearest size that was seen; 0 when nothing was. */
uint64_t ot_cost_predict(const ot_cost *c, int64_t rows);
/* How many of `rows` waiting rows to run next: the size with the least predicted time a row among
 * those of at most `max` rows. A size nobody has measured is not preferred. */
int64_t ot_cost_best(const ot_cost *c, int64_t rows, int64_t max);

#endif
