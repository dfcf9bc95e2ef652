#include "serve/completion.h"

#include "base/mem.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tool {
    char id[128], name[128];
    ot_str arguments;
} tool;

typedef struct choice {
    char role[32], finish[32];
    bool used, text; /* text: of a text completion */
    ot_str content;
    tool tools[OT_COMPLETION_TOOLS_MAX];
    size_t n_tools;
} choice;

struct ot_completion {
    char id[128], model[256];
    json_int_t created;
    json_t *usage;
    size_t bytes, n;
    bool over; /* a limit was passed */
    choice choices[OT_COMPLETION_CHOICES_MAX];
};

ot_completion *ot_completion_new(void)
{
    ot_completion *c = ot_calloc(1, sizeof *c);
    for (size_t i = 0; c != NULL && i < OT_COMPLETION_CHOICES_MAX; i++) {
        ot_str_init(&c->choices[i].content);
        for (size_t k = 0; k < OT_COMPLETION_TOOLS_MAX; k++) {
            ot_str_init(&c->choices[i].tools[k].arguments);
        }
    }
    return c;
}

void ot_completion_free(ot_completion *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < OT_COMPLETION_CHOICES_MAX; i++) {
        ot_str_done(&c->choices[i].content);
        for (size_t k = 0; k < OT_COMPLETION_TOOLS_MAX; k++) {
            ot_str_done(&c->choices[i].tools[k].arguments);
        }
    }
    json_decref(c->usage);
    ot_free(c);
}

static void keep(char *to, size_t room, const json_t *value)
{
    const char *s = json_string_value(value);
    if (s != NULL && s[0] != '\0') {
        snprintf(to, room, "%s", s);
    }
}

static void append(ot_completion *c, ot_str *to, const json_t *value)
{
    size_t n = json_string_length(value);
    c->over |= n > OT_COMPLETION_MAX - c->bytes;
    if (!c->over && n > 0) {
        c->bytes += n;
        ot_str_add(to, json_string_value(value), n);
        c->over |= to->failed;
    }
}

static void take_tools(ot_completion *c, choice *x, const json_t *list)
{
    size_t i;
    const json_t *t;
    json_array_foreach(list, i, t)
    {
        const json_t *index = json_object_get(t, "index"), *f = json_object_get(t, "function");
        json_int_t k = index != NULL ? json_integer_value(index) : (json_int_t)i;
        if (k < 0 || k >= OT_COMPLETION_TOOLS_MAX) {
            c->over = true;
            return;
        }
        tool *to = &x->tools[k];
        x->n_tools = OT_MAX(x->n_tools, (size_t)k + 1);
        keep(to->id, sizeof to->id, json_object_get(t, "id"));
        keep(to->name, sizeof to->name, json_object_get(f, "name"));
        append(c, &to->arguments, json_object_get(f, "arguments"));
    }
}

static void take_choice(ot_completion *c, const json_t *j)
{
    json_int_t k = json_integer_value(json_object_get(j, "index"));
    const json_t *delta = json_object_get(j, "delta");
    if (k < 0 || k >= OT_COMPLETION_CHOICES_MAX) {
        c->over = true;
        return;
    }
    choice *x = &c->choices[k];
    x->used = true;
    c->n = OT_MAX(c->n, (size_t)k + 1);
    keep(x->finish, sizeof x->finish, json_object_get(j, "finish_reason"));
    if (delta == NULL) {
        x->text = true;
        append(c, &x->content, json_object_get(j, "text"));
        return;
    }
    keep(x->role, sizeof x->role, json_object_get(delta, "role"));
    append(c, &x->content, json_object_get(delta, "content"));
    take_tools(c, x, json_object_get(delta, "tool_calls"));
}

void ot_completion_event(ot_completion *c, const char *json, size_t n)
{
    static const char done[] = "[DONE]";
    json_t *root = json_loadb(json, n, 0, NULL);
    c->over |= root == NULL && memmem(json, n, done, sizeof done - 1) == NULL; /* cut, or odd */
    size_t i;
    const json_t *one, *usage = json_object_get(root, "usage");
    if (json_is_object(root)) {
        keep(c->id, sizeof c->id, json_object_get(root, "id"));
        keep(c->model, sizeof c->model, json_object_get(root, "model"));
        c->created =
            c->created != 0 ? c->created : json_integer_value(json_object_get(root, "created"));
        json_array_foreach(json_object_get(root, "choices"), i, one)
        {
            take_choice(c, one);
        }
    }
    if (json_is_object(usage)) {
        json_decref(c->usage);
        c->usage = json_deep_copy(usage);
    }
    json_decref(root);
}

static json_t *text_of(const ot_str *s)
{
    return s->len > 0 ? json_stringn(s->data, s->len) : json_string("");
}

static json_t *tools_json(const choice *x)
{
    json_t *list = json_array();
    for (size_t i = 0; i < x->n_tools; i++) {
        const tool *t = &x->tools[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:{s:s,s:o}}", "id", t->id, "type",
                                              "function", "function", "name", t->name, "arguments",
                                              text_of(&t->arguments)));
    }
    return list;
}

static json_t *choice_json(const choice *x, size_t index)
{
    json_t *out = json_pack("{s:I,s:o}", "index", (json_int_t)index, "finish_reason",
                            x->finish[0] != '\0' ? json_string(x->finish) : json_null());
    if (x->text) {
        json_object_set_new(out, "text", text_of(&x->content));
        return out;
    }
    json_t *m = json_pack("{s:s,s:o}", "role", x->role[0] != '\0' ? x->role : "assistant",
                          "content", text_of(&x->content));
    if (x->n_tools > 0) {
        json_object_set_new(m, "tool_calls", tools_json(x));
    }
    json_object_set_new(out, "message", m);
    return out;
}

bool ot_completion_write(const ot_completion *c, ot_str *out)
{
    json_t *list = json_array();
    if (c->over || c->n == 0) {
        json_decref(list);
        return false;
    }
    for (size_t i = 0; i < c->n; i++) {
        if (c->choices[i].used) {
            json_array_append_new(list, choice_json(&c->choices[i], i));
        }
    }
    json_t *root = json_pack("{s:s,s:s,s:I,s:s,s:o}", "id", c->id, "object",
                             c->choices[0].text ? "text_completion" : "chat.completion", "created",
                             c->created, "model", c->model, "choices", list);
    if (root != NULL && c->usage != NULL) {
        json_object_set(root, "usage", c->usage);
    }
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (text == NULL) {
        return false;
    }
    ot_str_adds(out, text);
    free(text);
    return !out->failed;
}
