/* The engine `mpi`: operations of the group of all ranks as nonblocking collectives of MPI, one
 * communicator a lane.
 *
 * MPI is begun once a process and ended at its exit: it can't begin again. It is not ended when a
 * job was left behind, as that would wait for ranks that may be no more. Buffers of operations that
 * are left behind may still be written by other ranks, until these leave too.
 *
 * Threads: as the header of engines says; if the program calls MPI itself, from its own as well. */
#include "mpi_engine.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANES_MAX 16
#define LEAVE_NS 1000000000

static struct {
    MPI_Comm lanes[LANES_MAX];
    int32_t n_lanes, rank, size;
    bool may_end; /* we began it, and nothing is left behind */
    char version[32];
    ot_mpi_flight flight;
} here;

static int say(char *message, size_t size, int code, int mpi, const char *what)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (mpi != MPI_SUCCESS) {
        MPI_Error_string(mpi, text, &n);
    }
    snprintf(message, size, "%s%s%s", what, n > 0 ? ": " : "", text);
    return code;
}

/* Who started this process told it so in one of these. */
static bool launched(void)
{
    static const char *const names[] = {"PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (getenv(names[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static int check(int32_t size, char *message, size_t message_size)
{
    int begun = 0, ended = 0, level = 0;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (ended) {
        return say(message, message_size, OVERTAKE_PRECONDITION, MPI_SUCCESS,
                   "this program has called MPI_Finalize, and MPI can't begin again in one "
                   "process: call overtake_init before it");
    }
    if (begun) {
        MPI_Query_thread(&level);
        if (level < MPI_THREAD_MULTIPLE) {
            return say(message, message_size, OVERTAKE_PRECONDITION, MPI_SUCCESS,
                       "this program has begun MPI without MPI_THREAD_MULTIPLE, and Overtake calls "
                       "it from a thread of its own: call MPI_Init_thread with "
                       "MPI_THREAD_MULTIPLE, or let overtake_init begin MPI");
        }
        return 0;
    }
    return size == 1 || launched()
               ? 0
               : say(message, message_size, OVERTAKE_PRECONDITION, MPI_SUCCESS,
                     "no launcher of MPI has started this process: start the ranks with mpirun");
}

/* Components of an MPI library may look for its names among the global ones. */
static void make_global(void)
{
    Dl_info info;
    union {
        int (*f)(int *, char ***, int, int *);
        const void *p;
    } at = {.f = MPI_Init_thread};
    if (dladdr(at.p, &info) != 0 && info.dli_fname != NULL) {
        (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    }
}

static void at_exit(void)
{
    int ended = 0;
    MPI_Finalized(&ended);
    if (here.may_end && !ended) {
        MPI_Finalize();
    }
}

static int begin(char *message, size_t message_size)
{
    int begun = 0, level = MPI_THREAD_MULTIPLE;
    MPI_Initialized(&begun);
    if (begun) {
        return 0;
    }
    make_global();
    int rc = MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level);
    if (rc != MPI_SUCCESS) {
        return say(message, message_size, OVERTAKE_UNAVAILABLE, rc, "MPI_Init_thread");
    }
    atexit(at_exit);
    return level >= MPI_THREAD_SERIALIZED
               ? 0
               : say(message, message_size, OVERTAKE_PRECONDITION, MPI_SUCCESS,
                     "this MPI allows no calls from a second thread (MPI_THREAD_SERIALIZED): "
                     "install one that does");
}

/* Communicators of the job's numbers, whatever MPI's are. */
static int make_lanes(int32_t rank, int32_t size, int32_t lanes, char *message, size_t n)
{
    int world = 0, rc;
    MPI_Comm_size(MPI_COMM_WORLD, &world);
    if (world != size) {
        snprintf(message, n,
                 "MPI has %d processes and the job has %d: start exactly the job's ranks with one "
                 "mpirun",
                 world, (int)size);
        return OVERTAKE_PRECONDITION;
    }
    if (lanes > LANES_MAX) {
        return say(message, n, OVERTAKE_PRECONDITION, MPI_SUCCESS, "too many lanes");
    }
    rc = MPI_Comm_split(MPI_COMM_WORLD, 0, rank, &here.lanes[0]);
    for (int32_t i = 1; i < lanes && rc == MPI_SUCCESS; i++) {
        rc = MPI_Comm_dup(here.lanes[0], &here.lanes[i]);
    }
    for (int32_t i = 0; i < lanes && rc == MPI_SUCCESS; i++) {
        rc = MPI_Comm_set_errhandler(here.lanes[i], MPI_ERRORS_RETURN);
    }
    if (rc != MPI_SUCCESS) {
        return say(message, n, OVERTAKE_UNAVAILABLE, rc, "communicators");
    }
    here.n_lanes = lanes;
    here.rank = rank;
    here.size = size;
    return 0;
}

static int join(const overtake_engine_host *host, int32_t rank, int32_t size, int32_t lanes,
                char *message, size_t message_size)
{
    here.may_end = false;
    int rc = begin(message, message_size);
    bool again = here.n_lanes >= lanes && here.rank == rank && here.size == size;
    if (rc == 0 && !again) {
        rc = make_lanes(rank, size, lanes, message, message_size);
    }
    return rc != 0 ? rc : ot_mpi_types(host, message, message_size);
}

static int takes(const overtake_engine_call *call)
{
    return ot_mpi_takes(here.size, call);
}

static int start(int32_t lane, const overtake_engine_call *call, void *user, char *message,
                 size_t message_size)
{
    return ot_mpi_start(&here.flight, here.lanes[lane], here.rank, here.size, call, user, message,
                        message_size);
}

static int turn(void **users_out, size_t room, size_t *n_out, char *message, size_t message_size)
{
    return ot_mpi_turn(&here.flight, users_out, room, n_out, message, message_size);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What is done here may still lie in MPI's own queues, and moves only inside its calls: all ranks
 * that leave now move it on together. */
static bool flush(void)
{
    int64_t until = now_ns() + LEAVE_NS;
    MPI_Request r;
    int done = MPI_Ibarrier(here.lanes[0], &r) != MPI_SUCCESS;
    while (!done && now_ns() < until) {
        if (MPI_Test(&r, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return done;
}

static void leave(void)
{
    here.may_end = flush();
}

const overtake_engine *overtake_engine_get(void)
{
    static overtake_engine table = {.struct_size = sizeof table,
                                    .abi = OVERTAKE_ENGINE_ABI,
                                    .name = "mpi",
                                    .version = here.version,
                                    .check = check,
                                    .join = join,
                                    .takes = takes,
                                    .start = start,
                                    .turn = turn,
                                    .leave = leave};
#ifdef OMPI_MAJOR_VERSION
    snprintf(here.version, sizeof here.version, "Open MPI %d.%d.%d", OMPI_MAJOR_VERSION,
             OMPI_MINOR_VERSION, OMPI_RELEASE_VERSION);
#else
    snprintf(here.version, sizeof here.version, "MPI %d.%d", MPI_VERSION, MPI_SUBVERSION);
#endif
    return &table;
}
