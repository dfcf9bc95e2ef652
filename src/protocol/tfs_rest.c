/* TensorFlow Serving's REST API: below /v1/models/. */
#include "codec/tfs_json.h"
#include "codec/tfs_result.h"
#include "codec/tfs_types.h"
#include "protocol/coding.h"
#include "protocol/tfs.h"
#include "protocol/wire_rest.h"

#include <inttypes.h>
#include <string.h>

/* ---- :predict, :classify, :regress */

typedef struct tfs_call {
    ot_call call; /* first: the wire gets it back */
    ot_tfs_method method;
    bool rows; /* to be answered as `predictions` */
} tfs_call;

static ot_rc encode(const tfs_call *t, ot_str *out, ot_error *err)
{
    const ot_call *call = &t->call;
    if (t->method == OT_TFS_PREDICT) {
        return ot_tfs_predict_encode(call->outputs, call->n_outputs, t->rows, out, err);
    }
    int prediction = ot_tfs_prediction(call);
    if (t->method == OT_TFS_CLASSIFY) {
        ot_tfs_classes c;
        OT_TRY(ot_tfs_classes_find(call->outputs, call->n_outputs, prediction, &c, err));
        return ot_tfs_classes_json(&c, out, err);
    }
    const ot_tensor *values;
    OT_TRY(ot_tfs_values_find(call->outputs, call->n_outputs, prediction, &values, err));
    ot_tfs_values_json(values, out);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "memory is short for the answer") : OT_OK;
}

static void answer(ot_worker *w, ot_call *call)
{
    ot_str_clear(&w->head);
    w->head.failed = false;
    ot_error err;
    ot_rc rc = encode((const tfs_call *)call, &w->head, &err);
    if (rc != OT_OK) {
        ot_call_fail(call, rc, err.msg);
        ot_worker_answer(w, call);
        return;
    }
    ot_wire_rest_text text;
    ot_http_field fields[OT_WIRE_REST_FIELDS];
    struct iovec iov = {w->head.data, w->head.len};
    ot_worker_count_answer(w, 200);
    ot_coding_respond(call->req,
                      &(ot_http_answer){.status = 200,
                                        .type = "application/json",
                                        .fields = fields,
                                        .n_fields = ot_wire_rest_fields(w, call, &text, fields),
                                        .body = &iov,
                                        .n_body = 1});
}

static const ot_wire wire = {
    .name = "tensorflow-serving", .answer = answer, .fail = ot_wire_rest_fail};

/* Chooses the signature: its variant answers. */
static ot_rc inputs_of(void *arg, const char *name, const ot_tensor_spec **specs_out, size_t *n_out,
                       ot_error *err)
{
    ot_call *call = arg;
    OT_TRY(ot_tfs_signature(call->asked, name, &call->variant, err));
    *specs_out = call->variant->sig.inputs;
    *n_out = call->variant->sig.n_inputs;
    return OT_OK;
}

static ot_rc decode(tfs_call *t, ot_error *err)
{
    ot_call *call = &t->call;
    ot_slice body = call->req->body;
    if (t->method == OT_TFS_PREDICT) {
        ot_tfs_predict p;
        OT_TRY(ot_tfs_predict_decode(body.p, body.n, inputs_of, call, call->arena, &p, err));
        t->rows = p.rows;
        call->in.inputs = p.inputs;
        call->in.n_inputs = p.n_inputs;
    } else {
        ot_tfs_examples e;
        OT_TRY(ot_tfs_examples_json(body.p, body.n, call->arena, &e, err));
        OT_TRY(ot_tfs_signature(call->asked, e.signature, &call->variant, err));
        OT_TRY(ot_tfs_take_examples(call, &e, err));
    }
    return ot_call_check(call, call->variant, err);
}

static void infer(ot_worker *w, ot_http_req *req, const ot_tfs_target *target, ot_tfs_method method)
{
    tfs_call *t = ot_arena_calloc(req->arena, 1, sizeof *t);
    if (t == NULL) {
        ot_worker_error(w, req, 503, "out of memory for the request");
        return;
    }
    t->method = method;
    ot_call *call = &t->call;
    call->wire = &wire;
    call->req = req;
    call->arena = req->arena;
    call->start_ns = req->start_ns;
    call->label = target->label;
    if (!ot_worker_begin(w, call, target->model.p, target->model.n, target->version) ||
        !ot_coding_take_call(call)) {
        return;
    }
    ot_error err;
    ot_rc rc = decode(t, &err);
    if (rc != OT_OK) {
        ot_worker_refuse(w, call, rc, rc == OT_EXHAUSTED ? 413 : 400, 0, "%s", err.msg);
        return;
    }
    ot_worker_go(w, call);
}

bool ot_tfs_rest_fast(ot_worker *w, ot_http_req *req)
{
    static const char head[] = "/v1/models/", tail[] = ":predict";
    size_t h = sizeof head - 1, t = sizeof tail - 1, n = req->path.n;
    if (req->method != OT_HTTP_POST || n <= h + t || memcmp(req->path.p, head, h) != 0 ||
        memcmp(req->path.p + n - t, tail, t) != 0) {
        return false;
    }
    ot_slice name = {req->path.p + h, n - h - t};
    if (memchr(name.p, '/', name.n) != NULL || memchr(name.p, '%', name.n) != NULL) {
        return false;
    }
    infer(w, req, &(ot_tfs_target){.model = name}, OT_TFS_PREDICT);
    return true;
}

/* ---- status and metadata */

static void status(ot_worker *w, ot_http_req *req, const ot_tfs_target *t)
{
    const ot_dep *d;
    const ot_arm *arm;
    ot_error err;
    ot_rc rc = ot_tfs_find(w, t, &d, &arm, &err);
    if (rc != OT_OK) {
        ot_worker_error(w, req, ot_rc_http(rc), "%s", err.msg);
        return;
    }
    ot_tfs_status s[OT_TARGET_VARIANTS_MAX];
    size_t n = ot_tfs_statuses(d, arm, s);
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_adds(&out, "{\"model_version_status\":[");
    for (size_t i = 0; i < n; i++) {
        ot_str_addf(&out,
                    "%s{\"version\":\"%" PRIu64
                    "\",\"state\":\"%s\",\"status\":{\"error_code\":\"%s\",\"error_message\":",
                    i > 0 ? "," : "", s[i].version, ot_tfs_state_name(s[i].state),
                    s[i].message[0] == '\0' ? "OK" : "UNKNOWN");
        ot_str_add_quoted(&out, s[i].message);
        ot_str_adds(&out, "}}");
    }
    ot_str_adds(&out, "]}");
    ot_worker_json(w, req, 200, &out);
}

static void put_specs(ot_str *out, const ot_tensor_spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i > 0 ? "," : "");
        ot_str_add_quoted(out, specs[i].name);
        ot_str_addf(out, ":{\"dtype\":\"%s\",\"tensor_shape\":{\"dim\":[",
                    ot_tfs_type_name(specs[i].dtype));
        for (int k = 0; k < specs[i].rank; k++) {
            ot_str_addf(out, "%s{\"size\":\"%" PRId64 "\",\"name\":\"\"}", k > 0 ? "," : "",
                        specs[i].dims[k]);
        }
        ot_str_adds(out, "],\"unknown_rank\":false},\"name\":");
        ot_str_add_quoted(out, specs[i].name);
        ot_str_addc(out, '}');
    }
}

static void put_signature(ot_str *out, const ot_variant *v)
{
    ot_str_add_quoted(out, ot_tfs_signature_name(v));
    ot_str_adds(out, ":{\"inputs\":{");
    put_specs(out, v->sig.inputs, v->sig.n_inputs);
    ot_str_adds(out, "},\"outputs\":{");
    put_specs(out, v->sig.outputs, v->sig.n_outputs);
    ot_str_adds(out, "},\"method_name\":");
    ot_str_add_quoted(out, ot_tfs_method_name(v));
    ot_str_adds(out, ",\"defaults\":{}}");
}

static void metadata(ot_worker *w, ot_http_req *req, const ot_tfs_target *t)
{
    const ot_dep *d;
    const ot_variant *v;
    ot_error err;
    ot_rc rc = ot_tfs_find_variant(w, t, &d, &v, &err);
    if (rc != OT_OK) {
        ot_worker_error(w, req, ot_rc_http(rc), "%s", err.msg);
        return;
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_addf(&out,
                "{\"model_spec\":{\"name\":\"%s\",\"signature_name\":\"\",\"version\":\"%" PRIu64
                "\"},\"metadata\":{\"signature_def\":{\"signature_def\":{",
                d->name, v->version);
    for (const ot_variant *o = v; o != NULL; o = o->other) {
        ot_str_adds(&out, o != v ? "," : "");
        put_signature(&out, o);
    }
    ot_str_adds(&out, "}}}}");
    ot_worker_json(w, req, 200, &out);
}

/* ---- paths */

typedef enum what {
    PREDICT = OT_TFS_PREDICT,
    CLASSIFY = OT_TFS_CLASSIFY,
    REGRESS = OT_TFS_REGRESS,
    STATUS,
    METADATA,
    UNKNOWN
} what;

/* Takes ":METHOD" off the last segment. */
static what take_method(ot_slice *s)
{
    static const char *const verbs[] = {
        [PREDICT] = "predict", [CLASSIFY] = "classify", [REGRESS] = "regress"};
    const char *colon = s->n > 0 ? memrchr(s->p, ':', s->n) : NULL;
    if (colon == NULL) {
        return STATUS;
    }
    ot_slice verb = {colon + 1, s->n - (size_t)(colon + 1 - s->p)};
    s->n = (size_t)(colon - s->p);
    for (unsigned i = 0; i < OT_COUNT(verbs); i++) {
        if (ot_slice_eq(verb, verbs[i])) {
            return (what)i;
        }
    }
    return UNKNOWN;
}

/* NAME [versions/V | labels/L] [metadata], the last one with its method; false: something else. */
static bool read_target(ot_slice *seg, size_t n, ot_tfs_target *t, what *m_out)
{
    *m_out = take_method(&seg[n - 1]);
    if (*m_out == STATUS && n % 2 == 0 && ot_slice_eq(seg[n - 1], "metadata")) {
        *m_out = METADATA;
        n--;
    }
    *t = (ot_tfs_target){.model = seg[0]};
    if (n == 1) {
        return *m_out != UNKNOWN;
    }
    if (n != 3 || *m_out == UNKNOWN || seg[2].n == 0) {
        return false;
    }
    if (ot_slice_eq(seg[1], "labels")) {
        t->label = seg[2];
        return true;
    }
    return ot_slice_eq(seg[1], "versions") && ot_worker_number(seg[2], INT64_MAX, &t->version) &&
           t->version > 0;
}

void ot_tfs_rest(ot_worker *w, ot_http_req *req, const ot_slice *given, size_t n)
{
    ot_slice seg[4] = {0};
    ot_tfs_target t;
    what m;
    if (n >= 1 && n <= OT_COUNT(seg)) {
        memcpy(seg, given, n * sizeof seg[0]);
    }
    if (n < 1 || n > OT_COUNT(seg) || !read_target(seg, n, &t, &m)) {
        ot_worker_error(
            w, req, 404,
            "there is nothing at %.*s; at /v1/models/NAME there are :predict, :classify, "
            ":regress and /metadata, each also below versions/NUMBER and labels/LABEL",
            (int)OT_MIN(req->path.n, 200u), req->path.p);
        return;
    }
    if (!ot_worker_allow(w, req, m <= REGRESS)) {
        return;
    }
    if (m <= REGRESS) {
        infer(w, req, &t, (ot_tfs_method)m);
    } else if (m == METADATA) {
        metadata(w, req, &t);
    } else {
        status(w, req, &t);
    }
}
