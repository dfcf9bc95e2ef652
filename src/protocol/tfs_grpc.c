/* tensorflow.serving.PredictionService over gRPC. Source: tensorflow_serving/apis. */
#include "protocol/tfs_grpc.h"

#include "codec/tfs_result.h"
#include "codec/tfs_types.h"

#include <string.h>

/* ---- Predict, Classify, Regress */

typedef struct tfs_call {
    ot_call call; /* first: the wire gets it back */
    ot_tfs_method method;
    ot_tfs_spec spec; /* as it was asked for */
} tfs_call;

static ot_rc encode_predict(const ot_call *call, const ot_tfs_spec *spec, ot_str *out,
                            ot_error *err)
{
    ot_tensor outputs[OT_RUNTIME_OUTPUTS_MAX + OT_OIP_TENSORS_MAX];
    int n = ot_call_n_outputs(call); /* as many as were asked for, or the model has */
    for (int i = 0; i < n; i++) {
        OT_TRY(ot_call_output(call, i, &outputs[i], NULL, err));
    }
    return ot_tfs_pb_predict_encode(spec, outputs, n, out, err);
}

ot_rc ot_tfs_result_put(const ot_call *call, ot_tfs_method method, uint32_t number, ot_str *out,
                        ot_error *err)
{
    int prediction = ot_tfs_prediction(call);
    if (method == OT_TFS_CLASSIFY) {
        ot_tfs_classes c;
        OT_TRY(ot_tfs_classes_find(call->outputs, call->n_outputs, prediction, &c, err));
        return ot_tfs_classes_pb(&c, number, out, err);
    }
    const ot_tensor *values;
    OT_TRY(ot_tfs_values_find(call->outputs, call->n_outputs, prediction, &values, err));
    ot_tfs_values_pb(values, number, out);
    return OT_OK;
}

static ot_rc encode(const tfs_call *t, ot_str *out, ot_error *err)
{
    const ot_call *call = &t->call;
    ot_tfs_spec spec = {.name = call->dep->name,
                        .version = call->variant->version,
                        .signature = ot_tfs_signature_name(call->variant)};
    if (t->method == OT_TFS_PREDICT) {
        return encode_predict(call, &spec, out, err);
    }
    OT_TRY(ot_tfs_result_put(call, t->method, 1, out, err));
    ot_tfs_pb_spec_put(out, 2, &spec);
    return OT_OK;
}

static void answer(ot_worker *w, ot_call *call)
{
    ot_error err;
    ot_grpc_frame_begin(&w->head);
    ot_rc rc = encode((const tfs_call *)call, &w->head, &err);
    if (rc != OT_OK) {
        ot_call_fail(call, rc, err.msg);
        ot_worker_answer(w, call);
        return;
    }
    ot_http_field fields[OT_GRPC_FIELDS];
    size_t n = ot_grpc_call_fields(w, call, fields);
    ot_grpc_answer(w, call->req, fields, n, &w->head, NULL, 0);
}

static const ot_wire wire = {
    .name = "tensorflow-serving-grpc", .answer = answer, .fail = ot_grpc_wire_fail};

/* ClassificationRequest and RegressionRequest are alike. */
static ot_rc examples_decode(tfs_call *t, ot_slice message, ot_tfs_examples *e, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    ot_pb_init(&r, message.p, message.n,
               t->method == OT_TFS_CLASSIFY ? "ClassificationRequest" : "RegressionRequest");
    *e = (ot_tfs_examples){0};
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_tfs_pb_spec_read(&r, &f, t->call.arena, &t->spec, err));
        } else if (f.number == 2) {
            OT_TRY(ot_tfs_examples_pb(&r, &f, t->call.arena, e, err));
        }
    } while (f.number != 0);
    return e->n > 0 ? OT_OK : ot_fail(err, OT_INVALID, "%s: there is no input", r.what);
}

/* What the message says, but for what needs the model's signature. */
static ot_rc decode(tfs_call *t, ot_slice message, ot_tfs_examples *e, ot_error *err)
{
    ot_call *call = &t->call;
    if (t->method != OT_TFS_PREDICT) {
        return examples_decode(t, message, e, err);
    }
    ot_tfs_pb_predict p;
    OT_TRY(ot_tfs_pb_predict_decode(message.p, message.n, call->arena, &p, err));
    t->spec = p.spec;
    call->in.inputs = p.inputs;
    call->in.n_inputs = p.n_inputs;
    call->in.outputs = p.outputs;
    call->in.n_outputs = p.n_outputs;
    return OT_OK;
}

static ot_rc check(tfs_call *t, const ot_tfs_examples *e, ot_error *err)
{
    ot_call *call = &t->call;
    OT_TRY(ot_tfs_signature(call->asked, t->spec.signature, &call->variant, err));
    if (t->method != OT_TFS_PREDICT) {
        OT_TRY(ot_tfs_take_examples(call, e, err));
    }
    return ot_call_check(call, call->variant, err);
}

static void infer(ot_worker *w, ot_http_req *req, ot_slice message, ot_tfs_method method)
{
    tfs_call *t = ot_arena_calloc(req->arena, 1, sizeof *t);
    if (t == NULL) {
        ot_grpc_fail(w, req, OT_EXHAUSTED, 0, "out of memory for the call");
        return;
    }
    t->method = method;
    t->spec.name = "";
    ot_call *call = &t->call;
    if (!ot_grpc_call_begin(w, call, &wire, req, req->arena, req->start_ns)) {
        return;
    }
    ot_tfs_examples e;
    ot_error err;
    ot_rc rc = decode(t, message, &e, &err);
    if (rc == OT_OK) {
        call->label = (ot_slice){t->spec.label, t->spec.label != NULL ? strlen(t->spec.label) : 0};
        if (!ot_worker_begin(w, call, t->spec.name, strlen(t->spec.name), t->spec.version)) {
            return;
        }
        rc = check(t, &e, &err);
    }
    if (rc != OT_OK) {
        ot_worker_refuse(w, call, rc, ot_rc_http(rc), 0, "%s", err.msg);
        return;
    }
    ot_worker_go(w, call);
}

static void predict(ot_worker *w, ot_http_req *req, ot_slice message)
{
    infer(w, req, message, OT_TFS_PREDICT);
}

static void classify(ot_worker *w, ot_http_req *req, ot_slice message)
{
    infer(w, req, message, OT_TFS_CLASSIFY);
}

static void regress(ot_worker *w, ot_http_req *req, ot_slice message)
{
    infer(w, req, message, OT_TFS_REGRESS);
}

/* ---- GetModelMetadata */

/* map<string, TensorInfo> as field `number`. */
static void put_tensors(ot_str *s, uint32_t number, const ot_tensor_spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t entry = ot_pb_begin(s, number);
        ot_pb_put_string(s, 1, specs[i].name);
        size_t info = ot_pb_begin(s, 2);
        ot_pb_put_string(s, 1, specs[i].name);
        ot_pb_put_uint(s, 2, (uint64_t)ot_tfs_type(specs[i].dtype));
        ot_tfs_pb_shape_put(s, 3, specs[i].dims, specs[i].rank);
        ot_pb_end(s, info, 0);
        ot_pb_end(s, entry, 0);
    }
}

/* An entry of SignatureDefMap. */
static void put_signature(ot_str *s, const ot_variant *v)
{
    size_t entry = ot_pb_begin(s, 1);
    ot_pb_put_string(s, 1, ot_tfs_signature_name(v));
    size_t def = ot_pb_begin(s, 2);
    put_tensors(s, 1, v->sig.inputs, v->sig.n_inputs);
    put_tensors(s, 2, v->sig.outputs, v->sig.n_outputs);
    ot_pb_put_string(s, 3, ot_tfs_method_name(v));
    ot_pb_end(s, def, 0);
    ot_pb_end(s, entry, 0);
}

static ot_rc metadata_request(ot_slice message, ot_arena *arena, ot_tfs_spec *spec, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    unsigned fields = 0;
    *spec = (ot_tfs_spec){.name = ""};
    ot_pb_init(&r, message.p, message.n, "GetModelMetadataRequest");
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_tfs_pb_spec_read(&r, &f, arena, spec, err));
        } else if (f.number == 2) {
            const char *field;
            OT_TRY(ot_pb_string(&r, &f, "metadata_field", arena, &field, err));
            if (strcmp(field, "signature_def") != 0) {
                return ot_fail(err, OT_INVALID,
                               "metadata_field '%.80s' is not there; signature_def is", field);
            }
            fields++;
        }
    } while (f.number != 0);
    return fields > 0 ? OT_OK
                      : ot_fail(err, OT_INVALID,
                                "no metadata_field is asked for; signature_def is "
                                "the one that there is");
}

static void get_model_metadata(ot_worker *w, ot_http_req *req, ot_slice message)
{
    ot_tfs_spec spec;
    ot_tfs_target target;
    const ot_dep *d;
    const ot_variant *v;
    ot_error err;
    ot_rc rc = metadata_request(message, req->arena, &spec, &err);
    if (rc == OT_OK) {
        rc = ot_tfs_target_of(&spec, &target, &err);
    }
    if (rc == OT_OK) {
        rc = ot_tfs_find_variant(w, &target, &d, &v, &err);
    }
    if (rc != OT_OK) {
        ot_grpc_fail(w, req, rc, rc == OT_UNAVAILABLE ? 1 : 0, "%s", err.msg);
        return;
    }
    ot_str *s = &w->head;
    ot_grpc_frame_begin(s);
    ot_tfs_pb_spec_put(s, 1, &(ot_tfs_spec){.name = d->name, .version = v->version});
    size_t entry = ot_pb_begin(s, 2);
    ot_pb_put_string(s, 1, "signature_def");
    size_t any = ot_pb_begin(s, 2);
    ot_pb_put_string(s, 1, "type.googleapis.com/tensorflow.serving.SignatureDefMap");
    size_t map = ot_pb_begin(s, 2);
    for (const ot_variant *o = v; o != NULL; o = o->other) {
        put_signature(s, o);
    }
    ot_pb_end(s, map, 0);
    ot_pb_end(s, any, 0);
    ot_pb_end(s, entry, 0);
    ot_grpc_answer(w, req, NULL, 0, s, NULL, 0);
}

static const ot_grpc_method methods[] = {
    {"Predict", predict, NULL},
    {"Classify", classify, NULL},
    {"Regress", regress, NULL},
    {"GetModelMetadata", get_model_metadata, NULL},
    {"MultiInference", ot_tfs_multi_inference, NULL},
};

const ot_grpc_service ot_grpc_tfs_prediction = {
    .name = "tensorflow.serving.PredictionService", .methods = methods, .n = OT_COUNT(methods)};
