#include "serve/metrics.h"

#include "base/clock.h"
#include "serve/record.h"
#include "serve/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define LABELS_MAX 256

/* https://prometheus.io/docs/instrumenting/exposition_formats/ */
typedef void metric_fn(const ot_variant *v, const ot_totals_sum *t, const char *labels,
                       ot_str *out);

static void each_variant(const ot_route *r, const char *name, const char *type, const char *help,
                         metric_fn *fn, ot_str *out)
{
    ot_str_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    for (size_t i = 0; i < r->n_deps; i++) {
        const ot_dep *d = r->deps[i];
        for (size_t k = 0; k < d->n_arms; k++) {
            const ot_variant *v = d->arms[k].variant;
            ot_totals_sum t;
            char labels[LABELS_MAX];
            snprintf(labels, sizeof labels,
                     "deployment=\"%s\",model=\"%s\",version=\"%s\",role=\"%s\"", d->name, v->model,
                     v->version_text, ot_role_name(d->arms[k].role));
            ot_variant_totals(v, &t);
            fn(v, &t, labels, out);
        }
    }
}

static void requests(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)v;
    ot_str_addf(out, "overtake_requests_total{%s} %" PRIu64 "\n", labels, t->requests);
}
static void rows(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)v;
    ot_str_addf(out, "overtake_rows_total{%s} %" PRIu64 "\n", labels, t->rows);
}
static void failed(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)v;
    ot_str_addf(out, "overtake_failed_total{%s} %" PRIu64 "\n", labels, t->failed);
}
static void tokens(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    if (v->external != NULL && v->external->protocol == OT_EXTERNAL_OPENAI) {
        ot_str_addf(out,
                    "overtake_tokens_total{%s,kind=\"prompt\"} %" PRIu64
                    "\novertake_tokens_total{%s,kind=\"completion\"} %" PRIu64 "\n",
                    labels, t->prompt_tokens, labels, t->completion_tokens);
    }
}
static void run_seconds(const ot_variant *v, const ot_totals_sum *t, const char *labels,
                        ot_str *out)
{
    (void)v;
    ot_str_addf(out, "overtake_run_seconds_total{%s} %.9f\n", labels, (double)t->run_ns / 1e9);
}
static void queue(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)t;
    ot_str_addf(out, "overtake_queue_requests{%s} %" PRIu64 "\n", labels,
                ot_queue_waiting(v->queue));
}
static void oldest_run(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)t;
    uint64_t now = ot_clock_mono_ns(), age = 0;
    for (unsigned i = 0; i < v->n_slots; i++) {
        uint64_t since = atomic_load_explicit(&v->slots[i].since_ns, memory_order_relaxed);
        age = since != 0 && since < now ? OT_MAX(age, now - since) : age;
    }
    ot_str_addf(out, "overtake_oldest_run_seconds{%s} %.3f\n", labels, (double)age / 1e9);
}
static void memory(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)t;
    bool asleep = atomic_load_explicit(&v->asleep, memory_order_relaxed);
    ot_str_addf(out, "overtake_model_memory_bytes{%s} %" PRIu64 "\n", labels,
                asleep ? 0 : v->memory);
}
static void verified(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)t;
    ot_str_addf(out, "overtake_model_verified{%s} %d\n", labels, v->verified);
}

static void drift(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)t;
    /* The lock is held for a copy by whoever closes a window. */
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&v->drift_lock;
    pthread_mutex_lock(lock);
    bool known = v->drift.n > 0;
    double psi = v->drift.top[0].psi;
    pthread_mutex_unlock(lock);
    if (known) {
        ot_str_addf(out, "overtake_drift_psi{%s} %.6g\n", labels, psi);
    }
}

static void batches(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)v;
    uint64_t sum = 0;
    for (unsigned b = 0; b < OT_COST_BUCKETS; b++) {
        sum += t->batch_rows[b];
        /* Bucket b has 2^b to 2^(b+1) - 1 rows. */
        ot_str_addf(out, "overtake_batch_rows_bucket{%s,le=\"%u\"} %" PRIu64 "\n", labels,
                    (2u << b) - 1, sum);
    }
    ot_str_addf(out,
                "overtake_batch_rows_bucket{%s,le=\"+Inf\"} %" PRIu64
                "\novertake_batch_rows_sum{%s} %" PRIu64 "\novertake_batch_rows_count{%s} %" PRIu64
                "\n",
                labels, sum, labels, t->rows, labels, sum);
}

/* The lines of one histogram over durations; `sum_ns` is of all that was counted. */
static void add_durations(const char *name, const char *labels, const uint64_t *counts,
                          uint64_t sum_ns, ot_str *out)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i + 1 < OT_LATENCY_STEPS; i++) {
        sum += counts[i];
        ot_str_addf(out, "%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", name, labels,
                    ot_latency_step_us[i] / 1e6, sum);
    }
    sum += counts[OT_LATENCY_STEPS - 1];
    ot_str_addf(
        out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n%s_sum{%s} %.9f\n%s_count{%s} %" PRIu64 "\n",
        name, labels, sum, name, labels, (double)sum_ns / 1e9, name, labels, sum);
}

static void latency(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)v;
    add_durations("overtake_request_seconds", labels, t->latency, t->latency_ns, out);
}

static void stages(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)v;
    for (unsigned k = 0; k < OT_SERVE_STAGES; k++) {
        char more[LABELS_MAX + 32];
        snprintf(more, sizeof more, "%s,stage=\"%s\"", labels,
                 ot_serve_stage_name((ot_serve_stage)k));
        add_durations("overtake_stage_seconds", more, t->stage[k], t->stage_ns[k], out);
    }
}

static void add_samples(const ot_serve *s, ot_str *out)
{
    uint64_t files, bytes, dropped;
    ot_sampler_stats st;
    ot_spool_pending(s->spool, &files, &bytes, &dropped);
    ot_sampler_stats_get(s->sampler, &st);
    ot_str_addf(out,
                "# HELP overtake_sampled_rows_total Rows kept as samples.\n"
                "# TYPE overtake_sampled_rows_total counter\novertake_sampled_rows_total %" PRIu64
                "\n# HELP overtake_sample_dropped_rows_total Sampled rows lost to a full queue or "
                "spool.\n# TYPE overtake_sample_dropped_rows_total counter\n"
                "overtake_sample_dropped_rows_total %" PRIu64
                "\n# HELP overtake_shadow_rows_total Rows run again on other versions.\n"
                "# TYPE overtake_shadow_rows_total counter\novertake_shadow_rows_total %" PRIu64
                "\n# HELP overtake_shadow_failed_total Shadow rows that could not be run.\n"
                "# TYPE overtake_shadow_failed_total counter\novertake_shadow_failed_total %" PRIu64
                "\n# HELP overtake_shadow_dropped_total Copies of completions that were not made: "
                "too many waited.\n# TYPE overtake_shadow_dropped_total counter\n"
                "overtake_shadow_dropped_total %" PRIu64
                "\n# HELP overtake_spool_bytes Bytes that wait for the control plane.\n"
                "# TYPE overtake_spool_bytes gauge\novertake_spool_bytes %" PRIu64 "\n",
                st.rows, dropped, st.shadow_rows, st.shadow_failed, st.shadow_dropped, bytes);
}

static void add_recorded(const ot_serve *s, ot_str *out)
{
    ot_recorder_stats r;
    ot_recorder_stats_get(s->recorder, &r);
    ot_str_addf(out,
                "# HELP overtake_recorded_requests_total Requests in the recording.\n"
                "# TYPE overtake_recorded_requests_total counter\n"
                "overtake_recorded_requests_total %" PRIu64 "\n"
                "# HELP overtake_record_dropped_requests_total Requests that the recording did not "
                "take.\n# TYPE overtake_record_dropped_requests_total counter\n"
                "overtake_record_dropped_requests_total %" PRIu64 "\n",
                r.requests, r.dropped);
}

static void add_traces(const ot_serve *s, ot_str *out)
{
    ot_tracer_stats t;
    ot_tracer_stats_get(s->tracer, &t);
    ot_str_addf(out,
                "# HELP overtake_traced_requests_total Requests whose trace the collector took.\n"
                "# TYPE overtake_traced_requests_total counter\n"
                "overtake_traced_requests_total %" PRIu64 "\n"
                "# HELP overtake_trace_dropped_requests_total Traced requests that a full queue or "
                "the collector lost.\n"
                "# TYPE overtake_trace_dropped_requests_total counter\n"
                "overtake_trace_dropped_requests_total %" PRIu64 "\n",
                t.sent, t.dropped);
}

static void add_access_log(const ot_access_log *l, ot_str *out)
{
    ot_access_log_stats st;
    ot_access_log_stats_get(l, &st);
    ot_str_addf(out,
                "# HELP overtake_access_log_lines_total Lines written to the access log.\n"
                "# TYPE overtake_access_log_lines_total counter\n"
                "overtake_access_log_lines_total %" PRIu64
                "\n# HELP overtake_access_log_lost_total Lines lost to a full ring or a file that "
                "could not be written.\n# TYPE overtake_access_log_lost_total counter\n"
                "overtake_access_log_lost_total %" PRIu64 "\n",
                st.lines, st.dropped + st.failed_writes);
}

static void add_clients(const ot_access *a, ot_str *out)
{
    static const struct {
        const char *name, *help;
        size_t at;
    } counters[] = {
        {"admitted", "Requests of an API key that were let in.", offsetof(ot_client, admitted)},
        {"refused", "Requests of a key that has expired or is for other models.",
         offsetof(ot_client, refused)},
        {"limited", "Requests over a key's rate.", offsetof(ot_client, limited)},
    };
    for (size_t k = 0; k < OT_COUNT(counters) && a != NULL; k++) {
        ot_str_addf(out,
                    "# HELP overtake_client_%s_total %s\n# TYPE overtake_client_%s_total counter\n",
                    counters[k].name, counters[k].help, counters[k].name);
        for (size_t i = 0; i < a->n; i++) {
            const _Atomic uint64_t *x =
                (const _Atomic uint64_t *)(const void *)((const char *)&a->clients[i] +
                                                         counters[k].at);
            ot_str_addf(out, "overtake_client_%s_total{client=\"%s\"} %" PRIu64 "\n",
                        counters[k].name, a->clients[i].key.name,
                        atomic_load_explicit(x, memory_order_relaxed));
        }
    }
}

static void add_guests(const ot_guests *g, ot_str *out)
{
    ot_guests_counts n;
    if (g == NULL) {
        return;
    }
    ot_guests_counts_get(g, &n);
    ot_str_addf(out,
                "# HELP overtake_keyless_admitted_total Requests without a key that were let in.\n"
                "# TYPE overtake_keyless_admitted_total counter\n"
                "overtake_keyless_admitted_total %" PRIu64
                "\n# HELP overtake_keyless_limited_total Requests without a key over a limit: of "
                "one address, of all.\n# TYPE overtake_keyless_limited_total counter\n"
                "overtake_keyless_limited_total{limit=\"address\"} %" PRIu64
                "\novertake_keyless_limited_total{limit=\"all\"} %" PRIu64 "\n",
                n.admitted, n.limited_each, n.limited_all);
}

static void add_memory(ot_str *out)
{
    OT_AUTO(ot_str_done) ot_str statm = OT_STR_INIT;
    ot_error err;
    unsigned long long pages;
    if (ot_disk_read_all(ot_disk_posix(), "/proc/self/statm", 4096, &statm, &err) == OT_OK &&
        sscanf(statm.data, "%*u %llu", &pages) == 1) {
        ot_str_addf(out,
                    "# HELP process_resident_memory_bytes Resident memory of this process.\n"
                    "# TYPE process_resident_memory_bytes gauge\n"
                    "process_resident_memory_bytes %llu\n",
                    pages * (unsigned long long)sysconf(_SC_PAGESIZE));
    }
}

static void add_workers(const ot_serve *s, ot_str *out)
{
    uint64_t by_class[6] = {0}, count_ns = 0;
    for (unsigned w = 0; w < s->n_workers; w++) {
        for (unsigned i = 0; i < OT_COUNT(by_class); i++) {
            by_class[i] += atomic_load_explicit(&s->workers[w]->answers[i], memory_order_relaxed);
        }
        count_ns += atomic_load_explicit(&s->workers[w]->count_ns, memory_order_relaxed);
    }
    ot_str_adds(out, "# HELP overtake_answers_total HTTP answers by class of status.\n"
                     "# TYPE overtake_answers_total counter\n");
    for (unsigned i = 2; i < OT_COUNT(by_class); i++) {
        ot_str_addf(out, "overtake_answers_total{class=\"%uxx\"} %" PRIu64 "\n", i, by_class[i]);
    }
    ot_str_addf(out,
                "# HELP overtake_count_seconds_total Time spent on counting rows.\n"
                "# TYPE overtake_count_seconds_total counter\n"
                "overtake_count_seconds_total %.9f\n",
                (double)count_ns / 1e9);
}

void ot_metrics_text(const ot_serve *s, const ot_route *r, ot_str *out)
{
    each_variant(r, "overtake_requests_total", "counter", "Inference requests answered.", requests,
                 out);
    each_variant(r, "overtake_rows_total", "counter", "Rows answered.", rows, out);
    each_variant(r, "overtake_failed_total", "counter", "Requests that the model failed.", failed,
                 out);
    each_variant(r, "overtake_run_seconds_total", "counter", "Time in the runtime, inline runs.",
                 run_seconds, out);
    each_variant(r, "overtake_queue_requests", "gauge", "Requests that wait for the pool.", queue,
                 out);
    each_variant(r, "overtake_oldest_run_seconds", "gauge",
                 "Age of the oldest run that is on: a model that hangs shows here.", oldest_run,
                 out);
    each_variant(r, "overtake_model_memory_bytes", "gauge",
                 "Estimated memory of the loaded model; 0 while it is unloaded.", memory, out);
    each_variant(r, "overtake_model_verified", "gauge", "1 if the golden answers agreed.", verified,
                 out);
    each_variant(r, "overtake_batch_rows", "histogram", "Rows a run.", batches, out);
    each_variant(r, "overtake_request_seconds", "histogram",
                 "Time from a request's first byte to its answer.", latency, out);
    each_variant(r, "overtake_stage_seconds", "histogram",
                 "The same by what it went to: queue (read and waiting), batch (put together), run "
                 "(the runtime), encode (counted, written).",
                 stages, out);
    each_variant(r, "overtake_drift_psi", "gauge",
                 "Population stability index of the input that moved most in the last window.",
                 drift, out);
    each_variant(r, "overtake_tokens_total", "counter",
                 "Tokens of completions, as the server that gave them says.", tokens, out);
    add_workers(s, out);
    add_memory(out);
    add_clients(r->access, out);
    add_guests(s->guests, out);
    if (s->access_log != NULL) {
        add_access_log(s->access_log, out);
    }
    if (s->spool != NULL) {
        add_samples(s, out);
    }
    if (s->tracer != NULL) {
        add_traces(s, out);
    }
    if (s->recorder != NULL) {
        add_recorded(s, out);
    }
    ot_str_addf(out,
                "# HELP overtake_ready 1 if all that is wanted is loaded.\n"
                "# TYPE overtake_ready gauge\novertake_ready %d\n"
                "# HELP overtake_revision Revision of the desired state.\n"
                "# TYPE overtake_revision gauge\novertake_revision %" PRIu64 "\n",
                r->ready && !atomic_load_explicit(&s->draining, memory_order_relaxed), r->revision);
}
