/* Engines that can't be had: what is said, and that all ranks say it. What engines do is in
 * collective_test.c. */
#include "collective/carrier.h"
#include "job.h"
#include "tap.h"

#include <dlfcn.h>

static void refuses(const char *wanted, ot_rc rc, const char *says)
{
    ot_carrier *c = NULL;
    ot_error e = {.rc = OT_OK};
    is_int(ot_carrier_load(wanted, 2, &c, &e), rc, "'%.40s' is refused", wanted);
    ok(strstr(e.msg, says) != NULL && c == NULL, "it says: %s", e.msg);
}

static void files(void)
{
    Dl_info info;
    union {
        double (*f)(double);
        const void *p;
    } at = {.f = cbrt};
    refuses("nothere", OT_NOT_FOUND, "libovertake_nothere.so");
    refuses("nothere", OT_NOT_FOUND, "libopenmpi-dev");
    refuses("/nothere/libovertake_mpi.so", OT_NOT_FOUND, "there is no /nothere/");
    refuses("MPI", OT_INVALID, "small letters");
    refuses("", OT_INVALID, "small letters");
    if (dladdr(at.p, &info) != 0 && info.dli_fname[0] == '/') {
        refuses(info.dli_fname, OT_INVALID, "is no engine for this version");
    } else {
        skip("it can't be said which file the mathematical library is");
    }
}

static int joins(const job *j, int32_t rank)
{
    (void)j, (void)rank;
    return 0;
}

static void jobs(void)
{
    job j = {.size = 3, .part = joins, .rogue = -1, .last_engine = "nothere"};
    is_int(job_run(&j), 3, "an engine that one rank has not is refused by all");
    for (int r = 0; r < 3; r++) {
        is_int(WEXITSTATUS(j.status[r]), 91, "rank %d: by init", r);
    }
    j = (job){.size = 2, .part = joins, .rogue = -1};
    is_int(job_run(&j), 0, "the built-in one is there");
    j = (job){.size = 2, .part = joins, .rogue = -1, .min = 1, .engine = "mpi"};
    is_int(job_run(&j), 2, "an elastic job has the built-in one alone");
}

int main(void)
{
    files();
    jobs();
    return tap_done();
}
