#include "codec/json_write.h"
#include "codec/number.h"
#include "codec/oip.h"

#include <string.h>

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "memory is short for the message");
}

static void integer(ot_str *o, int64_t x)
{
    char buf[OT_I64_TEXT];
    ot_str_add(o, buf, ot_format_i64(x, buf));
}

static void real(ot_str *o, double x)
{
    char buf[OT_F64_TEXT];
    ot_str_add(o, buf, ot_format_f64(x, buf));
}

static ot_rc strings_json(const ot_tensor *t, ot_str *out, ot_error *err)
{
    size_t offset = 0, n;
    const char *p;
    for (int64_t i = 0; ot_tensor_bytes_next(t, &offset, &p, &n); i++) {
        if (!ot_utf8_valid(p, n)) {
            return ot_fail(err, OT_INVALID,
                           "tensor '%s': element %lld is not UTF-8, which JSON cannot carry; use "
                           "binary_data",
                           t->name != NULL ? t->name : "", (long long)i);
        }
        ot_str_adds(out, i > 0 ? ",\"" : "\"");
        ot_str_add_json(out, p, n);
        ot_str_addc(out, '"');
    }
    return out->failed ? no_memory(err) : OT_OK;
}

ot_rc ot_oip_tensor_json(const ot_tensor *t, ot_str *out, ot_error *err)
{
    OT_TRY(ot_tensor_check(t, err));
    ot_str_addc(out, '[');
    if (t->dtype == OT_DT_BYTES) {
        OT_TRY(strings_json(t, out, err));
    } else {
        json_write_numbers(t->dtype, t->data, ot_tensor_count(t), out);
    }
    ot_str_addc(out, ']');
    return out->failed ? no_memory(err) : OT_OK;
}

/* The members of a parameters object; `own` are already in it. */
static void params_members(ot_str *o, const ot_params *params, int own)
{
    for (int i = 0; i < params->n; i++) {
        const ot_param *p = &params->items[i];
        if (i + own > 0) {
            ot_str_addc(o, ',');
        }
        ot_str_add_quoted(o, p->name);
        ot_str_addc(o, ':');
        switch (p->type) {
        case OT_PARAM_BOOL:
            ot_str_adds(o, p->b ? "true" : "false");
            break;
        case OT_PARAM_INT:
            integer(o, p->i);
            break;
        case OT_PARAM_DOUBLE:
            real(o, p->d);
            break;
        case OT_PARAM_STRING:
            ot_str_add_quoted(o, p->s != NULL ? p->s : "");
            break;
        }
    }
}

static void params_object(ot_str *o, const ot_params *params, const char *own)
{
    if (params->n == 0 && own == NULL) {
        return;
    }
    ot_str_adds(o, ",\"parameters\":{");
    ot_str_adds(o, own != NULL ? own : "");
    params_members(o, params, own != NULL);
    ot_str_addc(o, '}');
}

static void shape(ot_str *o, const ot_tensor *t)
{
    ot_str_addc(o, '[');
    for (int i = 0; i < t->rank; i++) {
        if (i > 0) {
            ot_str_addc(o, ',');
        }
        integer(o, t->dims[i]);
    }
    ot_str_addc(o, ']');
}

static ot_rc tensor_object(const ot_oip_tensor *x, ot_str *o, ot_oip_encoded *e, ot_error *err)
{
    const ot_tensor *t = &x->tensor;
    ot_str_adds(o, "{\"name\":");
    ot_str_add_quoted(o, t->name != NULL ? t->name : "");
    ot_str_adds(o, ",\"datatype\":\"");
    ot_str_adds(o, ot_dtype_name(t->dtype));
    ot_str_adds(o, "\",\"shape\":");
    if (!x->binary) {
        OT_TRY(t->rank >= 0 && t->rank <= OT_RANK_MAX ? OT_OK : ot_tensor_check(t, err));
        shape(o, t);
        params_object(o, &x->params, NULL);
        ot_str_adds(o, ",\"data\":");
        OT_TRY(ot_oip_tensor_json(t, o, err));
        ot_str_addc(o, '}');
        return OT_OK;
    }
    OT_TRY(ot_tensor_check(t, err));
    shape(o, t);
    char own[64] = "\"binary_data_size\":";
    size_t n = strlen(own);
    n += ot_format_u64(t->size_bytes, own + n);
    own[n] = 0;
    params_object(o, &x->params, own);
    ot_str_addc(o, '}');
    e->header_len = 0; /* set when the head is complete */
    if (t->size_bytes != 0) {
        /* writev takes a non-const base and does not write through it. */
        void *base;
        memcpy(&base, &t->data, sizeof base);
        e->blobs[e->n_blobs++] = (struct iovec){base, t->size_bytes};
        e->blob_bytes += t->size_bytes;
    }
    return OT_OK;
}

static ot_rc tensors_array(const char *key, const ot_oip_tensor *items, int n, ot_str *o,
                           ot_oip_encoded *e, ot_error *err)
{
    if (n < 0 || n > OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "%d %s are more than %d", n, key, OT_OIP_TENSORS_MAX);
    }
    ot_str_add_quoted(o, key);
    ot_str_adds(o, ":[");
    for (int i = 0; i < n; i++) {
        if (i > 0) {
            ot_str_addc(o, ',');
        }
        OT_TRY(tensor_object(&items[i], o, e, err));
    }
    ot_str_addc(o, ']');
    return OT_OK;
}

static void member(ot_str *o, const char *key, const char *value)
{
    if (value != NULL) {
        ot_str_add_quoted(o, key);
        ot_str_addc(o, ':');
        ot_str_add_quoted(o, value);
        ot_str_addc(o, ',');
    }
}

static void encoded_init(ot_oip_encoded *e)
{
    e->header_len = -1;
    e->n_blobs = 0;
    e->blob_bytes = 0;
}

/* Closes the object; `start` is where it began. */
static ot_rc encoded_finish(ot_str *o, size_t start, ot_oip_encoded *e, ot_error *err)
{
    ot_str_addc(o, '}');
    if (e->header_len == 0) {
        e->header_len = (int64_t)(o->len - start);
    }
    return o->failed ? no_memory(err) : OT_OK;
}

ot_rc ot_oip_response_encode(const ot_oip_response *r, ot_str *head, ot_oip_encoded *out,
                             ot_error *err)
{
    size_t start = head->len;
    encoded_init(out);
    ot_str_addc(head, '{');
    member(head, "model_name", r->model_name);
    member(head, "model_version", r->model_version);
    member(head, "id", r->id);
    OT_TRY(tensors_array("outputs", r->outputs, r->n_outputs, head, out, err));
    params_object(head, &r->params, NULL);
    return encoded_finish(head, start, out, err);
}

static void asks_array(const ot_oip_request *r, ot_str *o)
{
    ot_str_adds(o, ",\"outputs\":[");
    for (int i = 0; i < r->n_outputs; i++) {
        ot_str_adds(o, i > 0 ? ",{\"name\":" : "{\"name\":");
        ot_str_add_quoted(o, r->outputs[i].name);
        bool binary = r->outputs[i].binary;
        params_object(o, &r->outputs[i].params,
                      binary == r->binary_default ? NULL
                      : binary                    ? "\"binary_data\":true"
                                                  : "\"binary_data\":false");
        ot_str_addc(o, '}');
    }
    ot_str_addc(o, ']');
}

ot_rc ot_oip_request_encode(const ot_oip_request *r, ot_str *head, ot_oip_encoded *out,
                            ot_error *err)
{
    size_t start = head->len;
    encoded_init(out);
    if (r->n_outputs < 0 || r->n_outputs > OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "%d outputs are more than %d", r->n_outputs,
                       OT_OIP_TENSORS_MAX);
    }
    ot_str_addc(head, '{');
    member(head, "id", r->id);
    OT_TRY(tensors_array("inputs", r->inputs, r->n_inputs, head, out, err));
    if (r->n_outputs > 0) {
        asks_array(r, head);
    }
    params_object(head, &r->params, r->binary_default ? "\"binary_data_output\":true" : NULL);
    return encoded_finish(head, start, out, err);
}

void ot_oip_error_body(ot_str *out, const char *message)
{
    ot_str_adds(out, "{\"error\":");
    ot_str_add_quoted(out, message);
    ot_str_addc(out, '}');
}
