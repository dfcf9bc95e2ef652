#include "serve/call.h"

#include "serve/more.h"

#include <string.h>

/* ---- checking against the signature */

static ot_rc order_inputs(ot_call *call, const ot_manifest *sig, ot_error *err)
{
    for (int i = 0; i < call->in.n_inputs; i++) {
        const ot_tensor *t = &call->in.inputs[i].tensor;
        size_t k = 0; /* most requests send the inputs in the signature's order: start there */
        for (; k < sig->n_inputs; k++) {
            size_t at = ((size_t)i + k) % sig->n_inputs;
            if (strcmp(sig->inputs[at].name, t->name) == 0) {
                if (call->inputs[at].name != NULL) {
                    return ot_fail(err, OT_INVALID, "input '%s' is there twice", t->name);
                }
                OT_TRY(ot_tensor_matches(&sig->inputs[at], t, err));
                call->inputs[at] = *t;
                break;
            }
        }
        if (k == sig->n_inputs) {
            return ot_fail(err, OT_INVALID, "there is no input '%.80s'; the first of %zu is '%s'",
                           t->name, sig->n_inputs, sig->n_inputs > 0 ? sig->inputs[0].name : "");
        }
    }
    for (size_t k = 0; k < sig->n_inputs; k++) {
        if (call->inputs[k].name == NULL) {
            char shape[OT_SHAPE_TEXT];
            return ot_fail(err, OT_INVALID, "input '%s' (%s %s) is missing", sig->inputs[k].name,
                           ot_dtype_name(sig->inputs[k].dtype),
                           ot_shape_format(sig->inputs[k].dims, sig->inputs[k].rank, shape));
        }
    }
    return OT_OK;
}

static ot_rc count_rows(ot_call *call, const ot_variant *v, ot_error *err)
{
    call->rows = 1;
    if (!v->rows_known) {
        return OT_OK;
    }
    call->rows = call->inputs[0].dims[0];
    for (size_t k = 1; k < v->sig.n_inputs; k++) {
        if (call->inputs[k].dims[0] != call->rows) {
            return ot_fail(err, OT_INVALID,
                           "input '%s' has %lld rows and input '%s' has %lld; axis 0 is the row in "
                           "all of them",
                           v->sig.inputs[0].name, (long long)call->rows, v->sig.inputs[k].name,
                           (long long)call->inputs[k].dims[0]);
        }
    }
    return OT_OK;
}

static ot_rc check_outputs(const ot_call *call, const ot_manifest *sig, ot_error *err)
{
    for (int i = 0; i < call->in.n_outputs; i++) {
        if (ot_manifest_output(sig, call->in.outputs[i].name) < 0) {
            return ot_fail(err, OT_INVALID, "there is no output '%.80s'; the first of %zu is '%s'",
                           call->in.outputs[i].name, sig->n_outputs, sig->outputs[0].name);
        }
        for (int k = 0; k < i; k++) {
            if (strcmp(call->in.outputs[i].name, call->in.outputs[k].name) == 0) {
                return ot_fail(err, OT_INVALID, "output '%s' is asked for twice",
                               call->in.outputs[i].name);
            }
        }
    }
    return OT_OK;
}

ot_rc ot_call_check(ot_call *call, const ot_variant *v, ot_error *err)
{
    call->inputs = ot_arena_calloc(call->arena, v->sig.n_inputs, sizeof *call->inputs);
    call->outputs = ot_arena_calloc(call->arena, v->sig.n_outputs, sizeof *call->outputs);
    if (call->inputs == NULL || call->outputs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the request's tensors");
    }
    OT_TRY(order_inputs(call, &v->sig, err));
    OT_TRY(count_rows(call, v, err));
    return check_outputs(call, &v->sig, err);
}

ot_rc ot_call_decode(ot_call *call, const ot_variant *v, int64_t header_len, ot_oip_memo *memo,
                     ot_error *err)
{
    const ot_tensor_spec *raw = v->sig.n_inputs == 1 ? &v->sig.inputs[0] : NULL;
    ot_slice body = call->req->body;
    OT_TRY(ot_oip_memo_request_decode(memo, body.p, body.n, header_len, raw, call->arena, &call->in,
                                      err));
    return ot_call_check(call, v, err);
}

bool ot_call_fits(const ot_call *a, const ot_call *b)
{
    if (a != b && (ot_call_streams(a) || ot_call_streams(b))) {
        return false; /* each response is one request's */
    }
    if (!a->variant->dynamic) {
        return true;
    }
    for (size_t k = 0; k < a->variant->sig.n_inputs; k++) {
        const ot_tensor *x = &a->inputs[k], *y = &b->inputs[k];
        if (x->rank != y->rank ||
            (x->rank > 1 &&
             memcmp(&x->dims[1], &y->dims[1], (size_t)(x->rank - 1) * sizeof x->dims[0]) != 0)) {
            return false;
        }
    }
    return true;
}

/* ---- the answer */

int ot_call_n_outputs(const ot_call *call)
{
    return call->in.n_outputs > 0 ? call->in.n_outputs : call->n_outputs;
}

ot_rc ot_call_output(const ot_call *call, int i, ot_tensor *t_out, bool *binary_out, ot_error *err)
{
    const ot_oip_output_ask *ask = call->in.n_outputs > 0 ? &call->in.outputs[i] : NULL;
    int k = ask != NULL ? ot_manifest_output(&call->variant->sig, ask->name) : i;
    if (k < 0 || k >= call->n_outputs) {
        return ot_fail(err, OT_INTERNAL, "the model that answered has no output '%s'",
                       ask != NULL ? ask->name : "");
    }
    *t_out = call->outputs[k];
    if (binary_out != NULL) {
        *binary_out = ask != NULL ? ask->binary : call->in.binary_default;
    }
    return OT_OK;
}

ot_rc ot_call_response(const ot_call *call, ot_oip_tensor *tensors, ot_oip_response *out,
                       ot_error *err)
{
    int n = ot_call_n_outputs(call);
    if (n > OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "the model has %d outputs; an answer has at most %d: ask "
                       "for some of them by name",
                       n, OT_OIP_TENSORS_MAX);
    }
    for (int i = 0; i < n; i++) {
        tensors[i].params = (ot_params){0};
        OT_TRY(ot_call_output(call, i, &tensors[i].tensor, &tensors[i].binary, err));
    }
    *out = (ot_oip_response){
        .model_name = call->dep->name,
        .model_version = call->variant->version_text,
        .id = call->in.id,
        .outputs = tensors,
        .n_outputs = n,
    };
    return OT_OK;
}

ot_rc ot_call_encode(const ot_call *call, ot_oip_memo *memo, ot_str *head, ot_oip_encoded *out,
                     ot_error *err)
{
    ot_oip_tensor tensors[OT_OIP_TENSORS_MAX];
    ot_oip_response r;
    OT_TRY(ot_call_response(call, tensors, &r, err));
    return ot_oip_memo_response_encode(memo, &r, head, out, err);
}

void ot_call_fail(ot_call *call, ot_rc rc, const char *message)
{
    char *copy = ot_arena_strdup(call->arena, message);
    call->rc = rc;
    call->message = copy != NULL ? copy : "the run failed";
}

static size_t put_hex(char *out, uint64_t x, unsigned least)
{
    static const char digits[] = "0123456789abcdef";
    unsigned n = least;
    while (n < 16 && (x >> (4 * n)) != 0) {
        n++;
    }
    for (unsigned i = 0; i < n; i++) {
        out[i] = digits[(x >> (4 * (n - 1 - i))) & 15];
    }
    return n;
}

size_t ot_prediction_id_format(char out[OT_PREDICTION_ID_MAX], uint64_t incarnation, uint64_t seq,
                               uint64_t version, bool sampled)
{
    size_t n = put_hex(out, incarnation, 16);
    out[n++] = '-';
    n += put_hex(out + n, seq, 1);
    out[n++] = '-';
    n += put_hex(out + n, version, 1);
    out[n++] = '-';
    out[n++] = sampled ? '1' : '0';
    out[n] = '\0';
    return n;
}
