#include "base/hash.h"

#include "base/str.h"

#include <sodium.h>
#include <string.h>

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(((ot_sha256 *)0)->state),
               "the context holds libsodium's state");

void ot_sha256_init(ot_sha256 *c)
{
    crypto_hash_sha256_init((crypto_hash_sha256_state *)(void *)c->state);
}

void ot_sha256_add(ot_sha256 *c, const void *p, size_t n)
{
    crypto_hash_sha256_update((crypto_hash_sha256_state *)(void *)c->state, p, n);
}

ot_digest ot_sha256_done(ot_sha256 *c)
{
    ot_digest d;
    crypto_hash_sha256_final((crypto_hash_sha256_state *)(void *)c->state, d.b);
    return d;
}

ot_digest ot_sha256_of(const void *p, size_t n)
{
    ot_digest d;
    crypto_hash_sha256(d.b, p, n);
    return d;
}

bool ot_digest_equal(const ot_digest *a, const ot_digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

char *ot_digest_hex(const ot_digest *d, char out[OT_DIGEST_HEX])
{
    ot_hex(d->b, sizeof d->b, out);
    return out;
}

bool ot_digest_parse(const char *hex, ot_digest *out)
{
    ot_digest d;
    if (strnlen(hex, 65) != 64 || !ot_unhex(hex, 32, d.b)) {
        return false;
    }
    *out = d;
    return true;
}

uint64_t ot_siphash(const void *p, size_t n, const uint8_t key[16])
{
    unsigned char out[crypto_shorthash_BYTES];
    crypto_shorthash(out, p, n, key);
    uint64_t h = 0;
    for (int i = 7; i >= 0; i--) {
        h = h << 8 | out[i];
    }
    return h;
}

uint64_t ot_hash_stable(const void *p, size_t n, uint64_t salt)
{
    uint8_t key[16] = "overtake";
    for (int i = 0; i < 8; i++) {
        key[8 + i] = (uint8_t)(salt >> (8 * i));
    }
    return ot_siphash(p, n, key);
}

bool ot_secret_equal(const void *a, const void *b, size_t n)
{
    return sodium_memcmp(a, b, n) == 0;
}
