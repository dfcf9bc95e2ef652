/* Schemas and tables: cells against exact arithmetic, odd columns, merging, the written forms. */
#include "stats/hist.h"

#include "base/mem.h"
#include "base/random.h"
#include "tap.h"

#include <float.h>
#include <stdlib.h>

static ot_hist_schema *build(const float *rows, size_t n, size_t f)
{
    ot_hist_column *col = calloc(f, sizeof *col);
    for (size_t j = 0; j < f; j++) {
        col[j].kind = OT_HIST_NUMERIC;
    }
    ot_hist_schema *s = NULL;
    ot_error err;
    if (ot_hist_schema_build(col, f, rows, n, f, &s, &err) != OT_OK) {
        printf("# %s\n", err.msg);
    }
    free(col);
    return s;
}

static uint64_t sum_cells(const ot_hist_table *t, size_t j)
{
    uint64_t n = 0;
    for (size_t c = 0; c <= OT_HIST_MISSING; c++) {
        n += ot_hist_table_cells(t, j)[c];
    }
    return n;
}

/* The cell by comparing with the edges in double precision: may differ from the definition only
 * within rounding of an edge. */
static void check_edges(const ot_hist_schema *s, size_t j, const float *x, size_t n, size_t stride)
{
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i * stride], lo = 0, hi = 0;
        unsigned c = ot_hist_schema_cell(s, j, x[i * stride]);
        if (c < OT_HIST_INNER_MAX) {
            double slack;
            wrong += !ot_hist_schema_cell_range(s, j, c, &lo, &hi);
            slack = (hi - lo) * 1e-2 + fabs(v) * 1e-5;
            wrong += v < lo - slack || v > hi + slack;
        }
    }
    is_int(wrong, 0, "feature %zu: every value lies in its cell's range", j);
}

static void gaussian_columns(void)
{
    enum { N = 6400, F = 37 };
    float *x = calloc((size_t)N * F, sizeof *x);
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < F; j++) {
            double z = ot_rng_normal(&rng);
            x[i * F + j] = (float)(j % 3 == 0 ? z : j % 3 == 1 ? 1e4 + z : exp(3 * z));
        }
    }
    ot_hist_schema *s = build(x, N, F);
    ot_hist_table t, one;
    ok(s != NULL && ot_hist_table_init(&t, s, NULL) == OT_OK &&
           ot_hist_table_init(&one, s, NULL) == OT_OK,
       "schema and tables");
    ot_hist_add_rows(s, &t, x, N, F);
    for (size_t i = 0; i < N; i++) {
        ot_hist_add_rows(s, &one, x + i * F, 1, F);
    }
    size_t counted = (size_t)F * OT_HIST_CELLS * sizeof *t.counts, scalar_wrong = 0;
    ok(memcmp(t.counts, one.counts, counted) == 0, "rows one by one count as blocks do");
    for (size_t j = 0; j < F; j++) {
        uint32_t c[OT_HIST_CELLS] = {0};
        for (size_t i = 0; i < N; i++) {
            c[ot_hist_schema_cell(s, j, x[i * F + j])]++;
        }
        scalar_wrong += memcmp(c, ot_hist_table_cells(&t, j), 67 * sizeof *c) != 0;
    }
    is_int(scalar_wrong, 0, "the vector kernel agrees with the scalar definition");
    is_int(ot_hist_schema_inner(s, 0), 64, "64 cells of 6,400 rows");
    is_int(ot_hist_schema_map(s, 0), OT_HIST_LINEAR, "a bell needs no other map");
    is_int(ot_hist_schema_map(s, 2), OT_HIST_LOG, "a heavy tail is mapped");
    for (size_t j = 0; j < 3; j++) {
        uint32_t most = 0;
        for (size_t k = 0; k < 64; k++) {
            most = OT_MAX(most, ot_hist_table_cells(&t, j)[k]);
        }
        ok(most < 3 * N / 64, "feature %zu: cells are about equal (most %u of %d)", j, most, N);
        check_edges(s, j, x + j, N, F);
    }
    ot_hist_table_done(&t);
    ot_hist_table_done(&one);
    ot_hist_schema_destroy(s);
    free(x);
}

/* Columns that are constant, discrete, missing, infinite, tiny, huge; and values beyond them. */
static void odd_columns(void)
{
    enum { N = 400, F = 9 };
    static float x[N][F];
    static const char *const what[F] = {"constant 0", "constant 7e8", "digits 0..16",
                                        "missing",    "infinite",     "denormal",
                                        "huge",       "binary",       "timestamps"};
    for (int i = 0; i < N; i++) {
        float row[F] = {0,
                        7e8f,
                        (float)(i % 17),
                        NAN,
                        i % 2 == 0 ? INFINITY : -INFINITY,
                        (float)i * 1e-42f,
                        i % 2 == 0 ? FLT_MAX : -FLT_MAX,
                        (float)(i % 2),
                        1.7e9f + (float)i * 128};
        memcpy(x[i], row, sizeof row);
    }
    ot_hist_schema *s = build(&x[0][0], N, F);
    ot_hist_table t;
    ok(s != NULL && ot_hist_table_init(&t, s, NULL) == OT_OK, "odd columns build");
    ot_hist_add_rows(s, &t, &x[0][0], N, F);
    for (size_t j = 0; j < F; j++) {
        is_int(sum_cells(&t, j), N, "%s: each row in one cell", what[j]);
    }
    is_int(ot_hist_table_cells(&t, 0)[0], N, "constant: one cell");
    is_int(ot_hist_schema_cell(s, 0, 0.1f), OT_HIST_ABOVE, "off the constant: above");
    is_int(ot_hist_schema_cell(s, 1, 6.9e8f), OT_HIST_BELOW, "off the constant: below");
    is_int(ot_hist_table_cells(&t, 3)[OT_HIST_MISSING], N, "missing");
    is_int(ot_hist_table_cells(&t, 4)[OT_HIST_ABOVE], N / 2, "+inf is above");
    is_int(ot_hist_table_cells(&t, 4)[OT_HIST_BELOW], N / 2, "-inf is below");
    ok(ot_hist_schema_cell(s, 7, 0) != ot_hist_schema_cell(s, 7, 1), "binary values stay apart");
    ok(ot_hist_schema_inner(s, 2) >= 4 && ot_hist_schema_inner(s, 2) <= 8, "K = n / 50 of ties");
    ok(ot_hist_schema_inner(s, 8) >= 4, "a narrow range at 1.7e9 keeps cells (%zu)",
       ot_hist_schema_inner(s, 8));
    for (size_t j = 0; j < F; j++) {
        is_int(ot_hist_schema_cell(s, j, NAN), OT_HIST_MISSING, "%s: NaN is missing", what[j]);
    }
    ot_hist_table_done(&t);
    ot_hist_schema_destroy(s);
}

static void categories(void)
{
    enum { N = 5000 };
    static float x[N];
    static uint64_t keys[N];
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)(i % 10 == 0 ? 300 + ot_rng_below(&rng, 90) : ot_rng_below(&rng, 9));
        keys[i] = i % 5 == 0 ? 0 : ot_hist_key_text(i % 2 ? "de" : "fr", 2);
    }
    ot_hist_column col[2] = {{.name = "class", .kind = OT_HIST_CATEGORY},
                             {.name = "country", .kind = OT_HIST_CATEGORY, .keys = keys}};
    static float rows[N][2];
    for (size_t i = 0; i < N; i++) {
        rows[i][0] = x[i];
        rows[i][1] = 0;
    }
    ot_hist_schema *s = NULL;
    ot_hist_table t;
    ok(ot_hist_schema_build(col, 2, &rows[0][0], N, 2, &s, NULL) == OT_OK &&
           ot_hist_table_init(&t, s, NULL) == OT_OK,
       "categories build");
    ot_hist_add_rows(s, &t, &rows[0][0], N, 2);
    is_int(sum_cells(&t, 0), N, "every class is counted");
    is_int(sum_cells(&t, 1), 0, "text is not counted from floats");
    is_int(ot_hist_schema_inner(s, 0), 48, "48 own cells");
    is_int(ot_hist_table_cells(&t, 0)[OT_HIST_UNSEEN], 0, "the reference has no unseen class");
    is_int(ot_hist_schema_cell(s, 0, 77), OT_HIST_UNSEEN, "unseen");
    is_int(ot_hist_schema_cell(s, 0, 2.5f), OT_HIST_UNSEEN, "not a class: unseen");
    is_int(ot_hist_schema_cell(s, 0, -1), OT_HIST_UNSEEN, "negative: unseen");
    is_int(ot_hist_schema_cell(s, 0, NAN), OT_HIST_MISSING, "NaN: missing");
    ok(ot_hist_schema_cell(s, 0, -0.0f) == ot_hist_schema_cell(s, 0, 0), "-0 is 0");
    double lo, hi;
    ok(ot_hist_schema_cell_range(s, 0, ot_hist_schema_cell(s, 0, 4), &lo, &hi) && lo == 4 &&
           hi == 4,
       "an own cell knows its class");
    ot_hist_add_category(s, &t, 1, ot_hist_key_text("de", 2));
    ot_hist_add_category(s, &t, 1, ot_hist_key_text("xx", 2));
    ot_hist_add_category(s, &t, 1, 0);
    ok(sum_cells(&t, 1) == 3 && ot_hist_table_cells(&t, 1)[OT_HIST_UNSEEN] == 1 &&
           ot_hist_table_cells(&t, 1)[OT_HIST_MISSING] == 1,
       "text by key: known, unseen, missing");
    is_int(ot_hist_schema_find(s, "country"), 1, "found by name");
    is_int(ot_hist_schema_find(s, "nobody"), -1, "not found");
    ot_hist_table_done(&t);
    ot_hist_schema_destroy(s);
}

static void many_categories(void)
{
    enum { N = 10000 };
    static float x[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)i;
    }
    ot_hist_column col = {.kind = OT_HIST_CATEGORY};
    ot_hist_schema *s = NULL;
    ok(ot_hist_schema_build(&col, 1, x, N, 1, &s, NULL) == OT_OK, "more classes than are kept");
    unsigned c = ot_hist_schema_cell(s, 0, 123456);
    ok(c >= OT_HIST_OWN_MAX && c < OT_HIST_OWN_MAX + OT_HIST_HASHED,
       "then nothing is called unseen (cell %u)", c);
    ot_hist_schema_destroy(s);
}

static void merging(void)
{
    static const float x[] = {1, 2, 3, 4, 5, 6, 7, 8}, other[] = {10, 20};
    ot_hist_schema *s = build(x, 8, 1), *o = build(other, 2, 1);
    ot_hist_table a, b, c;
    ok(ot_hist_table_init(&a, s, NULL) == OT_OK && ot_hist_table_init(&b, s, NULL) == OT_OK &&
           ot_hist_table_init(&c, o, NULL) == OT_OK,
       "tables");
    ot_hist_add_rows(s, &a, x, 5, 1);
    ot_hist_add_rows(s, &b, x + 5, 3, 1);
    ok(ot_hist_table_merge(&a, &b, NULL) == OT_OK && a.rows == 8 && sum_cells(&a, 0) == 8,
       "merging adds");
    ot_error err;
    is_int(ot_hist_table_merge(&a, &c, &err), OT_INVALID, "other schemas are refused");
    b.rows = UINT32_MAX - 2;
    is_int(ot_hist_table_merge(&a, &b, &err), OT_RANGE, "past 2^32 rows is refused");
    is_int(a.rows, 8, "and leaves the table");
    ot_hist_add_rows(s, &b, x, 8, 1);
    ok(b.dropped == 8 && b.rows == UINT32_MAX - 2, "a full table drops and says so");
    ot_hist_table_clear(&a);
    ok(a.rows == 0 && sum_cells(&a, 0) == 0, "cleared");
    ot_hist_table_done(&a);
    ot_hist_table_done(&b);
    ot_hist_table_done(&c);
    ot_hist_schema_destroy(s);
    ot_hist_schema_destroy(o);
}

static ot_str reference_bytes(size_t *rows_out)
{
    enum { N = 100000, F = 20 };
    static float x[N * F];
    static uint64_t keys[N];
    ot_rng rng;
    ot_rng_seed(&rng, 9);
    for (size_t i = 0; i < (size_t)N * F; i++) {
        x[i] = i % F == 1 ? (float)ot_rng_below(&rng, 12) : (float)ot_rng_normal(&rng);
    }
    for (size_t i = 0; i < N; i++) {
        keys[i] = 1 + ot_rng_below(&rng, 100);
    }
    ot_hist_column col[F];
    for (size_t j = 0; j < F; j++) {
        col[j] = (ot_hist_column){.kind = j == 3 ? OT_HIST_NONE : OT_HIST_NUMERIC};
    }
    col[1].kind = col[2].kind = OT_HIST_CATEGORY;
    col[2].keys = keys;
    ot_hist_schema *s = NULL;
    ot_hist_table t;
    ot_str out = OT_STR_INIT;
    if (ot_hist_schema_build(col, F, x, N, F, &s, NULL) == OT_OK &&
        ot_hist_table_init(&t, s, NULL) == OT_OK) {
        ot_hist_add_rows(s, &t, x, N, F);
        ot_hist_table_write(&t, &out);
        ok(out.len / F <= 300, "%zu bytes a feature", out.len / F);
        ot_str_clear(&out);
        ot_hist_reference_write(s, &t, &out);
        ot_hist_table_done(&t);
    }
    ot_hist_schema_destroy(s);
    *rows_out = N;
    return out;
}

static void written_forms(void)
{
    size_t rows = 0;
    ot_str a = reference_bytes(&rows), again = OT_STR_INIT;
    ot_hist_schema *s = NULL;
    ot_hist_table t = {0};
    ot_error err = {0};
    ok(ot_hist_reference_read(a.data, a.len, &s, &t, &err) == OT_OK, "read back %s", err.msg);
    is_int(t.rows, rows, "rows");
    ot_hist_reference_write(s, &t, &again);
    ok(a.len == again.len && memcmp(a.data, again.data, a.len) == 0, "writes the same bytes again");
    ot_hist_table_done(&t);
    ot_hist_schema_destroy(s);
    size_t accepted = 0;
    for (size_t n = 0; n < a.len; n += 1 + n / 50) {
        char *cut = malloc(n + 1);
        memcpy(cut, a.data, n);
        accepted += ot_hist_reference_read(cut, n, &s, &t, NULL) == OT_OK;
        free(cut);
    }
    is_int(accepted, 0, "no cut is accepted");
    for (size_t i = 0; i < a.len; i += 1 + a.len / 400) {
        a.data[i] ^= 0x40;
        accepted += ot_hist_reference_read(a.data, a.len, &s, &t, NULL) == OT_OK;
        a.data[i] ^= 0x40;
    }
    is_int(accepted, 0, "no flipped bit is accepted");
    ot_str_addc(&a, 'x');
    is_int(ot_hist_reference_read(a.data, a.len, &s, &t, &err), OT_INVALID, "nothing may follow");
    ot_str_done(&a);
    ot_str_done(&again);
}

static void bad_input(void)
{
    float x[4] = {1, 2, 3, 4};
    char name[300];
    memset(name, 'n', 299);
    name[299] = 0;
    ot_hist_column col[2] = {{.kind = OT_HIST_NUMERIC}, {.kind = OT_HIST_NUMERIC}};
    ot_hist_schema *s = NULL;
    ot_error err;
    is_int(ot_hist_schema_build(col, 0, x, 1, 1, &s, &err), OT_INVALID, "no features");
    is_int(ot_hist_schema_build(col, 2, x, 0, 2, &s, &err), OT_INVALID, "no rows");
    is_int(ot_hist_schema_build(col, 2, x, 2, 1, &s, &err), OT_INVALID, "a stride too small");
    is_int(ot_hist_schema_build(col, OT_HIST_FEATURES_MAX + 1, x, 1, SIZE_MAX, &s, &err),
           OT_INVALID, "too many features");
    col[1].name = name;
    is_int(ot_hist_schema_build(col, 2, x, 2, 2, &s, &err), OT_INVALID, "a name too long");
    col[1] = (ot_hist_column){.kind = (ot_hist_kind)9};
    is_int(ot_hist_schema_build(col, 2, x, 2, 2, &s, &err), OT_INVALID, "an unknown kind");
    ok(s == NULL, "no schema came of it");
}

static void memory_short(void)
{
    float x[64];
    for (int i = 0; i < 64; i++) {
        x[i] = (float)(i % 7);
    }
    ot_hist_column col[2] = {{.kind = OT_HIST_NUMERIC}, {.kind = OT_HIST_CATEGORY}};
    ot_str bytes = OT_STR_INIT;
    int failures = 0;
    for (uint64_t nth = 1; nth < 100; nth++) {
        ot_hist_schema *s = NULL;
        ot_hist_table t = {0};
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_hist_schema_build(col, 2, x, 32, 2, &s, NULL);
        rc = rc == OT_OK ? ot_hist_table_init(&t, s, NULL) : rc;
        ot_mem_fail_nth(0);
        failures += rc == OT_EXHAUSTED;
        bool done = rc == OT_OK;
        if (done) {
            ot_hist_reference_write(s, &t, &bytes);
            ot_hist_table_done(&t);
        }
        ot_hist_schema_destroy(s);
        if (done) {
            break;
        }
        ok(rc == OT_EXHAUSTED, "building with allocation %llu failing", (unsigned long long)nth);
    }
    for (uint64_t nth = 1; nth < 100; nth++) {
        ot_hist_schema *s = NULL;
        ot_hist_table t = {0};
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_hist_reference_read(bytes.data, bytes.len, &s, &t, NULL);
        ot_mem_fail_nth(0);
        if (rc == OT_OK) {
            ot_hist_table_done(&t);
            ot_hist_schema_destroy(s);
            break;
        }
        failures++;
    }
    ok(failures > 20, "%d failed allocations gave an error and leaked nothing", failures);
    ot_str_done(&bytes);
}

int main(void)
{
    gaussian_columns();
    odd_columns();
    categories();
    many_categories();
    merging();
    written_forms();
    bad_input();
    memory_short();
    return tap_done();
}
