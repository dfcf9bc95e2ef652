/* What trace.c (account and ring) and trace_write.c (the ring as text) share. */
#ifndef OT_COLLECTIVE_TRACE_INTERNAL_H
#define OT_COLLECTIVE_TRACE_INTERNAL_H

#include "collective/trace.h"

typedef enum ot_trace_kind {
    OT_TRACE_OP,
    OT_TRACE_WAIT,    /* the progress thread, for bytes of `rank` */
    OT_TRACE_BLOCKED, /* the program, in a wait; rank: who was late, -1 */
    OT_TRACE_INPUT,
    OT_TRACE_STEP
} ot_trace_kind;

typedef struct ot_trace_event {
    ot_trace_kind what;
    char name[OT_TRACE_NAME];
    int32_t rank;
    uint64_t from, to, slept; /* WAIT, BLOCKED, INPUT, STEP; slept: within from and to */
    ot_trace_op op;           /* its name is `name` */
} ot_trace_event;

typedef struct ot_trace_events {
    ot_trace_event *v; /* n of them, the oldest at `first` */
    uint32_t first, n;
    uint64_t dropped;
} ot_trace_events;

/* Bounded text: false when OT_TRACE_TEXT_MAX or memory is reached. */
bool ot_trace_event_text(ot_str *out, int32_t pid, int64_t offset_ns, uint64_t id,
                         const ot_trace_event *e);
void ot_trace_head_text(ot_str *out, int32_t pid, const char *host);

#endif
