#include "collective/verdict.h"

#include <stdio.h>
#include <string.h>

bool ot_event_ends(const ot_event *e)
{
    return e->kind == OT_EVENT_EXITED || e->kind == OT_EVENT_KILLED || e->kind == OT_EVENT_LOST ||
           e->kind == OT_EVENT_FAILED;
}

static const char *advice(const ot_event *e)
{
    switch (e->kind) {
    case OT_EVENT_KILLED:
        return e->code == 9
                   ? "Look for the out-of-memory killer in that host's kernel log (dmesg), "
                     "and start the job again"
                   : "Look at the end of that rank's log, and start the job again";
    case OT_EVENT_EXITED:
        return "Look at the end of that rank's log: every rank calls overtake_finalize before it "
               "ends; start the job again";
    case OT_EVENT_LOST:
        return "Look whether that host is up and its network is, and start the job again";
    default:
        return "Mend that, and start the job again";
    }
}

int32_t ot_event_culprit(const ot_event *e)
{
    return e->kind == OT_EVENT_FAILED && e->code > 0 ? e->code - 1 : e->rank;
}

void ot_verdict_of_event(const ot_event *e, ot_error *out)
{
    char what[96];
    if (ot_event_culprit(e) != e->rank) {
        (void)ot_fail(out, OT_UNAVAILABLE, "%s (so found by rank %d, host %s)", e->text, e->rank,
                      e->host);
        return;
    }
    if (e->kind == OT_EVENT_KILLED) {
        snprintf(what, sizeof what, "was killed by signal %d (%s)", e->code, strsignal(e->code));
    } else if (e->kind == OT_EVENT_EXITED) {
        snprintf(what, sizeof what, "exited with code %d without overtake_finalize", e->code);
    } else if (e->kind == OT_EVENT_LOST) {
        snprintf(what, sizeof what, "is gone");
    } else {
        snprintf(what, sizeof what, "failed");
    }
    (void)ot_fail(out, OT_UNAVAILABLE, "rank %d (host %s) %s%s%s. %s", e->rank, e->host, what,
                  e->text[0] != '\0' ? ": " : "", e->text, advice(e));
}

void ot_verdict_of_link(int32_t rank, const char *host, const ot_error *why, ot_error *out)
{
    (void)ot_fail(out, OT_UNAVAILABLE,
                  "rank %d (host %s) can't be heard any more: %s, and nothing was told about why. "
                  "Look whether that rank still runs, and at the network between the hosts",
                  rank, host, why->msg);
}

void ot_verdict_of_left(int32_t rank, const char *host, ot_error *out)
{
    (void)ot_fail(out, OT_PRECONDITION,
                  "rank %d (host %s) has left (overtake_finalize) and did not ask for it. Let all "
                  "ranks ask for the same operations, or use join for uneven data",
                  rank, host);
}

void ot_verdict_of_mismatch(int32_t rank, const char *host, int32_t self, const char *self_host,
                            const ot_error *why, ot_error *out)
{
    (void)ot_fail(out, why->rc,
                  "rank %d (host %s) and rank %d (host %s) do not do the same: rank %d %s. Let all "
                  "ranks ask for unnamed operations in the same order with the same shapes, or "
                  "give them names",
                  rank, host, self, self_host, rank, why->msg);
}
