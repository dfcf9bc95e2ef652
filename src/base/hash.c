#include "base/hash.h"

#include "base/sha256_x86.h"
#include "base/str.h"

#include <sodium.h>
#include <string.h>

typedef crypto_hash_sha256_state sha256_state; /* state[8], count of bits, buf[64] */

_Static_assert(sizeof(sha256_state) <= sizeof(((ot_sha256 *)0)->state),
               "the context holds libsodium's state");

static sha256_state *state_of(ot_sha256 *c)
{
    return (sha256_state *)(void *)c->state;
}

/* The processor's instructions are about eight times as fast as libsodium's portable code. */
static bool has_x86;

__attribute__((constructor)) static void look_at_processor(void)
{
    has_x86 = ot_sha256_x86_ok();
}

/* Takes any number of bytes into the state, whole blocks of 64 at a time. */
static void add_x86(sha256_state *s, const uint8_t *p, size_t n)
{
    size_t held = (size_t)(s->count >> 3) & 63;
    s->count += (uint64_t)n << 3;
    if (held > 0) {
        size_t k = n < 64 - held ? n : 64 - held;
        memcpy(s->buf + held, p, k);
        if (held + k < 64) {
            return;
        }
        ot_sha256_x86_blocks(s->state, s->buf, 1);
        p += k;
        n -= k;
    }
    ot_sha256_x86_blocks(s->state, p, n / 64);
    if (n % 64 > 0) {
        memcpy(s->buf, p + n / 64 * 64, n % 64);
    }
}

/* FIPS 180-4, 5.1.1: a one bit, zeros, the length in bits. */
static void done_x86(sha256_state *s, ot_digest *d)
{
    static const uint8_t padding[64] = {0x80};
    uint8_t length[8];
    size_t held = (size_t)(s->count >> 3) & 63;
    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)(s->count >> (56 - 8 * i));
    }
    add_x86(s, padding, held < 56 ? 56 - held : 120 - held);
    add_x86(s, length, sizeof length);
    for (int i = 0; i < 32; i++) {
        d->b[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
    }
}

void ot_sha256_init(ot_sha256 *c)
{
    crypto_hash_sha256_init(state_of(c));
}

void ot_sha256_add(ot_sha256 *c, const void *p, size_t n)
{
    if (n == 0) {
        return;
    }
    if (has_x86) {
        add_x86(state_of(c), p, n);
    } else {
        crypto_hash_sha256_update(state_of(c), p, n);
    }
}

ot_digest ot_sha256_done(ot_sha256 *c)
{
    ot_digest d;
    if (has_x86) {
        done_x86(state_of(c), &d);
    } else {
        crypto_hash_sha256_final(state_of(c), d.b);
    }
    return d;
}

ot_digest ot_sha256_of(const void *p, size_t n)
{
    ot_sha256 c;
    ot_sha256_init(&c);
    ot_sha256_add(&c, p, n);
    return ot_sha256_done(&c);
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
