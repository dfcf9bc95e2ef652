/* Compressing bodies: gzip (RFC 1952) and zlib (RFC 1950, what HTTP calls deflate), for speed.
 *
 * Threads: any. */
#ifndef OT_CODEC_DEFLATE_H
#define OT_CODEC_DEFLATE_H

#include "base/error.h"
#include "base/str.h"
#include "codec/inflate.h"

#include <sys/uio.h>

/* Appends the pieces, compressed, in at most `max` bytes. OT_RANGE: they take more than that, and
 * `out` has nothing of it; OT_EXHAUSTED: memory is short. */
ot_rc ot_deflate(ot_inflate_form form, const struct iovec *pieces, size_t n, size_t max,
                 ot_str *out, ot_error *err) OT_CHECKED;

#endif
