#include "codec/oip_pb.h"

#include "codec/pb_values.h"

#include <string.h>

/* ---- typed contents */

static void put_contents(ot_str *s, const ot_tensor *t)
{
    if (ot_tensor_count(t) > 0) {
        size_t contents = ot_pb_begin(s, 5);
        ot_pb_put_values(s, ot_oip_pb_contents_field(t->dtype), t);
        ot_pb_end(s, contents, 0);
    }
}

/* ---- parameters */

static void put_params(ot_str *s, const ot_params *params)
{
    static const uint32_t fields[] = {
        [OT_PARAM_BOOL] = 1, [OT_PARAM_INT] = 2, [OT_PARAM_STRING] = 3, [OT_PARAM_DOUBLE] = 4};
    for (int i = 0; i < params->n; i++) {
        const ot_param *p = &params->items[i];
        size_t entry = ot_pb_begin(s, 4);
        ot_pb_put_string(s, 1, p->name);
        size_t value = ot_pb_begin(s, 2);
        if (p->type == OT_PARAM_STRING) {
            ot_pb_put_string(s, fields[p->type], p->s);
        } else if (p->type == OT_PARAM_DOUBLE) {
            ot_pb_put_double(s, fields[p->type], p->d);
        } else {
            ot_pb_put_uint(s, fields[p->type],
                           p->type == OT_PARAM_BOOL ? (uint64_t)p->b : (uint64_t)p->i);
        }
        ot_pb_end(s, value, 0);
        ot_pb_end(s, entry, 0);
    }
}

/* ---- the response */

static bool goes_raw(const ot_oip_response *r)
{
    for (int i = 0; i < r->n_outputs; i++) {
        if (r->outputs[i].binary || ot_oip_pb_contents_field(r->outputs[i].tensor.dtype) == 0) {
            return true;
        }
    }
    return false;
}

static ot_rc put_output(ot_str *s, const ot_oip_tensor *o, bool raw, ot_error *err)
{
    const ot_tensor *t = &o->tensor;
    OT_TRY(ot_tensor_check(t, err));
    size_t output = ot_pb_begin(s, 5);
    ot_pb_put_some(s, 1, t->name);
    ot_pb_put_string(s, 2, ot_dtype_name(t->dtype));
    ot_pb_put_packed(s, 3, t->dims, (size_t)t->rank);
    put_params(s, &o->params);
    if (!raw) {
        put_contents(s, t);
    }
    ot_pb_end(s, output, 0);
    return OT_OK;
}

/* The heads of the raw contents; `cuts` says where each one's bytes belong. */
static size_t put_raw_heads(ot_str *s, const ot_oip_response *r, size_t *cuts)
{
    size_t bytes = 0;
    for (int i = 0; i < r->n_outputs; i++) {
        ot_pb_put_head(s, 6, r->outputs[i].tensor.size_bytes);
        bytes += r->outputs[i].tensor.size_bytes;
        cuts[i] = s->len;
    }
    return bytes;
}

static void add_piece(ot_oip_pb_encoded *e, const void *p, size_t n)
{
    if (n > 0) {
        /* writev takes a non-const base and does not write through it. */
        void *base;
        memcpy(&base, &p, sizeof base);
        e->iov[e->n_iov++] = (struct iovec){base, n};
        e->bytes += n;
    }
}

ot_rc ot_oip_pb_response_encode(const ot_oip_response *r, bool stream, ot_str *s,
                                ot_oip_pb_encoded *out, ot_error *err)
{
    size_t cuts[OT_OIP_TENSORS_MAX], blobs = 0, wrap = 0;
    bool raw = goes_raw(r);
    if (r->n_outputs > OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%d outputs; an answer has at most %d", r->n_outputs,
                       OT_OIP_TENSORS_MAX);
    }
    if (stream) {
        wrap = ot_pb_begin(s, 2);
    }
    ot_pb_put_some(s, 1, r->model_name);
    ot_pb_put_some(s, 2, r->model_version);
    ot_pb_put_some(s, 3, r->id);
    put_params(s, &r->params);
    for (int i = 0; i < r->n_outputs; i++) {
        OT_TRY(put_output(s, &r->outputs[i], raw, err));
    }
    if (raw) {
        blobs = put_raw_heads(s, r, cuts);
    }
    size_t before = s->len;
    if (stream) {
        ot_pb_end(s, wrap, blobs);
    }
    if (s->failed) {
        return ot_fail(err, OT_EXHAUSTED, "memory is short for the message");
    }
    size_t moved = s->len - before, at = 0; /* by the length of what is wrapped */
    out->n_iov = 0;
    out->bytes = 0;
    for (int i = 0; raw && i < r->n_outputs; i++) {
        add_piece(out, s->data + at, cuts[i] + moved - at);
        add_piece(out, r->outputs[i].tensor.data, r->outputs[i].tensor.size_bytes);
        at = cuts[i] + moved;
    }
    add_piece(out, s->data + at, s->len - at);
    return OT_OK;
}

void ot_oip_pb_stream_error(const char *message, const char *model, const char *id, ot_str *out)
{
    ot_pb_put_text(out, 1, message);
    size_t response = ot_pb_begin(out, 2);
    ot_pb_put_some(out, 1, model);
    ot_pb_put_some(out, 3, id);
    ot_pb_end(out, response, 0);
}
