/* Compiled, never run: plugins/tensorflow/tf_api.h and TensorFlow's own headers together. The
 * compiler refuses it when one of our declarations differs from theirs
 * (tests/unit/runtime/tf_headers_test.c). */
#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

#ifndef TENSORFLOW_C_C_API_H_
#error "TensorFlow's include guard is called otherwise now; tf_api.h looks at it"
#endif
#include "../../../plugins/tensorflow/tf_api.h"

#define SAME_FUNCTION(result, name, args)                                                          \
    _Static_assert(_Generic(&TF_##name, result(*) args : 1, default : 0),                          \
                   "TF_" #name " is declared otherwise");
TF_FUNCTIONS(SAME_FUNCTION)

#define SAME_VALUE(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #ours " differs")
SAME_VALUE(TFT_FLOAT, TF_FLOAT);
SAME_VALUE(TFT_DOUBLE, TF_DOUBLE);
SAME_VALUE(TFT_INT32, TF_INT32);
SAME_VALUE(TFT_UINT8, TF_UINT8);
SAME_VALUE(TFT_INT16, TF_INT16);
SAME_VALUE(TFT_INT8, TF_INT8);
SAME_VALUE(TFT_STRING, TF_STRING);
SAME_VALUE(TFT_INT64, TF_INT64);
SAME_VALUE(TFT_BOOL, TF_BOOL);
SAME_VALUE(TFT_BFLOAT16, TF_BFLOAT16);
SAME_VALUE(TFT_UINT16, TF_UINT16);
SAME_VALUE(TFT_HALF, TF_HALF);
SAME_VALUE(TFT_UINT32, TF_UINT32);
SAME_VALUE(TFT_UINT64, TF_UINT64);
SAME_VALUE(0, TF_OK);
SAME_VALUE(3, TF_INVALID_ARGUMENT);
SAME_VALUE(16, TF_UNAUTHENTICATED);

/* What tf_api.h defines when TensorFlow's headers are absent. */
typedef struct our_output {
    TF_Operation *oper;
    int index;
} our_output;
typedef struct our_buffer {
    const void *data;
    size_t length;
    void (*data_deallocator)(void *data, size_t length);
} our_buffer;
_Static_assert(sizeof(our_output) == sizeof(TF_Output) &&
                   offsetof(our_output, index) == offsetof(TF_Output, index),
               "TF_Output differs");
_Static_assert(sizeof(our_buffer) == sizeof(TF_Buffer) &&
                   offsetof(our_buffer, length) == offsetof(TF_Buffer, length),
               "TF_Buffer differs");
_Static_assert(sizeof(TF_TString) == 24 && sizeof(TF_DataType) == 4 && sizeof(TF_Code) == 4,
               "sizes differ");
_Static_assert(_Generic((TF_DataType)0, unsigned : 1, default : 0), "TF_DataType isn't unsigned");
