/* `overtake bench`: load against a model that is served. */
#include "base/mem.h"
#include "cli/loads.h"
#include "load/bench.h"
#include "load/protocol.h"

#include <string.h>

static ot_rc fill(const ot_args *args, ot_bench_options *o, ot_error *err)
{
    ot_bench_options_init(o);
    o->url = ot_args_pos(args, "URL");
    o->trust = ot_cli_load_trust(args);
    o->model = ot_args_str(args, "model");
    o->protocol = ot_cli_load_protocol(args);
    o->poisson = strcmp(ot_args_str(args, "arrivals"), "poisson") == 0;
    o->connections = (unsigned)ot_args_int(args, "connections");
    o->streams = ot_load_protocol_wire(o->protocol) == &ot_load_http2
                     ? (unsigned)ot_args_int(args, "streams")
                     : 1;
    o->warmup_ns = (uint64_t)ot_args_us(args, "warm-up") * 1000;
    o->duration_ns = (uint64_t)ot_args_us(args, "duration") * 1000;
    o->timeout_ns = (uint64_t)ot_args_us(args, "timeout") * 1000;
    o->requests = (uint64_t)ot_args_int(args, "requests");
    o->inputs = (size_t)ot_args_int(args, "inputs");
    o->rows = ot_args_int(args, "rows");
    o->open_dim = ot_args_int(args, "open-dim");
    o->seed = (uint64_t)ot_args_int(args, "seed");
    o->data = ot_args_str(args, "data");
    o->expect = ot_args_str(args, "expect");
    o->realtime = ot_args_bool(args, "realtime");
    o->stop = ot_cli_load_stop();
    OT_TRY(ot_parse_f64(ot_args_str(args, "tolerance"), &o->abs, err));
    o->rel = o->abs * 10;
    return ot_args_set(args, "rate") ? ot_parse_f64(ot_args_str(args, "rate"), &o->rate, err)
                                     : OT_OK;
}

static int run_bench(const ot_args *args)
{
    ot_error err = {0};
    ot_bench_options o;
    ot_bench b;
    if (fill(args, &o, &err) != OT_OK || !(o.rate >= 0) || o.rate > OT_LOAD_RATE_MAX ||
        !(o.abs >= 0)) {
        return ot_cli_usage(args,
                            "--rate is a number of requests a second up to %g, --tolerance a "
                            "number like 1e-4",
                            OT_LOAD_RATE_MAX);
    }
    ot_rc rc = ot_bench_open(&o, &b, &err);
    if (rc != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    rc = ot_bench_run(&o, &b, &err);
    int code = rc == OT_OK && ot_load_result_good(&b.result) ? 0 : 1;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (rc != OT_OK) {
        code = ot_cli_fail(args, &err);
    } else if (ot_args_json(args)) {
        ot_bench_json(&o, &b, &out);
    } else {
        ot_bench_text(&o, &b, &out);
    }
    ot_bench_close(&b);
    return rc == OT_OK && ot_cli_print(&out) != 0 ? 1 : code;
}

static const char *const arrivals[] = {"poisson", "even", NULL};

static const ot_opt bench_opts[] = {
    {.name = "model",
     .letter = 'm',
     .type = OT_OPT_STRING,
     .value = "NAME",
     .help = "the model, where the URL names none and the server has several"},
    OT_CLI_LOAD_PROTOCOL_OPT(
        ot_load_protocol_names,
        "Open Inference Protocol over REST in JSON or with binary tensors, or over gRPC; or "
        "TensorFlow Serving's API over REST or gRPC"),
    {.name = "rate",
     .letter = 'r',
     .type = OT_OPT_STRING,
     .value = "N",
     .help = "requests a second, sent whether or not earlier ones are answered (default: as many "
             "as there are connections are on their way)"},
    {.name = "arrivals",
     .type = OT_OPT_STRING,
     .choices = arrivals,
     .def = "poisson",
     .help = "gaps between requests of --rate: as independent people make them, or even"},
    OT_CLI_LOAD_CONNECTIONS_OPT("16"),
    {.name = "streams",
     .type = OT_OPT_INT,
     .def = "1",
     .min = "1",
     .max = "1024",
     .help = "calls at once on a connection of gRPC"},
    {.name = "duration",
     .letter = 'd',
     .type = OT_OPT_DURATION,
     .def = "10s",
     .min = "10ms",
     .max = "7d",
     .help = "how long to measure"},
    {.name = "requests",
     .letter = 'n',
     .type = OT_OPT_INT,
     .def = "0",
     .min = "0",
     .help = "end after so many measured ones; 0: after the duration"},
    {.name = "warm-up",
     .type = OT_OPT_DURATION,
     .def = "1s",
     .min = "0s",
     .max = "1d",
     .help = "load before it; counted apart"},
    OT_CLI_LOAD_TIMEOUT_OPT,
    OT_CLI_LOAD_TLS_OPTS,
    {.name = "inputs",
     .type = OT_OPT_INT,
     .def = "64",
     .min = "1",
     .max = "65536",
     .help = "different requests, sent in turn"},
    OT_CLI_LOAD_INPUT_OPTS,
    {.name = "seed", .type = OT_OPT_INT, .def = "1", .help = "of made-up inputs and of arrivals"},
    {.name = "expect",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "right answers: .npz with a column an output (default: what a version answered "
             "first)"},
    {.name = "tolerance",
     .type = OT_OPT_STRING,
     .value = "X",
     .def = "1e-4",
     .help = "numbers may differ by X + 10 X times their size"},
    {.name = "realtime",
     .type = OT_OPT_BOOL,
     .help = "take a real-time priority where that is allowed"},
};

static const ot_pos bench_pos[] = {
    {.name = "URL", .help = "http[s]://HOST:PORT[/v2/models/NAME[/versions/V]]"}};

const ot_command ot_cli_bench_command = {
    .name = "bench",
    .summary = "send load to a model, check each answer, tell latencies",
    .detail = "With --rate requests go out at their own times and a latency counts from when its "
              "request was due (open loop, no coordinated omission); without it each connection "
              "sends the next when it has an answer (closed loop).\n\nThe exit code is 0 when "
              "everything that was due was answered correctly or refused (429, 503).",
    OT_OPTS(bench_opts),
    OT_POS(bench_pos),
    .run = run_bench};
