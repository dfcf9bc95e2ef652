/* Files that are packed as a whole, by gzip or zlib: unpacked into memory when they are opened.
 *
 * Source: RFC 1950, RFC 1952 (several members are one file). */
#include "base/mem.h"
#include "input/source_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#define ZLIB_CONST
#include <zlib.h>

#define CHUNK (64u << 20) /* of input and output, which zlib counts in 32 bits */
#define GZIP_OR_ZLIB (MAX_WBITS + 32)

typedef struct unpacked {
    uint8_t *p;
    uint64_t n, room;
} unpacked;

static bool is_packed(const ot_input_file *f)
{
    const uint8_t *p = f->map;
    return f->size > 2 &&
           ((p[0] == 0x1f && p[1] == 0x8b) || ((p[0] & 15) == 8 && (p[0] << 8 | p[1]) % 31 == 0));
}

static ot_rc resize(unpacked *u, uint64_t room, const char *path, ot_error *err)
{
    void *p = u->p == NULL
                  ? mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                  : mremap(u->p, u->room, room, MREMAP_MAYMOVE);
    if (p == MAP_FAILED) {
        return ot_fail_errno(err, errno, "%s: no memory for %" PRIu64 " bytes of it unpacked", path,
                             room);
    }
    u->p = p;
    u->room = room;
    return OT_OK;
}

static ot_rc more_room(const ot_source *s, unpacked *u, const char *path, ot_error *err)
{
    uint64_t most = OT_INPUT_UNPACKED_MAX - s->unpacked;
    if (u->room >= most) {
        return ot_fail(err, OT_EXHAUSTED,
                       "%s: unpacked, it and what else is packed take over %llu GiB of memory: "
                       "unpack it on the disk with gunzip",
                       path, OT_INPUT_UNPACKED_MAX >> 30);
    }
    return resize(u, OT_MIN(u->room * 2, most), path, err);
}

/* Member after member; false: damaged or cut off. */
static ot_rc inflate_all(const ot_source *s, const ot_input_file *f, z_stream *z, unpacked *u,
                         ot_error *err)
{
    uint64_t at = 0;
    for (int rc = Z_OK;;) {
        if (rc == Z_STREAM_END && at == f->size) {
            return OT_OK;
        }
        if ((rc == Z_STREAM_END && inflateReset(z) != Z_OK) || (rc != Z_OK && rc != Z_STREAM_END)) {
            return ot_fail(err, OT_DATA_LOSS,
                           "%s: packed with gzip or zlib, and damaged or cut off at byte %" PRIu64
                           " (%s)",
                           f->path, at, z->msg != NULL ? z->msg : "no end");
        }
        if (u->n == u->room) {
            OT_TRY(more_room(s, u, f->path, err));
        }
        uint64_t in = OT_MIN(f->size - at, (uint64_t)CHUNK);
        uint64_t out = OT_MIN(u->room - u->n, (uint64_t)CHUNK);
        z->next_in = f->map + at;
        z->avail_in = (uInt)in;
        z->next_out = u->p + u->n;
        z->avail_out = (uInt)out;
        rc = inflate(z, Z_NO_FLUSH);
        at += in - z->avail_in;
        u->n += out - z->avail_out;
        rc = rc == Z_BUF_ERROR && z->avail_out == 0 ? Z_OK : rc; /* it wants room */
    }
}

ot_rc ot_source_unpack(ot_source *s, size_t file, ot_error *err)
{
    ot_input_file *f = &s->files[file];
    z_stream z = {0};
    unpacked u = {0};
    if (!is_packed(f)) {
        return OT_OK;
    }
    if (inflateInit2(&z, GZIP_OR_ZLIB) != Z_OK) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to unpack it", f->path);
    }
    ot_rc rc = resize(&u, OT_MIN(f->size * 4 + 4096, OT_INPUT_UNPACKED_MAX), f->path, err);
    rc = rc == OT_OK ? inflate_all(s, f, &z, &u, err) : rc;
    inflateEnd(&z);
    if (rc == OT_OK && u.n > 0) {
        rc = resize(&u, u.n, f->path, err); /* the pages behind go back */
    }
    if (u.p != NULL && (rc != OT_OK || u.n == 0)) {
        munmap(u.p, u.room);
        u.p = NULL;
    }
    if (rc == OT_OK) {
        ot_source_hold(s, file, u.p, u.n);
    }
    return rc;
}
