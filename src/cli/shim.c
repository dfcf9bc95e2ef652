/* `overtake shim`: what the control plane starts for each run (launch/shim.h). */
#include "cli/commands.h"

#include "launch/shim.h"

static const ot_opt opts[] = {
    {.name = "lock-fd",
     .type = OT_OPT_INT,
     .min = "0",
     .max = "1048576",
     .help = "descriptor of the held lock file; without it the lock is taken"},
    {.name = "spare-fd",
     .type = OT_OPT_INT,
     .min = "0",
     .max = "1048576",
     .help = "descriptor over which its run comes (launch/spare.h); RUNDIR is - then"},
};

static const ot_pos pos[] = {{.name = "RUNDIR", .help = "the run's directory"}};

static int run(const ot_args *args)
{
    if (ot_args_given(args, "spare-fd")) {
        return ot_shim_spare_main((int)ot_args_int(args, "spare-fd"));
    }
    int fd = ot_args_given(args, "lock-fd") ? (int)ot_args_int(args, "lock-fd") : -1;
    return ot_shim_main(ot_args_pos(args, "RUNDIR"), fd);
}

const ot_command ot_cli_shim_command = {.name = "shim",
                                        .summary = "run the program of a run directory",
                                        .hidden = true,
                                        OT_OPTS(opts),
                                        OT_POS(pos),
                                        .run = run};
