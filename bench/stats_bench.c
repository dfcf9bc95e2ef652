/* links: stats base */
/* Counting 100 float features a row: in blocks of 64 rows, a row at a time, and by plain binary
 * search over float edges; the e-detector's block; a label.
 *
 * One JSON line a case: medians of the rounds and their spread (10th and 90th percentile), rounds
 * of all cases interleaved so that a busy moment touches each of them. One thread. */
#include "base/random.h"
#include "stats/edetect.h"
#include "stats/hist.h"
#include "stats/labeltest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { F = 100, ROWS = 1024, BLOCK = 64, ROUNDS = 201, EDGES = 63, SCORES = 3 };

typedef struct bench {
    float *rows; /* (ROWS, F) */
    ot_hist_schema *schema, *heavy;
    ot_hist_table table, heavy_table;
    float edges[F][EDGES];
    uint32_t plain[F][EDGES + 2];
    ot_edetect *detector;
    double value[F * SCORES], n[F * SCORES];
    int64_t block;
    ot_degrade degrade;
    ot_rng rng;
} bench;

static void must(ot_rc rc, const ot_error *err)
{
    if (rc != OT_OK) {
        fprintf(stderr, "stats_bench: %s\n", err->msg);
        exit(1);
    }
}

static void case_blocks(bench *b)
{
    for (size_t i = 0; i < ROWS; i += BLOCK) {
        ot_hist_add_rows(b->schema, &b->table, b->rows + i * F, BLOCK, F);
    }
}

static void case_blocks_log(bench *b)
{
    for (size_t i = 0; i < ROWS; i += BLOCK) {
        ot_hist_add_rows(b->heavy, &b->heavy_table, b->rows + i * F, BLOCK, F);
    }
}

static void case_rows(bench *b)
{
    for (size_t i = 0; i < ROWS; i++) {
        ot_hist_add_rows(b->schema, &b->table, b->rows + i * F, 1, F);
    }
}

/* What one would write without the lookup: upper bound among the edges, NaN apart. */
static void case_search(bench *b)
{
    for (size_t i = 0; i < ROWS; i++) {
        const float *x = b->rows + i * F;
        for (size_t j = 0; j < F; j++) {
            size_t lo = 0, hi = EDGES;
            while (lo < hi) {
                size_t mid = (lo + hi) / 2;
                if (x[j] >= b->edges[j][mid]) {
                    lo = mid + 1;
                } else {
                    hi = mid;
                }
            }
            b->plain[j][isnan(x[j]) ? EDGES + 1 : lo]++;
        }
    }
}

static void case_detector(bench *b)
{
    ot_edetect_outcome out;
    ot_error err;
    for (size_t i = 0; i < F * SCORES; i++) {
        b->value[i] = ot_rng_normal(&b->rng) / 32;
        b->n[i] = 1000;
    }
    must(ot_edetect_add(b->detector, b->block++, b->value, b->n, &out, &err), &err);
}

static void case_label(bench *b)
{
    for (size_t i = 0; i < ROWS; i++) {
        (void)ot_degrade_add(&b->degrade, ot_rng_uniform(&b->rng) < 0.1);
    }
}

typedef struct bench_case {
    const char *name, *unit;
    void (*run)(bench *b);
    double per; /* units a run */
} bench_case;

static const bench_case cases[] = {
    {"count_100_features_blocks_of_64", "us_per_row", case_blocks, ROWS},
    {"count_100_features_blocks_of_64_log_map", "us_per_row", case_blocks_log, ROWS},
    {"count_100_features_row_at_a_time", "us_per_row", case_rows, ROWS},
    {"count_100_features_binary_search", "us_per_row", case_search, ROWS},
    {"edetect_block_300_series", "us_per_block", case_detector, 1},
    {"degrade_label", "us_per_label", case_label, ROWS},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static void setup(bench *b)
{
    static const uint16_t kinds[SCORES] = {OT_SCORE_LOCATION, OT_SCORE_SCALE, OT_SCORE_LOCATION};
    ot_hist_column columns[F];
    ot_score_series series[F * SCORES];
    ot_error err;
    memset(b, 0, sizeof *b);
    ot_rng_seed(&b->rng, 1);
    b->rows = malloc(sizeof(float) * ROWS * 8 * F);
    if (b->rows == NULL) {
        exit(1);
    }
    for (size_t i = 0; i < (size_t)ROWS * 8 * F; i++) {
        b->rows[i] = (float)ot_rng_normal(&b->rng);
    }
    for (size_t j = 0; j < F; j++) {
        columns[j] = (ot_hist_column){.kind = OT_HIST_NUMERIC};
    }
    must(ot_hist_schema_build(columns, F, b->rows, ROWS * 8, F, &b->schema, &err), &err);
    must(ot_hist_table_init(&b->table, b->schema, &err), &err);
    for (size_t j = 0; j < F; j++) {
        for (unsigned c = 0; c < EDGES; c++) {
            double lo, hi;
            bool has = ot_hist_schema_cell_range(b->schema, j, c + 1, &lo, &hi);
            b->edges[j][c] = has ? (float)lo : HUGE_VALF;
        }
    }
    /* One heavy tail makes the schema take the slower path for all columns. */
    for (size_t i = 0; i < ROWS * 8; i++) {
        b->rows[i * F] = (float)exp(4 * (double)b->rows[i * F]);
    }
    must(ot_hist_schema_build(columns, F, b->rows, ROWS * 8, F, &b->heavy, &err), &err);
    must(ot_hist_table_init(&b->heavy_table, b->heavy, &err), &err);
    for (size_t i = 0; i < F * SCORES; i++) {
        series[i] =
            (ot_score_series){(uint32_t)(i / SCORES), kinds[i % SCORES], 0, 1.0 / (F * SCORES)};
    }
    ot_edetect_options o = {.struct_size = sizeof o, .cycles = OT_EDETECT_WEEKLY};
    must(ot_edetect_create(&o, series, F * SCORES, &b->detector, &err), &err);
    for (int i = 0; i < 28 * 24; i++) {
        case_detector(b);
    }
    must(ot_degrade_init(&b->degrade, 0.1, 1, 1e6, &err), &err);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The thread's own time: what runs beside it on a busy machine is not counted. */
static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(void)
{
    static bench b;
    static double us[CASES][ROUNDS];
    setup(&b);
    for (size_t r = 0; r < ROUNDS; r++) {
        for (size_t c = 0; c < CASES; c++) {
            double t0 = cpu_us();
            cases[c].run(&b);
            us[c][r] = (cpu_us() - t0) / cases[c].per;
        }
    }
    for (size_t c = 0; c < CASES; c++) {
        qsort(us[c], ROUNDS, sizeof us[c][0], by_value);
        printf("{\"bench\": \"stats\", \"case\": \"%s\", \"%s\": %.4f, \"p10\": %.4f, "
               "\"p90\": %.4f}\n",
               cases[c].name, cases[c].unit, us[c][ROUNDS / 2], us[c][ROUNDS / 10],
               us[c][ROUNDS * 9 / 10]);
    }
    return 0;
}
