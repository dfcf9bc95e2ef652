/* The protocols that a replica speaks (dispatch.c tells them apart): the Open Inference Protocol,
 * gRPC, TensorFlow Serving's API.
 *
 * Threads: the workers' (serve/worker.h). */
#ifndef OT_PROTOCOL_PROTOCOL_H
#define OT_PROTOCOL_PROTOCOL_H

#include "serve/serve.h"

extern const ot_serve_protocols ot_protocols;

#endif
