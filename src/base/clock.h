/* The clock seam: all time comes from here, so that a simulator can own it.
 *
 * Threads: any. The source is replaced only before threads start. */
#ifndef OT_BASE_CLOCK_H
#define OT_BASE_CLOCK_H

#include <stdint.h>

uint64_t ot_clock_mono_ns(void); /* monotonic */
int64_t ot_clock_wall_us(void);  /* since the Unix epoch, UTC */
/* What local time (TZ, else the machine's) adds to UTC at this time. */
int64_t ot_clock_local_offset_us(int64_t wall_us);
void ot_clock_sleep_us(uint64_t us);

typedef enum ot_clock_sync { OT_CLOCK_UNKNOWN, OT_CLOCK_SYNCED, OT_CLOCK_UNSYNCED } ot_clock_sync;
/* Whether the kernel believes that something (NTP) keeps the wall clock, and how far it may be off.
 */
ot_clock_sync ot_clock_synced(int64_t *error_us_out);

typedef struct ot_clock_source {
    uint64_t (*mono_ns)(void *self);
    int64_t (*wall_us)(void *self);
    void (*sleep_us)(void *self, uint64_t us);
    void *self;
} ot_clock_source;

/* Test seam: NULL restores the system's clock. The source must outlive its use. */
void ot_clock_install(const ot_clock_source *source);

#endif
