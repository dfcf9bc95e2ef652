/* Shared by the files of the evidence; not for others.
 *
 * Two halves behind one object: `drift` (windows -> blocks -> e-detectors) and `labels` (samples
 * and labels -> outcomes -> label test, comparison, labelled rows). Each half keeps its state in
 * memory as a cache of what the store holds: it changes inside a store transaction, and when that
 * fails, or when somebody else's transaction holds the change (ot_quality_promoted), the half is
 * marked stale and read again before it is next used. */
#ifndef OT_QUALITY_INTERNAL_H
#define OT_QUALITY_INTERNAL_H

#include "base/mem.h"
#include "quality/quality.h"
#include "store/events.h"

#include <jansson.h>

typedef struct q_drift q_drift;
typedef struct q_labels q_labels;

struct ot_quality {
    ot_store *store;
    ot_quality_config cfg; /* strings are owned */
    q_drift *drift;
    q_labels *labels;
};

/* The common part of a push; borrowed during the call. */
typedef struct q_push {
    const json_t *json;
    char incarnation[17];   /* 16 hex digits */
    uint64_t incarnation_n; /* the same as a number */
    const char *stream;     /* "window" or "sample" */
    uint64_t seq;
    const uint8_t *bin;
    size_t bin_len;
} q_push;

/* --- quality.c ---------------------------------------------------------------------------- */

/* First call in the transaction of a push: notes (incarnation, stream, seq) for this deployment.
 * *fresh_out is false when it was counted before: then nothing else is to be written. */
ot_rc q_push_note(ot_txn *txn, const ot_quality *q, const q_push *p, bool *fresh_out,
                  ot_error *err) OT_CHECKED;
/* Appends an event about deployment/NAME. The payload is stolen; OT_EXHAUSTED when it is NULL, so
 * that none is left without its numbers. Not for alerts' delivery: that is the pipeline's. */
ot_rc q_event(ot_txn *txn, const ot_quality *q, const char *type, const char *actor,
              json_t *payload, uint64_t *seq_out, ot_error *err) OT_CHECKED;
void q_find(const ot_quality *q, ot_finding_kind kind, uint64_t event_seq, int64_t labels_new,
            const char *text);
/* "14:02 UTC", with the date before it when that is another day than `now_us`. */
void q_time_text(int64_t us, int64_t now_us, char out[32]);
/* A field of a push. OT_INVALID names the field and what it must be. */
ot_rc q_get_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *out,
                ot_error *err) OT_CHECKED;
ot_rc q_get_number(const json_t *o, const char *key, double min, double max, double *out,
                   ot_error *err) OT_CHECKED;
ot_rc q_get_text(const json_t *o, const char *key, const char **out, ot_error *err) OT_CHECKED;
/* Blocks of time per allowed false alarm for a part of the promise: inputs 1/2, outputs 1/4, labels
 * 1/4. */
double q_blocks_per_alarm(const ot_quality_config *cfg, double part);

/* --- drift.c: windows, blocks, detectors; also ot_quality_service --------------------------- */

ot_rc q_drift_create(ot_quality *q, ot_error *err) OT_CHECKED; /* sets q->drift; reads the store */
void q_drift_destroy(q_drift *d);
/* After q->cfg was replaced; `before` is the old one. Restarts what depends on a changed setting
 * and leaves an event that says so. */
ot_rc q_drift_configure(ot_quality *q, const ot_quality_config *before, ot_error *err) OT_CHECKED;
ot_rc q_drift_push(ot_quality *q, const q_push *p, ot_error *err) OT_CHECKED; /* stream "window" */
ot_rc q_drift_promoted(ot_quality *q, ot_txn *txn, int64_t version, ot_error *err) OT_CHECKED;
/* Adds "drift": {...} to the summary. */
ot_rc q_drift_summary(ot_quality *q, json_t *into, ot_error *err) OT_CHECKED;

/* --- labels.c and its neighbours: samples, labels, outcomes, comparison; also the functions of
 * quality.h from ot_quality_labels to ot_quality_accuracy and ot_quality_labelled... ----------- */

ot_rc q_labels_create(ot_quality *q,
                      ot_error *err) OT_CHECKED; /* sets q->labels; reads the store */
void q_labels_destroy(q_labels *l);
ot_rc q_labels_configure(ot_quality *q, const ot_quality_config *before, ot_error *err) OT_CHECKED;
ot_rc q_labels_push(ot_quality *q, const q_push *p, ot_error *err) OT_CHECKED; /* stream "sample" */
ot_rc q_labels_promoted(ot_quality *q, ot_txn *txn, int64_t version, ot_error *err) OT_CHECKED;
/* Adds "labels": {...} and "accuracy": [...] to the summary. */
ot_rc q_labels_summary(ot_quality *q, json_t *into, ot_error *err) OT_CHECKED;

#endif
