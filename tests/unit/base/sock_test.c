#include "base/sock.h"

#include "base/mem.h"
#include "base/str.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void addr_is(const char *in, const char *want)
{
    ot_addr a = {0};
    ot_error err = {0};
    char text[300];
    ot_rc rc = ot_addr_parse(in, &a, &err);
    if (want == NULL) {
        ok(rc == OT_INVALID && a.host[0] == 0, "'%.40s' is refused: %.80s", in, err.msg);
    } else {
        ok(rc == OT_OK && strcmp(ot_addr_format(&a, text), want) == 0, "'%s' is %s", in, want);
    }
}

static void test_addresses(void)
{
    addr_is("127.0.0.1:80", "127.0.0.1:80");
    addr_is(":9000", "127.0.0.1:9000");
    addr_is("[::1]:8000", "[::1]:8000");
    addr_is("host.example:65535", "host.example:65535");
    addr_is("unix:/tmp/x", "unix:/tmp/x");
    addr_is("unix:", NULL);
    addr_is("", NULL);
    addr_is("host", NULL);
    addr_is("host:", NULL);
    addr_is("host:65536", NULL);
    addr_is("host:-1", NULL);
    addr_is("host:8a", NULL);
    char big[700];
    memset(big, 'h', sizeof big);
    strcpy(big + 600, ":80");
    addr_is(big, NULL);
    memcpy(big, "unix:", 5);
    addr_is(big, NULL);
    ot_addr a;
    const char *near[] = {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/x", ":1"};
    for (size_t i = 0; i < OT_COUNT(near); i++) {
        ok(ot_addr_parse(near[i], &a, NULL) == OT_OK && ot_addr_is_loopback(&a), "%s is loopback",
           near[i]);
    }
    ok(ot_addr_parse("0.0.0.0:1", &a, NULL) == OT_OK && !ot_addr_is_loopback(&a), "0.0.0.0 is not");
}

static ssize_t one_byte(int fd, const struct iovec *iov, int n)
{
    (void)n;
    return write(fd, iov[0].iov_base, iov[0].iov_len > 0 ? 1 : 0);
}

static void echo(const ot_addr *addr, int listener, const char *what)
{
    ot_error err = {0};
    int c = -1;
    is_int(ot_sock_connect(addr, 2000000, &c, &err), OT_OK, "%s: connect %s", what, err.msg);
    int s = -1;
    for (int i = 0; i < 100 && s < 0; i++) {
        s = ot_sock_accept(listener);
        usleep(s < 0 ? 1000 : 0);
    }
    ok(s >= 0 && (fcntl(s, F_GETFL) & O_NONBLOCK) && (fcntl(s, F_GETFD) & FD_CLOEXEC),
       "%s: accepted, non-blocking, close-on-exec", what);
    char buf[8];
    ok(ot_sock_read(s, buf, sizeof buf) == -1 && errno == EAGAIN, "%s: nothing yet", what);
    ot_sock_ops slow = {ot_sock_accept, ot_sock_read, one_byte};
    ot_sock_install(&slow);
    is_int(ot_sock_write_all(c, "hello", 5, &err), OT_OK, "%s: written byte by byte", what);
    ot_sock_install(NULL);
    usleep(1000);
    is_int(ot_sock_read(s, buf, sizeof buf), 5, "%s: all arrived", what);
    ok(ot_sock_set_timeout(c, 10000, &err) == OT_OK && ot_sock_read(c, buf, 1) == -1,
       "%s: a read that waits ends", what);
    ot_sock_nonblock(c, true);
    ok(fcntl(c, F_GETFL) & O_NONBLOCK, "%s: made non-blocking", what);
    close(s);
    usleep(1000);
    is_int(ot_sock_read(c, buf, 1), 0, "%s: end of file", what);
    close(c);
}

static void test_tcp(void)
{
    ot_error err = {0};
    ot_addr a, b;
    int l = -1, again = -1;
    ok(ot_addr_parse(":0", &a, NULL) == OT_OK && ot_sock_listen(&a, 8, &l, &err) == OT_OK,
       "listen on any port %s", err.msg);
    a.port = ot_sock_port(l);
    ok(a.port != 0, "port %u", a.port);
    ok(ot_sock_listen(&a, 8, &again, &err) != OT_OK && strstr(err.msg, "127.0.0.1") != NULL,
       "twice: %s", err.msg);
    echo(&a, l, "tcp");
    close(l);
    int c = -1;
    ok(ot_sock_connect(&a, 500000, &c, &err) == OT_UNAVAILABLE && c == -1, "nobody there: %s",
       err.msg);
    ok(ot_addr_parse("no-such-host.invalid:1", &b, NULL) == OT_OK &&
           ot_sock_connect(&b, 500000, &c, &err) == OT_NOT_FOUND,
       "no such host: %s", err.msg);
    is_int(ot_sock_port(-1), 0, "no port of a bad descriptor");
}

static void test_unix(void)
{
    char dir[] = "/tmp/ot_sock_XXXXXX", text[64];
    ot_error err = {0};
    ot_addr a;
    int l = -1, other = -1;
    ok(mkdtemp(dir) != NULL, "temporary directory");
    snprintf(text, sizeof text, "unix:%s/s", dir);
    ok(ot_addr_parse(text, &a, NULL) == OT_OK && ot_sock_listen(&a, 8, &l, &err) == OT_OK,
       "listen %s", err.msg);
    ok(ot_sock_listen(&a, 8, &other, &err) != OT_OK, "a live socket is not replaced: %s", err.msg);
    uid_t uid = 12345;
    int c = -1;
    ok(ot_sock_connect(&a, 1000000, &c, &err) == OT_OK && ot_sock_peer_uid(c, &uid) &&
           uid == getuid(),
       "the peer's user");
    close(c);
    /* This connection and the one that found the socket alive. */
    for (int drop; (drop = ot_sock_accept(l)) >= 0;) {
        close(drop);
    }
    echo(&a, l, "unix");
    close(l);
    ok(ot_sock_listen(&a, 8, &l, &err) == OT_OK, "a stale socket is replaced");
    close(l);
    unlink(a.host);
    rmdir(dir);
}

int main(void)
{
    test_addresses();
    test_tcp();
    test_unix();
    return tap_done();
}
