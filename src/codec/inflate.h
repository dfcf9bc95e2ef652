/* Compressed bodies: gzip (RFC 1952) and zlib (RFC 1950, what HTTP and gRPC call deflate).
 *
 * A body may say that it grows without end, so the caller says how far it may.
 * Threads: any. Lifetime: the result lies in the arena. */
#ifndef OT_CODEC_INFLATE_H
#define OT_CODEC_INFLATE_H

#include "base/error.h"
#include "base/mem.h"

#include <stddef.h>
#include <stdint.h>

typedef enum ot_inflate_form { OT_INFLATE_GZIP, OT_INFLATE_ZLIB } ot_inflate_form;

/* OT_INVALID: damaged, cut short, or bytes follow it. OT_EXHAUSTED: over max bytes, or over what
 * the arena gives. */
ot_rc ot_inflate(ot_inflate_form form, const void *p, size_t n, uint64_t max, ot_arena *arena,
                 const char **p_out, size_t *n_out, ot_error *err) OT_CHECKED;

#endif
