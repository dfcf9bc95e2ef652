/* What an apply would change, setting by setting: both effective configurations as flat lists of
 * key and value, compared. */
#include "pipeline/internal.h"

#include <stdio.h>
#include <string.h>

#define DIFF_ARENA_LIMIT (16u << 20)

static bool is_plain_list(const ot_node *n)
{
    for (const ot_node *i = n->first; i != NULL; i = i->next) {
        if (i->kind != OT_NODE_SCALAR) {
            return false;
        }
    }
    return n->kind == OT_NODE_LIST;
}

static void add_flat(json_t *flat, const char *key, const char *text)
{
    json_object_set_new(flat, key, pl_json_text(text, strlen(text)));
}

static void flatten(const ot_node *n, const char *key, json_t *flat);

static void flatten_map(const ot_node *n, const char *key, json_t *flat)
{
    for (const ot_node *i = n->first; i != NULL; i = i->next) {
        OT_AUTO(ot_str_done) ot_str below = OT_STR_INIT;
        ot_str_addf(&below, "%s%s%s", key, key[0] != 0 ? "." : "", i->key);
        flatten(i, below.data, flat);
    }
}

/* A list of stages: by name, so that one more stage does not move the keys of the others; the
 * second of a name is NAME[2]. */
static void flatten_stages(const ot_node *n, const char *key, json_t *flat)
{
    for (const ot_node *i = n->first; i != NULL; i = i->next) {
        const ot_node *stage = i->kind == OT_NODE_MAP ? i->first : NULL;
        OT_AUTO(ot_str_done) ot_str below = OT_STR_INIT;
        int nth = 1;
        for (const ot_node *k = n->first; stage != NULL && k != i; k = k->next) {
            nth += k->kind == OT_NODE_MAP && k->first != NULL &&
                   strcmp(k->first->key, stage->key) == 0;
        }
        if (stage == NULL) {
            continue;
        }
        ot_str_addf(&below, nth > 1 ? "%s.%s[%d]" : "%s.%s", key, stage->key, nth);
        flatten(stage, below.data, flat);
    }
}

static void flatten(const ot_node *n, const char *key, json_t *flat)
{
    if (n->kind == OT_NODE_SCALAR) {
        add_flat(flat, key, n->text);
    } else if (n->kind == OT_NODE_MAP) {
        flatten_map(n, key, flat);
    } else if (!is_plain_list(n)) {
        flatten_stages(n, key, flat);
    } else {
        OT_AUTO(ot_str_done) ot_str list = OT_STR_INIT;
        ot_str_addc(&list, '[');
        for (const ot_node *i = n->first; i != NULL; i = i->next) {
            ot_str_addf(&list, "%s%s", i != n->first ? ", " : "", i->text);
        }
        ot_str_addc(&list, ']');
        add_flat(flat, key, list.data);
    }
}

/* {"train.run": "sh train.sh", ...} in the order of the file; {} for no text. */
static ot_rc flat_of(const char *yaml, json_t *flat, ot_error *err)
{
    ot_arena arena;
    ot_node *root = NULL;
    ot_arena_init(&arena, 16384, DIFF_ARENA_LIMIT);
    ot_rc rc = yaml[0] != 0 ? ot_yaml_parse(yaml, strlen(yaml), "effective configuration", &arena,
                                            &root, err)
                            : OT_OK;
    if (root != NULL) {
        flatten(root, "", flat);
    }
    ot_arena_done(&arena);
    return rc;
}

static void add_change(json_t *list, const char *key, json_t *from, json_t *to)
{
    json_array_append_new(list, json_pack("{s:s,s:O?,s:O?}", "key", key, "from", from, "to", to));
}

ot_rc pl_diff(const char *before, const char *after, json_t **list_out, ot_error *err)
{
    json_t *old = json_object(), *new = json_object(), *list = json_array(), *value;
    const char *key;
    ot_rc rc = flat_of(before, old, err);
    if (rc == OT_OK) {
        rc = flat_of(after, new, err);
    }
    json_object_foreach(old, key, value)
    {
        json_t *to = json_object_get(new, key);
        if (!json_equal(value, to)) {
            add_change(list, key, value, to);
        }
    }
    json_object_foreach(new, key, value)
    {
        if (json_object_get(old, key) == NULL) {
            add_change(list, key, NULL, value);
        }
    }
    json_decref(old);
    json_decref(new);
    if (rc != OT_OK) {
        json_decref(list);
        return rc;
    }
    *list_out = list;
    return OT_OK;
}
