/* The network seam: sockets are made, read and written here and nowhere else, so that tests can
 * shorten reads and writes, reset connections and run out of descriptors.
 *
 * All descriptors are close-on-exec; those of the loop are non-blocking.
 * Threads: any. */
#ifndef OT_BASE_SOCK_H
#define OT_BASE_SOCK_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* "host:port", "[v6]:port", ":port" (loopback), "unix:PATH", or "unix:@NAME": without a file, and
 * open to every user of this network namespace, so that who comes must prove himself. */
typedef struct ot_addr {
    char host[256]; /* of a unix address: the path */
    uint16_t port;
    bool is_unix;
} ot_addr;

ot_rc ot_addr_parse(const char *s, ot_addr *out, ot_error *err) OT_CHECKED;
char *ot_addr_format(const ot_addr *a, char out[300]);
bool ot_addr_is_loopback(const ot_addr *a); /* true for unix too */

/* A listening socket; port 0 picks one, see ot_sock_port. A stale Unix socket file is replaced. */
ot_rc ot_sock_listen(const ot_addr *a, int backlog, int *fd_out, ot_error *err) OT_CHECKED;
int ot_sock_spare(void); /* a descriptor to give away when others are used up; -1 */
/* As many descriptors for this process as it may have. */
void ot_sock_raise_limit(void);
bool ot_sock_pending(int fd); /* bytes have come that nobody has read */
uint16_t ot_sock_port(int fd);
/* Blocking connect with a time limit; the socket stays blocking. */
ot_rc ot_sock_connect(const ot_addr *a, int64_t timeout_us, int *fd_out, ot_error *err) OT_CHECKED;
/* Starts a non-blocking connect; writability tells the end (ot_sock_error then says how). */
ot_rc ot_sock_connect_start(const ot_addr *a, int *fd_out, ot_error *err) OT_CHECKED;
/* Two ends of one stream between processes of this machine; both non-blocking. */
ot_rc ot_sock_pair(int fds_out[2], ot_error *err) OT_CHECKED;
/* Messages between the two ends of a pair, each a u32 length and that many bytes, with a descriptor
 * for the other side where pass_fd >= 0. Both wait until mono time `until_ns` at most (0: for
 * ever). Receiving takes up to `max` bytes into an ot_alloc'd block with a NUL behind it; *fd_out
 * is -1 or the caller's to close. OT_UNAVAILABLE: the other side is gone. */
ot_rc ot_sock_send_msg(int fd, const void *p, size_t n, int pass_fd, uint64_t until_ns,
                       ot_error *err) OT_CHECKED;
ot_rc ot_sock_recv_msg(int fd, size_t max, uint64_t until_ns, char **text_out, size_t *n_out,
                       int *fd_out, ot_error *err) OT_CHECKED;
int ot_sock_error(int fd); /* SO_ERROR */
ot_rc ot_sock_set_timeout(int fd, int64_t timeout_us, ot_error *err) OT_CHECKED;
void ot_sock_nodelay(int fd);
/* A peer whose machine or network is gone is noticed after about this long: the kernel asks when
 * nothing is sent, and gives up what is not acknowledged. A peer that is merely slow still answers.
 */
void ot_sock_keepalive(int fd, unsigned seconds);
/* Addresses of this machine's interfaces that are up, IPv4 first, without loopback and link-local
 * ones; port 0. Returns how many. */
size_t ot_sock_own_addresses(ot_addr *out, size_t max);
char *ot_sock_peer(int fd, char out[64]); /* "10.0.0.2:4711"; "somebody" when it is not known */
void ot_sock_nonblock(int fd, bool on);
void ot_sock_shutdown_write(int fd);           /* the peer reads end of file; reading goes on */
bool ot_sock_peer_uid(int fd, uid_t *uid_out); /* Unix sockets */
pid_t ot_sock_peer_pid(int fd);                /* the same; 0: not known, or not to be seen here */
/* Bytes of a TCP connection that the other side has not acknowledged; 0 for other sockets. */
int ot_sock_unsent(int fd);
/* Milliseconds without a sign from the other side's kernel, to which data of a TCP connection, or
 * the question whether there is room again, has been sent several times; 0: it is not so. */
unsigned ot_sock_silent_ms(int fd);
/* The address that a connection comes from, IPv4 as ::ffff:a.b.c.d; false: it has none (a Unix
 * socket, or it is closed). */
#define OT_SOCK_IP 16
bool ot_sock_peer_ip(int fd, uint8_t ip_out[OT_SOCK_IP]);
/* The same for people: "10.0.0.7", "fe80::1", "this machine" for a Unix socket. */
#define OT_SOCK_ADDR_TEXT 48
void ot_sock_peer_text(int fd, char out[OT_SOCK_ADDR_TEXT]);

/* Like the system calls (-1 and errno); EINTR is retried. Replaceable as a whole. */
typedef struct ot_sock_ops {
    int (*accept)(int fd); /* non-blocking, close-on-exec, TCP_NODELAY */
    ssize_t (*read)(int fd, void *p, size_t n);
    ssize_t (*writev)(int fd, const struct iovec *iov, int n);
} ot_sock_ops;
void ot_sock_install(const ot_sock_ops *ops); /* test seam; NULL restores the system's */

int ot_sock_accept(int fd);
ssize_t ot_sock_read(int fd, void *p, size_t n);
ssize_t ot_sock_writev(int fd, const struct iovec *iov, int n); /* MSG_NOSIGNAL */
ot_rc ot_sock_write_all(int fd, const void *p, size_t n, ot_error *err) OT_CHECKED; /* blocking */

#endif
