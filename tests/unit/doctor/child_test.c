/* Children of the doctor: what they say, how they end, and those that never come to an end. */
#include "doctor/internal.h"

#include "base/mem.h"
#include "tap.h"

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

int main(void)
{
    test_says();
    test_ends_badly();
    test_late();
    return tap_done();
}
