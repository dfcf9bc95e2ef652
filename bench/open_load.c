/* An open-loop load generator: one request each 1/RATE s whether or not earlier ones were answered,
 * and latencies counted from when a request was due. A server that stalls is thus charged for all
 * that would have come meanwhile (no coordinated omission).
 *
 *     open_load HOST:PORT RATE SECONDS FILE [CONNECTIONS]
 *
 * FILE holds one request as it goes over the wire. Takes a real-time priority where that is
 * allowed, so that its own waits for a processor are not measured. Prints one JSON line; exit 1
 * when a request failed. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define CONNECTIONS_MAX 256
#define ANSWER_MAX 65536
#define REQUESTS_MAX 10000000
#define GRACE_NS UINT64_C(10000000000) /* for the last answers */

typedef struct conn {
    int fd;
    bool busy;
    uint64_t due_ns;
    size_t len;
    char in[ANSWER_MAX];
} conn;

typedef struct load {
    conn *conns;
    struct pollfd *polls;
    size_t n_conns;
    ot_str request;
    uint64_t start_ns, interval_ns;
    size_t n, sent, answered;
    uint32_t *latency_us;
} load;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "open_load: %s: %s\n", what, why);
    exit(1);
}

static uint64_t due(const load *l, size_t i)
{
    return l->start_ns + i * l->interval_ns;
}

/* Sends what is due on connections that are free; what finds none waits, and its wait counts. */
static void send_due(load *l, uint64_t now)
{
    ot_error err;
    for (size_t c = 0; c < l->n_conns && l->sent < l->n && due(l, l->sent) <= now; c++) {
        conn *x = &l->conns[c];
        if (x->busy) {
            continue;
        }
        if (ot_sock_write_all(x->fd, l->request.data, l->request.len, &err) != OT_OK) {
            fail("send", err.msg);
        }
        x->busy = true;
        x->due_ns = due(l, l->sent++);
    }
}

/* Whether an answer is whole; it must be a 200 with a length. */
static bool is_whole(const conn *x)
{
    const char *end = memmem(x->in, x->len, "\r\n\r\n", 4);
    if (end == NULL) {
        return false;
    }
    const char *length = memmem(x->in, (size_t)(end - x->in), "\r\nContent-Length: ", 18);
    if (memcmp(x->in, "HTTP/1.1 200 ", 13) != 0 || length == NULL) {
        fail("answer", "not a 200 with a length");
    }
    return x->len >= (size_t)(end + 4 - x->in) + strtoul(length + 18, NULL, 10);
}

static void receive(load *l, conn *x)
{
    ssize_t k = ot_sock_read(x->fd, x->in + x->len, sizeof x->in - x->len);
    if (k <= 0) {
        if (k < 0 && errno == EAGAIN) {
            return;
        }
        fail("receive", k == 0 ? "the connection was closed" : strerror(errno));
    }
    x->len += (size_t)k;
    if (!is_whole(x)) {
        return;
    }
    uint64_t took = ot_clock_mono_ns() - x->due_ns;
    l->latency_us[l->answered++] = (uint32_t)OT_MIN(took / 1000, (uint64_t)UINT32_MAX);
    x->busy = false;
    x->len = 0;
}

static void run(load *l)
{
    l->start_ns = ot_clock_mono_ns() + 1000000;
    while (l->answered < l->n) {
        uint64_t now = ot_clock_mono_ns();
        send_due(l, now);
        if (now > due(l, l->n) + GRACE_NS) {
            fail("run", "answers are missing 10 s after the last request");
        }
        uint64_t next = l->sent < l->n ? due(l, l->sent) : now + GRACE_NS;
        uint64_t wait = next > now ? next - now : 1000; /* all busy: an answer ends the wait */
        struct timespec t = {(time_t)(wait / 1000000000), (long)(wait % 1000000000)};
        int ready = ppoll(l->polls, l->n_conns, &t, NULL);
        for (size_t c = 0; ready > 0 && c < l->n_conns; c++) {
            if (l->polls[c].revents != 0) {
                receive(l, &l->conns[c]);
            }
        }
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t percentile(const load *l, double p)
{
    return l->latency_us[(size_t)(p * (double)(l->n - 1))];
}

static void set_up(load *l, const char *address, double rate, double seconds, const char *file,
                   size_t n_conns)
{
    ot_error err;
    ot_addr addr;
    l->n = (size_t)(rate * seconds);
    l->interval_ns = (uint64_t)(1e9 / rate);
    l->n_conns = n_conns;
    l->conns = ot_calloc(n_conns, sizeof *l->conns);
    l->polls = ot_calloc(n_conns, sizeof *l->polls);
    l->latency_us = ot_calloc(l->n, sizeof *l->latency_us);
    ot_str_init(&l->request);
    if (l->conns == NULL || l->polls == NULL || l->latency_us == NULL) {
        fail("start", "out of memory");
    }
    if (ot_disk_read_all(ot_disk_posix(), file, 1 << 24, &l->request, &err) != OT_OK ||
        ot_addr_parse(address, &addr, &err) != OT_OK) {
        fail("start", err.msg);
    }
    for (size_t c = 0; c < n_conns; c++) {
        if (ot_sock_connect(&addr, 5000000, &l->conns[c].fd, &err) != OT_OK) {
            fail("connect", err.msg);
        }
        ot_sock_nodelay(l->conns[c].fd);
        l->polls[c] = (struct pollfd){.fd = l->conns[c].fd, .events = POLLIN};
    }
}

int main(int argc, char **argv)
{
    static load l;
    double rate = argc > 2 ? atof(argv[2]) : 0, seconds = argc > 3 ? atof(argv[3]) : 0;
    int n_conns = argc > 5 ? atoi(argv[5]) : 16;
    if (argc < 5 || rate < 1 || rate > 1e6 || seconds <= 0 || rate * seconds < 1 ||
        rate * seconds > REQUESTS_MAX || n_conns < 1 || n_conns > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: open_load HOST:PORT RATE SECONDS FILE [CONNECTIONS 1..%d]\n",
                CONNECTIONS_MAX);
        return 2;
    }
    set_up(&l, argv[1], rate, seconds, argv[4], (size_t)n_conns);
    struct sched_param priority = {.sched_priority = 1};
    bool realtime = sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
    (void)prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    run(&l);
    qsort(l.latency_us, l.n, sizeof *l.latency_us, by_size);
    printf("{\"bench\":\"open_load\",\"requests\":%zu,\"rate\":%.0f,\"connections\":%zu,"
           "\"realtime\":%s,\"p50_us\":%u,\"p99_us\":%u,\"p999_us\":%u,\"max_us\":%u}\n",
           l.n, rate, l.n_conns, realtime ? "true" : "false", percentile(&l, 0.5),
           percentile(&l, 0.99), percentile(&l, 0.999), percentile(&l, 1));
    return 0;
}
