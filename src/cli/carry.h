/* A version carried to another server: its envelope first, then the pieces that are lacking there,
 * then the word that it is whole.
 *
 * Threads: one at a time. */
#ifndef OT_CLI_CARRY_H
#define OT_CLI_CARRY_H

#include "cli/client.h"

/* Where the bytes come from: another server, or an archive. Appends the next bytes of a file, 1 to
 * OT_INCOMING_PIECE_MAX; none at its end. */
typedef ot_rc ot_cli_source_fn(void *arg, const char *path, uint64_t offset, ot_str *out,
                               ot_error *err);

/* The answer of the receiver's last route; the caller drops it. When it is there already nothing is
 * sent, and the answer says so in the same form. */
ot_rc ot_cli_carry(ot_cli_client *to, const char *envelope, const ot_str *manifest,
                   ot_cli_source_fn *source, void *arg, json_t **answer_out,
                   ot_error *err) OT_CHECKED;

/* Prints the answer; the exit code: 1 when an app is there and its release did not begin. */
int ot_cli_carried(const ot_args *args, json_t *answer);

/* A version of the server that the client options name: signs it, reads its files. */
typedef struct ot_cli_origin {
    ot_cli_client *client;
    ot_str base; /* /api/v1/models/M/versions/N */
    ot_str envelope, manifest;
} ot_cli_origin;

/* `what`: MODEL@VERSION, MODEL@vVERSION, MODEL@champion. */
ot_rc ot_cli_origin_open(const ot_args *args, const char *what, ot_cli_origin *out,
                         ot_error *err) OT_CHECKED;
void ot_cli_origin_close(ot_cli_origin *o); /* also of a zeroed one; also for OT_AUTO */
ot_cli_source_fn ot_cli_origin_read;        /* arg: the origin */

#endif
