/* Ranks of a job that MPI may connect, on this host: `overtake run --engine mpi`.
 *
 * MPI wants its processes started by its own launcher, and a job wants to be the parent of its
 * ranks. So mpirun starts a stand-in for each, which writes down what mpirun has told it and waits;
 * the rank takes that over before it becomes its program. mpirun is kept by a process that ends it
 * when the job's launcher is gone, however that ended.
 *
 * Threads: start while there is one thread. */
#ifndef OT_LAUNCH_JOB_MPI_H
#define OT_LAUNCH_JOB_MPI_H

#include "base/disk.h"
#include "base/error.h"

#include <stdint.h>

typedef struct ot_job_mpi {
    char dir[OT_PATH_MAX]; /* what mpirun has told each */
    int end;               /* the keeper lives while this is open */
} ot_job_mpi;

/* Blocks until mpirun has started all: a minute at most. */
ot_rc ot_job_mpi_start(int32_t np, ot_job_mpi *out, ot_error *err) OT_CHECKED;
void ot_job_mpi_stop(ot_job_mpi *m); /* waits for its end, 10 s at most */

/* A stand-in, until the end. The exit code. */
int ot_job_mpi_stand_in(const char *dir);
/* In a rank: what its stand-in was told becomes its environment. */
ot_rc ot_job_mpi_take_over(const char *dir, ot_error *err) OT_CHECKED;

#endif
