/* What an evaluation would have found: recorded scores where candidate and champion are the ones
 * that were scored, else accuracies that are known or assumed, on as many rows. */
#include "simulate/world.h"

#include "base/mem.h"
#include "quality/score.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- accuracy */

/* The version that was promoted last, of those with labels: how it did at first. */
bool world_assumed(const world *w, double *out)
{
    const recording *r = w->rec;
    if (w->assume_accuracy >= 0) {
        *out = w->assume_accuracy;
        return true;
    }
    for (size_t i = r->n_changes; i > 0; i--) {
        int32_t v = sim_version_find(r, r->changes[i - 1].version);
        if (v >= 0 && sim_accuracy_near(r, v, 0, out)) {
            return true;
        }
    }
    return false;
}

/* After the time up to which something is known of a version, a proven fall of what served then is
 * one of this version too: the world has changed for both. */
static bool fallen(const recording *r, int64_t known_us, int64_t us, double *out)
{
    const sim_fall *f = sim_fall_between(r, known_us, us);
    if (f != NULL) {
        *out = f->accuracy;
    }
    return f != NULL;
}

static double recorded_accuracy(const json_t *scores, const char *data)
{
    const json_t *a =
        json_object_get(json_object_get(json_object_get(scores, data), "candidate"), "accuracy");
    return json_is_number(a) ? json_number_value(a) : -1;
}

/* What its own evaluation found on traffic, or at the worst where none was scored; -1: nothing. */
static double evaluated(const world *w, const sim_version *v)
{
    double worst = -1;
    for (size_t i = 0; i < w->app->data.n; i++) {
        const ot_app_data *d = &w->app->data.v[i];
        double a = recorded_accuracy(v->scores, d->name);
        if (a >= 0 && d->path == NULL) {
            return a;
        }
        worst = a >= 0 && (worst < 0 || a < worst) ? a : worst;
    }
    return worst;
}

bool world_accuracy(const world *w, const world_version *v, int64_t us, double *out)
{
    const recording *r = w->rec;
    const sim_version *real = v->recorded >= 0 ? &r->versions[v->recorded] : NULL;
    if (real != NULL && real->n_judged > 0) {
        int64_t last = real->judged[real->n_judged - 1].time_us;
        return (us > last && fallen(r, last, us, out)) ||
               sim_accuracy_near(r, v->recorded, us, out);
    }
    if (fallen(r, v->trained_us, us, out)) {
        return true;
    }
    double found = real != NULL ? evaluated(w, real) : -1;
    *out = found;
    return found >= 0 || world_assumed(w, out);
}

/* ---- an evaluation */

/* On fixed data a version is as good as it was found to be; one that never was, as the last one
 * that was promoted. On traffic, as it would be now. */
static bool accuracy_on(world *w, const world_version *v, const ot_app_data *d, bool serves,
                        double *out)
{
    const recording *r = w->rec;
    ot_accuracy seen = {0};
    if (d->path != NULL) {
        double found =
            v->recorded >= 0 ? recorded_accuracy(r->versions[v->recorded].scores, d->name) : -1;
        for (size_t i = r->n_changes; i > 0 && found < 0; i--) {
            int32_t k = sim_version_find(r, r->changes[i - 1].version);
            found = k >= 0 ? recorded_accuracy(r->versions[k].scores, d->name) : -1;
        }
        *out = found;
        return found >= 0 || world_accuracy(w, v, w->now_us, out);
    }
    if (serves &&
        ot_pipeline_accuracy(w->p, r->deployment, (int64_t)(v - w->versions) + 1,
                             w->now_us - d->last_us, w->now_us, &seen, NULL) == OT_OK &&
        seen.labelled > 0) {
        *out = (double)seen.right / (double)seen.labelled;
        return true;
    }
    double found = !serves && v->recorded >= 0
                       ? recorded_accuracy(r->versions[v->recorded].scores, d->name)
                       : -1;
    *out = found;
    return found >= 0 || world_accuracy(w, v, w->now_us, out);
}

/* As many held-out rows as the latest evaluation had; of traffic that never was evaluated, their
 * share of what was labelled. */
static int64_t rows_of(const world *w, const ot_app_data *d)
{
    const recording *r = w->rec;
    for (size_t i = r->n_versions; i > 0; i--) {
        const json_t *x = json_object_get(r->versions[i - 1].scores, d->name);
        int64_t n = json_integer_value(json_object_get(x, "rows"));
        if (n > 0) {
            return n;
        }
    }
    int64_t n = 0;
    for (size_t i = 0; d->path == NULL && i < r->n_rows; i++) {
        const sim_row *x = &r->rows[i];
        n += x->n > 0 && x->received_us <= w->now_us && x->time_us > w->now_us - d->last_us;
    }
    return (int64_t)((double)OT_MIN(n, d->max_rows) * w->app->evaluate.held_out);
}

static json_t *one_score(int64_t rows, double accuracy)
{
    return json_pack("{s:f,s:I}", "accuracy", accuracy, "right",
                     (json_int_t)llround(accuracy * (double)rows));
}

/* Whether one is right on a row is taken to say nothing about the other. */
static ot_rc add_data(world *w, const ot_app_data *d, const world_version *candidate,
                      const world_version *champion, json_t *into, ot_error *err)
{
    double a = 0, b = 0;
    int64_t rows = rows_of(w, d);
    if (rows == 0) {
        return OT_OK; /* nothing is held out yet */
    }
    if (!accuracy_on(w, candidate, d, false, &a) ||
        (champion != NULL && !accuracy_on(w, champion, d, true, &b))) {
        return ot_fail(err, OT_INVALID,
                       "data '%s': no labels tell how accurate versions were; say it with "
                       "--assume-accuracy",
                       d->name);
    }
    json_t *x = json_pack("{s:I,s:o}", "rows", (json_int_t)rows, "candidate", one_score(rows, a));
    if (champion != NULL) {
        int64_t only_a = llround((double)rows * a * (1 - b));
        int64_t only_b = llround((double)rows * b * (1 - a));
        json_object_set_new(x, "champion", one_score(rows, b));
        json_object_set_new(x, "only_candidate", json_integer(only_a));
        json_object_set_new(x, "only_champion", json_integer(only_b));
        json_object_set_new(x, "p_better", json_real(ot_sign_test_p(only_a, only_a + only_b)));
        json_object_set_new(x, "p_worse", json_real(ot_sign_test_p(only_b, only_a + only_b)));
    }
    json_object_set_new(into, d->name, x);
    return OT_OK;
}

/* The record has this very evaluation. */
static bool is_recorded(const world *w, const world_version *candidate,
                        const world_version *champion)
{
    const recording *r = w->rec;
    if (candidate->recorded < 0 || candidate->bundle != candidate->recorded || champion == NULL ||
        champion->recorded < 0) {
        return false;
    }
    const sim_version *v = &r->versions[candidate->recorded];
    return v->scores != NULL && v->scored_against == r->versions[champion->recorded].version;
}

ot_rc world_scores(world *w, int64_t candidate, int64_t champion, json_t **out, ot_error *err)
{
    const world_version *a = &w->versions[candidate - 1];
    const world_version *b = champion > 0 ? &w->versions[champion - 1] : NULL;
    json_t *data =
        is_recorded(w, a, b) ? json_deep_copy(w->rec->versions[a->recorded].scores) : json_object();
    ot_rc rc = OT_OK;
    for (size_t i = 0; rc == OT_OK && i < w->app->data.n; i++) {
        const ot_app_data *d = &w->app->data.v[i];
        if (json_object_get(data, d->name) == NULL) {
            rc = add_data(w, d, a, b, data, err);
        }
    }
    if (rc != OT_OK) {
        json_decref(data);
        return rc;
    }
    *out = json_pack("{s:o}", "data", data);
    return *out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
}
