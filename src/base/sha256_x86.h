/* SHA-256 blocks with the SHA extensions of x86-64; the scalar twin is libsodium's (hash.c).
 *
 * Threads: any. */
#ifndef OT_BASE_SHA256_X86_H
#define OT_BASE_SHA256_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool ot_sha256_x86_ok(void); /* this processor has them */
/* Folds `n` blocks of 64 bytes into the state h0..h7. Only where ot_sha256_x86_ok. */
void ot_sha256_x86_blocks(uint32_t h[8], const uint8_t *p, size_t n);

#endif
