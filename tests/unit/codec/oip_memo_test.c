#include "codec/oip_memo.h"
#include "tap.h"

#include <stdlib.h>

/* Everything a decoded request says, as text, with where each blob lies in the body. */
static void describe(const ot_oip_request *r, const char *body, char *o, size_t cap)
{
    size_t n = (size_t)snprintf(o, cap, "id=%s params=%d default=%d", r->id != NULL ? r->id : "-",
                                r->params.n, r->binary_default);
    for (int i = 0; i < r->n_inputs; i++) {
        const ot_tensor *t = &r->inputs[i].tensor;
        char shape[OT_SHAPE_TEXT];
        ptrdiff_t at = r->inputs[i].binary ? (const char *)t->data - body : -1;
        n += (size_t)snprintf(o + n, cap - n, " in:%s/%s%s@%td+%zu b=%d p=%d", t->name,
                              ot_dtype_name(t->dtype), ot_shape_format(t->dims, t->rank, shape), at,
                              t->size_bytes, r->inputs[i].binary, r->inputs[i].params.n);
    }
    for (int i = 0; i < r->n_outputs; i++) {
        n += (size_t)snprintf(o + n, cap - n, " out:%s b=%d p=%d", r->outputs[i].name,
                              r->outputs[i].binary, r->outputs[i].params.n);
    }
}

typedef struct message {
    char body[2048];
    size_t head, len;
} message;

/* JSON, then `blob` bytes. */
static message make(const char *json, size_t blob)
{
    message m = {.head = strlen(json)};
    memcpy(m.body, json, m.head);
    for (size_t i = 0; i < blob; i++) {
        m.body[m.head + i] = (char)i;
    }
    m.len = m.head + blob;
    return m;
}

/* Decodes both ways and compares; returns whether a kept head was used. */
static bool same(ot_oip_memo *memo, const message *sent, const char *name)
{
    ot_arena arena;
    ot_arena_init(&arena, 4096, 1u << 20);
    message m = *sent;
    ot_oip_request a = {0}, b = {0};
    ot_error ea = {0}, eb = {0};
    uint64_t before = ot_oip_memo_hits(memo);
    ot_rc plain =
        ot_oip_request_decode(sent->body, sent->len, (int64_t)sent->head, NULL, &arena, &a, &ea);
    ot_rc kept =
        ot_oip_memo_request_decode(memo, m.body, m.len, (int64_t)m.head, NULL, &arena, &b, &eb);
    char x[1024] = "", y[1024] = "";
    if (plain == OT_OK && kept == OT_OK) {
        describe(&a, sent->body, x, sizeof x);
        describe(&b, m.body, y, sizeof y);
    }
    ok(plain == kept && strcmp(ea.msg, eb.msg) == 0 && strcmp(x, y) == 0,
       "%s: as without a memo (%s%s)", name, y, eb.msg);
    ot_arena_done(&arena);
    return ot_oip_memo_hits(memo) != before;
}

#define HEAD(name, shape, size, more)                                                              \
    "{\"inputs\":[{\"name\":\"" name "\",\"datatype\":\"FP32\",\"shape\":" shape                   \
    ",\"parameters\":{\"binary_data_size\":" size "}}]" more "}"
#define USUAL HEAD("x", "[1,4]", "16", ",\"parameters\":{\"binary_data_output\":true}")

static void requests(void)
{
    ot_oip_memo *memo;
    is_int(ot_oip_memo_create(&memo, NULL), OT_OK, "a memo");
    message usual = make(USUAL, 16);
    ok(!same(memo, &usual, "the first"), "nothing is known of it");
    ok(same(memo, &usual, "again"), "it is known");
    usual.body[usual.head] = 77;
    ok(same(memo, &usual, "another blob"), "only the head counts");
    /* Each differs from the usual one in a byte or in what follows it. */
    static const struct {
        const char *name, *json;
        size_t blob;
    } near[] = {
        {"another name", HEAD("y", "[1,4]", "16", ",\"parameters\":{\"binary_data_output\":true}"),
         16},
        {"another shape", HEAD("x", "[4,1]", "16", ",\"parameters\":{\"binary_data_output\":true}"),
         16},
        {"a shape that is wrong",
         HEAD("x", "[1,5]", "16", ",\"parameters\":{\"binary_data_output\":true}"), 16},
        {"a space", USUAL " ", 16},
        {"a byte too many", USUAL, 17},
        {"a byte too few", USUAL, 15},
        {"nothing follows", USUAL, 0},
        {"other output", HEAD("x", "[1,4]", "16", ",\"parameters\":{\"binary_data_outpux\":true}"),
         16},
        {"not quite JSON",
         HEAD("x", "[1,4]", "16", ",\"parameters\":{\"binary_data_output\":true,"), 16},
    };
    for (size_t i = 0; i < OT_COUNT(near); i++) {
        message m = make(near[i].json, near[i].blob);
        ok(!same(memo, &m, near[i].name), "%s is not the usual one", near[i].name);
        (void)same(memo, &m, near[i].name);
        (void)same(memo, &usual, "the usual one between");
    }
    ot_oip_memo_destroy(memo);
}

/* Heads that say something which is not kept are read each time. */
static void not_kept(void)
{
    ot_oip_memo *memo;
    is_int(ot_oip_memo_create(&memo, NULL), OT_OK, "a memo");
    static const char *const heads[] = {
        HEAD("x", "[1,4]", "16", ",\"id\":\"7\""),
        HEAD("x", "[1,4]", "16", ",\"parameters\":{\"t\":1}"),
        HEAD("x", "[1,4]", "16", ",\"outputs\":[{\"name\":\"y\",\"parameters\":{\"k\":1}}]"),
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"BYTES\",\"shape\":[1],\"parameters\":{"
        "\"binary_data_size\":16}}]}",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[16],\"parameters\":{"
        "\"binary_data_size\":16,\"p\":2}}]}",
    };
    for (size_t i = 0; i < OT_COUNT(heads); i++) {
        message m = make(heads[i], 16);
        m.body[m.head] = 12; /* a BYTES element of 12 */
        m.body[m.head + 1] = m.body[m.head + 2] = m.body[m.head + 3] = 0;
        (void)same(memo, &m, "once");
        ok(!same(memo, &m, "twice"), "read again: %s", heads[i]);
        m.body[m.head] = 13; /* is not one now */
        ok(!same(memo, &m, "with other bytes"), "and judged by its own bytes");
    }
    message json = make("{\"inputs\":[{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[1],"
                        "\"data\":[3]}]}",
                        0);
    (void)same(memo, &json, "data in the JSON");
    ok(!same(memo, &json, "data in the JSON"), "read again");
    char asks[] = HEAD("x", "[1,4]", "16",
                       ",\"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data\":true}},"
                       "{\"name\":\"z\\u00e9\"}]");
    message m = make(asks, 16);
    (void)same(memo, &m, "outputs by name");
    ok(same(memo, &m, "outputs by name, again"), "these are kept");
    ot_oip_memo_destroy(memo);
}

/* More different heads than slots, in turn: each is answered by its own meaning. */
static void many(void)
{
    ot_oip_memo *memo;
    is_int(ot_oip_memo_create(&memo, NULL), OT_OK, "a memo");
    for (int i = 0; i < 3 * OT_OIP_MEMO_SLOTS; i++) {
        char json[512];
        snprintf(json, sizeof json, HEAD("x%d", "[1,%d]", "%d", ""), i / 2, i + 1, 4 * (i + 1));
        message m = make(json, 4 * ((size_t)i + 1));
        (void)same(memo, &m, "one of many");
        (void)same(memo, &m, "one of many");
    }
    ok(ot_oip_memo_hits(memo) >= 3 * OT_OIP_MEMO_SLOTS, "each was known at once afterwards");
    ot_oip_memo_destroy(memo);
}

/* Encodes both ways and compares; returns whether a kept head was used. */
static bool same_answer(ot_oip_memo *memo, const ot_oip_response *r, const char *name)
{
    ot_str x = OT_STR_INIT, y = OT_STR_INIT;
    ot_oip_encoded a = {0}, b = {0};
    ot_error ea = {0}, eb = {0};
    uint64_t before = ot_oip_memo_hits(memo);
    ot_str_adds(&x, "before");
    ot_str_adds(&y, "before");
    ot_rc plain = ot_oip_response_encode(r, &x, &a, &ea);
    ot_rc kept = ot_oip_memo_response_encode(memo, r, &y, &b, &eb);
    bool blobs = a.n_blobs == b.n_blobs && a.blob_bytes == b.blob_bytes;
    for (int i = 0; i < a.n_blobs && blobs; i++) {
        blobs =
            a.blobs[i].iov_base == b.blobs[i].iov_base && a.blobs[i].iov_len == b.blobs[i].iov_len;
    }
    ok(plain == kept && strcmp(ea.msg, eb.msg) == 0 &&
           (plain != OT_OK || (a.header_len == b.header_len && blobs && x.len == y.len &&
                               memcmp(x.data, y.data, x.len) == 0)),
       "%s: as without a memo (%s)", name, y.data);
    ot_str_done(&x);
    ot_str_done(&y);
    return ot_oip_memo_hits(memo) != before;
}

static void answers(void)
{
    ot_oip_memo *memo;
    is_int(ot_oip_memo_create(&memo, NULL), OT_OK, "a memo");
    float data[4] = {1, 2, 3, 4};
    ot_oip_tensor t[2] = {{.tensor = {.name = "y",
                                      .dtype = OT_DT_FP32,
                                      .rank = 2,
                                      .dims = {2, 2},
                                      .data = data,
                                      .size_bytes = sizeof data},
                           .binary = true}};
    ot_oip_response r = {.model_name = "m", .model_version = "1", .outputs = t, .n_outputs = 1};
    (void)same_answer(memo, &r, "the first");
    ok(same_answer(memo, &r, "again"), "it is known");
    float other[4] = {5, 6, 7, 8};
    t[0].tensor.data = other;
    ok(same_answer(memo, &r, "another blob"), "only the head counts");
    r.model_version = "2";
    ok(!same_answer(memo, &r, "another version"), "another head");
    r.model_version = "1";
    r.model_name = NULL;
    ok(!same_answer(memo, &r, "no name"), "another head");
    r.model_name = "";
    ok(!same_answer(memo, &r, "an empty name"), "another head");
    r.model_name = "m";
    t[0].tensor.dims[0] = 1;
    t[0].tensor.dims[1] = 4;
    ok(!same_answer(memo, &r, "another shape"), "another head");
    t[0].tensor.dtype = OT_DT_INT32;
    ok(!same_answer(memo, &r, "another type"), "another head");
    t[0].tensor.dims[1] = 5;
    ok(!same_answer(memo, &r, "a shape that is wrong"), "refused");
    ok(!same_answer(memo, &r, "a shape that is wrong"), "and refused again");
    t[0].tensor.dims[1] = 4;
    t[0].binary = false;
    (void)same_answer(memo, &r, "as JSON");
    ok(!same_answer(memo, &r, "as JSON"), "values are written each time");
    t[0].binary = true;
    r.id = "5";
    (void)same_answer(memo, &r, "with an id");
    ok(!same_answer(memo, &r, "with an id"), "written each time");
    r.id = NULL;
    t[1] = t[0];
    t[1].tensor.name = "z";
    t[1].tensor.dims[1] = 0;
    t[1].tensor.size_bytes = 0;
    t[1].tensor.data = NULL;
    r.n_outputs = 2;
    (void)same_answer(memo, &r, "two outputs, one empty");
    ok(same_answer(memo, &r, "two outputs, one empty"), "known");
    ot_oip_memo_destroy(memo);
}

static void short_of_memory(void)
{
    ot_oip_memo *memo = NULL;
    ot_error err;
    ot_mem_fail_nth(1);
    ot_rc rc = ot_oip_memo_create(&memo, &err);
    ot_mem_fail_nth(0);
    ok(rc == OT_EXHAUSTED && memo == NULL, "without memory: %s", err.msg);
    ot_oip_memo_destroy(NULL);
}

int main(void)
{
    requests();
    not_kept();
    many();
    answers();
    short_of_memory();
    return tap_done();
}
