/* What a training was given, as files of its run's directory: they are there before it starts, so
 * that a run whose start was not saved is found with them.
 *
 *     data.json    [{"name", "sha256", "rows"}...]
 *     parent.json  {"version", "bundle", "began_from": bool}, or {} where nothing served */
#include "pipeline/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIVEN_MAX (1u << 20)

static ot_rc save(const char *dir, const char *name, json_t *value, ot_error *err)
{
    char path[OT_PATH_MAX];
    char *text = json_dumps(value, JSON_COMPACT);
    json_decref(value);
    ot_rc rc = text == NULL ? ot_fail(err, OT_EXHAUSTED, "%s/%s: no memory", dir, name)
                            : ot_path_join(path, dir, name, err);
    if (rc == OT_OK) {
        rc = ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0644, err);
    }
    free(text);
    return rc;
}

static json_t *load(const char *dir, const char *name)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (ot_path_join(path, dir, name, NULL) != OT_OK ||
        ot_disk_read_all(ot_disk_posix(), path, GIVEN_MAX, &text, NULL) != OT_OK) {
        return NULL;
    }
    return json_loadb(text.data, text.len, 0, NULL);
}

ot_rc pl_given_save_data(const char *dir, const pl_data *data, size_t n, ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("{s:s,s:s,s:I}", "name", data[i].name, "sha256",
                                              ot_digest_hex(&data[i].digest, hex), "rows",
                                              (json_int_t)data[i].rows));
    }
    return save(dir, "data.json", list, err);
}

size_t pl_given_data(const char *dir, pl_data out[OT_APP_DATA_MAX])
{
    json_t *list = load(dir, "data.json");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < OT_APP_DATA_MAX; i++) {
        const json_t *x = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(x, "name"));
        const char *hex = json_string_value(json_object_get(x, "sha256"));
        pl_data d = {.rows = json_integer_value(json_object_get(x, "rows"))};
        if (name != NULL && hex != NULL && ot_digest_parse(hex, &d.digest)) {
            snprintf(d.name, sizeof d.name, "%s", name);
            out[n++] = d;
        }
    }
    json_decref(list);
    return n;
}

ot_rc pl_given_save_parent(const char *dir, const pl_parent *p, ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    json_t *j = p->version > 0
                    ? json_pack("{s:I,s:s,s:b}", "version", (json_int_t)p->version, "bundle",
                                ot_digest_hex(&p->bundle, hex), "began_from", (int)p->began_from)
                    : json_object();
    return save(dir, "parent.json", j, err);
}

bool pl_given_parent(const char *dir, pl_parent *out)
{
    json_t *j = load(dir, "parent.json");
    const char *hex = json_string_value(json_object_get(j, "bundle"));
    bool there = json_is_object(j);
    *out = (pl_parent){0};
    if (hex != NULL && ot_digest_parse(hex, &out->bundle)) {
        out->version = json_integer_value(json_object_get(j, "version"));
        out->began_from = json_is_true(json_object_get(j, "began_from"));
    }
    json_decref(j);
    return there;
}

json_t *pl_lineage_json(int64_t run, const pl_parent *p, const ot_digest *code, const pl_data *data,
                        size_t n, const char *command)
{
    char hex[OT_DIGEST_HEX];
    json_t *l = json_object(), *sets = json_object();
    ot_digest_hex(&p->bundle, hex);
    json_object_set_new(l, "parent", p->version > 0 ? json_string(hex) : json_null());
    if (p->version > 0 && p->began_from) {
        json_object_set_new(
            l, "began_from",
            json_pack("{s:I,s:s}", "version", (json_int_t)p->version, "bundle", hex));
    }
    json_object_set_new(l, "run", run != 0 ? json_integer(run) : json_null());
    json_object_set_new(l, "code",
                        code != NULL ? json_string(ot_digest_hex(code, hex)) : json_null());
    for (size_t i = 0; i < n; i++) {
        json_object_set_new(sets, data[i].name, json_string(ot_digest_hex(&data[i].digest, hex)));
    }
    json_object_set_new(l, "data", sets);
    json_object_set_new(l, "parameters", json_pack("{s:s}", "run", command));
    json_object_set_new(l, "environment", json_object());
    return l;
}
