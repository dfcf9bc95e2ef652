/* Children of the doctor: what they say, how they end, and those that never come to an end. */
#include "doctor/internal.h"

#include "base/mem.h"
#include "tap.h"

#include <poll.h>

static void test_says(void)
{
    const char *argv[] = {"echo", "fine", NULL};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error e = {0};
    is_int(dr_child_run(argv, 60000000, &out, &e), OT_OK, "it runs: %s", e.msg);
    is_str(out.data, "fine\n", "what it said");
}

static void test_ends_badly(void)
{
    const char *fails[] = {"sh", "-c", "exit 3", NULL}, *none[] = {"/nonexistent/program", NULL};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error e = {0};
    is_int(dr_child_run(fails, 60000000, &out, &e), OT_ABORTED, "a bad end: %s", e.msg);
    ok(strstr(e.msg, "code 3") != NULL, "says which");
    is_int(dr_child_run(none, 60000000, &out, &e), OT_ABORTED, "no such program: %s", e.msg);
    ok(strstr(e.msg, "code 127") != NULL, "as a shell would say it");
}

/* Late is late, whether it is silent or talks on and on. */
static void test_late(void)
{
    const char *silent[] = {"sleep", "600", NULL}, *talks[] = {"yes", NULL};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error e = {0};
    is_int(dr_child_run(silent, 50000, &out, &e), OT_TIMEOUT, "silent: %s", e.msg);
    is_int(dr_child_run(talks, 50000, &out, &e), OT_TIMEOUT, "talking: %s", e.msg);
}

/* What it says after its time is not read: one that never stops would hold the doctor up. */
static void test_no_time_left(void)
{
    const char *argv[] = {"echo", "late", NULL};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error e = {0};
    dr_child c;
    is_int(dr_child_start(argv, NULL, &c, &e), OT_OK, "started: %s", e.msg);
    struct pollfd p = {.fd = c.out, .events = POLLIN};
    ok(poll(&p, 1, 60000) == 1, "it has said something");
    is_int(dr_child_read(&c, true, 0, &out, &e), OT_TIMEOUT, "too late: %s", e.msg);
    (void)dr_child_end(&c, 0);
}

int main(void)
{
    test_says();
    test_ends_badly();
    test_late();
    test_no_time_left();
    return tap_done();
}
