/* `overtake run --engine mpi`: the job's ranks among MPI's (launch/job_mpi.h).
 *
 * Threads: the main one, while it is alone. */
#ifndef OT_CLI_RUN_MPI_H
#define OT_CLI_RUN_MPI_H

#include "cli/commands.h"
#include "launch/job.h"

/* ot_job_run with the engine that is asked for. */
ot_rc ot_cli_run_ranks(const ot_args *args, ot_job_options *o, ot_job_result *result,
                       ot_error *err) OT_CHECKED;
/* This is a process of such a job: what it does. */
bool ot_cli_run_is_mpis(const ot_args *args);
int ot_cli_run_mpis(const ot_args *args);

#endif
