#include "mpi_engine.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* BOOL, F16, BF16: bytes of their own type, reduced by the host as everywhere else. */
enum { OWN_BOOL, OWN_F16, OWN_BF16, OWNS };
static const int own_dtypes[OWNS] = {OVERTAKE_BOOL, OVERTAKE_F16, OVERTAKE_BF16};
static MPI_Datatype own_types[OWNS];
static MPI_Op own_ops[OVERTAKE_REDUCTIONS];
static void (*reduce)(int32_t, int32_t, void *, const void *, const void *, uint64_t);

static void own(int reduction, void *in, void *inout, const int *n, const MPI_Datatype *type)
{
    for (int i = 0; i < OWNS; i++) {
        if (*type == own_types[i]) {
            reduce(reduction, own_dtypes[i], inout, in, inout, (uint64_t)*n);
        }
    }
}

/* MPI says neither which operation it is nor whose. */
static void own_sum(void *in, void *inout, int *n, MPI_Datatype *type)
{
    own(OVERTAKE_SUM, in, inout, n, type);
}

static void own_min(void *in, void *inout, int *n, MPI_Datatype *type)
{
    own(OVERTAKE_MIN, in, inout, n, type);
}

static void own_max(void *in, void *inout, int *n, MPI_Datatype *type)
{
    own(OVERTAKE_MAX, in, inout, n, type);
}

static void own_product(void *in, void *inout, int *n, MPI_Datatype *type)
{
    own(OVERTAKE_PRODUCT, in, inout, n, type);
}

int ot_mpi_types(const overtake_engine_host *host, char *message, size_t message_size)
{
    static const struct {
        int reduction;
        MPI_User_function *f;
    } ops[] = {{OVERTAKE_SUM, own_sum},
               {OVERTAKE_MIN, own_min},
               {OVERTAKE_MAX, own_max},
               {OVERTAKE_PRODUCT, own_product}};
    bool made = reduce != NULL;
    int rc = MPI_SUCCESS;
    reduce = host->reduce;
    for (int i = 0; i < OWNS && !made && rc == MPI_SUCCESS; i++) {
        rc = MPI_Type_contiguous(own_dtypes[i] == OVERTAKE_BOOL ? 1 : 2, MPI_BYTE, &own_types[i]);
        rc = rc == MPI_SUCCESS ? MPI_Type_commit(&own_types[i]) : rc;
    }
    for (size_t i = 0; i < sizeof ops / sizeof *ops && !made && rc == MPI_SUCCESS; i++) {
        rc = MPI_Op_create(ops[i].f, 1, &own_ops[ops[i].reduction]);
    }
    if (rc != MPI_SUCCESS) {
        snprintf(message, message_size, "MPI makes no types of its user's: error %d", rc);
        return OVERTAKE_UNAVAILABLE;
    }
    return 0;
}

static MPI_Datatype type_of_sum(int32_t dtype)
{
    switch (dtype) {
    case OVERTAKE_BOOL:
        return own_types[OWN_BOOL];
    case OVERTAKE_U8:
        return MPI_UINT8_T;
    case OVERTAKE_I8:
        return MPI_INT8_T;
    case OVERTAKE_U16:
        return MPI_UINT16_T;
    case OVERTAKE_I16:
        return MPI_INT16_T;
    case OVERTAKE_U32:
        return MPI_UINT32_T;
    case OVERTAKE_I32:
        return MPI_INT32_T;
    case OVERTAKE_U64:
        return MPI_UINT64_T;
    case OVERTAKE_I64:
        return MPI_INT64_T;
    case OVERTAKE_F16:
        return own_types[OWN_F16];
    case OVERTAKE_BF16:
        return own_types[OWN_BF16];
    case OVERTAKE_F32:
        return MPI_FLOAT;
    default:
        return MPI_DOUBLE;
    }
}

static MPI_Op op_of(int32_t dtype, int32_t reduction)
{
    if (dtype == OVERTAKE_BOOL || dtype == OVERTAKE_F16 || dtype == OVERTAKE_BF16) {
        return own_ops[reduction];
    }
    return reduction == OVERTAKE_MIN       ? MPI_MIN
           : reduction == OVERTAKE_MAX     ? MPI_MAX
           : reduction == OVERTAKE_PRODUCT ? MPI_PROD
                                           : MPI_SUM;
}

/* What is only moved. */
static MPI_Datatype type_of_size(uint32_t bytes)
{
    return bytes == 1   ? MPI_UINT8_T
           : bytes == 2 ? MPI_UINT16_T
           : bytes == 4 ? MPI_UINT32_T
                        : MPI_UINT64_T;
}

/* MPI counts in int. */
int ot_mpi_takes(int32_t size, const overtake_engine_call *c)
{
    uint64_t sum = 0;
    switch (c->kind) {
    case OVERTAKE_ALLREDUCE:
    case OVERTAKE_BROADCAST:
        return c->count <= INT_MAX;
    case OVERTAKE_ALLGATHER:
    case OVERTAKE_REDUCESCATTER:
        for (int32_t i = 0; i < size && sum <= INT_MAX; i++) {
            sum = c->counts[i] <= INT_MAX ? sum + c->counts[i] : UINT64_MAX / 2;
        }
        return sum <= INT_MAX;
    case OVERTAKE_ALLTOALL: /* each rank knows its own counts alone: they can't decide */
    case OVERTAKE_BARRIER:
        return 1;
    default:
        return 0;
    }
}

/* `n` counts and where each begins. False: more than MPI counts. */
static bool counts_of(const uint64_t *from, int32_t n, int *counts, int *begins)
{
    uint64_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        if (from[i] > INT_MAX || at > INT_MAX) {
            return false;
        }
        counts[i] = (int)from[i];
        begins[i] = (int)at;
        at += from[i];
    }
    return true;
}

typedef struct begun {
    MPI_Request *request;
    int *counts; /* room for 4 a rank */
    MPI_Comm comm;
    int32_t rank, size;
} begun;

static int sum(const begun *b, const overtake_engine_call *c)
{
    return MPI_Iallreduce(c->in == c->out ? MPI_IN_PLACE : c->in, c->out, (int)c->count,
                          type_of_sum(c->dtype), op_of(c->dtype, c->reduction), b->comm,
                          b->request);
}

static int spread(const begun *b, const overtake_engine_call *c)
{
    if (b->rank == c->root && c->in != c->out && c->count > 0) {
        memcpy(c->out, c->in, c->count * c->elem_bytes);
    }
    return MPI_Ibcast(c->out, (int)c->count, type_of_size(c->elem_bytes), c->root, b->comm,
                      b->request);
}

static int gather(const begun *b, const overtake_engine_call *c)
{
    MPI_Datatype type = type_of_size(c->elem_bytes);
    int *counts = b->counts, *begins = counts + b->size;
    if (!counts_of(c->counts, b->size, counts, begins)) {
        return MPI_ERR_COUNT;
    }
    const char *mine = (const char *)c->out + (size_t)begins[b->rank] * c->elem_bytes;
    bool there = c->in == mine && counts[b->rank] > 0;
    return MPI_Iallgatherv(there ? MPI_IN_PLACE : c->in, counts[b->rank], type, c->out, counts,
                           begins, type, b->comm, b->request);
}

static int scatter(const begun *b, const overtake_engine_call *c)
{
    if (!counts_of(c->counts, b->size, b->counts, b->counts + b->size)) {
        return MPI_ERR_COUNT;
    }
    return MPI_Ireduce_scatter(c->in, c->out, b->counts, type_of_sum(c->dtype),
                               op_of(c->dtype, c->reduction), b->comm, b->request);
}

static int exchange(const begun *b, const overtake_engine_call *c)
{
    MPI_Datatype type = type_of_size(c->elem_bytes);
    int *sends = b->counts, *from = sends + b->size, *recvs = from + b->size, *to = recvs + b->size;
    if (!counts_of(c->sends, b->size, sends, from) || !counts_of(c->recvs, b->size, recvs, to)) {
        return MPI_ERR_COUNT;
    }
    return MPI_Ialltoallv(c->in, sends, from, type, c->out, recvs, to, type, b->comm, b->request);
}

static int begin(const begun *b, const overtake_engine_call *c)
{
    switch (c->kind) {
    case OVERTAKE_ALLREDUCE:
        return sum(b, c);
    case OVERTAKE_BROADCAST:
        return spread(b, c);
    case OVERTAKE_ALLGATHER:
        return gather(b, c);
    case OVERTAKE_REDUCESCATTER:
        return scatter(b, c);
    case OVERTAKE_ALLTOALL:
        return exchange(b, c);
    default:
        return MPI_Ibarrier(b->comm, b->request);
    }
}

static bool grow(ot_mpi_flight *f)
{
    int cap = f->cap == 0 ? 64 : 2 * f->cap;
    size_t n = (size_t)cap;
    MPI_Request *requests = realloc(f->requests, n * sizeof *requests);
    f->requests = requests != NULL ? requests : f->requests;
    ot_mpi_one *ones = realloc(f->ones, n * sizeof *ones);
    f->ones = ones != NULL ? ones : f->ones;
    int *indices = realloc(f->indices, n * sizeof *indices);
    f->indices = indices != NULL ? indices : f->indices;
    MPI_Status *statuses = realloc(f->statuses, n * sizeof *statuses);
    f->statuses = statuses != NULL ? statuses : f->statuses;
    bool good = requests != NULL && ones != NULL && indices != NULL && statuses != NULL;
    f->cap = good ? cap : f->cap;
    return good;
}

static int fail(int mpi, const char *what, char *message, size_t message_size)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (mpi == MPI_ERR_COUNT) {
        snprintf(message, message_size,
                 "%s of more elements than MPI counts (%d): use the engine 'overtake'", what,
                 INT_MAX);
        return OVERTAKE_EXHAUSTED;
    }
    MPI_Error_string(mpi, text, &n);
    snprintf(message, message_size, "%s: %s", what, text);
    return OVERTAKE_UNAVAILABLE;
}

static const char *const names[] = {"MPI_Iallreduce", "MPI_Iallgatherv", "MPI_Ireduce_scatter",
                                    "MPI_Ialltoallv", "MPI_Ibcast",      "MPI_Ibarrier"};

int ot_mpi_start(ot_mpi_flight *f, MPI_Comm comm, int32_t rank, int32_t size,
                 const overtake_engine_call *c, void *user, char *message, size_t message_size)
{
    ot_mpi_one one = {.user = user, .counts = calloc((size_t)size, 4 * sizeof(int))};
    if (one.counts == NULL || (f->n == f->cap && !grow(f))) {
        free(one.counts);
        snprintf(message, message_size, "out of memory");
        return OVERTAKE_EXHAUSTED;
    }
    begun b = {.request = &f->requests[f->n],
               .counts = one.counts,
               .comm = comm,
               .rank = rank,
               .size = size};
    int rc = begin(&b, c);
    if (rc != MPI_SUCCESS) {
        free(one.counts);
        return fail(rc, names[c->kind], message, message_size);
    }
    f->ones[f->n++] = one;
    return 0;
}

int ot_mpi_turn(ot_mpi_flight *f, void **users_out, size_t room, size_t *n_out, char *message,
                size_t message_size)
{
    int done = 0, limit = f->n < (int)room ? f->n : (int)room;
    *n_out = 0;
    if (f->n == 0) { /* what is done here may still be on its way to others */
        int flag;
        MPI_Iprobe(MPI_ANY_SOURCE, 0, MPI_COMM_SELF, &flag, MPI_STATUS_IGNORE);
        return 0;
    }
    int rc = MPI_Testsome(limit, f->requests, &done, f->indices, f->statuses);
    for (int i = 0; rc == MPI_ERR_IN_STATUS && i < done; i++) {
        if (f->statuses[i].MPI_ERROR != MPI_SUCCESS) {
            return fail(f->statuses[i].MPI_ERROR, "an operation", message, message_size);
        }
    }
    if (rc != MPI_SUCCESS && rc != MPI_ERR_IN_STATUS) {
        return fail(rc, "MPI_Testsome", message, message_size);
    }
    for (int i = 0; i < done; i++) {
        int at = f->indices[i];
        users_out[(*n_out)++] = f->ones[at].user;
        free(f->ones[at].counts);
        f->ones[at].counts = NULL;
    }
    int n = 0; /* those that are left stay in their order */
    for (int i = 0; i < f->n; i++) {
        if (i >= limit || f->requests[i] != MPI_REQUEST_NULL) {
            f->requests[n] = f->requests[i];
            f->ones[n++] = f->ones[i];
        }
    }
    f->n = n;
    return 0;
}
