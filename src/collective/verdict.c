#include "collective/verdict.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAMED_MAX 8

bool ot_event_ends(const ot_event *e)
{
    return e->kind == OT_EVENT_EXITED || e->kind == OT_EVENT_KILLED || e->kind == OT_EVENT_LOST ||
           e->kind == OT_EVENT_FAILED;
}

static const char *advice(const ot_event *e)
{
    switch (e->kind) {
    case OT_EVENT_KILLED:
        return e->code == 9 ? "Look for the out-of-memory killer in that host's kernel log (dmesg)"
                            : "Look at the end of that rank's log";
    case OT_EVENT_EXITED:
        return "Look at the end of that rank's log: every rank calls overtake_finalize before it "
               "ends";
    case OT_EVENT_LOST:
        return "Look whether that host is up and its network is";
    default:
        return "Mend that";
    }
}

void ot_verdict_next(const bool *gone, int32_t size, int64_t min_np, char out[OT_VERDICT_NEXT])
{
    char names[64] = "";
    int32_t left = 0;
    size_t n = 0;
    for (int32_t r = 0; r < size; r++) {
        if (!gone[r] && left++ < NAMED_MAX) {
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%" PRId32, n > 0 ? ", " : "", r);
        }
    }
    if (left > NAMED_MAX) {
        snprintf(names + n, sizeof names - n, " and %" PRId32 " more", left - NAMED_MAX);
    }
    if (min_np <= 0) {
        snprintf(out, OT_VERDICT_NEXT, "start the job again");
    } else if (left < min_np) {
        snprintf(out, OT_VERDICT_NEXT,
                 "%" PRId32 " of %" PRId32 " ranks %s left, and --min-np is %" PRId64
                 ": the job ends",
                 left, size, left == 1 ? "is" : "are", min_np);
    } else {
        snprintf(out, OT_VERDICT_NEXT, "training goes on with rank%s %s in the next epoch",
                 left == 1 ? "" : "s", names);
    }
}

int32_t ot_event_culprit(const ot_event *e)
{
    return e->kind == OT_EVENT_FAILED && e->code > 0 ? e->code - 1 : e->rank;
}

void ot_verdict_of_event(const ot_event *e, const char *next, ot_error *out)
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
    (void)ot_fail(out, OT_UNAVAILABLE, "rank %d (host %s) %s%s%s. %s; %s", e->rank, e->host, what,
                  e->text[0] != '\0' ? ": " : "", e->text, advice(e), next);
}

void ot_verdict_of_link(int32_t rank, const char *host, bool elastic, const ot_error *why,
                        ot_error *out)
{
    (void)ot_fail(out, OT_UNAVAILABLE,
                  "rank %d (host %s) can't be heard any more: %s, and nothing was told about why. "
                  "Look whether that rank still runs, and at the network between the hosts%s",
                  rank, host, why->msg,
                  elastic ? "; the next epoch is of those that can link with each other" : "");
}

void ot_verdict_of_left(int32_t rank, const char *host, bool moved, ot_error *out)
{
    if (moved) {
        (void)ot_fail(
            out, OT_PRECONDITION,
            "rank %d (host %s) has gone on to the next epoch (overtake_reform) and did not "
            "ask for it. Let all ranks call it after the same step",
            rank, host);
        return;
    }
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
