/* What the progress thread sleeps on: descriptors and what to call when something happened.
 *
 * Threads: one. Lifetime: a watch is the owner's, and is taken out before its descriptor is closed;
 * that may happen inside any callback. */
#ifndef OT_COLLECTIVE_POLLER_H
#define OT_COLLECTIVE_POLLER_H

#include "base/error.h"

#include <stdint.h>
#include <sys/epoll.h>

typedef struct ot_watch {
    int fd;
    void (*ready)(void *arg, uint32_t events); /* EPOLL* */
    void *arg;
} ot_watch;

typedef struct ot_poller ot_poller;

ot_rc ot_poller_create(ot_poller **out, ot_error *err) OT_CHECKED;
void ot_poller_destroy(ot_poller *p);
ot_rc ot_poller_add(ot_poller *p, ot_watch *w, uint32_t events, ot_error *err) OT_CHECKED;
void ot_poller_change(ot_poller *p, ot_watch *w, uint32_t events);
void ot_poller_remove(ot_poller *p, ot_watch *w);
/* Sleeps until something happened, for at most timeout_us (< 0: for ever), and calls. */
void ot_poller_wait(ot_poller *p, int64_t timeout_us);

#endif
