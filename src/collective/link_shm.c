#include "base/mem.h"
#include "base/sock.h"
#include "collective/links.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING OT_SHM_RING_BYTES
#define CONTROL ((size_t)65536) /* a multiple of every page size */
#define TOTAL (CONTROL + 2 * RING)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

/* Synchronization: head is stored by the writer, tail by the reader. A side that sleeps says so and
 * looks once more; who has made a change looks whether the other sleeps: in the one order that all
 * of these have (sequentially consistent), one of them sees the other. */
struct ring {
    _Alignas(128) _Atomic uint64_t head; /* bytes written since the start */
    _Alignas(128) _Atomic uint64_t tail; /* bytes read */
    _Alignas(128) _Atomic uint32_t reader_sleeps;
    _Alignas(128) _Atomic uint32_t writer_sleeps;
};

struct control {
    struct ring rings[2];
};

typedef struct shm {
    ot_link base;
    ot_watch watch;
    ot_poller *poller;
    struct control *control;
    struct ring *in, *out;
    uint8_t *in_bytes, *out_bytes; /* each mapped twice */
    uint64_t in_tail, out_head;    /* ours; the other side only reads them */
    bool ended;                    /* the socket is at its end */
} shm;

static void wake(shm *s)
{
    const uint8_t byte = 1;
    struct iovec v = {.iov_base = (void *)(uintptr_t)&byte, .iov_len = 1};
    (void)ot_sock_writev(s->watch.fd, &v, 1); /* full of bytes: it will wake anyway */
}

static void on_ready(void *arg, uint32_t events)
{
    (void)events;
    shm *s = arg;
    uint8_t bytes[64];
    ssize_t k = ot_sock_read(s->watch.fd, bytes, sizeof bytes);
    if (k == 0 || (k < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) {
        s->ended = true;
        ot_poller_remove(s->poller, &s->watch);
    }
    if (s->base.ready != NULL) {
        s->base.ready(s->base.arg, &s->base, true, true);
    }
}

static ssize_t broken(shm *s, const char *what)
{
    (void)ot_fail(&s->base.why, OT_UNAVAILABLE, "%s", what);
    return -1;
}

/* Bytes that lie in the ring; -1 when the other side's numbers make no sense. */
static ssize_t in_ring(uint64_t head, uint64_t tail)
{
    return head - tail <= RING ? (ssize_t)(head - tail) : -1;
}

/* Room to write; 0 after having said that this side sleeps. */
static ssize_t room(shm *s)
{
    for (int look = 0; look < 2; look++) {
        uint64_t tail = atomic_load(&s->out->tail);
        ssize_t used = in_ring(s->out_head, tail);
        if (used < 0) {
            return broken(s, "the shared memory was overwritten");
        }
        if ((size_t)used < RING) {
            return (ssize_t)RING - used;
        }
        atomic_store(&s->out->writer_sleeps, 1);
    }
    return 0;
}

static ssize_t shm_send(ot_link *l, const struct iovec *iov, int n)
{
    shm *s = (shm *)l;
    if (s->ended) {
        return broken(s, "the other process has ended");
    }
    ssize_t r = room(s);
    if (r <= 0) {
        return r;
    }
    size_t left = (size_t)r, took = 0;
    for (int i = 0; i < n && left > 0; i++) {
        size_t k = OT_MIN(left, iov[i].iov_len);
        memcpy(s->out_bytes + ((s->out_head + took) & (RING - 1)), iov[i].iov_base, k);
        took += k;
        left -= k;
    }
    s->out_head += took;
    atomic_store(&s->out->head, s->out_head);
    if (atomic_load(&s->out->reader_sleeps) != 0 && atomic_exchange(&s->out->reader_sleeps, 0)) {
        wake(s);
    }
    l->sent_bytes += took;
    return (ssize_t)took;
}

static ssize_t shm_peek(ot_link *l, const void **p)
{
    shm *s = (shm *)l;
    for (int look = 0; look < 2; look++) {
        bool ended = s->ended;
        uint64_t head = atomic_load(&s->in->head);
        ssize_t have = in_ring(head, s->in_tail);
        if (have < 0) {
            return broken(s, "the shared memory was overwritten");
        }
        if (have > 0) {
            *p = s->in_bytes + (s->in_tail & (RING - 1));
            return have;
        }
        if (ended) {
            return broken(s, "the other process has ended");
        }
        atomic_store(&s->in->reader_sleeps, 1);
    }
    return 0;
}

/* A writer that sleeps is woken when half of the ring is free, not for every piece. */
static void shm_consume(ot_link *l, size_t n)
{
    shm *s = (shm *)l;
    s->in_tail += n;
    l->received_bytes += n;
    atomic_store(&s->in->tail, s->in_tail);
    if (atomic_load(&s->in->writer_sleeps) != 0) {
        uint64_t head = atomic_load(&s->in->head);
        if (head - s->in_tail <= RING / 2 && atomic_exchange(&s->in->writer_sleeps, 0)) {
            wake(s);
        }
    }
}

static ssize_t shm_recv(ot_link *l, void *p, size_t n)
{
    const void *from;
    ssize_t k = shm_peek(l, &from);
    if (k <= 0) {
        return k;
    }
    size_t take = OT_MIN(n, (size_t)k);
    memcpy(p, from, take);
    shm_consume(l, take);
    return (ssize_t)take;
}

static void shm_destroy(ot_link *l)
{
    shm *s = (shm *)l;
    if (s->watch.ready != NULL && !s->ended) {
        ot_poller_remove(s->poller, &s->watch);
    }
    close(s->watch.fd);
    if (s->control != NULL) {
        munmap(s->control, CONTROL);
    }
    if (s->in_bytes != NULL) {
        munmap(s->in_bytes, 2 * RING);
    }
    if (s->out_bytes != NULL) {
        munmap(s->out_bytes, 2 * RING);
    }
    ot_free(s);
}

static const ot_link_ops ops = {.name = "shm",
                                .send = shm_send,
                                .recv = shm_recv,
                                .peek = shm_peek,
                                .consume = shm_consume,
                                .destroy = shm_destroy};

ot_rc ot_shm_make(int *memfd_out, ot_error *err)
{
    int fd = memfd_create("overtake-link", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return ot_fail_errno(err, errno, "shared memory for a link");
    }
    if (ftruncate(fd, (off_t)TOTAL) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        int saved = errno;
        close(fd);
        return ot_fail_errno(err, saved, "shared memory of %zu bytes for a link", TOTAL);
    }
    *memfd_out = fd;
    return OT_OK;
}

/* Maps a ring twice, so that [i, i + RING) is in one piece for every i < RING. */
static uint8_t *map_ring(int fd, size_t offset)
{
    uint8_t *p = mmap(NULL, 2 * RING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        if (mmap(p + (size_t)i * RING, RING, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                 (off_t)offset) == MAP_FAILED) {
            munmap(p, 2 * RING);
            return NULL;
        }
    }
    return p;
}

static ot_rc map_all(shm *s, int memfd, bool initiator, ot_error *err)
{
    struct stat st;
    if (fstat(memfd, &st) != 0 || st.st_size != (off_t)TOTAL ||
        (fcntl(memfd, F_GET_SEALS) & SEALS) != SEALS) {
        return ot_fail(err, OT_DATA_LOSS,
                       "shared memory of a link: not a sealed file of %zu bytes; the ranks run "
                       "different versions",
                       TOTAL);
    }
    void *c = mmap(NULL, CONTROL, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (c == MAP_FAILED) {
        return ot_fail_errno(err, errno, "map shared memory of a link");
    }
    s->control = c;
    s->out = &s->control->rings[initiator ? 0 : 1];
    s->in = &s->control->rings[initiator ? 1 : 0];
    s->out_bytes = map_ring(memfd, initiator ? CONTROL : CONTROL + RING);
    s->in_bytes = map_ring(memfd, initiator ? CONTROL + RING : CONTROL);
    return s->out_bytes != NULL && s->in_bytes != NULL
               ? OT_OK
               : ot_fail_errno(err, errno, "map shared memory of a link");
}

ot_rc ot_link_shm(ot_poller *p, int sock, int memfd, bool initiator, ot_link **out, ot_error *err)
{
    shm *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        close(sock);
        close(memfd);
        return ot_fail(err, OT_EXHAUSTED, "link: out of memory");
    }
    s->base.ops = &ops;
    s->poller = p;
    s->watch.fd = sock;
    ot_rc rc = map_all(s, memfd, initiator, err);
    close(memfd);
    if (rc == OT_OK) {
        s->watch = (ot_watch){.fd = sock, .ready = on_ready, .arg = s};
        rc = ot_poller_add(p, &s->watch, EPOLLIN, err);
        if (rc != OT_OK) {
            s->watch.ready = NULL;
        }
    }
    if (rc != OT_OK) {
        shm_destroy(&s->base);
        return rc;
    }
    *out = &s->base;
    return OT_OK;
}
