#include "serve/describe.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void ot_describe_server(ot_str *out)
{
    ot_str_addf(out,
                "{\"name\":\"overtake\",\"version\":\"%s\",\"extensions\":[\"binary_tensor_data\","
                "\"model_repository\",\"model_configuration\",\"statistics\"]}",
                OT_SERVE_VERSION);
}

static void add_text(ot_str *out, const char *z)
{
    ot_str_addc(out, '"');
    ot_str_add_json(out, z, strlen(z));
    ot_str_addc(out, '"');
}

static void add_dims(ot_str *out, const ot_tensor_spec *t, int from)
{
    ot_str_addc(out, '[');
    for (int k = from; k < t->rank; k++) {
        ot_str_addf(out, k > from ? ",%" PRId64 : "%" PRId64, t->dims[k]);
    }
    ot_str_addc(out, ']');
}

static void add_specs(ot_str *out, const char *what, const ot_tensor_spec *specs, size_t n)
{
    ot_str_addf(out, ",\"%s\":[", what);
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        add_text(out, specs[i].name);
        ot_str_addf(out, ",\"datatype\":\"%s\",\"shape\":", ot_dtype_name(specs[i].dtype));
        add_dims(out, &specs[i], 0);
        ot_str_addc(out, '}');
    }
    ot_str_addc(out, ']');
}

void ot_describe_model(const ot_dep *d, const ot_variant *v, ot_str *out)
{
    ot_str_addf(out, "{\"name\":\"%s\",\"versions\":[", d->name);
    for (size_t i = 0; i < d->n_arms; i++) {
        ot_str_addf(out, "%s\"%s\"", i > 0 ? "," : "", d->arms[i].variant->version_text);
    }
    const ot_model_info *info = ot_model_info_of(v->loaded);
    ot_str_addf(out, "],\"platform\":\"%s_%s\"", info->plugin, info->format);
    add_specs(out, "inputs", v->sig.inputs, v->sig.n_inputs);
    add_specs(out, "outputs", v->sig.outputs, v->sig.n_outputs);
    ot_str_addf(out, ",\"parameters\":{\"verified\":%s,\"batch\":%" PRId64,
                v->verified ? "true" : "false", ot_variant_merge_max(v));
    if (v->bundle[0] != '\0') {
        ot_str_addf(out, ",\"bundle\":\"%s\"", v->bundle);
    }
    if (v->note[0] != '\0') {
        ot_str_adds(out, ",\"note\":");
        add_text(out, v->note);
    }
    ot_str_adds(out, "}}");
}

static void add_config_tensors(ot_str *out, const char *what, const ot_tensor_spec *specs, size_t n,
                               int from)
{
    ot_str_addf(out, ",\"%s\":[", what);
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        add_text(out, specs[i].name);
        const char *type = specs[i].dtype == OT_DT_BYTES ? "STRING" : ot_dtype_name(specs[i].dtype);
        ot_str_addf(out, ",\"data_type\":\"TYPE_%s\",\"dims\":", type);
        add_dims(out, &specs[i], from);
        ot_str_addc(out, '}');
    }
    ot_str_addc(out, ']');
}

void ot_describe_config(const ot_dep *d, const ot_variant *v, ot_str *out)
{
    const ot_model_info *info = ot_model_info_of(v->loaded);
    int64_t batch = ot_variant_merge_max(v);
    int from = v->rows_known && batch > 1 ? 1 : 0;
    ot_str_addf(out,
                "{\"name\":\"%s\",\"platform\":\"%s_%s\",\"backend\":\"%s\",\"runtime_version\":",
                d->name, info->plugin, info->format, info->plugin);
    add_text(out, info->runtime_version != NULL ? info->runtime_version : "");
    ot_str_addf(out, ",\"max_batch_size\":%" PRId64, from == 1 ? batch : 0);
    add_config_tensors(out, "input", v->sig.inputs, v->sig.n_inputs, from);
    add_config_tensors(out, "output", v->sig.outputs, v->sig.n_outputs, from);
    ot_str_addc(out, '}');
}

/* ---- statistics */

static void add_stats(const ot_dep *d, const ot_variant *v, bool first, ot_str *out)
{
    ot_totals_sum t;
    ot_variant_totals(v, &t);
    uint64_t good = t.requests - OT_MIN(t.failed, t.requests);
    ot_str_addf(out,
                "%s{\"name\":\"%s\",\"version\":\"%s\",\"inference_count\":%" PRIu64
                ",\"execution_count\":%" PRIu64
                ",\"inference_stats\":{\"success\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64
                "},\"fail\":{\"count\":%" PRIu64 ",\"ns\":0},\"compute_infer\":{\"count\":%" PRIu64
                ",\"ns\":%" PRIu64 "}},\"batch_stats\":[",
                first ? "" : ",", d->name, v->version_text, t.rows, t.batches, good,
                t.latency_us * 1000, t.failed, t.batches, t.run_ns);
    bool any = false;
    for (unsigned b = 0; b < OT_COST_BUCKETS; b++) {
        uint64_t ns = atomic_load_explicit(&v->cost.ns[b], memory_order_relaxed);
        if (t.batch_rows[b] > 0) {
            ot_str_addf(out,
                        "%s{\"batch_size\":%u,\"compute_infer\":{\"count\":%" PRIu64
                        ",\"ns\":%" PRIu64 "}}",
                        any ? "," : "", 1u << b, t.batch_rows[b], ns * t.batch_rows[b]);
            any = true;
        }
    }
    ot_str_addf(out, "],\"queue_waiting\":%" PRIu64 "}", ot_queue_waiting(v->queue));
}

void ot_describe_stats(const ot_dep *d, const ot_variant *only, ot_str *out)
{
    ot_str_adds(out, "{\"model_stats\":[");
    bool first = true;
    for (size_t i = 0; i < d->n_arms; i++) {
        if (only == NULL || d->arms[i].variant == only) {
            add_stats(d, d->arms[i].variant, first, out);
            first = false;
        }
    }
    ot_str_adds(out, "]}");
}

/* ---- metrics: https://prometheus.io/docs/instrumenting/exposition_formats/ */

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
            char labels[256];
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
static void verified(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)t;
    ot_str_addf(out, "overtake_model_verified{%s} %d\n", labels, v->verified);
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

static void latency(const ot_variant *v, const ot_totals_sum *t, const char *labels, ot_str *out)
{
    (void)v;
    uint64_t sum = 0;
    for (unsigned i = 0; i + 1 < OT_LATENCY_STEPS; i++) {
        sum += t->latency[i];
        ot_str_addf(out, "overtake_request_seconds_bucket{%s,le=\"%g\"} %" PRIu64 "\n", labels,
                    ot_latency_step_us[i] / 1e6, sum);
    }
    sum += t->latency[OT_LATENCY_STEPS - 1];
    ot_str_addf(out,
                "overtake_request_seconds_bucket{%s,le=\"+Inf\"} %" PRIu64
                "\novertake_request_seconds_sum{%s} %.6f\novertake_request_seconds_count{%s} "
                "%" PRIu64 "\n",
                labels, sum, labels, (double)t->latency_us / 1e6, labels, sum);
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
                "\n# HELP overtake_spool_bytes Bytes that wait for the control plane.\n"
                "# TYPE overtake_spool_bytes gauge\novertake_spool_bytes %" PRIu64 "\n",
                st.rows, dropped, st.shadow_rows, st.shadow_failed, bytes);
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

void ot_describe_metrics(const ot_serve *s, const ot_route *r, ot_str *out)
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
    each_variant(r, "overtake_model_verified", "gauge", "1 if the golden answers agreed.", verified,
                 out);
    each_variant(r, "overtake_batch_rows", "histogram", "Rows a run.", batches, out);
    each_variant(r, "overtake_request_seconds", "histogram",
                 "Time from a request's first byte to its answer.", latency, out);
    add_workers(s, out);
    if (s->spool != NULL) {
        add_samples(s, out);
    }
    ot_str_addf(out,
                "# HELP overtake_ready 1 if all that is wanted is loaded.\n"
                "# TYPE overtake_ready gauge\novertake_ready %d\n"
                "# HELP overtake_revision Revision of the desired state.\n"
                "# TYPE overtake_revision gauge\novertake_revision %" PRIu64 "\n",
                r->ready && !atomic_load_explicit(&s->draining, memory_order_relaxed), r->revision);
}
