/* The inside of the drift half, shared by the files drift*.c.
 *
 *   drift.c         intake: a window is checked, stored, and merged into its block
 *   drift_load.c    what the store holds, and how it comes back
 *   drift_find.c    from a detector's outcome to events and findings
 *   drift_view.c    what people see
 *
 * A block is block_us of wall-clock time; index = start_us / block_us. It is closed by the first
 * window that starts a window's length after its end or later, so that a replica a little late is
 * still in; at most two blocks are open. */
#ifndef OT_QUALITY_DRIFT_H
#define OT_QUALITY_DRIFT_H

#include "model/reference.h"
#include "quality/internal.h"
#include "stats/edetect.h"

enum { Q_INPUTS, Q_OUTPUTS, Q_SIDES, Q_OPEN_MAX = 2 };
enum { Q_DRIFT, Q_AT_RISK, Q_ALARMS };

/* A change that takes many features rings once: what the blocks after it name belongs to that
 * alarm, until none has named anything for a cycle (blocks_per_day). */
typedef struct q_said {
    int64_t block; /* the last that named something */
    uint64_t seq;  /* the event of the alarm; 0: none */
} q_said;

/* One detector and what it needs. Without `detector` the side has no evidence and `reason` says
 * why. */
typedef struct q_side {
    const char *name; /* "inputs" */
    const char *path; /* of its reference in the bundle */
    const char *part; /* of the state in the store */
    double share;     /* of the promise of false alarms */
    ot_reference ref;
    ot_hist_table scratch; /* of the window at hand */
    ot_score_plan *plan;
    ot_edetect *detector;
    double *value, *n; /* (series) of the block at hand */
    json_t *moved;     /* array: features with evidence or an open alarm, as in events */
    q_said said[Q_ALARMS];
    char reason[256];
} q_side;

typedef struct q_block {
    bool open;
    int64_t index, first_id, windows, rows;
    ot_hist_table counts[Q_SIDES]; /* of the sides that have a schema */
} q_block;

struct q_drift {
    bool stale;
    int64_t champion;   /* version; 0: none known yet */
    int64_t after_id;   /* windows of open blocks have a higher id */
    int64_t closed;     /* all blocks up to this index are; -1: none */
    int64_t last_block; /* the last closed block that had windows; -1: none */
    int64_t late_windows;
    char settings[192]; /* what the evidence depends on, in canonical form */
    q_side side[Q_SIDES];
    q_block block[Q_OPEN_MAX];
};

typedef struct q_found_one {
    ot_finding_kind kind;
    uint64_t event_seq;
    char text[512];
} q_found_one;

/* What a transaction found: reported when it is durable. */
typedef struct q_found {
    q_found_one items[Q_OPEN_MAX * (Q_SIDES + 1)];
    size_t n;
} q_found;

/* A window as pushed; borrows from the push. */
typedef struct q_window {
    int64_t version, start_us, length_us, requests, rows, failed;
    const char *role;
    double p50_us, p99_us;
    const uint8_t *part[Q_SIDES], *latency;
    size_t n_part[Q_SIDES], n_latency;
} q_window;

/* --- drift_load.c */

/* Reads the store again if the half is stale, and starts the evidence anew when what it depends on
 * is not what the store's was made with. */
ot_rc q_drift_ready(ot_quality *q, ot_error *err) OT_CHECKED;
/* Drops everything that is read from the store. */
void q_drift_clear(q_drift *d);
/* Writes champion, places and what moved; with `detectors` their state too. */
ot_rc q_drift_save(ot_txn *txn, const ot_quality *q, bool detectors, ot_error *err) OT_CHECKED;
/* Writes a state without evidence that begins after the windows that are here. */
ot_rc q_drift_anew(ot_txn *txn, const ot_quality *q, int64_t champion, ot_error *err) OT_CHECKED;
/* Decodes the window's counts into the sides' scratch tables. OT_INVALID names what differs. */
ot_rc q_drift_fit(q_drift *d, const uint8_t *const *part, const size_t *n_part, int64_t rows,
                  ot_error *err) OT_CHECKED;
/* Adds the scratch tables to the block `index`. */
ot_rc q_drift_merge(q_drift *d, int64_t index, int64_t id, int64_t rows, ot_error *err) OT_CHECKED;

/* --- drift_find.c */

/* Events of an outcome of side s for block b, and what is to be reported of it. `because` is the
 * event of the block. */
ot_rc q_drift_outcome(ot_txn *txn, const ot_quality *q, q_side *s, const q_block *b,
                      const ot_edetect_outcome *o, uint64_t because, q_found *found,
                      ot_error *err) OT_CHECKED;

#endif
