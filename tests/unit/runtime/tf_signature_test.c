/* The reader of SavedModel signatures, on MetaGraphDefs written here byte by byte. */
#include "../../../plugins/tensorflow/tf_signature.c"
#include "tap.h"

typedef struct out {
    uint8_t b[65536];
    size_t n;
} out;

static void put_varint(out *m, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) {
        m->b[m->n++] = (uint8_t)(v | 0x80);
    }
    m->b[m->n++] = (uint8_t)v;
}

static void put_number(out *m, uint32_t field, uint64_t v)
{
    put_varint(m, field << 3);
    put_varint(m, v);
}

static void put_bytes(out *m, uint32_t field, const void *p, size_t n)
{
    put_varint(m, field << 3 | 2);
    put_varint(m, n);
    memcpy(m->b + m->n, p, n);
    m->n += n;
}

static void put_text(out *m, uint32_t field, const char *s)
{
    put_bytes(m, field, s, strlen(s));
}

/* An entry of a map with a message as value. */
static void put_entry(out *m, uint32_t field, const char *key, const out *value)
{
    static out entry;
    entry.n = 0;
    put_text(&entry, 1, key);
    put_bytes(&entry, 2, value->b, value->n);
    put_bytes(m, field, entry.b, entry.n);
}

/* TensorInfo of FP32; dims ends with 0; rank_known false: unknown_rank. */
static void put_tensor(out *sig, uint32_t field, const char *key, const char *name,
                       const int64_t *dims, bool rank_known)
{
    static out info, shape, dim;
    info.n = shape.n = 0;
    for (; *dims != 0; dims++) {
        dim.n = 0;
        put_number(&dim, 1, (uint64_t)*dims);
        put_bytes(&shape, 2, dim.b, dim.n);
    }
    if (!rank_known) {
        put_number(&shape, 3, 1);
    }
    put_text(&info, 1, name);
    put_number(&info, 2, 1);
    put_bytes(&info, 3, shape.b, shape.n);
    put_entry(sig, field, key, &info);
}

static void put_signature(out *meta, const char *name, const char *tag)
{
    static const int64_t in[] = {-1, 784, 0}, answer[] = {-1, 10, 0};
    static out sig;
    char tensor[64];
    sig.n = 0;
    snprintf(tensor, sizeof tensor, "%s_x:0", tag);
    put_tensor(&sig, 1, "x", tensor, in, true);
    snprintf(tensor, sizeof tensor, "%s_a:1", tag);
    put_tensor(&sig, 1, "a", tensor, in, true);
    put_tensor(&sig, 2, "y", "Call:0", answer, true);
    put_text(&sig, 3, "tensorflow/serving/predict");
    put_entry(meta, 5, name, &sig);
}

static tf_signature sig;
static char why[384];

static bool read(const out *meta, const char *want)
{
    return tf_signature_read(meta->b, meta->n, want, &sig, why, sizeof why);
}

static void test_choice(void)
{
    static out meta, empty;
    put_text(&meta, 1, "meta info");
    put_signature(&meta, "serve", "serve");
    put_entry(&meta, 5, "__saved_model_init_op", &empty);
    put_signature(&meta, "serving_default", "default");
    put_number(&meta, 99, 7);
    ok(read(&meta, NULL), "signatures %s", why);
    is_str(sig.name, "serving_default", "serving_default is preferred");
    is_int(sig.n_inputs, 2, "two inputs");
    is_str(sig.inputs[0].key, "a", "sorted by key");
    is_str(sig.inputs[1].tensor, "default_x:0", "with the graph's name");
    is_int(sig.inputs[1].rank, 2, "rank 2");
    ok(sig.inputs[1].dims[0] == -1 && sig.inputs[1].dims[1] == 784, "dims -1, 784");
    is_int(sig.inputs[1].dtype, 1, "FP32");
    is_str(sig.outputs[0].key, "y", "the output");
    ok(read(&meta, "serve"), "another by name");
    is_str(sig.inputs[1].tensor, "serve_x:0", "is that one");
    ok(!read(&meta, "nope") && strstr(why, "serving_default") != NULL, "none of a name: %s", why);
    for (size_t n = 0; n < meta.n; n++) { /* every prefix: an answer or a reason */
        why[0] = '\0';
        if (!tf_signature_read(meta.b, n, NULL, &sig, why, sizeof why) && why[0] == '\0') {
            ok(false, "no reason at %zu bytes", n);
        }
    }
    ok(true, "every prefix gives an answer or a reason");
}

static void test_others(void)
{
    static out meta, empty, one;
    static const int64_t nine[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0}, none[] = {0};
    put_entry(&meta, 5, "__saved_model_init_op", &empty);
    ok(!read(&meta, NULL), "only the init op: %s", why);
    ok(!read(&empty, NULL), "nothing: %s", why);
    put_signature(&meta, "score", "s");
    ok(read(&meta, NULL) && strcmp(sig.name, "score") == 0, "the only one is taken");
    put_signature(&meta, "other", "o");
    ok(!read(&meta, NULL) && strstr(why, "score") != NULL, "two and no default: %s", why);
    meta.n = one.n = 0;
    put_tensor(&one, 2, "y", "Call:0", nine, true);
    put_entry(&meta, 5, "serve", &one);
    ok(!read(&meta, NULL), "nine axes: %s", why);
    meta.n = one.n = 0;
    put_tensor(&one, 2, "y", "Call:0", none, false);
    put_entry(&meta, 5, "serve", &one);
    ok(read(&meta, NULL) && sig.outputs[0].rank == -1, "an unknown rank is reported as such");
    meta.n = one.n = 0;
    put_entry(&one, 2, "y", &empty);
    put_entry(&meta, 5, "serve", &one);
    ok(!read(&meta, NULL), "a tensor without a name: %s", why);
    meta.n = one.n = 0;
    for (int i = 0; i < 40; i++) {
        char key[8];
        snprintf(key, sizeof key, "y%d", i);
        put_tensor(&one, 2, key, "Call:0", none, true);
    }
    put_entry(&meta, 5, "serve", &one);
    ok(!read(&meta, NULL), "40 outputs: %s", why);
    static const uint8_t hostile[] = {0x2a, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0x01};
    ok(!tf_signature_read(hostile, sizeof hostile, NULL, &sig, why, sizeof why),
       "a length of 2^64-1: %s", why);
}

int main(void)
{
    test_choice();
    test_others();
    return tap_done();
}
