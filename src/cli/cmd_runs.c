/* `overtake runs`, `logs`, `checkpoints`, `cancel`: programs that were started. */
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/view.h"

#include <errno.h>
#include <stdio.h>

static int run_runs(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_str_adds(&target, "/api/v1/runs");
    ot_cli_query(&target, "app", ot_args_str(args, "app"));
    ot_cli_query_i64(&target, "limit", ot_args_int(args, "limit"));
    return ot_cli_client_run(args, "GET", &target, NULL, ot_cli_view_runs);
}

/* /api/v1/runs/N and what follows; false: RUN is not a number. */
static bool run_target(const ot_args *args, const char *suffix, ot_str *target)
{
    int64_t run;
    if (ot_parse_i64(ot_args_pos(args, "RUN"), &run, NULL) != OT_OK || run < 1) {
        return false;
    }
    ot_cli_target(target, "/api/v1/runs/", ot_args_pos(args, "RUN"), suffix);
    return true;
}

static int not_a_run(const ot_args *args)
{
    return ot_cli_usage(args, "RUN: '%.40s' is not the number of a run; overtake runs lists them",
                        ot_args_pos(args, "RUN"));
}

static ot_rc write_out(void *arg, const char *p, size_t n, ot_error *err)
{
    (void)arg;
    if (fwrite(p, 1, n, stdout) == n && fflush(stdout) == 0) {
        return OT_OK;
    }
    return errno == EPIPE ? ot_fail(err, OT_CANCELLED, "the pipe was closed")
                          : ot_fail_errno(err, errno, "the output could not be written");
}

static int run_logs(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_error err = {0};
    ot_cli_client *c = NULL;
    if (!run_target(args, "/log", &target)) {
        return not_a_run(args);
    }
    bool follow = ot_args_bool(args, "follow");
    ot_cli_query(&target, "follow", follow ? "1" : NULL);
    if (ot_args_given(args, "rank")) {
        ot_cli_query_i64(&target, "rank", ot_args_int(args, "rank"));
    }
    ot_rc rc = ot_cli_client_open(args, &c, &err);
    if (rc == OT_OK && follow) {
        rc = ot_cli_client_patient(c, &err); /* a program may be silent for hours */
    }
    if (rc == OT_OK) {
        rc = ot_cli_client_stream(c, target.data, write_out, NULL, &err);
    }
    ot_cli_client_close(c);
    return rc == OT_OK ? 0 : rc == OT_CANCELLED ? 1 : ot_cli_fail(args, &err);
}

static int run_checkpoints(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    if (!run_target(args, "/checkpoints", &target)) {
        return not_a_run(args);
    }
    return ot_cli_client_run(args, "GET", &target, NULL, ot_cli_view_checkpoints);
}

static void print_cancelled(const json_t *answer, ot_str *out)
{
    ot_str_addf(out, "run %lld is asked to stop\n", (long long)ot_cli_int(answer, "run"));
}

static int run_cancel(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    if (!run_target(args, "/cancel", &target)) {
        return not_a_run(args);
    }
    return ot_cli_client_run(args, "POST", &target, NULL, print_cancelled);
}

static const ot_opt runs_opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "app", .type = OT_OPT_STRING, .help = "only runs of this app", .env = ""},
    {.name = "limit",
     .type = OT_OPT_INT,
     .def = "20",
     .min = "1",
     .max = "1000",
     .help = "so many, the newest first",
     .env = ""},
};
static const ot_opt logs_opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "follow",
     .letter = 'f',
     .type = OT_OPT_BOOL,
     .help = "until the run has ended",
     .env = ""},
    {.name = "rank",
     .type = OT_OPT_INT,
     .min = "0",
     .max = "4095",
     .help = "what this rank of a training printed",
     .env = ""},
};
static const ot_opt checkpoints_opts[] = {OT_CLI_CLIENT_OPTS};
static const ot_opt cancel_opts[] = {OT_CLI_CLIENT_OPTS};
static const ot_pos run_pos[] = {{.name = "RUN", .help = "a run's number"}};

const ot_command ot_cli_runs_command = {
    .name = "runs", .summary = "list runs, the newest first", OT_OPTS(runs_opts), .run = run_runs};
const ot_command ot_cli_logs_command = {
    .name = "logs",
    .summary = "print what a run's program wrote",
    OT_OPTS(logs_opts),
    OT_POS(run_pos),
    .run = run_logs,
};
const ot_command ot_cli_checkpoints_command = {
    .name = "checkpoints",
    .summary = "list what a training kept on the way, the newest first",
    .detail = "What the program kept with overtake.checkpoint (docs/training.md) and the registry "
              "has: of\n"
              "the training that the run belongs to, with all tries of it.\n",
    OT_OPTS(checkpoints_opts),
    OT_POS(run_pos),
    .run = run_checkpoints,
};
const ot_command ot_cli_cancel_command = {
    .name = "cancel",
    .summary = "stop a run",
    OT_OPTS(cancel_opts),
    OT_POS(run_pos),
    .run = run_cancel,
};
