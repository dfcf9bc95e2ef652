/* Which interpreter: the one that an option names, else the first of the user's environments that
 * has NumPy. */
#include "python.h"

#include "../common/json.h"
#include "overtake/plugin.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_MAX_BYTES 4096

static const overtake_host *host;

typedef struct interpreter {
    char program[PATH_MAX_BYTES], prefix[PATH_MAX_BYTES], version[32];
} interpreter;

__attribute__((format(printf, 3, 4))) static int32_t fail(overtake_error *err, int32_t code,
                                                          const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    return code;
}

/* PREFIX/bin/python3 -> PREFIX, unresolved: a virtual environment's interpreter is a link. */
static bool take_program(interpreter *in, const char *program)
{
    snprintf(in->program, sizeof in->program, "%s", program);
    snprintf(in->prefix, sizeof in->prefix, "%s", program);
    char *slash = strrchr(in->prefix, '/');
    if (slash == NULL || access(program, X_OK) != 0) {
        return false;
    }
    *slash = '\0';
    slash = strrchr(in->prefix, '/');
    *(slash != NULL ? slash : in->prefix) = '\0';
    return in->prefix[0] == '/';
}

/* PREFIX/lib/python3.11/site-packages/numpy/version.py -> PREFIX/bin/python3.11, or python3. */
static bool take_package(interpreter *in, const char *file)
{
    char program[PATH_MAX_BYTES + 64];
    const char *lib = strstr(file, "/lib/python3");
    lib = lib != NULL ? lib : strstr(file, "/lib64/python3");
    const char *name = lib != NULL ? strstr(lib, "python3") : NULL;
    if (name == NULL) {
        return false;
    }
    int n = (int)strcspn(name, "/");
    snprintf(in->version, sizeof in->version, "%.*s", n - 6, name + 6);
    snprintf(program, sizeof program, "%.*s/bin/%.*s", (int)(lib - file), file, n, name);
    if (take_program(in, program)) {
        return true;
    }
    snprintf(program, sizeof program, "%.*s/bin/python3", (int)(lib - file), file);
    return take_program(in, program);
}

static int32_t find_interpreter(interpreter *in, overtake_error *err)
{
    static const char *const globs[] = {"numpy/version.py", NULL};
    const overtake_library_query query = {
        .struct_size = sizeof query, .env = "OVERTAKE_PYTHON_LIB", .site_globs = globs};
    char path[PATH_MAX_BYTES];
    memset(in, 0, sizeof *in);
    snprintf(in->version, sizeof in->version, "3");
    for (uint32_t i = 0;
         host->find_library(host->self, &query, i, path, sizeof path) == OVERTAKE_OK; i++) {
        if (take_package(in, path) || take_program(in, path)) {
            return OVERTAKE_OK;
        }
    }
    return fail(err, OVERTAKE_UNAVAILABLE,
                "no Python with NumPy was found: pip install numpy in an environment, activate it, "
                "or name its interpreter in OVERTAKE_PYTHON_LIB");
}

static int32_t runtime_info(overtake_runtime_info *info, overtake_error *err)
{
    static interpreter in; /* the same for every caller */
    int32_t rc = find_interpreter(&in, err);
    info->version = in.version;
    info->library = in.program;
    return rc;
}

/* Only "python" is known. */
static int32_t read_options(const char *json, char *python, size_t cap, overtake_error *err)
{
    pj j;
    char key[64];
    python[0] = '\0';
    pj_init(&j, json, strlen(json));
    if (pj_enter(&j, '{')) {
        while (pj_key(&j, key, sizeof key)) {
            if (strcmp(key, "python") != 0) {
                return fail(err, OVERTAKE_INVALID, "option '%s' is not known; there is: python",
                            key);
            }
            size_t n;
            pj_string(&j, python, cap, &n);
        }
    }
    if (!pj_end(&j)) {
        return fail(err, OVERTAKE_INVALID, "options: byte %zu: %s", j.at, j.error);
    }
    return OVERTAKE_OK;
}

/* A virtual environment's own packages are in its prefix, the standard library where "home" of its
 * pyvenv.cfg says. */
static void add_home(const interpreter *in, overtake_worker *out)
{
    char path[PATH_MAX_BYTES + 16], line[PATH_MAX_BYTES];
    snprintf(path, sizeof path, "%s/pyvenv.cfg", in->prefix);
    FILE *f = fopen(path, "rbe");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *slash, *home = strchr(line, '/');
        if (strncmp(line, "home", 4) != 0 || home == NULL) {
            continue;
        }
        home[strcspn(home, "\r\n")] = '\0';
        slash = strrchr(home, '/'); /* .../bin */
        if (slash != home) {
            *slash = '\0';
        }
        snprintf(out->read[1], sizeof out->read[1], "%s", home);
    }
    if (f != NULL) {
        fclose(f);
    }
}

static int32_t worker(const overtake_load *load, overtake_worker *out, overtake_error *err)
{
    interpreter in;
    char python[PATH_MAX_BYTES];
    int32_t rc = read_options(load->options_json, python, sizeof python, err);
    if (rc == OVERTAKE_OK && python[0] == '\0') {
        rc = find_interpreter(&in, err);
    } else if (rc == OVERTAKE_OK && (python[0] != '/' || !take_program(&in, python))) {
        rc = fail(err, OVERTAKE_INVALID,
                  "option python: '%.200s' is not the absolute path of a program: %s", python,
                  python[0] != '/' ? "it does not begin with /" : strerror(errno));
    }
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    memset(out->read, 0, sizeof out->read);
    snprintf(out->program, sizeof out->program, "%s", in.program);
    snprintf(out->read[0], sizeof out->read[0], "%s", in.prefix);
    add_home(&in, out);
    out->script = python_script;
    out->script_size = (uint64_t)(python_script_end - python_script);
    return OVERTAKE_OK;
}

/* ---- what a plug-in must have; never called, because there is `worker` */

static int32_t not_here(overtake_error *err)
{
    return fail(err, OVERTAKE_PRECONDITION, "Python code runs in a process of its own only");
}

static int32_t model_load(const overtake_load *load, overtake_model **out, overtake_error *err)
{
    (void)load;
    (void)out;
    return not_here(err);
}

static void model_unload(overtake_model *model)
{
    (void)model;
}

static int32_t model_info(const overtake_model *model, overtake_model_info *out,
                          overtake_error *err)
{
    (void)model;
    (void)out;
    return not_here(err);
}

static int32_t instance_create(overtake_model *model, overtake_instance **out, overtake_error *err)
{
    (void)model;
    (void)out;
    return not_here(err);
}

static void instance_destroy(overtake_instance *instance)
{
    (void)instance;
}

static int32_t submit(overtake_instance *instance, const overtake_submission *s,
                      overtake_error *err)
{
    (void)instance;
    (void)s;
    return not_here(err);
}

static const overtake_format formats[] = {
    {.name = "python", .pattern = "model.py", .wants_dir = 1}};

static const overtake_plugin table = {
    .struct_size = sizeof table,
    .abi_major = OVERTAKE_ABI_MAJOR,
    .abi_minor = OVERTAKE_ABI_MINOR,
    .name = "python",
    .build_id = "python 1",
    .capabilities = OVERTAKE_CAP_SCATTER | OVERTAKE_CAP_MULTI_RESPONSE | OVERTAKE_CAP_STRINGS,
    .formats = formats,
    .n_formats = 1,
    .runtime_info = runtime_info,
    .model_load = model_load,
    .model_unload = model_unload,
    .model_info = model_info,
    .instance_create = instance_create,
    .instance_destroy = instance_destroy,
    .submit = submit,
    .worker = worker,
};

const overtake_plugin *overtake_plugin_get(uint32_t abi_major, const overtake_host *given)
{
    if (abi_major != OVERTAKE_ABI_MAJOR || !OVERTAKE_HAS(given, overtake_host, find_library)) {
        return NULL;
    }
    host = given;
    return &table;
}
