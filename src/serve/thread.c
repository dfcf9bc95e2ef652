#include "serve/thread.h"

#include "base/clock.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
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

/* sched_setattr(2), which has neither a wrapper nor a header that goes with <sched.h>. */
struct sched_attr_v0 {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void ot_thread_prompt(void)
{
    struct sched_attr_v0 a = {.size = sizeof a};
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0u) != 0 || a.policy != SCHED_OTHER) {
        return;
    }
    a.size = sizeof a;
    a.flags = 0;
    a.runtime_ns = OT_THREAD_SLICE_NS;
    (void)syscall(SYS_sched_setattr, 0, &a, 0u);
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
