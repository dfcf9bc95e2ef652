/* Shared by events.c (appending, listeners) and events_read.c (queries, verification). */
#ifndef OT_STORE_EVENTS_INTERNAL_H
#define OT_STORE_EVENTS_INTERNAL_H

#include "store/events.h"

/* The hash of the encoding in events.h, from every member of `e` but `hash` and `payload`. */
ot_digest ot_event_hash(const ot_event *e);

#endif
