/* Content codings: which one a client accepts, and that what is packed comes back. */
#include "protocol/coding.h"

#include "codec/deflate.h"

#include "tap.h"

static void accepts(const char *text, int want)
{
    bool gzip = false;
    bool any = ot_coding_accepted((ot_slice){text, strlen(text)}, &gzip);
    is_int(any ? gzip : -1, want, "Accept-Encoding: %s", text);
}

static void test_accept(void)
{
    enum { NONE = -1, DEFLATE = 0, GZIP = 1 };
    accepts("", NONE);
    accepts("identity", NONE);
    accepts("br, zstd", NONE);
    accepts("gzip", GZIP);
    accepts("GZip", GZIP);
    accepts("deflate", DEFLATE);
    accepts("gzip, deflate", GZIP);
    accepts("deflate,gzip;q=0.5", DEFLATE);
    accepts("gzip;q=0", NONE);
    accepts("gzip;q=0.000, deflate", DEFLATE);
    accepts("gzip ; q=0.2 ,deflate;q=0.3", DEFLATE);
    accepts("gzip;q=1.0, deflate;q=0.999", GZIP);
    accepts("*", GZIP);
    accepts("*;q=0", NONE);
    accepts("gzip;q=0, *", DEFLATE);
    accepts(",, ;;q=, gzip;x=1;q=0.001", GZIP);
    bool gzip;
    ok(!ot_coding_accepted((ot_slice){NULL, 0}, &gzip), "without the header");
}

static void comes_back(ot_inflate_form form, size_t n)
{
    static char text[100000];
    for (size_t i = 0; i < n; i++) {
        text[i] = (char)("0123456789"[i * i % 7]);
    }
    struct iovec pieces[] = {{text, n / 3}, {text, 0}, {text + n / 3, n - n / 3}};
    ot_str packed = OT_STR_INIT;
    ot_error err = {0};
    is_int(ot_deflate(form, pieces, 3, n + 64, &packed, &err), OT_OK, "%zu bytes: %s", n, err.msg);
    ot_arena arena;
    ot_arena_init(&arena, 4096, 1 << 20);
    const char *p = NULL;
    size_t got = 0;
    is_int(ot_inflate(form, packed.data, packed.len, n + 1, &arena, &p, &got, &err), OT_OK,
           "unpacks: %s", err.msg);
    ok(got == n && (n == 0 || memcmp(p, text, n) == 0), "to the same");
    ot_arena_done(&arena);
    ot_str_done(&packed);
}

static void test_what_does_not_shrink(void)
{
    static char noise[40000];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof noise; i++) {
        x = x * 1664525 + 1013904223;
        noise[i] = (char)(x >> 24);
    }
    struct iovec piece = {noise, sizeof noise};
    ot_str packed = OT_STR_INIT;
    ot_str_adds(&packed, "before");
    ot_error err = {0};
    is_int(ot_deflate(OT_INFLATE_GZIP, &piece, 1, sizeof noise * 7 / 8, &packed, &err), OT_RANGE,
           "noise: %s", err.msg);
    is_str(packed.data, "before", "leaves what was there");
    ot_str_done(&packed);
}

int main(void)
{
    test_accept();
    comes_back(OT_INFLATE_GZIP, 100000);
    comes_back(OT_INFLATE_ZLIB, 100000);
    comes_back(OT_INFLATE_GZIP, 0);
    test_what_does_not_shrink();
    return tap_done();
}
