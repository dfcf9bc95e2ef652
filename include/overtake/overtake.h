/* libovertake: what a training program may ask of Overtake from inside its own process.
 *
 * A program needs none of it: a directory with a model is enough for a run. With it, a program
 * hands over what only it knows: the rows it trained on, the answers its model must give, and what
 * its outputs mean.
 *
 * Threads: every function from any. No global state. No network, no database: the library reads and
 * writes the paths that it is given and nothing else.
 * Errors: a negative code (the negated canonical codes of gRPC), 0 is success; `message` (may be
 * NULL) gets what was wrong, with its value and the way out. Strings are UTF-8. */
#ifndef OVERTAKE_OVERTAKE_H
#define OVERTAKE_OVERTAKE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OVERTAKE_API __attribute__((visibility("default")))
#define OVERTAKE_API_VERSION 1

/* Rows of one tensor: contiguous, row-major, little-endian; dims[0] is the row. */
typedef struct overtake_array {
    const char *name;
    const char *datatype; /* of the Open Inference Protocol: "FP32", "INT64", "BOOL", ... */
    int32_t rank;         /* 1 to 8 */
    const int64_t *dims;
    const void *data;
    size_t size_bytes;
} overtake_array;

typedef struct overtake_bundle {
    size_t struct_size;     /* sizeof(overtake_bundle) */
    const char *model_path; /* the model in its framework's own format: a file or a directory */
    const char *format;     /* "onnx", "saved_model", ...; NULL: found by its content */

    /* Rows that the model was not trained on, and its answers to them. They give the signature
     * (names, types, shapes), the golden answers and the reference of the predictions. */
    const overtake_array *inputs, *outputs;
    size_t n_inputs, n_outputs;

    /* The rows it was trained on, with the names of `inputs`: the reference that live traffic is
     * compared with. 0: none is kept. */
    const overtake_array *trained_on;
    size_t n_trained_on;

    const char *prediction_output; /* the output that is the prediction; NULL: guessed or none */
    const char *prediction_kind; /* "scores", "label" or "value"; given together with the output */
    int64_t batch_max;           /* rows that may run together; 0: one at a time */
    int64_t golden_rows;         /* of the first rows; 0: 16 or as many as there are */
    double tolerance_abs, tolerance_rel; /* both 0: 1e-4 and 1e-3 */
} overtake_bundle;

#define OVERTAKE_DIGEST_TEXT 65

/* OVERTAKE_API_VERSION of the library. */
OVERTAKE_API int overtake_api_version(void);

/* Writes the bundle at `dir`, which must not exist; whole or not at all. `digest_out` gets its
 * name: 64 hexadecimal digits and NUL. */
OVERTAKE_API int overtake_bundle_save(const overtake_bundle *bundle, const char *dir,
                                      char digest_out[OVERTAKE_DIGEST_TEXT], char *message,
                                      size_t message_size);

/* Verifies the bundle at `dir`: files, sizes, digests, golden answers. */
OVERTAKE_API int overtake_bundle_verify(const char *dir, char digest_out[OVERTAKE_DIGEST_TEXT],
                                        char *message, size_t message_size);

#ifdef __cplusplus
}
#endif

#endif
