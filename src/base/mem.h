/* Memory: checked allocation with a fail-the-nth seam, arenas, the clean-up attribute.
 *
 * Threads: allocation from any; an arena belongs to one thread at a time. */
#ifndef OT_BASE_MEM_H
#define OT_BASE_MEM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All return NULL when memory is short or the product overflows. Free with ot_free. */
void *ot_alloc(size_t size);
void *ot_calloc(size_t n, size_t size);
void *ot_realloc(void *p, size_t size);
void *ot_aligned_alloc(size_t align, size_t size); /* free with ot_free */
char *ot_strdup(const char *s);
char *ot_strndup(const char *s, size_t n);
char *ot_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void ot_free(void *p);
/* Room for one more behind the `n` items of `size` bytes of a list, which grows by doubling. `list`
 * is the address of its pointer, `cap` how many it has room for. False: it has `max` (0: any
 * number), or memory is short; nothing has changed. */
bool ot_grow(void *list, size_t *cap, size_t n, size_t size, size_t max);
/* The whole pages of [p, p + n) go back to the system and are taken anew, as zeros, when they are
 * used. */
void ot_mem_give_back(void *p, size_t n);

/* Test seam: the nth allocation from now fails (1 = the next); 0 switches off. Returns how many
 * allocations were asked for since the last call. Process-wide. */
uint64_t ot_mem_fail_nth(uint64_t nth);

/* OT_AUTO(ot_free_ptr) char *s = ...; runs the clean-up when the scope ends. */
#define OT_AUTO(fn) __attribute__((cleanup(fn)))
void ot_free_ptr(void *pp); /* pp is the address of a pointer from ot_alloc */

/* An arena: bump allocation, freed or reset as a whole. Grows by chunks up to `limit` bytes. */
typedef struct ot_arena_chunk ot_arena_chunk;
typedef struct ot_arena {
    ot_arena_chunk *head; /* newest */
    size_t chunk_size;
    size_t used_total; /* bytes of all chunks */
    size_t limit;
} ot_arena;

void ot_arena_init(ot_arena *a, size_t chunk_size, size_t limit);
void ot_arena_done(ot_arena *a);
/* Forgets all allocations and keeps the first chunk: nothing is allocated again on a hot path. */
void ot_arena_reset(ot_arena *a);
/* 16-byte aligned; NULL when the limit would be passed or memory is short. */
void *ot_arena_alloc(ot_arena *a, size_t size);
void *ot_arena_calloc(ot_arena *a, size_t n, size_t size);
char *ot_arena_strndup(ot_arena *a, const char *s, size_t n);
char *ot_arena_strdup(ot_arena *a, const char *s);
char *ot_arena_printf(ot_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define OT_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define OT_MIN(a, b) ((a) < (b) ? (a) : (b))
#define OT_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
