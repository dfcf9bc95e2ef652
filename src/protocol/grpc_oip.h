/* The methods of inference.GRPCInferenceService that are in files of their own. The worker's
 * thread. */
#ifndef OT_PROTOCOL_GRPC_OIP_H
#define OT_PROTOCOL_GRPC_OIP_H

#include "protocol/grpc.h"

void ot_grpc_model_infer(ot_worker *w, ot_http_req *req, ot_slice message);
void ot_grpc_model_stream_infer(ot_worker *w, ot_grpc_item *item);

#endif
