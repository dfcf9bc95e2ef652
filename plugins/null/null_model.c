/* null.json and options. */
#include "../common/json.h"
#include "null.h"

#include <stdio.h>
#include <string.h>

#define WEIGHTS_MAX (16 << 20)

static const char *const dtype_names[] = {"",       "BOOL", "UINT8", "UINT16", "UINT32",
                                          "UINT64", "INT8", "INT16", "INT32",  "INT64",
                                          "FP16",   "BF16", "FP32",  "FP64",   "BYTES"};

static void read_spec(pj *j, overtake_spec *spec, char *name)
{
    char key[32], text[32];
    spec->name = name;
    spec->rank = -1;
    pj_enter(j, '{');
    while (pj_key(j, key, sizeof key)) {
        if (strcmp(key, "name") == 0) {
            pj_string(j, name, NULL_NAME_MAX, NULL);
        } else if (strcmp(key, "datatype") == 0 && pj_string(j, text, sizeof text, NULL)) {
            for (int32_t d = OVERTAKE_DT_BOOL; d <= OVERTAKE_DT_BYTES; d++) {
                spec->dtype = strcmp(dtype_names[d], text) == 0 ? d : spec->dtype;
            }
        } else if (strcmp(key, "shape") == 0 && pj_enter(j, '[')) {
            for (spec->rank = 0; pj_item(j); spec->rank++) {
                if (spec->rank == OVERTAKE_RANK_MAX) {
                    pj_fail(j, "a shape has more than 8 axes");
                    break;
                }
                pj_int(j, -1, INT32_MAX, &spec->dims[spec->rank]);
            }
        } else {
            pj_fail(j, "an unknown key in a tensor; name, datatype, shape are known");
        }
    }
    if (name[0] == '\0' || spec->dtype == OVERTAKE_DT_INVALID || spec->rank < 0) {
        pj_fail(j, "a tensor needs name, a known datatype and shape");
    }
}

static uint32_t read_specs(pj *j, overtake_spec *specs, char names[][NULL_NAME_MAX])
{
    uint32_t n = 0;
    pj_enter(j, '[');
    while (pj_item(j)) {
        if (n == NULL_IO_MAX) {
            pj_fail(j, "more than 16 tensors");
            break;
        }
        read_spec(j, &specs[n], names[n]);
        n++;
    }
    return n;
}

/* Numbers, nested or flat, into an array that grows. */
static void read_floats(pj *j, float **out, int64_t *n)
{
    if (!pj_enter(j, '[')) {
        return;
    }
    while (pj_item(j)) {
        double x;
        if (pj_peek(j) == '[') {
            read_floats(j, out, n);
            continue;
        }
        if (!pj_number(j, &x)) {
            return;
        }
        if (*n == WEIGHTS_MAX) {
            pj_fail(j, "too many weights");
            return;
        }
        if ((*n & (*n - 1)) == 0) { /* at 0 and powers of two: double */
            size_t room = (size_t)(*n > 0 ? 2 * *n : 1) * sizeof(float);
            float *grown = null_host->realloc(null_host->self, *out, room);
            if (grown == NULL) {
                pj_fail(j, "out of memory");
                return;
            }
            *out = grown;
        }
        (*out)[(*n)++] = (float)x;
    }
}

static bool read_behaviour(pj *j, const char *key, null_behaviour *how)
{
    if (strcmp(key, "late") == 0) {
        pj_bool(j, &how->late);
    } else if (strcmp(key, "delay_us") == 0) {
        pj_int(j, 0, NULL_DELAY_US_MAX, &how->delay_us);
    } else if (strcmp(key, "responses") == 0) {
        pj_int(j, 1, NULL_RESPONSES_MAX, &how->responses);
    } else if (strcmp(key, "fail_every") == 0) {
        pj_int(j, 0, INT32_MAX, &how->fail_every);
    } else if (strcmp(key, "fail_on_nan") == 0) {
        pj_bool(j, &how->fail_on_nan);
    } else {
        return false;
    }
    return true;
}

static null_op read_op(pj *j)
{
    static const char *const names[] = {"", "identity", "sum", "linear", "center"};
    char text[32];
    if (pj_string(j, text, sizeof text, NULL)) {
        for (int i = NULL_OP_IDENTITY; i <= NULL_OP_CENTER; i++) {
            if (strcmp(text, names[i]) == 0) {
                return (null_op)i;
            }
        }
    }
    pj_fail(j, "op is identity, sum, linear or center");
    return NULL_OP_NONE;
}

static bool same_shape(const overtake_spec *a, const overtake_spec *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) == 0;
}

/* What the operation needs of the signature; NULL when it has it. */
static const char *missing(const overtake_model *m)
{
    const overtake_spec *in = m->inputs, *out = m->outputs;
    switch (m->op) {
    case NULL_OP_IDENTITY:
        for (uint32_t i = 0; i < m->n_inputs && m->n_inputs == m->n_outputs; i++) {
            if (!same_shape(&in[i], &out[i])) {
                return "identity: an output differs from its input in type or shape";
            }
        }
        return m->n_inputs > 0 && m->n_inputs == m->n_outputs
                   ? NULL
                   : "identity: as many outputs as inputs are needed";
    case NULL_OP_SUM:
        return m->n_inputs == 1 && m->n_outputs == 1 && in->dtype == OVERTAKE_DT_FP32 &&
                       out->dtype == OVERTAKE_DT_FP32 && in->rank >= 1 &&
                       (out->rank == 1 || (out->rank == 2 && out->dims[1] == 1))
                   ? NULL
                   : "sum: one input FP32 [-1,...] and one output FP32 [-1] or [-1,1] are needed";
    case NULL_OP_LINEAR:
        return m->n_inputs == 1 && m->n_outputs >= 1 && m->n_outputs <= 2 && in->rank == 2 &&
                       out->rank == 2 && in->dtype == OVERTAKE_DT_FP32 &&
                       out->dtype == OVERTAKE_DT_FP32 && in->dims[1] > 0 && out->dims[1] > 0 &&
                       m->n_weights == in->dims[1] * out->dims[1] &&
                       (m->n_bias == 0 || m->n_bias == out->dims[1]) &&
                       (m->n_outputs == 1 ||
                        (out[1].dtype == OVERTAKE_DT_INT64 && out[1].rank == 1))
                   ? NULL
                   : "linear: an input FP32 [-1,n], an output FP32 [-1,m], n rows of m weights, m "
                     "or no bias, and at most a second output INT64 [-1] are needed";
    case NULL_OP_CENTER:
        return m->n_inputs == 1 && m->n_outputs == 1 && in->dtype == OVERTAKE_DT_FP32 &&
                       in->rank >= 1 && same_shape(in, out)
                   ? NULL
                   : "center: one input FP32 [-1,...] and an output of that shape are needed";
    case NULL_OP_NONE:
        break;
    }
    return "op is missing";
}

static void read_key(pj *j, const char *key, overtake_model *m)
{
    if (strcmp(key, "inputs") == 0) {
        m->n_inputs = read_specs(j, m->inputs, m->names);
    } else if (strcmp(key, "outputs") == 0) {
        m->n_outputs = read_specs(j, m->outputs, m->names + NULL_IO_MAX);
    } else if (strcmp(key, "op") == 0) {
        m->op = read_op(j);
    } else if (strcmp(key, "softmax") == 0) {
        pj_bool(j, &m->softmax);
    } else if (strcmp(key, "weights") == 0) {
        read_floats(j, &m->weights, &m->n_weights);
    } else if (strcmp(key, "load_us") == 0) {
        pj_int(j, 0, NULL_DELAY_US_MAX, &m->load_us);
    } else if (strcmp(key, "bias") == 0) {
        read_floats(j, &m->bias, &m->n_bias);
    } else if (!read_behaviour(j, key, &m->how)) {
        pj_fail(j, "an unknown key");
    }
}

int32_t null_model_read(overtake_model *m, const char *text, size_t n, overtake_error *err)
{
    pj j;
    char key[32];
    pj_init(&j, text, n);
    pj_enter(&j, '{');
    while (pj_key(&j, key, sizeof key)) {
        read_key(&j, key, m);
    }
    if (!pj_end(&j)) {
        return null_fail(err, OVERTAKE_INVALID, "byte %zu: %s", j.at, j.error);
    }
    const char *why = missing(m);
    return why == NULL ? OVERTAKE_OK : null_fail(err, OVERTAKE_INVALID, "%s", why);
}

int32_t null_options_read(null_behaviour *how, const char *json, overtake_error *err)
{
    pj j;
    char key[32];
    pj_init(&j, json, strlen(json));
    pj_enter(&j, '{');
    while (pj_key(&j, key, sizeof key)) {
        if (!read_behaviour(&j, key, how)) {
            return null_fail(err, OVERTAKE_INVALID,
                             "option '%s' is not known; late, delay_us, responses, fail_every and "
                             "fail_on_nan are",
                             key);
        }
    }
    return pj_end(&j) ? OVERTAKE_OK
                      : null_fail(err, OVERTAKE_INVALID, "options: byte %zu: %s", j.at, j.error);
}
