/* TensorFlow Serving's REST API: bodies in columns. Requests and answers of it are alike but for
 * one key, so that the codec, which is the server's side, does both. */
#include "load/protocol_internal.h"

#include "codec/tfs_json.h"
#include "net/http_client.h"

#include <string.h>

ot_rc ot_load_encode_tfs(const ot_load_target *t, const ot_tensor *inputs, ot_load_request *r,
                         ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str path = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    static const char key[] = "{\"outputs\":";
    OT_TRY(ot_tfs_predict_encode(inputs, (int)t->n_inputs, false, &body, err));
    if (body.failed || !ot_has_prefix(body.data, key)) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for requests");
    }
    ot_str_adds(&r->body, "{\"inputs\":");
    ot_str_add(&r->body, body.data + sizeof key - 1, body.len - (sizeof key - 1));
    ot_str_adds(&path, "/v1/models/");
    ot_http_encode(&path, t->url.model);
    if (t->url.version[0] != '\0') {
        ot_str_addf(&path, "/versions/%s", t->url.version);
    }
    ot_str_adds(&path, ":predict");
    return ot_load_post(t, &path, "application/json", NULL, r, err);
}

static ot_rc find_outputs(void *arg, const char *name, const ot_tensor_spec **specs_out,
                          size_t *n_out, ot_error *err)
{
    const ot_load_target *t = arg;
    (void)name;
    (void)err;
    *specs_out = t->outputs;
    *n_out = t->n_outputs;
    return OT_OK;
}

ot_rc ot_load_decode_tfs(const ot_load_target *t, const ot_load_answer *a, ot_arena *arena,
                         ot_load_outputs *out, ot_error *err)
{
    static const char from[] = "\"outputs\"", to[] = "\"inputs\" ";
    char *body = ot_arena_strndup(arena, a->body.p, a->body.n);
    char *key = body != NULL ? memmem(body, a->body.n, from, sizeof from - 1) : NULL;
    if (key == NULL) {
        return body == NULL ? ot_fail(err, OT_EXHAUSTED, "load: out of memory for an answer")
                            : ot_fail(err, OT_INVALID, "the answer has no 'outputs'");
    }
    memcpy(key, to, sizeof to - 1);
    union {
        const ot_load_target *in;
        void *out;
    } cast = {.in = t};
    ot_tfs_predict p;
    OT_TRY(ot_tfs_predict_decode(body, a->body.n, find_outputs, cast.out, arena, &p, err));
    return ot_load_outputs_take(p.inputs, p.n_inputs, arena, out, err);
}
