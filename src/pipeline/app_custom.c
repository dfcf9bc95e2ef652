/* The values of an app file that have a form of their own. */
#include "pipeline/app_tables.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* "3 failures" or "3". */
static ot_rc parse_counted(ot_conf_ctx *ctx, const ot_node *node, const char *word, int64_t *out,
                           ot_error *err)
{
    char text[64] = "";
    const char *s = node->kind == OT_NODE_SCALAR ? node->text : "";
    size_t n = strcspn(s, " ");
    int64_t x = 0;
    uint64_t big = 0;
    bool unit_ok = s[n] == 0 || strcmp(s + n + 1, word) == 0;
    if (n < sizeof text) {
        memcpy(text, s, n);
    }
    if (!unit_ok || text[0] == 0 || ot_parse_size(text, &big, NULL) != OT_OK || big > INT32_MAX) {
        return ot_conf_fail(ctx, node->mark, err, "'%.60s' is not a count; write it like 3 %s", s,
                            word);
    }
    x = (int64_t)big;
    *out = x;
    return OT_OK;
}

ot_rc ot_conf_parse_failures(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    return parse_counted(ctx, node, "failures", into, err);
}

ot_rc ot_conf_parse_compared(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    ot_app_stage *st =
        (ot_app_stage *)(void *)((char *)into - offsetof(ot_app_stage, until_compared));
    st->until_mark = node->mark;
    return parse_counted(ctx, node, "compared", into, err);
}

void ot_conf_show_failures(const void *from, int indent, ot_str *out)
{
    (void)indent;
    ot_str_addf(out, " %" PRId64 " failures\n", *(const int64_t *)from);
}

void ot_conf_show_compared(const void *from, int indent, ot_str *out)
{
    (void)indent;
    ot_str_addf(out, " %" PRId64 " compared\n", *(const int64_t *)from);
}

ot_rc ot_conf_parse_shares(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    ot_app_stage *st = (ot_app_stage *)(void *)((char *)into - offsetof(ot_app_stage, shares));
    ot_node single = *node;
    single.next = NULL;
    size_t n = 0;
    for (const ot_node *i = node->kind == OT_NODE_LIST ? node->first : &single; i != NULL;
         i = i->next, n++) {
        ot_error e = {0};
        double x = 0;
        if (n == OT_APP_SHARES_MAX) {
            return ot_conf_fail(ctx, i->mark, err, "shares: more than %d", OT_APP_SHARES_MAX);
        }
        const char *text = i->kind == OT_NODE_SCALAR ? i->text : "";
        if (ot_parse_fraction(text, &x, &e) != OT_OK) {
            return ot_conf_fail(ctx, i->mark, err, "shares: %s", e.msg);
        }
        if (x <= 0 || x >= 1 || (n > 0 && x <= st->shares[n - 1])) {
            return ot_conf_fail(
                ctx, i->mark, err,
                "shares: %s must lie between 0%% and 100%% and above the one before", text);
        }
        st->shares[n] = x;
    }
    if (n == 0) {
        return ot_conf_fail(ctx, node->mark, err, "shares: at least one is needed");
    }
    st->n_shares = n;
    return OT_OK;
}

void ot_conf_show_shares(const void *from, int indent, ot_str *out)
{
    (void)indent;
    const ot_app_stage *st =
        (const ot_app_stage *)(const void *)((const char *)from - offsetof(ot_app_stage, shares));
    ot_str_adds(out, " [");
    for (size_t i = 0; i < st->n_shares; i++) {
        ot_str_addf(out, "%s%.10g%%", i ? ", " : "", st->shares[i] * 100);
    }
    ot_str_adds(out, "]\n");
}

ot_rc ot_conf_parse_margins(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    ot_app_stage *st =
        (ot_app_stage *)(void *)((char *)into - offsetof(ot_app_stage, not_worse_on));
    if (node->kind != OT_NODE_MAP) {
        return ot_conf_fail(ctx, node->mark, err, "not_worse_on: write it like {base: 0.02}");
    }
    for (const ot_node *i = node->first; i != NULL; i = i->next) {
        ot_error e = {0};
        double x = 0;
        if (st->n_not_worse_on == OT_APP_DATA_MAX) {
            return ot_conf_fail(ctx, i->mark, err, "not_worse_on: more than %d", OT_APP_DATA_MAX);
        }
        if (i->kind != OT_NODE_SCALAR || ot_parse_fraction(i->text, &x, &e) != OT_OK) {
            return ot_conf_fail(ctx, i->mark, err, "not_worse_on: %s",
                                e.msg[0] ? e.msg : "a fraction is needed");
        }
        st->not_worse_on[st->n_not_worse_on++] = (ot_app_margin){.data = i->key, .margin = x};
    }
    return OT_OK;
}

void ot_conf_show_margins(const void *from, int indent, ot_str *out)
{
    (void)indent;
    const ot_app_stage *st =
        (const ot_app_stage *)(const void *)((const char *)from -
                                             offsetof(ot_app_stage, not_worse_on));
    ot_str_adds(out, " {");
    for (size_t i = 0; i < st->n_not_worse_on; i++) {
        ot_str_addf(out, "%s%s: %.10g", i ? ", " : "", st->not_worse_on[i].data,
                    st->not_worse_on[i].margin);
    }
    ot_str_adds(out, "}\n");
}

ot_rc ot_conf_parse_datas(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    ot_app_datas *d = into;
    if (node->kind != OT_NODE_MAP) {
        return ot_conf_fail(ctx, node->mark, err,
                            "data: name the data sets: data: {base: {path: FILE}}");
    }
    for (const ot_node *i = node->first; i != NULL; i = i->next) {
        if (d->n == OT_APP_DATA_MAX) {
            return ot_conf_fail(ctx, i->key_mark, err, "data: more than %d data sets",
                                OT_APP_DATA_MAX);
        }
        if (!ot_name_ok(i->key)) {
            return ot_conf_fail(ctx, i->key_mark, err, "data: '%.80s' is not a name", i->key);
        }
        ot_app_data *v = &d->v[d->n];
        OT_TRY(ot_conf_fill(ctx, &ot_conf_data, i, v, err));
        v->name = i->key;
        if ((v->path == NULL) == (v->from == NULL)) {
            return ot_conf_fail(ctx, i->key_mark, err, "data '%s' needs either `path` or `from`",
                                i->key);
        }
        d->n++;
    }
    return OT_OK;
}

void ot_conf_show_datas(const void *from, int indent, ot_str *out)
{
    const ot_app_datas *d = from;
    ot_str_adds(out, "\n");
    char text[32];
    for (size_t i = 0; i < d->n; i++) {
        const ot_app_data *v = &d->v[i];
        ot_str_addf(out, "%*s%s: {", indent, "", v->name);
        if (v->path != NULL) {
            ot_str_addf(out, "path: \"%s\", label: %s}\n", v->path, v->label);
        } else if (strchr(v->from, '.') == NULL) {
            ot_str_addf(out, "from: %s, kind: %s, label: %s}\n", v->from,
                        v->kind == OT_APP_MODEL ? "model" : "rows", v->label);
        } else {
            ot_str_addf(out, "from: %s, label: %s, last: %s, max_rows: %" PRId64 "}\n", v->from,
                        v->label, ot_format_duration(v->last_us, text), v->max_rows);
        }
    }
}

static ot_rc parse_stage(ot_conf_ctx *ctx, const ot_conf_section *stages, const ot_node *item,
                         ot_app_stage *st, ot_error *err)
{
    static const char *const names[OT_STAGE_KINDS] = {"gate",   "approval",   "shadow",
                                                      "canary", "blue_green", "probation"};
    const ot_node *body = item->kind == OT_NODE_MAP ? item->first : NULL;
    if (body == NULL || body->next != NULL) {
        return ot_conf_fail(ctx, item->mark, err,
                            "release: each entry is one stage, like `- canary: {shares: [10%%]}`");
    }
    for (size_t k = 0; k < OT_COUNT(names); k++) {
        if (strcmp(body->key, names[k]) == 0) {
            OT_TRY(ot_conf_fill(ctx, &stages[k], body->is_null ? NULL : body, st, err));
            st->kind = (ot_stage_kind)k;
            st->mark = body->key_mark;
            const ot_node *m = ot_node_get(body, "margin");
            st->margin_mark = m != NULL ? m->mark : body->key_mark;
            return OT_OK;
        }
    }
    const char *near = ot_suggest(body->key, names, OT_COUNT(names));
    return ot_conf_fail(ctx, body->key_mark, err, "'%.80s' is not a stage%s%s%s", body->key,
                        near ? "; did you mean '"
                             : " (gate, approval, shadow, canary, blue_green, probation)",
                        near ? near : "", near ? "'?" : "");
}

ot_rc ot_conf_parse_stages(ot_conf_ctx *ctx, const ot_conf_section *stages, const ot_node *node,
                           ot_app_release *r, ot_error *err)
{
    r->mark = node->key_mark;
    if (node->kind != OT_NODE_LIST) {
        return ot_conf_fail(ctx, node->mark, err, "release: a list of stages is needed");
    }
    int last = -1;
    for (const ot_node *i = node->first; i != NULL; i = i->next) {
        if (r->n == OT_APP_STAGE_MAX) {
            return ot_conf_fail(ctx, i->mark, err, "release: more than %d stages",
                                OT_APP_STAGE_MAX);
        }
        OT_TRY(parse_stage(ctx, stages, i, &r->v[r->n], err));
        int kind = (int)r->v[r->n].kind;
        if (kind < last) {
            return ot_conf_fail(ctx, r->v[r->n].mark, err,
                                "release: %s cannot come after %s; the order is gate, approval, "
                                "shadow, canary or blue_green, probation",
                                ot_stage_name((ot_stage_kind)kind),
                                ot_stage_name((ot_stage_kind)last));
        }
        last = kind;
        r->n++;
    }
    return OT_OK;
}

ot_rc ot_conf_parse_release(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    return ot_conf_parse_stages(ctx, ot_conf_stages, node, into, err);
}

void ot_conf_show_release(const void *from, int indent, ot_str *out)
{
    const ot_app_release *r = from;
    ot_str_adds(out, r->n == 0 ? " []\n" : "\n");
    for (size_t i = 0; i < r->n; i++) {
        const ot_app_stage *st = &r->v[i];
        ot_str_addf(out, "%*s- %s:\n", indent, "", ot_stage_name(st->kind));
        ot_conf_show(&ot_conf_stages[st->kind], st, indent + 4, out);
    }
}
