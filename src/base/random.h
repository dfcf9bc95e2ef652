/* The random seam: secrets from the system, everything else from a seeded generator.
 *
 * Threads: ot_random_bytes from any; a generator belongs to one thread. */
#ifndef OT_BASE_RANDOM_H
#define OT_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Cryptographic bytes for tokens, ids and keys (libsodium). */
void ot_random_bytes(void *p, size_t n);

/* xoshiro256** seeded through splitmix64 (Blackman, Vigna 2018): fast and reproducible; not for
 * secrets. */
typedef struct ot_rng {
    uint64_t s[4];
} ot_rng;

void ot_rng_seed(ot_rng *r, uint64_t seed);
uint64_t ot_rng_next(ot_rng *r);
double ot_rng_uniform(ot_rng *r);                 /* [0, 1) with 53 bits */
uint64_t ot_rng_below(ot_rng *r, uint64_t bound); /* [0, bound), unbiased; 0 for bound 0 */
double ot_rng_normal(ot_rng *r);

#endif
