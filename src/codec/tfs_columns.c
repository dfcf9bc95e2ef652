/* Features of examples as the inputs of a model, by name. */
#include "codec/pb_values.h"
#include "codec/tfs_example.h"

/* An entry of map<string, Feature>. */
static ot_rc entry_read(const ot_pb *features, const ot_pb_field *at, ot_text *key, ot_text *value,
                        ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    OT_TRY(ot_pb_enter(features, at, "feature", "FeatureEntry", &r, err));
    *key = *value = (ot_text){"", 0};
    for (;;) {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number == 1 || f.number == 2) {
            OT_TRY(ot_pb_want(&r, &f, OT_PB_LEN, f.number == 1 ? "key" : "value", err));
            *(f.number == 1 ? key : value) = (ot_text){(const char *)f.p, f.n};
        }
    }
}

/* Finds, for each name, the Feature of an example; p NULL: it has none. */
static ot_rc features_find(ot_text example, const ot_tensor_spec *specs, size_t n, ot_text *out,
                           ot_error *err)
{
    ot_pb r, features;
    ot_pb_field f;
    ot_pb_init(&r, example.p, example.n, "Example");
    memset(out, 0, n * sizeof out[0]);
    for (;;) {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number != 1) {
            continue;
        }
        OT_TRY(ot_pb_enter(&r, &f, "features", "Features", &features, err));
        for (;;) {
            ot_text key, value;
            OT_TRY(ot_pb_next(&features, &f, err));
            if (f.number == 0) {
                break;
            }
            if (f.number == 1) {
                OT_TRY(entry_read(&features, &f, &key, &value, err));
                for (size_t i = 0; i < n; i++) {
                    out[i] = ot_text_is(key, specs[i].name) ? value : out[i];
                }
            }
        }
    }
}

/* The values of a Feature, flat: BYTES, FP32 or INT64; none at all are INT64 [0]. */
static ot_rc values_read(ot_text feature, ot_arena *arena, ot_tensor *t, ot_error *err)
{
    ot_pb r, list;
    ot_pb_field f;
    *t = (ot_tensor){.dtype = OT_DT_INT64, .rank = 1};
    ot_pb_init(&r, feature.p, feature.n, "Feature");
    for (;;) {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number > 3) {
            continue;
        }
        t->dtype = f.number == 1 ? OT_DT_BYTES : f.number == 2 ? OT_DT_FP32 : OT_DT_INT64;
        OT_TRY(ot_pb_enter(&r, &f, "kind", "list of a Feature", &list, err));
        OT_TRY(ot_pb_gather(&list, 1, "value", arena, t, &t->dims[0], err));
    }
}

/* ---- one input */

typedef struct column {
    const ot_tensor_spec *spec;
    ot_tensor *values; /* of each example */
    int64_t count;     /* values of a row; -1: not known yet */
    int open;          /* the axis that the first example decides; -1: none */
} column;

static ot_rc column_init(column *c, const ot_tensor_spec *spec, int64_t n, ot_arena *arena,
                         ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    *c = (column){.spec = spec, .open = -1};
    int64_t dims[OT_RANK_MAX];
    int open = 0;
    for (int k = 1; k < spec->rank; k++) {
        dims[k - 1] = spec->dims[k] < 0 ? 1 : spec->dims[k];
        c->open = spec->dims[k] < 0 ? k : c->open;
        open += spec->dims[k] < 0;
    }
    if (spec->rank < 1 || open > 1 || !ot_shape_count(dims, spec->rank - 1, &c->count)) {
        return ot_fail(err, OT_INVALID,
                       "input '%s' is %s %s: its rows can't be made of features, whose values have "
                       "no shape; use predict",
                       spec->name, ot_dtype_name(spec->dtype),
                       ot_shape_format(spec->dims, spec->rank, shape));
    }
    c->values = ot_arena_calloc(arena, (size_t)n, sizeof c->values[0]);
    return c->values != NULL ? OT_OK
                             : ot_fail(err, OT_EXHAUSTED,
                                       "the examples need more memory than the limit of a request");
}

static bool kind_fits(ot_dtype feature, ot_dtype input)
{
    return feature == OT_DT_BYTES  ? input == OT_DT_BYTES
           : feature == OT_DT_FP32 ? ot_dtype_is_float(input)
                                   : input != OT_DT_BYTES;
}

/* Adds the values of one example. */
static ot_rc column_add(column *c, int64_t i, ot_text feature, ot_arena *arena, ot_error *err)
{
    static const char *const kinds[OT_DT_COUNT_] = {
        [OT_DT_BYTES] = "bytes", [OT_DT_FP32] = "floats", [OT_DT_INT64] = "int64s"};
    ot_tensor *t = &c->values[i];
    char shape[OT_SHAPE_TEXT];
    if (feature.p == NULL) {
        return ot_fail(err, OT_INVALID, "examples[%lld] has no feature '%s' (%s %s)", (long long)i,
                       c->spec->name, ot_dtype_name(c->spec->dtype),
                       ot_shape_format(c->spec->dims, c->spec->rank, shape));
    }
    ot_error why;
    ot_rc rc = values_read(feature, arena, t, &why);
    if (rc != OT_OK) {
        return ot_fail(err, rc, "examples[%lld]: feature '%s': %s", (long long)i, c->spec->name,
                       why.msg);
    }
    if (c->open >= 0 && i == 0 && c->count > 0 && t->dims[0] % c->count == 0) {
        c->count = t->dims[0];
    }
    if (t->dims[0] != c->count) {
        return ot_fail(
            err, OT_INVALID, "input '%s' is %s %s, %s%lld values a row; examples[%lld] has %lld",
            c->spec->name, ot_dtype_name(c->spec->dtype),
            ot_shape_format(c->spec->dims, c->spec->rank, shape), c->open >= 0 ? "here " : "",
            (long long)c->count, (long long)i, (long long)t->dims[0]);
    }
    if (t->dims[0] > 0 && !kind_fits(t->dtype, c->spec->dtype)) {
        return ot_fail(err, OT_INVALID, "input '%s' is %s; examples[%lld] has %s", c->spec->name,
                       ot_dtype_name(c->spec->dtype), (long long)i, kinds[t->dtype]);
    }
    return OT_OK;
}

/* An int64 as an element of an integer type or BOOL; false: out of its range. */
static bool put_whole(ot_dtype dt, uint8_t *to, int64_t x)
{
    unsigned bits = dt == OT_DT_BOOL ? 1 : 8 * (unsigned)ot_dtype_size(dt);
    bool is_signed = dt >= OT_DT_INT8;
    int64_t most = (int64_t)(UINT64_MAX >> (64 - bits) >> (is_signed || bits == 64));
    memcpy(to, &x, ot_dtype_size(dt));
    return x <= most && x >= (is_signed ? -most - 1 : 0);
}

/* The values of one example, in the input's type. */
static ot_rc put_values(const column *c, int64_t example, uint8_t *to, ot_error *err)
{
    const ot_tensor *t = &c->values[example];
    ot_dtype dt = c->spec->dtype;
    size_t size = ot_dtype_size(dt);
    if (dt == t->dtype && t->size_bytes > 0) {
        memcpy(to, t->data, t->size_bytes);
        return OT_OK;
    }
    for (int64_t i = 0; i < t->dims[0]; i++, to += size) {
        if (ot_dtype_is_float(dt)) {
            ot_dtype_put_f64(dt, to, ot_tensor_f64_at(t, i));
            continue;
        }
        int64_t x;
        memcpy(&x, (const uint8_t *)t->data + (size_t)i * sizeof x, sizeof x);
        if (!put_whole(dt, to, x)) {
            return ot_fail(err, OT_INVALID,
                           "input '%s' is %s; %lld of examples[%lld] is out of its range",
                           c->spec->name, ot_dtype_name(dt), (long long)x, (long long)example);
        }
    }
    return OT_OK;
}

static ot_rc column_finish(const column *c, int64_t n, ot_arena *arena, ot_tensor *t, ot_error *err)
{
    size_t size = 0, row = 0;
    for (int64_t i = 0; i < n; i++) {
        row = c->spec->dtype == OT_DT_BYTES
                  ? c->values[i].size_bytes
                  : (size_t)c->values[i].dims[0] * ot_dtype_size(c->spec->dtype);
        size += row; /* each value took a byte of the message: no overflow */
    }
    uint8_t *to = ot_arena_alloc(arena, OT_MAX(size, 1u));
    if (to == NULL) {
        return ot_fail(err, OT_EXHAUSTED,
                       "input '%s' needs more memory than the limit of a request", c->spec->name);
    }
    *t = (ot_tensor){.name = c->spec->name,
                     .dtype = c->spec->dtype,
                     .rank = c->spec->rank,
                     .data = to,
                     .size_bytes = size};
    int64_t rest = 1;
    for (int k = 1; k < t->rank; k++) {
        t->dims[k] = c->spec->dims[k];
        rest *= k == c->open ? 1 : t->dims[k];
    }
    if (c->open >= 0) {
        t->dims[c->open] = rest > 0 ? c->count / rest : 0;
    }
    t->dims[0] = n;
    for (int64_t i = 0; i < n; i++) {
        OT_TRY(put_values(c, i, to, err));
        to += c->spec->dtype == OT_DT_BYTES ? c->values[i].size_bytes : row;
    }
    return OT_OK;
}

bool ot_tfs_examples_have(const ot_tfs_examples *e, const char *name)
{
    ot_tensor_spec spec = {.name = name};
    ot_text value;
    return features_find(e->items[0], &spec, 1, &value, NULL) == OT_OK && value.p != NULL;
}

ot_rc ot_tfs_examples_columns(const ot_tfs_examples *e, const ot_tensor_spec *specs, size_t n,
                              ot_arena *arena, ot_oip_tensor **out, ot_error *err)
{
    column *columns = ot_arena_calloc(arena, OT_MAX(n, 1u), sizeof *columns);
    ot_text *found = ot_arena_calloc(arena, OT_MAX(n, 1u), sizeof *found);
    ot_oip_tensor *tensors = ot_arena_calloc(arena, OT_MAX(n, 1u), sizeof *tensors);
    if (columns == NULL || found == NULL || tensors == NULL) {
        return ot_fail(err, OT_EXHAUSTED,
                       "the examples need more memory than the limit of a request");
    }
    for (size_t k = 0; k < n; k++) {
        OT_TRY(column_init(&columns[k], &specs[k], e->n, arena, err));
    }
    for (int64_t i = 0; i < e->n; i++) {
        ot_error why;
        ot_rc rc = features_find(e->items[i], specs, n, found, &why);
        if (rc != OT_OK) {
            return ot_fail(err, rc, "examples[%lld]: %s", (long long)i, why.msg);
        }
        for (size_t k = 0; k < n; k++) {
            OT_TRY(column_add(&columns[k], i, found[k], arena, err));
        }
    }
    for (size_t k = 0; k < n; k++) {
        OT_TRY(column_finish(&columns[k], e->n, arena, &tensors[k].tensor, err));
    }
    *out = tensors;
    return OT_OK;
}
