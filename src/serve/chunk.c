#include "serve/chunk.h"

#include <assert.h>
#include <string.h>

static bool row_spec(const ot_tensor *t, bool row_axis, ot_tensor_spec *row, size_t *bytes_out)
{
    row->dtype = t->dtype;
    int skip = row_axis ? 1 : 0;
    int64_t n;
    if (t->rank < skip) {
        return false;
    }
    row->rank = t->rank - skip;
    memcpy(row->dims, t->dims + skip, (size_t)row->rank * sizeof row->dims[0]);
    if (t->dtype == OT_DT_BYTES) {
        *bytes_out = 0;
        return ot_shape_count(row->dims, row->rank, &n);
    }
    return ot_shape_bytes(t->dtype, row->dims, row->rank, bytes_out);
}

static bool fill_columns(ot_column *columns, const ot_tensor *tensors, size_t n, bool row_axis,
                         size_t *row_bytes)
{
    for (size_t i = 0; i < n; i++) {
        if (!row_spec(&tensors[i], row_axis, &columns[i].row, &columns[i].row_bytes) ||
            columns[i].row_bytes > OT_SAMPLE_SEGMENT_MAX) {
            return false;
        }
        columns[i].row.name = ot_strdup(tensors[i].name);
        if (columns[i].row.name == NULL) {
            return false;
        }
        *row_bytes += columns[i].row_bytes;
    }
    return true;
}

static bool make_room(ot_chunk *c, size_t cap_rows)
{
    size_t fit = OT_SAMPLE_CHUNK_BYTES / c->row_bytes;
    c->cap = cap_rows > 0 ? cap_rows : OT_MIN(OT_MAX(fit, 1u), (size_t)OT_SAMPLE_CHUNK_ROWS);
    c->seq = ot_calloc(c->cap, sizeof *c->seq);
    c->time_us = ot_calloc(c->cap, sizeof *c->time_us);
    c->probability = ot_calloc(c->cap, sizeof *c->probability);
    bool whole = c->seq != NULL && c->time_us != NULL && c->probability != NULL;
    for (size_t i = 0; i < c->n_inputs && whole; i++) {
        c->inputs[i].data = ot_alloc(OT_MAX(c->cap * c->inputs[i].row_bytes, 1u));
        whole = c->inputs[i].data != NULL;
    }
    for (size_t i = 0; i < c->n_outputs && whole; i++) {
        c->outputs[i].data = ot_alloc(OT_MAX(c->cap * c->outputs[i].row_bytes, 1u));
        whole = c->outputs[i].data != NULL;
    }
    c->bytes = sizeof *c + c->cap * c->row_bytes;
    return whole;
}

static void init_columns(ot_column *columns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ot_str_init(&columns[i].bytes);
    }
}

ot_rc ot_chunk_create(ot_dep *dep, const ot_variant *v, bool shadow, bool row_axis,
                      const ot_tensor *inputs, size_t n_inputs, const ot_tensor *outputs,
                      size_t n_outputs, size_t cap_rows, ot_chunk **chunk_out, ot_error *err)
{
    ot_chunk *c = ot_calloc(1, sizeof *c);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "samples: out of memory");
    }
    ot_str_init(&c->keys);
    c->dep = ot_dep_ref(dep);
    memcpy(c->model, v->model, sizeof c->model);
    c->version = v->version;
    c->shadow = shadow;
    c->row_axis = row_axis;
    c->row_bytes = sizeof(uint64_t) + sizeof(int64_t) + sizeof(float);
    c->inputs = ot_calloc(OT_MAX(n_inputs, 1u), sizeof *c->inputs);
    c->outputs = ot_calloc(OT_MAX(n_outputs, 1u), sizeof *c->outputs);
    if (c->inputs != NULL && c->outputs != NULL) {
        c->n_inputs = n_inputs;
        c->n_outputs = n_outputs;
        init_columns(c->inputs, n_inputs);
        init_columns(c->outputs, n_outputs);
        if (fill_columns(c->inputs, inputs, n_inputs, row_axis, &c->row_bytes) &&
            fill_columns(c->outputs, outputs, n_outputs, row_axis, &c->row_bytes) &&
            c->row_bytes <= OT_SAMPLE_SEGMENT_MAX && make_room(c, cap_rows)) {
            *chunk_out = c;
            return OT_OK;
        }
    }
    ot_chunk_destroy(c);
    return ot_fail(err, OT_EXHAUSTED, "samples of '%s': out of memory, or a row of over %u bytes",
                   dep->name, OT_SAMPLE_SEGMENT_MAX);
}

static void columns_done(ot_column *columns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ot_free_ptr(&columns[i].row.name);
        ot_free(columns[i].data);
        ot_str_done(&columns[i].bytes);
    }
    ot_free(columns);
}

void ot_chunk_destroy(ot_chunk *c)
{
    if (c == NULL) {
        return;
    }
    columns_done(c->inputs, c->n_inputs);
    columns_done(c->outputs, c->n_outputs);
    ot_free(c->seq);
    ot_free(c->time_us);
    ot_free(c->probability);
    ot_str_done(&c->keys);
    ot_dep_unref(c->dep);
    ot_free(c);
}

static bool same_shape(const ot_tensor_spec *row, const ot_tensor *t, int skip)
{
    return row->dtype == t->dtype && row->rank == t->rank - skip &&
           memcmp(row->dims, t->dims + skip, (size_t)row->rank * sizeof row->dims[0]) == 0;
}

bool ot_chunk_fits(const ot_chunk *c, const ot_tensor *inputs, size_t n_inputs,
                   const ot_tensor *outputs, size_t n_outputs)
{
    int skip = c->row_axis ? 1 : 0;
    if (c->n_inputs != n_inputs || c->n_outputs != n_outputs) {
        return false;
    }
    for (size_t i = 0; i < n_inputs; i++) {
        if (!same_shape(&c->inputs[i].row, &inputs[i], skip)) {
            return false;
        }
    }
    for (size_t i = 0; i < n_outputs; i++) {
        if (!same_shape(&c->outputs[i].row, &outputs[i], skip)) {
            return false;
        }
    }
    return true;
}

static bool columns_alike(const ot_column *a, const ot_column *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i].row.dtype != b[i].row.dtype || a[i].row.rank != b[i].row.rank ||
            memcmp(a[i].row.dims, b[i].row.dims, (size_t)a[i].row.rank * sizeof a[i].row.dims[0]) !=
                0 ||
            strcmp(a[i].row.name, b[i].row.name) != 0) {
            return false;
        }
    }
    return true;
}

bool ot_chunk_alike(const ot_chunk *a, const ot_chunk *b)
{
    return a->version == b->version && a->shadow == b->shadow && a->has_keys == b->has_keys &&
           a->n_inputs == b->n_inputs && a->n_outputs == b->n_outputs &&
           strcmp(a->dep->name, b->dep->name) == 0 && strcmp(a->model, b->model) == 0 &&
           columns_alike(a->inputs, b->inputs, a->n_inputs) &&
           columns_alike(a->outputs, b->outputs, a->n_outputs);
}

static void put_key(ot_chunk *c, ot_slice key)
{
    uint8_t len[2];
    size_t n = key.p != NULL ? OT_MIN(key.n, (size_t)OT_SAMPLE_KEY_MAX) : 0;
    len[0] = (uint8_t)n;
    len[1] = (uint8_t)(n >> 8);
    ot_str_add(&c->keys, len, sizeof len);
    if (n > 0) {
        ot_str_add(&c->keys, key.p, n);
    }
}

/* What of `t` is row `from`. */
static bool row_of(const ot_chunk *c, const ot_tensor *t, int64_t from, size_t *at, size_t *size)
{
    if (c->row_axis) {
        return ot_tensor_rows(t, from, 1, at, size);
    }
    *at = 0;
    *size = t->size_bytes;
    return true;
}

static size_t text_of(const ot_chunk *c, const ot_column *columns, const ot_tensor *tensors,
                      size_t n, int64_t from)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at, size;
        if (columns[i].row.dtype != OT_DT_BYTES) {
            continue;
        }
        if (!row_of(c, &tensors[i], from, &at, &size)) {
            return SIZE_MAX;
        }
        sum += size;
    }
    return sum;
}

size_t ot_chunk_text(const ot_chunk *c, const ot_tensor *inputs, const ot_tensor *outputs,
                     int64_t from)
{
    size_t in = text_of(c, c->inputs, inputs, c->n_inputs, from);
    size_t out = text_of(c, c->outputs, outputs, c->n_outputs, from);
    return in == SIZE_MAX || out == SIZE_MAX ? SIZE_MAX : in + out;
}

static bool reserve(const ot_chunk *c, ot_column *columns, const ot_tensor *tensors, size_t n,
                    int64_t from)
{
    size_t at, size;
    for (size_t i = 0; i < n; i++) {
        if (columns[i].row.dtype == OT_DT_BYTES && (!row_of(c, &tensors[i], from, &at, &size) ||
                                                    !ot_str_reserve(&columns[i].bytes, size))) {
            columns[i].bytes.failed = false;
            return false;
        }
    }
    return true;
}

static void put_row(ot_chunk *c, ot_column *column, const ot_tensor *t, size_t row, int64_t from)
{
    size_t n = column->row_bytes, at, size;
    if (column->row.dtype == OT_DT_BYTES) {
        if (row_of(c, t, from, &at, &size) && size > 0) {
            ot_str_add(&column->bytes, (const uint8_t *)t->data + at, size); /* reserved */
            c->text += size;
        }
    } else if (n > 0) {
        memcpy(column->data + row * n, (const uint8_t *)t->data + (size_t)from * n, n);
    }
}

bool ot_chunk_add(ot_chunk *c, uint64_t seq, int64_t time_us, float probability, ot_slice key,
                  const ot_tensor *inputs, const ot_tensor *outputs, int64_t from)
{
    if (!reserve(c, c->inputs, inputs, c->n_inputs, from) ||
        !reserve(c, c->outputs, outputs, c->n_outputs, from)) {
        return false;
    }
    size_t at = c->rows++;
    c->seq[at] = seq;
    c->time_us[at] = time_us;
    c->probability[at] = probability;
    for (size_t i = 0; i < c->n_inputs; i++) {
        put_row(c, &c->inputs[i], &inputs[i], at, from);
    }
    for (size_t i = 0; i < c->n_outputs; i++) {
        put_row(c, &c->outputs[i], &outputs[i], at, from);
    }
    if (key.p != NULL && !c->has_keys) {
        c->has_keys = true;
        for (size_t k = 0; k < at; k++) {
            put_key(c, (ot_slice){0});
        }
    }
    if (c->has_keys) {
        put_key(c, key);
    }
    return true;
}

struct iovec ot_chunk_column(const ot_chunk *c, const ot_column *column)
{
    return column->row.dtype == OT_DT_BYTES
               ? (struct iovec){column->bytes.data, column->bytes.len}
               : (struct iovec){column->data, c->rows * column->row_bytes};
}

ot_tensor ot_chunk_rows(const ot_chunk *c, const ot_column *column, size_t at, size_t n)
{
    const ot_tensor_spec *row = &column->row;
    struct iovec all = ot_chunk_column(c, column);
    size_t from = at * column->row_bytes, size = n * column->row_bytes;
    ot_tensor t = {.name = row->name, .dtype = row->dtype, .rank = row->rank};
    memcpy(t.dims, row->dims, (size_t)row->rank * sizeof t.dims[0]);
    if (row->dtype == OT_DT_BYTES) {
        ot_tensor flat = {.dtype = OT_DT_BYTES,
                          .rank = 2,
                          .dims = {(int64_t)c->rows, ot_tensor_count(&t)},
                          .data = all.iov_base,
                          .size_bytes = all.iov_len};
        bool there = ot_tensor_rows(&flat, (int64_t)at, (int64_t)n, &from, &size);
        assert(there);
    }
    if (c->row_axis) {
        memmove(&t.dims[1], &t.dims[0], (size_t)row->rank * sizeof t.dims[0]);
        t.dims[0] = (int64_t)n;
        t.rank++;
    }
    t.data = all.iov_base != NULL ? (const uint8_t *)all.iov_base + from : NULL;
    t.size_bytes = size;
    return t;
}

static void describe_columns(const char *what, const ot_column *columns, size_t n, ot_str *out)
{
    ot_str_addf(out, ",\"%s\":[", what);
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i > 0 ? ",{\"name\":\"" : "{\"name\":\"");
        ot_str_add_json(out, columns[i].row.name, strlen(columns[i].row.name));
        ot_str_addf(out, "\",\"datatype\":\"%s\",\"shape\":[", ot_dtype_name(columns[i].row.dtype));
        for (int k = 0; k < columns[i].row.rank; k++) {
            ot_str_addf(out, k > 0 ? ",%lld" : "%lld", (long long)columns[i].row.dims[k]);
        }
        ot_str_adds(out, "]}");
    }
    ot_str_addc(out, ']');
}

void ot_chunk_describe(const ot_chunk *first, ot_str *out)
{
    size_t rows = 0;
    for (const ot_chunk *c = first; c != NULL; c = c->next) {
        rows += c->rows;
    }
    ot_str_addf(out,
                "\"deployment\":\"%s\",\"model\":\"%s\",\"version\":%llu,\"role\":\"%s\","
                "\"rows\":%zu",
                first->dep->name, first->model, (unsigned long long)first->version,
                first->shadow ? "shadow" : "live", rows);
    describe_columns("inputs", first->inputs, first->n_inputs, out);
    describe_columns("outputs", first->outputs, first->n_outputs, out);
    ot_str_addf(out, ",\"keys\":%s", first->has_keys ? "true" : "false");
}
