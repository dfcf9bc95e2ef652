/* Tallies: how many events of a kind there were and how many of them were bad, by the minute and by
 * the hour, so that any span is summed from few rows.
 *
 * Plain rows and single operations; what counts as an event is src/quality's. Threads and lifetime:
 * those of the transaction. */
#ifndef OT_STORE_TALLY_H
#define OT_STORE_TALLY_H

#include "store/store.h"

#include <stdint.h>

#define OT_TALLY_STEP_US INT64_C(60000000) /* spans begin and end at whole minutes */
#define OT_TALLY_EXPIRE_MAX 1000           /* rows a call */

/* Names of tallies. What is slow depends on the limit, so each limit has a tally of its own. */
#define OT_TALLY_AVAILABILITY "availability"
#define OT_TALLY_ACCURACY "accuracy"
char *ot_tally_latency(int64_t at_most_us, char out[48]);

typedef struct ot_tally_counts {
    double events, bad; /* weighted */
    int64_t seen;       /* events without weights */
} ot_tally_counts;

/* Adds to the minute of time_us. Members may be below 0: a correction. */
ot_rc ot_tally_add(ot_txn *txn, const char *deployment, const char *name, int64_t time_us,
                   const ot_tally_counts *add, ot_error *err) OT_CHECKED;
/* Minutes that begin in [from_us, to_us). */
ot_rc ot_tally_sum(ot_txn *txn, const char *deployment, const char *name, int64_t from_us,
                   int64_t to_us, ot_tally_counts *out, ot_error *err) OT_CHECKED;
/* Where the first and the last minute from from_us on begin; both 0: there is none. */
ot_rc ot_tally_range(ot_txn *txn, const char *deployment, const char *name, int64_t from_us,
                     int64_t *first_us_out, int64_t *last_us_out, ot_error *err) OT_CHECKED;
/* Deletes what began before `before_us`, at most `limit` (1..1000) rows. */
ot_rc ot_tally_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint32_t limit,
                      ot_error *err) OT_CHECKED;

#endif
