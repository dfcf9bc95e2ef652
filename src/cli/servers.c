#include "cli/servers.h"

#include "base/disk.h"
#include "base/mem.h"
#include "cli/text.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1u << 20)

static ot_rc config_dir(char out[OT_PATH_MAX], ot_error *err)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char base[OT_PATH_MAX];
    if (xdg != NULL && xdg[0] == '/') {
        return ot_path_join(out, xdg, "overtake", err);
    }
    if (home == NULL || home[0] != '/') {
        return ot_fail(err, OT_PRECONDITION,
                       "neither XDG_CONFIG_HOME nor HOME says where the list of servers lies; name "
                       "one with --to URL --token-file FILE");
    }
    OT_TRY(ot_path_join(base, home, ".config", err));
    return ot_path_join(out, base, "overtake", err);
}

ot_rc ot_cli_servers_read(json_t **servers_out, ot_error *err)
{
    char dir[OT_PATH_MAX], path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    json_error_t je;
    OT_TRY(config_dir(dir, err));
    OT_TRY(ot_path_join(path, dir, "servers.json", err));
    ot_rc rc = ot_disk_read_all(ot_disk_posix(), path, FILE_MAX, &text, err);
    if (rc == OT_NOT_FOUND) {
        *servers_out = json_object();
        return OT_OK;
    }
    OT_TRY(rc);
    json_t *j = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(j)) {
        bool bad = j == NULL;
        json_decref(j);
        return ot_fail(err, OT_INVALID, "%s:%d: %s", path, bad ? je.line : 1,
                       bad ? je.text : "a JSON object is expected");
    }
    *servers_out = j;
    return OT_OK;
}

ot_rc ot_cli_servers_write(const json_t *servers, ot_error *err)
{
    char dir[OT_PATH_MAX], path[OT_PATH_MAX];
    OT_TRY(config_dir(dir, err));
    OT_TRY(ot_path_join(path, dir, "servers.json", err));
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), dir, 0700, err));
    char *text = json_dumps(servers, JSON_INDENT(1) | JSON_SORT_KEYS);
    ot_rc rc = text == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "no memory for the list of servers")
                   : ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, err);
    free(text);
    return rc;
}

/* The names that are there, for the error of one that is not. */
static void add_names(const json_t *servers, ot_str *out)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)servers, name, v)
    {
        ot_str_adds(out, out->len > 0 ? ", " : "");
        ot_cli_add_clean(out, name);
    }
}

ot_rc ot_cli_servers_open(const ot_args *args, ot_cli_client **client_out, ot_error *err)
{
    const char *to = ot_args_str(args, "to"), *file = ot_args_str(args, "token-file");
    OT_AUTO(ot_str_done) ot_str names = OT_STR_INIT;
    if (to == NULL) {
        return ot_fail(err, OT_INVALID, "--to is needed: the server that shall have it");
    }
    if (strstr(to, "://") != NULL) {
        return file != NULL ? ot_cli_client_open_at(to, file, client_out, err)
                            : ot_fail(err, OT_INVALID,
                                      "--to %.200s needs --token-file FILE; or give the server a "
                                      "name: overtake servers add NAME URL --token-file FILE",
                                      to);
    }
    json_t *servers = NULL;
    OT_TRY(ot_cli_servers_read(&servers, err));
    const json_t *s = json_object_get(servers, to);
    ot_rc rc;
    if (!json_is_object(s)) {
        add_names(servers, &names);
        rc = ot_fail(err, OT_NOT_FOUND,
                     "no server '%.64s'; %s%s. Add it: overtake servers add %.64s URL --token-file "
                     "FILE",
                     to, names.len > 0 ? "there are: " : "none has a name yet",
                     names.len > 0 ? names.data : "", to);
    } else {
        rc = ot_cli_client_open_at(ot_cli_get(s, "url"),
                                   file != NULL ? file : ot_cli_get(s, "token_file"), client_out,
                                   err);
    }
    json_decref(servers);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "server %.64s", to);
}
