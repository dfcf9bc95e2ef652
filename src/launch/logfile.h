/* The log of a run: what the program prints, up to a limit, with the end always kept.
 *
 *     head ...  (limit - tail bytes, as printed)
 *     [overtake: the log limit of 16 MiB is reached; ...]
 *     [overtake: 93 MiB left out; the last 64 KiB follow]
 *     ... tail
 *
 * The end is where a program says why it failed; it is kept in memory and written at the end.
 * Threads: one at a time. Lifetime: init/done. */
#ifndef OT_LAUNCH_LOGFILE_H
#define OT_LAUNCH_LOGFILE_H

#include "base/disk.h"

#define OT_LAUNCH_TAIL_MAX 65536u

typedef struct ot_launch_logfile {
    ot_file *file;
    uint64_t head_max, limit; /* bytes */
    uint64_t total;           /* printed so far */
    uint64_t dropped_errors;  /* bytes that the disk refused */
    uint32_t tail_max;
    bool noted;
    char tail[OT_LAUNCH_TAIL_MAX]; /* ring of the last bytes printed */
} ot_launch_logfile;

/* Creates or appends to the file. */
ot_rc ot_launch_logfile_init(ot_launch_logfile *l, const char *path, uint64_t limit,
                             ot_error *err) OT_CHECKED;
void ot_launch_logfile_add(ot_launch_logfile *l, const char *p, size_t n);
/* A line of ours, which counts as nothing that the program printed. */
void ot_launch_logfile_note(ot_launch_logfile *l, const char *text);
/* Writes the tail if there is one and closes. */
void ot_launch_logfile_done(ot_launch_logfile *l);
bool ot_launch_logfile_truncated(const ot_launch_logfile *l);
/* The last line that is not blank, without control characters; "" when there is none. */
void ot_launch_logfile_last_line(const ot_launch_logfile *l, char *out, size_t n);

#endif
