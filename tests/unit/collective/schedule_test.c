/* Schedules: the steps of all ranks run against each other, compared with what the operation means.
 */
#include "schedule_world.h"
#include "tap.h"

#define RANKS_MAX 33

typedef enum placing { OUT_OF_PLACE, IN_PLACE } placing;

/* One operation of all ranks: shapes, buffers, and the results as they should be. */
typedef struct trial {
    overtake_kind kind;
    ot_algorithm algorithm;
    overtake_dtype dtype;
    int32_t n, root;
    uint64_t count;
    uint64_t counts[RANKS_MAX], matrix[RANKS_MAX][RANKS_MAX]; /* alltoall: [from][to] */
    const int32_t *hosts;
    placing placing;
    unsigned char *in[RANKS_MAX], *out[RANKS_MAX], *want[RANKS_MAX];
    uint64_t in_bytes[RANKS_MAX], out_bytes[RANKS_MAX];
    uint64_t sends[RANKS_MAX][RANKS_MAX], recvs[RANKS_MAX][RANKS_MAX];
} trial;

static ot_coll_shape shape_of(const trial *t, int32_t rank)
{
    return (ot_coll_shape){.kind = t->kind,
                           .rank = rank,
                           .size = t->n,
                           .root = t->root,
                           .elem_bytes = (uint32_t)ot_dtype_bytes(t->dtype),
                           .count = t->count,
                           .counts = t->counts,
                           .sends = t->sends[rank],
                           .recvs = t->recvs[rank],
                           .hosts = t->hosts};
}

static uint64_t sum_of(const uint64_t *counts, int32_t n)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += counts[i];
    }
    return sum;
}

static void sizes(trial *t)
{
    uint64_t size = ot_dtype_bytes(t->dtype), total = sum_of(t->counts, t->n) * size;
    for (int32_t r = 0; r < t->n; r++) {
        uint64_t own = t->counts[r] * size, whole = t->count * size;
        for (int32_t p = 0; p < t->n; p++) {
            t->sends[r][p] = t->matrix[r][p];
            t->recvs[r][p] = t->matrix[p][r];
        }
        switch (t->kind) {
        case OVERTAKE_ALLGATHER:
            t->in_bytes[r] = own;
            t->out_bytes[r] = total;
            break;
        case OVERTAKE_REDUCESCATTER:
            t->in_bytes[r] = total;
            t->out_bytes[r] = own;
            break;
        case OVERTAKE_ALLTOALL:
            t->in_bytes[r] = sum_of(t->sends[r], t->n) * size;
            t->out_bytes[r] = sum_of(t->recvs[r], t->n) * size;
            break;
        case OVERTAKE_BARRIER:
            t->in_bytes[r] = t->out_bytes[r] = 1;
            break;
        default:
            t->in_bytes[r] = t->out_bytes[r] = whole;
        }
    }
}

static void fill(ot_rng *rng, overtake_dtype t, unsigned char *p, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes / ot_dtype_bytes(t); i++) {
        float x = (float)ot_rng_normal(rng);
        int32_t k = (int32_t)ot_rng_next(rng);
        memcpy(p + 4 * i, t == OVERTAKE_F32 ? (const void *)&x : (const void *)&k, 4);
    }
}

/* In rank order, in double or with wrap-around. */
static void add(overtake_dtype t, unsigned char *sum, const unsigned char *x, uint64_t bytes)
{
    ot_kernel_reduce(OVERTAKE_SUM, t, sum, sum, x, bytes / ot_dtype_bytes(t));
}

static void expect(trial *t)
{
    uint64_t size = ot_dtype_bytes(t->dtype), at[RANKS_MAX];
    memset(at, 0, sizeof at);
    for (int32_t r = 0; r < t->n; r++) {
        unsigned char *want = t->want[r];
        uint64_t offset = sum_of(t->counts, r) * size, from = 0;
        for (int32_t p = 0; p < t->n; p++) {
            if (t->kind == OVERTAKE_ALLREDUCE) {
                p == 0 ? (void)memcpy(want, t->in[p], t->in_bytes[p])
                       : add(t->dtype, want, t->in[p], t->in_bytes[p]);
            } else if (t->kind == OVERTAKE_REDUCESCATTER) {
                p == 0 ? (void)memcpy(want, t->in[p] + offset, t->out_bytes[r])
                       : add(t->dtype, want, t->in[p] + offset, t->out_bytes[r]);
            } else if (t->kind == OVERTAKE_ALLGATHER) {
                memcpy(want + from, t->in[p], t->in_bytes[p]);
                from += t->in_bytes[p];
            } else if (t->kind == OVERTAKE_ALLTOALL) {
                memcpy(want + from, t->in[p] + at[p], t->recvs[r][p] * size);
                from += t->recvs[r][p] * size;
                at[p] += t->recvs[r][p] * size;
            } else if (t->kind == OVERTAKE_BROADCAST && p == t->root) {
                memcpy(want, t->in[p], t->in_bytes[p]);
            }
        }
    }
}

static bool same(const trial *t, int32_t rank)
{
    const unsigned char *a = t->out[rank], *b = t->want[rank];
    bool sums = t->kind == OVERTAKE_ALLREDUCE || t->kind == OVERTAKE_REDUCESCATTER;
    if (t->dtype != OVERTAKE_F32 || !sums) {
        return memcmp(a, b, t->out_bytes[rank]) == 0;
    }
    for (uint64_t i = 0; i < t->out_bytes[rank] / 4; i++) {
        float x, y;
        memcpy(&x, a + 4 * i, 4);
        memcpy(&y, b + 4 * i, 4);
        if (!(fabsf(x - y) <= 1e-5f * (float)t->n)) {
            return false;
        }
    }
    return true;
}

/* NULL, or what is wrong. */
static const char *run(trial *t, uint64_t seed, uint64_t *hash)
{
    world w;
    const char *wrong = world_create(&w, t->n, t->dtype, seed) ? NULL : "no memory";
    for (int32_t r = 0; r < t->n && wrong == NULL; r++) {
        ot_schedule s;
        ot_coll_shape shape = shape_of(t, r);
        ot_error err;
        if (ot_schedule_build(t->algorithm, &shape, &s, &err) != OT_OK) {
            wrong = "not built";
            break;
        }
        unsigned char *in = t->in[r];
        if (t->placing == IN_PLACE) {
            /* An allgather's part in its place, else the whole. */
            in = t->out[r];
            in += t->kind == OVERTAKE_ALLGATHER ? sum_of(t->counts, r) * shape.elem_bytes : 0;
            memcpy(in, t->in[r], t->in_bytes[r]);
        }
        wrong = world_set(&w, r, &s, in, t->out[r]) ? NULL : "no memory";
    }
    for (int32_t i = 0; i < t->n * t->n && wrong == NULL; i++) {
        wrong = world_fits(&w, i / t->n, i % t->n) ? NULL : "what is sent is not what is expected";
    }
    if (wrong == NULL) {
        wrong = world_run(&w) == 0 ? NULL : "stands still";
    }
    for (int32_t r = 0; r < t->n && wrong == NULL; r++) {
        wrong = same(t, r) ? NULL : "wrong result";
        if (wrong == NULL && t->kind == OVERTAKE_ALLREDUCE) {
            wrong = memcmp(t->out[r], t->out[0], t->out_bytes[0]) == 0 ? NULL : "ranks differ";
        }
        for (uint64_t i = 0; i < t->out_bytes[r]; i++) {
            *hash = (*hash ^ t->out[r][i]) * 1099511628211u;
        }
    }
    world_destroy(&w);
    return wrong;
}

/* Twice, each time otherwise interleaved: the same bits. */
static bool holds(trial *t, uint64_t seed)
{
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    sizes(t);
    bool memory = true;
    for (int32_t r = 0; r < t->n; r++) {
        t->in[r] = ot_calloc(1, t->in_bytes[r] + 8);
        t->out[r] = ot_calloc(1, OT_MAX(t->out_bytes[r], t->in_bytes[r]) + 8);
        t->want[r] = ot_calloc(1, t->out_bytes[r] + 8);
        memory &= t->in[r] != NULL && t->out[r] != NULL && t->want[r] != NULL;
        if (memory && t->kind != OVERTAKE_BARRIER) {
            fill(&rng, t->dtype, t->in[r], t->in_bytes[r]);
        }
    }
    expect(t);
    uint64_t first = 1, second = 1;
    const char *wrong = memory ? run(t, seed, &first) : "no memory";
    wrong = wrong == NULL ? run(t, seed + 1, &second) : wrong;
    wrong = wrong == NULL && first != second ? "two runs differ" : wrong;
    for (int32_t r = 0; r < t->n; r++) {
        ot_free(t->in[r]);
        ot_free(t->out[r]);
        ot_free(t->want[r]);
    }
    if (wrong != NULL) {
        printf("# %s: kind %d, %s, %d ranks, root %d, count %llu, dtype %d, %s, hosts %s\n", wrong,
               (int)t->kind, ot_algorithm_name(t->algorithm), t->n, t->root,
               (unsigned long long)t->count, (int)t->dtype,
               t->placing == IN_PLACE ? "in place" : "out of place",
               t->hosts != NULL ? "given" : "apart");
    }
    return wrong == NULL;
}

/* Parts of the ranks: all alike, every second empty, all at one rank, any. */
static void deal(trial *t, uint64_t how, ot_rng *rng)
{
    for (int32_t r = 0; r < t->n; r++) {
        uint64_t rank = (uint64_t)r, n = (uint64_t)t->n;
        t->counts[r] = how == 0   ? t->count / n + (rank < t->count % n)
                       : how == 1 ? rank % 2 * t->count
                       : how == 2 ? (r == t->n - 1) * t->count
                                  : ot_rng_below(rng, t->count + 1);
        for (int32_t p = 0; p < t->n; p++) {
            t->matrix[r][p] = how == 0   ? t->count
                              : how == 1 ? (uint64_t)((r + p) % 2) * t->count
                              : how == 2 ? (p == t->n - 1) * t->count
                                         : ot_rng_below(rng, t->count + 1);
        }
    }
}

static bool does(overtake_kind kind, ot_algorithm a)
{
    static const bool table[OVERTAKE_KINDS][OT_ALGOS] = {
        [OVERTAKE_ALLREDUCE] = {true, true, true, true, true},
        [OVERTAKE_ALLGATHER] = {true, true, false, true, false},
        [OVERTAKE_REDUCESCATTER] = {true, true, false, true, false},
        [OVERTAKE_ALLTOALL] = {false, false, false, true, false},
        [OVERTAKE_BROADCAST] = {true, false, true, true, true},
        [OVERTAKE_BARRIER] = {false, true, false, false, false},
    };
    return table[kind][a];
}

static const char *const kind_names[] = {"allreduce", "allgather", "reducescatter",
                                         "alltoall",  "broadcast", "barrier"};

/* All counts, parts, places, hosts of one kind by one algorithm on n ranks. */
static int failures(overtake_kind kind, ot_algorithm a, int32_t n, bool all)
{
    static const int32_t pairs[RANKS_MAX] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8};
    static const int32_t mixed[RANKS_MAX] = {4, 1, 4, 4, 2, 1, 4, 2, 9};
    static const int32_t one_host[RANKS_MAX];
    static const int32_t *const hosts[] = {NULL, pairs, mixed, one_host};
    uint64_t ranks = (uint64_t)n,
             counts[] = {0, 1, 2, ranks - 1, ranks, ranks + 1, 61, 257, all ? 1500 : 100};
    ot_rng rng;
    ot_rng_seed(&rng, 99);
    int failed = 0;
    for (size_t i = 0; i < OT_COUNT(counts) * OT_COUNT(hosts) * 2; i++) {
        trial t = {.kind = kind,
                   .algorithm = a,
                   .n = n,
                   .count = counts[i / 8],
                   .hosts = hosts[i / 2 % 4],
                   .dtype = i % 3 == 0 ? OVERTAKE_I32 : OVERTAKE_F32,
                   .root = (int32_t)(i % ranks),
                   .placing = i % 2 == 0 ? OUT_OF_PLACE : IN_PLACE};
        bool knows_hosts = a == OT_ALGO_RING || a == OT_ALGO_HOSTS;
        if (t.hosts != NULL && (!knows_hosts || (n == 33 && t.hosts != one_host))) {
            continue;
        }
        if (t.placing == IN_PLACE &&
            (kind == OVERTAKE_REDUCESCATTER || kind == OVERTAKE_ALLTOALL)) {
            t.placing = OUT_OF_PLACE;
        }
        deal(&t, i % 4, &rng);
        failed += !holds(&t, i);
    }
    return failed;
}

static void all_kinds(void)
{
    static const int32_t many[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33};
    for (int k = 0; k <= OVERTAKE_BARRIER; k++) {
        for (int a = 0; a < OT_ALGOS; a++) {
            overtake_kind kind = (overtake_kind)k;
            if (!does(kind, (ot_algorithm)a)) {
                ot_schedule s;
                ot_error err;
                ot_coll_shape shape = {.kind = kind, .size = 2, .elem_bytes = 4};
                is_int(ot_schedule_build((ot_algorithm)a, &shape, &s, &err), OT_UNIMPLEMENTED,
                       "%s by %s is refused", kind_names[k], ot_algorithm_name((ot_algorithm)a));
                continue;
            }
            for (size_t i = 0; i < OT_COUNT(many); i++) {
                is_int(failures(kind, (ot_algorithm)a, many[i], many[i] < 10), 0,
                       "%s by %s, %d ranks", kind_names[k], ot_algorithm_name((ot_algorithm)a),
                       many[i]);
            }
        }
    }
}

/* No rank is through a barrier, or has its sum, before all are there. */
static void nobody_early(void)
{
    for (int32_t n = 2; n <= 9; n++) {
        int early = 0;
        for (int32_t late = 0; late < n; late++) {
            world w;
            bool good = world_create(&w, n, OVERTAKE_U8, (uint64_t)late);
            unsigned char in[9] = {0}, out[9] = {0};
            for (int32_t r = 0; r < n && good; r++) {
                ot_coll_shape shape = {
                    .kind = OVERTAKE_BARRIER, .rank = r, .size = n, .elem_bytes = 1};
                ot_schedule s = {0};
                ot_error err;
                good = ot_schedule_build(OT_ALGO_HALVING, &shape, &s, &err) == OT_OK &&
                       world_set(&w, r, &s, in + r, out + r);
            }
            w.ranks[late].held = true;
            early += !good || world_run(&w) != n;
            w.ranks[late].held = false;
            early += world_run(&w) != 0;
            world_destroy(&w);
        }
        is_int(early, 0, "barrier of %d ranks: nobody is through before the last comes", n);
    }
}

/* Most bytes and messages that a rank sends, and how many others it knows. */
typedef struct load {
    uint64_t bytes, messages, peers;
} load;

static load heaviest(ot_algorithm a, overtake_kind kind, int32_t n, uint64_t count)
{
    load most = {0};
    uint64_t *counts = ot_calloc((size_t)n, sizeof *counts);
    bool *known = ot_calloc((size_t)n, sizeof *known);
    for (int32_t r = 0; r < n && counts != NULL; r++) {
        counts[r] = count;
    }
    for (int32_t r = 0; r < n && counts != NULL && known != NULL; r++) {
        ot_coll_shape shape = {
            .kind = kind, .rank = r, .size = n, .elem_bytes = 4, .count = count, .counts = counts};
        ot_schedule s;
        ot_error err;
        load l = {0};
        if (ot_schedule_build(a, &shape, &s, &err) != OT_OK) {
            break;
        }
        memset(known, 0, (size_t)n * sizeof *known);
        for (size_t i = 0; i < s.n; i++) {
            const ot_step *st = &s.steps[i];
            l.messages += st->kind == OT_STEP_SEND;
            l.bytes += st->kind == OT_STEP_SEND ? st->bytes : 0;
            l.peers += st->peer >= 0 && !known[st->peer];
            known[st->peer >= 0 ? st->peer : r] |= st->peer >= 0;
        }
        most.bytes = OT_MAX(most.bytes, l.bytes);
        most.messages = OT_MAX(most.messages, l.messages);
        most.peers = OT_MAX(most.peers, l.peers);
        ot_schedule_done(&s);
    }
    ot_free(known);
    ot_free(counts);
    return most;
}

static void bounds(void)
{
    for (int32_t n = 2; n <= 9; n++) {
        uint64_t count = 5040, bytes = 4 * count,
                 least = 2 * (uint64_t)(n - 1) * bytes / (uint64_t)n;
        load ring = heaviest(OT_ALGO_RING, OVERTAKE_ALLREDUCE, n, count);
        is_int(ring.bytes, least, "ring of %d: each byte goes 2(n-1)/n times", n);
        is_int(ring.messages, 2 * (n - 1), "in 2(n-1) messages");
        is_int(heaviest(OT_ALGO_DIRECT, OVERTAKE_ALLREDUCE, n, count).bytes, least,
               "direct of %d: as many", n);
        load halving = heaviest(OT_ALGO_HALVING, OVERTAKE_ALLREDUCE, n, count);
        if ((n & (n - 1)) == 0) {
            is_int(halving.bytes, least, "halving of %d: as many", n);
        } else {
            ok(halving.bytes > least && 2 * halving.bytes <= 5 * bytes,
               "halving of %d: the busiest rank sends a little more (%.2f)", n,
               (double)halving.bytes / (double)bytes);
        }
    }
}

/* What a rank sends as the job grows. */
static void scaling(void)
{
    static const struct {
        ot_algorithm a;
        overtake_kind kind;
        uint64_t count;
    } rows[] = {
        {OT_ALGO_HALVING, OVERTAKE_ALLREDUCE, 65536}, {OT_ALGO_TREE, OVERTAKE_ALLREDUCE, 64},
        {OT_ALGO_HALVING, OVERTAKE_ALLGATHER, 16},    {OT_ALGO_HALVING, OVERTAKE_BARRIER, 0},
        {OT_ALGO_TREE, OVERTAKE_BROADCAST, 1024},     {OT_ALGO_RING, OVERTAKE_ALLREDUCE, 65536}};
    static const int32_t ranks[] = {64, 256, 1024};
    printf("# what the busiest rank sends: messages / bytes / ranks that it has a link to\n");
    printf("# %-26s %10s %24d %24d %24d\n", "", "elements", ranks[0], ranks[1], ranks[2]);
    for (size_t i = 0; i < OT_COUNT(rows); i++) {
        load l[3];
        for (size_t k = 0; k < 3; k++) {
            l[k] = heaviest(rows[i].a, rows[i].kind, ranks[k], rows[i].count);
        }
        printf("# %-13s by %-9s %10llu", kind_names[rows[i].kind], ot_algorithm_name(rows[i].a),
               (unsigned long long)rows[i].count);
        for (size_t k = 0; k < 3; k++) {
            printf("   %6llu %9llu %5llu", (unsigned long long)l[k].messages,
                   (unsigned long long)l[k].bytes, (unsigned long long)l[k].peers);
        }
        printf("\n");
        if (rows[i].a != OT_ALGO_RING) {
            ok(l[0].messages > 0 && l[2].messages * 6 <= l[0].messages * 10 && l[2].peers <= 20,
               "%s by %s: messages and links grow no faster than log n", kind_names[rows[i].kind],
               ot_algorithm_name(rows[i].a));
        }
    }
}

static void memory_short(void)
{
    int leaks_or_worse = 0;
    for (int a = 0; a < OT_ALGOS; a++) {
        static const int32_t hosts[8] = {0, 0, 1, 1, 2, 2, 3, 3};
        ot_coll_shape shape = {.kind = OVERTAKE_ALLREDUCE,
                               .rank = 1,
                               .size = 8,
                               .elem_bytes = 4,
                               .count = 5000,
                               .hosts = hosts};
        ot_rc rc = OT_EXHAUSTED;
        for (uint64_t nth = 1; rc != OT_OK && nth < 20; nth++) {
            ot_schedule s = {0};
            ot_error err;
            ot_mem_fail_nth(nth);
            rc = ot_schedule_build((ot_algorithm)a, &shape, &s, &err);
            ot_mem_fail_nth(0);
            leaks_or_worse += rc == OT_OK ? nth == 1 : rc != OT_EXHAUSTED || s.steps != NULL;
            if (rc == OT_OK) {
                ot_schedule_done(&s);
            }
        }
        leaks_or_worse += rc != OT_OK;
    }
    is_int(leaks_or_worse, 0, "memory that is short is said, at every allocation");
}

int main(void)
{
    all_kinds();
    nobody_early();
    bounds();
    scaling();
    memory_short();
    return tap_done();
}
