/* For the tests here: a folder of one's own, and models of the tutorial plug-in in it.
 *
 * The plug-in is the one of the build that the test belongs to (build/X/tests/unit/runtime/T ->
 * build/X/plugins); a test that needs it is skipped where it wasn't built. */
#ifndef OT_TESTS_UNIT_RUNTIME_NULL_MODEL_H
#define OT_TESTS_UNIT_RUNTIME_NULL_MODEL_H

#include "base/disk.h"
#include "base/mem.h"
#include "runtime/runtime.h"
#include "tap.h"

#include <stdlib.h>

static char test_dir[OT_PATH_MAX] = "/tmp/overtake-runtime-XXXXXX";

__attribute__((unused)) static const char *build_plugins(void)
{
    static char dir[OT_PATH_MAX];
    char *exe = realpath("/proc/self/exe", NULL);
    for (int up = 0; exe != NULL && up < 4; up++) {
        char *slash = strrchr(exe, '/');
        *(slash != NULL ? slash : exe) = '\0';
    }
    snprintf(dir, sizeof dir, "%s/plugins", exe != NULL ? exe : "");
    free(exe);
    return dir;
}

__attribute__((unused)) static bool have_null_plugin(void)
{
    char file[OT_PATH_MAX];
    ot_error err;
    if (ot_path_join(file, build_plugins(), "overtake_null.so", &err) == OT_OK &&
        ot_disk_exists(ot_disk_posix(), file)) {
        return true;
    }
    skip("plugins/null isn't built: make all first");
    return false;
}

__attribute__((unused)) static void test_dir_make(void)
{
    if (mkdtemp(test_dir) == NULL) {
        perror("mkdtemp");
        exit(1);
    }
}

__attribute__((unused)) static void test_dir_remove(void)
{
    ot_error err;
    if (ot_disk_remove_tree(ot_disk_posix(), test_dir, &err) != OT_OK) {
        printf("# %s\n", err.msg);
    }
}

/* Writes test_dir/`name` with its folders; returns the path (static, the last four stay valid). */
__attribute__((unused)) static const char *write_file(const char *name, const char *text)
{
    static char paths[4][OT_PATH_MAX];
    static unsigned next;
    char dir[OT_PATH_MAX], *path = paths[next++ % 4];
    ot_error err;
    snprintf(path, OT_PATH_MAX, "%s/%s", test_dir, name);
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = '\0';
    if (ot_disk_mkdirs(ot_disk_posix(), dir, 0700, &err) != OT_OK ||
        ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, &err) != OT_OK) {
        printf("# %s\n", err.msg);
        exit(1);
    }
    return path;
}

#define SUM_MODEL                                                                                  \
    "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"                \
    " \"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1]}], \"op\": \"sum\"}"

/* A model of this text with these options, or NULL and a failed check. */
__attribute__((unused)) static ot_model *load_null(ot_runtime *rt, const char *text,
                                                   const char *options)
{
    ot_model_options o = {.options_json = options};
    ot_model *m = NULL;
    ot_error err;
    ot_rc rc = ot_model_load(rt, "null", write_file("m/null.json", text), &o, &m, &err);
    if (!ok(rc == OT_OK, "load with %s", options)) {
        printf("# %s\n", err.msg);
    }
    return m;
}

#endif
