/* The process dies after each single thing that it does, without a word, and a new one goes on: it
 * ends where an undisturbed one ends, and the user's program runs once. */
#include "driver.h"

#define STEPS_MAX 60

/* The world as it is at the end: everything that two processes could do twice. */
static void describe(driver *d, char out[512])
{
    snprintf(out, 512, "%s; %s; %s; %s, %s; started %d, finished %d, registered %d, passed %d",
             driver_where(d), driver_serves(d, "digits"), driver_runs(d), driver_status(d, 1),
             driver_status(d, 2), driver_count(d, "run.started"), driver_count(d, "run.finished"),
             driver_count(d, "version.registered"), driver_count(d, "gate.passed"));
}

static void first_apply(driver *d)
{
    driver_apply_ok(d, app_yaml);
}

static void second_cycle(driver *d)
{
    fake_find("digits", OT_FINDING_DEGRADED);
    (void)d;
}

/* Runs `begin` and all that follows in a process that dies at its step `die_at`. False: it came to
 * the end. */
static bool dies(const char *rel, void (*begin)(driver *), int die_at)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        driver d;
        driver_open(&d, rel);
        d.die_at = die_at;
        begin(&d);
        driver_settle(&d);
        _exit(0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != DIED)) {
        bail(rel, "the process that was to die ended otherwise");
    }
    return WEXITSTATUS(status) == DIED;
}

static void go_on(driver *d, const char *rel)
{
    driver_open(d, rel);
    driver_settle(d);
}

static void test_each_step(const char *from, void (*begin)(driver *), const char *what)
{
    char want[512], got[512], rel[64], data[OT_APP_DATA_MAX][OT_DIGEST_HEX];
    driver d;
    snprintf(rel, sizeof rel, "%s_whole", what);
    world_copy(from, rel);
    int before = program_starts();
    driver_open(&d, rel);
    begin(&d);
    driver_settle(&d);
    describe(&d, want);
    int starts = program_starts() - before;
    is_int(starts, 1, "%s: undisturbed: %s", what, want);
    int64_t n_data = driver_state(&d)->cycle.n_data;
    for (int64_t i = 0; i < n_data; i++) {
        ot_digest_hex(&driver_state(&d)->cycle.data[i].digest, data[i]);
    }
    driver_close(&d);

    int at_step = 1;
    for (; at_step < STEPS_MAX; at_step++) {
        snprintf(rel, sizeof rel, "%s%d", what, at_step);
        world_copy(from, rel);
        before = program_starts();
        if (!dies(rel, begin, at_step)) {
            break;
        }
        go_on(&d, rel);
        describe(&d, got);
        is_str(got, want, "%s: died at step %d", what, at_step);
        is_int(program_starts() - before, 1, "%s: one start of the program", what);
        bool same = driver_state(&d)->cycle.n_data == n_data;
        for (int64_t i = 0; same && i < n_data; i++) {
            char hex[OT_DIGEST_HEX];
            same =
                strcmp(ot_digest_hex(&driver_state(&d)->cycle.data[i].digest, hex), data[i]) == 0;
        }
        ok(same, "%s: it is known what it was trained on", what);
        driver_close(&d);
    }
    ok(at_step > 10 && at_step < STEPS_MAX, "%s: died at %d places", what, at_step - 1);
}

/* Each stage is found again with its comparison, its share and its deadline. */
static void test_stages(void)
{
    driver d;
    char serves[256], where[32];
    driver_open(&d, "stages");
    fake_find("digits", OT_FINDING_DEGRADED);
    driver_settle(&d);
    struct ot_quality *q = fake_of("digits");
    for (int i = 0; i < 4; i++) {
        ot_pair_watch w = q->watch;
        int64_t deadline = ot_rollout_deadline(&driver_state(&d)->cycle.rollout);
        snprintf(serves, sizeof serves, "%s", driver_serves(&d, "digits"));
        snprintf(where, sizeof where, "%s", driver_where(&d));
        q->watched = false; /* a new process watches nothing by itself */
        driver_again(&d);
        is_str(driver_where(&d), where, "%s: found again", where);
        is_str(driver_serves(&d, "digits"), serves, "%s: the same desired state", where);
        is_int(ot_rollout_deadline(&driver_state(&d)->cycle.rollout), deadline, "%s: deadline",
               where);
        ok(q->watched && q->watch.candidate == w.candidate && q->watch.champion == w.champion &&
               q->watch.since_us == w.since_us && q->watch.margin == w.margin &&
               q->watch.candidate_live_only == w.candidate_live_only,
           "%s: the same comparison", where);
        ok(d.n_desired == 1, "%s: the desired state is sent anew", where);
        fake_pair("digits", 200, i == 0 ? OT_PAIR_UNDECIDED : OT_PAIR_NOT_WORSE);
    }
    is_str(driver_where(&d), "probation", "all stages were seen");
    driver_close(&d);
}

/* The process died when the finding was in the log and before anything followed from it. */
static void test_lost_finding(void)
{
    driver d;
    driver_open(&d, "lost");
    fake_of("digits")->deaf = true;
    fake_find("digits", OT_FINDING_DEGRADED);
    fake_of("digits")->deaf = false;
    is_str(driver_where(&d), "idle", "nobody was told");
    driver_again(&d);
    is_str(driver_where(&d), "training", "the next process finds it in the log");
    driver_settle(&d);
    fake_of("digits")->deaf = true;
    fake_find("digits", OT_FINDING_RECOVERED);
    fake_of("digits")->deaf = false;
    driver_again(&d);
    ok(!driver_state(&d)->degraded, "also that it is over");
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    fake_find("digits", OT_FINDING_DEGRADED);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    driver_again(&d);
    ok(driver_state(&d)->champion == 2 && !driver_state(&d)->degraded,
       "what was found about v1 is not about v2");
    driver_close(&d);
}

int main(void)
{
    world_start();
    write_file("empty/here", "");
    /* One place: a process that died must leave none taken. */
    char site[OT_PATH_MAX];
    snprintf(site, sizeof site, "%s/site.yaml", scratch);
    write_file("site.yaml", "schema: overtake.site/1\nquotas: {runs_at_once: 1}\n");
    driver_site = site;
    test_each_step("empty", first_apply, "first");
    driver d;
    driver_open(&d, "serving");
    driver_apply_ok(&d, app_yaml);
    driver_settle(&d);
    driver_close(&d);
    fake_of("digits")->labelled_rows = 400;
    test_each_step("serving", second_cycle, "second");
    world_copy("serving", "lost");
    test_lost_finding();
    world_copy("serving", "stages");
    test_stages();
    return world_end();
}
