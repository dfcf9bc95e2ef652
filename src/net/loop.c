#include "net/loop.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "net/loop_timer.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define READY_MAX 256
#define SIGNALS_MAX 8
#define POSTS_DEFAULT 4096

typedef struct post {
    ot_loop_fn *fn;
    void *arg;
} post;

struct ot_loop {
    int epoll_fd;
    bool again;
    uint64_t now_ns, turns;
    ot_timer_heap timers;
    ot_hook *hooks, *hook_next; /* hook_next: where the running turn goes on */

    struct epoll_event ready[READY_MAX];
    int n_ready, ready_at;

    ot_watch wake;
    int wake_fd;
    /* Synchronization: atomic; set by any thread, cleared by ot_loop_run. */
    atomic_bool stopping;

    pthread_mutex_t lock;
    /* Synchronization: lock. The loop swaps the two arrays and runs the full one unlocked. */
    post *posts;
    unsigned n_posts;
    post *running;
    unsigned posts_max;

    ot_watch signal_watch;
    int signal_fd;
    sigset_t signal_set;
    unsigned n_signals;
    struct {
        int signo;
        ot_loop_fn *fn;
        void *arg;
    } signals[SIGNALS_MAX];
};

static void wake(ot_loop *loop)
{
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the loop is awake. */
    ssize_t k = write(loop->wake_fd, &one, sizeof one);
    (void)k;
}

static void run_posts(ot_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    post *full = loop->posts;
    unsigned n = loop->n_posts;
    loop->posts = loop->running;
    loop->running = full;
    loop->n_posts = 0;
    pthread_mutex_unlock(&loop->lock);
    for (unsigned i = 0; i < n; i++) {
        full[i].fn(full[i].arg);
    }
}

static void on_wake(void *arg, unsigned events)
{
    ot_loop *loop = arg;
    (void)events;
    uint64_t count;
    ssize_t k = read(loop->wake_fd, &count, sizeof count);
    (void)k;
    run_posts(loop);
}

static void on_signal(void *arg, unsigned events)
{
    ot_loop *loop = arg;
    (void)events;
    struct signalfd_siginfo info;
    while (read(loop->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        for (unsigned i = 0; i < loop->n_signals; i++) {
            if (loop->signals[i].signo == (int)info.ssi_signo) {
                loop->signals[i].fn(loop->signals[i].arg);
                break;
            }
        }
    }
}

ot_rc ot_loop_create(unsigned posts_max, ot_loop **loop_out, ot_error *err)
{
    ot_rc rc;
    ot_loop *loop = ot_calloc(1, sizeof *loop);
    if (loop == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "event loop: out of memory");
    }
    loop->signal_fd = loop->wake_fd = loop->epoll_fd = -1;
    loop->posts_max = posts_max != 0 ? posts_max : POSTS_DEFAULT;
    pthread_mutex_init(&loop->lock, NULL);
    sigemptyset(&loop->signal_set);
    loop->posts = ot_calloc(loop->posts_max, sizeof *loop->posts);
    loop->running = ot_calloc(loop->posts_max, sizeof *loop->running);
    if (loop->posts == NULL || loop->running == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "event loop: out of memory for %u posts", loop->posts_max);
        goto err_loop;
    }
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        rc = ot_fail_errno(err, errno, "event loop: epoll");
        goto err_loop;
    }
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) {
        rc = ot_fail_errno(err, errno, "event loop: eventfd");
        goto err_loop;
    }
    rc = ot_loop_watch(loop, &loop->wake, loop->wake_fd, OT_LOOP_READ, on_wake, loop, err);
    if (rc != OT_OK) {
        goto err_loop;
    }
    loop->now_ns = ot_clock_mono_ns();
    *loop_out = loop;
    return OT_OK;
err_loop:
    ot_loop_destroy(loop);
    return rc;
}

void ot_loop_destroy(ot_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    ot_fd_close(&loop->signal_fd);
    ot_fd_close(&loop->wake_fd);
    ot_fd_close(&loop->epoll_fd);
    pthread_mutex_destroy(&loop->lock);
    ot_free(loop->posts);
    ot_free(loop->running);
    ot_free(loop);
}

/* How long the wait may last: until the first timer, rounded up so that it is due afterwards. */
static int wait_ms(const ot_loop *loop, int timeout_ms)
{
    if (loop->again) {
        return 0;
    }
    const ot_timer *t = loop->timers.root;
    if (t == NULL || timeout_ms == 0) {
        return timeout_ms;
    }
    uint64_t now = ot_clock_mono_ns();
    uint64_t ms = t->due_ns <= now ? 0 : (t->due_ns - now - 1) / 1000000 + 1;
    if (ms > INT_MAX) {
        ms = INT_MAX;
    }
    return timeout_ms < 0 || (int)ms < timeout_ms ? (int)ms : timeout_ms;
}

static void run_ready(ot_loop *loop)
{
    for (loop->ready_at = 0; loop->ready_at < loop->n_ready; loop->ready_at++) {
        const struct epoll_event *e = &loop->ready[loop->ready_at];
        ot_watch *w = e->data.ptr;
        if (w == NULL) { /* removed by an earlier callback of this turn */
            continue;
        }
        unsigned events = (e->events & EPOLLIN ? OT_LOOP_READ : 0u) |
                          (e->events & EPOLLOUT ? OT_LOOP_WRITE : 0u) |
                          (e->events & (EPOLLHUP | EPOLLERR) ? OT_LOOP_HANGUP : 0u);
        w->fn(w->arg, events);
    }
    loop->n_ready = 0;
}

static void run_timers(ot_loop *loop)
{
    uint64_t limit = loop->timers.next_order; /* what a callback sets waits for the next turn */
    for (;;) {
        ot_timer *t = loop->timers.root;
        if (t == NULL || t->due_ns > loop->now_ns || t->order >= limit) {
            return;
        }
        ot_timer_heap_remove(&loop->timers, t);
        t->fn(t->arg);
    }
}

static void run_hooks(ot_loop *loop)
{
    ot_hook *h = loop->hooks;
    while (h != NULL) {
        loop->hook_next = h->next;
        h->fn(h->arg);
        h = loop->hook_next;
    }
    loop->hook_next = NULL;
}

ot_rc ot_loop_turn(ot_loop *loop, int timeout_ms, ot_error *err)
{
    int n = epoll_wait(loop->epoll_fd, loop->ready, READY_MAX, wait_ms(loop, timeout_ms));
    if (n < 0 && errno != EINTR) {
        return ot_fail_errno(err, errno, "event loop: wait");
    }
    loop->again = false;
    loop->now_ns = ot_clock_mono_ns();
    loop->n_ready = n < 0 ? 0 : n;
    run_ready(loop);
    run_timers(loop);
    run_hooks(loop);
    loop->turns++;
    return OT_OK;
}

ot_rc ot_loop_run(ot_loop *loop, ot_error *err)
{
    do {
        OT_TRY(ot_loop_turn(loop, -1, err));
    } while (!atomic_exchange(&loop->stopping, false));
    return OT_OK;
}

void ot_loop_stop(ot_loop *loop)
{
    atomic_store(&loop->stopping, true);
    wake(loop);
}

void ot_loop_again(ot_loop *loop)
{
    loop->again = true;
}

uint64_t ot_loop_now_ns(const ot_loop *loop)
{
    return loop->now_ns;
}

uint64_t ot_loop_turns(const ot_loop *loop)
{
    return loop->turns;
}

static uint32_t epoll_mask(unsigned events)
{
    return (events & OT_LOOP_READ ? (uint32_t)EPOLLIN : 0) |
           (events & OT_LOOP_WRITE ? (uint32_t)EPOLLOUT : 0) |
           (events & OT_LOOP_EXCLUSIVE ? (uint32_t)EPOLLEXCLUSIVE : 0);
}

ot_rc ot_loop_watch(ot_loop *loop, ot_watch *w, int fd, unsigned events, ot_watch_fn *fn, void *arg,
                    ot_error *err)
{
    struct epoll_event e = {.events = epoll_mask(events), .data.ptr = w};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &e) != 0) {
        return ot_fail_errno(err, errno, "event loop: watch descriptor %d", fd);
    }
    *w = (ot_watch){.fd = fd, .events = events, .fn = fn, .arg = arg, .active = true};
    return OT_OK;
}

void ot_loop_rewatch(ot_loop *loop, ot_watch *w, unsigned events)
{
    if (!w->active || w->events == events) {
        return;
    }
    struct epoll_event e = {.events = epoll_mask(events), .data.ptr = w};
    /* Cannot fail for a watched descriptor: it is registered and needs no new memory. */
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, w->fd, &e);
    w->events = events;
}

void ot_loop_unwatch(ot_loop *loop, ot_watch *w)
{
    if (!w->active) {
        return;
    }
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    w->active = false;
    for (int i = loop->ready_at + 1; i < loop->n_ready; i++) {
        if (loop->ready[i].data.ptr == w) {
            loop->ready[i].data.ptr = NULL;
        }
    }
}

void ot_loop_timer_set(ot_loop *loop, ot_timer *t, uint64_t due_ns, ot_loop_fn *fn, void *arg)
{
    ot_loop_timer_cancel(loop, t);
    t->due_ns = due_ns;
    t->fn = fn;
    t->arg = arg;
    ot_timer_heap_add(&loop->timers, t);
}

void ot_loop_timer_cancel(ot_loop *loop, ot_timer *t)
{
    if (t->active) {
        ot_timer_heap_remove(&loop->timers, t);
    }
}

void ot_loop_hook_add(ot_loop *loop, ot_hook *h, int order, ot_loop_fn *fn, void *arg)
{
    ot_hook **at = &loop->hooks;
    while (*at != NULL && (*at)->order <= order) {
        at = &(*at)->next;
    }
    *h = (ot_hook){.order = order, .fn = fn, .arg = arg, .next = *at, .active = true};
    *at = h;
}

void ot_loop_hook_remove(ot_loop *loop, ot_hook *h)
{
    if (!h->active) {
        return;
    }
    ot_hook **at = &loop->hooks;
    while (*at != h) {
        at = &(*at)->next;
    }
    *at = h->next;
    if (loop->hook_next == h) {
        loop->hook_next = h->next;
    }
    h->active = false;
}

ot_rc ot_loop_post(ot_loop *loop, ot_loop_fn *fn, void *arg)
{
    pthread_mutex_lock(&loop->lock);
    unsigned n = loop->n_posts;
    if (n == loop->posts_max) {
        pthread_mutex_unlock(&loop->lock);
        return OT_EXHAUSTED;
    }
    loop->posts[n] = (post){.fn = fn, .arg = arg};
    loop->n_posts = n + 1;
    pthread_mutex_unlock(&loop->lock);
    if (n == 0) {
        wake(loop);
    }
    return OT_OK;
}

ot_rc ot_loop_signal(ot_loop *loop, int signo, ot_loop_fn *fn, void *arg, ot_error *err)
{
    if (loop->n_signals == SIGNALS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "event loop: signal %d: at most %d signals", signo,
                       SIGNALS_MAX);
    }
    sigset_t set = loop->signal_set;
    if (sigaddset(&set, signo) != 0) {
        return ot_fail_errno(err, errno, "event loop: signal %d", signo);
    }
    int fd = signalfd(loop->signal_fd, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return ot_fail_errno(err, errno, "event loop: signal %d", signo);
    }
    loop->signal_fd = fd;
    if (!loop->signal_watch.active) {
        OT_TRY(ot_loop_watch(loop, &loop->signal_watch, fd, OT_LOOP_READ, on_signal, loop, err));
    }
    loop->signals[loop->n_signals].signo = signo;
    loop->signals[loop->n_signals].fn = fn;
    loop->signals[loop->n_signals].arg = arg;
    loop->n_signals++;
    loop->signal_set = set;
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return OT_OK;
}
