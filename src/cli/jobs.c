/* `overtake package` and `overtake evaluate`: the jobs that load a model away from the control
 * plane. */
#include "quality/jobs.h"
#include "cli/commands.h"

static int run_job(const ot_args *args, ot_rc (*job)(const char *spec_path, ot_error *err))
{
    ot_error err = {0};
    return job(ot_args_pos(args, "spec"), &err) == OT_OK ? 0 : ot_cli_fail(args, &err);
}

static int run_package(const ot_args *args)
{
    return run_job(args, ot_package_job);
}

static int run_evaluate(const ot_args *args)
{
    return run_job(args, ot_evaluate_job);
}

static const ot_pos spec_pos[] = {
    {.name = "spec", .help = "a JSON file; it names the file that the result is written to"}};

const ot_command ot_cli_package_command = {
    .name = "package",
    .summary = "make a bundle of a model, with golden answers and references",
    .detail = "SPEC: {\"model\": PATH, \"bundle\": DIR, \"train\": [DIR...], \"held_out\": "
              "[DIR...],\n\"label\": COLUMN, \"lineage\": {...}, \"isolation\": \"none\" or "
              "\"process\", \"result\": FILE}",
    OT_POS(spec_pos),
    .run = run_package,
};
const ot_command ot_cli_evaluate_command = {
    .name = "evaluate",
    .summary = "score one or two bundles on the same labelled rows",
    .detail = "SPEC: {\"bundles\": [{\"name\": NAME, \"dir\": DIR, \"isolation\": \"none\" or "
              "\"process\"}...],\n\"data\": [{\"name\": "
              "NAME, \"dir\": DIR, \"label\": COLUMN}...], \"result\": FILE}",
    OT_POS(spec_pos),
    .run = run_evaluate,
};
