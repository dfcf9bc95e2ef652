/* The file of a recording: requests and their answers, each with when it came (docs/bench.md).
 *
 *     "OTREC001", then for each request:
 *     u32 magic "OTRQ", u32 request's JSON bytes, u32 request bytes, u32 answer's JSON bytes,
 *     u32 answer bytes, u64 nanoseconds since the recording began, request, answer
 *
 * little-endian; both are bodies of the Open Inference Protocol with binary tensors (oip.h), the
 * answer with model_name and model_version.
 * Pure. Threads: any. Errors: OT_INVALID names the byte. */
#ifndef OT_CODEC_RECORD_H
#define OT_CODEC_RECORD_H

#include "codec/oip.h"

#define OT_RECORD_FILE_MAGIC "OTREC001"
#define OT_RECORD_BODY_MAX (64u << 20) /* of a request; of an answer */

/* Appends a record. */
ot_rc ot_record_write(uint64_t at_ns, const ot_oip_request *request, const ot_oip_response *answer,
                      ot_str *out, ot_error *err) OT_CHECKED;

typedef struct ot_record {
    uint64_t at_ns;
    const char *request, *answer; /* views of the file */
    size_t request_head, request_len, answer_head, answer_len;
} ot_record;

/* The file is one; *at is set to its first record. */
ot_rc ot_record_begin(const char *file, size_t n, size_t *at, ot_error *err) OT_CHECKED;
/* The next record; *more_out is false at the end. A last record that was cut short (the recorder
 * was killed) ends the file. */
ot_rc ot_record_next(const char *file, size_t n, size_t *at, ot_record *out, bool *more_out,
                     ot_error *err) OT_CHECKED;

#endif
