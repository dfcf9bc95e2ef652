/* Sessions: configuration, loading, the signature bound to the graph. */
#include "../common/json.h"
#include "tf.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct options {
    char signature[TF_KEY_MAX]; /* "": choose */
    char tag[64];
    bool single_threaded;
} options;

static const struct {
    int type;
    int32_t dtype;
} types[] = {
    {TFT_FLOAT, OVERTAKE_DT_FP32},    {TFT_DOUBLE, OVERTAKE_DT_FP64},
    {TFT_INT32, OVERTAKE_DT_INT32},   {TFT_UINT8, OVERTAKE_DT_UINT8},
    {TFT_INT16, OVERTAKE_DT_INT16},   {TFT_INT8, OVERTAKE_DT_INT8},
    {TFT_STRING, OVERTAKE_DT_BYTES},  {TFT_INT64, OVERTAKE_DT_INT64},
    {TFT_BOOL, OVERTAKE_DT_BOOL},     {TFT_BFLOAT16, OVERTAKE_DT_BF16},
    {TFT_UINT16, OVERTAKE_DT_UINT16}, {TFT_HALF, OVERTAKE_DT_FP16},
    {TFT_UINT32, OVERTAKE_DT_UINT32}, {TFT_UINT64, OVERTAKE_DT_UINT64},
};
#define N_TYPES (sizeof types / sizeof types[0])

int32_t tf_dtype_of(int type)
{
    for (size_t i = 0; i < N_TYPES; i++) {
        if (types[i].type == type) {
            return types[i].dtype;
        }
    }
    return OVERTAKE_DT_INVALID;
}

int tf_type_of(int32_t dtype)
{
    for (size_t i = 0; i < N_TYPES; i++) {
        if (types[i].dtype == dtype) {
            return types[i].type;
        }
    }
    return 0;
}

static int32_t read_options(const char *json, options *o, overtake_error *err)
{
    pj j;
    char key[32], text[32];
    pj_init(&j, json, strlen(json));
    pj_enter(&j, '{');
    while (pj_key(&j, key, sizeof key)) {
        if (strcmp(key, "signature") == 0) {
            pj_string(&j, o->signature, sizeof o->signature, NULL);
        } else if (strcmp(key, "tag") == 0) {
            pj_string(&j, o->tag, sizeof o->tag, NULL);
        } else if (strcmp(key, "executor") == 0 && pj_string(&j, text, sizeof text, NULL)) {
            if (strcmp(text, "default") != 0 && strcmp(text, "single_threaded") != 0) {
                return tf_fail(err, OVERTAKE_INVALID,
                               "option 'executor' is default or single_threaded");
            }
            o->single_threaded = text[0] == 's';
        } else if (j.error == NULL) {
            return tf_fail(err, OVERTAKE_INVALID,
                           "option '%s' is not known; signature, tag and executor are", key);
        }
    }
    return pj_end(&j) ? OVERTAKE_OK
                      : tf_fail(err, OVERTAKE_INVALID, "options: byte %zu: %s", j.at, j.error);
}

/* A serialised ConfigProto: intra_op_parallelism_threads (2), inter_op_parallelism_threads (5) = 1,
 * use_per_session_threads (9), and experimental (16) { executor_type (3) }. */
static size_t make_config(uint32_t threads, bool single_threaded, uint8_t out[64])
{
    static const char executor[] = "SINGLE_THREADED_EXECUTOR";
    size_t n = 0;
    out[n++] = 0x10;
    for (; threads >= 0x80; threads >>= 7) {
        out[n++] = (uint8_t)(threads | 0x80);
    }
    out[n++] = (uint8_t)threads;
    static const uint8_t rest[] = {0x28, 1, 0x48, 1};
    memcpy(out + n, rest, sizeof rest);
    n += sizeof rest;
    if (single_threaded) {
        size_t len = strlen(executor);
        const uint8_t head[] = {0x82, 0x01, (uint8_t)(len + 2), 0x1a, (uint8_t)len};
        memcpy(out + n, head, sizeof head);
        memcpy(out + n + sizeof head, executor, len);
        n += sizeof head + len;
    }
    return n;
}

/* ---- signature */

static int32_t find_tensor(overtake_model *m, const tf_tensor_info *t, TF_Output *out,
                           overtake_error *err)
{
    char name[TF_KEY_MAX];
    snprintf(name, sizeof name, "%s", t->tensor);
    char *colon = strrchr(name, ':');
    long index = 0;
    if (colon != NULL) {
        *colon = '\0';
        index = strtol(colon + 1, NULL, 10);
    }
    out->oper = tf.GraphOperationByName(m->shared->graph, name);
    if (out->oper == NULL || index < 0 || index >= tf.OperationNumOutputs(out->oper)) {
        return tf_fail(err, OVERTAKE_INVALID, "'%s' stands for '%s', which the graph doesn't have",
                       t->key, t->tensor);
    }
    out->index = (int)index;
    return OVERTAKE_OK;
}

static int32_t fill_spec(const tf_tensor_info *t, overtake_spec *spec, overtake_error *err)
{
    spec->name = t->key;
    spec->dtype = tf_dtype_of(t->dtype);
    spec->rank = t->rank;
    if (spec->dtype == OVERTAKE_DT_INVALID) {
        return tf_fail(err, OVERTAKE_INVALID, "'%s' has TensorFlow type %d, which is not supported",
                       t->key, t->dtype);
    }
    if (t->rank < 0) {
        return tf_fail(err, OVERTAKE_INVALID,
                       "'%s' has no known number of axes; export the model with an input signature",
                       t->key);
    }
    memcpy(spec->dims, t->dims, sizeof spec->dims);
    return OVERTAKE_OK;
}

static bool rows_free(const overtake_spec *spec)
{
    return spec->rank > 0 && spec->dims[0] == -1;
}

static int32_t bind_signature(overtake_model *m, overtake_error *err)
{
    const tf_signature *g = m->signature;
    int32_t rc = OVERTAKE_OK;
    m->batch_axis = g->n_inputs > 0 ? 0 : -1;
    for (uint32_t i = 0; i < g->n_inputs && rc == OVERTAKE_OK; i++) {
        rc = fill_spec(&g->inputs[i], &m->inputs[i], err);
        rc = rc == OVERTAKE_OK ? find_tensor(m, &g->inputs[i], &m->feeds[i], err) : rc;
        m->batch_axis = rows_free(&m->inputs[i]) ? m->batch_axis : -1;
    }
    for (uint32_t i = 0; i < g->n_outputs && rc == OVERTAKE_OK; i++) {
        rc = fill_spec(&g->outputs[i], &m->outputs[i], err);
        rc = rc == OVERTAKE_OK ? find_tensor(m, &g->outputs[i], &m->fetches[i], err) : rc;
        m->batch_axis = rows_free(&m->outputs[i]) ? m->batch_axis : -1;
    }
    return rc;
}

/* ---- loading */

/* Bytes of the files of a SavedModel, two folders deep. */
static uint64_t tree_bytes(const char *dir, int depth)
{
    uint64_t total = 0;
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char path[4096];
        struct stat st;
        if (e->d_name[0] == '.' ||
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name) >= (int)sizeof path ||
            lstat(path, &st) != 0) {
            continue;
        }
        total += S_ISREG(st.st_mode)                ? (uint64_t)st.st_size
                 : S_ISDIR(st.st_mode) && depth > 0 ? tree_bytes(path, depth - 1)
                                                    : 0;
    }
    if (d != NULL) {
        closedir(d);
    }
    return total;
}

int32_t tf_model_estimate(const overtake_load *load, uint64_t *bytes, overtake_error *err)
{
    uint64_t size = tree_bytes(load->path, 2);
    if (size == 0) {
        return tf_fail(err, OVERTAKE_NOT_FOUND, "%s: missing or empty", load->path);
    }
    *bytes = 2 * size + (16u << 20);
    return OVERTAKE_OK;
}

/* ---- loading */

/* Reads the signatures other than the model's own; those that can't be read are left out. */
static int32_t read_others(overtake_model *m, const TF_Buffer *meta, overtake_error *err)
{
    char names[TF_SIGNATURES_MAX][TF_KEY_MAX], why[64];
    uint32_t n = tf_signature_names(meta->data, meta->length, names);
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(names[i], m->signature->name) == 0) {
            continue;
        }
        tf_signature *g = tf_host->alloc(tf_host->self, sizeof *g);
        if (g == NULL) {
            return tf_fail(err, OVERTAKE_EXHAUSTED, "signatures: out of memory");
        }
        if (tf_signature_read(meta->data, meta->length, names[i], g, why, sizeof why)) {
            m->shared->others[m->shared->n_others++] = g;
        } else {
            tf_host->free(tf_host->self, g);
        }
    }
    return OVERTAKE_OK;
}

static int32_t load_session(overtake_model *m, const overtake_load *load, const options *o,
                            TF_Status *status, overtake_error *err)
{
    uint8_t config[64];
    size_t n = make_config(load->threads, o->single_threaded, config);
    TF_SessionOptions *session_options = tf.NewSessionOptions();
    TF_Buffer *meta = tf.NewBuffer();
    const char *tags[] = {o->tag};
    tf_shared *shared = m->shared;
    shared->graph = tf.NewGraph();
    tf.SetConfig(session_options, config, n, status);
    int32_t rc = tf_check(status, err, "session configuration");
    if (rc == OVERTAKE_OK) {
        shared->session = tf.LoadSessionFromSavedModel(session_options, NULL, load->path, tags, 1,
                                                       shared->graph, meta, status);
        rc = tf_check(status, err, "not a SavedModel that TensorFlow loads");
        rc = rc == OVERTAKE_NOT_FOUND || rc == OVERTAKE_DATA_LOSS ? OVERTAKE_INVALID : rc;
    }
    char why[384] = "";
    if (rc == OVERTAKE_OK &&
        !tf_signature_read(meta->data, meta->length, o->signature[0] != '\0' ? o->signature : NULL,
                           m->signature, why, sizeof why)) {
        rc = tf_fail(err, OVERTAKE_INVALID, "%s", why);
    }
    if (rc == OVERTAKE_OK) {
        rc = read_others(m, meta, err);
    }
    tf.DeleteBuffer(meta);
    tf.DeleteSessionOptions(session_options);
    return rc;
}

static overtake_model *make_model(void)
{
    overtake_model *m = tf_host->alloc(tf_host->self, sizeof *m);
    if (m == NULL) {
        return NULL;
    }
    memset(m, 0, sizeof *m);
    m->signature = tf_host->alloc(tf_host->self, sizeof *m->signature);
    if (m->signature == NULL) {
        tf_host->free(tf_host->self, m);
        return NULL;
    }
    return m;
}

int32_t tf_model_load(const overtake_load *load, overtake_model **out, overtake_error *err)
{
    options o = {.tag = "serve", .single_threaded = load->threads == 1};
    int32_t rc = tf_runtime_load(err);
    if (rc == OVERTAKE_OK) {
        rc = read_options(load->options_json, &o, err);
    }
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    overtake_model *m = make_model();
    tf_shared *shared = tf_host->alloc(tf_host->self, sizeof *shared);
    TF_Status *status = tf.NewStatus();
    if (m == NULL || shared == NULL || status == NULL) {
        tf_host->free(tf_host->self, shared);
        rc = tf_fail(err, OVERTAKE_EXHAUSTED, "%s: out of memory", load->path);
    } else {
        memset(shared, 0, sizeof *shared);
        atomic_init(&shared->refs, 1);
        m->shared = shared;
        shared->bytes = tree_bytes(load->path, 2);
        rc = load_session(m, load, &o, status, err);
    }
    if (rc == OVERTAKE_OK) {
        rc = bind_signature(m, err);
    }
    tf.DeleteStatus(status);
    if (rc != OVERTAKE_OK) {
        if (m != NULL) {
            tf_model_unload(m);
        }
        return rc;
    }
    *out = m;
    return OVERTAKE_OK;
}

int32_t tf_model_view(overtake_model *m, uint32_t index, overtake_model **out, overtake_error *err)
{
    tf_shared *shared = m->shared;
    if (index >= shared->n_others) {
        return tf_fail(err, OVERTAKE_NOT_FOUND, "the model has %u other signatures",
                       shared->n_others);
    }
    overtake_model *view = make_model();
    if (view == NULL) {
        return tf_fail(err, OVERTAKE_EXHAUSTED, "signature '%s': out of memory",
                       shared->others[index]->name);
    }
    *view->signature = *shared->others[index];
    view->shared = shared;
    atomic_fetch_add(&shared->refs, 1);
    int32_t rc = bind_signature(view, err);
    if (rc != OVERTAKE_OK) {
        tf_model_unload(view);
        return rc == OVERTAKE_NOT_FOUND ? OVERTAKE_INVALID : rc;
    }
    *out = view;
    return OVERTAKE_OK;
}

static void release_shared(tf_shared *shared)
{
    if (shared == NULL || atomic_fetch_sub(&shared->refs, 1) != 1) {
        return;
    }
    TF_Status *status = tf.NewStatus();
    if (shared->session != NULL) {
        tf.CloseSession(shared->session, status);
        tf.DeleteSession(shared->session, status);
    }
    if (shared->graph != NULL) {
        tf.DeleteGraph(shared->graph);
    }
    tf.DeleteStatus(status);
    for (uint32_t i = 0; i < shared->n_others; i++) {
        tf_host->free(tf_host->self, shared->others[i]);
    }
    tf_host->free(tf_host->self, shared);
}

void tf_model_unload(overtake_model *m)
{
    release_shared(m->shared);
    tf_host->free(tf_host->self, m->signature);
    tf_host->free(tf_host->self, m);
}

int32_t tf_model_info(const overtake_model *m, overtake_model_info *out, overtake_error *err)
{
    (void)err;
    overtake_model_info all = {
        .struct_size = out->struct_size,
        .n_inputs = m->signature->n_inputs,
        .n_outputs = m->signature->n_outputs,
        .inputs = m->inputs,
        .outputs = m->outputs,
        .batch_axis = m->batch_axis,
        .max_in_flight = 1,
        .memory_bytes = 2 * m->shared->bytes,
        .signature = m->signature->name,
        .method = m->signature->method,
    };
    memcpy(out, &all, out->struct_size < sizeof all ? out->struct_size : sizeof all);
    return OVERTAKE_OK;
}
