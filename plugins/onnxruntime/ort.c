/* Finding and starting ONNX Runtime; the plug-in's table. */
#include "ort.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const overtake_host *ort_host;
ort_runtime ort;

int32_t ort_fail(overtake_error *err, int32_t code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    return code;
}

static int32_t code_of(int ort_code)
{
    switch (ort_code) {
    case ORT_INVALID_ARGUMENT:
    case ORT_NO_MODEL:
    case ORT_INVALID_PROTOBUF:
    case ORT_INVALID_GRAPH:
        return OVERTAKE_INVALID;
    case ORT_NO_SUCHFILE:
        return OVERTAKE_NOT_FOUND;
    case ORT_NOT_IMPLEMENTED:
        return OVERTAKE_UNIMPLEMENTED;
    default:
        return OVERTAKE_INTERNAL;
    }
}

int32_t ort_check(ort_status *status, overtake_error *err, const char *what)
{
    if (status == NULL) {
        return OVERTAKE_OK;
    }
    int32_t code = code_of(ort.api.GetErrorCode(status));
    ort_fail(err, code, "%s: %s", what, ort.api.GetErrorMessage(status));
    ort.api.ReleaseStatus(status);
    return code;
}

/* What the runtime calls an error also comes back as a status, which is answered; so its log is
 * background for whoever asks for more. */
static void take_log(void *param, int severity, const char *category, const char *id,
                     const char *where, const char *message)
{
    (void)param;
    (void)category;
    (void)id;
    char text[1024];
    snprintf(text, sizeof text, "%s (%s)", message, where);
    ort_host->log(ort_host->self,
                  severity >= ORT_LOG_FATAL ? OVERTAKE_LOG_ERROR : OVERTAKE_LOG_DEBUG,
                  "onnxruntime", text);
}

static int32_t start(const char *path, void *handle, overtake_error *err)
{
    ort_get_api_base_fn *get_base = NULL;
    void *symbol = dlsym(handle, "OrtGetApiBase");
    memcpy(&get_base, &symbol, sizeof get_base);
    if (get_base == NULL) {
        return ort_fail(err, OVERTAKE_UNAVAILABLE, "%s: has no OrtGetApiBase", path);
    }
    const ort_api_base *base = get_base();
    const void *table = base->GetApi(ORT_API_ASKED);
    if (table == NULL) {
        return ort_fail(err, OVERTAKE_UNAVAILABLE,
                        "%s: version %s lacks API %d; release 1.16 or later is needed", path,
                        base->GetVersionString(), ORT_API_ASKED);
    }
    ort_api_bind(table, &ort.api);
    snprintf(ort.version, sizeof ort.version, "%s", base->GetVersionString());
    snprintf(ort.library, sizeof ort.library, "%s", path);
    int32_t rc = ort_check(
        ort.api.CreateEnvWithCustomLogger(take_log, NULL, ORT_LOG_ERROR, "overtake", &ort.env), err,
        path);
    if (rc == OVERTAKE_OK) {
        rc = ort_check(ort.api.DisableTelemetryEvents(ort.env), err, path);
    }
    if (rc == OVERTAKE_OK) {
        rc = ort_check(ort.api.CreateCpuMemoryInfo(ORT_DEVICE_ALLOCATOR, ORT_MEM_DEFAULT, &ort.cpu),
                       err, path);
    }
    if (rc == OVERTAKE_OK) {
        rc = ort_check(ort.api.GetAllocatorWithDefaultOptions(&ort.allocator), err, path);
    }
    return rc;
}

static int32_t load_first(overtake_error *err)
{
    static const char *const globs[] = {"onnxruntime/capi/libonnxruntime.so.*",
                                        "onnxruntime/capi/libonnxruntime.so", NULL};
    static const char *const names[] = {"libonnxruntime.so.1", "libonnxruntime.so", NULL};
    const overtake_library_query query = {
        .struct_size = sizeof query,
        .env = "OVERTAKE_ONNXRUNTIME_LIB",
        .site_globs = globs,
        .system_names = names,
    };
    char path[4096];
    char first[OVERTAKE_ERROR_MAX / 2] = "none found";
    for (uint32_t i = 0;
         ort_host->find_library(ort_host->self, &query, i, path, sizeof path) == OVERTAKE_OK; i++) {
        /* Never unloaded: it has threads of its own. */
        void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (handle != NULL && start(path, handle, err) == OVERTAKE_OK) {
            return OVERTAKE_OK;
        }
        if (i == 0) {
            const char *why = handle == NULL ? dlerror() : err->message;
            snprintf(first, sizeof first, "%s", why != NULL ? why : path);
        }
    }
    return ort_fail(err, OVERTAKE_UNAVAILABLE,
                    "no usable libonnxruntime (%s); pip install onnxruntime in the active Python "
                    "environment, or set OVERTAKE_ONNXRUNTIME_LIB to the library",
                    first);
}

int32_t ort_runtime_load(overtake_error *err)
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
    int32_t rc = ort_runtime_load(err);
    if (rc == OVERTAKE_OK) {
        out->version = ort.version;
        out->library = ort.library;
    }
    return rc;
}

static const overtake_format formats[] = {{.name = "onnx", .pattern = "*.onnx"}};

static const overtake_plugin table = {
    .struct_size = sizeof table,
    .abi_major = OVERTAKE_ABI_MAJOR,
    .abi_minor = OVERTAKE_ABI_MINOR,
    .name = "onnxruntime",
    .build_id = "onnxruntime 1",
    .capabilities = OVERTAKE_CAP_SCATTER | OVERTAKE_CAP_HOST_OUTPUTS | OVERTAKE_CAP_CANCEL |
                    OVERTAKE_CAP_DEADLINE | OVERTAKE_CAP_STRINGS | OVERTAKE_CAP_ESTIMATE,
    .formats = formats,
    .n_formats = 1,
    .runtime_info = runtime_info,
    .model_estimate = ort_model_estimate,
    .model_load = ort_model_load,
    .model_unload = ort_model_unload,
    .model_info = ort_model_info,
    .instance_create = ort_instance_create,
    .instance_destroy = ort_instance_destroy,
    .submit = ort_submit,
    .cancel = ort_cancel,
    .release = ort_release,
};

const overtake_plugin *overtake_plugin_get(uint32_t abi_major, const overtake_host *host)
{
    if (abi_major != OVERTAKE_ABI_MAJOR || !OVERTAKE_HAS(host, overtake_host, find_library)) {
        return NULL;
    }
    ort_host = host;
    return &table;
}
