/* The worker process of an isolated model (`overtake worker`): one model, a thread a lane.
 *
 * Threads: its main thread answers the socket; see ring.h for the lanes. Ends when the socket does.
 */
#ifndef OT_RUNTIME_WORKER_H
#define OT_RUNTIME_WORKER_H

#include "overtake/plugin.h"
#include "runtime/ring.h"

/* Talks over descriptor OT_RING_CONTROL_FD; returns the exit code. */
int ot_runtime_worker(void);

/* ring_lane.c: an instance of the plug-in and the thread that runs it. */
typedef struct ot_ring_lane ot_ring_lane;
/* Takes the ring's descriptor over. */
ot_rc ot_ring_lane_open(const overtake_plugin *plugin, overtake_model *model,
                        const overtake_model_info *info, int ring_fd, ot_ring_lane **lane_out,
                        ot_error *err) OT_CHECKED;
/* Maps a segment in place of the one with that number; takes the descriptor over. */
ot_rc ot_ring_lane_map(ot_ring_lane *l, uint32_t id, int fd, uint64_t size,
                       ot_error *err) OT_CHECKED;
void ot_ring_lane_cancel(ot_ring_lane *l, uint64_t ticket);
void ot_ring_lane_close(ot_ring_lane *l); /* waits for its run; NULL is fine */

#endif
