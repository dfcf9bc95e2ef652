#include "cli/hosts.h"

#include "base/disk.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define HOSTFILE_MAX (1u << 20)
/* One step a node for its agent; frames must not wait for the end of a line. */
#define SRUN "srun --nodes=1 --ntasks=1 --overlap --unbuffered --export=ALL --nodelist"

/* Inside an allocation of Slurm, and no hosts were given. */
static bool in_slurm(const ot_args *args)
{
    return getenv("SLURM_JOB_ID") != NULL && getenv("SLURM_JOB_NODELIST") != NULL &&
           !ot_args_given(args, "hosts") && !ot_args_given(args, "hostfile");
}

ot_rc ot_cli_hosts_read(const ot_args *args, int64_t here, ot_job_hosts *h, ot_error *err)
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
    char local[64];
    snprintf(local, sizeof local, "localhost:%" PRId64, here > 0 ? here : 1);
    return ot_job_hosts_list(h, local, err);
}

const char *ot_cli_hosts_ssh(const ot_args *args)
{
    return in_slurm(args) && !ot_args_given(args, "ssh") ? SRUN : ot_args_str(args, "ssh");
}
