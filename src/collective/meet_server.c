/* The meeting point's server: one thread, one epoll. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "collective/meet_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define TICK_MS 50
#define TOLD_MAX 65536u
#define MINUTE_NS 60000000000u

static void tick_refused(ot_meet_server *s, uint64_t now)
{
    if (now < s->refused_next_ns) {
        return;
    }
    s->refused_next_ns = now + MINUTE_NS;
    if (s->refused > s->refused_said && s->ops.refused != NULL) {
        char text[160];
        snprintf(text, sizeof text, "%" PRIu64 " more connections were turned away",
                 s->refused - s->refused_said);
        s->refused_said = s->refused;
        s->ops.refused(s->ops.arg, text);
    }
}

static void tick(ot_meet_server *s)
{
    uint64_t now = ot_clock_mono_ns();
    if (!s->accepting) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
        s->accepting = epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &e) == 0;
    }
    for (meet_conn *c = s->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->until_ns != 0 && now >= c->until_ns) {
            if (meet_pending(c)) {
                meet_say_refused(s, "%s: turned away: no proof of the key within 10 s", c->peer);
            }
            meet_drop(s, c);
        }
    }
    meet_tick_ranks(s, now);
    tick_refused(s, now);
    for (meet_conn *c = s->conns, *next; c != NULL && !s->all_here; c = next) {
        next = c->next; /* who came back while others were still leaving */
        if (c->phase == MEET_MEMBER && c->in_n > 0) {
            meet_take_frames(s, c);
        }
    }
}

/* --- the thread ------------------------------------------------------------------------------ */

static bool take_queue(ot_meet_server *s)
{
    char buf[64];
    while (ot_sock_read(s->wake[0], buf, sizeof buf) > 0) {
    }
    pthread_mutex_lock(&s->lock);
    ot_event *queue = s->queue;
    size_t n = s->n_queue;
    bool stop = s->stop;
    s->queue = NULL;
    s->n_queue = s->cap_queue = 0;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < n; i++) {
        if (s->min > 0) {
            meet_take_told(s, &queue[i]);
        } else {
            meet_relay(s, &queue[i], -1);
        }
    }
    ot_free(queue);
    return stop;
}

static bool unsent(const ot_meet_server *s)
{
    for (const meet_conn *c = s->conns; c != NULL; c = c->next) {
        if (c->table_due || c->out.len > c->out_at) {
            return true;
        }
    }
    return false;
}

static void *serve(void *arg)
{
    ot_meet_server *s = arg;
    struct epoll_event e[64];
    uint64_t stop_ns = 0, tick_ns = 0;
    while (stop_ns == 0 || (unsent(s) && ot_clock_mono_ns() < stop_ns)) {
        int n = epoll_wait(s->epoll, e, OT_COUNT(e), TICK_MS);
        for (int i = 0; i < n; i++) {
            if (e[i].data.ptr == s) {
                meet_accept_all(s);
            } else if (e[i].data.ptr == s->wake) {
                stop_ns =
                    take_queue(s) && stop_ns == 0 ? ot_clock_mono_ns() + MEET_CLOSING_NS : stop_ns;
            } else {
                meet_conn *c = e[i].data.ptr;
                if (!c->dead && (e[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
                    meet_readable(s, c);
                }
                meet_flush(s, c);
            }
        }
        meet_turn_epochs(s);
        meet_bury(s);
        uint64_t now = ot_clock_mono_ns();
        if (now - tick_ns >= TICK_MS * 1000000u) {
            tick_ns = now;
            tick(s);
            meet_turn_epochs(s);
            meet_bury(s);
        }
    }
    while (s->conns != NULL) {
        meet_drop(s, s->conns);
    }
    meet_bury(s);
    return NULL;
}

static ot_rc start(ot_meet_server *s, const ot_meet_server_options *o, ot_error *err)
{
    if (o->listen_fd > 0) {
        s->listener = o->listen_fd;
        ot_sock_nonblock(s->listener, true);
    } else {
        OT_TRY(ot_sock_listen(&o->listen, 1024, &s->listener, err));
    }
    OT_TRY(ot_sock_pair(s->wake, err));
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event on_wake = {.events = EPOLLIN, .data.ptr = s->wake};
    struct epoll_event on_listener = {.events = EPOLLIN, .data.ptr = s};
    if (s->epoll < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake[0], &on_wake) != 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &on_listener) != 0) {
        return ot_fail_errno(err, errno, "meeting point: epoll");
    }
    s->accepting = true;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are other threads' to take */
    int e = pthread_create(&s->thread, NULL, serve, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return e == 0 ? OT_OK : ot_fail_errno(err, e, "meeting point: thread");
}

static void release(ot_meet_server *s)
{
    ot_fd_close(&s->listener);
    ot_fd_close(&s->epoll);
    ot_fd_close(&s->wake[0]);
    ot_fd_close(&s->wake[1]);
    ot_str_done(&s->table);
    ot_free(s->queue);
    ot_free(s->slots);
    ot_free(s->members);
    meet_cut_done(s);
    ot_free(s->settings);
    pthread_mutex_destroy(&s->lock);
    ot_free(s);
}

static ot_rc check(const ot_meet_server_options *o, ot_error *err)
{
    if (o->size < 1 || o->size > OT_MEET_RANKS_MAX) {
        return ot_fail(err, OT_INVALID, "%" PRId32 " ranks; a job has 1 to %d", o->size,
                       OT_MEET_RANKS_MAX);
    }
    if (o->key_len < 1 || o->key_len > OT_AUTH_KEY_MAX) {
        return ot_fail(err, OT_INVALID, "a key of %zu bytes; it has 1 to %d", o->key_len,
                       OT_AUTH_KEY_MAX);
    }
    if (o->min < 0 || o->min > o->size) {
        return ot_fail(err, OT_INVALID, "at least %" PRId32 " ranks, of %" PRId32 " to begin with",
                       o->min, o->size);
    }
    if (o->settings != NULL && strlen(o->settings) > OT_MEET_SETTINGS_MAX) {
        return ot_fail(err, OT_INVALID, "settings of %zu bytes; the limit is %u",
                       strlen(o->settings), OT_MEET_SETTINGS_MAX);
    }
    return OT_OK;
}

ot_rc ot_meet_server_create(const ot_meet_server_options *o, const ot_meet_server_ops *ops,
                            ot_meet_server **server_out, ot_error *err)
{
    OT_TRY(check(o, err));
    ot_meet_server *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "meeting point: no memory");
    }
    *s = (ot_meet_server){
        .ops = *ops,
        .size = o->size,
        .min = o->min,
        .reform_ns = (uint64_t)(o->reform_us > 0 ? o->reform_us : o->timeout_us) * 1000,
        .settings = ot_strdup(o->settings != NULL ? o->settings : ""),
        .timeout_ns = (uint64_t)o->timeout_us * 1000,
        .waiting_ns = (o->waiting_us > 0 ? (uint64_t)o->waiting_us : 30000000u) * 1000,
        .grace_ns = (o->grace_us > 0 ? (uint64_t)o->grace_us : 300000u) * 1000,
        .listener = -1,
        .epoll = -1,
        .wake = {-1, -1},
        .slots = ot_calloc((size_t)o->size, sizeof(meet_slot)),
        .members = ot_calloc((size_t)o->size, sizeof(ot_member)),
        .table = OT_STR_INIT,
        .since_ns = ot_clock_mono_ns()};
    s->next_waiting_ns = s->since_ns + s->waiting_ns;
    s->refused_next_ns = s->since_ns + MINUTE_NS;
    s->asked_ns = s->since_ns;
    for (int32_t r = 0; s->slots != NULL && r < s->size; r++) {
        s->slots[r].worker = r; /* whom the first epoch waits for */
    }
    pthread_mutex_init(&s->lock, NULL);
    ot_auth_init(&s->auth, o->key, o->key_len);
    ot_rc rc = s->settings != NULL && s->slots != NULL && s->members != NULL
                   ? start(s, o, err)
                   : ot_fail(err, OT_EXHAUSTED, "meeting point: no memory");
    if (rc != OT_OK) {
        release(s);
        return rc;
    }
    *server_out = s;
    return OT_OK;
}

uint16_t ot_meet_server_port(const ot_meet_server *s)
{
    return ot_sock_port(s->listener);
}

static void wake(ot_meet_server *s)
{
    struct iovec v = {.iov_base = &(char){'!'}, .iov_len = 1};
    ssize_t k = ot_sock_writev(s->wake[1], &v, 1);
    (void)k; /* full: it is awake */
}

void ot_meet_server_tell(ot_meet_server *s, const ot_event *e)
{
    pthread_mutex_lock(&s->lock);
    if (s->n_queue == s->cap_queue && s->n_queue < TOLD_MAX) {
        size_t cap = s->cap_queue > 0 ? s->cap_queue * 2 : 16;
        ot_event *q = ot_realloc(s->queue, cap * sizeof *q);
        s->queue = q != NULL ? q : s->queue;
        s->cap_queue = q != NULL ? cap : s->cap_queue;
    }
    if (s->n_queue < s->cap_queue) {
        s->queue[s->n_queue++] = *e;
    }
    pthread_mutex_unlock(&s->lock);
    wake(s);
}

void ot_meet_server_destroy(ot_meet_server *s)
{
    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_mutex_unlock(&s->lock);
    wake(s);
    pthread_join(s->thread, NULL);
    release(s);
}
