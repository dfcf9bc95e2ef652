#include "serve/thread.h"

#include "base/clock.h"

#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

ot_rc ot_thread_start(pthread_t *thread_out, const char *name, void *(*fn)(void *), void *arg,
                      ot_error *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int code = pthread_create(thread_out, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code != 0) {
        return ot_fail_errno(err, code, "thread '%s'", name);
    }
    pthread_setname_np(*thread_out, name);
    return OT_OK;
}

void ot_thread_lower(int nice_value)
{
    /* On Linux a nice value belongs to the thread. */
    int ignored = setpriority(PRIO_PROCESS, (id_t)gettid(), nice_value);
    (void)ignored;
}

void ot_cond_init_mono(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

void ot_cond_wait_us(pthread_cond_t *c, pthread_mutex_t *lock, int64_t us)
{
    uint64_t due = ot_clock_mono_ns() + (uint64_t)us * 1000;
    struct timespec ts = {.tv_sec = (time_t)(due / 1000000000u),
                          .tv_nsec = (long)(due % 1000000000u)};
    pthread_cond_timedwait(c, lock, &ts);
}
