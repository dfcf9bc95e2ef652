/* `overtake keys`, `trust`, `servers`: who signs, whose signature counts, and where others are. */
#include "base/disk.h"
#include "base/mem.h"
#include "cli/appfile.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/servers.h"
#include "cli/table.h"
#include "cli/text.h"
#include "model/trust.h"

#include <string.h>

static void view_keys(const json_t *answer, ot_str *out)
{
    ot_str_addf(out, "this server signs with key %s\n  %s\n", ot_cli_get(answer, "id"),
                ot_cli_get(answer, "key"));
    ot_str_adds(out, "where it shall be trusted: overtake trust add NAME ");
    ot_cli_add_clean(out, ot_cli_get(answer, "key"));
    ot_str_addc(out, '\n');
}

static int run_keys(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_str_adds(&target, "/api/v1/keys");
    return ot_cli_client_run(args, "GET", &target, NULL, view_keys);
}

/* ------------------------------------------------------------------ trust */

static void view_trust(const json_t *answer, ot_str *out)
{
    static const ot_cli_column columns[] = {
        {"NAME", "name", OT_CLI_PLAIN},
        {"KEY", "id", OT_CLI_PLAIN},
        {"ADDED", "added_us", OT_CLI_TIME},
        {"BY", "actor", OT_CLI_PLAIN},
    };
    ot_cli_table_json(json_object_get(answer, "keys"), columns, OT_COUNT(columns), out);
}

static void view_changed(const json_t *answer, ot_str *out)
{
    ot_str_addf(out, "%s: done (event %" JSON_INTEGER_FORMAT ")\n", ot_cli_get(answer, "name"),
                (json_int_t)ot_cli_int(answer, "event"));
}

static int run_trust_list(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_str_adds(&target, "/api/v1/trust");
    return ot_cli_client_run(args, "GET", &target, NULL, view_trust);
}

/* A file where there is one of that name, else the key itself. */
static ot_rc key_of(const char *text, char out[OT_KEY_TEXT], ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str file = OT_STR_INIT;
    ot_key key;
    if (ot_disk_exists(ot_disk_posix(), text)) {
        OT_TRY(ot_disk_read_all(ot_disk_posix(), text, OT_KEY_FILE_MAX, &file, err));
        ot_rc rc = ot_key_parse(file.data, file.len, &key, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "%s", text);
        }
    } else {
        OT_TRY(ot_key_parse(text, strlen(text), &key, err));
    }
    ot_key_text(&key, out);
    return OT_OK;
}

static int run_trust_add(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    char key[OT_KEY_TEXT];
    ot_error err = {0};
    if (key_of(ot_args_pos(args, "KEY"), key, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    json_t *body = json_pack("{s:s,s:s}", "name", ot_args_pos(args, "NAME"), "key", key);
    ot_str_adds(&target, "/api/v1/trust");
    int code = ot_cli_client_run(args, "POST", &target, body, view_changed);
    json_decref(body);
    return code;
}

static int run_trust_remove(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_cli_target(&target, "/api/v1/trust/", ot_args_pos(args, "NAME"), "/remove");
    return ot_cli_client_run(args, "POST", &target, NULL, view_changed);
}

/* ------------------------------------------------------------------ servers */

static int run_servers_list(const ot_args *args)
{
    static const char *const headings[] = {"NAME", "URL", "TOKEN FILE"};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    OT_AUTO(ot_cli_table_done) ot_cli_table t;
    json_t *servers = NULL, *s;
    const char *name;
    ot_error err = {0};
    ot_cli_table_init(&t, headings, OT_COUNT(headings));
    if (ot_cli_servers_read(&servers, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    json_object_foreach(servers, name, s)
    {
        ot_cli_table_cell(&t, name);
        ot_cli_table_cell(&t, ot_cli_get(s, "url"));
        ot_cli_table_cell(&t, ot_cli_get(s, "token_file"));
    }
    ot_cli_table_print(&t, &out);
    int code = ot_args_json(args) ? ot_cli_print_json(servers) : ot_cli_print(&out);
    json_decref(servers);
    return code;
}

/* Asks the server who it is: a wrong address or token shows now and not in the middle of a night.
 */
static ot_rc add_server(const ot_args *args, const char *file, ot_error *err)
{
    const char *name = ot_args_pos(args, "NAME"), *url = ot_args_pos(args, "URL");
    ot_cli_client *c;
    json_t *servers = NULL, *keys = NULL;
    if (!ot_name_ok(name)) {
        return ot_fail(err, OT_INVALID,
                       "'%.80s' is no name for a server: 1 to 64 characters of A-Z a-z 0-9 . _ -",
                       name);
    }
    OT_TRY(ot_cli_client_open_at(url, file, &c, err));
    ot_rc rc = ot_cli_client_call(c, "GET", "/api/v1/keys", NULL, &keys, err);
    ot_cli_client_close(c);
    json_decref(keys);
    OT_TRY(rc);
    OT_TRY(ot_cli_servers_read(&servers, err));
    json_object_set_new(servers, name, json_pack("{s:s,s:s}", "url", url, "token_file", file));
    rc = ot_cli_servers_write(servers, err);
    json_decref(servers);
    return rc;
}

static int run_servers_add(const ot_args *args)
{
    char file[OT_PATH_MAX];
    ot_error err = {0};
    const char *given = ot_args_str(args, "token-file");
    if (given == NULL) {
        return ot_cli_usage(args, "--token-file is needed: the file 'token' of its data directory, "
                                  "or a copy that only you can read");
    }
    if (ot_cli_absolute(given, file, &err) != OT_OK || add_server(args, file, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    return 0;
}

static int run_servers_remove(const ot_args *args)
{
    const char *name = ot_args_pos(args, "NAME");
    json_t *servers = NULL;
    ot_error err = {0};
    ot_rc rc = ot_cli_servers_read(&servers, &err);
    if (rc == OT_OK && json_object_del(servers, name) != 0) {
        rc = ot_fail(&err, OT_NOT_FOUND, "no server '%.64s'; overtake servers list shows them",
                     name);
    }
    if (rc == OT_OK) {
        rc = ot_cli_servers_write(servers, &err);
    }
    json_decref(servers);
    return rc == OT_OK ? 0 : ot_cli_fail(args, &err);
}

static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS};
static const ot_opt add_opts[] = {{.name = "token-file",
                                   .type = OT_OPT_STRING,
                                   .value = "FILE",
                                   .help = "file with its token; only its path is kept",
                                   .env = ""}};
static const ot_pos name_pos[] = {{.name = "NAME", .help = "as it is called here"}};
static const ot_pos key_pos[] = {
    {.name = "NAME", .help = "as it shall be called here: the server whose key it is"},
    {.name = "KEY", .help = "what `overtake keys` prints there, or a PEM file with it"}};
static const ot_pos server_pos[] = {
    {.name = "NAME", .help = "as it shall be called here"},
    {.name = "URL", .help = "http://127.0.0.1:PORT or https://..."}};

const ot_command ot_cli_keys_command = {.name = "keys",
                                        .summary = "show the key this server signs with",
                                        OT_OPTS(opts),
                                        .run = run_keys};
const ot_command ot_cli_trust_add_command = {
    .name = "trust add",
    .summary = "accept versions that this key signed",
    OT_OPTS(opts),
    OT_POS(key_pos),
    .run = run_trust_add,
};
const ot_command ot_cli_trust_list_command = {.name = "trust list",
                                              .summary =
                                                  "list the keys whose versions are accepted",
                                              OT_OPTS(opts),
                                              .run = run_trust_list};
const ot_command ot_cli_trust_remove_command = {
    .name = "trust remove",
    .summary = "accept nothing more that this key signed; what came stays",
    OT_OPTS(opts),
    OT_POS(name_pos),
    .run = run_trust_remove,
};
const ot_command ot_cli_servers_add_command = {
    .name = "servers add",
    .summary = "give another server a name (in your own configuration)",
    OT_OPTS(add_opts),
    OT_POS(server_pos),
    .run = run_servers_add,
};
const ot_command ot_cli_servers_list_command = {.name = "servers list",
                                                .summary = "list the servers that have a name",
                                                .run = run_servers_list};
const ot_command ot_cli_servers_remove_command = {
    .name = "servers remove",
    .summary = "forget a server's name",
    OT_POS(name_pos),
    .run = run_servers_remove,
};
