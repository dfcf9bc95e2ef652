/* What an app file may hold: these tables drive parsing, `overtake config show` and the reference.
 */
#include "pipeline/app_tables.h"

#include "launch/hosts.h"
#include "registry/checkpoint.h"

static const char *const kind_choices[] = {"rows", "model", NULL};

static const ot_conf_field data_fields[] = {
    {F(OT_CONF_STR, ot_app_data, path, "path"),
     .help = "A .npz file or a directory of .npy files, relative to this file"},
    {F(OT_CONF_STR, ot_app_data, from, "from"),
     .help =
         "Live traffic joined with its labels: `DEPLOYMENT.labelled`; or what a step makes: its "
         "name"},
    {F(OT_CONF_ENUM, ot_app_data, kind, "kind"), .def = "rows", .choices = kind_choices,
     .help = "What it is: `rows`, or of a step `model`"},
    {F(OT_CONF_STR, ot_app_data, label, "label"), .def = "y",
     .help = "The column that holds the label"},
    {F(OT_CONF_DURATION, ot_app_data, last_us, "last"), .def = "30d",
     .help = "Of traffic: how far back rows are taken"},
    {F(OT_CONF_INT, ot_app_data, max_rows, "max_rows"), .def = "100k", .min = 1, .max = 1e9,
     .help = "Of traffic: at most so many rows, the newest first"},
};
const ot_conf_section ot_conf_data =
    SECTION("data", ot_app_data, data_fields, offsetof(ot_app_data, mark), NULL, NONE);

static const ot_conf_field step_fields[] = {
    {F(OT_CONF_STR, ot_app_step, run, "run"), .required = true,
     .help = "The program, as a shell would run it in this file's folder",
     .example = "python prepare.py"},
    {F(OT_CONF_STRS, ot_app_step, data, "data"),
     .help = "Data sets it is given, each at `$OVERTAKE_DATA/NAME`", .example = "[base]"},
    {F(OT_CONF_STR, ot_app_step, output, "output"), .required = true,
     .help = "What it leaves, relative to the work directory", .example = "out/rows"},
    {F(OT_CONF_ENUM, ot_app_step, makes, "makes"), .def = "rows", .choices = kind_choices,
     .help = "What that is: `rows` or `model`"},
};
const ot_conf_section ot_conf_step =
    SECTION("steps", ot_app_step, step_fields, offsetof(ot_app_step, mark), NULL, NONE);

static const ot_conf_field resources_fields[] = {
    {F(OT_CONF_INT, ot_app_resources, cpu, "cpu"), .def = "1", .min = 1, .max = 4096,
     .help = "CPU cores; also OMP_NUM_THREADS of the program"},
    {F(OT_CONF_INT, ot_app_resources, gpu, "gpu"), .def = "0", .min = 0, .max = 64, .help = "GPUs"},
    {F(OT_CONF_SIZE, ot_app_resources, memory, "memory"), .def = "4GiB", .min = 1 << 20,
     .max = 1e15, .help = "Memory of the program and its children"},
    {F(OT_CONF_SIZE, ot_app_resources, disk, "disk"), .def = "10GiB", .min = 1 << 20, .max = 1e15,
     .help = "What the program may write into its work directory"},
    {F(OT_CONF_SIZE, ot_app_resources, log, "log"), .def = "16MiB", .min = 1024, .max = 1e12,
     .help = "What is kept of its output"},
    {F(OT_CONF_DURATION, ot_app_resources, time_us, "time"), .def = "1h", .min = 1e6, .max = 3e13,
     .help = "Then it is stopped"},
};
_Static_assert(OT_COUNT(resources_fields) <= OT_APP_RESOURCES_MAX, "a mark for each");
const ot_conf_section ot_conf_resources = SECTION("resources", ot_app_resources, resources_fields,
                                                  NONE, NULL, offsetof(ot_app_resources, marks));

static const char *const from_choices[] = {"scratch", "parent", NULL};
const char *const ot_app_engines[] = {"overtake", "mpi", NULL};
const char *const ot_app_wires[] = {"exact", "half", "fp16", "auto", NULL};

static const ot_conf_field train_fields[] = {
    {F(OT_CONF_STR, ot_app_train, run, "run"), .required = true,
     .help = "The program, as a shell would run it in this file's folder",
     .example = "python train.py --epochs 5"},
    {F(OT_CONF_STRS, ot_app_train, data, "data"), .required = true,
     .help = "Data sets it is given, each at `$OVERTAKE_DATA/NAME`", .example = "[base]"},
    {F(OT_CONF_STR, ot_app_train, model, "model"), .required = true,
     .help = "Where it writes the model, relative to its work directory", .example = "out/model"},
    {F(OT_CONF_ENUM, ot_app_train, from, "from"), .def = "scratch", .choices = from_choices,
     .help = "What it begins with: `scratch`, or `parent`: the version that serves, at "
             "`$OVERTAKE_PARENT`; the lineage says which that was"},
    {F(OT_CONF_SECTION, ot_app_train, resources, "resources"), .section = &ot_conf_resources,
     .help = "Limits of the program, all its ranks on this machine together"},
    {F(OT_CONF_INT, ot_app_train, retries, "retries"), .def = "2", .min = 0, .max = 10,
     .help = "Tries again after a failure of the machine, not of the program"},
    {F(OT_CONF_INT, ot_app_train, np, "np"), .def = "0", .min = 0, .max = OT_JOB_SLOTS_MAX,
     .help = "Run it as so many ranks of one job (docs/training.md); 0: all slots of `hosts`, "
             "without hosts one process"},
    {F(OT_CONF_STRS, ot_app_train, hosts, "hosts"),
     .help = "Where the ranks run: `HOST:RANKS` each, or the path of a host file (with a `/`); "
             "else all here",
     .example = "[a:2, b:2]"},
    {F(OT_CONF_ENUM, ot_app_train, engine, "engine"), .def = "overtake", .choices = ot_app_engines,
     .help = "What moves their data: `overtake`, or `mpi`, of ranks on this machine "
             "(docs/training.md)"},
    {F(OT_CONF_ENUM, ot_app_train, wire, "wire"), .def = "exact", .choices = ot_app_wires,
     .help = "What sums of float32 may lose on the way: `exact`, `half`, `fp16` or `auto`, as of "
             "`overtake run`"},
    {F(OT_CONF_STR, ot_app_train, links, "links"),
     .help = "What `overtake tune` has measured of the links: a file in this file's folder, or an "
             "absolute path",
     .example = "links"},
    {F(OT_CONF_INT, ot_app_train, min_np, "min_np"), .def = "0", .min = 0, .max = OT_JOB_SLOTS_MAX,
     .help = "Elastic: ranks that are lost are left behind while so many are left, and replaced; "
             "0: a rank that is lost ends the job"},
    {F(OT_CONF_INT, ot_app_train, max_restarts, "max_restarts"), .def = "0", .min = 0,
     .max = 1000000,
     .help = "Within a run: start the ranks again when one fails, while they make progress"},
    {F(OT_CONF_INT, ot_app_train, checkpoints, "checkpoints"), .def = "2", .min = 0,
     .max = OT_CHECKPOINT_KEEP_MAX,
     .help =
         "How many of what it keeps on the way (`overtake.checkpoint`, docs/training.md) stay in "
         "the registry, the newest; 0: none goes there"},
    {F(OT_CONF_STRS, ot_app_train, warm, "warm"),
     .help = "Python modules that a process which waits for the next training has imported",
     .example = "[tensorflow]"},
};
_Static_assert(OT_COUNT(train_fields) <= OT_APP_TRAIN_KEYS_MAX, "a mark for each");
const ot_conf_section ot_conf_train =
    SECTION("train", ot_app_train, train_fields, offsetof(ot_app_train, mark), NULL,
            offsetof(ot_app_train, marks));

static const ot_conf_field evaluate_fields[] = {
    {F(OT_CONF_FRACTION, ot_app_evaluate, held_out, "held_out"), .def = "20%", .min = 0.01,
     .max = 0.9, .help = "Share of every data set that training never sees, by hash of the row"},
    {F(OT_CONF_STRS, ot_app_evaluate, metrics, "metrics"), .def = "accuracy",
     .help = "What is computed on the held-out rows: accuracy"},
};
static const ot_conf_section evaluate_section =
    SECTION("evaluate", ot_app_evaluate, evaluate_fields, NONE, NULL, NONE);

static const char *const join_choices[] = {"prediction_id", "key", NULL};
static const char *const fallback_choices[] = {"previous", "refuse", NULL};
static const char *const priority_choices[] = {"normal", "high", "low", NULL};
static const char *const isolation_choices[] = {"auto", "none", "process", NULL};

typedef SUB(ot_app_serve, labels) labels_struct;
static const ot_conf_field labels_fields[] = {
    {F(OT_CONF_ENUM, labels_struct, join, "join"), .def = "prediction_id", .choices = join_choices,
     .help = "What a label names its prediction by: `prediction_id` or the caller's own `key`"},
    {F(OT_CONF_DURATION, labels_struct, expected_within_us, "expected_within"), .def = "48h",
     .help = "Labels later than this are still joined, but no longer waited for"},
};
static const ot_conf_section labels_section =
    SECTION("labels", labels_struct, labels_fields, NONE, NULL, NONE);

typedef SUB(ot_app_serve, sample) sample_struct;
static const ot_conf_field sample_fields[] = {
    {F(OT_CONF_FRACTION, sample_struct, rate, "rate"), .def = "100%",
     .help = "Share of the rows that is kept, so that labels can be joined"},
    {F(OT_CONF_SIZE, sample_struct, max, "max"), .def = "2GiB", .min = 1 << 16, .max = 1e15,
     .help = "Then the oldest go"},
    {F(OT_CONF_DURATION, sample_struct, keep_us, "keep"), .def = "30d", .help = "Older rows go"},
};
static const ot_conf_section sample_section =
    SECTION("sample", sample_struct, sample_fields, NONE, NULL, NONE);

static const ot_conf_field serve_fields[] = {
    {F(OT_CONF_NAME, ot_app_serve, deployment, "deployment"), .required = true,
     .help = "The name that answers predictions", .example = "digits"},
    {F(OT_CONF_SECTION, ot_app_serve, labels, "labels"), .section = &labels_section,
     .help = "How labels find their predictions"},
    {F(OT_CONF_SECTION, ot_app_serve, sample, "sample"), .section = &sample_section,
     .help = "What is kept of the traffic"},
    {F(OT_CONF_ENUM, ot_app_serve, fallback, "fallback"), .def = "previous",
     .choices = fallback_choices,
     .help = "What answers when the champion cannot: the `previous` version, or `refuse`"},
    {F(OT_CONF_ENUM, ot_app_serve, priority, "priority"), .def = "normal",
     .choices = priority_choices, .help = "Of requests that bring none: `high`, `normal` or `low`"},
    {F(OT_CONF_DURATION, ot_app_serve, deadline_us, "deadline"), .def = "0s", .max = 3.6e9,
     .help = "Of requests that bring none: what cannot be met is refused at once; 0s: none"},
    {F(OT_CONF_INT, ot_app_serve, concurrency, "concurrency"), .def = "0", .max = 64,
     .help = "Runs of a version at a time, and so its instances; 0: one a thread"},
    {F(OT_CONF_INT, ot_app_serve, queue, "queue"), .def = "0", .max = 1000000,
     .help = "Requests that may wait for long runs; 0: as many as the replica's `--queue`"},
    {F(OT_CONF_SIZE, ot_app_serve, memory, "memory"), .def = "0", .max = 1e15,
     .help = "What a version may take; one that needs more is not loaded; 0: any"},
    {F(OT_CONF_ENUM, ot_app_serve, isolation, "isolation"), .def = "auto",
     .choices = isolation_choices,
     .help = "`process`: each version runs in a sandboxed process of its own; `none`: in the "
             "replica's; `auto`: what was trained here in the replica's, what came another way in "
             "its own"},
    {F(OT_CONF_SIZE, ot_app_serve, process_memory, "process_memory"), .def = "0", .max = 1e15,
     .help = "What a version's own process may hold, its runtime included; one that holds more is "
             "ended and started again; 0: as `--process-memory` of the replica says"},
};
static const ot_conf_section serve_section =
    SECTION("serve", ot_app_serve, serve_fields, offsetof(ot_app_serve, mark), "deployment", NONE);

static const char *const cycles_choices[] = {"none", "daily", "weekly", NULL};
static const ot_conf_field quality_fields[] = {
    {F(OT_CONF_DURATION, ot_app_quality, window_us, "window"), .def = "60s", .min = 1e5,
     .max = 3.6e9, .help = "Counts are collected over windows of this length"},
    {F(OT_CONF_DURATION, ot_app_quality, block_us, "block"), .def = "1h", .min = 1e5,
     .max = 8.64e10, .help = "The unit of evidence: a whole number of windows"},
    {F(OT_CONF_INT, ot_app_quality, blocks_per_day, "blocks_per_day"), .def = "24", .min = 8,
     .max = 1440, .help = "Blocks that make one cycle; day-end evidence is taken after each"},
    {F(OT_CONF_INT, ot_app_quality, baseline_days, "baseline"), .def = "14", .min = 2, .max = 365,
     .help = "Cycles of accepted traffic that the baseline is learnt from"},
    {F(OT_CONF_ENUM, ot_app_quality, cycles, "cycles"), .def = "weekly", .choices = cycles_choices,
     .help = "Regular ups and downs that are no drift: `none`, `daily` or `weekly`"},
    {F(OT_CONF_F64, ot_app_quality, ignore_smaller, "ignore_smaller"), .def = "0.1", .min = 0,
     .max = 10, .help = "Shifts below so many standard deviations are tolerated"},
};
static const ot_conf_section quality_section =
    SECTION("quality", ot_app_quality, quality_fields, NONE, NULL, NONE);

typedef SUB(ot_app_objectives, accuracy) accuracy_struct;
static const ot_conf_field accuracy_fields[] = {
    {F(OT_CONF_FRACTION, accuracy_struct, at_least, "at_least"), .required = true,
     .help = "Share of right answers", .example = "0.93"},
    {F(OT_CONF_DURATION, accuracy_struct, over_us, "over"), .def = "28d", .help = "Over this time"},
};
static const ot_conf_section accuracy_section =
    SECTION("accuracy", accuracy_struct, accuracy_fields, offsetof(accuracy_struct, mark),
            "at_least", NONE);
typedef SUB(ot_app_objectives, latency_p99) latency_struct;
static const ot_conf_field latency_fields[] = {
    {F(OT_CONF_DURATION, latency_struct, at_most_us, "at_most"), .required = true,
     .help = "The 99th percentile of a window", .example = "5ms"},
    {F(OT_CONF_FRACTION, latency_struct, share, "share"), .def = "99%",
     .help = "Share of the windows that must hold it"},
};
static const ot_conf_section latency_section = SECTION(
    "latency_p99", latency_struct, latency_fields, offsetof(latency_struct, mark), "at_most", NONE);
typedef SUB(ot_app_objectives, availability) availability_struct;
static const ot_conf_field availability_fields[] = {
    {F(OT_CONF_FRACTION, availability_struct, at_least, "at_least"), .required = true,
     .help = "Share of requests that were answered", .example = "0.999"},
    {F(OT_CONF_DURATION, availability_struct, over_us, "over"), .def = "28d",
     .help = "Over this time"},
};
static const ot_conf_section availability_section =
    SECTION("availability", availability_struct, availability_fields,
            offsetof(availability_struct, mark), "at_least", NONE);
typedef SUB(ot_app_objectives, false_alarms) false_alarms_struct;
static const ot_conf_field false_alarms_fields[] = {
    {F(OT_CONF_RATE, false_alarms_struct, at_most, "at_most"), .def = "1 per year",
     .help = "All features, metrics and tiers together"},
};
static const ot_conf_section false_alarms_section =
    SECTION("false_alarms", false_alarms_struct, false_alarms_fields, NONE, "at_most", NONE);

static const ot_conf_field objectives_fields[] = {
    {F(OT_CONF_SECTION, ot_app_objectives, accuracy, "accuracy"), .section = &accuracy_section,
     .help = "Proven by labels"},
    {F(OT_CONF_SECTION, ot_app_objectives, latency_p99, "latency_p99"), .section = &latency_section,
     .help = "Time to answer, as the replica measures it"},
    {F(OT_CONF_SECTION, ot_app_objectives, availability, "availability"),
     .section = &availability_section, .help = "Requests answered"},
    {F(OT_CONF_SECTION, ot_app_objectives, false_alarms, "false_alarms"),
     .section = &false_alarms_section, .help = "What quality alarms may cost you"},
};
static const ot_conf_section objectives_section =
    SECTION("objectives", ot_app_objectives, objectives_fields, NONE, NULL, NONE);

static const ot_conf_field retrain_fields[] = {
    {F(OT_CONF_STRS, ot_app_retrain, when, "when"),
     .help = "Conditions, any of which starts a run: see docs/expressions.md",
     .example = "[accuracy.degraded, \"labels.new >= 500\"]"},
    {F(OT_CONF_RATE, ot_app_retrain, at_most, "at_most"), .def = "2 per day",
     .help = "Runs that start by themselves"},
    {F(OT_CONF_CUSTOM, ot_app_retrain, pause_after, "pause_after"), .def = "3 failures",
     .custom = ot_conf_parse_failures, .show = ot_conf_show_failures,
     .help = "Failures in a row, then a person must resume"},
    {F(OT_CONF_DURATION, ot_app_retrain, cool_down_us, "cool_down"), .def = "1h",
     .help = "After a run without promotion, before the next may start"},
};
static const ot_conf_section retrain_section =
    SECTION("retrain", ot_app_retrain, retrain_fields, offsetof(ot_app_retrain, mark), NULL, NONE);

typedef SUB(ot_app, alerts) alerts_struct;
static const ot_conf_field alerts_fields[] = {
    {F(OT_CONF_STR, alerts_struct, webhook, "webhook"),
     .help = "http:// or https:// URL that receives each alert as a JSON POST"},
};
static const ot_conf_section alerts_section =
    SECTION("alerts", alerts_struct, alerts_fields, offsetof(alerts_struct, mark), NULL, NONE);

static const ot_conf_field app_fields[] = {
    {F(OT_CONF_STR, ot_app, schema, "schema"), .required = true, .help = "Always `overtake/1`",
     .example = "overtake/1"},
    {F(OT_CONF_NAME, ot_app, app, "app"), .required = true, .help = "The app's name",
     .example = "digits"},
    {F(OT_CONF_STR, ot_app, owner, "owner"), .def = "", .help = "Who is asked"},
    {F(OT_CONF_CUSTOM, ot_app, data, "data"), .custom = ot_conf_parse_datas,
     .show = ot_conf_show_datas, .section = &ot_conf_data, .help = "Data sets by name"},
    {F(OT_CONF_CUSTOM, ot_app, steps, "steps"), .custom = ot_conf_parse_steps,
     .show = ot_conf_show_steps, .section = &ot_conf_step,
     .help = "Programs that run before the training, in the order of their data"},
    {F(OT_CONF_SECTION, ot_app, train, "train"), .section = &ot_conf_train, .required = true,
     .help = "How a model is made"},
    {F(OT_CONF_SECTION, ot_app, evaluate, "evaluate"), .section = &evaluate_section,
     .help = "How it is judged, by us"},
    {F(OT_CONF_SECTION, ot_app, serve, "serve"), .section = &serve_section, .required = true,
     .help = "Where it answers"},
    {F(OT_CONF_SECTION, ot_app, quality, "quality"), .section = &quality_section,
     .help = "How traffic is watched"},
    {F(OT_CONF_SECTION, ot_app, objectives, "objectives"), .section = &objectives_section,
     .help = "What must hold"},
    {F(OT_CONF_SECTION, ot_app, retrain, "retrain"), .section = &retrain_section,
     .help = "When a new model is made by itself"},
    {F(OT_CONF_CUSTOM, ot_app, release, "release"), .custom = ot_conf_parse_release,
     .show = ot_conf_show_release, .help = "What a new version goes through; see below"},
    {F(OT_CONF_SECTION, ot_app, alerts, "alerts"), .section = &alerts_section,
     .help = "Who is told"},
};
const ot_conf_section ot_conf_app = SECTION("the app", ot_app, app_fields, NONE, NULL, NONE);

static const char *const otherwise_choices[] = {"stop", "roll_back", "continue", NULL};
static const char *const roll_back_choices[] = {"worse_than_previous", "never", NULL};

static const ot_conf_field gate_fields[] = {
    {F(OT_CONF_STR, ot_app_stage, better_on, "better_on"),
     .help = "Data set on whose held-out rows it must beat the champion (sign test, 5%)"},
    {F(OT_CONF_CUSTOM, ot_app_stage, not_worse_on, "not_worse_on"), .custom = ot_conf_parse_margins,
     .show = ot_conf_show_margins,
     .help = "Data sets on which it may lose at most so much accuracy", .example = "{base: 0.02}"},
    {F(OT_CONF_STR, ot_app_stage, require, "require"),
     .help = "A condition over accuracies: `candidate.NAME` and `champion.NAME` on data set NAME"},
};
static const ot_conf_field approval_fields[] = {
    {F(OT_CONF_STRS, ot_app_stage, by, "by"),
     .help = "Who may approve, by the name that the log shows; nobody named: anybody",
     .example = "[anna, ben]"},
    {F(OT_CONF_DURATION, ot_app_stage, at_most_us, "at_most"), .def = "7d",
     .help = "How long a person may take"},
    {F(OT_CONF_ENUM, ot_app_stage, otherwise, "otherwise"), .def = "stop",
     .choices = otherwise_choices, .help = "What then"},
};
static const ot_conf_field shadow_fields[] = {
    {F(OT_CONF_CUSTOM, ot_app_stage, until_compared, "until"), .def = "200 compared",
     .custom = ot_conf_parse_compared, .show = ot_conf_show_compared,
     .help = "Rows on which both versions answered and the label is known"},
    {F(OT_CONF_DURATION, ot_app_stage, at_most_us, "at_most"), .def = "24h",
     .help = "How long at most"},
    {F(OT_CONF_ENUM, ot_app_stage, otherwise, "otherwise"), .def = "stop",
     .choices = otherwise_choices, .help = "What then"},
    {F(OT_CONF_FRACTION, ot_app_stage, alpha, "alpha"), .def = "0.05", .min = 1e-6, .max = 0.5,
     .help = "Chance of a wrong verdict, however often it is looked at"},
};
static const ot_conf_field canary_fields[] = {
    {F(OT_CONF_CUSTOM, ot_app_stage, shares, "shares"), .def = "10%",
     .custom = ot_conf_parse_shares, .show = ot_conf_show_shares,
     .help = "Shares of the traffic, one after the other", .example = "[10%, 50%]"},
    {F(OT_CONF_FRACTION, ot_app_stage, margin, "margin"), .def = "0.01", .min = 1e-4, .max = 0.5,
     .help = "Not worse means: by less than this"},
    {F(OT_CONF_DURATION, ot_app_stage, at_most_us, "at_most"), .def = "24h",
     .help = "How long each share may take"},
    {F(OT_CONF_ENUM, ot_app_stage, otherwise, "otherwise"), .def = "roll_back",
     .choices = otherwise_choices, .help = "What then"},
    {F(OT_CONF_FRACTION, ot_app_stage, alpha, "alpha"), .def = "0.05", .min = 1e-6, .max = 0.5,
     .help = "Chance of a wrong verdict, however often it is looked at"},
};
static const ot_conf_field probation_fields[] = {
    {F(OT_CONF_DURATION, ot_app_stage, for_us, "for"), .def = "24h",
     .help = "The previous version keeps answering in the shadow for so long"},
    {F(OT_CONF_ENUM, ot_app_stage, roll_back_if, "roll_back_if"), .def = "worse_than_previous",
     .choices = roll_back_choices, .help = "On the same rows; or `never`"},
    {F(OT_CONF_FRACTION, ot_app_stage, alpha, "alpha"), .def = "0.05", .min = 1e-6, .max = 0.5,
     .help = "Chance of a wrong verdict, however often it is looked at"},
};
static const ot_conf_field blue_green_fields[] = {
    {F(OT_CONF_CUSTOM, ot_app_stage, until_compared, "until"), .def = "0 compared",
     .custom = ot_conf_parse_compared, .show = ot_conf_show_compared,
     .help = "Before the switch: rows on which it answered in the shadow and the label is known"},
    {F(OT_CONF_DURATION, ot_app_stage, at_most_us, "at_most"), .def = "1h",
     .help = "How long until every replica serves it and the rows are compared; then the release "
             "stops"},
    {F(OT_CONF_DURATION, ot_app_stage, for_us, "keep"), .def = "24h",
     .help = "After the switch the previous version stays loaded for so long, to switch back at "
             "once; with a probation that says it"},
    {F(OT_CONF_ENUM, ot_app_stage, roll_back_if, "roll_back_if"), .def = "worse_than_previous",
     .choices = roll_back_choices, .help = "While it is kept, on the same rows; or `never`"},
    {F(OT_CONF_FRACTION, ot_app_stage, alpha, "alpha"), .def = "0.05", .min = 1e-6, .max = 0.5,
     .help = "Chance of a wrong verdict, however often it is looked at"},
};
const ot_conf_section ot_conf_stages[OT_STAGE_KINDS] = {
    [OT_STAGE_GATE] = OT_CONF_STAGE("gate", gate_fields),
    [OT_STAGE_APPROVAL] = OT_CONF_STAGE("approval", approval_fields),
    [OT_STAGE_SHADOW] = OT_CONF_STAGE("shadow", shadow_fields),
    [OT_STAGE_CANARY] = OT_CONF_STAGE("canary", canary_fields),
    [OT_STAGE_BLUE_GREEN] = OT_CONF_STAGE("blue_green", blue_green_fields),
    [OT_STAGE_PROBATION] = OT_CONF_STAGE("probation", probation_fields),
};
