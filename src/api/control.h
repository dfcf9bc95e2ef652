/* The control process: store, pipeline, hub and control API on one loop.
 *
 * Threads: one loop; beside it the store's writer, one worker and one that delivers alerts.
 * Lifetime: one call a process; it owns the signals SIGTERM and SIGINT. */
#ifndef OT_API_CONTROL_H
#define OT_API_CONTROL_H

#include "base/disk.h"
#include "base/error.h"
#include "base/str.h"
#include "net/tls.h"

typedef struct ot_api_options {
    const char *data_dir; /* absolute; its lock is held by the caller */
    const char *exe;      /* the overtake binary, for runs; NULL: /proc/self/exe */
    const char *version;
    const char *site_path; /* the operators' file, read again on SIGHUP; NULL: none */
    int listen_fd;         /* listening, non-blocking; stays the caller's */
    ot_tls_files
        tls; /* what that speaks, or all NULL; then DATA/control.sock is there for commands */
    int supervisor_fd; /* a channel to the supervisor (supervisor.c), stays the caller's; -1: no */
} ot_api_options;

#define OT_API_LOCAL "control.sock" /* in the data directory */

/* Runs until SIGTERM or SIGINT, then drains: answers what was asked, ends streams, saves what jobs
 * had finished. Runs of programs go on and are found again. */
ot_rc ot_api_run(const ot_api_options *o, ot_error *err) OT_CHECKED;

/* The routes of the control API as a Markdown table; docs/openapi.yaml is held to it. */
void ot_api_reference(ot_str *out);

#endif
