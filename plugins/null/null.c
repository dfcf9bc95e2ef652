/* The table of the tutorial plug-in, and loading. */
#include "null.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const overtake_host *null_host;

void *null_alloc(size_t n)
{
    return null_host->alloc(null_host->self, n);
}

void null_free(void *p)
{
    null_host->free(null_host->self, p);
}

int32_t null_fail(overtake_error *err, int32_t code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    return code;
}

static int32_t read_file(const char *path, char **text_out, size_t *n_out, overtake_error *err)
{
    FILE *f = fopen(path, "rbe");
    if (f == NULL) {
        return null_fail(err, OVERTAKE_NOT_FOUND, "%s", strerror(errno));
    }
    int32_t rc = OVERTAKE_OK;
    char *text = NULL;
    long size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (size < 0 || (unsigned long)size > NULL_FILE_MAX) {
        rc = null_fail(err, OVERTAKE_INVALID, "larger than %u bytes, or not a file", NULL_FILE_MAX);
    } else if ((text = null_alloc((size_t)size + 1)) == NULL) {
        rc = null_fail(err, OVERTAKE_EXHAUSTED, "out of memory");
    } else {
        rewind(f);
        *n_out = fread(text, 1, (size_t)size, f);
        *text_out = text;
    }
    fclose(f);
    return rc;
}

static int32_t runtime_info(overtake_runtime_info *info, overtake_error *err)
{
    (void)err;
    info->version = "1"; /* the plug-in is its own runtime; a real one loads its library here */
    info->library = "";
    return OVERTAKE_OK;
}

static int32_t estimate(const overtake_load *load, uint64_t *bytes_out, overtake_error *err)
{
    char *text;
    size_t n;
    int32_t rc = read_file(load->path, &text, &n, err);
    if (rc == OVERTAKE_OK) {
        *bytes_out = sizeof(overtake_model) + n; /* a weight takes at least two characters */
        null_free(text);
    }
    return rc;
}

static void unload(overtake_model *m)
{
    null_free(m->weights);
    null_free(m->bias);
    null_free(m);
}

static int32_t load_model(const overtake_load *load, overtake_model **model_out,
                          overtake_error *err)
{
    char *text;
    size_t n;
    int32_t rc = read_file(load->path, &text, &n, err);
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    overtake_model *m = null_alloc(sizeof *m);
    if (m == NULL) {
        null_free(text);
        return null_fail(err, OVERTAKE_EXHAUSTED, "out of memory");
    }
    memset(m, 0, sizeof *m);
    atomic_init(&m->runs, 0);
    m->how.responses = 1;
    rc = null_model_read(m, text, n, err);
    null_free(text);
    if (rc == OVERTAKE_OK) {
        rc = null_options_read(&m->how, load->options_json, err);
    }
    if (rc != OVERTAKE_OK) {
        unload(m);
        return rc;
    }
    if (m->load_us > 0) {
        m->quick = OVERTAKE_HAS(load, overtake_load, quick) && load->quick != 0;
        if (!m->quick) {
            struct timespec t = {m->load_us / 1000000, m->load_us % 1000000 * 1000};
            nanosleep(&t, NULL);
        }
    }
    *model_out = m;
    return OVERTAKE_OK;
}

static int32_t info(const overtake_model *m, overtake_model_info *out, overtake_error *err)
{
    (void)err;
    overtake_model_info all = {
        .struct_size = out->struct_size,
        .n_inputs = m->n_inputs,
        .n_outputs = m->n_outputs,
        .inputs = m->inputs,
        .outputs = m->outputs,
        .batch_axis = 0,
        .max_in_flight = m->how.late ? NULL_IN_FLIGHT : 1,
        .memory_bytes = sizeof *m + (uint64_t)(m->n_weights + m->n_bias) * sizeof(float),
        .quick = m->quick,
    };
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        if (m->inputs[i].rank == 0 || m->inputs[i].dims[0] != -1) {
            all.batch_axis = -1;
        }
    }
    /* A host of an older minor version has a shorter struct: give it what fits. */
    memcpy(out, &all, out->struct_size < sizeof all ? out->struct_size : sizeof all);
    return OVERTAKE_OK;
}

static const overtake_format formats[] = {{.name = "null", .pattern = "null.json"}};

static const overtake_plugin table = {
    .struct_size = sizeof table,
    .abi_major = OVERTAKE_ABI_MAJOR,
    .abi_minor = OVERTAKE_ABI_MINOR,
    .name = "null",
    .build_id = "null 1",
    .capabilities = OVERTAKE_CAP_SCATTER | OVERTAKE_CAP_HOST_OUTPUTS | OVERTAKE_CAP_ASYNC |
                    OVERTAKE_CAP_MULTI_RESPONSE | OVERTAKE_CAP_CANCEL | OVERTAKE_CAP_DEADLINE |
                    OVERTAKE_CAP_STRINGS | OVERTAKE_CAP_PART_STATUS | OVERTAKE_CAP_ESTIMATE,
    .formats = formats,
    .n_formats = 1,
    .runtime_info = runtime_info,
    .model_estimate = estimate,
    .model_load = load_model,
    .model_unload = unload,
    .model_info = info,
    .instance_create = null_instance_create,
    .instance_destroy = null_instance_destroy,
    .submit = null_submit,
    .cancel = null_cancel,
    .release = null_release,
};

const overtake_plugin *overtake_plugin_get(uint32_t abi_major, const overtake_host *host)
{
    if (abi_major != OVERTAKE_ABI_MAJOR || !OVERTAKE_HAS(host, overtake_host, now_ns)) {
        return NULL;
    }
    null_host = host;
    return &table;
}
