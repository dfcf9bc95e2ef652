/* Between chain_model.c and chain_run.c: the model of a chain. */
#ifndef OT_RUNTIME_CHAIN_MODEL_H
#define OT_RUNTIME_CHAIN_MODEL_H

#include "runtime/chain.h"

struct overtake_model {
    overtake_plugin table; /* with the capabilities that all steps have */
    ot_chain c;
    ot_chain_plan plan;
    ot_model *steps[OT_CHAIN_STEPS_MAX];
    overtake_spec *inputs, *outputs; /* of the plan */
    ot_str version;
    uint64_t memory, instance_memory;
};

/* Puts the step and its model before an error that is passed on. */
ot_rc ot_chain_step_failed(const ot_chain_step *s, ot_rc rc, ot_error *err);
/* chain_run.c: the functions of instances. */
void ot_chain_fill_instances(overtake_plugin *table);

#endif
