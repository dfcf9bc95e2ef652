/* TensorFlow's C API for ops and kernels as far as it is used, declared by us: the library builds
 * without TensorFlow, and its names are found in libtensorflow_framework.so.2 when it is loaded.
 *
 * Source: tensorflow/c/ops.h, kernels.h, tf_tensor.h, tf_status.h; the same in 2.16 and 2.21.
 * Threads: kernels run on any of TensorFlow's. */
#ifndef OT_PLUGINS_TENSORFLOW_OPS_TF_OPS_API_H
#define OT_PLUGINS_TENSORFLOW_OPS_TF_OPS_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TF_Status TF_Status;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_OpDefinitionBuilder TF_OpDefinitionBuilder;
typedef struct TF_ShapeInferenceContext TF_ShapeInferenceContext;
typedef struct TF_ShapeHandle TF_ShapeHandle;
typedef struct TF_KernelBuilder TF_KernelBuilder;
typedef struct TF_OpKernelConstruction TF_OpKernelConstruction;
typedef struct TF_OpKernelContext TF_OpKernelContext;
typedef unsigned TF_DataType;
typedef unsigned TF_Code; /* gRPC's canonical codes */

enum { TF_OK = 0, TF_INVALID_ARGUMENT = 3, TF_RESOURCE_EXHAUSTED = 8 };

enum { /* TF_DataType */
       TF_FLOAT = 1,
       TF_DOUBLE = 2,
       TF_INT32 = 3,
       TF_UINT8 = 4,
       TF_INT16 = 5,
       TF_INT8 = 6,
       TF_INT64 = 9,
       TF_BOOL = 10,
       TF_BFLOAT16 = 14,
       TF_UINT16 = 17,
       TF_HALF = 19,
       TF_UINT32 = 22,
       TF_UINT64 = 23,
       TF_TYPES
};

typedef struct TF_AllocatorAttributes {
    size_t struct_size; /* up to the end of on_host */
    unsigned char on_host;
} TF_AllocatorAttributes;

TF_Status *TF_NewStatus(void);
void TF_DeleteStatus(TF_Status *);
void TF_SetStatus(TF_Status *, TF_Code, const char *message);
TF_Code TF_GetCode(const TF_Status *);
const char *TF_Message(const TF_Status *);

TF_Tensor *TF_NewTensor(TF_DataType, const int64_t *dims, int ndim, void *data, size_t bytes,
                        void (*free_data)(void *data, size_t bytes, void *arg), void *arg);
void TF_DeleteTensor(TF_Tensor *);
TF_DataType TF_TensorType(const TF_Tensor *);
int TF_NumDims(const TF_Tensor *);
int64_t TF_Dim(const TF_Tensor *, int);
size_t TF_TensorByteSize(const TF_Tensor *);
void *TF_TensorData(const TF_Tensor *);
int64_t TF_TensorElementCount(const TF_Tensor *);
size_t TF_DataTypeSize(TF_DataType);

TF_OpDefinitionBuilder *TF_NewOpDefinitionBuilder(const char *op);
void TF_OpDefinitionBuilderAddAttr(TF_OpDefinitionBuilder *, const char *);
void TF_OpDefinitionBuilderAddInput(TF_OpDefinitionBuilder *, const char *);
void TF_OpDefinitionBuilderAddOutput(TF_OpDefinitionBuilder *, const char *);
void TF_OpDefinitionBuilderSetIsStateful(TF_OpDefinitionBuilder *, bool);
void TF_OpDefinitionBuilderSetShapeInferenceFunction(TF_OpDefinitionBuilder *,
                                                     void (*)(TF_ShapeInferenceContext *,
                                                              TF_Status *));
void TF_RegisterOpDefinition(TF_OpDefinitionBuilder *, TF_Status *); /* takes the builder */
TF_ShapeHandle *TF_ShapeInferenceContextScalar(TF_ShapeInferenceContext *);
void TF_ShapeInferenceContextSetOutput(TF_ShapeInferenceContext *, int, TF_ShapeHandle *,
                                       TF_Status *);
void TF_ShapeInferenceContextSetUnknownShape(TF_ShapeInferenceContext *, TF_Status *);
void TF_DeleteShapeHandle(TF_ShapeHandle *);

TF_KernelBuilder *TF_NewKernelBuilder(const char *op, const char *device,
                                      void *(*create)(TF_OpKernelConstruction *),
                                      void (*compute)(void *, TF_OpKernelContext *),
                                      void (*destroy)(void *));
void TF_RegisterKernelBuilder(const char *name, TF_KernelBuilder *, TF_Status *); /* takes it */
void TF_OpKernelConstruction_GetAttrInt32(TF_OpKernelConstruction *, const char *, int32_t *,
                                          TF_Status *);
void TF_OpKernelConstruction_GetAttrInt64(TF_OpKernelConstruction *, const char *, int64_t *,
                                          TF_Status *);
/* Copies at most `room` bytes and no terminator. */
void TF_OpKernelConstruction_GetAttrString(TF_OpKernelConstruction *, const char *, char *,
                                           size_t room, TF_Status *);
void TF_OpKernelConstruction_Failure(TF_OpKernelConstruction *, TF_Status *);

int TF_NumInputs(TF_OpKernelContext *);
int TF_NumOutputs(TF_OpKernelContext *);
void TF_GetInput(TF_OpKernelContext *, int, TF_Tensor **, TF_Status *); /* a reference */
void TF_SetOutput(TF_OpKernelContext *, int, const TF_Tensor *, TF_Status *);
TF_DataType TF_ExpectedOutputDataType(TF_OpKernelContext *, int);
TF_Tensor *TF_AllocateOutput(TF_OpKernelContext *, int, TF_DataType, const int64_t *dims, int ndim,
                             size_t bytes, TF_Status *);
TF_Tensor *TF_AllocateTemp(TF_OpKernelContext *, TF_DataType, const int64_t *dims, int ndim,
                           TF_AllocatorAttributes *, TF_Status *);
void TF_OpKernelContext_Failure(TF_OpKernelContext *, TF_Status *);

#endif
