/* The chunked transfer coding. */
#include "net/http.h"

#include <string.h>

const char ot_http_body_too_large[] = "body is larger than the limit";

/* Extensions and trailers carry nothing for us; what they may cost is bounded. */
#define EXTRA_MAX 16384
#define DIGITS_MAX 15

enum {
    SIZE,      /* hex digits of the size */
    EXTENSION, /* after the digits, until CR */
    SIZE_LF,   /* LF after the size line */
    DATA,      /* `left` bytes */
    DATA_CR,   /* CR LF after the data */
    DATA_LF,
    TRAILER,    /* start of a trailer line or of the final CR LF */
    TRAILER_IN, /* inside a trailer line */
    TRAILER_LF,
    LAST_LF,
    END,
};

static int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_text(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static const char *on_size(ot_http_chunks *c, unsigned char ch)
{
    int v = hex_value(ch);
    if (v >= 0) {
        if (c->digits == DIGITS_MAX) {
            return "chunk size has too many digits";
        }
        c->left = c->left * 16 + (unsigned)v;
        c->digits++;
        return NULL;
    }
    if (c->digits == 0) {
        return "chunk size is not a hexadecimal number";
    }
    if (ch == '\r') {
        c->state = SIZE_LF;
    } else if (ch == ';' || ch == ' ' || ch == '\t') {
        c->state = EXTENSION;
    } else {
        return "chunk size is not a hexadecimal number";
    }
    return NULL;
}

static const char *expect(ot_http_chunks *c, unsigned char ch, unsigned char want, uint8_t next)
{
    if (ch != want) {
        return "chunk does not end with CR LF";
    }
    c->state = next;
    return NULL;
}

static const char *on_text(ot_http_chunks *c, unsigned char ch, uint8_t at_cr)
{
    if (ch == '\r') {
        c->state = at_cr;
        return NULL;
    }
    if (!is_text(ch)) {
        return "control character in a chunk extension or trailer";
    }
    return ++c->extra > EXTRA_MAX ? "chunk extensions and trailers are too long" : NULL;
}

/* One byte of framing. */
static const char *on_byte(ot_http_chunks *c, unsigned char ch)
{
    const char *bad;
    switch (c->state) {
    case SIZE:
        return on_size(c, ch);
    case EXTENSION:
        return on_text(c, ch, SIZE_LF);
    case SIZE_LF:
        bad = expect(c, ch, '\n', c->left != 0 ? DATA : TRAILER);
        c->digits = 0;
        return bad;
    case DATA_CR:
        return expect(c, ch, '\r', DATA_LF);
    case DATA_LF:
        return expect(c, ch, '\n', SIZE);
    case TRAILER:
        if (ch == '\r') {
            c->state = LAST_LF;
            return NULL;
        }
        if (ch == ' ' || ch == '\t' || ch == ':') {
            return "malformed trailer";
        }
        c->state = TRAILER_IN;
        return on_text(c, ch, TRAILER_LF);
    case TRAILER_IN:
        return on_text(c, ch, TRAILER_LF);
    case TRAILER_LF:
        return expect(c, ch, '\n', TRAILER);
    default: /* LAST_LF */
        return expect(c, ch, '\n', END);
    }
}

ot_http_step ot_http_chunks_feed(ot_http_chunks *c, const char *in, size_t n, char *out,
                                 uint64_t room, size_t *read_out, size_t *written_out,
                                 const char **reason)
{
    size_t at = 0, written = 0;
    while (at < n && c->state != END) {
        if (c->state != DATA) {
            const char *bad = on_byte(c, (unsigned char)in[at]);
            if (bad == NULL && c->state == DATA && c->left > room - written) {
                bad = ot_http_body_too_large;
            }
            if (bad != NULL) {
                *reason = bad;
                return OT_HTTP_BAD;
            }
            at++;
            continue;
        }
        size_t k = (uint64_t)(n - at) < c->left ? n - at : (size_t)c->left;
        if (out + written != in + at) {
            memmove(out + written, in + at, k);
        }
        at += k;
        written += k;
        c->left -= k;
        if (c->left == 0) {
            c->state = DATA_CR;
        }
    }
    *read_out = at;
    *written_out = written;
    return c->state == END ? OT_HTTP_DONE : OT_HTTP_MORE;
}
