#include "serve/trace.h"

#include "serve/call.h"

#include "tap.h"

#include <jansson.h>

#define GOOD "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static ot_slice text(const char *z)
{
    return (ot_slice){z, strlen(z)};
}

/* From the specification's examples, and its rules about what to ignore. */
static void contexts(void)
{
    ot_trace t;
    char back[OT_TRACEPARENT_MAX];
    ok(ot_traceparent_parse(text(GOOD), &t) && t.sampled && t.has_parent, "one that is sampled");
    memcpy(t.span, t.parent, sizeof t.span);
    ot_traceparent_format(&t, back);
    is_str(back, GOOD, "and written again");
    ok(ot_traceparent_parse(text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), &t) &&
           !t.sampled,
       "one that is not");
    ok(ot_traceparent_parse(
           text("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes"), &t),
       "a later version with more to it");
    static const char *const bad[] = {
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(!ot_traceparent_parse(text(bad[i]), &t), "not one: '%s'", bad[i]);
    }
    ok(!ot_traceparent_parse((ot_slice){0}, &t), "absent");
}

static const char *field(json_t *span, const char *name)
{
    const char *s = json_string_value(json_object_get(span, name));
    return s != NULL ? s : "";
}

static void bodies(void)
{
    ot_span s = {.wall_ns = INT64_C(1700000000000000000),
                 .start_ns = 1000,
                 .taken_ns = 2000,
                 .run_from_ns = 2500,
                 .run_to_ns = 9000,
                 .end_ns = 9500,
                 .version = 7,
                 .seq = 3,
                 .rows = 2,
                 .wire = "rest",
                 .failed = true,
                 .deployment = "d",
                 .model = "m",
                 .message = "a \"quoted\" reason"};
    ot_span never = s;
    never.taken_ns = 0;
    ok(ot_traceparent_parse(text(GOOD), &s.trace), "a context");
    memset(s.trace.span, 0xab, sizeof s.trace.span);
    ot_span both[2] = {s, never};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_otlp_json(both, 2, "r-0", 1, &out);
    json_t *root = json_loadb(out.data, out.len, 0, NULL);
    json_t *r = json_array_get(json_object_get(root, "resourceSpans"), 0);
    json_t *spans = json_object_get(json_array_get(json_object_get(r, "scopeSpans"), 0), "spans");
    is_int((int)json_array_size(spans), 6, "a request with four stages, and one without");
    json_t *request = json_array_get(spans, 0), *run = json_array_get(spans, 3);
    is_str(field(request, "traceId"), "4bf92f3577b34da6a3ce929d0e0e4736", "the caller's trace");
    is_str(field(request, "parentSpanId"), "00f067aa0ba902b7", "below the caller's span");
    is_str(field(request, "startTimeUnixNano"), "1700000000000001000", "on the wall's clock");
    is_str(json_string_value(json_object_get(json_object_get(request, "status"), "message")),
           "a \"quoted\" reason", "why it failed");
    is_str(field(run, "name"), "run", "the third stage");
    is_str(field(run, "parentSpanId"), "abababababababab", "below the request's span");
    ok(strcmp(field(run, "spanId"), "abababababababab") != 0, "with an id of its own");
    is_str(field(run, "endTimeUnixNano"), "1700000000000009000", "until it came back");
    is_str(field(json_array_get(spans, 5), "parentSpanId"), "", "a trace that begins here");
    json_decref(root);
}

static void addresses(void)
{
    ot_tracer *t;
    ot_error err;
    static const char *const bad[] = {"collector:4318", "http://", "ftp://x", "http://x:99999"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(ot_tracer_create(bad[i], 1, "r", 1, &t, &err) != OT_OK, "'%s': %s", bad[i], err.msg);
    }
    is_int(ot_tracer_create("http://127.0.0.1", 0.5, "r", 1, &t, &err), OT_OK, "without a port");
    ot_tracer_destroy(t);
}

/* The share is of the ids, and the same ids every time. */
static void shares(void)
{
    ot_tracer *t;
    ot_error err;
    is_int(ot_tracer_create("http://127.0.0.1:1", 0.25, "r", 42, &t, &err), OT_OK, "a tracer");
    unsigned traced = 0, again = 0;
    ot_arena arena;
    ot_arena_init(&arena, 4096, 1 << 20);
    for (uint64_t seq = 1; seq <= 4000; seq++) {
        ot_call a = {.arena = &arena, .seq = seq};
        ot_call b = a;
        ot_trace_begin(t, &a, (ot_slice){0});
        ot_trace_begin(t, &b, text("no trace"));
        traced += a.trace != NULL;
        again +=
            a.trace != NULL && b.trace != NULL && memcmp(a.trace, b.trace, sizeof *a.trace) == 0;
        ot_arena_reset(&arena);
    }
    is_near(traced / 4000.0, 0.25, 0.04, "a quarter");
    is_int(again, traced, "the same ones, with the same ids");
    ot_arena_done(&arena);
    ot_tracer_destroy(t);
}

int main(void)
{
    contexts();
    bodies();
    addresses();
    shares();
    return tap_done();
}
