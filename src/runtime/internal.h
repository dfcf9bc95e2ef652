/* What the files of src/runtime share. */
#ifndef OT_RUNTIME_INTERNAL_H
#define OT_RUNTIME_INTERNAL_H

#include "base/disk.h"
#include "base/mem.h"
#include "overtake/plugin.h"
#include "runtime/runtime.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define OT_PLUGIN_NAME_MAX 64
#define OT_PLUGINS_MAX 64
#define OT_SEARCH_DIRS_MAX 32

typedef struct ot_plugin {
    char name[OT_PLUGIN_NAME_MAX];
    char *file;
    struct ot_plugin *shadowed_by; /* an earlier folder has the same name */
    /* Synchronization: written once under ot_runtime.lock, before `opened`. */
    atomic_bool opened; /* tried: `table` or `reason` is set */
    const overtake_plugin *table;
    ot_str reason;
} ot_plugin;

struct ot_runtime {
    atomic_uint refs;
    pthread_mutex_t lock; /* opening of plug-ins */
    char *dirs[OT_SEARCH_DIRS_MAX];
    size_t n_dirs;
    ot_plugin plugins[OT_PLUGINS_MAX];
    size_t n_plugins;
};

/* Where a model is: the format and what model_load gets as path. */
typedef struct ot_model_place {
    ot_plugin *plugin;
    const overtake_format *format;
    char path[OT_PATH_MAX];
} ot_model_place;

struct ot_model {
    atomic_uint refs;
    ot_runtime *rt;
    const overtake_plugin *plugin;
    overtake_model *model; /* the plug-in's */
    ot_model_info info;
    ot_arena strings; /* names and specs of info */
};

/* The table that plug-ins get. Static. */
const overtake_host *ot_runtime_host(void);

/* Candidates for a library, best first; each ends with NUL in `out`. Returns how many. */
size_t ot_runtime_library_candidates(const overtake_library_query *query, ot_str *out);

/* The folders and files of Python environments and libraries that a runtime may be loaded from:
 * what a worker process may read beside the system's own. */
void ot_runtime_read_paths(void (*fn)(void *arg, const char *path), void *arg);

/* Its models run in a program of its own only. */
static inline bool ot_plugin_has_worker(const overtake_plugin *t)
{
    return OVERTAKE_HAS(t, overtake_plugin, worker) && t->worker != NULL;
}

/* An error of ours as the ABI has it. */
static inline int32_t ot_runtime_give(overtake_error *out, const ot_error *err)
{
    snprintf(out->message, sizeof out->message, "%s", err->msg);
    return (int32_t)err->rc;
}

/* Tensors of ours as the ABI has them; names are shared. */
static inline void ot_runtime_fill_specs(const ot_tensor_spec *from, size_t n, overtake_spec *to)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = (overtake_spec){
            .name = from[i].name, .dtype = (int32_t)from[i].dtype, .rank = from[i].rank};
        memcpy(to[i].dims, from[i].dims, sizeof to[i].dims);
    }
}

/* Opens the plug-in if that hasn't been tried; NULL when it is refused (see reason). */
const overtake_plugin *ot_plugin_open(ot_runtime *rt, ot_plugin *p);

/* `format` NULL: any that a plug-in knows. */
ot_rc ot_runtime_locate(ot_runtime *rt, const char *format, const char *path,
                        ot_model_place *place_out, ot_error *err) OT_CHECKED;

/* The folder of the running program, without the last '/'. False when unknown. */
bool ot_runtime_program_dir(char out[OT_PATH_MAX]);

/* The same element sizes and shapes rule for inputs of a run as ot_model_check_inputs, and the
 * signature's index of inputs[i] in order_out[i]. */
ot_rc ot_model_match_inputs(const ot_model *m, const ot_run_input *inputs, int n_inputs,
                            uint16_t *order_out, ot_error *err) OT_CHECKED;

#endif
