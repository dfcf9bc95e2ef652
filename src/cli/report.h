/* A support bundle while it is put together: entries in memory, without secrets, within a limit.
 *
 * Threads: one at a time. Lifetime: init/done. */
#ifndef OT_CLI_REPORT_H
#define OT_CLI_REPORT_H

#include "doctor/redact.h"

#include "base/error.h"
#include "base/str.h"

#include <jansson.h>
#include <stdint.h>

#define OT_REPORT_ENTRIES_MAX 512

typedef struct ot_report_entry {
    char name[80];
    ot_str text;
} ot_report_entry;

typedef struct ot_report {
    ot_redactor redactor;
    ot_report_entry *entries;
    size_t n;
    uint64_t bytes, bytes_max; /* of all entries, before they are packed */
    json_t *left_out;          /* [{"what", "why"}...] */
} ot_report;

ot_rc ot_report_init(ot_report *r, uint64_t bytes_max, ot_error *err) OT_CHECKED;
void ot_report_done(ot_report *r);
/* Takes the secrets out of the text and keeps it; what does not fit is noted as left out. */
void ot_report_add(ot_report *r, const char *name, const char *p, size_t n);
void ot_report_left_out(ot_report *r, const char *what, const char *why);
/* The archive, manifest.json first. OT_EXHAUSTED when memory was short: nothing is given out then,
 * for a secret may have been missed. */
ot_rc ot_report_pack(ot_report *r, const char *folder, int64_t now_us, ot_str *out,
                     ot_error *err) OT_CHECKED;

#endif
