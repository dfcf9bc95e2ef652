#include "collective/verdict.h"

#include "tap.h"

static void next_is(const char *gone, int64_t min_np, const char *want)
{
    bool g[64] = {0};
    char got[OT_VERDICT_NEXT];
    int32_t n = (int32_t)strlen(gone);
    for (int32_t r = 0; r < n; r++) {
        g[r] = gone[r] == 'x';
    }
    ot_verdict_next(g, n, min_np, got);
    is_str(got, want, "%s, %d at least", gone, (int)min_np);
}

int main(void)
{
    next_is(".x.", 0, "start the job again");
    next_is(".x.", 2, "training goes on with ranks 0, 2 in the next epoch");
    next_is("x.", 1, "training goes on with rank 1 in the next epoch");
    next_is(".x.x", 3, "2 of 4 ranks are left, and --min-np is 3: the job ends");
    next_is("x...........", 1,
            "training goes on with ranks 1, 2, 3, 4, 5, 6, 7, 8 and 3 more in the next epoch");
    ot_event e = {.kind = OT_EVENT_KILLED, .rank = 1, .code = 15, .host = "b", .text = "loss 0.4"};
    ot_error err;
    ot_verdict_of_event(&e, "NEXT", &err);
    is_str(err.msg,
           "rank 1 (host b) was killed by signal 15 (Terminated): loss 0.4. Look at the end of "
           "that rank's log; NEXT",
           "an event in words");
    return tap_done();
}
