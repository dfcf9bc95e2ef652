/* `overtake tune`: what the links between the ranks of a job do, as the cost model's text. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "collective/codec.h"
#include "collective/cost.h"
#include "collective/kernel.h"
#include "collective/meet.h"

#include <stdio.h>
#include <string.h>

#define BYTES_MAX ((int64_t)8 << 20)
#define BUFFER_BYTES (4 * (size_t)BYTES_MAX) /* more than caches hold */
#define TIMES_MAX 30                         /* of a size */
#define SIZES 21                             /* from 8 bytes on, doubled */
#define AT_ONCE 64
#define STREAMED 8 /* messages of BYTES_MAX */
#define WAIT_S 120

typedef struct tune {
    overtake_place place;
    uint64_t machines[OT_MEET_RANKS_MAX];
    unsigned char *buffer; /* BUFFER_BYTES */
    ot_cost_sample samples[SIZES * TIMES_MAX];
    size_t n;
    char text[OVERTAKE_MESSAGE_SIZE];
} tune;

static ot_rc failed(int code, const char *text, ot_error *err)
{
    return code == 0 ? OT_OK : ot_fail(err, (ot_rc)code, "%s", text);
}

static double now_us(void)
{
    return (double)ot_clock_mono_ns() / 1e3;
}

static ot_rc start(tune *t, overtake_request *r, overtake_handle *h, ot_error *err)
{
    r->struct_size = sizeof *r;
    r->ndim = 1;
    return failed(overtake_start(r, 1, h, t->text, sizeof t->text), t->text, err);
}

static ot_rc finish(overtake_handle h, ot_error *err)
{
    overtake_failure f = {.struct_size = sizeof f};
    return failed(overtake_wait(h, WAIT_S, NULL, &f), f.message, err);
}

static ot_rc run(tune *t, overtake_request *r, ot_error *err)
{
    overtake_handle h;
    OT_TRY(start(t, r, &h, err));
    return finish(h, err);
}

static overtake_request bytes_from(tune *t, int32_t group, int32_t root, const int64_t *bytes)
{
    return (overtake_request){.kind = OVERTAKE_BROADCAST,
                              .group = group,
                              .dtype = OVERTAKE_U8,
                              .dims = bytes,
                              .root = root,
                              .in = t->buffer,
                              .out = t->buffer};
}

/* There and back, every size many times: half of it is a message's way. */
static ot_rc measure_link(tune *t, int32_t group, ot_error *err)
{
    t->n = 0;
    for (int64_t bytes = 8; bytes <= BYTES_MAX; bytes *= 2) {
        int times = bytes <= 65536 ? TIMES_MAX : bytes <= 1 << 20 ? 8 : 3;
        for (int i = 0; i <= times; i++) {
            overtake_request there = bytes_from(t, group, 0, &bytes);
            overtake_request back = bytes_from(t, group, 1, &bytes);
            double began = now_us();
            OT_TRY(run(t, &there, err));
            OT_TRY(run(t, &back, err));
            if (i > 0) { /* the first is a warm-up */
                t->samples[t->n++] = (ot_cost_sample){(double)bytes, (now_us() - began) / 2};
            }
        }
    }
    return OT_OK;
}

/* One way without a pause, until the last has come: what is limited by a bucket of tokens, or hides
 * in the buffers of sockets, shows here. */
static ot_rc measure_rate(tune *t, int32_t group, double *bytes_per_us, ot_error *err)
{
    int64_t bytes = BYTES_MAX, little = 8;
    overtake_handle h[STREAMED];
    overtake_request r, back = bytes_from(t, group, 1, &little);
    double began = now_us();
    for (int i = 0; i < STREAMED; i++) {
        r = bytes_from(t, group, 0, &bytes);
        OT_TRY(start(t, &r, &h[i], err));
    }
    for (int i = 0; i < STREAMED; i++) {
        OT_TRY(finish(h[i], err));
    }
    OT_TRY(run(t, &back, err));
    *bytes_per_us = STREAMED * (double)bytes / (now_us() - began);
    return OT_OK;
}

/* Many small messages under way at once: what is left of each is work. */
static ot_rc measure_message(tune *t, int32_t group, double *us, ot_error *err)
{
    int64_t bytes = 8;
    for (int k = 0; k < 10; k++) {
        overtake_handle h[AT_ONCE];
        double began = now_us();
        for (int i = 0; i < AT_ONCE; i++) {
            overtake_request r = bytes_from(t, group, i % 2, &bytes);
            OT_TRY(start(t, &r, &h[i], err));
        }
        for (int i = 0; i < AT_ONCE; i++) {
            OT_TRY(finish(h[i], err));
        }
        double each = (now_us() - began) / AT_ONCE;
        *us = k == 0 || each < *us ? each : *us;
    }
    return OT_OK;
}

/* The first two ranks that share a machine, or that don't. */
static bool pair_of(const tune *t, bool same, int32_t pair[2])
{
    for (pair[0] = 0; pair[0] < t->place.size; pair[0]++) {
        for (pair[1] = pair[0] + 1; pair[1] < t->place.size; pair[1]++) {
            if ((t->machines[pair[0]] == t->machines[pair[1]]) == same) {
                return true;
            }
        }
    }
    return false;
}

/* Collective: the pair measures, all get what it found. */
static ot_rc measure_pair(tune *t, const int32_t pair[2], ot_link_cost *link, double *message_us,
                          ot_error *err)
{
    int32_t group;
    double found[3] = {0};
    int64_t n = 3;
    OT_TRY(failed(overtake_group_create(pair, 2, &group, t->text, sizeof t->text), t->text, err));
    if (t->place.rank == pair[0] || t->place.rank == pair[1]) {
        ot_link_cost fitted;
        OT_TRY(measure_link(t, group, err));
        OT_TRY(ot_cost_fit(t->samples, t->n, &fitted, err));
        OT_TRY(measure_message(t, group, &found[2], err));
        OT_TRY(measure_rate(t, group, &found[1], err));
        found[0] = fitted.latency_us;
        found[1] = OT_MIN(found[1], fitted.bytes_per_us);
    }
    overtake_request r = {.kind = OVERTAKE_BROADCAST,
                          .dtype = OVERTAKE_F64,
                          .dims = &n,
                          .root = pair[0],
                          .in = found,
                          .out = found};
    OT_TRY(run(t, &r, err));
    OT_TRY(failed(overtake_group_free(group, t->text, sizeof t->text), t->text, err));
    *link = (ot_link_cost){found[0], found[1], true};
    *message_us = found[2];
    return OT_OK;
}

/* Bytes of F32 a microsecond of one core: a sum; a codec both ways. */
static void measure_kernels(tune *t, ot_cost_model *m)
{
    size_t n = BUFFER_BYTES / 4 / sizeof(float);
    float *x = (float *)(void *)t->buffer, *y = x + n, *residual = y + n;
    unsigned char *coded = (unsigned char *)(residual + n);
    double sum_us = 0, codec_us = 0;
    for (size_t i = 0; i < 3 * n; i++) {
        x[i] = (float)(i % 1000) * 1e-3f;
    }
    for (int k = 0; k < 5; k++) {
        double began = now_us();
        ot_kernel_reduce(OVERTAKE_SUM, OVERTAKE_F32, y, y, x, n);
        double summed = now_us();
        ot_codec_encode(OT_CODEC_INT8, coded, x, residual, n);
        ot_codec_decode(OT_CODEC_INT8, y, coded, n);
        double us = now_us() - summed;
        sum_us = k == 0 || summed - began < sum_us ? summed - began : sum_us;
        codec_us = k == 0 || us < codec_us ? us : codec_us;
    }
    double bytes = (double)(n * sizeof *x);
    m->reduce_bytes_per_us = bytes / OT_MAX(sum_us, 1);
    m->codec_bytes_per_us = 2 * bytes / OT_MAX(codec_us, 1);
}

static ot_rc find_machines(tune *t, ot_error *err)
{
    char host[256], machine[96];
    int64_t one = 1;
    ot_identity_host(host, machine);
    uint64_t own = ot_hash_stable(machine, strlen(machine), 0);
    overtake_request r = {.kind = OVERTAKE_ALLGATHER,
                          .dtype = OVERTAKE_U64,
                          .dims = &one,
                          .in = &own,
                          .out = t->machines};
    t->place.struct_size = sizeof t->place;
    OT_TRY(failed(overtake_where(OVERTAKE_WORLD, &t->place), "not in a job", err));
    if (t->place.size < 2 || t->place.size > OT_MEET_RANKS_MAX) {
        return ot_fail(err, OT_INVALID,
                       "this is a job of %d rank: measure between two or more, as in overtake run "
                       "-H a:2,b:1 --no-prefix -- overtake tune",
                       (int)t->place.size);
    }
    return run(t, &r, err);
}

static ot_rc measure(tune *t, ot_cost_model *m, ot_error *err)
{
    static const char *const where[] = {"within a host", "between hosts"};
    OT_TRY(find_machines(t, err));
    for (int k = 0; k < 2; k++) {
        int32_t pair[2];
        if (!pair_of(t, k == 0, pair)) {
            continue;
        }
        if (t->place.rank == 0) {
            fprintf(stderr, "overtake tune: %s: ranks %d and %d\n", where[k], (int)pair[0],
                    (int)pair[1]);
        }
        OT_TRY(measure_pair(t, pair, k == 0 ? &m->local : &m->remote, &m->message_us, err));
    }
    if (t->place.rank == 0) {
        measure_kernels(t, m);
    }
    return OT_OK;
}

static int print_model(const ot_args *args, const ot_cost_model *m, int32_t ranks)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    char text[1024];
    ot_cost_format(m, text, sizeof text);
    if (!ot_args_json(args)) {
        ot_str_addf(&out, "# overtake tune, %d ranks\n%s", (int)ranks, text);
        return ot_cli_print(&out);
    }
    /* "key = value" lines as members. */
    ot_str_addf(&out, "{\"ranks\": %d", (int)ranks);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        char *equals = strchr(line, '=');
        ot_str_addf(&out, ", \"%.*s\": %.*s", (int)(equals - 1 - line), line,
                    (int)(end - equals - 2), equals + 2);
    }
    ot_str_adds(&out, "}\n");
    return ot_cli_print(&out);
}

static int run_tune(const ot_args *args)
{
    ot_error err = {0};
    ot_cost_model m = ot_cost_default();
    OT_AUTO(ot_free_ptr) tune *t = ot_calloc(1, sizeof *t);
    OT_AUTO(ot_free_ptr) unsigned char *buffer = ot_aligned_alloc(64, BUFFER_BYTES);
    if (t == NULL || buffer == NULL) {
        (void)ot_fail(&err, OT_EXHAUSTED, "no memory to measure with");
        return ot_cli_fail(args, &err);
    }
    memset(buffer, 0, BUFFER_BYTES);
    t->buffer = buffer;
    ot_rc rc = failed(overtake_init(NULL, t->text, sizeof t->text), t->text, &err);
    if (rc == OT_OK) {
        rc = measure(t, &m, &err);
        int left = overtake_finalize(t->text, sizeof t->text);
        rc = rc == OT_OK ? failed(left, t->text, &err) : rc;
    }
    if (rc != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    return t->place.rank == 0 ? print_model(args, &m, t->place.size) : 0;
}

const ot_command ot_cli_tune_command = {
    .group = "Train",
    .name = "tune",
    .summary = "measure the links between the ranks of a job, for overtake run --links",
    .detail =
        "A program for overtake run: overtake run -H a:2,b:1 --no-prefix -- overtake tune >links "
        "measures within a host and between two of them, and the speed of sums on rank 0. What it "
        "prints are lines of \"key = value\"; overtake run --links reads them, and all ranks "
        "choose their algorithms by them.",
    .run = run_tune};
