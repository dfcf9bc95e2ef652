/* chain.json: its form, and which step a reference means. */
#include "runtime/chain.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define ARENA_MAX (4u << 20)
#define PATH_TEXT 160 /* of a member, in errors */

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "out of memory, or the names in it are too long");
}

/* ---- members */

#define KEYS 3

static ot_rc check_keys(json_t *object, const char *path, const char *const known[KEYS],
                        ot_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        size_t i = 0;
        while (i < KEYS && strcmp(known[i], key) != 0) {
            i++;
        }
        const char *near = ot_suggest(key, known, KEYS);
        if (i == KEYS && near != NULL) {
            return ot_fail(err, OT_INVALID, "%s%.64s: not known; did you mean '%s'?", path, key,
                           near);
        }
        if (i == KEYS) {
            return ot_fail(err, OT_INVALID, "%s%.64s: not known; there are %s, %s and %s", path,
                           key, known[0], known[1], known[2]);
        }
    }
    return OT_OK;
}

static ot_rc keep_text(ot_chain *c, const json_t *j, const char *path, const char **out,
                       ot_error *err)
{
    const char *text = json_string_value(j);
    if (text == NULL || text[0] == '\0') {
        return ot_fail(err, OT_INVALID, "%s: a name is expected", path);
    }
    *out = ot_arena_strdup(&c->arena, text);
    return *out != NULL ? OT_OK : no_memory(err);
}

/* ---- references */

static int find_step(const ot_chain *c, const char *name)
{
    for (size_t i = 0; i < c->n_steps; i++) {
        if (strcmp(c->steps[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static ot_rc no_step(const ot_chain *c, const char *path, const char *name, ot_error *err)
{
    const char *names[OT_CHAIN_STEPS_MAX];
    for (size_t i = 0; i < c->n_steps; i++) {
        names[i] = c->steps[i].name;
    }
    const char *near = ot_suggest(name, names, c->n_steps);
    return ot_fail(err, OT_INVALID, "%s: there is no step '%.64s'%s%s%s", path, name,
                   near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                   near != NULL ? "'?" : "");
}

/* `before`: only steps before that one can be meant. */
static ot_rc read_pair(ot_chain *c, json_t *j, const char *path, size_t before, ot_chain_link *out,
                       ot_error *err)
{
    const char *name = json_string_value(json_array_get(j, 0));
    if (json_array_size(j) != 2 || name == NULL) {
        return ot_fail(err, OT_INVALID, "%s: [STEP, OUTPUT] is expected", path);
    }
    out->step = find_step(c, name);
    if (out->step < 0) {
        return no_step(c, path, name, err);
    }
    if ((size_t)out->step >= before) {
        return ot_fail(err, OT_INVALID,
                       "%s: step '%s' %s; a step is handed what earlier ones have made", path, name,
                       (size_t)out->step == before ? "is this very one" : "comes later");
    }
    return keep_text(c, json_array_get(j, 1), path, &out->from, err);
}

static ot_rc read_link(ot_chain *c, const char *key, json_t *j, const char *path, size_t before,
                       ot_chain_link *out, ot_error *err)
{
    out->name = ot_arena_strdup(&c->arena, key);
    if (out->name == NULL) {
        return no_memory(err);
    }
    if (json_is_array(j)) {
        return read_pair(c, j, path, before, out, err);
    }
    if (before > c->n_steps) {
        return ot_fail(err, OT_INVALID, "%s: [STEP, OUTPUT] is expected", path);
    }
    if (!json_is_string(j)) {
        return ot_fail(err, OT_INVALID,
                       "%s: the name of an input of the chain, or [STEP, OUTPUT], is expected",
                       path);
    }
    out->step = -1;
    return keep_text(c, j, path, &out->from, err);
}

/* Members of an object that say where something comes from. */
static ot_rc read_links(ot_chain *c, json_t *object, const char *path, size_t before, size_t max,
                        ot_chain_link **out, size_t *n_out, ot_error *err)
{
    size_t n = json_object_size(object), i = 0;
    const char *key;
    json_t *value;
    if (!json_is_object(object) || n > max) {
        return ot_fail(err, OT_INVALID, "%s: an object of at most %zu members is expected", path,
                       max);
    }
    ot_chain_link *links = ot_arena_calloc(&c->arena, OT_MAX(n, 1u), sizeof *links);
    if (links == NULL) {
        return no_memory(err);
    }
    json_object_foreach(object, key, value)
    {
        char at[PATH_TEXT];
        snprintf(at, sizeof at, "%s.%s", path, key);
        OT_TRY(read_link(c, key, value, at, before, &links[i++], err));
    }
    *out = links;
    *n_out = n;
    return OT_OK;
}

/* ---- steps */

static ot_rc read_name(ot_chain *c, json_t *j, size_t i, ot_error *err)
{
    static const char *const keys[KEYS] = {"model", "name", "inputs"};
    ot_chain_step *s = &c->steps[i];
    char path[PATH_TEXT];
    snprintf(path, sizeof path, "steps[%zu].", i);
    if (!json_is_object(j)) {
        return ot_fail(err, OT_INVALID, "steps[%zu]: an object is expected", i);
    }
    OT_TRY(check_keys(j, path, keys, err));
    snprintf(path, sizeof path, "steps[%zu].model", i);
    OT_TRY(keep_text(c, json_object_get(j, "model"), path, &s->model, err));
    if (!ot_name_ok(s->model)) {
        return ot_fail(err, OT_INVALID, "%s: '%.64s' is not the name of a folder beside %s", path,
                       s->model, OT_CHAIN_FILE);
    }
    s->name = s->model;
    snprintf(path, sizeof path, "steps[%zu].name", i);
    if (json_object_get(j, "name") != NULL) {
        OT_TRY(keep_text(c, json_object_get(j, "name"), path, &s->name, err));
    }
    if (!ot_name_ok(s->name) || find_step(c, s->name) >= 0) {
        return ot_fail(err, OT_INVALID, "%s: '%.64s' %s", path, s->name,
                       ot_name_ok(s->name) ? "is the name of an earlier step too"
                                           : "is not 1 to 64 of A-Z a-z 0-9 . _ -");
    }
    c->n_steps = i + 1;
    return OT_OK;
}

static ot_rc read_steps(ot_chain *c, json_t *list, ot_error *err)
{
    size_t n = json_array_size(list);
    if (n < 1 || n > OT_CHAIN_STEPS_MAX) {
        return ot_fail(err, OT_INVALID, "steps: %zu; a list of 1 to %d is expected", n,
                       OT_CHAIN_STEPS_MAX);
    }
    for (size_t i = 0; i < n; i++) { /* all names first: a reference may be to a later step */
        OT_TRY(read_name(c, json_array_get(list, i), i, err));
    }
    for (size_t i = 0; i < n; i++) {
        json_t *inputs = json_object_get(json_array_get(list, i), "inputs");
        char path[PATH_TEXT];
        snprintf(path, sizeof path, "steps[%zu].inputs", i);
        if (inputs != NULL) {
            OT_TRY(read_links(c, inputs, path, i, OT_RUNTIME_INPUTS_MAX, &c->steps[i].inputs,
                              &c->steps[i].n_inputs, err));
        }
    }
    return OT_OK;
}

/* ---- the whole */

static ot_rc read_inputs(ot_chain *c, const json_t *list, ot_error *err)
{
    size_t n = json_array_size(list);
    if (n < 1 || n > OT_RUNTIME_INPUTS_MAX) {
        return ot_fail(err, OT_INVALID, "inputs: a list of 1 to %d names is expected",
                       OT_RUNTIME_INPUTS_MAX);
    }
    c->inputs = ot_arena_calloc(&c->arena, n, sizeof *c->inputs);
    if (c->inputs == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        char path[PATH_TEXT];
        snprintf(path, sizeof path, "inputs[%zu]", i);
        OT_TRY(keep_text(c, json_array_get(list, i), path, &c->inputs[i], err));
        for (size_t k = 0; k < i; k++) {
            if (strcmp(c->inputs[k], c->inputs[i]) == 0) {
                return ot_fail(err, OT_INVALID, "%s: '%.64s' is there twice", path, c->inputs[i]);
            }
        }
    }
    c->n_inputs = n;
    return OT_OK;
}

static ot_rc read_root(ot_chain *c, json_t *root, ot_error *err)
{
    static const char *const keys[KEYS] = {"inputs", "outputs", "steps"};
    json_t *inputs = json_object_get(root, "inputs"), *outputs = json_object_get(root, "outputs");
    OT_TRY(check_keys(root, "", keys, err));
    if (inputs != NULL) {
        OT_TRY(read_inputs(c, inputs, err));
    }
    OT_TRY(read_steps(c, json_object_get(root, "steps"), err));
    if (outputs != NULL) {
        OT_TRY(read_links(c, outputs, "outputs", c->n_steps + 1, OT_RUNTIME_OUTPUTS_MAX,
                          &c->outputs, &c->n_outputs, err));
        if (c->n_outputs == 0) {
            return ot_fail(err, OT_INVALID, "outputs: none; left out, they are the last step's");
        }
    }
    return OT_OK;
}

ot_rc ot_chain_read(const char *json, size_t n, ot_chain *out, ot_error *err)
{
    json_error_t why;
    ot_chain c = {0};
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL) {
        return ot_fail(err, OT_INVALID, "line %d, column %d: %s", why.line, why.column, why.text);
    }
    ot_arena_init(&c.arena, 4096, ARENA_MAX);
    ot_rc rc = json_is_object(root)
                   ? read_root(&c, root, err)
                   : ot_fail(err, OT_INVALID, "line 1, column 1: an object is expected");
    json_decref(root);
    if (rc != OT_OK) {
        ot_chain_done(&c);
        return rc;
    }
    *out = c;
    return OT_OK;
}

void ot_chain_done(ot_chain *c)
{
    ot_arena_done(&c->arena);
    *c = (ot_chain){0};
}
