/* Batches: every row once over all ranks, from any state, whoever reads on. */
#include "files.h"

#include "input/buffers.h"
#include "input/reader.h"

#include <sys/wait.h>

#define ROWS 101

static ot_reader *open_reader(ot_reader_options o, ot_error *err)
{
    const char *paths[] = {files_path("x.npy")};
    ot_source *s = files_open(paths, 1, false, err);
    ot_reader *r = NULL;
    o.batch = o.batch == 0 ? 8 : o.batch;
    o.size = o.size == 0 ? 1 : o.size;
    o.parts = o.parts == 0 ? 1 : o.parts;
    return s != NULL && ot_reader_create(s, &o, &r, err) == OT_OK ? r : NULL;
}

/* Reads a batch and counts its rows; false at the end of the epoch or on an error. */
static bool read_one(ot_reader *r, unsigned *seen, ot_batch *b, ot_error *err)
{
    if (ot_reader_next(r, 0, b, err) != OT_OK) {
        ok(false, "next: %s", err->msg);
        return false;
    }
    const float *x = (const void *)b->data;
    for (uint64_t i = 0; i < b->rows; i++) {
        seen[(int)x[i * 2] / 10]++;
    }
    return b->data != NULL;
}

static bool each(const unsigned *seen, unsigned least, unsigned most)
{
    for (int i = 0; i < ROWS; i++) {
        if (seen[i] < least || seen[i] > most) {
            printf("# row %d came %u times\n", i, seen[i]);
            return false;
        }
    }
    return true;
}

static void test_ranks(ot_remainder remainder, uint64_t batch, uint64_t threads)
{
    ot_error err = {0};
    for (uint64_t size = 1; size <= 5; size++) {
        unsigned seen[ROWS] = {0};
        uint64_t batches[5] = {0};
        bool even = true;
        for (uint64_t rank = 0; rank < size; rank++) {
            ot_reader *r = open_reader((ot_reader_options){.batch = batch,
                                                           .rank = rank,
                                                           .size = size,
                                                           .shuffle = true,
                                                           .remainder = remainder,
                                                           .threads = threads},
                                       &err);
            ot_batch b = {0};
            while (r != NULL && read_one(r, seen, &b, &err)) {
                even = even && (remainder != OT_REMAINDER_DROP || b.rows == batch);
                batches[rank]++;
                ot_buffers_give(b.data);
            }
            even = even && batches[rank] == batches[0];
            even = even && r != NULL && b.epoch == 1 && b.taken == 0;
            ot_reader_destroy(r);
        }
        unsigned most = remainder == OT_REMAINDER_REPEAT ? 2 : 1;
        ok(each(seen, remainder != OT_REMAINDER_DROP, most) && even,
           "%d ranks, batches of %d, remainder %d: each row, as many batches", (int)size,
           (int)batch, remainder);
    }
}

/* What is left is dealt to other ranks in the middle, twice, and again from a state. */
static void test_deal_again(void)
{
    ot_error err = {0};
    unsigned seen[ROWS] = {0};
    uint64_t taken = 0, epoch = 3;
    static const uint64_t sizes[] = {3, 2, 4};
    for (int phase = 0; phase < 3; phase++) {
        uint64_t after = 0;
        for (uint64_t rank = 0; rank < sizes[phase]; rank++) {
            /* A reader that was something else before. */
            ot_reader *r = open_reader(
                (ot_reader_options){.size = 7, .rank = 6, .shuffle = true, .block = 10, .seed = 5},
                &err);
            ot_batch b = {0};
            ok(r != NULL && ot_reader_next(r, 0, &b, &err) == OT_OK, "it read something: %s",
               err.msg);
            ot_buffers_give(b.data);
            ok(ot_reader_seek(r, epoch, taken, rank, sizes[phase], &err) == OT_OK, "%s", err.msg);
            for (int k = 0; (phase == 2 || k < 2) && read_one(r, seen, &b, &err); k++) {
                after = b.taken;
                ot_buffers_give(b.data);
            }
            ot_reader_destroy(r);
        }
        taken = after;
    }
    ok(each(seen, 1, 1), "three, then two, then four ranks: each row once");
}

static void test_parts(void)
{
    ot_error err = {0};
    ot_reader_options o = {.rank = 1, .size = 2, .shuffle = true};
    ot_reader *whole = open_reader(o, &err), *parts[3];
    for (uint64_t p = 0; p < 3; p++) {
        o.part = p;
        o.parts = 3;
        parts[p] = open_reader(o, &err);
    }
    bool same = true;
    ot_batch a, b;
    for (int k = 0;; k++) {
        same = same && ot_reader_next(whole, 0, &a, &err) == OT_OK &&
               ot_reader_next(parts[k % 3], 0, &b, &err) == OT_OK && a.rows == b.rows &&
               a.taken == b.taken;
        if (!same || a.data == NULL) {
            same = same && b.data == NULL && k == 7;
            break;
        }
        same = memcmp(a.data, b.data, a.rows * 8) == 0;
        ot_buffers_give(a.data);
        ot_buffers_give(b.data);
    }
    ok(same, "three processes that share a rank have its batches in turn");
    ot_reader_destroy(whole);
    for (int p = 0; p < 3; p++) {
        ot_reader_destroy(parts[p]);
    }
}

static void test_held(void)
{
    ot_error err = {0};
    /* Two batches ahead at most, and the program holds all: it still gets on. */
    ot_reader *r = open_reader((ot_reader_options){.ahead_bytes = 1, .threads = 3}, &err);
    unsigned seen[ROWS] = {0};
    ot_batch b[20];
    int n = 0;
    while (n < 20 && read_one(r, seen, &b[n], &err)) {
        n++;
    }
    ot_reader_destroy(r);
    bool good = n == 13 && each(seen, 1, 1);
    for (int i = 0; i < n; i++) {
        const float *x = (const void *)b[i].data;
        good = good && (uintptr_t)b[i].data % 4096 == 0 && fabs((double)x[0] - 80.0 * i) < 1e-6;
        good = ot_buffers_give(b[i].data) && good;
    }
    ok(good, "batches outlive their reader, on pages of their own");
    _Alignas(4096) static uint8_t other[8192];
    ok(!ot_buffers_give(other + 4096) && !ot_buffers_give(other + 1) && ot_buffers_give(NULL),
       "what is no batch is not taken back");
}

static void test_refused(void)
{
    ot_error err = {0};
    static const struct {
        ot_reader_options o;
        const char *part;
    } bad[] = {{{.rank = 2, .size = 2}, "rank 2 of 2"},
               {{.part = 1, .parts = 1}, "part 1 of 1"},
               {{.batch = UINT64_C(1) << 31}, "over 4 GiB"},
               {{.threads = 65}, "65 threads"},
               {{.batch = 60, .size = 2, .remainder = OT_REMAINDER_DROP}, "nothing is left"}};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        err.msg[0] = '\0';
        ok(open_reader(bad[i].o, &err) == NULL && strstr(err.msg, bad[i].part) != NULL,
           "refused: %s", err.msg);
    }
    ot_reader *r = open_reader((ot_reader_options){0}, &err);
    ok(ot_reader_seek(r, 0, ROWS + 1, 0, 1, &err) == OT_INVALID &&
           strstr(err.msg, "another dataset"),
       "refused: %s", err.msg);
    ot_reader_destroy(r);
}

static void test_shrunk(void)
{
    ot_error err = {0};
    files_npy("cut.npy", 0, 100000, 2);
    const char *paths[] = {files_path("cut.npy")};
    ot_source *s = files_open(paths, 1, false, &err);
    ot_reader_options o = {.batch = 10, .size = 1, .parts = 1, .ahead_bytes = 1};
    ot_reader *r = NULL;
    ok(s != NULL && ot_reader_create(s, &o, &r, &err) == OT_OK && truncate(paths[0], 4096) == 0,
       "cut short while it is read: %s", err.msg);
    ot_rc rc = OT_OK;
    ot_batch b;
    for (int i = 0; i < 9 && (rc = ot_reader_next(r, 0, &b, &err)) == OT_OK; i++) {
        ot_buffers_give(b.data);
    }
    ok(rc == OT_DATA_LOSS && strstr(err.msg, "row ") != NULL, "an error that names the row: %s",
       err.msg);
    err.msg[0] = '\0';
    ok(ot_reader_next(r, 0, &b, &err) == OT_DATA_LOSS && err.msg[0] != '\0', "and stays");
    ot_reader_destroy(r);
}

static void test_fork(void)
{
    ot_error err = {0};
    ot_reader *r = open_reader((ot_reader_options){0}, &err);
    ot_batch b;
    ok(ot_reader_next(r, 0, &b, &err) == OT_OK, "a reader with a batch out");
    pid_t child = fork();
    if (child == 0) {
        ot_batch c;
        int code = ot_reader_next(r, 0, &c, &err) == OT_PRECONDITION &&
                           strstr(err.msg, "open the dataset again") != NULL
                       ? 0
                       : 1;
        ot_buffers_give(b.data);
        ot_reader_destroy(r);
#if defined(__SANITIZE_THREAD__)
        _exit(code); /* the sanitizer has no threads in a child of a process with threads */
#else
        ot_reader *mine = open_reader((ot_reader_options){0}, &err);
        _exit(mine != NULL && ot_reader_next(mine, 0, &c, &err) == OT_OK ? code : 2);
#endif
    }
    int status = -1;
    ok(child > 0 && waitpid(child, &status, 0) == child && status == 0,
       "a child is refused, frees nothing, and can open its own");
    ot_buffers_give(b.data);
    ot_reader_destroy(r);
}

static void test_counts(void)
{
    ot_error err = {0};
    ot_reader *r = open_reader((ot_reader_options){0}, &err);
    unsigned seen[ROWS] = {0};
    ot_batch b;
    while (read_one(r, seen, &b, &err)) {
        ot_buffers_give(b.data);
    }
    ot_reader_stats n = ot_reader_counts(r);
    ok(n.batches == 13 && n.rows == ROWS && n.bytes == ROWS * 8, "what was handed out is counted");
    ot_reader_destroy(r);
}

int main(void)
{
    if (!files_begin()) {
        skip("no temporary directory");
        return tap_done();
    }
    files_npy("x.npy", 0, ROWS, 2);
    for (int remainder = OT_REMAINDER_KEEP; remainder <= OT_REMAINDER_REPEAT; remainder++) {
        test_ranks((ot_remainder)remainder, 8, 1);
        test_ranks((ot_remainder)remainder, 10, 4);
    }
    test_deal_again();
    test_parts();
    test_held();
    test_refused();
    test_shrunk();
    test_fork();
    test_counts();
    files_end();
    return tap_done();
}
