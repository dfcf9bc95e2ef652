#include "collective/meet_clock.h"

#include "base/hash.h"

#include <string.h>

#define FIRST 8            /* exchanges */
#define DRIFT_PER_S 100000 /* ns: clocks that are 100 ppm apart */

static uint64_t grown(const meet_clock *c, uint64_t now_ns)
{
    return c->error_ns + (now_ns - c->at_ns) / 1000000000u * DRIFT_PER_S;
}

bool meet_clock_take(meet_clock *c, const ot_meet_time *t, uint64_t now_ns)
{
    bool first = ++c->taken < FIRST;
    if (t->asked_ns > now_ns || t->answered_ns > INT64_MAX || now_ns > INT64_MAX) {
        return first;
    }
    if (t->kernel == meet_kernel()) {
        *c = (meet_clock){.known = true, .same = true, .taken = c->taken};
        return false;
    }
    uint64_t error = (now_ns - t->asked_ns) / 2;
    if (!c->known || error <= grown(c, now_ns)) {
        c->known = true;
        c->offset_ns = (int64_t)t->answered_ns - (int64_t)(t->asked_ns + error);
        c->error_ns = error;
        c->at_ns = now_ns;
    }
    return first;
}

bool meet_clock_read(const meet_clock *c, uint64_t now_ns, int64_t *offset_ns, uint64_t *error_ns)
{
    *offset_ns = c->offset_ns;
    *error_ns = c->same || !c->known ? 0 : grown(c, now_ns);
    return c->known;
}

uint64_t meet_kernel(void)
{
    char host[256], machine[96];
    ot_identity_host(host, machine); /* the boot's id, a colon, more */
    return ot_hash_stable(machine, strcspn(machine, ":"), 0);
}
