/* Triton's extensions of the protocol that are not had here: shared memory, settings of traces and
 * of the log. Each is answered with what holds, or with why it cannot be set. */
#include "protocol/describe.h"

#include "serve/server.h"

static void answer_json(ot_worker *w, ot_http_req *req, const char *json)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_adds(&out, json);
    ot_worker_json(w, req, 200, &out);
}

/* KIND[/region/NAME]/status|register|unregister. There is never a region. */
static bool shared_memory(ot_worker *w, ot_http_req *req, const ot_slice *seg, size_t n)
{
    bool named = n == 4 && ot_slice_eq(seg[1], "region");
    const ot_slice *what = &seg[n - 1];
    if (!named && n != 2) {
        return false;
    }
    if (ot_slice_eq(*what, "status")) {
        if (!ot_worker_allow(w, req, false)) {
            return true;
        }
        if (named) {
            ot_worker_error(w, req, 404, "there is no region '%.80s': none can be registered",
                            seg[2].p);
        } else {
            answer_json(w, req, "[]");
        }
    } else if (ot_slice_eq(*what, "register") && named) {
        if (ot_worker_allow(w, req, true)) {
            ot_worker_error(w, req, 501,
                            "shared memory is not supported: memory that a client names is never "
                            "mapped; send tensors in the body, as binary data");
        }
    } else if (ot_slice_eq(*what, "unregister")) {
        if (ot_worker_allow(w, req, true)) {
            answer_json(w, req, "{}");
        }
    } else {
        return false;
    }
    return true;
}

static void get_trace(ot_worker *w, ot_http_req *req)
{
    const ot_serve_options *o = &w->serve->o;
    bool on = o->otlp != NULL && o->trace_sample > 0;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_addf(&out,
                "{\"trace_level\":[\"%s\"],\"trace_rate\":\"%.0f\",\"trace_count\":\"-1\","
                "\"log_frequency\":\"0\",\"trace_file\":\"\",\"trace_mode\":\"opentelemetry\"}",
                on ? "TIMESTAMPS" : "OFF", on ? 1 / o->trace_sample : 0);
    ot_worker_json(w, req, 200, &out);
}

bool ot_extensions(ot_worker *w, ot_http_req *req, const ot_slice *seg, size_t n)
{
    if (n >= 2 &&
        (ot_slice_eq(seg[0], "systemsharedmemory") || ot_slice_eq(seg[0], "cudasharedmemory") ||
         ot_slice_eq(seg[0], "xpusharedmemory"))) {
        return shared_memory(w, req, seg, n);
    }
    bool trace = n == 2 && ot_slice_eq(seg[0], "trace") && ot_slice_eq(seg[1], "setting");
    if (!trace && !(n == 1 && ot_slice_eq(seg[0], "logging"))) {
        return false;
    }
    if (req->method == OT_HTTP_POST) {
        ot_worker_error(w, req, 501,
                        trace ? "settings of traces are the server's: see --otlp and --trace-sample"
                              : "settings of the log are the server's: it goes to stderr");
        return true;
    }
    if (!ot_worker_allow(w, req, false)) {
        return true;
    }
    if (trace) {
        get_trace(w, req);
    } else {
        answer_json(w, req,
                    "{\"log_file\":\"\",\"log_info\":true,\"log_warning\":true,\"log_error\":true,"
                    "\"log_verbose_level\":0,\"log_format\":\"default\"}");
    }
    return true;
}
