#include "codec/deflate.h"

#include "base/mem.h"

#include <zlib.h>

#define LEVEL 1

/* True: all of the pieces went in. */
static bool run(z_stream *z, const struct iovec *pieces, size_t n)
{
    int rc = Z_OK;
    for (size_t i = 0; i < n && rc == Z_OK; i++) {
        z->next_in = pieces[i].iov_base;
        z->avail_in = (uInt)pieces[i].iov_len;
        while (z->avail_in > 0 && rc == Z_OK) {
            rc = z->avail_out > 0 ? deflate(z, Z_NO_FLUSH) : Z_BUF_ERROR;
        }
    }
    return rc == Z_OK && deflate(z, Z_FINISH) == Z_STREAM_END;
}

ot_rc ot_deflate(ot_inflate_form form, const struct iovec *pieces, size_t n, size_t max,
                 ot_str *out, ot_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].iov_len > UINT32_MAX) {
            return ot_fail(err, OT_RANGE, "a piece of %zu bytes is over 4 GiB", pieces[i].iov_len);
        }
    }
    z_stream z = {0};
    max = OT_MIN(max, (size_t)UINT32_MAX);
    if (!ot_str_reserve(out, max) ||
        deflateInit2(&z, LEVEL, Z_DEFLATED, form == OT_INFLATE_GZIP ? 15 + 16 : 15, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to compress the body");
    }
    z.next_out = (Bytef *)out->data + out->len;
    z.avail_out = (uInt)max;
    bool fits = run(&z, pieces, n);
    size_t got = z.total_out;
    deflateEnd(&z);
    if (!fits) {
        out->data[out->len] = '\0';
        return ot_fail(err, OT_RANGE, "compressed it takes over %zu bytes", max);
    }
    out->len += got;
    out->data[out->len] = '\0';
    return OT_OK;
}
