/* The thread that calls the engine. */
#include "base/clock.h"
#include "base/mem.h"
#include "collective/carrier_internal.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define ROOM 64
/* An engine has no descriptor to sleep on. It is asked again after a share of the time in which
 * nothing has happened: what is late becomes later by that share. There is a limit, for what it
 * moves meanwhile: a low one once all ranks have begun an operation, a higher one while some are
 * late. When nothing is in flight it is asked on: what is done here may still be on its way. */
#define SHARE 8
#define LEAST_US 20
#define MOST_US 200
#define LATE_US 5000
#define IDLE_US 100000

static void sleep_locked(ot_carrier *c, uint64_t moved_ns, bool in_flight)
{
    struct timespec t;
    uint64_t now = ot_clock_mono_ns(), quiet_ns = now - OT_MAX(moved_ns, c->hurry_ns);
    uint64_t most = !in_flight ? IDLE_US : c->hurried > 0 ? MOST_US : LATE_US;
    uint64_t ns = now + OT_MIN(OT_MAX(quiet_ns / SHARE, (uint64_t)LEAST_US * 1000), most * 1000);
    t.tv_sec = (time_t)(ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    (void)pthread_cond_timedwait(&c->change, &c->lock, &t);
}

/* Hands what the progress thread has started to the engine. */
static ot_rc begin(ot_carrier *c, ot_carry *list, size_t *in_flight, ot_error *err)
{
    char message[OVERTAKE_MESSAGE_SIZE] = "";
    for (ot_carry *x = list, *next; x != NULL; x = next) {
        next = x->next;
        int rc = c->engine->start(x->lane, &x->call, x, message, sizeof message);
        if (rc != 0) {
            return ot_fail(err, (ot_rc)rc, "engine '%s': %s", c->name, message);
        }
        ++*in_flight;
    }
    return OT_OK;
}

/* What is done, as a list. */
static ot_rc turn(ot_carrier *c, ot_carry **list_out, size_t *n_out, ot_error *err)
{
    char message[OVERTAKE_MESSAGE_SIZE] = "";
    void *users[ROOM];
    *list_out = NULL;
    int rc = c->engine->turn(users, ROOM, n_out, message, sizeof message);
    if (rc != 0) {
        return ot_fail(err, (ot_rc)rc, "engine '%s': %s", c->name, message);
    }
    for (size_t i = *n_out; i > 0; i--) {
        ot_carry *x = users[i - 1];
        x->next = *list_out;
        *list_out = x;
    }
    return OT_OK;
}

static void tell_locked(ot_carrier *c, ot_carry *list)
{
    uint64_t one = 1;
    *c->done_end = list;
    while (*c->done_end != NULL) {
        c->done_end = &(*c->done_end)->next;
    }
    while (write(c->fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static void *run(void *arg)
{
    ot_carrier *c = arg;
    size_t in_flight = 0;
    uint64_t moved_ns = ot_clock_mono_ns();
    (void)prctl(PR_SET_TIMERSLACK, 1000); /* sleeps are short */
    pthread_mutex_lock(&c->lock);
    while (!c->stop && c->why.rc == OT_OK) {
        ot_carry *list = c->started, *done = NULL;
        size_t n = 0;
        ot_error err = {.rc = OT_OK};
        c->started = NULL;
        c->started_end = &c->started;
        c->calling = true;
        pthread_mutex_unlock(&c->lock);
        ot_rc rc = begin(c, list, &in_flight, &err);
        rc = rc == OT_OK ? turn(c, &done, &n, &err) : rc;
        pthread_mutex_lock(&c->lock);
        c->calling = false;
        c->why = err;
        in_flight -= n;
        if (n > 0 || rc != OT_OK) {
            tell_locked(c, done);
        }
        if (n > 0 || list != NULL) {
            moved_ns = ot_clock_mono_ns();
        }
        if (c->stop) {
            pthread_cond_broadcast(&c->change);
        } else if (n == 0 && c->started == NULL) {
            sleep_locked(c, moved_ns, in_flight > 0);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

ot_rc ot_carrier_thread_start(ot_carrier *c, ot_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&c->thread, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? OT_OK : ot_fail_errno(err, rc, "thread");
}

bool ot_carrier_thread_stop(ot_carrier *c, int64_t limit_us)
{
    struct timespec t;
    uint64_t ns = ot_clock_mono_ns() + (uint64_t)limit_us * 1000;
    int rc = 0;
    t.tv_sec = (time_t)(ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->change);
    while (c->calling && rc == 0) {
        rc = pthread_cond_timedwait(&c->change, &c->lock, &t);
    }
    bool out = !c->calling;
    pthread_mutex_unlock(&c->lock);
    return out;
}
