/* The runtime of the format `external`: forwards runs to a server and waits for it. */
#include "runtime/external.h"
#include "runtime/internal.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_ARENA_MAX (256u << 20)

struct overtake_model {
    ot_external x;
    overtake_spec inputs[OT_EXTERNAL_TENSORS_MAX], outputs[OT_EXTERNAL_TENSORS_MAX];
};

struct overtake_instance {
    const ot_external *x;
    ot_http_client *client;
};

/* An answer that is held until it is released: outputs point into it. */
typedef struct answer {
    ot_http_reply reply;
    ot_arena arena;
} answer;

static int32_t runtime_info(overtake_runtime_info *info, overtake_error *err)
{
    (void)err;
    info->version = "1";
    info->library = "";
    return OVERTAKE_OK;
}

/* ---- models */

static ot_rc connect_to(const ot_external *x, ot_http_client **out, ot_error *err)
{
    ot_http_client_options o = {.struct_size = sizeof o,
                                .connect_us = x->timeout_us,
                                .io_us = x->timeout_us,
                                .body_max = OT_EXTERNAL_BODY_MAX,
                                .tls = x->tls};
    return ot_http_client_create(&x->addr, &o, out, err);
}

static ot_rc take_metadata(ot_external *x, const ot_http_reply *r, ot_error *err)
{
    json_t *root = json_loadb(r->body.data, r->body.len, 0, NULL);
    ot_rc rc =
        r->status == 200 && root != NULL
            ? OT_OK
            : ot_fail(err, OT_UNAVAILABLE, "it answers %d to a question for metadata", r->status);
    if (rc == OT_OK) {
        rc = ot_external_specs(root, "inputs", x, &x->inputs, &x->n_inputs, err);
    }
    if (rc == OT_OK) {
        rc = ot_external_specs(root, "outputs", x, &x->outputs, &x->n_outputs, err);
    }
    json_decref(root);
    return rc;
}

/* Asks the server what the model takes and gives. */
static ot_rc ask_metadata(ot_external *x, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_http_client *c;
    ot_http_reply r;
    OT_TRY(connect_to(x, &c, err));
    ot_http_reply_init(&r);
    ot_str_addf(&target, "%s/v2/models/", x->base);
    ot_http_encode(&target, x->model);
    ot_rc rc = ot_http_client_simple(c, "GET", target.data, x->headers, NULL, 0, &r, err);
    if (rc == OT_OK) {
        rc = take_metadata(x, &r, err);
    }
    ot_http_reply_done(&r);
    ot_http_client_destroy(c);
    return rc == OT_OK ? rc : ot_error_prefix(err, rc, "model '%s' of the server", x->model);
}

static void unload(overtake_model *m)
{
    ot_external_done(&m->x);
    ot_free(m);
}

static int32_t load_model(const overtake_load *load, overtake_model **out, overtake_error *why)
{
    ot_error err;
    overtake_model *m = ot_calloc(1, sizeof *m);
    ot_rc rc = m != NULL ? ot_external_open(load->path, &m->x, &err)
                         : ot_fail(&err, OT_EXHAUSTED, "out of memory");
    if (rc == OT_OK && m->x.n_inputs == 0) {
        rc = ask_metadata(&m->x, &err);
    }
    if (rc != OT_OK) {
        if (m != NULL) {
            unload(m);
        }
        return ot_runtime_give(why, &err);
    }
    ot_runtime_fill_specs(m->x.inputs, m->x.n_inputs, m->inputs);
    ot_runtime_fill_specs(m->x.outputs, m->x.n_outputs, m->outputs);
    *out = m;
    return OVERTAKE_OK;
}

static bool rows_first(const ot_tensor_spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (specs[i].rank == 0 || specs[i].dims[0] != -1) {
            return false;
        }
    }
    return true;
}

static int32_t info(const overtake_model *m, overtake_model_info *out, overtake_error *err)
{
    (void)err;
    bool rows = rows_first(m->x.inputs, m->x.n_inputs) && rows_first(m->x.outputs, m->x.n_outputs);
    overtake_model_info all = {.struct_size = out->struct_size,
                               .n_inputs = (uint32_t)m->x.n_inputs,
                               .n_outputs = (uint32_t)m->x.n_outputs,
                               .inputs = m->inputs,
                               .outputs = m->outputs,
                               .batch_axis = rows ? 0 : -1,
                               .max_in_flight = 1};
    memcpy(out, &all, out->struct_size < sizeof all ? out->struct_size : sizeof all);
    return OVERTAKE_OK;
}

/* ---- instances */

static int32_t instance_create(overtake_model *m, overtake_instance **out, overtake_error *why)
{
    ot_error err;
    overtake_instance *inst = ot_calloc(1, sizeof *inst);
    if (inst == NULL) {
        snprintf(why->message, sizeof why->message, "out of memory");
        return OVERTAKE_EXHAUSTED;
    }
    inst->x = &m->x;
    if (connect_to(&m->x, &inst->client, &err) != OT_OK) {
        ot_free(inst);
        return ot_runtime_give(why, &err);
    }
    *out = inst;
    return OVERTAKE_OK;
}

static void instance_destroy(overtake_instance *inst)
{
    ot_http_client_destroy(inst->client);
    ot_free(inst);
}

static void answer_free(answer *a)
{
    ot_http_reply_done(&a->reply);
    ot_arena_done(&a->arena);
    ot_free(a);
}

static void release(overtake_instance *inst, void *token)
{
    (void)inst;
    answer_free(token);
}

/* ---- runs */

/* Segments that follow each other become one, in the arena. */
static ot_rc tensor_of(const overtake_input *in, ot_arena *arena, ot_tensor *out, ot_error *err)
{
    ot_tensor t = {.name = in->name, .dtype = (ot_dtype)in->dtype, .rank = in->rank};
    memcpy(t.dims, in->dims, sizeof t.dims);
    for (uint32_t i = 0; i < in->n_segments; i++) {
        t.size_bytes += in->segments[i].size_bytes;
    }
    if (in->n_segments == 1) {
        t.data = in->segments[0].data;
    } else if (in->n_segments > 1) {
        uint8_t *to = ot_arena_alloc(arena, OT_MAX(t.size_bytes, 1u));
        t.data = to;
        for (uint32_t i = 0; i < in->n_segments && to != NULL; i++) {
            if (in->segments[i].size_bytes > 0) {
                memcpy(to, in->segments[i].data, in->segments[i].size_bytes);
            }
            to += in->segments[i].size_bytes;
        }
        if (t.data == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "out of memory for the request");
        }
    }
    *out = t;
    return OT_OK;
}

static ot_rc check_answer(answer *a, ot_error *err)
{
    const ot_http_reply *r = &a->reply;
    ot_rc rc = ot_external_status(r->status);
    if (rc == OT_OK) {
        return OT_OK;
    }
    const char *text = ot_oip_error_message(r->body.data, r->body.len, &a->arena);
    return ot_fail(err, rc, "the server answers %d%s%.400s", r->status, text != NULL ? ": " : "",
                   text != NULL ? text : "");
}

static ot_rc post(overtake_instance *inst, const char *target, const char *headers,
                  const void *body, size_t n, answer *a, ot_error *err)
{
    OT_TRY(ot_http_client_simple(inst->client, "POST", target, headers, body, n, &a->reply, err));
    return check_answer(a, err);
}

static ot_rc run_oip(overtake_instance *inst, const overtake_submission *s, answer *a,
                     ot_tensor *outputs, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str headers = OT_STR_INIT;
    ot_oip_tensor inputs[OT_EXTERNAL_TENSORS_MAX];
    ot_oip_encoded e;
    ot_oip_response r;
    for (uint32_t i = 0; i < s->n_inputs; i++) {
        inputs[i] = (ot_oip_tensor){.binary = true};
        OT_TRY(tensor_of(&s->inputs[i], &a->arena, &inputs[i].tensor, err));
    }
    ot_oip_request q = {.inputs = inputs, .n_inputs = (int)s->n_inputs, .binary_default = true};
    OT_TRY(ot_oip_request_encode(&q, &body, &e, err));
    for (int i = 0; i < e.n_blobs; i++) {
        ot_str_add(&body, e.blobs[i].iov_base, e.blobs[i].iov_len);
    }
    ot_str_addf(&target, "%s/v2/models/", inst->x->base);
    ot_http_encode(&target, inst->x->model);
    ot_str_adds(&target, "/infer");
    ot_str_addf(&headers,
                "%sContent-Type: application/octet-stream\r\n" OT_OIP_HEADER_NAME ": %lld\r\n",
                inst->x->headers, (long long)e.header_len);
    if (body.failed || target.failed || headers.failed) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the request");
    }
    OT_TRY(post(inst, target.data, headers.data, body.data, body.len, a, err));
    ot_slice h = ot_http_reply_header(&a->reply, OT_OIP_HEADER_NAME);
    int64_t header_len = -1;
    char number[24];
    snprintf(number, sizeof number, "%.*s", (int)OT_MIN(h.n, 20u), h.p != NULL ? h.p : "");
    if (h.p != NULL && ot_parse_i64(number, &header_len, NULL) != OT_OK) {
        return ot_fail(err, OT_DATA_LOSS, "the server's answer has a length that is none");
    }
    ot_rc rc = ot_oip_response_decode(a->reply.body.data, a->reply.body.len, header_len, &a->arena,
                                      &r, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, OT_DATA_LOSS, "the server's answer");
    }
    return ot_external_outputs(inst->x->outputs, inst->x->n_outputs, &r, outputs, err);
}

/* The one element of a BYTES tensor. */
static ot_rc run_chat(overtake_instance *inst, const overtake_submission *s, answer *a,
                      ot_tensor *outputs, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str headers = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    const char *path;
    ot_tensor in;
    size_t offset = 0, n;
    const char *p;
    OT_TRY(tensor_of(&s->inputs[0], &a->arena, &in, err));
    if (ot_tensor_count(&in) != 1 || !ot_tensor_bytes_next(&in, &offset, &p, &n)) {
        return ot_fail(err, OT_INVALID, "input 'request' is one element, a chat completion's JSON");
    }
    OT_TRY(ot_external_chat(inst->x, p, n, true, &path, &body, err));
    ot_str_addf(&target, "%s%s", inst->x->base, path);
    ot_str_addf(&headers, "%sContent-Type: application/json\r\n", inst->x->headers);
    if (target.failed || headers.failed) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the request");
    }
    OT_TRY(post(inst, target.data, headers.data, body.data, body.len, a, err));
    size_t size = a->reply.body.len;
    uint8_t *data = ot_arena_alloc(&a->arena, size + 4);
    if (data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the answer");
    }
    for (int i = 0; i < 4; i++) {
        data[i] = (uint8_t)(size >> (8 * i));
    }
    if (size > 0) {
        memcpy(data + 4, a->reply.body.data, size);
    }
    outputs[0] = (ot_tensor){.name = "response",
                             .dtype = OT_DT_BYTES,
                             .rank = 1,
                             .dims = {1},
                             .data = data,
                             .size_bytes = size + 4};
    return OT_OK;
}

static void respond(const overtake_submission *s, const ot_external *x, const ot_tensor *from,
                    answer *a)
{
    overtake_output outputs[OT_EXTERNAL_TENSORS_MAX];
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        size_t k = 0;
        while (k + 1 < x->n_outputs && strcmp(x->outputs[k].name, s->outputs[i].name) != 0) {
            k++;
        }
        outputs[i] = (overtake_output){.name = from[k].name,
                                       .dtype = (int32_t)from[k].dtype,
                                       .rank = from[k].rank,
                                       .data = from[k].data,
                                       .size_bytes = from[k].size_bytes};
        memcpy(outputs[i].dims, from[k].dims, sizeof outputs[i].dims);
    }
    overtake_response r = {.struct_size = sizeof r,
                           .ticket = s->ticket,
                           .flags = OVERTAKE_RESPONSE_INLINE | OVERTAKE_RESPONSE_FINAL,
                           .n_outputs = s->n_outputs,
                           .outputs = outputs,
                           .token = a};
    s->respond(s->user, &r);
}

static int32_t submit(overtake_instance *inst, const overtake_submission *s, overtake_error *why)
{
    ot_tensor outputs[OT_EXTERNAL_TENSORS_MAX];
    ot_error err;
    answer *a = ot_calloc(1, sizeof *a);
    if (a == NULL) {
        snprintf(why->message, sizeof why->message, "out of memory");
        return OVERTAKE_EXHAUSTED;
    }
    ot_http_reply_init(&a->reply);
    ot_arena_init(&a->arena, 4096, ANSWER_ARENA_MAX);
    ot_rc rc = inst->x->protocol == OT_EXTERNAL_OIP ? run_oip(inst, s, a, outputs, &err)
                                                    : run_chat(inst, s, a, outputs, &err);
    if (rc != OT_OK) {
        answer_free(a);
        return ot_runtime_give(why, &err);
    }
    respond(s, inst->x, outputs, a);
    return OVERTAKE_OK;
}

static const overtake_format formats[] = {
    {.name = OT_EXTERNAL_FORMAT, .pattern = OT_EXTERNAL_FILE}};

static const overtake_plugin table = {
    .struct_size = sizeof table,
    .abi_major = OVERTAKE_ABI_MAJOR,
    .abi_minor = OVERTAKE_ABI_MINOR,
    .name = OT_EXTERNAL_FORMAT,
    .build_id = "built in",
    .capabilities = OVERTAKE_CAP_SCATTER | OVERTAKE_CAP_STRINGS,
    .formats = formats,
    .n_formats = 1,
    .runtime_info = runtime_info,
    .model_load = load_model,
    .model_unload = unload,
    .model_info = info,
    .instance_create = instance_create,
    .instance_destroy = instance_destroy,
    .submit = submit,
    .release = release,
};

const struct overtake_plugin *ot_external_runtime(void)
{
    return &table;
}
