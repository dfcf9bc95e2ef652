#include "base/mem.h"
#include "codec/npy.h"
#include "golden.h"
#include "tap.h"

static void test_types(void)
{
    static const struct {
        const char *file;
        ot_dtype dtype;
    } t[] = {{"f2", OT_DT_FP16},   {"f4", OT_DT_FP32},   {"f8", OT_DT_FP64},   {"i1", OT_DT_INT8},
             {"i2", OT_DT_INT16},  {"i4", OT_DT_INT32},  {"i8", OT_DT_INT64},  {"u1", OT_DT_UINT8},
             {"u2", OT_DT_UINT16}, {"u4", OT_DT_UINT32}, {"u8", OT_DT_UINT64}, {"b1", OT_DT_BOOL}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char name[32];
        ot_str s = OT_STR_INIT, again = OT_STR_INIT;
        ot_error err = {0};
        ot_tensor x;
        snprintf(name, sizeof name, "%s.npy", t[i].file);
        bool good = golden_read(name, &s) && ot_npy_parse(s.data, s.len, &x, &err) == OT_OK;
        ok(good && x.dtype == t[i].dtype && x.rank == 2 && x.dims[0] == 2 && x.dims[1] == 3,
           "%s is read: %s", name, err.msg);
        for (int64_t k = 0; good && k < 6; k++) {
            double want = x.dtype == OT_DT_BOOL ? k % 5 != 0 : (double)(k % 5);
            good = fabs(ot_tensor_f64_at(&x, k) - want) < 1e-9;
        }
        ok(good, "%s has its values", name);
        ok(good && ot_npy_header(&x, &again, &err) == OT_OK && again.len + x.size_bytes == s.len &&
               memcmp(again.data, s.data, again.len) == 0,
           "%s: our header is NumPy's, byte for byte", name);
        for (size_t n = 0; good && n < s.len; n++) {
            char *cut = ot_alloc(n); /* of its own, so that ASan sees a byte too far */
            memcpy(cut, s.data, n);
            good = ot_npy_parse(cut, n, &x, NULL) == OT_INVALID;
            ot_free(cut);
        }
        ok(good, "%s is refused when cut anywhere", name);
        ot_str_done(&s);
        ot_str_done(&again);
    }
}

static void test_others(void)
{
    ot_str s = OT_STR_INIT;
    ot_tensor x;
    ot_error err;
    ok(golden_read("scalar.npy", &s) && ot_npy_parse(s.data, s.len, &x, &err) == OT_OK &&
           x.rank == 0 && fabs(ot_tensor_f64_at(&x, 0) - 1.5) < 1e-9,
       "a scalar");
    ok(golden_read("vector.npy", &s) && ot_npy_parse(s.data, s.len, &x, &err) == OT_OK &&
           x.rank == 1 && x.dims[0] == 3 && isinf(ot_tensor_f64_at(&x, 2)),
       "a vector");
    ok(golden_read("zero.npy", &s) && ot_npy_parse(s.data, s.len, &x, &err) == OT_OK &&
           x.dims[0] == 0 && x.size_bytes == 0,
       "zero rows");
    for (int v = 2; v <= 3; v++) {
        char name[16];
        snprintf(name, sizeof name, "v%d.npy", v);
        ok(golden_read(name, &s) && ot_npy_parse(s.data, s.len, &x, &err) == OT_OK &&
               x.dims[0] == 4,
           "format %d.0", v);
    }
    static const char *const refused[][2] = {{"fortran.npy", "Fortran order"},
                                             {"big_endian.npy", "big-endian"},
                                             {"text.npy", "type '<U2'"},
                                             {"object.npy", "Python objects"},
                                             {"record.npy", "structured"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        err.msg[0] = 0;
        ok(golden_read(refused[i][0], &s) && ot_npy_parse(s.data, s.len, &x, &err) == OT_INVALID &&
               strstr(err.msg, refused[i][1]) != NULL,
           "%s: %s", refused[i][0], err.msg);
    }
    ot_str_done(&s);
}

static ot_rc parse_header(const char *text, ot_error *err)
{
    unsigned char b[512] = "\x93NUMPY\1\0";
    size_t n = strlen(text);
    b[8] = (unsigned char)(n & 0xff);
    b[9] = (unsigned char)(n >> 8);
    memcpy(b + 10, text, n);
    ot_tensor x;
    return ot_npy_parse(b, 10 + n, &x, err);
}

static void test_hostile(void)
{
    static const char *const bad[] = {
        "",
        "{",
        "{}",
        "{'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0,0,0,0,0,0,0,0,0), }",
        "{'descr': '<f4, 'fortran_order': False, 'shape': (0,), }",
        "{'evil': __import__('os'), 'descr': '<f4', 'fortran_order': False, 'shape': (0,)}",
        "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (0,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ot_error err = {0};
        ok(parse_header(bad[i], &err) == OT_INVALID && err.msg[0] != 0, "refused: %s", err.msg);
    }
    ok(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0L, 3L)}", NULL) == OT_OK,
       "Python 2's long integers");
    ot_error err = {0};
    ot_str out = OT_STR_INIT;
    ot_tensor t = {.name = "s", .dtype = OT_DT_BYTES, .rank = 1, .dims = {0}};
    ok(ot_npy_header(&t, &out, &err) == OT_INVALID, "strings have no header: %s", err.msg);
    ot_str_done(&out);
}

int main(void)
{
    test_types();
    test_others();
    test_hostile();
    return tap_done();
}
