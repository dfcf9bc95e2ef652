/* Rows of the windows that replicas push, the note of which pushes were counted, and the state of
 * the evidence made of them.
 *
 * Plain rows and single operations; what a window means is src/quality's. Threads: writes in a
 * transaction of the store's writer; reads from any reader. Lifetime: rows given to callbacks live
 * until they return. */
#ifndef OT_STORE_WINDOWS_H
#define OT_STORE_WINDOWS_H

#include "base/error.h"
#include "base/str.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_WINDOW_BLOB_MAX (8u << 20)     /* bytes of each histogram of a window */
#define OT_WINDOWS_EXPIRE_MAX 1000        /* rows a call */
#define OT_QUALITY_STATE_MAX (512u << 20) /* bytes of one part */

/* --- what was counted ----------------------------------------------------------------------- */

/* Notes `seq` (1..INT64_MAX) of a stream of a process. Pushes of a stream come in order, so the
 * last one tells: *fresh_out is false, and nothing changes, when seq is not above it. */
ot_rc ot_push_note(ot_txn *txn, const char *deployment, uint64_t incarnation, const char *stream,
                   uint64_t seq, bool *fresh_out, ot_error *err) OT_CHECKED;
/* Whether ot_push_note would say that it is not fresh: before work that a transaction does not
 * hold. */
ot_rc ot_push_noted(ot_txn *txn, const char *deployment, uint64_t incarnation, const char *stream,
                    uint64_t seq, bool *noted_out, ot_error *err) OT_CHECKED;

/* --- windows -------------------------------------------------------------------------------- */

typedef enum ot_window_role {
    OT_WINDOW_CHAMPION,
    OT_WINDOW_CANARY,
    OT_WINDOW_SHADOW,
    OT_WINDOW_ARM,
} ot_window_role;
const char *ot_window_role_name(ot_window_role r);
bool ot_window_role_parse(const char *s, ot_window_role *out);

typedef struct ot_window_row {
    int64_t id; /* given by insert; rises */
    const char *deployment;
    int64_t version;
    ot_window_role role;
    int64_t start_us, end_us;
    int64_t requests, rows, failed;
    double p50_us, p99_us;
    int64_t received_us;                    /* when it came here; 0: not kept then */
    const void *latency, *inputs, *outputs; /* histograms in the form of stats; n 0: absent */
    size_t n_latency, n_inputs, n_outputs;
} ot_window_row;

/* `row->id` is ignored. */
ot_rc ot_window_insert(ot_txn *txn, const ot_window_row *row, int64_t *id_out,
                       ot_error *err) OT_CHECKED;
/* The newest id of all; 0: there is no window. */
ot_rc ot_windows_last_id(ot_txn *txn, int64_t *id_out, ot_error *err) OT_CHECKED;

/* A code other than OT_OK ends the reading and is returned. */
typedef ot_rc ot_window_fn(void *arg, const ot_window_row *row, ot_error *err);
/* Windows of one version and role with id > after_id, in the order in which they came. */
ot_rc ot_windows_since(ot_txn *txn, const char *deployment, int64_t version, ot_window_role role,
                       int64_t after_id, ot_window_fn *fn, void *arg, ot_error *err) OT_CHECKED;
/* Windows of all versions with id > after_id, in the order in which they came: `limit` at most,
 * with their counts. */
ot_rc ot_windows_after(ot_txn *txn, const char *deployment, int64_t after_id, int64_t limit,
                       ot_window_fn *fn, void *arg, ot_error *err) OT_CHECKED;
/* Windows of all versions that ended in [from_us, to_us), by their end; without the counts of
 * inputs and outputs. */
ot_rc ot_windows_ended(ot_txn *txn, const char *deployment, int64_t from_us, int64_t to_us,
                       ot_window_fn *fn, void *arg, ot_error *err) OT_CHECKED;
/* Deletes the oldest windows that ended before `before_us`, at most `limit` (1..1000) of them. */
ot_rc ot_windows_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint32_t limit,
                        int64_t *deleted_out, ot_error *err) OT_CHECKED;

/* --- state of the evidence ------------------------------------------------------------------ */

/* A part of a deployment's evidence as bytes: what a value of kv is too small for. */
ot_rc ot_quality_state_set(ot_txn *txn, const char *deployment, const char *part, const void *p,
                           size_t n, ot_error *err) OT_CHECKED;
/* Appends to `out`. OT_NOT_FOUND: there is none. */
ot_rc ot_quality_state_get(ot_txn *txn, const char *deployment, const char *part, ot_str *out,
                           ot_error *err) OT_CHECKED;
/* OT_OK also when there was none. */
ot_rc ot_quality_state_delete(ot_txn *txn, const char *deployment, const char *part,
                              ot_error *err) OT_CHECKED;

#endif
