/* The ring as events of Chrome's trace format: operations are nestable asynchronous slices, one id
 * an operation, so that those that overlap have rows of their own; what a thread does is complete
 * slices on that thread's row. */
#include "collective/trace_internal.h"

#include "collective/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ROW_OPERATIONS = 1, ROW_WAITS, ROW_PROGRAM, ROW_INPUT };

static const char *const lanes[] = {"planned", "negotiated", "ordered"};

/* Microseconds, to the nanosecond. */
static void add_us(ot_str *out, const char *key, uint64_t ns)
{
    ot_str_addf(out, ",\"%s\":%" PRIu64 ".%03u", key, ns / 1000, (unsigned)(ns % 1000));
}

static uint64_t common(int64_t offset_ns, uint64_t ns)
{
    return offset_ns < 0 && ns < (uint64_t)-offset_ns ? 0 : ns + (uint64_t)offset_ns;
}

void ot_trace_head_text(ot_str *out, int32_t pid, const char *host)
{
    static const char *const rows[] = {[ROW_OPERATIONS] = "operations",
                                       [ROW_WAITS] = "waits for bytes of",
                                       [ROW_PROGRAM] = "program waits",
                                       [ROW_INPUT] = "input"};
    ot_str_addf(out,
                "{\"ph\":\"M\",\"pid\":%" PRId32 ",\"name\":\"process_name\",\"args\":"
                "{\"name\":\"rank %" PRId32 " (host ",
                pid, pid);
    ot_str_add_json(out, host, strlen(host));
    ot_str_addf(out,
                ")\"}},\n{\"ph\":\"M\",\"pid\":%" PRId32
                ",\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%" PRId32 "}},\n",
                pid, pid);
    for (int row = ROW_OPERATIONS; row <= ROW_INPUT; row++) {
        ot_str_addf(out,
                    "{\"ph\":\"M\",\"pid\":%" PRId32 ",\"tid\":%d,\"name\":\"thread_name\","
                    "\"args\":{\"name\":\"%s\"}},\n",
                    pid, row, rows[row]);
    }
}

typedef struct writer {
    ot_str *out;
    int32_t pid;
    int64_t offset_ns;
    uint64_t id;
} writer;

/* One end of an asynchronous slice; its line is left open for `args`. */
static void async(const writer *w, char ph, const char *name, uint64_t ns)
{
    ot_str_addf(w->out,
                "{\"ph\":\"%c\",\"cat\":\"op\",\"id\":\"%" PRId32 ".%" PRIu64 "\",\"pid\":%" PRId32
                ",\"tid\":%d",
                ph, w->pid, w->id, w->pid, ROW_OPERATIONS);
    add_us(w->out, "ts", common(w->offset_ns, ns));
    ot_str_adds(w->out, ",\"name\":");
    ot_str_add_quoted(w->out, name);
}

static void phase(const writer *w, const char *name, uint64_t from, uint64_t to)
{
    if (from == 0 || to < from) {
        return;
    }
    async(w, 'b', name, from);
    ot_str_adds(w->out, "},\n");
    async(w, 'e', name, to);
    ot_str_adds(w->out, "},\n");
}

static void wire(const writer *w, const ot_times *t)
{
    if (t->packed == 0 || t->wired < t->packed) {
        return;
    }
    async(w, 'b', "wire", t->packed);
    ot_str_adds(w->out, "},\n");
    if (t->reduce_first >= t->packed && t->reduce_last <= t->wired) {
        async(w, 'b', "reduce", t->reduce_first);
        ot_str_adds(w->out, ",\"args\":{\"pieces\":true");
        add_us(w->out, "busy_us", t->reduce);
        ot_str_adds(w->out, "}},\n");
        async(w, 'e', "reduce", t->reduce_last);
        ot_str_adds(w->out, "},\n");
    }
    async(w, 'e', "wire", t->wired);
    ot_str_adds(w->out, "},\n");
}

static void operation(const writer *w, const ot_trace_event *e)
{
    const ot_trace_op *o = &e->op;
    const ot_times *t = &o->times;
    async(w, 'b', e->name, o->asked);
    ot_str_addf(w->out,
                ",\"args\":{\"kind\":\"%s\",\"type\":\"%s\",\"bytes\":%" PRIu64
                ",\"lane\":\"%s\",\"plan\":%" PRIu64 ",\"operation\":%" PRIu64
                ",\"tensors_in_bucket\":%" PRIu32,
                ot_wire_kind_text(o->kind), ot_dtype_text((overtake_dtype)o->dtype), o->bytes,
                o->lane < sizeof lanes / sizeof lanes[0] ? lanes[o->lane] : "", o->epoch, o->seq,
                o->companions);
    if (o->late.ns != 0) {
        ot_str_addf(w->out, ",\"last_to_ask\":%" PRId32, o->late.rank);
        add_us(w->out, "last_asked_at", o->late.ns);
    }
    ot_str_adds(w->out, "}},\n");
    phase(w, "plan", o->asked, t->begun);
    phase(w, "queue", t->begun, t->active);
    phase(w, "pack", t->active, t->packed);
    wire(w, t);
    phase(w, "unpack", t->wired, o->done);
    async(w, 'e', e->name, o->done);
    ot_str_adds(w->out, "},\n");
}

static void slice(const writer *w, const ot_trace_event *e)
{
    bool step = e->what == OT_TRACE_STEP;
    int row = e->what == OT_TRACE_WAIT    ? ROW_WAITS
              : e->what == OT_TRACE_INPUT ? ROW_INPUT
                                          : ROW_PROGRAM;
    ot_str_addf(w->out, "{\"ph\":\"%s\",\"pid\":%" PRId32 ",\"tid\":%d",
                step ? "i\",\"s\":\"p" : "X", w->pid, row);
    add_us(w->out, "ts", common(w->offset_ns, e->from));
    if (!step) {
        add_us(w->out, "dur", e->to - e->from);
    }
    ot_str_adds(w->out, ",\"name\":");
    if (e->what == OT_TRACE_WAIT) {
        ot_str_addf(w->out,
                    "\"rank %" PRId32 "\",\"args\":{\"rank\":%" PRId32 ",\"tensor\":", e->rank,
                    e->rank);
        ot_str_add_quoted(w->out, e->name);
        add_us(w->out, "slept_us", e->slept);
        ot_str_adds(w->out, "}");
    } else {
        ot_str_add_quoted(w->out, e->name);
    }
    if (e->what == OT_TRACE_BLOCKED && e->rank >= 0) {
        ot_str_addf(w->out, ",\"args\":{\"late_rank\":%" PRId32 "}", e->rank);
    }
    ot_str_adds(w->out, "},\n");
}

bool ot_trace_event_text(ot_str *out, int32_t pid, int64_t offset_ns, uint64_t id,
                         const ot_trace_event *e)
{
    writer w = {.out = out, .pid = pid, .offset_ns = offset_ns, .id = id};
    if (e->what == OT_TRACE_OP) {
        operation(&w, e);
    } else {
        slice(&w, e);
    }
    return !out->failed && out->len < OT_TRACE_TEXT_MAX;
}

void ot_trace_file(ot_str *out, const char *other, const char *events, size_t n)
{
    while (n > 0 && (events[n - 1] == '\n' || events[n - 1] == ',')) {
        n--;
    }
    ot_str_adds(out, "{\"traceEvents\":[\n");
    ot_str_add(out, events, n);
    ot_str_addf(out, "\n],\n\"displayTimeUnit\":\"ms\",\"otherData\":%s}\n", other);
}

void ot_trace_info_text(ot_str *out, int32_t rank, const char *host, const ot_trace_info *info)
{
    ot_str_addf(out, "{\"rank\":%" PRId32 ",\"host\":", rank);
    ot_str_add_quoted(out, host);
    ot_str_addf(out, ",\"events\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"clock\":", info->events,
                info->dropped);
    if (info->clock_known) {
        ot_str_addf(out, "{\"offset_us\":%.3f,\"error_us\":%.3f}", (double)info->offset_ns / 1e3,
                    (double)info->error_ns / 1e3);
    } else {
        ot_str_adds(out, "null");
    }
    ot_str_adds(out, "}");
}
