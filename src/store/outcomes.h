/* Labels of sampled rows, and outcomes: what each version answered to a labelled row.
 *
 * Plain rows and single operations; what they mean is src/quality's. Threads and lifetime: those of
 * the transaction; pointers given to callbacks live until they return. A row is named by
 * (incarnation, seq) within its deployment. */
#ifndef OT_STORE_OUTCOMES_H
#define OT_STORE_OUTCOMES_H

#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define OT_LABEL_SOURCE_MAX 64 /* bytes */

typedef struct ot_label_row {
    uint64_t incarnation, seq;
    double value;
    const char *source;
    int64_t time_us;     /* when it was found out */
    int64_t received_us; /* when it came here */
    bool joined;         /* some version's answer is here */
} ot_label_row;

typedef enum ot_label_put {
    OT_LABEL_NEW,
    OT_LABEL_SAME,      /* known with this value; nothing changed */
    OT_LABEL_CORRECTED, /* known with another value; the new one counts from now on */
} ot_label_put;
/* `row->joined` is ignored. */
ot_rc ot_label_set(ot_txn *txn, const char *deployment, const ot_label_row *row, ot_label_put *out,
                   ot_error *err) OT_CHECKED;
ot_rc ot_label_set_joined(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t seq,
                          ot_error *err) OT_CHECKED;
typedef ot_rc ot_label_fn(void *arg, const ot_label_row *row, ot_error *err);
/* Labels of rows numbered in [first, last], by number. */
ot_rc ot_labels_over(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t first,
                     uint64_t last, ot_label_fn *fn, void *arg, ot_error *err) OT_CHECKED;
/* All labels, in the order in which they came. */
ot_rc ot_labels_received(ot_txn *txn, const char *deployment, ot_label_fn *fn, void *arg,
                         ot_error *err) OT_CHECKED;
/* Labels whose row has not arrived, of those received at or after from_us. */
ot_rc ot_labels_waiting(ot_txn *txn, const char *deployment, int64_t from_us, int64_t *n_out,
                        ot_error *err) OT_CHECKED;
/* When the newest label came here; 0: there is none. */
ot_rc ot_labels_last(ot_txn *txn, const char *deployment, int64_t *us_out,
                     ot_error *err) OT_CHECKED;
/* A process of that incarnation has pushed something for the deployment. */
ot_rc ot_incarnation_known(ot_txn *txn, const char *deployment, uint64_t incarnation,
                           bool *known_out, ot_error *err) OT_CHECKED;

typedef struct ot_outcome_row {
    uint64_t incarnation, seq;
    int64_t version;
    bool shadow;
    int right;         /* 1, 0; -1: there is no right and wrong (regression) */
    double prediction; /* NaN: none */
    double label;
    int64_t time_us;    /* of the prediction */
    double probability; /* of being sampled */
    int64_t joined_us;  /* when answer and label were both here; 0: not kept then */
} ot_outcome_row;

/* *added_out is false when the version's outcome of this row is there already: nothing changes. */
ot_rc ot_outcome_add(ot_txn *txn, const char *deployment, const ot_outcome_row *row,
                     bool *added_out, ot_error *err) OT_CHECKED;
/* A corrected label: sets label and right of all outcomes of the row. */
ot_rc ot_outcomes_relabel(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t seq,
                          double label, ot_error *err) OT_CHECKED;
/* Outcomes of all versions, row by row: `limit` at most, from the first after (incarnation, seq,
 * version) in that order. */
typedef ot_rc ot_outcome_fn(void *arg, const ot_outcome_row *row, ot_error *err);
ot_rc ot_outcomes_after(ot_txn *txn, const char *deployment, const ot_outcome_row *after,
                        int64_t limit, ot_outcome_fn *fn, void *arg, ot_error *err) OT_CHECKED;
/* OT_NOT_FOUND: the version has no outcome of this row. */
ot_rc ot_outcome_get(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t seq,
                     int64_t version, ot_outcome_row *out, ot_error *err) OT_CHECKED;
/* The outcome of the answer that somebody got; a row has one at most. */
ot_rc ot_outcome_live(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t seq,
                      ot_outcome_row *out, bool *found_out, ot_error *err) OT_CHECKED;

/* Of one version with times in [from_us, to_us): the newest `limit`, newest first. */
ot_rc ot_outcomes_of_version(ot_txn *txn, const char *deployment, int64_t version, int64_t from_us,
                             int64_t to_us, int64_t limit, ot_outcome_fn *fn, void *arg,
                             ot_error *err) OT_CHECKED;
/* Whether each judged answer of a version with its time in [from_us, to_us) was wrong: the newest
 * `limit`, newest first, rows of one time by number. `wrong_out` has room for them. */
ot_rc ot_outcomes_wrong(ot_txn *txn, const char *deployment, int64_t version, int64_t from_us,
                        int64_t to_us, int64_t limit, uint8_t *wrong_out, int64_t *n_out,
                        ot_error *err) OT_CHECKED;
/* When the nth newest outcome of a version was predicted, or the oldest where there are fewer; 0:
 * there is none. */
ot_rc ot_outcome_nth(ot_txn *txn, const char *deployment, int64_t version, int64_t nth,
                     int64_t *us_out, ot_error *err) OT_CHECKED;
/* Live outcomes of all versions since from_us: the newest `limit`, newest first. */
ot_rc ot_outcomes_live(ot_txn *txn, const char *deployment, int64_t from_us, int64_t limit,
                       ot_outcome_fn *fn, void *arg, ot_error *err) OT_CHECKED;
/* Right and wrong answers of one version in [from_us, to_us), counted over buckets of bucket_us
 * from from_us on, in their order. */
typedef struct ot_outcome_bucket {
    int64_t bucket; /* 0: the first */
    bool shadow;
    int64_t labelled, right;
} ot_outcome_bucket;
typedef ot_rc ot_outcome_bucket_fn(void *arg, const ot_outcome_bucket *b, ot_error *err);
ot_rc ot_outcome_buckets(ot_txn *txn, const char *deployment, int64_t version, int64_t from_us,
                         int64_t to_us, int64_t bucket_us, ot_outcome_bucket_fn *fn, void *arg,
                         ot_error *err) OT_CHECKED;
/* Versions with outcomes since from_us; shadow: none of these was live. */
typedef ot_rc ot_outcome_version_fn(void *arg, int64_t version, bool shadow, ot_error *err);
ot_rc ot_outcome_versions(ot_txn *txn, const char *deployment, int64_t from_us,
                          ot_outcome_version_fn *fn, void *arg, ot_error *err) OT_CHECKED;

/* Pairs: rows at or after from_us with a right or wrong answer of both versions. The arm is those
 * that `candidate` answered live. */
typedef struct ot_pair_counts {
    int64_t n, candidate_right, champion_right, only_candidate, only_champion;
} ot_pair_counts;
ot_rc ot_outcomes_pairs(ot_txn *txn, const char *deployment, int64_t candidate, int64_t champion,
                        int64_t from_us, ot_pair_counts *all_out, ot_pair_counts *arm_out,
                        ot_error *err) OT_CHECKED;

/* Deletes labels received and outcomes predicted before `before_us`, at most `limit` of each. */
ot_rc ot_outcomes_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint32_t limit,
                         ot_error *err) OT_CHECKED;

#endif
