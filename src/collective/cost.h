/* The cost model: which algorithm an operation takes, from measured links.
 *
 * A link costs latency + bytes / rate; a reduction bytes / rate. `overtake tune` measures them and
 * writes them down; without that, defaults by link type. All ranks choose alike because all hold
 * the same numbers (rank 0's, spread at init).
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_COST_H
#define OT_COLLECTIVE_COST_H

#include "collective/schedule.h"

typedef struct ot_link_cost {
    double latency_us, bytes_per_us;
} ot_link_cost;

typedef struct ot_cost_model {
    ot_link_cost local, remote; /* within a host, between hosts */
    double reduce_bytes_per_us; /* one core, fp32 */
} ot_cost_model;

ot_cost_model ot_cost_default(void);
/* Predicted time of the algorithm, microseconds. */
double ot_cost_us(const ot_cost_model *m, ot_algorithm a, const ot_coll_shape *shape);
ot_algorithm ot_cost_choose(const ot_cost_model *m, const ot_coll_shape *shape);
/* The model as text, "key = value" lines, and back; unknown keys are errors that name the line. */
ot_rc ot_cost_parse(const char *text, ot_cost_model *out, ot_error *err) OT_CHECKED;
size_t ot_cost_format(const ot_cost_model *m, char *text, size_t size);

#endif
