/* Which format a model on disk has, found by its content and not by its name alone.
 *
 *   bundle       a directory with manifest.json
 *   saved_model  a directory with saved_model.pb that is a TensorFlow SavedModel
 *   onnx         a file that is an ONNX ModelProto, or a directory with exactly one such .onnx file
 *                (external data may lie beside it)
 *   python       a directory with model.py
 *   chain        a directory with chain.json, a JSON object, and its steps' models below
 *   null         a file null.json with a JSON object, or a directory with it (the tutorial plug-in)
 * Threads: any. */
#ifndef OT_MODEL_DETECT_H
#define OT_MODEL_DETECT_H

#include "base/disk.h"
#include "base/error.h"

#define OT_FORMAT_BUNDLE "bundle"

typedef struct ot_detected {
    const char *format;     /* static storage */
    char path[OT_PATH_MAX]; /* what the runtime opens: the file (onnx, null) or the directory */
} ot_detected;

/* OT_NOT_FOUND when nothing is at `path`; OT_INVALID says what was found instead of a model. */
ot_rc ot_model_detect(ot_disk *disk, const char *path, ot_detected *out, ot_error *err) OT_CHECKED;

#endif
