/* What the files of the engine `mpi` share: mpi.c joins and leaves, calls.c has the operations.
 *
 * Threads: as overtake/engine.h says. */
#ifndef OT_PLUGINS_MPI_ENGINE_H
#define OT_PLUGINS_MPI_ENGINE_H

#include "overtake/engine.h"
#include "overtake/plugin.h" /* the codes */

#include <mpi.h>
#include <stdbool.h>

typedef struct ot_mpi_one {
    void *user;
    int *counts; /* MPI reads them until it is done */
} ot_mpi_one;

/* Operations in flight; the arrays go together. */
typedef struct ot_mpi_flight {
    MPI_Request *requests;
    ot_mpi_one *ones;
    int *indices;
    MPI_Status *statuses;
    int n, cap;
} ot_mpi_flight;

/* Types and operations that MPI has no word for are made with the host's kernels; once. */
int ot_mpi_types(const overtake_engine_host *host, char *message, size_t message_size);
int ot_mpi_takes(int32_t size, const overtake_engine_call *call);
int ot_mpi_start(ot_mpi_flight *f, MPI_Comm comm, int32_t rank, int32_t size,
                 const overtake_engine_call *c, void *user, char *message, size_t message_size);
int ot_mpi_turn(ot_mpi_flight *f, void **users_out, size_t room, size_t *n_out, char *message,
                size_t message_size);

#endif
