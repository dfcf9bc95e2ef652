/* `overtake worker`: what the plug-in host starts for a model with `isolation: process`
 * (runtime/worker.h). */
#include "cli/commands.h"

#include "runtime/worker.h"

static int run(const ot_args *args)
{
    (void)args;
    return ot_runtime_worker();
}

static const ot_pos pos[] = {
    {.name = "NAME", .help = "of the model, for lists of processes", .optional = true}};

const ot_command ot_cli_worker_command = {.name = "worker",
                                          .summary = "run one model for a server",
                                          .hidden = true,
                                          OT_POS(pos),
                                          .run = run};
