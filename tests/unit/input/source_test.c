/* Opening: shards, indexes, datasets by digest; what is refused, and how that reads. */
#include "files.h"

#include "base/hash.h"
#include "input/gather.h"
#include "input/source.h"

static bool says(ot_rc rc, ot_rc want, const ot_error *err, const char *part)
{
    bool good = rc == want && strstr(err->msg, part) != NULL;
    if (!good) {
        printf("# rc %d, want %d and '%s' in: %s\n", rc, want, part, rc == OT_OK ? "" : err->msg);
    }
    return good;
}

static ot_rc open_index(const char *json, bool verify, ot_source **out, ot_error *err)
{
    ot_source_options o = {
        .disk = ot_disk_posix(), .index = json, .directory = files_dir, .verify = verify};
    return ot_source_create(&o, out, err);
}

/* Rows 0..n-1, gathered backwards, have what files_npy wrote. */
static bool has_rows(const ot_source *s, uint64_t n, ot_error *err)
{
    ot_gather g;
    size_t width = s->columns[0].row_bytes / sizeof(float);
    OT_AUTO(ot_free_ptr) uint64_t *rows = ot_calloc(n, sizeof *rows);
    OT_AUTO(ot_free_ptr) float *x = ot_calloc(n * width, sizeof *x);
    size_t offsets[OT_INPUT_COLUMNS_MAX] = {0};
    for (uint64_t i = 0; i < n; i++) {
        rows[i] = n - 1 - i;
    }
    bool good = s->rows == n && ot_gather_init(&g, s, err) == OT_OK;
    good = good && ot_gather_rows(&g, rows, n, (uint8_t *)x, offsets, NULL, err) == OT_OK;
    for (uint64_t i = 0; good && i < n * width; i++) {
        good = fabs((double)x[i] - (double)(10 * rows[i / width] + i % width)) < 1e-6;
    }
    ot_gather_done(&g);
    return good;
}

static void test_shards(void)
{
    ot_error err = {0};
    const char *paths[] = {files_path("0/x.npy"), files_path("1/x.npy"), files_path("2/x.npy")};
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        ok(ot_disk_mkdirs(ot_disk_posix(), files_path(name), 0700, NULL) == OT_OK, "a folder");
    }
    files_npy("0/x.npy", 0, 5, 3);
    files_npy("1/x.npy", 5, 1, 3);
    files_npy("2/x.npy", 6, 7, 3);
    for (int read = 0; read <= 1; read++) {
        ot_source *s = files_open(paths, 3, read, &err);
        ok(s != NULL && s->n_columns == 1 && strcmp(s->columns[0].name, "x") == 0 &&
               has_rows(s, 13, &err),
           "three shards are one column, %s: %s", read ? "read" : "mapped", err.msg);
        ot_source_destroy(s);
    }
    const char *folders[] = {files_path("0"), files_path("1"), files_path("2")};
    ot_source *s = files_open(folders, 3, false, &err);
    ok(s != NULL && has_rows(s, 13, &err), "folders are shards: %s", err.msg);
    ot_source_destroy(s);
    files_npy("1/y.npy", 0, 2, 1);
    s = files_open(folders, 3, false, &err);
    ok(s == NULL && says(err.rc, OT_INVALID, &err, "column 'x' has 6 rows, column 'y' has 2"),
       "columns of a shard have as many rows");
    files_npy("1/y.npy", 0, 1, 1);
    files_npy("1/x.npy", 5, 1, 4);
    s = files_open(paths, 2, false, &err);
    ok(s == NULL && says(err.rc, OT_INVALID, &err, "rows <f4 [4]; the files before have <f4 [3]"),
       "shards agree in type and shape");
}

static void test_index(void)
{
    ot_error err = {0};
    ot_source *s = NULL;
    float x[12];
    char json[1024], hex[OT_DIGEST_HEX];
    for (int i = 0; i < 12; i++) {
        x[i] = (float)(10 * (i / 3) + i % 3);
    }
    files_write("x.bin", x, sizeof x);
    ot_digest d = ot_sha256_of(x, sizeof x);
    snprintf(json, sizeof json,
             "{\"schema\": \"overtake.input/1\", \"columns\": [{\"name\": \"x\", \"datatype\": "
             "\"FP32\", "
             "\"shape\": [-1, 3], \"files\": [{\"path\": \"x.bin\", \"sha256\": \"%s\"}]}]}",
             ot_digest_hex(&d, hex));
    ok(open_index(json, true, &s, &err) == OT_OK && has_rows(s, 4, &err), "raw numbers: %s",
       err.msg);
    ot_source_destroy(s);
    x[5] = 7;
    files_write("x.bin", x, sizeof x);
    ok(says(open_index(json, true, &s, &err), OT_DATA_LOSS, &err, "its SHA-256 is"),
       "another byte is not the dataset");
    ok(open_index(json, false, &s, &err) == OT_OK, "which is looked at when it is asked for");
    ot_source_destroy(s);
    static const struct {
        const char *text, *part;
        ot_rc rc;
    } bad[] = {
        {"{", "not JSON", OT_INVALID},
        {"{\"schema\": \"other/1\"}", "schema is 'other/1'", OT_INVALID},
        {"{\"schema\": \"overtake.input/1\"}", "no columns", OT_INVALID},
        {"{\"schema\": \"overtake.input/1\", \"columns\": [{\"name\": \"x\"}]}", "has no files",
         OT_INVALID},
        {"{\"schema\": \"overtake.input/1\", \"columns\": [{\"name\": \"x\", \"files\": "
         "[\"x.bin\"]}]}",
         "needs a datatype", OT_INVALID},
        {"{\"schema\": \"overtake.input/1\", \"columns\": [{\"name\": \"x\", \"datatype\": "
         "\"FP32\", "
         "\"shape\": [-1, 5], \"files\": [\"x.bin\"]}]}",
         "no whole rows of 20 bytes", OT_INVALID},
        {"{\"schema\": \"overtake.input/1\", \"columns\": [{\"name\": \"x\", \"datatype\": "
         "\"FP32\", "
         "\"shape\": [-1, 3], \"files\": [{\"path\": \"x.bin\", \"at\": 4, \"rows\": 4}]}]}",
         "the file has 48 bytes", OT_INVALID},
        {"{\"schema\": \"overtake.input/1\", \"columns\": [{\"name\": \"x\", \"datatype\": "
         "\"FP32\", "
         "\"shape\": [-1, 4611686018427387904, 4], \"files\": [\"x.bin\"]}]}",
         "1 byte to 1 GiB", OT_INVALID},
        {"{\"schema\": \"overtake.input/1\", \"columns\": [{\"name\": \"x\", \"files\": "
         "[\"no.npy\"]}]}",
         "no.npy", OT_NOT_FOUND},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(says(open_index(bad[i].text, false, &s, &err), bad[i].rc, &err, bad[i].part),
           "refused: %s", bad[i].part);
    }
}

static void test_digest(void)
{
    ot_error err = {0};
    ot_source *s = NULL;
    char json[512], hex[OT_DIGEST_HEX], name[128], path[OT_DIGEST_HEX + 8];
    ot_str column = OT_STR_INIT;
    files_npy("c.npy", 0, 4, 2);
    ok(ot_disk_read_all(ot_disk_posix(), files_path("c.npy"), 4096, &column, &err) == OT_OK,
       "a column");
    ot_digest d = ot_sha256_of(column.data, column.len);
    ot_digest_hex(&d, hex);
    snprintf(json, sizeof json,
             "{\"schema\": \"overtake.dataset/1\", \"rows\": 4,\n \"columns\": [{\"name\": \"x\", "
             "\"datatype\": \"FP32\", \"shape\": [-1, 2], \"sha256\": \"%s\"}]}\n",
             hex);
    snprintf(name, sizeof name, "blobs/%.2s", hex);
    ok(ot_disk_mkdirs(ot_disk_posix(), files_path(name), 0700, &err) == OT_OK, "a store");
    snprintf(name, sizeof name, "blobs/%.2s/%s", hex, hex);
    files_write(name, column.data, column.len);
    ot_str_done(&column);
    d = ot_sha256_of(json, strlen(json));
    ot_digest_hex(&d, hex);
    snprintf(name, sizeof name, "blobs/%.2s", hex);
    ok(ot_disk_mkdirs(ot_disk_posix(), files_path(name), 0700, &err) == OT_OK, "its second folder");
    snprintf(name, sizeof name, "blobs/%.2s/%s", hex, hex);
    files_write(name, json, strlen(json));
    snprintf(path, sizeof path, "sha256:%s", hex);
    const char *paths[] = {path};
    ot_source_options o = {
        .disk = ot_disk_posix(), .paths = paths, .n_paths = 1, .store = files_dir, .verify = true};
    ok(ot_source_create(&o, &s, &err) == OT_OK && has_rows(s, 4, &err),
       "a dataset by its digest: %s", err.msg);
    ot_source_destroy(s);
    json[30] ^= 1;
    files_write(name, json, strlen(json));
    ok(says(ot_source_create(&o, &s, &err), OT_DATA_LOSS, &err, "its SHA-256 is"),
       "changed: refused");
    o.store = NULL;
    ok(says(ot_source_create(&o, &s, &err), OT_INVALID, &err, "say which (store)"),
       "needs a store");
}

static void test_chosen(void)
{
    ot_error err = {0};
    ot_source *s = NULL;
    ok(ot_disk_mkdirs(ot_disk_posix(), files_path("many"), 0700, NULL) == OT_OK, "a folder");
    files_npy("many/alpha.npy", 0, 3, 1);
    files_npy("many/beta.npy", 0, 3, 2);
    files_npy("many/gamma.npy", 0, 3, 3);
    const char *paths[] = {files_path("many")}, *some[] = {"gamma", "alpha"}, *bad[] = {"betta"},
               *twice[] = {"beta", "beta"};
    ot_source_options o = {
        .disk = ot_disk_posix(), .paths = paths, .n_paths = 1, .columns = some, .n_columns = 2};
    ok(ot_source_create(&o, &s, &err) == OT_OK && s->n_columns == 2 &&
           strcmp(s->columns[0].name, "gamma") == 0 && strcmp(s->columns[1].name, "alpha") == 0,
       "some columns, in the order of their names in the call");
    ot_source_destroy(s);
    o.columns = bad;
    o.n_columns = 1;
    ok(says(ot_source_create(&o, &s, &err), OT_NOT_FOUND, &err, "did you mean 'beta'?"),
       "a near name");
    o.columns = twice;
    o.n_columns = 2;
    ok(says(ot_source_create(&o, &s, &err), OT_NOT_FOUND, &err, "'beta' (once)"),
       "no column twice");
}

static void test_shrunk(void)
{
    ot_error err = {0};
    files_npy("cut.npy", 0, 100000, 3);
    const char *paths[] = {files_path("cut.npy")};
    for (int read = 0; read <= 1; read++) {
        files_npy("cut.npy", 0, 100000, 3);
        ot_source *s = files_open(paths, 1, read, &err);
        ok(s != NULL && has_rows(s, 100000, &err), "whole: %s", err.msg);
        ok(truncate(paths[0], 5000) == 0, "cut short");
        ok(s != NULL && !has_rows(s, 100000, &err) && says(err.rc, OT_DATA_LOSS, &err, "cut"),
           "a file that has shrunk is an error, %s: %s", read ? "read" : "mapped", err.msg);
        ot_source_destroy(s);
    }
}

/* Every allocation of opening fails once. */
/* Rows of 64 KiB are read: cut short behind the look at the size, that is an error, not a SIGBUS.
 */
static void test_cut_while_read(void)
{
    ot_error err = {0};
    ot_gather g;
    const size_t width = OT_INPUT_READ_BYTES / sizeof(float), offsets[] = {0};
    OT_AUTO(ot_free_ptr) float *x = ot_calloc(2 * width, sizeof *x);
    const uint64_t rows[] = {1, 0};
    const char *paths[] = {files_path("large.npy")};
    files_npy("large.npy", 0, 2, (int64_t)width);
    ot_source *s = files_open(paths, 1, false, &err);
    ok(s != NULL && ot_gather_init(&g, s, &err) == OT_OK, "opened, mapped: %s", err.msg);
    ok(truncate(paths[0], 5000) == 0, "cut short");
    g.checked[0] = g.turn + 1; /* the file has been looked at in this turn */
    ok(says(ot_gather_rows(&g, rows, 2, (uint8_t *)x, offsets, NULL, &err), OT_DATA_LOSS, &err,
            "cut the file short"),
       "what is gone is an error: %s", err.msg);
    ot_gather_done(&g);
    ot_source_destroy(s);
}

static void test_memory(void)
{
    ot_error err = {0};
    const char *paths[] = {files_path("many")};
    ot_mem_fail_nth(1000000);
    ot_source *s = files_open(paths, 1, false, &err);
    uint64_t n = ot_mem_fail_nth(0);
    ok(s != NULL && n > 5, "opening asks for memory %d times", (int)n);
    ot_source_destroy(s);
    bool good = true;
    for (uint64_t k = 1; k <= n; k++) {
        ot_mem_fail_nth(k);
        s = files_open(paths, 1, false, &err);
        ot_mem_fail_nth(0);
        good = good && s == NULL && err.rc == OT_EXHAUSTED;
        if (s != NULL) {
            printf("# allocation %d failed and nobody said so\n", (int)k);
        }
        ot_source_destroy(s);
    }
    ok(good, "and says so whenever there is none");
}

int main(void)
{
    if (!files_begin()) {
        skip("no temporary directory");
        return tap_done();
    }
    test_shards();
    test_index();
    test_digest();
    test_chosen();
    test_shrunk();
    test_cut_while_read();
    test_memory();
    files_end();
    return tap_done();
}
