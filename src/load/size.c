#include "load/size.h"

#include "load/own.h"
#include "load/scrape.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define CLOSED_CONNECTIONS 32
#define CLOSED_NS UINT64_C(1000000000) /* at least */
#define NARROW 0.06      /* the search ends when it knows the rate of a core to this share of it */
#define LIGHT 0.03       /* of what a core can do: a load that hardly waits for itself */
#define SAMPLES 300      /* answers that a p99 needs */
#define LONGEST_STEPS 15 /* that a measurement takes for them at most */
#define ANSWERED 0.97    /* of the rate that was asked for */

void ot_size_options_init(ot_size_options *o)
{
    *o = (ot_size_options){.headroom = 0.25, .replica_cores = 4, .step_ns = UINT64_C(2000000000)};
    ot_bench_options_init(&o->load);
    o->load.protocol = OT_LOAD_OIP_BINARY;
    o->load.warmup_ns = UINT64_C(200000000);
}

/* One measurement; `rate` 0: closed loop. */
static ot_rc measure(const ot_size_options *o, ot_bench *b, double rate, ot_error *err)
{
    ot_bench_options l = o->load;
    l.rate = rate;
    l.connections = rate > 0 ? 256 : CLOSED_CONNECTIONS;
    l.duration_ns = OT_MAX(o->step_ns, CLOSED_NS);
    if (rate > 0) {
        uint64_t enough = (uint64_t)(SAMPLES / rate * 1e9);
        l.duration_ns = OT_MAX(o->step_ns, OT_MIN(enough, LONGEST_STEPS * o->step_ns));
    }
    OT_TRY(ot_bench_run(&l, b, err));
    const ot_load_counts *c = &b->result.measured;
    uint64_t bad = c->n[OT_LOAD_WRONG] + c->n[OT_LOAD_CLIENT_ERROR] + c->n[OT_LOAD_MALFORMED] +
                   c->n[OT_LOAD_SERVER_ERROR];
    return bad == 0 ? OT_OK
                    : ot_fail(err, OT_UNAVAILABLE, "%" PRIu64 " answers were wrong or errors: %s",
                              bad, ot_load_check_first_fault(b->check));
}

static ot_rc try_rate(const ot_size_options *o, ot_bench *b, double rate, ot_size *s,
                      bool *holds_out, ot_error *err)
{
    OT_TRY(measure(o, b, rate, err));
    const ot_load_result *r = &b->result;
    ot_size_try t = {.rate = rate,
                     .p50_ns = ot_latency_quantile(&r->correct, 0.5),
                     .p99_ns = ot_latency_quantile(&r->correct, 0.99)};
    double all = (double)ot_load_counts_all(&r->measured);
    t.holds = t.p99_ns <= o->p99_ns && r->correct.count > 0 &&
              (double)r->measured.n[OT_LOAD_CORRECT] >= ANSWERED * all;
    if (s->n_tries < OT_SIZE_TRIES_MAX) {
        s->tries[s->n_tries++] = t;
    }
    if (t.holds) {
        s->core_rate = OT_MAX(s->core_rate, rate);
    }
    *holds_out = t.holds;
    return OT_OK;
}

static ot_rc search(const ot_size_options *o, ot_bench *b, ot_size *s, ot_error *err)
{
    bool holds;
    double low = LIGHT * s->closed_rate, high = s->closed_rate;
    OT_TRY(try_rate(o, b, low, s, &holds, err));
    if (!holds) { /* once more: it may have been a busy moment */
        OT_TRY(try_rate(o, b, low, s, &holds, err));
    }
    if (!holds) {
        char target[32], p50[32], p99[32];
        const ot_size_try *t = &s->tries[s->n_tries - 1];
        return ot_fail(
            err, OT_PRECONDITION,
            "a p99 of %s can't be held here at any rate: at %.0f requests a second, %.0f%% "
            "of what a core can do, p50 is %s and p99 %s. More cores change nothing; a "
            "smaller model, a faster machine or a target above that does",
            ot_format_duration((int64_t)(o->p99_ns / 1000), target), t->rate, LIGHT * 100,
            ot_format_duration((int64_t)(t->p50_ns / 1000), p50),
            ot_format_duration((int64_t)(t->p99_ns / 1000), p99));
    }
    while (high - low > NARROW * s->closed_rate && s->n_tries < OT_SIZE_TRIES_MAX) {
        double middle = (low + high) / 2;
        OT_TRY(try_rate(o, b, middle, s, &holds, err));
        *(holds ? &low : &high) = middle;
    }
    return OT_OK;
}

static double memory_of(const ot_bench *b)
{
    static ot_scrape_variant room[OT_SCRAPE_VARIANTS_MAX];
    ot_scrape scrape = {.v = room};
    ot_http_client *c;
    ot_error err;
    if (ot_http_client_create(&b->target.url.addr, NULL, &c, &err) != OT_OK) {
        return 0;
    }
    ot_rc rc = ot_scrape_get(c, &scrape, &err);
    ot_http_client_destroy(c);
    return rc == OT_OK ? scrape.memory_bytes : 0;
}

ot_rc ot_size_run(const ot_size_options *o, ot_size *out, ot_error *err)
{
    ot_load_own own;
    ot_bench b = {0};
    ot_bench_options l = o->load;
    *out = (ot_size){0};
    OT_TRY(ot_load_own_start(o->model, o->plugin_path, &own, err));
    out->apart = own.apart;
    l.url = own.address;
    ot_rc rc = ot_bench_open(&l, &b, err);
    if (rc == OT_OK) {
        rc = measure(o, &b, 0, err);
        out->closed_rate = ot_load_result_rate(&b.result);
    }
    if (rc == OT_OK && out->closed_rate <= 0) {
        const ot_load_counts *c = &b.result.measured;
        rc = ot_fail(err, OT_UNAVAILABLE,
                     "none of %" PRIu64 " requests was answered: %" PRIu64 " were refused, %" PRIu64
                     " broken off, %" PRIu64 " took longer than 10 s",
                     ot_load_counts_all(c), c->n[OT_LOAD_REFUSED], c->n[OT_LOAD_BROKEN],
                     c->n[OT_LOAD_TIMEOUT]);
    }
    if (rc == OT_OK) {
        rc = search(o, &b, out, err);
    }
    if (rc == OT_OK) {
        out->memory_bytes = memory_of(&b);
        out->cores = (unsigned)ceil(o->rate / (out->core_rate * (1 - o->headroom)));
        out->replicas = (out->cores + o->replica_cores - 1) / o->replica_cores;
    }
    ot_bench_close(&b);
    ot_load_own_stop(&own);
    return rc;
}

/* ---- what it says */

void ot_size_text(const ot_size_options *o, const ot_size *s, ot_str *out)
{
    char a[32], b[32], memory[32];
    ot_str_addf(out, "measured here, one worker%s:\n",
                s->apart ? " on a processor of its own" : " beside the load on the only processor");
    ot_str_addf(out, "  as many as it can (%d connections): %s answers a second\n",
                CLOSED_CONNECTIONS, ot_format_count((uint64_t)(s->closed_rate + 0.5), a));
    for (size_t i = 0; i < s->n_tries; i++) {
        const ot_size_try *t = &s->tries[i];
        char rate[32];
        ot_str_addf(out, "  %9s a second, open loop: p50 %-9s p99 %-9s %s\n",
                    ot_format_count((uint64_t)(t->rate + 0.5), rate),
                    ot_format_duration((int64_t)(t->p50_ns / 1000), a),
                    ot_format_duration((int64_t)(t->p99_ns / 1000), b),
                    t->holds ? "holds" : "does not hold");
    }
    if (s->core_rate <= 0) {
        return;
    }
    double used = s->core_rate * (1 - o->headroom);
    ot_str_addf(out,
                "\na core holds p99 %s up to %s a second; %.0f%% kept free leaves %.0f\n"
                "%g a second / %.0f = %.2f: %u cores\n",
                ot_format_duration((int64_t)(o->p99_ns / 1000), a),
                ot_format_count((uint64_t)(s->core_rate + 0.5), b), o->headroom * 100, used,
                o->rate, used, o->rate / used, s->cores);
    ot_str_addf(out,
                "%u cores / %u a replica: %u replicas, and one more if one may be lost; each takes "
                "%s\n",
                s->cores, o->replica_cores, s->replicas,
                ot_format_size((uint64_t)s->memory_bytes, memory));
    ot_str_adds(out, "Cores are counted as if each did what this one did; measure again on the "
                     "machine that will serve.\n");
}

void ot_size_json(const ot_size_options *o, const ot_size *s, ot_str *out)
{
    ot_str_addf(
        out,
        "{\"p99_us\": %.1f, \"rate\": %g, \"headroom\": %g, \"replica_cores\": %u, \"apart\": "
        "%s, \"closed_rate\": %.1f, \"tries\": [",
        (double)o->p99_ns / 1e3, o->rate, o->headroom, o->replica_cores,
        s->apart ? "true" : "false", s->closed_rate);
    for (size_t i = 0; i < s->n_tries; i++) {
        const ot_size_try *t = &s->tries[i];
        ot_str_addf(out, "%s{\"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"holds\": %s}",
                    i > 0 ? ", " : "", t->rate, (double)t->p50_ns / 1e3, (double)t->p99_ns / 1e3,
                    t->holds ? "true" : "false");
    }
    ot_str_addf(
        out, "], \"core_rate\": %.1f, \"memory_bytes\": %.0f, \"cores\": %u, \"replicas\": %u}\n",
        s->core_rate, s->memory_bytes, s->cores, s->replicas);
}
