#include "protocol/describe.h"

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
        ot_str_add_quoted(out, specs[i].name);
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
    ot_str_addf(out, "],\"platform\":\"%s_%s\"", v->info.plugin, v->info.format);
    add_specs(out, "inputs", v->sig.inputs, v->sig.n_inputs);
    add_specs(out, "outputs", v->sig.outputs, v->sig.n_outputs);
    ot_str_addf(out, ",\"parameters\":{\"verified\":%s,\"batch\":%" PRId64,
                v->verified ? "true" : "false", ot_variant_merge_max(v));
    if (v->bundle[0] != '\0') {
        ot_str_addf(out, ",\"bundle\":\"%s\"", v->bundle);
    }
    if (v->note[0] != '\0') {
        ot_str_adds(out, ",\"note\":");
        ot_str_add_quoted(out, v->note);
    }
    ot_str_adds(out, "}}");
}

static void add_config_tensors(ot_str *out, const char *what, const ot_tensor_spec *specs, size_t n,
                               int from)
{
    ot_str_addf(out, ",\"%s\":[", what);
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        ot_str_add_quoted(out, specs[i].name);
        const char *type = specs[i].dtype == OT_DT_BYTES ? "STRING" : ot_dtype_name(specs[i].dtype);
        ot_str_addf(out, ",\"data_type\":\"TYPE_%s\",\"dims\":", type);
        add_dims(out, &specs[i], from);
        ot_str_addc(out, '}');
    }
    ot_str_addc(out, ']');
}

void ot_describe_config(const ot_dep *d, const ot_variant *v, ot_str *out)
{
    int64_t batch = ot_variant_merge_max(v);
    int from = v->rows_known && batch > 1 ? 1 : 0;
    ot_str_addf(out,
                "{\"name\":\"%s\",\"platform\":\"%s_%s\",\"backend\":\"%s\",\"runtime_version\":",
                d->name, v->info.plugin, v->info.format, v->info.plugin);
    ot_str_add_quoted(out, v->info.runtime_version);
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
                first ? "" : ",", d->name, v->version_text, t.rows, t.batches, good, t.latency_ns,
                t.failed, t.batches, t.run_ns);
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
