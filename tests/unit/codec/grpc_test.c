#include "codec/grpc.h"
#include "codec/inflate.h"
#include "tap.h"

#include <zlib.h>

static ot_error err;

static void test_frames(void)
{
    ot_grpc_frame f;
    static const char whole[] = "\0\0\0\0\3abcrest";
    for (size_t n = 0; n < 8; n++) {
        ok(ot_grpc_frame_read(whole, n, OT_GRPC_IDENTITY, 100, &f, &err) == OT_OK && f.size == 0,
           "%zu bytes are no frame yet", n);
    }
    ok(ot_grpc_frame_read(whole, 12, OT_GRPC_IDENTITY, 3, &f, &err) == OT_OK && f.size == 8 &&
           f.n == 3 && memcmp(f.p, "abc", 3) == 0 && !f.compressed,
       "a frame, and what follows is left");
    ok(ot_grpc_frame_read("\0\0\0\0\0", 5, OT_GRPC_IDENTITY, 100, &f, &err) == OT_OK &&
           f.size == 5 && f.n == 0,
       "an empty message");
    ok(ot_grpc_frame_read(whole, 5, OT_GRPC_IDENTITY, 2, &f, &err) == OT_EXHAUSTED,
       "over the limit before it has come: %s", err.msg);
    ok(ot_grpc_frame_read("\0\xff\xff\xff\xff", 5, OT_GRPC_IDENTITY, 1u << 26, &f, &err) ==
           OT_EXHAUSTED,
       "a length that lies");
    ok(ot_grpc_frame_read("\2", 1, OT_GRPC_GZIP, 100, &f, &err) == OT_INVALID, "%s", err.msg);
    ok(ot_grpc_frame_read("\1", 1, OT_GRPC_IDENTITY, 100, &f, &err) == OT_INTERNAL, "%s", err.msg);
    ok(ot_grpc_frame_read("\1\0\0\0\1x", 6, OT_GRPC_GZIP, 100, &f, &err) == OT_OK && f.compressed,
       "a compressed one");
    char prefix[OT_GRPC_PREFIX];
    ot_grpc_prefix(prefix, 0x01020304);
    ok(memcmp(prefix, "\0\1\2\3\4", 5) == 0, "a prefix");
}

static void test_timeouts(void)
{
    static const struct {
        const char *text;
        bool good;
        uint64_t ns;
    } cases[] = {
        {"1S", true, 1000000000},
        {"250m", true, 250000000},
        {"3u", true, 3000},
        {"99999999n", true, 99999999},
        {"2M", true, 120000000000},
        {"99999999H", true, UINT64_C(1) << 58},
        {"0n", true, 0},
        {"S", false, 0},
        {"", false, 0},
        {"1", false, 0},
        {"1s", false, 0},
        {"-1S", false, 0},
        {"999999999S", false, 0},
        {"1.5S", false, 0},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        uint64_t ns = 7;
        bool good = ot_grpc_timeout(cases[i].text, strlen(cases[i].text), &ns);
        ok(good == cases[i].good && (!good || ns == cases[i].ns), "timeout '%s'", cases[i].text);
    }
}

static void test_status(void)
{
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    ot_grpc_status_text("50% of 'x' h\xc3\xa9\n", &s);
    is_str(s.data, "50%25 of 'x' h%C3%A9%0A", "a status text");
    ot_str_clear(&s);
    /* Status(code=8, message='full', details=[Any(RetryInfo(retry_delay=Duration(seconds=2)))]) as
     * Python protobuf writes it */
    ot_grpc_status_details(8, "full", 2, &s);
    is_str(s.data, "CAgSBGZ1bGwaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAg",
           "details");
}

static void test_codings(void)
{
    ot_grpc_coding c;
    ok(ot_grpc_coding_parse(NULL, 0, &c) && c == OT_GRPC_IDENTITY, "absent");
    ok(ot_grpc_coding_parse("gzip", 4, &c) && c == OT_GRPC_GZIP, "gzip");
    ok(ot_grpc_coding_parse("deflate", 7, &c) && c == OT_GRPC_DEFLATE, "deflate");
    ok(!ot_grpc_coding_parse("snappy", 6, &c) && !ot_grpc_coding_parse("gzi", 3, &c), "others");
}

static size_t deflated(int window, const void *p, size_t n, char *out, size_t cap)
{
    z_stream z = {0};
    union {
        const void *in;
        Bytef *out;
    } from = {.in = p};
    if (deflateInit2(&z, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return 0;
    }
    z.next_in = from.out;
    z.avail_in = (uInt)n;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)cap;
    bool good = deflate(&z, Z_FINISH) == Z_STREAM_END;
    size_t got = z.total_out;
    deflateEnd(&z);
    return good ? got : 0;
}

static ot_rc unpack(ot_inflate_form form, const char *p, size_t n, uint64_t max, size_t memory,
                    const char *want, size_t n_want)
{
    ot_arena arena;
    const char *got;
    size_t n_got;
    ot_arena_init(&arena, 4096, memory);
    ot_rc rc = ot_inflate(form, p, n, max, &arena, &got, &n_got, &err);
    if (rc == OT_OK && (n_got != n_want || memcmp(got, want, n_got) != 0)) {
        rc = OT_INTERNAL;
    }
    ot_arena_done(&arena);
    return rc;
}

static void test_inflate(void)
{
    static char zeros[100000], packed[20000], noise[9000];
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (char)(i * i * 2654435761u >> 13);
    }
    static const int windows[] = {[OT_INFLATE_GZIP] = 31, [OT_INFLATE_ZLIB] = 15};
    for (int form = OT_INFLATE_GZIP; form <= OT_INFLATE_ZLIB; form++) {
        size_t n = deflated(windows[form], zeros, sizeof zeros, packed, sizeof packed);
        is_int(unpack(form, packed, n, sizeof zeros, 1 << 20, zeros, sizeof zeros), OT_OK,
               "a body of exactly the limit");
        is_int(unpack(form, packed, n, sizeof zeros - 1, 1 << 20, zeros, 0), OT_EXHAUSTED,
               "one over it: %s", err.msg);
        is_int(unpack(form, packed, n, sizeof zeros, 50000, zeros, 0), OT_EXHAUSTED, "memory: %s",
               err.msg);
        int cut = 0;
        for (size_t i = 0; i < n; i++) {
            cut += unpack(form, packed, i, sizeof zeros, 1 << 20, zeros, 0) == OT_INVALID;
        }
        is_int(cut, (int)n, "no beginning of it is a body");
        packed[n] = 'x';
        is_int(unpack(form, packed, n + 1, sizeof zeros, 1 << 20, zeros, 0), OT_INVALID, "%s",
               err.msg);
        packed[n - 1] ^= 0x55;
        is_int(unpack(form, packed, n, sizeof zeros, 1 << 20, zeros, 0), OT_INVALID, "%s", err.msg);
        n = deflated(windows[form], noise, sizeof noise, packed, sizeof packed);
        is_int(unpack(form, packed, n, 1 << 20, 1 << 20, noise, sizeof noise), OT_OK,
               "what does not shrink");
        is_int(unpack(1 - form, packed, n, 1 << 20, 1 << 20, noise, 0), OT_INVALID, "%s", err.msg);
    }
}

int main(void)
{
    test_frames();
    test_timeouts();
    test_status();
    test_codings();
    test_inflate();
    return tap_done();
}
