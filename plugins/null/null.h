/* The tutorial plug-in: tiny models described by a file null.json, computed by hand, that use every
 * feature of the ABI. docs/plugins.md walks through it.
 *
 *     {"inputs":  [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
 *      "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
 *      "op": "linear",             identity | sum | linear | center
 *      "weights": [[...], ...],    linear: 4 rows of 2
 *      "bias": [...],              linear, optional
 *      "softmax": true,            linear, optional
 *      "load_us": 0, "late": false, "delay_us": 0, "responses": 1, "fail_every": 0,
 *      "fail_on_nan": false}
 *
 *   identity  outputs are the inputs, one for one, of any type
 *   sum       FP32 [-1, ...] -> FP32 [-1] or [-1,1], the sum of each row
 *   linear    FP32 [-1,n] -> FP32 [-1,m]; a second output INT64 [-1] is the index of the largest
 *   center    FP32 -> FP32 of the same shape, less the mean of each column: its rows depend on each
 *             other, so it must not be batched, and the golden check finds that out
 *   load_us          loading takes that long, but for a quick one
 *   late, delay_us   answers after that time, from a thread of the plug-in when late
 *   responses        each run is answered that many times, the last one final
 *   fail_every       every k-th run of the model fails
 *   fail_on_nan      parts of a batch with a NaN in them fail, the others don't
 * The last five may also be given as options at load, which win.
 * Threads: as the ABI has it. */
#ifndef OT_PLUGINS_NULL_H
#define OT_PLUGINS_NULL_H

#include "overtake/plugin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define NULL_IO_MAX 16
#define NULL_NAME_MAX 64
#define NULL_IN_FLIGHT 4 /* of a late model's instance */
#define NULL_FILE_MAX (64u << 20)
#define NULL_DELAY_US_MAX 60000000
#define NULL_RESPONSES_MAX 64

typedef enum null_op {
    NULL_OP_NONE,
    NULL_OP_IDENTITY,
    NULL_OP_SUM,
    NULL_OP_LINEAR,
    NULL_OP_CENTER
} null_op;

typedef struct null_behaviour {
    bool late, fail_on_nan;
    int64_t delay_us, responses, fail_every;
} null_behaviour;

struct overtake_model {
    overtake_spec inputs[NULL_IO_MAX], outputs[NULL_IO_MAX];
    char names[2 * NULL_IO_MAX][NULL_NAME_MAX];
    uint32_t n_inputs, n_outputs;
    null_op op;
    bool softmax;
    float *weights; /* (n,m) */
    float *bias;    /* (m) or NULL */
    int64_t n_weights, n_bias;
    int64_t load_us;
    bool quick;
    null_behaviour how;
    atomic_ullong runs; /* for fail_every */
};

extern const overtake_host *null_host;

void *null_alloc(size_t n);
void null_free(void *p);
int32_t null_fail(overtake_error *err, int32_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* null_model.c: a model from the text of null.json, and options over it. */
int32_t null_model_read(overtake_model *m, const char *text, size_t n, overtake_error *err);
int32_t null_options_read(null_behaviour *how, const char *json, overtake_error *err);

/* null_compute.c: the outputs of one run in the order asked for, in the host's buffers where
 * `may_use_buffers` and they fit, else in a block of our own, which *token_out owns (free it with
 * null_free; NULL when all went to buffers). part_status has n_parts entries. */
int32_t null_compute(const overtake_model *m, const overtake_submission *s, bool may_use_buffers,
                     overtake_output *outputs, int32_t *part_status, void **token_out,
                     overtake_error *err);
bool null_any_part_failed(const overtake_submission *s, const int32_t *part_status);

/* null_run.c */
int32_t null_instance_create(overtake_model *model, overtake_instance **out, overtake_error *err);
void null_instance_destroy(overtake_instance *inst);
int32_t null_submit(overtake_instance *inst, const overtake_submission *s, overtake_error *err);
void null_cancel(overtake_instance *inst, uint64_t ticket);
void null_release(overtake_instance *inst, void *token);

#endif
