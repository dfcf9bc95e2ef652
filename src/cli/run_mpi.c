#include "cli/run_mpi.h"

#include "base/mem.h"
#include "launch/job_mpi.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The program of a rank of MPI's: this one, which becomes the other. */
static ot_rc wrap(ot_job_options *o, const ot_job_mpi *mpi, ot_arena *a, ot_error *err)
{
    const char **argv = ot_arena_calloc(a, o->n_argv + 5, sizeof *argv);
    const char **env = ot_arena_calloc(a, o->n_env + 1, sizeof *env);
    const char *dir = ot_arena_printf(a, "--mpi-rank=%s", mpi->dir);
    char *self = ot_arena_calloc(a, OT_PATH_MAX, 1);
    if (argv == NULL || env == NULL || dir == NULL || self == NULL ||
        readlink("/proc/self/exe", self, OT_PATH_MAX - 1) < 0) {
        return ot_fail(err, OT_EXHAUSTED, "--engine mpi: no memory, or no /proc");
    }
    const char *const before[] = {self, "run", dir, "--"};
    memcpy(argv, before, sizeof before);
    memcpy(argv + OT_COUNT(before), o->argv, o->n_argv * sizeof *argv);
    if (o->n_env > 0) {
        memcpy(env, o->env, o->n_env * sizeof *env);
    }
    env[o->n_env++] = "OVERTAKE_ENGINE=mpi";
    o->n_argv += OT_COUNT(before);
    o->argv = argv;
    o->env = env;
    return OT_OK;
}

static ot_rc may_use_mpi(const ot_job_options *o, ot_error *err)
{
    char host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    if (o->min_np > 0 || o->max_restarts > 0) {
        return ot_fail(err, OT_INVALID,
                       "--engine mpi goes without --min-np and --max-restarts: MPI's processes "
                       "can't be replaced, nor started again; use --engine overtake");
    }
    return o->hosts->n == 1 && (strcmp(o->hosts->v[0].name, "localhost") == 0 ||
                                strcmp(o->hosts->v[0].name, host) == 0)
               ? OT_OK
               : ot_fail(err, OT_INVALID,
                         "--engine mpi is for ranks on this host: on several, start the program by "
                         "OVERTAKE_ENGINE=mpi mpirun -x OVERTAKE_ENGINE ...");
}

ot_rc ot_cli_run_ranks(const ot_args *args, ot_job_options *o, ot_job_result *result, ot_error *err)
{
    ot_job_mpi mpi;
    ot_arena a;
    if (strcmp(ot_args_str(args, "engine"), "mpi") != 0) {
        return ot_job_run(o, result, err);
    }
    OT_TRY(may_use_mpi(o, err));
    OT_TRY(ot_job_mpi_start(o->np, &mpi, err));
    ot_arena_init(&a, 16384, 16u << 20);
    ot_rc rc = wrap(o, &mpi, &a, err);
    rc = rc == OT_OK ? ot_job_run(o, result, err) : rc;
    ot_job_mpi_stop(&mpi);
    ot_arena_done(&a);
    return rc;
}

/* Becomes the program. */
static int become(const ot_args *args)
{
    const char *const *words;
    size_t n = ot_args_rest(args, &words);
    ot_error err = {0};
    if (n == 0) {
        return ot_cli_usage(args, "--mpi-rank: which program?");
    }
    if (ot_job_mpi_take_over(ot_args_str(args, "mpi-rank"), &err) == OT_OK) {
        char **argv = ot_calloc(n + 1, sizeof *argv);
        for (size_t i = 0; argv != NULL && i < n; i++) {
            argv[i] = ot_strdup(words[i]);
        }
        if (argv != NULL && argv[0] != NULL) {
            execvp(argv[0], argv);
        }
        (void)ot_fail_errno(&err, errno, "program '%.300s' can't start", words[0]);
    }
    return ot_cli_fail(args, &err);
}

bool ot_cli_run_is_mpis(const ot_args *args)
{
    return ot_args_str(args, "mpi-stand-in") != NULL || ot_args_str(args, "mpi-rank") != NULL;
}

int ot_cli_run_mpis(const ot_args *args)
{
    const char *dir = ot_args_str(args, "mpi-stand-in");
    return dir != NULL ? ot_job_mpi_stand_in(dir) : become(args);
}
