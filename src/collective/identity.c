/* Who this process is in which job, from the environment. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/random.h"
#include "collective/meet.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Below the ports that the kernel gives out by itself. */
#define PORT_FIRST 20000u
#define PORT_N 12000u
#define SECRET_BYTES 32
#define SECRET_FILE_MAX 4096u
#define NEVER "OVERTAKE_RENDEZVOUS=HOST:PORT (the same on all ranks, HOST is where rank 0 runs)"

/* A number of the environment; false when it is not there, or "". */
static bool number(const char *name, int32_t *out, ot_error *err, ot_rc *rc)
{
    const char *text = getenv(name);
    int64_t x;
    if (text == NULL || text[0] == 0 || *rc != OT_OK) {
        return false;
    }
    if (ot_parse_i64(text, &x, NULL) != OT_OK || x < 0 || x > INT32_MAX) {
        *rc = ot_fail(err, OT_INVALID, "%s='%.40s' is not a number of ranks", name, text);
        return false;
    }
    *out = (int32_t)x;
    return true;
}

static const char *word(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? text : "";
}

/* --- the key --------------------------------------------------------------------------------- */

/* The launcher's memory file: nobody else's descriptor has this name. A process between may have
 * closed it (Python's subprocess does); then the launcher's own is still there for its user. */
static int open_key_fd(const char *spec)
{
    int fd = -1, pid = 0, theirs = -1;
    char path[64], name[64];
    if (sscanf(spec, "%d:%d:%d", &fd, &pid, &theirs) < 1 || fd < 0) {
        return -1;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, name, sizeof name - 1);
    name[n > 0 ? n : 0] = 0;
    if (strstr(name, "memfd:overtake-key") != NULL) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* this process has found it; its children need not */
        return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }
    ot_file *f = NULL;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, theirs);
    n = pid > 0 ? readlink(path, name, sizeof name - 1) : 0;
    name[n > 0 ? n : 0] = 0;
    if (strstr(name, "memfd:overtake-key") != NULL &&
        ot_disk_posix()->ops->open(ot_disk_posix(), path, OT_OPEN_READ, 0, &f, NULL) == OT_OK) {
        fd = fcntl(f->ops->fd(f), F_DUPFD_CLOEXEC, 3);
        ot_file_close(f);
        return fd;
    }
    return -1;
}

static ot_rc key_from_fd(const char *spec, ot_identity *id, ot_error *err)
{
    int fd = open_key_fd(spec);
    if (fd < 0) {
        return ot_fail(err, OT_PRECONDITION,
                       "OVERTAKE_KEY_FD=%.40s: the descriptor with the job's key is not open here: "
                       "something between the launcher and this process closed it (sudo, a "
                       "container); start `overtake run` inside of that",
                       spec);
    }
    ssize_t n = pread(fd, id->key, sizeof id->key - 1, 0);
    close(fd);
    if (n <= 0) {
        return ot_fail(err, OT_INTERNAL, "OVERTAKE_KEY_FD=%.40s: it holds no key", spec);
    }
    id->key_len = (size_t)n;
    id->key[n] = 0;
    return OT_OK;
}

/* Whole or not at all, and the first of several that try wins. */
static ot_rc make_secret(const char *path, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    uint8_t raw[SECRET_BYTES];
    char text[2 * SECRET_BYTES + 2], dir[OT_PATH_MAX], tmp[OT_PATH_MAX], mark[17];
    ot_random_bytes(raw, sizeof raw);
    ot_hex(raw, 8, mark);
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (snprintf(tmp, sizeof tmp, "%s.%s", path, mark) >= (int)sizeof tmp) {
        return ot_fail(err, OT_RANGE, "'%.80s...' is too long", path);
    }
    ot_random_bytes(raw, sizeof raw);
    ot_hex(raw, sizeof raw, text);
    OT_TRY(ot_disk_mkdirs(d, dir, 0700, err));
    OT_TRY(ot_disk_write_atomic(d, tmp, text, strlen(text), 0600, err));
    ot_rc rc = d->ops->link(d, tmp, path, err);
    (void)d->ops->unlink(d, tmp, NULL);
    return rc == OT_EXISTS ? OT_OK : rc;
}

static ot_rc secret_path(char out[OT_PATH_MAX], ot_error *err)
{
    const char *config = word("XDG_CONFIG_HOME"), *home = word("HOME");
    int n = config[0] == '/' ? snprintf(out, OT_PATH_MAX, "%s/overtake/job.key", config)
            : home[0] == '/' ? snprintf(out, OT_PATH_MAX, "%s/.config/overtake/job.key", home)
                             : OT_PATH_MAX;
    return n < OT_PATH_MAX ? OT_OK
                           : ot_fail(err, OT_PRECONDITION,
                                     "there is no home directory to keep a key in; write one to a "
                                     "file of mode 0600 and name it in OVERTAKE_KEY_FILE");
}

static ot_rc read_secret(ot_str *out, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    const char *given = word("OVERTAKE_KEY_FILE");
    char path[OT_PATH_MAX];
    ot_stat st;
    if (given[0] != 0) {
        snprintf(path, sizeof path, "%s", given);
    } else {
        OT_TRY(secret_path(path, err));
        if (!ot_disk_exists(d, path)) {
            OT_TRY(make_secret(path, err));
        }
    }
    OT_TRY(d->ops->stat(d, path, &st, err));
    if (!st.is_link && (st.mode & 077) != 0) {
        return ot_fail(err, OT_DENIED, "%s: others may read this key (mode %03o); chmod 600 it",
                       path, st.mode);
    }
    OT_TRY(ot_disk_read_all(d, path, SECRET_FILE_MAX, out, err));
    while (out->len > 0 && (unsigned char)out->data[out->len - 1] <= ' ') {
        out->data[--out->len] = 0;
    }
    return out->len >= 16 ? OT_OK
                          : ot_fail(err, OT_INVALID, "%s: a key has 16 characters or more", path);
}

/* A key for this job alone, out of the user's secret. */
static ot_rc key_from_secret(const char *job, ot_identity *id, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str secret = OT_STR_INIT;
    OT_TRY(read_secret(&secret, err));
    union {
        const char *c;
        const unsigned char *u;
    } s = {.c = secret.data}, j = {.c = job};
    uint8_t mac[crypto_auth_hmacsha256_BYTES];
    crypto_auth_hmacsha256_state st;
    crypto_auth_hmacsha256_init(&st, s.u, secret.len);
    crypto_auth_hmacsha256_update(&st, j.u, strlen(job));
    crypto_auth_hmacsha256_final(&st, mac);
    ot_hex(mac, sizeof mac, id->key);
    id->key_len = 2 * sizeof mac;
    return OT_OK;
}

/* --- the launchers --------------------------------------------------------------------------- */

/* What a launcher says: names of its variables, and of its job. */
typedef struct launcher {
    const char *source, *rank, *size, *local_rank, *local_size;
} launcher;

static const launcher launchers[] = {
    {"overtake", "OVERTAKE_RANK", "OVERTAKE_SIZE", "OVERTAKE_LOCAL_RANK", "OVERTAKE_LOCAL_SIZE"},
    {"horovod", "HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "HOROVOD_LOCAL_SIZE"},
    {"openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", NULL},
};

/* torchrun's names are common words, and Slurm sets its own in a batch script too, which is no
 * rank: these count only beside what a rank of theirs has as well. */
static bool applies(const launcher *l)
{
    if (strcmp(l->source, "torchrun") == 0) {
        return word("MASTER_ADDR")[0] != 0 && word("MASTER_PORT")[0] != 0;
    }
    return strcmp(l->source, "slurm") != 0 || word("SLURM_STEP_ID")[0] != 0;
}

static ot_rc find(ot_identity *id, const launcher **out, ot_error *err)
{
    ot_rc rc = OT_OK;
    for (size_t i = 0; i < OT_COUNT(launchers) && *out == NULL; i++) {
        const launcher *l = &launchers[i];
        if (!applies(l)) {
            continue;
        }
        bool rank = number(l->rank, &id->rank, err, &rc),
             size = number(l->size, &id->size, err, &rc);
        if (rc == OT_OK && i == 0 && rank != size) {
            rc = ot_fail(err, OT_INVALID, "%s is set and %s is not", rank ? l->rank : l->size,
                         rank ? l->size : l->rank);
        }
        OT_TRY(rc);
        if (rank && size) {
            *out = l;
            (void)number(l->local_rank, &id->local_rank, err, &rc);
            (void)(l->local_size != NULL && number(l->local_size, &id->local_size, err, &rc));
        } else {
            id->rank = id->size = -1;
        }
    }
    return rc;
}

static ot_rc check(const ot_identity *id, ot_error *err)
{
    if (id->size < 1 || id->size > OT_MEET_RANKS_MAX || id->rank >= id->size) {
        return ot_fail(err, OT_INVALID,
                       "rank %" PRId32 " of %" PRId32 " (as %s says): a job has 1 "
                       "to %d ranks, from 0",
                       id->rank, id->size, id->source, OT_MEET_RANKS_MAX);
    }
    return OT_OK;
}

/* The first host of Slurm's list: "n[3-5,9],m1" is n3. */
static void first_host(const char *list, char *out, size_t size)
{
    size_t n = strcspn(list, ",[");
    size_t digits = list[n] == '[' ? strspn(list + n + 1, "0123456789") : 0;
    snprintf(out, size, "%.*s", (int)n, list);
    if (digits > 0 && n + digits < size) {
        snprintf(out + n, size - n, "%.*s", (int)digits, list + n + 1);
    }
}

/* Open MPI's "1234.0;tcp://10.0.0.1,192.168.0.1:5555": where mpirun runs. */
static void hosts_of_uri(const char *uri, unsigned port, char *out, size_t size)
{
    const char *at = strstr(uri, "tcp://");
    at = at != NULL ? at + 6 : "";
    size_t used = 0;
    while (*at != 0 && *at != ':' && *at != ';') {
        size_t n = strcspn(at, ",:;");
        int k =
            snprintf(out + used, size - used, "%s%.*s:%u", used > 0 ? "," : "", (int)n, at, port);
        if (k < 0 || (size_t)k >= size - used) {
            out[used] = 0; /* as many as there is room for */
            return;
        }
        used += (size_t)k;
        at += n + (at[n] == ',');
    }
}

/* Where rank 0 of another launcher's job is found, and what the job is called. */
static ot_rc find_job(ot_identity *id, char *job, size_t size, ot_error *err)
{
    char host[256] = "", hosts[sizeof id->rendezvous] = "";
    bool one_host = id->size == 1 || id->local_size == id->size;
    const char *s = id->source;
    if (strcmp(s, "torchrun") == 0) {
        snprintf(job, size, "torchrun %s:%s %s %s", word("MASTER_ADDR"), word("MASTER_PORT"),
                 word("TORCHELASTIC_RUN_ID"), word("TORCHELASTIC_RESTART_COUNT"));
        snprintf(host, sizeof host, "%s", word("MASTER_ADDR"));
    } else if (strcmp(s, "slurm") == 0) {
        snprintf(job, size, "slurm %s.%s", word("SLURM_JOB_ID"), word("SLURM_STEP_ID"));
        first_host(word("SLURM_STEP_NODELIST"), host, sizeof host);
        one_host = one_host || strcmp(word("SLURM_STEP_NUM_NODES"), "1") == 0;
    } else if (strcmp(s, "openmpi") == 0) {
        snprintf(job, size, "openmpi %s %s", word("OMPI_MCA_orte_precondition_transports"),
                 word("PMIX_NAMESPACE")[0] ? word("PMIX_NAMESPACE")
                                           : word("OMPI_MCA_ess_base_jobid"));
    } else {
        snprintf(job, size, "%s %s:%s", s, word("HOROVOD_GLOO_RENDEZVOUS_ADDR"),
                 word("HOROVOD_GLOO_RENDEZVOUS_PORT"));
        snprintf(host, sizeof host, "%s", word("HOROVOD_GLOO_RENDEZVOUS_ADDR"));
    }
    unsigned port = PORT_FIRST + (unsigned)(ot_hash_stable(job, strlen(job), 0x6d656574) % PORT_N);
    if (one_host) {
        snprintf(host, sizeof host, "127.0.0.1");
    } else if (strcmp(s, "openmpi") == 0) {
        hosts_of_uri(word("OMPI_MCA_orte_hnp_uri"), port, hosts, sizeof hosts);
    }
    if (host[0] != 0) {
        snprintf(hosts, sizeof hosts, "%s:%u", host, port);
    }
    if (hosts[0] == 0 && word("OVERTAKE_RENDEZVOUS")[0] == 0) {
        return ot_fail(err, OT_PRECONDITION,
                       "rank %" PRId32 " of %" PRId32 " (as %s says): it does "
                       "not say where rank 0 runs; set " NEVER,
                       id->rank, id->size, s);
    }
    snprintf(id->rendezvous, sizeof id->rendezvous, "%s", hosts);
    return OT_OK;
}

static ot_rc find_rendezvous(ot_identity *id, ot_error *err)
{
    char job[600] = "overtake";
    const char *given = word("OVERTAKE_RENDEZVOUS"), *key_fd = word("OVERTAKE_KEY_FD");
    bool ours = strcmp(id->source, "overtake") == 0;
    if (!ours) {
        OT_TRY(find_job(id, job, sizeof job, err));
    }
    if (given[0] != 0) {
        if (strlen(given) >= sizeof id->rendezvous) {
            return ot_fail(err, OT_INVALID,
                           "OVERTAKE_RENDEZVOUS='%.40s...' is longer than %zu bytes", given,
                           sizeof id->rendezvous - 1);
        }
        snprintf(id->rendezvous, sizeof id->rendezvous, "%s", given);
    } else if (ours) {
        return ot_fail(err, OT_INVALID,
                       "OVERTAKE_RANK is set and OVERTAKE_RENDEZVOUS is not; start "
                       "the ranks with `overtake run`, or set " NEVER);
    }
    bool launched = ours && key_fd[0] != 0;
    ot_rc rc = OT_OK;
    (void)(launched && number("OVERTAKE_WORKER", &id->worker, err, &rc));
    OT_TRY(rc);
    id->launched = launched;
    id->serves = !launched && id->rank == 0;
    return launched ? key_from_fd(key_fd, id, err) : key_from_secret(job, id, err);
}

ot_rc ot_identity_read(ot_identity *out, ot_error *err)
{
    ot_identity id = {.rank = -1, .size = -1, .local_rank = -1, .local_size = -1, .worker = -1};
    const launcher *l = NULL;
    OT_TRY(find(&id, &l, err));
    snprintf(id.source, sizeof id.source, "%s", l != NULL ? l->source : "alone");
    if (l == NULL) {
        id.rank = id.local_rank = 0;
        id.size = id.local_size = 1;
    } else {
        OT_TRY(check(&id, err));
        bool alone = id.size == 1 && word("OVERTAKE_RENDEZVOUS")[0] == 0;
        OT_TRY(alone ? OT_OK : find_rendezvous(&id, err));
    }
    *out = id;
    return OT_OK;
}

void ot_identity_host(char host[256], char machine[96])
{
    OT_AUTO(ot_str_done) ot_str boot = OT_STR_INIT;
    struct stat net = {0};
    if (gethostname(host, 256) != 0) {
        snprintf(host, 256, "localhost");
    }
    host[255] = 0;
    if (ot_disk_read_all(ot_disk_posix(), "/proc/sys/kernel/random/boot_id", 64, &boot, NULL) !=
        OT_OK) {
        ot_str_clear(&boot);
        ot_str_adds(&boot, host);
    }
    (void)stat("/proc/self/ns/net", &net);
    snprintf(machine, 96, "%.*s:%" PRIu64 ":%u", (int)OT_MIN(strcspn(boot.data, "\n"), (size_t)48),
             boot.data, (uint64_t)net.st_ino, (unsigned)geteuid());
}
