#include "codec/oip_memo.h"

#include <string.h>

typedef struct kept_input {
    ot_tensor tensor; /* name and data are set when it is given out */
    uint32_t name_at; /* in `names` */
} kept_input;

typedef struct kept_ask {
    uint32_t name_at;
    bool binary;
} kept_ask;

typedef struct request_slot {
    size_t head_len, body_len; /* head_len 0: empty */
    int n_inputs, n_outputs;
    bool binary_default;
    uint32_t names_len;
    kept_input inputs[OT_OIP_MEMO_TENSORS];
    kept_ask outputs[OT_OIP_MEMO_TENSORS];
    char head[OT_OIP_MEMO_BYTES];
    char names[OT_OIP_MEMO_BYTES]; /* each with its NUL */
} request_slot;

typedef struct response_slot {
    size_t key_len, head_len; /* head_len 0: empty */
    char key[OT_OIP_MEMO_BYTES];
    char head[OT_OIP_MEMO_BYTES];
} response_slot;

struct ot_oip_memo {
    uint64_t hits;
    request_slot requests[OT_OIP_MEMO_SLOTS];
    response_slot responses[OT_OIP_MEMO_SLOTS];
};

ot_rc ot_oip_memo_create(ot_oip_memo **memo_out, ot_error *err)
{
    ot_oip_memo *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for %zu bytes of message heads",
                       sizeof *m);
    }
    *memo_out = m;
    return OT_OK;
}

void ot_oip_memo_destroy(ot_oip_memo *m)
{
    ot_free(m);
}

uint64_t ot_oip_memo_hits(const ot_oip_memo *m)
{
    return m->hits;
}

static unsigned slot_of(uint64_t x)
{
    return (unsigned)((x * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % OT_OIP_MEMO_SLOTS;
}

/* ---- requests */

/* Appends a name to the slot's; false: no room. */
static bool keep_name(request_slot *s, const char *name, uint32_t *at_out)
{
    size_t n = strlen(name) + 1;
    if (n > sizeof s->names - s->names_len) {
        return false;
    }
    memcpy(s->names + s->names_len, name, n);
    *at_out = s->names_len;
    s->names_len += (uint32_t)n;
    return true;
}

static bool keep_tensors(request_slot *s, const ot_oip_request *r)
{
    if (r->id != NULL || r->params.n != 0 || r->n_inputs > OT_OIP_MEMO_TENSORS ||
        r->n_outputs > OT_OIP_MEMO_TENSORS) {
        return false;
    }
    s->names_len = 0;
    for (int i = 0; i < r->n_inputs; i++) {
        const ot_oip_tensor *in = &r->inputs[i];
        if (!in->binary || in->params.n != 0 || in->tensor.dtype == OT_DT_BYTES ||
            !keep_name(s, in->tensor.name, &s->inputs[i].name_at)) {
            return false;
        }
        s->inputs[i].tensor = in->tensor;
    }
    for (int i = 0; i < r->n_outputs; i++) {
        s->outputs[i].binary = r->outputs[i].binary;
        if (r->outputs[i].params.n != 0 ||
            !keep_name(s, r->outputs[i].name, &s->outputs[i].name_at)) {
            return false;
        }
    }
    return true;
}

static void keep_request(request_slot *s, const void *body, size_t len, size_t head_len,
                         const ot_oip_request *r)
{
    s->head_len = 0;
    if (!keep_tensors(s, r)) {
        return;
    }
    s->n_inputs = r->n_inputs;
    s->n_outputs = r->n_outputs;
    s->binary_default = r->binary_default;
    memcpy(s->head, body, head_len);
    s->body_len = len;
    s->head_len = head_len;
}

/* The request that the slot stands for, with the blobs of this body: its head and its length are
 * the slot's, so the blobs lie where they lay. */
static ot_rc give_request(const request_slot *s, const char *body, ot_arena *arena,
                          ot_oip_request *out, ot_error *err)
{
    char *names = ot_arena_alloc(arena, s->names_len);
    ot_oip_tensor *inputs = ot_arena_calloc(arena, (size_t)s->n_inputs, sizeof *inputs);
    ot_oip_output_ask *asks = NULL;
    if (s->n_outputs > 0) {
        asks = ot_arena_calloc(arena, (size_t)s->n_outputs, sizeof *asks);
    }
    if (names == NULL || inputs == NULL || (s->n_outputs > 0 && asks == NULL)) {
        return ot_fail(err, OT_EXHAUSTED, "the message needs more memory than its limit allows");
    }
    memcpy(names, s->names, s->names_len);
    const char *blob = body + s->head_len;
    for (int i = 0; i < s->n_inputs; i++) {
        inputs[i].tensor = s->inputs[i].tensor;
        inputs[i].tensor.name = names + s->inputs[i].name_at;
        inputs[i].tensor.data = blob;
        inputs[i].binary = true;
        blob += s->inputs[i].tensor.size_bytes;
    }
    for (int i = 0; i < s->n_outputs; i++) {
        asks[i] = (ot_oip_output_ask){.name = names + s->outputs[i].name_at,
                                      .binary = s->outputs[i].binary};
    }
    *out = (ot_oip_request){.inputs = inputs,
                            .n_inputs = s->n_inputs,
                            .outputs = asks,
                            .n_outputs = s->n_outputs,
                            .binary_default = s->binary_default};
    return OT_OK;
}

ot_rc ot_oip_memo_request_decode(ot_oip_memo *m, const void *body, size_t len, int64_t header_len,
                                 const ot_tensor_spec *raw, ot_arena *arena, ot_oip_request *out,
                                 ot_error *err)
{
    size_t n = (size_t)header_len;
    if (header_len < (int64_t)sizeof(uint64_t) || n > OT_OIP_MEMO_BYTES || n > len) {
        return ot_oip_request_decode(body, len, header_len, raw, arena, out, err);
    }
    uint64_t middle;
    memcpy(&middle, (const char *)body + (n - sizeof middle) / 2, sizeof middle);
    request_slot *s = &m->requests[slot_of(middle ^ n)];
    if (s->head_len == n && s->body_len == len && memcmp(s->head, body, n) == 0) {
        m->hits++;
        return give_request(s, body, arena, out, err);
    }
    OT_TRY(ot_oip_request_decode(body, len, header_len, raw, arena, out, err));
    keep_request(s, body, len, n, out);
    return OT_OK;
}

/* ---- responses */

typedef struct key_writer {
    char bytes[OT_OIP_MEMO_BYTES];
    size_t n;
    bool full;
} key_writer;

static void key_add(key_writer *k, const void *p, size_t n)
{
    if (k->full || n > sizeof k->bytes - k->n) {
        k->full = true;
        return;
    }
    memcpy(k->bytes + k->n, p, n);
    k->n += n;
}

/* Absent is not the same as empty. */
static void key_text(key_writer *k, const char *z)
{
    char there = z != NULL;
    key_add(k, &there, 1);
    if (z != NULL) {
        key_add(k, z, strlen(z) + 1);
    }
}

/* All that the head of a response depends on; false: it is not one that is kept. */
static bool response_key(const ot_oip_response *r, key_writer *k)
{
    k->n = 0;
    k->full = false;
    if (r->id != NULL || r->params.n != 0 || r->n_outputs < 1 ||
        r->n_outputs > OT_OIP_MEMO_TENSORS) {
        return false;
    }
    key_text(k, r->model_name);
    key_text(k, r->model_version);
    for (int i = 0; i < r->n_outputs; i++) {
        const ot_tensor *t = &r->outputs[i].tensor;
        if (!r->outputs[i].binary || r->outputs[i].params.n != 0 || t->dtype == OT_DT_BYTES ||
            t->rank < 0 || t->rank > OT_RANK_MAX || (t->data == NULL && t->size_bytes > 0)) {
            return false;
        }
        key_text(k, t->name);
        int kind[2] = {(int)t->dtype, t->rank};
        key_add(k, kind, sizeof kind);
        key_add(k, t->dims, (size_t)t->rank * sizeof t->dims[0]);
        key_add(k, &t->size_bytes, sizeof t->size_bytes);
    }
    return !k->full;
}

static ot_rc give_response(const response_slot *s, const ot_oip_response *r, ot_str *head,
                           ot_oip_encoded *out, ot_error *err)
{
    ot_str_add(head, s->head, s->head_len);
    out->header_len = (int64_t)s->head_len;
    out->n_blobs = 0;
    out->blob_bytes = 0;
    for (int i = 0; i < r->n_outputs; i++) {
        const ot_tensor *t = &r->outputs[i].tensor;
        if (t->size_bytes > 0) {
            /* writev takes a non-const base and does not write through it. */
            void *base;
            memcpy(&base, &t->data, sizeof base);
            out->blobs[out->n_blobs++] = (struct iovec){base, t->size_bytes};
            out->blob_bytes += t->size_bytes;
        }
    }
    return head->failed ? ot_fail(err, OT_EXHAUSTED, "memory is short for the message") : OT_OK;
}

ot_rc ot_oip_memo_response_encode(ot_oip_memo *m, const ot_oip_response *r, ot_str *head,
                                  ot_oip_encoded *out, ot_error *err)
{
    key_writer k;
    if (!response_key(r, &k)) {
        return ot_oip_response_encode(r, head, out, err);
    }
    const ot_tensor *first = &r->outputs[0].tensor;
    response_slot *s = &m->responses[slot_of(k.n ^ ((uint64_t)first->size_bytes << 16))];
    if (s->head_len > 0 && s->key_len == k.n && memcmp(s->key, k.bytes, k.n) == 0) {
        m->hits++;
        return give_response(s, r, head, out, err);
    }
    size_t start = head->len;
    OT_TRY(ot_oip_response_encode(r, head, out, err));
    size_t n = head->len - start;
    s->head_len = 0;
    if (n <= sizeof s->head) {
        memcpy(s->head, head->data + start, n);
        memcpy(s->key, k.bytes, k.n);
        s->key_len = k.n;
        s->head_len = n;
    }
    return OT_OK;
}
