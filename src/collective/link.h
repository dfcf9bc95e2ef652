/* A link: a reliable stream of bytes in both directions between two ranks.
 *
 * TCP, a pair of rings in shared memory, and the simulated network of the tests have this one
 * shape. Nothing blocks. A link tells its owner through `ready` when something came or there is
 * room again.
 *
 * Threads: a link belongs to the progress thread. Lifetime: destroyed by its owner. */
#ifndef OT_COLLECTIVE_LINK_H
#define OT_COLLECTIVE_LINK_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef struct ot_link ot_link;

typedef struct ot_link_ops {
    const char *name; /* "tcp", "shm", "sim" */
    /* Bytes taken; 0: full, `ready` comes when there is room; -1: broken, see `why`. */
    ssize_t (*send)(ot_link *l, const struct iovec *iov, int n);
    /* Bytes read; 0: nothing now; -1: broken or closed by the peer. */
    ssize_t (*recv)(ot_link *l, void *p, size_t n);
    /* What has come and lies in memory, without a copy: bytes at *p (0: nothing now; -1: broken);
     * then `consume` up to that many. NULL where the stream is not in memory. */
    ssize_t (*peek)(ot_link *l, const void **p);
    void (*consume)(ot_link *l, size_t n);
    /* Now and then: the link breaks if the other host has not been heard for long, though it was
     * asked again and again. NULL where there is no other host. */
    void (*look)(ot_link *l, uint64_t now_ns);
    void (*destroy)(ot_link *l);
} ot_link_ops;

struct ot_link {
    const ot_link_ops *ops;
    void (*ready)(void *arg, ot_link *l, bool can_read, bool can_write);
    void *arg;
    int32_t peer; /* rank in the group */
    uint64_t sent_bytes, received_bytes;
    ot_error why; /* when broken */
};

#endif
