#include "runtime/ring.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define LOOKS_A_TIME 16 /* between looks at the clock */

bool ot_ring_wait(_Atomic uint32_t *turn, uint32_t seen, uint64_t until_ns)
{
    struct timespec t, *wait = NULL;
    if (atomic_load_explicit(turn, memory_order_acquire) != seen) {
        return true;
    }
    if (until_ns != 0) {
        uint64_t now = ot_clock_mono_ns();
        if (now >= until_ns) {
            return false;
        }
        t.tv_sec = (time_t)((until_ns - now) / 1000000000u);
        t.tv_nsec = (long)((until_ns - now) % 1000000000u);
        wait = &t;
    }
    (void)syscall(SYS_futex, turn, FUTEX_WAIT, seen, wait, NULL, 0);
    return true;
}

static uint32_t this_cpu(void)
{
    int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (uint32_t)cpu + 1;
}

void ot_ring_here(_Atomic uint32_t *cpu)
{
    atomic_store_explicit(cpu, this_cpu(), memory_order_relaxed);
}

bool ot_ring_is_here(const _Atomic uint32_t *cpu)
{
    return atomic_load_explicit(cpu, memory_order_relaxed) == this_cpu();
}

#ifdef __SSE2__
void ot_ring_copy_far(void *to, const void *from, size_t n)
{
    uint8_t *at = to;
    const uint8_t *data = from;
    size_t head = OT_MIN((size_t)(-(uintptr_t)at & 15), n);
    size_t blocks = (n - head) / 16;
    memcpy(at, data, head);
    at += head;
    data += head;
    for (size_t i = 0; i < blocks; i++) {
        _mm_stream_si128((__m128i *)(void *)at + i, _mm_loadu_si128((const void *)(data + 16 * i)));
    }
    memcpy(at + 16 * blocks, data + 16 * blocks, n - head - 16 * blocks);
    _mm_sfence();
}
#else
void ot_ring_copy_far(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
}
#endif

void ot_ring_post(_Atomic uint32_t *turn)
{
    atomic_fetch_add_explicit(turn, 1, memory_order_release);
    (void)syscall(SYS_futex, turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* How often this thread had to make room for another. */
static long preemptions(void)
{
    struct rusage u;
    return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nivcsw : 0;
}

static bool look(const _Atomic uint32_t *turn, uint32_t seen, uint32_t us)
{
    uint64_t until = ot_clock_mono_ns() + UINT64_C(1000) * us;
    do {
        for (unsigned i = 0; i < LOOKS_A_TIME; i++) {
            if (atomic_load_explicit(turn, memory_order_acquire) != seen) {
                return true;
            }
            pause_briefly();
        }
    } while (ot_clock_mono_ns() < until);
    return false;
}

bool ot_ring_look(ot_ring_looks *l, _Atomic uint32_t *turn, const _Atomic uint32_t *cpu,
                  uint32_t seen, uint32_t us)
{
    if (us == 0 || ot_ring_is_here(cpu)) {
        return false;
    }
    if (l->left > 0) {
        l->left--;
        return false;
    }
    long before = preemptions();
    bool came = look(turn, seen, us);
    unsigned more = OT_MIN(2u * l->passes + 1, (unsigned)UINT8_MAX);
    l->passes = came && preemptions() == before ? 0 : (uint8_t)more;
    l->left = l->passes;
    return came;
}

static ot_rc check_tensor(const ot_ring_tensor *t, const ot_ring_expect *e, uint32_t i,
                          overtake_output *out, ot_error *err)
{
    const ot_tensor_spec *spec = e->specs[i];
    size_t want;
    if (t->rank < 0 || t->rank > OT_RANK_MAX || t->dtype != (int32_t)spec->dtype) {
        return ot_fail(err, OT_INTERNAL, "output '%s' has type %d and %d axes; it is %s",
                       spec->name, t->dtype, t->rank, ot_dtype_name(spec->dtype));
    }
    for (int k = 0; k < t->rank; k++) {
        if (t->dims[k] < 0) {
            return ot_fail(err, OT_INTERNAL, "output '%s' has size %lld on axis %d", spec->name,
                           (long long)t->dims[k], k);
        }
    }
    if (t->offset > e->size || t->size > e->size - t->offset || t->offset % OT_RING_ALIGN != 0) {
        return ot_fail(err, OT_INTERNAL,
                       "output '%s' lies at %llu + %llu of a segment of %llu bytes", spec->name,
                       (unsigned long long)t->offset, (unsigned long long)t->size,
                       (unsigned long long)e->size);
    }
    if (spec->dtype != OT_DT_BYTES &&
        (!ot_shape_bytes(spec->dtype, t->dims, t->rank, &want) || want != t->size)) {
        return ot_fail(err, OT_INTERNAL, "output '%s' has %llu bytes, which is not its shape's",
                       spec->name, (unsigned long long)t->size);
    }
    *out = (overtake_output){
        .name = spec->name,
        .dtype = t->dtype,
        .rank = t->rank,
        .memory_kind = OVERTAKE_MEM_HOST,
        .data = (const uint8_t *)e->segment + t->offset,
        .size_bytes = t->size,
    };
    memcpy(out->dims, t->dims, sizeof out->dims);
    return OT_OK;
}

ot_rc ot_ring_check(const ot_ring_answer *a, const ot_ring_expect *e, overtake_output *outputs_out,
                    const int32_t **parts_out, ot_error *err)
{
    if (a->kind != OT_ANSWER_RESPONSE) {
        return ot_fail(err, OT_INTERNAL, "an answer of kind %u", a->kind);
    }
    if (a->ticket != e->ticket) {
        return ot_fail(err, OT_INTERNAL, "it answered run %llu instead of %llu",
                       (unsigned long long)a->ticket, (unsigned long long)e->ticket);
    }
    *parts_out = NULL;
    if (a->status != OVERTAKE_OK) {
        return OT_OK; /* nothing else is looked at */
    }
    if (a->n_outputs != e->n_outputs) {
        return ot_fail(err, OT_INTERNAL, "it gave %u outputs; %u were asked for", a->n_outputs,
                       e->n_outputs);
    }
    for (uint32_t i = 0; i < e->n_outputs; i++) {
        OT_TRY(check_tensor(&a->outputs[i], e, i, &outputs_out[i], err));
    }
    if (a->has_parts != 0 && e->n_parts > 0) {
        uint64_t bytes = (uint64_t)e->n_parts * sizeof(int32_t);
        if (a->parts_offset > e->size || bytes > e->size - a->parts_offset ||
            a->parts_offset % OT_RING_ALIGN != 0) {
            return ot_fail(err, OT_INTERNAL, "codes of %u parts lie at %llu of %llu bytes",
                           e->n_parts, (unsigned long long)a->parts_offset,
                           (unsigned long long)e->size);
        }
        *parts_out = (const int32_t *)(const void *)((const uint8_t *)e->segment + a->parts_offset);
    }
    return OT_OK;
}

ot_rc ot_ring_memory(const char *name, uint64_t size, bool read_only, int *fd_out, void **at_out,
                     ot_error *err)
{
    if (size == 0 || size > OT_RING_SEGMENT_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%llu bytes of shared memory; the limit is %llu",
                       (unsigned long long)size, (unsigned long long)OT_RING_SEGMENT_MAX);
    }
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        ot_rc rc =
            ot_fail_errno(err, errno, "shared memory of %llu bytes", (unsigned long long)size);
        ot_fd_close(&fd);
        return rc;
    }
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    if (at == MAP_FAILED || fcntl(fd, F_ADD_SEALS, seals) != 0) {
        ot_rc rc =
            ot_fail_errno(err, errno, "shared memory of %llu bytes", (unsigned long long)size);
        if (at != MAP_FAILED) {
            munmap(at, size);
        }
        ot_fd_close(&fd);
        return rc;
    }
    /* Linux 5.1; before it the worker could write over what it is given, which harms only itself.
     */
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | (read_only ? F_SEAL_FUTURE_WRITE : 0));
    *fd_out = fd;
    *at_out = at;
    return OT_OK;
}
