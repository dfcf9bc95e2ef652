/* `overtake replay`: a recording of `overtake serve --record`, sent again. */
#include "base/mem.h"
#include "cli/loads.h"
#include "load/replay.h"

static int run_replay(const ot_args *args)
{
    static ot_replay r;
    ot_error err = {0};
    ot_replay_options o;
    ot_replay_options_init(&o);
    o.file = ot_args_pos(args, "FILE");
    o.url = ot_args_pos(args, "URL");
    o.trust = ot_cli_load_trust(args);
    o.model = ot_args_str(args, "model");
    o.connections = (unsigned)ot_args_int(args, "connections");
    o.timeout_ns = (uint64_t)ot_args_us(args, "timeout") * 1000;
    o.stop = ot_cli_load_stop();
    o.protocol = ot_cli_load_protocol(args);
    if (ot_parse_f64(ot_args_str(args, "speed"), &o.speed, &err) != OT_OK || !(o.speed >= 0.001) ||
        o.speed > 1000) {
        return ot_cli_usage(args, "--speed is a factor of 0.001 to 1000");
    }
    if (ot_replay_run(&o, &r, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (ot_args_json(args)) {
        ot_replay_json(&o, &r, &out);
    } else {
        ot_replay_text(&o, &r, &out);
    }
    return ot_cli_print(&out) == 0 && ot_load_result_good(&r.result) ? 0 : 1;
}

static const char *const protocols[] = {"rest", "binary", "grpc", NULL};

static const ot_opt replay_opts[] = {
    {.name = "speed",
     .letter = 's',
     .type = OT_OPT_STRING,
     .value = "X",
     .def = "1",
     .help = "times as fast as it was recorded"},
    {.name = "model",
     .letter = 'm',
     .type = OT_OPT_STRING,
     .value = "NAME",
     .help = "send all to this model instead of each request's own"},
    OT_CLI_LOAD_PROTOCOL_OPT(
        protocols,
        "Open Inference Protocol over REST in JSON or with binary tensors, or over gRPC"),
    OT_CLI_LOAD_CONNECTIONS_OPT("64"),
    OT_CLI_LOAD_TIMEOUT_OPT,
    OT_CLI_LOAD_TLS_OPTS,
};

static const ot_pos replay_pos[] = {
    {.name = "FILE", .help = "what serve --record wrote"},
    {.name = "URL", .help = "http[s]://HOST:PORT of a server"},
};

const ot_command ot_cli_replay_command = {
    .name = "replay",
    .summary = "send recorded requests again at their own times, compare the answers",
    .detail = "The recording is made by `overtake serve --record FILE`. Requests go out when they "
              "came then (open loop), whatever the server does, and answers are compared with the "
              "recorded ones. The exit code is 0 when all agree.",
    OT_OPTS(replay_opts),
    OT_POS(replay_pos),
    .run = run_replay};
