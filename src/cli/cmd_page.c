/* `overtake page`: where the page is. */
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"

static int run(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_cli_client *c = NULL;
    ot_error err = {0};
    ot_rc rc = ot_cli_client_open(args, &c, &err);
    if (rc == OT_OK) {
        if (ot_args_json(args)) {
            ot_str_adds(&out, "{\"page\": \"");
        }
        rc = ot_cli_client_page(c, &out, &err);
        ot_str_adds(&out, ot_args_json(args) ? "\"}\n" : "\n");
    }
    ot_cli_client_close(c);
    return rc == OT_OK ? ot_cli_print(&out) : ot_cli_fail(args, &err);
}

static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS};

const ot_command ot_cli_page_command = {
    .name = "page",
    .summary = "the page's address for a browser on this machine",
    .detail =
        "The address ends with the token. The page takes it out of the address bar at once and "
        "keeps it\nin that tab; whoever has the address can do what you can do.",
    OT_OPTS(opts),
    .run = run,
};
