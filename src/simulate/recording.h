/* What a control plane has kept of an app: its windows, samples, labels and log, as a rehearsal
 * reads them. Everything but the windows is held in memory.
 *
 * Threads: one. Lifetime: load/done; the store outlives it. Not for other folders. */
#ifndef OT_SIMULATE_RECORDING_H
#define OT_SIMULATE_RECORDING_H

#include "base/error.h"
#include "base/hash.h"
#include "store/store.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_ROWS_MAX 4000000      /* labelled rows */
#define SIM_OUTCOMES_MAX 12000000 /* answers to them */
#define SIM_VERSIONS_MAX 4096
#define SIM_NEAREST 200 /* judged answers that an accuracy is taken from */

/* A step of a cycle: how long it took. */
enum { SIM_TRAIN, SIM_PACKAGE, SIM_EVALUATE, SIM_STEPS };
extern const char *const sim_step_names[SIM_STEPS];

/* One version's answer to a labelled row. */
typedef struct sim_outcome {
    uint32_t row;    /* index of the row */
    int32_t version; /* index of the version */
    bool shadow;
    int8_t right; /* 1, 0; -1: there is no right and wrong */
    double prediction;
    int64_t joined_us; /* above the label's time: the answer came after it */
} sim_outcome;

/* A row whose label is known. */
typedef struct sim_row {
    uint64_t incarnation, seq;
    double label;
    int64_t time_us;     /* when it was answered; 0: no answer is here */
    int64_t received_us; /* when the label came */
    float probability;
    bool convenience;  /* the label's source begins so */
    uint32_t first, n; /* its outcomes */
} sim_row;

/* What the log says of a call of labels. */
typedef struct sim_heard {
    int64_t time_us, accepted, asked;
} sim_heard;

/* Labels that came in one call: rows of the recording's `order`. */
typedef struct sim_call {
    int64_t received_us;
    size_t first, n; /* in `order` */
    int64_t asked;   /* labels in the call, with those that were known or unknown */
} sim_call;

typedef struct sim_judged {
    int64_t time_us;
    uint32_t right; /* right ones so far, with this */
} sim_judged;

typedef struct sim_version {
    int64_t version;
    ot_digest bundle;
    int64_t run;        /* 0: a person brought it */
    int64_t created_us; /* when it was registered */
    int64_t caused_us;  /* when its training was asked for; 0: not known */
    int64_t took_us[SIM_STEPS];
    json_t *scores;         /* of its evaluation, by data set; NULL: none */
    int64_t scored_against; /* the champion's number then; 0: none */
    bool promoted;
    sim_judged *judged; /* by time */
    size_t n_judged;
} sim_version;

/* From time_us on another version serves. */
typedef struct sim_change {
    int64_t time_us, version;
    bool by_loop; /* not a person's doing */
} sim_change;

/* Labels proved that the objective was missed. */
typedef struct sim_fall {
    int64_t since_us;
    double accuracy;
} sim_fall;

typedef struct recording {
    ot_store *store;
    char blobs[4096]; /* folder of the content store */
    char app[65], deployment[65];
    char *yaml, *file, *dir; /* the policy in force */
    char *site, *site_file;  /* the operators' file; NULL: none */
    sim_version *versions;   /* oldest first */
    size_t n_versions;
    sim_change *changes;
    size_t n_changes;
    sim_fall *falls;
    size_t n_falls;
    sim_row *rows; /* by incarnation and number */
    size_t n_rows;
    sim_outcome *outcomes; /* by row */
    size_t n_outcomes;
    uint32_t *order; /* rows as their labels came */
    sim_call *calls;
    size_t n_calls;
    sim_heard *heard;
    size_t n_heard;
    uint32_t *late; /* outcomes that came after their labels, as they came */
    size_t n_late;
    int64_t *fired_us; /* when triggers fired */
    size_t n_fired;
    int64_t median_us[SIM_STEPS]; /* of all versions; 0: none was made by a run */
    int64_t windows;              /* of the champion, that are kept */
    int64_t first_us, last_us;    /* of windows and labels */
    int64_t acts;                 /* things that people did to the loop */
    int64_t applied_us;           /* when the policy last changed; 0: never */
} recording;

/* `blobs` is the folder of the content store that the recording's blobs lie in. OT_NOT_FOUND: no
 * such app (the ones there are named), or nothing of it was ever promoted. */
ot_rc sim_recording_load(ot_store *store, const char *blobs, const char *app, recording *out,
                         ot_error *err) OT_CHECKED;
void sim_recording_done(recording *r);

/* Room for one more of `n` items in a list that doubles. NULL: no memory, and the list stays. */
void *sim_grow(void *list, size_t n, size_t size);
/* The index of a version by number; -1: it is not recorded. */
int32_t sim_version_find(const recording *r, int64_t version);
/* The version that served at that time; 0: none. */
int64_t sim_champion_at(const recording *r, int64_t us);
/* Share of right answers of a version around a time: of the SIM_NEAREST judged ones before it, or
 * the first ones where it was not there yet. False: none was judged. */
bool sim_accuracy_near(const recording *r, int32_t version, int64_t us, double *out);
/* The version whose training came next at or after a time; -1: none. */
int32_t sim_trained_after(const recording *r, int64_t us);
/* The first fall in (after_us, upto_us]; NULL: none. */
const sim_fall *sim_fall_between(const recording *r, int64_t after_us, int64_t upto_us);

/* --- recording_rows.c */

ot_rc sim_rows_load(ot_txn *txn, recording *r, ot_error *err) OT_CHECKED;

#endif
