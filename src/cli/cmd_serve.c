/* `overtake serve`: a replica, alone on a directory or under a control plane. */
#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"
#include "cli/commands.h"
#include "cli/listen.h"
#include "protocol/protocol.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_signal(void *arg)
{
    ot_serve_stop(arg);
}

/* Those that this process may use: more threads than that only take turns. */
static unsigned processors(void)
{
    cpu_set_t all;
    long n = sched_getaffinity(0, sizeof all, &all) == 0 ? CPU_COUNT(&all)
                                                         : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > OT_SERVE_WORKERS_MAX ? OT_SERVE_WORKERS_MAX : (unsigned)n;
}

/* TensorFlow Serving follows its folders, so who asks for its ports gets that too. */
static ot_serve_control control_mode(const ot_args *args)
{
    const char *mode = ot_args_str(args, "model-control");
    const char *const *compat;
    size_t n = ot_args_list(args, "compat", &compat);
    bool follows = strcmp(mode, "poll") == 0;
    for (size_t i = 0; i < n && !ot_args_given(args, "model-control"); i++) {
        follows |= strcmp(compat[i], "tfserving") == 0;
    }
    return follows                         ? OT_SERVE_POLL
           : strcmp(mode, "explicit") == 0 ? OT_SERVE_EXPLICIT
                                           : OT_SERVE_NONE;
}

static void fill_options(const ot_args *args, ot_serve_options *o)
{
    o->protocols = &ot_protocols;
    o->dir = ot_args_pos(args, "DIR");
    o->agent = ot_args_str(args, "agent");
    o->data = o->agent != NULL ? ot_args_str(args, "data") : NULL;
    o->id = ot_args_str(args, "id");
    o->workers =
        ot_args_set(args, "workers") ? (unsigned)ot_args_int(args, "workers") : processors();
    o->pool_threads = ot_args_set(args, "pool-threads")
                          ? (unsigned)ot_args_int(args, "pool-threads")
                          : processors();
    o->control = control_mode(args);
    o->poll_us = ot_args_us(args, "poll");
    o->print_drift = ot_args_bool(args, "watch-drift");
    o->window_us = ot_args_us(args, "window");
    o->count_budget = ot_args_fraction(args, "count-budget");
    o->inline_us = (uint32_t)ot_args_us(args, "inline");
    o->hang_us = ot_args_us(args, "hang");
    o->queue_max = (uint32_t)ot_args_int(args, "queue");
    o->wait_us_max = ot_args_us(args, "queue-wait");
    o->memory_max = ot_args_set(args, "memory-max") ? ot_args_size(args, "memory-max") : 0;
    o->process_memory =
        ot_args_set(args, "process-memory") ? ot_args_size(args, "process-memory") : 0;
    o->drain_ms = (uint32_t)(ot_args_us(args, "drain") / 1000);
    o->body_max = ot_args_size(args, "body-max");
    o->deployments = ot_args_str(args, "deployments");
    o->keys = ot_args_str(args, "keys");
    o->keyless_each = (double)ot_args_int(args, "keyless-requests");
    o->keyless_all = (double)ot_args_int(args, "keyless-total");
    o->access_log = ot_args_str(args, "access-log");
    o->access_sample = ot_args_fraction(args, "access-sample");
    o->access_max = ot_args_size(args, "access-max");
    o->open_health = ot_args_bool(args, "open-health");
    o->open_metrics = ot_args_bool(args, "open-metrics");
    o->supervisor_fd =
        ot_args_given(args, "supervisor-fd") ? (int)ot_args_int(args, "supervisor-fd") : -1;
    o->plugin_path = ot_args_str(args, "plugin-path");
    o->otlp = ot_args_str(args, "otlp");
    o->trace_sample = ot_args_fraction(args, "trace-sample");
    o->record = ot_args_str(args, "record");
    o->record_max = ot_args_size(args, "record-max");
    o->record_sample = ot_args_fraction(args, "record-sample");
    o->conns_max = (unsigned)ot_args_int(args, "connections");
    o->tls = ot_cli_tls_files(args);
    o->isolate = strcmp(ot_args_str(args, "isolation"), "process") == 0;
    o->hang_kill_us = ot_args_us(args, "hang-kill");
}

static void on_hangup(void *arg)
{
    ot_serve_reload(arg);
}

static ot_rc serve(ot_serve *s, ot_error *err)
{
    /* Before other threads start, so that they inherit the mask. */
    OT_TRY(ot_loop_signal(ot_serve_loop(s), SIGTERM, on_signal, s, err));
    OT_TRY(ot_loop_signal(ot_serve_loop(s), SIGINT, on_signal, s, err));
    OT_TRY(ot_loop_signal(ot_serve_loop(s), SIGHUP, on_hangup, s, err));
    return ot_serve_run(s, err);
}

static int run_serve(const ot_args *args)
{
    ot_error err = {0};
    ot_serve_options o;
    ot_serve *s = NULL;
    ot_cli_listeners listeners = {0};
    ot_serve_options_init(&o);
    fill_options(args, &o);
    if ((o.dir == NULL) == (o.agent == NULL)) {
        return ot_cli_usage(args, "it needs DIR, a directory with models, or --agent, the control "
                                  "plane's address; not both");
    }
    ot_rc rc = ot_cli_listen(args, &listeners, &err);
    if (rc == OT_OK) {
        o.listeners = listeners.fds;
        o.n_listeners = listeners.n;
        rc = ot_serve_create(&o, &s, &err);
    }
    if (rc == OT_OK) {
        ot_cli_announce(args, &listeners);
        rc = serve(s, &err);
    }
    ot_serve_destroy(s);
    ot_cli_unlisten(&listeners);
    return rc == OT_OK ? 0 : ot_cli_fail(args, &err);
}

static const char *const isolation_choices[] = {"none", "process", NULL};
static const char *const control_choices[] = {"none", "explicit", "poll", NULL};

static const ot_opt serve_opts[] = {
    OT_CLI_LISTEN_OPT,
    OT_CLI_LISTEN_MORE_OPTS,
    OT_CLI_LISTEN_FD_OPT,
    {.name = "workers",
     .letter = 'w',
     .type = OT_OPT_INT,
     .min = "1",
     .max = "64",
     .help = "worker threads (default: one a processor that it may use)"},
    {.name = "pool-threads",
     .type = OT_OPT_INT,
     .min = "1",
     .max = "64",
     .help = "threads for long runs (default: one a processor that it may use)"},
    {.name = "supervisor-fd",
     .type = OT_OPT_INT,
     .min = "0",
     .help = "a channel to the supervisor",
     .hidden = true},
    {.name = "model-control",
     .type = OT_OPT_STRING,
     .choices = control_choices,
     .def = "none",
     .help = "serve what lies in DIR at the start, only what is asked for, or what lies in it at "
             "any time"},
    {.name = "poll",
     .type = OT_OPT_DURATION,
     .def = "2s",
     .min = "10ms",
     .max = "1d",
     .help = "time between two looks at DIR with --model-control poll"},
    {.name = "watch-drift",
     .type = OT_OPT_BOOL,
     .help = "print what moved against the reference, a line a window"},
    {.name = "window",
     .type = OT_OPT_DURATION,
     .def = "60s",
     .min = "100ms",
     .max = "1d",
     .help = "length of a window of counts (alone)"},
    {.name = "count-budget",
     .type = OT_OPT_FRACTION,
     .def = "2%",
     .help = "share of a worker's time for counting rows; beyond it they are thinned"},
    {.name = "inline",
     .type = OT_OPT_DURATION,
     .def = "300us",
     .min = "0s",
     .max = "1h",
     .help = "runs predicted to take longer go to the pool"},
    {.name = "hang",
     .type = OT_OPT_DURATION,
     .def = "10s",
     .min = "0s",
     .max = "1d",
     .help = "a run that has not come back for so long is named in the log; 0s: none"},
    {.name = "hang-kill",
     .type = OT_OPT_DURATION,
     .def = "30s",
     .min = "10ms",
     .max = "1d",
     .help = "a run in a worker process that has not come back for so long ends that process"},
    {.name = "isolation",
     .type = OT_OPT_STRING,
     .choices = isolation_choices,
     .def = "none",
     .help = "where the control plane does not say: run models in sandboxed worker processes"},
    {.name = "queue",
     .type = OT_OPT_INT,
     .def = "1024",
     .min = "1",
     .max = "1000000",
     .help = "requests of a model that may wait for the pool"},
    {.name = "memory-max",
     .type = OT_OPT_SIZE,
     .min = "64KiB",
     .help = "what models may take; idle ones are unloaded for others and come back on demand"},
    {.name = "process-memory",
     .type = OT_OPT_SIZE,
     .min = "16MiB",
     .help = "what the process of an isolated model may hold, its runtime included; one that holds "
             "more is ended and started again"},
    {.name = "queue-wait",
     .type = OT_OPT_DURATION,
     .def = "10s",
     .min = "0s",
     .max = "1h",
     .help = "a request that is predicted to wait longer is refused (429); 0s: none is"},
    {.name = "drain",
     .type = OT_OPT_DURATION,
     .def = "10s",
     .min = "0s",
     .max = "1h",
     .help = "how long requests in flight may take at the end"},
    {.name = "body-max",
     .type = OT_OPT_SIZE,
     .def = "64MiB",
     .min = "1k",
     .max = "1GiB",
     .help = "largest body of a request, largest message of gRPC"},
    {.name = "otlp",
     .type = OT_OPT_STRING,
     .value = "URL",
     .help = "send traces to this OpenTelemetry collector (OTLP over HTTP, /v1/traces)"},
    {.name = "trace-sample",
     .type = OT_OPT_FRACTION,
     .def = "1%",
     .help = "share of requests to trace; those that bring a traceparent do as it says"},
    {.name = "record",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "keep requests and their answers in a new file, for `overtake replay`"},
    {.name = "record-max",
     .type = OT_OPT_SIZE,
     .def = "64MiB",
     .min = "1k",
     .max = "1GiB",
     .help = "size of the recording, which ends then"},
    {.name = "record-sample",
     .type = OT_OPT_FRACTION,
     .def = "100%",
     .help = "share of the requests to record"},
    {.name = "connections",
     .type = OT_OPT_INT,
     .def = "16384",
     .min = "1",
     .max = "1000000",
     .help = "connections that a worker holds; more wait to be accepted"},
    {.name = "deployments",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "serve what this file says of the models below DIR: several variants, labels"},
    {.name = "keys",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "requests need an API key of this file (overtake keys add --file)",
     .env = ""},
    {.name = "keyless-requests",
     .type = OT_OPT_INT,
     .def = "0",
     .max = "1000000000",
     .help = "requests a second that one address may ask where no key is needed; 0: any number"},
    {.name = "keyless-total",
     .type = OT_OPT_INT,
     .def = "0",
     .max = "1000000000",
     .help = "requests a second of all such callers together; 0: any number"},
    {.name = "access-log",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "write a line of JSON a request into this file"},
    {.name = "access-sample",
     .type = OT_OPT_FRACTION,
     .def = "100%",
     .help = "share of the requests that went well which it has; it has all that failed"},
    {.name = "access-max",
     .type = OT_OPT_SIZE,
     .def = "64MiB",
     .min = "16k",
     .max = "1TiB",
     .help = "size of its four files together; the oldest lines go"},
    {.name = "open-health", .type = OT_OPT_BOOL, .def = "true", .help = "health needs no key"},
    {.name = "open-metrics", .type = OT_OPT_BOOL, .help = "/metrics needs no key"},
    {.name = "agent",
     .type = OT_OPT_STRING,
     .value = "ADDRESS",
     .help = "follow the control plane at this address (unix:PATH)"},
    {.name = "id", .type = OT_OPT_STRING, .def = "replica-0", .help = "name of this replica"},
    {.name = "plugin-path",
     .type = OT_OPT_STRING,
     .value = "DIRS",
     .help = "folders with plug-ins, colon-separated"},
    OT_OPT_DATA_DIR,
};

static const ot_pos serve_pos[] = {
    {.name = "DIR", .help = "a model, or a folder of models", .optional = true}};

const ot_command ot_cli_serve_command = {
    .group = "Parts alone",
    .name = "serve",
    .summary = "serve models over HTTP (Open Inference Protocol)",
    .detail =
        "Alone: every sub-folder of DIR that is a bundle or a model (.onnx, SavedModel), or has "
        "such in numbered folders as Triton and TensorFlow Serving lay them out, is served "
        "under its name; DIR itself may be one. Under a control plane (--agent) it "
        "serves what that one says.\n\nSIGTERM drains: nothing new is accepted, what is in "
        "flight is answered.",
    OT_OPTS(serve_opts),
    OT_POS(serve_pos),
    .run = run_serve};
