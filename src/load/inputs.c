#include "load/inputs.h"

#include "base/random.h"
#include "base/str.h"
#include "codec/oip.h"

#include <string.h>

#define LETTERS 8

static ot_rc begin(ot_load_inputs *in, size_t n, size_t n_specs, ot_error *err)
{
    *in = (ot_load_inputs){.n = n, .per_request = n_specs};
    ot_table_init(&in->table);
    ot_arena_init(&in->arena, 1u << 16, OT_LOAD_INPUTS_BYTES_MAX);
    if (n < 1 || n > OT_LOAD_INPUTS_MAX) {
        return ot_fail(err, OT_INVALID, "%zu different inputs; 1 to %d are accepted", n,
                       OT_LOAD_INPUTS_MAX);
    }
    in->tensors = ot_arena_calloc(&in->arena, n * n_specs, sizeof *in->tensors);
    return in->tensors != NULL ? OT_OK
                               : ot_fail(err, OT_EXHAUSTED, "load: out of memory for inputs");
}

void ot_load_inputs_done(ot_load_inputs *in)
{
    ot_table_done(&in->table);
    ot_arena_done(&in->arena);
}

static ot_rc too_large(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED,
                   "the inputs take more than %llu MiB: ask for fewer or smaller",
                   OT_LOAD_INPUTS_BYTES_MAX >> 20);
}

/* ---- made up */

static void put_number(ot_dtype dt, uint8_t *p, ot_rng *rng)
{
    float f = (float)ot_rng_uniform(rng);
    double d = ot_rng_uniform(rng);
    uint64_t u = ot_rng_below(rng, dt == OT_DT_BOOL ? 2 : 10);
    uint16_t h;
    switch (dt) {
    case OT_DT_FP16:
    case OT_DT_BF16:
        h = dt == OT_DT_FP16 ? ot_fp16_from_f32(f) : ot_bf16_from_f32(f);
        memcpy(p, &h, sizeof h);
        break;
    case OT_DT_FP32:
        memcpy(p, &f, sizeof f);
        break;
    case OT_DT_FP64:
        memcpy(p, &d, sizeof d);
        break;
    default: /* an integer or BOOL, little-endian */
        memcpy(p, &u, ot_dtype_size(dt));
        break;
    }
}

static void put_text(uint8_t *p, ot_rng *rng)
{
    uint32_t n = LETTERS;
    memcpy(p, &n, sizeof n);
    for (unsigned i = 0; i < LETTERS; i++) {
        p[sizeof n + i] = (uint8_t)('a' + ot_rng_below(rng, 26));
    }
}

static ot_rc make_one(ot_load_inputs *in, const ot_tensor_spec *s, int64_t rows, int64_t open_dim,
                      ot_rng *rng, ot_tensor *t, ot_error *err)
{
    *t = (ot_tensor){.name = s->name, .dtype = s->dtype, .rank = s->rank};
    for (int k = 0; k < s->rank; k++) {
        t->dims[k] = s->dims[k] >= 0 ? s->dims[k] : k == 0 ? rows : open_dim;
    }
    int64_t count;
    size_t each = s->dtype == OT_DT_BYTES ? sizeof(uint32_t) + LETTERS : ot_dtype_size(s->dtype);
    if (!ot_shape_count(t->dims, t->rank, &count) ||
        (uint64_t)count > OT_LOAD_INPUTS_BYTES_MAX / each) {
        return too_large(err);
    }
    uint8_t *data = ot_arena_alloc(&in->arena, OT_MAX((size_t)count * each, 1u));
    if (data == NULL) {
        return too_large(err);
    }
    for (int64_t i = 0; i < count; i++) {
        if (s->dtype == OT_DT_BYTES) {
            put_text(data + (size_t)i * each, rng);
        } else {
            put_number(s->dtype, data + (size_t)i * each, rng);
        }
    }
    t->data = data;
    t->size_bytes = (size_t)count * each;
    return OT_OK;
}

ot_rc ot_load_inputs_make(const ot_tensor_spec *specs, size_t n_specs, size_t n, int64_t rows,
                          int64_t open_dim, uint64_t seed, ot_load_inputs *out, ot_error *err)
{
    ot_load_inputs in;
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    ot_rc rc = begin(&in, n, n_specs, err);
    for (size_t i = 0; rc == OT_OK && i < n * n_specs; i++) {
        rc = make_one(&in, &specs[i % n_specs], rows, open_dim, &rng, &in.tensors[i], err);
    }
    if (rc != OT_OK) {
        ot_load_inputs_done(&in);
        return rc;
    }
    *out = in;
    return OT_OK;
}

/* ---- from a file */

static ot_rc take_rows(ot_load_inputs *in, const ot_tensor_spec *specs, int64_t rows, ot_error *err)
{
    for (size_t i = 0; i < in->n * in->per_request; i++) {
        const ot_tensor_spec *s = &specs[i % in->per_request];
        const ot_tensor *column = ot_table_column(&in->table, s->name);
        if (column == NULL) {
            return ot_fail(err, OT_INVALID, "there is no column '%s'", s->name);
        }
        in->tensors[i] = ot_table_slice(column, (int64_t)(i / in->per_request) * rows, rows);
        in->tensors[i].name = s->name;
        OT_TRY(ot_tensor_matches(s, &in->tensors[i], err));
    }
    return OT_OK;
}

static ot_rc read_table(const char *path, const ot_tensor_spec *specs, size_t n_specs, int64_t rows,
                        size_t n, ot_load_inputs *in, ot_error *err)
{
    ot_table table;
    ot_table_init(&table);
    OT_TRY(ot_table_read(ot_disk_posix(), path, NULL, &table, err));
    size_t whole = (size_t)(table.rows / rows);
    ot_rc rc = whole == 0 ? ot_fail(err, OT_INVALID, "it has %lld rows; a request has %lld",
                                    (long long)table.rows, (long long)rows)
                          : begin(in, n > 0 ? OT_MIN(n, whole) : OT_MIN(whole, OT_LOAD_INPUTS_MAX),
                                  n_specs, err);
    if (rc != OT_OK) {
        ot_table_done(&table);
        return rc;
    }
    in->table = table;
    return take_rows(in, specs, rows, err);
}

static ot_rc take_request(ot_load_inputs *in, const ot_tensor_spec *specs, const char *p,
                          size_t len, ot_tensor *out, ot_error *err)
{
    ot_oip_request r;
    OT_TRY(ot_oip_request_decode(p, len, -1, NULL, &in->arena, &r, err));
    for (size_t k = 0; k < in->per_request; k++) {
        const ot_tensor *found = NULL;
        for (int i = 0; i < r.n_inputs; i++) {
            if (strcmp(r.inputs[i].tensor.name, specs[k].name) == 0) {
                found = &r.inputs[i].tensor;
            }
        }
        if (found == NULL) {
            return ot_fail(err, OT_INVALID, "there is no input '%s'", specs[k].name);
        }
        OT_TRY(ot_tensor_matches(&specs[k], found, err));
        out[k] = *found;
        out[k].name = specs[k].name;
    }
    return OT_OK;
}

/* Where each request of the text begins and ends. */
static ot_rc split(const ot_str *text, ot_text *requests, size_t max, size_t *n_out, ot_error *err)
{
    ot_json_scan s;
    ot_json_scan_init(&s, text->data, text->len);
    *n_out = 0;
    if (ot_json_peek(&s) != OT_JSON_ARRAY) {
        requests[(*n_out)++] = (ot_text){text->data, text->len};
        return OT_OK;
    }
    OT_TRY(ot_json_enter_array(&s, err));
    for (;;) {
        bool more;
        OT_TRY(ot_json_next_item(&s, &more, err));
        if (!more || *n_out == max) {
            return more ? OT_OK : ot_json_finish(&s, err);
        }
        (void)ot_json_peek(&s);
        const char *from = s.at;
        OT_TRY(ot_json_skip(&s, err));
        requests[(*n_out)++] = (ot_text){from, (size_t)(s.at - from)};
    }
}

static ot_rc read_json(const char *path, const ot_tensor_spec *specs, size_t n_specs, size_t n,
                       ot_load_inputs *in, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, OT_LOAD_INPUTS_BYTES_MAX, &text, err));
    size_t max = n > 0 ? n : OT_LOAD_INPUTS_MAX, found = 0;
    ot_text *requests = ot_calloc(max, sizeof *requests);
    ot_rc rc = requests == NULL ? ot_fail(err, OT_EXHAUSTED, "load: out of memory for inputs")
                                : split(&text, requests, max, &found, err);
    if (rc == OT_OK) {
        rc = begin(in, found, n_specs, err);
    }
    for (size_t i = 0; rc == OT_OK && i < found; i++) {
        rc = take_request(in, specs, requests[i].p, requests[i].n, &in->tensors[i * n_specs], err);
        if (rc != OT_OK) {
            rc = ot_error_prefix(err, rc, "request %zu", i);
        }
    }
    ot_free(requests);
    return rc;
}

ot_rc ot_load_inputs_read(const char *path, const ot_tensor_spec *specs, size_t n_specs,
                          int64_t rows, size_t n, ot_load_inputs *out, ot_error *err)
{
    ot_load_inputs in = {0};
    ot_rc rc = ot_has_suffix(path, ".json") ? read_json(path, specs, n_specs, n, &in, err)
                                            : read_table(path, specs, n_specs, rows, n, &in, err);
    if (rc != OT_OK) {
        ot_load_inputs_done(&in);
        return ot_error_prefix(err, rc, "%s", path);
    }
    *out = in;
    return OT_OK;
}
