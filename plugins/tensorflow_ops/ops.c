#include "ops.h"

#include <stdio.h>

static void start_shape(TF_ShapeInferenceContext *ctx, TF_Status *status)
{
    TF_ShapeHandle *scalar = TF_ShapeInferenceContextScalar(ctx);
    TF_ShapeInferenceContextSetOutput(ctx, 0, scalar, status);
    TF_DeleteShapeHandle(scalar);
}

/* Python knows which results have the shape of their input, and sets it. */
static void wait_shape(TF_ShapeInferenceContext *ctx, TF_Status *status)
{
    TF_ShapeInferenceContextSetUnknownShape(ctx, status);
}

static void define_start(TF_Status *status)
{
    TF_OpDefinitionBuilder *b = TF_NewOpDefinitionBuilder("OvertakeStart");
    TF_OpDefinitionBuilderAddAttr(b, "T: {bool, uint8, int8, uint16, int16, uint32, int32, uint64, "
                                     "int64, half, bfloat16, float, double}");
    TF_OpDefinitionBuilderAddAttr(b, "kind: int");
    TF_OpDefinitionBuilderAddAttr(b, "tensor_name: string = ''");
    TF_OpDefinitionBuilderAddAttr(b, "reduction: int = 0");
    TF_OpDefinitionBuilderAddAttr(b, "group: int = 0");
    TF_OpDefinitionBuilderAddAttr(b, "root: int = 0");
    TF_OpDefinitionBuilderAddAttr(b, "prescale: int = 0");
    TF_OpDefinitionBuilderAddAttr(b, "postscale: int = 0");
    TF_OpDefinitionBuilderAddInput(b, "tensor: T");
    TF_OpDefinitionBuilderAddInput(b, "splits: int64");
    TF_OpDefinitionBuilderAddOutput(b, "handle: int64");
    TF_OpDefinitionBuilderSetIsStateful(b, true);
    TF_OpDefinitionBuilderSetShapeInferenceFunction(b, start_shape);
    TF_RegisterOpDefinition(b, status);
}

static void define_wait(TF_Status *status)
{
    TF_OpDefinitionBuilder *b = TF_NewOpDefinitionBuilder("OvertakeWaitAll");
    TF_OpDefinitionBuilderAddAttr(b, "N: int >= 1");
    TF_OpDefinitionBuilderAddAttr(b, "S: int >= 0");
    TF_OpDefinitionBuilderAddAttr(b, "T: list(type) >= 1");
    TF_OpDefinitionBuilderAddInput(b, "handles: N * int64");
    TF_OpDefinitionBuilderAddOutput(b, "results: T");
    TF_OpDefinitionBuilderAddOutput(b, "splits: S * int64");
    TF_OpDefinitionBuilderSetIsStateful(b, true);
    TF_OpDefinitionBuilderSetShapeInferenceFunction(b, wait_shape);
    TF_RegisterOpDefinition(b, status);
}

static void define_where(TF_Status *status)
{
    TF_OpDefinitionBuilder *b = TF_NewOpDefinitionBuilder("OvertakeWhere");
    TF_OpDefinitionBuilderAddAttr(b, "group: int = 0");
    TF_OpDefinitionBuilderAddOutput(b, "place: int32");
    TF_OpDefinitionBuilderSetIsStateful(b, true);
    TF_OpDefinitionBuilderSetShapeInferenceFunction(b, wait_shape);
    TF_RegisterOpDefinition(b, status);
}

/* TensorFlow expects ops to be there when its dlopen() of a library has returned. What fails is
 * printed here and missed by overtake.tensorflow, which looks for them. */
__attribute__((constructor)) static void register_all(void)
{
    TF_Status *status = TF_NewStatus();
    define_start(status);
    if (TF_GetCode(status) == TF_OK)
        define_wait(status);
    if (TF_GetCode(status) == TF_OK)
        define_where(status);
    if (TF_GetCode(status) == TF_OK)
        TF_RegisterKernelBuilder(
            "OvertakeStart",
            TF_NewKernelBuilder("OvertakeStart", "CPU", start_create, start_compute, start_destroy),
            status);
    if (TF_GetCode(status) == TF_OK)
        TF_RegisterKernelBuilder(
            "OvertakeWaitAll",
            TF_NewKernelBuilder("OvertakeWaitAll", "CPU", NULL, wait_all_compute, NULL), status);
    if (TF_GetCode(status) == TF_OK)
        TF_RegisterKernelBuilder(
            "OvertakeWhere",
            TF_NewKernelBuilder("OvertakeWhere", "CPU", where_create, where_compute, where_destroy),
            status);
    if (TF_GetCode(status) != TF_OK)
        fprintf(stderr, "libovertake_tf: TensorFlow takes no ops: %s\n", TF_Message(status));
    TF_DeleteStatus(status);
}
