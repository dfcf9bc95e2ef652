/* Broken copies of a model, loaded one after the other: each must give an error with a message, or
 * load; none may crash. One thread. */
#ifndef OT_TESTS_CONFORMANCE_BROKEN_H
#define OT_TESTS_CONFORMANCE_BROKEN_H

#include "runtime/runtime.h"

/* `as_it_must`: truncated models failed with a message, damaged ones at least didn't crash. */
typedef void broken_fn(void *arg, const char *what, bool as_it_must, const char *message);

/* `file_in_model`: the file to damage when the model is a folder; "" when it is a file. */
void broken_models(ot_runtime *rt, const char *format, const char *model,
                   const ot_model_options *opts, const char *file_in_model, broken_fn *fn,
                   void *arg);

#endif
