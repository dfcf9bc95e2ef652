#include "base/disk.h"
#include "base/mem.h"
#include "collective/meet.h"
#include "tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char home[] = "/tmp/ot_identity_XXXXXX";

static const char *const ours[] = {"OVERTAKE_RANK",
                                   "OVERTAKE_SIZE",
                                   "OVERTAKE_LOCAL_RANK",
                                   "OVERTAKE_LOCAL_SIZE",
                                   "OVERTAKE_RENDEZVOUS",
                                   "OVERTAKE_KEY_FD",
                                   "OVERTAKE_KEY_FILE",
                                   "HOROVOD_RANK",
                                   "HOROVOD_SIZE",
                                   "HOROVOD_LOCAL_RANK",
                                   "HOROVOD_LOCAL_SIZE",
                                   "HOROVOD_GLOO_RENDEZVOUS_ADDR",
                                   "HOROVOD_GLOO_RENDEZVOUS_PORT",
                                   "OMPI_COMM_WORLD_RANK",
                                   "OMPI_COMM_WORLD_SIZE",
                                   "OMPI_COMM_WORLD_LOCAL_RANK",
                                   "OMPI_COMM_WORLD_LOCAL_SIZE",
                                   "OMPI_MCA_orte_hnp_uri",
                                   "OMPI_MCA_orte_precondition_transports",
                                   "OMPI_MCA_ess_base_jobid",
                                   "PMIX_NAMESPACE",
                                   "RANK",
                                   "WORLD_SIZE",
                                   "LOCAL_RANK",
                                   "LOCAL_WORLD_SIZE",
                                   "MASTER_ADDR",
                                   "MASTER_PORT",
                                   "TORCHELASTIC_RUN_ID",
                                   "TORCHELASTIC_RESTART_COUNT",
                                   "SLURM_PROCID",
                                   "SLURM_STEP_NUM_TASKS",
                                   "SLURM_LOCALID",
                                   "SLURM_STEP_ID",
                                   "SLURM_JOB_ID",
                                   "SLURM_STEP_NODELIST",
                                   "SLURM_STEP_NUM_NODES",
                                   "XDG_CONFIG_HOME"};

/* The environment of the test is these pairs alone. */
static ot_rc with(ot_identity *id, ot_error *err, const char *const *pairs, size_t n)
{
    for (size_t i = 0; i < OT_COUNT(ours); i++) {
        unsetenv(ours[i]);
    }
    setenv("HOME", home, 1);
    for (size_t i = 0; i + 1 < n; i += 2) {
        setenv(pairs[i], pairs[i + 1], 1);
    }
    memset(id, 0, sizeof *id);
    *err = (ot_error){0};
    return ot_identity_read(id, err);
}
#define WITH(...)                                                                                  \
    with(&id, &err, (const char *const[]){__VA_ARGS__},                                            \
         OT_COUNT(((const char *const[]){__VA_ARGS__})))

static ot_identity id;
static ot_error err;

static void test_alone(void)
{
    ok(WITH("SLURM_PROCID", "3") == OT_OK && id.rank == 0 && id.size == 1 && id.local_size == 1,
       "a Slurm batch script is no rank");
    is_str(id.source, "alone", "alone");
    ok(WITH("RANK", "3", "WORLD_SIZE", "4") == OT_OK && id.size == 1,
       "nor is a program with a RANK of its own");
    ok(WITH("OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "1") == OT_OK && id.size == 1 &&
           id.key_len == 0,
       "one rank meets nobody");
}

static int key_file(const char *key)
{
    int fd = memfd_create("overtake-key", 0);
    ok(write(fd, key, strlen(key)) == (ssize_t)strlen(key), "a key in descriptor %d", fd);
    return fd;
}

static void test_ours(void)
{
    char text[64];
    int fd = key_file("0123456789abcdef");
    snprintf(text, sizeof text, "%d", fd);
    for (int i = 0; i < 2; i++) {
        ok(WITH("OVERTAKE_RANK", "2", "OVERTAKE_SIZE", "4", "OVERTAKE_LOCAL_RANK", "0",
                "OVERTAKE_LOCAL_SIZE", "2", "OVERTAKE_RENDEZVOUS", "a:1,b:2", "OVERTAKE_KEY_FD",
                text, "RANK", "9", "WORLD_SIZE", "9", "MASTER_ADDR", "x", "MASTER_PORT",
                "1") == OT_OK,
           "by our launcher, time %d: %s", i, err.msg);
        ok(id.rank == 2 && id.size == 4 && id.local_rank == 0 && id.local_size == 2 && !id.serves,
           "it comes before others");
        is_str(id.key, "0123456789abcdef", "the key can be read again");
        is_str(id.rendezvous, "a:1,b:2", "the addresses");
    }
    ok((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "children of this process do not get it");
    ok(WITH("OVERTAKE_RANK", "0", "OVERTAKE_SIZE", "1", "OVERTAKE_RENDEZVOUS", "a:1",
            "OVERTAKE_KEY_FD", text) == OT_OK &&
           id.key_len == 16 && !id.serves,
       "one rank of ours joins as well");
    snprintf(text, sizeof text, "%d:%d:%d", fd + 50, (int)getpid(), fd);
    ok(WITH("OVERTAKE_RANK", "0", "OVERTAKE_SIZE", "2", "OVERTAKE_RENDEZVOUS", "a:1",
            "OVERTAKE_KEY_FD", text) == OT_OK &&
           id.key_len == 16,
       "a descriptor that was closed on the way is found at the launcher: %s", err.msg);
    close(fd);
    is_int(WITH("OVERTAKE_RANK", "0", "OVERTAKE_SIZE", "2", "OVERTAKE_RENDEZVOUS", "a:1",
                "OVERTAKE_KEY_FD", text),
           OT_PRECONDITION, "no descriptor: %s", err.msg);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    snprintf(text, sizeof text, "%d", fd);
    is_int(WITH("OVERTAKE_RANK", "0", "OVERTAKE_SIZE", "2", "OVERTAKE_RENDEZVOUS", "a:1",
                "OVERTAKE_KEY_FD", text),
           OT_PRECONDITION, "somebody else's descriptor: %s", err.msg);
    close(fd);
    is_int(WITH("OVERTAKE_RANK", "0"), OT_INVALID, "%s", err.msg);
    is_int(WITH("OVERTAKE_SIZE", "2"), OT_INVALID, "%s", err.msg);
    is_int(WITH("OVERTAKE_RANK", "0", "OVERTAKE_SIZE", "2"), OT_INVALID, "%s", err.msg);
    is_int(WITH("OVERTAKE_RANK", "2", "OVERTAKE_SIZE", "2"), OT_INVALID, "%s", err.msg);
    is_int(WITH("OVERTAKE_RANK", "0", "OVERTAKE_SIZE", "4097"), OT_INVALID, "%s", err.msg);
    is_int(WITH("OVERTAKE_RANK", "x1", "OVERTAKE_SIZE", "2"), OT_INVALID, "%s", err.msg);
    is_int(WITH("OVERTAKE_RANK", "-1", "OVERTAKE_SIZE", "2"), OT_INVALID, "%s", err.msg);
}

static void test_secret(void)
{
    char path[OT_PATH_MAX], key[129];
    struct stat st;
    snprintf(path, sizeof path, "%s/.config/overtake/job.key", home);
    ok(WITH("OVERTAKE_RANK", "0", "OVERTAKE_SIZE", "2", "OVERTAKE_RENDEZVOUS", "h:1") == OT_OK &&
           id.serves && id.key_len == 64,
       "started by hand: rank 0 runs the meeting point %s", err.msg);
    ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "the user's secret is made");
    memcpy(key, id.key, sizeof key);
    ok(WITH("OVERTAKE_RANK", "1", "OVERTAKE_SIZE", "2", "OVERTAKE_RENDEZVOUS", "h:1") == OT_OK &&
           !id.serves && strcmp(key, id.key) == 0,
       "rank 1 derives the same key");
    ok(chmod(path, 0644) == 0 && WITH("OVERTAKE_RANK", "1", "OVERTAKE_SIZE", "2",
                                      "OVERTAKE_RENDEZVOUS", "h:1") == OT_DENIED,
       "that others may read it is refused: %s", err.msg);
    ok(chmod(path, 0600) == 0, "and mended");
    char other[OT_PATH_MAX];
    snprintf(other, sizeof other, "%s/key", home);
    ok(ot_disk_write_atomic(ot_disk_posix(), other, "another secret 123\n", 19, 0600, NULL) ==
               OT_OK &&
           WITH("OVERTAKE_RANK", "1", "OVERTAKE_SIZE", "2", "OVERTAKE_RENDEZVOUS", "h:1",
                "OVERTAKE_KEY_FILE", other) == OT_OK &&
           strcmp(key, id.key) != 0,
       "OVERTAKE_KEY_FILE");
    ok(ot_disk_write_atomic(ot_disk_posix(), other, "short\n", 6, 0600, NULL) == OT_OK &&
           WITH("OVERTAKE_RANK", "1", "OVERTAKE_SIZE", "2", "OVERTAKE_RENDEZVOUS", "h:1",
                "OVERTAKE_KEY_FILE", other) == OT_INVALID,
       "%s", err.msg);
}

static void test_others(void)
{
    char first[300], key[129];
    ok(WITH("OMPI_COMM_WORLD_RANK", "1", "OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_LOCAL_RANK",
            "1", "OMPI_COMM_WORLD_LOCAL_SIZE", "4", "PMIX_NAMESPACE", "job7", "SLURM_PROCID", "0",
            "SLURM_STEP_NUM_TASKS", "1", "SLURM_STEP_ID", "0") == OT_OK &&
           id.rank == 1 && id.size == 4 && id.local_rank == 1 && id.local_size == 4 && !id.serves,
       "mpirun in a step of Slurm %s", err.msg);
    is_str(id.source, "openmpi", "the inner one counts");
    ok(ot_has_prefix(id.rendezvous, "127.0.0.1:2") || ot_has_prefix(id.rendezvous, "127.0.0.1:3"),
       "all on one host: %s", id.rendezvous);
    memcpy(first, id.rendezvous, sizeof first);
    memcpy(key, id.key, sizeof key);
    ok(WITH("OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_LOCAL_RANK",
            "0", "OMPI_COMM_WORLD_LOCAL_SIZE", "4", "PMIX_NAMESPACE", "job7") == OT_OK &&
           id.serves && strcmp(first, id.rendezvous) == 0 && strcmp(key, id.key) == 0,
       "its rank 0 is found where rank 1 looks");
    ok(WITH("OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_LOCAL_SIZE",
            "4", "PMIX_NAMESPACE", "job8") == OT_OK &&
           strcmp(first, id.rendezvous) != 0 && strcmp(key, id.key) != 0,
       "another job meets elsewhere, with another key");
    ok(WITH("OMPI_COMM_WORLD_RANK", "3", "OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_LOCAL_SIZE",
            "2", "OMPI_MCA_orte_hnp_uri", "77.0;tcp://10.0.0.1,10.1.0.1:4711") == OT_OK &&
           ot_has_prefix(id.rendezvous, "10.0.0.1:") && strstr(id.rendezvous, ",10.1.0.1:") != NULL,
       "several hosts: %s", id.rendezvous);
    ok(WITH("OMPI_COMM_WORLD_RANK", "3", "OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_LOCAL_SIZE",
            "2") == OT_PRECONDITION &&
           strstr(err.msg, "OVERTAKE_RENDEZVOUS") != NULL,
       "it does not say where: %s", err.msg);
    ok(WITH("RANK", "1", "WORLD_SIZE", "2", "LOCAL_RANK", "0", "LOCAL_WORLD_SIZE", "1",
            "MASTER_ADDR", "node0", "MASTER_PORT", "29500") == OT_OK &&
           id.rank == 1 && ot_has_prefix(id.rendezvous, "node0:") &&
           strstr(id.rendezvous, ":29500") == NULL,
       "torchrun: its own store has its port, ours is another: %s", id.rendezvous);
    ok(WITH("SLURM_PROCID", "2", "SLURM_STEP_NUM_TASKS", "4", "SLURM_LOCALID", "0", "SLURM_STEP_ID",
            "1", "SLURM_JOB_ID", "9", "SLURM_STEP_NODELIST", "n[07-09,12],m1",
            "SLURM_STEP_NUM_NODES", "5") == OT_OK &&
           id.rank == 2 && id.local_rank == 0 && id.local_size == -1 &&
           ot_has_prefix(id.rendezvous, "n07:"),
       "srun: %s", id.rendezvous);
    ok(WITH("HOROVOD_RANK", "0", "HOROVOD_SIZE", "2", "HOROVOD_LOCAL_RANK", "0",
            "HOROVOD_LOCAL_SIZE", "1", "HOROVOD_GLOO_RENDEZVOUS_ADDR", "10.0.0.9",
            "HOROVOD_GLOO_RENDEZVOUS_PORT", "4") == OT_OK &&
           id.serves && ot_has_prefix(id.rendezvous, "10.0.0.9:"),
       "horovodrun: %s", id.rendezvous);
    ok(WITH("HOROVOD_RANK", "0", "HOROVOD_SIZE", "2", "HOROVOD_GLOO_RENDEZVOUS_ADDR", "10.0.0.9",
            "OVERTAKE_RENDEZVOUS", "here:1234") == OT_OK &&
           strcmp(id.rendezvous, "here:1234") == 0,
       "OVERTAKE_RENDEZVOUS wins");
}

static void test_host(void)
{
    char host[256], machine[96], again[96];
    ot_identity_host(host, machine);
    ot_identity_host(host, again);
    ok(host[0] != 0 && strcmp(machine, again) == 0 && strchr(machine, ':') != NULL, "%s is %s",
       host, machine);
}

int main(void)
{
    ok(mkdtemp(home) != NULL, "a home");
    test_alone();
    test_ours();
    test_secret();
    test_others();
    test_host();
    ok(ot_disk_remove_tree(ot_disk_posix(), home, NULL) == OT_OK, "removed");
    return tap_done();
}
