/* What gRPC puts around protobuf messages: frames, timeouts, status texts and details. Pure.
 *
 * A frame: u8 compressed (0 or 1), u32 big-endian length, then the message.
 * Threads: any. Source: gRPC over HTTP2 (grpc/grpc, doc/PROTOCOL-HTTP2.md), google.rpc.Status. */
#ifndef OT_CODEC_GRPC_H
#define OT_CODEC_GRPC_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_GRPC_PREFIX 5

typedef enum ot_grpc_coding { OT_GRPC_IDENTITY, OT_GRPC_GZIP, OT_GRPC_DEFLATE } ot_grpc_coding;
#define OT_GRPC_CODINGS "identity,gzip,deflate" /* for grpc-accept-encoding */

/* The coding that a grpc-encoding header names; n 0: absent. False: not one of ours. */
bool ot_grpc_coding_parse(const char *name, size_t n, ot_grpc_coding *out);

typedef struct ot_grpc_frame {
    const char *p; /* the message; points into what was read */
    size_t n;
    size_t size; /* of the whole frame; 0: it is not whole yet */
    bool compressed;
} ot_grpc_frame;

/* The frame at the beginning of [p, p + n). OT_EXHAUSTED when it says that its message is over
 * `max` bytes, OT_INVALID when its first byte is not 0 or 1, OT_INTERNAL when it is compressed and
 * the call's coding is identity (the codes that gRPC gives these). */
ot_rc ot_grpc_frame_read(const char *p, size_t n, ot_grpc_coding coding, uint64_t max,
                         ot_grpc_frame *out, ot_error *err) OT_CHECKED;
/* The message of a frame as it was before it was compressed, in the arena; at most `max` bytes
 * (OT_EXHAUSTED). */
ot_rc ot_grpc_message(const ot_grpc_frame *f, ot_grpc_coding coding, uint64_t max, ot_arena *arena,
                      const char **p_out, size_t *n_out, ot_error *err) OT_CHECKED;
/* Writes the prefix of a message of n bytes. */
void ot_grpc_prefix(char out[OT_GRPC_PREFIX], size_t n);

/* The value of grpc-timeout: up to 8 digits and one of H M S m u n. */
bool ot_grpc_timeout(const char *p, size_t n, uint64_t *ns_out);

/* Appends a text as the value of grpc-message: percent-encoded. */
void ot_grpc_status_text(const char *z, ot_str *out);
/* Appends a google.rpc.Status with google.rpc.RetryInfo as the value of grpc-status-details-bin. */
void ot_grpc_status_details(int code, const char *message, unsigned retry_s, ot_str *out);

#endif
