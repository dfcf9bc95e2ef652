/* Waits that cannot end in time: arithmetic done before a release starts, not after it failed.
 *
 * A canary ends early only when the candidate is shown to be not worse by less than its margin.
 * When both versions are equally good, the normal case, that takes a number of labelled rows that
 * follows from the margin, the error rate and alpha (stats/labeltest.h); the arm collects them at
 * its share of the sampled traffic. */
#include "pipeline/app.h"

#include "stats/labeltest.h"

#include <math.h>
#include <stdio.h>

#define ERROR_RATE_GUESS 0.1 /* without an objective for accuracy */

/* Rounded up to two significant digits, as a person would say it: 5.5 h, not 5.463 h. */
static const char *about(double us, char out[32])
{
    static const struct {
        double us;
        const char *name;
    } units[] = {{86400e6, "d"}, {3600e6, "h"}, {60e6, "min"}, {1e6, "s"}};
    size_t i = 0;
    while (i + 1 < OT_COUNT(units) && us < 2 * units[i].us) {
        i++;
    }
    double x = us / units[i].us;
    double step = x > 0 ? pow(10, floor(log10(x)) - 1) : 1;
    snprintf(out, 32, "%.3g %s", ceil(x / step - 1e-9) * step, units[i].name);
    return out;
}

static ot_rc check_shadow(const ot_conf_ctx *ctx, const ot_app_stage *st, double rate,
                          ot_error *err)
{
    double us = (double)st->until_compared / rate * 1e6;
    if (us <= (double)st->at_most_us) {
        return OT_OK;
    }
    char rows[32], takes[32], most[32];
    return ot_conf_fail(ctx, st->until_mark, err,
                        "%s compared at %.3g req/s take >= %s; at_most is %s. Lower until or raise "
                        "at_most.",
                        ot_format_count((uint64_t)st->until_compared, rows), rate, about(us, takes),
                        ot_format_duration(st->at_most_us, most));
}

static ot_rc check_share(const ot_conf_ctx *ctx, const ot_app_stage *st, double share, double rate,
                         double p, ot_error *err)
{
    uint64_t need = ot_labels_needed_paired(st->margin, p, st->alpha);
    double us = (double)need / (rate * share) * 1e6;
    if (us <= (double)st->at_most_us) {
        return OT_OK;
    }
    char labels[32], takes[32], most[32];
    return ot_conf_fail(ctx, st->margin_mark, err,
                        "margin %g at %g%% of %.3g req/s needs >= %s labels in that arm (>= %s); "
                        "at_most is %s. Widen margin, raise shares or at_most.",
                        st->margin, share * 100, rate, ot_format_count(need, labels),
                        about(us, takes), ot_format_duration(st->at_most_us, most));
}

ot_rc ot_app_check_waits(const ot_app *app, double rows_per_s, ot_error *err)
{
    ot_conf_ctx ctx = {.file = app->file};
    double rate = rows_per_s * app->serve.sample.rate;
    double p = app->objectives.accuracy.mark.line != 0 ? 1 - app->objectives.accuracy.at_least
                                                       : ERROR_RATE_GUESS;
    if (!(rate > 0)) {
        return OT_OK;
    }
    for (size_t i = 0; i < app->release.n; i++) {
        const ot_app_stage *st = &app->release.v[i];
        bool compares = st->kind == OT_STAGE_BLUE_GREEN && st->until_compared > 0;
        if (st->kind == OT_STAGE_SHADOW || compares) {
            OT_TRY(check_shadow(&ctx, st, rate, err));
        }
        for (size_t k = 0; st->kind == OT_STAGE_CANARY && k < st->n_shares; k++) {
            OT_TRY(check_share(&ctx, st, st->shares[k], rate, p, err));
        }
    }
    return OT_OK;
}
