/* The error budgets of an app, and what a spent one has taken away. */
#include "cli/text.h"
#include "cli/view.h"

#include <string.h>

/* The first rate that is as high as its rule says, else the first. */
static const json_t *rate_of(const json_t *budget)
{
    const json_t *r, *rates = json_object_get(budget, "rates");
    size_t i;
    json_array_foreach(rates, i, r)
    {
        if (ot_cli_true(r, "holds")) {
            return r;
        }
    }
    return json_array_get(rates, 0);
}

static const char *state_of(const json_t *b)
{
    return ot_cli_true(b, "off")              ? "SPENT"
           : ot_cli_true(b, "spent")          ? "granted"
           : ot_cli_get(b, "burning")[0] != 0 ? "BURNS"
                                              : "holds";
}

static void view_budget(const json_t *b, ot_str *out)
{
    const json_t *r = rate_of(b);
    char span[32], until[OT_CLI_TIME_TEXT];
    ot_cli_add_padded(out, state_of(b), 8);
    ot_cli_add_padded(out, ot_cli_get(b, "objective"), 13);
    ot_str_addf(out, "%.3g%% left: %.0f bad of %.0f in %s", 100 * ot_cli_num(b, "remaining"),
                ot_cli_num(b, "bad"), ot_cli_num(b, "events"),
                ot_format_duration(ot_cli_int(b, "over_us"), span));
    if (ot_cli_num(r, "rate") > 0) {
        ot_str_addf(out, "; burns at %.3g over %s", ot_cli_num(r, "rate"),
                    ot_format_duration(ot_cli_int(r, "long_us"), span));
    }
    if (ot_cli_int(b, "granted_until_us") > 0) {
        ot_str_addf(out, "; borne until %s", ot_cli_time(ot_cli_int(b, "granted_until_us"), until));
    }
    ot_str_addc(out, '\n');
}

void ot_cli_view_budgets(const json_t *app, ot_str *out)
{
    const json_t *b, *list = json_object_get(app, "budgets");
    size_t i;
    json_array_foreach(list, i, b)
    {
        ot_cli_view_name(out, i == 0 ? "budgets" : "");
        view_budget(b, out);
    }
    if (ot_cli_get(app, "automation_off")[0] != 0) {
        ot_cli_view_name(out, "automation");
        ot_str_adds(out, "off: ");
        ot_cli_add_clean(out, ot_cli_get(app, "automation_off"));
        ot_str_adds(out, "; overtake resume ");
        ot_cli_add_clean(out, ot_cli_get(app, "app"));
        ot_str_adds(out, " --reason TEXT\n");
    }
}
