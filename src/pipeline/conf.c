#include "pipeline/conf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static char *slot_of(void *base, const ot_conf_field *f)
{
    return (char *)base + f->offset;
}

/* Passes a parse error on with the place of the value in front. */
static ot_rc wrap(ot_conf_ctx *ctx, const ot_node *node, const ot_conf_field *f, ot_error *inner,
                  ot_error *err)
{
    return ot_conf_fail(ctx, node->mark, err, "%s: %s", f->key, inner->msg);
}

/* 8GiB where it is whole, bytes where not. */
static void show_size(uint64_t x, ot_str *out)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    while (x > 0 && x % 1024 == 0 && i + 1 < OT_COUNT(units)) {
        x /= 1024;
        i++;
    }
    ot_str_addf(out, "%" PRIu64 "%s", x, units[i]);
}

/* A limit, and a number that is beyond it, in the unit that the file has them in. */
static void show_number(ot_conf_type type, double x, ot_str *out)
{
    char text[32];
    if (type == OT_CONF_DURATION) {
        ot_str_adds(out, ot_format_duration((int64_t)x, text));
    } else if (type == OT_CONF_SIZE) {
        ot_format_size((uint64_t)x, text);
        char *space = strchr(text, ' ');
        memmove(space, space + 1, strlen(space));
        ot_str_adds(out, text);
    } else {
        ot_str_addf(out, "%.10g", x);
    }
}

static ot_rc check_range(ot_conf_ctx *ctx, const ot_conf_field *f, const ot_node *node, double x,
                         ot_error *err)
{
    bool limited = f->min != 0 || f->max != 0;
    if (!limited || (x >= f->min && x <= f->max)) {
        return OT_OK;
    }
    OT_AUTO(ot_str_done) ot_str range = OT_STR_INIT;
    show_number(f->type, f->min, &range);
    ot_str_adds(&range, " to ");
    show_number(f->type, f->max, &range);
    return ot_conf_fail(ctx, node->mark, err, "%s: %.40s is outside %s", f->key, node->text,
                        range.data);
}

static ot_rc parse_rate(const char *s, ot_conf_rate *out, ot_error *err)
{
    char unit[16];
    long long count;
    int used = 0;
    static const struct {
        const char *name;
        int64_t us;
    } units[] = {{"hour", 3600000000},
                 {"day", 86400000000},
                 {"week", 604800000000},
                 {"month", 2592000000000},
                 {"year", 31536000000000}};
    if (sscanf(s, "%lld per %15s%n", &count, unit, &used) == 2 && s[used] == 0 && count >= 0) {
        for (size_t i = 0; i < OT_COUNT(units); i++) {
            if (strcmp(unit, units[i].name) == 0) {
                *out = (ot_conf_rate){.count = count, .per_us = units[i].us};
                return OT_OK;
            }
        }
    }
    return ot_fail(err, OT_INVALID,
                   "'%.40s' is not a rate; write it like 2 per day (hour, day, week, month, year)",
                   s);
}

static ot_rc parse_bool(const char *s, bool *out, ot_error *err)
{
    if (strcmp(s, "true") == 0 || strcmp(s, "yes") == 0) {
        *out = true;
    } else if (strcmp(s, "false") == 0 || strcmp(s, "no") == 0) {
        *out = false;
    } else {
        return ot_fail(err, OT_INVALID, "'%.40s' is neither true nor false", s);
    }
    return OT_OK;
}

static ot_rc parse_enum(const ot_conf_field *f, const char *s, int *out, ot_error *err)
{
    size_t n = 0;
    for (; f->choices[n] != NULL; n++) {
        if (strcmp(f->choices[n], s) == 0) {
            *out = (int)n;
            return OT_OK;
        }
    }
    const char *near = ot_suggest(s, f->choices, n);
    OT_AUTO(ot_str_done) ot_str list = OT_STR_INIT;
    for (size_t i = 0; i < n; i++) {
        ot_str_addf(&list, "%s%s", i ? ", " : "", f->choices[i]);
    }
    if (near != NULL) {
        return ot_fail(err, OT_INVALID, "'%.40s' is not one of %s; did you mean '%s'?", s,
                       list.data, near);
    }
    return ot_fail(err, OT_INVALID, "'%.40s' is not one of %s", s, list.data);
}

static ot_rc parse_scalar_into(ot_conf_ctx *ctx, const ot_conf_field *f, const ot_node *node,
                               char *slot, ot_error *err)
{
    const char *s = node->text;
    ot_error e = {0};
    ot_rc rc = OT_OK;
    double number = 0;
    switch (f->type) {
    case OT_CONF_NAME:
        if (!ot_name_ok(s)) {
            rc = ot_fail(&e, OT_INVALID,
                         "'%.80s' is not a name: 1 to 64 of A-Z a-z 0-9 . _ -, not starting with "
                         ". or -",
                         s);
        }
        *(const char **)(void *)slot = s;
        break;
    case OT_CONF_STR:
        *(const char **)(void *)slot = s;
        break;
    case OT_CONF_BOOL:
        rc = parse_bool(s, (bool *)slot, &e);
        break;
    case OT_CONF_INT: {
        /* Counts may be written with a unit, as sizes are: 20k rows. */
        uint64_t x = 0;
        int64_t neg = 0;
        if (s[0] == '-') {
            rc = ot_parse_i64(s, &neg, &e);
        } else {
            rc = ot_parse_size(s, &x, &e);
            neg = (int64_t)x;
        }
        *(int64_t *)(void *)slot = neg;
        number = (double)neg;
        break;
    }
    case OT_CONF_F64:
        rc = ot_parse_f64(s, &number, &e);
        *(double *)(void *)slot = number;
        break;
    case OT_CONF_FRACTION:
        rc = ot_parse_fraction(s, &number, &e);
        *(double *)(void *)slot = number;
        break;
    case OT_CONF_DURATION:
        rc = ot_parse_duration_us(s, (int64_t *)(void *)slot, &e);
        number = rc == OT_OK ? (double)*(int64_t *)(void *)slot : 0;
        break;
    case OT_CONF_SIZE:
        rc = ot_parse_size(s, (uint64_t *)(void *)slot, &e);
        number = rc == OT_OK ? (double)*(uint64_t *)(void *)slot : 0;
        break;
    case OT_CONF_RATE:
        rc = parse_rate(s, (ot_conf_rate *)(void *)slot, &e);
        break;
    case OT_CONF_ENUM:
        rc = parse_enum(f, s, (int *)(void *)slot, &e);
        break;
    default:
        rc = ot_fail(&e, OT_INVALID, "a value of another kind is needed here");
        break;
    }
    if (rc != OT_OK) {
        return wrap(ctx, node, f, &e, err);
    }
    return check_range(ctx, f, node, number, err);
}

static ot_rc parse_strs(ot_conf_ctx *ctx, const ot_conf_field *f, const ot_node *node,
                        ot_conf_strs *out, ot_error *err)
{
    ot_node single = *node;
    single.next = NULL;
    const ot_node *first = node->kind == OT_NODE_LIST ? node->first : &single;
    size_t n = 0;
    for (const ot_node *i = first; i != NULL; i = i->next) {
        if (i->kind != OT_NODE_SCALAR) {
            return ot_conf_fail(ctx, i->mark, err, "%s: a list of plain values is needed", f->key);
        }
        n++;
    }
    ot_conf_strs s = {.v = ot_arena_calloc(ctx->arena, n + 1, sizeof(char *)),
                      .marks = ot_arena_calloc(ctx->arena, n + 1, sizeof(ot_conf_mark)),
                      .n = n};
    if (s.v == NULL || s.marks == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", ctx->file);
    }
    n = 0;
    for (const ot_node *i = first; i != NULL; i = i->next, n++) {
        s.v[n] = i->text;
        s.marks[n] = i->mark;
    }
    *out = s;
    return OT_OK;
}

ot_rc ot_conf_value(ot_conf_ctx *ctx, const ot_conf_field *f, const ot_node *node, void *base,
                    ot_error *err)
{
    char *slot = slot_of(base, f);
    switch (f->type) {
    case OT_CONF_SECTION:
        return ot_conf_fill(ctx, f->section, node, slot, err);
    case OT_CONF_CUSTOM:
        return f->custom(ctx, node, slot, err);
    case OT_CONF_STRS:
        return parse_strs(ctx, f, node, (ot_conf_strs *)(void *)slot, err);
    default:
        break;
    }
    if (node->kind != OT_NODE_SCALAR) {
        return ot_conf_fail(ctx, node->mark, err, "%s: a single value is needed, not a %s", f->key,
                            node->kind == OT_NODE_LIST ? "list" : "map");
    }
    return parse_scalar_into(ctx, f, node, slot, err);
}

const ot_conf_field *ot_conf_field_of(const ot_conf_section *s, const char *key)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        if (strcmp(s->fields[i].key, key) == 0) {
            return &s->fields[i];
        }
    }
    return NULL;
}

ot_conf_mark ot_conf_mark_of(const ot_conf_section *s, const void *from, const char *key)
{
    const ot_conf_field *f = ot_conf_field_of(s, key);
    if (f == NULL || s->marks_offset == SIZE_MAX) {
        return (ot_conf_mark){0};
    }
    const ot_conf_mark *marks = (const void *)((const char *)from + s->marks_offset);
    return marks[f - s->fields];
}

static ot_rc unknown_key(ot_conf_ctx *ctx, const ot_conf_section *s, const ot_node *n,
                         ot_error *err)
{
    const char *keys[64];
    size_t count = 0;
    for (; count < s->n_fields && count < OT_COUNT(keys); count++) {
        keys[count] = s->fields[count].key;
    }
    const char *near = ot_suggest(n->key, keys, count);
    if (near != NULL) {
        return ot_conf_fail(ctx, n->key_mark, err, "'%.80s' is not known in %s; did you mean '%s'?",
                            n->key, s->name, near);
    }
    return ot_conf_fail(ctx, n->key_mark, err, "'%.80s' is not known in %s", n->key, s->name);
}

static ot_rc fill_defaults(ot_conf_ctx *ctx, const ot_conf_section *s, void *into, ot_error *err)
{
    memset(into, 0, s->size);
    for (size_t i = 0; i < s->n_fields; i++) {
        const ot_conf_field *f = &s->fields[i];
        if (f->type == OT_CONF_SECTION) {
            OT_TRY(fill_defaults(ctx, f->section, slot_of(into, f), err));
        } else if (f->def != NULL) {
            ot_node n = {.kind = OT_NODE_SCALAR, .text = f->def};
            OT_TRY(ot_conf_value(ctx, f, &n, into, err));
        }
    }
    return OT_OK;
}

static void note_written(const ot_conf_section *s, const ot_conf_field *f, const ot_node *node,
                         void *into)
{
    if (s->marks_offset != SIZE_MAX) {
        ot_conf_mark *marks = (void *)((char *)into + s->marks_offset);
        marks[f - s->fields] = node->mark;
    }
}

static ot_rc fill_short(ot_conf_ctx *ctx, const ot_conf_section *s, const ot_node *node, void *into,
                        ot_error *err)
{
    const ot_conf_field *f = s->short_key != NULL ? ot_conf_field_of(s, s->short_key) : NULL;
    if (f == NULL) {
        return ot_conf_fail(ctx, node->mark, err, "%s: a map of settings is needed here", s->name);
    }
    note_written(s, f, node, into);
    return ot_conf_value(ctx, f, node, into, err);
}

static ot_rc fill_map(ot_conf_ctx *ctx, const ot_conf_section *s, const ot_node *map, void *into,
                      ot_error *err)
{
    for (const ot_node *n = map->first; n != NULL; n = n->next) {
        const ot_conf_field *f = ot_conf_field_of(s, n->key);
        if (f == NULL) {
            return unknown_key(ctx, s, n, err);
        }
        if (n->is_null) {
            continue; /* `key:` alone keeps the default */
        }
        OT_TRY(ot_conf_value(ctx, f, n, into, err));
        note_written(s, f, n, into);
    }
    return OT_OK;
}

ot_rc ot_conf_fill(ot_conf_ctx *ctx, const ot_conf_section *s, const ot_node *map, void *into,
                   ot_error *err)
{
    OT_TRY(fill_defaults(ctx, s, into, err));
    if (map == NULL) {
        return OT_OK;
    }
    if (s->mark_offset != SIZE_MAX) {
        *(ot_conf_mark *)(void *)((char *)into + s->mark_offset) =
            map->key != NULL ? map->key_mark : map->mark;
    }
    if (map->kind != OT_NODE_MAP) {
        return fill_short(ctx, s, map, into, err);
    }
    OT_TRY(fill_map(ctx, s, map, into, err));
    for (size_t i = 0; i < s->n_fields; i++) {
        const ot_node *given = ot_node_get(map, s->fields[i].key);
        if (s->fields[i].required && (given == NULL || given->is_null)) {
            return ot_conf_fail(ctx, map->key != NULL ? map->key_mark : map->mark, err,
                                "%s needs '%s': %s", s->name, s->fields[i].key, s->fields[i].help);
        }
    }
    return OT_OK;
}

static void show_string(ot_str *out, const char *s)
{
    bool plain = s[0] != 0 && strpbrk(s, ":#{}[],&*!|>'\"%@`\n") == NULL && s[0] != ' ' &&
                 s[0] != '-' && s[0] != '?';
    if (plain) {
        ot_str_adds(out, s);
    } else {
        ot_str_addc(out, '"');
        ot_str_add_json(out, s, strlen(s));
        ot_str_addc(out, '"');
    }
}

static const char *period_name(int64_t us)
{
    return us == 3600000000      ? "hour"
           : us == 86400000000   ? "day"
           : us == 604800000000  ? "week"
           : us == 2592000000000 ? "month"
                                 : "year";
}

static void show_strs(const ot_conf_strs *s, ot_str *out)
{
    ot_str_addc(out, '[');
    for (size_t i = 0; i < s->n; i++) {
        ot_str_adds(out, i ? ", " : "");
        show_string(out, s->v[i]);
    }
    ot_str_addc(out, ']');
}

void ot_conf_show_value(const ot_conf_field *f, const void *from, ot_str *out)
{
    char text[32];
    const void *p = (const char *)from + f->offset;
    switch (f->type) {
    case OT_CONF_STR:
    case OT_CONF_NAME: {
        const char *s = *(const char *const *)p;
        show_string(out, s != NULL ? s : "");
        break;
    }
    case OT_CONF_BOOL:
        ot_str_adds(out, *(const bool *)p ? "true" : "false");
        break;
    case OT_CONF_INT:
        ot_str_addf(out, "%" PRId64, *(const int64_t *)p);
        break;
    case OT_CONF_F64:
    case OT_CONF_FRACTION:
        ot_str_addf(out, "%.10g", *(const double *)p);
        break;
    case OT_CONF_DURATION:
        ot_str_adds(out, ot_format_duration(*(const int64_t *)p, text));
        break;
    case OT_CONF_SIZE:
        show_size(*(const uint64_t *)p, out);
        break;
    case OT_CONF_RATE: {
        const ot_conf_rate *r = p;
        ot_str_addf(out, "%" PRId64 " per %s", r->count, period_name(r->per_us));
        break;
    }
    case OT_CONF_ENUM:
        ot_str_adds(out, f->choices[*(const int *)p]);
        break;
    case OT_CONF_STRS:
        show_strs(p, out);
        break;
    default:
        break;
    }
}

void ot_conf_show(const ot_conf_section *s, const void *from, int indent, ot_str *out)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        const ot_conf_field *f = &s->fields[i];
        const char *slot = (const char *)from + f->offset;
        ot_str_addf(out, "%*s%s:", indent, "", f->key);
        if (f->type == OT_CONF_SECTION) {
            ot_str_addc(out, '\n');
            ot_conf_show(f->section, slot, indent + 2, out);
        } else if (f->type == OT_CONF_CUSTOM) {
            f->show(slot, indent + 2, out);
        } else {
            ot_str_addc(out, ' ');
            ot_conf_show_value(f, from, out);
            ot_str_addc(out, '\n');
        }
    }
}

void ot_conf_reference(const ot_conf_section *s, const char *path, ot_str *out)
{
    ot_str_addf(out, "\n### %s%s%s\n\n| key | default | what it is |\n|---|---|---|\n",
                path[0] ? "`" : "", path[0] ? path : "The file", path[0] ? "`" : "");
    for (size_t i = 0; i < s->n_fields; i++) {
        const ot_conf_field *f = &s->fields[i];
        const char *example = f->example != NULL ? f->example : f->def;
        const char *tick = example != NULL && example[0] != 0 ? "`" : "";
        ot_str_addf(out, "| `%s`%s | %s%s%s | %s |\n", f->key, f->required ? " (needed)" : "", tick,
                    example != NULL ? example : "", tick, f->help);
    }
    for (size_t i = 0; i < s->n_fields; i++) {
        const ot_conf_field *f = &s->fields[i];
        if (f->section != NULL) {
            OT_AUTO(ot_str_done) ot_str sub = OT_STR_INIT;
            ot_str_addf(&sub, "%s%s%s", path, path[0] ? "." : "", f->key);
            ot_conf_reference(f->section, sub.data, out);
        }
    }
}
