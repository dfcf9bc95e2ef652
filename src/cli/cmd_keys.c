/* `overtake keys add`, `list`, `revoke`, `off`: who may predict. In the control plane, or in a file
 * that a replica alone reads. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "cli/text.h"
#include "model/apikey.h"
#include "serve/access.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ in a file */

static ot_rc read_file(const char *path, json_t **root_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_apikey *keys = NULL;
    size_t n;
    if (!ot_disk_exists(ot_disk_posix(), path)) {
        *root_out = json_pack("{s:[]}", "keys");
        return OT_OK;
    }
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, OT_ACCESS_FILE_MAX, &text, err));
    ot_rc rc = ot_access_parse(text.data != NULL ? text.data : "", text.len, &keys, &n, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s", path);
    }
    ot_free(keys);
    *root_out = json_loadb(text.data, text.len, 0, NULL);
    return OT_OK;
}

static ot_rc write_file(const char *path, const json_t *root, ot_error *err)
{
    char *text = json_dumps(root, JSON_INDENT(1));
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory", path);
    }
    ot_rc rc = ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, err);
    free(text);
    return rc;
}

static json_t *find(const json_t *root, const char *name, size_t *at_out)
{
    json_t *one, *list = json_object_get(root, "keys");
    size_t i;
    json_array_foreach(list, i, one)
    {
        if (strcmp(ot_cli_get(one, "name"), name) == 0) {
            *at_out = i;
            return one;
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------ add */

static json_t *wanted(const ot_args *args, ot_error *err)
{
    const char *const *names;
    size_t n = ot_args_list(args, "for", &names);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_string(names[i]));
    }
    json_t *j = json_pack("{s:s,s:o}", "name", ot_args_pos(args, "NAME"), "deployments", list);
    if (ot_args_set(args, "expires")) {
        json_object_set_new(j, "expires_us",
                            json_integer(ot_clock_wall_us() + ot_args_us(args, "expires")));
    }
    static const char *const rates[][2] = {{"requests", "requests_per_s"}, {"rows", "rows_per_s"}};
    for (size_t i = 0; i < OT_COUNT(rates); i++) {
        if (ot_args_set(args, rates[i][0])) {
            json_object_set_new(j, rates[i][1], json_real((double)ot_args_int(args, rates[i][0])));
        }
    }
    if (ot_args_bool(args, "admin")) {
        json_object_set_new(j, "admin", json_true());
    }
    if (j == NULL) {
        ot_rc ignored = ot_fail(err, OT_INVALID, "the name is not UTF-8");
        (void)ignored;
    }
    return j;
}

static ot_rc add_to_file(const char *path, json_t *j, char text[OT_APIKEY_TEXT], ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    ot_apikey k;
    json_t *root = NULL;
    size_t at;
    OT_TRY(read_file(path, &root, err));
    ot_apikey_make(&k, text);
    json_object_set_new(j, "id", json_string(k.id));
    json_object_set_new(j, "hash", json_string(ot_digest_hex(&k.hash, hex)));
    ot_rc rc = ot_apikey_read(j, &k, err);
    if (rc == OT_OK && find(root, k.name, &at) != NULL) {
        rc = ot_fail(err, OT_EXISTS, "client '%s' has a key in %s already", k.name, path);
    }
    if (rc == OT_OK) {
        json_array_append(json_object_get(root, "keys"), j);
        rc = write_file(path, root, err);
    }
    json_decref(root);
    return rc;
}

static void view_added(const json_t *answer, ot_str *out)
{
    ot_str_addf(out, "%s\n", ot_cli_get(answer, "key"));
}

static int run_add(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    char text[OT_APIKEY_TEXT];
    ot_error err = {0};
    const char *file = ot_args_str(args, "file");
    json_t *j = wanted(args, &err);
    int code;
    if (j == NULL) {
        return ot_cli_fail(args, &err);
    }
    if (file == NULL) {
        ot_str_adds(&target, "/api/v1/clients");
        code = ot_cli_client_run(args, "POST", &target, j, view_added);
    } else if (add_to_file(file, j, text, &err) != OT_OK) {
        code = ot_cli_fail(args, &err);
    } else if (ot_args_json(args)) {
        json_t *answer = json_pack("{s:s,s:s}", "name", ot_cli_get(j, "name"), "key", text);
        code = ot_cli_print_json(answer);
        json_decref(answer);
    } else {
        ot_str_addf(&target, "%s\n", text);
        code = ot_cli_print(&target);
    }
    json_decref(j);
    return code;
}

/* ------------------------------------------------------------------ list, revoke, off */

static void view_rate(const json_t *one, const char *key, ot_cli_table *t)
{
    double rate = ot_cli_num(one, key);
    if (rate > 0) {
        ot_cli_table_cellf(t, "%g", rate);
    } else {
        ot_cli_table_cell(t, NULL);
    }
}

static void view_key(const json_t *one, int64_t now_us, ot_cli_table *t)
{
    char time[OT_CLI_TIME_TEXT];
    OT_AUTO(ot_str_done) ot_str scope = OT_STR_INIT;
    int64_t expires = ot_cli_int(one, "expires_us");
    const json_t *name, *list = json_object_get(one, "deployments");
    size_t i;
    json_array_foreach(list, i, name)
    {
        ot_str_addf(&scope, "%s%s", i > 0 ? " " : "", json_string_value(name));
    }
    ot_cli_table_cell(t, ot_cli_get(one, "name"));
    ot_cli_table_cell(t, ot_cli_get(one, "id"));
    ot_cli_table_cellf(t, "%s%s", scope.len > 0 ? scope.data : "all",
                       ot_cli_true(one, "admin") ? " (admin)" : "");
    view_rate(one, "requests_per_s", t);
    view_rate(one, "rows_per_s", t);
    if (expires == 0) {
        ot_cli_table_cell(t, "never");
    } else {
        ot_cli_table_cellf(t, "%s%s", ot_cli_time(expires, time),
                           expires <= now_us ? " (expired)" : "");
    }
}

static void view_keys(const json_t *list, ot_str *out)
{
    static const char *const headings[] = {"CLIENT",      "ID",      "FOR",
                                           ">REQUESTS/S", ">ROWS/S", "EXPIRES"};
    ot_cli_table t;
    const json_t *one;
    size_t i;
    int64_t now = ot_clock_wall_us();
    ot_cli_table_init(&t, headings, OT_COUNT(headings));
    json_array_foreach(list, i, one)
    {
        view_key(one, now, &t);
    }
    ot_cli_table_print(&t, out);
    ot_cli_table_done(&t);
}

static void view_clients(const json_t *answer, ot_str *out)
{
    if (!ot_cli_true(answer, "needed")) {
        ot_str_adds(out, "no key is needed: whoever reaches a replica may predict\n");
    }
    view_keys(json_object_get(answer, "clients"), out);
}

static int list_file(const ot_args *args, const char *file)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    json_t *root = NULL, *one;
    ot_error err = {0};
    size_t i;
    if (read_file(file, &root, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    json_array_foreach(json_object_get(root, "keys"), i, one)
    {
        json_object_del(one, "hash");
    }
    view_keys(json_object_get(root, "keys"), &out);
    int code = ot_args_json(args) ? ot_cli_print_json(root) : ot_cli_print(&out);
    json_decref(root);
    return code;
}

static int run_list(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    if (ot_args_str(args, "file") != NULL) {
        return list_file(args, ot_args_str(args, "file"));
    }
    ot_str_adds(&target, "/api/v1/clients");
    return ot_cli_client_run(args, "GET", &target, NULL, view_clients);
}

static void view_changed(const json_t *answer, ot_str *out)
{
    ot_str_addf(out, "%s: done (event %" JSON_INTEGER_FORMAT ")\n", ot_cli_get(answer, "name"),
                (json_int_t)ot_cli_int(answer, "event"));
}

static int revoke_in_file(const ot_args *args, const char *file, const char *name)
{
    json_t *root = NULL;
    ot_error err = {0};
    size_t at;
    ot_rc rc = read_file(file, &root, &err);
    if (rc == OT_OK && find(root, name, &at) == NULL) {
        rc = ot_fail(&err, OT_NOT_FOUND, "client '%.64s' has no key in %s", name, file);
    }
    if (rc == OT_OK) {
        json_array_remove(json_object_get(root, "keys"), at);
        rc = write_file(file, root, &err);
    }
    json_decref(root);
    return rc == OT_OK ? 0 : ot_cli_fail(args, &err);
}

static int run_revoke(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    const char *name = ot_args_pos(args, "NAME"), *file = ot_args_str(args, "file");
    if (file != NULL) {
        return revoke_in_file(args, file, name);
    }
    ot_cli_target(&target, "/api/v1/clients/", name, "/revoke");
    return ot_cli_client_run(args, "POST", &target, NULL, view_changed);
}

static int run_off(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_str_adds(&target, "/api/v1/clients/off");
    return ot_cli_client_run(args, "POST", &target, NULL, view_changed);
}

#define FILE_OPT                                                                                   \
    {                                                                                              \
        .name = "file", .type = OT_OPT_STRING, .value = "FILE",                                    \
        .help = "in this file, for a replica alone (serve --keys), not in the control plane",      \
        .env = ""                                                                                  \
    }
static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS};
static const ot_opt file_opts[] = {OT_CLI_CLIENT_OPTS, FILE_OPT};
static const ot_opt add_opts[] = {
    OT_CLI_CLIENT_OPTS,
    FILE_OPT,
    {.name = "for",
     .type = OT_OPT_STRINGS,
     .value = "DEPLOYMENT",
     .help = "only for this one; may be repeated [all]",
     .env = ""},
    {.name = "expires",
     .type = OT_OPT_DURATION,
     .min = "1s",
     .help = "good for so long [for ever]",
     .env = ""},
    {.name = "requests",
     .type = OT_OPT_INT,
     .min = "1",
     .max = "1000000000",
     .help = "requests a second at each replica",
     .env = ""},
    {.name = "rows",
     .type = OT_OPT_INT,
     .min = "1",
     .max = "1000000000",
     .help = "rows a second at each replica",
     .env = ""},
    {.name = "admin",
     .type = OT_OPT_BOOL,
     .help = "it may also have these models loaded and unloaded",
     .env = ""},
};
static const ot_pos name_pos[] = {{.name = "NAME", .help = "the client's name"}};

const ot_command ot_cli_keys_add_command = {
    .name = "keys add",
    .summary = "make an API key for a client; requests need one from then on",
    .detail = "The key is printed once; what is kept is its digest. A client sends it as\n"
              "Authorization: Bearer KEY, or x-api-key: KEY.",
    OT_OPTS(add_opts),
    OT_POS(name_pos),
    .run = run_add,
};
const ot_command ot_cli_keys_list_command = {.name = "keys list",
                                             .summary = "list the API keys of clients",
                                             OT_OPTS(file_opts),
                                             .run = run_list};
const ot_command ot_cli_keys_revoke_command = {
    .name = "keys revoke",
    .summary = "let a client's API key in no more",
    OT_OPTS(file_opts),
    OT_POS(name_pos),
    .run = run_revoke,
};
const ot_command ot_cli_keys_off_command = {
    .name = "keys off",
    .summary = "let requests in without a key, until one is added",
    OT_OPTS(opts),
    .run = run_off,
};
