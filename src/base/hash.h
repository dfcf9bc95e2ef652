/* Digests and keyed hashes, over libsodium.
 *
 * Threads: any; a context belongs to one thread at a time. */
#ifndef OT_BASE_HASH_H
#define OT_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_digest {
    uint8_t b[32]; /* SHA-256 (FIPS 180-4) */
} ot_digest;

#define OT_DIGEST_HEX 65 /* 64 digits + NUL */

typedef struct ot_sha256 {
    _Alignas(8) unsigned char state[128];
} ot_sha256;

void ot_sha256_init(ot_sha256 *c);
void ot_sha256_add(ot_sha256 *c, const void *p, size_t n);
ot_digest ot_sha256_done(ot_sha256 *c);
ot_digest ot_sha256_of(const void *p, size_t n);

bool ot_digest_equal(const ot_digest *a, const ot_digest *b);
char *ot_digest_hex(const ot_digest *d, char out[OT_DIGEST_HEX]); /* returns out */
bool ot_digest_parse(const char *hex, ot_digest *out);            /* exactly 64 lower-case digits */

/* SipHash-2-4 (Aumasson, Bernstein 2012) of n bytes under a 16-byte key. */
uint64_t ot_siphash(const void *p, size_t n, const uint8_t key[16]);
/* The same under a fixed key: for placement (held-out rows, shares), where every process must
 * agree; `salt` separates the uses. */
uint64_t ot_hash_stable(const void *p, size_t n, uint64_t salt);
/* Compares secrets in time that depends on n only. */
bool ot_secret_equal(const void *a, const void *b, size_t n);

#endif
