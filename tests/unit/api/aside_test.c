#include "api/aside.h"

#include "base/clock.h"
#include "tap.h"

#include <pthread.h>
#include <stdatomic.h>

static ot_loop *loop;
static atomic_int gate; /* jobs wait until it is 1 */
static pthread_t loop_thread;

typedef struct job {
    int number;
    ot_rc answer;
    bool worked, done, on_loop, off_loop;
    ot_rc rc;
    char msg[64];
    int order;
} job;

static int order;

static ot_rc work(void *arg, ot_error *err)
{
    job *j = arg;
    while (atomic_load(&gate) == 0) {
        ot_clock_sleep_us(100);
    }
    j->worked = true;
    j->off_loop = !pthread_equal(pthread_self(), loop_thread);
    return j->answer == OT_OK ? OT_OK : ot_fail(err, j->answer, "job %d", j->number);
}

static void done(void *arg, ot_rc rc, const ot_error *err)
{
    job *j = arg;
    j->done = true;
    j->rc = rc;
    j->order = order++;
    j->on_loop = pthread_equal(pthread_self(), loop_thread);
    snprintf(j->msg, sizeof j->msg, "%s", err->msg);
}

static void turn_until(const bool *flag)
{
    for (int i = 0; i < 10000 && !*flag; i++) {
        if (ot_loop_turn(loop, 10, NULL) != OT_OK) {
            return;
        }
    }
}

static void test_order(void)
{
    ot_aside *a = NULL;
    job j[3] = {{.number = 0}, {.number = 1, .answer = OT_NOT_FOUND}, {.number = 2}};
    ok(ot_aside_create(loop, 8, &a, NULL) == OT_OK, "created");
    atomic_store(&gate, 1);
    for (int i = 0; i < 3; i++) {
        ok(ot_aside_submit(a, work, done, &j[i], NULL) == OT_OK, "job %d", i);
    }
    turn_until(&j[2].done);
    ok(j[0].done && j[1].done && j[2].done, "all are done");
    ok(j[0].order < j[1].order && j[1].order < j[2].order, "in their order");
    ok(j[0].off_loop && j[0].on_loop, "work away from the loop, done on it");
    is_int(j[1].rc, OT_NOT_FOUND, "the code comes back");
    is_str(j[1].msg, "job 1", "and the message");
    ot_aside_destroy(a);
}

static void test_full_and_stop(void)
{
    ot_aside *a = NULL;
    job j[4] = {{.number = 0}};
    ot_error err = {0};
    atomic_store(&gate, 0);
    ok(ot_aside_create(loop, 2, &a, NULL) == OT_OK, "a queue of two");
    int taken = 0;
    ot_rc rc = OT_OK;
    for (int i = 0; i < 4 && rc == OT_OK; i++) {
        rc = ot_aside_submit(a, work, done, &j[i], &err);
        taken += rc == OT_OK;
    }
    is_int(rc, OT_EXHAUSTED, "full: %s", err.msg);
    ok(taken == 2 || taken == 3, "two wait, one may be on");
    atomic_store(&gate, 1);
    ot_aside_stop(a);
    int answered = 0;
    for (int i = 0; i < taken; i++) {
        answered += j[i].done;
        ok(j[i].worked == (j[i].rc == OT_OK), "job %d: cancelled means not worked", i);
    }
    is_int(answered, taken, "every job is answered");
    is_int(ot_aside_submit(a, work, done, &j[3], &err), OT_CANCELLED, "stopped: %s", err.msg);
    ok(!j[3].done, "and its done is not called");
    ot_aside_destroy(a);
    ot_aside_destroy(NULL);
}

static void nothing(void *arg)
{
    (void)arg;
}

/* The loop's queue of posts is full: the end of a job waits and is not lost. */
static void test_full_posts(void)
{
    ot_aside *a = NULL;
    job j = {0};
    int n = 0;
    atomic_store(&gate, 0);
    ok(ot_aside_create(loop, 2, &a, NULL) == OT_OK, "created");
    ok(ot_aside_submit(a, work, done, &j, NULL) == OT_OK, "a job");
    while (ot_loop_post(loop, nothing, NULL) == OT_OK) {
        n++;
    }
    ok(n > 0, "%d posts fill the queue", n);
    atomic_store(&gate, 1);
    ot_clock_sleep_us(20000); /* it finds the queue full at least once */
    turn_until(&j.done);
    ok(j.done && j.worked, "the job ends when there is room again");
    ot_aside_destroy(a);
}

int main(void)
{
    loop_thread = pthread_self();
    if (ot_loop_create(16, &loop, NULL) != OT_OK) {
        return 1;
    }
    test_order();
    test_full_and_stop();
    test_full_posts();
    ot_loop_destroy(loop);
    return tap_done();
}
