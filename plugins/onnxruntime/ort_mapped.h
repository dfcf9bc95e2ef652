/* A model without its weights: large ones stay in the model's file, where the runtime maps them, so
 * that a model is loaded without reading them.
 *
 * ONNX lets a tensor's data lie in another file ("external data": file, offset, length). Here that
 * file is the model itself. https://onnx.ai/onnx/repo-docs/ExternalData.html
 * Threads: any. */
#ifndef OT_PLUGINS_ONNXRUNTIME_ORT_MAPPED_H
#define OT_PLUGINS_ONNXRUNTIME_ORT_MAPPED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORT_MAPPED_LEAST 4096            /* bytes of a tensor that stays in the file */
#define ORT_MAPPED_BYTES_MAX (64u << 20) /* of a model without its weights */

/* `data` is the model (ModelProto), which lies in the file `name` of its folder. True: *out_out, to
 * be freed with free(), is that model with its large weights referred to. False: the bytes are
 * broken, no weight is large, or there is no memory; load it as it is. */
bool ort_mapped_model(const uint8_t *data, size_t n, const char *name, uint8_t **out_out,
                      size_t *n_out);

#endif
