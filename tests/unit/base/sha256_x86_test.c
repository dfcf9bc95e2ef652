/* The processor's SHA-256 against libsodium's: every length around the block's, every way to cut.
 */
#include "base/sha256_x86.h"

#include "base/hash.h"
#include "base/random.h"
#include "tap.h"

#include <sodium.h>

int main(void)
{
    if (!ot_sha256_x86_ok()) {
        skip("this processor has no SHA instructions; ot_sha256 is libsodium's");
        return tap_done();
    }
    static unsigned char bytes[5000];
    ot_rng rng;
    ot_rng_seed(&rng, 7);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)ot_rng_next(&rng);
    }
    size_t wrong = 0, wrong_cut = 0;
    for (size_t n = 0; n <= 300; n++) {
        ot_digest want, got = ot_sha256_of(bytes + n % 7, n);
        crypto_hash_sha256(want.b, bytes + n % 7, n);
        wrong += !ot_digest_equal(&want, &got);
    }
    is_int(wrong, 0, "lengths 0 to 300 agree with libsodium");
    for (int round = 0; round < 500; round++) {
        ot_digest want, got;
        size_t n = (size_t)ot_rng_below(&rng, sizeof bytes), at = 0;
        ot_sha256 c;
        ot_sha256_init(&c);
        while (at < n) {
            size_t k = 1 + (size_t)ot_rng_below(&rng, ot_rng_below(&rng, 2) == 0 ? 200 : 20);
            k = k < n - at ? k : n - at;
            ot_sha256_add(&c, bytes + at, k);
            at += k;
        }
        got = ot_sha256_done(&c);
        crypto_hash_sha256(want.b, bytes, n);
        wrong_cut += !ot_digest_equal(&want, &got);
    }
    is_int(wrong_cut, 0, "500 inputs in pieces agree with libsodium");
    return tap_done();
}
