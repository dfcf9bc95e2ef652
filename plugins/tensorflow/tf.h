/* SavedModels through the TensorFlow that the user's Python environment or system has.
 *
 * A model is one session, shared by all instances (TF_SessionRun may be called from any thread) and
 * by the models of its other signatures.
 * With one thread the single-threaded executor runs the graph on the calling thread: 24.6 -> 14.4
 * us for a small MLP with the same output. Threads: as the ABI has it. */
#ifndef OT_PLUGINS_TENSORFLOW_TF_H
#define OT_PLUGINS_TENSORFLOW_TF_H

#include "overtake/plugin.h"
#include "tf_api.h"
#include "tf_signature.h"

#include <stdatomic.h>
#include <stdbool.h>

extern const overtake_host *tf_host;
extern tf_api tf; /* valid once tf_runtime_load has returned OK */

/* What the signatures of a model share; the last one frees it. */
typedef struct tf_shared {
    atomic_uint refs;
    TF_Session *session;
    TF_Graph *graph;
    uint64_t bytes;
    tf_signature *others[TF_SIGNATURES_MAX]; /* beside the one that was loaded */
    uint32_t n_others;
} tf_shared;

struct overtake_model {
    tf_shared *shared;
    tf_signature *signature; /* its own */
    overtake_spec inputs[TF_TENSORS_MAX], outputs[TF_OUTPUTS_MAX];
    TF_Output feeds[TF_TENSORS_MAX], fetches[TF_OUTPUTS_MAX];
    int32_t batch_axis;
};

int32_t tf_fail(overtake_error *err, int32_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* OVERTAKE_OK, or the status as code and message. The status stays the caller's. */
int32_t tf_check(const TF_Status *status, overtake_error *err, const char *what);
int32_t tf_runtime_load(overtake_error *err);

/* tf_model.c */
int32_t tf_model_load(const overtake_load *load, overtake_model **out, overtake_error *err);
void tf_model_unload(overtake_model *m);
int32_t tf_model_info(const overtake_model *m, overtake_model_info *out, overtake_error *err);
int32_t tf_model_view(overtake_model *m, uint32_t index, overtake_model **out, overtake_error *err);
int32_t tf_model_estimate(const overtake_load *load, uint64_t *bytes, overtake_error *err);
int32_t tf_dtype_of(int type); /* OVERTAKE_DT_INVALID when there is none */
int tf_type_of(int32_t dtype); /* 0 when there is none */

/* tf_run.c */
int32_t tf_instance_create(overtake_model *m, overtake_instance **out, overtake_error *err);
void tf_instance_destroy(overtake_instance *inst);
int32_t tf_submit(overtake_instance *inst, const overtake_submission *s, overtake_error *err);
void tf_release(overtake_instance *inst, void *token);

#endif
