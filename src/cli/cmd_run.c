/* `overtake run`: a program on many ranks. */
#include "base/disk.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/hosts.h"
#include "cli/run_mpi.h"
#include "launch/job.h"
#include "launch/job_discover.h"
#include "launch/job_manifest.h"
#include "launch/job_spare.h"
#include "launch/job_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static ot_rc read_hosts(const ot_args *args, ot_job_hosts *h, ot_error *err)
{
    const char *script = ot_args_str(args, "host-discovery-script");
    if (script != NULL && !ot_args_given(args, "hosts") && !ot_args_given(args, "hostfile")) {
        return ot_job_discover_now(script, h, err);
    }
    int64_t here = OT_MAX(ot_args_int(args, "np"), ot_args_int(args, "max-np"));
    return ot_cli_hosts_read(args, here, h, err);
}

static void print_json(const ot_job_result *r, bool explain)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_job_result_json(r, &text);
    if (explain && text.len > 0 && text.data[text.len - 1] == '}') {
        text.len--;
        ot_str_adds(&text, ", \"explain\": ");
        ot_job_explain_json(&r->explain, &text);
        ot_str_addc(&text, '}');
    }
    ot_str_addc(&text, '\n');
    (void)ot_cli_print(&text);
}

static void print_explain(const ot_job_options *o, const ot_job_result *r)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (o->explain) {
        ot_job_explain_text(&r->explain, &o->settings, r->slow_host, &text);
        fputs(text.data, stderr);
    }
}

static void print_summary(const ot_job_result *r)
{
    if (r->rank >= 0) {
        fprintf(stderr, "overtake run: the job failed: %s %s\n", r->who, r->why);
        if (r->line[0] != 0) {
            fprintf(stderr, "overtake run:   its last line: %s\n", r->line);
        }
        if (r->log[0] != 0) {
            fprintf(stderr, "overtake run:   its log: %s\n", r->log);
        }
        if (r->error[0] != 0) {
            fprintf(stderr, "overtake run:   its error file: %s\n", r->error);
        }
    } else if (r->why[0] != 0) {
        fprintf(stderr, "overtake run: %s\n", r->why);
    }
}

/* What the ranks are told. */
static ot_rc read_settings(const ot_args *args, ot_settings *s, ot_error *err)
{
    const char *links = ot_args_str(args, "links");
    *s = ot_settings_default();
    s->timeout_us = ot_args_us(args, "timeout");
    s->lowrank = ot_args_int(args, "wire-rank");
    OT_TRY(ot_loss_parse(ot_args_str(args, "wire"), &s->loss, err));
    return links != NULL ? ot_settings_links(links, s, err) : OT_OK;
}

/* The line again for a batch script: what was given, but for what asks for the script. */
static ot_rc put_line(const ot_args *args, const ot_job_options *o, ot_arena *a, const char **words,
                      size_t *n_out, ot_error *err)
{
    static const char *const strings[] = {"output-dir", "bind", "wire", "links", "timeline"};
    static const char *const times[] = {"timeout", "start-timeout", "stopped-after", "grace",
                                        "settle"};
    char text[32];
    size_t n = 0;
    bool good = true;
    words[n++] = "overtake";
    words[n++] = "run";
    for (size_t i = 0; i < OT_COUNT(strings); i++) {
        if (ot_args_given(args, strings[i])) {
            good &= (words[n++] = ot_arena_printf(a, "--%s=%s", strings[i],
                                                  ot_args_str(args, strings[i]))) != NULL;
        }
    }
    for (size_t i = 0; i < OT_COUNT(times); i++) {
        if (ot_args_given(args, times[i])) {
            int64_t us = ot_args_us(args, times[i]), back;
            ot_format_duration(us, text);
            if (ot_parse_duration_us(text, &back, NULL) != OT_OK || back != us) {
                snprintf(text, sizeof text, "%" PRId64 "us", us); /* it was rounded */
            }
            good &= (words[n++] = ot_arena_printf(a, "--%s=%s", times[i], text)) != NULL;
        }
    }
    if (ot_args_given(args, "wire-rank")) {
        good &= (words[n++] = ot_arena_printf(a, "--wire-rank=%" PRId64,
                                              ot_args_int(args, "wire-rank"))) != NULL;
    }
    if (o->explain) {
        words[n++] = "--explain";
    }
    if (o->max_restarts > 0) {
        good &=
            (words[n++] = ot_arena_printf(a, "--max-restarts=%" PRId32, o->max_restarts)) != NULL;
    }
    for (size_t i = 0; i < o->n_env; i++) {
        good &= (words[n++] = ot_arena_printf(a, "--env=%s", o->env[i])) != NULL;
    }
    words[n++] = "--";
    memcpy(words + n, o->argv, o->n_argv * sizeof *words);
    *n_out = n + o->n_argv;
    return good ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for a script");
}

/* --sbatch, --kubernetes: prints what others start the job by. */
static int print_manifest(const ot_args *args, ot_job_options *o)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    ot_arena a;
    ot_arena_init(&a, 16384, 16u << 20);
    o->np = (int32_t)OT_MAX(ot_args_int(args, "np"), (int64_t)1);
    const char **words = ot_arena_calloc(&a, o->n_argv + o->n_env + 19, sizeof *words);
    size_t n = 0;
    ot_rc rc = words != NULL ? OT_OK : ot_fail(&err, OT_EXHAUSTED, "no memory for a script");
    if (rc == OT_OK && ot_args_bool(args, "sbatch")) {
        rc = put_line(args, o, &a, words, &n, &err);
        rc = rc == OT_OK ? ot_job_sbatch(o->np, words, n, &out, &err) : rc;
    } else if (rc == OT_OK) {
        rc = ot_job_kubernetes(o, ot_args_str(args, "name"), ot_args_str(args, "kubernetes"), &out,
                               &err);
    }
    int code = rc == OT_OK ? ot_cli_print(&out) : ot_cli_fail(args, &err);
    ot_arena_done(&a);
    return code;
}

/* How many ranks there are, and may be. */
static ot_rc deal(const ot_args *args, ot_job_hosts *h, ot_job_options *o, ot_error *err)
{
    int32_t np = (int32_t)ot_args_int(args, "np"), slots = 0;
    o->min_np = (int32_t)ot_args_int(args, "min-np");
    o->max_np = (int32_t)ot_args_int(args, "max-np");
    o->discover = ot_args_str(args, "host-discovery-script");
    o->keep_batch = strcmp(ot_args_str(args, "elastic-batch"), "keep") == 0;
    if (o->min_np == 0 &&
        (o->max_np > 0 || o->discover != NULL || ot_args_given(args, "elastic-batch"))) {
        return ot_fail(err, OT_INVALID,
                       "--max-np, --host-discovery-script and --elastic-batch are for elastic "
                       "jobs: give --min-np too");
    }
    for (size_t i = 0; i < h->n && slots < OT_JOB_SLOTS_MAX; i++) {
        slots += h->v[i].slots;
    }
    if (o->min_np > 0 && np == 0) { /* all slots that there are, as many as are wanted */
        np = o->max_np > 0 ? OT_MIN(slots, o->max_np) : slots;
    }
    OT_TRY(ot_job_hosts_deal(h, np, o->min_np > 0, &o->np, err));
    o->max_np = o->max_np > 0 ? o->max_np : o->np;
    return o->min_np <= o->np && o->np <= o->max_np
               ? OT_OK
               : ot_fail(err, OT_INVALID,
                         "%" PRId32 " ranks to begin with; --min-np is %" PRId32
                         " and --max-np %" PRId32,
                         o->np, o->min_np, o->max_np);
}

static int run_job(const ot_args *args, ot_job_hosts *h)
{
    ot_error err = {0};
    ot_job_result result;
    ot_job_options o = {.hosts = h,
                        .ssh = ot_args_given(args, "host-discovery-script")
                                   ? ot_args_str(args, "ssh")
                                   : ot_cli_hosts_ssh(args),
                        .program = ot_args_str(args, "remote-program"),
                        .address = ot_args_str(args, "address"),
                        .output_dir = ot_args_str(args, "output-dir"),
                        .log_limit = ot_args_size(args, "log-limit"),
                        .state_file = ot_args_str(args, "state-file"),
                        .prefix = ot_args_bool(args, "prefix"),
                        .color = isatty(STDOUT_FILENO) != 0,
                        .progress = ot_args_bool(args, "progress") && isatty(STDERR_FILENO) != 0,
                        .input = ot_args_bool(args, "stdin"),
                        .bind_cores = strcmp(ot_args_str(args, "bind"), "core") == 0,
                        .grace_us = ot_args_us(args, "grace"),
                        .settle_us = ot_args_us(args, "settle"),
                        .start_timeout_us = ot_args_us(args, "start-timeout"),
                        .stopped_after_us = ot_args_us(args, "stopped-after"),
                        .timeline = ot_args_str(args, "timeline"),
                        .explain = ot_args_bool(args, "explain"),
                        .max_restarts = (int32_t)ot_args_int(args, "max-restarts"),
                        .version = OT_VERSION};
    const char *prepared = ot_args_str(args, "prepared");
    if (prepared != NULL && sscanf(prepared, "%d:%d", &o.prepared_fd, &o.prepared_pid) != 2) {
        return ot_cli_usage(args, "--prepared: '%.40s' is not FD:PID", prepared);
    }
    o.n_argv = ot_args_rest(args, &o.argv);
    o.n_env = ot_args_list(args, "env", &o.env);
    if (o.n_argv == 0) {
        return ot_cli_usage(args, "what shall be run? overtake run -np 4 -- python train.py");
    }
    if (ot_args_bool(args, "sbatch") || ot_args_str(args, "kubernetes") != NULL) {
        if (ot_args_given(args, "min-np") || ot_args_given(args, "max-np") ||
            ot_args_given(args, "host-discovery-script")) {
            return ot_cli_usage(args, "an elastic job needs its launcher: --sbatch and "
                                      "--kubernetes go without --min-np, --max-np and "
                                      "--host-discovery-script");
        }
        if (strcmp(ot_args_str(args, "engine"), "overtake") != 0) {
            return ot_cli_usage(args, "--sbatch and --kubernetes go without --engine: let the "
                                      "script start the ranks by mpirun");
        }
        return print_manifest(args, &o);
    }
    ot_rc rc = read_hosts(args, h, &err);
    rc = rc == OT_OK ? deal(args, h, &o, &err) : rc;
    rc = rc == OT_OK ? read_settings(args, &o.settings, &err) : rc;
    rc = rc == OT_OK ? ot_cli_run_ranks(args, &o, &result, &err) : rc;
    if (rc != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    if (ot_args_json(args)) {
        print_json(&result, o.explain);
    } else {
        print_summary(&result);
        print_explain(&o, &result);
    }
    return result.code;
}

static int run_run(const ot_args *args)
{
    if (ot_args_bool(args, "agent")) {
        return ot_job_agent_main(OT_VERSION);
    }
    if (ot_cli_run_is_mpis(args)) {
        return ot_cli_run_mpis(args);
    }
    if (ot_args_given(args, "spare")) {
        ot_job_spare s = {.fd = (int)ot_args_int(args, "spare"),
                          .np = (int32_t)ot_args_int(args, "np")};
        s.n_words = ot_args_rest(args, &s.words);
        return ot_job_spare_main(&s);
    }
    ot_job_hosts h = {0};
    int code = run_job(args, &h);
    ot_job_hosts_done(&h);
    return code;
}

static const char *const bind_choices[] = {"core", "none", NULL};
static const char *const engine_choices[] = {"overtake", "mpi", NULL};
static const char *const wire_choices[] = {"exact", "half", "fp16", "auto", NULL};
static const char *const batch_choices[] = {"shrink", "keep", NULL};

static const ot_opt run_opts[] = {
    {.name = "np",
     .letter = 'n',
     .type = OT_OPT_INT,
     .value = "RANKS",
     .min = "1",
     .max = "4096",
     .help = "how many processes; all slots of the hosts when not given (here: 1)",
     .env = ""},
    {.name = "hosts",
     .letter = 'H',
     .type = OT_OPT_STRING,
     .value = "HOST:RANKS,...",
     .help = "where they run, in this order; else all here, or in the Slurm allocation",
     .env = ""},
    OT_CLI_HOSTS_OPTS,
    {.name = "min-np",
     .type = OT_OPT_INT,
     .value = "RANKS",
     .def = "0",
     .min = "0",
     .max = "4096",
     .help =
         "elastic: ranks that are lost are left behind while so many are left, and replaced; 0: "
         "a rank that is lost ends the job",
     .env = ""},
    {.name = "max-np",
     .type = OT_OPT_INT,
     .value = "RANKS",
     .def = "0",
     .min = "0",
     .max = "4096",
     .help = "elastic: it grows to so many, where hosts have slots; 0: as many as it began with",
     .env = ""},
    {.name = "host-discovery-script",
     .type = OT_OPT_STRING,
     .value = "COMMAND",
     .help = "elastic: prints 'host:slots' lines, asked every 5 s: hosts are added, and drained",
     .env = ""},
    {.name = "elastic-batch",
     .type = OT_OPT_STRING,
     .value = "WHICH",
     .def = "shrink",
     .choices = batch_choices,
     .help = "elastic: with fewer ranks a step takes fewer rows (shrink), or each rank takes more "
             "(keep); programs ask overtake.elastic.batch_size",
     .env = ""},
    {.name = "output-dir",
     .type = OT_OPT_STRING,
     .value = "DIR",
     .help = "keep what each rank prints there, in rank-N.log",
     .env = ""},
    {.name = "log-limit",
     .type = OT_OPT_SIZE,
     .def = "0",
     .help = "of these files together: each keeps its begin and its end; 0: no limit",
     .env = ""},
    {.name = "state-file",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "how the job goes as JSON, once a second, and at the end how it ended",
     .env = ""},
    {.name = "prefix",
     .type = OT_OPT_BOOL,
     .def = "yes",
     .help = "put [rank] before each line; --no-prefix hands bytes on as they come",
     .env = ""},
    {.name = "progress",
     .type = OT_OPT_BOOL,
     .def = "yes",
     .help = "on a terminal: a line with steps/s, bytes/s and the slowest rank",
     .env = ""},
    {.name = "stdin",
     .type = OT_OPT_BOOL,
     .help = "rank 0 reads what comes on standard input; else nobody does",
     .env = ""},
    {.name = "bind",
     .type = OT_OPT_STRING,
     .value = "TO",
     .def = "none",
     .choices = bind_choices,
     .help = "core: each rank keeps to its share of a host's cores",
     .env = ""},
    {.name = "engine",
     .type = OT_OPT_STRING,
     .value = "NAME",
     .def = "overtake",
     .choices = engine_choices,
     .help = "what moves the data: overtake, or mpi, of ranks on this host (docs/training.md)",
     .env = ""},
    {.name = "wire",
     .type = OT_OPT_STRING,
     .value = "BITS",
     .def = "exact",
     .choices = wire_choices,
     .help =
         "what sums of float32 may lose on the way where that is faster: exact: nothing; half: "
         "to bfloat16; fp16: to binary16; auto: to int8 or low rank, what is lost is made up for "
         "later",
     .env = ""},
    {.name = "wire-rank",
     .type = OT_OPT_INT,
     .value = "N",
     .def = "4",
     .min = "0",
     .max = "64",
     .help = "with --wire auto: columns that stand for a matrix of gradients; 0: no low rank",
     .env = ""},
    {.name = "links",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "what overtake tune has measured of the links",
     .env = ""},
    {.name = "timeline",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "when each rank did what, tensor by tensor, for Perfetto or chrome://tracing",
     .env = ""},
    {.name = "explain",
     .type = OT_OPT_BOOL,
     .help = "say at the end what bounds a step: compute, the wire, a straggler or input",
     .env = ""},
    {.name = "timeout",
     .type = OT_OPT_DURATION,
     .def = "0s",
     .max = "7d",
     .help = "an operation that takes longer fails and names who lacks; 0s: never",
     .env = ""},
    {.name = "start-timeout",
     .type = OT_OPT_DURATION,
     .def = "10min",
     .max = "7d",
     .help = "for all ranks to reach init; 0s: for ever",
     .env = ""},
    {.name = "stopped-after",
     .type = OT_OPT_DURATION,
     .def = "60s",
     .max = "7d",
     .help = "a rank that is stopped (SIGSTOP) for longer has failed; 0s: never",
     .env = ""},
    {.name = "max-restarts",
     .type = OT_OPT_INT,
     .value = "TIMES",
     .def = "0",
     .min = "0",
     .max = "1000000",
     .help = "start the whole job again when it fails, while it makes progress",
     .env = ""},
    {.name = "grace",
     .type = OT_OPT_DURATION,
     .def = "10s",
     .max = "1h",
     .help = "between SIGTERM and SIGKILL",
     .env = ""},
    {.name = "settle",
     .type = OT_OPT_DURATION,
     .def = "2s",
     .max = "1h",
     .help = "after a failure: for the other ranks to say what they know, before SIGTERM",
     .env = ""},
    {.name = "remote-program",
     .type = OT_OPT_STRING,
     .value = "PATH",
     .help = "overtake on the other hosts; the path that it has here when not given",
     .env = ""},
    {.name = "sbatch",
     .type = OT_OPT_BOOL,
     .help = "run nothing: print a script for Slurm's sbatch",
     .env = ""},
    {.name = "kubernetes",
     .type = OT_OPT_STRING,
     .value = "IMAGE",
     .help = "run nothing: print objects for kubectl, a Job of one pod a rank",
     .env = ""},
    {.name = "name",
     .type = OT_OPT_STRING,
     .def = "overtake",
     .help = "of the Job and its parts in Kubernetes",
     .env = ""},
    {.name = "agent",
     .type = OT_OPT_BOOL,
     .help = "what the launcher starts on each host; speaks with it on standard input and output",
     .env = ""},
    {.name = "mpi-stand-in",
     .type = OT_OPT_STRING,
     .value = "DIR",
     .help = "what mpirun starts in the place of a rank: writes down what it is told",
     .env = ""},
    {.name = "mpi-rank",
     .type = OT_OPT_STRING,
     .value = "DIR",
     .help = "takes over what a stand-in was told, and becomes the program",
     .env = ""},
    {.name = "spare",
     .type = OT_OPT_INT,
     .value = "FD",
     .min = "3",
     .max = "1048576",
     .help = "what waits for a training with train.warm: ranks that have imported; it is spoken to "
             "over FD",
     .env = ""},
    {.name = "prepared",
     .type = OT_OPT_STRING,
     .value = "FD:PID",
     .help = "the agent of this host is there already",
     .env = ""},
};

const ot_command ot_cli_run_command = {
    .group = "Train",
    .name = "run",
    .summary = "run a program on many ranks, here and on other hosts, as one job",
    .detail =
        "Each rank finds its number and the others through its environment (docs/training.md); "
        "scripts for torchrun's and Horovod's variables find theirs too. What becomes of a rank is "
        "told to all others at once. The exit code is that of the first rank that failed (128 + "
        "signal), and a summary names it; then the others get --settle to say what they know, "
        "SIGTERM, and after --grace SIGKILL. Nothing is left behind, on no host. A first Ctrl-C is "
        "handed on to the ranks, a second kills them; SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are "
        "handed on too.",
    OT_OPTS(run_opts),
    .rest = true,
    .run = run_run};
