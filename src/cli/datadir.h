/* The data directory as a process takes it over (docs/architecture.md, "Processes").
 *
 * Threads: before others start. */
#ifndef OT_CLI_DATADIR_H
#define OT_CLI_DATADIR_H

#include "base/disk.h"
#include "base/error.h"
#include "base/sock.h"
#include "net/tls.h"

#include <stdbool.h>

ot_rc ot_datadir_absolute(const char *path, char out[OT_PATH_MAX], ot_error *err) OT_CHECKED;
/* Makes it if missing and locks it; the lock is held until *lock_out and its copies in other
 * processes close. OT_UNAVAILABLE, with the process named, when another overtake has it; where only
 * children of a killed one are left, waits for their end (at most 40 s). `out` is absolute. */
ot_rc ot_datadir_lock(const char *path, char out[OT_PATH_MAX], int *lock_out,
                      ot_error *err) OT_CHECKED;
/* The same, and refuses one that a restore left half done. */
ot_rc ot_datadir_take(const char *path, char out[OT_PATH_MAX], int *lock_out,
                      ot_error *err) OT_CHECKED;
/* The same directory, whose lock was handed over: names its owner anew. */
ot_rc ot_datadir_retake(const char *path, char out[OT_PATH_MAX], ot_error *err) OT_CHECKED;
/* The process that has it, and whether that one can be upgraded in place (cli/upgrade.h).
 * OT_UNAVAILABLE: none has. */
ot_rc ot_datadir_owner(const char *dir, int *pid_out, bool *upgrades_out, ot_error *err) OT_CHECKED;
/* Makes the control API's token if there is none. OT_DENIED when others can read it. */
ot_rc ot_datadir_token(const char *dir, ot_error *err) OT_CHECKED;
/* The same for the token and the key that the control plane signs with (model/trust.h). */
ot_rc ot_datadir_secrets(const char *dir, ot_error *err) OT_CHECKED;
/* Writes down where commands find the control plane: at the address, or where that speaks TLS at
 * the Unix socket beside it. */
ot_rc ot_datadir_announce(const char *dir, const char *address, bool tls, ot_error *err) OT_CHECKED;
/* Without TLS the control API is for this machine only; with it the files must be good. The options
 * are what the messages name: "listen", "tls". */
ot_rc ot_datadir_check_control(const ot_addr *a, const char *option, const ot_tls_files *tls,
                               const char *tls_option, ot_error *err) OT_CHECKED;

#endif
