/* Raw TCP between hosts: the first rank of each sends to the next host's and receives from the
 * previous one's, all at once, as a ring of sums does it at best.
 *
 * A connection is proved by a word that rank 0 makes up and tells through the job. */
#include "cli/cluster.h"

#include "base/disk.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/sock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define WORD 16
#define PLACES 8 /* addresses of a host */
#define PLACE 64
#define CONNECT_US 3000000
#define WAIT_MS 20000
#define PIECE ((size_t)1 << 20)
#define FIRST_BYTES ((uint64_t)4 << 20)
#define MOST_BYTES ((uint64_t)512 << 20)
#define AIM_US 200000.0 /* of one measurement */
#define TIMES 7
#define TRIPS 50

typedef struct wires {
    int listener, to, from; /* to the next host, from the previous one; -1 */
    unsigned char *buffer;  /* 2 * PIECE */
} wires;

static ot_rc spread_word(ot_links *t, uint8_t word[WORD], ot_error *err)
{
    int64_t n = WORD;
    overtake_request r = {
        .kind = OVERTAKE_BROADCAST, .dtype = OVERTAKE_U8, .dims = &n, .in = word, .out = word};
    ot_random_bytes(word, WORD);
    return ot_links_run(t, &r, err);
}

/* Where each rank listens, PLACES texts each; "" where it does not. */
static ot_rc spread_places(ot_links *t, wires *w, bool leads, char *all, ot_error *err)
{
    char own[PLACES][PLACE] = {{0}};
    int64_t n = sizeof own;
    ot_addr here[PLACES], any = {.host = "0.0.0.0"};
    size_t found = leads ? ot_sock_own_addresses(here, PLACES) : 0;
    if (found > 0) {
        if (strchr(here[0].host, ':') != NULL) {
            snprintf(any.host, sizeof any.host, "::");
        }
        OT_TRY(ot_sock_listen(&any, 16, &w->listener, err));
    }
    for (size_t i = 0; i < found; i++) {
        char text[300];
        here[i].port = ot_sock_port(w->listener);
        snprintf(own[i], PLACE, "%s", ot_addr_format(&here[i], text));
    }
    overtake_request r = {
        .kind = OVERTAKE_ALLGATHER, .dtype = OVERTAKE_U8, .dims = &n, .in = own, .out = all};
    return ot_links_run(t, &r, err);
}

static ot_rc connect_next(wires *w, const char *places, const uint8_t *word, ot_error *err)
{
    ot_rc rc = ot_fail(err, OT_UNAVAILABLE, "the next host has no address");
    for (size_t i = 0; i < PLACES && w->to < 0; i++) {
        const char *place = places + i * PLACE;
        ot_addr a;
        if (place[0] != 0) {
            rc = ot_addr_parse(place, &a, err);
            rc = rc == OT_OK ? ot_sock_connect(&a, CONNECT_US, &w->to, err) : rc;
        }
    }
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "raw TCP to the next host");
    }
    ot_sock_nonblock(w->to, false);
    return ot_sock_write_all(w->to, word, WORD, err);
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, WAIT_MS) == 1;
}

/* Strangers are let go. */
static ot_rc accept_previous(wires *w, const uint8_t *word, ot_error *err)
{
    while (w->from < 0) {
        uint8_t said[WORD];
        size_t n = 0;
        if (!readable(w->listener)) {
            return ot_fail(err, OT_TIMEOUT, "raw TCP: the previous host does not come");
        }
        int fd = ot_sock_accept(w->listener);
        while (fd >= 0 && n < WORD && readable(fd)) {
            ssize_t k = ot_sock_read(fd, said + n, WORD - n);
            if (k <= 0) {
                break;
            }
            n += (size_t)k;
        }
        if (n == WORD && memcmp(said, word, WORD) == 0) {
            w->from = fd;
        } else {
            ot_fd_close(&fd);
        }
    }
    return OT_OK;
}

/* `bytes` to the next host and as many from the previous one. */
static ot_rc exchange(wires *w, uint64_t bytes, ot_error *err)
{
    uint64_t sent = 0, got = 0;
    while (sent < bytes || got < bytes) {
        struct pollfd p[2] = {{.fd = sent < bytes ? w->to : -1, .events = POLLOUT},
                              {.fd = got < bytes ? w->from : -1, .events = POLLIN}};
        if (poll(p, 2, WAIT_MS) <= 0) {
            return ot_fail(err, OT_TIMEOUT, "raw TCP: nothing moves");
        }
        ssize_t k = 1;
        if (p[0].revents != 0) {
            struct iovec v = {.iov_base = w->buffer,
                              .iov_len = (size_t)OT_MIN(bytes - sent, (uint64_t)PIECE)};
            k = ot_sock_writev(w->to, &v, 1);
            sent += k > 0 ? (uint64_t)k : 0;
        }
        bool broken = k < 0 && errno != EAGAIN;
        k = 1;
        if (p[1].revents != 0) {
            k = ot_sock_read(w->from, w->buffer + PIECE,
                             (size_t)OT_MIN(bytes - got, (uint64_t)PIECE));
            got += k > 0 ? (uint64_t)k : 0;
        }
        if (broken || k == 0 || (k < 0 && errno != EAGAIN)) {
            return ot_fail(err, OT_UNAVAILABLE, "raw TCP: the connection broke: %s",
                           strerror(errno));
        }
    }
    return OT_OK;
}

static ot_rc once(ot_links *t, wires *w, bool leads, uint64_t bytes, double *us, ot_error *err)
{
    OT_TRY(ot_cluster_barrier(t, err));
    double began = ot_links_now_us();
    if (leads) {
        OT_TRY(exchange(w, bytes, err));
    }
    *us = leads ? ot_links_now_us() - began : 0;
    return ot_cluster_agree(t, us, OVERTAKE_MAX, err);
}

/* Bytes that take long enough that what hides in buffers counts for little. */
static ot_rc both_ways(ot_links *t, wires *w, bool leads, ot_cluster *c, ot_error *err)
{
    uint64_t bytes = FIRST_BYTES;
    double us = 0;
    while (bytes < MOST_BYTES) {
        OT_TRY(once(t, w, leads, bytes, &us, err));
        if (us > AIM_US / 2) {
            break;
        }
        bytes *= 2;
    }
    ot_cluster_figure *f = ot_cluster_add(c, OT_CLUSTER_TCP, bytes);
    for (int i = 0; f != NULL && i < TIMES; i++) {
        OT_TRY(once(t, w, leads, bytes, &us, err));
        f->us[f->n++] = us;
    }
    return OT_OK;
}

/* From the first host to the second and back, over the one connection. */
static ot_rc trips(ot_links *t, wires *w, int32_t host, bool leads, ot_cluster *c, ot_error *err)
{
    ot_cluster_figure *f = ot_cluster_add(c, OT_CLUSTER_TRIP, 1);
    int fd = !leads ? -1 : host == 0 ? w->to : host == 1 ? w->from : -1;
    for (int i = 0; f != NULL && i < TRIPS; i++) {
        double began = ot_links_now_us(), us = 0;
        uint8_t x = 1;
        if (fd >= 0 && host == 0) {
            OT_TRY(ot_sock_write_all(fd, &x, 1, err));
        }
        if (fd >= 0 && (!readable(fd) || ot_sock_read(fd, &x, 1) != 1)) {
            return ot_fail(err, OT_UNAVAILABLE, "raw TCP: no byte came back");
        }
        if (fd >= 0 && host == 1) {
            OT_TRY(ot_sock_write_all(fd, &x, 1, err));
        }
        us = fd >= 0 && host == 0 ? ot_links_now_us() - began : 0;
        OT_TRY(ot_cluster_agree(t, &us, OVERTAKE_MAX, err));
        f->us[f->n++] = us;
    }
    return OT_OK;
}

static ot_rc measure(ot_links *t, wires *w, char *places, ot_cluster *c, ot_error *err)
{
    uint8_t word[WORD];
    bool leads;
    int32_t hosts, host = ot_cluster_host(t, &leads, &hosts), next = 0;
    OT_TRY(spread_word(t, word, err));
    OT_TRY(spread_places(t, w, leads, places, err));
    /* The first rank of the next host: hosts are in the order of their first ranks. */
    for (int32_t r = 0, seen = -1; r < t->place.size; r++) {
        seen += places[(size_t)r * PLACES * PLACE] != 0;
        if (seen == (host + 1) % hosts && places[(size_t)r * PLACES * PLACE] != 0) {
            next = r;
        }
    }
    if (leads) {
        OT_TRY(connect_next(w, places + (size_t)next * PLACES * PLACE, word, err));
        OT_TRY(accept_previous(w, word, err));
        ot_sock_nonblock(w->to, true);
        ot_sock_nonblock(w->from, true);
    }
    OT_TRY(both_ways(t, w, leads, c, err));
    return trips(t, w, host, leads, c, err);
}

ot_rc ot_cluster_tcp(ot_links *t, ot_cluster *c, ot_error *err)
{
    if (c->hosts < 2) {
        return OT_OK;
    }
    wires w = {.listener = -1, .to = -1, .from = -1};
    w.buffer = ot_calloc(2, PIECE);
    char *places = ot_calloc((size_t)t->place.size, (size_t)PLACES * PLACE);
    ot_rc rc = w.buffer != NULL && places != NULL
                   ? measure(t, &w, places, c, err)
                   : ot_fail(err, OT_EXHAUSTED, "no memory to measure TCP with");
    ot_free(w.buffer);
    ot_free(places);
    ot_fd_close(&w.listener);
    ot_fd_close(&w.to);
    ot_fd_close(&w.from);
    return rc;
}
