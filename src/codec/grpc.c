#include "codec/grpc.h"

#include "codec/inflate.h"
#include "codec/pb.h"

#include <string.h>

#define TIMEOUT_MAX_NS (UINT64_C(1) << 58) /* 9 years: added to a clock it does not overflow */

static bool is(const char *p, size_t n, const char *z)
{
    return strlen(z) == n && memcmp(p, z, n) == 0;
}

bool ot_grpc_coding_parse(const char *name, size_t n, ot_grpc_coding *out)
{
    if (n == 0 || is(name, n, "identity")) {
        *out = OT_GRPC_IDENTITY;
    } else if (is(name, n, "gzip")) {
        *out = OT_GRPC_GZIP;
    } else if (is(name, n, "deflate")) {
        *out = OT_GRPC_DEFLATE;
    } else {
        return false;
    }
    return true;
}

/* ---- frames */

ot_rc ot_grpc_frame_read(const char *p, size_t n, ot_grpc_coding coding, uint64_t max,
                         ot_grpc_frame *out, ot_error *err)
{
    *out = (ot_grpc_frame){0};
    if (n == 0) {
        return OT_OK;
    }
    const uint8_t *b = (const uint8_t *)p;
    if (b[0] > 1) {
        return ot_fail(err, OT_INVALID, "a frame's compressed flag is %u; it is 0 or 1", b[0]);
    }
    if (b[0] == 1 && coding == OT_GRPC_IDENTITY) {
        return ot_fail(err, OT_INTERNAL,
                       "a frame says that it is compressed and grpc-encoding does not say how");
    }
    if (n < OT_GRPC_PREFIX) {
        return OT_OK;
    }
    size_t size = (size_t)b[1] << 24 | (size_t)b[2] << 16 | (size_t)b[3] << 8 | b[4];
    if (size > max) {
        return ot_fail(err, OT_EXHAUSTED, "a message has %zu bytes; at most %llu are taken", size,
                       (unsigned long long)max);
    }
    if (n - OT_GRPC_PREFIX < size) {
        return OT_OK;
    }
    *out = (ot_grpc_frame){
        .p = p + OT_GRPC_PREFIX, .n = size, .size = OT_GRPC_PREFIX + size, .compressed = b[0] == 1};
    return OT_OK;
}

ot_rc ot_grpc_message(const ot_grpc_frame *f, ot_grpc_coding coding, uint64_t max, ot_arena *arena,
                      const char **p_out, size_t *n_out, ot_error *err)
{
    if (!f->compressed) {
        *p_out = f->p;
        *n_out = f->n;
        return OT_OK;
    }
    return ot_inflate(coding == OT_GRPC_GZIP ? OT_INFLATE_GZIP : OT_INFLATE_ZLIB, f->p, f->n, max,
                      arena, p_out, n_out, err);
}

void ot_grpc_prefix(char out[OT_GRPC_PREFIX], size_t n)
{
    out[0] = 0;
    for (unsigned i = 0; i < 4; i++) {
        out[1 + i] = (char)(n >> (24 - 8 * i));
    }
}

/* ---- timeouts */

bool ot_grpc_timeout(const char *p, size_t n, uint64_t *ns_out)
{
    static const char units[] = "HMSmun";
    static const uint64_t ns[] = {3600000000000, 60000000000, 1000000000, 1000000, 1000, 1};
    if (n < 2 || n > 9) {
        return false;
    }
    uint64_t x = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        if (p[i] < '0' || p[i] > '9') {
            return false;
        }
        x = x * 10 + (uint64_t)(p[i] - '0');
    }
    const char *unit = memchr(units, p[n - 1], sizeof units - 1);
    if (unit == NULL) {
        return false;
    }
    uint64_t each = ns[unit - units];
    *ns_out = x > TIMEOUT_MAX_NS / each ? TIMEOUT_MAX_NS : x * each;
    return true;
}

/* ---- status */

void ot_grpc_status_text(const char *z, ot_str *out)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *z != '\0'; z++) {
        unsigned char c = (unsigned char)*z;
        if (c >= 0x20 && c < 0x7f && c != '%') {
            ot_str_addc(out, *z);
        } else {
            char code[3] = {'%', digits[c >> 4], digits[c & 15]};
            ot_str_add(out, code, sizeof code);
        }
    }
}

/* RFC 4648 without padding, which binary headers may do without. */
static void add_base64(const uint8_t *p, size_t n, ot_str *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t left = OT_MIN(n - i, (size_t)3);
        uint32_t x = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                     (left > 2 ? (uint32_t)p[i + 2] : 0);
        for (size_t k = 0; k <= left; k++) {
            ot_str_addc(out, digits[x >> (18 - 6 * k) & 63]);
        }
    }
}

void ot_grpc_status_details(int code, const char *message, unsigned retry_s, ot_str *out)
{
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    ot_pb_put_uint(&s, 1, (uint64_t)code);
    ot_pb_put_text(&s, 2, message);
    size_t any = ot_pb_begin(&s, 3);
    ot_pb_put_string(&s, 1, "type.googleapis.com/google.rpc.RetryInfo");
    size_t info = ot_pb_begin(&s, 2);
    size_t delay = ot_pb_begin(&s, 1);
    ot_pb_put_uint(&s, 1, retry_s);
    ot_pb_end(&s, delay, 0);
    ot_pb_end(&s, info, 0);
    ot_pb_end(&s, any, 0);
    if (s.failed) {
        out->failed = true;
        return;
    }
    add_base64((const uint8_t *)s.data, s.len, out);
}
