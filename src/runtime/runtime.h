/* The plug-in host: finds runtimes, loads models, runs batches.
 *
 * An ot_runtime is the registry of plug-ins; an ot_model is a loaded model (shared weights, counted
 * references); an ot_instance is what one worker or pool slot runs on. Nothing here batches or
 * routes: a run is one call with the rows that the caller has put together.
 *
 * Threads: registry and models from any; an instance from one thread at a time, except
 * ot_instance_cancel and ot_run_result_release (any). Callbacks of asynchronous plug-ins come from
 * their threads.
 * Lifetime: instance -> model -> registry hold references downwards, so that the order of
 * destruction doesn't matter. A plug-in that was loaded stays mapped until the process ends. */
#ifndef OT_RUNTIME_RUNTIME_H
#define OT_RUNTIME_RUNTIME_H

#include "base/error.h"
#include "base/str.h"
#include "codec/tensor.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define OT_RUNTIME_INPUTS_MAX 256    /* of a model */
#define OT_RUNTIME_OUTPUTS_MAX 32    /* of a model */
#define OT_RUNTIME_SEGMENTS_MAX 4096 /* segments of one input */

typedef struct ot_runtime ot_runtime;
typedef struct ot_model ot_model;
typedef struct ot_instance ot_instance;

/* ------------------------------------------------------------------ registry */

/* Plug-ins are files overtake_NAME.so, looked for, first found of a name wins, in: the folders of
 * `plugin_path` (colon-separated; NULL: $OVERTAKE_PLUGIN_PATH), <program's folder>/plugins,
 * <program's folder>/../lib/overtake/plugins, /usr/local/lib/overtake/plugins,
 * /usr/lib/overtake/plugins. None is opened before it is needed. */
ot_rc ot_runtime_create(const char *plugin_path, ot_runtime **rt_out, ot_error *err) OT_CHECKED;
ot_runtime *ot_runtime_ref(ot_runtime *rt);
void ot_runtime_unref(ot_runtime *rt); /* NULL is fine */

/* What `overtake plugins` prints. Strings live during the callback. */
typedef struct ot_plugin_report {
    const char *name;     /* "onnxruntime" */
    const char *file;     /* where it was found */
    bool usable;          /* the plug-in and its runtime were loaded */
    const char *reason;   /* why not; "" when usable */
    const char *build_id; /* "" when the plug-in could not be opened */
    unsigned abi_major, abi_minor;
    uint64_t capabilities;       /* OVERTAKE_CAP_* */
    const char *formats;         /* "onnx", comma-separated */
    const char *runtime_version; /* "" when the runtime was not found */
    const char *runtime_library; /* "" when none is needed or found */
} ot_plugin_report;

typedef void ot_plugin_report_fn(void *arg, const ot_plugin_report *report);
/* Every plug-in found, refused ones and shadowed ones included. Opens all of them and, with
 * `probe`, their runtimes (TensorFlow takes a second). */
void ot_runtime_list(ot_runtime *rt, bool probe, ot_plugin_report_fn *fn, void *arg);
/* The folders that were searched, in order, one a line. */
void ot_runtime_search_path(const ot_runtime *rt, ot_str *out);

/* The format of a model path ("onnx", "saved_model", "null", or another plug-in's): a file, a
 * folder with such a file, or with one in its only sub-folder. `format_out` lives as long as rt.
 * OT_INVALID names what was found there and which formats are known. */
ot_rc ot_runtime_detect(ot_runtime *rt, const char *path, const char **format_out,
                        ot_error *err) OT_CHECKED;

/* ------------------------------------------------------------------ models */

/* A worker process for a model (docs/isolation.md). 0 and NULL are the defaults in brackets. */
typedef struct ot_isolation {
    const char *name;    /* of the model, in messages and the log [its path] */
    const char *program; /* with the command `worker` [this very program] */
    const char *dir;     /* where its cache and log lie, in a folder of their own [$TMPDIR, /tmp] */
    int64_t hang_us;     /* a run that takes longer costs the process its life [30 s] */
    int64_t load_us;     /* the same for loading [10 min] */
    uint64_t memory_max; /* resident bytes [no limit] */
    uint64_t cache_max;  /* bytes of cache and log [1 GiB] */
    bool if_needed;      /* only for plug-ins that can't run in this process */
} ot_isolation;

typedef struct ot_model_options {
    unsigned threads;         /* compute threads a run may use, the caller's included; 0 means 1 */
    const char *options_json; /* the plug-in's own options, a JSON object; NULL means {} */
    bool quick;               /* so that it answers soon, though slower than it could */
    const ot_isolation *isolation; /* NULL: in this process, unless the plug-in can't */
} ot_model_options;

typedef struct ot_model_info {
    const char *plugin, *format;
    const char *runtime_version;
    const char *signature, *method; /* of a model with several signatures; else "" */
    int n_inputs, n_outputs;
    const ot_tensor_spec *inputs, *outputs;
    int batch_axis;         /* suggested by the model's own shapes; -1: none */
    unsigned max_in_flight; /* submissions an instance takes at a time; 1 for inline runtimes */
    uint64_t capabilities;  /* OVERTAKE_CAP_* */
    uint64_t memory_bytes, instance_memory_bytes; /* estimates */
    bool quick;    /* it was loaded quickly, and would run faster if it were loaded again without */
    bool isolated; /* runs in a worker process, where its memory is; a chain: some step does */
    const char *isolation_lacks; /* what the kernel could not do for that; "" when nothing */
} ot_model_info;

/* Loads a model; may take seconds: call it from a control thread. `format` NULL means detect.
 * `opts` NULL means defaults. Errors: OT_NOT_FOUND (no such path, or no plug-in for the format),
 * OT_UNAVAILABLE (the runtime isn't installed), OT_INVALID (not a model, unknown option). The
 * caller owns one reference. */
ot_rc ot_model_load(ot_runtime *rt, const char *format, const char *path,
                    const ot_model_options *opts, ot_model **model_out, ot_error *err) OT_CHECKED;
/* Memory that loading would take, without loading: for a budget that is checked first.
 * OT_UNIMPLEMENTED: the plug-in doesn't know. */
ot_rc ot_model_estimate(ot_runtime *rt, const char *format, const char *path, uint64_t *bytes_out,
                        ot_error *err) OT_CHECKED;
/* The index-th other signature of a model (0, 1, ...) as a model of its own on the same session.
 * OT_NOT_FOUND after the last one, or when the plug-in knows none; another error: this one can't be
 * served. The caller owns one reference. */
ot_rc ot_model_view(ot_model *m, unsigned index, ot_model **view_out, ot_error *err) OT_CHECKED;
ot_model *ot_model_ref(ot_model *m);
void ot_model_unref(ot_model *m); /* the last one unloads, in the calling thread; NULL is fine */
const ot_model_info *ot_model_info_of(const ot_model *m); /* lives as long as the model */
/* The worker process of an isolated model; 0 while there is none, and for a chain, whose steps have
 * their own. */
pid_t ot_model_worker_pid(ot_model *m);

/* ------------------------------------------------------------------ runs */

typedef struct ot_segment {
    const void *data;
    size_t size_bytes;
} ot_segment;

/* An input of a run. Either the tensor's own data (n_segments 0), or segments that follow each
 * other: whole rows of axis 0 each. tensor.dims is the shape of the whole, and with segments
 * tensor.data and size_bytes are not looked at. */
typedef struct ot_run_input {
    ot_tensor tensor;
    const ot_segment *segments;
    size_t n_segments;
} ot_run_input;

/* An output to compute. With a buffer (aligned to 64 bytes) the result lies there if the runtime
 * can and it fits; look at where the result's data point. */
typedef struct ot_run_output {
    const char *name;
    void *buffer; /* may be NULL */
    size_t capacity;
} ot_run_output;

/* One request's rows (axis 0) within a batch. */
typedef struct ot_run_part {
    uint64_t id;
    uint32_t first_row, n_rows;
    uint64_t reserved; /* 0 */
} ot_run_part;

typedef struct ot_run_result ot_run_result;
struct ot_run_result {
    ot_rc rc;            /* of the run */
    const char *message; /* why it failed; "" otherwise. Valid during the callback */
    bool final;          /* no more results for this run */
    unsigned sequence;   /* 0, 1, ... within the run */
    /* Views, in the order asked for (names are the signature's); 0 when rc is not OT_OK. */
    int n_outputs;
    ot_tensor outputs[OT_RUNTIME_OUTPUTS_MAX];
    /* A code for each part, or NULL when all parts share `rc`. Valid during the callback; after
     * ot_instance_run until the next run on that instance. */
    const int32_t *part_rc;
    ot_instance *owner; /* private */
    void *token;        /* private */
};

typedef void ot_run_fn(void *arg, const ot_run_result *result);

typedef struct ot_run {
    const ot_run_input *inputs; /* every input of the signature once, in any order */
    int n_inputs;
    const ot_run_output *outputs; /* NULL: all of the signature, in its order */
    int n_outputs;
    const ot_run_part *parts; /* NULL: one request */
    int n_parts;
    uint64_t deadline_ns; /* on ot_clock_mono_ns; 0: none */
    /* Of ot_instance_run: called with each response but the last, whose outputs are valid until it
     * returns. NULL: they are dropped; the last one's `sequence` tells how many there were. */
    ot_run_fn *more;
    void *more_arg;
} ot_run;

ot_rc ot_instance_create(ot_model *m, ot_instance **inst_out, ot_error *err) OT_CHECKED;
/* Waits for what is in flight. Results must have been released. NULL is fine. */
void ot_instance_destroy(ot_instance *inst);
ot_model *ot_instance_model(const ot_instance *inst);

/* Names, types, shapes and sizes against the signature: what submit and run check first. For
 * callers that want to refuse a request before it joins a batch. */
ot_rc ot_model_check_inputs(const ot_model *m, const ot_run_input *inputs, int n_inputs,
                            ot_error *err) OT_CHECKED;

/* Runs and waits. On OT_OK *result_out holds the last result; call ot_run_result_release when its
 * outputs are not needed any more. Allocates nothing. */
ot_rc ot_instance_run(ot_instance *inst, const ot_run *run, ot_run_result *result_out,
                      ot_error *err) OT_CHECKED;

/* Starts a run. OT_OK: `fn` is called one or more times, the last time with `final`, before this
 * returns or later from another thread. Another code: `fn` is not called. *run, what it points to
 * and the data stay valid until the final result. In the callback copy the result to keep its
 * outputs, and release each result once. OT_EXHAUSTED: max_in_flight are running. */
ot_rc ot_instance_submit(ot_instance *inst, const ot_run *run, ot_run_fn *fn, void *arg,
                         uint64_t *ticket_out, ot_error *err) OT_CHECKED;
void ot_instance_cancel(ot_instance *inst, uint64_t ticket); /* any thread; unknown ones ignored */
void ot_run_result_release(ot_run_result *result);           /* safe to call twice */

#endif
