/* The head of the event log, kept beside the store: DIR/log.head, "SEQ HASH\n", written with each
 * durable group of events. A log that was cut short or replaced while nobody had it open shows when
 * it is opened again; the file is then left as it is, so that it goes on showing until a person has
 * looked and removed it.
 *
 * Lags behind the log after a crash, and may be lost with the power (then it begins anew); never
 * runs ahead. Threads: open, close and fault from one; the writing happens where the store commits.
 * Lifetime: between the store's open and close. */
#ifndef OT_API_HEAD_H
#define OT_API_HEAD_H

#include "store/events.h"

typedef struct ot_log_head ot_log_head;

/* Compares what was kept with the log. That they differ is no error: see ot_log_head_fault. */
ot_rc ot_log_head_open(ot_store *store, const char *dir, ot_log_head **out,
                       ot_error *err) OT_CHECKED;
void ot_log_head_close(ot_log_head *h); /* NULL is fine */
/* The first row that is not what it was, with a sentence; NULL: the log goes on where it stood. */
const char *ot_log_head_fault(const ot_log_head *h, uint64_t *seq_out);

#endif
