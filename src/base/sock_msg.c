/* Messages with descriptors between two processes of this machine. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct end {
    int fd;
    short events; /* what is waited for */
    uint64_t until_ns;
    int pass; /* to send; taken when it came along */
} end;

static ot_rc wait_for(const end *e, ot_error *err)
{
    struct pollfd p = {.fd = e->fd, .events = e->events};
    for (;;) {
        int64_t ms = -1;
        if (e->until_ns != 0) {
            uint64_t now = ot_clock_mono_ns();
            ms = now >= e->until_ns ? 0 : (int64_t)((e->until_ns - now + 999999) / 1000000);
        }
        int n = poll(&p, 1, ms > 1000000 ? 1000000 : (int)ms);
        if (n > 0) {
            return OT_OK;
        }
        if (n < 0 && errno != EINTR) {
            return ot_fail_errno(err, errno, "message: poll");
        }
        if (e->until_ns != 0 && ot_clock_mono_ns() >= e->until_ns) {
            return ot_fail(err, OT_TIMEOUT, "message: the other process did not answer in time");
        }
    }
}

/* What came along; more than one is closed again. */
static void take_fd(struct msghdr *m, int *fd)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof got, sizeof got);
            if (*fd < 0) {
                *fd = got;
            } else {
                close(got);
            }
        }
    }
}

/* One system call of either kind; how many bytes it moved, or -1 and errno. */
static ssize_t move(end *e, struct iovec *iov)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 1};
    if (e->events == POLLIN) {
        m.msg_control = control.room;
        m.msg_controllen = sizeof control.room;
        ssize_t k = recvmsg(e->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (k >= 0) {
            take_fd(&m, &e->pass);
        }
        return k;
    }
    if (e->pass >= 0) {
        m.msg_control = control.room;
        m.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &e->pass, sizeof(int));
    }
    ssize_t k = sendmsg(e->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (k > 0) {
        e->pass = -1;
    }
    return k;
}

static ot_rc move_all(end *e, void *p, size_t n, ot_error *err)
{
    struct iovec iov = {.iov_base = p, .iov_len = n};
    while (iov.iov_len > 0) {
        ssize_t k = move(e, &iov);
        if (k > 0) {
            iov.iov_base = (char *)iov.iov_base + k;
            iov.iov_len -= (size_t)k;
        } else if (k == 0 || errno == EPIPE || errno == ECONNRESET) {
            return ot_fail(err, OT_UNAVAILABLE, "message: the other process is gone");
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            OT_TRY(wait_for(e, err));
        } else if (errno != EINTR) {
            return ot_fail_errno(err, errno, "message");
        }
    }
    return OT_OK;
}

ot_rc ot_sock_send_msg(int fd, const void *p, size_t n, int pass_fd, uint64_t until_ns,
                       ot_error *err)
{
    if (n > UINT32_MAX - 4u) {
        return ot_fail(err, OT_RANGE, "message: %zu bytes are too many", n);
    }
    uint32_t len = (uint32_t)n;
    char *whole = ot_alloc(n + sizeof len);
    if (whole == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "message: out of memory");
    }
    memcpy(whole, &len, sizeof len);
    memcpy(whole + sizeof len, p, n);
    end e = {.fd = fd, .events = POLLOUT, .until_ns = until_ns, .pass = pass_fd};
    ot_rc rc = move_all(&e, whole, n + sizeof len, err);
    ot_free(whole);
    return rc;
}

ot_rc ot_sock_recv_msg(int fd, size_t max, uint64_t until_ns, char **text_out, size_t *n_out,
                       int *fd_out, ot_error *err)
{
    end e = {.fd = fd, .events = POLLIN, .until_ns = until_ns, .pass = -1};
    uint32_t len = 0;
    char *text = NULL;
    ot_rc rc = move_all(&e, &len, sizeof len, err);
    if (rc == OT_OK && len > max) {
        rc = ot_fail(err, OT_RANGE, "message: %u bytes; the limit is %zu", len, max);
    }
    if (rc == OT_OK && (text = ot_alloc((size_t)len + 1)) == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "message: out of memory");
    }
    if (rc == OT_OK) {
        text[len] = '\0';
        rc = move_all(&e, text, len, err);
    }
    if (rc != OT_OK) {
        ot_free(text);
        if (e.pass >= 0) {
            close(e.pass);
        }
        return rc;
    }
    *text_out = text;
    *n_out = len;
    *fd_out = e.pass;
    return OT_OK;
}
