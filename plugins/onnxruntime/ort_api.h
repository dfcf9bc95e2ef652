/* ONNX Runtime's C API, declared by us.
 *
 * Neither its Python wheel nor Debian 12 carries its header, but the API is made to be used without
 * one: OrtGetApiBase()->GetApi(version) gives a table of function pointers whose order never
 * changes once a version is released. This file names the slots in use, with their types; a table
 * of them is filled from the runtime's by index (ort_api_bind). tests/unit/runtime/ort_slots_test.c
 * calls every one of them and checks what it did, so a wrong index fails there and not in
 * production. Source: the order of struct OrtApi in onnxruntime_c_api.h, API version 1 to 5 (slots
 * 0..149). Threads: what the runtime says of each function. */
#ifndef OT_PLUGINS_ONNXRUNTIME_ORT_API_H
#define OT_PLUGINS_ONNXRUNTIME_ORT_API_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* All slots below exist since API version 5 (release 1.6); 16 is asked for because the behaviour of
 * sessions before release 1.16 was not tested. */
#define ORT_API_ASKED 16

typedef struct ort_status ort_status;
typedef struct ort_env ort_env;
typedef struct ort_session ort_session;
typedef struct ort_session_options ort_session_options;
typedef struct ort_run_options ort_run_options;
typedef struct ort_value ort_value;
typedef struct ort_memory_info ort_memory_info;
typedef struct ort_type_info ort_type_info;
typedef struct ort_tensor_info ort_tensor_info;
typedef struct ort_allocator ort_allocator;

typedef void ort_log_fn(void *param, int severity, const char *category, const char *id,
                        const char *where, const char *message);

typedef struct ort_api_base {
    const void *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} ort_api_base;
typedef const ort_api_base *ort_get_api_base_fn(void);

enum { ORT_LOG_WARNING = 2, ORT_LOG_ERROR = 3, ORT_LOG_FATAL = 4 };
enum { ORT_SEQUENTIAL = 0 };
enum { ORT_OPTIMIZE_NONE = 0, ORT_OPTIMIZE_ALL = 99 };
enum { ORT_DEVICE_ALLOCATOR = 0, ORT_ARENA_ALLOCATOR = 1 };
enum { ORT_MEM_DEFAULT = 0 };
enum { ORT_TYPE_TENSOR = 1, ORT_TYPE_SEQUENCE = 2, ORT_TYPE_MAP = 3 }; /* ONNXType */
enum {                                                                 /* OrtErrorCode */
       ORT_FAIL = 1,
       ORT_INVALID_ARGUMENT = 2,
       ORT_NO_SUCHFILE = 3,
       ORT_NO_MODEL = 4,
       ORT_INVALID_PROTOBUF = 7,
       ORT_NOT_IMPLEMENTED = 9,
       ORT_INVALID_GRAPH = 10
};

/* X(slot, result, name, (arguments)); every ort_status* is NULL for success and ours to release. */
#define ORT_SLOTS(X)                                                                               \
    X(1, int, GetErrorCode, (const ort_status *))                                                  \
    X(2, const char *, GetErrorMessage, (const ort_status *))                                      \
    X(4, ort_status *, CreateEnvWithCustomLogger,                                                  \
      (ort_log_fn *, void *param, int severity, const char *id, ort_env **))                       \
    X(6, ort_status *, DisableTelemetryEvents, (const ort_env *))                                  \
    X(7, ort_status *, CreateSession,                                                              \
      (const ort_env *, const char *path, const ort_session_options *, ort_session **))            \
    X(8, ort_status *, CreateSessionFromArray,                                                     \
      (const ort_env *, const void *data, size_t n, const ort_session_options *, ort_session **))  \
    X(9, ort_status *, Run,                                                                        \
      (ort_session *, const ort_run_options *, const char *const *in_names,                        \
       const ort_value *const *in, size_t n_in, const char *const *out_names, size_t n_out,        \
       ort_value **out))                                                                           \
    X(10, ort_status *, CreateSessionOptions, (ort_session_options **))                            \
    X(13, ort_status *, SetSessionExecutionMode, (ort_session_options *, int mode))                \
    X(17, ort_status *, DisableMemPattern, (ort_session_options *))                                \
    X(19, ort_status *, DisableCpuMemArena, (ort_session_options *))                               \
    X(23, ort_status *, SetSessionGraphOptimizationLevel, (ort_session_options *, int level))      \
    X(24, ort_status *, SetIntraOpNumThreads, (ort_session_options *, int n))                      \
    X(25, ort_status *, SetInterOpNumThreads, (ort_session_options *, int n))                      \
    X(30, ort_status *, SessionGetInputCount, (const ort_session *, size_t *))                     \
    X(31, ort_status *, SessionGetOutputCount, (const ort_session *, size_t *))                    \
    X(33, ort_status *, SessionGetInputTypeInfo,                                                   \
      (const ort_session *, size_t index, ort_type_info **))                                       \
    X(34, ort_status *, SessionGetOutputTypeInfo,                                                  \
      (const ort_session *, size_t index, ort_type_info **))                                       \
    X(36, ort_status *, SessionGetInputName,                                                       \
      (const ort_session *, size_t index, ort_allocator *, char **))                               \
    X(37, ort_status *, SessionGetOutputName,                                                      \
      (const ort_session *, size_t index, ort_allocator *, char **))                               \
    X(39, ort_status *, CreateRunOptions, (ort_run_options **))                                    \
    X(46, ort_status *, RunOptionsSetTerminate, (ort_run_options *))                               \
    X(47, ort_status *, RunOptionsUnsetTerminate, (ort_run_options *))                             \
    X(48, ort_status *, CreateTensorAsOrtValue,                                                    \
      (ort_allocator *, const int64_t *dims, size_t rank, int type, ort_value **))                 \
    X(49, ort_status *, CreateTensorWithDataAsOrtValue,                                            \
      (const ort_memory_info *, void *data, size_t size, const int64_t *dims, size_t rank,         \
       int type, ort_value **))                                                                    \
    X(50, ort_status *, IsTensor, (const ort_value *, int *))                                      \
    X(51, ort_status *, GetTensorMutableData, (ort_value *, void **))                              \
    X(52, ort_status *, FillStringTensor, (ort_value *, const char *const *s, size_t n))           \
    X(53, ort_status *, GetStringTensorDataLength, (const ort_value *, size_t *))                  \
    X(54, ort_status *, GetStringTensorContent,                                                    \
      (const ort_value *, void *bytes, size_t n_bytes, size_t *offsets, size_t n))                 \
    X(55, ort_status *, CastTypeInfoToTensorInfo,                                                  \
      (const ort_type_info *, const ort_tensor_info **))                                           \
    X(56, ort_status *, GetOnnxTypeFromTypeInfo, (const ort_type_info *, int *))                   \
    X(60, ort_status *, GetTensorElementType, (const ort_tensor_info *, int *))                    \
    X(61, ort_status *, GetDimensionsCount, (const ort_tensor_info *, size_t *))                   \
    X(62, ort_status *, GetDimensions, (const ort_tensor_info *, int64_t *, size_t n))             \
    X(63, ort_status *, GetSymbolicDimensions, (const ort_tensor_info *, const char **, size_t n)) \
    X(65, ort_status *, GetTensorTypeAndShape, (const ort_value *, ort_tensor_info **))            \
    X(69, ort_status *, CreateCpuMemoryInfo, (int allocator, int mem_type, ort_memory_info **))    \
    X(76, ort_status *, AllocatorFree, (ort_allocator *, void *))                                  \
    X(78, ort_status *, GetAllocatorWithDefaultOptions, (ort_allocator **))                        \
    X(92, void, ReleaseEnv, (ort_env *))                                                           \
    X(93, void, ReleaseStatus, (ort_status *))                                                     \
    X(94, void, ReleaseMemoryInfo, (ort_memory_info *))                                            \
    X(95, void, ReleaseSession, (ort_session *))                                                   \
    X(96, void, ReleaseValue, (ort_value *))                                                       \
    X(97, void, ReleaseRunOptions, (ort_run_options *))                                            \
    X(98, void, ReleaseTypeInfo, (ort_type_info *))                                                \
    X(99, void, ReleaseTensorTypeAndShapeInfo, (ort_tensor_info *))                                \
    X(100, void, ReleaseSessionOptions, (ort_session_options *))                                   \
    X(130, ort_status *, AddSessionConfigEntry,                                                    \
      (ort_session_options *, const char *key, const char *value))

typedef struct ort_api {
#define ORT_FIELD(slot, result, name, args) result(*name) args;
    ORT_SLOTS(ORT_FIELD)
#undef ORT_FIELD
} ort_api;

/* Fills `out` from the runtime's table (what GetApi gave). */
static inline void ort_api_bind(const void *table, ort_api *out)
{
    const unsigned char *slots = (const unsigned char *)table;
#define ORT_BIND(slot, result, name, args)                                                         \
    memcpy(&out->name, slots + (slot) * sizeof(void (*)(void)), sizeof out->name);
    ORT_SLOTS(ORT_BIND)
#undef ORT_BIND
}

#endif
