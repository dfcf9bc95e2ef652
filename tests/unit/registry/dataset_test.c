/* Datasets in the content store: named by their rows, loaded back, split the same everywhere. */
#include "registry/dataset.h"

#include "base/str.h"
#include "store/blob.h"
#include "store/models.h"
#include "unit/bundle_fixture.h"

static ot_store *store;

static ot_digest import(const char *name, const char *file)
{
    ot_digest d = {{0}};
    ot_error e = {0};
    char path[128];
    int64_t rows = 0;
    snprintf(path, sizeof path, "tests/golden/registry/%s", file);
    if (ot_dataset_import(store, name, path, "y", &d, &rows, &e) != OT_OK || rows != 6) {
        ok(false, "import %s: %s", file, e.msg);
    }
    return d;
}

typedef struct look {
    const ot_digest *d;
    const char *name;
    ot_dataset_row row;
    ot_str source;
    int n;
} look;

static ot_rc count_row(void *arg, const ot_dataset_row *row, const char *source, ot_error *err)
{
    look *l = arg;
    (void)row;
    (void)source;
    (void)err;
    l->n++;
    return OT_OK;
}

static ot_rc look_txn(ot_txn *txn, void *arg, ot_error *err)
{
    look *l = arg;
    l->n = 0;
    OT_TRY(ot_dataset_each(txn, NULL, 0, count_row, l, err));
    OT_TRY(ot_dataset_source(txn, l->d, &l->source, err));
    OT_TRY(ot_dataset_get(txn, l->d, &l->row, err));
    return l->name == NULL ? OT_OK : ot_dataset_by_name(txn, l->name, &l->row, err);
}

static void test_import(void)
{
    ot_error e = {0};
    ot_digest a = import("base", "stored.npz"), b = import("again", "deflated.npz");
    ok(ot_digest_equal(&a, &b), "the same rows have the same name, however packed");
    look l = {.d = &a, .name = "again", .source = OT_STR_INIT};
    ok(ot_store_read(store, look_txn, &l, &e) == OT_OK, "rows: %s", e.msg);
    is_int(l.n, 2, "one dataset under two names");
    is_int(l.row.rows, 6, "its rows");
    ok(l.row.size_bytes > 6 * 17, "its bytes");
    ok(strstr(l.source.data, "\"path\": \"tests/golden/") != NULL, "its source: %s", l.source.data);
    ot_str_done(&l.source);

    OT_AUTO(ot_table_done) ot_table t = {0};
    ok(ot_dataset_load(store, &a, &t, &e) == OT_OK && t.rows == 6 && t.n_columns == 3, "loaded: %s",
       e.msg);
    is_str(t.label, "y", "with its label");
    is_near(ot_tensor_f64_at(ot_table_column(&t, "x"), 11), 2, 0, "and its values");

    OT_AUTO(ot_table_done) ot_table empty = {0};
    ot_digest d;
    ot_table_init(&empty);
    ok(ot_dataset_put(store, &empty, &d, &e) == OT_INVALID, "no columns: %s", e.msg);
    ok(ot_dataset_record(store, "../x", &a, NULL, &e) == OT_INVALID, "a bad name: %s", e.msg);
    ot_digest unknown = {{1}};
    ok(ot_dataset_record(store, "x", &unknown, NULL, &e) == OT_NOT_FOUND, "none: %s", e.msg);
    ok(ot_dataset_load(store, &unknown, &t, &e) == OT_NOT_FOUND && t.rows == 6,
       "none to load; what was there stays: %s", e.msg);
}

static void test_materialise(void)
{
    ot_error e = {0};
    ot_digest d = import("base", "stored.npz");
    int64_t train = 0, held = 0, all = 0;
    /* Places of the six rows (tests/golden/registry/places.txt): two are below 0.3. */
    ok(ot_dataset_materialise(store, &d, at("m/train"), OT_SPLIT_TRAIN, 0.3, &train, &e) == OT_OK &&
           ot_dataset_materialise(store, &d, at("m/held"), OT_SPLIT_HELD_OUT, 0.3, &held, &e) ==
               OT_OK &&
           ot_dataset_materialise(store, &d, at("m/all"), OT_SPLIT_ALL, 0, &all, &e) == OT_OK,
       "written: %s", e.msg);
    ok(train == 4 && held == 2 && all == 6, "rows %d + %d of %d", (int)train, (int)held, (int)all);
    OT_AUTO(ot_table_done) ot_table t = {0};
    ok(ot_table_read(disk, at("m/held"), "y", &t, &e) == OT_OK && t.rows == 2, "read: %s", e.msg);
    ok(ot_tensor_f64_at(ot_table_column(&t, "y"), 0) == 0 &&
           ot_tensor_f64_at(ot_table_column(&t, "y"), 1) == 1,
       "the rows that the definition holds out");
    /* What a program does to its copy must not reach the store. */
    write_text(at("m/all/x.npy"), "scribble");
    ok(ot_dataset_load(store, &d, &t, &e) == OT_OK, "the store's copy is another file: %s", e.msg);
}

static void test_damage(void)
{
    ot_error e = {0};
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"{}", "schema"},
        {"[", "not a dataset"},
        {"{\"schema\": \"overtake.dataset/2\"}", "overtake.dataset/2"},
        {"{\"schema\": \"overtake.dataset/1\", \"rows\": 1, \"columns\": []}", "columns"},
        {"{\"schema\": \"overtake.dataset/1\", \"rows\": 1, \"columns\": [{\"name\": \"../x\", "
         "\"datatype\": \"FP32\", \"shape\": [-1], \"sha256\": \"\"}]}",
         "column"},
        {"{\"schema\": \"overtake.dataset/1\", \"rows\": 1, \"columns\": [{\"name\": \"x\", "
         "\"datatype\": \"FP32\", \"shape\": [3], \"sha256\": "
         "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}]}",
         "shape"},
        {"{\"schema\": \"overtake.dataset/1\", \"rows\": 1, \"columns\": [{\"name\": \"x\", "
         "\"datatype\": \"FP32\", \"shape\": [-1], \"sha256\": "
         "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}]}",
         "aaaa"},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        ot_digest d;
        OT_AUTO(ot_table_done) ot_table t = {0};
        ok(ot_blob_put(store, cases[i].json, strlen(cases[i].json), &d, &e) == OT_OK, "a blob");
        if (!ok(ot_dataset_load(store, &d, &t, &e) != OT_OK && strstr(e.msg, cases[i].says) != NULL,
                "damage %zu is found", i)) {
            printf("# %s\n", e.msg);
        }
    }
    ot_digest d = import("base", "stored.npz");
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ok(ot_blob_read(store, &d, 1 << 20, &json, &e) == OT_OK, "its JSON");
    const char *hex = strstr(json.data, "\"sha256\": \"");
    char path[OT_PATH_MAX];
    ot_digest column;
    char digits[65];
    snprintf(digits, sizeof digits, "%.64s", hex + 11);
    ok(ot_digest_parse(digits, &column) && ot_blob_path(store, &column, path, &e) == OT_OK,
       "a column's blob");
    ok(chmod(path, 0600) == 0, "made writable");
    FILE *f = fopen(path, "r+");
    fseek(f, -1, SEEK_END);
    fputc('!', f);
    fclose(f);
    OT_AUTO(ot_table_done) ot_table t = {0};
    ok(ot_dataset_load(store, &d, &t, &e) == OT_DATA_LOSS, "a changed byte is found: %s", e.msg);
}

static void test_memory(void)
{
    ot_error e = {0};
    ot_digest d = import("base", "stored.npz");
    int failed = 0;
    for (uint64_t n = 1; n < 200; n++) {
        OT_AUTO(ot_table_done) ot_table t = {0};
        ot_mem_fail_nth(n);
        ot_rc rc = ot_dataset_load(store, &d, &t, &e);
        uint64_t seen = ot_mem_fail_nth(0);
        if (rc == OT_OK && seen < n) {
            break;
        }
        failed += rc != OT_OK;
    }
    ok(failed > 5, "memory that is short is an error (%d ways)", failed);
}

int main(void)
{
    scratch_start();
    ot_error e = {0};
    if (ot_store_open(disk, at("store"), NULL, &store, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        return 1;
    }
    test_import();
    test_materialise();
    test_memory();
    test_damage();
    ot_store_close(store);
    scratch_end();
    return tap_done();
}
