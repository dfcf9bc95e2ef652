/* A replica of our own, to measure a model on: one worker on one processor, the load on the others.
 *
 * Threads: one. Lifetime: start/stop. */
#ifndef OT_LOAD_OWN_H
#define OT_LOAD_OWN_H

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

typedef struct ot_load_own {
    pid_t pid;
    int listener;
    char address[300];
    bool apart; /* it has a processor that the load does not use */
} ot_load_own;

/* Starts `overtake serve MODEL` and waits until the model is loaded; moves the calling thread to
 * the other processors. OT_UNAVAILABLE when it ends before it is ready (its reason is on stderr);
 * OT_TIMEOUT after two minutes. `plugin_path` may be NULL. */
ot_rc ot_load_own_start(const char *model, const char *plugin_path, ot_load_own *own_out,
                        ot_error *err) OT_CHECKED;
void ot_load_own_stop(ot_load_own *own); /* also of a zeroed one */

#endif
