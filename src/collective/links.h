/* The two kinds of link between processes: over a socket, and through memory that two processes of
 * one machine share.
 *
 * Shared memory is a file without a name (memfd) that the initiator makes and passes over their
 * socket. It holds one ring a direction; a ring is mapped twice, one mapping behind the other, so
 * that what it holds lies in one piece wherever it begins. The socket stays: a byte on it wakes the
 * other side, which said in the ring that it sleeps; its end says that the process has died.
 *
 *     page 0: struct control; then the ring initiator -> acceptor, then acceptor -> initiator
 *
 * Threads: the progress thread. Lifetime: the link owns the descriptors, also when making it
 * fails. */
#ifndef OT_COLLECTIVE_LINKS_H
#define OT_COLLECTIVE_LINKS_H

#include "collective/link.h"
#include "collective/poller.h"

#define OT_SHM_RING_BYTES ((size_t)1 << 20)

/* Over a connected, non-blocking stream socket of any family. */
ot_rc ot_link_stream(ot_poller *p, int fd, ot_link **out, ot_error *err) OT_CHECKED;
/* A memfd for two rings, which can no more be resized. */
ot_rc ot_shm_make(int *memfd_out, ot_error *err) OT_CHECKED;
ot_rc ot_link_shm(ot_poller *p, int sock, int memfd, bool initiator, ot_link **out,
                  ot_error *err) OT_CHECKED;

static inline void ot_link_destroy(ot_link *l)
{
    if (l != NULL) {
        l->ops->destroy(l);
    }
}

#endif
