/* Change windows: the hours of a week in which releases may move forward.
 *
 * Times are wall-clock microseconds; a zone is a fixed offset from UTC, so that no window moves
 * with summer time. A window that ends before it begins goes on past midnight and belongs to the
 * day it begins on. Threads: any. Plain values; texts lie in the caller's arena. */
#ifndef OT_PIPELINE_WINDOW_H
#define OT_PIPELINE_WINDOW_H

#include "pipeline/conf.h"

#define OT_WINDOWS_MAX 32

typedef struct ot_window {
    unsigned days;        /* bit 0: Monday ... bit 6: Sunday */
    int from_min, to_min; /* since midnight in the zone; to_min above from_min, at most 2,880 */
    int offset_min;       /* what the zone adds to UTC */
    /* As they were written; what the tables parse into. */
    ot_conf_strs day_names;
    const char *from, *to, *zone;
    ot_conf_mark mark;
    ot_conf_mark marks[4];
} ot_window;

typedef struct ot_windows {
    ot_window v[OT_WINDOWS_MAX];
    size_t n;
    ot_conf_mark mark;
} ot_windows;

extern const ot_conf_section ot_conf_window;
ot_conf_custom_fn ot_conf_parse_windows;

/* Without windows it is always open. */
bool ot_windows_open(const ot_windows *w, int64_t now_us);
/* When the next one opens after now; INT64_MAX without windows. */
int64_t ot_windows_next(const ot_windows *w, int64_t now_us);

#endif
