/* What the links between ranks do. */
#include "cli/links.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "collective/codec.h"
#include "collective/kernel.h"

#include <stdio.h>
#include <string.h>

#define BYTES_MAX ((int64_t)8 << 20)
#define AT_ONCE 64
#define STREAMED 8 /* messages of BYTES_MAX */
#define WAIT_S 120

ot_rc ot_links_failed(int code, const char *text, ot_error *err)
{
    return code == 0 ? OT_OK : ot_fail(err, (ot_rc)code, "%s", text);
}

double ot_links_now_us(void)
{
    return (double)ot_clock_mono_ns() / 1e3;
}

ot_rc ot_links_start(ot_links *t, overtake_request *r, overtake_handle *h, ot_error *err)
{
    r->struct_size = sizeof *r;
    r->ndim = 1;
    return ot_links_failed(overtake_start(r, 1, h, t->text, sizeof t->text), t->text, err);
}

ot_rc ot_links_finish(overtake_handle h, ot_error *err)
{
    overtake_failure f = {.struct_size = sizeof f};
    return ot_links_failed(overtake_wait(h, WAIT_S, NULL, &f), f.message, err);
}

ot_rc ot_links_run(ot_links *t, overtake_request *r, ot_error *err)
{
    overtake_handle h;
    OT_TRY(ot_links_start(t, r, &h, err));
    return ot_links_finish(h, err);
}

static overtake_request bytes_from(ot_links *t, int32_t group, int32_t root, const int64_t *bytes)
{
    return (overtake_request){.kind = OVERTAKE_BROADCAST,
                              .group = group,
                              .dtype = OVERTAKE_U8,
                              .dims = bytes,
                              .root = root,
                              .in = t->buffer,
                              .out = t->buffer};
}

static ot_rc find_machines(ot_links *t, ot_error *err)
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
    OT_TRY(ot_links_failed(overtake_where(OVERTAKE_WORLD, &t->place), "not in a job", err));
    if (t->place.size < 2 || t->place.size > OT_MEET_RANKS_MAX) {
        return ot_fail(err, OT_INVALID,
                       "this is a job of %d rank: measure between two or more, as in overtake run "
                       "-H a:2,b:1 --no-prefix -- overtake tune",
                       (int)t->place.size);
    }
    return ot_links_run(t, &r, err);
}

ot_rc ot_links_join(ot_links **out, ot_error *err)
{
    ot_links *t = ot_calloc(1, sizeof *t);
    if (t != NULL) {
        t->buffer = ot_aligned_alloc(64, OT_LINKS_BUFFER);
    }
    if (t == NULL || t->buffer == NULL) {
        ot_free(t);
        return ot_fail(err, OT_EXHAUSTED, "no memory to measure with");
    }
    memset(t->buffer, 0, OT_LINKS_BUFFER);
    ot_rc rc = ot_links_failed(overtake_init(NULL, t->text, sizeof t->text), t->text, err);
    t->in = rc == OT_OK;
    *out = t;
    return rc == OT_OK ? find_machines(t, err) : rc;
}

ot_rc ot_links_leave(ot_links *t, ot_error *err)
{
    ot_rc rc = OT_OK;
    if (t != NULL && t->in) {
        rc = ot_links_failed(overtake_finalize(t->text, sizeof t->text), t->text, err);
    }
    if (t != NULL) {
        ot_free(t->buffer);
        ot_free(t);
    }
    return rc;
}

/* There and back, every size many times: half of it is a message's way. */
static ot_rc measure_link(ot_links *t, int32_t group, ot_error *err)
{
    t->n = 0;
    for (int64_t bytes = 8; bytes <= BYTES_MAX; bytes *= 2) {
        int times = bytes <= 65536 ? OT_LINKS_TIMES : bytes <= 1 << 20 ? 8 : 3;
        for (int i = 0; i <= times; i++) {
            overtake_request there = bytes_from(t, group, 0, &bytes);
            overtake_request back = bytes_from(t, group, 1, &bytes);
            double began = ot_links_now_us();
            OT_TRY(ot_links_run(t, &there, err));
            OT_TRY(ot_links_run(t, &back, err));
            if (i > 0) { /* the first is a warm-up */
                t->samples[t->n++] =
                    (ot_cost_sample){(double)bytes, (ot_links_now_us() - began) / 2};
            }
        }
    }
    return OT_OK;
}

/* One way without a pause, until the last has come: what is limited by a bucket of tokens, or hides
 * in the buffers of sockets, shows here. */
static ot_rc measure_rate(ot_links *t, int32_t group, double *bytes_per_us, ot_error *err)
{
    int64_t bytes = BYTES_MAX, little = 8;
    overtake_handle h[STREAMED];
    overtake_request r, back = bytes_from(t, group, 1, &little);
    double began = ot_links_now_us();
    for (int i = 0; i < STREAMED; i++) {
        r = bytes_from(t, group, 0, &bytes);
        OT_TRY(ot_links_start(t, &r, &h[i], err));
    }
    for (int i = 0; i < STREAMED; i++) {
        OT_TRY(ot_links_finish(h[i], err));
    }
    OT_TRY(ot_links_run(t, &back, err));
    *bytes_per_us = STREAMED * (double)bytes / (ot_links_now_us() - began);
    return OT_OK;
}

/* Many small messages under way at once: what is left of each is work. */
static ot_rc measure_message(ot_links *t, int32_t group, double *us, ot_error *err)
{
    int64_t bytes = 8;
    for (int k = 0; k < 10; k++) {
        overtake_handle h[AT_ONCE];
        double began = ot_links_now_us();
        for (int i = 0; i < AT_ONCE; i++) {
            overtake_request r = bytes_from(t, group, i % 2, &bytes);
            OT_TRY(ot_links_start(t, &r, &h[i], err));
        }
        for (int i = 0; i < AT_ONCE; i++) {
            OT_TRY(ot_links_finish(h[i], err));
        }
        double each = (ot_links_now_us() - began) / AT_ONCE;
        *us = k == 0 || each < *us ? each : *us;
    }
    return OT_OK;
}

/* The first two ranks that share a machine, or that don't. */
static bool pair_of(const ot_links *t, bool same, int32_t pair[2])
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
static ot_rc measure_pair(ot_links *t, const int32_t pair[2], ot_link_cost *link,
                          double *message_us, ot_error *err)
{
    int32_t group;
    double found[3] = {0};
    int64_t n = 3;
    OT_TRY(ot_links_failed(overtake_group_create(pair, 2, &group, t->text, sizeof t->text), t->text,
                           err));
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
    OT_TRY(ot_links_run(t, &r, err));
    OT_TRY(ot_links_failed(overtake_group_free(group, t->text, sizeof t->text), t->text, err));
    *link = (ot_link_cost){found[0], found[1], true};
    *message_us = found[2];
    return OT_OK;
}

/* Bytes of F32 a microsecond of one core: a sum; a codec both ways. */
static void measure_kernels(ot_links *t, ot_cost_model *m)
{
    size_t n = OT_LINKS_BUFFER / 4 / sizeof(float);
    float *x = (float *)(void *)t->buffer, *y = x + n, *residual = y + n;
    unsigned char *coded = (unsigned char *)(residual + n);
    double sum_us = 0, codec_us = 0;
    for (size_t i = 0; i < 3 * n; i++) {
        x[i] = (float)(i % 1000) * 1e-3f;
    }
    for (int k = 0; k < 5; k++) {
        double began = ot_links_now_us();
        ot_kernel_reduce(OVERTAKE_SUM, OVERTAKE_F32, y, y, x, n);
        double summed = ot_links_now_us();
        ot_codec_encode(OT_CODEC_INT8, coded, x, residual, n);
        ot_codec_decode(OT_CODEC_INT8, y, coded, n);
        double us = ot_links_now_us() - summed;
        sum_us = k == 0 || summed - began < sum_us ? summed - began : sum_us;
        codec_us = k == 0 || us < codec_us ? us : codec_us;
    }
    double bytes = (double)(n * sizeof *x);
    m->reduce_bytes_per_us = bytes / OT_MAX(sum_us, 1);
    m->codec_bytes_per_us = 2 * bytes / OT_MAX(codec_us, 1);
}

ot_rc ot_links_measure(ot_links *t, ot_cost_model *m, ot_error *err)
{
    static const char *const where[] = {"within a host", "between hosts"};
    for (int k = 0; k < 2; k++) {
        int32_t pair[2];
        if (!pair_of(t, k == 0, pair)) {
            continue;
        }
        if (t->place.rank == 0) {
            fprintf(stderr, "measuring %s: ranks %d and %d\n", where[k], (int)pair[0],
                    (int)pair[1]);
        }
        OT_TRY(measure_pair(t, pair, k == 0 ? &m->local : &m->remote, &m->message_us, err));
    }
    if (t->place.rank == 0) {
        measure_kernels(t, m);
    }
    return OT_OK;
}
