#include "runtime/ring.h"

#include "tap.h"

#include <pthread.h>
#include <sched.h>

#define LONG_US 60000000u

static _Atomic uint32_t turn, nobody;

static void *hand_over(void *arg)
{
    (void)arg;
    ot_ring_post(&turn);
    return NULL;
}

static void test_comes(void)
{
    ot_ring_looks l = {0};
    pthread_t t;
    atomic_store(&turn, 7);
    ok(!ot_ring_look(&l, &turn, &nobody, 7, 0), "no look where none is allowed");
    ok(l.passes == 0 && l.left == 0, "which says nothing");
    ok(ot_ring_look(&l, &turn, &nobody, 6, LONG_US), "a turn that has come is seen");
    if (pthread_create(&t, NULL, hand_over, NULL) != 0) {
        skip("no thread");
        return;
    }
    l = (ot_ring_looks){0};
    ok(ot_ring_look(&l, &turn, &nobody, 7, LONG_US), "one that comes meanwhile, too");
    pthread_join(t, NULL);
}

static void test_in_vain(void)
{
    ot_ring_looks l = {0};
    static const unsigned passes[] = {1, 3, 7, 15, 31, 63, 127, 255, 255};
    bool doubles = true, passed = true;
    atomic_store(&turn, 7);
    for (unsigned i = 0; i < sizeof passes / sizeof passes[0]; i++) {
        passed &= !ot_ring_look(&l, &turn, &nobody, 7, 1);
        doubles &= l.passes == passes[i] && l.left == passes[i];
        for (unsigned k = 0; k < passes[i]; k++) {
            /* It has come, but it is not looked for. */
            passed &= !ot_ring_look(&l, &turn, &nobody, 6, LONG_US);
        }
        passed &= l.left == 0;
    }
    ok(doubles, "each look in vain doubles how many waits go without one");
    ok(passed, "these do");
}

static void test_same_processor(void)
{
    cpu_set_t before, one;
    _Atomic uint32_t cpu = 0;
    ot_ring_looks l = {0};
    ot_ring_here(&cpu);
    CPU_ZERO(&one);
    if (cpu == 0 || cpu > CPU_SETSIZE || sched_getaffinity(0, sizeof before, &before) != 0) {
        skip("the processor that this thread runs on is not told");
        return;
    }
    CPU_SET(cpu - 1, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) {
        skip("a thread cannot be bound to a processor");
        return;
    }
    atomic_store(&turn, 7);
    ok(!ot_ring_look(&l, &turn, &cpu, 6, LONG_US) && l.passes == 0,
       "no look where the other side needs this processor");
    cpu++;
    ok(ot_ring_look(&l, &turn, &cpu, 6, LONG_US), "a look where it has another");
    (void)sched_setaffinity(0, sizeof before, &before);
}

static void test_copy(void)
{
    static uint8_t from[512], to[512];
    bool right = true;
    for (size_t i = 0; i < sizeof from; i++) {
        from[i] = (uint8_t)(i * 7 + 1);
    }
    for (size_t at = 0; at < 32; at++) {
        for (size_t n = 0; n < 100; n++) {
            memset(to, 0, sizeof to);
            ot_ring_copy_far(to + at, from + n, n);
            right &= memcmp(to + at, from + n, n) == 0 && to[at + n] == 0;
            right &= at == 0 || to[at - 1] == 0;
        }
    }
    ok(right, "a copy past the caches, from and to any address, of any length");
}

int main(void)
{
    test_copy();
    test_comes();
    test_in_vain();
    test_same_processor();
    return tap_done();
}
