/* Reading of golden.json. */
#include "model/golden_internal.h"

#include "codec/json_scan.h"
#include "codec/oip.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "golden answers: no memory");
}

/* A tensor's fields may come in any order; `data` is kept as its place until type and shape are
 * known. */
typedef struct raw_tensor {
    const char *name;
    ot_dtype dtype;
    int rank; /* -1: no shape yet */
    int64_t dims[OT_RANK_MAX];
    ot_json_scan data;
    bool has_data;
} raw_tensor;

static ot_rc read_dims(ot_json_scan *s, raw_tensor *r, ot_error *err)
{
    OT_TRY(ot_json_enter_array(s, err));
    r->rank = 0;
    for (;;) {
        bool more;
        OT_TRY(ot_json_next_item(s, &more, err));
        if (!more) {
            return OT_OK;
        }
        ot_json_number x;
        OT_TRY(ot_json_number_read(s, &x, err));
        if (!x.is_int || x.negative || x.u64 > (uint64_t)INT64_MAX || r->rank == OT_RANK_MAX) {
            return ot_json_fail(s, err, "shape: up to %d sizes of 0 or more are accepted",
                                OT_RANK_MAX);
        }
        r->dims[r->rank++] = (int64_t)x.u64;
    }
}

static ot_rc read_tensor_key(ot_json_scan *s, ot_text key, ot_arena *a, raw_tensor *r,
                             ot_error *err)
{
    if (ot_text_is(key, "name")) {
        return ot_json_string_z(s, a, &r->name, err);
    }
    if (ot_text_is(key, "datatype")) {
        ot_text dt;
        OT_TRY(ot_json_string(s, a, &dt, err));
        r->dtype = ot_dtype_parse(dt.p, dt.n);
        return r->dtype != OT_DT_INVALID ? OT_OK
                                         : ot_json_fail(s, err, "datatype '%.*s' is not known",
                                                        (int)OT_MIN(dt.n, 32u), dt.p);
    }
    if (ot_text_is(key, "shape")) {
        return read_dims(s, r, err);
    }
    if (ot_text_is(key, "data")) {
        r->data = *s;
        r->has_data = true;
        return ot_json_skip(s, err);
    }
    return ot_json_fail(s, err, "'%.*s' is not known in a tensor (name, datatype, shape, data)",
                        (int)OT_MIN(key.n, 64u), key.p);
}

static ot_rc read_data(raw_tensor *r, ot_arena *a, ot_tensor *t, ot_error *err)
{
    char what[160];
    snprintf(what, sizeof what, "'%.128s'", r->name);
    *t = (ot_tensor){.name = r->name, .dtype = r->dtype, .rank = r->rank};
    memcpy(t->dims, r->dims, sizeof t->dims);
    if (r->dtype == OT_DT_BYTES) {
        return ot_json_tensor_strings(&r->data, what, t->dims, t->rank, a, &t->data, &t->size_bytes,
                                      err);
    }
    if (!ot_shape_bytes(t->dtype, t->dims, t->rank, &t->size_bytes) ||
        t->size_bytes > OT_GOLDEN_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s: its shape asks for more than %u bytes", what,
                       OT_GOLDEN_BYTES_MAX);
    }
    void *p = ot_arena_alloc(a, t->size_bytes);
    if (p == NULL) {
        return no_memory(err);
    }
    t->data = p;
    OT_TRY(ot_json_tensor_data(&r->data, what, t->dtype, t->dims, t->rank, p, err));
    return ot_golden_check_finite(t, err);
}

static ot_rc read_tensor(ot_json_scan *s, ot_arena *a, ot_tensor *t, ot_error *err)
{
    raw_tensor r = {.rank = -1};
    OT_TRY(ot_json_enter_object(s, err));
    for (;;) {
        ot_text key;
        bool more;
        OT_TRY(ot_json_next_key(s, a, &key, &more, err));
        if (!more) {
            break;
        }
        OT_TRY(read_tensor_key(s, key, a, &r, err));
    }
    if (r.name == NULL || r.name[0] == 0 || r.dtype == OT_DT_INVALID || r.rank < 0 || !r.has_data) {
        return ot_json_fail(s, err, "a tensor needs name, datatype, shape and data");
    }
    return read_data(&r, a, t, err);
}

static ot_rc read_tensors(ot_json_scan *s, ot_arena *a, ot_tensor **out, size_t *n_out,
                          ot_error *err)
{
    ot_tensor list[OT_OIP_TENSORS_MAX];
    size_t n = 0;
    OT_TRY(ot_json_enter_array(s, err));
    for (;;) {
        bool more;
        OT_TRY(ot_json_next_item(s, &more, err));
        if (!more) {
            break;
        }
        if (n == OT_COUNT(list)) {
            return ot_json_fail(s, err, "more than %d tensors", OT_OIP_TENSORS_MAX);
        }
        OT_TRY(read_tensor(s, a, &list[n++], err));
    }
    *out = ot_arena_calloc(a, n, sizeof **out);
    if (*out == NULL) {
        return no_memory(err);
    }
    memcpy(*out, list, n * sizeof *list);
    *n_out = n;
    return OT_OK;
}

static ot_rc read_case(ot_json_scan *s, ot_arena *a, ot_golden_row *c, ot_error *err)
{
    OT_TRY(ot_json_enter_object(s, err));
    for (;;) {
        ot_text key;
        bool more;
        OT_TRY(ot_json_next_key(s, a, &key, &more, err));
        if (!more) {
            break;
        }
        if (ot_text_is(key, "inputs")) {
            OT_TRY(read_tensors(s, a, &c->inputs, &c->n_inputs, err));
        } else if (ot_text_is(key, "outputs")) {
            OT_TRY(read_tensors(s, a, &c->outputs, &c->n_outputs, err));
        } else {
            return ot_json_fail(s, err, "'%.*s' is not known in a case (inputs, outputs)",
                                (int)OT_MIN(key.n, 64u), key.p);
        }
    }
    if (c->n_inputs == 0 || c->n_outputs == 0) {
        return ot_json_fail(s, err, "a case needs inputs and outputs");
    }
    return OT_OK;
}

static ot_rc read_cases(ot_json_scan *s, ot_golden *g, ot_error *err)
{
    g->cases = ot_arena_calloc(&g->arena, OT_GOLDEN_CASES_MAX, sizeof *g->cases);
    if (g->cases == NULL) {
        return no_memory(err);
    }
    g->n_cases = 0;
    OT_TRY(ot_json_enter_array(s, err));
    for (;;) {
        bool more;
        OT_TRY(ot_json_next_item(s, &more, err));
        if (!more) {
            return OT_OK;
        }
        if (g->n_cases == OT_GOLDEN_CASES_MAX) {
            return ot_json_fail(s, err, "more than %d cases", OT_GOLDEN_CASES_MAX);
        }
        ot_rc rc = read_case(s, &g->arena, &g->cases[g->n_cases], err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "case %zu", g->n_cases);
        }
        g->n_cases++;
    }
}

static ot_rc read_tolerance(ot_json_scan *s, ot_golden *g, ot_error *err)
{
    OT_TRY(ot_json_enter_object(s, err));
    for (;;) {
        ot_text key;
        bool more;
        OT_TRY(ot_json_next_key(s, &g->arena, &key, &more, err));
        if (!more) {
            return ot_golden_check_tolerance(g->abs, g->rel, err);
        }
        bool is_abs = ot_text_is(key, "abs");
        if (!is_abs && !ot_text_is(key, "rel")) {
            return ot_json_fail(s, err, "'%.*s' is not known in tolerance (abs, rel)",
                                (int)OT_MIN(key.n, 64u), key.p);
        }
        ot_json_number x;
        OT_TRY(ot_json_number_read(s, &x, err));
        *(is_abs ? &g->abs : &g->rel) = x.f64;
    }
}

static ot_rc read_golden(ot_json_scan *s, ot_golden *g, ot_error *err)
{
    OT_TRY(ot_json_enter_object(s, err));
    for (;;) {
        ot_text key;
        bool more;
        OT_TRY(ot_json_next_key(s, &g->arena, &key, &more, err));
        if (!more) {
            break;
        }
        if (ot_text_is(key, "tolerance")) {
            OT_TRY(read_tolerance(s, g, err));
        } else if (ot_text_is(key, "cases")) {
            OT_TRY(read_cases(s, g, err));
        } else {
            return ot_json_fail(s, err, "'%.*s' is not known (tolerance, cases)",
                                (int)OT_MIN(key.n, 64u), key.p);
        }
    }
    OT_TRY(ot_json_finish(s, err));
    if (g->n_cases == 0) {
        return ot_fail(err, OT_INVALID, "there are no cases");
    }
    return OT_OK;
}

ot_rc ot_golden_parse(const char *json, size_t n, ot_golden *g_out, ot_error *err)
{
    if (n > OT_GOLDEN_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "golden answers: %zu bytes; the limit is %u", n,
                       OT_GOLDEN_BYTES_MAX);
    }
    ot_golden g;
    ot_golden_init(&g, OT_GOLDEN_ABS_DEFAULT, OT_GOLDEN_REL_DEFAULT);
    ot_json_scan s;
    ot_json_scan_init(&s, json, n);
    ot_rc rc = read_golden(&s, &g, err);
    if (rc != OT_OK) {
        ot_golden_done(&g);
        return ot_error_prefix(err, rc, "golden answers");
    }
    *g_out = g;
    return OT_OK;
}
