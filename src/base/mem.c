#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Synchronization: atomics; set by tests before the code under test runs. */
static _Atomic uint64_t alloc_seen;
static _Atomic uint64_t alloc_fail_at;
static _Atomic bool alloc_watch;

static bool must_fail(void)
{
    if (!atomic_load_explicit(&alloc_watch, memory_order_relaxed)) {
        return false;
    }
    uint64_t n = atomic_fetch_add(&alloc_seen, 1) + 1;
    return n == atomic_load(&alloc_fail_at);
}

uint64_t ot_mem_fail_nth(uint64_t nth)
{
    uint64_t seen = atomic_exchange(&alloc_seen, 0);
    atomic_store(&alloc_fail_at, nth);
    atomic_store(&alloc_watch, nth != 0);
    return seen;
}

void *ot_alloc(size_t size)
{
    return must_fail() ? NULL : malloc(size ? size : 1);
}

void *ot_calloc(size_t n, size_t size)
{
    size_t bytes;
    if (must_fail() || __builtin_mul_overflow(n, size, &bytes)) {
        return NULL;
    }
    return calloc(n ? n : 1, size ? size : 1);
}

void *ot_realloc(void *p, size_t size)
{
    return must_fail() ? NULL : realloc(p, size ? size : 1);
}

void *ot_aligned_alloc(size_t align, size_t size)
{
    void *p = NULL;
    if (must_fail() || posix_memalign(&p, align, size ? size : 1) != 0) {
        return NULL;
    }
    return p;
}

bool ot_grow(void *list, size_t *cap, size_t n, size_t size, size_t max)
{
    void *p;
    if (n < *cap) {
        return true;
    }
    size_t more = *cap < 8 ? 16 : 2 * *cap;
    more = max != 0 ? OT_MIN(more, max) : more;
    if (n >= more || more > SIZE_MAX / size) {
        return false;
    }
    memcpy(&p, list, sizeof p);
    p = ot_realloc(p, more * size);
    if (p == NULL) {
        return false;
    }
    memcpy(list, &p, sizeof p);
    *cap = more;
    return true;
}

void ot_mem_give_back(void *p, size_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)p;
    uintptr_t from = (at + page - 1) / page * page, to = (at + n) / page * page;
    if (p != NULL && from < to) {
        (void)!madvise((char *)p + (from - at), to - from, MADV_DONTNEED);
    }
}

char *ot_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = ot_alloc(len + 1);
    if (p != NULL) {
        memcpy(p, s, len);
        p[len] = 0;
    }
    return p;
}

char *ot_strdup(const char *s)
{
    return ot_strndup(s, strlen(s));
}

char *ot_asprintf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : ot_alloc((size_t)n + 1);
    if (p != NULL) {
        va_start(ap, fmt);
        vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    return p;
}

void ot_free(void *p)
{
    free(p);
}

void ot_free_ptr(void *pp)
{
    void *p;
    memcpy(&p, pp, sizeof p);
    free(p);
}

struct ot_arena_chunk {
    ot_arena_chunk *next;
    size_t size, used;
    _Alignas(16) unsigned char data[];
};

void ot_arena_init(ot_arena *a, size_t chunk_size, size_t limit)
{
    *a = (ot_arena){.chunk_size = chunk_size < 256 ? 256 : chunk_size, .limit = limit};
}

void ot_arena_done(ot_arena *a)
{
    for (ot_arena_chunk *c = a->head; c != NULL;) {
        ot_arena_chunk *next = c->next;
        ot_free(c);
        c = next;
    }
    a->head = NULL;
    a->used_total = 0;
}

void ot_arena_reset(ot_arena *a)
{
    ot_arena_chunk *c = a->head;
    if (c == NULL) {
        return;
    }
    while (c->next != NULL) {
        ot_arena_chunk *next = c->next;
        a->used_total -= c->size;
        ot_free(c);
        c = next;
    }
    c->used = 0;
    a->head = c;
}

void *ot_arena_alloc(ot_arena *a, size_t size)
{
    if (size > SIZE_MAX - 64) {
        return NULL;
    }
    size_t need = (size + 15) & ~(size_t)15;
    ot_arena_chunk *c = a->head;
    if (c == NULL || c->size - c->used < need) {
        size_t body = need > a->chunk_size ? need : a->chunk_size;
        if (body > a->limit || a->used_total > a->limit - body) {
            return NULL;
        }
        ot_arena_chunk *n = ot_alloc(sizeof *n + body);
        if (n == NULL) {
            return NULL;
        }
        *n = (ot_arena_chunk){.next = c, .size = body};
        a->used_total += body;
        a->head = c = n;
    }
    void *p = c->data + c->used;
    c->used += need;
    return p;
}

void *ot_arena_calloc(ot_arena *a, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        return NULL;
    }
    void *p = ot_arena_alloc(a, bytes);
    if (p != NULL) {
        memset(p, 0, bytes);
    }
    return p;
}

char *ot_arena_strndup(ot_arena *a, const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = ot_arena_alloc(a, len + 1);
    if (p != NULL) {
        memcpy(p, s, len);
        p[len] = 0;
    }
    return p;
}

char *ot_arena_strdup(ot_arena *a, const char *s)
{
    return ot_arena_strndup(a, s, strlen(s));
}

char *ot_arena_printf(ot_arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : ot_arena_alloc(a, (size_t)n + 1);
    if (p != NULL) {
        va_start(ap, fmt);
        vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    return p;
}
