/* Base64, the standard alphabet (RFC 4648, section 4).
 *
 * Threads: any; pure. */
#ifndef OT_CODEC_B64_H
#define OT_CODEC_B64_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the text of n bytes, with padding. */
static inline size_t ot_b64_text(size_t n)
{
    return (n + 2) / 3 * 4;
}
/* Bytes that n characters stand for at most. */
static inline size_t ot_b64_bytes(size_t n)
{
    return n / 4 * 3 + 3;
}

/* Writes ot_b64_text(n) characters, no NUL. */
void ot_b64_encode(const void *p, size_t n, char *out);
/* With or without padding; false: a character that is none of the alphabet, or a length that no
 * bytes have. `out` has room for ot_b64_bytes(n) and may be the text itself. */
bool ot_b64_decode(const char *text, size_t n, void *out, size_t *n_out);

#endif
