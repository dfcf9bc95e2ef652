/* Spans as OTLP's JSON: https://opentelemetry.io/docs/specs/otlp/ (ids in hex, 64-bit integers as
 * strings). */
#include "serve/trace.h"

#include "serve/call.h"
#include "serve/serve.h"
#include "serve/stage.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { KIND_INTERNAL = 1, KIND_SERVER = 2, STATUS_ERROR = 2 };

static void add_string(ot_str *out, const char *key, const char *value)
{
    ot_str_addf(out, "{\"key\":\"%s\",\"value\":{\"stringValue\":", key);
    ot_str_add_quoted(out, value);
    ot_str_adds(out, "}}");
}

static void add_int(ot_str *out, const char *key, int64_t value)
{
    ot_str_addf(out, "{\"key\":\"%s\",\"value\":{\"intValue\":\"%" PRId64 "\"}}", key, value);
}

/* Up to its attributes. */
static void begin_span(ot_str *out, const ot_span *s, const uint8_t id[8], const uint8_t *parent,
                       const char *name, int kind, uint64_t from_ns, uint64_t to_ns)
{
    char trace[33], span[17], above[17] = "";
    ot_hex(s->trace.id, sizeof s->trace.id, trace);
    ot_hex(id, 8, span);
    if (parent != NULL) {
        ot_hex(parent, 8, above);
    }
    ot_str_addf(out,
                "{\"traceId\":\"%s\",\"spanId\":\"%s\",\"parentSpanId\":\"%s\",\"name\":", trace,
                span, above);
    ot_str_add_quoted(out, name);
    ot_str_addf(out,
                ",\"kind\":%d,\"startTimeUnixNano\":\"%" PRId64 "\",\"endTimeUnixNano\":\"%" PRId64
                "\",\"attributes\":[",
                kind, s->wall_ns + (int64_t)from_ns, s->wall_ns + (int64_t)OT_MAX(from_ns, to_ns));
}

static void add_request(ot_str *out, const ot_span *s, uint64_t incarnation)
{
    char id[OT_PREDICTION_ID_MAX], name[80];
    snprintf(name, sizeof name, "infer %s", s->deployment);
    begin_span(out, s, s->trace.span, s->trace.has_parent ? s->trace.parent : NULL, name,
               KIND_SERVER, s->start_ns, s->end_ns);
    add_string(out, "overtake.deployment", s->deployment);
    ot_str_addc(out, ',');
    add_string(out, "overtake.model", s->model);
    ot_str_addc(out, ',');
    add_int(out, "overtake.version", (int64_t)s->version);
    ot_str_addc(out, ',');
    add_int(out, "overtake.rows", s->rows);
    ot_str_addc(out, ',');
    add_string(out, "overtake.protocol", s->wire);
    ot_prediction_id_format(id, incarnation, s->seq, s->version, false);
    id[strlen(id) - 2] = '\0'; /* without the mark of sampled ones */
    ot_str_addc(out, ',');
    add_string(out, "overtake.prediction", id);
    if (s->fell_back) {
        ot_str_addc(out, ',');
        add_string(out, "overtake.fallback", "true");
    }
    ot_str_addc(out, ']');
    if (s->failed) {
        ot_str_addf(out, ",\"status\":{\"code\":%d,\"message\":", STATUS_ERROR);
        ot_str_add_quoted(out, s->message);
        ot_str_addc(out, '}');
    }
    ot_str_addc(out, '}');
}

static void add_stage(ot_str *out, const ot_span *s, ot_serve_stage stage, uint64_t from_ns,
                      uint64_t to_ns)
{
    uint8_t id[8];
    memcpy(id, s->trace.span, sizeof id);
    id[7] ^= (uint8_t)(stage + 1);
    ot_str_addc(out, ',');
    begin_span(out, s, id, s->trace.span, ot_serve_stage_name(stage), KIND_INTERNAL, from_ns,
               to_ns);
    ot_str_adds(out, "]}");
}

static void add_all(ot_str *out, const ot_span *s, uint64_t incarnation)
{
    add_request(out, s, incarnation);
    if (s->taken_ns != 0) {
        add_stage(out, s, OT_SERVE_QUEUE, s->start_ns, s->taken_ns);
        add_stage(out, s, OT_SERVE_BATCH, s->taken_ns, s->run_from_ns);
        add_stage(out, s, OT_SERVE_RUN, s->run_from_ns, s->run_to_ns);
        add_stage(out, s, OT_SERVE_ENCODE, s->run_to_ns, s->end_ns);
    }
}

void ot_otlp_json(const ot_span *spans, size_t n, const char *instance, uint64_t incarnation,
                  ot_str *out)
{
    ot_str_adds(out, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    add_string(out, "service.name", "overtake");
    ot_str_addc(out, ',');
    add_string(out, "service.version", OT_SERVE_VERSION);
    ot_str_addc(out, ',');
    add_string(out, "service.instance.id", instance);
    ot_str_adds(out, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"overtake.serve\"},\"spans\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            ot_str_addc(out, ',');
        }
        add_all(out, &spans[i], incarnation);
    }
    ot_str_adds(out, "]}]}]}");
}
