/* An app held to its site: bounds on what it writes, bounds for what it leaves to defaults. */
#include "pipeline/site_tables.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

typedef struct holder {
    const ot_site *site;
    ot_app *app;
    ot_conf_ctx ctx; /* of the app's file */
} holder;

/* Bounded values are int64_t (counts, durations, `until`), uint64_t or double. */
static double number_at(const ot_conf_field *f, const void *from)
{
    const void *p = (const char *)from + f->offset;
    return f->type == OT_CONF_FRACTION ? *(const double *)p
           : f->type == OT_CONF_SIZE   ? (double)*(const uint64_t *)p
                                       : (double)*(const int64_t *)p;
}

static void add_value(const ot_conf_field *f, const void *from, ot_str *out)
{
    if (f->type == OT_CONF_CUSTOM) {
        ot_str_addf(out, "%.0f compared", number_at(f, from));
    } else {
        ot_conf_show_value(f, from, out);
    }
}

/* One bound: what the app may have under `key` at the most, or at the least. */
typedef struct bound {
    const char *where; /* for messages: "train.resources" */
    const char *key;
    const ot_conf_section *app_section, *site_section;
    bool least;
} bound;

static ot_rc refuse(const holder *h, const bound *b, ot_conf_mark mark, ot_conf_mark site_mark,
                    const void *app, const void *site, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str has = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str may = OT_STR_INIT;
    char place[OT_SITE_PLACE_TEXT];
    add_value(ot_conf_field_of(b->app_section, b->key), app, &has);
    add_value(ot_conf_field_of(b->site_section, b->key), site, &may);
    return ot_conf_fail(&h->ctx, mark, err, "%s.%s %s is %s than %s %s (%s); %s it or ask %s",
                        b->where, b->key, has.data, b->least ? "less" : "more",
                        ot_site_place(h->site, site_mark, place), b->least ? "demands" : "allows",
                        may.data, b->least ? "raise" : "lower", ot_site_contact(h->site));
}

static ot_rc hold(const holder *h, const bound *b, void *app, const void *site, ot_error *err)
{
    const ot_conf_field *f = ot_conf_field_of(b->app_section, b->key);
    const ot_conf_field *g = ot_conf_field_of(b->site_section, b->key);
    ot_conf_mark site_mark = ot_conf_mark_of(b->site_section, site, b->key);
    double has = number_at(f, app), may = number_at(g, site);
    if (site_mark.line == 0 || (b->least ? has >= may : has <= may)) {
        return OT_OK;
    }
    ot_conf_mark mark = ot_conf_mark_of(b->app_section, app, b->key);
    if (mark.line != 0) {
        return refuse(h, b, mark, site_mark, app, site, err);
    }
    _Static_assert(sizeof(int64_t) == sizeof(double), "one size for every bounded value");
    memcpy((char *)app + f->offset, (const char *)site + g->offset, sizeof(int64_t));
    return OT_OK;
}

static ot_rc hold_resource(const holder *h, const char *key, ot_error *err)
{
    bound b = {.where = "train.resources",
               .key = key,
               .app_section = &ot_conf_resources,
               .site_section = &ot_conf_quotas};
    return hold(h, &b, &h->app->train.resources, &h->site->quotas, err);
}

/* ------------------------------------------------------------------ stages */

static ot_conf_mark stage_mark(const ot_app_stage *st, const char *key)
{
    ot_conf_mark m = ot_conf_mark_of(&ot_conf_stages[st->kind], st, key);
    return m.line != 0 ? m : st->mark;
}

static ot_rc hold_gate(const holder *h, const ot_app_stage *least, const ot_app_stage *st,
                       ot_error *err)
{
    char place[OT_SITE_PLACE_TEXT];
    if (st->better_on == NULL && st->n_not_worse_on == 0 && st->require == NULL) {
        return ot_conf_fail(&h->ctx, st->mark, err,
                            "gate judges nothing, and %s demands a gate; give it better_on, "
                            "not_worse_on or require",
                            ot_site_place(h->site, least->mark, place));
    }
    ot_conf_mark bounded = ot_conf_mark_of(&ot_conf_least[OT_STAGE_GATE], least, "margin");
    for (size_t i = 0; bounded.line != 0 && i < st->n_not_worse_on; i++) {
        const ot_app_margin *m = &st->not_worse_on[i];
        if (m->margin > least->margin) {
            return ot_conf_fail(&h->ctx, stage_mark(st, "not_worse_on"), err,
                                "gate.not_worse_on.%s %.10g is more than %s allows (%.10g); lower "
                                "it or ask %s",
                                m->data, m->margin, ot_site_place(h->site, bounded, place),
                                least->margin, ot_site_contact(h->site));
        }
    }
    return OT_OK;
}

static bool names(const ot_conf_strs *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->v[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* The site's names outlive the app's arena only while this site is in force: they are copied. */
static ot_rc inherit_by(const holder *h, const ot_app_stage *least, ot_app_stage *st, ot_error *err)
{
    size_t n = least->by.n;
    ot_arena *arena = &h->app->arena;
    ot_conf_strs by = {.v = ot_arena_calloc(arena, n + 1, sizeof(char *)),
                       .marks = ot_arena_calloc(arena, n + 1, sizeof(ot_conf_mark)),
                       .n = n};
    bool good = by.v != NULL && by.marks != NULL;
    for (size_t i = 0; good && i < n; i++) {
        by.v[i] = ot_arena_strdup(arena, least->by.v[i]);
        good = by.v[i] != NULL;
    }
    if (!good) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to hold it to the site", h->app->file);
    }
    st->by = by;
    return OT_OK;
}

static ot_rc hold_approval(const holder *h, const ot_app_stage *least, ot_app_stage *st,
                           ot_error *err)
{
    char place[OT_SITE_PLACE_TEXT];
    if (least->by.n == 0) {
        return OT_OK;
    }
    for (size_t i = 0; i < st->by.n; i++) {
        if (!names(&least->by, st->by.v[i])) {
            return ot_conf_fail(&h->ctx, st->by.marks[i], err,
                                "approval.by: '%.60s' is not among those whom %s allows to "
                                "approve; take the name out or ask %s",
                                st->by.v[i], ot_site_place(h->site, least->by.marks[0], place),
                                ot_site_contact(h->site));
        }
    }
    return st->by.n == 0 ? inherit_by(h, least, st, err) : OT_OK;
}

/* A stage that a release may leave without its verdict is none. */
static ot_rc hold_end(const holder *h, const ot_app_stage *least, const ot_app_stage *st,
                      ot_error *err)
{
    bool waits =
        st->kind == OT_STAGE_APPROVAL || st->kind == OT_STAGE_SHADOW || st->kind == OT_STAGE_CANARY;
    char place[OT_SITE_PLACE_TEXT];
    const char *stage = ot_stage_name(st->kind);
    ot_site_place(h->site, least->mark, place);
    if (waits && st->otherwise == OT_OTHERWISE_CONTINUE) {
        return ot_conf_fail(&h->ctx, stage_mark(st, "otherwise"), err,
                            "%s.otherwise continue lets a release pass without a verdict, and %s "
                            "demands the stage; write stop or roll_back, or ask %s",
                            stage, place, ot_site_contact(h->site));
    }
    bool after = st->kind == OT_STAGE_PROBATION || st->kind == OT_STAGE_BLUE_GREEN;
    if (after && st->roll_back_if != 0) {
        return ot_conf_fail(&h->ctx, stage_mark(st, "roll_back_if"), err,
                            "%s.roll_back_if never makes it none, and %s demands it; write "
                            "worse_than_previous, or ask %s",
                            stage, place, ot_site_contact(h->site));
    }
    return OT_OK;
}

static ot_rc hold_first_share(const holder *h, const ot_app_stage *least, ot_app_stage *st,
                              ot_error *err)
{
    ot_conf_mark bounded = ot_conf_mark_of(&ot_conf_least[OT_STAGE_CANARY], least, "first_share");
    ot_conf_mark written = ot_conf_mark_of(&ot_conf_stages[OT_STAGE_CANARY], st, "shares");
    char place[OT_SITE_PLACE_TEXT];
    if (bounded.line == 0 || st->shares[0] <= least->shares[0]) {
        return OT_OK;
    }
    if (written.line != 0) {
        return ot_conf_fail(&h->ctx, written, err,
                            "canary.shares begin with %.10g%%, more than %s allows (%.10g%%); "
                            "put a smaller one first or ask %s",
                            st->shares[0] * 100, ot_site_place(h->site, bounded, place),
                            least->shares[0] * 100, ot_site_contact(h->site));
    }
    st->shares[0] = least->shares[0];
    return OT_OK;
}

static ot_rc hold_stage(const holder *h, const ot_app_stage *least, ot_app_stage *st, bool first,
                        ot_error *err)
{
    static const struct {
        ot_stage_kind kind;
        const char *key;
        bool least;
    } bounds[] = {
        {OT_STAGE_SHADOW, "until", true},    {OT_STAGE_SHADOW, "alpha", false},
        {OT_STAGE_CANARY, "margin", false},  {OT_STAGE_CANARY, "alpha", false},
        {OT_STAGE_PROBATION, "for", true},   {OT_STAGE_PROBATION, "alpha", false},
        {OT_STAGE_BLUE_GREEN, "keep", true}, {OT_STAGE_BLUE_GREEN, "alpha", false},
    };
    OT_TRY(hold_end(h, least, st, err));
    if (st->kind == OT_STAGE_GATE) {
        return hold_gate(h, least, st, err);
    }
    if (st->kind == OT_STAGE_APPROVAL) {
        return hold_approval(h, least, st, err);
    }
    for (size_t i = 0; i < OT_COUNT(bounds); i++) {
        bound b = {.where = ot_stage_name(st->kind),
                   .key = bounds[i].key,
                   .app_section = &ot_conf_stages[st->kind],
                   .site_section = &ot_conf_least[st->kind],
                   .least = bounds[i].least};
        if (bounds[i].kind == st->kind) {
            OT_TRY(hold(h, &b, st, least, err));
        }
    }
    return first && st->kind == OT_STAGE_CANARY ? hold_first_share(h, least, st, err) : OT_OK;
}

static ot_rc hold_release(const holder *h, const ot_app_stage *least, ot_error *err)
{
    ot_app_release *r = &h->app->release;
    bool found = false;
    for (size_t i = 0; i < r->n; i++) {
        if (r->v[i].kind == least->kind) {
            OT_TRY(hold_stage(h, least, &r->v[i], !found, err));
            found = true;
        }
    }
    if (found) {
        return OT_OK;
    }
    char place[OT_SITE_PLACE_TEXT];
    const char *stage = ot_stage_name(least->kind);
    ot_conf_mark mark = r->mark.line != 0 ? r->mark : (ot_conf_mark){1, 1};
    return ot_conf_fail(
        &h->ctx, mark, err, "release has no %s, and %s demands one; add `- %s: {}` or ask %s",
        stage, ot_site_place(h->site, least->mark, place), stage, ot_site_contact(h->site));
}

/* One refusal a line; one that does not fit any more is left out. */
static void add_line(const ot_error *one, ot_error *all)
{
    size_t n = strlen(all->msg);
    if (all->rc == OT_OK) {
        *all = *one;
    } else if (n + 1 + strlen(one->msg) < sizeof all->msg) {
        snprintf(all->msg + n, sizeof all->msg - n, "\n%s", one->msg);
    }
}

ot_rc ot_site_tighten(const ot_site *site, ot_app *app, ot_error *err)
{
    static const char *const keys[] = {"cpu", "gpu", "memory", "disk", "log", "time"};
    holder h = {.site = site, .app = app, .ctx = {.file = app->file, .arena = &app->arena}};
    ot_error all = {0};
    for (size_t i = 0; i < OT_COUNT(keys) + site->release.n; i++) {
        ot_error one = {0};
        ot_rc rc = i < OT_COUNT(keys)
                       ? hold_resource(&h, keys[i], &one)
                       : hold_release(&h, &site->release.v[i - OT_COUNT(keys)], &one);
        if (rc != OT_OK) {
            add_line(&one, &all);
        }
    }
    if (all.rc != OT_OK && err != NULL) {
        *err = all;
    }
    return all.rc;
}
