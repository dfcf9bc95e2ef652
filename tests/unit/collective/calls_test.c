/* The calls around the collectives: groups, join, init and finalize, a fork, bad input. */
#include "job.h"
#include "tap.h"

/* --- groups ---------------------------------------------------------------------------------- */

/* Opened by its members alone, used and freed at once: another rank may still be in the last one.
 */
static void opened(const int32_t *ranks, int32_t n, int32_t rank)
{
    char text[256] = "";
    int32_t g, again, x = rank, want = n * (n - 1);
    if (overtake_group_open("even", ranks, (size_t)n, &g, text, sizeof text) != 0) {
        wrong("open: %s", text);
        return;
    }
    if (overtake_group_open("even", ranks, (size_t)n, &again, text, sizeof text) != OT_EXISTS) {
        wrong("opened twice");
    }
    overtake_request r = {
        .kind = OVERTAKE_ALLREDUCE, .group = g, .dtype = OVERTAKE_I32, .in = &x, .out = &x};
    overtake_result got;
    if (do_one(&r, &got) && x != want) {
        wrong("sum of the opened group is %d, not %d", x, want);
    }
    if (overtake_group_free(g, text, sizeof text) != 0) {
        wrong("free: %s", text);
    }
}

static int groups(const job *j, int32_t rank)
{
    int32_t even[JOB_RANKS_MAX], n = 0, g[2], sum = rank + 1;
    for (int32_t r = 0; r < j->size; r += 2) {
        even[n++] = r;
    }
    char text[256] = "";
    int32_t last = j->size - 1;
    if (overtake_group_create(even, (size_t)n, &g[0], text, sizeof text) != 0 ||
        overtake_group_create(&last, 1, &g[1], text, sizeof text) != 0) {
        wrong("%s", text);
        return 1;
    }
    overtake_place p = {.struct_size = sizeof p};
    int rc = overtake_where(g[0], &p);
    bool in = rank % 2 == 0;
    if ((rc == 0) != in || (in && (p.rank != rank / 2 || p.size != n))) {
        wrong("where: %d, rank %d of %d", rc, p.rank, p.size);
    }
    overtake_request r = {
        .kind = OVERTAKE_ALLREDUCE, .group = g[0], .dtype = OVERTAKE_I32, .in = &sum, .out = &sum};
    overtake_result got;
    if (in && do_one(&r, &got) && sum != n * n) {
        wrong("sum of the group is %d, not %d", sum, n * n);
    }
    if (!in) {
        overtake_handle h;
        r.struct_size = sizeof r;
        if (overtake_start(&r, 1, &h, text, sizeof text) != OT_PRECONDITION ||
            strstr(text, "is not in group") == NULL) {
            wrong("a rank outside asked: %s", text);
        }
    }
    if (overtake_group_free(g[0], text, sizeof text) != 0) {
        wrong("free: %s", text);
    }
    if (overtake_where(g[0], &p) >= 0) {
        wrong("the group is still there");
    }
    for (int i = 0; in && i < 20; i++) {
        opened(even, n, rank);
    }
    return failures != 0;
}

/* --- join, again, fork, bad input ------------------------------------------------------------ */

/* After a sum of all rank 1 leaves, which is in no group; the others' sum takes longer than a link
 * may be broken without a word. */
static int outsider_leaves(const job *j, int32_t rank)
{
    int32_t members[] = {0, 2}, g, x = rank + 1;
    char text[256] = "";
    overtake_request r = {
        .kind = OVERTAKE_ALLREDUCE, .name = "all", .dtype = OVERTAKE_I32, .in = &x, .out = &x};
    overtake_result got;
    (void)j;
    if (!do_one(&r, &got) || rank == 1) {
        return failures != 0;
    }
    if (overtake_group_open("others", members, 2, &g, text, sizeof text) != 0) {
        wrong("open: %s", text);
        return 1;
    }
    if (rank == 2) {
        ot_clock_sleep_us(1500000);
    }
    r.group = g;
    x = rank + 1;
    if (do_one(&r, &got) && x != 4) {
        wrong("sum of the others is %d, not 4", x);
    }
    return failures != 0;
}

/* Rank r has r + 1 batches. */
static int uneven(const job *j, int32_t rank)
{
    overtake_request r = {.kind = OVERTAKE_ALLREDUCE, .name = "gradient", .dtype = OVERTAKE_I32};
    overtake_result got;
    for (int32_t i = 0; i <= rank; i++) {
        int32_t x = 1;
        r.in = r.out = &x;
        if (!do_one(&r, &got) || x != j->size - i) {
            wrong("batch %d: the sum is %d, not %d", i, x, j->size - i);
            return 1;
        }
    }
    overtake_request end = {.kind = OVERTAKE_JOIN};
    if (do_one(&end, &got) && got.last_joined != j->size - 1) {
        wrong("rank %d joined last", got.last_joined);
    }
    int32_t x = 1;
    r.in = r.out = &x;
    if (do_one(&r, &got) && x != j->size) {
        wrong("after the join the sum is %d", x);
    }
    return failures != 0;
}

static int forked(const job *j, int32_t rank)
{
    (void)j;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        overtake_place p = {.struct_size = sizeof p};
        char text[256];
        int good = overtake_where(OVERTAKE_WORLD, &p) == OT_PRECONDITION &&
                   overtake_finalize(text, sizeof text) == OT_PRECONDITION &&
                   strstr(text, "forked") != NULL;
        _exit(good ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    if (status != 0) {
        wrong("rank %d: a forked child may communicate", rank);
    }
    return status != 0;
}

static void refused(const overtake_request *r, const char *word)
{
    overtake_handle h;
    char text[OVERTAKE_MESSAGE_SIZE] = "";
    if (overtake_start(r, 1, &h, text, sizeof text) >= 0 || strstr(text, word) == NULL) {
        wrong("not refused for '%s': %s", word, text);
    }
}

static int bad_input(const job *j, int32_t rank)
{
    (void)rank;
    int64_t negative = -1, seven = 7, huge[] = {INT64_MAX, 16}, splits[JOB_RANKS_MAX] = {1};
    float x[16] = {0};
    overtake_request r = {.struct_size = sizeof r,
                          .kind = OVERTAKE_ALLREDUCE,
                          .name = "w",
                          .dtype = OVERTAKE_F32,
                          .ndim = 1,
                          .dims = &seven,
                          .in = x,
                          .out = x};
    overtake_request b = r;
    b.dims = &negative;
    refused(&b, "can't be");
    b.dims = huge;
    b.ndim = 2;
    refused(&b, "can't be");
    b = r;
    b.ndim = 17;
    refused(&b, "0 to 16");
    b = r;
    b.group = 7;
    refused(&b, "no group 7");
    b = r;
    b.dtype = OVERTAKE_I32;
    b.reduction = OVERTAKE_AVERAGE;
    refused(&b, "does not take");
    b = r;
    b.in = NULL;
    refused(&b, "NULL");
    b = r;
    b.kind = OVERTAKE_BROADCAST;
    b.root = j->size;
    refused(&b, "root");
    b = r;
    b.kind = OVERTAKE_ALLTOALL;
    if (7 % j->size != 0) {
        refused(&b, "evenly");
    }
    b.splits = splits;
    refused(&b, "sum up");
    overtake_failure f = {.struct_size = sizeof f};
    if (overtake_wait(12345, 0, NULL, &f) != OT_NOT_FOUND || overtake_release(x) == 0) {
        wrong("a handle or an out that was never given");
    }
    char text[256];
    if (overtake_init(NULL, text, sizeof text) != OT_PRECONDITION) {
        wrong("init twice");
    }
    return failures != 0;
}

static void run(const char *what, int (*part)(const job *, int32_t), int32_t size, bool no_shm)
{
    job j = {.size = size, .part = part, .no_shm = no_shm, .rogue = -1};
    is_int(job_run(&j), 0, "%s: %d ranks, %s", what, size, no_shm ? "sockets" : "shared memory");
}

int main(void)
{
    run("groups", groups, 2, true);
    run("groups", groups, 5, false);
    run("one that is in no group leaves", outsider_leaves, 3, false);
    run("uneven data", uneven, 2, false);
    run("uneven data", uneven, 5, false);
    run("a forked child", forked, 2, false);
    run("bad input", bad_input, 2, false);
    char text[256];
    overtake_init_options alone = {.struct_size = sizeof alone, .rank = 0, .size = 1};
    for (int i = 0; i < 2; i++) {
        is_int(overtake_init(&alone, text, sizeof text), 0, "alone, time %d", i);
        is_int(overtake_finalize(text, sizeof text), 0, "and left");
    }
    is_int(overtake_finalize(text, sizeof text), OT_PRECONDITION, "not twice");
    return tap_done();
}
