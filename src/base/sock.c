#include "base/sock.h"

#include "base/mem.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SILENT_TRIES 3

ot_rc ot_addr_parse(const char *s, ot_addr *out, ot_error *err)
{
    ot_addr a = {0};
    const char *colon = strrchr(s, ':');
    if (ot_has_prefix(s, "unix:")) {
        struct sockaddr_un un;
        if (s[5] == 0 || strlen(s + 5) >= sizeof un.sun_path) {
            return ot_fail(err, OT_INVALID,
                           "address '%.120s': a Unix socket path has 1 to %zu bytes", s,
                           sizeof un.sun_path - 1);
        }
        a.is_unix = true;
        snprintf(a.host, sizeof a.host, "%s", s + 5);
        *out = a;
        return OT_OK;
    }
    int64_t port;
    if (colon == NULL || ot_parse_i64(colon + 1, &port, NULL) != OT_OK || port < 0 ||
        port > 65535) {
        return ot_fail(err, OT_INVALID, "address '%.120s' is not HOST:PORT, :PORT or unix:PATH", s);
    }
    size_t n = (size_t)(colon - s);
    const char *host = s;
    if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
        host = s + 1;
        n -= 2;
    }
    if (n >= sizeof a.host) {
        return ot_fail(err, OT_INVALID, "address '%.120s...': host longer than %zu bytes", s,
                       sizeof a.host - 1);
    }
    memcpy(a.host, n ? host : "127.0.0.1", n ? n : 9);
    a.port = (uint16_t)port;
    *out = a;
    return OT_OK;
}

char *ot_addr_format(const ot_addr *a, char out[300])
{
    if (a->is_unix) {
        snprintf(out, 300, "unix:%s", a->host);
    } else {
        bool v6 = strchr(a->host, ':') != NULL;
        snprintf(out, 300, "%s%s%s:%u", v6 ? "[" : "", a->host, v6 ? "]" : "", a->port);
    }
    return out;
}

bool ot_addr_is_loopback(const ot_addr *a)
{
    return a->is_unix || ot_has_prefix(a->host, "127.") || strcmp(a->host, "::1") == 0 ||
           strcmp(a->host, "localhost") == 0;
}

struct target {
    struct sockaddr_storage ss;
    socklen_t len;
    int family;
};

static ot_rc resolve(const ot_addr *a, bool passive, struct target *t, ot_error *err)
{
    memset(t, 0, sizeof *t);
    if (a->is_unix) {
        struct sockaddr_un *un = (struct sockaddr_un *)(void *)&t->ss;
        un->sun_family = AF_UNIX;
        size_t n = strnlen(a->host, sizeof un->sun_path - 1);
        memcpy(un->sun_path, a->host, n);
        t->len = sizeof *un;
        if (a->host[0] == '@') {
            un->sun_path[0] = '\0';
            t->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
        }
        t->family = AF_UNIX;
        return OT_OK;
    }
    char port[8];
    snprintf(port, sizeof port, "%u", a->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0};
    struct addrinfo *res = NULL;
    int rc = getaddrinfo(a->host, port, &hints, &res);
    if (rc != 0) {
        return ot_fail(err, OT_NOT_FOUND, "host '%s': %s", a->host, gai_strerror(rc));
    }
    memcpy(&t->ss, res->ai_addr, res->ai_addrlen);
    t->len = res->ai_addrlen;
    t->family = res->ai_family;
    freeaddrinfo(res);
    return OT_OK;
}

/* A socket file that nobody answers on is left over from a process that died. */
static void unlink_stale(const struct target *t, const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        if (connect(fd, (const struct sockaddr *)(const void *)&t->ss, t->len) != 0 &&
            errno == ECONNREFUSED) {
            unlink(path);
        }
        close(fd);
    }
}

ot_rc ot_sock_listen(const ot_addr *a, int backlog, int *fd_out, ot_error *err)
{
    struct target t;
    OT_TRY(resolve(a, true, &t, err));
    if (a->is_unix && a->host[0] != '@') {
        unlink_stale(&t, a->host);
    }
    int fd = socket(t.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    char text[300];
    if (fd < 0) {
        return ot_fail_errno(err, errno, "socket for %s", ot_addr_format(a, text));
    }
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)(void *)&t.ss, t.len) != 0 || listen(fd, backlog) != 0) {
        int saved = errno;
        close(fd);
        return ot_fail_errno(err, saved, "listen on %s", ot_addr_format(a, text));
    }
    *fd_out = fd;
    return OT_OK;
}

int ot_sock_spare(void)
{
    return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

void ot_sock_raise_limit(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &l);
    }
}

bool ot_sock_pending(int fd)
{
    int n = 0;
    return ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

uint16_t ot_sock_port(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    if (getsockname(fd, (struct sockaddr *)(void *)&ss, &len) != 0) {
        return 0;
    }
    if (ss.ss_family == AF_INET) {
        return ntohs(((struct sockaddr_in *)(void *)&ss)->sin_port);
    }
    return ss.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)(void *)&ss)->sin6_port) : 0;
}

ot_rc ot_sock_connect_start(const ot_addr *a, int *fd_out, ot_error *err)
{
    struct target t;
    OT_TRY(resolve(a, false, &t, err));
    char text[300];
    int fd = socket(t.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return ot_fail_errno(err, errno, "socket for %s", ot_addr_format(a, text));
    }
    if (connect(fd, (struct sockaddr *)(void *)&t.ss, t.len) != 0 && errno != EINPROGRESS) {
        int saved = errno;
        close(fd);
        return ot_fail_errno(err, saved, "connect to %s", ot_addr_format(a, text));
    }
    if (!a->is_unix) {
        ot_sock_nodelay(fd);
    }
    *fd_out = fd;
    return OT_OK;
}

ot_rc ot_sock_connect(const ot_addr *a, int64_t timeout_us, int *fd_out, ot_error *err)
{
    int fd;
    OT_TRY(ot_sock_connect_start(a, &fd, err));
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    char text[300];
    int n;
    do {
        n = poll(&p, 1, (int)(timeout_us / 1000));
    } while (n < 0 && errno == EINTR);
    int e = n == 0 ? ETIMEDOUT : n < 0 ? errno : ot_sock_error(fd);
    if (e != 0) {
        close(fd);
        return ot_fail_errno(err, e, "connect to %s", ot_addr_format(a, text));
    }
    ot_sock_nonblock(fd, false);
    *fd_out = fd;
    return OT_OK;
}

ot_rc ot_sock_pair(int fds_out[2], ot_error *err)
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds_out) == 0
               ? OT_OK
               : ot_fail_errno(err, errno, "socketpair");
}

int ot_sock_error(int fd)
{
    int e = 0;
    socklen_t len = sizeof e;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) == 0 ? e : errno;
}

ot_rc ot_sock_set_timeout(int fd, int64_t timeout_us, ot_error *err)
{
    struct timeval tv = {.tv_sec = timeout_us / 1000000, .tv_usec = timeout_us % 1000000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) != 0) {
        return ot_fail_errno(err, errno, "socket timeout");
    }
    return OT_OK;
}

void ot_sock_nodelay(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void ot_sock_keepalive(int fd, unsigned seconds)
{
    int on = 1, probes = 3, idle = (int)OT_MAX(seconds / 2, 1u), every = OT_MAX(idle / 3, 1);
    unsigned give_up_ms = seconds * 1000;
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up_ms, sizeof give_up_ms);
}

static bool own_address(const struct ifaddrs *i, int family, ot_addr *out)
{
    if (i->ifa_addr == NULL || i->ifa_addr->sa_family != family || (i->ifa_flags & IFF_UP) == 0 ||
        (i->ifa_flags & IFF_LOOPBACK) != 0) {
        return false;
    }
    const void *at = family == AF_INET
                         ? (const void *)&((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr
                         : &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr;
    *out = (ot_addr){.port = 0};
    return !(family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)at)) &&
           inet_ntop(family, at, out->host, sizeof out->host) != NULL;
}

size_t ot_sock_own_addresses(ot_addr *out, size_t max)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct ifaddrs *list = NULL;
    size_t n = 0;
    if (getifaddrs(&list) != 0) {
        return 0;
    }
    for (size_t f = 0; f < OT_COUNT(families); f++) {
        for (const struct ifaddrs *i = list; i != NULL && n < max; i = i->ifa_next) {
            n += own_address(i, families[f], &out[n]);
        }
    }
    freeifaddrs(list);
    return n;
}

char *ot_sock_peer(int fd, char out[64])
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    char host[48], port[8];
    if (getpeername(fd, (struct sockaddr *)(void *)&ss, &len) != 0 ||
        getnameinfo((struct sockaddr *)(void *)&ss, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(out, 64, "somebody");
    } else {
        bool v6 = strchr(host, ':') != NULL;
        snprintf(out, 64, "%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
    }
    return out;
}

void ot_sock_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) {
        (void)fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
    }
}

void ot_sock_shutdown_write(int fd)
{
    (void)shutdown(fd, SHUT_WR);
}

static bool peer_cred(int fd, struct ucred *out)
{
    socklen_t len = sizeof *out;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &len) == 0;
}

bool ot_sock_peer_uid(int fd, uid_t *uid_out)
{
    struct ucred cred;
    if (!peer_cred(fd, &cred)) {
        return false;
    }
    *uid_out = cred.uid;
    return true;
}

pid_t ot_sock_peer_pid(int fd)
{
    struct ucred cred;
    return peer_cred(fd, &cred) ? cred.pid : 0;
}

int ot_sock_unsent(int fd)
{
    int n = 0, family = AF_UNSPEC;
    socklen_t len = sizeof family;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) == 0 && family != AF_UNIX &&
                   ioctl(fd, TIOCOUTQ, &n) == 0
               ? n
               : 0;
}

unsigned ot_sock_silent_ms(int fd)
{
    struct tcp_info i = {0};
    socklen_t len = sizeof i;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0 &&
                   OT_MAX(i.tcpi_retransmits, i.tcpi_probes) >= SILENT_TRIES
               ? i.tcpi_last_ack_recv
               : 0;
}

bool ot_sock_peer_ip(int fd, uint8_t ip_out[OT_SOCK_IP])
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_storage room;
    } a = {0};
    socklen_t len = sizeof a;
    if (getpeername(fd, &a.any, &len) != 0) {
        return false;
    }
    if (a.any.sa_family == AF_INET) {
        memcpy(ip_out, v4, sizeof v4);
        memcpy(ip_out + sizeof v4, &a.in.sin_addr, sizeof a.in.sin_addr);
    } else if (a.any.sa_family == AF_INET6) {
        memcpy(ip_out, &a.in6.sin6_addr, OT_SOCK_IP);
    }
    return a.any.sa_family == AF_INET || a.any.sa_family == AF_INET6;
}

void ot_sock_peer_text(int fd, char out[OT_SOCK_ADDR_TEXT])
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t ip[OT_SOCK_IP];
    if (!ot_sock_peer_ip(fd, ip)) {
        snprintf(out, OT_SOCK_ADDR_TEXT, "this machine");
    } else if (memcmp(ip, v4, sizeof v4) == 0) {
        inet_ntop(AF_INET, ip + sizeof v4, out, OT_SOCK_ADDR_TEXT);
    } else {
        inet_ntop(AF_INET6, ip, out, OT_SOCK_ADDR_TEXT);
    }
}

static int sys_accept(int fd)
{
    int c;
    do {
        c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (c < 0 && errno == EINTR);
    if (c >= 0) {
        ot_sock_nodelay(c); /* fails harmlessly on a Unix socket */
    }
    return c;
}

static ssize_t sys_read(int fd, void *p, size_t n)
{
    ssize_t k;
    do {
        k = recv(fd, p, n, 0);
    } while (k < 0 && errno == EINTR);
    return k;
}

/* One piece, the usual case, goes without a message header for the kernel to copy and check. */
static ssize_t sys_write(int fd, const struct iovec *v)
{
    ssize_t k;
    do {
        k = send(fd, v->iov_base, v->iov_len, MSG_NOSIGNAL);
    } while (k < 0 && errno == EINTR);
    return k;
}

static ssize_t sys_writev(int fd, const struct iovec *iov, int n)
{
    if (n == 1) {
        return sys_write(fd, iov);
    }
    union {
        const struct iovec *in;
        struct iovec *out;
    } cast = {.in = iov}; /* msghdr lacks the const that sendmsg keeps */
    struct msghdr m = {.msg_iov = cast.out, .msg_iovlen = (size_t)n};
    ssize_t k;
    do {
        k = sendmsg(fd, &m, MSG_NOSIGNAL);
    } while (k < 0 && errno == EINTR);
    return k;
}

static const ot_sock_ops system_ops = {
    .accept = sys_accept, .read = sys_read, .writev = sys_writev};
/* Synchronization: written before threads start. */
static const ot_sock_ops *current = &system_ops;

void ot_sock_install(const ot_sock_ops *ops)
{
    current = ops != NULL ? ops : &system_ops;
}

int ot_sock_accept(int fd)
{
    return current->accept(fd);
}

ssize_t ot_sock_read(int fd, void *p, size_t n)
{
    return current->read(fd, p, n);
}

ssize_t ot_sock_writev(int fd, const struct iovec *iov, int n)
{
    return current->writev(fd, iov, n);
}

ot_rc ot_sock_write_all(int fd, const void *p, size_t n, ot_error *err)
{
    union {
        const void *in;
        void *out;
    } cast = {.in = p};
    struct iovec v = {.iov_base = cast.out, .iov_len = n};
    while (v.iov_len > 0) {
        ssize_t k = ot_sock_writev(fd, &v, 1);
        if (k < 0) {
            return ot_fail_errno(err, errno, "write to socket");
        }
        v.iov_base = (char *)v.iov_base + k;
        v.iov_len -= (size_t)k;
    }
    return OT_OK;
}
