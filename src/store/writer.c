/* Group commit.
 *
 * Writes queue up. Whoever holds the baton (`leading`) takes all that wait, runs each in the
 * group's transaction, commits once, answers everyone and hands the baton on: to the next waiting
 * thread, or to the writer thread when only asynchronous writes wait or a checkpoint is due. A lone
 * writer thus commits on its own thread, without a wake-up; while a commit waits for the disk, the
 * next group gathers by itself. */
#include "base/clock.h"
#include "store/core.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUP_EVENT_BYTES_MAX (4u << 20) /* a group with more event text takes no more writes */
#define GATHER_PART 4    /* of the last commit's time may be spent on gathering a group */
#define RESTART_FACTOR 8 /* a log this many checkpoints long waits for the readers to leave */

/* Waiting threads sleep on one word that every group changes (store->turn), so that one system call
 * wakes the whole group and the next leader; a lock or a semaphore each would cost the leader a
 * call for each of them. */
typedef enum request_state { REQUEST_WAITS, REQUEST_LEADS, REQUEST_FINISHED } request_state;

struct ot_write_req {
    ot_write_req *next;
    ot_store_fn *fn;
    ot_store_done_fn *done;
    void *arg;
    ot_error *err;
    ot_rc rc;
    bool async;
    _Atomic(request_state) state; /* set by the holder of the baton; read by the waiting thread */
};

/* The requests of one group. A list, in order: those that ran, then those still to run. */
typedef struct group {
    ot_write_req *first, *last;
    ot_write_req *next; /* the first that has not run */
    size_t count;
    size_t good; /* ran well in the open transaction */
    bool open;   /* a transaction is open */
    bool own;    /* the store's own work: not counted */
} group;

/* The store whose baton this thread holds: a write from inside a write would wait for itself. */
static _Thread_local const ot_store *leading_here;

static ot_rc refuse_failed_locked(ot_store *s, ot_error *err)
{
    return ot_fail(
        err, OT_UNAVAILABLE,
        "store %s: has failed (%s); nothing is acknowledged any more: restart to recover", s->dir,
        s->failed_why);
}

static void push_locked(ot_store *s, ot_write_req *r)
{
    r->next = NULL;
    if (s->queue_tail == NULL) {
        s->queue_head = r;
    } else {
        s->queue_tail->next = r;
    }
    s->queue_tail = r;
    s->queued++;
    s->queued_async += r->async;
}

static ot_write_req *pop_locked(ot_store *s)
{
    ot_write_req *r = s->queue_head;
    if (r != NULL) {
        s->queue_head = r->next;
        s->queue_tail = r->next == NULL ? NULL : s->queue_tail;
        s->queued--;
        s->queued_async -= r->async;
        r->next = NULL;
    }
    return r;
}

/* Moves what waits into the group; false when there is nothing to run. */
static bool gather(ot_store *s, group *g)
{
    pthread_mutex_lock(&s->m);
    while (g->count < s->opt.group_max && s->events.arena.used_total < GROUP_EVENT_BYTES_MAX) {
        ot_write_req *r = pop_locked(s);
        if (r == NULL) {
            break;
        }
        if (g->last == NULL) {
            g->first = r;
        } else {
            g->last->next = r;
        }
        g->last = r;
        g->next = g->next == NULL ? r : g->next;
        g->count++;
    }
    pthread_mutex_unlock(&s->m);
    return g->next != NULL;
}

static void set_result(ot_write_req *r, ot_rc rc, const ot_error *why)
{
    r->rc = rc;
    if (r->async && r->err == NULL) {
        r->err = ot_alloc(sizeof *r->err); /* NULL: `done` gets the code without a text */
    }
    if (r->err != NULL && why != NULL && r->err != why) {
        *r->err = *why;
    }
}

/* The transaction is gone: what ran well in it has failed after all. */
static void fail_good(group *g, ot_rc rc, const ot_error *why)
{
    for (ot_write_req *r = g->first; r != NULL && r != g->next; r = r->next) {
        if (r->rc == OT_OK) {
            set_result(r, rc, why);
        }
    }
    g->good = 0;
    g->open = false;
}

void ot_writer_check_broken(ot_store *s)
{
    if (!ot_vfs_is_broken(s->vfs)) {
        return;
    }
    pthread_mutex_lock(&s->m);
    if (!s->failed) {
        s->failed = true;
        ot_vfs_last_error(s->vfs, s->failed_why, sizeof s->failed_why);
    }
    pthread_mutex_unlock(&s->m);
}

static void fail_one_as_failed(ot_store *s, ot_write_req *r)
{
    ot_error e;
    pthread_mutex_lock(&s->m);
    ot_rc rc = refuse_failed_locked(s, &e);
    pthread_mutex_unlock(&s->m);
    set_result(r, rc, &e);
}

/* Undoes one function's work. The first of a transaction has no savepoint: all of it goes. */
static void undo_one(ot_store *s, group *g, bool saved)
{
    ot_conn *c = s->writer;
    int rc;
    if (saved) {
        rc = ot_conn_frame(c->rollback_to);
        if (rc == SQLITE_OK) {
            rc = ot_conn_frame(c->release);
        }
    } else {
        rc = ot_conn_frame(c->rollback);
        g->open = false;
    }
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(c->db)) {
        (void)ot_conn_frame(c->rollback);
    }
}

/* Opens the transaction, or a savepoint in it. */
static int enter_one(ot_store *s, group *g, bool *saved)
{
    *saved = g->good > 0;
    int rc = SQLITE_OK;
    if (!g->open) {
        rc = ot_conn_frame(s->writer->begin);
        g->open = rc == SQLITE_OK;
    }
    return rc == SQLITE_OK && *saved ? ot_conn_frame(s->writer->savepoint) : rc;
}

/* Runs r's function in the group's transaction. */
static void run_one(ot_store *s, group *g, ot_write_req *r)
{
    ot_error e = {.rc = OT_OK};
    ot_txn txn = {.store = s, .conn = s->writer, .writes = true};
    ot_event_mark mark = ot_event_group_mark(&s->events);
    bool saved;
    int rc = enter_one(s, g, &saved);
    ot_rc orc = rc == SQLITE_OK ? r->fn(&txn, r->arg, &e)
                                : ot_sql_fail(s->writer->db, rc, "begin a transaction", &e);
    ot_conn_reset_all(s->writer);
    bool lost = g->open && sqlite3_get_autocommit(s->writer->db);
    if (orc == OT_OK && !lost && saved) {
        rc = ot_conn_frame(s->writer->release);
        if (rc != SQLITE_OK) {
            orc = ot_sql_fail(s->writer->db, rc, "end a savepoint", &e);
        }
    }
    if (orc == OT_OK && lost) {
        orc = ot_fail(&e, OT_ABORTED, "store %s: the transaction was rolled back under a write",
                      s->dir);
    }
    if (orc == OT_OK) {
        r->rc = OT_OK;
        g->good++;
        return;
    }
    if (e.where == NULL) {
        (void)ot_fail(&e, orc, "store %s: a write failed", s->dir);
    }
    e.rc = orc;
    set_result(r, orc, &e);
    if (g->open && !lost) {
        undo_one(s, g, saved);
        lost = g->open && sqlite3_get_autocommit(s->writer->db);
    }
    ot_event_group_rewind(&s->events, &mark);
    if (lost) {
        /* SQLite rolled back everything (disk full while the cache spilled, an I/O error). */
        fail_good(g, orc, &e);
        s->events.head_known = false;
        s->events.count = 0;
    }
    ot_writer_check_broken(s);
}

static void commit(ot_store *s, group *g)
{
    if (!g->open) {
        return;
    }
    ot_conn *c = s->writer;
    uint64_t start = ot_clock_mono_ns();
    int rc = s->failed ? SQLITE_IOERR : ot_conn_frame(c->commit);
    uint64_t took = ot_clock_mono_ns() - start;
    if (rc == SQLITE_OK && !ot_vfs_is_broken(s->vfs)) {
        s->commit_ns = took;
        pthread_mutex_lock(&s->m);
        s->stats.groups += !g->own;
        s->stats.writes += g->own ? 0 : g->good;
        s->stats.commit_ns_last = took;
        s->stats.wal_pages = (uint64_t)s->wal_pages;
        pthread_mutex_unlock(&s->m);
        return;
    }
    ot_error e;
    ot_rc orc = ot_sql_fail(c->db, rc == SQLITE_OK ? SQLITE_IOERR : rc, "commit", &e);
    orc = ot_error_prefix(&e, orc, "store %s", s->dir);
    if (!sqlite3_get_autocommit(c->db)) {
        (void)ot_conn_frame(c->rollback);
    }
    ot_writer_check_broken(s);
    if (s->failed) {
        pthread_mutex_lock(&s->m);
        orc = refuse_failed_locked(s, &e);
        pthread_mutex_unlock(&s->m);
    }
    fail_good(g, orc, &e);
    s->events.count = 0;
    s->events.head_known = false;
}

/* Answers everyone. A waiting thread's request is gone once it is marked finished. */
static void answer(ot_store *s, group *g)
{
    uint64_t refused = 0;
    ot_write_req *after;
    for (ot_write_req *r = g->first; r != NULL; r = after) {
        after = r->next;
        refused += r->rc != OT_OK;
        if (r->async) {
            if (r->done != NULL) {
                r->done(r->arg, r->rc, r->rc == OT_OK ? NULL : r->err);
            }
            ot_free(r->err);
            ot_free(r);
            continue;
        }
        atomic_store_explicit(&r->state, REQUEST_FINISHED, memory_order_release);
    }
    pthread_mutex_lock(&s->m);
    s->stats.refused += refused;
    pthread_mutex_unlock(&s->m);
}

static void run_gathered(ot_store *s, group *g)
{
    while (g->next != NULL) {
        ot_write_req *r = g->next;
        if (s->failed) {
            fail_one_as_failed(s, r);
        } else {
            run_one(s, g, r);
        }
        g->next = r->next;
    }
}

/* One group, by the holder of the baton. The threads that the last group answered are on their way
 * back with their next writes: while this group is smaller than that one was, they get the
 * processor for a part of what a commit costs. With 16 writers a group is then 15 of them instead
 * of 10; a lone writer never waits. */
static void run_group(ot_store *s)
{
    group g = {0};
    uint64_t start = 0;
    for (;;) {
        while (gather(s, &g)) {
            run_gathered(s, &g);
        }
        uint64_t now = g.count < s->last_group ? ot_clock_mono_ns() : 0;
        start = start == 0 ? now : start;
        if (now == 0 || now - start > s->commit_ns / GATHER_PART) {
            break;
        }
        sched_yield();
    }
    s->last_group = g.count;
    commit(s, &g);
    s->need_checkpoint = s->wal_pages >= s->checkpoint_at && !s->failed;
    if (s->events.count > 0) {
        ot_event_group_deliver(s);
    }
    ot_event_group_clear(&s->events);
    answer(s, &g);
}

/* Passes the baton on, or puts it down. */
static void hand_over_locked(ot_store *s)
{
    ot_write_req *r = s->queue_head;
    while (r != NULL && r->async) {
        r = r->next;
    }
    if (s->need_checkpoint || (r == NULL && s->queue_head != NULL)) {
        s->writer_turn = true;
        pthread_cond_signal(&s->writer_cv);
    } else if (r != NULL) {
        atomic_store_explicit(&r->state, REQUEST_LEADS, memory_order_release);
    } else {
        s->leading = false;
        if (s->stopping) {
            pthread_cond_signal(&s->writer_cv);
        }
    }
}

static void wake(ot_store *s, int threads)
{
    (void)syscall(SYS_futex, &s->turn, FUTEX_WAKE_PRIVATE, threads, NULL, NULL, 0);
}

/* Ends a turn: passes the baton on and wakes whom the group answered: one thread, which wakes the
 * others on its processor while this one goes on with the next group. */
static void hand_over(ot_store *s)
{
    pthread_mutex_lock(&s->m);
    hand_over_locked(s);
    pthread_mutex_unlock(&s->m);
    atomic_fetch_add_explicit(&s->turn, 1, memory_order_release);
    atomic_store_explicit(&s->wake_due, true, memory_order_release);
    wake(s, 1);
}

static ot_rc index_events(ot_txn *txn, void *arg, ot_error *err)
{
    (void)arg;
    return ot_events_index(txn, err);
}

/* The index of the event log, a batch. That it fails (a full disk) costs readers time, not events.
 */
static void catch_up_index(ot_store *s)
{
    ot_write_req r = {.fn = index_events};
    group g = {.first = &r, .last = &r, .next = &r, .count = 1, .own = true};
    run_gathered(s, &g);
    if (g.good > 0) {
        commit(s, &g);
    }
}

/* Copies the log into the database; the next write then begins the log anew. Readers that still use
 * it hold that up: the log grows, and when it is long the writer waits for them. */
static void checkpoint(ot_store *s)
{
    bool is_long = s->wal_pages >= RESTART_FACTOR * (int)s->opt.checkpoint_pages;
    int in_log = 0, copied = 0;
    if (atomic_load(&s->snapshots) > 0) {
        s->need_checkpoint = false;
        s->checkpoint_at = s->wal_pages + (int)s->opt.checkpoint_pages;
        return; /* a snapshot keeps the log: all that a checkpoint would do now is wait */
    }
    int rc = sqlite3_wal_checkpoint_v2(
        s->writer->db, "main", is_long ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE,
        &in_log, &copied);
    s->need_checkpoint = false;
    s->checkpoint_at = s->wal_pages + (int)s->opt.checkpoint_pages;
    ot_writer_check_broken(s);
    if (rc == SQLITE_OK && copied == in_log) {
        pthread_mutex_lock(&s->m);
        s->stats.checkpoints++;
        pthread_mutex_unlock(&s->m);
    }
}

static void *writer_main(void *arg)
{
    ot_store *s = arg;
    pthread_mutex_lock(&s->m);
    for (;;) {
        while (!s->writer_turn && !(s->stopping && !s->leading && s->queue_head == NULL)) {
            pthread_cond_wait(&s->writer_cv, &s->m);
        }
        if (!s->writer_turn) {
            break;
        }
        s->writer_turn = false;
        bool work = s->queue_head != NULL;
        pthread_mutex_unlock(&s->m);
        leading_here = s;
        if (s->need_checkpoint) {
            catch_up_index(s);
            checkpoint(s);
        } else if (work) {
            run_group(s);
        }
        leading_here = NULL;
        hand_over(s);
        pthread_mutex_lock(&s->m);
    }
    pthread_mutex_unlock(&s->m);
    return NULL;
}

static ot_rc refuse_nested(const ot_store *s, ot_error *err)
{
    return ot_fail(err, OT_PRECONDITION,
                   "store %s: a write was asked for from inside a write; use ot_store_submit",
                   s->dir);
}

/* Sleeps until the request is answered or is to lead. */
static request_state wait_for_turn(ot_store *s, ot_write_req *r)
{
    for (;;) {
        uint32_t turn = atomic_load_explicit(&s->turn, memory_order_acquire);
        request_state state = atomic_load_explicit(&r->state, memory_order_acquire);
        if (state != REQUEST_WAITS) {
            return state;
        }
        (void)syscall(SYS_futex, &s->turn, FUTEX_WAIT_PRIVATE, turn, NULL, NULL, 0);
        if (atomic_exchange_explicit(&s->wake_due, false, memory_order_acq_rel)) {
            wake(s, INT_MAX);
        }
    }
}

/* By the holder of the baton, whose own request may lie behind a full group of others. */
static void lead_until_finished(ot_store *s, ot_write_req *own)
{
    leading_here = s;
    do {
        run_group(s);
    } while (atomic_load_explicit(&own->state, memory_order_relaxed) != REQUEST_FINISHED);
    leading_here = NULL;
    hand_over(s);
}

ot_rc ot_store_write(ot_store *s, ot_store_fn *fn, void *arg, ot_error *err)
{
    if (leading_here == s) {
        return refuse_nested(s, err);
    }
    ot_write_req r = {.fn = fn, .arg = arg, .err = err};
    atomic_init(&r.state, REQUEST_WAITS);
    pthread_mutex_lock(&s->m);
    if (s->failed) {
        ot_rc rc = refuse_failed_locked(s, err);
        pthread_mutex_unlock(&s->m);
        return rc;
    }
    push_locked(s, &r);
    bool lead = !s->leading;
    s->leading = true;
    pthread_mutex_unlock(&s->m);
    if (lead || wait_for_turn(s, &r) == REQUEST_LEADS) {
        lead_until_finished(s, &r);
    }
    return r.rc;
}

ot_rc ot_store_submit(ot_store *s, ot_store_fn *fn, ot_store_done_fn *done, void *arg,
                      ot_error *err)
{
    ot_write_req *r = ot_alloc(sizeof *r);
    if (r == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "store %s: no memory to queue a write", s->dir);
    }
    *r = (ot_write_req){.fn = fn, .done = done, .arg = arg, .async = true};
    ot_rc rc = OT_OK;
    pthread_mutex_lock(&s->m);
    if (s->failed) {
        rc = refuse_failed_locked(s, err);
    } else if (s->queued_async >= s->opt.queue_max) {
        rc = ot_fail(err, OT_EXHAUSTED, "store %s: %zu writes wait already (the limit); try again",
                     s->dir, s->queued_async);
    } else {
        push_locked(s, r);
        if (!s->leading) {
            s->leading = true;
            s->writer_turn = true;
            pthread_cond_signal(&s->writer_cv);
        }
    }
    pthread_mutex_unlock(&s->m);
    if (rc != OT_OK) {
        ot_free(r);
    }
    return rc;
}

static int on_log_growth(void *arg, sqlite3 *db, const char *name, int pages)
{
    (void)db, (void)name;
    ot_store *s = arg;
    if (pages < s->wal_pages) {
        s->checkpoint_at = (int)s->opt.checkpoint_pages; /* the log began anew */
    }
    s->wal_pages = pages;
    return SQLITE_OK;
}

ot_rc ot_writer_start(ot_store *s, ot_error *err)
{
    s->checkpoint_at = (int)s->opt.checkpoint_pages;
    sqlite3_wal_hook(s->writer->db, on_log_growth, s);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512 * 1024);
    int rc = pthread_create(&s->thread, &attr, writer_main, s);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        return ot_fail_errno(err, rc, "store %s: start the writer thread", s->dir);
    }
    s->thread_started = true;
    return OT_OK;
}

void ot_writer_stop(ot_store *s)
{
    if (!s->thread_started) {
        return;
    }
    pthread_mutex_lock(&s->m);
    s->stopping = true;
    pthread_cond_signal(&s->writer_cv);
    pthread_mutex_unlock(&s->m);
    pthread_join(s->thread, NULL);
}
