/* The plug-in ABI: how Overtake runs a model through somebody else's runtime.
 *
 * A plug-in is a shared object `overtake_NAME.so` that exports one symbol, overtake_plugin_get. It
 * returns a const table of functions or NULL. The host loads it with RTLD_LOCAL and never unloads
 * it. docs/plugins.md is the tutorial, plugins/null the example that uses everything, and
 * tests/conformance the contract.
 *
 * Objects: a MODEL holds what all runs share (weights); an INSTANCE is what one worker or one pool
 * slot runs on. A SUBMISSION is one batch handed to an instance; it is answered by one or more
 * RESPONSES, the last of which carries OVERTAKE_RESPONSE_FINAL.
 *
 * Growth: tables and structs that begin with struct_size only grow at their end within one major
 * version; a reader looks at no field beyond the writer's struct_size (OVERTAKE_HAS). Structs that
 * are elements of arrays have a fixed layout within a major version and reserved fields, which are
 * zero.
 * Memory: each side frees its own. Host allocations come from the host's table.
 * Threads: stated at each function. Strings are NUL-terminated UTF-8. Times are nanoseconds of the
 * host's monotonic clock. Data are little-endian, row-major, contiguous.
 * The header needs nothing else of Overtake and compiles alone as C17 and as C++17. */
#ifndef OVERTAKE_PLUGIN_H
#define OVERTAKE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OVERTAKE_ABI_MAJOR 1u
#define OVERTAKE_ABI_MINOR 3u

#define OVERTAKE_RANK_MAX 8
#define OVERTAKE_ERROR_MAX 512 /* bytes of a message with its NUL */

/* True when `ptr`, a struct that begins with struct_size, is long enough to have `field`. */
#define OVERTAKE_HAS(ptr, type, field)                                                             \
    ((ptr)->struct_size >= offsetof(type, field) + sizeof(((type *)0)->field))

#if defined(_WIN32)
#define OVERTAKE_EXPORT __declspec(dllexport)
#else
#define OVERTAKE_EXPORT __attribute__((visibility("default")))
#endif

/* Status codes: 0 or the negated canonical code of gRPC. */
enum {
    OVERTAKE_OK = 0,
    OVERTAKE_CANCELLED = -1,
    OVERTAKE_UNKNOWN = -2,
    OVERTAKE_INVALID = -3, /* the caller's input is wrong */
    OVERTAKE_TIMEOUT = -4, /* the deadline passed */
    OVERTAKE_NOT_FOUND = -5,
    OVERTAKE_EXHAUSTED = -8,
    OVERTAKE_PRECONDITION = -9,
    OVERTAKE_UNIMPLEMENTED = -12,
    OVERTAKE_INTERNAL = -13,
    OVERTAKE_UNAVAILABLE = -14,
    OVERTAKE_DATA_LOSS = -15
};

/* Element types. A BYTES element is a u32 little-endian length and that many bytes; elements follow
 * each other without padding. */
enum {
    OVERTAKE_DT_INVALID = 0,
    OVERTAKE_DT_BOOL = 1, /* one byte, 0 or 1 */
    OVERTAKE_DT_UINT8 = 2,
    OVERTAKE_DT_UINT16 = 3,
    OVERTAKE_DT_UINT32 = 4,
    OVERTAKE_DT_UINT64 = 5,
    OVERTAKE_DT_INT8 = 6,
    OVERTAKE_DT_INT16 = 7,
    OVERTAKE_DT_INT32 = 8,
    OVERTAKE_DT_INT64 = 9,
    OVERTAKE_DT_FP16 = 10,
    OVERTAKE_DT_BF16 = 11,
    OVERTAKE_DT_FP32 = 12,
    OVERTAKE_DT_FP64 = 13,
    OVERTAKE_DT_BYTES = 14
};

/* Where data lie. In this version the host passes and accepts OVERTAKE_MEM_HOST only. */
enum {
    OVERTAKE_MEM_HOST = 0,
    OVERTAKE_MEM_HOST_PINNED = 1,
    OVERTAKE_MEM_DEVICE = 2,
    OVERTAKE_MEM_SHARED = 3 /* shared memory of an isolated plug-in */
};

/* Capability bits of a plug-in: what a host may ask for. */
#define OVERTAKE_CAP_SCATTER (1ull << 0)        /* takes inputs in several segments */
#define OVERTAKE_CAP_HOST_OUTPUTS (1ull << 1)   /* can write into buffers of the host */
#define OVERTAKE_CAP_ASYNC (1ull << 2)          /* may answer after submit has returned */
#define OVERTAKE_CAP_MULTI_RESPONSE (1ull << 3) /* may answer a submission more than once */
#define OVERTAKE_CAP_CANCEL (1ull << 4)         /* cancel() can end a run early */
#define OVERTAKE_CAP_DEADLINE (1ull << 5)       /* looks at the deadline of a submission */
#define OVERTAKE_CAP_STRINGS (1ull << 6)        /* BYTES tensors in and out */
#define OVERTAKE_CAP_PART_STATUS (1ull << 7)    /* may fail some parts of a batch only */
#define OVERTAKE_CAP_ESTIMATE (1ull << 8)       /* has model_estimate */

/* Levels for overtake_host.log. */
enum {
    OVERTAKE_LOG_DEBUG = 0,
    OVERTAKE_LOG_INFO = 1,
    OVERTAKE_LOG_WARN = 2,
    OVERTAKE_LOG_ERROR = 3
};

/* An error that a function fills in before it returns a code other than OVERTAKE_OK. The message
 * names the thing, the value and the way out. Owned by the caller. */
typedef struct overtake_error {
    char message[OVERTAKE_ERROR_MAX];
} overtake_error;

/* How to find the library of a runtime that the user already has (see overtake_host.find_library).
 * Lists end with NULL; NULL lists are empty. */
typedef struct overtake_library_query {
    size_t struct_size;
    const char *env;                 /* a variable that names the file and overrides all else */
    const char *const *site_globs;   /* below a site-packages folder: "x/capi/libx.so.*" */
    const char *const *system_names; /* "libx.so.1": in the folders of the system's loader */
} overtake_library_query;

/* What the host offers. It outlives every plug-in. All functions: any thread. */
typedef struct overtake_host {
    size_t struct_size;
    uint32_t abi_major, abi_minor;
    void *self; /* first argument of the functions below */
    /* Memory from the host; alloc and realloc give NULL when it is short. */
    void *(*alloc)(void *self, size_t size);
    void *(*realloc)(void *self, void *p, size_t size);
    void (*free)(void *self, void *p);
    void (*log)(void *self, int32_t level, const char *component, const char *message);
    uint64_t (*now_ns)(void *self);
    /* The index-th candidate (0, 1, ...) for a library, best first: the variable, the active
     * virtual environment, environments beside the working directory and the program, the user's
     * and the system's site-packages, the system's loader. Writes what dlopen takes. Returns
     * OVERTAKE_NOT_FOUND after the last one and OVERTAKE_EXHAUSTED when `cap` is too small. */
    int32_t (*find_library)(void *self, const overtake_library_query *query, uint32_t index,
                            char *path_out, size_t cap);
} overtake_host;

/* A model format of the plug-in: a model path is of this format when it is a file whose name
 * matches `pattern`, or a folder that holds such a file itself or in its only sub-folder. */
typedef struct overtake_format {
    const char *name;    /* "onnx" */
    const char *pattern; /* fnmatch(3): "*.onnx" */
    int32_t wants_dir;   /* model_load gets the folder (1) or the matching file (0) */
    int32_t reserved[3];
} overtake_format;

/* One input or output of a model. */
typedef struct overtake_spec {
    const char *name;
    int32_t dtype;
    int32_t rank;                    /* 0..OVERTAKE_RANK_MAX */
    int64_t dims[OVERTAKE_RANK_MAX]; /* -1: any size */
    uint64_t reserved[2];
} overtake_spec;

typedef struct overtake_segment {
    const void *data; /* not promised to be aligned to the element */
    uint64_t size_bytes;
} overtake_segment;

/* An input: its segments in order are the tensor (whole rows of axis 0 each when there are
 * several). Most often there is one. */
typedef struct overtake_input {
    const char *name;
    int32_t dtype;
    int32_t rank;
    int64_t dims[OVERTAKE_RANK_MAX];
    int32_t memory_kind;
    int32_t device_id;
    uint32_t n_segments;
    uint32_t reserved32;
    const overtake_segment *segments;
    uint64_t reserved[2];
} overtake_input;

/* An output that is asked for. With `buffer` the plug-in writes there if it can and the result fits
 * in `capacity`; otherwise it answers with memory of its own. */
typedef struct overtake_output_request {
    const char *name;
    void *buffer; /* NULL: the runtime's memory; else aligned to 64 bytes */
    uint64_t capacity;
    int32_t memory_kind;
    int32_t device_id;
    uint64_t reserved[2];
} overtake_output_request;

/* An output of a response. `data` is the host's buffer or memory of the runtime. */
typedef struct overtake_output {
    const char *name;
    int32_t dtype;
    int32_t rank;
    int64_t dims[OVERTAKE_RANK_MAX];
    int32_t memory_kind;
    int32_t device_id;
    const void *data;
    uint64_t size_bytes;
    uint64_t reserved[2];
} overtake_output;

/* One caller's share of a batch: rows of axis 0. */
typedef struct overtake_part {
    uint64_t id; /* the host's; for logs */
    uint32_t first_row, n_rows;
    uint64_t reserved;
} overtake_part;

enum {
    OVERTAKE_RESPONSE_FINAL = 1, /* no more responses for this submission */
    OVERTAKE_RESPONSE_INLINE = 2 /* given from inside submit */
};

/* A response. The struct and what it points to are valid during the callback, except the data of
 * outputs in the runtime's memory: with `token` they stay valid until release(token). */
typedef struct overtake_response {
    size_t struct_size;
    uint64_t ticket; /* of the submission */
    int32_t status;  /* of the whole; other than OK: no outputs, and it is final */
    uint32_t flags;
    const char *message; /* why it failed, or NULL */
    uint32_t sequence;   /* 0, 1, ... within the submission */
    uint32_t n_outputs;  /* as many as were asked for, in that order */
    const overtake_output *outputs;
    /* NULL, or a code for each part of the submission: the rows of a failed part mean nothing. */
    const int32_t *part_status;
    void *token; /* NULL: nothing to release */
} overtake_response;

typedef void overtake_response_fn(void *user, const overtake_response *response);

/* A batch. It, all that it points to, the input data and the host's output buffers stay valid and
 * unchanged until the final response has been given (or submit has failed). */
typedef struct overtake_submission {
    size_t struct_size;
    uint64_t ticket; /* the host's; no two in flight on one instance are equal */
    uint32_t n_inputs, n_outputs;
    const overtake_input *inputs;           /* every input of the signature, once, in its order */
    const overtake_output_request *outputs; /* a subset of the signature's outputs */
    uint32_t n_parts;                       /* 0: the batch is one request */
    uint32_t reserved32;
    const overtake_part *parts;
    uint64_t deadline_ns; /* 0: none; after it the answer is OVERTAKE_TIMEOUT */
    overtake_response_fn *respond;
    void *user;
} overtake_submission;

/* What to load. */
typedef struct overtake_load {
    size_t struct_size;
    const char *format;       /* one of the plug-in's */
    const char *path;         /* file or folder, as the format wants it */
    const char *options_json; /* a JSON object; never NULL. Unknown keys are errors */
    uint32_t threads;    /* compute threads that a run may use, the calling one included; >= 1 */
    int32_t device_kind; /* OVERTAKE_MEM_HOST: the CPU */
    int32_t device_id;
    uint32_t quick; /* 1: as soon as it can answer, though slower than it could (since minor 1) */
} overtake_load;

/* What was loaded. Pointers live as long as the model. */
typedef struct overtake_model_info {
    size_t struct_size; /* set by the host: the size that it knows */
    uint32_t n_inputs, n_outputs;
    const overtake_spec *inputs;
    const overtake_spec *outputs;
    int32_t batch_axis;     /* suggested: the axis of size -1 that all share; -1: none. The manifest
                               decides, and golden rows confirm it */
    uint32_t max_in_flight; /* submissions an instance takes before the first one's end; >= 1 */
    uint64_t memory_bytes;  /* estimate: what the model holds */
    uint64_t instance_memory_bytes; /* estimate: what each instance adds */
    /* Since minor 1. 1: it was loaded quickly; loaded without `quick` it would run faster. */
    uint32_t quick, reserved32;
    /* Since minor 2. The signature's name and method, where models have several; NULL: they have
     * one. TensorFlow's: "serving_default", "tensorflow/serving/predict". */
    const char *signature, *method;
} overtake_model_info;

/* The runtime behind the plug-in. Static storage, or as long as the process. */
typedef struct overtake_runtime_info {
    size_t struct_size;
    const char *version; /* "1.32.0" */
    const char *library; /* the file; "" when the plug-in needs none */
} overtake_runtime_info;

/* The program that runs models of a plug-in that has none of its own code for it (see
 * overtake_plugin.worker). Filled in by the plug-in; paths are absolute. */
#define OVERTAKE_WORKER_READS 8
typedef struct overtake_worker {
    size_t struct_size;
    char program[4096];
    char read[OVERTAKE_WORKER_READS][4096]; /* what it reads beside the system's; "" ends them */
    const char *script; /* static: becomes the file /proc/self/fd/4, its one argument */
    uint64_t script_size;
} overtake_worker;

typedef struct overtake_model overtake_model;       /* the plug-in's own */
typedef struct overtake_instance overtake_instance; /* the plug-in's own */

/* The plug-in's table: const, with static storage. */
typedef struct overtake_plugin {
    size_t struct_size;
    uint32_t abi_major, abi_minor;
    const char *name;     /* [a-z0-9_]+, that of the file */
    const char *build_id; /* tells two builds apart; for people */
    uint64_t capabilities;
    const overtake_format *formats;
    uint32_t n_formats;
    uint32_t reserved32;

    /* Finds and loads the runtime if that hasn't happened. An error says what was looked for and
     * how to provide it. Any thread. */
    int32_t (*runtime_info)(overtake_runtime_info *info_out, overtake_error *err);

    /* Memory that model_load would take, without loading. May be NULL. Any thread. */
    int32_t (*model_estimate)(const overtake_load *load, uint64_t *bytes_out, overtake_error *err);
    /* May take long. A broken model is an error, never a crash. Any thread. */
    int32_t (*model_load)(const overtake_load *load, overtake_model **model_out,
                          overtake_error *err);
    /* After its last instance is gone. Gives the memory back. Any thread. */
    void (*model_unload)(overtake_model *model);
    /* Fills what fits in info_out->struct_size. Any thread. */
    int32_t (*model_info)(const overtake_model *model, overtake_model_info *info_out,
                          overtake_error *err);

    /* Any thread. */
    int32_t (*instance_create)(overtake_model *model, overtake_instance **instance_out,
                               overtake_error *err);
    /* Nothing is in flight and no token is held any more. Any thread. */
    void (*instance_destroy)(overtake_instance *instance);

    /* Starts a run. One thread at a time for each instance, not always the same. OVERTAKE_OK:
     * exactly one final response has been given or will be, from this call or from any thread of
     * the plug-in. Another code: no response is given. The callback may not call back into the
     * instance, except release. */
    int32_t (*submit)(overtake_instance *instance, const overtake_submission *submission,
                      overtake_error *err);
    /* Asks to end a run early; it is answered OVERTAKE_CANCELLED, or as usual when it was too late.
     * Unknown tickets are ignored. Any thread, while submit runs too. May be NULL. */
    void (*cancel)(overtake_instance *instance, uint64_t ticket);
    /* Gives the outputs of one response back. Any thread. NULL: no response has a token. */
    void (*release)(overtake_instance *instance, void *token);

    /* Since minor 2. The index-th other signature of a model that was loaded (0, 1, ...) as a model
     * of its own, which shares what that one holds and may outlive it. OVERTAKE_NOT_FOUND after the
     * last one; another error: this one can't be served, the next may. May be NULL. Any thread. */
    int32_t (*model_view)(overtake_model *model, uint32_t index, overtake_model **view_out,
                          overtake_error *err);

    /* Since minor 3. NULL, or: models of this plug-in never run in the host's process but in a
     * program that speaks the worker protocol (docs/isolation.md). Says which program runs this
     * model; model_load and the functions of instances are not called. Any thread. */
    int32_t (*worker)(const overtake_load *load, overtake_worker *worker_out, overtake_error *err);
} overtake_plugin;

/* The one exported symbol. `host` outlives the plug-in. NULL when abi_major is not one that the
 * plug-in speaks, or the host lacks what it needs. Called once, before anything else. */
typedef const overtake_plugin *overtake_plugin_get_fn(uint32_t abi_major,
                                                      const overtake_host *host);
OVERTAKE_EXPORT const overtake_plugin *overtake_plugin_get(uint32_t abi_major,
                                                           const overtake_host *host);

#ifdef __cplusplus
}
#endif

#endif
