/* Ranks that go on after others are lost, and let new ones in: overtake_reform. */
#include "job.h"
#include "tap.h"

static int sum_is(const char *name, float mine, float want)
{
    float x[1000], y[1000];
    int64_t n = 1000;
    overtake_request r = sum_of(name, &n, x, y);
    overtake_result result;
    for (int i = 0; i < 1000; i++) {
        x[i] = mine + (float)i;
    }
    if (!do_one(&r, &result)) {
        return 1;
    }
    overtake_place p = {.struct_size = sizeof p};
    (void)overtake_where(OVERTAKE_WORLD, &p);
    for (int i = 0; i < 1000; i++) {
        if (y[i] != want + (float)p.size * (float)i) {
            wrong("%s[%d] is %g, wanted %g", name, i, (double)y[i],
                  (double)(want + (float)p.size * (float)i));
            return 1;
        }
    }
    return 0;
}

/* Until something of the epoch fails; `dies`: by this rank's death, when all have asked for it. */
static void until_failed(bool dies)
{
    float x = 1;
    int64_t one = 1;
    overtake_failure f = {.struct_size = sizeof f};
    overtake_request r = sum_of("x", &one, &x, &x);
    for (int i = 0;; i++) {
        overtake_handle h;
        if (dies && i == 3) {
            kill(getpid(), SIGKILL);
        }
        if (overtake_start(&r, 1, &h, f.message, sizeof f.message) != 0 ||
            overtake_wait(h, 0, NULL, &f) != 0) {
            break;
        }
    }
    printf("# %s\n", f.message);
}

static overtake_membership membership(void)
{
    overtake_membership m = {.struct_size = sizeof m};
    if (overtake_membership_get(&m) != 0) {
        wrong("no membership");
    }
    return m;
}

static int reform(void)
{
    char text[OVERTAKE_MESSAGE_SIZE];
    uint64_t start = ot_clock_mono_ns();
    int rc = overtake_reform(60, text, sizeof text);
    printf("# reform: %d after %.4f s %s\n", rc, (double)(ot_clock_mono_ns() - start) * 1e-9, text);
    return rc;
}

static int is_at(overtake_membership m, uint64_t epoch, int32_t rank, int32_t size, int32_t before,
                 int32_t size_before)
{
    bool good = m.epoch == epoch && m.elastic == 1 && m.rank == rank && m.size == size &&
                m.previous_rank == before && m.previous_size == size_before && m.failed == 0;
    if (!good) {
        wrong("epoch %d, rank %d of %d, was %d of %d, failed %d", (int)m.epoch, m.rank, m.size,
              m.previous_rank, m.previous_size, m.failed);
    }
    return !good;
}

/* Rank 1 of 4 dies; then the others are 3. */
static int dies(const job *j, int32_t rank)
{
    int32_t *g = &(int32_t){0};
    char text[OVERTAKE_MESSAGE_SIZE];
    int bad = sum_is("w", (float)rank, 6) || is_at(membership(), 1, rank, 4, -1, 0);
    bad |= overtake_group_open("pair", (int32_t[]){rank & ~1, rank | 1}, 2, g, text, sizeof text);
    until_failed(rank == 1);
    bad |= membership().failed != 1;
    bad |= reform() != 0;
    int32_t now = rank > 1 ? rank - 1 : rank;
    bad |= is_at(membership(), 2, now, 3, rank, 4);
    bad |= sum_is("w", (float)rank, 5) || sum_is("other", 1, 3);
    bad |= overtake_where(*g, &(overtake_place){.struct_size = sizeof(overtake_place)}) !=
           OT_NOT_FOUND;
    (void)j;
    return bad;
}

static void death(bool no_shm)
{
    job j = {.size = 4, .part = dies, .no_shm = no_shm, .rogue = -1, .min = 2};
    ot_meet_server *s = job_start(&j, NULL);
    is_int(job_end(&j, s), 1, "three of four go on, %s", no_shm ? "sockets" : "shared memory");
    ok(WIFSIGNALED(j.status[1]), "without the one that was killed");
}

/* All ask for the next epoch at a step boundary, once one waits; an allreduce agrees on it. */
static void until_waiting(void)
{
    float x[1] = {0};
    int64_t one = 1;
    overtake_request r = sum_of("waiting", &one, x, x);
    overtake_result result;
    do {
        overtake_membership m = membership();
        x[0] = (float)(m.waiting + m.leaving);
        if (!do_one(&r, &result)) {
            return;
        }
    } while (x[0] == 0);
}

/* Three begin; the fourth is admitted. Then one of the first dies, and so on. */
static int grows(const job *j, int32_t rank)
{
    int bad = 0;
    if (rank < 3) {
        bad |= is_at(membership(), 1, rank, 3, -1, 0) || sum_is("w", (float)rank, 3);
        until_waiting();
        bad |= reform() != 0 || is_at(membership(), 2, rank, 4, rank, 3);
    } else {
        bad |= is_at(membership(), 2, 3, 4, -1, 0);
    }
    bad |= sum_is("w", (float)rank, 6) || sum_is("other", 1, 4);
    until_failed(rank == 0);
    bad |= reform() != 0 || is_at(membership(), 3, rank - 1, 3, rank, 4);
    (void)j;
    return bad || sum_is("w", (float)rank, 6);
}

static void growth(void)
{
    job j = {.size = 4, .later = 1, .part = grows, .rogue = -1, .min = 2};
    ot_meet_server *s = job_start(&j, NULL);
    is_int(job_end(&j, s), 1, "one that comes later is admitted at a step boundary");
    ok(WIFSIGNALED(j.status[0]), "and goes on when rank 0 is lost");
}

/* Rank 1 of 4 dies, and rank 2 does not ask for the next epoch before the others do steps in it. */
static int is_late(const job *j, int32_t rank)
{
    int *pipes = j->arg;
    char byte, text[OVERTAKE_MESSAGE_SIZE];
    int bad = sum_is("w", (float)rank, 6);
    close(pipes[rank == 2 ? 1 : 0]);
    until_failed(rank == 1);
    if (rank == 2) {
        bad |= read(pipes[0], &byte, 1) != 0; /* its end: they hold it open no more */
        bad |= overtake_reform(60, text, sizeof text) != OT_PRECONDITION ||
               strstr(text, "was set aside") == NULL;
        printf("# %s\n", text);
        fflush(stdout);
        _exit(bad);
    }
    bad |= reform() != 0 || is_at(membership(), 2, rank == 0 ? 0 : 1, 2, rank, 4);
    return bad || sum_is("w", (float)rank, 3);
}

static void fenced(void)
{
    int pipes[2];
    job j = {.size = 4, .part = is_late, .rogue = -1, .min = 2, .reform_us = 500000};
    ot_meet_server *s = job_start_piped(&j, pipes);
    close(pipes[0]);
    close(pipes[1]);
    is_int(job_end(&j, s), 1, "who does not ask is set aside, and hears so when it does");
    ok(WIFSIGNALED(j.status[1]), "the others go on without it");
}

int main(void)
{
    fenced();
    growth();
    death(false);
    death(true);
    return tap_done();
}
