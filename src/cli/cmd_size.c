/* `overtake size`: cores and replicas for a rate and a latency. */
#include "base/mem.h"
#include "cli/loads.h"
#include "load/size.h"

static int run_size(const ot_args *args)
{
    ot_error err = {0};
    ot_size_options o;
    ot_size s;
    ot_size_options_init(&o);
    o.model = ot_args_pos(args, "MODEL");
    o.plugin_path = ot_args_str(args, "plugin-path");
    o.p99_ns = (uint64_t)ot_args_us(args, "p99") * 1000;
    o.rate = (double)ot_args_int(args, "rate");
    o.headroom = ot_args_fraction(args, "headroom");
    o.replica_cores = (unsigned)ot_args_int(args, "replica-cores");
    o.step_ns = (uint64_t)ot_args_us(args, "step") * 1000;
    o.load.rows = ot_args_int(args, "rows");
    o.load.open_dim = ot_args_int(args, "open-dim");
    o.load.data = ot_args_str(args, "data");
    ot_rc rc = ot_size_run(&o, &s, &err);
    if (rc != OT_OK && !(rc == OT_PRECONDITION && s.n_tries > 0)) {
        return ot_cli_fail(args, &err);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (!ot_args_json(args)) {
        ot_size_text(&o, &s, &out);
    } else if (rc == OT_OK) {
        ot_size_json(&o, &s, &out);
    }
    int code = ot_cli_print(&out);
    return rc == OT_OK ? code : ot_cli_fail(args, &err);
}

static const ot_opt size_opts[] = {
    {.name = "p99",
     .type = OT_OPT_DURATION,
     .required = true,
     .min = "1us",
     .max = "1h",
     .help = "99 of 100 answers within this time"},
    {.name = "rate",
     .letter = 'r',
     .type = OT_OPT_INT,
     .required = true,
     .min = "1",
     .max = "1000000000",
     .help = "requests a second to serve"},
    {.name = "headroom",
     .type = OT_OPT_FRACTION,
     .def = "25%",
     .min = "0%",
     .max = "90%",
     .help = "share of each core to keep free for peaks"},
    {.name = "replica-cores",
     .type = OT_OPT_INT,
     .def = "4",
     .min = "1",
     .max = "64",
     .help = "cores of a replica"},
    {.name = "step",
     .type = OT_OPT_DURATION,
     .def = "2s",
     .min = "100ms",
     .max = "10min",
     .help = "how long each measurement takes"},
    OT_CLI_LOAD_INPUT_OPTS,
    {.name = "plugin-path",
     .type = OT_OPT_STRING,
     .value = "DIRS",
     .help = "folders with plug-ins, colon-separated"},
};

static const ot_pos size_pos[] = {{.name = "MODEL", .help = "a model, as serve takes it"}};

const ot_command ot_cli_size_command = {
    .name = "size",
    .summary = "measure a model here and answer with the cores and replicas that a rate needs",
    .detail =
        "Starts a replica of one worker on the model, sends it load on its own, and looks for "
        "the highest rate at which a core holds the latency. A latency that no rate holds is "
        "refused with the figures.",
    OT_OPTS(size_opts),
    OT_POS(size_pos),
    .run = run_size};
