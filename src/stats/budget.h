/* Error budgets: how much of what may go wrong has gone wrong, and how fast it does.
 *
 * An objective of `at_least` over a period allows the share 1 - at_least of its events to be bad:
 * that is the budget. Its burn rate over a window is the share of bad events there, in multiples of
 * the allowed one: at 1 the budget lasts exactly for the period. What an objective has not lived
 * through counts as good, in budgets as in rates: a young one has the whole period's budget.
 * Alerts are those of the SRE workbook (Google, 2018), chapter 5, table 5-8: a rate must hold over
 * a long window, so that it matters, and over a short one, so that it still goes on.
 *
 * Threads: any; pure. Times in microseconds. */
#ifndef OT_STATS_BUDGET_H
#define OT_STATS_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

enum { OT_BUDGET_RULES = 4 };

typedef struct ot_budget_rule {
    double rate; /* burn rate from which it holds */
    int64_t long_us, short_us;
    bool page; /* somebody is woken up; else it can wait for the day */
} ot_budget_rule;

/* The four rules of a period, the most urgent first: 14.4 over 1h and 5min, 6 over 6h and 30min, 3
 * over 1d and 2h, 1 over 3d and 6h. For a period that is not 28 to 31 days the windows are scaled
 * by period / 30 days. Windows are whole minutes, at least `least_us` and two minutes, and no
 * longer than the period. */
void ot_budget_rules(int64_t over_us, int64_t least_us, ot_budget_rule out[OT_BUDGET_RULES]);

typedef struct ot_budget_counts {
    double events, bad; /* weighted */
    int64_t seen;       /* events as they were counted, without weights */
} ot_budget_counts;

/* The burn rate over a window of which `covered_us` were lived through; `allowed` = 1 - at_least.
 * At most a million, also where nothing is allowed. */
double ot_budget_rate(const ot_budget_counts *c, double allowed, int64_t covered_us,
                      int64_t window_us);
/* More is bad than chance explains where the objective is met: by the exact binomial tail, one time
 * in 10,000. Keeps a handful of events from raising an alarm. */
bool ot_budget_proven(const ot_budget_counts *c, double allowed);
/* `rate` is that of the whole period. From ten bad events on the arithmetic decides, below it what
 * is proven. */
bool ot_budget_spent(const ot_budget_counts *c, double allowed, double rate);

#endif
