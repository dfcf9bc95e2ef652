/* What people and programs see of the error budgets. */
#include "pipeline/internal.h"

static json_t *rate_json(const pl_budget_look *l, size_t i)
{
    const ot_budget_rule *r = &l->rules[i];
    return json_pack("{s:f,s:I,s:I,s:f,s:f,s:s,s:b}", "threshold", r->rate, "long_us",
                     (json_int_t)r->long_us, "short_us", (json_int_t)r->short_us, "rate",
                     l->rates[i][0], "rate_short", l->rates[i][1], "severity",
                     r->page ? "page" : "ticket", "holds", (int)l->holds[i]);
}

static json_t *us_or_null(int64_t us)
{
    return us > 0 ? json_integer(us) : json_null();
}

static json_t *budget_json(const pl_budget *b, const pl_budget_look *l, pl_objective o)
{
    json_t *j = json_object(), *rates = json_array();
    const ot_budget_rule *burns = b->rule > 0 ? &l->rules[b->rule - 1] : NULL;
    for (size_t i = 0; i < OT_BUDGET_RULES; i++) {
        json_array_append_new(rates, rate_json(l, i));
    }
    json_object_set_new(j, "objective", json_string(pl_objective_name(o)));
    json_object_set_new(j, "allowed", json_real(l->allowed));
    json_object_set_new(j, "over_us", json_integer(l->over_us));
    json_object_set_new(j, "events", json_real(l->counts.events));
    json_object_set_new(j, "bad", json_real(l->counts.bad));
    json_object_set_new(j, "remaining", json_real(1 - l->rate));
    json_object_set_new(j, "rates", rates);
    json_object_set_new(j, "burning",
                        burns == NULL ? json_null() : json_string(burns->page ? "page" : "ticket"));
    json_object_set_new(j, "spent", json_boolean(b->spent));
    json_object_set_new(j, "off", json_boolean(b->off));
    json_object_set_new(j, "off_since_us", us_or_null(b->off ? b->off_us : 0));
    json_object_set_new(j, "granted_until_us",
                        us_or_null(b->granted_us == INT64_MAX ? 0 : b->granted_us));
    return j;
}

json_t *pl_budgets_json(const pl_app *a)
{
    json_t *list = json_array();
    for (pl_objective o = 0; o < PL_OBJECTIVES; o++) {
        if (a->looks[o].known) {
            json_array_append_new(list, budget_json(&a->st.budgets[o], &a->looks[o], o));
        }
    }
    return list;
}
