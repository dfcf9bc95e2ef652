/* plugins/onnxruntime/ort_api.h against the runtime that is installed: every slot it names is
 * called, and what the call did is checked, so that a wrong index cannot stay hidden. The models
 * are written here, by hand, from ONNX's protobuf format. */
#include "../../../plugins/onnxruntime/ort_api.h"
#include "null_model.h"
#include "runtime/internal.h"

#include <dlfcn.h>

static ort_api api;
static ort_env *environment;
static ort_memory_info *cpu;
static ort_allocator *allocator;
static int logged;
/* A slot is called when its name was used through CALL; the end of main compares with the list. */
static const char *called[128];
static int n_called;

static void note(const char *name)
{
    for (int i = 0; i < n_called; i++) {
        if (strcmp(called[i], name) == 0) {
            return;
        }
    }
    called[n_called++] = name;
}
#define CALL(name) (note(#name), api.name)

static bool good(ort_status *s)
{
    if (s != NULL) {
        printf("# %s\n", CALL(GetErrorMessage)(s));
        CALL(ReleaseStatus)(s);
    }
    return s == NULL;
}

/* ---- protobuf, just enough to write a model */

typedef struct pb {
    uint8_t b[2048];
    size_t n;
} pb;

static void varint(pb *m, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) {
        m->b[m->n++] = (uint8_t)(v | 0x80);
    }
    m->b[m->n++] = (uint8_t)v;
}

static void number(pb *m, uint32_t field, uint64_t v)
{
    varint(m, field << 3);
    varint(m, v);
}

static void bytes(pb *m, uint32_t field, const void *p, size_t n)
{
    varint(m, field << 3 | 2);
    varint(m, n);
    memcpy(m->b + m->n, p, n);
    m->n += n;
}

static void text(pb *m, uint32_t field, const char *s)
{
    bytes(m, field, s, strlen(s));
}

/* ValueInfoProto: name, type { tensor_type { elem_type, shape { dim... } } } with dims "N" and,
 * when width > 0, width. */
static void value_info(pb *graph, uint32_t field, const char *name, int type, int width)
{
    pb dim = {.n = 0}, shape = {.n = 0}, tensor = {.n = 0}, kind = {.n = 0}, value = {.n = 0};
    text(&dim, 2, "N");
    bytes(&shape, 1, dim.b, dim.n);
    if (width > 0) {
        dim.n = 0;
        number(&dim, 1, (uint64_t)width);
        bytes(&shape, 1, dim.b, dim.n);
    }
    number(&tensor, 1, (uint64_t)type);
    bytes(&tensor, 2, shape.b, shape.n);
    bytes(&kind, 1, tensor.b, tensor.n);
    text(&value, 1, name);
    bytes(&value, 2, kind.b, kind.n);
    bytes(graph, field, value.b, value.n);
}

/* ModelProto with one node: x -> op -> y. */
static const char *write_model(const char *file, const char *op, int type, int width)
{
    pb node = {.n = 0}, graph = {.n = 0}, opset = {.n = 0}, model = {.n = 0};
    static char path[2][OT_PATH_MAX];
    static unsigned next;
    char *out = path[next++ % 2];
    ot_error err;
    text(&node, 1, "x");
    text(&node, 2, "y");
    text(&node, 4, op);
    bytes(&graph, 1, node.b, node.n);
    text(&graph, 2, "g");
    value_info(&graph, 11, "x", type, width);
    value_info(&graph, 12, "y", type, width);
    number(&opset, 2, 13);
    number(&model, 1, 8);
    bytes(&model, 7, graph.b, graph.n);
    bytes(&model, 8, opset.b, opset.n);
    snprintf(out, OT_PATH_MAX, "%s/%s", test_dir, file);
    ok(ot_disk_write_atomic(ot_disk_posix(), out, model.b, model.n, 0600, &err) == OT_OK,
       "a model of %zu bytes", model.n);
    return out;
}

/* ---- */

static void take_log(void *param, int severity, const char *category, const char *id,
                     const char *where, const char *message)
{
    (void)category;
    (void)id;
    logged += param == &logged && severity >= ORT_LOG_ERROR && where != NULL && message != NULL;
}

static void test_environment(void)
{
    ok(good(CALL(CreateEnvWithCustomLogger)(take_log, &logged, ORT_LOG_ERROR, "test",
                                            &environment)) &&
           environment != NULL,
       "an environment");
    ok(good(CALL(DisableTelemetryEvents)(environment)), "no telemetry");
    ok(good(CALL(CreateCpuMemoryInfo)(ORT_DEVICE_ALLOCATOR, ORT_MEM_DEFAULT, &cpu)) && cpu != NULL,
       "memory information");
    ok(good(CALL(GetAllocatorWithDefaultOptions)(&allocator)) && allocator != NULL, "an allocator");
}

static ort_session_options *test_options(void)
{
    ort_session_options *o = NULL;
    ok(good(CALL(CreateSessionOptions)(&o)) && o != NULL, "session options");
    ok(good(CALL(SetSessionExecutionMode)(o, ORT_SEQUENTIAL)), "sequential");
    ok(good(CALL(DisableMemPattern)(o)), "no memory pattern");
    ok(good(CALL(DisableCpuMemArena)(o)), "no arena");
    ok(good(CALL(SetSessionGraphOptimizationLevel)(o, ORT_OPTIMIZE_ALL)), "optimised");
    ort_status *s = CALL(SetSessionGraphOptimizationLevel)(o, 12345);
    ok(s != NULL, "a level that doesn't exist is refused: %s",
       s != NULL ? CALL(GetErrorMessage)(s) : "");
    CALL(ReleaseStatus)(s);
    ok(good(CALL(SetIntraOpNumThreads)(o, 1)), "one thread");
    ok(good(CALL(SetInterOpNumThreads)(o, 1)), "one thread between operations");
    ok(good(CALL(AddSessionConfigEntry)(o, "session.intra_op.allow_spinning", "0")), "no spinning");
    s = CALL(AddSessionConfigEntry)(o, "", "0");
    ok(s != NULL, "an entry without a key is refused: %s",
       s != NULL ? CALL(GetErrorMessage)(s) : "");
    CALL(ReleaseStatus)(s);
    return o;
}

static void test_bad_model(const ort_session_options *o)
{
    ort_session *session = NULL;
    ort_status *s = CALL(CreateSession)(environment, "/nonexistent.onnx", o, &session);
    ok(s != NULL && CALL(GetErrorCode)(s) == ORT_NO_SUCHFILE, "a missing file has its code: %s",
       s != NULL ? CALL(GetErrorMessage)(s) : "");
    CALL(ReleaseStatus)(s);
    s = CALL(CreateSession)(environment, write_file("bad.onnx", "not a model"), o, &session);
    ok(s != NULL &&
           (CALL(GetErrorCode)(s) == ORT_INVALID_PROTOBUF || CALL(GetErrorCode)(s) == ORT_FAIL),
       "a file that is no model: %s", s != NULL ? CALL(GetErrorMessage)(s) : "");
    CALL(ReleaseStatus)(s);
}

/* The type and shape of one side of the session. */
static void check_type(ort_type_info *type, int want_type, int width, const char *what)
{
    const ort_tensor_info *info = NULL;
    int kind = -1, element = -1;
    size_t rank = 0;
    int64_t dims[2] = {0, 0};
    const char *symbols[2] = {NULL, NULL};
    ok(good(CALL(GetOnnxTypeFromTypeInfo)(type, &kind)) && kind == ORT_TYPE_TENSOR,
       "%s is a tensor", what);
    ok(good(CALL(CastTypeInfoToTensorInfo)(type, &info)) && info != NULL, "with a shape");
    ok(good(CALL(GetTensorElementType)(info, &element)) && element == want_type, "of type %d",
       want_type);
    ok(good(CALL(GetDimensionsCount)(info, &rank)) && rank == (width > 0 ? 2u : 1u), "its rank");
    ok(good(CALL(GetDimensions)(info, dims, rank)) && dims[0] == -1 &&
           (width == 0 || dims[1] == width),
       "its dimensions");
    ok(good(CALL(GetSymbolicDimensions)(info, symbols, rank)) && strcmp(symbols[0], "N") == 0,
       "the first is called N");
    CALL(ReleaseTypeInfo)(type);
}

static void test_signature(const ort_session *session, int type, int width)
{
    size_t n_in = 0, n_out = 0;
    char *in = NULL, *out = NULL;
    ort_type_info *info = NULL;
    ok(good(CALL(SessionGetInputCount)(session, &n_in)) && n_in == 1, "one input");
    ok(good(CALL(SessionGetOutputCount)(session, &n_out)) && n_out == 1, "one output");
    ok(good(CALL(SessionGetInputName)(session, 0, allocator, &in)) && strcmp(in, "x") == 0,
       "the input is x");
    ok(good(CALL(SessionGetOutputName)(session, 0, allocator, &out)) && strcmp(out, "y") == 0,
       "the output is y");
    ok(good(CALL(AllocatorFree)(allocator, in)) && good(CALL(AllocatorFree)(allocator, out)),
       "names are given back");
    ok(good(CALL(SessionGetInputTypeInfo)(session, 0, &info)), "the input's type");
    check_type(info, type, width, "x");
    ok(good(CALL(SessionGetOutputTypeInfo)(session, 0, &info)), "the output's type");
    check_type(info, type, width, "y");
}

static void check_output(ort_value *y, const float want[4])
{
    ort_tensor_info *info = NULL;
    void *data = NULL;
    int tensor = 0;
    int64_t dims[2] = {0, 0};
    ok(good(CALL(IsTensor)(y, &tensor)) && tensor == 1, "the answer is a tensor");
    ok(good(CALL(GetTensorTypeAndShape)(y, &info)), "its type and shape");
    ok(good(CALL(GetDimensions)(info, dims, 2)) && dims[0] == 2 && dims[1] == 2, "two by two");
    CALL(ReleaseTensorTypeAndShapeInfo)(info);
    ok(good(CALL(GetTensorMutableData)(y, &data)) && memcmp(data, want, 16) == 0, "its data");
}

static void test_run(ort_session *session)
{
    float x[4] = {1, -2, 3, -4}, y[4] = {9, 9, 9, 9};
    const float want[4] = {1, 0, 3, 0};
    const int64_t dims[2] = {2, 2};
    const char *in_name = "x", *out_name = "y";
    ort_value *in = NULL, *out = NULL;
    ort_run_options *o = NULL;
    ok(good(CALL(CreateTensorWithDataAsOrtValue)(cpu, x, sizeof x, dims, 2, 1, &in)) && in != NULL,
       "a tensor over memory of ours");
    ok(good(CALL(CreateRunOptions)(&o)) && o != NULL, "run options");
    const ort_value *ins[1] = {in};
    ok(good(CALL(Run)(session, o, &in_name, ins, 1, &out_name, 1, &out)) && out != NULL, "a run");
    check_output(out, want);
    CALL(ReleaseValue)(out);
    ok(good(CALL(CreateTensorWithDataAsOrtValue)(cpu, y, sizeof y, dims, 2, 1, &out)),
       "an output over memory of ours");
    ok(good(CALL(Run)(session, o, &in_name, ins, 1, &out_name, 1, &out)) &&
           memcmp(y, want, sizeof y) == 0,
       "is written in place");
    CALL(ReleaseValue)(out);
    out = NULL;
    ok(good(CALL(RunOptionsSetTerminate)(o)), "terminate");
    ort_status *s = CALL(Run)(session, o, &in_name, ins, 1, &out_name, 1, &out);
    ok(s != NULL, "ends a run: %s", s != NULL ? CALL(GetErrorMessage)(s) : "");
    CALL(ReleaseStatus)(s);
    ok(good(CALL(RunOptionsUnsetTerminate)(o)) &&
           good(CALL(Run)(session, o, &in_name, ins, 1, &out_name, 1, &out)),
       "until it is unset");
    CALL(ReleaseValue)(out);
    out = NULL;
    out_name = "z";
    s = CALL(Run)(session, o, &in_name, ins, 1, &out_name, 1, &out);
    ok(s != NULL && CALL(GetErrorCode)(s) == ORT_INVALID_ARGUMENT, "an unknown output: %s",
       s != NULL ? CALL(GetErrorMessage)(s) : "");
    CALL(ReleaseStatus)(s);
    CALL(ReleaseRunOptions)(o);
    CALL(ReleaseValue)(in);
}

static void test_strings(ort_session *session)
{
    const char *const strings[2] = {"abc", ""}, *in_name = "x", *out_name = "y";
    const int64_t dims[1] = {2};
    ort_value *in = NULL, *out = NULL;
    size_t n = 0, offsets[2] = {9, 9};
    char content[4] = "";
    ok(good(CALL(CreateTensorAsOrtValue)(allocator, dims, 1, 8, &in)), "a string tensor");
    ok(good(CALL(FillStringTensor)(in, strings, 2)), "two strings");
    const ort_value *ins[1] = {in};
    ok(good(CALL(Run)(session, NULL, &in_name, ins, 1, &out_name, 1, &out)), "a run");
    ok(good(CALL(GetStringTensorDataLength)(out, &n)) && n == 3, "three bytes come back");
    ok(good(CALL(GetStringTensorContent)(out, content, 3, offsets, 2)) &&
           memcmp(content, "abc", 3) == 0 && offsets[0] == 0 && offsets[1] == 3,
       "abc and nothing");
    CALL(ReleaseValue)(in);
    CALL(ReleaseValue)(out);
}

static void test_all_were_called(void)
{
    static const char *const names[] = {
#define NAME(slot, result, name, args) #name,
        ORT_SLOTS(NAME)
#undef NAME
    };
    int missing = 0;
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        bool found = false;
        for (int k = 0; k < n_called; k++) {
            found = found || strcmp(called[k], names[i]) == 0;
        }
        if (!found) {
            printf("# not called: %s\n", names[i]);
            missing++;
        }
    }
    is_int(missing, 0, "all %zu slots were called", OT_COUNT(names));
}

static const ort_api_base *open_runtime(void)
{
    static const char *const globs[] = {"onnxruntime/capi/libonnxruntime.so.*", NULL};
    static const char *const system_names[] = {"libonnxruntime.so.1", NULL};
    const overtake_library_query q = {.struct_size = sizeof q,
                                      .env = "OVERTAKE_ONNXRUNTIME_LIB",
                                      .site_globs = globs,
                                      .system_names = system_names};
    const overtake_host *host = ot_runtime_host();
    char path[OT_PATH_MAX];
    for (uint32_t i = 0; host->find_library(host->self, &q, i, path, sizeof path) == OVERTAKE_OK;
         i++) {
        void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        void *symbol = handle != NULL ? dlsym(handle, "OrtGetApiBase") : NULL;
        ort_get_api_base_fn *get;
        if (symbol != NULL) {
            memcpy(&get, &symbol, sizeof get);
            printf("# %s\n", path);
            return get();
        }
    }
    return NULL;
}

/* The same model from memory. */
static void test_from_bytes(const ort_session_options *o)
{
    ort_session *session = NULL;
    OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
    ot_error err;
    ok(ot_disk_read_all(ot_disk_posix(), write_model("relu2.onnx", "Relu", 1, 2), 1 << 16, &bytes,
                        &err) == OT_OK,
       "its bytes");
    ok(good(CALL(CreateSessionFromArray)(environment, bytes.data, bytes.len, o, &session)),
       "a session from bytes");
    test_signature(session, 1, 2);
    CALL(ReleaseSession)(session);
}

int main(void)
{
    const ort_api_base *base = open_runtime();
    if (base == NULL) {
        skip("no ONNX Runtime is installed: pip install onnxruntime");
        return tap_done();
    }
    const void *table = base->GetApi(ORT_API_ASKED);
    if (!ok(table != NULL, "API %d of version %s", ORT_API_ASKED, base->GetVersionString())) {
        return tap_done();
    }
    test_dir_make();
    ort_api_bind(table, &api);
    test_environment();
    ort_session_options *o = test_options();
    test_bad_model(o);
    ort_session *relu = NULL, *strings = NULL;
    ok(good(CALL(CreateSession)(environment, write_model("relu.onnx", "Relu", 1, 2), o, &relu)),
       "a session");
    test_signature(relu, 1, 2);
    test_run(relu);
    test_from_bytes(o);
    ok(good(CALL(CreateSession)(environment, write_model("s.onnx", "Identity", 8, 0), o, &strings)),
       "a session with strings");
    test_signature(strings, 8, 0);
    test_strings(strings);
    printf("# %d lines of log from the runtime\n", logged);
    CALL(ReleaseSession)(relu);
    CALL(ReleaseSession)(strings);
    CALL(ReleaseSessionOptions)(o);
    CALL(ReleaseMemoryInfo)(cpu);
    CALL(ReleaseEnv)(environment);
    test_all_were_called();
    test_dir_remove();
    return tap_done();
}
