#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "collective/links.h"

#include <errno.h>
#include <unistd.h>

#define LINGER_MS 200
/* As long as the meeting point gives a host. A stopped process's kernel goes on answering. */
#define SILENT_S 8

typedef struct stream {
    ot_link base;
    ot_watch watch;
    ot_poller *poller;
    uint64_t silent_ns; /* nothing is answered since then at least; 0 */
    bool silent;        /* given up for that */
} stream;

static void on_ready(void *arg, uint32_t events)
{
    stream *s = arg;
    bool end = (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0;
    if (s->base.ready != NULL) {
        s->base.ready(s->base.arg, &s->base, end || (events & EPOLLIN) != 0,
                      end || (events & EPOLLOUT) != 0);
    }
}

static ssize_t broken(stream *s, int e)
{
    if (e == EAGAIN || e == EWOULDBLOCK) {
        return 0;
    }
    (void)ot_fail_errno(&s->base.why, e, "the connection broke");
    return -1;
}

static ssize_t stream_send(ot_link *l, const struct iovec *iov, int n)
{
    stream *s = (stream *)l;
    if (s->silent) {
        return -1;
    }
    ssize_t k = ot_sock_writev(s->watch.fd, iov, n);
    if (k < 0) {
        return broken(s, errno);
    }
    l->sent_bytes += (uint64_t)k;
    return k;
}

static ssize_t stream_recv(ot_link *l, void *p, size_t n)
{
    stream *s = (stream *)l;
    if (s->silent) {
        return -1;
    }
    ssize_t k = ot_sock_read(s->watch.fd, p, n);
    if (k < 0) {
        return broken(s, errno);
    }
    if (k == 0) {
        (void)ot_fail(&l->why, OT_UNAVAILABLE, "the connection was closed by the other side");
        return -1;
    }
    l->received_bytes += (uint64_t)k;
    return k;
}

static void stream_look(ot_link *l, uint64_t now_ns)
{
    stream *s = (stream *)l;
    unsigned ms = l->why.rc == OT_OK ? ot_sock_silent_ms(s->watch.fd) : 0;
    s->silent_ns = ms == 0 ? 0 : s->silent_ns == 0 ? now_ns : s->silent_ns;
    if (ms > SILENT_S * 1000 && now_ns - s->silent_ns > SILENT_S * (uint64_t)1000000000) {
        (void)ot_fail(&l->why, OT_UNAVAILABLE, "nothing has come back from its host for %d s",
                      SILENT_S);
        s->silent = true;
        on_ready(s, EPOLLHUP);
    }
}

/* What the other side has not acknowledged is lost when it still sends and this side no longer
 * reads: the kernel then resets the connection. */
static void linger(const stream *s)
{
    for (int i = 0; i < LINGER_MS && ot_sock_unsent(s->watch.fd) > 0; i++) {
        ot_clock_sleep_us(1000);
    }
}

static void stream_destroy(ot_link *l)
{
    stream *s = (stream *)l;
    if (l->why.rc == OT_OK) {
        linger(s);
    }
    ot_poller_remove(s->poller, &s->watch);
    close(s->watch.fd);
    ot_free(s);
}

static const ot_link_ops ops = {.name = "tcp",
                                .send = stream_send,
                                .recv = stream_recv,
                                .look = stream_look,
                                .destroy = stream_destroy};

ot_rc ot_link_stream(ot_poller *p, int fd, ot_link **out, ot_error *err)
{
    stream *s = ot_calloc(1, sizeof *s);
    ot_rc rc = OT_EXHAUSTED;
    if (s == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "link: out of memory");
    } else {
        s->base.ops = &ops;
        s->poller = p;
        s->watch = (ot_watch){.fd = fd, .ready = on_ready, .arg = s};
        rc = ot_poller_add(p, &s->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, err);
    }
    if (rc != OT_OK) {
        close(fd);
        ot_free(s);
        return rc;
    }
    *out = &s->base;
    return OT_OK;
}
