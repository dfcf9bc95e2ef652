/* Arrays of floats as ot_json_tensor_data reads them, many values at once where the processor can,
 * against one value at a time and the C library.
 *
 *     json_floats_test [ROUNDS]      ROUNDS arrays of 1 to 200 values; 3,000 if it is not said */
#include "base/random.h"
#include "base/str.h"
#include "codec/json_scan.h"
#include "codec/number.h"
#include "tap.h"

#include <stdlib.h>

#define N_MAX 200

static uint64_t rounds = 3000;

/* A number as clients print them, or one that is hard to round. */
static void number(ot_rng *r, int kind, ot_str *to)
{
    char buf[OT_F64_TEXT];
    float x = (float)(ot_rng_normal(r) * pow(10, (double)ot_rng_below(r, 9) - 4));
    float unit = (float)ot_rng_uniform(r);
    double middle = ((double)x + (double)nextafterf(x, INFINITY)) / 2;
    switch (kind) {
    case 0:
        ot_str_add(to, buf, ot_format_f32(unit, buf));
        return;
    case 1:
        ot_str_add(to, buf, ot_format_f64((double)unit, buf));
        return;
    case 2:
        ot_str_addf(to, "%.9g", (double)x);
        return;
    case 3:
        ot_str_addf(to, "%d", (int)ot_rng_below(r, 1024) - 512);
        return;
    case 4:
        ot_str_addf(to, "%.*f", (int)ot_rng_below(r, 24), (double)x);
        return;
    case 5: /* a tie */
        ot_str_addf(to, "%.40g", middle);
        return;
    case 6: /* beside one */
        ot_str_addf(to, "%.*g", 15 + (int)ot_rng_below(r, 3), nextafter(middle, (double)x * 2));
        return;
    case 7:
        ot_str_addf(to, "%.*e", (int)ot_rng_below(r, 12), (double)x);
        return;
    case 8: /* few significant digits behind zeros, or in front of them */
        ot_str_addf(to, "%.*f", 12 + (int)ot_rng_below(r, 12), (double)x * 1e-9);
        return;
    case 9:
        ot_str_addf(to, "%.0f", (double)x * pow(10, (double)ot_rng_below(r, 16)));
        return;
    default:
        ot_str_adds(to,
                    (const char *[]){"0", "-0", "0.0", "-0.0", "1", "-1.5"}[ot_rng_below(r, 6)]);
    }
}

static int array(ot_rng *r, ot_str *to)
{
    static const char *const spaces[] = {"", " ", "", " ", "  ", "\n", " \t"};
    int n = 1 + (int)ot_rng_below(r, N_MAX);
    int kind = (int)ot_rng_below(r, 12);
    size_t space = (size_t)ot_rng_below(r, 7);
    ot_str_clear(to);
    ot_str_addc(to, '[');
    for (int i = 0; i < n; i++) {
        ot_str_adds(to, i > 0 ? "," : "");
        ot_str_adds(to, i > 0 || space > 3 ? spaces[space] : "");
        number(r, kind < 11 ? kind : (int)ot_rng_below(r, 11), to);
        ot_str_adds(to, space > 5 && i % 7 == 0 ? " " : "");
    }
    ot_str_addc(to, ']');
    return n;
}

static const char *after_space(const char *p, const char *end)
{
    while (p < end && strchr(" \n\r\t", *p) != NULL && *p != 0) {
        p++;
    }
    return p;
}

/* The same array value by value. `library`: each agrees with strtof, which wants a NUL behind. */
static bool twin(const char *p, size_t n, int count, bool library, float *out)
{
    const char *end = p + n;
    for (int i = 0; i <= count; i++) {
        p = after_space(p, end);
        if (p == end || *p++ != (i == 0 ? '[' : i == count ? ']' : ',')) {
            return false;
        }
        if (i == count) {
            return after_space(p, end) == end;
        }
        ot_decimal d;
        p = after_space(p, end);
        const char *after = ot_decimal_scan(p, end, &d);
        if (after == NULL || !isfinite(out[i] = ot_decimal_f32(&d))) {
            return false;
        }
        float f = library ? strtof(p, NULL) : out[i];
        if (memcmp(&f, &out[i], sizeof f) != 0) {
            printf("# strtof reads %a, not %a\n", (double)f, (double)out[i]);
            return false;
        }
        p = after;
    }
    return false;
}

static bool read_all(const char *p, size_t n, int count, float *out)
{
    ot_error err;
    ot_json_scan s;
    ot_json_scan_init(&s, p, n);
    int64_t dims = count;
    return ot_json_tensor_data(&s, "x", OT_DT_FP32, &dims, 1, out, &err) == OT_OK &&
           ot_json_finish(&s, &err) == OT_OK;
}

/* Text without a byte behind it, values with one of canary. */
static bool agree(const ot_str *text, int count, bool library)
{
    float want[N_MAX + 1], got[N_MAX + 1];
    memset(want, 0x5a, sizeof want);
    memset(got, 0x5a, sizeof got);
    char *alone = malloc(text->len);
    if (alone == NULL) {
        return false;
    }
    memcpy(alone, text->data, text->len);
    bool valid = twin(text->data, text->len, count, library, want);
    bool good = valid == read_all(alone, text->len, count, got) && (valid || !library) &&
                (!valid || memcmp(want, got, sizeof want) == 0);
    float canary;
    memset(&canary, 0x5a, sizeof canary);
    good = good && memcmp(&got[count], &canary, sizeof canary) == 0;
    free(alone);
    if (!good) {
        printf("# differs: %s\n", text->data);
    }
    return good;
}

static void test_values(void)
{
    ot_rng r;
    ot_rng_seed(&r, 3);
    ot_str text = OT_STR_INIT;
    bool good = true;
    for (uint64_t i = 0; i < rounds && good; i++) {
        int n = array(&r, &text);
        good = agree(&text, n, true);
    }
    ok(good, "%llu arrays are read as value by value, and as the C library rounds",
       (unsigned long long)rounds);
    ot_str_done(&text);
}

static void test_broken(void)
{
    static const char bytes[] = "0123456789.,,--+eE [] \n/:\x80";
    ot_rng r;
    ot_rng_seed(&r, 4);
    ot_str text = OT_STR_INIT;
    bool good = true;
    for (uint64_t i = 0; i < rounds && good; i++) {
        int n = array(&r, &text);
        for (int k = 0; k < 20 && good; k++) {
            char *at = text.data + ot_rng_below(&r, text.len), was = *at;
            *at = bytes[ot_rng_below(&r, sizeof bytes)];
            good = agree(&text, n, false);
            *at = was;
        }
        good = good && agree(&text, n + (n < N_MAX), false) && agree(&text, n - (n > 1), false);
    }
    ok(good, "and what is broken is refused wherever value by value refuses it");
    ot_str_done(&text);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        rounds = strtoull(argv[1], NULL, 10);
    }
    test_values();
    test_broken();
    return tap_done();
}
