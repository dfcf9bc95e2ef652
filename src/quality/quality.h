/* Quality: the evidence of one deployment, in the control plane.
 *
 * Windows and samples arrive from replicas, labels from people and programs. Windows become blocks,
 * blocks become e-values (stats/edetect.h); samples and labels join into losses, losses into the
 * label test and into the comparison of two versions on the same rows (stats/labeltest.h). Each
 * intake is one store transaction that holds the data, the new state of the evidence, the tallies
 * that error budgets are made of (store/tally.h) and its events; a push that was counted before
 * changes nothing.
 *
 * Findings are reported after their transaction is durable, from inside the intake call, on the
 * calling thread. They say what was found and the events that say so; what follows from them is the
 * pipeline's business.
 *
 * Threads: one (the control loop). Lifetime: create/destroy; the store must outlive it. */
#ifndef OT_QUALITY_QUALITY_H
#define OT_QUALITY_QUALITY_H

#include "base/error.h"
#include "base/str.h"
#include "registry/table.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_quality ot_quality;

typedef enum ot_finding_kind {
    OT_FINDING_DRIFT,     /* the inputs or outputs moved against the accepted baseline */
    OT_FINDING_AT_RISK,   /* confidence says that accuracy may have fallen: ask for labels */
    OT_FINDING_DEGRADED,  /* labels prove that the objective is missed */
    OT_FINDING_RECOVERED, /* labels prove that it is met again */
    OT_FINDING_LABELS,    /* labels joined since the last report */
    OT_FINDING_PAIR,      /* the watched comparison has new pairs */
} ot_finding_kind;

typedef struct ot_finding {
    ot_finding_kind kind;
    const char *deployment;
    uint64_t event_seq; /* the event that holds the numbers; 0 for LABELS and PAIR */
    int64_t labels_new; /* LABELS: joined by this intake */
    const char *text;   /* one line for people: "pixel_3_4 up 0.6 sigma since 14:02" */
} ot_finding;

typedef void ot_finding_fn(void *arg, const ot_finding *f);

typedef struct ot_quality_config {
    const char *deployment;
    const char *model;
    const char *app; /* scope of the events */
    int64_t window_us, block_us;
    int64_t blocks_per_day, baseline_days;
    int cycles;                   /* 0 none, 1 daily, 2 weekly */
    double ignore_smaller;        /* sigmas */
    double false_alarms_per_year; /* all tiers of this deployment together */
    double accuracy_at_least;     /* 0: no objective, no label test */
    int64_t p99_at_most_us;       /* 0: no objective, no tally of slow windows */
    bool join_on_key;             /* labels name the caller's key instead of the prediction id */
    uint64_t sample_max_bytes;    /* then the oldest segments go */
    int64_t sample_keep_us;
    ot_finding_fn *on_finding;
    void *arg;
} ot_quality_config;

/* Loads the state that an earlier process left. Strings of the config are copied. */
ot_rc ot_quality_create(ot_store *store, const ot_quality_config *cfg, ot_quality **out,
                        ot_error *err) OT_CHECKED;
/* Objectives, lengths and tolerance may change while it lives; evidence that depends on a changed
 * setting starts anew and an event says so. */
ot_rc ot_quality_configure(ot_quality *q, const ot_quality_config *cfg, ot_error *err) OT_CHECKED;
void ot_quality_destroy(ot_quality *q);

/* A push of a replica (docs/architecture.md, "Agent protocol"): `json` is its JSON part with
 * "stream", "seq" and "incarnation". OT_OK also for one that was counted before: acknowledge it.
 * OT_INVALID names the field: drop it, it will never be right. */
ot_rc ot_quality_push(ot_quality *q, const char *json, size_t json_len, const void *bin,
                      size_t bin_len, ot_error *err) OT_CHECKED;

typedef struct ot_label_in {
    const char *id;     /* prediction id, or the caller's key with join_on_key */
    double value;       /* class number or value */
    const char *source; /* who says so; NULL: "api" */
    int64_t time_us;    /* when it was found out; 0: now */
} ot_label_in;

typedef struct ot_label_report {
    int64_t accepted; /* rows that had no label, stored now */
    int64_t joined;   /* of these, with some version's answer here */
    int64_t waiting;  /* the others of these: the answer is on its way, or too old to be kept */
    int64_t repeated; /* known before, also in this call, unchanged */
    int64_t
        corrected; /* known before, also in this call, with another value; the last one counts */
    /* Refused: no id of a sampled row; of a process that never pushed for this deployment; with
     * join_on_key a key that no row here carried (its row may be on its way: send it again). */
    int64_t unknown;
    char first_unknown[128]; /* cut where a character ends */
} ot_label_report;

/* At most OT_LABELS_MAX a call. With all ids unknown: OT_INVALID and the text of DESIGN.md
 * ("labels: 1,204 of 1,204 ids unknown (first: 'A-1001'); this deployment joins on prediction_id.
 * Set labels.join."); nothing is stored. */
#define OT_LABELS_MAX 100000
ot_rc ot_quality_labels(ot_quality *q, const ot_label_in *labels, size_t n, const char *actor,
                        ot_label_report *out, ot_error *err) OT_CHECKED;

/* Comparison of two versions on the rows that both answered since `since_us` and whose label is
 * known. One watch at a time; the state is kept over restarts and reset by a watch on another pair,
 * another since_us or other parameters. */
typedef struct ot_pair_watch {
    int64_t candidate, champion; /* version numbers */
    int64_t since_us;
    double margin, alpha;
    /* Canary: NOT_WORSE counts only rows that the candidate itself answered, so that what takes
     * over has been tried in earnest; WORSE counts all rows, so that what harms is stopped soonest.
     */
    bool candidate_live_only;
} ot_pair_watch;

typedef enum ot_pair_verdict {
    OT_PAIR_UNDECIDED,
    OT_PAIR_NOT_WORSE,
    OT_PAIR_WORSE,
} ot_pair_verdict;

typedef struct ot_pair_state {
    int64_t compared; /* rows with both answers and a label */
    int64_t candidate_right, champion_right;
    int64_t only_candidate_right, only_champion_right;
    double lower, upper; /* of (champion accuracy - candidate accuracy), anytime-valid, 1 - alpha */
    double e_worse, e_better;
    ot_pair_verdict verdict;
    int64_t candidate_answered; /* requests' rows that the candidate answered live */
} ot_pair_state;

ot_rc ot_quality_watch(ot_quality *q, const ot_pair_watch *w, ot_error *err) OT_CHECKED;
void ot_quality_unwatch(ot_quality *q);
/* False: no watch, or a promotion changed the state and no call has read it again yet (any but
 * this and ot_quality_labels_joined does). */
bool ot_quality_pair(const ot_quality *q, ot_pair_state *out);

/* A version became the champion: the accepted baseline is learnt anew from its traffic, the label
 * test starts anew. Part of the caller's transaction. */
ot_rc ot_quality_promoted(ot_quality *q, ot_txn *txn, int64_t version, ot_error *err) OT_CHECKED;

/* Accuracy of a version on live or shadow rows with labels in [from, to). */
typedef struct ot_accuracy {
    int64_t labelled, right;
    double estimate, lower, upper; /* 95%, valid at any time */
} ot_accuracy;
ot_rc ot_quality_accuracy(ot_quality *q, int64_t version, int64_t from_us, int64_t to_us,
                          ot_accuracy *out, ot_error *err) OT_CHECKED;

/* What replicas reported for windows that ended in [from, to). */
typedef struct ot_service {
    int64_t windows, windows_slow; /* slow: p99 above the limit given */
    int64_t covered_us;            /* wall-clock time that at least one of them covers */
    int64_t rows;                  /* answered live */
    int64_t requests, failed;
    double p50_us, p99_us; /* of all windows together */
} ot_service;
ot_rc ot_quality_service(ot_quality *q, int64_t from_us, int64_t to_us, int64_t p99_limit_us,
                         ot_service *out, ot_error *err) OT_CHECKED;

/* Labelled live rows as a table: the model's inputs as columns, the label column named `label`, and
 * `weight` (1 / sampling probability). The newest `max_rows` since `since_us`, each row once. */
ot_rc ot_quality_labelled(ot_quality *q, int64_t since_us, int64_t max_rows, const char *label,
                          ot_table *t_out, ot_error *err) OT_CHECKED;
int64_t ot_quality_labels_joined(const ot_quality *q); /* all since the deployment began */

/* What people see: accuracy, labels, evidence, moved features, learning state; a JSON object. */
ot_rc ot_quality_summary(ot_quality *q, ot_str *out, ot_error *err) OT_CHECKED;

#endif
