/* Where libraries of runtimes are looked for. */
#include "null_model.h"
#include "runtime/internal.h"

static const char *const globs[] = {"thing/capi/libthing.so.*", NULL};
static const char *const names[] = {"libthing.so.1", NULL};

static int candidates(const overtake_library_query *q, char first[OT_PATH_MAX], char *last,
                      size_t last_cap)
{
    const overtake_host *host = ot_runtime_host();
    char path[OT_PATH_MAX];
    int n = 0;
    first[0] = last[0] = '\0';
    while (host->find_library(host->self, q, (uint32_t)n, path, sizeof path) == OVERTAKE_OK) {
        if (n++ == 0) {
            snprintf(first, OT_PATH_MAX, "%s", path);
        }
        snprintf(last, last_cap, "%s", path);
    }
    return n;
}

int main(void)
{
    overtake_library_query q = {.struct_size = sizeof q,
                                .env = "OT_TEST_THING_LIB",
                                .site_globs = globs,
                                .system_names = names};
    char first[OT_PATH_MAX], last[OT_PATH_MAX], want[OT_PATH_MAX], venv[OT_PATH_MAX];
    const overtake_host *host = ot_runtime_host();
    test_dir_make();
    unsetenv("OT_TEST_THING_LIB");
    unsetenv("CONDA_PREFIX");
    setenv("HOME", "/nonexistent", 1);
    snprintf(venv, sizeof venv, "%s/venv", test_dir);
    setenv("VIRTUAL_ENV", venv, 1);
    ok(candidates(&q, first, last, sizeof last) >= 1, "the loader's own name is always there");
    is_str(last, "libthing.so.1", "at the end");
    write_file("venv/lib/python3.9/site-packages/thing/capi/libthing.so.1.2", "");
    write_file("venv/lib/python3.11/site-packages/thing/capi/libthing.so.1.9.0", "");
    write_file("venv/lib/python3.11/site-packages/thing/capi/libthing.so.1.10.0", "");
    write_file("venv/lib/python3.11/site-packages/thing/capi/libthing_extra.so", "");
    snprintf(want, sizeof want, "%s/lib/python3.11/site-packages/thing/capi/libthing.so.1.10.0",
             venv);
    int n = candidates(&q, first, last, sizeof last);
    is_str(first, want, "the newest Python's newest version comes first");
    ok(n >= 4, "all versions are candidates");
    setenv("OT_TEST_THING_LIB", "/given/libthing.so", 1);
    is_int(candidates(&q, first, last, sizeof last), 1, "a variable overrides all");
    is_str(first, "/given/libthing.so", "and is taken as it is");
    char small[4];
    is_int(host->find_library(host->self, &q, 0, small, sizeof small), OVERTAKE_EXHAUSTED,
           "a path that doesn't fit");
    is_int(host->find_library(host->self, &q, 1, first, sizeof first), OVERTAKE_NOT_FOUND,
           "the end");
    overtake_library_query none = {.struct_size = sizeof none};
    is_int(candidates(&none, first, last, sizeof last), 0, "an empty question");
    ot_mem_fail_nth(1);
    is_int(host->find_library(host->self, &q, 0, first, sizeof first), OVERTAKE_EXHAUSTED,
           "no memory");
    ot_mem_fail_nth(0);
    void *p = host->alloc(host->self, 8);
    p = host->realloc(host->self, p, 16);
    ok(p != NULL && host->now_ns(host->self) > 0, "memory and clock");
    host->free(host->self, p);
    char dir[OT_PATH_MAX];
    ok(ot_runtime_program_dir(dir) && dir[0] == '/', "the program's folder is %s", dir);
    test_dir_remove();
    return tap_done();
}
