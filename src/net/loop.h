/* The event loop: epoll, run to completion, one a thread.
 *
 * A turn: wait; call back every ready descriptor; call back what other threads posted; call back
 * due timers; run the hooks. What one turn found ready is the natural batch: a batcher collects in
 * callbacks and runs in a hook.
 *
 * Threads: everything belongs to the thread that runs the loop, except ot_loop_post and
 * ot_loop_stop, which any thread may call. Callbacks run on the loop's thread.
 * Lifetime: watches, timers and hooks are embedded in their owner's structures; the owner removes
 * them before it frees them. Removing any of them from inside any callback is safe. */
#ifndef OT_NET_LOOP_H
#define OT_NET_LOOP_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_loop ot_loop;

enum {
    OT_LOOP_READ = 1,
    OT_LOOP_WRITE = 2,
    OT_LOOP_HANGUP = 4,    /* reported only: error or both directions closed */
    OT_LOOP_EXCLUSIVE = 8, /* for a listening socket that several loops watch: wakes few of them;
                              such a watch can be removed but not changed */
};

/* Watches are level-triggered: an event comes back each turn until its cause is gone. */
typedef void ot_watch_fn(void *arg, unsigned events);
typedef struct ot_watch {
    int fd;
    unsigned events;
    ot_watch_fn *fn;
    void *arg;
    bool active;
} ot_watch;

typedef void ot_loop_fn(void *arg);

typedef struct ot_timer {
    uint64_t due_ns, order;
    ot_loop_fn *fn;
    void *arg;
    struct ot_timer *child, *next, *prev; /* pairing heap; prev is the parent for a first child */
    bool active;
} ot_timer;

/* Hooks run at the end of each turn, lowest order first. */
enum { OT_HOOK_BATCH = 0, OT_HOOK_FLUSH = 100, OT_HOOK_RECLAIM = 200 };
typedef struct ot_hook {
    int order;
    ot_loop_fn *fn;
    void *arg;
    struct ot_hook *next;
    bool active;
} ot_hook;

/* `posts_max` bounds the queue of ot_loop_post (0: 4096). */
ot_rc ot_loop_create(unsigned posts_max, ot_loop **loop_out, ot_error *err) OT_CHECKED;
/* Everything watched must have been removed or must not be touched afterwards; posts that were not
 * run are dropped. Not from inside a callback. */
void ot_loop_destroy(ot_loop *loop);

/* Runs turns until ot_loop_stop. */
ot_rc ot_loop_run(ot_loop *loop, ot_error *err) OT_CHECKED;
/* One turn; waits at most timeout_ms (-1: until something happens, 0: not at all). */
ot_rc ot_loop_turn(ot_loop *loop, int timeout_ms, ot_error *err) OT_CHECKED;
/* Any thread, also a signal handler. The current turn is finished. A stop before ot_loop_run makes
 * it return after one turn. */
void ot_loop_stop(ot_loop *loop);
/* The next turn does not wait: for a hook that left work for hooks of lower order. */
void ot_loop_again(ot_loop *loop);
/* Monotonic time at the start of this turn: cheap, and the same for all callbacks of the turn. */
uint64_t ot_loop_now_ns(const ot_loop *loop);
uint64_t ot_loop_turns(const ot_loop *loop); /* how many turns have ended: a heartbeat */

/* Does not own fd. `w` is filled in. Remove before closing fd. */
ot_rc ot_loop_watch(ot_loop *loop, ot_watch *w, int fd, unsigned events, ot_watch_fn *fn, void *arg,
                    ot_error *err) OT_CHECKED;
/* Changes what is waited for; 0 leaves only hang-ups. The same mask costs nothing. */
void ot_loop_rewatch(ot_loop *loop, ot_watch *w, unsigned events);
void ot_loop_unwatch(ot_loop *loop, ot_watch *w); /* idle watches are fine */

/* One-shot, at or after due_ns on ot_clock_mono_ns. Setting an active timer moves it. Timers fire
 * in the order of due_ns, equal ones in the order they were set. A zeroed ot_timer is idle. */
void ot_loop_timer_set(ot_loop *loop, ot_timer *t, uint64_t due_ns, ot_loop_fn *fn, void *arg);
void ot_loop_timer_cancel(ot_loop *loop, ot_timer *t);

void ot_loop_hook_add(ot_loop *loop, ot_hook *h, int order, ot_loop_fn *fn, void *arg);
void ot_loop_hook_remove(ot_loop *loop, ot_hook *h);

/* Any thread: fn(arg) runs on the loop's thread, in the order of posting. OT_EXHAUSTED when the
 * queue is full: keep the work and try again, or count it as dropped. The loop must outlive the
 * call. */
ot_rc ot_loop_post(ot_loop *loop, ot_loop_fn *fn, void *arg) OT_CHECKED;

/* fn(arg) for each arrival of `signo`, as an ordinary callback. Blocks the signal in the calling
 * thread: call it before other threads start, so that they inherit the mask. A handler stays until
 * the loop is destroyed; one a signal. */
ot_rc ot_loop_signal(ot_loop *loop, int signo, ot_loop_fn *fn, void *arg, ot_error *err) OT_CHECKED;

#endif
