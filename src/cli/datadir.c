#include "cli/datadir.h"

#include "api/control.h"
#include "backup/backup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "cli/handover.h"
#include "launch/proc.h"
#include "model/trust.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TOKEN_BYTES 32
#define LEFT_WAIT_US 40000000 /* longer than children take to drain */
#define LEFT_POLL_US 20000

ot_rc ot_datadir_absolute(const char *path, char out[OT_PATH_MAX], ot_error *err)
{
    char cwd[OT_PATH_MAX];
    if (path[0] == '/') {
        return ot_path_join(out, "/", path + 1, err);
    }
    if (getcwd(cwd, sizeof cwd) == NULL) {
        return ot_fail(err, OT_INTERNAL, "the working directory can't be named");
    }
    return ot_path_join(out, cwd, path, err);
}

/* The lock names its owner, "PID START HANDOVER\n", so that others can tell whether that one lives:
 * children of a killed one hold the lock on while they drain. The lock itself is the truth; this is
 * a hint.
 */
static ot_rc sign_lock(const char *lock, ot_error *err)
{
    char text[64];
    ot_launch_proc self;
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    OT_TRY(ot_launch_proc_read(getpid(), &self, err));
    int n = snprintf(text, sizeof text, "%d %" PRIu64 " %d\n", (int)self.pid, self.start_time,
                     OT_HANDOVER_VERSION);
    OT_TRY(d->ops->open(d, lock, OT_OPEN_WRITE | OT_OPEN_TRUNC | OT_OPEN_NOFOLLOW, 0600, &f, err));
    ot_rc rc = f->ops->pwrite(f, text, (size_t)n, 0, err);
    ot_file_close(f);
    return rc;
}

/* The living owner, 0 when it is dead; -1 when the lock does not tell. *handover_out: 0 when it
 * can't hand over. */
static int lock_owner(const char *lock, int *handover_out)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    int pid;
    uint64_t start;
    *handover_out = 0;
    if (ot_disk_read_all(ot_disk_posix(), lock, 64, &text, NULL) != OT_OK || text.len == 0 ||
        sscanf(text.data, "%d %" SCNu64 " %d", &pid, &start, handover_out) < 2) {
        return -1;
    }
    return ot_launch_proc_alive(pid, start) ? pid : 0;
}

/* Takes the lock; waits for it while only what a killed owner left behind holds it. */
static ot_rc take_lock(const char *dir, const char *lock, int *lock_out, ot_error *err)
{
    uint64_t give_up = ot_clock_mono_ns() + LEFT_WAIT_US * 1000ull;
    bool told = false;
    for (;;) {
        ot_rc rc = ot_disk_lock_file(lock, lock_out, err);
        if (rc != OT_UNAVAILABLE) {
            return rc;
        }
        int handover, owner = lock_owner(lock, &handover);
        if (owner > 0) {
            return ot_fail(err, rc,
                           "data directory '%s' is in use by another overtake (process %d); stop "
                           "it or take another with --data",
                           dir, owner);
        }
        if (owner < 0 || ot_clock_mono_ns() >= give_up) {
            return ot_fail(err, rc,
                           "data directory '%s' is in use by another overtake; stop it or take "
                           "another with --data",
                           dir);
        }
        if (!told) {
            ot_info("up", "%s: another overtake was killed; waiting until its children have ended",
                    dir);
            told = true;
        }
        ot_clock_sleep_us(LEFT_POLL_US);
    }
}

ot_rc ot_datadir_lock(const char *path, char out[OT_PATH_MAX], int *lock_out, ot_error *err)
{
    char lock[OT_PATH_MAX];
    int fd = -1;
    OT_TRY(ot_datadir_absolute(path, out, err));
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), out, 0700, err));
    OT_TRY(ot_path_join(lock, out, "lock", err));
    OT_TRY(take_lock(out, lock, &fd, err));
    ot_rc rc = sign_lock(lock, err);
    if (rc != OT_OK) {
        ot_fd_close(&fd);
        return rc;
    }
    *lock_out = fd;
    return OT_OK;
}

ot_rc ot_datadir_take(const char *path, char out[OT_PATH_MAX], int *lock_out, ot_error *err)
{
    OT_TRY(ot_datadir_lock(path, out, lock_out, err));
    if (ot_backup_is_half_restored(ot_disk_posix(), out)) {
        ot_fd_close(lock_out);
        return ot_fail(err, OT_PRECONDITION,
                       "data directory '%s': a restore into it was broken off; run `overtake "
                       "restore BACKUP --data %s` again",
                       out, out);
    }
    return OT_OK;
}

ot_rc ot_datadir_retake(const char *path, char out[OT_PATH_MAX], ot_error *err)
{
    char lock[OT_PATH_MAX];
    OT_TRY(ot_datadir_absolute(path, out, err));
    OT_TRY(ot_path_join(lock, out, "lock", err));
    return sign_lock(lock, err);
}

ot_rc ot_datadir_owner(const char *dir, int *pid_out, bool *upgrades_out, ot_error *err)
{
    char lock[OT_PATH_MAX];
    int handover;
    OT_TRY(ot_path_join(lock, dir, "lock", err));
    int pid = lock_owner(lock, &handover);
    if (pid <= 0) {
        return ot_fail(err, OT_UNAVAILABLE, "no overtake runs in data directory '%s'", dir);
    }
    *pid_out = pid;
    *upgrades_out = handover > 0;
    return OT_OK;
}

ot_rc ot_datadir_token(const char *dir, ot_error *err)
{
    char path[OT_PATH_MAX], text[2 * TOKEN_BYTES + 2];
    uint8_t secret[TOKEN_BYTES];
    ot_disk *d = ot_disk_posix();
    ot_stat st;
    OT_TRY(ot_path_join(path, dir, "token", err));
    if (d->ops->stat(d, path, &st, NULL) == OT_OK) {
        if ((st.mode & 077) != 0) {
            return ot_fail(err, OT_DENIED,
                           "%s can be read by others (mode %03o); chmod 600 it, or remove it and "
                           "start again for a new token",
                           path, st.mode);
        }
        return OT_OK;
    }
    ot_random_bytes(secret, sizeof secret);
    ot_hex(secret, sizeof secret, text);
    text[2 * TOKEN_BYTES] = '\n';
    return ot_disk_write_atomic(d, path, text, 2 * TOKEN_BYTES + 1, 0600, err);
}

ot_rc ot_datadir_secrets(const char *dir, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_signer_wipe) ot_signer signer = {0};
    OT_TRY(ot_datadir_token(dir, err));
    OT_TRY(ot_path_join(path, dir, OT_SIGNER_FILE, err));
    return ot_signer_open(ot_disk_posix(), path, &signer, err);
}

ot_rc ot_datadir_announce(const char *dir, const char *address, bool tls, ot_error *err)
{
    char path[OT_PATH_MAX], local[OT_PATH_MAX + 32];
    OT_TRY(ot_path_join(path, dir, "control.addr", err));
    if (tls) { /* commands on this machine know no name that the certificate is for */
        snprintf(local, sizeof local, "unix:%s/" OT_API_LOCAL, dir);
        address = local;
    }
    return ot_disk_write_atomic(ot_disk_posix(), path, address, strlen(address), 0600, err);
}

ot_rc ot_datadir_check_control(const ot_addr *a, const char *option, const ot_tls_files *tls,
                               const char *tls_option, ot_error *err)
{
    if ((tls->cert == NULL) != (tls->key == NULL) || (tls->cert != NULL && a->is_unix)) {
        return ot_fail(err, OT_INVALID, "--%s-cert and --%s-key belong together, and to a port",
                       tls_option, tls_option);
    }
    if (tls->cert != NULL) {
        ot_tls *t;
        OT_TRY(ot_tls_create(tls, &t, err)); /* what would be found too late */
        ot_tls_destroy(t);
        return OT_OK;
    }
    return ot_addr_is_loopback(a)
               ? OT_OK
               : ot_fail(err, OT_DENIED,
                         "--%s %s: without TLS the control API is served on this machine only "
                         "(127.0.0.1, ::1 or unix:PATH); give it --%s-cert and --%s-key",
                         option, a->host, tls_option, tls_option);
}
