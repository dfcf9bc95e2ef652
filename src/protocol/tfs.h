/* TensorFlow Serving's API: what REST and gRPC share. See docs/tensorflow-serving.md.
 *
 * Threads: the worker's (the route must stay for the call). */
#ifndef OT_PROTOCOL_TFS_H
#define OT_PROTOCOL_TFS_H

#include "codec/tfs_example.h"
#include "serve/worker.h"

#define OT_TFS_DEFAULT_SIGNATURE "serving_default"

/* Which of a deployment's versions is meant: a number, a label, or none of both. */
typedef struct ot_tfs_target {
    ot_slice model;
    uint64_t version; /* 0: not said */
    ot_slice label;   /* p NULL: not said */
} ot_tfs_target;

/* The deployment, and the arm that was asked for (NULL: none was named). OT_NOT_FOUND. */
ot_rc ot_tfs_find(const ot_worker *w, const ot_tfs_target *t, const ot_dep **d_out,
                  const ot_arm **arm_out, ot_error *err) OT_CHECKED;

/* The same, and the variant that speaks for it: the one that was asked for, else the champion.
 * OT_UNAVAILABLE when none is loaded. */
ot_rc ot_tfs_find_variant(const ot_worker *w, const ot_tfs_target *t, const ot_dep **d_out,
                          const ot_variant **v_out, ot_error *err) OT_CHECKED;
/* A ModelSpec as a target. Refused: a version and a label. */
ot_rc ot_tfs_target_of(const ot_tfs_spec *spec, ot_tfs_target *out, ot_error *err) OT_CHECKED;

/* The variant of a signature by its name (NULL or "": the default). OT_INVALID names those that
 * there are. */
ot_rc ot_tfs_signature(ot_variant *v, const char *name, ot_variant **v_out,
                       ot_error *err) OT_CHECKED;
const char *ot_tfs_signature_name(const ot_variant *v);
const char *ot_tfs_method_name(const ot_variant *v); /* "tensorflow/serving/predict" */

typedef enum ot_tfs_method {
    OT_TFS_PREDICT,
    OT_TFS_CLASSIFY,
    OT_TFS_REGRESS,
} ot_tfs_method;

/* Examples as the call's inputs: as they are for a model whose only input takes serialised ones
 * (strings, and no feature has that input's name), else by the features' names. */
ot_rc ot_tfs_take_examples(ot_call *call, const ot_tfs_examples *e, ot_error *err) OT_CHECKED;
/* The output that the manifest calls the prediction; -1: none. */
int ot_tfs_prediction(const ot_call *call);

/* ModelVersionStatus; source: tensorflow_serving/apis/get_model_status.proto. */
typedef enum ot_tfs_state {
    OT_TFS_LOADING = 20,
    OT_TFS_AVAILABLE = 30,
    OT_TFS_END = 50,
} ot_tfs_state;
const char *ot_tfs_state_name(ot_tfs_state s);

typedef struct ot_tfs_status {
    uint64_t version; /* 0: none of the deployment's versions serves */
    ot_tfs_state state;
    const char *message; /* why it does not serve; "" when it does */
} ot_tfs_status;
/* Of the arm, or with NULL of all, at most OT_TARGET_VARIANTS_MAX; returns how many. */
size_t ot_tfs_statuses(const ot_dep *d, const ot_arm *only, ot_tfs_status *out);

/* tfs_rest.c: a request for /v1/models/..., its segments behind that. */
void ot_tfs_rest(ot_worker *w, ot_http_req *req, const ot_slice *seg, size_t n);
/* The path that nearly all requests have, "/v1/models/NAME:predict"; false: another. */
bool ot_tfs_rest_fast(ot_worker *w, ot_http_req *req);

#endif
