/* Finding and loading TensorFlow; the plug-in's table. */
#include "tf.h"
#include "tf_quiet.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const overtake_host *tf_host;
tf_api tf;
static char library[4096];

int32_t tf_fail(overtake_error *err, int32_t code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    return code;
}

int32_t tf_check(const TF_Status *status, overtake_error *err, const char *what)
{
    unsigned code =
        tf.GetCode(status); /* the canonical codes of gRPC, like ours but for the sign */
    if (code == 0) {
        return OVERTAKE_OK;
    }
    return tf_fail(err, code <= 16 ? -(int32_t)code : OVERTAKE_INTERNAL, "%s: %s", what,
                   tf.Message(status));
}

static bool bind(void *handle, const char **missing)
{
    struct {
        const char *name;
        void *to;
    } functions[] = {
#define TF_ENTRY(result, name, args) {"TF_" #name, &tf.name},
        TF_FUNCTIONS(TF_ENTRY)
#undef TF_ENTRY
    };
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *symbol = dlsym(handle, functions[i].name);
        if (symbol == NULL) {
            *missing = functions[i].name;
            return false;
        }
        memcpy(functions[i].to, &symbol, sizeof symbol);
    }
    return true;
}

static int32_t load_first(overtake_error *err)
{
    static const char *const globs[] = {"tensorflow/libtensorflow_cc.so.2", NULL};
    static const char *const names[] = {"libtensorflow_cc.so.2", "libtensorflow.so.2", NULL};
    const overtake_library_query query = {
        .struct_size = sizeof query,
        .env = "OVERTAKE_TENSORFLOW_LIB",
        .site_globs = globs,
        .system_names = names,
    };
    char path[4096], first[OVERTAKE_ERROR_MAX / 2] = "none found";
    /* What goes wrong comes back as a status and needs no line on stderr. A user's own setting
     * stays. */
    setenv("TF_CPP_MIN_LOG_LEVEL", "3", 0);
    for (uint32_t i = 0;
         tf_host->find_library(tf_host->self, &query, i, path, sizeof path) == OVERTAKE_OK; i++) {
        const char *missing = NULL;
        void *handle = tf_quiet_dlopen(path); /* never unloaded: it has threads */
        if (handle != NULL && bind(handle, &missing)) {
            snprintf(library, sizeof library, "%s", path);
            return OVERTAKE_OK;
        }
        if (i == 0) {
            const char *why = handle == NULL ? dlerror() : missing;
            snprintf(first, sizeof first, "%s%s", handle != NULL ? "it lacks " : "",
                     why != NULL ? why : path);
        }
    }
    return tf_fail(err, OVERTAKE_UNAVAILABLE,
                   "no usable libtensorflow_cc.so.2 (%s); pip install tensorflow-cpu in the active "
                   "Python environment, or set OVERTAKE_TENSORFLOW_LIB to the library",
                   first);
}

int32_t tf_runtime_load(overtake_error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool loaded;
    pthread_mutex_lock(&lock);
    int32_t rc = loaded ? OVERTAKE_OK : load_first(err);
    loaded = loaded || rc == OVERTAKE_OK;
    pthread_mutex_unlock(&lock);
    return rc;
}

static int32_t runtime_info(overtake_runtime_info *out, overtake_error *err)
{
    int32_t rc = tf_runtime_load(err);
    if (rc == OVERTAKE_OK) {
        out->version = tf.Version();
        out->library = library;
    }
    return rc;
}

static const overtake_format formats[] = {
    {.name = "saved_model", .pattern = "saved_model.pb", .wants_dir = 1}};

static const overtake_plugin table = {
    .struct_size = sizeof table,
    .abi_major = OVERTAKE_ABI_MAJOR,
    .abi_minor = OVERTAKE_ABI_MINOR,
    .name = "tensorflow",
    .build_id = "tensorflow 1",
    .capabilities =
        OVERTAKE_CAP_SCATTER | OVERTAKE_CAP_DEADLINE | OVERTAKE_CAP_STRINGS | OVERTAKE_CAP_ESTIMATE,
    .formats = formats,
    .n_formats = 1,
    .runtime_info = runtime_info,
    .model_estimate = tf_model_estimate,
    .model_load = tf_model_load,
    .model_unload = tf_model_unload,
    .model_info = tf_model_info,
    .instance_create = tf_instance_create,
    .instance_destroy = tf_instance_destroy,
    .submit = tf_submit,
    .release = tf_release,
    .model_view = tf_model_view,
};

const overtake_plugin *overtake_plugin_get(uint32_t abi_major, const overtake_host *host)
{
    if (abi_major != OVERTAKE_ABI_MAJOR || !OVERTAKE_HAS(host, overtake_host, find_library)) {
        return NULL;
    }
    tf_host = host;
    return &table;
}
