/* `overtake bench cluster`: a job of this program itself, which measures its hosts. */
#include "base/disk.h"
#include "base/mem.h"
#include "cli/cluster.h"
#include "cli/commands.h"
#include "cli/hosts.h"
#include "launch/job.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- on each rank ------------------------------------------------------------------------------
 */

static int run_rank(const ot_args *args)
{
    ot_error err = {0};
    ot_cost_model chosen = ot_cost_default();
    ot_links *t = NULL;
    OT_AUTO(ot_free_ptr) ot_cluster *c = ot_calloc(1, sizeof *c);
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_rc rc = c != NULL ? ot_cost_parse(ot_args_str(args, "as-rank"), &chosen, &err)
                         : ot_fail(&err, OT_EXHAUSTED, "no memory to measure with");
    rc = rc == OT_OK ? ot_links_join(&t, &err) : rc;
    rc =
        rc == OT_OK ? ot_cluster_measure(t, &chosen, ot_args_size(args, "max-bytes"), c, &err) : rc;
    bool prints = t != NULL && t->place.rank == 0;
    ot_rc left = ot_links_leave(t, rc == OT_OK ? &err : NULL);
    rc = rc == OT_OK ? left : rc;
    if (rc != OT_OK) {
        fprintf(stderr, "overtake bench cluster: %s\n", err.msg);
        return 1;
    }
    if (!prints) {
        return 0;
    }
    ot_cluster_reckon(c);
    if (ot_args_json(args)) {
        ot_cluster_json(c, &out);
    } else {
        ot_cluster_text(c, &out);
    }
    return ot_cli_print(&out);
}

/* --- the launcher's ----------------------------------------------------------------------------
 */

static ot_rc read_links(const ot_args *args, ot_settings *s, char model[OT_SETTINGS_MAX],
                        ot_error *err)
{
    const char *links = ot_args_str(args, "links");
    *s = ot_settings_default();
    if (links != NULL) {
        OT_TRY(ot_settings_links(links, s, err));
    }
    (void)ot_cost_format(&s->cost, model, OT_SETTINGS_MAX);
    return OT_OK;
}

/* The path of this program, which is that on the other hosts too unless another is given. */
static ot_rc own_path(const ot_args *args, char path[OT_PATH_MAX], ot_error *err)
{
    const char *given = ot_args_str(args, "remote-program");
    ssize_t n = readlink("/proc/self/exe", path, OT_PATH_MAX - 1);
    if (given != NULL) {
        snprintf(path, OT_PATH_MAX, "%s", given);
        return OT_OK;
    }
    path[n > 0 ? n : 0] = 0;
    return n > 0 ? OT_OK : ot_fail_errno(err, errno, "/proc/self/exe");
}

static int run_job(const ot_args *args, ot_job_hosts *h)
{
    char program[OT_PATH_MAX], model[OT_SETTINGS_MAX], most[64], as_rank[OT_SETTINGS_MAX + 16];
    const char *words[] = {program, "bench", "cluster", most, as_rank, "--output=json"};
    ot_error err = {0};
    ot_job_result result;
    ot_job_options o = {.argv = words,
                        .n_argv = OT_COUNT(words) - !ot_args_json(args),
                        .hosts = h,
                        .ssh = ot_cli_hosts_ssh(args),
                        .program = ot_args_str(args, "remote-program"),
                        .address = ot_args_str(args, "address"),
                        .grace_us = 5000000,
                        .settle_us = 1000000,
                        .start_timeout_us = 120000000,
                        .stopped_after_us = 60000000,
                        .version = OT_VERSION};
    o.n_env = ot_args_list(args, "env", &o.env);
    ot_rc rc = ot_cli_hosts_read(args, ot_args_int(args, "np"), h, &err);
    rc = rc == OT_OK ? ot_job_hosts_deal(h, (int32_t)ot_args_int(args, "np"), false, &o.np, &err)
                     : rc;
    rc = rc == OT_OK ? read_links(args, &o.settings, model, &err) : rc;
    rc = rc == OT_OK ? own_path(args, program, &err) : rc;
    if (rc == OT_OK && o.np < 2) {
        rc = ot_fail(&err, OT_INVALID,
                     "a cluster of one rank: measure two or more, as in overtake bench cluster -H "
                     "a:2,b:2, or -np 2");
    }
    if (rc == OT_OK) {
        snprintf(most, sizeof most, "--max-bytes=%llu",
                 (unsigned long long)ot_args_size(args, "max-bytes"));
        snprintf(as_rank, sizeof as_rank, "--as-rank=%s", model);
        rc = ot_job_run(&o, &result, &err);
    }
    if (rc != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    if (result.code != 0) {
        fprintf(stderr, "overtake bench cluster: %s %s\n", result.who, result.why);
    }
    return result.code;
}

static int run_bench_cluster(const ot_args *args)
{
    if (ot_args_str(args, "as-rank") != NULL) {
        return run_rank(args);
    }
    ot_job_hosts h = {0};
    int code = run_job(args, &h);
    ot_job_hosts_done(&h);
    return code;
}

static const ot_opt bench_cluster_opts[] = {
    {.name = "np",
     .letter = 'n',
     .type = OT_OPT_INT,
     .value = "RANKS",
     .min = "2",
     .max = "4096",
     .help = "how many processes; all slots of the hosts when not given",
     .env = ""},
    {.name = "hosts",
     .letter = 'H',
     .type = OT_OPT_STRING,
     .value = "HOST:RANKS,...",
     .help = "what is measured; else this host, or the Slurm allocation",
     .env = ""},
    OT_CLI_HOSTS_OPTS,
    {.name = "links",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "what algorithms are chosen by, as for overtake run; what was measured is printed",
     .env = ""},
    {.name = "max-bytes",
     .type = OT_OPT_SIZE,
     .def = "100MiB",
     .min = "4KiB",
     .max = "16GiB",
     .help = "sums of more bytes are left out",
     .env = ""},
    {.name = "remote-program",
     .type = OT_OPT_STRING,
     .value = "PATH",
     .help = "overtake on all hosts; the path that it has here when not given",
     .env = ""},
    {.name = "as-rank", .type = OT_OPT_STRING, .help = "what it runs", .hidden = true, .env = ""},
};

const ot_command ot_cli_bench_cluster_command = {
    .name = "bench cluster",
    .summary = "measure hosts and the links between them, each figure beside its bound",
    .detail =
        "Runs a job of its own, as overtake run does: overtake bench cluster -H a:2,b:2. Measured "
        "are copies of memory, TCP in both directions between all hosts at once, a barrier, sums "
        "of 4 KiB to 100 MiB by the algorithms that are chosen for them, a hundred of 4 KiB, and "
        "the links as overtake tune does. The bound of a sum is what its bytes take at the raw "
        "rates that were measured just before, and one barrier. Nothing else should run there "
        "meanwhile.",
    OT_OPTS(bench_cluster_opts),
    .run = run_bench_cluster};
