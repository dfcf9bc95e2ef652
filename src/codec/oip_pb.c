#include "codec/oip_pb.h"

#include "codec/oip_read.h"
#include "codec/pb_values.h"

#include <string.h>

#define REQUEST "ModelInferRequest"

uint32_t ot_oip_pb_contents_field(ot_dtype dt)
{
    static const uint8_t fields[OT_DT_COUNT_] = {
        [OT_DT_BOOL] = 1,   [OT_DT_INT8] = 2,  [OT_DT_INT16] = 2,  [OT_DT_INT32] = 2,
        [OT_DT_INT64] = 3,  [OT_DT_UINT8] = 4, [OT_DT_UINT16] = 4, [OT_DT_UINT32] = 4,
        [OT_DT_UINT64] = 5, [OT_DT_FP32] = 6,  [OT_DT_FP64] = 7,   [OT_DT_BYTES] = 8,
    };
    return (int)dt > 0 && dt < OT_DT_COUNT_ ? fields[dt] : 0;
}

static const char contents_names[][16] = {
    "",
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
};

static void *keep(ot_arena *a, const void *items, size_t n, size_t size)
{
    void *o = n > 0 ? ot_arena_alloc(a, n * size) : NULL;
    if (o != NULL) {
        memcpy(o, items, n * size);
    }
    return o;
}

/* ---- parameters */

typedef struct params {
    ot_param items[OT_OIP_PARAMS_MAX];
    int n;
    bool has_binary, binary; /* binary_data_output or binary_data */
} params;

static ot_rc read_param_value(const ot_pb *entry, const ot_pb_field *at, ot_arena *arena,
                              ot_param *p, bool *has, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    OT_TRY(ot_pb_enter(entry, at, "value", "InferParameter", &r, err));
    for (;;) {
        OT_TRY(ot_pb_next(&r, &f, err));
        switch (f.number) {
        case 0:
            return OT_OK;
        case 1:
            OT_TRY(ot_pb_want(&r, &f, OT_PB_VARINT, "bool_param", err));
            p->type = OT_PARAM_BOOL;
            p->b = f.u != 0;
            break;
        case 2:
        case 5:
            OT_TRY(ot_pb_want(&r, &f, OT_PB_VARINT, f.number == 2 ? "int64_param" : "uint64_param",
                              err));
            if (f.number == 5 && f.u > INT64_MAX) {
                return ot_fail(err, OT_INVALID, "parameter '%.80s' is over 2^63 - 1", p->name);
            }
            p->type = OT_PARAM_INT;
            p->i = (int64_t)f.u;
            p->d = (double)p->i;
            break;
        case 3:
            OT_TRY(ot_pb_string(&r, &f, "string_param", arena, &p->s, err));
            p->type = OT_PARAM_STRING;
            break;
        case 4:
            OT_TRY(ot_pb_want(&r, &f, OT_PB_FIXED64, "double_param", err));
            p->type = OT_PARAM_DOUBLE;
            p->d = ot_pb_f64(&f);
            break;
        default:
            continue;
        }
        *has = true;
    }
}

/* An entry of a map of parameters. */
static ot_rc read_param(const ot_pb *msg, const ot_pb_field *at, ot_arena *arena, params *ps,
                        ot_error *err)
{
    ot_pb r;
    ot_pb_field f, value = {0};
    ot_param p = {.name = ""};
    bool has = false;
    OT_TRY(ot_pb_enter(msg, at, "parameters", "ParametersEntry", &r, err));
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_string(&r, &f, "key", arena, &p.name, err));
        } else if (f.number == 2) {
            value = f;
        }
    } while (f.number != 0);
    if (value.number != 0) {
        OT_TRY(read_param_value(&r, &value, arena, &p, &has, err));
    }
    if (ot_has_prefix(p.name, "shared_memory_")) {
        return ot_fail(err, OT_INVALID,
                       "%s: shared memory is not supported; send the data in the message", p.name);
    }
    if (strcmp(p.name, "binary_data_output") == 0 || strcmp(p.name, "binary_data") == 0) {
        if (!has || p.type != OT_PARAM_BOOL) {
            return ot_fail(err, OT_INVALID, "the parameter %s must be a bool_param", p.name);
        }
        ps->has_binary = true;
        ps->binary = p.b;
        return OT_OK;
    }
    if (!has) {
        return OT_OK;
    }
    if (ps->n == OT_OIP_PARAMS_MAX) {
        return ot_fail(err, OT_INVALID, "%s: more than %d parameters", msg->what,
                       OT_OIP_PARAMS_MAX);
    }
    ps->items[ps->n++] = p;
    return OT_OK;
}

static ot_rc keep_params(const params *ps, ot_arena *arena, ot_params *out, ot_error *err)
{
    out->n = ps->n;
    out->items = keep(arena, ps->items, (size_t)ps->n, sizeof ps->items[0]);
    return ps->n > 0 && out->items == NULL ? oip_no_memory(err) : OT_OK;
}

/* The parameters of a message, when it has some: most have none. */
static ot_rc read_params(const ot_pb *msg, uint32_t number, ot_arena *arena, ot_params *out,
                         bool *has_binary, bool *binary, ot_error *err)
{
    params ps;
    ps.n = 0;
    ps.has_binary = ps.binary = false;
    ot_pb r = *msg;
    r.at = r.begin;
    for (;;) {
        ot_pb_field f;
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            break;
        }
        if (f.number == number) {
            OT_TRY(read_param(&r, &f, arena, &ps, err));
        }
    }
    *has_binary = ps.has_binary;
    *binary = ps.binary;
    return keep_params(&ps, arena, out, err);
}

/* ---- inputs */

typedef struct input {
    ot_oip_tensor t;
    bool has_contents, has_params;
    ot_pb message;
    ot_pb_field contents;
} input;

static ot_rc read_type(const ot_pb *r, const ot_pb_field *f, ot_tensor *t, ot_error *err)
{
    OT_TRY(ot_pb_want(r, f, OT_PB_LEN, "datatype", err));
    t->dtype = ot_dtype_parse((const char *)f->p, f->n);
    return t->dtype != OT_DT_INVALID
               ? OT_OK
               : ot_fail(err, OT_INVALID,
                         "input '%.80s': datatype '%.*s' is not known; it is one of BOOL, UINT8, "
                         "UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, "
                         "FP64, BYTES",
                         t->name, (int)OT_MIN(f->n, (size_t)40), (const char *)f->p);
}

static ot_rc check_shape(const ot_tensor *t, ot_error *err)
{
    int64_t count;
    char shape[OT_SHAPE_TEXT];
    for (int i = 0; i < t->rank; i++) {
        if (t->dims[i] < 0) {
            return ot_fail(err, OT_INVALID, "input '%.80s': shape %s has a negative dimension",
                           t->name, ot_shape_format(t->dims, t->rank, shape));
        }
    }
    return ot_shape_count(t->dims, t->rank, &count)
               ? OT_OK
               : ot_fail(err, OT_INVALID, "input '%.80s': the product of shape %s is over 2^63 - 1",
                         t->name, ot_shape_format(t->dims, t->rank, shape));
}

static ot_rc input_field(input *in, const ot_pb_field *f, ot_pb_field *type, ot_arena *arena,
                         ot_error *err)
{
    ot_tensor *t = &in->t.tensor;
    size_t rank = (size_t)t->rank;
    switch (f->number) {
    case 1:
        return ot_pb_string(&in->message, f, "name", arena, &t->name, err);
    case 2:
        *type = *f;
        return OT_OK;
    case 3:
        OT_TRY(ot_pb_i64s(&in->message, f, "shape", t->dims, OT_RANK_MAX, &rank, err));
        t->rank = (int)rank;
        return OT_OK;
    case 4:
        in->has_params = true;
        return OT_OK;
    case 5:
        if (in->has_contents) {
            return ot_fail(err, OT_INVALID, "InferInputTensor: field 'contents' is there twice");
        }
        in->has_contents = true;
        in->contents = *f;
        return ot_pb_want(&in->message, f, OT_PB_LEN, "contents", err);
    default:
        return OT_OK;
    }
}

static ot_rc read_input(const ot_pb *msg, const ot_pb_field *at, ot_arena *arena, input *in,
                        ot_error *err)
{
    ot_pb_field f, type = {0};
    in->t.params = (ot_params){0};
    in->t.binary = in->has_contents = in->has_params = false;
    ot_tensor *t = &in->t.tensor;
    t->name = NULL;
    t->rank = 0;
    t->data = NULL;
    t->size_bytes = 0;
    OT_TRY(ot_pb_enter(msg, at, "inputs", "InferInputTensor", &in->message, err));
    do {
        OT_TRY(ot_pb_next(&in->message, &f, err));
        OT_TRY(input_field(in, &f, &type, arena, err));
    } while (f.number != 0);
    if (t->name == NULL || t->name[0] == '\0') {
        return ot_fail(err, OT_INVALID, "each of inputs needs a name");
    }
    if (type.number == 0) {
        return ot_fail(err, OT_INVALID, "input '%.80s' needs a datatype", t->name);
    }
    OT_TRY(read_type(&in->message, &type, t, err));
    OT_TRY(check_shape(t, err));
    bool has, binary;
    return in->has_params ? read_params(&in->message, 4, arena, &in->t.params, &has, &binary, err)
                          : OT_OK;
}

/* ---- data */

static ot_rc wrong_size(const ot_tensor *t, const char *from, ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    return ot_fail(err, OT_INVALID,
                   "input '%.80s' is %s %s, %lld values of %zu bytes; its %s has %zu bytes",
                   t->name, ot_dtype_name(t->dtype), ot_shape_format(t->dims, t->rank, shape),
                   (long long)ot_tensor_count(t), ot_dtype_size(t->dtype), from, t->size_bytes);
}

static ot_rc take_raw(input *in, const ot_pb_field *raw, ot_error *err)
{
    ot_tensor *t = &in->t.tensor;
    size_t want;
    if (in->has_contents) {
        return ot_fail(err, OT_INVALID, "input '%.80s' has contents beside raw_input_contents",
                       t->name);
    }
    t->data = raw->p;
    t->size_bytes = raw->n;
    in->t.binary = true;
    if (t->dtype == OT_DT_BYTES) {
        return ot_tensor_check(t, err);
    }
    return ot_shape_bytes(t->dtype, t->dims, t->rank, &want) && want == t->size_bytes
               ? OT_OK
               : wrong_size(t, "raw_input_contents", err);
}

/* Values under another name than the type's are a mistake, not nothing. */
static ot_rc check_contents(const ot_pb *contents, const ot_tensor *t, uint32_t field,
                            ot_error *err)
{
    ot_pb r = *contents;
    for (;;) {
        ot_pb_field f;
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number != field && f.number < OT_COUNT(contents_names)) {
            return ot_fail(err, OT_INVALID, "input '%.80s' is %s; its values belong in %s, not %s",
                           t->name, ot_dtype_name(t->dtype), contents_names[field],
                           contents_names[f.number]);
        }
    }
}

static ot_rc take_contents(input *in, ot_arena *arena, ot_error *err)
{
    ot_tensor *t = &in->t.tensor;
    uint32_t field = ot_oip_pb_contents_field(t->dtype);
    ot_pb contents;
    int64_t count;
    if (field == 0) {
        return ot_fail(err, OT_INVALID,
                       "input '%.80s' is %s, which goes in raw_input_contents only", t->name,
                       ot_dtype_name(t->dtype));
    }
    if (!in->has_contents) {
        ot_pb_init(&contents, "", 0, "InferTensorContents");
    } else {
        OT_TRY(ot_pb_enter(&in->message, &in->contents, "contents", "InferTensorContents",
                           &contents, err));
    }
    OT_TRY(check_contents(&contents, t, field, err));
    OT_TRY(ot_pb_gather(&contents, field, contents_names[field], arena, t, &count, err));
    if (count != ot_tensor_count(t)) {
        char shape[OT_SHAPE_TEXT];
        return ot_fail(err, OT_INVALID, "input '%.80s' is %s, %lld values; its %s has %lld",
                       t->name, ot_shape_format(t->dims, t->rank, shape),
                       (long long)ot_tensor_count(t), contents_names[field], (long long)count);
    }
    return OT_OK;
}

/* ---- outputs that are asked for */

static ot_rc read_ask(const ot_pb *msg, const ot_pb_field *at, ot_arena *arena,
                      ot_oip_output_ask *ask, bool *has_binary, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    bool has_params = false;
    *ask = (ot_oip_output_ask){0};
    *has_binary = false;
    OT_TRY(ot_pb_enter(msg, at, "outputs", "InferRequestedOutputTensor", &r, err));
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_string(&r, &f, "name", arena, &ask->name, err));
        }
        has_params = has_params || f.number == 2;
    } while (f.number != 0);
    if (ask->name == NULL || ask->name[0] == '\0') {
        return ot_fail(err, OT_INVALID, "each of outputs needs a name");
    }
    return has_params ? read_params(&r, 2, arena, &ask->params, has_binary, &ask->binary, err)
                      : OT_OK;
}

/* ---- the request */

typedef struct request {
    ot_pb r;
    ot_arena *arena;
    ot_oip_pb_request out;
    int n_inputs, n_outputs, n_raw;
    bool has_params;
    input inputs[OT_OIP_TENSORS_MAX];
    ot_pb_field raw[OT_OIP_TENSORS_MAX];
    ot_oip_output_ask outputs[OT_OIP_TENSORS_MAX];
    bool says_binary[OT_OIP_TENSORS_MAX];
} request;

static ot_rc add_input(request *q, const ot_pb_field *f, ot_error *err)
{
    if (q->n_inputs == OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "more than %d inputs", OT_OIP_TENSORS_MAX);
    }
    input *in = &q->inputs[q->n_inputs];
    OT_TRY(read_input(&q->r, f, q->arena, in, err));
    for (int i = 0; i < q->n_inputs; i++) {
        if (strcmp(q->inputs[i].t.tensor.name, in->t.tensor.name) == 0) {
            return ot_fail(err, OT_INVALID, "input '%.80s' is there twice", in->t.tensor.name);
        }
    }
    q->n_inputs++;
    return OT_OK;
}

static ot_rc add_output(request *q, const ot_pb_field *f, ot_error *err)
{
    if (q->n_outputs == OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "more than %d outputs", OT_OIP_TENSORS_MAX);
    }
    ot_oip_output_ask *ask = &q->outputs[q->n_outputs];
    OT_TRY(read_ask(&q->r, f, q->arena, ask, &q->says_binary[q->n_outputs], err));
    for (int i = 0; i < q->n_outputs; i++) {
        if (strcmp(q->outputs[i].name, ask->name) == 0) {
            return ot_fail(err, OT_INVALID, "output '%.80s' is asked for twice", ask->name);
        }
    }
    q->n_outputs++;
    return OT_OK;
}

static ot_rc request_field(request *q, const ot_pb_field *f, ot_error *err)
{
    switch (f->number) {
    case 1:
        return ot_pb_string(&q->r, f, "model_name", q->arena, &q->out.model_name, err);
    case 2:
        return ot_pb_string(&q->r, f, "model_version", q->arena, &q->out.model_version, err);
    case 3:
        return f->n == 0 ? ot_pb_want(&q->r, f, OT_PB_LEN, "id", err)
                         : ot_pb_string(&q->r, f, "id", q->arena, &q->out.r.id, err);
    case 4:
        q->has_params = true;
        return OT_OK;
    case 5:
        return add_input(q, f, err);
    case 6:
        return add_output(q, f, err);
    case 7:
        OT_TRY(ot_pb_want(&q->r, f, OT_PB_LEN, "raw_input_contents", err));
        if (q->n_raw == OT_OIP_TENSORS_MAX) {
            return ot_fail(err, OT_INVALID, "more than %d raw_input_contents", OT_OIP_TENSORS_MAX);
        }
        q->raw[q->n_raw++] = *f;
        return OT_OK;
    default:
        return OT_OK;
    }
}

static ot_rc take_data(request *q, ot_error *err)
{
    if (q->n_inputs == 0) {
        return ot_fail(err, OT_INVALID, "the request has no 'inputs'");
    }
    if (q->n_raw > 0 && q->n_raw != q->n_inputs) {
        return ot_fail(err, OT_INVALID, "there are %d raw_input_contents for %d inputs", q->n_raw,
                       q->n_inputs);
    }
    for (int i = 0; i < q->n_inputs; i++) {
        OT_TRY(q->n_raw > 0 ? take_raw(&q->inputs[i], &q->raw[i], err)
                            : take_contents(&q->inputs[i], q->arena, err));
    }
    return OT_OK;
}

static ot_rc request_finish(request *q, ot_error *err)
{
    bool has = false, binary = false;
    ot_oip_request *r = &q->out.r;
    OT_TRY(take_data(q, err));
    if (q->has_params) {
        OT_TRY(read_params(&q->r, 4, q->arena, &r->params, &has, &binary, err));
    }
    r->binary_default = has ? binary : q->n_raw > 0;
    r->n_inputs = q->n_inputs;
    r->inputs = ot_arena_alloc(q->arena, (size_t)q->n_inputs * sizeof *r->inputs);
    if (r->inputs == NULL) {
        return oip_no_memory(err);
    }
    for (int i = 0; i < q->n_inputs; i++) {
        r->inputs[i] = q->inputs[i].t;
    }
    for (int i = 0; i < q->n_outputs; i++) {
        q->outputs[i].binary = q->says_binary[i] ? q->outputs[i].binary : r->binary_default;
    }
    r->n_outputs = q->n_outputs;
    r->outputs = keep(q->arena, q->outputs, (size_t)q->n_outputs, sizeof q->outputs[0]);
    return q->n_outputs > 0 && r->outputs == NULL ? oip_no_memory(err) : OT_OK;
}

ot_rc ot_oip_pb_request_decode(const void *p, size_t n, ot_arena *arena, ot_oip_pb_request *out,
                               ot_error *err)
{
    request q;
    ot_pb_init(&q.r, p, n, REQUEST);
    q.arena = arena;
    q.out = (ot_oip_pb_request){.model_name = "", .model_version = ""};
    q.n_inputs = q.n_outputs = q.n_raw = 0;
    q.has_params = false;
    for (;;) {
        ot_pb_field f;
        OT_TRY(ot_pb_next(&q.r, &f, err));
        if (f.number == 0) {
            break;
        }
        OT_TRY(request_field(&q, &f, err));
    }
    OT_TRY(request_finish(&q, err));
    *out = q.out;
    return OT_OK;
}
