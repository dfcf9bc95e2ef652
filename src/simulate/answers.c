/* Who answers a row, and with what: the version that did, where the rehearsal serves it; else what
 * it is assumed to be right about. */
#include "simulate/world.h"

#include "base/hash.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PUSH_ROWS_MAX 4096
#define PUSH_BYTES_MAX (2u << 20)
#define CLASSES_MAX 65536

/* ---- what is said */

static double toss(const world_emit *e, uint64_t salt)
{
    uint64_t key[3] = {e->incarnation, e->seq, salt};
    return (double)(ot_hash_stable(key, sizeof key, 0x51a7) >> 11) * 0x1p-53;
}

/* A class that is not the label. */
static double wrong_answer(double label)
{
    return label == 0 ? 1 : 0;
}

static const sim_outcome *outcome_of(const world *w, const sim_row *x, int32_t version)
{
    for (uint32_t i = 0; version >= 0 && i < x->n; i++) {
        const sim_outcome *o = &w->rec->outcomes[x->first + i];
        if (o->version == version) {
            return o;
        }
    }
    return NULL;
}

static const sim_outcome *live_outcome(const world *w, const sim_row *x)
{
    for (uint32_t i = 0; i < x->n; i++) {
        const sim_outcome *o = &w->rec->outcomes[x->first + i];
        if (!o->shadow) {
            return o;
        }
    }
    return x->n > 0 ? &w->rec->outcomes[x->first] : NULL;
}

/* ---- who */

static int32_t recorded_of(const world *w, int64_t version)
{
    return version > 0 ? w->versions[version - 1].recorded : -1;
}

/* While the version answered in the record, a copy that it was not given was lost. */
static bool was_there(const world *w, int32_t recorded, int64_t us)
{
    const sim_version *v = recorded >= 0 ? &w->rec->versions[recorded] : NULL;
    return v != NULL && v->n_judged > 0 && us >= v->judged[0].time_us &&
           us <= v->judged[v->n_judged - 1].time_us;
}

/* Of what serves at the row's time, the version that answered it in earnest, if it is one of them
 * and the record split the traffic between the same two. */
static int64_t as_recorded(const world *w, const world_variants *v, const sim_row *x,
                           int32_t recorded)
{
    bool canary = v->candidate > 0 && v->share > 0;
    if (canary && recorded_of(w, v->candidate) == recorded) {
        return v->candidate;
    }
    if (recorded_of(w, v->champion) != recorded) {
        return 0;
    }
    return !canary || was_there(w, recorded_of(w, v->candidate), x->time_us) ? v->champion : 0;
}

static int64_t who_answers(const world *w, const world_variants *v, const sim_row *x,
                           const sim_outcome *live)
{
    int64_t version = as_recorded(w, v, x, live->version);
    /* Replicas had not taken the change up yet. */
    if (version == 0 && v > w->history && x->time_us < v->from_us + WORLD_SETTLE_US) {
        version = as_recorded(w, v - 1, x, live->version);
    }
    if (version != 0) {
        return version;
    }
    world_emit row = {.incarnation = x->incarnation, .seq = x->seq};
    return v->candidate > 0 && toss(&row, 0) < v->share ? v->candidate : v->champion;
}

/* ---- answers */

static ot_rc add_emit(world *w, const world_emit *e, ot_error *err)
{
    if (!ot_grow(&w->emits, &w->cap_emits, w->n_emits, sizeof *w->emits, 0)) {
        return ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
    }
    w->emits[w->n_emits++] = *e;
    return OT_OK;
}

static ot_rc add_answer(world *w, int64_t us, bool right, ot_error *err)
{
    world_answer *grown = sim_grow(w->answers, w->n_answers, sizeof *grown);
    if (grown == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
    }
    w->answers = grown;
    grown[w->n_answers++] = (world_answer){us, right};
    return OT_OK;
}

static ot_rc guess(world *w, const world_version *v, const sim_row *x, world_emit *e, ot_error *err)
{
    double accuracy = 1;
    if (v->kind != OT_PREDICTION_VALUE && !world_accuracy(w, v, x->time_us, &accuracy)) {
        return ot_fail(err, OT_INVALID,
                       "app %s: no labels tell how accurate versions were; say it with "
                       "--assume-accuracy",
                       w->rec->app);
    }
    e->prediction = toss(e, (uint64_t)e->version) < accuracy ? x->label : wrong_answer(x->label);
    w->tossed++;
    return OT_OK;
}

/* The answer of one version of the rehearsal to a row, if it came with this outcome. */
static ot_rc answer(world *w, int64_t version, bool shadow, const sim_row *x, const sim_outcome *o,
                    bool is_live, ot_error *err)
{
    const world_version *v = &w->versions[version - 1];
    const sim_outcome *real = outcome_of(w, x, v->recorded);
    world_emit e = {.incarnation = x->incarnation,
                    .seq = x->seq,
                    .version = version,
                    .time_us = x->time_us,
                    .shadow = shadow,
                    .probability = x->probability};
    if (real != NULL && real != o) {
        return OT_OK; /* it comes, or came, with its own */
    }
    if (real != NULL) {
        e.prediction = real->prediction;
    } else if (!is_live || (shadow && was_there(w, v->recorded, x->time_us))) {
        return OT_OK;
    } else {
        OT_TRY(guess(w, v, x, &e, err));
    }
    if (!shadow && v->kind != OT_PREDICTION_VALUE) {
        OT_TRY(add_answer(w, x->time_us, e.prediction == x->label, err));
    }
    return add_emit(w, &e, err);
}

ot_rc world_answer_row(world *w, const sim_outcome *o, ot_error *err)
{
    const sim_row *x = &w->rec->rows[o->row];
    const world_variants *v = world_variants_at(w, x->time_us);
    const sim_outcome *live = live_outcome(w, x);
    if (v == NULL || v->champion == 0) {
        return OT_OK; /* from before the beginning */
    }
    int64_t who = who_answers(w, v, x, live), seen[3] = {v->champion, v->candidate, v->shadow};
    bool is_live = live == o, said = false;
    for (size_t i = 0; i < OT_COUNT(seen); i++) {
        said = said || seen[i] == who;
        if (seen[i] > 0 && (seen[i] == who || v->compare)) {
            OT_TRY(answer(w, seen[i], seen[i] != who, x, o, is_live, err));
        }
    }
    return said ? OT_OK : answer(w, who, false, x, o, is_live, err);
}

/* ---- the form that a replica pushes */

static int by_segment(const void *a, const void *b)
{
    const world_emit *x = a, *y = b;
    if (x->incarnation != y->incarnation) {
        return x->incarnation < y->incarnation ? -1 : 1;
    }
    if (x->shadow != y->shadow) {
        return x->shadow ? 1 : -1;
    }
    if (x->version != y->version) {
        return x->version < y->version ? -1 : 1;
    }
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Scores of which the answered class is the highest; all NaN where there was no answer. */
static void add_scores(ot_str *bin, double class, size_t classes)
{
    for (size_t i = 0; i < classes; i++) {
        float s = isnan(class) ? (float)NAN : (double)i == class ? 1.0f : 0.0f;
        ot_str_add(bin, &s, sizeof s);
    }
}

static void add_outputs(ot_str *bin, const world_version *v, const world_emit *e, size_t n,
                        size_t classes)
{
    for (size_t i = 0; i < n; i++) {
        int64_t label = (int64_t)e[i].prediction;
        if (v->kind == OT_PREDICTION_SCORES) {
            add_scores(bin, e[i].prediction, classes);
        } else if (v->kind == OT_PREDICTION_LABEL) {
            ot_str_add(bin, &label, sizeof label);
        } else if (v->kind == OT_PREDICTION_VALUE) {
            ot_str_add(bin, &e[i].prediction, sizeof e[i].prediction);
        }
    }
}

static void add_columns(ot_str *bin, const world *w, const world_version *v, const world_emit *e,
                        size_t n, size_t classes)
{
    for (size_t i = 0; i < n; i++) {
        ot_str_add(bin, &e[i].seq, sizeof e[i].seq);
    }
    for (size_t i = 0; i < n; i++) {
        ot_str_add(bin, &e[i].time_us, sizeof e[i].time_us);
    }
    for (size_t i = 0; i < n; i++) {
        ot_str_add(bin, &e[i].probability, sizeof e[i].probability);
    }
    add_outputs(bin, v, e, n, classes);
    for (size_t i = 0; w->app->serve.labels.join == OT_JOIN_KEY && i < n; i++) {
        char key[40];
        snprintf(key, sizeof key, "%016" PRIx64 "-%" PRIx64, e[i].incarnation, e[i].seq);
        uint16_t len = (uint16_t)strlen(key);
        ot_str_add(bin, &len, sizeof len);
        ot_str_add(bin, key, len);
    }
}

static void add_json(ot_str *json, world *w, const world_version *v, const world_emit *e, size_t n,
                     size_t classes)
{
    ot_str_addf(json,
                "{\"stream\":\"sample\",\"seq\":%" PRIu64 ",\"incarnation\":\"%016" PRIx64
                "\",\"deployment\":\"%s\",\"model\":\"%s\",\"version\":%" PRId64
                ",\"role\":\"%s\",\"rows\":%zu,\"inputs\":[],\"keys\":%s,\"outputs\":[",
                ++w->pushed, e->incarnation, w->rec->deployment, w->rec->app, e->version,
                e->shadow ? "shadow" : "live", n,
                w->app->serve.labels.join == OT_JOIN_KEY ? "true" : "false");
    if (v->kind != OT_PREDICTION_NONE) {
        ot_str_adds(json, "{\"name\":\"");
        ot_str_add_json(json, v->output, strlen(v->output));
        ot_str_addf(json, "\",\"datatype\":\"%s\",\"shape\":[",
                    v->kind == OT_PREDICTION_SCORES  ? "FP32"
                    : v->kind == OT_PREDICTION_LABEL ? "INT64"
                                                     : "FP64");
        if (v->kind == OT_PREDICTION_SCORES) {
            ot_str_addf(json, "%zu", classes);
        }
        ot_str_adds(json, "]}");
    }
    ot_str_adds(json, "]}");
}

static ot_rc push(world *w, const world_emit *e, size_t n, size_t classes, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str bin = OT_STR_INIT;
    const world_version *v = &w->versions[e->version - 1];
    add_columns(&bin, w, v, e, n, classes);
    add_json(&json, w, v, e, n, classes);
    if (json.failed || bin.failed) {
        return ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
    }
    return ot_pipeline_push(w->p, json.data, json.len, bin.data, bin.len, err);
}

static bool same_segment(const world_emit *a, const world_emit *b)
{
    return a->incarnation == b->incarnation && a->shadow == b->shadow && a->version == b->version;
}

ot_rc world_flush(world *w, ot_error *err)
{
    if (w->n_emits > 0) {
        qsort(w->emits, w->n_emits, sizeof *w->emits, by_segment);
    }
    for (size_t i = 0, k; i < w->n_emits; i = k) {
        size_t classes = 2;
        for (k = i; k < w->n_emits && same_segment(&w->emits[i], &w->emits[k]); k++) {
            double p = w->emits[k].prediction;
            size_t more = p >= 0 && p < CLASSES_MAX ? OT_MAX(classes, (size_t)p + 1) : classes;
            if (k - i == PUSH_ROWS_MAX || (k > i && (k - i + 1) * more * 4 > PUSH_BYTES_MAX)) {
                break;
            }
            classes = more;
        }
        OT_TRY(push(w, &w->emits[i], k - i, classes, err));
    }
    w->n_emits = 0;
    return OT_OK;
}
