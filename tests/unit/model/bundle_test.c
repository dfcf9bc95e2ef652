/* Bundles: built whole or not at all, verified file by file. */
#include "model/bundle.h"

#include "unit/bundle_fixture.h"

#include <dirent.h>

static int entries(const char *dir)
{
    DIR *d = opendir(dir);
    int n = -2; /* . and .. */
    while (d != NULL && readdir(d) != NULL) {
        n++;
    }
    if (d != NULL) {
        closedir(d);
    }
    return n;
}

static void test_build(void)
{
    ot_error e = {0};
    ot_digest d, same, other;
    char path[OT_PATH_MAX];
    ok(fixture_build(at("b1"), "{}", FIXTURE_GOLDEN, "{\"parent\": null}", &d, &e) == OT_OK,
       "built: %s", e.msg);
    ok(fixture_build(at("b2"), "{}", FIXTURE_GOLDEN, "{\"parent\": null}", &same, &e) == OT_OK &&
           ot_digest_equal(&d, &same),
       "the same parts give the same name");
    ok(fixture_build(at("b3"), "{ }", FIXTURE_GOLDEN, NULL, &other, &e) == OT_OK &&
           !ot_digest_equal(&d, &other),
       "others another");
    ok(fixture_build(at("b1"), "{}", NULL, NULL, &other, &e) == OT_EXISTS, "not over another: %s",
       e.msg);

    OT_AUTO(ot_bundle_done) ot_bundle b = {0};
    if (!ok(ot_bundle_open(disk, at("b1"), 0, &d, &b, &e) == OT_OK, "opened: %s", e.msg)) {
        return;
    }
    is_int(b.manifest.n_files, 4, "golden, lineage and two files of the model");
    is_str(b.manifest.files[2].path, "model/assets/deep/names.txt", "sorted, deep files too");
    ok(b.size_bytes > 400, "all bytes are counted");
    ok(ot_bundle_model_path(&b, path, &e) == OT_OK, "a path for the runtime");
    is_str(path + strlen(scratch), "/b1/model", "several files: the directory");
    OT_AUTO(ot_golden_done) ot_golden g = {0};
    ok(ot_bundle_golden(disk, &b, &g, &e) == OT_OK && g.n_cases == 1, "golden answers: %s", e.msg);
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    ok(ot_bundle_read_part(disk, &b, OT_BUNDLE_LINEAGE, &s, &e) == OT_OK, "lineage");
    is_str(s.data, "{\"parent\": null}", "as it was given");
    ok(ot_bundle_read_part(disk, &b, OT_BUNDLE_OUTPUTS, &s, &e) == OT_NOT_FOUND, "no reference: %s",
       e.msg);
}

static void test_single_file(void)
{
    ot_error e = {0};
    ot_digest d;
    char path[OT_PATH_MAX];
    OT_AUTO(ot_manifest_done) ot_manifest sig = {0};
    OT_AUTO(ot_bundle_done) ot_bundle b = {0};
    ok(ot_manifest_parse_signature(FIXTURE_SIGNATURE, strlen(FIXTURE_SIGNATURE), &sig, &e) == OT_OK,
       "a signature");
    write_text(at("one/m.onnx"), "bytes");
    ot_bundle_parts parts = {.model_path = at("one/m.onnx"), .signature = &sig};
    ok(ot_bundle_build(disk, at("single"), &parts, &d, &e) == OT_OK, "a model of one file");
    ok(ot_bundle_open(disk, at("single"), 0, &d, &b, &e) == OT_OK, "opened: %s", e.msg);
    ok(ot_bundle_model_path(&b, path, &e) == OT_OK, "a path for the runtime");
    is_str(path + strlen(scratch), "/single/model/m.onnx", "the file itself");
}

/* Each change to a good bundle must be found. */
typedef void change_fn(const char *dir);

static void in(char out[OT_PATH_MAX], const char *dir, const char *rel)
{
    snprintf(out, OT_PATH_MAX, "%s/%s", dir, rel);
}

static void flip_byte(const char *dir)
{
    char p[OT_PATH_MAX];
    in(p, dir, "model/null.json");
    write_text(p, "{]");
}
static void truncate_file(const char *dir)
{
    char p[OT_PATH_MAX];
    in(p, dir, "golden/golden.json");
    ok(truncate(p, 10) == 0, "cut");
}
static void remove_file(const char *dir)
{
    char p[OT_PATH_MAX];
    in(p, dir, "model/null.json");
    ok(unlink(p) == 0, "removed");
}
static void add_file(const char *dir)
{
    char p[OT_PATH_MAX];
    in(p, dir, "model/extra.py");
    write_text(p, "import os");
}
static void link_file(const char *dir)
{
    char p[OT_PATH_MAX], q[OT_PATH_MAX];
    in(p, dir, "model/null.json");
    in(q, dir, "../elsewhere");
    write_text(q, "{}");
    ok(unlink(p) == 0 && symlink(q, p) == 0, "linked");
}
static void make_fifo(const char *dir)
{
    char p[OT_PATH_MAX];
    in(p, dir, "model/null.json");
    ok(unlink(p) == 0 && mkfifo(p, 0600) == 0, "a pipe in its place");
}
static void edit_manifest(const char *dir)
{
    char p[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    ot_error e;
    in(p, dir, "manifest.json");
    ok(ot_disk_read_all(disk, p, 1 << 20, &s, &e) == OT_OK, "manifest");
    ot_str_addc(&s, '\n');
    write_bytes(p, s.data, s.len);
}
static void remove_manifest(const char *dir)
{
    char p[OT_PATH_MAX];
    in(p, dir, "manifest.json");
    ok(unlink(p) == 0, "removed");
}
static void manifest_is_link(const char *dir)
{
    char p[OT_PATH_MAX], q[OT_PATH_MAX];
    in(p, dir, "manifest.json");
    in(q, dir, "../manifest.moved");
    ok(rename(p, q) == 0 && symlink(q, p) == 0, "linked");
}

static void test_tampered(void)
{
    static const struct {
        change_fn *change;
        ot_rc rc;
        const char *says;
    } cases[] = {
        {flip_byte, OT_DATA_LOSS, "'model/null.json' has SHA-256"},
        {truncate_file, OT_DATA_LOSS, "'golden/golden.json' has 10 bytes"},
        {remove_file, OT_NOT_FOUND, "'model/null.json' is in the manifest and not there"},
        {add_file, OT_INVALID, "'model/extra.py' is there and not in the manifest"},
        {link_file, OT_INVALID, "symbolic link"},
        {make_fifo, OT_INVALID, "special file"},
        {edit_manifest, OT_DATA_LOSS, "'manifest.json' has SHA-256"},
        {remove_manifest, OT_NOT_FOUND, "manifest.json"},
        {manifest_is_link, OT_INVALID, "not a regular file"},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        char name[32];
        ot_error e = {0};
        ot_digest d;
        OT_AUTO(ot_bundle_done) ot_bundle b = {0};
        snprintf(name, sizeof name, "t%zu/b", i);
        ok(ot_disk_mkdirs(disk, at(name), 0755, &e) == OT_OK && rmdir(at(name)) == 0, "a place");
        ok(fixture_build(at(name), "{}", FIXTURE_GOLDEN, NULL, &d, &e) == OT_OK, "built");
        cases[i].change(at(name));
        ot_rc rc = ot_bundle_open(disk, at(name), 0, &d, &b, &e);
        if (!ok(rc == cases[i].rc && strstr(e.msg, cases[i].says) != NULL && b.dir == NULL,
                "found: %s", cases[i].says)) {
            printf("# rc %d: %s\n", (int)rc, e.msg);
        }
    }
    ot_error e = {0};
    OT_AUTO(ot_bundle_done) ot_bundle b = {0};
    ok(ot_bundle_open(disk, at("t0/b"), OT_BUNDLE_TRUST_CONTENT, NULL, &b, &e) == OT_OK,
       "trusted content is not hashed: %s", e.msg);
    OT_AUTO(ot_bundle_done) ot_bundle none = {0};
    ok(ot_bundle_open(disk, at("nowhere"), 0, NULL, &none, &e) == OT_NOT_FOUND, "nothing there: %s",
       e.msg);
}

static void test_bad_parts(void)
{
    static const struct {
        const char *golden, *says;
    } goldens[] = {
        {"{\"cases\": [{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1, 2], "
         "\"data\": [1, NaN]}], \"outputs\": [{\"name\": \"scores\", \"datatype\": \"FP32\", "
         "\"shape\": [1, 3], \"data\": [0, 0, 1]}]}]}",
         "'x'[1] is NaN"},
        {"{\"cases\": [{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1, 9], "
         "\"data\": [1,2,3,4,5,6,7,8,9]}], \"outputs\": [{\"name\": \"scores\", \"datatype\": "
         "\"FP32\", \"shape\": [1, 3], \"data\": [0, 0, 1]}]}]}",
         "FP32 [1,9] here"},
        {"{", "golden answers"},
    };
    ot_digest d;
    ot_error e = {0};
    for (size_t i = 0; i < OT_COUNT(goldens); i++) {
        ok(fixture_build(at("bad"), "{}", goldens[i].golden, NULL, &d, &e) == OT_INVALID &&
               strstr(e.msg, goldens[i].says) != NULL,
           "refused: %s", e.msg);
        ok(!ot_disk_exists(disk, at("bad")), "and nothing is left");
    }
    OT_AUTO(ot_manifest_done) ot_manifest sig = {0};
    ok(ot_manifest_parse_signature(FIXTURE_SIGNATURE, strlen(FIXTURE_SIGNATURE), &sig, &e) == OT_OK,
       "a signature");
    ot_bundle_parts parts = {.model_path = at("missing"), .signature = &sig};
    ok(ot_bundle_build(disk, at("bad"), &parts, &d, &e) == OT_NOT_FOUND, "no model: %s", e.msg);
    ok(ot_disk_mkdirs(disk, at("empty"), 0755, &e) == OT_OK, "an empty directory");
    parts.model_path = at("empty");
    ok(ot_bundle_build(disk, at("bad"), &parts, &d, &e) == OT_INVALID &&
           strstr(e.msg, "empty directory") != NULL,
       "is no model: %s", e.msg);
    ok(symlink("/etc/passwd", at("empty/leak")) == 0, "a link in the model");
    ok(ot_bundle_build(disk, at("bad"), &parts, &d, &e) == OT_INVALID &&
           strstr(e.msg, "symbolic link") != NULL,
       "is refused: %s", e.msg);
    OT_AUTO(ot_str_done) ot_str deep = OT_STR_INIT;
    for (int i = 0; i <= OT_BUNDLE_DEPTH_MAX; i++) {
        ot_str_adds(&deep, "/d");
    }
    ot_str_adds(&deep, "/f");
    char path[OT_PATH_MAX];
    snprintf(path, sizeof path, "%s%s", at("deep"), deep.data);
    write_text(path, "x");
    parts.model_path = at("deep");
    ok(ot_bundle_build(disk, at("bad"), &parts, &d, &e) == OT_EXHAUSTED, "too deep: %s", e.msg);
}

static void test_memory(void)
{
    ot_error e = {0};
    ot_digest d;
    OT_AUTO(ot_manifest_done) ot_manifest sig = {0};
    ok(ot_manifest_parse_signature(FIXTURE_SIGNATURE, strlen(FIXTURE_SIGNATURE), &sig, &e) == OT_OK,
       "a signature");
    char model[OT_PATH_MAX]; /* the buffers of at() go round */
    snprintf(model, sizeof model, "%s/room/model", scratch);
    write_text(at("room/model/null.json"), "{}");
    ot_bundle_parts parts = {
        .model_path = model, .signature = &sig, .golden = {FIXTURE_GOLDEN, strlen(FIXTURE_GOLDEN)}};
    int failed = 0;
    for (uint64_t n = 1; n < 200; n++) {
        OT_AUTO(ot_bundle_done) ot_bundle b = {0};
        ot_mem_fail_nth(n);
        ot_rc rc = ot_bundle_build(disk, at("room/bundle"), &parts, &d, &e);
        if (rc == OT_OK) {
            rc = ot_bundle_open(disk, at("room/bundle"), 0, &d, &b, &e);
        }
        uint64_t seen = ot_mem_fail_nth(0);
        failed += rc == OT_EXHAUSTED;
        bool built = ot_disk_exists(disk, at("room/bundle"));
        if (entries(at("room")) != 1 + built) {
            ok(false, "failing allocation %llu leaves a staging directory", (unsigned long long)n);
        }
        if (ot_disk_remove_tree(disk, at("room/bundle"), &e) != OT_OK) {
            ok(false, "clean-up");
        }
        if (rc == OT_OK && seen < n) {
            break;
        }
        if (rc != OT_EXHAUSTED) {
            ok(false, "failing allocation %llu gave %d: %s", (unsigned long long)n, (int)rc, e.msg);
        }
    }
    ok(failed > 10, "memory that is short is an error and leaves nothing (%d ways)", failed);
}

int main(void)
{
    scratch_start();
    test_build();
    test_single_file();
    test_tampered();
    test_bad_parts();
    test_memory();
    scratch_end();
    return tap_done();
}
