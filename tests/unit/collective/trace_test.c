/* The account of a rank's time, on a clock of the test's own; the ring and its text. */
#include "collective/trace.h"

#include "base/clock.h"
#include "base/mem.h"
#include "collective/meet_clock.h"
#include "tap.h"

#include <jansson.h>

#define MS UINT64_C(1000000)

static uint64_t now_ns;

static uint64_t mono(void *self)
{
    (void)self;
    return now_ns;
}

static const ot_clock_source source = {.mono_ns = mono};

static ot_trace *make(int32_t rank)
{
    ot_error err = {0};
    ot_trace *t;
    if (ot_trace_create(rank, 3, &t, &err) != OT_OK) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    now_ns = 1000 * MS;
    return t;
}

static const ot_late nobody = {.rank = -1};

static void ran(ot_trace *t, uint64_t active_ms, uint64_t wired_ms, ot_late late, uint64_t hash)
{
    ot_times times = {.active = active_ms * MS, .wired = wired_ms * MS};
    ot_trace_ran(t, &times, late, 1, hash);
}

static void wait_for(ot_trace *t, uint64_t ms, ot_late late)
{
    ot_trace_block(t);
    now_ns += ms * MS;
    ot_trace_unblock(t, "w", late);
}

static void test_account(void)
{
    ot_trace *t = make(0);
    wait_for(t, 50, nobody);
    ot_trace_input(t, 20000);
    ot_trace_step(t);
    ot_account a = ot_trace_account(t);
    ok(a.wall == 0 && a.blocked == 0 && a.input == 0 && a.steps == 0,
       "what comes before the first operation has ended is start-up");

    ran(t, 1040, 1050, nobody, 7); /* the account begins: it is 1050 */
    ot_trace_clock(t, 500 * MS, 0);
    now_ns = 1100 * MS; /* 50 computed */
    /* 40 ms blocked; rank 2 asked 30 ms after this began, on a clock 500 ms ahead of ours. */
    wait_for(t, 40, (ot_late){.ns = 1630 * MS, .rank = 2});
    ran(t, 1100, 1140, (ot_late){.ns = 1630 * MS, .rank = 2}, 7);
    a = ot_trace_account(t);
    is_int(a.wall, 90000, "the whole");
    is_int(a.blocked, 40000, "blocked");
    is_int(a.late, 30000, "of which for a late rank");
    is_int(a.wire, 10000, "under way: not while a late rank held it up");
    ok(a.late_rank == 2 && a.late_most == 30000, "rank %d", a.late_rank);
    is_int(a.steps, 1, "a step: the plan's bucket came again");
    ot_trace_predicted(t, 300.5, 100.25);
    ot_trace_predicted(t, 300.5, 100.25);
    a = ot_trace_account(t);
    ok(a.exact == 601 && a.lossy == 200, "what sums are predicted to take");

    wait_for(t, 10, (ot_late){.ns = 1640 * MS, .rank = 2}); /* it had asked before we waited */
    wait_for(t, 5, (ot_late){.ns = 1700 * MS, .rank = 0});  /* that was us */
    a = ot_trace_account(t);
    ok(a.late == 30000 && a.blocked == 55000, "who asked in time, and we ourselves, are not late");

    now_ns += 25 * MS;
    ot_trace_input(t, 20000);
    ot_trace_input(t, 20000); /* another thread, the same time */
    ot_trace_step(t);
    a = ot_trace_account(t);
    is_int(a.input, 20000, "input of two threads at once is one wait");
    is_int(a.wall, 130000, "until the step's end");
    is_int(a.steps, 1, "marks of the program count");
    ot_trace_destroy(t);
}

/* Two threads wait, one within the other: the union counts. */
static void test_nested(void)
{
    ot_trace *t = make(0);
    ran(t, 900, 1000, nobody, 7);
    ot_trace_block(t);
    now_ns += 2 * MS;
    ot_trace_block(t);
    now_ns += 3 * MS;
    ot_trace_unblock(t, "b", nobody);
    now_ns += 5 * MS;
    ot_trace_unblock(t, "a", nobody);
    ot_account a = ot_trace_account(t);
    ok(a.blocked == 10000 && a.wall == 10000, "10 ms, not 13: %llu", (unsigned long long)a.blocked);
    ot_trace_destroy(t);
}

static json_t *load(ot_trace *t, ot_trace_info *info)
{
    OT_AUTO(ot_str_done) ot_str events = OT_STR_INIT, file = OT_STR_INIT;
    ot_error err = {0};
    json_error_t why;
    if (ot_trace_stop(t, "a \"host\"", &events, info, &err) != OT_OK) {
        return NULL;
    }
    ot_trace_file(&file, "{\"x\":1}", events.data, events.len);
    json_t *j = json_loads(file.data, 0, &why);
    if (j == NULL) {
        printf("# line %d: %s\n", why.line, why.text);
    }
    json_t *found = json_incref(json_object_get(j, "traceEvents"));
    json_decref(j);
    return found;
}

/* The events of this name and kind. */
static int count(const json_t *events, const char *ph, const char *name)
{
    int n = 0;
    size_t i;
    json_t *e;
    json_array_foreach(events, i, e)
    {
        n += strcmp(json_string_value(json_object_get(e, "ph")), ph) == 0 &&
             strcmp(json_string_value(json_object_get(e, "name")), name) == 0;
    }
    return n;
}

static void test_ring(void)
{
    ot_trace *t = make(1);
    ot_error err = {0};
    ot_trace_info info;
    char name[300];
    ok(!ot_trace_on(t) &&
           ot_trace_stop(t, "a", &(ot_str)OT_STR_INIT, &info, &err) == OT_PRECONDITION,
       "nothing is recorded before it is asked for");
    ot_trace_op op = {.name = "early", .asked = 1};
    ot_trace_op_add(t, &op);
    ok(ot_trace_start(t, &err) == OT_OK && ot_trace_on(t), "started");
    ok(ot_trace_start(t, &err) == OT_PRECONDITION, "twice: %s", err.msg);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    memcpy(name + sizeof name - 5, "/end", 4);
    op = (ot_trace_op){.name = name, .asked = 1000 * MS, .done = 1009 * MS, .companions = 2};
    op.times = (ot_times){.begun = 1001 * MS,
                          .active = 1002 * MS,
                          .packed = 1003 * MS,
                          .wired = 1008 * MS,
                          .reduce_first = 1004 * MS,
                          .reduce_last = 1005 * MS,
                          .reduce = MS / 2};
    ot_trace_op_add(t, &op);
    ot_trace_waited(t, 2, "w", 100 * MS, 101 * MS);
    ot_trace_waited(t, 2, "w", 101 * MS + 1, 103 * MS);
    ot_trace_waited(t, 0, "w", 103 * MS, 104 * MS);
    json_t *events = load(t, &info);
    ok(info.events == 3 && info.dropped == 0, "3 events: waits that follow closely are one: %d",
       (int)info.events);
    const char *const phases[] = {"plan", "queue", "pack", "wire", "reduce", "unpack"};
    for (size_t i = 0; i < OT_COUNT(phases); i++) {
        ok(count(events, "b", phases[i]) == 1 && count(events, "e", phases[i]) == 1, "%s",
           phases[i]);
    }
    ok(count(events, "X", "rank 2") == 1 && count(events, "X", "rank 0") == 1, "waits");
    bool found = false;
    size_t i;
    json_t *e;
    json_array_foreach(events, i, e)
    {
        const char *n = json_string_value(json_object_get(e, "name"));
        found |= strlen(n) == OT_TRACE_NAME - 1 && strncmp(n, "...x", 4) == 0 &&
                 strcmp(n + strlen(n) - 4, "/end") == 0;
    }
    ok(found, "a long name keeps its end");
    json_decref(events);

    (void)!ot_trace_start(t, &err);
    for (int k = 0; k < OT_TRACE_EVENTS + 10; k++) {
        snprintf(name, sizeof name, "n%d", k);
        ot_trace_op_add(t, &(ot_trace_op){.name = name, .asked = MS, .done = 2 * MS});
    }
    events = load(t, &info);
    ok(info.events == OT_TRACE_EVENTS && info.dropped == 10, "%d kept, %d dropped",
       (int)info.events, (int)info.dropped);
    ok(count(events, "b", "n9") == 0 && count(events, "b", "n10") == 1, "the oldest give way");
    json_decref(events);
    ot_trace_destroy(t);
}

static void test_clock(void)
{
    meet_clock c = {0};
    int64_t offset;
    uint64_t error;
    ok(!meet_clock_read(&c, 0, &offset, &error), "not known at first");
    /* The server is 10 s ahead. The way takes 1 ms there and 3 ms back; then 100 us each. */
    ok(meet_clock_take(&c, &(ot_meet_time){1000 * MS, 11001 * MS, 1}, 1004 * MS), "ask again");
    ok(meet_clock_read(&c, 1004 * MS, &offset, &error) && error == 2 * MS &&
           offset == 10000 * (int64_t)MS - (int64_t)MS,
       "half of the way: right to 2 ms");
    meet_clock_take(&c, &(ot_meet_time){2000 * MS, 12000 * MS + 100000, 1}, 2000 * MS + 200000);
    meet_clock_read(&c, 2001 * MS, &offset, &error);
    ok(offset == 10000 * (int64_t)MS && error == 100000, "a quicker exchange says more");
    meet_clock_take(&c, &(ot_meet_time){3000 * MS, 13009 * MS, 1}, 3010 * MS);
    meet_clock_read(&c, 3010 * MS, &offset, &error);
    ok(offset == 10000 * (int64_t)MS && error == 200000, "a slower one does not; it grows older");
    meet_clock_take(&c, &(ot_meet_time){99000 * MS, 109010 * MS, 1}, 99004 * MS);
    meet_clock_read(&c, 99004 * MS, &offset, &error);
    ok(error == 2 * MS, "what is old gives way");
    meet_clock_take(&c, &(ot_meet_time){99005 * MS, 1, meet_kernel()}, 99006 * MS);
    ok(meet_clock_read(&c, 99006 * MS, &offset, &error) && offset == 0 && error == 0,
       "one kernel, one clock");
}

int main(void)
{
    ot_clock_install(&source);
    test_account();
    test_nested();
    test_ring();
    test_clock();
    return tap_done();
}
