#include "base/mem.h"

#include "tap.h"

#include <stdlib.h>

static void test_alloc(void)
{
    void *p = ot_alloc(0);
    ok(p != NULL, "zero bytes are an allocation");
    ot_free(p);
    /* In a variable, so that the compiler does not see through it. */
    volatile size_t huge = SIZE_MAX / 2 + 1;
    ok(ot_calloc(huge, 4) == NULL, "a product that overflows is refused");
    OT_AUTO(ot_free_ptr) char *s = ot_asprintf("%s-%d", "a", 3);
    is_str(s, "a-3", "asprintf");
    OT_AUTO(ot_free_ptr) char *t = ot_strndup("hello", 2);
    is_str(t, "he", "strndup cuts");
    OT_AUTO(ot_free_ptr) char *u = ot_strndup("hi", 99);
    is_str(u, "hi", "strndup stops at the end");
    void *a = ot_aligned_alloc(64, 100);
    ok(a != NULL && (uintptr_t)a % 64 == 0, "alignment");
    ot_free(a);
    ot_free(NULL);
}

static void test_fail_nth(void)
{
    (void)ot_mem_fail_nth(2);
    void *a = ot_alloc(8), *b = ot_alloc(8), *c = ot_alloc(8);
    ok(a != NULL && b == NULL && c != NULL, "exactly the second fails");
    is_int(ot_mem_fail_nth(0), 3, "and three were counted");
    ot_free(a);
    ot_free(c);
    b = ot_alloc(8);
    ok(b != NULL, "off again");
    ot_free(b);
}

static void test_arena(void)
{
    ot_arena a;
    ot_arena_init(&a, 0, 64 << 10);
    char *p = ot_arena_alloc(&a, 1), *q = ot_arena_alloc(&a, 1);
    ok(p != NULL && q - p == 16, "16-byte steps");
    ok((uintptr_t)p % 16 == 0, "16-byte alignment");
    is_str(ot_arena_strdup(&a, "x"), "x", "strdup");
    is_str(ot_arena_strndup(&a, "xyz", 2), "xy", "strndup");
    is_str(ot_arena_printf(&a, "%d!", 42), "42!", "printf");
    unsigned char *z = ot_arena_calloc(&a, 100, 3);
    bool zero = z != NULL;
    for (int i = 0; zero && i < 300; i++) {
        zero = z[i] == 0;
    }
    ok(zero, "calloc is zero, also beyond one chunk");
    volatile size_t huge = SIZE_MAX / 2 + 1;
    ok(ot_arena_calloc(&a, huge, 4) == NULL, "calloc overflow");
    ok(ot_arena_alloc(&a, SIZE_MAX) == NULL, "a size that would wrap");
    ok(ot_arena_alloc(&a, 65 << 10) == NULL, "one allocation beyond the limit");
    size_t got = 0;
    while (ot_arena_alloc(&a, 1000) != NULL && got < 1000) {
        got++;
    }
    ok(got > 10 && got < 66, "many allocations stop at the limit (%zu)", got);
    ot_arena_reset(&a);
    size_t kept = a.used_total;
    ok(ot_arena_alloc(&a, 100) != NULL && a.used_total == kept, "reset keeps the first chunk");
    ot_arena_done(&a);
    ot_arena_reset(&a);
    ok(a.head == NULL && ot_arena_alloc(&a, 8) != NULL, "an arena can be used after done");
    ot_arena_done(&a);
    (void)ot_mem_fail_nth(1);
    void *none = ot_arena_alloc(&a, 8);
    (void)ot_mem_fail_nth(0);
    ok(none == NULL && a.used_total == 0, "no memory: NULL and nothing counted");
    ot_arena_done(&a);
}

static void test_grow(void)
{
    int *list = NULL;
    size_t cap = 0, n = 0;
    while (n < 1000 && ot_grow(&list, &cap, n, sizeof *list, 700)) {
        list[n] = (int)n;
        n++;
    }
    is_int((long long)n, 700, "a list grows up to its limit");
    ok(list[0] == 0 && list[699] == 699, "and keeps what it has");
    is_int((long long)cap, 700, "its room");
    ot_free(list);
    int *other = NULL;
    cap = n = 0;
    ok(ot_grow(&other, &cap, n, sizeof *other, 0) && cap > 0, "one without a limit");
    size_t had = cap;
    (void)ot_mem_fail_nth(1);
    ok(!ot_grow(&other, &cap, cap, sizeof *other, 0) && cap == had && other != NULL,
       "is as it was when memory is short");
    (void)ot_mem_fail_nth(0);
    ok(!ot_grow(&other, &cap, cap, SIZE_MAX / 8, 0), "a size that would wrap");
    ot_free(other);
}

int main(void)
{
    test_alloc();
    test_grow();
    test_fail_nth();
    test_arena();
    return tap_done();
}
