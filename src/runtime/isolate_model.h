/* Between isolate_model.c and isolate.c: the model that a table of ours is given. */
#ifndef OT_RUNTIME_ISOLATE_MODEL_H
#define OT_RUNTIME_ISOLATE_MODEL_H

#include "runtime/isolate.h"

struct overtake_model {
    overtake_plugin table; /* the real plug-in's name and capabilities, our functions */
    ot_minder *minder;
    ot_isolation how;
    ot_arena arena; /* strings of `how` and of what was loaded */
    overtake_model_info info;
    ot_tensor_spec *outputs; /* of info, as the product has them */
    const char *version, *lacks;
    const char *argv[8]; /* of the worker; ends with NULL */
    int script_fd;       /* of a plug-in whose worker is a program of its own */
    pthread_mutex_t lock;
    /* Synchronization: under lock. Where each lane's ring is, NULL while it has none. */
    ot_ring **rings[OT_RING_LANES_MAX];
};

uint32_t ot_isolate_output(const overtake_model *m, const char *name);
/* A number for a lane whose ring is at *ring. */
ot_rc ot_isolate_lane_add(overtake_model *m, ot_ring **ring, uint32_t *number_out,
                          ot_error *err) OT_CHECKED;
void ot_isolate_lane_remove(overtake_model *m, uint32_t number);
/* Replaces a lane's ring and unmaps the one before. */
void ot_isolate_lane_ring(overtake_model *m, ot_ring **ring, ot_ring *now);
/* isolate.c: the functions of instances. */
void ot_isolate_fill_instances(overtake_plugin *table);

#endif
