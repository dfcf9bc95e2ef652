#include "quality/segment.h"

#include "quality/internal.h"

#include <inttypes.h>
#include <string.h>

typedef struct cursor {
    const uint8_t *p;
    size_t left;
} cursor;

static ot_rc take(cursor *c, size_t n, const char *what, const uint8_t **out, ot_error *err)
{
    if (n > c->left) {
        return ot_fail(err, OT_INVALID,
                       "push: the binary part ends within %s: %zu bytes are left, %zu are needed",
                       what, c->left, n);
    }
    *out = c->p;
    c->p += n;
    c->left -= n;
    return OT_OK;
}

static ot_rc tensor_spec(const json_t *spec, const char *list, size_t rows, ot_tensor *t,
                         ot_error *err)
{
    const char *name = NULL, *type = NULL;
    const json_t *shape = json_object_get(spec, "shape");
    OT_TRY(q_get_text(spec, "name", &name, err));
    OT_TRY(q_get_text(spec, "datatype", &type, err));
    size_t rank = json_array_size(shape);
    *t = (ot_tensor){.name = name, .dtype = ot_dtype_parse(type, strlen(type))};
    if (!json_is_array(shape) || rank >= OT_RANK_MAX || t->dtype == OT_DT_INVALID) {
        return ot_fail(err, OT_INVALID,
                       "push: %s '%.64s' is %.20s with %zu axes; a sampled tensor has numbers or "
                       "BYTES and at most %d axes beside the row's",
                       list, name, type, rank, OT_RANK_MAX - 1);
    }
    t->rank = (int)rank + 1;
    t->dims[0] = (int64_t)rows;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0) {
            return ot_fail(err, OT_INVALID, "push: %s '%.64s': axis %zu of its shape is no size",
                           list, name, i);
        }
        t->dims[i + 1] = json_integer_value(d);
    }
    if (t->dtype == OT_DT_BYTES) {
        return OT_OK; /* as long as its elements say */
    }
    if (!ot_shape_bytes(t->dtype, t->dims, t->rank, &t->size_bytes)) {
        return ot_fail(err, OT_INVALID, "push: %s '%.64s' is larger than memory can be", list,
                       name);
    }
    return OT_OK;
}

/* How long a column of BYTES is: a u32 before each element. */
static ot_rc text_size(const cursor *c, ot_tensor *t, ot_error *err)
{
    ot_tensor left = *t;
    int64_t n;
    size_t offset = 0, len;
    const char *p;
    left.data = c->p;
    left.size_bytes = c->left;
    if (!ot_shape_count(t->dims, t->rank, &n) || n > (int64_t)(c->left / 4)) {
        return ot_fail(err, OT_INVALID, "push: '%.64s' has more elements than bytes", t->name);
    }
    for (int64_t i = 0; i < n; i++) {
        if (!ot_tensor_bytes_next(&left, &offset, &p, &len)) {
            return ot_fail(err, OT_INVALID,
                           "push: the binary part ends within element %" PRId64 " of '%.64s'", i,
                           t->name);
        }
    }
    t->size_bytes = offset;
    return OT_OK;
}

static ot_rc tensors(const json_t *meta, const char *list, size_t rows, cursor *c, ot_tensor *out,
                     size_t *n_out, ot_error *err)
{
    const json_t *specs = json_object_get(meta, list);
    size_t n = json_array_size(specs);
    if ((specs != NULL && !json_is_array(specs)) || n > Q_SEGMENT_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "push: '%s' must be a list of at most %d tensors", list,
                       Q_SEGMENT_TENSORS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        const uint8_t *data = NULL;
        OT_TRY(tensor_spec(json_array_get(specs, i), list, rows, &out[i], err));
        if (out[i].dtype == OT_DT_BYTES) {
            OT_TRY(text_size(c, &out[i], err));
        }
        OT_TRY(take(c, out[i].size_bytes, out[i].name, &data, err));
        out[i].data = data;
    }
    *n_out = n;
    return OT_OK;
}

static ot_rc keys(const json_t *meta, cursor *c, q_segment *s, ot_error *err)
{
    if (!json_is_true(json_object_get(meta, "keys"))) {
        return OT_OK;
    }
    s->keys = c->p;
    for (size_t i = 0; i < s->rows; i++) {
        const uint8_t *p = NULL;
        OT_TRY(take(c, 2, "a key's length", &p, err));
        OT_TRY(take(c, (size_t)(p[0] | p[1] << 8), "a key", &p, err));
    }
    s->keys_len = (size_t)(c->p - s->keys);
    return OT_OK;
}

static ot_rc check_rows(const q_segment *s, ot_error *err)
{
    for (size_t i = 0; i < s->rows; i++) {
        float p = q_segment_probability(s, i);
        if (q_segment_seq(s, i) > INT64_MAX || q_segment_time(s, i) <= 0 || !(p > 0 && p <= 1)) {
            return ot_fail(err, OT_INVALID,
                           "push: row %zu has number %" PRIu64 ", time %" PRId64
                           " and probability %g; they must be below 2^63, above 0 and in (0, 1]",
                           i, q_segment_seq(s, i), q_segment_time(s, i), (double)p);
        }
    }
    return OT_OK;
}

ot_rc q_segment_parse(const json_t *meta, const uint8_t *bin, size_t n, q_segment *out,
                      ot_error *err)
{
    q_segment s = {0};
    cursor c = {.p = bin, .left = n};
    const char *role = "";
    int64_t rows = 0;
    if (n > Q_SEGMENT_BYTES_MAX) {
        return ot_fail(err, OT_INVALID, "push: %zu bytes of rows; at most %u", n,
                       Q_SEGMENT_BYTES_MAX);
    }
    OT_TRY(q_get_int(meta, "version", 1, INT64_MAX, &s.version, err));
    OT_TRY(q_get_text(meta, "role", &role, err));
    if (strcmp(role, "live") != 0 && strcmp(role, "shadow") != 0) {
        return ot_fail(err, OT_INVALID, "push: role '%.40s' is not known; 'live' and 'shadow' are",
                       role);
    }
    s.shadow = role[0] == 's';
    OT_TRY(q_get_int(meta, "rows", 1, Q_SEGMENT_ROWS_MAX, &rows, err));
    s.rows = (size_t)rows;
    if (json_object_get(meta, "dropped_rows") != NULL) {
        OT_TRY(q_get_int(meta, "dropped_rows", 0, INT64_MAX, &s.dropped_rows, err));
    }
    OT_TRY(take(&c, s.rows * 8, "the rows' numbers", &s.seq, err));
    OT_TRY(take(&c, s.rows * 8, "the rows' times", &s.time_us, err));
    OT_TRY(take(&c, s.rows * 4, "the rows' probabilities", &s.probability, err));
    OT_TRY(tensors(meta, "inputs", s.rows, &c, s.inputs, &s.n_inputs, err));
    OT_TRY(tensors(meta, "outputs", s.rows, &c, s.outputs, &s.n_outputs, err));
    OT_TRY(keys(meta, &c, &s, err));
    if (c.left != 0) {
        return ot_fail(err, OT_INVALID, "push: %zu bytes follow the last row", c.left);
    }
    OT_TRY(check_rows(&s, err));
    *out = s;
    return OT_OK;
}

uint64_t q_segment_seq(const q_segment *s, size_t row)
{
    uint64_t x;
    memcpy(&x, s->seq + row * sizeof x, sizeof x);
    return x;
}

int64_t q_segment_time(const q_segment *s, size_t row)
{
    int64_t x;
    memcpy(&x, s->time_us + row * sizeof x, sizeof x);
    return x;
}

float q_segment_probability(const q_segment *s, size_t row)
{
    float x;
    memcpy(&x, s->probability + row * sizeof x, sizeof x);
    return x;
}

bool q_segment_key(const q_segment *s, size_t *offset, const char **p_out, size_t *n_out)
{
    if (s->keys == NULL || s->keys_len - *offset < 2) {
        return false;
    }
    const uint8_t *p = s->keys + *offset;
    *n_out = (size_t)(p[0] | p[1] << 8);
    *p_out = (const char *)p + 2;
    *offset += 2 + *n_out;
    return true;
}
