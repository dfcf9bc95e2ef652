/* TensorFlow Serving's PredictionService over gRPC, the client's side. */
#include "load/protocol_internal.h"

#include "codec/tfs_pb.h"
#include "codec/tfs_types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVICE "/tensorflow.serving.PredictionService/"
#define SIGNATURE "serving_default"

static ot_tfs_spec spec_of(const ot_load_target *t)
{
    return (ot_tfs_spec){.name = t->url.model, .version = strtoull(t->url.version, NULL, 10)};
}

ot_rc ot_load_encode_tfs_grpc(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *r,
                              ot_error *err)
{
    const ot_tfs_spec spec = spec_of(t);
    ot_load_grpc_begin(r);
    OT_TRY(ot_tfs_pb_request_encode(&spec, inputs, (int)t->n_inputs, &r->body, err));
    return ot_load_grpc_end(r, t, SERVICE "Predict", err);
}

ot_rc ot_load_decode_tfs_grpc(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                              ot_load_outputs *out, ot_error *err)
{
    (void)t;
    ot_tfs_pb_predict p;
    OT_TRY(ot_tfs_pb_predicted_decode(a->body.p, a->body.n, arena, &p, err));
    return ot_load_outputs_take(p.inputs, p.n_inputs, arena, out, err);
}

void ot_load_version_tfs_grpc(const ot_load_answer *a, char out[24])
{
    ot_pb r;
    ot_pb_field f;
    ot_error err;
    ot_arena arena;
    ot_tfs_spec spec = {0};
    out[0] = '\0';
    ot_arena_init(&arena, 1024, 65536);
    ot_pb_init(&r, a->body.p, a->body.n, "PredictResponse");
    while (ot_pb_next(&r, &f, &err) == OT_OK && f.number != 0) {
        if (f.number == 2 && ot_tfs_pb_spec_read(&r, &f, &arena, &spec, &err) == OT_OK &&
            spec.version != 0) {
            snprintf(out, 24, "%llu", (unsigned long long)spec.version);
        }
    }
    ot_arena_done(&arena);
}

/* ---- the signature: GetModelMetadataResponse, a map of Any with a map of maps in it */

/* An entry of a map of messages: its key, and a reader of its value. */
static ot_rc entry(const ot_pb *message, const ot_pb_field *at, const char *what, ot_arena *arena,
                   const char **key, ot_pb *value, ot_error *err)
{
    ot_pb r;
    ot_pb_field f, found = {0};
    *key = "";
    OT_TRY(ot_pb_enter(message, at, what, "map", &r, err));
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_string(&r, &f, "key", arena, key, err));
        } else if (f.number == 2) {
            found = f;
        }
    } while (f.number != 0);
    return found.number != 0 ? ot_pb_enter(&r, &found, "value", what, value, err)
                             : ot_fail(err, OT_INVALID, "%s '%.80s' has no value", what, *key);
}

static ot_rc read_dim(const ot_pb *shape, const ot_pb_field *at, ot_tensor_spec *s, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    int64_t size = 0;
    OT_TRY(ot_pb_enter(shape, at, "dim", "Dim", &r, err));
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_want(&r, &f, OT_PB_VARINT, "size", err));
            size = ot_pb_i64(&f);
        }
    } while (f.number != 0);
    if (s->rank == OT_RANK_MAX) {
        return ot_fail(err, OT_INVALID, "tensor '%.80s' has more than %d dimensions", s->name,
                       OT_RANK_MAX);
    }
    s->dims[s->rank++] = size;
    return OT_OK;
}

static ot_rc read_shape(const ot_pb *info, const ot_pb_field *at, ot_tensor_spec *s, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    OT_TRY(ot_pb_enter(info, at, "tensor_shape", "TensorShapeProto", &r, err));
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 2) {
            OT_TRY(read_dim(&r, &f, s, err));
        }
    } while (f.number != 0);
    return OT_OK;
}

/* TensorInfo. */
static ot_rc read_info(ot_pb *r, ot_tensor_spec *s, ot_error *err)
{
    ot_pb_field f;
    do {
        OT_TRY(ot_pb_next(r, &f, err));
        if (f.number == 2) {
            OT_TRY(ot_pb_want(r, &f, OT_PB_VARINT, "dtype", err));
            s->dtype = ot_tfs_type_from(f.u);
        } else if (f.number == 3) {
            OT_TRY(read_shape(r, &f, s, err));
        }
    } while (f.number != 0);
    return s->dtype != OT_DT_INVALID
               ? OT_OK
               : ot_fail(err, OT_DATA_LOSS, "tensor '%.80s' has a type that is not known", s->name);
}

/* SignatureDef. */
static ot_rc read_signature(ot_load_target *t, ot_pb *r, ot_error *err)
{
    ot_pb_field f;
    for (;;) {
        OT_TRY(ot_pb_next(r, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number != 1 && f.number != 2) {
            continue;
        }
        ot_pb info;
        size_t *n = f.number == 1 ? &t->n_inputs : &t->n_outputs;
        if (*n == OT_LOAD_TENSORS_MAX) {
            return ot_fail(err, OT_DATA_LOSS, "model '%s' has more than %d tensors on one side",
                           t->url.model, OT_LOAD_TENSORS_MAX);
        }
        ot_tensor_spec *s = &(f.number == 1 ? t->inputs : t->outputs)[*n];
        OT_TRY(entry(r, &f, "tensor", &t->arena, &s->name, &info, err));
        OT_TRY(read_info(&info, s, err));
        (*n)++;
    }
}

/* Any with a SignatureDefMap. */
static ot_rc read_any(ot_load_target *t, ot_pb *any, ot_error *err)
{
    ot_pb_field f, x;
    do {
        OT_TRY(ot_pb_next(any, &f, err));
        if (f.number != 2) {
            continue;
        }
        ot_pb r, signature;
        const char *name;
        OT_TRY(ot_pb_enter(any, &f, "value", "SignatureDefMap", &r, err));
        do {
            OT_TRY(ot_pb_next(&r, &x, err));
            if (x.number == 1) {
                OT_TRY(entry(&r, &x, "signature", &t->arena, &name, &signature, err));
                if (strcmp(name, SIGNATURE) == 0) {
                    OT_TRY(read_signature(t, &signature, err));
                }
            }
        } while (x.number != 0);
    } while (f.number != 0);
    return OT_OK;
}

ot_rc ot_load_signature_tfs_grpc(ot_load_target *t, ot_slice body, ot_error *err)
{
    ot_pb r, any;
    ot_pb_field f;
    const char *name;
    ot_pb_init(&r, body.p, body.n, "GetModelMetadataResponse");
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 2) {
            OT_TRY(entry(&r, &f, "metadata", &t->arena, &name, &any, err));
            OT_TRY(read_any(t, &any, err));
        }
    } while (f.number != 0);
    return t->n_inputs > 0
               ? OT_OK
               : ot_fail(err, OT_DATA_LOSS,
                         "model '%s' has no signature '" SIGNATURE "' with inputs", t->url.model);
}

ot_rc ot_load_ask_tfs_grpc(ot_load_target *t, ot_error *err)
{
    ot_load_request r = OT_LOAD_REQUEST_INIT;
    const ot_tfs_spec spec = spec_of(t);
    ot_load_grpc_begin(&r);
    ot_tfs_pb_spec_put(&r.body, 1, &spec);
    ot_pb_put_string(&r.body, 2, "signature_def");
    return ot_load_grpc_ask(t, &r, SERVICE "GetModelMetadata", ot_load_signature_tfs_grpc, err);
}
