/* Steps of an app: what they make, for whom, and in which order. */
#include "pipeline/app_tables.h"

#include "base/disk.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {"rows", "a model"};

/* ------------------------------------------------------------------ the table */

ot_rc ot_conf_parse_steps(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    ot_app_steps *s = into;
    if (node->kind != OT_NODE_MAP) {
        return ot_conf_fail(ctx, node->mark, err,
                            "steps: name the steps: steps: {prepare: {run: PROGRAM, data: [base], "
                            "output: out/rows}}");
    }
    for (const ot_node *i = node->first; i != NULL; i = i->next) {
        if (s->n == OT_APP_STEPS_MAX) {
            return ot_conf_fail(ctx, i->key_mark, err, "steps: more than %d", OT_APP_STEPS_MAX);
        }
        if (!ot_name_ok(i->key) || strcmp(i->key, "train") == 0) {
            return ot_conf_fail(ctx, i->key_mark, err, "steps: '%.80s' is not a name of a step",
                                i->key);
        }
        ot_app_step *v = &s->v[s->n];
        OT_TRY(ot_conf_fill(ctx, &ot_conf_step, i, v, err));
        v->name = i->key;
        v->mark = i->key_mark;
        s->n++;
    }
    return OT_OK;
}

void ot_conf_show_steps(const void *from, int indent, ot_str *out)
{
    const ot_app_steps *s = from;
    ot_str_adds(out, s->n == 0 ? " {}\n" : "\n");
    for (size_t i = 0; i < s->n; i++) {
        ot_str_addf(out, "%*s%s:\n", indent, "", s->v[i].name);
        ot_conf_show(&ot_conf_step, &s->v[i], indent + 2, out);
    }
}

/* ------------------------------------------------------------------ who makes what */

const ot_app_step *ot_app_maker(const ot_app *app, const ot_app_data *d)
{
    for (size_t i = 0; d->from != NULL && i < app->steps.n; i++) {
        if (strcmp(app->steps.v[i].name, d->from) == 0) {
            return &app->steps.v[i];
        }
    }
    return NULL;
}

static bool lists(const ot_conf_strs *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->v[i], name) == 0) {
            return true;
        }
    }
    return false;
}

bool ot_app_trains_on(const ot_app *app, const char *name)
{
    bool found = lists(&app->train.data, name);
    for (size_t i = 0; i < app->steps.n && !found; i++) {
        found = lists(&app->steps.v[i].data, name);
    }
    return found;
}

/* ------------------------------------------------------------------ order */

typedef struct walk {
    const ot_app *app;
    ot_conf_ctx *ctx;
    const ot_app_step *order[OT_APP_STEPS_MAX];
    size_t n;
    unsigned char
        state[OT_APP_STEPS_MAX]; /* 1: what it takes is being looked at; 2: in the order */
} walk;

static ot_rc visit(walk *w, const ot_app_step *s, ot_error *err)
{
    size_t at = (size_t)(s - w->app->steps.v);
    w->state[at] = 1;
    for (size_t i = 0; i < s->data.n; i++) {
        const ot_app_data *d = ot_app_data_find(w->app, s->data.v[i]);
        const ot_app_step *maker = d != NULL ? ot_app_maker(w->app, d) : NULL;
        if (maker == NULL || w->state[maker - w->app->steps.v] == 2) {
            continue;
        }
        if (w->state[maker - w->app->steps.v] == 1) {
            return ot_conf_fail(
                w->ctx, s->data.marks[i], err,
                "steps: '%s' takes '%s', which step '%s' (%s:%d:%d) makes, and that "
                "waits for '%s' itself: nothing could be first",
                s->name, d->name, maker->name, w->ctx->file, maker->mark.line, maker->mark.column,
                s->name);
        }
        OT_TRY(visit(w, maker, err));
    }
    w->state[at] = 2;
    w->order[w->n++] = s;
    return OT_OK;
}

static ot_rc walk_all(walk *w, ot_error *err)
{
    for (size_t i = 0; i < w->app->steps.n; i++) {
        if (w->state[i] == 0) {
            OT_TRY(visit(w, &w->app->steps.v[i], err));
        }
    }
    return OT_OK;
}

size_t ot_app_steps_order(const ot_app *app, const ot_app_step *out[OT_APP_STEPS_MAX])
{
    ot_conf_ctx ctx = {.file = app->file};
    walk w = {.app = app, .ctx = &ctx};
    ot_error err;
    if (walk_all(&w, &err) != OT_OK) {
        return 0; /* not of an app that was checked */
    }
    memcpy(out, w.order, w.n * sizeof *out);
    return w.n;
}

/* ------------------------------------------------------------------ checks */

static ot_rc check_step(const ot_app *app, ot_conf_ctx *ctx, size_t at, ot_error *err)
{
    const ot_app_step *s = &app->steps.v[at];
    if (!ot_path_is_clean(s->output)) {
        return ot_conf_fail(ctx, s->mark, err,
                            "step '%s': output '%.200s' must be a relative path without '..'",
                            s->name, s->output);
    }
    for (size_t i = 0; i <= at; i++) {
        const ot_app_step *other = i < at ? &app->steps.v[i] : NULL;
        if (strcmp(other != NULL ? other->output : app->train.model, s->output) == 0) {
            ot_conf_mark m = other != NULL ? other->mark : app->train.mark;
            return ot_conf_fail(
                ctx, s->mark, err, "step '%s': '%s' is what %s (%s:%d:%d) writes too", s->name,
                s->output, other != NULL ? other->name : "train", ctx->file, m.line, m.column);
        }
    }
    for (size_t i = 0; i < s->data.n; i++) {
        OT_TRY(ot_app_check_data_name(app, ctx, s->data.marks[i], "steps", s->data.v[i], err));
    }
    for (size_t i = 0; i < app->data.n; i++) {
        const ot_app_data *d = &app->data.v[i];
        if (ot_app_maker(app, d) == s && ot_app_trains_on(app, d->name)) {
            return OT_OK;
        }
    }
    return ot_conf_fail(ctx, s->mark, err,
                        "step '%s': nobody takes what it makes; name it under data, like NAME: "
                        "{from: %s}, and that where it is taken",
                        s->name, s->name);
}

static ot_rc check_edge(const ot_app *app, ot_conf_ctx *ctx, const ot_app_data *d, ot_error *err)
{
    const ot_app_step *maker = ot_app_maker(app, d);
    if (maker != NULL && maker->makes != d->kind) {
        return ot_conf_fail(ctx, d->mark, err,
                            "data '%s' is %s, and step '%s' (%s:%d:%d) makes %s; say kind here or "
                            "makes there",
                            d->name, kind_names[d->kind], maker->name, ctx->file, maker->mark.line,
                            maker->mark.column, kind_names[maker->makes]);
    }
    if (maker == NULL && d->kind != OT_APP_ROWS) {
        return ot_conf_fail(ctx, d->mark, err,
                            "data '%s': only what a step makes can be a model; this has %s",
                            d->name, d->path != NULL ? "a path" : "rows of traffic");
    }
    return OT_OK;
}

/* Held-out rows are of data as it came: what a step makes is made of the rows for training. */
static ot_rc check_gate(const ot_app *app, ot_conf_ctx *ctx, const ot_app_stage *st,
                        const char *name, ot_error *err)
{
    const ot_app_data *d = name != NULL ? ot_app_data_find(app, name) : NULL;
    const ot_app_step *maker = d != NULL ? ot_app_maker(app, d) : NULL;
    return maker == NULL
               ? OT_OK
               : ot_conf_fail(ctx, st->mark, err,
                              "gate: '%s' is made by step '%s' (%s:%d:%d) of rows for "
                              "training; judge on data with path or .labelled",
                              name, maker->name, ctx->file, maker->mark.line, maker->mark.column);
}

ot_rc ot_app_check_steps(const ot_app *app, ot_conf_ctx *ctx, ot_error *err)
{
    walk w = {.app = app, .ctx = ctx};
    for (size_t i = 0; i < app->data.n; i++) {
        OT_TRY(check_edge(app, ctx, &app->data.v[i], err));
    }
    for (size_t i = 0; i < app->steps.n; i++) {
        OT_TRY(check_step(app, ctx, i, err));
    }
    for (size_t i = 0; i < app->release.n; i++) {
        const ot_app_stage *st = &app->release.v[i];
        OT_TRY(check_gate(app, ctx, st, st->better_on, err));
        for (size_t k = 0; k < st->n_not_worse_on; k++) {
            OT_TRY(check_gate(app, ctx, st, st->not_worse_on[k].data, err));
        }
    }
    return walk_all(&w, err);
}
