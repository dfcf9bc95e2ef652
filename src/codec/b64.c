#include "codec/b64.h"

#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void ot_b64_encode(const void *p, size_t n, char *out)
{
    const uint8_t *b = p;
    for (; n > 0; b += 3, out += 4) {
        size_t take = n < 3 ? n : 3;
        uint32_t x = (uint32_t)b[0] << 16;
        x |= take > 1 ? (uint32_t)b[1] << 8 : 0;
        x |= take > 2 ? (uint32_t)b[2] : 0;
        out[0] = alphabet[x >> 18];
        out[1] = alphabet[x >> 12 & 63];
        out[2] = take > 1 ? alphabet[x >> 6 & 63] : '=';
        out[3] = take > 2 ? alphabet[x & 63] : '=';
        n -= take;
    }
}

/* 64 and more: not of the alphabet. */
static uint32_t digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? (uint32_t)(c - 'A')
           : c >= 'a' && c <= 'z' ? (uint32_t)(c - 'a') + 26
           : c >= '0' && c <= '9' ? (uint32_t)(c - '0') + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : 64;
}

bool ot_b64_decode(const char *text, size_t n, void *out, size_t *n_out)
{
    uint8_t *o = out;
    if (n % 4 == 0) {
        n -= n > 0 && text[n - 1] == '=';
        n -= n > 0 && n % 4 == 3 && text[n - 1] == '=';
    }
    if (n % 4 == 1) {
        return false;
    }
    size_t used = 0;
    uint32_t x = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t d = digit(text[i]);
        if (d > 63) {
            return false;
        }
        x = x << 6 | d;
        if (i % 4 != 0) {
            unsigned left = 6 - 2 * (unsigned)(i % 4); /* bits of x that belong to the next byte */
            o[used++] = (uint8_t)(x >> left);
        }
    }
    *n_out = used;
    return true;
}
