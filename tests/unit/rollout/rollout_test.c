#include "rollout/rollout.h"
#include "tap.h"

#define MIN 60000000ll

static const ot_rollout_step plan[] = {
    {.kind = OT_ROLLOUT_SHADOW, .until_compared = 200, .at_most_us = 60 * MIN},
    {.kind = OT_ROLLOUT_CANARY,
     .share = 0.1,
     .margin = 0.01,
     .at_most_us = 120 * MIN,
     .otherwise = OT_ROLLOUT_END_ROLL_BACK},
    {.kind = OT_ROLLOUT_CANARY,
     .share = 0.5,
     .margin = 0.01,
     .at_most_us = 120 * MIN,
     .otherwise = OT_ROLLOUT_END_ROLL_BACK},
    {.kind = OT_ROLLOUT_PROBATION, .at_most_us = 1440 * MIN, .roll_back_if_worse = true},
};

static ot_rollout started(int64_t now)
{
    ot_rollout r;
    unsigned changed = 0;
    ok(ot_rollout_start(&r, plan, 4, now, &changed), "plan accepted");
    return r;
}

static void test_good_path(void)
{
    ot_rollout r = started(0);
    is_near(ot_rollout_share(&r), 0, 0, "a shadow has no traffic");
    ok(ot_rollout_compares(&r), "a shadow is compared");
    is_int(ot_rollout_feed(&r, OT_ROLLOUT_UNDECIDED, 199, MIN), 0, "199 pairs are not 200");
    is_int(ot_rollout_feed(&r, OT_ROLLOUT_UNDECIDED, 200, MIN), OT_ROLLOUT_CHANGED_STEP,
           "200 pairs are enough");
    is_near(ot_rollout_share(&r), 0.1, 0, "first share");
    is_int(ot_rollout_feed(&r, OT_ROLLOUT_UNDECIDED, 5000, 2 * MIN), 0,
           "no verdict, no step, however many pairs");
    ot_rollout_feed(&r, OT_ROLLOUT_NOT_WORSE, 5000, 3 * MIN);
    is_near(ot_rollout_share(&r), 0.5, 0, "second share");
    is_int(ot_rollout_feed(&r, OT_ROLLOUT_NOT_WORSE, 5000, 4 * MIN),
           OT_ROLLOUT_CHANGED_STEP | OT_ROLLOUT_CHANGED_PROMOTED, "promoted into probation");
    is_near(ot_rollout_share(&r), 1, 0, "all the traffic");
    ok(ot_rollout_compares(&r), "the previous version runs in the shadow");
    is_int(ot_rollout_tick(&r, 4 * MIN + 1440 * MIN - 1), 0, "probation lasts");
    is_int(ot_rollout_tick(&r, 4 * MIN + 1440 * MIN),
           OT_ROLLOUT_CHANGED_STEP | OT_ROLLOUT_CHANGED_END, "probation ends");
    is_int(r.state, OT_ROLLOUT_DONE, "done");
    is_int(ot_rollout_feed(&r, OT_ROLLOUT_WORSE, 9, 9999 * MIN), 0, "an ended one hears nothing");
    is_near(ot_rollout_share(&r), 1, 0, "and keeps its traffic");
}

static void test_worse(void)
{
    ot_rollout r = started(0);
    is_int(ot_rollout_feed(&r, OT_ROLLOUT_WORSE, 40, MIN), OT_ROLLOUT_CHANGED_END,
           "worse in the shadow");
    is_int(r.state, OT_ROLLOUT_STOPPED, "stopped: it never had traffic");
    ok(strstr(r.reason, "40 rows") != NULL, "the reason has the number: %s", r.reason);
    r = started(0);
    ot_rollout_feed(&r, OT_ROLLOUT_UNDECIDED, 200, MIN);
    ot_rollout_feed(&r, OT_ROLLOUT_WORSE, 70, 2 * MIN);
    is_int(r.state, OT_ROLLOUT_ROLLED_BACK, "worse as canary");
    is_near(ot_rollout_share(&r), 0, 0, "no more traffic");
    r = started(0);
    ot_rollout_feed(&r, OT_ROLLOUT_UNDECIDED, 200, MIN);
    ot_rollout_feed(&r, OT_ROLLOUT_NOT_WORSE, 70, 2 * MIN);
    ot_rollout_feed(&r, OT_ROLLOUT_NOT_WORSE, 70, 3 * MIN);
    ok(r.promoted, "promoted");
    ot_rollout_feed(&r, OT_ROLLOUT_WORSE, 300, 4 * MIN);
    is_int(r.state, OT_ROLLOUT_ROLLED_BACK, "worse in probation");
}

static void test_deadlines(void)
{
    ot_rollout r = started(0);
    is_int(ot_rollout_deadline(&r), 60 * MIN, "deadline of the shadow");
    is_int(ot_rollout_feed(&r, OT_ROLLOUT_UNDECIDED, 200, 60 * MIN), OT_ROLLOUT_CHANGED_STEP,
           "enough pairs at the deadline count");
    ot_rollout_tick(&r, 60 * MIN + 120 * MIN);
    is_int(r.state, OT_ROLLOUT_ROLLED_BACK, "a canary without verdict is rolled back");
    r = started(0);
    ot_rollout_tick(&r, 60 * MIN);
    is_int(r.state, OT_ROLLOUT_STOPPED, "a shadow without pairs stops");
    ot_rollout_step go_on = {.kind = OT_ROLLOUT_SHADOW,
                             .until_compared = 9,
                             .at_most_us = MIN,
                             .otherwise = OT_ROLLOUT_END_CONTINUE};
    unsigned changed = 0;
    ok(ot_rollout_start(&r, &go_on, 1, 0, &changed), "one step");
    is_int(ot_rollout_tick(&r, MIN),
           OT_ROLLOUT_CHANGED_STEP | OT_ROLLOUT_CHANGED_PROMOTED | OT_ROLLOUT_CHANGED_END,
           "otherwise: continue promotes");
}

static void test_approval_and_abort(void)
{
    ot_rollout_step ask = {.kind = OT_ROLLOUT_APPROVAL, .at_most_us = MIN};
    ot_rollout r;
    unsigned changed = 0;
    ok(ot_rollout_start(&r, &ask, 1, 0, &changed), "approval");
    ok(!ot_rollout_compares(&r), "nothing is compared while a person thinks");
    is_int(ot_rollout_feed(&r, OT_ROLLOUT_NOT_WORSE, 1000, 1), 0, "evidence does not approve");
    ot_rollout_feed(&r, OT_ROLLOUT_REFUSED, 0, 2);
    is_int(r.state, OT_ROLLOUT_STOPPED, "refused");
    r = started(0);
    ot_rollout_feed(&r, OT_ROLLOUT_UNDECIDED, 200, MIN);
    ot_rollout_abort(&r, "rolled back by anna", 2 * MIN);
    is_int(r.state, OT_ROLLOUT_ROLLED_BACK, "a person can end it");
    is_str(r.reason, "rolled back by anna", "and the reason says who");
}

static void test_bad_plans(void)
{
    ot_rollout r;
    unsigned changed;
    ot_rollout_step s = {.kind = OT_ROLLOUT_CANARY, .share = 1.0, .at_most_us = 1};
    ok(!ot_rollout_start(&r, &s, 1, 0, &changed), "a canary of everything is none");
    s = (ot_rollout_step){.kind = OT_ROLLOUT_SHADOW};
    ok(!ot_rollout_start(&r, &s, 1, 0, &changed), "a wait without at_most is refused");
    ot_rollout_step two[2] = {{.kind = OT_ROLLOUT_PROBATION, .at_most_us = 1},
                              {.kind = OT_ROLLOUT_SHADOW, .at_most_us = 1}};
    ok(!ot_rollout_start(&r, two, 2, 0, &changed), "probation is last");
    ok(!ot_rollout_start(&r, two, OT_ROLLOUT_STEPS_MAX + 1, 0, &changed), "too many steps");
    ok(ot_rollout_start(&r, NULL, 0, 5, &changed), "no steps");
    ok(r.promoted && r.state == OT_ROLLOUT_DONE, "means promotion at once");
}

int main(void)
{
    test_good_path();
    test_worse();
    test_deadlines();
    test_approval_and_abort();
    test_bad_plans();
    return tap_done();
}
