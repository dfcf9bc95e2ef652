/* What came of a load, for people and for scripts. */
#include "load/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

double ot_load_result_rate(const ot_load_result *r)
{
    uint64_t answers = r->measured.n[OT_LOAD_CORRECT] + r->measured.n[OT_LOAD_WRONG];
    return r->elapsed_ns > 0 ? (double)answers * 1e9 / (double)r->elapsed_ns : 0;
}

static uint64_t bad(const ot_load_counts *c)
{
    return ot_load_counts_failed(c) + c->n[OT_LOAD_WRONG];
}

bool ot_load_result_good(const ot_load_result *r)
{
    return bad(&r->measured) + bad(&r->warmup) == 0 && r->measured.n[OT_LOAD_CORRECT] > 0;
}

static const struct {
    const char *name;
    double q;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}};

/* ---- text */

static void add_latency(ot_str *out, const ot_latency *h)
{
    char text[32];
    for (size_t i = 0; i < OT_COUNT(quantiles); i++) {
        uint64_t us = (ot_latency_quantile(h, quantiles[i].q) + 500) / 1000;
        ot_str_addf(out, "%s %s  ", quantiles[i].name, ot_format_duration((int64_t)us, text));
    }
    ot_str_addf(out, "max %s\n", ot_format_duration((int64_t)(h->max_ns / 1000), text));
}

static void add_failures(ot_str *out, const ot_load_counts *c)
{
    const char *sep = " (";
    for (size_t i = OT_LOAD_CLIENT_ERROR; i < OT_LOAD_OUTCOMES; i++) {
        if (c->n[i] > 0) {
            ot_str_addf(out, "%s%s %" PRIu64, sep, ot_load_outcome_name((ot_load_outcome)i),
                        c->n[i]);
            sep = ", ";
        }
    }
    ot_str_adds(out, sep[0] == ',' ? ")\n" : "\n");
}

static void add_ledger(ot_str *out, const char *what, const ot_load_counts *c)
{
    char all[32], correct[32], wrong[32], refused[32], failed[32];
    ot_str_addf(out, "%-9s due %s  correct %s  wrong %s  refused %s  failed %s", what,
                ot_format_count(ot_load_counts_all(c), all),
                ot_format_count(c->n[OT_LOAD_CORRECT], correct),
                ot_format_count(c->n[OT_LOAD_WRONG], wrong),
                ot_format_count(c->n[OT_LOAD_REFUSED], refused),
                ot_format_count(ot_load_counts_failed(c), failed));
    add_failures(out, c);
}

void ot_load_result_text(const ot_load_result *r, ot_str *out)
{
    char text[32];
    if (ot_load_counts_all(&r->warmup) > 0) {
        add_ledger(out, "warm-up", &r->warmup);
    }
    add_ledger(out, "measured", &r->measured);
    ot_str_addf(out, "rate      %s answers a second\n",
                ot_format_count((uint64_t)(ot_load_result_rate(r) + 0.5), text));
    ot_str_adds(out, "latency   ");
    add_latency(out, &r->correct);
    if (r->refused.count > 0) {
        ot_str_adds(out, "refusals  ");
        add_latency(out, &r->refused);
    }
    if (r->late > 0) {
        ot_str_addf(out,
                    "%s requests found every connection busy when they were due; their wait "
                    "counts\n",
                    ot_format_count(r->late, text));
    }
    if (r->behind_ns > 1000000) {
        ot_str_addf(out,
                    "this generator itself was up to %s late: it had no processor, and latencies "
                    "hold that\n",
                    ot_format_duration((int64_t)(r->behind_ns / 1000), text));
    }
    if (r->reconnects > 0) {
        ot_str_addf(out, "%" PRIu64 " connections were made again\n", r->reconnects);
    }
}

static const char *const protocols[] = {
    "Open Inference Protocol, JSON", "Open Inference Protocol, binary tensors",
    "Open Inference Protocol over gRPC", "TensorFlow Serving's REST API",
    "TensorFlow Serving's API over gRPC"};

static void add_head(const ot_bench_options *o, const ot_bench *b, ot_str *out)
{
    char seconds[32], warmup[32];
    ot_str_addf(out, "model %s at %s: %s, %zu inputs of %" PRId64 " rows, %s\n",
                b->target.url.model, b->target.url.host, protocols[o->protocol], b->inputs.n,
                o->rows, o->expect != NULL ? "answers as expected" : "answers like the first");
    if (o->rate > 0) {
        ot_str_addf(out, "open loop, %g requests a second (%s)", o->rate,
                    o->poisson ? "Poisson" : "even");
    } else {
        ot_str_adds(out, "closed loop");
    }
    ot_str_addf(out, ", %u connections, %s after %s of warm-up\n\n", o->connections,
                ot_format_duration((int64_t)(b->result.elapsed_ns / 1000000 * 1000), seconds),
                ot_format_duration((int64_t)(o->warmup_ns / 1000), warmup));
}

void ot_bench_text(const ot_bench_options *o, const ot_bench *b, ot_str *out)
{
    add_head(o, b, out);
    ot_load_result_text(&b->result, out);
    const ot_load_version *v;
    size_t n = ot_load_check_versions(b->check, &v);
    for (size_t i = 0; i < n; i++) {
        char correct[32], wrong[32];
        ot_str_addf(out, "version %s answered %s correctly, %s wrongly\n",
                    v[i].name[0] != '\0' ? v[i].name : "(not said)",
                    ot_format_count(v[i].correct, correct), ot_format_count(v[i].wrong, wrong));
    }
    if (ot_load_check_first_fault(b->check)[0] != '\0') {
        ot_str_addf(out, "first fault: %s\n", ot_load_check_first_fault(b->check));
    }
}

/* ---- JSON */

static void add_latency_json(ot_str *out, const char *name, const ot_latency *h)
{
    ot_str_addf(out, "\"%s\": {", name);
    for (size_t i = 0; i < OT_COUNT(quantiles); i++) {
        ot_str_addf(out, "\"%s\": %.1f, ", quantiles[i].name,
                    (double)ot_latency_quantile(h, quantiles[i].q) / 1e3);
    }
    ot_str_addf(out, "\"max\": %.1f, \"mean\": %.1f}", (double)h->max_ns / 1e3,
                ot_latency_mean_ns(h) / 1e3);
}

static void add_counts_json(ot_str *out, const char *name, const ot_load_counts *c)
{
    ot_str_addf(out, "\"%s\": {\"due\": %" PRIu64 ", \"failed\": %" PRIu64, name,
                ot_load_counts_all(c), ot_load_counts_failed(c));
    for (size_t i = 0; i < OT_LOAD_OUTCOMES; i++) {
        ot_str_addf(out, ", \"%s\": %" PRIu64, ot_load_outcome_name((ot_load_outcome)i), c->n[i]);
    }
    ot_str_addc(out, '}');
}

void ot_load_result_json(const ot_load_result *r, ot_str *out)
{
    add_counts_json(out, "measured", &r->measured);
    ot_str_adds(out, ", ");
    add_counts_json(out, "warmup", &r->warmup);
    ot_str_addf(out,
                ", \"elapsed_s\": %.6f, \"rate\": %.3f, \"late\": %" PRIu64
                ", \"behind_us\": %.1f, \"reconnects\": %" PRIu64 ", \"realtime\": %s, ",
                (double)r->elapsed_ns / 1e9, ot_load_result_rate(r), r->late,
                (double)r->behind_ns / 1e3, r->reconnects, r->realtime ? "true" : "false");
    add_latency_json(out, "latency_us", &r->correct);
    ot_str_adds(out, ", ");
    add_latency_json(out, "refused_us", &r->refused);
}

void ot_bench_json(const ot_bench_options *o, const ot_bench *b, ot_str *out)
{
    ot_str_adds(out, "{\"model\": \"");
    ot_str_add_json(out, b->target.url.model, strlen(b->target.url.model));
    ot_str_addf(out,
                "\", \"protocol\": \"%s\", \"loop\": \"%s\", \"asked_rate\": %g, \"connections\": "
                "%u, \"inputs\": %zu, \"rows\": %" PRId64 ", ",
                ot_load_protocol_names[o->protocol],
                o->rate == 0 ? "closed"
                : o->poisson ? "poisson"
                             : "even",
                o->rate, o->connections, b->inputs.n, o->rows);
    ot_load_result_json(&b->result, out);
    ot_str_adds(out, ", \"versions\": {");
    const ot_load_version *v;
    size_t n = ot_load_check_versions(b->check, &v);
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i > 0 ? ", \"" : "\"");
        ot_str_add_json(out, v[i].name, strlen(v[i].name));
        ot_str_addf(out, "\": {\"correct\": %" PRIu64 ", \"wrong\": %" PRIu64 "}", v[i].correct,
                    v[i].wrong);
    }
    const char *fault = ot_load_check_first_fault(b->check);
    ot_str_adds(out, "}, \"first_fault\": \"");
    ot_str_add_json(out, fault, strlen(fault));
    ot_str_adds(out, "\"}\n");
}
