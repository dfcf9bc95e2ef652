/* What a rehearsal, or the record itself, comes to in numbers. Not for other folders.
 *
 * Threads: the rehearsal's own. */
#ifndef OT_SIMULATE_REPORT_H
#define OT_SIMULATE_REPORT_H

#include "pipeline/app.h"
#include "simulate/world.h"

/* What is looked at. */
typedef struct sim_span {
    int64_t from_us, to_us;
} sim_span;

/* Counts of a log: alarms, retrains, promotions and so on, and how long the loop was held. With
 * `events` (an array) what happened is listed too. */
ot_rc sim_count_log(ot_store *store, const char *app, sim_span span, json_t *into, json_t *events,
                    ot_error *err) OT_CHECKED;
/* Minutes below each objective: accuracy by these answers, sorted by time; the rest by the recorded
 * windows. */
ot_rc sim_count_below(const recording *r, const ot_app *app, const world_answer *answers, size_t n,
                      sim_span span, json_t *into, ot_error *err) OT_CHECKED;
void sim_sort_answers(world_answer *answers, size_t n);

#endif
