#include "simulate/simulate.h"

#include "base/mem.h"
#include "simulate/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct simulation {
    const ot_simulate_config *cfg;
    ot_app *proposed, *in_force;
    recording rec;
    sim_span span;
    int64_t begin_us;
    json_t *assumed; /* texts */
} simulation;

/* ---- may this file be replayed over this recording? */

/* Windows are as long as the policy in force says; shorter ones end with their process, longer ones
 * are several in one. */
static ot_rc check_blocks(const simulation *s, ot_error *err)
{
    char block[32], window[32];
    int64_t us = s->proposed->quality.block_us, recorded = s->in_force->quality.window_us;
    if (us % recorded != 0) {
        ot_format_duration(recorded, window);
        return ot_fail(
            err, OT_INVALID,
            "%s: quality.block is %s, which is no whole number of the windows of %s that "
            "were recorded; take a multiple of %s",
            s->proposed->file, ot_format_duration(us, block), window, window);
    }
    return OT_OK;
}

static ot_rc check_file(const simulation *s, ot_error *err)
{
    const recording *r = &s->rec;
    if (strcmp(s->proposed->serve.deployment, r->deployment) != 0) {
        return ot_fail(err, OT_INVALID,
                       "%s: serve.deployment is '%s', and what was recorded of app '%s' is of "
                       "deployment '%s'; rehearse with that one",
                       s->proposed->file, s->proposed->serve.deployment, r->app, r->deployment);
    }
    if (r->first_us == 0) {
        return ot_fail(err, OT_NOT_FOUND,
                       "app %s: no windows and no labels are recorded of deployment '%s', so "
                       "there is nothing to replay; let it serve first",
                       r->app, r->deployment);
    }
    return check_blocks(s, err);
}

/* ---- where it begins */

static int64_t probation_of(const ot_app *app)
{
    for (size_t i = 0; i < app->release.n; i++) {
        if (app->release.v[i].kind == OT_STAGE_PROBATION) {
            return app->release.v[i].for_us;
        }
    }
    return 0;
}

/* At the last promotion before the span whose probation was over by then: evidence begins anew with
 * a promotion, and so nothing from before it is missed. */
static void find_begin(simulation *s)
{
    const recording *r = &s->rec;
    int64_t probation = probation_of(s->in_force), begin = r->changes[0].time_us;
    s->span.to_us = r->last_us;
    s->span.from_us = OT_MAX(r->last_us - s->cfg->last_us, begin);
    for (size_t i = 1; i < r->n_changes; i++) {
        if (r->changes[i].time_us + probation <= s->span.from_us) {
            begin = r->changes[i].time_us;
        }
    }
    /* What was before the data that are kept is not known. */
    s->begin_us = OT_MIN(OT_MAX(begin, r->first_us - 1), s->span.from_us);
}

/* ---- what was assumed */

static void assume(simulation *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void assume(simulation *s, const char *fmt, ...)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    va_list ap;
    va_start(ap, fmt);
    ot_str_vaddf(&text, fmt, ap);
    va_end(ap);
    json_array_append_new(s->assumed, json_string(text.data));
}

static void assume_trainings(simulation *s, const char *policy, const world *w)
{
    double a = 0;
    if (w->recorded > 0) {
        assume(s,
               "%s: %" PRId64
               " trainings made the version that was really trained next; it answers "
               "rows as it did",
               policy, w->recorded);
    }
    if (w->assumed > 0 && world_assumed(w, &a)) {
        assume(s, "%s: %" PRId64 " trainings made a version that never was, %.1f%% accurate (%s)",
               policy, w->assumed, 100 * a,
               w->assume_accuracy >= 0 ? "--assume-accuracy"
                                       : "as the champion at its own promotion");
    }
    if (w->tossed > 0) {
        assume(s,
               "%s: %" PRId64 " answers that nobody gave: right as often as the version was on the "
               "%d nearest rows that it answered, by a coin that is always the same",
               policy, w->tossed, SIM_NEAREST);
    }
    if (w->incomparable > 0) {
        assume(s,
               "%s: %" PRId64 " windows were counted in another version's cells and give no "
               "evidence of drift",
               policy, w->incomparable);
    }
    if (w->approvals > 0) {
        assume(s, "%s: %" PRId64 " approvals were given at once", policy, w->approvals);
    }
}

static void assume_of_record(simulation *s)
{
    const recording *r = &s->rec;
    char train[32], package[32], evaluate[32], when[32];
    if (r->median_us[SIM_TRAIN] > 0) {
        assume(
            s,
            "each run succeeds; one that was not recorded takes the median of its step: training "
            "%s, packaging %s, evaluation %s",
            ot_format_duration(r->median_us[SIM_TRAIN], train),
            ot_format_duration(r->median_us[SIM_PACKAGE], package),
            ot_format_duration(r->median_us[SIM_EVALUATE], evaluate));
    } else {
        assume(s, "each run succeeds; none was recorded, so a training takes as long as "
                  "train.resources.time allows");
    }
    if (r->acts > 0) {
        assume(s, "what people did to the loop (%" PRId64 " times) is not repeated", r->acts);
    }
    if (r->applied_us > s->begin_us) {
        assume(s, "the policy in force is of %s; before that another one was",
               ot_format_time(r->applied_us, when));
    }
    if (r->windows == 0) {
        assume(s, "no windows are recorded: there is no evidence of drift");
    }
}

/* ---- one policy */

static ot_rc rehearse(simulation *s, const char *name, const ot_app *app, const char *folder,
                      world **w_out, json_t *policy, ot_error *err)
{
    char dir[OT_PATH_MAX];
    world *w = NULL;
    OT_TRY(ot_path_join(dir, s->cfg->scratch, folder, err));
    OT_TRY(world_create(&s->rec, dir, app->yaml, app->file, app->dir, s->cfg->assume_accuracy, &w,
                        err));
    json_t *events = s->cfg->events ? json_array() : NULL;
    ot_rc rc = world_begin(w, s->begin_us, err);
    if (rc == OT_OK) {
        rc = world_replay(w, s->span.to_us, err);
    }
    if (rc == OT_OK) {
        rc = sim_count_log(w->store, s->rec.app, s->span, policy, events, err);
    }
    if (rc == OT_OK) {
        sim_sort_answers(w->answers, w->n_answers);
        rc = sim_count_below(&s->rec, app, w->answers, w->n_answers, s->span, policy, err);
    }
    if (events != NULL) {
        json_object_set_new(policy, "events", events);
    }
    if (rc != OT_OK) {
        world_destroy(w);
        return rc;
    }
    assume_trainings(s, name, w);
    *w_out = w;
    return OT_OK;
}

/* What was really so, by the same measures. */
static ot_rc count_record(const simulation *s, json_t *into, ot_error *err)
{
    const recording *r = &s->rec;
    world_answer *answers = ot_calloc(r->n_outcomes + 1, sizeof *answers);
    if (answers == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
    }
    size_t n = 0;
    for (size_t i = 0; i < r->n_outcomes; i++) {
        const sim_outcome *o = &r->outcomes[i];
        if (!o->shadow && o->right >= 0) {
            answers[n++] = (world_answer){r->rows[o->row].time_us, o->right != 0};
        }
    }
    sim_sort_answers(answers, n);
    json_t *events = s->cfg->events ? json_array() : NULL;
    ot_rc rc = sim_count_log(r->store, r->app, s->span, into, events, err);
    if (events != NULL) {
        json_object_set_new(into, "events", events);
    }
    if (rc == OT_OK) {
        rc = sim_count_below(r, s->in_force, answers, n, s->span, into, err);
    }
    ot_free(answers);
    return rc;
}

/* ---- both */

static ot_rc diff(const simulation *s, world *w, json_t **changed_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_pipeline_apply(w->p, s->proposed->yaml, strlen(s->proposed->yaml), s->proposed->file,
                             s->proposed->dir, "rehearsal", true, &text, err));
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    *changed_out = json_incref(json_object_get(j, "changed"));
    json_decref(j);
    return OT_OK;
}

static ot_rc compare(simulation *s, json_t *policies, json_t **changed, ot_error *err)
{
    world *w = NULL;
    ot_rc rc = rehearse(s, "in force", s->in_force, "in_force", &w,
                        json_object_get(policies, "in_force"), err);
    if (rc == OT_OK) {
        rc = diff(s, w, changed, err);
        world_destroy(w);
    }
    OT_TRY(rc);
    if (json_array_size(*changed) == 0) {
        json_object_set_new(policies, "proposed",
                            json_deep_copy(json_object_get(policies, "in_force")));
        return OT_OK;
    }
    OT_TRY(rehearse(s, s->proposed->file, s->proposed, "proposed", &w,
                    json_object_get(policies, "proposed"), err));
    world_destroy(w);
    return OT_OK;
}

static int64_t labels_in(const recording *r, sim_span span)
{
    int64_t n = 0;
    for (size_t i = 0; i < r->n_rows; i++) {
        n += r->rows[i].received_us >= span.from_us && r->rows[i].received_us <= span.to_us;
    }
    return n;
}

static ot_rc simulate(simulation *s, json_t **out, ot_error *err)
{
    const recording *r = &s->rec;
    json_t *changed = NULL;
    json_t *policies = json_pack("{s:{},s:{},s:{}}", "proposed", "in_force", "recorded");
    ot_rc rc = compare(s, policies, &changed, err);
    if (rc == OT_OK) {
        rc = count_record(s, json_object_get(policies, "recorded"), err);
    }
    if (rc != OT_OK) {
        json_decref(policies);
        json_decref(changed);
        return rc;
    }
    assume_of_record(s);
    *out =
        json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:O}", "app", r->app, "deployment",
                  r->deployment, "file", s->proposed->file, "from_us", (json_int_t)s->span.from_us,
                  "to_us", (json_int_t)s->span.to_us, "begin_us", (json_int_t)s->begin_us,
                  "windows", (json_int_t)r->windows, "labels", (json_int_t)labels_in(r, s->span),
                  "policies", policies, "changed", changed, "assumed", s->assumed);
    return *out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
}

ot_rc ot_simulate(const ot_simulate_config *cfg, json_t **out, ot_error *err)
{
    simulation s = {.cfg = cfg, .assumed = json_array()};
    ot_rc rc = ot_app_parse(cfg->yaml, strlen(cfg->yaml), cfg->file, cfg->dir, &s.proposed, err);
    if (rc == OT_OK) {
        rc = sim_recording_load(cfg->recorded, cfg->blobs, s.proposed->app, &s.rec, err);
    }
    if (rc == OT_OK) {
        rc = ot_app_parse(s.rec.yaml, strlen(s.rec.yaml), s.rec.file, s.rec.dir, &s.in_force, err);
    }
    if (rc == OT_OK) {
        rc = check_file(&s, err);
    }
    if (rc == OT_OK) {
        find_begin(&s);
        rc = simulate(&s, out, err);
    }
    sim_recording_done(&s.rec);
    ot_app_destroy(s.in_force);
    ot_app_destroy(s.proposed);
    json_decref(s.assumed);
    return rc;
}
