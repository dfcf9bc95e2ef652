#include "net/loop.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "tap.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

static int log_of[64];
static int log_n;

static void note(void *arg)
{
    log_of[log_n++ & 63] = *(int *)arg;
}

static uint64_t fake_now = 1000;
static uint64_t fake_mono(void *self)
{
    (void)self;
    return fake_now;
}
static int64_t fake_wall(void *self)
{
    (void)self;
    return 0;
}
static void fake_sleep(void *self, uint64_t us)
{
    (void)self;
    fake_now += us * 1000;
}

static void test_timers(void)
{
    ot_clock_source clock = {fake_mono, fake_wall, fake_sleep, NULL};
    ot_clock_install(&clock);
    ot_loop *loop;
    ot_rc rc = ot_loop_create(0, &loop, NULL);
    ok(rc == OT_OK, "loop created");
    static const uint64_t due[] = {50, 10, 30, 10, 70, 20, 30};
    static const int want[] = {1, 3, 5, 2, 6, 0, 4};
    ot_timer t[OT_COUNT(due)] = {0};
    int ids[OT_COUNT(due)];
    for (size_t i = 0; i < OT_COUNT(due); i++) {
        ids[i] = (int)i;
        ot_loop_timer_set(loop, &t[i], 1000 + due[i], note, &ids[i]);
    }
    log_n = 0;
    ok(ot_loop_turn(loop, 0, NULL) == OT_OK && log_n == 0, "no timer fires early");
    fake_now = 1030;
    ok(ot_loop_turn(loop, 0, NULL) == OT_OK, "turn");
    is_int(log_n, 5, "those due fire");
    fake_now = 2000;
    ok(ot_loop_turn(loop, 0, NULL) == OT_OK, "turn");
    bool same = log_n == 7;
    for (int i = 0; same && i < 7; i++) {
        same = log_of[i] == want[i];
    }
    ok(same, "in order of time, then of setting");
    ok(!t[0].active, "a fired timer is idle");
    ot_loop_timer_set(loop, &t[0], 1, note, &ids[0]);
    ot_loop_timer_set(loop, &t[0], 3000, note, &ids[0]);
    ot_loop_timer_set(loop, &t[1], 2500, note, &ids[1]);
    ot_loop_timer_cancel(loop, &t[1]);
    ot_loop_timer_cancel(loop, &t[1]);
    log_n = 0;
    fake_now = 2600;
    ok(ot_loop_turn(loop, 0, NULL) == OT_OK && log_n == 0, "moved and cancelled timers don't fire");
    ot_loop_destroy(loop);
    ot_clock_install(NULL);
}

/* Many timers, set, moved and cancelled at random, against a sorted count. */
static void test_timer_storm(void)
{
    ot_clock_source clock = {fake_mono, fake_wall, fake_sleep, NULL};
    ot_clock_install(&clock);
    ot_loop *loop;
    if (ot_loop_create(0, &loop, NULL) != OT_OK) {
        ok(false, "loop");
        return;
    }
    enum { N = 500 };
    static ot_timer t[N];
    static int id;
    uint32_t x = 1;
    fake_now = 1;
    for (int i = 0; i < 20000; i++) {
        x = x * 1664525u + 1013904223u;
        ot_timer *at = &t[(x >> 8) % N];
        if (x >> 30 == 0) {
            ot_loop_timer_cancel(loop, at);
        } else {
            ot_loop_timer_set(loop, at, 10 + (x >> 12) % 1000, note, &id);
        }
    }
    int expect = 0, fired = 0;
    for (int i = 0; i < N; i++) {
        expect += t[i].active;
    }
    bool exact = true;
    for (fake_now = 1; fake_now <= 1100; fake_now++) {
        int due = 0;
        for (int i = 0; i < N; i++) {
            due += t[i].active && t[i].due_ns <= fake_now;
        }
        log_n = 0;
        exact = exact && ot_loop_turn(loop, 0, NULL) == OT_OK && log_n == due;
        fired += log_n;
    }
    ok(exact, "each timer fires exactly when due");
    ok(expect > 100 && fired == expect, "all %d active timers fired", expect);
    ot_loop_destroy(loop);
    ot_clock_install(NULL);
}

static ot_hook hooks[3];
static ot_loop *hook_loop;

static void hook_removes_next(void *arg)
{
    note(arg);
    ot_loop_hook_remove(hook_loop, &hooks[1]);
}

static void test_hooks(void)
{
    if (ot_loop_create(0, &hook_loop, NULL) != OT_OK) {
        ok(false, "loop");
        return;
    }
    static int ids[3] = {0, 1, 2};
    ot_loop_hook_add(hook_loop, &hooks[2], OT_HOOK_RECLAIM, note, &ids[2]);
    ot_loop_hook_add(hook_loop, &hooks[0], OT_HOOK_BATCH, note, &ids[0]);
    ot_loop_hook_add(hook_loop, &hooks[1], OT_HOOK_FLUSH, note, &ids[1]);
    log_n = 0;
    ok(ot_loop_turn(hook_loop, 0, NULL) == OT_OK, "turn");
    ok(log_n == 3 && log_of[0] == 0 && log_of[1] == 1 && log_of[2] == 2, "hooks run in order");
    ot_loop_hook_remove(hook_loop, &hooks[0]);
    ot_loop_hook_add(hook_loop, &hooks[0], OT_HOOK_BATCH, hook_removes_next, &ids[0]);
    log_n = 0;
    ok(ot_loop_turn(hook_loop, 0, NULL) == OT_OK, "turn");
    ok(log_n == 2 && log_of[1] == 2, "a hook removes the one after it");
    ot_loop_again(hook_loop);
    uint64_t before = ot_loop_turns(hook_loop);
    ok(ot_loop_turn(hook_loop, -1, NULL) == OT_OK && ot_loop_turns(hook_loop) == before + 1,
       "again: the next turn does not wait");
    ot_loop_destroy(hook_loop);
}

/* Two ready descriptors; the first callback removes the other's watch. */
typedef struct pair_watch {
    ot_watch w;
    struct pair_watch *other;
    ot_loop *loop;
    int calls;
} pair_watch;

static void remove_other(void *arg, unsigned events)
{
    pair_watch *p = arg;
    p->calls += (events & OT_LOOP_READ) != 0;
    ot_loop_unwatch(p->loop, &p->other->w);
}

static void test_watches(void)
{
    ot_loop *loop;
    int a[2], b[2];
    if (ot_loop_create(0, &loop, NULL) != OT_OK || socketpair(AF_UNIX, SOCK_STREAM, 0, a) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, b) != 0) {
        ok(false, "set-up");
        return;
    }
    pair_watch p = {.loop = loop}, q = {.loop = loop, .other = &p};
    p.other = &q;
    ok(ot_loop_watch(loop, &p.w, a[0], OT_LOOP_READ, remove_other, &p, NULL) == OT_OK, "watch");
    ok(ot_loop_watch(loop, &q.w, b[0], OT_LOOP_READ, remove_other, &q, NULL) == OT_OK, "watch");
    ok(ot_sock_write_all(a[1], "x", 1, NULL) == OT_OK, "write");
    ok(ot_sock_write_all(b[1], "x", 1, NULL) == OT_OK, "write");
    ok(ot_loop_turn(loop, 1000, NULL) == OT_OK && p.calls + q.calls == 1,
       "an event of a watch that was removed in the same turn is dropped");
    ot_error err;
    ot_watch bad;
    ok(ot_loop_watch(loop, &bad, 9999, OT_LOOP_READ, remove_other, &p, &err) != OT_OK &&
           strstr(err.msg, "9999") != NULL,
       "a bad descriptor is an error that names it");
    ot_loop_destroy(loop);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}

enum { POSTERS = 4, POSTS = 20000 };
static ot_loop *post_loop;
static int post_next[POSTERS];
static bool post_ordered = true;
static int post_total;
static atomic_uint post_refused;

typedef struct posted {
    int thread, seq;
} posted;
static posted cells[POSTERS][POSTS];

static void on_post(void *arg)
{
    posted *p = arg;
    post_ordered = post_ordered && post_next[p->thread] == p->seq;
    post_next[p->thread]++;
    if (++post_total == POSTERS * POSTS) {
        ot_loop_stop(post_loop);
    }
}

static void *poster(void *arg)
{
    int id = *(int *)arg;
    for (int i = 0; i < POSTS; i++) {
        cells[id][i] = (posted){id, i};
        while (ot_loop_post(post_loop, on_post, &cells[id][i]) != OT_OK) {
            atomic_fetch_add(&post_refused, 1);
            ot_clock_sleep_us(20);
        }
    }
    return NULL;
}

static void test_posts(void)
{
    if (ot_loop_create(64, &post_loop, NULL) != OT_OK) {
        ok(false, "loop");
        return;
    }
    static int id = 7;
    log_n = 0;
    int accepted = 0;
    while (accepted < 1000 && ot_loop_post(post_loop, note, &id) == OT_OK) {
        accepted++;
    }
    is_int(accepted, 64, "the queue is bounded");
    ok(ot_loop_turn(post_loop, 1000, NULL) == OT_OK && log_n == 64, "all posts of it ran");
    pthread_t t[POSTERS];
    static int ids[POSTERS];
    for (int i = 0; i < POSTERS; i++) {
        ids[i] = i;
        pthread_create(&t[i], NULL, poster, &ids[i]);
    }
    ok(ot_loop_run(post_loop, NULL) == OT_OK, "loop ran");
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(t[i], NULL);
    }
    is_int(post_total, POSTERS * POSTS, "no post is lost");
    ok(post_ordered, "the posts of one thread keep their order");
    ot_loop_stop(post_loop);
    ok(ot_loop_run(post_loop, NULL) == OT_OK, "a stop before the run ends it");
    ot_loop_destroy(post_loop);
}

static void test_signals(void)
{
    ot_loop *loop;
    if (ot_loop_create(0, &loop, NULL) != OT_OK) {
        ok(false, "loop");
        return;
    }
    static int one = 1, two = 2;
    ok(ot_loop_signal(loop, SIGUSR1, note, &one, NULL) == OT_OK, "SIGUSR1");
    ok(ot_loop_signal(loop, SIGUSR2, note, &two, NULL) == OT_OK, "SIGUSR2");
    log_n = 0;
    raise(SIGUSR2);
    raise(SIGUSR1);
    ok(ot_loop_turn(loop, 1000, NULL) == OT_OK && log_n == 2, "both signals arrive as callbacks");
    ot_loop_destroy(loop);
}

static void test_memory(void)
{
    bool done = false;
    int refused = 0;
    for (uint64_t nth = 1; nth < 20 && !done; nth++) {
        ot_loop *loop = NULL;
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_loop_create(0, &loop, NULL);
        ot_mem_fail_nth(0);
        refused += rc == OT_EXHAUSTED;
        done = rc == OT_OK;
        ot_loop_destroy(loop);
    }
    ok(done && refused == 3, "each failed allocation of the constructor is an error");
}

int main(void)
{
    test_timers();
    test_timer_storm();
    test_hooks();
    test_watches();
    test_posts();
    test_signals();
    test_memory();
    return tap_done();
}
