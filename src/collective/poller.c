#include "collective/poller.h"

#include "base/mem.h"

#include <errno.h>
#include <unistd.h>

#define BATCH 64

struct ot_poller {
    int fd;
    int n; /* of the events that are being called now */
    struct epoll_event events[BATCH];
};

ot_rc ot_poller_create(ot_poller **out, ot_error *err)
{
    ot_poller *p = ot_calloc(1, sizeof *p);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "poller: out of memory");
    }
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->fd < 0) {
        int saved = errno;
        ot_free(p);
        return ot_fail_errno(err, saved, "epoll");
    }
    *out = p;
    return OT_OK;
}

void ot_poller_destroy(ot_poller *p)
{
    if (p != NULL) {
        close(p->fd);
        ot_free(p);
    }
}

ot_rc ot_poller_add(ot_poller *p, ot_watch *w, uint32_t events, ot_error *err)
{
    struct epoll_event e = {.events = events, .data = {.ptr = w}};
    return epoll_ctl(p->fd, EPOLL_CTL_ADD, w->fd, &e) == 0 ? OT_OK
                                                           : ot_fail_errno(err, errno, "epoll");
}

void ot_poller_change(ot_poller *p, ot_watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data = {.ptr = w}};
    (void)epoll_ctl(p->fd, EPOLL_CTL_MOD, w->fd, &e);
}

void ot_poller_remove(ot_poller *p, ot_watch *w)
{
    (void)epoll_ctl(p->fd, EPOLL_CTL_DEL, w->fd, NULL);
    for (int i = 0; i < p->n; i++) {
        if (p->events[i].data.ptr == w) {
            p->events[i].data.ptr = NULL;
        }
    }
}

void ot_poller_wait(ot_poller *p, int64_t timeout_us)
{
    int64_t ms = timeout_us < 0 ? -1 : OT_MIN((timeout_us + 999) / 1000, 1000000);
    p->n = epoll_wait(p->fd, p->events, BATCH, (int)ms);
    for (int i = 0; i < p->n; i++) {
        ot_watch *w = p->events[i].data.ptr;
        if (w != NULL) {
            w->ready(w->arg, p->events[i].events);
        }
    }
    p->n = 0;
}
