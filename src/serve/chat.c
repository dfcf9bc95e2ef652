/* Completions as servers of language models have them
 * (https://platform.openai.com/docs/api-reference/chat): the model is a deployment, its variants
 * are external servers. Bodies are passed on as they are, but for the model's name; the pieces of a
 * stream as they come. */
#include "serve/external.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define FIELDS 2

/* ---- answers */

/* {"error": {"message", "type", "code"}}: what clients of this protocol can decode. */
static void error_body(ot_str *out, ot_rc rc, const char *message)
{
    const char *type = rc == OT_INVALID           ? "invalid_request_error"
                       : rc == OT_UNAUTHENTICATED ? "authentication_error"
                       : rc == OT_DENIED          ? "permission_error"
                       : rc == OT_NOT_FOUND       ? "not_found_error"
                       : rc == OT_EXHAUSTED       ? "rate_limit_error"
                                                  : "server_error";
    ot_str_adds(out, "{\"error\":{\"message\":\"");
    ot_str_add_json(out, message, strlen(message));
    ot_str_addf(out, "\",\"type\":\"%s\",\"code\":null}}", type);
}

static void fail_chat(ot_worker *w, ot_call *call, const ot_refusal *why)
{
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    char seconds[16];
    ot_worker_count_answer(w, why->status);
    error_body(&body, why->rc, why->message);
    if (call->passing != NULL && call->passing->begun) {
        /* The status has gone out: the stream says it, and has no [DONE]. */
        OT_AUTO(ot_str_done) ot_str event = OT_STR_INIT;
        ot_str_addf(&event, "data: %s\n\n", body.data != NULL ? body.data : "{}");
        ot_rc ignored =
            event.failed ? OT_EXHAUSTED : ot_http_stream_write(call->req, event.data, event.len);
        (void)ignored;
        ot_http_stream_end(call->req);
        return;
    }
    snprintf(seconds, sizeof seconds, "%u", why->retry_s);
    ot_http_field retry = {"Retry-After", seconds};
    struct iovec iov = {body.data, body.len};
    ot_http_respond(call->req, &(ot_http_answer){.status = why->status,
                                                 .type = "application/json",
                                                 .fields = &retry,
                                                 .n_fields = why->retry_s > 0 ? 1 : 0,
                                                 .body = &iov,
                                                 .n_body = 1});
}

static void name_prediction(const ot_call *call, char id[OT_PREDICTION_ID_MAX],
                            ot_http_field fields[FIELDS])
{
    ot_prediction_id_format(id, call->worker->serve->incarnation, call->seq, call->variant->version,
                            call->sampled);
    fields[0] = (ot_http_field){"overtake-prediction-id", id};
    fields[1] = (ot_http_field){"overtake-version", call->variant->version_text};
}

static void answer_chat(ot_worker *w, ot_call *call)
{
    char id[OT_PREDICTION_ID_MAX];
    ot_http_field fields[FIELDS];
    size_t offset = 0, n = 0;
    const char *json = "";
    ot_worker_count_answer(w, 200);
    if (call->passing != NULL && call->passing->begun) {
        ot_http_stream_end(call->req);
        return;
    }
    if (call->n_outputs != 1 || !ot_tensor_bytes_next(&call->outputs[0], &offset, &json, &n)) {
        ot_worker_refuse(w, call, OT_INTERNAL, 500, 0, "model '%s': what answered is no chat model",
                         call->dep->name);
        return;
    }
    name_prediction(call, id, fields);
    union {
        const void *in;
        void *out;
    } cast = {.in = json};
    struct iovec iov = {cast.out, n};
    ot_http_respond(call->req, &(ot_http_answer){.status = 200,
                                                 .type = "application/json",
                                                 .fields = fields,
                                                 .n_fields = FIELDS,
                                                 .body = &iov,
                                                 .n_body = 1});
}

static const ot_wire chat_wire = {.name = "chat", .answer = answer_chat, .fail = fail_chat};

bool ot_chat_begin(ot_passing *p)
{
    char id[OT_PREDICTION_ID_MAX];
    ot_http_field fields[FIELDS];
    bool kept = p->call->sampled || p->call->worker->serve->recorder != NULL;
    p->sum = kept ? ot_completion_new() : NULL;
    name_prediction(p->call, id, fields);
    ot_http_stream_begin(
        p->call->req,
        &(ot_http_answer){
            .status = 200, .type = "text/event-stream", .fields = fields, .n_fields = FIELDS},
        ot_external_client_event, p);
    return true;
}

/* ---- requests */

/* The body as the one element of `request`. */
static bool take_request(ot_call *call)
{
    const ot_slice body = call->req->body;
    uint8_t *data = ot_arena_alloc(call->arena, body.n + 4);
    ot_tensor *tensors = ot_arena_calloc(call->arena, 2, sizeof *tensors);
    call->passing = ot_arena_calloc(call->arena, 1, sizeof *call->passing);
    if (data == NULL || tensors == NULL || call->passing == NULL) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        data[i] = (uint8_t)(body.n >> (8 * i));
    }
    if (body.n > 0) {
        memcpy(data + 4, body.p, body.n);
    }
    tensors[0] = (ot_tensor){.name = "request",
                             .dtype = OT_DT_BYTES,
                             .rank = 1,
                             .dims = {1},
                             .data = data,
                             .size_bytes = body.n + 4};
    call->inputs = &tensors[0];
    call->outputs = &tensors[1];
    call->rows = 1;
    call->passing->chat = true;
    return true;
}

static void complete(ot_worker *w, ot_call *call, const json_t *root)
{
    const char *model = json_string_value(json_object_get(root, "model"));
    if (!json_is_object(root) || model == NULL) {
        ot_worker_refuse(w, call, OT_INVALID, 400, 0,
                         "the body is not a JSON object with a 'model', the name of a deployment");
        return;
    }
    if (!ot_worker_begin(w, call, model, strlen(model), 0)) {
        return;
    }
    const ot_external *x = call->variant->external;
    if (x == NULL || x->protocol != OT_EXTERNAL_OPENAI) {
        ot_worker_refuse(w, call, OT_INVALID, 400, 0,
                         "model '%s' answers tensors, not completions: POST /v2/models/%s/infer",
                         call->dep->name, call->dep->name);
        return;
    }
    if (!take_request(call)) {
        ot_worker_refuse(w, call, OT_UNAVAILABLE, 503, 0, "out of memory for the request");
        return;
    }
    call->passing->path = ot_slice_eq(call->req->path, "/v1/completions") ? "/v1/completions"
                                                                          : "/v1/chat/completions";
    call->passing->streams = json_is_true(json_object_get(root, "stream"));
    ot_worker_go(w, call);
}

void ot_chat_complete(ot_worker *w, ot_http_req *req)
{
    if (!ot_worker_allow(w, req, true)) {
        return;
    }
    ot_call *call = ot_arena_calloc(req->arena, 1, sizeof *call);
    if (call == NULL) {
        ot_worker_error(w, req, 503, "out of memory for the request");
        return;
    }
    call->wire = &chat_wire;
    call->req = req;
    call->arena = req->arena;
    call->start_ns = req->start_ns;
    json_t *root = json_loadb(req->body.p != NULL ? req->body.p : "", req->body.n, 0, NULL);
    complete(w, call, root);
    json_decref(root);
}

void ot_chat_models(ot_worker *w, ot_http_req *req)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    const ot_route *r = atomic_load_explicit(&w->serve->route, memory_order_acquire);
    bool first = true;
    if (!ot_worker_allow(w, req, false)) {
        return;
    }
    ot_str_adds(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < r->n_deps; i++) {
        const ot_dep *d = r->deps[i];
        const ot_external *x = d->n_live > 0 ? d->arms[d->n_live - 1].variant->external : NULL;
        if (x != NULL && x->protocol == OT_EXTERNAL_OPENAI) {
            ot_str_addf(&out,
                        "%s{\"id\":\"%s\",\"object\":\"model\",\"created\":0,\"owned_by\":"
                        "\"overtake\"}",
                        first ? "" : ",", d->name);
            first = false;
        }
    }
    ot_str_adds(&out, "]}");
    ot_worker_json(w, req, 200, &out);
}
