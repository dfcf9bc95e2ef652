#include "codec/oip.h"
#include "codec/oip_read.h"

#include <string.h>

typedef struct ask {
    ot_oip_output_ask o;
    bool binary_set;
} ask;

const ot_param *ot_params_find(const ot_params *p, const char *name)
{
    for (int i = 0; i < p->n; i++) {
        if (strcmp(p->items[i].name, name) == 0) {
            return &p->items[i];
        }
    }
    return NULL;
}

static ot_rc read_ask(oip_reader *d, ask *a, ot_error *err)
{
    oip_extension x = {0};
    OT_TRY(ot_json_enter_object(&d->s, err));
    for (;;) {
        bool more;
        ot_text key;
        OT_TRY(ot_json_next_key(&d->s, d->arena, &key, &more, err));
        if (!more) {
            break;
        }
        if (ot_text_is(key, "name")) {
            OT_TRY(ot_json_string_z(&d->s, d->arena, &a->o.name, err));
        } else if (ot_text_is(key, "parameters")) {
            OT_TRY(oip_read_params(d, &a->o.params, &x, err));
        } else {
            OT_TRY(ot_json_skip(&d->s, err));
        }
    }
    a->binary_set = x.has_data;
    a->o.binary = x.data;
    return a->o.name != NULL && a->o.name[0] != 0
               ? OT_OK
               : ot_json_fail(&d->s, err, "each of outputs needs a name");
}

static ot_rc read_asks(oip_reader *d, ask *asks, int *n_out, ot_error *err)
{
    bool more;
    int n = 0;
    OT_TRY(oip_read_null(&d->s, &more, err));
    if (more) {
        return OT_OK;
    }
    OT_TRY(ot_json_enter_array(&d->s, err));
    for (;;) {
        OT_TRY(ot_json_next_item(&d->s, &more, err));
        if (!more) {
            *n_out = n;
            return OT_OK;
        }
        if (n == OT_OIP_TENSORS_MAX) {
            return ot_json_fail(&d->s, err, "more than %d outputs", OT_OIP_TENSORS_MAX);
        }
        asks[n] = (ask){0};
        OT_TRY(read_ask(d, &asks[n], err));
        for (int i = 0; i < n; i++) {
            if (strcmp(asks[i].o.name, asks[n].o.name) == 0) {
                return ot_json_fail(&d->s, err, "output '%.80s' is asked for twice",
                                    asks[n].o.name);
            }
        }
        n++;
    }
}

static ot_rc twice(oip_reader *d, bool seen, const char *key, ot_error *err)
{
    return seen ? ot_json_fail(&d->s, err, "'%s' is there twice", key) : OT_OK;
}

typedef struct request_state {
    ot_oip_request r;
    bool has_inputs, has_outputs;
    ask asks[OT_OIP_TENSORS_MAX];
} request_state;

static ot_rc request_key(oip_reader *d, request_state *q, ot_text key, ot_error *err)
{
    oip_extension x;
    if (ot_text_is(key, "inputs")) {
        OT_TRY(twice(d, q->has_inputs, "inputs", err));
        q->has_inputs = true;
        return oip_read_tensors(d, "input", &q->r.inputs, &q->r.n_inputs, err);
    }
    if (ot_text_is(key, "outputs")) {
        OT_TRY(twice(d, q->has_outputs, "outputs", err));
        q->has_outputs = true;
        return read_asks(d, q->asks, &q->r.n_outputs, err);
    }
    if (ot_text_is(key, "id")) {
        return oip_read_string(d, &q->r.id, err);
    }
    if (ot_text_is(key, "parameters")) {
        OT_TRY(oip_read_params(d, &q->r.params, &x, err));
        q->r.binary_default = x.has_output && x.output;
        return OT_OK;
    }
    return ot_json_skip(&d->s, err);
}

static ot_rc request_finish(oip_reader *d, request_state *q, ot_oip_request *out, ot_error *err)
{
    OT_TRY(oip_reader_finish(d, err));
    if (q->r.n_inputs == 0) {
        return ot_fail(err, OT_INVALID, "the request has no 'inputs'");
    }
    size_t size = (size_t)q->r.n_outputs * sizeof *q->r.outputs;
    q->r.outputs = size != 0 ? ot_arena_alloc(d->arena, size) : NULL;
    if (size != 0 && q->r.outputs == NULL) {
        return oip_no_memory(err);
    }
    for (int i = 0; i < q->r.n_outputs; i++) {
        q->r.outputs[i] = q->asks[i].o;
        q->r.outputs[i].binary = q->asks[i].binary_set ? q->asks[i].o.binary : q->r.binary_default;
    }
    *out = q->r;
    return OT_OK;
}

/* Inference-Header-Content-Length: 0. The body is the tensor; the shape's free axis is inferred. */
static ot_rc raw_decode(const void *body, size_t len, const ot_tensor_spec *raw, ot_arena *arena,
                        ot_oip_request *out, ot_error *err)
{
    if (raw == NULL || raw->rank < 0 || raw->rank > OT_RANK_MAX) {
        return ot_fail(err, OT_INVALID,
                       OT_OIP_HEADER_NAME " 0 (a raw tensor) needs a model with exactly one input");
    }
    ot_oip_tensor *in = ot_arena_calloc(arena, 1, sizeof *in);
    if (in == NULL) {
        return oip_no_memory(err);
    }
    ot_tensor *t = &in->tensor;
    *t = (ot_tensor){.name = raw->name, .dtype = raw->dtype, .rank = raw->rank, .data = body};
    t->size_bytes = len;
    int64_t count = 1;
    int free_axis = -1, n_free = 0;
    for (int i = 0; i < raw->rank; i++) {
        n_free += raw->dims[i] < 0;
        free_axis = raw->dims[i] < 0 ? i : free_axis;
        t->dims[i] = raw->dims[i] < 0 ? 1 : raw->dims[i];
    }
    if (t->dtype == OT_DT_BYTES) { /* one element, sent without its length */
        char *p = len <= UINT32_MAX ? ot_arena_alloc(arena, len + 4) : NULL;
        if (p == NULL) {
            return oip_no_memory(err);
        }
        for (int b = 0; b < 4; b++) {
            p[b] = (char)(len >> (8 * b));
        }
        if (len != 0) {
            memcpy(p + 4, body, len);
        }
        t->data = p;
        t->size_bytes = len + 4;
    } else if (n_free > 1) {
        char shape[OT_SHAPE_TEXT];
        return ot_fail(err, OT_INVALID,
                       "input '%s' has shape %s: a raw body cannot tell its %d free axes apart",
                       raw->name, ot_shape_format(raw->dims, raw->rank, shape), n_free);
    } else if (n_free == 1) {
        size_t row;
        bool good = ot_shape_bytes(t->dtype, t->dims, t->rank, &row) && row != 0;
        count = good && len % row == 0 ? (int64_t)(len / row) : 1;
        t->dims[free_axis] = count;
    }
    OT_TRY(ot_tensor_check(t, err));
    in->binary = true;
    *out = (ot_oip_request){.inputs = in, .n_inputs = 1, .binary_default = true};
    return OT_OK;
}

ot_rc ot_oip_request_decode(const void *body, size_t len, int64_t header_len,
                            const ot_tensor_spec *raw, ot_arena *arena, ot_oip_request *out,
                            ot_error *err)
{
    if (header_len == 0) {
        return raw_decode(body, len, raw, arena, out, err);
    }
    oip_reader d;
    request_state q;
    q.r = (ot_oip_request){0};
    q.has_inputs = q.has_outputs = false;
    OT_TRY(oip_reader_init(&d, body, len, header_len, arena, err));
    OT_TRY(ot_json_enter_object(&d.s, err));
    for (;;) {
        bool more;
        ot_text key;
        OT_TRY(ot_json_next_key(&d.s, arena, &key, &more, err));
        if (!more) {
            return request_finish(&d, &q, out, err);
        }
        OT_TRY(request_key(&d, &q, key, err));
    }
}

static ot_rc response_key(oip_reader *d, ot_oip_response *r, bool *seen, ot_text key, ot_error *err)
{
    oip_extension x;
    if (ot_text_is(key, "outputs")) {
        OT_TRY(twice(d, *seen, "outputs", err));
        *seen = true;
        return oip_read_tensors(d, "output", &r->outputs, &r->n_outputs, err);
    }
    if (ot_text_is(key, "model_name")) {
        return oip_read_string(d, &r->model_name, err);
    }
    if (ot_text_is(key, "model_version")) {
        return oip_read_string(d, &r->model_version, err);
    }
    if (ot_text_is(key, "id")) {
        return oip_read_string(d, &r->id, err);
    }
    if (ot_text_is(key, "parameters")) {
        return oip_read_params(d, &r->params, &x, err);
    }
    return ot_json_skip(&d->s, err);
}

ot_rc ot_oip_response_decode(const void *body, size_t len, int64_t header_len, ot_arena *arena,
                             ot_oip_response *out, ot_error *err)
{
    oip_reader d;
    ot_oip_response r = {0};
    bool more = true, seen = false;
    OT_TRY(oip_reader_init(&d, body, len, header_len, arena, err));
    OT_TRY(ot_json_enter_object(&d.s, err));
    while (more) {
        ot_text key;
        OT_TRY(ot_json_next_key(&d.s, arena, &key, &more, err));
        if (more) {
            OT_TRY(response_key(&d, &r, &seen, key, err));
        }
    }
    OT_TRY(oip_reader_finish(&d, err));
    if (!seen) {
        return ot_fail(err, OT_INVALID, "the response has no 'outputs'");
    }
    *out = r;
    return OT_OK;
}

const char *ot_oip_error_message(const void *body, size_t len, ot_arena *arena)
{
    ot_json_scan s;
    const char *message = NULL;
    ot_text key;
    bool more;
    ot_json_scan_init(&s, body, len);
    if (ot_json_enter_object(&s, NULL) != OT_OK) {
        return NULL;
    }
    while (ot_json_next_key(&s, arena, &key, &more, NULL) == OT_OK && more) {
        bool hit = ot_text_is(key, "error") && ot_json_peek(&s) == OT_JSON_STRING;
        if ((hit ? ot_json_string_z(&s, arena, &message, NULL) : ot_json_skip(&s, NULL)) != OT_OK) {
            return NULL;
        }
    }
    return message;
}
