/* The gate: a verdict from scores on the same held-out rows. */
#include "pipeline/internal.h"

#include <inttypes.h>
#include <string.h>

#define GATE_P 0.05 /* of the sign test behind better_on */

typedef struct scores {
    bool present, has_champion;
    int64_t rows;
    double candidate, champion, p_better;
    int64_t only_candidate, only_champion;
} scores;

static scores scores_of(const json_t *result, const char *name)
{
    const json_t *d = json_object_get(json_object_get(result, "data"), name);
    const json_t *cand = json_object_get(d, "candidate"), *champ = json_object_get(d, "champion");
    scores s = {.present = json_integer_value(json_object_get(d, "rows")) > 0 && cand != NULL,
                .has_champion = champ != NULL,
                .rows = json_integer_value(json_object_get(d, "rows")),
                .candidate = json_number_value(json_object_get(cand, "accuracy")),
                .champion = json_number_value(json_object_get(champ, "accuracy")),
                .p_better = json_number_value(json_object_get(d, "p_better")),
                .only_candidate = json_integer_value(json_object_get(d, "only_candidate")),
                .only_champion = json_integer_value(json_object_get(d, "only_champion"))};
    return s;
}

static bool judge_better(const json_t *result, const char *name, ot_str *why)
{
    scores s = scores_of(result, name);
    if (!s.present) {
        ot_str_addf(why, "no held-out rows of '%s' to compare on; ", name);
        return false;
    }
    bool better = s.only_candidate > s.only_champion && s.p_better <= GATE_P;
    ot_str_addf(why,
                "%s on %s: %.3f against %.3f (%" PRId64 " rows, %" PRId64 " to %" PRId64
                " where they differ, p = %.2g); ",
                better ? "better" : "not better", name, s.candidate, s.champion, s.rows,
                s.only_candidate, s.only_champion, s.p_better);
    return better;
}

static bool judge_not_worse(const json_t *result, const ot_app_margin *m, ot_str *why)
{
    scores s = scores_of(result, m->data);
    if (!s.present) {
        ot_str_addf(why, "no held-out rows of '%s' to compare on; ", m->data);
        return false;
    }
    bool fine = s.champion - s.candidate <= m->margin;
    ot_str_addf(why, "%s on %s: %.3f against %.3f, margin %.3g (%" PRId64 " rows); ",
                fine ? "not worse" : "worse", m->data, s.candidate, s.champion, m->margin, s.rows);
    return fine;
}

static ot_rc require_type(void *arg, ot_expr_name *name, ot_expr_type *type_out, ot_error *err)
{
    (void)arg;
    if (!ot_has_prefix(name->text, "candidate.") && !ot_has_prefix(name->text, "champion.")) {
        return ot_fail(err, OT_INVALID, "'%.80s' is not candidate.NAME or champion.NAME",
                       name->text);
    }
    *type_out = OT_EXPR_NUMBER;
    return OT_OK;
}

static ot_rc require_value(void *arg, const ot_expr_name *name, ot_expr_value *out, ot_error *err)
{
    (void)err;
    const json_t *result = arg;
    scores s = scores_of(result, name->text + name->key);
    bool candidate = ot_has_prefix(name->text, "candidate.");
    *out = !s.present || (!candidate && !s.has_champion)
               ? ot_expr_null()
               : ot_expr_number(candidate ? s.candidate : s.champion);
    return OT_OK;
}

static ot_rc judge_require(const ot_app *app, const ot_app_stage *st, const json_t *result,
                           bool *holds_out, ot_str *why, ot_error *err)
{
    ot_arena arena;
    ot_arena_init(&arena, 4096, 1 << 20);
    ot_expr_origin origin = {
        .file = app->file, .line = (unsigned)st->mark.line, .col = (unsigned)st->mark.column};
    ot_expr *e = NULL;
    ot_expr_value v = ot_expr_null();
    ot_rc rc = ot_expr_parse(&arena, st->require, strlen(st->require), &origin, &e, err);
    if (rc == OT_OK) {
        rc = ot_expr_check(e, require_type, NULL, OT_EXPR_BOOL, app->file, err);
    }
    if (rc == OT_OK) {
        union {
            const json_t *in;
            void *out;
        } cast = {.in = result};
        rc = ot_expr_eval(e, require_value, cast.out, &v, err);
    }
    *holds_out = rc == OT_OK && ot_expr_holds(&v);
    if (rc == OT_OK) {
        ot_str_addf(why, "%s %s; ", st->require, *holds_out ? "holds" : "does not hold");
    }
    ot_arena_done(&arena);
    return rc;
}

static ot_rc judge_stage(const pl_app *a, const ot_app_stage *st, const json_t *result,
                         bool *passed, ot_str *why, ot_error *err)
{
    bool champion = a->st.champion > 0;
    if (champion && st->better_on != NULL && !judge_better(result, st->better_on, why)) {
        *passed = false;
    }
    for (size_t i = 0; champion && i < st->n_not_worse_on; i++) {
        if (!judge_not_worse(result, &st->not_worse_on[i], why)) {
            *passed = false;
        }
    }
    if (st->require != NULL) {
        bool holds = false;
        OT_TRY(judge_require(a->app, st, result, &holds, why, err));
        *passed = *passed && holds;
    }
    return OT_OK;
}

ot_rc pl_gate_judge(const pl_app *a, const json_t *result, bool *passed_out, json_t **verdict_out,
                    ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str why = OT_STR_INIT;
    bool passed = true;
    for (size_t i = 0; i < a->app->release.n; i++) {
        if (a->app->release.v[i].kind == OT_STAGE_GATE) {
            OT_TRY(judge_stage(a, &a->app->release.v[i], result, &passed, &why, err));
        }
    }
    if (why.len >= 2) {
        why.data[why.len -= 2] = 0;
    } else {
        ot_str_adds(&why, a->st.champion > 0 ? "no gate is set" : "nothing serves yet");
    }
    json_t *v = pl_text("v%" PRId64 " %s the gate: %s", a->st.cycle.version,
                        passed ? "passed" : "did not pass", why.data);
    json_object_set(v, "data", json_object_get(result, "data"));
    *verdict_out = v;
    *passed_out = passed;
    return OT_OK;
}
