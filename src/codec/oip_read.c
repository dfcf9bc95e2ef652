#include "codec/oip_read.h"

#include <stdio.h>
#include <string.h>

/* A tensor while its object is read: keys come in any order. */
typedef struct pending {
    ot_oip_tensor t;
    const char *role; /* "input" or "output" */
    int index;
    bool has_shape, has_type, has_data, data_later;
    ot_json_scan data_at; /* where `data` began when shape or datatype were not known yet */
    int64_t blob_size;    /* -1: none */
} pending;

#define WHAT_MAX 112
#define WHAT_NAME_MAX 80

/* "input 'x'", or "inputs[2]" before its name is known. */
static const char *what(const pending *p, char out[WHAT_MAX])
{
    if (p->t.tensor.name == NULL) {
        snprintf(out, WHAT_MAX, "%ss[%d]", p->role, p->index);
        return out;
    }
    /* By hand: each request with JSON data asks. */
    size_t role = strlen(p->role), n = strnlen(p->t.tensor.name, WHAT_NAME_MAX);
    char *at = mempcpy(out, p->role, role);
    at = mempcpy(at, " '", 2);
    at = mempcpy(at, p->t.tensor.name, n);
    memcpy(at, "'", 2);
    return out;
}

static void *arena_copy(ot_arena *a, const void *p, size_t n)
{
    void *o = ot_arena_alloc(a, n);
    if (o != NULL && n != 0) {
        memcpy(o, p, n);
    }
    return o;
}

ot_rc oip_no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "the message needs more memory than its limit allows");
}

ot_rc oip_read_null(ot_json_scan *s, bool *null_out, ot_error *err)
{
    *null_out = ot_json_peek(s) == OT_JSON_NULL;
    return *null_out ? ot_json_null_read(s, err) : OT_OK;
}

static ot_rc param_number(oip_reader *d, ot_param *p, ot_error *err)
{
    ot_json_number v;
    OT_TRY(ot_json_number_read(&d->s, &v, err));
    bool fits = v.is_int && (v.negative || v.u64 <= INT64_MAX);
    p->type = fits ? OT_PARAM_INT : OT_PARAM_DOUBLE;
    p->i = fits ? v.i64 : 0;
    p->d = v.f64;
    return OT_OK;
}

static ot_rc param_value(oip_reader *d, ot_param *p, bool *keep_out, ot_error *err)
{
    *keep_out = true;
    switch (ot_json_peek(&d->s)) {
    case OT_JSON_STRING:
        p->type = OT_PARAM_STRING;
        return ot_json_string_z(&d->s, d->arena, &p->s, err);
    case OT_JSON_NUMBER:
        return param_number(d, p, err);
    case OT_JSON_BOOL:
        p->type = OT_PARAM_BOOL;
        return ot_json_bool_read(&d->s, &p->b, err);
    default:
        *keep_out = false;
        return ot_json_skip(&d->s, err);
    }
}

static ot_rc wants_bool(oip_reader *d, const ot_param *p, bool keep, bool *has, bool *value,
                        ot_error *err)
{
    if (!keep || p->type != OT_PARAM_BOOL) {
        return ot_json_fail(&d->s, err, "the parameter %s must be true or false", p->name);
    }
    *has = true;
    *value = p->b;
    return OT_OK;
}

/* Parameters of the binary extension go to `x`. */
static ot_rc extension_param(oip_reader *d, const ot_param *p, bool keep, oip_extension *x,
                             bool *taken_out, ot_error *err)
{
    *taken_out = true;
    if (strcmp(p->name, "binary_data_size") == 0) {
        if (!keep || p->type != OT_PARAM_INT || p->i < 0) {
            return ot_json_fail(&d->s, err, "binary_data_size must be a whole number >= 0");
        }
        x->data_size = p->i;
        return OT_OK;
    }
    if (strcmp(p->name, "binary_data") == 0) {
        return wants_bool(d, p, keep, &x->has_data, &x->data, err);
    }
    if (strcmp(p->name, "binary_data_output") == 0) {
        return wants_bool(d, p, keep, &x->has_output, &x->output, err);
    }
    if (ot_has_prefix(p->name, "shared_memory_")) {
        return ot_json_fail(&d->s, err, "%s: shared memory is not supported; send data in the body",
                            p->name);
    }
    *taken_out = false;
    return OT_OK;
}

ot_rc oip_read_params(oip_reader *d, ot_params *out, oip_extension *x, ot_error *err)
{
    *x = (oip_extension){.data_size = -1};
    bool more;
    OT_TRY(oip_read_null(&d->s, &more, err));
    if (more) {
        return OT_OK;
    }
    ot_param items[OT_OIP_PARAMS_MAX];
    int n = 0;
    OT_TRY(ot_json_enter_object(&d->s, err));
    for (;;) {
        ot_text key;
        OT_TRY(ot_json_next_key(&d->s, d->arena, &key, &more, err));
        if (!more) {
            break;
        }
        ot_param p = {.name = ot_arena_strndup(d->arena, key.p, key.n)};
        if (p.name == NULL) {
            return oip_no_memory(err);
        }
        bool keep, taken;
        OT_TRY(param_value(d, &p, &keep, err));
        OT_TRY(extension_param(d, &p, keep, x, &taken, err));
        if (!keep || taken) {
            continue;
        }
        if (n == OT_OIP_PARAMS_MAX) {
            return ot_json_fail(&d->s, err, "more than %d parameters", OT_OIP_PARAMS_MAX);
        }
        items[n++] = p;
    }
    out->n = n;
    out->items = n != 0 ? arena_copy(d->arena, items, (size_t)n * sizeof *items) : NULL;
    return n != 0 && out->items == NULL ? oip_no_memory(err) : OT_OK;
}

static ot_rc read_shape(oip_reader *d, pending *p, ot_error *err)
{
    char w[WHAT_MAX];
    bool more;
    int rank = 0;
    if (p->has_shape) {
        return ot_json_fail(&d->s, err, "%s: shape appears twice", what(p, w));
    }
    OT_TRY(ot_json_enter_array(&d->s, err));
    for (;;) {
        OT_TRY(ot_json_next_item(&d->s, &more, err));
        if (!more) {
            break;
        }
        ot_json_number v;
        OT_TRY(ot_json_number_read(&d->s, &v, err));
        if (!v.is_int || v.negative || v.u64 > INT64_MAX) {
            return ot_json_fail(&d->s, err,
                                "%s: a dimension must be a whole number >= 0, not %.17g",
                                what(p, w), v.f64);
        }
        if (rank == OT_RANK_MAX) {
            return ot_json_fail(&d->s, err, "%s has more than %d dimensions", what(p, w),
                                OT_RANK_MAX);
        }
        p->t.tensor.dims[rank++] = v.i64;
    }
    p->t.tensor.rank = rank;
    p->has_shape = true;
    int64_t count;
    char shape[OT_SHAPE_TEXT];
    return ot_shape_count(p->t.tensor.dims, rank, &count)
               ? OT_OK
               : ot_json_fail(&d->s, err, "%s: the product of shape %s is over 2^63 - 1",
                              what(p, w), ot_shape_format(p->t.tensor.dims, rank, shape));
}

static ot_rc read_type(oip_reader *d, pending *p, ot_error *err)
{
    char w[WHAT_MAX];
    ot_text t;
    if (p->has_type) {
        return ot_json_fail(&d->s, err, "%s: datatype appears twice", what(p, w));
    }
    OT_TRY(ot_json_string(&d->s, d->arena, &t, err));
    p->t.tensor.dtype = ot_dtype_parse(t.p, t.n);
    p->has_type = true;
    return p->t.tensor.dtype != OT_DT_INVALID
               ? OT_OK
               : ot_json_fail(&d->s, err,
                              "%s: datatype '%.*s' is not known; it is one of BOOL, UINT8, UINT16, "
                              "UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, "
                              "BYTES",
                              what(p, w), (int)OT_MIN(t.n, (size_t)40), t.p);
}

/* Reads `data` where the scan stands; type and shape are known. */
static ot_rc read_data(oip_reader *d, ot_json_scan *s, pending *p, ot_error *err)
{
    char w[WHAT_MAX];
    ot_tensor *t = &p->t.tensor;
    what(p, w);
    if (t->dtype == OT_DT_BYTES) {
        return ot_json_tensor_strings(s, w, t->dims, t->rank, d->arena, &t->data, &t->size_bytes,
                                      err);
    }
    size_t bytes;
    void *dst = NULL;
    if (!ot_shape_bytes(t->dtype, t->dims, t->rank, &bytes)) {
        return ot_fail(err, OT_INVALID, "%s: its shape is too large", w);
    }
    if (ot_tensor_count(t) <= ot_json_values_max(s)) {
        dst = ot_arena_alloc(d->arena, bytes);
        if (dst == NULL) {
            return ot_fail(err, OT_EXHAUSTED,
                           "%s: %zu bytes are over the memory limit of a message", w, bytes);
        }
    }
    OT_TRY(ot_json_tensor_data(s, w, t->dtype, t->dims, t->rank, dst, err));
    t->data = dst;
    t->size_bytes = bytes;
    return OT_OK;
}

static ot_rc data_key(oip_reader *d, pending *p, ot_error *err)
{
    char w[WHAT_MAX];
    if (p->has_data) {
        return ot_json_fail(&d->s, err, "%s: data appear twice", what(p, w));
    }
    bool null;
    OT_TRY(oip_read_null(&d->s, &null, err));
    if (null) {
        return OT_OK;
    }
    p->has_data = true;
    if (p->has_shape && p->has_type) {
        return read_data(d, &d->s, p, err);
    }
    p->data_later = true;
    p->data_at = d->s;
    return ot_json_skip(&d->s, err);
}

static ot_rc tensor_key(oip_reader *d, pending *p, ot_text key, ot_error *err)
{
    char w[WHAT_MAX];
    if (ot_text_is(key, "name")) {
        if (p->t.tensor.name != NULL) {
            return ot_json_fail(&d->s, err, "%s: name appears twice", what(p, w));
        }
        return ot_json_string_z(&d->s, d->arena, &p->t.tensor.name, err);
    }
    if (ot_text_is(key, "shape")) {
        return read_shape(d, p, err);
    }
    if (ot_text_is(key, "datatype")) {
        return read_type(d, p, err);
    }
    if (ot_text_is(key, "data")) {
        return data_key(d, p, err);
    }
    if (ot_text_is(key, "parameters")) {
        oip_extension x;
        OT_TRY(oip_read_params(d, &p->t.params, &x, err));
        p->blob_size = x.data_size;
        return OT_OK;
    }
    return ot_json_skip(&d->s, err);
}

static ot_rc tensor_finish(oip_reader *d, pending *p, ot_error *err)
{
    char w[WHAT_MAX];
    const char *missing = p->t.tensor.name == NULL || p->t.tensor.name[0] == 0 ? "a name"
                          : !p->has_type                                       ? "a datatype"
                          : !p->has_shape                                      ? "a shape"
                                                                               : NULL;
    if (missing != NULL) {
        return ot_json_fail(&d->s, err, "%s needs %s", what(p, w), missing);
    }
    if (p->has_data && p->blob_size >= 0) {
        return ot_json_fail(&d->s, err, "%s has both data and binary_data_size", what(p, w));
    }
    if (!p->has_data && p->blob_size < 0) {
        return ot_json_fail(&d->s, err, "%s has neither data nor binary_data_size", what(p, w));
    }
    if (p->blob_size >= 0 && !d->framed) {
        return ot_json_fail(
            &d->s, err, "%s has binary_data_size, but there is no " OT_OIP_HEADER_NAME, what(p, w));
    }
    p->t.binary = p->blob_size >= 0;
    return p->data_later ? read_data(d, &p->data_at, p, err) : OT_OK;
}

static ot_rc read_tensor(oip_reader *d, pending *p, ot_error *err)
{
    OT_TRY(ot_json_enter_object(&d->s, err));
    for (;;) {
        bool more;
        ot_text key;
        OT_TRY(ot_json_next_key(&d->s, d->arena, &key, &more, err));
        if (!more) {
            return tensor_finish(d, p, err);
        }
        OT_TRY(tensor_key(d, p, key, err));
    }
}

/* Takes the tensor's blob from the front of what is left behind the JSON. */
static ot_rc take_blob(oip_reader *d, pending *p, ot_error *err)
{
    char w[WHAT_MAX], shape[OT_SHAPE_TEXT];
    ot_tensor *t = &p->t.tensor;
    if ((uint64_t)p->blob_size > d->blobs_size) {
        return ot_fail(err, OT_INVALID,
                       "%s: binary_data_size is %lld; the body has %zu bytes left for it",
                       what(p, w), (long long)p->blob_size, d->blobs_size);
    }
    t->data = d->blobs;
    t->size_bytes = (size_t)p->blob_size;
    d->blobs += p->blob_size;
    d->blobs_size -= (size_t)p->blob_size;
    size_t want;
    if (t->dtype != OT_DT_BYTES &&
        (!ot_shape_bytes(t->dtype, t->dims, t->rank, &want) || want != t->size_bytes)) {
        return ot_fail(
            err, OT_INVALID, "%s is %s %s, %lld values of %zu bytes; its binary_data_size is %zu",
            what(p, w), ot_dtype_name(t->dtype), ot_shape_format(t->dims, t->rank, shape),
            (long long)ot_tensor_count(t), ot_dtype_size(t->dtype), t->size_bytes);
    }
    return t->dtype == OT_DT_BYTES ? ot_tensor_check(t, err) : OT_OK;
}

ot_rc oip_read_tensors(oip_reader *d, const char *role, ot_oip_tensor **out, int *n_out,
                       ot_error *err)
{
    pending one;
    ot_oip_tensor items[OT_OIP_TENSORS_MAX];
    int n = 0;
    OT_TRY(ot_json_enter_array(&d->s, err));
    for (;;) {
        bool more;
        OT_TRY(ot_json_next_item(&d->s, &more, err));
        if (!more) {
            break;
        }
        if (n == OT_OIP_TENSORS_MAX) {
            return ot_json_fail(&d->s, err, "more than %d %ss", OT_OIP_TENSORS_MAX, role);
        }
        one = (pending){.role = role, .index = n, .blob_size = -1};
        OT_TRY(read_tensor(d, &one, err));
        for (int i = 0; i < n; i++) {
            if (strcmp(items[i].tensor.name, one.t.tensor.name) == 0) {
                return ot_json_fail(&d->s, err, "%s '%.80s' is there twice", role,
                                    one.t.tensor.name);
            }
        }
        if (one.t.binary) {
            OT_TRY(take_blob(d, &one, err));
        }
        items[n++] = one.t;
    }
    *out = arena_copy(d->arena, items, (size_t)n * sizeof *items);
    *n_out = n;
    return *out == NULL ? oip_no_memory(err) : OT_OK;
}

ot_rc oip_read_string(oip_reader *d, const char **out, ot_error *err)
{
    bool null;
    OT_TRY(oip_read_null(&d->s, &null, err));
    return null ? OT_OK : ot_json_string_z(&d->s, d->arena, out, err);
}

ot_rc oip_reader_init(oip_reader *d, const void *body, size_t len, int64_t header_len,
                      ot_arena *arena, ot_error *err)
{
    if (header_len < -1 || (header_len >= 0 && (uint64_t)header_len > len)) {
        return ot_fail(err, OT_INVALID, OT_OIP_HEADER_NAME " is %lld; the body has %zu bytes",
                       (long long)header_len, len);
    }
    size_t json = header_len < 0 ? len : (size_t)header_len;
    *d = (oip_reader){.arena = arena, .framed = header_len >= 0, .blobs_size = len - json};
    d->blobs = len != 0 ? (const char *)body + json : "";
    ot_json_scan_init(&d->s, body, json);
    return OT_OK;
}

ot_rc oip_reader_finish(oip_reader *d, ot_error *err)
{
    OT_TRY(ot_json_finish(&d->s, err));
    return d->blobs_size == 0 ? OT_OK
                              : ot_fail(err, OT_INVALID,
                                        "%zu bytes of binary data are left over; the sum of "
                                        "binary_data_size must be all that follows the JSON",
                                        d->blobs_size);
}
