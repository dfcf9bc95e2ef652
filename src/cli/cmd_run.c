/* `overtake run`: a program on many ranks. */
#include "base/disk.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "launch/job.h"
#include "launch/job_manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOSTFILE_MAX (1u << 20)
/* One step a node for its agent; frames must not wait for the end of a line. */
#define SRUN "srun --nodes=1 --ntasks=1 --overlap --unbuffered --export=ALL --nodelist"

/* Inside an allocation of Slurm, and no hosts were given. */
static bool in_slurm(const ot_args *args)
{
    return getenv("SLURM_JOB_ID") != NULL && getenv("SLURM_JOB_NODELIST") != NULL &&
           !ot_args_given(args, "hosts") && !ot_args_given(args, "hostfile");
}

static ot_rc read_hosts(const ot_args *args, ot_job_hosts *h, ot_error *err)
{
    const char *list = ot_args_str(args, "hosts"), *file = ot_args_str(args, "hostfile");
    if (list != NULL && file != NULL) {
        return ot_fail(err, OT_INVALID, "--hosts and --hostfile say the same: give one of them");
    }
    if (list != NULL) {
        return ot_job_hosts_list(h, list, err);
    }
    if (file != NULL) {
        OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
        OT_TRY(ot_disk_read_all(ot_disk_posix(), file, HOSTFILE_MAX, &text, err));
        return ot_job_hosts_file(h, text.data, file, err);
    }
    if (in_slurm(args)) {
        const char *tasks = getenv("SLURM_TASKS_PER_NODE");
        return ot_job_hosts_slurm(h, getenv("SLURM_JOB_NODELIST"), tasks != NULL ? tasks : "1",
                                  err);
    }
    char here[64];
    int64_t np = ot_args_int(args, "np");
    snprintf(here, sizeof here, "localhost:%" PRId64, np > 0 ? np : 1);
    return ot_job_hosts_list(h, here, err);
}

static void print_json(const ot_job_result *r)
{
    json_t *j = json_pack("{s:i,s:i}", "code", r->code, "restarts", (int)r->restarts);
    if (r->why[0] != 0) {
        (void)json_object_set_new(j, "why", json_string(r->why));
    }
    if (r->rank >= 0) {
        json_t *more = json_pack("{s:i,s:s,s:I,s:s*,s:s*}", "rank", (int)r->rank, "host", r->host,
                                 "pid", (json_int_t)r->pid, "last_line",
                                 r->line[0] ? r->line : NULL, "log", r->log[0] ? r->log : NULL);
        (void)json_object_update(j, more);
        json_decref(more);
    }
    (void)ot_cli_print_json(j);
    json_decref(j);
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
    OT_TRY(ot_loss_parse(ot_args_str(args, "wire"), &s->loss, err));
    if (links == NULL) {
        return OT_OK;
    }
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), links, HOSTFILE_MAX, &text, err));
    ot_rc rc = ot_cost_parse(text.data, &s->cost, err);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "%s", links);
}

/* The line again for a batch script: what was given, but for what asks for the script. */
static ot_rc put_line(const ot_args *args, const ot_job_options *o, ot_arena *a, const char **words,
                      size_t *n_out, ot_error *err)
{
    static const char *const strings[] = {"output-dir", "bind", "wire", "links"};
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
    const char **words = ot_arena_calloc(&a, o->n_argv + o->n_env + 16, sizeof *words);
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

static int run_job(const ot_args *args, ot_job_hosts *h)
{
    ot_error err = {0};
    ot_job_result result;
    ot_job_options o = {
        .hosts = h,
        .ssh = in_slurm(args) && !ot_args_given(args, "ssh") ? SRUN : ot_args_str(args, "ssh"),
        .program = ot_args_str(args, "remote-program"),
        .address = ot_args_str(args, "address"),
        .output_dir = ot_args_str(args, "output-dir"),
        .prefix = ot_args_bool(args, "prefix"),
        .color = isatty(STDOUT_FILENO) != 0,
        .progress = ot_args_bool(args, "progress") && isatty(STDERR_FILENO) != 0,
        .input = ot_args_bool(args, "stdin"),
        .bind_cores = strcmp(ot_args_str(args, "bind"), "core") == 0,
        .grace_us = ot_args_us(args, "grace"),
        .settle_us = ot_args_us(args, "settle"),
        .start_timeout_us = ot_args_us(args, "start-timeout"),
        .stopped_after_us = ot_args_us(args, "stopped-after"),
        .max_restarts = (int32_t)ot_args_int(args, "max-restarts"),
        .version = OT_VERSION};
    o.n_argv = ot_args_rest(args, &o.argv);
    o.n_env = ot_args_list(args, "env", &o.env);
    if (o.n_argv == 0) {
        return ot_cli_usage(args, "what shall be run? overtake run -np 4 -- python train.py");
    }
    if (ot_args_bool(args, "sbatch") || ot_args_str(args, "kubernetes") != NULL) {
        return print_manifest(args, &o);
    }
    ot_rc rc = read_hosts(args, h, &err);
    rc = rc == OT_OK ? ot_job_hosts_deal(h, (int32_t)ot_args_int(args, "np"), &o.np, &err) : rc;
    rc = rc == OT_OK ? read_settings(args, &o.settings, &err) : rc;
    rc = rc == OT_OK ? ot_job_run(&o, &result, &err) : rc;
    if (rc != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    if (ot_args_json(args)) {
        print_json(&result);
    } else {
        print_summary(&result);
    }
    return result.code;
}

static int run_run(const ot_args *args)
{
    if (ot_args_bool(args, "agent")) {
        return ot_job_agent_main(OT_VERSION);
    }
    ot_job_hosts h = {0};
    int code = run_job(args, &h);
    ot_job_hosts_done(&h);
    return code;
}

static const char *const bind_choices[] = {"core", "none", NULL};
static const char *const wire_choices[] = {"exact", "half", "auto", NULL};

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
    {.name = "hostfile",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "the same from a file: lines 'host:4' or 'host slots=4'",
     .env = ""},
    {.name = "env",
     .letter = 'x',
     .type = OT_OPT_STRINGS,
     .value = "NAME[=VALUE]",
     .help = "a variable for the ranks, on all hosts",
     .env = ""},
    {.name = "output-dir",
     .type = OT_OPT_STRING,
     .value = "DIR",
     .help = "keep what each rank prints there, in rank-N.log",
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
    {.name = "wire",
     .type = OT_OPT_STRING,
     .value = "BITS",
     .def = "exact",
     .choices = wire_choices,
     .help = "what sums of float32 may lose on the way where that is faster: exact: nothing; half: "
             "to bfloat16; auto: to int8 too, what is lost is made up for in the next step",
     .env = ""},
    {.name = "links",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "what overtake tune has measured of the links",
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
    {.name = "ssh",
     .type = OT_OPT_STRING,
     .value = "COMMAND",
     .def = "ssh -o BatchMode=yes -o ServerAliveInterval=5",
     .help = "what runs a command on another host; the host's name follows",
     .env = ""},
    {.name = "remote-program",
     .type = OT_OPT_STRING,
     .value = "PATH",
     .help = "overtake on the other hosts; the path that it has here when not given",
     .env = ""},
    {.name = "address",
     .type = OT_OPT_STRING,
     .value = "IP",
     .help = "where the other hosts reach this one; all that it has are tried when not given",
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
