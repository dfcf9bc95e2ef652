#include "pipeline/internal.h"
#include "tap.h"

/* Every member differs from zero, so that one that is not written shows. */
static pl_state filled(void)
{
    pl_state s = {
        .paused = true,
        .frozen = true,
        .held_by = "anna",
        .held_reason = "a \"quoted\" reason",
        .frozen_us = 11,
        .pinned = 12,
        .champion = 3,
        .previous = 2,
        .champion_since_us = 13,
        .armed = true,
        .failures = 4,
        .cool_until_us = 14,
        .fired_us = {5, 6, 7},
        .n_fired = 3,
        .labels_at_training = 15,
        .degraded = true,
        .at_risk = true,
        .drift = true,
        .degraded_seq = 16,
        .at_risk_seq = 17,
        .drift_seq = 18,
        .hold_told = true,
        .cycles = 19,
        .champion_seq = 20,
        .cycle = {.number = 21,
                  .state = PL_RELEASING,
                  .pushed = true,
                  .by_person = true,
                  .path = "/srv/model",
                  .train_run = 22,
                  .first_run = 19,
                  .run = 23,
                  .run_phase = PL_RUN_ENDED,
                  .attempt = 24,
                  .version = 25,
                  .last_seq = 26,
                  .data = {{.name = "base", .rows = 27}, {.name = "recent", .rows = 28}},
                  .n_data = 2,
                  .watch_since_us = 29,
                  .caused_us = 30,
                  .trained_us = 31,
                  .registered_us = 32,
                  .evaluated_us = 33,
                  .released_us = 34,
                  .promoted_us = 35,
                  .train_us = 36,
                  .jobs_us = 37,
                  .held_told = true},
    };
    memset(s.champion_bundle.b, 1, 32);
    memset(s.previous_bundle.b, 2, 32);
    memset(s.code.b, 3, 32);
    memset(s.cycle.bundle.b, 4, 32);
    memset(s.cycle.data[0].digest.b, 5, 32);
    memset(s.cycle.data[1].digest.b, 6, 32);
    for (int i = 0; i < PL_OBJECTIVES; i++) {
        pl_budget *b = &s.budgets[i];
        b->rule = 1 + i;
        b->burning_seq = 50 + (uint64_t)i;
        b->spent = b->off = true;
        b->spent_seq = 60 + (uint64_t)i;
        b->off_us = 70 + i;
        b->granted_us = 80 + i;
    }
    ot_rollout_step steps[] = {
        {.kind = OT_ROLLOUT_SHADOW, .until_compared = 38, .at_most_us = 39, .alpha = 0.05},
        {.kind = OT_ROLLOUT_CANARY,
         .share = 0.1,
         .margin = 0.01,
         .at_most_us = 40,
         .otherwise = OT_ROLLOUT_END_ROLL_BACK},
        {.kind = OT_ROLLOUT_PROBATION, .at_most_us = 41, .roll_back_if_worse = true},
    };
    unsigned changed;
    ok(ot_rollout_start(&s.cycle.rollout, steps, 3, 42, &changed), "a release");
    (void)ot_rollout_feed(&s.cycle.rollout, OT_ROLLOUT_UNDECIDED, 38, 43);
    return s;
}

static void test_round_trip(void)
{
    pl_state s = filled(), back;
    ot_error err = {0};
    json_t *j = pl_state_json(&s);
    ok(pl_state_parse(j, &back, &err) == OT_OK, "read back: %s", err.msg);
    json_t *again = pl_state_json(&back);
    ok(json_equal(j, again), "what is read is what was written");
    json_decref(again);
    /* Byte for byte: a member that neither side knows would be zero in `back`. */
    ok(memcmp(&back, &s, sizeof s) == 0, "no member is lost on the way");
    is_str(back.held_reason, s.held_reason, "text");
    is_int(back.cycle.state, PL_RELEASING, "state of the cycle");
    is_int(back.cycle.data[1].rows, 28, "data");
    is_int(back.fired_us[2], 7, "times of firing");
    is_int(back.cycle.rollout.at, 1, "the release stands at its canary");
    is_near(ot_rollout_share(&back.cycle.rollout), 0.1, 0, "with its share");
    is_int(ot_rollout_deadline(&back.cycle.rollout), ot_rollout_deadline(&s.cycle.rollout),
           "and its deadline");
    ok(memcmp(&back.cycle.bundle, &s.cycle.bundle, 32) == 0, "digests");
    /* No member is left at zero by either side. */
    const char *key;
    json_t *v;
    size_t zero = 0;
    json_object_foreach(j, key, v)
    {
        zero += json_is_integer(v) && json_integer_value(v) == 0;
    }
    is_int(zero, 0, "the test fills every number");
    json_decref(j);
}

static void refuses(const char *path, const char *member, json_t *value, const char *what)
{
    pl_state s = filled(), back = {.champion = 77};
    ot_error err = {0};
    json_t *j = pl_state_json(&s), *at = j;
    char copy[64];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *save, *p = strtok_r(copy, ".", &save); p != NULL; p = strtok_r(NULL, ".", &save)) {
        at = json_object_get(at, p);
    }
    json_object_set_new(at, member, value);
    ok(pl_state_parse(j, &back, &err) != OT_OK && err.msg[0] != 0, "%s: %s", what, err.msg);
    is_int(back.champion, 77, "%s: the output is untouched", what);
    json_decref(j);
}

static void test_damage(void)
{
    refuses("", "champion", json_string("three"), "a number that is text");
    refuses("", "schema", json_integer(2), "a newer schema");
    refuses("", "code", json_string("12"), "a digest that is none");
    refuses("budgets.accuracy", "rule", json_integer(5), "a rule that there is not");
    refuses("cycle", "state", json_string("dancing"), "an unknown state");
    refuses("cycle.rollout", "at", json_integer(9), "a step beyond the last");
    refuses("cycle.rollout", "state", json_integer(-1), "a state of no release");
    char *path = ot_calloc(1, 2000);
    memset(path, 'x', 1999);
    refuses("cycle", "path", json_string(path), "text that is too long");
    ot_free(path);
    json_t *many = json_array();
    for (int i = 0; i < 17; i++) {
        json_array_append_new(many, json_object());
    }
    refuses("cycle", "data", many, "too many data sets");
}

static void test_older(void)
{
    pl_state s = filled(), back;
    ot_error err = {0};
    json_t *j = pl_state_json(&s);
    json_object_del(j, "pinned");
    ok(pl_state_parse(j, &back, &err) == OT_OK, "a member that an older version did not write");
    is_int(back.pinned, 0, "is zero");
    json_decref(j);
}

int main(void)
{
    test_round_trip();
    test_damage();
    test_older();
    return tap_done();
}
