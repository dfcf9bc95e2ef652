#include "codec/inflate.h"

#include <string.h>
#include <zlib.h>

#define START 4096
#define GROWTH 4 /* what is guessed at first */

static void *take(void *arg, unsigned n, unsigned size)
{
    (void)arg;
    return ot_calloc(n, size);
}

static void give(void *arg, void *p)
{
    (void)arg;
    ot_free(p);
}

static ot_rc too_large(uint64_t max, ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "the compressed body is over %llu bytes when it is unpacked",
                   (unsigned long long)max);
}

/* More room behind what was unpacked already. */
static ot_rc grow(z_stream *z, char **buf, size_t *cap, uint64_t max, ot_arena *arena,
                  ot_error *err)
{
    size_t used = *cap, want = used * 2;
    if (used > max) {
        return too_large(max, err);
    }
    want = want > max ? (size_t)max + 1 : want; /* one more, to see whether it ends there */
    char *grown = ot_arena_alloc(arena, want);
    if (grown == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a compressed body of over %zu bytes",
                       used);
    }
    memcpy(grown, *buf, used);
    *buf = grown;
    *cap = want;
    z->next_out = (Bytef *)grown + used;
    z->avail_out = (uInt)(want - used);
    return OT_OK;
}

static ot_rc run(z_stream *z, char **buf, size_t *cap, uint64_t max, ot_arena *arena, ot_error *err)
{
    for (;;) {
        int rc = inflate(z, Z_NO_FLUSH);
        if (rc == Z_STREAM_END) {
            return z->avail_in == 0 ? OT_OK
                                    : ot_fail(err, OT_INVALID,
                                              "%u bytes follow the compressed body", z->avail_in);
        }
        if (rc == Z_MEM_ERROR) {
            return ot_fail(err, OT_EXHAUSTED, "no memory to unpack the compressed body");
        }
        if (rc != Z_OK && rc != Z_BUF_ERROR) {
            return ot_fail(err, OT_INVALID, "the compressed body is damaged: %s",
                           z->msg != NULL ? z->msg : "it is not of that form");
        }
        if (z->avail_out > 0) {
            return ot_fail(err, OT_INVALID, "the compressed body is cut short");
        }
        OT_TRY(grow(z, buf, cap, max, arena, err));
    }
}

ot_rc ot_inflate(ot_inflate_form form, const void *p, size_t n, uint64_t max, ot_arena *arena,
                 const char **p_out, size_t *n_out, ot_error *err)
{
    if (n > UINT32_MAX || max > UINT32_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "a compressed body of %zu bytes is over 4 GiB", n);
    }
    size_t cap = n < (size_t)max / GROWTH ? n * GROWTH : (size_t)max;
    cap = OT_MAX(cap, (size_t)START);
    char *buf = ot_arena_alloc(arena, cap);
    if (buf == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a compressed body of %zu bytes", n);
    }
    union {
        const void *in;
        Bytef *out;
    } from = {.in = p}; /* zlib's next_in has no const */
    z_stream z = {.zalloc = take, .zfree = give, .next_in = from.out, .avail_in = (uInt)n};
    z.next_out = (Bytef *)buf;
    z.avail_out = (uInt)cap;
    if (inflateInit2(&z, form == OT_INFLATE_GZIP ? 15 + 16 : 15) != Z_OK) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to unpack the compressed body");
    }
    ot_rc rc = run(&z, &buf, &cap, max, arena, err);
    size_t got = z.total_out;
    inflateEnd(&z);
    OT_TRY(rc);
    if (got > max) {
        return too_large(max, err);
    }
    *p_out = buf;
    *n_out = got;
    return OT_OK;
}
