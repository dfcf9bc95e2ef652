/* The labels half of the evidence: what its files share; not for others.
 *
 * samples.c and labels.c take in, join.c makes outcomes of both and feeds the tests, compare.c
 * answers the comparison of two versions, labelled.c gives labelled rows back, labels_state.c keeps
 * and reads the state. Every intake works on a copy of the state inside its transaction; the copy
 * takes its place once that is durable. */
#ifndef OT_QUALITY_LABELS_H
#define OT_QUALITY_LABELS_H

#include "model/manifest.h"
#include "quality/internal.h"
#include "stats/labeltest.h"
#include "store/outcomes.h"
#include "store/samples.h"

#define Q_LABELS_SHARE 0.25 /* of the promise of false alarms */
#define Q_KINDS_MAX 16
#define Q_EVENT_US 10000000 /* samples leave an event at most so often */

/* Plain values, kept as JSON in the store. */
typedef struct q_labels_state {
    int64_t champion; /* 0: none yet */
    bool testing;     /* there is an objective and a champion that can be judged */
    bool degraded;    /* proven, and not proven otherwise since */
    ot_degrade degrade, recover;
    int64_t tested_us; /* when the test last saw a label */
    int64_t joined;    /* labels, all since the deployment began */
    int64_t segments, dropped_rows;
    uint64_t bytes;
    bool watching;
    ot_pair_watch watch;
    ot_pair_counts all, arm;
    int64_t answered; /* rows that the watched candidate answered live */
    int64_t told_us;  /* when samples last left an event */
    int64_t untold_rows, untold_segments;
} q_labels_state;

/* How a version's answers are judged. */
typedef struct q_kind {
    int64_t version;
    ot_prediction_kind kind;
    char output[OT_MANIFEST_TENSOR_NAME_MAX + 1];
} q_kind;

struct q_labels {
    q_labels_state st;
    bool stale;
    q_kind kinds[Q_KINDS_MAX];
    size_t n_kinds;
};

/* --- labels_state.c */

ot_rc q_labels_save(ot_txn *txn, const ot_quality *q, const q_labels_state *st,
                    ot_error *err) OT_CHECKED;
/* Reads the state again if it is stale. Not inside a transaction. */
ot_rc q_labels_fresh(ot_quality *q, ot_error *err) OT_CHECKED;
/* Starts the label test anew for st->champion; there is none without an objective, nor where
 * answers have no right and wrong. */
ot_rc q_labels_restart(ot_txn *txn, ot_quality *q, q_labels_state *st, ot_error *err) OT_CHECKED;
/* From the manifest of the version's bundle; kept. In or outside a transaction (`txn`). */
ot_rc q_version_kind(ot_txn *txn, ot_quality *q, int64_t version, q_kind *out,
                     ot_error *err) OT_CHECKED;
ot_rc q_version_manifest(ot_txn *txn, const ot_quality *q, int64_t version, ot_manifest *m_out,
                         ot_error *err) OT_CHECKED;

/* --- join.c */

typedef struct q_join {
    ot_quality *q;
    ot_txn *txn;
    q_labels_state next;
    int64_t now_us;
    double weight; /* of a label in the test: see ot_degrade_add_weighted */
    int64_t joined, pairs;
    uint64_t degraded_seq, recovered_seq;
    char text[160]; /* of the finding */
} q_join;

/* A join for about `labels` labels that came together. */
q_join q_join_begin(ot_quality *q, ot_txn *txn, size_t labels);
/* One version's answer to a labelled row. `label->joined` is set. */
ot_rc q_join_answer(q_join *j, const ot_segment_row *seg, const ot_answer *a, ot_label_row *label,
                    ot_error *err) OT_CHECKED;
/* Counts a row in the watched comparison if both versions' answers to it were judged: 1 adds it, -1
 * takes it away (before its label is corrected). */
ot_rc q_join_count(q_join *j, uint64_t incarnation, uint64_t seq, int sign,
                   ot_error *err) OT_CHECKED;
/* Takes the row's answer out of the tally of wrong ones (-1, before its label is corrected) and
 * puts it in again (1). */
ot_rc q_join_retally(q_join *j, uint64_t incarnation, uint64_t seq, int sign,
                     ot_error *err) OT_CHECKED;
/* Tells what was found; after the transaction is durable and the state in place. */
void q_join_tell(const q_join *j);

#endif
