/* What this machine's TCP asks for: reads requests of a known size and writes an answer of fixed
 * bytes, with one epoll wait for all that is ready, one recv and one send a request, and nothing
 * else. No server that answers request by request takes less, so bench/serve_bench.py prints it
 * beside.
 *
 *     wire_bench PORT REQUEST_BYTES ANSWER_BYTES      until it is ended by a signal */
#include "base/sock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 1024
#define BYTES_MAX 65536
#define READY_MAX 256

static size_t got[DESCRIPTORS_MAX]; /* bytes of the request being read */
static char in[BYTES_MAX], answer[BYTES_MAX];

static void watch(int poll, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (fd >= DESCRIPTORS_MAX || epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e) != 0) {
        close(fd);
        return;
    }
    got[fd] = 0;
}

static void on_readable(int fd, size_t request, size_t n)
{
    ssize_t k = recv(fd, in, sizeof in, 0);
    if (k <= 0) {
        close(fd);
        return;
    }
    got[fd] += (size_t)k;
    for (; got[fd] >= request; got[fd] -= request) {
        if (send(fd, answer, n, MSG_NOSIGNAL) != (ssize_t)n) {
            close(fd);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    size_t request = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    size_t n = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    ot_error err;
    ot_addr addr;
    char text[64];
    int listener;
    if (request < 1 || request > BYTES_MAX || n < 128 || n > BYTES_MAX) {
        fprintf(stderr, "usage: wire_bench PORT REQUEST_BYTES ANSWER_BYTES(128..%d)\n", BYTES_MAX);
        return 2;
    }
    memset(answer, 'x', sizeof answer);
    static const char format[] = "HTTP/1.1 200 OK\r\nContent-Length: %06zu\r\n\r\n";
    size_t head = sizeof format - 1 + 6 - strlen("%06zu");
    snprintf(answer, head + 1, format, n - head);
    answer[head] = 'x';
    snprintf(text, sizeof text, "127.0.0.1:%s", argv[1]);
    if (ot_addr_parse(text, &addr, &err) != OT_OK ||
        ot_sock_listen(&addr, 1024, &listener, &err) != OT_OK) {
        fprintf(stderr, "wire_bench: %s\n", err.msg);
        return 1;
    }
    int poll = epoll_create1(0);
    watch(poll, listener);
    for (;;) {
        struct epoll_event ready[READY_MAX];
        int k = epoll_wait(poll, ready, READY_MAX, -1);
        for (int i = 0; i < k; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) {
                on_readable(fd, request, n);
                continue;
            }
            fd = ot_sock_accept(listener);
            if (fd >= 0) {
                watch(poll, fd);
            }
        }
    }
}
