/* How a job goes and how it ended, as JSON, for those that are not its terminal: a file that is
 * replaced whole once a second (`overtake run --state-file`), and the result at the end.
 *
 *     {"state": "starting" | "running" | "ended", "updated_us", "took_us", "restart", "np",
 *      of an elastic job "epoch", and "epochs": [{"epoch", "began_us", "np", "new", "lost"}...],
 *      the last 32,
 *      "steps", "operations", "samples", "bytes": since the start of this try,
 *      "steps_per_s", "operations_per_s", "samples_per_s", "bytes_per_s": of the last second,
 *      "slowest": {"rank", "host", "waits"} | null,    the share of the time that others wait for
 * it "ranks": [{"rank", "host", "pid", "state", "steps", "samples", "bytes", "waits_us"}...],
 *      "explain": with --explain, what bounds a step so far (job_explain.h),
 *      "result": RESULT | null}
 *
 * A rank's state is "running", "stopped" or "ended". In an elastic job it has "process" too, the
 * number of its log. At most OT_JOB_STATE_RANKS are listed.
 * RESULT is {"code", "restarts", "why", "rank", "host", "pid", "last_line", "log", "lost"}: what is
 * not known is left out. Threads: the launcher's. */
#ifndef OT_LAUNCH_JOB_STATE_H
#define OT_LAUNCH_JOB_STATE_H

#include "base/str.h"
#include "launch/job.h"

#include <jansson.h>

#define OT_JOB_STATE_RANKS 256
#define OT_JOB_STATE_MAX (1u << 20) /* bytes of the file */

/* The file as it is now; NULL: there is none, or it is not one. The caller's. */
json_t *ot_job_state_read(const char *path);
/* Appends RESULT. */
void ot_job_result_json(const ot_job_result *r, ot_str *out);

#endif
