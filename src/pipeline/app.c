#include "pipeline/app.h"

#include "base/disk.h"
#include "base/expr.h"
#include "pipeline/app_tables.h"

#include <stdio.h>
#include <string.h>

#define APP_ARENA_LIMIT (16u << 20)

const char *ot_stage_name(ot_stage_kind kind)
{
    return ot_conf_stages[kind].name;
}

const ot_app_data *ot_app_data_find(const ot_app *app, const char *name)
{
    for (size_t i = 0; i < app->data.n; i++) {
        if (strcmp(app->data.v[i].name, name) == 0) {
            return &app->data.v[i];
        }
    }
    return NULL;
}

ot_rc ot_app_from_deployment(const char *from, char out[65], ot_error *err)
{
    size_t n = strlen(from);
    static const char suffix[] = ".labelled";
    size_t m = sizeof suffix - 1;
    char name[65] = "";
    if (n > m && n - m < sizeof name && strcmp(from + n - m, suffix) == 0) {
        memcpy(name, from, n - m);
    }
    if (!ot_name_ok(name)) {
        return ot_fail(err, OT_INVALID, "from: '%.80s' is not DEPLOYMENT.labelled", from);
    }
    memcpy(out, name, sizeof name);
    return OT_OK;
}

ot_rc ot_app_check_data_name(const ot_app *app, ot_conf_ctx *ctx, ot_conf_mark mark,
                             const char *where, const char *name, ot_error *err)
{
    if (ot_app_data_find(app, name) != NULL) {
        return OT_OK;
    }
    const char *names[OT_APP_DATA_MAX];
    for (size_t i = 0; i < app->data.n; i++) {
        names[i] = app->data.v[i].name;
    }
    const char *near = ot_suggest(name, names, app->data.n);
    return ot_conf_fail(ctx, mark, err, "%s: '%.80s' is not a data set of this app%s%s%s", where,
                        name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static ot_rc check_from(const ot_app *app, ot_conf_ctx *ctx, const ot_app_data *d, ot_error *err)
{
    char deployment[65];
    ot_error e = {0};
    if (d->from == NULL || ot_app_maker(app, d) != NULL ||
        ot_app_from_deployment(d->from, deployment, &e) == OT_OK) {
        return OT_OK;
    }
    const char *names[OT_APP_STEPS_MAX];
    for (size_t i = 0; i < app->steps.n; i++) {
        names[i] = app->steps.v[i].name;
    }
    const char *near = ot_suggest(d->from, names, app->steps.n);
    return ot_conf_fail(ctx, d->mark, err, "%s, and no step of this app%s%s%s", e.msg,
                        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static ot_rc check_data(const ot_app *app, ot_conf_ctx *ctx, ot_error *err)
{
    if (app->train.data.n == 0) {
        return ot_conf_fail(ctx, app->train.mark, err,
                            "train.data: at least one data set is needed");
    }
    for (size_t i = 0; i < app->train.data.n; i++) {
        OT_TRY(ot_app_check_data_name(app, ctx, app->train.data.marks[i], "train.data",
                                      app->train.data.v[i], err));
    }
    for (size_t i = 0; i < app->data.n; i++) {
        OT_TRY(check_from(app, ctx, &app->data.v[i], err));
    }
    return OT_OK;
}

static const ot_app_stage *find_stage(const ot_app *app, ot_stage_kind kind)
{
    for (size_t i = 0; i < app->release.n; i++) {
        if (app->release.v[i].kind == kind) {
            return &app->release.v[i];
        }
    }
    return NULL;
}

/* A key of blue_green that a probation says too: it must say the same. */
static ot_rc agrees(ot_conf_ctx *ctx, const ot_app_stage *st, const char *key, bool same,
                    const ot_app_stage *probation, ot_error *err)
{
    ot_conf_mark m = ot_conf_mark_of(&ot_conf_stages[OT_STAGE_BLUE_GREEN], st, key);
    return same || m.line == 0 ? OT_OK
                               : ot_conf_fail(ctx, m, err,
                                              "blue_green.%s is not what the probation in line %d "
                                              "says; leave one of both out",
                                              key, probation->mark.line);
}

/* Traffic goes over at once, not in shares too; the previous version is kept by one stage. */
static ot_rc check_blue_green(ot_app *app, ot_conf_ctx *ctx, ot_app_stage *st, ot_error *err)
{
    const ot_app_stage *canary = find_stage(app, OT_STAGE_CANARY);
    const ot_app_stage *probation = find_stage(app, OT_STAGE_PROBATION);
    if (find_stage(app, OT_STAGE_BLUE_GREEN) != st) {
        return ot_conf_fail(ctx, st->mark, err, "release: blue_green stands twice");
    }
    if (canary != NULL) {
        return ot_conf_fail(ctx, st->mark, err,
                            "release: blue_green switches all traffic at once, and the canary in "
                            "line %d gives it in shares; leave one of both out",
                            canary->mark.line);
    }
    if (probation != NULL) {
        OT_TRY(agrees(ctx, st, "keep", st->for_us == probation->for_us, probation, err));
        OT_TRY(agrees(ctx, st, "roll_back_if", st->roll_back_if == probation->roll_back_if,
                      probation, err));
        st->for_us = probation->for_us;
        st->roll_back_if = probation->roll_back_if;
    }
    return st->for_us > 0 ? OT_OK
                          : ot_conf_fail(ctx, st->mark, err, "blue_green: keep must be above 0");
}

static ot_rc check_stage(ot_app *app, ot_conf_ctx *ctx, ot_app_stage *st, ot_error *err)
{
    if (st->better_on != NULL) {
        OT_TRY(ot_app_check_data_name(app, ctx, st->mark, "gate.better_on", st->better_on, err));
    }
    for (size_t i = 0; i < st->n_not_worse_on; i++) {
        OT_TRY(ot_app_check_data_name(app, ctx, st->mark, "gate.not_worse_on",
                                      st->not_worse_on[i].data, err));
    }
    bool waits = st->kind != OT_STAGE_GATE && st->kind != OT_STAGE_PROBATION;
    if (waits && st->at_most_us <= 0) {
        return ot_conf_fail(ctx, st->mark, err, "%s: at_most must be above 0",
                            ot_stage_name(st->kind));
    }
    return st->kind == OT_STAGE_BLUE_GREEN ? check_blue_green(app, ctx, st, err) : OT_OK;
}

/* What a condition may name; kept in step with the values in trigger.c. */
ot_rc ot_app_condition_type(void *arg, ot_expr_name *name, ot_expr_type *type_out, ot_error *err)
{
    (void)arg;
    static const struct {
        const char *name;
        ot_expr_type type;
    } known[] = {
        {"accuracy.degraded", OT_EXPR_BOOL},   {"accuracy.at_risk", OT_EXPR_BOOL},
        {"accuracy.estimate", OT_EXPR_NUMBER}, {"drift.detected", OT_EXPR_BOOL},
        {"labels.new", OT_EXPR_NUMBER},        {"labels.total", OT_EXPR_NUMBER},
        {"champion.age", OT_EXPR_DURATION},    {"champion.version", OT_EXPR_NUMBER},
    };
    const char *names[OT_COUNT(known)];
    for (size_t i = 0; i < OT_COUNT(known); i++) {
        names[i] = known[i].name;
        if (strcmp(name->text, known[i].name) == 0) {
            name->slot = i;
            *type_out = known[i].type;
            return OT_OK;
        }
    }
    const char *near = ot_suggest(name->text, names, OT_COUNT(known));
    return ot_fail(err, OT_INVALID, "'%.80s' is not known in a condition%s%s%s", name->text,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

ot_rc ot_app_condition_parse(const ot_app *app, size_t i, ot_arena *arena, ot_expr **out,
                             ot_error *err)
{
    const ot_conf_strs *when = &app->retrain.when;
    ot_expr_origin origin = {.file = app->file,
                             .line = (unsigned)when->marks[i].line,
                             .col = (unsigned)when->marks[i].column};
    ot_expr *e = NULL;
    OT_TRY(ot_expr_parse(arena, when->v[i], strlen(when->v[i]), &origin, &e, err));
    OT_TRY(ot_expr_check(e, ot_app_condition_type, NULL, OT_EXPR_BOOL, app->file, err));
    *out = e;
    return OT_OK;
}

static ot_rc check_expressions(const ot_app *app, ot_error *err)
{
    for (size_t i = 0; i < app->retrain.when.n; i++) {
        ot_arena a;
        ot_arena_init(&a, 4096, 1 << 20);
        ot_expr *e = NULL;
        ot_rc rc = ot_app_condition_parse(app, i, &a, &e, err);
        ot_arena_done(&a);
        OT_TRY(rc);
    }
    return OT_OK;
}

static ot_rc check_quality(const ot_app *app, ot_conf_ctx *ctx, ot_error *err)
{
    const ot_app_quality *q = &app->quality;
    if (q->block_us % q->window_us != 0) {
        char block[32], window[32];
        return ot_conf_fail(ctx, (ot_conf_mark){0}, err,
                            "quality: a block of %s is not a whole number of windows of %s",
                            ot_format_duration(q->block_us, block),
                            ot_format_duration(q->window_us, window));
    }
    return OT_OK;
}

static ot_rc check_alerts(const ot_app *app, ot_conf_ctx *ctx, ot_error *err)
{
    const char *url = app->alerts.webhook;
    if (url == NULL || url[0] == 0) {
        return OT_OK;
    }
    for (const char *p = url; *p != 0; p++) {
        if (*p <= ' ' || *p >= 127) {
            return ot_conf_fail(ctx, app->alerts.mark, err,
                                "alerts.webhook: spaces and other characters must be "
                                "percent-encoded");
        }
    }
    size_t host = ot_has_prefix(url, "http://") ? 7 : ot_has_prefix(url, "https://") ? 8 : 0;
    if (host == 0 || strcspn(url + host, "/?#") == 0) {
        return ot_conf_fail(ctx, app->alerts.mark, err,
                            "alerts.webhook: '%.200s' is not a URL as http://host/path or "
                            "https://host/path",
                            url);
    }
    return OT_OK;
}

static ot_rc check_app(ot_app *app, ot_conf_ctx *ctx, ot_error *err)
{
    if (strcmp(app->schema, "overtake/1") != 0) {
        return ot_conf_fail(ctx, (ot_conf_mark){1, 1}, err,
                            "schema '%.40s' is not known; this version reads overtake/1",
                            app->schema);
    }
    if (!ot_path_is_clean(app->train.model)) {
        return ot_conf_fail(ctx, app->train.mark, err,
                            "train.model: '%.200s' must be a relative path without '..'",
                            app->train.model);
    }
    OT_TRY(check_data(app, ctx, err));
    OT_TRY(ot_app_check_steps(app, ctx, err));
    OT_TRY(ot_app_check_job(app, ctx, err));
    OT_TRY(check_quality(app, ctx, err));
    OT_TRY(check_expressions(app, err));
    OT_TRY(check_alerts(app, ctx, err));
    for (size_t i = 0; i < app->release.n; i++) {
        OT_TRY(check_stage(app, ctx, &app->release.v[i], err));
    }
    return OT_OK;
}

static ot_rc parse_into(ot_app *app, const char *yaml, size_t n, ot_error *err)
{
    ot_conf_ctx ctx = {.file = app->file, .arena = &app->arena};
    ot_node *root = NULL;
    OT_TRY(ot_yaml_parse(yaml, n, app->file, &app->arena, &root, err));
    ot_app saved = *app;
    if (root->kind != OT_NODE_MAP) {
        return ot_conf_fail(&ctx, root->mark, err,
                            "an app file is a map; start with schema: "
                            "overtake/1");
    }
    ot_app parsed;
    OT_TRY(ot_conf_fill(&ctx, &ot_conf_app, root, &parsed, err));
    parsed.app_mark = ot_node_get(root, "app")->mark;
    parsed.arena = app->arena;
    parsed.file = saved.file;
    parsed.dir = saved.dir;
    parsed.yaml = saved.yaml;
    OT_TRY(check_app(&parsed, &ctx, err));
    *app = parsed;
    return OT_OK;
}

ot_rc ot_app_parse(const char *yaml, size_t n, const char *file, const char *dir, ot_app **out,
                   ot_error *err)
{
    ot_app *app = ot_calloc(1, sizeof *app);
    if (app == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", file);
    }
    ot_arena_init(&app->arena, 16384, APP_ARENA_LIMIT);
    app->file = ot_arena_strdup(&app->arena, file);
    app->dir = ot_arena_strdup(&app->arena, dir);
    app->yaml = ot_arena_strndup(&app->arena, yaml, n);
    ot_rc rc = app->file == NULL || app->dir == NULL || app->yaml == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", file)
                   : parse_into(app, yaml, n, err);
    if (rc != OT_OK) {
        ot_app_destroy(app);
        return rc;
    }
    *out = app;
    return OT_OK;
}

void ot_app_destroy(ot_app *app)
{
    if (app != NULL) {
        ot_arena_done(&app->arena);
        ot_free(app);
    }
}

void ot_app_show(const ot_app *app, ot_str *out)
{
    ot_conf_show(&ot_conf_app, app, 0, out);
}

void ot_app_reference(ot_str *out)
{
    ot_conf_reference(&ot_conf_app, "", out);
    for (size_t i = 0; i < OT_STAGE_KINDS; i++) {
        char path[64];
        snprintf(path, sizeof path, "release: - %s", ot_conf_stages[i].name);
        ot_conf_reference(&ot_conf_stages[i], path, out);
    }
}
