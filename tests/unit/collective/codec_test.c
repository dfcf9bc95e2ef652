/* Codecs: what they lose and keep, every instruction set against the scalar one, and an allreduce
 * by two shots over the schedules of all ranks. */
#include "collective/codec.h"
#include "schedule_world.h"
#include "tap.h"

#define NUMBERS 3000
#define RANKS 5

static const char *const isa_names[] = {"scalar", "AVX2", "AVX-512", "NEON"};

static void numbers(ot_rng *r, float *x, size_t n, bool finite)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t k = ot_rng_below(r, finite ? 900 : 1000);
        x[i] = (float)ot_rng_normal(r) * (k < 100 ? 1e-3f : 1);
        x[i] = k < 10 ? 0 : k < 20 ? -0.0f : k < 24 ? 1e-40f : k < 27 ? 3e38f : x[i];
        x[i] = k == 998 ? INFINITY : k == 999 ? NAN : x[i];
    }
}

static int codec_differs(ot_isa isa, ot_codec c)
{
    static float x[NUMBERS], residual[2][NUMBERS], back[2][NUMBERS];
    static unsigned char out[2][4 * NUMBERS + 64];
    static const size_t lengths[] = {0,   1,   7,   8,   15,  16,   17,   63,  130,
                                     511, 512, 513, 600, 777, 1024, 1025, 2990};
    ot_rng r;
    ot_rng_seed(&r, 21);
    int bad = 0;
    for (size_t i = 0; i < 4 * OT_COUNT(lengths); i++) {
        size_t n = lengths[i / 4], at = i % 4;
        numbers(&r, x, NUMBERS, i % 2 == 0);
        numbers(&r, residual[0], NUMBERS, true);
        memcpy(residual[1], residual[0], sizeof residual[0]);
        for (int k = 0; k < 2; k++) {
            bad += !ot_kernel_use(k == 0 ? OT_ISA_SCALAR : isa);
            memset(out[k], 0x5a, sizeof out[k]);
            memset(back[k], 0x5a, sizeof back[k]);
            ot_codec_encode(c, out[k] + at, x + at, i % 8 < 6 ? residual[k] + at : NULL, n);
            ot_codec_decode(c, back[k], out[k] + at, n);
            ot_codec_add(c, back[k] + 1, out[k] + at, n);
        }
        uint64_t bytes = ot_codec_bytes(c, n);
        bad += memcmp(out[0], out[1], sizeof out[0]) != 0 || out[0][at + bytes] != 0x5a ||
               memcmp(back[0], back[1], sizeof back[0]) != 0 ||
               memcmp(residual[0], residual[1], sizeof residual[0]) != 0;
    }
    return bad;
}

static void twins(void)
{
    static const ot_isa isas[] = {OT_ISA_AVX2, OT_ISA_AVX512, OT_ISA_NEON};
    for (size_t i = 0; i < OT_COUNT(isas); i++) {
        if (!ot_kernel_use(isas[i])) {
            printf("# this machine has no %s\n", isa_names[isas[i]]);
            skip("an instruction set that this machine does not have");
            continue;
        }
        for (int c = 0; c < OT_CODECS; c++) {
            is_int(codec_differs(isas[i], (ot_codec)c), 0, "%s: %s equals the scalar one",
                   isa_names[isas[i]], ot_codec_name((ot_codec)c));
        }
    }
}

static void int8_keeps_what_it_loses(void)
{
    float x[1200], residual[1200] = {0}, sum[1200] = {0}, out[1200], was[1200];
    unsigned char bytes[1300];
    ot_rng r;
    ot_rng_seed(&r, 5);
    is_int(ot_codec_bytes(OT_CODEC_INT8, 1200), 1200 + 3 * 4, "a byte a number, a scale a block");
    for (size_t i = 0; i < OT_COUNT(x); i++) {
        x[i] = (float)ot_rng_normal(&r);
    }
    int wrong = 0, steps = 50;
    for (int k = 0; k < steps; k++) {
        memcpy(was, residual, sizeof was);
        ot_codec_encode(OT_CODEC_INT8, bytes, x, residual, OT_COUNT(x));
        ot_codec_decode(OT_CODEC_INT8, out, bytes, OT_COUNT(x));
        for (size_t i = 0; i < OT_COUNT(x); i++) {
            wrong += residual[i] != x[i] + was[i] - out[i] || fabsf(residual[i]) > 0.03f;
            sum[i] += out[i];
        }
    }
    is_int(wrong, 0, "the residual is what was lost, half a step at most");
    for (size_t i = 0; i < OT_COUNT(x); i++) {
        wrong += fabsf(sum[i] + residual[i] - (float)steps * x[i]) > 1e-3f;
    }
    is_int(wrong, 0, "over %d steps nothing is lost", steps);
}

static void not_finite(void)
{
    float x[1536], residual[1536], was[1536], out[1536];
    unsigned char bytes[1600];
    for (int k = 0; k < 2; k++) {
        int wrong = 0;
        for (size_t i = 0; i < OT_COUNT(x); i++) {
            x[i] = 1;
            residual[i] = 0.001f * (float)(i % 7);
        }
        memcpy(was, residual, sizeof was);
        x[700] = k == 0 ? NAN : -INFINITY;
        ot_codec_encode(OT_CODEC_INT8, bytes, x, residual, OT_COUNT(x));
        ot_codec_decode(OT_CODEC_INT8, out, bytes, OT_COUNT(x));
        for (size_t i = 0; i < OT_COUNT(x); i++) {
            bool block = i / 512 == 1;
            wrong += block ? !isnan(out[i]) || residual[i] != was[i] : !(fabsf(out[i] - 1) < 0.02f);
        }
        is_int(wrong, 0, "%s: its block is NaN and keeps its residual",
               k == 0 ? "NaN" : "infinity");
    }
    float tiny[3] = {1e-40f, -1e-44f, 0}, left[3] = {0};
    ot_codec_encode(OT_CODEC_INT8, bytes, tiny, left, 3);
    ot_codec_decode(OT_CODEC_INT8, out, bytes, 3);
    ok(out[0] == 0 && left[0] == tiny[0] && left[1] == tiny[1],
       "too small for a scale: all is kept");
}

/* What each rank holds on the way. */
typedef struct member {
    ot_twoshot t;
    ot_span spans[4];
    float in[NUMBERS], residual[NUMBERS], out[NUMBERS];
    unsigned char packed[4 * NUMBERS], heard[4 * NUMBERS], sum[4 * NUMBERS], all[4 * NUMBERS];
} member;

static member members[RANKS];

/* One operation of all ranks on bytes; false: it stood still. */
static bool operation(overtake_kind kind, ot_algorithm a, int32_t n, uint64_t seed)
{
    world w;
    bool good = world_create(&w, n, OVERTAKE_U8, seed);
    for (int32_t r = 0; r < n && good; r++) {
        member *m = &members[r];
        ot_coll_shape shape = {.kind = kind,
                               .rank = r,
                               .size = n,
                               .elem_bytes = 1,
                               .counts = m->t.sends,
                               .sends = m->t.sends,
                               .recvs = m->t.recvs};
        ot_schedule s;
        ot_error err;
        bool first = kind == OVERTAKE_ALLTOALL;
        good = ot_schedule_build(a, &shape, &s, &err) == OT_OK &&
               world_set(&w, r, &s, first ? m->packed : m->sum, first ? m->heard : m->all);
    }
    good = good && world_run(&w) == 0;
    world_destroy(&w);
    return good;
}

/* As one tensor, or as three of odd sizes. */
static size_t spans(member *m, ot_codec c, uint64_t count, bool cut)
{
    uint64_t ends[] = {cut ? count / 5 : 0, cut ? count / 2 : 0, count}, at = 0;
    size_t n = 0;
    for (size_t i = 0; i < OT_COUNT(ends); i++) {
        if (ends[i] > at || i == 2) {
            m->spans[n++] = (ot_span){.in = m->in + at,
                                      .out = m->out + at,
                                      .residual = ot_codec_keeps(c) ? m->residual + at : NULL,
                                      .count = ends[i] - at,
                                      .before = 0.5f,
                                      .after = 2};
        }
        at = ends[i];
    }
    return n;
}

static bool allreduce(ot_codec c, int32_t n, uint64_t count, bool cut, uint64_t seed)
{
    bool good = true;
    ot_error err;
    for (int32_t r = 0; r < n; r++) {
        member *m = &members[r];
        size_t k = spans(m, c, count, cut);
        good &= ot_twoshot_init(&m->t, c, r, n, m->spans, k, &err) == OT_OK;
        good &= m->t.bytes <= sizeof m->packed && ot_twoshot_heard(&m->t) <= sizeof m->heard;
        ot_twoshot_pack(&m->t, m->packed);
    }
    good = good && operation(OVERTAKE_ALLTOALL, OT_ALGO_DIRECT, n, seed);
    for (int32_t r = 0; r < n && good; r++) {
        member *m = &members[r];
        ot_twoshot_sum(&m->t, m->sum, m->heard);
    }
    good = good && operation(OVERTAKE_ALLGATHER, OT_ALGO_RING, n, seed + 1);
    for (int32_t r = 0; r < n; r++) {
        ot_twoshot_unpack(&members[r].t, members[r].all);
        ot_twoshot_done(&members[r].t);
    }
    return good;
}

static void two_shots(ot_codec c)
{
    static const uint64_t counts[] = {0, 1, 511, 512, 513, 1700, NUMBERS};
    static float first[NUMBERS];
    float bound = c == OT_CODEC_INT8 ? 0.25f : c == OT_CODEC_BF16 ? 0.12f : 0.02f;
    for (int32_t n = 1; n <= RANKS; n++) {
        int stuck = 0, differ = 0, far = 0, unlike = 0;
        for (size_t i = 0; i < 2 * OT_COUNT(counts); i++) {
            ot_rng r;
            ot_rng_seed(&r, i / 2);
            uint64_t count = counts[i / 2];
            for (int32_t k = 0; k < n; k++) {
                for (uint64_t j = 0; j < count; j++) {
                    members[k].in[j] = (float)ot_rng_normal(&r);
                }
                memset(members[k].residual, 0, sizeof members[k].residual);
            }
            stuck += !allreduce(c, n, count, i / 2 % 2 == 1, i);
            for (int32_t k = 1; k < n; k++) {
                differ += memcmp(members[k].out, members[0].out, count * sizeof(float)) != 0;
            }
            for (uint64_t j = 0; j < count; j++) {
                float sum = 0;
                for (int32_t k = 0; k < n; k++) {
                    sum += members[k].in[j];
                }
                far += !(fabsf(sum - members[0].out[j]) < bound);
            }
            unlike += i % 2 == 1 && memcmp(first, members[0].out, count * sizeof(float)) != 0;
            memcpy(first, members[0].out, sizeof first);
        }
        ok(stuck == 0 && differ == 0, "%s, %d ranks: the same bits on all", ot_codec_name(c), n);
        is_int(unlike, 0, "and each time");
        is_int(far, 0, "near the sum");
    }
}

/* With both residuals nothing is lost over time: the sum of what all got is the sum of what all
 * gave, but for what the residuals still hold. */
static void nothing_is_lost(void)
{
    enum { COUNT = 1700, STEPS = 20, N = 3 };
    static double given[COUNT], got[COUNT];
    ot_rng r;
    ot_rng_seed(&r, 77);
    for (int32_t k = 0; k < N; k++) {
        memset(members[k].residual, 0, sizeof members[k].residual);
    }
    bool good = true;
    for (int step = 0; step < STEPS; step++) {
        for (int32_t k = 0; k < N; k++) {
            for (int j = 0; j < COUNT; j++) {
                members[k].in[j] = (float)ot_rng_normal(&r);
                given[j] += (double)members[k].in[j];
            }
        }
        good &= allreduce(OT_CODEC_INT8, N, COUNT, step % 2 == 1, (uint64_t)step);
        for (int j = 0; j < COUNT; j++) {
            got[j] += (double)members[0].out[j];
        }
    }
    /* Residuals are of numbers that have been halved. */
    int lost = 0;
    for (int j = 0; j < COUNT; j++) {
        double kept = 0;
        for (int32_t k = 0; k < N; k++) {
            kept += 2 * (double)members[k].residual[j];
        }
        lost += !(fabs(given[j] - got[j] - kept) < 1e-4);
    }
    ok(good && lost == 0, "%d steps on %d ranks: what is not there yet is in the residuals", STEPS,
       N);
}

static void a_nan_reaches_all(void)
{
    for (int32_t k = 0; k < 3; k++) {
        for (int j = 0; j < 1700; j++) {
            members[k].in[j] = 1;
        }
    }
    members[2].in[3] = NAN;
    for (int c = 0; c < OT_CODECS; c++) {
        bool good = allreduce((ot_codec)c, 3, 1700, false, 1);
        for (int32_t k = 0; k < 3; k++) {
            good &= isnan(members[k].out[3]) && !isnan(members[k].out[1699]);
        }
        ok(good, "%s: a NaN of one rank is on all", ot_codec_name((ot_codec)c));
    }
}

int main(void)
{
    int8_keeps_what_it_loses();
    not_finite();
    for (int c = 0; c < OT_CODECS; c++) {
        two_shots((ot_codec)c);
    }
    nothing_is_lost();
    a_nan_reaches_all();
    ot_error err;
    ot_twoshot t = {0};
    ot_span span = {.count = 100};
    ot_mem_fail_nth(1);
    is_int(ot_twoshot_init(&t, OT_CODEC_INT8, 0, 4, &span, 1, &err), OT_EXHAUSTED, "no memory: %s",
           err.msg);
    ot_mem_fail_nth(0);
    ok(t.sends == NULL, "the output is untouched");
    twins();
    return tap_done();
}
