/* Hosts of an elastic job that reach the meeting point and not each other. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "collective/meet.h"
#include "tap.h"

#include <inttypes.h>
#include <pthread.h>
#include <unistd.h>

#define KEY "the key of this job"
#define SIZE 3
#define LIMIT_US 30000000 /* against hanging */

static struct {
    pthread_mutex_t lock;
    int cut[SIZE]; /* by process */
    char why[600], said[1000];
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_cut(void *arg, int32_t worker, const char *why)
{
    (void)arg;
    pthread_mutex_lock(&seen.lock);
    seen.cut[worker]++;
    snprintf(seen.why, sizeof seen.why, "%s", why);
    pthread_mutex_unlock(&seen.lock);
}

static void on_waiting(void *arg, const char *text)
{
    (void)arg;
    pthread_mutex_lock(&seen.lock);
    snprintf(seen.said, sizeof seen.said, "%s", text);
    pthread_mutex_unlock(&seen.lock);
}

/* One process: a machine of its own, with a listener that may be closed. */
typedef struct process {
    ot_meet_options o;
    ot_meet *m;
    int listener;
    pthread_t thread;
    ot_rc rc;
    ot_error err;
} process;

static void *join(void *arg)
{
    process *p = arg;
    p->err = (ot_error){0};
    p->rc = ot_meet_join(&p->o, &p->m, &p->err);
    return NULL;
}

static void join_all(process *p)
{
    for (int i = 0; i < SIZE; i++) {
        pthread_create(&p[i].thread, NULL, join, &p[i]);
    }
    for (int i = 0; i < SIZE; i++) {
        pthread_join(p[i].thread, NULL);
    }
}

/* `from` says that it can't link with `to`; all go on to the next epoch. */
static void next_epoch(process *p, int from, int to)
{
    for (int i = 0; i < SIZE; i++) {
        int32_t rank = ot_meet_rank(p[i].m);
        if (i == from) {
            ot_event e = {.kind = OT_EVENT_FAILED, .rank = rank, .code = to + 1, .link = true};
            snprintf(e.text, sizeof e.text, "it said nothing");
            ot_meet_say(p[i].m, &e);
        }
        ot_meet_say(p[i].m, &(ot_event){.kind = OT_EVENT_MOVED, .rank = rank});
        p[i].o.epoch = ot_meet_epoch(p[i].m);
        ot_meet_destroy(p[i].m);
        p[i].m = NULL;
    }
    join_all(p);
}

static ot_meet_server *begin(process *p, int32_t min)
{
    static char where[32];
    ot_meet_server *s = NULL;
    ot_error err = {0};
    ot_meet_server_options o = {.size = SIZE,
                                .key = KEY,
                                .key_len = strlen(KEY),
                                .timeout_us = LIMIT_US,
                                .min = min,
                                .listen = {.host = "127.0.0.1"}};
    ot_meet_server_ops ops = {.cut = on_cut, .waiting = on_waiting};
    memset(seen.cut, 0, sizeof seen.cut);
    seen.why[0] = seen.said[0] = 0;
    ok(ot_meet_server_create(&o, &ops, &s, &err) == OT_OK, "a meeting point %s", err.msg);
    snprintf(where, sizeof where, "127.0.0.1:%u", ot_meet_server_port(s));
    for (int i = 0; i < SIZE; i++) {
        ot_addr a = {.host = "127.0.0.1"};
        p[i] = (process){.o = {.server = where,
                               .key = KEY,
                               .key_len = strlen(KEY),
                               .size = SIZE,
                               .timeout_us = LIMIT_US,
                               .self = {.rank = i, .worker = i, .pid = 100 + i, .n_addrs = 1}},
                         .listener = -1};
        ok(ot_sock_listen(&a, 8, &p[i].listener, &err) == OT_OK, "process %d listens", i);
        snprintf(p[i].o.self.host, sizeof p[i].o.self.host, "%c", 'a' + i);
        snprintf(p[i].o.self.machine, sizeof p[i].o.self.machine, "machine %d", i);
        snprintf(p[i].o.self.addrs[0], sizeof p[i].o.self.addrs[0], "127.0.0.1:%u",
                 ot_sock_port(p[i].listener));
    }
    join_all(p);
    return s;
}

static void end(ot_meet_server *s, process *p)
{
    for (int i = 0; i < SIZE; i++) {
        ot_meet_destroy(p[i].m);
        ot_fd_close(&p[i].listener);
    }
    ot_meet_server_destroy(s);
}

/* What a link died of is over: all go on. The same pair again: it is held against it. */
static void a_pair_that_fails_twice(void)
{
    process p[SIZE];
    ot_meet_server *s = begin(p, 2);
    next_epoch(p, 0, 2);
    is_int(ot_meet_epoch(p[2].m), 2, "a link that can be made again is held against nobody");
    next_epoch(p, 2, 0);
    is_int(p[0].rc | p[1].rc, OT_OK, "two go on");
    is_int(p[2].rc, OT_PRECONDITION, "without the higher of the pair: %s", p[2].err.msg);
    end(s, p);
    is_int(seen.cut[2], 1, "which the launcher hears");
    ok(strstr(seen.why, "rank 0 (host a) and rank 2 (host c) can't link") != NULL, "%s", seen.why);
}

/* Nobody reaches process 0, which reaches the others. */
static void one_that_more_ranks_cant_reach(int32_t min)
{
    process p[SIZE];
    ot_meet_server *s = begin(p, min);
    ot_fd_close(&p[0].listener);
    next_epoch(p, 1, 0);
    ot_rc want = min == 3 ? OT_UNAVAILABLE : OT_OK;
    is_int(p[0].rc, OT_PRECONDITION, "it is set aside: %s", p[0].err.msg);
    is_int(p[1].rc, want, "process 1, of %d at least: %s", (int)min, p[1].err.msg);
    is_int(p[2].rc, want, "process 2");
    if (min == 3) {
        ok(strstr(p[1].err.msg, "--min-np is 3") != NULL &&
               strstr(p[1].err.msg, "and rank 0 (host a) can't link") != NULL,
           "the end of the job names the pair");
    } else {
        is_int(ot_meet_rank(p[1].m), 0, "process 1 is rank 0 now");
    }
    end(s, p);
    is_int(seen.cut[0], 1, "which the launcher hears");
    ok(strstr(seen.said, "as more ranks can't reach it") != NULL, "%s", seen.said);
}

int main(void)
{
    a_pair_that_fails_twice();
    one_that_more_ranks_cant_reach(2);
    one_that_more_ranks_cant_reach(3);
    return tap_done();
}
