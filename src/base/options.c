#include "base/options.h"

#include "base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_MAX 4096

static const char *const output_choices[] = {"text", "json", NULL};
static const char *const level_choices[] = {"debug", "info", "warn", "error", NULL};

const ot_opt ot_opts_global[] = {
    {.name = "help", .letter = 'h', .type = OT_OPT_BOOL, .help = "say what this command does"},
    {.name = "output",
     .letter = 'o',
     .type = OT_OPT_STRING,
     .value = "FORM",
     .def = "text",
     .choices = output_choices,
     .help = "what is printed: text for people, json for programs"},
    {.name = "log-level",
     .type = OT_OPT_STRING,
     .value = "LEVEL",
     .def = "info",
     .choices = level_choices,
     .help = "least important line that is logged to stderr"},
    {.name = "log-format",
     .type = OT_OPT_STRING,
     .value = "FORM",
     .def = "text",
     .choices = output_choices,
     .help = "form of log lines"},
};
const size_t ot_opts_global_n = OT_COUNT(ot_opts_global);

struct value {
    const char *text; /* NULL: unset */
    bool given;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double x;
        ot_addr addr;
    };
    const char **list;
    size_t n_list;
};

struct ot_args {
    const ot_command *cmd;
    struct value *values; /* the command's options, then the global ones */
    const char **pos;     /* by place; the `many` one has its first here */
    const char **many;
    size_t n_many;
    const char **rest;
    size_t n_rest;
    ot_arena arena;
};

static size_t opts_count(const ot_command *cmd)
{
    return cmd->n_opts + ot_opts_global_n;
}

static const ot_opt *opt_at(const ot_command *cmd, size_t i)
{
    return i < cmd->n_opts ? &cmd->opts[i] : &ot_opts_global[i - cmd->n_opts];
}

/* SIZE_MAX when there is none. */
static size_t opt_find(const ot_command *cmd, const char *name, size_t len)
{
    for (size_t i = 0; i < opts_count(cmd); i++) {
        const char *s = opt_at(cmd, i)->name;
        if (strncmp(s, name, len) == 0 && s[len] == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static size_t opt_find_letter(const ot_command *cmd, char letter)
{
    for (size_t i = 0; i < opts_count(cmd); i++) {
        if (opt_at(cmd, i)->letter == letter) {
            return i;
        }
    }
    return SIZE_MAX;
}

static ot_rc parse_bool(const char *s, bool *out, ot_error *err)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    for (size_t i = 0; i < OT_COUNT(words); i++) {
        if (strcmp(s, words[i]) == 0) {
            *out = i % 2 == 1;
            return OT_OK;
        }
    }
    return ot_fail(err, OT_INVALID, "'%.40s' is not yes or no", s);
}

/* Fills the typed member of `v` from text. */
static ot_rc value_parse(const ot_opt *o, const char *text, struct value *v, ot_error *err)
{
    switch (o->type) {
    case OT_OPT_BOOL:
        return parse_bool(text, &v->b, err);
    case OT_OPT_INT:
        return ot_parse_i64(text, &v->i, err);
    case OT_OPT_DURATION:
        return ot_parse_duration_us(text, &v->i, err);
    case OT_OPT_SIZE:
        return ot_parse_size(text, &v->u, err);
    case OT_OPT_FRACTION:
        return ot_parse_fraction(text, &v->x, err);
    case OT_OPT_ADDRESS:
        return ot_addr_parse(text, &v->addr, err);
    case OT_OPT_STRING:
    case OT_OPT_STRINGS:
        return OT_OK;
    }
    return ot_fail(err, OT_INTERNAL, "option type %d", (int)o->type);
}

/* -1, 0, 1 as a is below, at or above b. */
static int value_cmp(const ot_opt *o, const struct value *a, const struct value *b)
{
    switch (o->type) {
    case OT_OPT_INT:
    case OT_OPT_DURATION:
        return (a->i > b->i) - (a->i < b->i);
    case OT_OPT_SIZE:
        return (a->u > b->u) - (a->u < b->u);
    case OT_OPT_FRACTION:
        return (a->x > b->x) - (a->x < b->x);
    default:
        return 0;
    }
}

static ot_rc check_limit(const ot_opt *o, const struct value *v, const char *text,
                         const char *limit, int bad, ot_error *err)
{
    struct value l = {0};
    if (limit == NULL) {
        return OT_OK;
    }
    OT_TRY(value_parse(o, limit, &l, err));
    if (value_cmp(o, v, &l) != bad) {
        return OT_OK;
    }
    return ot_fail(err, OT_INVALID, "'%.40s' is %s %s", text,
                   bad < 0 ? "less than the least allowed," : "more than the most allowed,", limit);
}

static ot_rc check_choice(const ot_opt *o, const char *text, ot_error *err)
{
    if (o->choices == NULL) {
        return OT_OK;
    }
    size_t n = 0;
    char all[256] = "";
    for (; o->choices[n] != NULL; n++) {
        if (strcmp(o->choices[n], text) == 0) {
            return OT_OK;
        }
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", n ? ", " : "", o->choices[n]);
    }
    return ot_fail(err, OT_INVALID, "'%.40s' is not one of %s", text, all);
}

/* Sets option i; `source` names where the value is from. */
static ot_rc value_set(ot_args *a, size_t i, const char *text, const char *source, ot_error *err)
{
    const ot_opt *o = opt_at(a->cmd, i);
    struct value v = {.text = text};
    ot_rc rc = value_parse(o, text, &v, err);
    if (rc == OT_OK) {
        rc = check_limit(o, &v, text, o->min, -1, err);
    }
    if (rc == OT_OK) {
        rc = check_limit(o, &v, text, o->max, 1, err);
    }
    if (rc == OT_OK) {
        rc = check_choice(o, text, err);
    }
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s", source);
    }
    struct value *slot = &a->values[i];
    if (o->type == OT_OPT_STRINGS) {
        if (slot->n_list >= VALUES_MAX) {
            return ot_fail(err, OT_INVALID, "%s: given more than %d times", source, VALUES_MAX);
        }
        slot->list[slot->n_list++] = text;
        slot->text = text;
    } else {
        v.list = slot->list;
        *slot = v;
    }
    slot->given = true;
    return OT_OK;
}

static ot_rc unknown_option(const ot_command *cmd, const char *arg, size_t len, ot_error *err)
{
    const char *names[256];
    char word[64];
    size_t n = 0;
    for (size_t i = 0; i < opts_count(cmd) && n < OT_COUNT(names); i++) {
        if (!opt_at(cmd, i)->hidden) {
            names[n++] = opt_at(cmd, i)->name;
        }
    }
    snprintf(word, sizeof word, "%.*s", (int)OT_MIN(len, sizeof word - 1), arg);
    const char *near = ot_suggest(word, names, n);
    if (near != NULL) {
        return ot_fail(err, OT_INVALID, "unknown option --%s; did you mean --%s?", word, near);
    }
    return ot_fail(err, OT_INVALID, "unknown option --%s; see overtake %s --help", word, cmd->name);
}

/* One option at argv[*at]; moves *at past what it used. */
static ot_rc parse_option(ot_args *a, int argc, const char *const *argv, int *at, ot_error *err)
{
    const char *arg = argv[*at], *value = NULL;
    size_t i, len = 0;
    bool negated = false;
    if (arg[1] != '-') {
        /* A long name of two letters is also taken as launchers of MPI write it: -np. */
        i = arg[2] == 0                    ? opt_find_letter(a->cmd, arg[1])
            : arg[2] != '=' && arg[3] == 0 ? opt_find(a->cmd, arg + 1, 2)
                                           : SIZE_MAX;
        if (i == SIZE_MAX) {
            return ot_fail(err, OT_INVALID, "unknown option '%.40s'; see overtake %s --help", arg,
                           a->cmd->name);
        }
    } else {
        const char *name = arg + 2;
        len = strcspn(name, "=");
        value = name[len] == '=' ? name + len + 1 : NULL;
        i = opt_find(a->cmd, name, len);
        if (i == SIZE_MAX && ot_has_prefix(name, "no-")) {
            i = opt_find(a->cmd, name + 3, len - 3);
            negated = i != SIZE_MAX && opt_at(a->cmd, i)->type == OT_OPT_BOOL;
            i = negated ? i : SIZE_MAX;
        }
        if (i == SIZE_MAX) {
            return unknown_option(a->cmd, name, len, err);
        }
    }
    const ot_opt *o = opt_at(a->cmd, i);
    char source[80];
    snprintf(source, sizeof source, "--%s%s", negated ? "no-" : "", o->name);
    ++*at;
    if (o->type == OT_OPT_BOOL) {
        if (negated && value != NULL) {
            return ot_fail(err, OT_INVALID, "%s takes no value", source);
        }
        return value_set(a, i, value != NULL ? value : negated ? "no" : "yes", source, err);
    }
    if (value == NULL) {
        if (*at >= argc) {
            return ot_fail(err, OT_INVALID, "%s needs a value", source);
        }
        value = argv[(*at)++];
    }
    return value_set(a, i, value, source, err);
}

static ot_rc add_positional(ot_args *a, size_t *n, const char *arg, ot_error *err)
{
    const ot_command *cmd = a->cmd;
    if (*n < cmd->n_pos) {
        a->pos[(*n)++] = arg;
    } else if (cmd->n_pos == 0 || !cmd->pos[cmd->n_pos - 1].many) {
        return ot_fail(err, OT_INVALID, "'%.80s' is one argument too many; see overtake %s --help",
                       arg, cmd->name);
    }
    if (*n == cmd->n_pos && cmd->pos[*n - 1].many) {
        a->many[a->n_many++] = arg;
    }
    return OT_OK;
}

static ot_rc parse_line(ot_args *a, int argc, const char *const *argv, ot_error *err)
{
    size_t n_pos = 0;
    bool options = true;
    for (int i = 0; i < argc;) {
        if (options && strcmp(argv[i], "--") == 0) {
            i++;
            options = false;
            while (a->cmd->rest && i < argc) {
                a->rest[a->n_rest++] = argv[i++];
            }
        } else if (options && argv[i][0] == '-' && argv[i][1] != 0) {
            OT_TRY(parse_option(a, argc, argv, &i, err));
        } else {
            OT_TRY(add_positional(a, &n_pos, argv[i++], err));
        }
    }
    if (ot_args_help(a)) {
        return OT_OK;
    }
    if (n_pos < a->cmd->n_pos && !a->cmd->pos[n_pos].optional) {
        return ot_fail(err, OT_INVALID, "%s is missing: %s; see overtake %s --help",
                       a->cmd->pos[n_pos].name, a->cmd->pos[n_pos].help, a->cmd->name);
    }
    return OT_OK;
}

static void env_name(const ot_opt *o, char *out, size_t n)
{
    if (o->env != NULL) {
        snprintf(out, n, "%s", o->env);
        return;
    }
    snprintf(out, n, "OVERTAKE_%s", o->name);
    for (char *p = out + 9; *p != 0; p++) {
        *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
    }
}

static ot_rc fill_unset(ot_args *a, const char *(*env)(const char *), ot_error *err)
{
    for (size_t i = 0; i < opts_count(a->cmd); i++) {
        const ot_opt *o = opt_at(a->cmd, i);
        if (a->values[i].given || strcmp(o->name, "help") == 0) {
            continue;
        }
        char var[80];
        env_name(o, var, sizeof var);
        const char *text = var[0] != 0 ? env(var) : NULL;
        if (text != NULL && text[0] != 0) {
            OT_TRY(value_set(a, i, text, var, err));
        } else if (o->def != NULL) {
            OT_TRY(value_set(a, i, o->def, o->name, err));
            a->values[i].given = false;
        } else if (o->required) {
            return ot_fail(err, OT_INVALID, "--%s is missing: %s", o->name, o->help);
        }
    }
    return OT_OK;
}

static const char *env_get(const char *name)
{
    return getenv(name);
}

static ot_args *args_create(const ot_command *cmd, int argc)
{
    ot_args *a = ot_calloc(1, sizeof *a);
    if (a == NULL) {
        return NULL;
    }
    size_t n = (size_t)(argc > 0 ? argc : 0) + 1;
    a->cmd = cmd;
    ot_arena_init(&a->arena, 4096, SIZE_MAX);
    a->values = ot_arena_calloc(&a->arena, opts_count(cmd), sizeof *a->values);
    a->pos = ot_arena_calloc(&a->arena, cmd->n_pos + 1, sizeof *a->pos);
    a->many = ot_arena_calloc(&a->arena, n, sizeof *a->many);
    a->rest = ot_arena_calloc(&a->arena, n + 1, sizeof *a->rest);
    bool good = a->values != NULL && a->pos != NULL && a->many != NULL && a->rest != NULL;
    for (size_t i = 0; good && i < opts_count(cmd); i++) {
        if (opt_at(cmd, i)->type == OT_OPT_STRINGS) {
            a->values[i].list = ot_arena_calloc(&a->arena, n, sizeof *a->values[i].list);
            good = a->values[i].list != NULL;
        }
    }
    if (!good) {
        ot_args_destroy(a);
        return NULL;
    }
    return a;
}

ot_rc ot_args_parse(const ot_command *cmd, int argc, const char *const *argv,
                    const char *(*env)(const char *name), ot_args **args_out, ot_error *err)
{
    ot_args *a = args_create(cmd, argc);
    if (a == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory for its arguments", cmd->name);
    }
    ot_rc rc = parse_line(a, argc, argv, err);
    if (rc == OT_OK && !ot_args_help(a)) {
        rc = fill_unset(a, env != NULL ? env : env_get, err);
    }
    if (rc != OT_OK) {
        ot_args_destroy(a);
        return rc;
    }
    *args_out = a;
    return OT_OK;
}

void ot_args_destroy(ot_args *a)
{
    if (a != NULL) {
        ot_arena_done(&a->arena);
        ot_free(a);
    }
}

static const struct value *value_of(const ot_args *a, const char *name)
{
    size_t i = opt_find(a->cmd, name, strlen(name));
    assert(i != SIZE_MAX);
    return &a->values[i];
}

static const struct value *typed(const ot_args *a, const char *name, ot_opt_type type)
{
    size_t i = opt_find(a->cmd, name, strlen(name));
    assert(i != SIZE_MAX && opt_at(a->cmd, i)->type == type);
    return &a->values[i];
}

const ot_command *ot_args_command(const ot_args *a)
{
    return a->cmd;
}

bool ot_args_help(const ot_args *a)
{
    return value_of(a, "help")->b;
}

bool ot_args_json(const ot_args *a)
{
    const char *s = ot_args_str(a, "output");
    return s != NULL && strcmp(s, "json") == 0;
}

bool ot_args_given(const ot_args *a, const char *name)
{
    return value_of(a, name)->given;
}

bool ot_args_set(const ot_args *a, const char *name)
{
    return value_of(a, name)->text != NULL;
}

const char *ot_args_str(const ot_args *a, const char *name)
{
    return typed(a, name, OT_OPT_STRING)->text;
}

int64_t ot_args_int(const ot_args *a, const char *name)
{
    return typed(a, name, OT_OPT_INT)->i;
}

bool ot_args_bool(const ot_args *a, const char *name)
{
    return typed(a, name, OT_OPT_BOOL)->b;
}

int64_t ot_args_us(const ot_args *a, const char *name)
{
    return typed(a, name, OT_OPT_DURATION)->i;
}

uint64_t ot_args_size(const ot_args *a, const char *name)
{
    return typed(a, name, OT_OPT_SIZE)->u;
}

double ot_args_fraction(const ot_args *a, const char *name)
{
    return typed(a, name, OT_OPT_FRACTION)->x;
}

const ot_addr *ot_args_addr(const ot_args *a, const char *name)
{
    const struct value *v = typed(a, name, OT_OPT_ADDRESS);
    return v->text != NULL ? &v->addr : NULL;
}

size_t ot_args_list(const ot_args *a, const char *name, const char *const **values_out)
{
    const struct value *v = typed(a, name, OT_OPT_STRINGS);
    *values_out = v->list;
    return v->n_list;
}

const char *ot_args_pos(const ot_args *a, const char *name)
{
    for (size_t i = 0; i < a->cmd->n_pos; i++) {
        if (strcmp(a->cmd->pos[i].name, name) == 0) {
            return a->pos[i];
        }
    }
    assert(false && "a positional argument that the command declares");
    return NULL;
}

size_t ot_args_many(const ot_args *a, const char *const **values_out)
{
    *values_out = a->many;
    return a->n_many;
}

size_t ot_args_rest(const ot_args *a, const char *const **argv_out)
{
    *argv_out = a->rest;
    return a->n_rest;
}
