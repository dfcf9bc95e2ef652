/* The event log: one hash-chained row per change of state, in the transaction of the change.
 *
 * The hash of an event is SHA-256 over these bytes (integers little-endian):
 *
 *     "OTEVENT1"                                       8 bytes
 *     seq                                              u64, from 1, without gaps
 *     hash of the event before (zeros for the first)   32 bytes
 *     time in microseconds since the Unix epoch        i64, never decreasing
 *     actor, role, scope, type, object                 each: u32 length, then the bytes (UTF-8)
 *     SHA-256 of the payload's bytes                   32 bytes
 *
 * so a payload can be erased (set to NULL) and the chain still verifies. Personal data never goes
 * into the other fields. Who keeps a head (seq and hash) can prove later that nothing up to it was
 * edited, left out or cut off.
 *
 * Threads: those of the transaction. Lifetime: strings given to callbacks live until they return.
 */
#ifndef OT_STORE_EVENTS_H
#define OT_STORE_EVENTS_H

#include "base/hash.h"
#include "store/store.h"

#define OT_EVENT_NAME_MAX 255           /* actor, role, scope, type, object: bytes */
#define OT_EVENT_PAYLOAD_MAX (1u << 20) /* bytes */

/* What to append. NULL strings count as "". `type` is 1..255 characters of [a-z0-9._-]; `payload`
 * is a JSON object, NULL for {}. */
typedef struct ot_event_in {
    const char *actor, *role, *scope; /* who: "anna", "operator", "sandbox" */
    const char *type;                 /* what: "model.version.added" */
    const char *object;               /* on what: "model/digits/3" */
    const char *payload;
    int64_t time_us; /* 0: now. A time before the last event's becomes the last event's. */
} ot_event_in;

typedef struct ot_event {
    uint64_t seq;
    int64_t time_us;
    const char *actor, *role, *scope, *type, *object;
    const char *payload; /* NULL: erased */
    ot_digest prev, hash, payload_hash;
} ot_event;

/* OT_INVALID: a field is not what is stated above. `seq_out` may be NULL; the number is final only
 * when the transaction is. */
ot_rc ot_event_append(ot_txn *txn, const ot_event_in *in, uint64_t *seq_out,
                      ot_error *err) OT_CHECKED;
/* Sets the payload to NULL; its digest stays. OT_NOT_FOUND: no such event. */
ot_rc ot_event_erase_payload(ot_txn *txn, uint64_t seq, ot_error *err) OT_CHECKED;

/* Filters; a zero or NULL member does not filter. */
typedef struct ot_event_query {
    uint64_t after_seq;      /* only seq > after_seq (keyset paging), */
    uint64_t before_seq;     /* only seq < before_seq */
    uint32_t limit;          /* rows at most [100, at most 10000] */
    const char *type_prefix; /* "model." finds model.version.added */
    const char *object;      /* exact, or with object_prefix the start of it */
    bool object_prefix;
    int64_t from_time_us, to_time_us; /* from <= time < to */
    bool newest_first;
} ot_event_query;

/* A code other than OT_OK ends the reading and is returned. */
typedef ot_rc ot_event_fn(void *arg, const ot_event *e, ot_error *err);
ot_rc ot_events_read(ot_txn *txn, const ot_event_query *q, ot_event_fn *fn, void *arg,
                     ot_error *err) OT_CHECKED;
/* One event. OT_NOT_FOUND: there is none. */
ot_rc ot_event_get(ot_txn *txn, uint64_t seq, ot_event_fn *fn, void *arg, ot_error *err) OT_CHECKED;

typedef struct ot_event_head {
    uint64_t seq; /* 0: the log is empty, and the hash is zeros */
    ot_digest hash;
} ot_event_head;

/* A head as a line, always of this length: 20 digits, a space, 64 hex digits, a newline. */
#define OT_EVENT_HEAD_LINE 86
void ot_event_head_format(const ot_event_head *h, char out[OT_EVENT_HEAD_LINE + 1]);
/* False: the text does not begin with one. */
bool ot_event_head_parse(const char *text, ot_event_head *out);

/* The last event as this transaction sees it. */
ot_rc ot_events_head(ot_txn *txn, ot_event_head *head_out, ot_error *err) OT_CHECKED;

typedef enum ot_event_fault {
    OT_EVENT_FAULT_NONE,
    OT_EVENT_FAULT_MISSING,   /* no row with this seq */
    OT_EVENT_FAULT_EDITED,    /* the row does not give its own hash */
    OT_EVENT_FAULT_PAYLOAD,   /* the payload does not give its digest */
    OT_EVENT_FAULT_REWRITTEN, /* the row is whole, but the next row (or the head) names another */
    OT_EVENT_FAULT_TRUNCATED, /* rows after this seq, up to the trusted head, are gone */
} ot_event_fault;

typedef struct ot_events_verdict {
    uint64_t rows;   /* that were read */
    uint64_t erased; /* of these, with an erased payload */
    uint64_t bad_seq;
    ot_event_fault fault;
    char what[256]; /* for people: "event 17: edited: ..." */
    ot_event_head head;
} ot_events_verdict;

/* Reads the whole chain. `trusted` (may be NULL) is a head kept from before. OT_DATA_LOSS with
 * `verdict_out` set: it does not verify; the verdict names the first bad row. */
ot_rc ot_events_verify(ot_txn *txn, const ot_event_head *trusted, ot_events_verdict *verdict_out,
                       ot_error *err) OT_CHECKED;
const char *ot_event_fault_name(ot_event_fault f);

/* Called in order, once per durable group that appended events, before those writes return; on the
 * writer thread or a thread inside ot_store_write, never two at a time. Must be quick and must not
 * write (ot_store_submit is allowed); post to a loop. Events live until it returns. */
typedef void ot_store_event_fn(void *arg, const ot_event *events, size_t n);
/* At most 16 listeners. Removal with the same fn and arg; after ot_store_off_event returns the
 * listener is not running and is never called again (so not from inside a listener). */
ot_rc ot_store_on_event(ot_store *store, ot_store_event_fn *fn, void *arg,
                        ot_error *err) OT_CHECKED;
void ot_store_off_event(ot_store *store, ot_store_event_fn *fn, void *arg);

#endif
