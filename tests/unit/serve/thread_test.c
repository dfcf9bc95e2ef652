#include "serve/thread.h"

#include "tap.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static struct attr mine(void)
{
    struct attr a = {.size = sizeof a};
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0u) != 0) {
        a.size = 0;
    }
    return a;
}

static bool has_slices(void)
{
    struct utsname u;
    int major = 0, minor = 0;
    return uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 12));
}

static void *prompt(void *arg)
{
    struct attr *before = arg, *after = before + 1;
    ot_thread_lower(7);
    *before = mine();
    ot_thread_prompt();
    *after = mine();
    return NULL;
}

int main(void)
{
    struct attr seen[2] = {0}, here = mine();
    pthread_t t;
    ot_error err;
    if (!ok(ot_thread_start(&t, "prompt", prompt, seen, &err) == OT_OK, "a thread")) {
        return tap_done();
    }
    pthread_join(t, NULL);
    if (seen[0].size == 0) {
        skip("sched_getattr is not allowed here");
        return tap_done();
    }
    is_int(seen[1].policy, SCHED_OTHER, "its policy stays");
    is_int(seen[1].nice, 7, "and its nice value");
    if (has_slices()) {
        ok(seen[0].runtime_ns != OT_THREAD_SLICE_NS, "its turns were the kernel's");
        is_int(seen[1].runtime_ns, OT_THREAD_SLICE_NS, "and are short now");
    } else {
        skip("turns of a chosen length need Linux 6.12");
    }
    is_int(mine().runtime_ns, here.runtime_ns, "other threads keep theirs");
    return tap_done();
}
