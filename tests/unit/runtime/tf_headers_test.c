/* Compiles our declarations of TensorFlow's C API together with TensorFlow's headers, where both
 * the headers and a compiler are there. */
#include "null_model.h"
#include "runtime/internal.h"

static bool find_include(char out[OT_PATH_MAX])
{
    static const char *const globs[] = {"tensorflow/include/tensorflow/c/c_api.h", NULL};
    const overtake_library_query q = {.struct_size = sizeof q, .site_globs = globs};
    const overtake_host *host = ot_runtime_host();
    if (host->find_library(host->self, &q, 0, out, OT_PATH_MAX) != OVERTAKE_OK) {
        return false;
    }
    char *end = strstr(out, "/tensorflow/c/c_api.h");
    if (end != NULL) {
        *end = '\0';
    }
    return end != NULL && strchr(out, '\'') == NULL;
}

/* The source lies in the tree that this file was compiled from. */
static int compile(const char *include, const char *declarations, const char *extra)
{
    char command[3 * OT_PATH_MAX];
    snprintf(command, sizeof command,
             "cc -std=gnu17 -fsyntax-only -w -I'%s' %s '%s' 2>&1 | head -5", include, extra,
             declarations);
    FILE *p = popen(command, "r");
    char line[512];
    int lines = 0;
    while (p != NULL && fgets(line, sizeof line, p) != NULL) {
        printf("# %s", line);
        lines++;
    }
    return p != NULL && pclose(p) == 0 ? lines : -1;
}

int main(void)
{
    static const char source[] = "tests/conformance/headers/tf_declarations.c";
    char include[OT_PATH_MAX];
    if (!find_include(include)) {
        skip("no TensorFlow headers: pip install tensorflow-cpu");
    } else if (system("cc --version >/dev/null 2>&1") != 0) {
        skip("no compiler called cc");
    } else if (!ot_disk_exists(ot_disk_posix(), source)) {
        skip("not run in the root of the source tree");
    } else {
        printf("# %s\n", include);
        is_int(compile(include, source, ""), 0, "every declaration is TensorFlow's");
        ok(compile(include, source, "-DTFT_FLOAT=2") > 0, "and a wrong one is found");
    }
    return tap_done();
}
