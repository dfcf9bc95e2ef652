#include "launch/job_explain.h"

#include "base/mem.h"
#include "collective/meet.h"
#include "tap.h"

#include <jansson.h>

static const int32_t hosts[4] = {0, 0, 1, 1};

/* Ranks whose 10 s of 100 steps went to these, in percent. */
static ot_pulse rank_of(uint64_t late, int32_t late_rank, uint64_t wire, uint64_t input)
{
    return (ot_pulse){.operations = 300,
                      .bytes_out = 1200u << 20,
                      .slowest = -1,
                      .account = {.wall = 10000000,
                                  .blocked = (late + wire) * 100000,
                                  .late = late * 100000,
                                  .input = input * 100000,
                                  .wire = (wire + 5) * 100000,
                                  .steps = 100,
                                  .late_most = late * 100000,
                                  .late_rank = late_rank}};
}

static ot_explain of(const ot_pulse *p, const ot_settings *s)
{
    ot_explain e;
    ot_job_explain(p, hosts, 4, s, &e);
    double sum = 0;
    for (int b = 0; b < OT_BOUNDS; b++) {
        sum += e.share[b];
    }
    is_near(sum, 1, 1e-9, "the shares are the whole");
    return e;
}

static bool says(const ot_explain *e, const ot_settings *s, const char *what)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_job_explain_text(e, s, "b", &text);
    bool found = strstr(text.data, what) != NULL;
    printf("%s%s", found ? "" : "# lacks: ", found ? "" : what);
    for (const char *p = text.data; !found && *p != 0; p += strcspn(p, "\n") + 1) {
        printf("\n# %.*s", (int)strcspn(p, "\n"), p);
    }
    printf("%s", found ? "" : "\n");
    return found;
}

static void test_bounds(void)
{
    ot_settings s = ot_settings_default();
    ot_pulse compute[4], wire[4], input[4];
    for (int r = 0; r < 4; r++) {
        compute[r] = rank_of(4, (r + 1) % 4, 10, 2);
        wire[r] = rank_of(2, (r + 1) % 4, 70, 2);
        input[r] = rank_of(2, (r + 1) % 4, 5, 80);
    }
    ot_explain e = of(compute, &s);
    ok(e.bound == OT_BOUND_COMPUTE && e.slow_rank == -1 && e.hosts == 2, "compute");
    is_near(e.share[OT_BOUND_COMPUTE], 0.84, 1e-6, "its share");
    is_near(e.step_us, 100000, 1e-6, "a step");
    e = of(wire, &s);
    ok(e.bound == OT_BOUND_WIRE, "wire");
    is_near(e.busy, 0.75, 1e-6, "under way");
    ok(says(&e, &s, "a faster network would save at most 70.0 ms a step"), "advice");
    ok(says(&e, &s, "once the links are measured"), "no prediction without measured links");
    ok(e.auto_saves_us == 0 && e.link_us == 0, "nor a number");
    e = of(input, &s);
    ok(e.bound == OT_BOUND_INPUT && says(&e, &s, "a reader that keeps up"), "input");
}

static void test_straggler(void)
{
    ot_settings s = ot_settings_default();
    ot_pulse p[4];
    for (int r = 0; r < 4; r++) {
        p[r] = rank_of(r == 2 ? 0 : 60, r == 2 ? -1 : 2, 5, r == 2 ? 75 : 0);
    }
    ot_explain e = of(p, &s);
    ok(e.bound == OT_BOUND_STRAGGLER && e.slow_rank == 2, "rank %d", e.slow_rank);
    is_near(e.share[OT_BOUND_STRAGGLER], 0.6, 1e-6, "its own time does not count");
    ok(says(&e, &s, "waiting for rank 2 (host b)") && says(&e, &s, "look at its input"),
       "and why it is slow");
    for (int r = 0; r < 4; r++) {
        p[r] = rank_of(60, (r + 1) % 4, 5, 0);
    }
    e = of(p, &s);
    ok(e.bound == OT_BOUND_STRAGGLER && e.slow_rank == -1 && says(&e, &s, "now one, now another"),
       "in turn: nobody is accused");
    /* Two that wait for each other, most of it for one. */
    p[0] = rank_of(60, 1, 5, 0);
    p[1] = rank_of(55, 0, 5, 0);
    p[2] = p[3] = rank_of(0, -1, 5, 0);
    e = of(p, &s);
    ok(e.slow_rank == -1, "who waits as much is no straggler");
}

static void test_predicted(void)
{
    ot_settings s = ot_settings_default();
    ot_error err = {0};
    ot_pulse p[4];
    if (ot_cost_parse("remote.latency_us = 100\nremote.bytes_per_us = 115\n", &s.cost, &err) !=
        OT_OK) {
        printf("# %s\n", err.msg);
    }
    for (int r = 0; r < 4; r++) {
        p[r] = rank_of(2, (r + 1) % 4, 70, 2);
    }
    ot_explain e = of(p, &s);
    is_near(e.link_us, 12 * 1048576 / 115.0, 1, "bytes over the link");
    is_near(e.auto_saves_us, 0, 0, "nothing by sums that can't be made shorter");
    ok(says(&e, &s, "--wire auto is predicted to save nothing"), "which is said");
    for (int r = 0; r < 4; r++) {
        p[r].account.exact = 8000000;
        p[r].account.lossy = 800000;
    }
    e = of(p, &s);
    is_near(e.auto_saves_us, 0.9 * 70000, 1e-6, "the share that auto makes sums shorter by");
    p[0].account.exact = p[1].account.exact = p[2].account.exact = p[3].account.exact = 1000000;
    e = of(p, &s);
    is_near(e.auto_saves_us, 2000, 1e-6, "and no more than it makes them shorter");
    ok(says(&e, &s, "--wire auto is predicted to save"), "and it is said");
    s.loss = OT_LOSS_ANY;
    e = of(p, &s);
    ok(e.auto_saves_us == 0, "not when it is on already");
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_job_explain_json(&e, &text);
    json_t *j = json_loads(text.data, 0, NULL);
    is_str(json_string_value(json_object_get(j, "bound")), "wire", "as JSON");
    json_decref(j);
}

static void test_little(void)
{
    ot_settings s = ot_settings_default();
    ot_pulse p[4] = {{.slowest = -1}, {.slowest = -1}, {.slowest = -1}, {.slowest = -1}};
    ot_explain e;
    ot_job_explain(p, hosts, 4, &s, &e);
    ok(!e.known && says(&e, &s, "too little"), "nothing was done");
}

int main(void)
{
    test_bounds();
    test_straggler();
    test_predicted();
    test_little();
    return tap_done();
}
