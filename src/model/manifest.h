/* The manifest of a bundle: its format, signature, batching, prediction and files.
 *
 * A manifest is read from `manifest.json` (docs/architecture.md, "Bundle") or filled in by hand and
 * written. Unknown keys are refused: the schema's version says which keys there are.
 * Threads: any; one ot_manifest belongs to one thread while it changes, to all once it is read.
 * Lifetime: init/done. All pointers inside lie in the manifest's arena and go with it.
 * Errors: OT_INVALID names the field, the value and what is accepted; OT_EXHAUSTED a limit. */
#ifndef OT_MODEL_MANIFEST_H
#define OT_MODEL_MANIFEST_H

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "codec/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_MANIFEST_SCHEMA "overtake.bundle/1"
#define OT_MANIFEST_SCHEMA_SERVE "overtake.bundle/2" /* has `serve`; nothing else differs */
#define OT_MANIFEST_FILE "manifest.json"
#define OT_MANIFEST_BYTES_MAX (4u << 20)
#define OT_MANIFEST_TENSORS_MAX 256 /* inputs; outputs */
#define OT_MANIFEST_FILES_MAX 4096
#define OT_MANIFEST_TENSOR_NAME_MAX 255 /* bytes */
#define OT_MANIFEST_PATH_MAX 512        /* bytes of a file's relative path */
#define OT_MANIFEST_BATCH_MAX 65536

typedef enum ot_prediction_kind {
    OT_PREDICTION_NONE = 0, /* the manifest names no prediction: answers are not judged */
    OT_PREDICTION_SCORES,   /* class = argmax of the last axis, confidence = its maximum */
    OT_PREDICTION_LABEL,    /* an integer tensor is the class */
    OT_PREDICTION_VALUE,    /* regression */
} ot_prediction_kind;

typedef struct ot_manifest_file {
    const char *path; /* relative, clean (ot_path_is_clean), '/' between segments */
    uint64_t size;
    ot_digest sha256;
} ot_manifest_file;

/* How the version wants to be served where nobody says otherwise (docs/scheduling.md); 0: not said.
 */
typedef struct ot_manifest_serve {
    int64_t instances; /* runs at a time */
    int64_t queue;     /* requests that may wait */
    int64_t deadline_us;
    int64_t process_memory_bytes;
} ot_manifest_serve;
#define OT_MANIFEST_INSTANCES_MAX 64
#define OT_MANIFEST_QUEUE_MAX 1000000
#define OT_MANIFEST_DEADLINE_US_MAX INT64_C(3600000000)

typedef struct ot_manifest {
    const char *format; /* the runtime plug-in that loads it: "onnx", "saved_model", "null" */
    ot_tensor_spec *inputs, *outputs;
    size_t n_inputs, n_outputs;
    int64_t batch_max; /* rows a run may take together; 0: batching is not allowed */
    ot_prediction_kind prediction_kind;
    size_t prediction_output; /* index into outputs; meaningless with OT_PREDICTION_NONE */
    ot_manifest_serve serve;
    ot_manifest_file *files; /* sorted by path (strcmp), without manifest.json itself */
    size_t n_files;
    ot_arena arena;
} ot_manifest;

void ot_manifest_init(ot_manifest *m);
void ot_manifest_done(ot_manifest *m); /* also of a zeroed one; also for OT_AUTO */

/* Reads n bytes of JSON into an initialised or zeroed manifest; on failure `m` stays as it was. */
ot_rc ot_manifest_parse(const char *json, size_t n, ot_manifest *m_out, ot_error *err) OT_CHECKED;

/* Appends the JSON after checking it; equal manifests give equal bytes. */
ot_rc ot_manifest_write(const ot_manifest *m, ot_str *out, ot_error *err) OT_CHECKED;

/* What parse and write check: names, types, ranks, batch axis, prediction, files. */
ot_rc ot_manifest_check(const ot_manifest *m, ot_error *err) OT_CHECKED;

bool ot_manifest_serves(const ot_manifest *m); /* it has something of `serve` */

/* Copies format, inputs, outputs, batch, prediction and serve (not the files) into m_out, which is
 * initialised or zeroed. */
ot_rc ot_manifest_copy_signature(const ot_manifest *m, ot_manifest *m_out,
                                 ot_error *err) OT_CHECKED;

/* "signature" alone, as people and bindings hand it over: the same JSON without `schema` and
 * `files`; `format` is optional there. */
ot_rc ot_manifest_parse_signature(const char *json, size_t n, ot_manifest *m_out,
                                  ot_error *err) OT_CHECKED;

/* The index of the input or output of that name; -1 when there is none. */
int ot_manifest_input(const ot_manifest *m, const char *name);
int ot_manifest_output(const ot_manifest *m, const char *name);

/* The file's entry, or NULL. */
const ot_manifest_file *ot_manifest_file_find(const ot_manifest *m, const char *path);

const char *ot_prediction_kind_name(ot_prediction_kind kind); /* "scores"; "none" for NONE */
bool ot_prediction_kind_parse(const char *s, ot_prediction_kind *kind_out); /* not "none" */

#endif
