#include "codec/tfs_example.h"

#include "codec/tfs_json.h"

#include <math.h>

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "the examples need more memory than the limit of a request");
}

/* ---- gRPC: tensorflow.serving.Input */

/* An ExampleList or an ExampleListWithContext: counts its examples, or with `items` takes them. */
static ot_rc list_walk(ot_pb r, ot_text *items, int64_t *n, ot_text *context, ot_error *err)
{
    ot_pb_field f;
    *n = 0;
    for (;;) {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number != 1 && f.number != 2) {
            continue;
        }
        OT_TRY(ot_pb_want(&r, &f, OT_PB_LEN, f.number == 1 ? "examples" : "context", err));
        ot_text t = {(const char *)f.p, f.n};
        if (f.number == 2) {
            *context = t;
        } else if (items != NULL) {
            items[(*n)++] = t;
        } else {
            (*n)++;
        }
    }
}

/* Puts the context before each. */
static ot_rc with_context(ot_tfs_examples *e, ot_text context, ot_arena *arena, ot_error *err)
{
    for (int64_t i = 0; context.n > 0 && i < e->n; i++) {
        char *p = ot_arena_alloc(arena, context.n + e->items[i].n);
        if (p == NULL) {
            return no_memory(err);
        }
        memcpy(p, context.p, context.n);
        if (e->items[i].n > 0) {
            memcpy(p + context.n, e->items[i].p, e->items[i].n);
        }
        e->items[i] = (ot_text){p, context.n + e->items[i].n};
    }
    return OT_OK;
}

ot_rc ot_tfs_examples_pb(const ot_pb *message, const ot_pb_field *at, ot_arena *arena,
                         ot_tfs_examples *out, ot_error *err)
{
    ot_pb r, list;
    ot_pb_field f, found = {0};
    ot_text context = {0};
    ot_tfs_examples e = {0};
    OT_TRY(ot_pb_enter(message, at, "input", "Input", &r, err));
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1 || f.number == 2) {
            found = f; /* a oneof: the last one counts */
        }
    } while (f.number != 0);
    if (found.number == 0) {
        return ot_fail(err, OT_INVALID, "the request's input has no examples");
    }
    OT_TRY(ot_pb_enter(&r, &found, "example_list", "ExampleList", &list, err));
    OT_TRY(list_walk(list, NULL, &e.n, &context, err));
    if (e.n == 0) {
        return ot_fail(err, OT_INVALID, "the request's input has no examples");
    }
    e.items = ot_arena_calloc(arena, (size_t)e.n, sizeof e.items[0]);
    if (e.items == NULL) {
        return no_memory(err);
    }
    OT_TRY(list_walk(list, e.items, &e.n, &context, err));
    OT_TRY(with_context(&e, found.number == 2 ? context : (ot_text){0}, arena, err));
    *out = e;
    return OT_OK;
}

/* ---- JSON */

/* One feature while its values are read, each kind in the form that it has in a message. */
typedef struct feature {
    ot_str ints, floats, bytes; /* varints, 4 bytes each, fields 1 */
    bool numbers, real, texts;
} feature;

static void feature_done(feature *f)
{
    ot_str_done(&f->ints);
    ot_str_done(&f->floats);
    ot_str_done(&f->bytes);
}

static ot_rc number_read(ot_json_scan *s, feature *f, ot_error *err)
{
    ot_json_number x = {0};
    bool b;
    if (ot_json_peek(s) == OT_JSON_BOOL) {
        OT_TRY(ot_json_bool_read(s, &b, err));
        x = (ot_json_number){.f64 = b, .is_int = true, .i64 = b, .u64 = b};
    } else {
        OT_TRY(ot_json_number_read(s, &x, err));
    }
    if (x.is_int && !x.negative && x.u64 > INT64_MAX) {
        return ot_json_fail(s, err, "%llu is over 2^63 - 1, the largest int64",
                            (unsigned long long)x.u64);
    }
    float y = (float)x.f64;
    if (!isfinite(y) && isfinite(x.f64)) {
        return ot_json_fail(s, err, "%.17g is out of range for a float", x.f64);
    }
    f->numbers = true;
    f->real = f->real || !x.is_int;
    ot_pb_put_varint(&f->ints, (uint64_t)x.i64);
    ot_str_add(&f->floats, &y, sizeof y);
    return OT_OK;
}

static ot_rc value_read(ot_json_scan *s, ot_arena *arena, feature *f, ot_error *err)
{
    ot_text t;
    switch (ot_json_peek(s)) {
    case OT_JSON_BOOL:
    case OT_JSON_NUMBER:
        OT_TRY(number_read(s, f, err));
        break;
    case OT_JSON_STRING:
    case OT_JSON_OBJECT:
        OT_TRY(ot_json_peek(s) == OT_JSON_STRING ? ot_json_string(s, arena, &t, err)
                                                 : ot_tfs_b64_read(s, arena, &t, err));
        f->texts = true;
        ot_pb_put_bytes(&f->bytes, 1, t.p, t.n);
        break;
    default:
        return ot_json_fail(s, err,
                            "a feature is a number, a string, a b64 object or a list of "
                            "them, not %s",
                            ot_json_kind_name(ot_json_peek(s)));
    }
    return f->numbers && f->texts
               ? ot_json_fail(s, err, "a feature holds numbers or strings, not both")
               : OT_OK;
}

/* Appends tensorflow.Feature as field 2. */
static void feature_put(const feature *f, ot_str *out)
{
    size_t message = ot_pb_begin(out, 2);
    if (f->texts) {
        ot_pb_put_bytes(out, 1, f->bytes.data, f->bytes.len);
    } else if (f->numbers) {
        const ot_str *values = f->real ? &f->floats : &f->ints;
        size_t list = ot_pb_begin(out, f->real ? 2 : 3);
        ot_pb_put_bytes(out, 1, values->data, values->len);
        ot_pb_end(out, list, 0);
    }
    ot_pb_end(out, message, 0);
}

static ot_rc feature_read(ot_json_scan *s, ot_arena *arena, feature *f, ot_error *err)
{
    ot_str_clear(&f->ints);
    ot_str_clear(&f->floats);
    ot_str_clear(&f->bytes);
    f->numbers = f->real = f->texts = false;
    if (ot_json_peek(s) != OT_JSON_ARRAY) {
        return value_read(s, arena, f, err);
    }
    OT_TRY(ot_json_enter_array(s, err));
    for (;;) {
        bool more;
        OT_TRY(ot_json_next_item(s, &more, err));
        if (!more) {
            return OT_OK;
        }
        OT_TRY(value_read(s, arena, f, err));
    }
}

/* An object of features as a serialised Example. */
static ot_rc example_read(ot_json_scan *s, ot_arena *arena, feature *f, ot_str *buffer,
                          ot_text *out, ot_error *err)
{
    ot_str_clear(buffer);
    size_t features = ot_pb_begin(buffer, 1);
    OT_TRY(ot_json_enter_object(s, err));
    for (;;) {
        bool more;
        ot_text key;
        OT_TRY(ot_json_next_key(s, arena, &key, &more, err));
        if (!more) {
            break;
        }
        ot_error why;
        ot_rc rc = feature_read(s, arena, f, &why);
        if (rc != OT_OK) {
            return ot_fail(err, rc, "feature '%.*s': %s", (int)OT_MIN(key.n, (size_t)80), key.p,
                           why.msg);
        }
        size_t entry = ot_pb_begin(buffer, 1);
        ot_pb_put_bytes(buffer, 1, key.p, key.n);
        feature_put(f, buffer);
        ot_pb_end(buffer, entry, 0);
    }
    ot_pb_end(buffer, features, 0);
    char *p = buffer->failed ? NULL : ot_arena_alloc(arena, buffer->len);
    if (p == NULL || f->ints.failed || f->floats.failed || f->bytes.failed) {
        return no_memory(err);
    }
    memcpy(p, buffer->data, buffer->len);
    *out = (ot_text){p, buffer->len};
    return OT_OK;
}

typedef struct json_body {
    ot_json_scan s;
    ot_arena *arena;
    feature f;
    ot_str buffer;
    ot_tfs_examples e;
    int64_t cap;
    ot_text context;
    bool seen;
} json_body;

static void json_body_done(json_body *b)
{
    feature_done(&b->f);
    ot_str_done(&b->buffer);
}

static ot_rc add_example(json_body *b, ot_text t, ot_error *err)
{
    if (b->e.n == b->cap) {
        int64_t cap = OT_MAX(2 * b->cap, 8);
        ot_text *grown = ot_arena_calloc(b->arena, (size_t)cap, sizeof *grown);
        if (grown == NULL) {
            return no_memory(err);
        }
        if (b->e.n > 0) {
            memcpy(grown, b->e.items, (size_t)b->e.n * sizeof *grown);
        }
        b->e.items = grown;
        b->cap = cap;
    }
    b->e.items[b->e.n++] = t;
    return OT_OK;
}

static ot_rc examples_read(json_body *b, ot_error *err)
{
    OT_TRY(ot_json_enter_array(&b->s, err));
    for (;;) {
        bool more;
        ot_text t;
        ot_error why;
        OT_TRY(ot_json_next_item(&b->s, &more, err));
        if (!more) {
            return OT_OK;
        }
        ot_rc rc = example_read(&b->s, b->arena, &b->f, &b->buffer, &t, &why);
        if (rc != OT_OK) {
            return ot_fail(err, rc, "examples[%lld]: %s", (long long)b->e.n, why.msg);
        }
        OT_TRY(add_example(b, t, err));
    }
}

static ot_rc member_read(json_body *b, ot_text key, ot_error *err)
{
    if (ot_text_is(key, "signature_name")) {
        return ot_json_string_z(&b->s, b->arena, &b->e.signature, err);
    }
    if (ot_text_is(key, "context")) {
        ot_error why;
        ot_rc rc = example_read(&b->s, b->arena, &b->f, &b->buffer, &b->context, &why);
        return rc == OT_OK ? OT_OK : ot_fail(err, rc, "context: %s", why.msg);
    }
    if (!ot_text_is(key, "examples")) {
        return ot_json_skip(&b->s, err);
    }
    if (b->seen) {
        return ot_json_fail(&b->s, err, "'examples' is there twice");
    }
    b->seen = true;
    return examples_read(b, err);
}

ot_rc ot_tfs_examples_json(const char *p, size_t len, ot_arena *arena, ot_tfs_examples *out,
                           ot_error *err)
{
    OT_AUTO(json_body_done)
    json_body b = {.arena = arena,
                   .f = {.ints = OT_STR_INIT, .floats = OT_STR_INIT, .bytes = OT_STR_INIT},
                   .buffer = OT_STR_INIT};
    bool more;
    ot_text key;
    ot_json_scan_init(&b.s, p, len);
    OT_TRY(ot_json_enter_object(&b.s, err));
    for (;;) {
        OT_TRY(ot_json_next_key(&b.s, arena, &key, &more, err));
        if (!more) {
            break;
        }
        OT_TRY(member_read(&b, key, err));
    }
    OT_TRY(ot_json_finish(&b.s, err));
    if (b.e.n == 0) {
        return ot_fail(err, OT_INVALID, "the request has no 'examples'");
    }
    OT_TRY(with_context(&b.e, b.context, arena, err));
    *out = b.e;
    return OT_OK;
}

/* ---- as inputs of a model */

ot_rc ot_tfs_examples_tensor(const ot_tfs_examples *e, const char *name, ot_arena *arena,
                             ot_tensor *out, ot_error *err)
{
    size_t size = 0;
    for (int64_t i = 0; i < e->n; i++) {
        size += 4 + e->items[i].n;
    }
    char *p = ot_arena_alloc(arena, size);
    if (p == NULL || size > UINT32_MAX) {
        return no_memory(err);
    }
    *out = (ot_tensor){.name = name,
                       .dtype = OT_DT_BYTES,
                       .rank = 1,
                       .dims = {e->n},
                       .data = p,
                       .size_bytes = size};
    for (int64_t i = 0; i < e->n; i++) {
        uint32_t n = (uint32_t)e->items[i].n;
        memcpy(p, &n, sizeof n);
        if (n > 0) {
            memcpy(p + 4, e->items[i].p, n);
        }
        p += 4 + n;
    }
    return OT_OK;
}
