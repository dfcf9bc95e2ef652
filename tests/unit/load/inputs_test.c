#include "load/inputs.h"

#include "tap.h"

static const ot_tensor_spec specs[] = {
    {.name = "x", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, 3}},
    {.name = "ids", .dtype = OT_DT_INT64, .rank = 3, .dims = {-1, -1, 2}},
    {.name = "text", .dtype = OT_DT_BYTES, .rank = 1, .dims = {-1}},
};

static void urls(void)
{
    ot_load_url u;
    ot_error err;
    is_int(ot_load_url_parse("127.0.0.1:8000", NULL, &u, &err), OT_OK, "an address");
    ok(u.model[0] == '\0' && u.addr.port == 8000, "names no model");
    is_int(ot_load_url_parse("http://127.0.0.1:9/v2/models/a.b/versions/7/infer", NULL, &u, &err),
           OT_OK, "a model's");
    ok(strcmp(u.model, "a.b") == 0 && strcmp(u.version, "7") == 0, "%s, version %s", u.model,
       u.version);
    is_int(ot_load_url_parse("http://127.0.0.1:9/v2/models/a", NULL, &u, &err), OT_OK,
           "without version");
    ok(u.version[0] == '\0', "any version");
    static const char *const bad[] = {"",
                                      "http://",
                                      "http://127.0.0.1:9/v3/models/a",
                                      "http://127.0.0.1:9/v2/models/",
                                      "http://127.0.0.1:9/v2/models/a/b",
                                      "https://unix:/a"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(ot_load_url_parse(bad[i], NULL, &u, &err) == OT_INVALID, "'%s': %s", bad[i], err.msg);
    }
}

static bool equal(const ot_load_inputs *a, const ot_load_inputs *b)
{
    for (size_t i = 0; i < a->n * a->per_request; i++) {
        if (a->tensors[i].size_bytes != b->tensors[i].size_bytes ||
            memcmp(a->tensors[i].data, b->tensors[i].data, a->tensors[i].size_bytes) != 0) {
            return false;
        }
    }
    return true;
}

int main(void)
{
    ot_load_inputs a, b;
    ot_error err;
    urls();
    is_int(ot_load_inputs_make(specs, 3, 4, 2, 5, 7, &a, &err), OT_OK, "made up");
    bool fits = true;
    for (size_t i = 0; i < 12; i++) {
        fits = fits && ot_tensor_check(&a.tensors[i], &err) == OT_OK &&
               ot_tensor_matches(&specs[i % 3], &a.tensors[i], &err) == OT_OK;
    }
    ok(fits, "as the signature says");
    ok(a.tensors[1].dims[0] == 2 && a.tensors[1].dims[1] == 5, "open axes: rows, then open_dim");
    is_near(ot_tensor_f64_at(&a.tensors[0], 0), 0.5, 0.5, "floats in [0, 1)");
    is_int(ot_load_inputs_make(specs, 3, 4, 2, 5, 7, &b, &err), OT_OK, "again");
    ok(equal(&a, &b), "the same seed, the same inputs");
    ot_load_inputs_done(&b);
    is_int(ot_load_inputs_make(specs, 3, 4, 2, 5, 8, &b, &err), OT_OK, "with another seed");
    ok(!equal(&a, &b), "others");
    ot_load_inputs_done(&b);
    ot_load_inputs_done(&a);
    ok(ot_load_inputs_make(specs, 3, 4, 1 << 30, 1 << 30, 7, &a, &err) == OT_EXHAUSTED,
       "too large: %s", err.msg);
    ok(ot_load_inputs_make(specs, 3, OT_LOAD_INPUTS_MAX + 1, 1, 1, 7, &a, &err) == OT_INVALID,
       "too many: %s", err.msg);
    return tap_done();
}
