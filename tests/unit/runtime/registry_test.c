/* Finding plug-ins, refusing broken ones, and telling formats apart. */
#include "null_model.h"

#include <dlfcn.h>
#include <zlib.h>

typedef struct seen {
    int n, usable;
    char reasons[4096];
    char formats[256], version[64];
} seen;

static void take(void *arg, const ot_plugin_report *r)
{
    seen *s = arg;
    s->n++;
    s->usable += r->usable;
    size_t used = strlen(s->reasons);
    snprintf(s->reasons + used, sizeof s->reasons - used, "%s: %s\n", r->name, r->reason);
    if (strcmp(r->name, "null") == 0 && r->usable) {
        snprintf(s->formats, sizeof s->formats, "%s", r->formats);
        snprintf(s->version, sizeof s->version, "%s", r->runtime_version);
    }
}

/* A library that loads and isn't a plug-in: zlib, under a plug-in's name. */
static void add_foreign_library(const char *dir)
{
    Dl_info info;
    char path[OT_PATH_MAX];
    ot_str bytes = OT_STR_INIT;
    ot_error err;
    void *symbol;
    const char *(*fn)(void) = zlibVersion;
    memcpy(&symbol, &fn, sizeof symbol);
    if (dladdr(symbol, &info) != 0) {
        snprintf(path, sizeof path, "%s/overtake_foreign.so", dir);
        if (ot_disk_read_all(ot_disk_posix(), info.dli_fname, 64u << 20, &bytes, &err) == OT_OK &&
            ot_disk_write_atomic(ot_disk_posix(), path, bytes.data, bytes.len, 0700, &err) !=
                OT_OK) {
            printf("# %s\n", err.msg);
        }
    }
    ot_str_done(&bytes);
}

static void test_broken_plugins(void)
{
    ot_runtime *rt;
    ot_error err;
    seen s = {0};
    char path[3 * OT_PATH_MAX];
    write_file("a/overtake_text.so", "this is no library");
    write_file("a/overtake_empty.so", "");
    write_file("a/overtake_null.so", "hides the built one");
    write_file("a/readme.txt", "ignored");
    write_file("a/libother.so", "ignored");
    write_file("a/overtake_.so", "ignored: no name");
    snprintf(path, sizeof path, "%s/a", test_dir);
    add_foreign_library(path);
    snprintf(path, sizeof path, "%s/a::%s/missing:%s", test_dir, test_dir, build_plugins());
    ok(ot_runtime_create(path, &rt, &err) == OT_OK, "a path with broken plug-ins");
    ot_runtime_list(rt, false, take, &s);
    printf("# %s", s.reasons);
    ok(strstr(s.reasons, "text: cannot be loaded") != NULL, "text is refused with a reason");
    ok(strstr(s.reasons, "empty: cannot be loaded") != NULL, "an empty file too");
    ok(strstr(s.reasons, "libother") == NULL && strstr(s.reasons, "readme") == NULL,
       "other files aren't looked at");
    ok(strstr(s.reasons, "foreign: ") != NULL, "so is a library that is no plug-in");
    ok(strstr(s.reasons, "null: hidden by") != NULL || strstr(s.reasons, "null: cannot") != NULL,
       "the first of a name wins");
    const char *format;
    ot_rc rc = ot_runtime_detect(rt, write_file("m/null.json", SUM_MODEL), &format, &err);
    ok(rc == OT_INVALID && strstr(err.msg, "known:") != NULL, "its formats are gone: %s", err.msg);
    ot_runtime_unref(rt);
}

static void test_search_path(void)
{
    ot_runtime *rt;
    ot_error err;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ok(ot_runtime_create("/x:/y", &rt, &err) == OT_OK, "folders that don't exist are fine");
    ot_runtime_search_path(rt, &out);
    ok(ot_has_prefix(out.data, "/x\n/y\n") && strstr(out.data, "/lib/overtake/plugins\n") != NULL,
       "the given ones come first, then the standard ones");
    ot_runtime_unref(rt);
    ot_str many = OT_STR_INIT;
    for (int i = 0; i < 40; i++) {
        ot_str_adds(&many, "/x:");
    }
    ok(ot_runtime_create(many.data, &rt, &err) == OT_INVALID, "too many: %s", err.msg);
    ot_str_done(&many);
    ot_runtime_unref(NULL);
    int failed = 0;
    ot_rc rc = OT_EXHAUSTED;
    for (uint64_t nth = 1; nth < 100 && rc != OT_OK; nth++) {
        ot_mem_fail_nth(nth);
        rc = ot_runtime_create(build_plugins(), &rt, &err);
        ot_mem_fail_nth(0);
        failed += rc == OT_EXHAUSTED;
    }
    ok(rc == OT_OK && failed > 2, "%d failed allocations gave OT_EXHAUSTED", failed);
    ot_runtime_unref(rt);
}

static void is_format(ot_runtime *rt, const char *path, const char *want)
{
    const char *format = "none";
    ot_error err = {.msg = ""};
    ot_rc rc = ot_runtime_detect(rt, path, &format, &err);
    if (want != NULL) {
        is_str(rc == OT_OK ? format : err.msg, want, "%s is %s", path, want);
    } else {
        ok(rc != OT_OK && err.msg[0] != '\0', "refused: %s", err.msg);
    }
}

static void test_formats(void)
{
    ot_runtime *rt;
    ot_error err;
    seen s = {0};
    char path[OT_PATH_MAX];
    ok(ot_runtime_create(build_plugins(), &rt, &err) == OT_OK, "the built plug-ins");
    ot_runtime_list(rt, false, take, &s);
    is_str(s.formats, "null", "null is there");
    ok(s.usable >= 1, "and usable");
    is_format(rt, write_file("f1/null.json", SUM_MODEL), "null");
    snprintf(path, sizeof path, "%s/f1", test_dir);
    is_format(rt, path, "null");
    write_file("f2/deeper/null.json", SUM_MODEL);
    snprintf(path, sizeof path, "%s/f2", test_dir);
    is_format(rt, path, "null");
    snprintf(path, sizeof path, "%s/f2/deeper/", test_dir);
    is_format(rt, path, "null");
    write_file("f3/x/y/null.json", SUM_MODEL);
    snprintf(path, sizeof path, "%s/f3", test_dir);
    is_format(rt, path, NULL);
    is_format(rt, write_file("f4/notes.txt", "x"), NULL);
    snprintf(path, sizeof path, "%s/f4", test_dir);
    is_format(rt, path, NULL);
    is_format(rt, "/nonexistent/path", NULL);
    ot_str longest = OT_STR_INIT;
    for (int i = 0; i < 5000; i++) {
        ot_str_addc(&longest, 'a');
    }
    is_format(rt, longest.data, NULL);
    ot_str_done(&longest);
    ot_model *m = NULL;
    is_int(ot_model_load(rt, "caffe9", write_file("f1/null.json", SUM_MODEL), NULL, &m, &err),
           OT_NOT_FOUND, "an unknown format: %s", err.msg);
    ot_runtime_unref(rt);
}

static void test_broken_models(void)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"op\": \"sum\"}",
        "{\"inputs\": [], \"outputs\": [], \"op\": \"identity\"}",
        "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP33\", \"shape\": [1]}]}",
        "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1,1,1,1,1,1,1,1,1]}]}",
        "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-2]}]}",
        "{\"weights\": [1e999, \"x\"]}",
        "{\"unknown\": 1}",
        SUM_MODEL "x",
    };
    ot_runtime *rt;
    ot_error err;
    ok(ot_runtime_create(build_plugins(), &rt, &err) == OT_OK, "registry");
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_model *m = NULL;
        ot_rc rc = ot_model_load(rt, NULL, write_file("bad/null.json", bad[i]), NULL, &m, &err);
        ok(rc == OT_INVALID, "model %zu is refused: %s", i, rc == OT_OK ? "" : err.msg);
        ot_model_unref(m);
    }
    ot_runtime_unref(rt);
}

int main(void)
{
    test_dir_make();
    test_search_path();
    test_broken_plugins();
    if (have_null_plugin()) {
        test_formats();
        test_broken_models();
    }
    test_dir_remove();
    return tap_done();
}
