#include "base/random.h"

#include "tap.h"

int main(void)
{
    uint8_t a[32] = {0}, b[32] = {0};
    ot_random_bytes(a, sizeof a);
    ot_random_bytes(b, sizeof b);
    ok(memcmp(a, b, sizeof a) != 0, "secrets differ");
    ot_rng r, s;
    ot_rng_seed(&r, 42);
    ot_rng_seed(&s, 42);
    bool same = true;
    for (int i = 0; i < 1000; i++) {
        same = same && ot_rng_next(&r) == ot_rng_next(&s);
    }
    ok(same, "the same seed, the same numbers");
    ot_rng_seed(&s, 43);
    ok(ot_rng_next(&r) != ot_rng_next(&s), "another seed, others");

    /* The generator's first outputs for the state 1, 2, 3, 4, from its definition. */
    ot_rng known = {.s = {1, 2, 3, 4}};
    ok(ot_rng_next(&known) == 11520 && ot_rng_next(&known) == 0 &&
           ot_rng_next(&known) == 1509978240u && ot_rng_next(&known) == 1215971899390074240u,
       "xoshiro256** reference outputs");

    double sum = 0, sum2 = 0;
    unsigned hist[7] = {0};
    bool in_range = true;
    const int n = 100000;
    for (int i = 0; i < n; i++) {
        double u = ot_rng_uniform(&r), z = ot_rng_normal(&r);
        in_range = in_range && u >= 0 && u < 1;
        sum += z;
        sum2 += z * z;
        hist[ot_rng_below(&r, 7)]++;
    }
    ok(in_range, "uniform is in [0, 1)");
    is_near(sum / n, 0, 0.02, "mean of the normal");
    is_near(sum2 / n, 1, 0.03, "variance of the normal");
    bool even = true;
    for (int i = 0; i < 7; i++) {
        even = even && hist[i] > 13500 && hist[i] < 15100;
    }
    ok(even, "below is even");
    is_int(ot_rng_below(&r, 0), 0, "bound 0");
    is_int(ot_rng_below(&r, 1), 0, "bound 1");
    ok(ot_rng_below(&r, UINT64_MAX) < UINT64_MAX, "the largest bound");
    return tap_done();
}
