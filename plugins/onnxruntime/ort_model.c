/* Sessions: options, loading, the signature. */
#include "../common/json.h"
#include "ort.h"
#include "ort_mapped.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct options {
    enum { SESSIONS_AUTO, SESSIONS_SHARED, SESSIONS_PER_INSTANCE } sessions;
    int64_t optimization; /* GraphOptimizationLevel */
    bool arena;
} options;

/* ONNX's TensorProto.DataType to ours; index is the ONNX type. */
static const int32_t dtype_of_type[] = {
    [1] = OVERTAKE_DT_FP32,    [2] = OVERTAKE_DT_UINT8, [3] = OVERTAKE_DT_INT8,
    [4] = OVERTAKE_DT_UINT16,  [5] = OVERTAKE_DT_INT16, [6] = OVERTAKE_DT_INT32,
    [7] = OVERTAKE_DT_INT64,   [8] = OVERTAKE_DT_BYTES, [9] = OVERTAKE_DT_BOOL,
    [10] = OVERTAKE_DT_FP16,   [11] = OVERTAKE_DT_FP64, [12] = OVERTAKE_DT_UINT32,
    [13] = OVERTAKE_DT_UINT64, [16] = OVERTAKE_DT_BF16,
};
#define N_TYPES (int)(sizeof dtype_of_type / sizeof dtype_of_type[0])

int32_t ort_dtype_of(int type)
{
    return type > 0 && type < N_TYPES ? dtype_of_type[type] : OVERTAKE_DT_INVALID;
}

int ort_type_of(int32_t dtype)
{
    for (int t = 1; t < N_TYPES; t++) {
        if (dtype_of_type[t] == dtype && dtype != OVERTAKE_DT_INVALID) {
            return t;
        }
    }
    return 0;
}

uint32_t ort_dtype_size(int32_t dtype)
{
    static const uint8_t sizes[] = {0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, 0};
    return dtype >= 0 && dtype < (int32_t)sizeof sizes ? sizes[dtype] : 0;
}

static int32_t read_options(const char *json, options *o, overtake_error *err)
{
    static const char *const words[] = {"auto", "shared", "per_instance"};
    pj j;
    char key[32], text[32];
    pj_init(&j, json, strlen(json));
    pj_enter(&j, '{');
    while (pj_key(&j, key, sizeof key)) {
        if (strcmp(key, "sessions") == 0) {
            int found = -1;
            pj_string(&j, text, sizeof text, NULL);
            for (int i = 0; j.error == NULL && i < 3; i++) {
                found = strcmp(words[i], text) == 0 ? i : found;
            }
            if (found < 0) {
                return ort_fail(err, OVERTAKE_INVALID,
                                "option 'sessions' is auto, shared or per_instance");
            }
            o->sessions = found == 0   ? SESSIONS_AUTO
                          : found == 1 ? SESSIONS_SHARED
                                       : SESSIONS_PER_INSTANCE;
        } else if (strcmp(key, "optimization") == 0) {
            pj_int(&j, 0, ORT_OPTIMIZE_ALL, &o->optimization);
        } else if (strcmp(key, "arena") == 0) {
            pj_bool(&j, &o->arena);
        } else {
            return ort_fail(err, OVERTAKE_INVALID,
                            "option '%s' is not known; sessions, optimization and arena are", key);
        }
    }
    return pj_end(&j) ? OVERTAKE_OK
                      : ort_fail(err, OVERTAKE_INVALID, "options: byte %zu: %s", j.at, j.error);
}

#define TRY_ORT(call)                                                                              \
    do {                                                                                           \
        int32_t rc_ = ort_check((call), err, what);                                                \
        if (rc_ != OVERTAKE_OK) {                                                                  \
            return rc_;                                                                            \
        }                                                                                          \
    } while (0)

/* As soon as it can run: the graph as it is and the weights where they were read, without the
 * optimisations and packed copies that take most of the time of loading a large model. */
static int32_t make_quick(overtake_model *m, overtake_error *err)
{
    const char *what = "session options";
    TRY_ORT(ort.api.SetSessionGraphOptimizationLevel(m->options, ORT_OPTIMIZE_NONE));
    TRY_ORT(ort.api.AddSessionConfigEntry(m->options, "session.disable_prepacking", "1"));
    return OVERTAKE_OK;
}

static int32_t make_options(overtake_model *m, const options *o, uint32_t threads,
                            overtake_error *err)
{
    const char *what = "session options";
    TRY_ORT(ort.api.CreateSessionOptions(&m->options));
    TRY_ORT(ort.api.SetIntraOpNumThreads(m->options, (int)threads));
    TRY_ORT(ort.api.SetInterOpNumThreads(m->options, 1));
    TRY_ORT(ort.api.SetSessionExecutionMode(m->options, ORT_SEQUENTIAL));
    TRY_ORT(ort.api.SetSessionGraphOptimizationLevel(m->options, (int)o->optimization));
    TRY_ORT(ort.api.AddSessionConfigEntry(m->options, "session.intra_op.allow_spinning", "0"));
    TRY_ORT(ort.api.AddSessionConfigEntry(m->options, "session.inter_op.allow_spinning", "0"));
    /* Batches come in every size: a plan of memory for each would only pile up. */
    TRY_ORT(ort.api.DisableMemPattern(m->options));
    if (!o->arena) {
        TRY_ORT(ort.api.DisableCpuMemArena(m->options));
    }
    return m->quick ? make_quick(m, err) : OVERTAKE_OK;
}

/* ---- signature */

static int32_t fill_shape(const ort_tensor_info *info, overtake_spec *spec, const char **symbol,
                          overtake_error *err)
{
    const char *what = spec->name, *symbols[OVERTAKE_RANK_MAX] = {NULL};
    int type;
    size_t rank;
    TRY_ORT(ort.api.GetTensorElementType(info, &type));
    spec->dtype = ort_dtype_of(type);
    if (spec->dtype == OVERTAKE_DT_INVALID) {
        return ort_fail(err, OVERTAKE_INVALID,
                        "'%s' has ONNX element type %d, which is not "
                        "supported",
                        what, type);
    }
    TRY_ORT(ort.api.GetDimensionsCount(info, &rank));
    if (rank > OVERTAKE_RANK_MAX) {
        return ort_fail(err, OVERTAKE_INVALID, "'%s' has %zu axes; the limit is %d", what, rank,
                        OVERTAKE_RANK_MAX);
    }
    spec->rank = (int32_t)rank;
    TRY_ORT(ort.api.GetDimensions(info, spec->dims, rank));
    TRY_ORT(ort.api.GetSymbolicDimensions(info, symbols, rank));
    for (size_t i = 0; i < rank; i++) {
        spec->dims[i] = spec->dims[i] < 0 ? -1 : spec->dims[i];
    }
    *symbol = rank > 0 && spec->dims[0] == -1 && symbols[0] != NULL ? symbols[0] : "";
    return OVERTAKE_OK;
}

static int32_t fill_spec(const ort_type_info *type, overtake_spec *spec, char symbol[64],
                         overtake_error *err)
{
    const char *what = spec->name, *name = "";
    const ort_tensor_info *info = NULL;
    int kind;
    TRY_ORT(ort.api.GetOnnxTypeFromTypeInfo(type, &kind));
    if (kind != ORT_TYPE_TENSOR) {
        return ort_fail(err, OVERTAKE_INVALID,
                        "'%s' is a %s, not a tensor; export the model without it (skl2onnx: "
                        "options={'zipmap': False})",
                        what,
                        kind == ORT_TYPE_SEQUENCE ? "sequence"
                        : kind == ORT_TYPE_MAP    ? "map"
                                                  : "value of another type");
    }
    TRY_ORT(ort.api.CastTypeInfoToTensorInfo(type, &info));
    int32_t rc = fill_shape(info, spec, &name, err);
    if (rc == OVERTAKE_OK) {
        snprintf(symbol, 64, "%s", name);
    }
    return rc;
}

/* Input or output `i`: its name is the runtime's until unload. */
static int32_t read_spec(overtake_model *m, bool input, size_t i, overtake_spec *spec,
                         char symbol[64], overtake_error *err)
{
    const char *what = m->path;
    char *name = NULL;
    ort_type_info *type = NULL;
    TRY_ORT(input ? ort.api.SessionGetInputName(m->session, i, ort.allocator, &name)
                  : ort.api.SessionGetOutputName(m->session, i, ort.allocator, &name));
    spec->name = name;
    TRY_ORT(input ? ort.api.SessionGetInputTypeInfo(m->session, i, &type)
                  : ort.api.SessionGetOutputTypeInfo(m->session, i, &type));
    int32_t rc = fill_spec(type, spec, symbol, err);
    ort.api.ReleaseTypeInfo(type);
    return rc;
}

/* Axis 0 is the batch when every input has it free; an output follows it when it has the same
 * symbol there and is otherwise fixed. */
static bool follows(const overtake_spec *out, const char *symbol, const char *batch)
{
    if (out->rank == 0 || out->dims[0] != -1 || batch[0] == '\0' || strcmp(symbol, batch) != 0) {
        return false;
    }
    for (int32_t i = 1; i < out->rank; i++) {
        if (out->dims[i] == -1) {
            return false;
        }
    }
    return ort_dtype_size(out->dtype) > 0;
}

static int32_t read_signature(overtake_model *m, overtake_error *err)
{
    const char *what = m->path;
    size_t n_in, n_out;
    char batch[64] = "", symbol[64];
    TRY_ORT(ort.api.SessionGetInputCount(m->session, &n_in));
    TRY_ORT(ort.api.SessionGetOutputCount(m->session, &n_out));
    if (n_in > ORT_INPUTS_MAX || n_out > ORT_OUTPUTS_MAX) {
        return ort_fail(err, OVERTAKE_INVALID,
                        "%s: %zu inputs and %zu outputs; the limits are %d and %d", m->path, n_in,
                        n_out, ORT_INPUTS_MAX, ORT_OUTPUTS_MAX);
    }
    m->batch_axis = n_in > 0 ? 0 : -1;
    for (size_t i = 0; i < n_in; i++) {
        int32_t rc = read_spec(m, true, i, &m->inputs[i], symbol, err);
        m->n_inputs += m->inputs[i].name != NULL;
        if (rc != OVERTAKE_OK) {
            return rc;
        }
        if (m->inputs[i].rank == 0 || m->inputs[i].dims[0] != -1) {
            m->batch_axis = -1;
        }
        if (i == 0 || strcmp(batch, symbol) != 0) {
            snprintf(batch, sizeof batch, "%s", i == 0 ? symbol : "");
        }
    }
    for (size_t i = 0; i < n_out; i++) {
        int32_t rc = read_spec(m, false, i, &m->outputs[i], symbol, err);
        m->n_outputs += m->outputs[i].name != NULL;
        if (rc != OVERTAKE_OK) {
            return rc;
        }
        m->rows_known[i] = m->batch_axis == 0 && follows(&m->outputs[i], symbol, batch);
        if (m->outputs[i].rank == 0 || m->outputs[i].dims[0] != -1) {
            m->batch_axis = -1; /* an answer that has no row for each row of the question */
        }
    }
    return OVERTAKE_OK;
}

/* ---- loading */

static uint64_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

int32_t ort_model_estimate(const overtake_load *load, uint64_t *bytes, overtake_error *err)
{
    uint64_t size = file_size(load->path);
    if (size == 0) {
        return ort_fail(err, OVERTAKE_NOT_FOUND, "%s: missing or empty", load->path);
    }
    *bytes = 2 * size + (4u << 20); /* the weights, and packed copies of most */
    return OVERTAKE_OK;
}

/* A quick session of weights that stay in the file; false: the runtime is too old for it, or the
 * model is of another kind. The file is not changed while the session lives: it is a bundle's. */
static bool open_mapped(overtake_model *m)
{
    char folder[4096];
    const char *slash = strrchr(m->path, '/');
    const char *name = slash != NULL ? slash + 1 : m->path;
    size_t length = (size_t)(name - m->path);
    uint8_t *model = NULL;
    size_t n = 0;
    int fd = open(m->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || length >= sizeof folder) {
        (void)(fd >= 0 && close(fd));
        return false;
    }
    snprintf(folder, sizeof folder, "%.*s", (int)length, length > 0 ? m->path : "./");
    void *data = mmap(NULL, m->file_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) {
        return false;
    }
    bool made = ort_mapped_model(data, m->file_bytes, name, &model, &n);
    munmap(data, m->file_bytes);
    overtake_error ignored;
    bool ok =
        made &&
        ort_check(ort.api.AddSessionConfigEntry(
                      m->options, "session.model_external_initializers_file_folder_path", folder),
                  &ignored, "mapped") == OVERTAKE_OK &&
        ort_check(ort.api.CreateSessionFromArray(ort.env, model, n, m->options, &m->session),
                  &ignored, "mapped") == OVERTAKE_OK;
    free(model);
    return ok;
}

static int32_t open_session(overtake_model *m, overtake_error *err)
{
    if (m->quick && open_mapped(m)) {
        return OVERTAKE_OK;
    }
    return ort_check(ort.api.CreateSession(ort.env, m->path, m->options, &m->session), err,
                     "not a model that ONNX Runtime loads");
}

static int32_t load_into(overtake_model *m, const overtake_load *load, overtake_error *err)
{
    options o = {.optimization = ORT_OPTIMIZE_ALL, .arena = true};
    int32_t rc = read_options(load->options_json, &o, err);
    size_t n = strlen(load->path) + 1;
    if (rc == OVERTAKE_OK && (m->path = ort_host->alloc(ort_host->self, n)) == NULL) {
        rc = ort_fail(err, OVERTAKE_EXHAUSTED, "%s: out of memory", load->path);
    }
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    memcpy(m->path, load->path, n);
    m->file_bytes = file_size(m->path);
    m->per_instance = o.sessions == SESSIONS_PER_INSTANCE ||
                      (o.sessions == SESSIONS_AUTO && m->file_bytes <= ORT_SMALL_MODEL);
    m->quick = !m->per_instance && OVERTAKE_HAS(load, overtake_load, quick) && load->quick != 0;
    if ((rc = make_options(m, &o, load->threads, err)) != OVERTAKE_OK ||
        (rc = open_session(m, err)) != OVERTAKE_OK) {
        return rc;
    }
    return read_signature(m, err);
}

int32_t ort_model_load(const overtake_load *load, overtake_model **out, overtake_error *err)
{
    int32_t rc = ort_runtime_load(err);
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    overtake_model *m = ort_host->alloc(ort_host->self, sizeof *m);
    if (m == NULL) {
        return ort_fail(err, OVERTAKE_EXHAUSTED, "%s: out of memory", load->path);
    }
    memset(m, 0, sizeof *m);
    atomic_init(&m->session_taken, false);
    rc = load_into(m, load, err);
    if (rc != OVERTAKE_OK) {
        ort_model_unload(m);
        return rc;
    }
    *out = m;
    return OVERTAKE_OK;
}

static void free_names(overtake_spec *specs, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        void *name;
        memcpy(&name, &specs[i].name, sizeof name);
        ort_status *status = ort.api.AllocatorFree(ort.allocator, name);
        if (status != NULL) {
            ort.api.ReleaseStatus(status);
        }
    }
}

void ort_model_unload(overtake_model *m)
{
    free_names(m->inputs, m->n_inputs);
    free_names(m->outputs, m->n_outputs);
    if (m->session != NULL) {
        ort.api.ReleaseSession(m->session);
    }
    if (m->options != NULL) {
        ort.api.ReleaseSessionOptions(m->options);
    }
    ort_host->free(ort_host->self, m->path);
    ort_host->free(ort_host->self, m);
}

int32_t ort_model_info(const overtake_model *m, overtake_model_info *out, overtake_error *err)
{
    (void)err;
    overtake_model_info all = {
        .struct_size = out->struct_size,
        .n_inputs = m->n_inputs,
        .n_outputs = m->n_outputs,
        .inputs = m->inputs,
        .outputs = m->outputs,
        .batch_axis = m->batch_axis,
        .max_in_flight = 1,
        .memory_bytes = 2 * m->file_bytes,
        .instance_memory_bytes = m->per_instance ? 2 * m->file_bytes : 0,
        .quick = m->quick,
    };
    memcpy(out, &all, out->struct_size < sizeof all ? out->struct_size : sizeof all);
    return OVERTAKE_OK;
}
