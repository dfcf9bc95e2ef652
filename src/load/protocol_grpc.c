/* The Open Inference Protocol over gRPC, the client's side. */
#include "load/protocol_internal.h"

#include "codec/grpc.h"
#include "codec/pb.h"

#include <stdio.h>
#include <string.h>

/* Field numbers of the package `inference`. */
enum {
    NAME = 1,             /* of a tensor, and of a model in each message that has one */
    VERSION = 2,          /* of a model */
    DATATYPE = 2,         /* of a tensor */
    SHAPE = 3,            /* of a tensor */
    REQUEST_INPUTS = 5,   /* ModelInferRequest */
    REQUEST_RAW = 7,      /* ModelInferRequest */
    RESPONSE_OUTPUTS = 5, /* ModelInferResponse */
    RESPONSE_RAW = 6,     /* ModelInferResponse */
    METADATA_INPUTS = 4,  /* ModelMetadataResponse */
    METADATA_OUTPUTS = 5, /* ModelMetadataResponse */
};

#define SERVICE "/inference.GRPCInferenceService/"

/* ---- calls of any service */

void ot_load_grpc_begin(ot_load_request *r)
{
    ot_str_add(&r->body, "\0\0\0\0\0", OT_GRPC_PREFIX);
}

ot_rc ot_load_grpc_end(ot_load_request *r, const ot_load_target *t, const char *path, ot_error *err)
{
    r->path = ot_strdup(path);
    ot_str_adds(&r->head, t->url.host); /* :authority */
    if (r->path == NULL || r->head.failed || r->body.failed) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for requests");
    }
    ot_grpc_prefix(r->body.data, r->body.len - OT_GRPC_PREFIX);
    return OT_OK;
}

typedef struct asking {
    ot_load_target *t;
    ot_load_grpc_read_fn *read;
    ot_rc rc;
    ot_error err;
} asking;

static ot_load_outcome take_metadata(void *arg, size_t request, const ot_load_answer *a,
                                     bool measured)
{
    asking *x = arg;
    (void)request;
    (void)measured;
    x->rc = a->grpc_status == 0
                ? x->read(x->t, a->body, &x->err)
                : ot_fail(&x->err, a->grpc_status == 5 ? OT_NOT_FOUND : OT_UNAVAILABLE,
                          "%s answers gRPC status %d: %.*s", x->t->url.host, a->grpc_status,
                          (int)OT_MIN(a->body.n, 200u), a->body.p);
    return OT_LOAD_CORRECT;
}

ot_rc ot_load_grpc_ask(ot_load_target *t, ot_load_request *r, const char *path,
                       ot_load_grpc_read_fn *read, ot_error *err)
{
    ot_load_result *result = ot_calloc(1, sizeof *result);
    ot_tensor_spec *specs = ot_arena_calloc(&t->arena, 2 * OT_LOAD_TENSORS_MAX, sizeof *specs);
    asking x = {.t = t, .read = read};
    x.rc = ot_fail(&x.err, OT_UNAVAILABLE, "%s does not answer as a gRPC server", t->url.host);
    ot_load_options o = {.addr = t->url.addr,
                         .tls = t->url.tls,
                         .wire = &ot_load_http2,
                         .connections = 1,
                         .streams = 1,
                         .requests = r,
                         .n_requests = 1,
                         .duration_ns = UINT64_C(10000000000),
                         .requests_max = 1,
                         .timeout_ns = UINT64_C(10000000000),
                         .judge = take_metadata,
                         .arg = &x};
    ot_rc rc = result == NULL || specs == NULL ? ot_fail(err, OT_EXHAUSTED, "load: out of memory")
                                               : ot_load_grpc_end(r, t, path, err);
    if (rc == OT_OK) {
        t->inputs = specs;
        t->outputs = specs + OT_LOAD_TENSORS_MAX;
        rc = ot_load_run(&o, result, err);
    }
    ot_load_request_done(r);
    ot_free(result);
    return rc != OT_OK || x.rc == OT_OK ? rc : ot_fail(err, x.rc, "%s", x.err.msg);
}

/* ---- requests */

static void begin(ot_load_request *r, const ot_load_target *t)
{
    ot_load_grpc_begin(r);
    ot_pb_put_string(&r->body, NAME, t->url.model);
    if (t->url.version[0] != '\0') {
        ot_pb_put_string(&r->body, VERSION, t->url.version);
    }
}

ot_rc ot_load_encode_grpc(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *r,
                          ot_error *err)
{
    begin(r, t);
    for (size_t i = 0; i < t->n_inputs; i++) {
        size_t mark = ot_pb_begin(&r->body, REQUEST_INPUTS);
        ot_pb_put_string(&r->body, NAME, inputs[i].name);
        ot_pb_put_string(&r->body, DATATYPE, ot_dtype_name(inputs[i].dtype));
        ot_pb_put_packed(&r->body, SHAPE, inputs[i].dims, (size_t)inputs[i].rank);
        ot_pb_end(&r->body, mark, 0);
    }
    for (size_t i = 0; i < t->n_inputs; i++) {
        ot_pb_put_bytes(&r->body, REQUEST_RAW, inputs[i].data, inputs[i].size_bytes);
    }
    return ot_load_grpc_end(r, t, SERVICE "ModelInfer", err);
}

/* ---- answers */

/* A tensor's name, type and shape: of an output, or of metadata (there -1 is open). */
static ot_rc read_tensor(const ot_pb *message, const ot_pb_field *f, ot_arena *arena,
                         ot_tensor_spec *out, ot_error *err)
{
    ot_pb r;
    OT_TRY(ot_pb_enter(message, f, "tensor", "tensor", &r, err));
    size_t rank = 0;
    const char *type = "";
    *out = (ot_tensor_spec){.name = ""};
    for (;;) {
        ot_pb_field x;
        OT_TRY(ot_pb_next(&r, &x, err));
        if (x.number == 0) {
            break;
        }
        if (x.number == NAME) {
            OT_TRY(ot_pb_string(&r, &x, "name", arena, &out->name, err));
        } else if (x.number == DATATYPE) {
            OT_TRY(ot_pb_string(&r, &x, "datatype", arena, &type, err));
        } else if (x.number == SHAPE) {
            OT_TRY(ot_pb_i64s(&r, &x, "shape", out->dims, OT_RANK_MAX, &rank, err));
        }
    }
    out->rank = (int)rank;
    out->dtype = ot_dtype_parse(type, strlen(type));
    return out->dtype != OT_DT_INVALID
               ? OT_OK
               : ot_fail(err, OT_INVALID, "tensor '%s' has the type '%s'", out->name, type);
}

ot_rc ot_load_decode_grpc(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                          ot_load_outputs *out, ot_error *err)
{
    (void)t;
    ot_pb r;
    ot_tensor tensors[OT_LOAD_TENSORS_MAX];
    size_t n = 0, raw = 0;
    ot_pb_init(&r, a->body.p, a->body.n, "ModelInferResponse");
    for (;;) {
        ot_pb_field f;
        ot_tensor_spec s;
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            break;
        }
        if ((f.number == RESPONSE_OUTPUTS && n == OT_LOAD_TENSORS_MAX) ||
            (f.number == RESPONSE_RAW && raw == OT_LOAD_TENSORS_MAX)) {
            return ot_fail(err, OT_INVALID, "an answer with more than %d outputs",
                           OT_LOAD_TENSORS_MAX);
        }
        if (f.number == RESPONSE_OUTPUTS) {
            OT_TRY(read_tensor(&r, &f, arena, &s, err));
            tensors[n].name = s.name;
            tensors[n].dtype = s.dtype;
            tensors[n].rank = s.rank;
            memcpy(tensors[n].dims, s.dims, sizeof s.dims);
            n++;
        } else if (f.number == RESPONSE_RAW) {
            OT_TRY(ot_pb_want(&r, &f, OT_PB_LEN, "raw_output_contents", err));
            tensors[raw].data = f.p;
            tensors[raw].size_bytes = f.n;
            raw++;
        }
    }
    if (n != raw) {
        return ot_fail(err, OT_INVALID, "an answer with %zu outputs and %zu raw contents", n, raw);
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(ot_tensor_check(&tensors[i], err));
    }
    out->n = n;
    out->tensors = ot_arena_calloc(arena, OT_MAX(n, 1u), sizeof *out->tensors);
    if (out->tensors == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for an answer");
    }
    memcpy(out->tensors, tensors, n * sizeof tensors[0]);
    return OT_OK;
}

void ot_load_version_grpc(const ot_load_answer *a, char out[24])
{
    ot_pb r;
    ot_pb_field f;
    ot_error err;
    out[0] = '\0';
    ot_pb_init(&r, a->body.p, a->body.n, "ModelInferResponse");
    while (ot_pb_next(&r, &f, &err) == OT_OK && f.number != 0) {
        if (f.number == VERSION && f.wire == OT_PB_LEN) {
            snprintf(out, 24, "%.*s", (int)OT_MIN(f.n, 23u), (const char *)f.p);
            return;
        }
    }
}

/* ---- the signature */

static ot_rc read_metadata(ot_load_target *t, ot_slice body, ot_error *err)
{
    ot_pb r;
    ot_pb_init(&r, body.p, body.n, "ModelMetadataResponse");
    for (;;) {
        ot_pb_field f;
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            return t->n_inputs > 0
                       ? OT_OK
                       : ot_fail(err, OT_DATA_LOSS, "model '%s' has no inputs", t->url.model);
        }
        bool in = f.number == METADATA_INPUTS;
        size_t *n = in ? &t->n_inputs : &t->n_outputs;
        if (!in && f.number != METADATA_OUTPUTS) {
            continue;
        }
        if (*n == OT_LOAD_TENSORS_MAX) {
            return ot_fail(err, OT_DATA_LOSS, "model '%s' has more than %d tensors on one side",
                           t->url.model, OT_LOAD_TENSORS_MAX);
        }
        OT_TRY(read_tensor(&r, &f, &t->arena, &(in ? t->inputs : t->outputs)[(*n)++], err));
    }
}

ot_rc ot_load_ask_grpc(ot_load_target *t, ot_error *err)
{
    ot_load_request r = OT_LOAD_REQUEST_INIT;
    begin(&r, t);
    return ot_load_grpc_ask(t, &r, SERVICE "ModelMetadata", read_metadata, err);
}
