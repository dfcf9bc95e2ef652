#include "codec/tfs_pb.h"

#include "codec/pb_values.h"
#include "codec/tfs_types.h"

/* ---- ModelSpec */

/* google.protobuf.Int64Value. */
static ot_rc version_read(const ot_pb *spec, const ot_pb_field *at, uint64_t *out, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    OT_TRY(ot_pb_enter(spec, at, "version", "Int64Value", &r, err));
    *out = 0;
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_want(&r, &f, OT_PB_VARINT, "value", err));
            *out = f.u;
        }
    } while (f.number != 0);
    return *out > 0 && *out <= INT64_MAX
               ? OT_OK
               : ot_fail(err, OT_NOT_FOUND, "version %lld is not one: they count from 1",
                         (long long)*out);
}

ot_rc ot_tfs_pb_spec_read(const ot_pb *message, const ot_pb_field *at, ot_arena *arena,
                          ot_tfs_spec *out, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    OT_TRY(ot_pb_enter(message, at, "model_spec", "ModelSpec", &r, err));
    for (;;) {
        OT_TRY(ot_pb_next(&r, &f, err));
        switch (f.number) {
        case 0:
            return OT_OK;
        case 1:
            OT_TRY(ot_pb_string(&r, &f, "name", arena, &out->name, err));
            break;
        case 2:
            OT_TRY(version_read(&r, &f, &out->version, err));
            break;
        case 3:
            OT_TRY(ot_pb_string(&r, &f, "signature_name", arena, &out->signature, err));
            break;
        case 4:
            OT_TRY(ot_pb_string(&r, &f, "version_label", arena, &out->label, err));
            break;
        default:
            break;
        }
    }
}

void ot_tfs_pb_spec_put(ot_str *s, uint32_t number, const ot_tfs_spec *spec)
{
    size_t message = ot_pb_begin(s, number);
    ot_pb_put_some(s, 1, spec->name);
    if (spec->version != 0) {
        size_t version = ot_pb_begin(s, 2);
        ot_pb_put_uint(s, 1, spec->version);
        ot_pb_end(s, version, 0);
    }
    ot_pb_put_some(s, 3, spec->signature);
    ot_pb_end(s, message, 0);
}

/* ---- PredictRequest and PredictResponse: alike, but for the places of two fields */

typedef struct taken {
    ot_oip_tensor items[OT_OIP_TENSORS_MAX];
    int n;
    ot_oip_output_ask asks[OT_OIP_TENSORS_MAX];
    int n_asks;
} taken;

/* An entry of map<string, TensorProto>; `what`: "input". */
static ot_rc entry_read(const ot_pb *message, const ot_pb_field *at, const char *what,
                        ot_arena *arena, taken *in, ot_error *err)
{
    ot_pb r, value;
    ot_pb_field f, tensor = {0};
    OT_TRY(ot_pb_enter(message, at, what, "map", &r, err));
    if (in->n == OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "more than %d %ss", OT_OIP_TENSORS_MAX, what);
    }
    ot_tensor *t = &in->items[in->n].tensor;
    in->items[in->n++] = (ot_oip_tensor){.tensor = {.name = ""}};
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_string(&r, &f, "key", arena, &t->name, err));
        } else if (f.number == 2) {
            tensor = f;
        }
    } while (f.number != 0);
    if (tensor.number == 0) {
        return ot_fail(err, OT_INVALID, "%s '%.80s' has no tensor", what, t->name);
    }
    OT_TRY(ot_pb_enter(&r, &tensor, "value", "TensorProto", &value, err));
    ot_error why;
    ot_rc rc = ot_tfs_pb_tensor_read(&value, arena, t, &why);
    return rc == OT_OK ? OT_OK : ot_fail(err, rc, "%s '%.80s': %s", what, t->name, why.msg);
}

static ot_rc filter_read(const ot_pb *r, const ot_pb_field *f, ot_arena *arena, taken *in,
                         ot_error *err)
{
    if (in->n_asks == OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "output_filter names more than %d outputs",
                       OT_OIP_TENSORS_MAX);
    }
    ot_oip_output_ask *ask = &in->asks[in->n_asks++];
    *ask = (ot_oip_output_ask){0};
    return ot_pb_string(r, f, "output_filter", arena, &ask->name, err);
}

static void *keep(ot_arena *arena, const void *items, int n, size_t size)
{
    void *p = ot_arena_alloc(arena, (size_t)OT_MAX(n, 1) * size);
    if (p != NULL && n > 0) {
        memcpy(p, items, (size_t)n * size);
    }
    return p;
}

static ot_rc predict_decode(const void *p, size_t n, bool response, ot_arena *arena,
                            ot_tfs_pb_predict *out, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    taken in;
    in.n = in.n_asks = 0;
    const uint32_t spec = response ? 2 : 1, tensors = response ? 1 : 2;
    ot_tfs_pb_predict req = {.spec = {.name = ""}};
    ot_pb_init(&r, p, n, response ? "PredictResponse" : "PredictRequest");
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == spec) {
            OT_TRY(ot_tfs_pb_spec_read(&r, &f, arena, &req.spec, err));
        } else if (f.number == tensors) {
            OT_TRY(entry_read(&r, &f, response ? "output" : "input", arena, &in, err));
        } else if (f.number == 3 && !response) {
            OT_TRY(filter_read(&r, &f, arena, &in, err));
        }
    } while (f.number != 0);
    req.inputs = keep(arena, in.items, in.n, sizeof in.items[0]);
    req.n_inputs = in.n;
    req.outputs = keep(arena, in.asks, in.n_asks, sizeof in.asks[0]);
    req.n_outputs = in.n_asks;
    if (req.inputs == NULL || req.outputs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "the %s needs more memory than its limit allows",
                       response ? "answer" : "request");
    }
    *out = req;
    return OT_OK;
}

ot_rc ot_tfs_pb_predict_decode(const void *p, size_t n, ot_arena *arena, ot_tfs_pb_predict *out,
                               ot_error *err)
{
    return predict_decode(p, n, false, arena, out, err);
}

ot_rc ot_tfs_pb_predicted_decode(const void *p, size_t n, ot_arena *arena, ot_tfs_pb_predict *out,
                                 ot_error *err)
{
    return predict_decode(p, n, true, arena, out, err);
}

static ot_rc tensors_put(ot_str *out, uint32_t number, const ot_tensor *tensors, int n,
                         ot_error *err)
{
    for (int i = 0; i < n; i++) {
        OT_TRY(ot_tensor_check(&tensors[i], err));
        size_t entry = ot_pb_begin(out, number);
        ot_pb_put_string(out, 1, tensors[i].name);
        ot_tfs_pb_tensor_put(out, 2, &tensors[i]);
        ot_pb_end(out, entry, 0);
    }
    return OT_OK;
}

ot_rc ot_tfs_pb_predict_encode(const ot_tfs_spec *spec, const ot_tensor *outputs, int n,
                               ot_str *out, ot_error *err)
{
    OT_TRY(tensors_put(out, 1, outputs, n, err));
    ot_tfs_pb_spec_put(out, 2, spec);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "memory is short for the answer") : OT_OK;
}

ot_rc ot_tfs_pb_request_encode(const ot_tfs_spec *spec, const ot_tensor *inputs, int n, ot_str *out,
                               ot_error *err)
{
    ot_tfs_pb_spec_put(out, 1, spec);
    OT_TRY(tensors_put(out, 2, inputs, n, err));
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "memory is short for the request") : OT_OK;
}
