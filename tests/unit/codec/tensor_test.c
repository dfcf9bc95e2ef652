#include "codec/tensor.h"
#include "golden.h"
#include "tap.h"

#include <stdlib.h>

static ot_tensor f32(const char *name, int64_t a, int64_t b, const void *p, size_t n)
{
    return (ot_tensor){
        .name = name, .dtype = OT_DT_FP32, .rank = 2, .dims = {a, b}, .data = p, .size_bytes = n};
}

static void test_types(void)
{
    for (int i = OT_DT_INVALID + 1; i < OT_DT_COUNT_; i++) {
        const char *name = ot_dtype_name((ot_dtype)i);
        is_int(ot_dtype_parse(name, strlen(name)), i, "%s is parsed", name);
    }
    is_int(ot_dtype_parse("FP31", 4), OT_DT_INVALID, "an unknown name is none");
    is_int(ot_dtype_parse("FP32x", 5), OT_DT_INVALID, "nor a longer one");
    is_int(ot_dtype_parse("INVALID", 7), OT_DT_INVALID, "nor the placeholder");
    is_str(ot_dtype_name((ot_dtype)99), "INVALID", "a wild value has a name");
    is_int(ot_dtype_size(OT_DT_BF16), 2, "size of BF16");
    is_int(ot_dtype_size(OT_DT_BYTES), 0, "BYTES has no fixed size");
}

static void test_shapes(void)
{
    int64_t n = -7;
    size_t bytes;
    ok(ot_shape_count((int64_t[]){2, 3, 4}, 3, &n) && n == 24, "a product");
    ok(ot_shape_count(NULL, 0, &n) && n == 1, "a scalar has one element");
    ok(ot_shape_count((int64_t[]){5, 0}, 2, &n) && n == 0, "zero rows");
    ok(!ot_shape_count((int64_t[]){0, -1}, 2, &n), "zero does not hide a negative dimension");
    ok(!ot_shape_count((int64_t[]){INT64_C(1) << 32, INT64_C(1) << 31}, 2, &n), "overflow");
    ok(!ot_shape_count((int64_t[]){0, INT64_MAX, 3}, 3, &n), "zero does not hide an overflow");
    ok(ot_shape_count((int64_t[]){INT64_MAX, 1}, 2, &n) && n == INT64_MAX, "the greatest count");
    ok(!ot_shape_count((int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, 9, &n), "rank 9 is refused");
    ok(!ot_shape_bytes(OT_DT_FP64, (int64_t[]){INT64_C(1) << 62}, 1, &bytes), "bytes overflow");
    char text[OT_SHAPE_TEXT];
    is_str(ot_shape_format((int64_t[]){-1, 30}, 2, text), "[-1,30]", "shape as text");
    is_str(ot_shape_format(NULL, 0, text), "[]", "scalar shape as text");
    int64_t widest[OT_RANK_MAX];
    for (int i = 0; i < OT_RANK_MAX; i++) {
        widest[i] = INT64_MIN;
    }
    is_int(strlen(ot_shape_format(widest, OT_RANK_MAX, text)), OT_RANK_MAX * 21 + 1, "widest");
}

static void test_matches(void)
{
    ot_error err;
    ot_tensor_spec spec = {.name = "x", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, 30}};
    ot_tensor good = f32("x", 2, 30, NULL, 0), bad = f32("x", 2, 31, NULL, 0);
    ok(ot_tensor_matches(&spec, &good, &err) == OT_OK, "-1 takes any size");
    is_int(ot_tensor_matches(&spec, &bad, &err), OT_INVALID, "another size is refused");
    is_str(err.msg, "input 'x' is FP32 [-1,30]; the request has [2,31]", "its message");
    good.dtype = OT_DT_INT64;
    is_int(ot_tensor_matches(&spec, &good, &err), OT_INVALID, "another type is refused");
    is_str(err.msg, "input 'x' is FP32 [-1,30]; the request has INT64 [2,30]", "its message");
    bad.rank = 1;
    ok(ot_tensor_matches(&spec, &bad, NULL) != OT_OK, "another rank is refused");
}

static void test_check(void)
{
    ot_error err;
    float data[6] = {1, 2, 3, 4, 5, 6};
    ot_tensor t = f32("x", 2, 3, data, sizeof data);
    ok(ot_tensor_check(&t, &err) == OT_OK, "a good view");
    t.size_bytes = 20;
    is_int(ot_tensor_check(&t, &err), OT_INVALID, "too few bytes");
    is_str(err.msg, "tensor 'x' is FP32 [2,3]: 6 values of 4 bytes; it has 20 bytes", "named");
    char b[] = "\1\0\0\0a\0\0\0\0\2\0\0\0bc";
    ot_tensor s = {
        .name = "s", .dtype = OT_DT_BYTES, .rank = 1, .dims = {3}, .data = b, .size_bytes = 15};
    ok(ot_tensor_check(&s, &err) == OT_OK, "three strings");
    for (size_t n = 0; n < 15; n++) {
        s.size_bytes = n;
        ok(ot_tensor_check(&s, NULL) == OT_INVALID, "three strings cut at %zu", n);
    }
    s.size_bytes = 15;
    s.dims[0] = 2;
    ok(ot_tensor_check(&s, &err) == OT_INVALID, "strings left over");
    s.dims[0] = INT64_MAX;
    ok(ot_tensor_check(&s, &err) == OT_INVALID, "a count beyond the data");
}

static void test_halves(void)
{
    ot_str s = OT_STR_INIT;
    bool good = golden_read("fp16.txt", &s);
    int lines = 0;
    for (char *p = s.data; good && *p != 0; lines++) {
        uint32_t bits = (uint32_t)strtoul(p, &p, 16), want = (uint32_t)strtoul(p, &p, 16);
        p += *p == '\n';
        float f;
        memcpy(&f, &bits, sizeof f);
        good = ot_fp16_from_f32(f) == want && ot_fp16_from_f64((double)f) == want;
        if (!good) {
            printf("# %a becomes %04x, NumPy has %04x\n", (double)f, ot_fp16_from_f32(f), want);
        }
    }
    ok(good && lines > 3000, "%d roundings to FP16 agree with NumPy", lines);
    ot_str_done(&s);
    bool fp = true, bf = true;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float a = ot_fp16_to_f32((uint16_t)h), b = ot_bf16_to_f32((uint16_t)h);
        fp &= isnan(a) ? isnan(ot_fp16_to_f32(ot_fp16_from_f32(a))) != 0 : ot_fp16_from_f32(a) == h;
        bf &= isnan(b) ? isnan(ot_bf16_to_f32(ot_bf16_from_f32(b))) != 0 : ot_bf16_from_f32(b) == h;
    }
    ok(fp, "every FP16 value survives float and back");
    ok(bf, "every BF16 value survives float and back");
    is_int(ot_bf16_from_f32(1.00390625F), 0x3f80, "BF16 tie goes to even, down");
    is_int(ot_bf16_from_f32(1.01171875F), 0x3f82, "BF16 tie goes to even, up");
    is_int(ot_bf16_from_f32(3.4e38F), 0x7f80, "BF16 overflow is infinity");
    is_int(ot_fp16_from_f64(1.00048828125 + 1e-12), 0x3c01, "one rounding from double, not two");
    is_int(ot_fp16_from_f64(5e-324), 0, "the least double is zero");
}

static void test_reads(void)
{
    char raw[9] = {0};
    float f = 2.5F;
    memcpy(raw + 1, &f, sizeof f); /* unaligned on purpose */
    ot_tensor t = {.dtype = OT_DT_FP32, .rank = 1, .dims = {2}, .data = raw + 1, .size_bytes = 8};
    is_near(ot_tensor_f64_at(&t, 0), 2.5, 0, "an unaligned float");
    int64_t i = INT64_MIN;
    t = (ot_tensor){.dtype = OT_DT_INT64, .data = &i, .size_bytes = 8};
    is_near(ot_tensor_f64_at(&t, 0), -0x1p63, 0, "the least integer");
    t.dtype = OT_DT_BYTES;
    ok(isnan(ot_tensor_f64_at(&t, 0)), "strings have no value");
}

int main(void)
{
    test_types();
    test_shapes();
    test_matches();
    test_check();
    test_halves();
    test_reads();
    return tap_done();
}
