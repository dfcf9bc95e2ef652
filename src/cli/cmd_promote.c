/* `overtake promote`: a version of this server to another one. */
#include "base/mem.h"
#include "cli/carry.h"
#include "cli/commands.h"
#include "cli/servers.h"

static ot_rc promote(const ot_args *args, json_t **answer_out, ot_error *err)
{
    OT_AUTO(ot_cli_origin_close) ot_cli_origin o = {0};
    ot_cli_client *to = NULL;
    /* First who shall have it: nothing is signed for a server that isn't there. */
    OT_TRY(ot_cli_servers_open(args, &to, err));
    ot_rc rc = ot_cli_origin_open(args, ot_args_pos(args, "MODEL@VERSION"), &o, err);
    if (rc == OT_OK) {
        rc =
            ot_cli_carry(to, o.envelope.data, &o.manifest, ot_cli_origin_read, &o, answer_out, err);
    }
    ot_cli_client_close(to);
    return rc;
}

static int run_promote(const ot_args *args)
{
    json_t *answer = NULL;
    ot_error err = {0};
    if (ot_args_str(args, "to") == NULL) {
        return ot_cli_usage(args, "--to is needed: the server that shall have it");
    }
    return promote(args, &answer, &err) == OT_OK ? ot_cli_carried(args, answer)
                                                 : ot_cli_fail(args, &err);
}

static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS, OT_CLI_TO_OPTS};
static const ot_pos pos[] = {
    {.name = "MODEL@VERSION", .help = "what to send: digits@7, digits@champion"}};

const ot_command ot_cli_promote_command = {
    .group = "Between servers",
    .name = "promote",
    .summary = "send a version to another server, signed, with its lineage",
    .detail = "The other server must trust this one's key (overtake keys, overtake trust add). "
              "There it goes\nthrough the gate and the stages of the app of that name, as a "
              "pushed model does. What broke off\ngoes on where it stood; what is there is not "
              "sent again. Exit code 1 when it is registered there\nand its release could not "
              "begin.",
    OT_OPTS(opts),
    OT_POS(pos),
    .run = run_promote,
};
