#include "collective/meet_try.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/sock.h"
#include "collective/mesh_addrs.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define TRIES_MAX 256 /* under way at once */

typedef struct trial {
    const ot_member *self, *hosts;
    int32_t n, host; /* the next to be tried */
    int addr;        /* at this of its addresses */
    uint8_t *missed;
    int32_t said; /* the host that `why` is about; -1 */
    char *why;
    struct pollfd fds[TRIES_MAX];
    int32_t host_of[TRIES_MAX];
    const char *addr_of[TRIES_MAX];
} trial;

static bool is_missed(const trial *t, int32_t host)
{
    return (t->missed[host / 8] >> host % 8 & 1) != 0;
}

static void say(trial *t, int32_t host, const char *addr, const char *how)
{
    if (t->said < 0 || host < t->said || !is_missed(t, t->said)) {
        t->said = host;
        snprintf(t->why, 256, "%s: %s", addr, how);
    }
}

/* The next address of a host that has not answered at another. */
static bool start_next(trial *t, int i)
{
    while (t->host < t->n) {
        ot_addr a;
        const ot_member *h = &t->hosts[t->host];
        if (t->addr >= h->n_addrs || !is_missed(t, t->host)) {
            t->host++;
            t->addr = 0;
            continue;
        }
        const char *text = h->addrs[t->addr++];
        if (ot_addr_parse(text, &a, NULL) != OT_OK || !ot_mesh_can_reach(t->self, h, &a, false)) {
            continue;
        }
        ot_error err = {0};
        if (ot_sock_connect_start(&a, &t->fds[i].fd, &err) == OT_OK) {
            t->fds[i].events = POLLOUT;
            t->host_of[i] = t->host;
            t->addr_of[i] = text;
            return true;
        }
        t->fds[i].fd = -1;
        say(t, t->host, text, err.msg);
    }
    return false;
}

static bool fill(trial *t)
{
    bool any = false;
    for (int i = 0; i < TRIES_MAX; i++) {
        if (t->fds[i].fd >= 0 && !is_missed(t, t->host_of[i])) {
            ot_fd_close(&t->fds[i].fd); /* it has answered elsewhere */
        }
        any |= t->fds[i].fd >= 0 || start_next(t, i);
    }
    return any;
}

static void take(trial *t, int i)
{
    int32_t host = t->host_of[i];
    int code = ot_sock_error(t->fds[i].fd);
    ot_fd_close(&t->fds[i].fd);
    if (code == 0) {
        t->missed[host / 8] &= (uint8_t) ~(1u << host % 8);
    } else {
        say(t, host, t->addr_of[i], strerror(code));
    }
}

static void begin(trial *t)
{
    t->why[0] = 0;
    for (int i = 0; i < TRIES_MAX; i++) {
        t->fds[i].fd = -1;
    }
    memset(t->missed, 0, (size_t)(t->n + 7) / 8);
    for (int32_t h = 0; h < t->n; h++) {
        bool other = strcmp(t->hosts[h].machine, t->self->machine) != 0;
        t->missed[h / 8] |= (uint8_t)((unsigned)other << h % 8);
    }
}

void ot_meet_try(const ot_member *self, const ot_member *hosts, int32_t n, uint8_t *missed,
                 char why[256])
{
    trial t = {.self = self, .hosts = hosts, .n = n, .missed = missed, .why = why, .said = -1};
    uint64_t now, until = ot_clock_mono_ns() + OT_MEET_TRY_NS;
    begin(&t);
    while (fill(&t) && (now = ot_clock_mono_ns()) < until) {
        (void)poll(t.fds, TRIES_MAX, (int)((until - now) / 1000000 + 1));
        for (int i = 0; i < TRIES_MAX; i++) {
            if (t.fds[i].fd >= 0 && t.fds[i].revents != 0) {
                take(&t, i);
            }
        }
    }
    for (int i = 0; i < TRIES_MAX; i++) {
        if (t.fds[i].fd >= 0) {
            say(&t, t.host_of[i], t.addr_of[i], "no answer");
            ot_fd_close(&t.fds[i].fd);
        }
    }
}
