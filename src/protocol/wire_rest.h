/* What protocols over plain HTTP share: the headers of an answer, and how a call is refused.
 *
 * Threads: the worker's. */
#ifndef OT_PROTOCOL_WIRE_REST_H
#define OT_PROTOCOL_WIRE_REST_H

#include "serve/worker.h"

#define OT_WIRE_REST_FIELDS 3

typedef struct ot_wire_rest_text {
    char id[OT_PREDICTION_ID_MAX], rows[24];
} ot_wire_rest_text;

/* The headers of an answered call; `text` holds their values. Returns how many. */
size_t ot_wire_rest_fields(const ot_worker *w, const ot_call *call, ot_wire_rest_text *text,
                           ot_http_field fields[OT_WIRE_REST_FIELDS]);
/* POST .../infer of the Open Inference Protocol; `version` 0: by share. */
void ot_wire_rest_infer(ot_worker *w, ot_http_req *req, const char *name, size_t n,
                        uint64_t version);
/* {"error": "..."}: the `fail` of such a protocol's wire. */
void ot_wire_rest_fail(ot_worker *w, ot_call *call, const ot_refusal *why);

#endif
