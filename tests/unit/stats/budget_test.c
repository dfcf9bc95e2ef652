#include "stats/budget.h"

#include "tap.h"

#define MIN INT64_C(60000000)
#define HOUR (60 * MIN)
#define DAY (24 * HOUR)

static void windows_are(int64_t over_us, int64_t least_us, const int64_t *minutes, const char *what)
{
    ot_budget_rule r[OT_BUDGET_RULES];
    ot_budget_rules(over_us, least_us, r);
    for (size_t i = 0; i < OT_BUDGET_RULES; i++) {
        is_int(r[i].long_us / MIN, minutes[2 * i], "%s: long window of %g", what, r[i].rate);
        is_int(r[i].short_us / MIN, minutes[2 * i + 1], "%s: short window of %g", what, r[i].rate);
        ok(r[i].long_us % MIN == 0 && r[i].short_us % MIN == 0, "in whole minutes");
    }
}

static void rules(void)
{
    static const int64_t month[] = {60, 5, 360, 30, 1440, 120, 4320, 360};
    static const int64_t week[] = {14, 2, 84, 7, 336, 28, 1008, 84};
    static const int64_t day[] = {2, 2, 12, 2, 48, 4, 144, 12};
    static const int64_t slow[] = {60, 11, 360, 30, 1440, 120, 4320, 360};
    static const int64_t short_lived[] = {2, 2, 2, 2, 2, 2, 2, 2};
    ot_budget_rule r[OT_BUDGET_RULES];
    windows_are(28 * DAY, MIN, month, "28d");
    windows_are(30 * DAY, MIN, month, "30d");
    windows_are(7 * DAY, MIN, week, "7d");
    windows_are(DAY, MIN, day, "1d");
    windows_are(30 * DAY, 11 * MIN, slow, "windows of 10min");
    windows_are(2 * MIN, MIN, short_lived, "no longer than the period");
    ot_budget_rules(30 * DAY, MIN, r);
    ok(r[0].page && r[1].page && !r[2].page && !r[3].page, "two pages, two tickets");
    /* What a rule lets burn before it alarms, by the workbook: 2%, 5%, 10%, 10% of the budget. */
    static const double consumed[] = {0.02, 0.05, 0.1, 0.1};
    for (size_t i = 0; i < OT_BUDGET_RULES; i++) {
        is_near(r[i].rate * (double)r[i].long_us / (double)(30 * DAY), consumed[i], 1e-12,
                "%g burns %g%% of a budget of 30d", r[i].rate, consumed[i] * 100);
    }
}

static void rates(void)
{
    ot_budget_counts c = {.events = 10000, .bad = 20, .seen = 10000};
    is_near(ot_budget_rate(&c, 0.001, 28 * DAY, 28 * DAY), 2, 1e-12, "0.2%% bad, 0.1%% may: 2");
    is_near(ot_budget_rate(&c, 0.001, 7 * DAY, 28 * DAY), 0.5, 1e-12,
            "a week of it has spent half of four weeks' budget");
    is_near(ot_budget_rate(&c, 0.001, 60 * DAY, 28 * DAY), 2, 1e-12, "more than all is all");
    c.bad = 0;
    is_near(ot_budget_rate(&c, 0.001, DAY, DAY), 0, 0, "nothing bad");
    c = (ot_budget_counts){0};
    is_near(ot_budget_rate(&c, 0.001, 0, DAY), 0, 0, "nothing at all");
    c = (ot_budget_counts){.events = 0, .bad = 3};
    is_near(ot_budget_rate(&c, 0.1, DAY, DAY), 10, 1e-12,
            "failures before their requests: all bad");
    c = (ot_budget_counts){.events = 10, .bad = 1, .seen = 10};
    is_near(ot_budget_rate(&c, 0, DAY, DAY), 1e6, 0, "nothing may be bad");
}

/* scipy.stats.binom.sf(k - 1, n, p) < 1e-4: the least k. */
static void proven(void)
{
    static const struct {
        double p;
        int64_t n, k;
    } v[] = {{0.001, 10, 2},       {0.001, 14, 2}, {0.001, 15, 3},    {0.001, 1000, 7},
             {0.001, 100000, 140}, {0.07, 50, 13}, {0.07, 1000, 103}, {0.01, 60, 6},
             {0.01, 5, 3},         {0.5, 20, 19}};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        ot_budget_counts c = {.events = (double)v[i].n, .bad = (double)v[i].k, .seen = v[i].n};
        ok(ot_budget_proven(&c, v[i].p), "%lld of %lld at %g is no chance", (long long)v[i].k,
           (long long)v[i].n, v[i].p);
        c.bad -= 1;
        ok(!ot_budget_proven(&c, v[i].p), "one less may be");
    }
    /* A tenth was sampled: the weights count ten times, the proof only what was seen. */
    ot_budget_counts c = {.events = 100, .bad = 20, .seen = 10};
    ok(ot_budget_proven(&c, 0.001) && !ot_budget_proven(&c, 0.01), "weights prove nothing");
    c = (ot_budget_counts){.events = 1, .bad = 1, .seen = 1};
    ok(!ot_budget_proven(&c, 0.001), "one of one proves nothing");
    ok(ot_budget_proven(&c, 0), "but where none may be");
}

static void spent(void)
{
    ot_budget_counts c = {.events = 100000, .bad = 100, .seen = 100000};
    ok(ot_budget_spent(&c, 0.001, 1), "100 of 100,000 is all of 0.1%%");
    ok(!ot_budget_spent(&c, 0.001, 0.999), "and not spent before that");
    c = (ot_budget_counts){.events = 100, .bad = 1, .seen = 100};
    ok(!ot_budget_spent(&c, 0.001, 10), "one of a hundred is a handful");
    c.bad = 4;
    ok(ot_budget_spent(&c, 0.001, 40), "four are proof");
    c = (ot_budget_counts){.events = 9000, .bad = 9, .seen = 9000};
    ok(!ot_budget_spent(&c, 0.001, 1), "nine of nine thousand are no proof");
    c = (ot_budget_counts){.events = 10000, .bad = 10, .seen = 10000};
    ok(ot_budget_spent(&c, 0.001, 1), "from ten on the arithmetic decides");
}

int main(void)
{
    rules();
    rates();
    proven();
    spent();
    return tap_done();
}
