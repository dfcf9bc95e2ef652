/* What the methods of PredictionService share. Threads: the worker's. */
#ifndef OT_PROTOCOL_TFS_GRPC_H
#define OT_PROTOCOL_TFS_GRPC_H

#include "protocol/grpc.h"
#include "protocol/tfs.h"

/* Appends the call's ClassificationResult or RegressionResult as field `number`. */
ot_rc ot_tfs_result_put(const ot_call *call, ot_tfs_method method, uint32_t number, ot_str *out,
                        ot_error *err) OT_CHECKED;

/* The method MultiInference. */
void ot_tfs_multi_inference(ot_worker *w, ot_http_req *req, ot_slice message);

#endif
