/* What moves the data of whole operations: the engine that the job names (overtake/engine.h),
 * loaded from beside this library, or nothing: then executors go by their own links.
 *
 * "overtake" is nothing; a name is libovertake_NAME.so; what has a '/' in it is a file.
 *
 * An engine is called from a thread of its own alone: where a rank is lost its library may never
 * return (Open MPI's TCP waits for a lock that it holds), and the progress thread has to say so.
 *
 * Threads: load, join and unload from one, the others from the progress thread. Lifetime:
 * load/unload; the library stays loaded. */
#ifndef OT_COLLECTIVE_CARRIER_H
#define OT_COLLECTIVE_CARRIER_H

#include "base/error.h"
#include "collective/schedule.h"
#include "overtake/engine.h"

#include <stdbool.h>

#define OT_CARRIER_BUILT_IN "overtake"

typedef struct ot_carrier ot_carrier;

/* The environment's OVERTAKE_ENGINE; the built-in one when it is not set. */
const char *ot_carrier_wanted(void);
/* *out NULL: the built-in one. Errors say what to install. */
ot_rc ot_carrier_load(const char *wanted, int32_t size, ot_carrier **out, ot_error *err) OT_CHECKED;
/* Leaves. What was abandoned keeps its thread, should that never return, and its memory. */
void ot_carrier_unload(ot_carrier *c);
/* "mpi Open MPI 4.1.4" */
const char *ot_carrier_name(const ot_carrier *c);
/* All ranks at about the same time; blocks. */
ot_rc ot_carrier_join(ot_carrier *c, int32_t rank, int32_t size, int32_t lanes,
                      ot_error *err) OT_CHECKED;
int ot_carrier_fd(const ot_carrier *c); /* readable: call turn */

/* An operation of this shape, alike on all ranks. `dtype` and `reduction` are of sums. */
bool ot_carrier_takes(const ot_carrier *c, const ot_coll_shape *shape, uint8_t dtype,
                      uint8_t reduction);
ot_rc ot_carrier_start(ot_carrier *c, int32_t lane, const ot_coll_shape *shape, uint8_t dtype,
                       uint8_t reduction, const void *in, void *out, void *user,
                       ot_error *err) OT_CHECKED;
/* All ranks have begun an operation that is not done: the engine is asked more often from now on.
 * Once an operation. */
void ot_carrier_hurry(ot_carrier *c);
/* Calls `done` for what is done; true: it was hurried. An error once: nothing more will be. */
ot_rc ot_carrier_turn(ot_carrier *c, bool (*done)(void *user), ot_error *err) OT_CHECKED;
/* What is in flight, if anything is, is left behind for good. Its buffers are no more written by
 * this process, unless its thread hangs; ranks that have not heard yet may do so by RDMA. */
void ot_carrier_abandon(ot_carrier *c);

#endif
