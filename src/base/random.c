#include "base/random.h"

#include <math.h>
#include <sodium.h>

void ot_random_bytes(void *p, size_t n)
{
    randombytes_buf(p, n);
}

void ot_rng_seed(ot_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        r->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t ot_rng_next(ot_rng *r)
{
    uint64_t *s = r->s;
    uint64_t out = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

double ot_rng_uniform(ot_rng *r)
{
    return (double)(ot_rng_next(r) >> 11) * 0x1p-53;
}

uint64_t ot_rng_below(ot_rng *r, uint64_t bound)
{
    if (bound == 0) {
        return 0;
    }
    /* Rejection of the incomplete last interval keeps it unbiased. */
    uint64_t floor = (0 - bound) % bound;
    uint64_t x;
    do {
        x = ot_rng_next(r);
    } while (x < floor);
    return x % bound;
}

double ot_rng_normal(ot_rng *r)
{
    double u = 1.0 - ot_rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * ot_rng_uniform(r));
}
