/* The watchdog: names the model whose run does not come back.
 *
 * A run cannot be taken back from a runtime in the same process; what it holds up (a worker's
 * connections, a pool thread) stays held up. So the log says which model of which deployment hangs
 * where and since when, once a run; /metrics has the age of the oldest run.
 *
 * Threads: the control thread. Lifetime: start/stop. */
#ifndef OT_SERVE_WATCHDOG_H
#define OT_SERVE_WATCHDOG_H

#include "serve/control.h"

/* Looks every second at the runs of all variants that are served. */
void ot_watchdog_start(ot_control *c);
void ot_watchdog_stop(ot_control *c);

#endif
