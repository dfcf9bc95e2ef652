/* Vectors are what protobuf 7 (Python) writes for the messages in their comments. */
#include "codec/pb_values.h"
#include "tap.h"

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    return ot_unhex(hex, n, out) ? n : 0;
}

static bool is_hex(const ot_str *s, const char *hex)
{
    char got[2048];
    if (s->failed || s->len * 2 >= sizeof got) {
        return false;
    }
    ot_hex((const uint8_t *)s->data, s->len, got);
    if (strcmp(got, hex) != 0) {
        printf("# got  %s\n# want %s\n", got, hex);
    }
    return strcmp(got, hex) == 0;
}

/* Walks a message and says what its fields are, or the error. */
static const char *walk(const char *hex, char *o, size_t cap)
{
    uint8_t b[512];
    ot_pb r;
    ot_error err;
    size_t at = 0;
    ot_pb_init(&r, b, unhex(hex, b), "M");
    o[0] = '\0';
    for (;;) {
        ot_pb_field f;
        if (ot_pb_next(&r, &f, &err) != OT_OK) {
            snprintf(o + at, cap - at, "%s", err.msg);
            return o;
        }
        if (f.number == 0) {
            return o;
        }
        at += (size_t)snprintf(o + at, cap - at, "%u:%d:%llu:%zu ", f.number, (int)f.wire,
                               (unsigned long long)f.u, f.n);
    }
}

static void test_walk(void)
{
    static const struct {
        const char *hex, *want;
    } cases[] = {
        {"", ""},
        {"08ffffffffffffffffff01", "1:0:18446744073709551615:0 "},
        {"0a026162", "1:2:0:2 "},
        {"0a00", "1:2:0:0 "},
        {"0dffffff7f", "1:5:2147483647:0 "},
        {"090000000000000080", "1:1:9223372036854775808:0 "},
        {"f8ffffff0f01", "536870911:0:1:0 "},
        {"0b1001140c0801", "M: byte 4: a group ends that is not open"},
        {"0b10010b0c0c0801", "1:0:1:0 "},
        {"0b1001", "M: byte 3: a broken tag"},
        {"0c", "M: byte 1: a group ends that is not open"},
        {"08", "M: byte 1: a broken varint"},
        {"0880", "M: byte 1: a broken varint"},
        {"08ffffffffffffffffff02", "M: byte 1: a broken varint"},
        {"0880808080808080808080808001", "M: byte 1: a broken varint"},
        {"00", "M: byte 1: a broken tag"},
        {"8080808080808080808001", "M: byte 0: a broken tag"},
        {"0e", "M: byte 1: a tag has no wire type that exists"},
        {"0a03616263", "1:2:0:3 "},
        {"0a046162", "M: byte 2: field 1 says that it has 4 bytes; 2 are left"},
        {"0affffffffffffffffff01",
         "M: byte 11: field 1 says that it has 18446744073709551615 bytes; 0 are left"},
        {"0dffffff", "M: byte 1: it ends within a number"},
        {"09ffffffffffffff", "M: byte 1: it ends within a number"},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        char o[512];
        is_str(walk(cases[i].hex, o, sizeof o), cases[i].want, "walk %s", cases[i].hex);
    }
}

static void test_nesting(void)
{
    uint8_t b[2 * OT_PB_DEPTH_MAX];
    char o[256], hex[2 * OT_PB_DEPTH_MAX + 3] = "";
    ot_error err;
    for (int i = 0; i < OT_PB_DEPTH_MAX + 1; i++) {
        strcat(hex, "0b");
    }
    is_str(walk(hex, o, sizeof o), "M: byte 33: groups are nested too deep", "groups have a cap");
    /* Messages in messages: each two bytes of head around the next. */
    size_t n = sizeof b;
    for (size_t i = 0; i < n; i += 2) {
        b[i] = 0x0a;
        b[i + 1] = (uint8_t)(n - i - 2);
    }
    ot_pb r, sub;
    ot_pb_field f;
    int depth = 0;
    ot_pb_init(&r, b, n, "M");
    while (ot_pb_next(&r, &f, &err) == OT_OK && f.number == 1 &&
           ot_pb_enter(&r, &f, "child", "M", &sub, &err) == OT_OK) {
        r = sub;
        depth++;
    }
    is_int(depth, OT_PB_DEPTH_MAX - 1, "messages have a cap");
    is_str(err.msg, "M: field 'child' is nested deeper than 32 messages", "said so");
}

static void test_strings(void)
{
    ot_arena arena;
    ot_arena_init(&arena, 64, 4096);
    ot_error err;
    static const struct {
        const char *hex, *want;
    } cases[] = {
        {"0a036162c3", NULL}, /* cut UTF-8 */
        {"0a03610062", NULL},
        {"0a0461c3a962", "a\xc3\xa9"
                         "b"},
        {"0a00", ""},
        {"0801", NULL},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        uint8_t b[64];
        ot_pb r;
        ot_pb_field f;
        const char *z = NULL;
        ot_pb_init(&r, b, unhex(cases[i].hex, b), "M");
        ok(ot_pb_next(&r, &f, &err) == OT_OK, "a field");
        ot_rc rc = ot_pb_string(&r, &f, "id", &arena, &z, &err);
        if (cases[i].want != NULL) {
            is_str(z, cases[i].want, "string %s", cases[i].hex);
        } else {
            ok(rc == OT_INVALID && strstr(err.msg, "M: field 'id'") != NULL, "refused: %s",
               err.msg);
        }
    }
    ot_arena_done(&arena);
}

/* InferTensorContents(int_contents=[1,-2,300], fp32_contents=[1.5,-2], bytes_contents=[b'ab',b''],
 * bool_contents=[True,False], uint64_contents=[2**64-1], fp64_contents=[0.5]) */
static const char contents[] =
    "0a020100120d01feffffffffffffffff01ac022a0affffffffffffffffff0132080000c03f000000c03a"
    "08000000000000e03f420261624200";

static const char *gathered(const char *hex, uint32_t number, ot_dtype dt, size_t limit, char *o)
{
    uint8_t b[512];
    ot_pb r;
    ot_arena arena;
    ot_error err;
    ot_tensor t = {.dtype = dt};
    int64_t count = -1;
    ot_arena_init(&arena, 64, limit);
    ot_pb_init(&r, b, unhex(hex, b), "M");
    ot_rc rc = ot_pb_gather(&r, number, "v", &arena, &t, &count, &err);
    if (rc != OT_OK) {
        snprintf(o, 256, "%s", err.msg);
    } else {
        int n = snprintf(o, 256, "%lld ", (long long)count);
        ot_hex(t.data, t.size_bytes, o + n);
    }
    ot_arena_done(&arena);
    return o;
}

static void test_gather(void)
{
    static const struct {
        const char *hex;
        uint32_t number;
        ot_dtype dt;
        const char *want;
    } cases[] = {
        {contents, 1, OT_DT_BOOL, "2 0100"},
        {contents, 2, OT_DT_INT32, "3 01000000feffffff2c010000"},
        {contents, 2, OT_DT_INT16, "3 0100feff2c01"},
        {contents, 2, OT_DT_INT8, "M: field 'v' holds 300, which is not in the range of INT8"},
        {contents, 2, OT_DT_UINT32, "M: field 'v' holds -2, which is not in the range of UINT32"},
        {contents, 5, OT_DT_UINT64, "1 ffffffffffffffff"},
        {contents, 6, OT_DT_FP32, "2 0000c03f000000c0"},
        {contents, 7, OT_DT_FP64, "1 000000000000e03f"},
        {contents, 8, OT_DT_BYTES, "2 02000000616200000000"},
        {contents, 3, OT_DT_INT64, "0 "},
        {"08010a0202037808", 1, OT_DT_UINT8, "3 010203"}, /* one, then packed, then another field */
        {"0d0000803f0a040000004015000000000d00004040", 1, OT_DT_FP32, "3 0000803f0000004000004040"},
        {"0880800408", 1, OT_DT_FP16, "M: byte 5: a broken varint"},
        {"08808004", 1, OT_DT_FP16, "M: field 'v' holds 65536, which is not in the range of FP16"},
        {"08ffff03", 1, OT_DT_BF16, "1 ffff"},
        {"0a03000000", 1, OT_DT_FP32, "M: field 'v' holds a broken value"},
        {"0a0180", 1, OT_DT_INT32, "M: field 'v' holds a broken value"},
        {"0a0b8080808080808080808001", 1, OT_DT_INT32, "M: field 'v' holds a broken value"},
        {"0801", 1, OT_DT_FP32, "M: field 'v' (1) is sent as a varint; it is a 32-bit number"},
        {"0801", 1, OT_DT_BYTES, "M: field 'v' (1) is sent as a varint; it is length-delimited"},
    };
    char o[256];
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        is_str(gathered(cases[i].hex, cases[i].number, cases[i].dt, 4096, o), cases[i].want,
               "gather %zu", i);
    }
    char ones[2 * 66 + 1] = "0a40"; /* 64 varints take 512 bytes as INT64 */
    for (int i = 0; i < 64; i++) {
        strcat(ones, "01");
    }
    is_str(gathered(ones, 1, OT_DT_INT64, 256, o),
           "M: field 'v' needs 512 bytes, more than the memory that a request may take",
           "the arena's limit");
}

static void test_i64s(void)
{
    uint8_t b[64];
    ot_pb r;
    ot_pb_field f;
    ot_error err;
    int64_t x[3];
    size_t n = 0;
    ot_pb_init(&r, b, unhex("1a0d01ffffffffffffffffff01ac021805", b), "M");
    ok(ot_pb_next(&r, &f, &err) == OT_OK && ot_pb_i64s(&r, &f, "shape", x, 3, &n, &err) == OT_OK &&
           n == 3 && x[0] == 1 && x[1] == -1 && x[2] == 300,
       "packed values");
    ok(ot_pb_next(&r, &f, &err) == OT_OK && f.number == 3 &&
           ot_pb_i64s(&r, &f, "shape", x, 3, &n, &err) == OT_INVALID,
       "no room for a fourth");
    is_str(err.msg, "M: field 'shape' has more than 3 values", "said so");
    n = 0;
    ok(ot_pb_i64s(&r, &f, "shape", x, 3, &n, &err) == OT_OK && n == 1 && x[0] == 5,
       "one that is not packed");
}

static void test_write(void)
{
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    char id[201];
    memset(id, 'x', 200);
    id[200] = '\0';
    /* ModelInferResponse(model_name='m', id='x'*200, parameters={'k': 1.5}, outputs=[y FP32
     * [1,-1,300]], raw_output_contents=[b'abcd']), the id after the rest */
    ot_pb_put_string(&s, 1, "m");
    size_t entry = ot_pb_begin(&s, 4);
    ot_pb_put_string(&s, 1, "k");
    size_t value = ot_pb_begin(&s, 2);
    ot_pb_put_double(&s, 4, 1.5);
    ot_pb_end(&s, value, 0);
    ot_pb_end(&s, entry, 0);
    size_t out = ot_pb_begin(&s, 5);
    ot_pb_put_string(&s, 1, "y");
    ot_pb_put_string(&s, 2, "FP32");
    ot_pb_put_packed(&s, 3, (const int64_t[]){1, -1, 300}, 3);
    ot_pb_end(&s, out, 0);
    ot_pb_put_bytes(&s, 6, "abcd", 4);
    ok(is_hex(&s, "0a016d220e0a016b120921000000000000f83f2a180a01791204465033321a0d01ffffffffffffff"
                  "ffff01ac02320461626364"),
       "a message");
    ot_str_clear(&s);
    size_t long_one = ot_pb_begin(&s, 2);
    ot_pb_put_string(&s, 3, id);
    ot_pb_end(&s, long_one, 0);
    is_int(s.len, 206, "a long message moves");
    ok(memcmp(s.data, "\x12\xcb\x01\x1a\xc8\x01xxx", 9) == 0, "its length has two bytes");
    ot_str_clear(&s);
    size_t far = ot_pb_begin(&s, 2);
    ot_pb_put_head(&s, 6, 1000000);
    ot_pb_end(&s, far, 1000000);
    ok(is_hex(&s, "12c4843d32c0843d"), "bytes from elsewhere count");
    ot_str_clear(&s);
    ot_pb_put_uint(&s, 5, UINT64_MAX);
    ot_pb_put_packed(&s, 1, NULL, 0);
    ok(is_hex(&s, "28ffffffffffffffffff01"), "a varint; nothing for no values");
    ot_str_clear(&s);
    ot_pb_put_text(&s, 1, "h\xc3\xa9");
    ot_pb_put_text(&s, 1, "h\xc3\xa9 \xc3");
    ok(is_hex(&s, "0a0368c3a9"
                  "0a0568"
                  "3f3f203f"),
       "a text is UTF-8, or has '?'");
    is_int(ot_pb_varint_size(127), 1, "size");
    is_int(ot_pb_varint_size(128), 2, "size");
    is_int(ot_pb_varint_size(UINT64_MAX), 10, "size");
}

int main(void)
{
    test_walk();
    test_nesting();
    test_strings();
    test_gather();
    test_i64s();
    test_write();
    return tap_done();
}
