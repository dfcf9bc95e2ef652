/* ONNX models through the ONNX Runtime that the user's Python environment or system has.
 *
 * A model is one session shared by its instances, or, where that is cheap (small models), a session
 * for each instance: a shared one takes locks that a run of a few microseconds feels.
 * Threads: as the ABI has it. */
#ifndef OT_PLUGINS_ONNXRUNTIME_ORT_H
#define OT_PLUGINS_ONNXRUNTIME_ORT_H

#include "ort_api.h"
#include "overtake/plugin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define ORT_INPUTS_MAX 256
#define ORT_OUTPUTS_MAX 32
#define ORT_SMALL_MODEL (4u << 20) /* file size up to which each instance gets a session */

typedef struct ort_runtime {
    ort_api api;
    ort_env *env;
    ort_memory_info *cpu;
    ort_allocator *allocator; /* the runtime's default one; never freed */
    char version[64], library[4096];
} ort_runtime;

extern const overtake_host *ort_host;
extern ort_runtime ort; /* valid once ort_runtime_load has returned OK */

struct overtake_model {
    char *path;
    ort_session_options *options;
    ort_session *session; /* the shared one, or the first instance's */
    bool per_instance, quick;
    /* Synchronization: atomic. The first instance of a per-instance model takes `session`. */
    atomic_bool session_taken;
    uint64_t file_bytes;
    uint32_t n_inputs, n_outputs;
    overtake_spec inputs[ORT_INPUTS_MAX], outputs[ORT_OUTPUTS_MAX];
    bool rows_known[ORT_OUTPUTS_MAX]; /* all axes fixed but 0, which is the inputs' axis 0 */
    int32_t batch_axis;
};

int32_t ort_fail(overtake_error *err, int32_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Turns a status other than NULL into a code and a message, and releases it. */
int32_t ort_check(ort_status *status, overtake_error *err, const char *what);

/* Loads the library once. Any thread. */
int32_t ort_runtime_load(overtake_error *err);

/* ort_model.c */
int32_t ort_model_load(const overtake_load *load, overtake_model **out, overtake_error *err);
void ort_model_unload(overtake_model *m);
int32_t ort_model_info(const overtake_model *m, overtake_model_info *out, overtake_error *err);
int32_t ort_model_estimate(const overtake_load *load, uint64_t *bytes, overtake_error *err);
int ort_type_of(int32_t dtype);         /* ONNX element type; 0 when there is none */
int32_t ort_dtype_of(int type);         /* OVERTAKE_DT_INVALID when there is none */
uint32_t ort_dtype_size(int32_t dtype); /* 0 for BYTES */

/* ort_strings.c: BYTES from and to string tensors. */
int32_t ort_strings_in(const overtake_input *in, ort_value **out, overtake_error *err);
/* Serialised elements in a block from the host's allocator. */
int32_t ort_strings_out(const ort_value *value, const overtake_output *shape, void **block,
                        uint64_t *size, overtake_error *err);

/* ort_run.c */
int32_t ort_instance_create(overtake_model *m, overtake_instance **out, overtake_error *err);
void ort_instance_destroy(overtake_instance *inst);
int32_t ort_submit(overtake_instance *inst, const overtake_submission *s, overtake_error *err);
void ort_cancel(overtake_instance *inst, uint64_t ticket);
void ort_release(overtake_instance *inst, void *token);

#endif
