#include "stats/budget.h"

#include "base/mem.h"
#include "stats/special.h"

#include <math.h>
#include <stddef.h>

#define MINUTE_US INT64_C(60000000)
#define DAY_US (1440 * MINUTE_US)
#define CHANCE 1e-4
#define RATE_MAX 1e6
#define FEW 10 /* bad events: fewer must be proven */

static int64_t scaled(int64_t minutes, int64_t over_us, int64_t least_us)
{
    double us = (double)(minutes * MINUTE_US);
    if (over_us < 28 * DAY_US || over_us > 31 * DAY_US) {
        us *= (double)over_us / (double)(30 * DAY_US);
    }
    int64_t whole = (int64_t)ceil(us / (double)MINUTE_US) * MINUTE_US;
    int64_t least = OT_MAX((least_us + MINUTE_US - 1) / MINUTE_US, 2) * MINUTE_US;
    return OT_MIN(OT_MAX(whole, least), over_us);
}

void ot_budget_rules(int64_t over_us, int64_t least_us, ot_budget_rule out[OT_BUDGET_RULES])
{
    static const struct {
        double rate;
        int64_t long_minutes, short_minutes;
        bool page;
    } rules[OT_BUDGET_RULES] = {
        {14.4, 60, 5, true}, {6, 360, 30, true}, {3, 1440, 120, false}, {1, 4320, 360, false}};
    for (size_t i = 0; i < OT_BUDGET_RULES; i++) {
        out[i] = (ot_budget_rule){.rate = rules[i].rate,
                                  .long_us = scaled(rules[i].long_minutes, over_us, least_us),
                                  .short_us = scaled(rules[i].short_minutes, over_us, least_us),
                                  .page = rules[i].page};
    }
}

/* Failures may be counted a moment before their requests. */
static double bad_share(const ot_budget_counts *c)
{
    return c->bad <= 0 ? 0 : c->bad >= c->events ? 1 : c->bad / c->events;
}

double ot_budget_rate(const ot_budget_counts *c, double allowed, int64_t covered_us,
                      int64_t window_us)
{
    double share = bad_share(c);
    if (share <= 0 || covered_us <= 0) {
        return 0;
    }
    double lived = fmin((double)covered_us / (double)window_us, 1);
    return fmin(share / fmax(allowed, 0) * lived, RATE_MAX);
}

bool ot_budget_proven(const ot_budget_counts *c, double allowed)
{
    double n = (double)c->seen, k = floor(bad_share(c) * n + 1e-6);
    /* P(X >= k) of a binomial is I_p(k, n - k + 1). */
    return k >= 1 && ot_special_log_beta_inc(k, n - k + 1, allowed) < log(CHANCE);
}

bool ot_budget_spent(const ot_budget_counts *c, double allowed, double rate)
{
    return rate >= 1 && (bad_share(c) * (double)c->seen >= FEW || ot_budget_proven(c, allowed));
}
