#include "rollout/rollout.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void because(ot_rollout *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void because(ot_rollout *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->reason, sizeof r->reason, fmt, ap);
    va_end(ap);
}

static bool step_ok(const ot_rollout_step *s, bool last)
{
    if (s->at_most_us <= 0) {
        return false;
    }
    if (s->kind == OT_ROLLOUT_CANARY && !(s->share > 0 && s->share < 1)) {
        return false;
    }
    return s->kind != OT_ROLLOUT_PROBATION || last;
}

/* Promotion lies between the last step that is no probation and what follows it. */
static unsigned promote_if_due(ot_rollout *r)
{
    bool at_end = r->at == r->n_steps;
    bool in_probation = !at_end && r->steps[r->at].kind == OT_ROLLOUT_PROBATION;
    unsigned changed = 0;
    if (!r->promoted && (at_end || in_probation)) {
        r->promoted = true;
        changed |= OT_ROLLOUT_CHANGED_PROMOTED;
    }
    if (at_end) {
        r->state = OT_ROLLOUT_DONE;
        changed |= OT_ROLLOUT_CHANGED_END;
    }
    return changed;
}

static unsigned advance(ot_rollout *r, int64_t now_us)
{
    r->at++;
    r->entered_us = now_us;
    return OT_ROLLOUT_CHANGED_STEP | promote_if_due(r);
}

static unsigned end_badly(ot_rollout *r, bool had_traffic)
{
    r->state = had_traffic ? OT_ROLLOUT_ROLLED_BACK : OT_ROLLOUT_STOPPED;
    return OT_ROLLOUT_CHANGED_END;
}

static bool has_traffic(const ot_rollout *r)
{
    return r->promoted || r->steps[r->at].kind == OT_ROLLOUT_CANARY;
}

bool ot_rollout_start(ot_rollout *r, const ot_rollout_step *steps, size_t n, int64_t now_us,
                      unsigned *changed_out)
{
    if (n > OT_ROLLOUT_STEPS_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!step_ok(&steps[i], i + 1 == n)) {
            return false;
        }
    }
    ot_rollout x = {.n_steps = n, .state = OT_ROLLOUT_RUNNING, .entered_us = now_us};
    if (n > 0) {
        memcpy(x.steps, steps, n * sizeof *steps);
    }
    because(&x, n > 0 ? "release started" : "no stage to pass");
    unsigned changed = OT_ROLLOUT_CHANGED_STEP | promote_if_due(&x);
    *r = x;
    *changed_out = changed;
    return true;
}

static unsigned feed_probation(ot_rollout *r, const ot_rollout_step *s, ot_rollout_verdict v,
                               int64_t compared)
{
    if (v == OT_ROLLOUT_WORSE && s->roll_back_if_worse) {
        because(r, "worse than the previous version on the same %lld rows", (long long)compared);
        return end_badly(r, true);
    }
    return 0;
}

static unsigned feed_blue_green(ot_rollout *r, const ot_rollout_step *s, ot_rollout_verdict v,
                                int64_t compared, int64_t now_us)
{
    if (v == OT_ROLLOUT_WORSE) {
        because(r, "worse in the shadow on the same %lld rows", (long long)compared);
        return end_badly(r, false);
    }
    if (v != OT_ROLLOUT_READY || compared < s->until_compared) {
        return 0;
    }
    if (s->until_compared > 0) {
        because(r, "every replica serves it, and it is not worse in the shadow on %lld rows",
                (long long)compared);
    } else {
        because(r, "every replica serves it");
    }
    return advance(r, now_us);
}

static unsigned feed_step(ot_rollout *r, ot_rollout_verdict v, int64_t compared, int64_t now_us)
{
    const ot_rollout_step *s = &r->steps[r->at];
    switch (s->kind) {
    case OT_ROLLOUT_APPROVAL:
        if (v == OT_ROLLOUT_APPROVED) {
            because(r, "approved");
            return advance(r, now_us);
        }
        if (v == OT_ROLLOUT_REFUSED) {
            because(r, "refused by a person");
            return end_badly(r, false);
        }
        return 0;
    case OT_ROLLOUT_SHADOW:
        if (v == OT_ROLLOUT_WORSE) {
            because(r, "worse in the shadow on the same %lld rows", (long long)compared);
            return end_badly(r, false);
        }
        if (compared >= s->until_compared) {
            because(r, "not worse in the shadow on %lld rows", (long long)compared);
            return advance(r, now_us);
        }
        return 0;
    case OT_ROLLOUT_CANARY:
        if (v == OT_ROLLOUT_WORSE) {
            because(r, "worse as canary on the same %lld rows", (long long)compared);
            return end_badly(r, true);
        }
        if (v == OT_ROLLOUT_NOT_WORSE) {
            because(r, "not worse as canary at %g%% on %lld rows", s->share * 100,
                    (long long)compared);
            return advance(r, now_us);
        }
        return 0;
    case OT_ROLLOUT_PROBATION:
        return feed_probation(r, s, v, compared);
    case OT_ROLLOUT_BLUE_GREEN:
        return feed_blue_green(r, s, v, compared, now_us);
    }
    return 0;
}

unsigned ot_rollout_feed(ot_rollout *r, ot_rollout_verdict v, int64_t compared, int64_t now_us)
{
    if (r->state != OT_ROLLOUT_RUNNING) {
        return 0;
    }
    unsigned changed = feed_step(r, v, compared, now_us);
    return changed != 0 ? changed : ot_rollout_tick(r, now_us);
}

unsigned ot_rollout_tick(ot_rollout *r, int64_t now_us)
{
    if (r->state != OT_ROLLOUT_RUNNING || now_us < ot_rollout_deadline(r)) {
        return 0;
    }
    const ot_rollout_step *s = &r->steps[r->at];
    if (s->kind == OT_ROLLOUT_PROBATION) {
        because(r, "probation passed");
        return advance(r, now_us);
    }
    because(r,
            s->kind == OT_ROLLOUT_BLUE_GREEN
                ? "%s: not loaded by every replica, or not compared, in time"
                : "%s: no verdict in time",
            ot_rollout_kind_name(s->kind));
    if (s->otherwise == OT_ROLLOUT_END_CONTINUE) {
        return advance(r, now_us);
    }
    return end_badly(r, has_traffic(r));
}

unsigned ot_rollout_abort(ot_rollout *r, const char *reason, int64_t now_us)
{
    if (r->state != OT_ROLLOUT_RUNNING) {
        return 0;
    }
    r->entered_us = now_us;
    because(r, "%s", reason);
    return end_badly(r, has_traffic(r));
}

double ot_rollout_share(const ot_rollout *r)
{
    if (r->state == OT_ROLLOUT_STOPPED || r->state == OT_ROLLOUT_ROLLED_BACK) {
        return 0;
    }
    if (r->promoted) {
        return 1;
    }
    const ot_rollout_step *s = &r->steps[r->at];
    return s->kind == OT_ROLLOUT_CANARY ? s->share : 0;
}

bool ot_rollout_compares(const ot_rollout *r)
{
    const ot_rollout_step *s = ot_rollout_step_now(r);
    return ot_rollout_loads(r) && (s->kind != OT_ROLLOUT_BLUE_GREEN || s->until_compared > 0);
}

bool ot_rollout_loads(const ot_rollout *r)
{
    return r->state == OT_ROLLOUT_RUNNING && r->steps[r->at].kind != OT_ROLLOUT_APPROVAL;
}

int64_t ot_rollout_deadline(const ot_rollout *r)
{
    if (r->state != OT_ROLLOUT_RUNNING) {
        return INT64_MAX;
    }
    int64_t at;
    return __builtin_add_overflow(r->entered_us, r->steps[r->at].at_most_us, &at) ? INT64_MAX : at;
}

const ot_rollout_step *ot_rollout_step_now(const ot_rollout *r)
{
    return r->state == OT_ROLLOUT_RUNNING ? &r->steps[r->at] : NULL;
}

const char *ot_rollout_kind_name(ot_rollout_kind k)
{
    static const char *const names[] = {"approval", "shadow", "canary", "probation", "blue_green"};
    return names[k];
}

const char *ot_rollout_state_name(ot_rollout_state s)
{
    static const char *const names[] = {"running", "done", "stopped", "rolled_back"};
    return names[s];
}
