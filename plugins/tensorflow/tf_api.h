/* TensorFlow's C API as far as it is used, declared by us so that the product compiles without
 * TensorFlow; looked up by name at run time.
 *
 * Types have TensorFlow's own names, so that tests/conformance/tf_declarations.c can include this
 * file and TensorFlow's headers together and let the compiler compare every declaration.
 * Source: tensorflow/c/c_api.h, tf_tensor.h, tf_status.h, tf_buffer.h, tf_tstring.h; the same in
 * 2.16 and 2.21. Threads: what TensorFlow says of each function. */
#ifndef OT_PLUGINS_TENSORFLOW_TF_API_H
#define OT_PLUGINS_TENSORFLOW_TF_API_H

#include <stddef.h>
#include <stdint.h>

#ifndef TENSORFLOW_C_C_API_H_ /* what TensorFlow's headers define where they are included */
typedef struct TF_Status TF_Status;
typedef struct TF_Session TF_Session;
typedef struct TF_SessionOptions TF_SessionOptions;
typedef struct TF_Graph TF_Graph;
typedef struct TF_Operation TF_Operation;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_Output {
    TF_Operation *oper;
    int index;
} TF_Output;
typedef struct TF_Buffer {
    const void *data;
    size_t length;
    void (*data_deallocator)(void *data, size_t length);
} TF_Buffer;
typedef struct TF_TString { /* 24 bytes, opaque to us */
    uint64_t opaque[3];
} TF_TString;
typedef unsigned TF_DataType;
typedef unsigned TF_Code;
#endif

/* TF_DataType */
enum {
    TFT_FLOAT = 1,
    TFT_DOUBLE = 2,
    TFT_INT32 = 3,
    TFT_UINT8 = 4,
    TFT_INT16 = 5,
    TFT_INT8 = 6,
    TFT_STRING = 7,
    TFT_INT64 = 9,
    TFT_BOOL = 10,
    TFT_BFLOAT16 = 14,
    TFT_UINT16 = 17,
    TFT_HALF = 19,
    TFT_UINT32 = 22,
    TFT_UINT64 = 23
};

/* X(result, name after TF_, (arguments)) */
#define TF_FUNCTIONS(X)                                                                            \
    X(const char *, Version, (void))                                                               \
    X(TF_Status *, NewStatus, (void))                                                              \
    X(void, DeleteStatus, (TF_Status *))                                                           \
    X(TF_Code, GetCode, (const TF_Status *))                                                       \
    X(const char *, Message, (const TF_Status *))                                                  \
    X(TF_Graph *, NewGraph, (void))                                                                \
    X(void, DeleteGraph, (TF_Graph *))                                                             \
    X(TF_SessionOptions *, NewSessionOptions, (void))                                              \
    X(void, DeleteSessionOptions, (TF_SessionOptions *))                                           \
    X(void, SetConfig, (TF_SessionOptions *, const void *proto, size_t n, TF_Status *))            \
    X(TF_Buffer *, NewBuffer, (void))                                                              \
    X(void, DeleteBuffer, (TF_Buffer *))                                                           \
    X(TF_Session *, LoadSessionFromSavedModel,                                                     \
      (const TF_SessionOptions *, const TF_Buffer *run_options, const char *dir,                   \
       const char *const *tags, int n_tags, TF_Graph *, TF_Buffer *meta_graph, TF_Status *))       \
    X(void, CloseSession, (TF_Session *, TF_Status *))                                             \
    X(void, DeleteSession, (TF_Session *, TF_Status *))                                            \
    X(TF_Operation *, GraphOperationByName, (TF_Graph *, const char *))                            \
    X(int, OperationNumOutputs, (TF_Operation *))                                                  \
    X(TF_Tensor *, NewTensor,                                                                      \
      (TF_DataType, const int64_t *dims, int rank, void *data, size_t n,                           \
       void (*free_data)(void *data, size_t n, void *arg), void *arg))                             \
    X(TF_Tensor *, AllocateTensor, (TF_DataType, const int64_t *dims, int rank, size_t n))         \
    X(void, DeleteTensor, (TF_Tensor *))                                                           \
    X(TF_DataType, TensorType, (const TF_Tensor *))                                                \
    X(int, NumDims, (const TF_Tensor *))                                                           \
    X(int64_t, Dim, (const TF_Tensor *, int))                                                      \
    X(size_t, TensorByteSize, (const TF_Tensor *))                                                 \
    X(void *, TensorData, (const TF_Tensor *))                                                     \
    X(void, StringInit, (TF_TString *))                                                            \
    X(void, StringAssignView, (TF_TString *, const char *, size_t))                                \
    X(const char *, StringGetDataPointer, (const TF_TString *))                                    \
    X(size_t, StringGetSize, (const TF_TString *))                                                 \
    X(void, SessionRun,                                                                            \
      (TF_Session *, const TF_Buffer *run_options, const TF_Output *inputs,                        \
       TF_Tensor *const *input_values, int n_inputs, const TF_Output *outputs,                     \
       TF_Tensor **output_values, int n_outputs, const TF_Operation *const *targets,               \
       int n_targets, TF_Buffer *run_metadata, TF_Status *))

typedef struct tf_api {
#define TF_FIELD(result, name, args) result(*name) args;
    TF_FUNCTIONS(TF_FIELD)
#undef TF_FIELD
} tf_api;

#endif
