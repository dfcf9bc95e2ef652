/* Alerts: JSON posted to a webhook, away from the loop.
 *
 * One thread, a bounded queue: what does not fit is dropped, counted and logged. Each alert leaves
 * an event, alert.sent or alert.failed, whose `because` is the event that it tells of. What waits
 * when the process ends is not delivered.
 * Threads: post from any. Lifetime: create/destroy; the store must outlive it. */
#ifndef OT_API_ALERT_H
#define OT_API_ALERT_H

#include "base/error.h"
#include "store/store.h"

#include <stdint.h>

typedef struct ot_alerts ot_alerts;

ot_rc ot_alerts_create(ot_store *store, ot_alerts **out, ot_error *err) OT_CHECKED;
/* Copies both. `json` has "app" and "event" (pipeline/state.c). */
void ot_alerts_post(ot_alerts *a, const char *url, const char *json);
uint64_t ot_alerts_dropped(ot_alerts *a);
void ot_alerts_destroy(ot_alerts *a);

#endif
