/* How many blocks until a change is seen and rightly named, beside the figures that the design was
 * simulated with (at most 1.2 times them): one feature of 100 moves, 3 scores, 1,000 rows a block.
 */
#include "tap.h"
#include "unit/stats/traffic.h"

enum { FEATURES = 100, REPEATS = 15, PATIENCE = 400 };

static const traffic_law iid = {.name = "iid"},
                         bursts = {.name = "AR .5 tau .05", .block_ar = 0.5, .tau = 0.05},
                         cycle = {.name = "daily varying", .daily = 0.3, .vary = 0.2};

typedef struct delay_case {
    const char *what;
    bool tolerance;
    const traffic_law *law;
    traffic_shift shift;
    double table;
} delay_case;

#define SCALE_10 (0.21 / M_SQRT2) /* what x 1.1 does to the mean scale score */
static const delay_case cases[] = {
    {".1 sigma", false, &iid, {0, 0.1, 0, 0}, 14},
    {".25 sigma", false, &iid, {0, 0.25, 0, 0}, 6},
    {".5 sigma", false, &iid, {0, 0.5, 0, 0}, 6},
    {"scale x 1.1", false, &iid, {0, 0, SCALE_10, 0}, 8},
    {"missing +2%", false, &iid, {0, 0, 0, 0.02}, 8},
    {".1 sigma", false, &bursts, {0, 0.1, 0, 0}, 95},
    {".25 sigma", false, &bursts, {0, 0.25, 0, 0}, 12},
    {".5 sigma", false, &bursts, {0, 0.5, 0, 0}, 6},
    {".1 sigma", false, &cycle, {0, 0.1, 0, 0}, 110},
    {".25 sigma", false, &cycle, {0, 0.25, 0, 0}, 62},
    {".5 sigma", false, &cycle, {0, 0.5, 0, 0}, 36},
    {".25 sigma", true, &iid, {0, 0.25, 0, 0}, 30},
    {".5 sigma", true, &iid, {0, 0.5, 0, 0}, 10.5},
    {"scale x 1.1", true, &iid, {0, 0, SCALE_10, 0}, 158},
    {"missing +2%", true, &iid, {0, 0, 0, 0.02}, 146},
    {".25 sigma", true, &bursts, {0, 0.25, 0, 0}, 158},
    {".5 sigma", true, &bursts, {0, 0.5, 0, 0}, 12.5},
    {".25 sigma", true, &cycle, {0, 0.25, 0, 0}, 110},
    {".5 sigma", true, &cycle, {0, 0.5, 0, 0}, 62},
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Blocks from the change to the alarm, inclusive; PATIENCE + 1 if none came. */
static double delay_of(const delay_case *c, uint64_t seed, bool *right)
{
    double none = c->tolerance ? 0 : -1;
    ot_edetect_options o = {.struct_size = sizeof o,
                            .cycles = OT_EDETECT_WEEKLY,
                            .warmup_days = 28,
                            .tolerance = none,
                            .tolerance_share = none};
    traffic t;
    traffic_init(&t, c->law, FEATURES, seed);
    ot_edetect *d = traffic_detector(FEATURES, &o);
    int64_t from = 28 * 24 + 48 + (int64_t)seed % 24;
    t.shift = c->shift;
    t.shift.from = from;
    traffic_result r = traffic_run(&t, d, from + PATIENCE, true);
    *right = r.first_alarm >= from && r.first_feature == 0;
    ot_edetect_destroy(d);
    traffic_done(&t);
    return r.first_alarm < 0 ? PATIENCE + 1 : (double)(r.first_alarm - from + 1);
}

int main(void)
{
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const delay_case *c = &cases[k];
        double delay[REPEATS];
        int named = 0;
        for (uint64_t i = 0; i < REPEATS; i++) {
            bool right;
            delay[i] = delay_of(c, 1000 + 100 * k + i, &right);
            named += right;
        }
        qsort(delay, REPEATS, sizeof delay[0], by_value);
        double median = delay[REPEATS / 2];
        printf(
            "# {\"bench\": \"edetect_delay\", \"config\": \"%s\", \"null\": \"%s\", \"moved\": "
            "\"%s\", \"blocks\": %.0f, \"p10\": %.0f, \"p90\": %.0f, \"table\": %.1f, \"ratio\": "
            "%.2f, \"named\": %d, \"of\": %d}\n",
            c->tolerance ? "tolerance .1" : "no tolerance", c->law->name, c->what, median,
            delay[REPEATS / 10], delay[REPEATS * 9 / 10], c->table, median / c->table, named,
            REPEATS);
        ok(median <= 1.2 * c->table, "%s, %s%s: within 1.2 of the table", c->law->name, c->what,
           c->tolerance ? ", tolerance .1" : "");
        ok(named >= REPEATS - 1, "and the right feature is named");
    }
    return tap_done();
}
