#include "cli/datadir.h"

#include "base/random.h"

#include <string.h>
#include <unistd.h>

#define TOKEN_BYTES 32

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

ot_rc ot_datadir_take(const char *path, char out[OT_PATH_MAX], int *lock_out, ot_error *err)
{
    char lock[OT_PATH_MAX];
    OT_TRY(ot_datadir_absolute(path, out, err));
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), out, 0700, err));
    OT_TRY(ot_path_join(lock, out, "lock", err));
    ot_rc rc = ot_disk_lock_file(lock, lock_out, err);
    if (rc == OT_UNAVAILABLE) {
        return ot_fail(err, rc,
                       "data directory '%s' is in use by another overtake; stop it or take another "
                       "with --data",
                       out);
    }
    return rc;
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

ot_rc ot_datadir_announce(const char *dir, const char *address, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, dir, "control.addr", err));
    return ot_disk_write_atomic(ot_disk_posix(), path, address, strlen(address), 0600, err);
}

ot_rc ot_datadir_check_control(const ot_addr *a, const char *option, ot_error *err)
{
    if (ot_addr_is_loopback(a)) {
        return OT_OK;
    }
    return ot_fail(err, OT_DENIED,
                   "--%s %s: the control API is served on this machine only (127.0.0.1, ::1 or "
                   "unix:PATH) as long as there is no TLS",
                   option, a->host);
}
