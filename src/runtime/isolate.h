/* Isolated models: a plug-in's table whose model runs in a worker process of its own (ring.h).
 *
 * Above the ABI nothing can tell: ot_model and ot_instance see a table with the real plug-in's name
 * whose runs are answered inside submit. One thread a model (its minder) starts the process,
 * watches it and starts it again. The kernel ends the process when this one ends.
 *
 * Threads: as the plug-in ABI has it. Lifetime: model_unload ends process, thread and cache. */
#ifndef OT_RUNTIME_ISOLATE_H
#define OT_RUNTIME_ISOLATE_H

#include "runtime/internal.h"
#include "runtime/ring.h"

#include <jansson.h>

#define OT_ISOLATE_NAME_MAX 160

typedef struct ot_minder ot_minder;

/* Loads place->path in a worker. *table_out belongs to the model. */
ot_rc ot_isolate_load(const ot_model_place *place, const ot_model_options *opts,
                      const overtake_plugin **table_out, overtake_model **model_out,
                      ot_error *err) OT_CHECKED;
const char *ot_isolate_version(const overtake_model *m); /* of the runtime; lives as long */
const char *ot_isolate_lacks(const overtake_model *m);   /* what the sandbox lacks; "" */
pid_t ot_isolate_pid(overtake_model *m);                 /* 0: none at the moment */

/* ---- minder.c: the process */

typedef struct ot_minder_spec {
    char name[OT_ISOLATE_NAME_MAX]; /* of the model, for messages */
    ot_isolation how;               /* its strings outlive the minder */
    const overtake_plugin *plugin;  /* the real one */
    const char *const *argv;        /* ends with NULL */
    int extra_fd;                   /* descriptor 4 of the worker, or -1 */
    json_t *load;                   /* the message; `cache` and the filter are added */
    json_t *program;                /* NULL, or a message before it: what the worker becomes */
    void (*down)(void *arg);        /* on the minder's thread, when the process has ended */
    void *arg;
} ot_minder_spec;

/* Starts the process and loads; takes the messages of `spec` over. *loaded_out is what the worker
 * answered. */
ot_rc ot_minder_create(const ot_minder_spec *spec, ot_minder **m_out, json_t **loaded_out,
                       ot_error *err) OT_CHECKED;
void ot_minder_destroy(ot_minder *m); /* NULL is fine */

/* Numbers the processes; 0: there is none that could answer now. Any thread, no lock. */
uint64_t ot_minder_up(const ot_minder *m);
/* Why there is none: the last death, and when it is started again. */
void ot_minder_why(ot_minder *m, ot_error *err);
pid_t ot_minder_pid(ot_minder *m);
/* A message to process number `up` and, with `reply`, its answer; OT_UNAVAILABLE when that one is
 * gone. The message is taken over. */
ot_rc ot_minder_tell(ot_minder *m, uint64_t up, json_t *message, int pass_fd, bool reply,
                     ot_error *err) OT_CHECKED;
/* Kills process number `up` for a reason that is told. */
void ot_minder_kill(ot_minder *m, uint64_t up, const char *reason);

/* Reads what a worker says of the model it has loaded: outputs in an arena, everything checked. */
ot_rc ot_isolate_read_loaded(const json_t *m, ot_arena *a, overtake_model_info *info_out,
                             const char **version_out, const char **lacks_out,
                             ot_error *err) OT_CHECKED;

#endif
