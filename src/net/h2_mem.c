/* The memory of HTTP/2 sessions. What is as large as a page is laid out by pages, so that a
 * connection at rest can give them back: most of a session is the buffer that it frames into and
 * the table of its streams, and at rest neither says anything. */
#include "net/h2.h"

#include <string.h>

#define PAGE 4096

/* The one buffer that a session takes when it is made is what it frames into. */
static void *noted(h2_conn *h, void *p, size_t n)
{
    if (p != NULL && h->session == NULL) {
        h->frame = (h2_block){p, n};
    }
    return p;
}

static void *take(size_t n, void *arg)
{
    return n < PAGE ? ot_alloc(n) : noted(arg, ot_aligned_alloc(PAGE, n), n);
}

static void *take_zeros(size_t n, size_t size, void *arg)
{
    h2_conn *h = arg;
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes < PAGE) {
        return ot_calloc(n, size);
    }
    void *p = ot_aligned_alloc(PAGE, bytes);
    if (p != NULL) {
        memset(p, 0, bytes);
        h->zeros = (h2_block){p, bytes};
    }
    return p;
}

static void forget(h2_conn *h, const void *p)
{
    if (p != NULL && p == h->frame.p) {
        h->frame = (h2_block){0};
    }
    if (p != NULL && p == h->zeros.p) {
        h->zeros = (h2_block){0};
    }
}

static void give(void *p, void *arg)
{
    forget(arg, p);
    ot_free(p);
}

static void *resize(void *p, size_t n, void *arg)
{
    if (p == NULL) {
        return take(n, arg);
    }
    void *moved = ot_realloc(p, n);
    if (moved != NULL) {
        forget(arg, p);
    }
    return moved;
}

nghttp2_mem h2_mem(h2_conn *h)
{
    return (nghttp2_mem){h, take, give, take_zeros, resize};
}

static bool all_zero(const h2_block *b)
{
    const char *p = b->p;
    return b->n > 0 && p[0] == 0 && memcmp(p, p + 1, b->n - 1) == 0;
}

bool h2_rest(http_conn *c)
{
    h2_conn *h = c->h2;
    if (h->rests || h->n_streams > 0 || c->out.len > 0 || h2_wants_write(c)) {
        return false;
    }
    h->rests = true;
    ot_mem_give_back(h->frame.p, h->frame.n);
    if (all_zero(&h->zeros)) {
        ot_mem_give_back(h->zeros.p, h->zeros.n);
    }
    return true;
}
