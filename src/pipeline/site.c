#include "pipeline/site.h"

#include "base/mem.h"
#include "pipeline/site_tables.h"

#include <stdio.h>
#include <string.h>

#define SITE_ARENA_LIMIT (16u << 20)

static const ot_conf_field quotas_fields[] = {
    {F(OT_CONF_INT, ot_site_quotas, apps, "apps"), .min = 1, .max = 256,
     .help = "Apps that may be here; those that are here already stay"},
    {F(OT_CONF_INT, ot_site_quotas, runs_at_once, "runs_at_once"), .min = 1, .max = 256,
     .help = "Runs of all apps at a time, ours included; others wait, first come, first served"},
    {F(OT_CONF_INT, ot_site_quotas, runs_per_day, "runs_per_day"), .min = 1, .max = 10000,
     .help = "Training runs of all apps in any 24 hours; others wait"},
    {F(OT_CONF_INT, ot_site_quotas, cpu, "cpu"), .min = 1, .max = 4096,
     .help = "The most that `train.resources.cpu` may be"},
    {F(OT_CONF_INT, ot_site_quotas, gpu, "gpu"), .max = 64,
     .help = "The most that `train.resources.gpu` may be"},
    {F(OT_CONF_SIZE, ot_site_quotas, memory, "memory"), .min = 1 << 20, .max = 1e15,
     .help = "The most that `train.resources.memory` may be"},
    {F(OT_CONF_SIZE, ot_site_quotas, disk, "disk"), .min = 1 << 20, .max = 1e15,
     .help = "The most that `train.resources.disk` may be"},
    {F(OT_CONF_SIZE, ot_site_quotas, log, "log"), .min = 1024, .max = 1e12,
     .help = "The most that `train.resources.log` may be"},
    {F(OT_CONF_DURATION, ot_site_quotas, time_us, "time"), .min = 1e6, .max = 3e13,
     .help = "The most that `train.resources.time` may be"},
    {F(OT_CONF_SIZE, ot_site_quotas, spare_memory, "spare_memory"), .def = "1GiB", .max = 1e15,
     .help = "What processes that wait for trainings (`train.warm`) may take together; 0: none"},
};
_Static_assert(OT_COUNT(quotas_fields) <= OT_SITE_QUOTAS_MAX, "a mark for each");
const ot_conf_section ot_conf_quotas =
    SECTION("quotas", ot_site_quotas, quotas_fields, NONE, NULL, offsetof(ot_site_quotas, marks));

#define ALPHA                                                                                      \
    {                                                                                              \
        F(OT_CONF_FRACTION, ot_app_stage, alpha, "alpha"),                                         \
            .min = 1e-6, .max = 0.5, .help = "The most that the app's `alpha` may be"              \
    }
static const ot_conf_field least_gate_fields[] = {
    {F(OT_CONF_FRACTION, ot_app_stage, margin, "margin"), .max = 1,
     .help = "The most that each margin of `not_worse_on` may be"},
};
static const ot_conf_field least_approval_fields[] = {
    {F(OT_CONF_STRS, ot_app_stage, by, "by"),
     .help = "Who may approve; an app may name fewer of them. Nobody named: anybody"},
};
static const ot_conf_field least_shadow_fields[] = {
    {F(OT_CONF_CUSTOM, ot_app_stage, until_compared, "until"), .custom = ot_conf_parse_compared,
     .help = "The least that the app's `until` must be"},
    ALPHA,
};
static const ot_conf_field least_canary_fields[] = {
    {F(OT_CONF_FRACTION, ot_app_stage, shares[0], "first_share"), .min = 1e-4, .max = 0.9999,
     .help = "The most that the first of the app's `shares` may be"},
    {F(OT_CONF_FRACTION, ot_app_stage, margin, "margin"), .min = 1e-4, .max = 0.5,
     .help = "The most that the app's `margin` may be"},
    ALPHA,
};
static const ot_conf_field least_probation_fields[] = {
    {F(OT_CONF_DURATION, ot_app_stage, for_us, "for"), .min = 1, .max = 3e13,
     .help = "The least that the app's `for` must be"},
    ALPHA,
};
static const ot_conf_field least_blue_green_fields[] = {
    {F(OT_CONF_DURATION, ot_app_stage, for_us, "keep"), .min = 1, .max = 3e13,
     .help = "The least that the app's `keep` must be"},
    ALPHA,
};
const ot_conf_section ot_conf_least[OT_STAGE_KINDS] = {
    [OT_STAGE_GATE] = OT_CONF_STAGE("gate", least_gate_fields),
    [OT_STAGE_APPROVAL] = OT_CONF_STAGE("approval", least_approval_fields),
    [OT_STAGE_SHADOW] = OT_CONF_STAGE("shadow", least_shadow_fields),
    [OT_STAGE_CANARY] = OT_CONF_STAGE("canary", least_canary_fields),
    [OT_STAGE_BLUE_GREEN] = OT_CONF_STAGE("blue_green", least_blue_green_fields),
    [OT_STAGE_PROBATION] = OT_CONF_STAGE("probation", least_probation_fields),
};

static ot_rc parse_least(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    ot_app_release *r = into;
    OT_TRY(ot_conf_parse_stages(ctx, ot_conf_least, node, r, err));
    for (size_t i = 1; i < r->n; i++) {
        if (r->v[i].kind == r->v[i - 1].kind) {
            return ot_conf_fail(ctx, r->v[i].mark, err,
                                "release: %s stands twice; what is demanded of it is one entry",
                                ot_stage_name(r->v[i].kind));
        }
    }
    return OT_OK;
}

static const char *const control_choices[] = {"admin", "anyone", NULL};

static const ot_conf_field site_fields[] = {
    {F(OT_CONF_STR, ot_site, schema, "schema"), .required = true,
     .help = "Always `overtake.site/1`", .example = "overtake.site/1"},
    {F(OT_CONF_STR, ot_site, contact, "contact"), .def = "",
     .help = "Who is asked for more; refusals name it"},
    {F(OT_CONF_SECTION, ot_site, quotas, "quotas"), .section = &ot_conf_quotas,
     .help = "What apps may take; a key that is left out is no limit"},
    {F(OT_CONF_STRS, ot_site, executors, "executors"), .def = "local",
     .help = "What may execute runs: `local`, this machine; an app that names none gets it"},
    {F(OT_CONF_CUSTOM, ot_site, release, "release"), .custom = parse_least,
     .help = "Stages that every release must have; see below"},
    {F(OT_CONF_CUSTOM, ot_site, windows, "change_windows"), .custom = ot_conf_parse_windows,
     .section = &ot_conf_window,
     .help = "When releases may move forward, a list; left out: always. Going back always may"},
    {F(OT_CONF_ENUM, ot_site, model_control, "model_control"), .def = "admin",
     .choices = control_choices,
     .help = "Whose requests to load or unload a model replicas pass on: `admin`, those with a key "
             "of `keys add --admin`; `anyone`, all that may predict with it"},
};
static const ot_conf_section site_section =
    SECTION("the site", ot_site, site_fields, NONE, NULL, offsetof(ot_site, marks));
_Static_assert(OT_COUNT(site_fields) <= OT_SITE_KEYS_MAX, "a mark for each");

static ot_rc check_site(const ot_site *site, ot_conf_ctx *ctx, ot_error *err)
{
    static const char *const known[] = {"local"};
    if (strcmp(site->schema, "overtake.site/1") != 0) {
        return ot_conf_fail(ctx, ot_conf_mark_of(&site_section, site, "schema"), err,
                            "schema '%.40s' is not known; this version reads overtake.site/1",
                            site->schema);
    }
    for (size_t i = 0; i < site->executors.n; i++) {
        const char *x = site->executors.v[i], *near = ot_suggest(x, known, OT_COUNT(known));
        if (strcmp(x, known[0]) != 0) {
            return ot_conf_fail(
                ctx, site->executors.marks[i], err, "executors: '%.60s' is not known; %s'local'%s",
                x, near != NULL ? "did you mean " : "this version has ", near != NULL ? "?" : "");
        }
    }
    if (site->executors.n == 0) {
        return ot_conf_fail(ctx, ot_conf_mark_of(&site_section, site, "executors"), err,
                            "executors: with none no run could start; name local");
    }
    return OT_OK;
}

static ot_rc parse_into(ot_site *site, const char *yaml, size_t n, ot_error *err)
{
    ot_conf_ctx ctx = {.file = site->file, .arena = &site->arena};
    ot_node *root = NULL;
    ot_site parsed;
    OT_TRY(ot_yaml_parse(yaml, n, site->file, &site->arena, &root, err));
    if (root->kind != OT_NODE_MAP) {
        return ot_conf_fail(&ctx, root->mark, err,
                            "a site file is a map; start with schema: overtake.site/1");
    }
    OT_TRY(ot_conf_fill(&ctx, &site_section, root, &parsed, err));
    OT_TRY(check_site(&parsed, &ctx, err));
    parsed.arena = site->arena;
    parsed.file = site->file;
    parsed.yaml = site->yaml;
    *site = parsed;
    return OT_OK;
}

ot_rc ot_site_parse(const char *yaml, size_t n, const char *file, ot_site **out, ot_error *err)
{
    ot_site *site = ot_calloc(1, sizeof *site);
    if (site == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", file);
    }
    ot_arena_init(&site->arena, 16384, SITE_ARENA_LIMIT);
    site->file = ot_arena_strdup(&site->arena, file);
    site->yaml = ot_arena_strndup(&site->arena, yaml, n);
    ot_rc rc = site->file == NULL || site->yaml == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "%s: no memory to parse it", file)
                   : parse_into(site, yaml, n, err);
    if (rc != OT_OK) {
        ot_site_destroy(site);
        return rc;
    }
    *out = site;
    return OT_OK;
}

void ot_site_destroy(ot_site *site)
{
    if (site != NULL) {
        ot_arena_done(&site->arena);
        ot_free(site);
    }
}

const char *ot_site_place(const ot_site *site, ot_conf_mark mark, char out[OT_SITE_PLACE_TEXT])
{
    snprintf(out, OT_SITE_PLACE_TEXT, "%.120s:%d:%d", site->file, mark.line, mark.column);
    return out;
}

ot_conf_mark ot_site_quota_mark(const ot_site *site, const char *quota)
{
    return ot_conf_mark_of(&ot_conf_quotas, &site->quotas, quota);
}

const char *ot_site_contact(const ot_site *site)
{
    return site->contact[0] != 0 ? site->contact : "the operators";
}

void ot_site_reference(ot_str *out)
{
    ot_conf_reference(&site_section, "", out);
    for (size_t i = 0; i < OT_COUNT(ot_conf_least); i++) {
        char path[64];
        snprintf(path, sizeof path, "release: - %s", ot_conf_least[i].name);
        ot_conf_reference(&ot_conf_least[i], path, out);
    }
}
