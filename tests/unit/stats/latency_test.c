/* The latency histogram against exact quantiles, merging, the written form. */
#include "stats/latency.h"

#include "base/random.h"
#include "tap.h"

#include <stdlib.h>

enum { N = 20000 };

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void quantiles(void)
{
    static uint64_t x[N];
    static ot_latency h, half, other;
    ot_rng rng;
    ot_rng_seed(&rng, 4);
    for (size_t i = 0; i < N; i++) {
        x[i] = (uint64_t)exp(10 + 2 * ot_rng_normal(&rng));
        ot_latency_add(&h, x[i]);
        ot_latency_add(i % 2 ? &half : &other, x[i]);
    }
    qsort(x, N, sizeof x[0], by_value);
    static const double qs[] = {0, 0.01, 0.5, 0.9, 0.99, 0.999, 1};
    for (size_t i = 0; i < sizeof qs / sizeof qs[0]; i++) {
        size_t rank = (size_t)ceil(qs[i] * N);
        double want = (double)x[rank > 0 ? rank - 1 : 0],
               got = (double)ot_latency_quantile(&h, qs[i]);
        ok(got >= want && got <= want * 1.032 + 1, "quantile %g: %.0f is within 3.2%% above %.0f",
           qs[i], got, want);
    }
    ot_latency_merge(&half, &other);
    ok(memcmp(&half, &h, sizeof h) == 0, "merged halves are the whole");
    is_int(ot_latency_above(&h, x[N - 1]), 0, "none above the longest");
    ot_str out = OT_STR_INIT;
    ot_latency_write(&h, &out);
    ot_latency back = {.count = 77};
    size_t used = 0, accepted = 0;
    for (size_t n = 0; n < out.len; n++) {
        accepted += ot_latency_read(&back, out.data, n, &used, NULL) == OT_OK;
    }
    ok(accepted == 0 && back.count == 77, "no cut is accepted");
    ok(ot_latency_read(&back, out.data, out.len, &used, NULL) == OT_OK && used == out.len &&
           memcmp(&back, &h, sizeof h) == 0,
       "%zu bytes read back", out.len);
    ot_latency twice = h, sum = other;
    ot_latency_merge(&twice, &other);
    accepted = 0;
    for (size_t n = 0; n < out.len; n++) {
        accepted += ot_latency_merge_record(&sum, out.data, n, &used, NULL) == OT_OK;
    }
    ok(accepted == 0 && memcmp(&sum, &other, sizeof sum) == 0, "nor is a cut merged");
    ok(ot_latency_merge_record(&sum, out.data, out.len, &used, NULL) == OT_OK && used == out.len &&
           memcmp(&sum, &twice, sizeof sum) == 0,
       "a record merges as what was read from it");
    sum.cells[100] = UINT32_MAX;
    twice.cells[100] = UINT32_MAX;
    ot_latency_merge(&twice, &h);
    ok(ot_latency_merge_record(&sum, out.data, out.len, NULL, NULL) == OT_OK &&
           memcmp(&sum, &twice, sizeof sum) == 0,
       "cells saturate there too");
    ot_str_done(&out);
}

int main(void)
{
    static ot_latency h;
    is_int(ot_latency_quantile(&h, 0.5), 0, "empty");
    is_near(ot_latency_mean_ns(&h), 0, 0, "empty mean");
    for (uint64_t i = 0; i < 64; i++) {
        ot_latency_add(&h, i);
    }
    is_int(ot_latency_quantile(&h, 0.5), 31, "exact below 64 ns");
    is_int(ot_latency_above(&h, 60), 3, "above");
    ot_latency_clear(&h);
    ot_latency_add(&h, UINT64_MAX);
    ot_latency_add(&h, 1ull << 50);
    ok(ot_latency_quantile(&h, 0.5) == UINT64_MAX, "beyond the range: the longest stands for it");
    ot_latency_clear(&h);
    for (unsigned bit = 6; bit < 40; bit++) { /* ends of octaves */
        for (uint64_t ns = (1ull << bit) - 1; ns <= (1ull << bit); ns++) {
            ot_latency_clear(&h);
            ot_latency_add(&h, ns);
            ot_latency_add(&h, 1ull << 45);
            uint64_t q = ot_latency_quantile(&h, 0.25);
            if (q < ns || (double)q > (double)ns * 1.032) {
                ok(false, "%llu ns gave %llu", (unsigned long long)ns, (unsigned long long)q);
            }
        }
    }
    quantiles();
    return tap_done();
}
