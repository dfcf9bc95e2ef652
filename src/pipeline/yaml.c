#include "pipeline/conf.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define YAML_MAX_BYTES (1u << 20)
#define YAML_MAX_NODES 20000
#define YAML_MAX_DEPTH 32

typedef struct reader {
    yaml_parser_t parser;
    const char *file;
    ot_arena *arena;
    size_t nodes;
} reader;

static ot_conf_mark mark_of(const yaml_mark_t *m)
{
    return (ot_conf_mark){.line = (int)m->line + 1, .column = (int)m->column + 1};
}

ot_rc ot_conf_fail(const ot_conf_ctx *ctx, ot_conf_mark mark, ot_error *err, const char *fmt, ...)
{
    char msg[OT_ERROR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (mark.line == 0) {
        return ot_fail(err, OT_INVALID, "%s: %s", ctx->file, msg);
    }
    return ot_fail(err, OT_INVALID, "%s:%d:%d: %s", ctx->file, mark.line, mark.column, msg);
}

static ot_rc fail_at(reader *r, const yaml_mark_t *m, ot_error *err, const char *msg)
{
    ot_conf_ctx ctx = {.file = r->file};
    return ot_conf_fail(&ctx, mark_of(m), err, "%s", msg);
}

static ot_rc next_event(reader *r, yaml_event_t *ev, ot_error *err)
{
    if (!yaml_parser_parse(&r->parser, ev)) {
        const char *problem = r->parser.problem ? r->parser.problem : "not valid YAML";
        return fail_at(r, &r->parser.problem_mark, err, problem);
    }
    return OT_OK;
}

static ot_rc new_node(reader *r, ot_node_kind kind, const yaml_event_t *ev, ot_node **out,
                      ot_error *err)
{
    if (++r->nodes > YAML_MAX_NODES) {
        return fail_at(r, &ev->start_mark, err, "more than 20,000 values; split the file");
    }
    ot_node *n = ot_arena_calloc(r->arena, 1, sizeof *n);
    if (n == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", r->file);
    }
    n->kind = kind;
    n->mark = mark_of(&ev->start_mark);
    *out = n;
    return OT_OK;
}

static ot_rc parse_value(reader *r, yaml_event_t *ev, int depth, ot_node **out, ot_error *err);

static ot_rc parse_scalar(reader *r, const yaml_event_t *ev, ot_node **out, ot_error *err)
{
    ot_node *n = NULL;
    OT_TRY(new_node(r, OT_NODE_SCALAR, ev, &n, err));
    const char *text = (const char *)ev->data.scalar.value;
    if (memchr(text, 0, ev->data.scalar.length) != NULL) {
        return fail_at(r, &ev->start_mark, err, "a NUL byte in a value");
    }
    n->text = ot_arena_strndup(r->arena, text, ev->data.scalar.length);
    if (n->text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", r->file);
    }
    bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->is_null = plain && (text[0] == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
    *out = n;
    return OT_OK;
}

static ot_rc parse_list(reader *r, const yaml_event_t *start, int depth, ot_node **out,
                        ot_error *err)
{
    ot_node *list = NULL;
    OT_TRY(new_node(r, OT_NODE_LIST, start, &list, err));
    ot_node **tail = &list->first;
    for (;;) {
        yaml_event_t ev;
        OT_TRY(next_event(r, &ev, err));
        if (ev.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&ev);
            *out = list;
            return OT_OK;
        }
        ot_rc rc = parse_value(r, &ev, depth + 1, tail, err);
        yaml_event_delete(&ev);
        OT_TRY(rc);
        tail = &(*tail)->next;
    }
}

static ot_rc parse_entry(reader *r, yaml_event_t *key, ot_node *map, int depth, ot_node **out,
                         ot_error *err)
{
    if (key->type != YAML_SCALAR_EVENT) {
        return fail_at(r, &key->start_mark, err, "a key must be a plain word");
    }
    const char *name = (const char *)key->data.scalar.value;
    if (ot_node_get(map, name) != NULL) {
        char msg[200];
        snprintf(msg, sizeof msg, "'%.80s' stands twice", name);
        return fail_at(r, &key->start_mark, err, msg);
    }
    yaml_event_t ev;
    OT_TRY(next_event(r, &ev, err));
    ot_node *value = NULL;
    ot_rc rc = parse_value(r, &ev, depth + 1, &value, err);
    yaml_event_delete(&ev);
    OT_TRY(rc);
    value->key = ot_arena_strdup(r->arena, name);
    value->key_mark = mark_of(&key->start_mark);
    *out = value;
    return value->key != NULL ? OT_OK
                              : ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", r->file);
}

static ot_rc parse_map(reader *r, const yaml_event_t *start, int depth, ot_node **out,
                       ot_error *err)
{
    ot_node *map = NULL;
    OT_TRY(new_node(r, OT_NODE_MAP, start, &map, err));
    ot_node **tail = &map->first;
    for (;;) {
        yaml_event_t ev;
        OT_TRY(next_event(r, &ev, err));
        if (ev.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&ev);
            *out = map;
            return OT_OK;
        }
        ot_rc rc = parse_entry(r, &ev, map, depth, tail, err);
        yaml_event_delete(&ev);
        OT_TRY(rc);
        tail = &(*tail)->next;
    }
}

static ot_rc parse_value(reader *r, yaml_event_t *ev, int depth, ot_node **out, ot_error *err)
{
    if (depth > YAML_MAX_DEPTH) {
        return fail_at(r, &ev->start_mark, err, "nested deeper than 32 levels");
    }
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        return parse_scalar(r, ev, out, err);
    case YAML_SEQUENCE_START_EVENT:
        return parse_list(r, ev, depth, out, err);
    case YAML_MAPPING_START_EVENT:
        return parse_map(r, ev, depth, out, err);
    case YAML_ALIAS_EVENT:
        return fail_at(r, &ev->start_mark, err, "aliases are not accepted; write the value out");
    default:
        return fail_at(r, &ev->start_mark, err, "a value is missing");
    }
}

static ot_rc parse_document(reader *r, ot_node **out, ot_error *err)
{
    yaml_event_t ev;
    ot_rc rc = OT_OK;
    do {
        OT_TRY(next_event(r, &ev, err));
        bool skip = ev.type == YAML_STREAM_START_EVENT || ev.type == YAML_DOCUMENT_START_EVENT;
        if (ev.type == YAML_STREAM_END_EVENT) {
            rc = ot_fail(err, OT_INVALID, "%s: the file is empty", r->file);
        } else if (!skip) {
            rc = parse_value(r, &ev, 0, out, err);
            yaml_event_delete(&ev);
            break;
        }
        yaml_event_delete(&ev);
    } while (rc == OT_OK);
    OT_TRY(rc);
    OT_TRY(next_event(r, &ev, err)); /* the document's end */
    yaml_event_delete(&ev);
    OT_TRY(next_event(r, &ev, err));
    bool more = ev.type != YAML_STREAM_END_EVENT;
    if (more) {
        rc = fail_at(r, &ev.start_mark, err, "a second document; one file holds one");
    }
    yaml_event_delete(&ev);
    return rc;
}

ot_rc ot_yaml_parse(const char *text, size_t n, const char *file, ot_arena *arena, ot_node **out,
                    ot_error *err)
{
    if (n > YAML_MAX_BYTES) {
        return ot_fail(err, OT_INVALID, "%s: %zu bytes; at most 1 MiB is read", file, n);
    }
    reader r = {.file = file, .arena = arena};
    if (!yaml_parser_initialize(&r.parser)) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", file);
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    ot_node *root = NULL;
    ot_rc rc = parse_document(&r, &root, err);
    yaml_parser_delete(&r.parser);
    if (rc == OT_OK) {
        *out = root;
    }
    return rc;
}

const ot_node *ot_node_get(const ot_node *map, const char *key)
{
    for (const ot_node *n = map->kind == OT_NODE_MAP ? map->first : NULL; n != NULL; n = n->next) {
        if (n->key != NULL && strcmp(n->key, key) == 0) {
            return n;
        }
    }
    return NULL;
}
