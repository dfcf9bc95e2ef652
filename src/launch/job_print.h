/* What the ranks of a job print: whole lines with the rank before them, a log a rank, the last line
 * of each; and what the launcher itself has to say.
 *
 * Writing to our own output may block (a pager): threads do it, and ot_job_print_full tells when to
 * read no more from the ranks.
 * Threads: any. Lifetime: create/destroy; destroying waits until all is written. */
#ifndef OT_LAUNCH_JOB_PRINT_H
#define OT_LAUNCH_JOB_PRINT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_job_print ot_job_print;

typedef struct ot_job_print_options {
    int32_t ranks;
    bool prefix;        /* else bytes as they come */
    bool color;         /* of the prefix */
    const char *dir;    /* rank-N.log of each in it; NULL: none */
    uint64_t log_limit; /* bytes of all these together, each an equal part; 0: none */
} ot_job_print_options;

ot_rc ot_job_print_create(const ot_job_print_options *o, ot_job_print **print_out,
                          ot_error *err) OT_CHECKED;
void ot_job_print_destroy(ot_job_print *p);
/* One more rank: the next number. */
ot_rc ot_job_print_more(ot_job_print *p, ot_error *err) OT_CHECKED;
/* stream: 1 output, 2 error. */
void ot_job_print_add(ot_job_print *p, int32_t rank, int stream, const char *text, size_t n);
/* The rank has ended: a line without an end is one. */
void ot_job_print_ended(ot_job_print *p, int32_t rank);
/* The last line that is not blank: of its errors, else of its output; plain text; "" for none. */
void ot_job_print_last(ot_job_print *p, int32_t rank, char *out, size_t size);
/* "overtake run: ..." to standard error. */
void ot_job_print_say(ot_job_print *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line that stays below what is printed, on a terminal; "" takes it away. */
void ot_job_print_status(ot_job_print *p, const char *text);
bool ot_job_print_full(ot_job_print *p);

#endif
