/* Every collective against a naive reference, on 1 to 5 ranks: through shared memory, sockets and
 * other engines. What all engines must do alike is here. */
#include "base/disk.h"
#include "collective/kernel.h"
#include "job.h"
#include "tap.h"

#include <math.h>

/* --- numbers of any type --------------------------------------------------------------------- */

static void set(overtake_dtype t, void *p, size_t i, double x)
{
    float f = (float)x;
    uint8_t *at = (uint8_t *)p + i * ot_dtype_bytes(t);
    uint64_t u = (uint64_t)x;
    switch (t) {
    case OVERTAKE_F16:
    case OVERTAKE_BF16:
        ot_kernel_convert(t, at, OVERTAKE_F32, &f, 1);
        break;
    case OVERTAKE_F32:
        memcpy(at, &f, sizeof f);
        break;
    case OVERTAKE_F64:
        memcpy(at, &x, sizeof x);
        break;
    default:
        memcpy(at, &u, ot_dtype_bytes(t)); /* small, not negative, little-endian */
    }
}

static double get(overtake_dtype t, const void *p, size_t i)
{
    float f;
    double d;
    uint64_t u = 0;
    const uint8_t *at = (const uint8_t *)p + i * ot_dtype_bytes(t);
    switch (t) {
    case OVERTAKE_F16:
    case OVERTAKE_BF16:
        ot_kernel_convert(OVERTAKE_F32, &f, t, at, 1);
        return (double)f;
    case OVERTAKE_F32:
        memcpy(&f, at, sizeof f);
        return (double)f;
    case OVERTAKE_F64:
        memcpy(&d, at, sizeof d);
        return d;
    default:
        memcpy(&u, at, ot_dtype_bytes(t));
        return (double)u;
    }
}

/* What rank r brings at i: another number than its neighbours, and so small that every type holds
 * the sum and the product of JOB_RANKS_MAX of them exactly (three times 3, three times 2: 216). */
static double brings(overtake_dtype t, int32_t r, size_t i)
{
    size_t x = (i * 7 + (size_t)r * 5 + i / 11) % 3 + 1;
    return (double)(t == OVERTAKE_BOOL ? x % 2 : x);
}

static double naive(overtake_reduction op, overtake_dtype t, int32_t n, size_t i)
{
    double x = brings(t, 0, i);
    for (int32_t r = 1; r < n; r++) {
        double y = brings(t, r, i);
        x = op == OVERTAKE_MIN       ? fmin(x, y)
            : op == OVERTAKE_MAX     ? fmax(x, y)
            : op == OVERTAKE_PRODUCT ? x * y
                                     : x + y;
    }
    x = t == OVERTAKE_BOOL && op == OVERTAKE_SUM ? x != 0 : x;
    return op == OVERTAKE_AVERAGE ? x / n : x;
}

static bool same(overtake_reduction op, double got, double want)
{
    return op == OVERTAKE_AVERAGE ? fabs(got - want) <= 0.02 * fabs(want) : got == want;
}

/* --- the collectives' input --------------------------------------------------------------------
 */

static void *brought(overtake_dtype t, int32_t rank, size_t count)
{
    void *p = ot_calloc(count + 1, ot_dtype_bytes(t));
    for (size_t i = 0; i < count; i++) {
        set(t, p, i, brings(t, rank, i));
    }
    return p;
}

/* --- the collectives ------------------------------------------------------------------------- */

static void allreduce(const job *j, int32_t rank, overtake_dtype t, overtake_reduction op,
                      size_t count, bool in_place, const char *name)
{
    int64_t dims[] = {(int64_t)count};
    void *in = brought(t, rank, count), *out = in_place ? in : NULL;
    overtake_request r = {.kind = OVERTAKE_ALLREDUCE,
                          .name = name,
                          .dtype = t,
                          .reduction = op,
                          .ndim = 1,
                          .dims = dims,
                          .in = in,
                          .out = out};
    overtake_result got;
    if (do_one(&r, &got)) {
        for (size_t i = 0; i < count; i++) {
            if (!same(op, get(t, got.out, i), naive(op, t, j->size, i))) {
                wrong("allreduce %s %s of %zu: [%zu] is %g, not %g", ot_dtype_text(t),
                      ot_reduction_text(op), count, i, get(t, got.out, i),
                      naive(op, t, j->size, i));
                break;
            }
        }
        if (!in_place && overtake_release(got.out) != 0) {
            wrong("release");
        }
    }
    ot_free(in);
}

static void reducescatter(const job *j, int32_t rank, overtake_dtype t, overtake_reduction op,
                          size_t rows, bool splits)
{
    int64_t dims[] = {(int64_t)rows, 3}, parts[JOB_RANKS_MAX] = {0};
    size_t first = 0, mine = 0;
    for (int32_t r = 0, left = (int32_t)rows; r < j->size; r++) {
        int64_t even = (int64_t)rows / j->size + ((int64_t)rows % j->size > r);
        parts[r] = splits ? (r == j->size - 1 ? left : OT_MIN(left, r * 2)) : even;
        left -= (int32_t)parts[r];
        first += r < rank ? (size_t)parts[r] : 0;
        mine = r == rank ? (size_t)parts[r] : mine;
    }
    void *in = brought(t, rank, rows * 3);
    overtake_request r = {.kind = OVERTAKE_REDUCESCATTER,
                          .dtype = t,
                          .reduction = op,
                          .ndim = 2,
                          .dims = dims,
                          .splits = splits ? parts : NULL,
                          .in = in};
    overtake_result got;
    if (do_one(&r, &got)) {
        if (got.ndim != 2 || got.dims[0] != (int64_t)mine || got.dims[1] != 3) {
            wrong("reducescatter: %lld rows, not %zu", (long long)got.dims[0], mine);
        }
        for (size_t i = 0; i < mine * 3; i++) {
            if (!same(op, get(t, got.out, i), naive(op, t, j->size, first * 3 + i))) {
                wrong("reducescatter %s of %zu rows: [%zu]", ot_dtype_text(t), rows, i);
                break;
            }
        }
        overtake_release(got.out);
    }
    ot_free(in);
}

static size_t rows_of(int32_t r, size_t size)
{
    return (size_t)r % 2 == 1 ? 0 : size + (size_t)r;
}

static void allgather(const job *j, int32_t rank, overtake_dtype t, size_t size, const char *name)
{
    int64_t dims[] = {(int64_t)rows_of(rank, size), 2};
    void *in = brought(t, rank, rows_of(rank, size) * 2);
    overtake_request r = {
        .kind = OVERTAKE_ALLGATHER, .name = name, .dtype = t, .ndim = 2, .dims = dims, .in = in};
    overtake_result got;
    if (do_one(&r, &got)) {
        size_t at = 0;
        for (int32_t k = 0; k < j->size; k++) {
            if (got.splits[k] != (int64_t)rows_of(k, size)) {
                wrong("allgather: %lld rows of rank %d", (long long)got.splits[k], k);
            }
            for (size_t i = 0; i < rows_of(k, size) * 2; i++, at++) {
                if (get(t, got.out, at) != brings(t, k, i)) {
                    wrong("allgather %s: rank %d [%zu]", ot_dtype_text(t), k, i);
                    break;
                }
            }
        }
        if (got.dims[0] * 2 != (int64_t)at) {
            wrong("allgather: %lld rows", (long long)got.dims[0]);
        }
        overtake_release(got.out);
    }
    ot_free(in);
}

static size_t sent(int32_t from, int32_t to, size_t size)
{
    return ((size_t)from * 2 + (size_t)to) % 3 * size;
}

static void alltoall(const job *j, int32_t rank, overtake_dtype t, size_t size, const char *name)
{
    int64_t splits[JOB_RANKS_MAX], rows = 0;
    for (int32_t k = 0; k < j->size; k++) {
        splits[k] = (int64_t)sent(rank, k, size);
        rows += splits[k];
    }
    void *in = brought(t, rank, (size_t)rows);
    overtake_request r = {.kind = OVERTAKE_ALLTOALL,
                          .name = name,
                          .dtype = t,
                          .ndim = 1,
                          .dims = &rows,
                          .splits = splits,
                          .in = in};
    overtake_result got;
    if (do_one(&r, &got)) {
        size_t at = 0;
        for (int32_t k = 0; k < j->size; k++) {
            size_t before = 0;
            for (int32_t m = 0; m < rank; m++) {
                before += sent(k, m, size);
            }
            for (size_t i = 0; i < sent(k, rank, size); i++, at++) {
                if (get(t, got.out, at) != brings(t, k, before + i)) {
                    wrong("alltoall %s: rank %d [%zu]", ot_dtype_text(t), k, i);
                    break;
                }
            }
        }
        if (got.dims[0] != (int64_t)at) {
            wrong("alltoall: %lld rows, not %zu", (long long)got.dims[0], at);
        }
        overtake_release(got.out);
    }
    ot_free(in);
}

static void broadcast(int32_t rank, overtake_dtype t, int32_t root, size_t count)
{
    int64_t dims[] = {(int64_t)count};
    void *in = brought(t, rank, count), *out = ot_calloc(count + 1, 8);
    overtake_request r = {.kind = OVERTAKE_BROADCAST,
                          .dtype = t,
                          .root = root,
                          .ndim = 1,
                          .dims = dims,
                          .in = rank == root ? in : NULL,
                          .out = out,
                          .out_bytes = (count + 1) * 8};
    overtake_result got;
    if (do_one(&r, &got)) {
        for (size_t i = 0; i < count; i++) {
            if (get(t, out, i) != brings(t, root, i)) {
                wrong("broadcast %s from %d: [%zu]", ot_dtype_text(t), root, i);
                break;
            }
        }
    }
    ot_free(in);
    ot_free(out);
}

static bool thorough; /* the long matrix, of `make test-long` */
static const size_t sizes[] = {0, 1, 7, 1000, 70001, 200003};

static int all(const job *j, int32_t rank)
{
    char name[64];
    for (overtake_dtype t = 0; t < OVERTAKE_DTYPES; t++) {
        for (size_t s = 0; s < OT_COUNT(sizes) - !thorough; s++) {
            size_t n = sizes[s];
            for (overtake_reduction op = 0; op < OVERTAKE_REDUCTIONS; op++) {
                if (ot_reduction_takes(op, t) && (thorough || n < 10000 || t == OVERTAKE_F32)) {
                    allreduce(j, rank, t, op, n, s % 2 == 0, NULL);
                    reducescatter(j, rank, t, op, n, s % 2 == 0);
                }
            }
            snprintf(name, sizeof name, "named %d.%zu", (int)t, s);
            allreduce(j, rank, t, OVERTAKE_MAX, n, true, name);
            allgather(j, rank, t, n, NULL);
            alltoall(j, rank, t, n, NULL);
            broadcast(rank, t, (int32_t)(s % (size_t)j->size), n);
        }
        snprintf(name, sizeof name, "gathered %d", (int)t);
        allgather(j, rank, t, 20, name);
        snprintf(name, sizeof name, "exchanged %d", (int)t);
        alltoall(j, rank, t, 20, name);
    }
    overtake_request b = {.kind = OVERTAKE_BARRIER};
    overtake_result got;
    do_one(&b, &got);
    b.name = "the end";
    do_one(&b, &got);
    return failures != 0;
}

/* --- many at once ---------------------------------------------------------------------------- */

enum { MANY = 100, STEPS = 4 };

/* A step of many tensors, several steps long: asked for in an order of each rank's own, or without
 * names (arg). Every tenth is a sum, the others are averages. */
static int many(const job *j, int32_t rank)
{
    static float in[MANY][512];
    overtake_request r[MANY];
    overtake_handle h[MANY];
    char names[MANY][32];
    int64_t count = 512;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < MANY; i++) {
            for (int k = 0; k < 512; k++) {
                in[i][k] = (float)(i + k + step + rank);
            }
            snprintf(names[i], sizeof names[i], "layer%d/w", i);
        }
        for (int i = 0; i < MANY; i++) {
            int t = j->arg != NULL ? i : (i * 7 + rank * 13) % MANY; /* 7 and 100 are coprime */
            r[i] = (overtake_request){.struct_size = sizeof r[i],
                                      .kind = OVERTAKE_ALLREDUCE,
                                      .name = j->arg != NULL ? NULL : names[t],
                                      .dtype = OVERTAKE_F32,
                                      .reduction = t % 10 == 9 ? OVERTAKE_SUM : OVERTAKE_AVERAGE,
                                      .ndim = 1,
                                      .dims = &count,
                                      .in = in[t],
                                      .out = in[t]};
        }
        char text[256];
        if (overtake_start(r, MANY, h, text, sizeof text) != 0) {
            wrong("%s", text);
            return 1;
        }
        for (int i = 0; i < MANY; i++) {
            overtake_failure f = {.struct_size = sizeof f};
            if (overtake_wait(h[i], 60, NULL, &f) != 0) {
                wrong("%s", f.message);
                return 1;
            }
        }
        for (int i = 0; i < MANY; i++) {
            for (int k = 0; k < 512; k++) {
                float want = (float)(i + k + step) + (float)(j->size - 1) / 2;
                want *= i % 10 == 9 ? (float)j->size : 1;
                if (fabsf(in[i][k] - want) > 1e-3f) {
                    wrong("step %d: tensor %d [%d] is %g, not %g", step, i, k, (double)in[i][k],
                          (double)want);
                    return 1;
                }
            }
        }
    }
    return 0;
}

/* Sums of numbers that don't add up exactly: the same bits on every rank, and twice. */
static int bits(const job *j, int32_t rank)
{
    enum { N = 50021 };
    float *in = ot_calloc(N, sizeof *in), *out[2];
    uint64_t hash[2];
    int64_t count = N, one = 1;
    for (int i = 0; i < N; i++) {
        in[i] = sinf((float)(i * (rank + 1)));
    }
    for (int k = 0; k < 2; k++) {
        out[k] = ot_calloc(N, sizeof *in);
        overtake_request r = {.kind = OVERTAKE_ALLREDUCE,
                              .dtype = OVERTAKE_F32,
                              .ndim = 1,
                              .dims = &count,
                              .in = in,
                              .out = out[k]};
        overtake_result got;
        do_one(&r, &got);
    }
    hash[0] = memcmp(out[0], out[1], N * sizeof *in) == 0;
    if (!hash[0]) {
        wrong("two sums of the same differ");
    }
    for (int i = 0; i < N; i++) {
        uint32_t u;
        memcpy(&u, &out[0][i], sizeof u);
        hash[0] = hash[0] * 1099511628211u + u;
    }
    overtake_request r = {
        .kind = OVERTAKE_ALLGATHER, .dtype = OVERTAKE_U64, .ndim = 1, .dims = &one, .in = hash};
    overtake_result got;
    if (do_one(&r, &got)) {
        for (int32_t k = 0; k < j->size; k++) {
            if (((uint64_t *)got.out)[k] != hash[0]) {
                wrong("ranks %d and %d have other bits", rank, k);
            }
        }
        overtake_release(got.out);
    }
    ot_free(in);
    ot_free(out[0]);
    ot_free(out[1]);
    return failures != 0;
}

static void run(const char *what, int (*part)(const job *, int32_t), int32_t size, bool no_shm)
{
    job j = {.size = size, .part = part, .no_shm = no_shm, .rogue = -1};
    is_int(job_run(&j), 0, "%s: %d ranks, %s", what, size, no_shm ? "sockets" : "shared memory");
}

/* --- other engines --------------------------------------------------------------------------- */

/* One rank, which a launcher of MPI has started. */
static int rank_main(void)
{
    char text[OVERTAKE_MESSAGE_SIZE];
    overtake_place p = {.struct_size = sizeof p};
    alarm(JOB_LIMIT_S);
    /* A second job in the same process: MPI does not begin again, the engine does. */
    for (int again = 0; again < 2; again++) {
        if (overtake_init(NULL, text, sizeof text) != 0 ||
            overtake_where(OVERTAKE_WORLD, &p) != 0) {
            printf("# init: %s\n", text);
            return 91;
        }
        job j = {.size = p.size}, unnamed = {.size = p.size, .arg = &unnamed};
        int rc = again ? bits(&j, p.rank)
                       : all(&j, p.rank) || many(&j, p.rank) || many(&unnamed, p.rank);
        if (overtake_finalize(text, sizeof text) != 0 || rc != 0) {
            printf("# finalize: %s\n", text);
            return 92;
        }
    }
    return 0;
}

/* The folder of the build, from this program's own path. */
static bool find_engine(char path[OT_PATH_MAX])
{
    char self[OT_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *tests = strstr(self, "/tests/unit/");
    if (tests != NULL) {
        *tests = 0;
    }
    return tests != NULL && snprintf(path, OT_PATH_MAX, "%s/libovertake_mpi.so", self) > 0 &&
           access(path, R_OK) == 0;
}

static void run_mpi(int32_t n)
{
    char command[2 * OT_PATH_MAX];
    char self[OT_PATH_MAX] = "";
    (void)!readlink("/proc/self/exe", self, sizeof self - 1);
    snprintf(command, sizeof command,
             "mpirun --allow-run-as-root --oversubscribe --mca btl tcp,self --mca pml ob1 --mca "
             "btl_tcp_if_include lo --mca mpi_yield_when_idle 1 -np %d %s rank%s 1>&2",
             n, self, thorough ? " long" : "");
    is_int(system(command), 0, "every collective, many tensors, the same bits: %d ranks, mpi", n);
}

static void other_engines(void)
{
    char path[OT_PATH_MAX], key[] = "/tmp/overtake-key-XXXXXX";
    if (!find_engine(path)) {
        skip("the engine mpi is not built: there is no mpicc (Debian: libopenmpi-dev)");
        return;
    }
    if (system("mpirun --version 2>/dev/null | grep -q 'Open MPI'") != 0) {
        skip("there is no mpirun of Open MPI (Debian: openmpi-bin)");
        return;
    }
    int fd = mkstemp(key);
    is_int(fd >= 0 && write(fd, "the key of this test", 20) == 20, 1, "a key");
    close(fd);
    setenv("OVERTAKE_KEY_FILE", key, 1);
    setenv("OVERTAKE_ENGINE", path, 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* MPI's own */
    for (int32_t n = 1; n <= 5; n++) {
        run_mpi(n);
    }
    unlink(key);
}

/* collective_test [long] */
int main(int argc, char **argv)
{
    bool ranked = argc > 1 && strcmp(argv[1], "rank") == 0;
    thorough = argc > 1 && strcmp(argv[argc - 1], "long") == 0;
    if (ranked) {
        return rank_main();
    }
    for (int32_t n = 1; n <= (thorough ? JOB_RANKS_MAX : 5); n++) {
        run("every collective", all, n, false);
        run("every collective", all, n, true);
    }
    for (int32_t n = 2; n <= 5; n += 3) {
        run("many tensors in any order", many, n, false);
        run("many tensors in any order", many, n, true);
        job unnamed = {.size = n, .part = many, .arg = &unnamed, .rogue = -1};
        is_int(job_run(&unnamed), 0, "many tensors without names: %d ranks", n);
        run("the same bits", bits, n, n == 5);
    }
    other_engines();
    return tap_done();
}
