#include "base/clock.h"

#include <stddef.h>
#include <sys/timex.h>
#include <time.h>

/* Synchronization: written before threads start. */
static const ot_clock_source *installed;

void ot_clock_install(const ot_clock_source *source)
{
    installed = source;
}

uint64_t ot_clock_mono_ns(void)
{
    if (installed != NULL) {
        return installed->mono_ns(installed->self);
    }
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int64_t ot_clock_wall_us(void)
{
    if (installed != NULL) {
        return installed->wall_us(installed->self);
    }
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t ot_clock_local_offset_us(int64_t wall_us)
{
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;
    return localtime_r(&t, &tm) == NULL ? 0 : (int64_t)tm.tm_gmtoff * 1000000;
}

void ot_clock_sleep_us(uint64_t us)
{
    if (installed != NULL) {
        installed->sleep_us(installed->self, us);
        return;
    }
    struct timespec ts = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    while (nanosleep(&ts, &ts) != 0) {
    }
}

ot_clock_sync ot_clock_synced(int64_t *error_us_out)
{
    struct timex t = {.modes = 0};
    if (adjtimex(&t) < 0) {
        return OT_CLOCK_UNKNOWN;
    }
    *error_us_out = t.maxerror;
    return (t.status & STA_UNSYNC) != 0 ? OT_CLOCK_UNSYNCED : OT_CLOCK_SYNCED;
}
