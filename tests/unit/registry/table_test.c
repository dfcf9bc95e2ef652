/* Tables: columns, files, the held-out split, subsets and joins. */
#include "registry/table.h"

#include "base/random.h"
#include "base/str.h"
#include "unit/bundle_fixture.h"

/* Adds a float column of `each` numbers a row: value = first + index. */
static ot_rc add(ot_table *t, const char *name, int64_t rows, int64_t each, float first,
                 ot_error *err)
{
    float *p = ot_alloc((size_t)(rows * each) * sizeof *p);
    for (int64_t i = 0; i < rows * each; i++) {
        p[i] = first + (float)i;
    }
    ot_tensor c = {.dtype = OT_DT_FP32,
                   .rank = each == 1 ? 1 : 2,
                   .dims = {rows, each},
                   .data = p,
                   .size_bytes = (size_t)(rows * each) * sizeof *p};
    return ot_table_add_owned(t, name, &c, p, err);
}

static void test_columns(void)
{
    ot_error e = {0};
    OT_AUTO(ot_table_done) ot_table t;
    ot_table_init(&t);
    ok(add(&t, "y", 4, 1, 0, &e) == OT_OK && add(&t, "x", 4, 3, 100, &e) == OT_OK, "two columns");
    is_str(t.columns[0].name, "x", "sorted by name");
    is_int(t.rows, 4, "rows");
    is_int(ot_table_row_bytes(&t.columns[0]), 12, "bytes a row");
    ok(add(&t, "x", 4, 1, 0, &e) == OT_INVALID && strstr(e.msg, "twice") != NULL, "twice: %s",
       e.msg);
    ok(add(&t, "z", 5, 1, 0, &e) == OT_INVALID && strstr(e.msg, "5 rows") != NULL, "other rows: %s",
       e.msg);
    static const char *const bad[] = {"", ".x", "-x", "a/b", "a b", "a\n", "\xc3\xa9"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(add(&t, bad[i], 4, 1, 0, &e) == OT_INVALID, "name '%s' is refused", bad[i]);
    }
    ok(ot_table_set_label(&t, "y", &e) == OT_OK, "a label");
    ok(ot_table_set_label(&t, "w", &e) == OT_INVALID && strstr(e.msg, "x, y") != NULL,
       "a label that is no column names those that are: %s", e.msg);
    is_str(t.label, "y", "the label stays");
    ot_tensor s = ot_table_slice(&t.columns[0], 1, 2);
    ok(s.dims[0] == 2 && ot_tensor_f64_at(&s, 0) == 103, "a slice");
    s = ot_table_slice(&t.columns[0], 3, 2);
    ok(s.dims[0] == 0 && s.size_bytes == 0, "out of range: empty");
    for (int i = 2; i < OT_TABLE_COLUMNS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        if (add(&t, name, 4, 1, 0, &e) != OT_OK) {
            ok(false, "column %d: %s", i, e.msg);
        }
    }
    ok(add(&t, "more", 4, 1, 0, &e) == OT_EXHAUSTED, "too many columns: %s", e.msg);

    OT_AUTO(ot_table_done) ot_table odd;
    ot_table_init(&odd);
    ot_tensor c = {.dtype = OT_DT_FP32, .rank = 0, .size_bytes = 4, .data = ot_calloc(1, 4)};
    void *p;
    memcpy(&p, &c.data, sizeof p);
    ok(ot_table_add_owned(&odd, "x", &c, p, &e) == OT_INVALID, "a scalar: %s", e.msg);
    c = (ot_tensor){.dtype = OT_DT_BYTES, .rank = 1, .dims = {0}};
    ok(ot_table_add_owned(&odd, "x", &c, NULL, &e) == OT_INVALID, "text: %s", e.msg);
    c = (ot_tensor){.dtype = OT_DT_FP32, .rank = 2, .dims = {3, 0}};
    ok(ot_table_add_owned(&odd, "x", &c, NULL, &e) == OT_INVALID, "rows of nothing: %s", e.msg);
    ok(add(&odd, "x", 0, 2, 0, &e) == OT_OK && odd.rows == 0, "no rows are fine");
}

static void test_files(void)
{
    ot_error e = {0};
    OT_AUTO(ot_table_done) ot_table t;
    OT_AUTO(ot_table_done) ot_table back = {0};
    ot_table_init(&t);
    ok(add(&t, "x", 5, 2, 0, &e) == OT_OK && add(&t, "y", 5, 1, 7, &e) == OT_OK, "a table");
    ok(ot_table_write_dir(&t, disk, at("out/cols"), &e) == OT_OK, "written: %s", e.msg);
    ok(ot_table_write_dir(&t, disk, at("out/cols"), &e) == OT_OK, "and over itself: %s", e.msg);
    write_text(at("out/cols/README"), "not a column");
    ok(ot_table_read(disk, at("out/cols"), "y", &back, &e) == OT_OK, "read: %s", e.msg);
    ok(back.rows == 5 && back.n_columns == 2 && strcmp(back.label, "y") == 0 &&
           memcmp(back.columns[0].data, t.columns[0].data, 40) == 0,
       "as it was");
    OT_AUTO(ot_table_done) ot_table one = {0};
    ok(ot_table_read(disk, at("out/cols/x.npy"), NULL, &one, &e) == OT_OK && one.n_columns == 1,
       "one file: %s", e.msg);
    is_str(one.columns[0].name, "x", "named after its stem");
    OT_AUTO(ot_table_done) ot_table npz = {0};
    ok(ot_table_read(disk, "tests/golden/registry/stored.npz", "y", &npz, &e) == OT_OK &&
           npz.rows == 6,
       "an archive: %s", e.msg);

    OT_AUTO(ot_table_done) ot_table none = {0};
    ok(ot_table_read(disk, at("nowhere"), NULL, &none, &e) == OT_NOT_FOUND, "nothing: %s", e.msg);
    ok(ot_table_read(disk, at("out"), NULL, &none, &e) == OT_INVALID, "no columns: %s", e.msg);
    ok(ot_table_read(disk, at("out/cols/README"), NULL, &none, &e) == OT_INVALID, "text: %s",
       e.msg);
    write_text(at("broken/x.npy"), "\x93NUMPY");
    ok(ot_table_read(disk, at("broken"), NULL, &none, &e) == OT_INVALID &&
           strstr(e.msg, "x.npy") != NULL,
       "a cut file is named: %s", e.msg);
    write_text(at("hollow/x.npy"), "");
    ok(ot_table_read(disk, at("hollow"), NULL, &none, &e) == OT_INVALID, "an empty file: %s",
       e.msg);
    ok(ot_disk_mkdirs(disk, at("links"), 0755, &e) == OT_OK &&
           symlink("/etc/passwd", at("links/x.npy")) == 0,
       "a link");
    ok(ot_table_read(disk, at("links"), NULL, &none, &e) == OT_INVALID, "is refused: %s", e.msg);
    ok(none.n_columns == 0 && none.owners == NULL, "nothing stays behind");
}

static void test_places(void)
{
    ot_error e = {0};
    OT_AUTO(ot_table_done) ot_table t = {0};
    double places[6];
    ok(ot_table_read(disk, "tests/golden/registry/stored.npz", "y", &t, &e) == OT_OK, "a table");
    ok(ot_table_row_places(&t, 0, 6, places, &e) == OT_OK, "places");
    FILE *f = fopen("tests/golden/registry/places.txt", "r");
    for (int i = 0; f != NULL && i < 6; i++) {
        double want = -1;
        ok(fscanf(f, "%lf", &want) == 1, "golden place %d", i);
        is_near(places[i], want, 1e-15, "row %d lies where the definition puts it", i);
    }
    ok(f != NULL, "tests run at the root of the tree");
    if (f != NULL) {
        fclose(f);
    }
    ok(ot_table_row_places(&t, 4, 3, places, &e) == OT_RANGE, "out of range: %s", e.msg);
}

static void test_split(void)
{
    ot_error e = {0};
    OT_AUTO(ot_table_done) ot_table t;
    ot_table_init(&t);
    ok(add(&t, "x", 10000, 3, 0, &e) == OT_OK && add(&t, "y", 10000, 1, 0, &e) == OT_OK &&
           ot_table_set_label(&t, "y", &e) == OT_OK,
       "a table");
    OT_AUTO(ot_table_done) ot_table train = {0};
    OT_AUTO(ot_table_done) ot_table held = {0};
    OT_AUTO(ot_table_done) ot_table all = {0};
    ok(ot_table_split(&t, OT_SPLIT_TRAIN, 0.2, &train, &e) == OT_OK &&
           ot_table_split(&t, OT_SPLIT_HELD_OUT, 0.2, &held, &e) == OT_OK &&
           ot_table_split(&t, OT_SPLIT_ALL, 0.2, &all, &e) == OT_OK,
       "split: %s", e.msg);
    is_int(train.rows + held.rows, 10000, "each row on one side");
    is_int(all.rows, 10000, "all on all");
    /* 5 standard deviations of a binomial with n = 10000, p = 0.2 */
    is_near((double)held.rows, 2000, 200, "about a fifth is held out");
    is_str(held.label, "y", "the label is kept");

    OT_AUTO(ot_table_done) ot_table weighted;
    ot_table_init(&weighted);
    ok(add(&weighted, "y", 10000, 1, 0, &e) == OT_OK &&
           add(&weighted, "x", 10000, 3, 0, &e) == OT_OK &&
           add(&weighted, "weight", 10000, 1, 3, &e) == OT_OK,
       "the same rows with weights, columns in another order");
    OT_AUTO(ot_table_done) ot_table held_too = {0};
    ok(ot_table_split(&weighted, OT_SPLIT_HELD_OUT, 0.2, &held_too, &e) == OT_OK &&
           held_too.rows == held.rows &&
           memcmp(ot_table_column(&held_too, "x")->data, ot_table_column(&held, "x")->data,
                  ot_table_column(&held, "x")->size_bytes) == 0,
       "the same rows are held out");
    ot_digest a = ot_table_row_digest(&t, 17), b = ot_table_row_digest(&weighted, 17),
              c = ot_table_row_digest(&t, 18);
    ok(ot_digest_equal(&a, &b) && !ot_digest_equal(&a, &c), "and so are their digests");

    OT_AUTO(ot_table_done) ot_table none = {0};
    ok(ot_table_split(&t, OT_SPLIT_HELD_OUT, 0, &none, &e) == OT_OK && none.rows == 0, "0 of all");
    ok(ot_table_split(&t, OT_SPLIT_HELD_OUT, 1, &none, &e) == OT_OK && none.rows == 10000,
       "all of all");
    ok(ot_table_split(&t, OT_SPLIT_TRAIN, 1.5, &none, &e) == OT_INVALID &&
           ot_table_split(&t, OT_SPLIT_TRAIN, (double)NAN, &none, &e) == OT_INVALID,
       "other fractions are refused: %s", e.msg);
}

static void test_take_and_join(void)
{
    ot_error e = {0};
    OT_AUTO(ot_table_done) ot_table a;
    OT_AUTO(ot_table_done) ot_table b;
    OT_AUTO(ot_table_done) ot_table out = {0};
    ot_table_init(&a);
    ot_table_init(&b);
    ok(add(&a, "x", 3, 2, 0, &e) == OT_OK && add(&a, "y", 3, 1, 0, &e) == OT_OK &&
           ot_table_set_label(&a, "y", &e) == OT_OK,
       "one");
    ok(add(&b, "x", 2, 2, 50, &e) == OT_OK && add(&b, "y", 2, 1, 50, &e) == OT_OK &&
           add(&b, "weight", 2, 1, 4, &e) == OT_OK,
       "another, with weights");
    const int64_t rows[] = {2, 0, 2};
    ok(ot_table_take(&a, rows, 3, &out, &e) == OT_OK && out.rows == 3, "rows by index");
    ok(ot_tensor_f64_at(ot_table_column(&out, "x"), 0) == 4 &&
           ot_tensor_f64_at(ot_table_column(&out, "y"), 1) == 0,
       "in the order given");
    const int64_t beyond[] = {3};
    ok(ot_table_take(&a, beyond, 1, &out, &e) == OT_RANGE && out.rows == 3, "beyond: %s", e.msg);

    const ot_table *both[] = {&a, &b};
    ok(ot_table_concat(both, 2, &out, &e) == OT_OK && out.rows == 5 && out.n_columns == 3,
       "joined: %s", e.msg);
    const ot_tensor *w = ot_table_column(&out, "weight");
    ok(ot_tensor_f64_at(w, 0) == 1 && ot_tensor_f64_at(w, 3) == 4 && ot_tensor_f64_at(w, 4) == 5,
       "a table without weights has 1");
    ok(ot_tensor_f64_at(ot_table_column(&out, "x"), 6) == 50, "its rows follow");
    is_str(out.label, "y", "the first table's label");

    OT_AUTO(ot_table_done) ot_table c;
    ot_table_init(&c);
    ok(add(&c, "x", 2, 3, 0, &e) == OT_OK && add(&c, "y", 2, 1, 0, &e) == OT_OK, "wider rows");
    const ot_table *differ[] = {&a, &c};
    ok(ot_table_concat(differ, 2, &out, &e) == OT_INVALID && strstr(e.msg, "'x'") != NULL,
       "do not join: %s", e.msg);
    OT_AUTO(ot_table_done) ot_table d;
    ot_table_init(&d);
    ok(add(&d, "x", 2, 2, 0, &e) == OT_OK, "no y");
    const ot_table *lacks[] = {&a, &d};
    ok(ot_table_concat(lacks, 2, &out, &e) == OT_INVALID && strstr(e.msg, "'y' is missing") != NULL,
       "do not join: %s", e.msg);
    ok(ot_table_concat(lacks, 0, &out, &e) == OT_INVALID, "nothing to join");
    is_int(out.rows, 5, "what was there stays");

    int failed = 0;
    for (uint64_t n = 1; n < 100; n++) {
        OT_AUTO(ot_table_done) ot_table made = {0};
        OT_AUTO(ot_table_done) ot_table part = {0};
        ot_mem_fail_nth(n);
        ot_rc rc = ot_table_concat(both, 2, &made, &e);
        if (rc == OT_OK) {
            rc = ot_table_split(&made, OT_SPLIT_TRAIN, 0.5, &part, &e);
        }
        uint64_t seen = ot_mem_fail_nth(0);
        if (rc == OT_OK && seen < n) {
            break;
        }
        failed += rc == OT_EXHAUSTED;
    }
    ok(failed > 8, "memory that is short is an error");
}

int main(void)
{
    scratch_start();
    test_columns();
    test_files();
    test_places();
    test_split();
    test_take_and_join();
    scratch_end();
    return tap_done();
}
