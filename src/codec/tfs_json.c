#include "codec/tfs_json.h"
#include "codec/b64.h"
#include "codec/json_space.h"

#include <string.h>

#define WHAT_MAX 96 /* "input '...'" in messages */

/* One input while its data are read. */
typedef struct column {
    const ot_tensor_spec *spec;
    char what[WHAT_MAX];
    bool seen;  /* its name came */
    bool known; /* the dimensions of a row: the specification's, or the first row's */
    int rank;   /* of a row */
    int64_t dims[OT_RANK_MAX]; /* of a row */
    size_t row_bytes;          /* not for BYTES */
    int64_t rows;
    char *data;
    size_t len, cap;
} column;

typedef struct reader {
    ot_json_scan s;
    ot_arena *arena;
    column *columns;
    size_t n;
} reader;

static ot_rc no_memory(const column *c, ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "%s is over the memory limit of a request", c->what);
}

/* ---- columns */

static ot_rc columns_init(reader *r, const ot_tensor_spec *specs, size_t n, ot_error *err)
{
    r->columns = ot_arena_calloc(r->arena, OT_MAX(n, 1u), sizeof *r->columns);
    r->n = n;
    if (r->columns == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the request's tensors");
    }
    for (size_t i = 0; i < n; i++) {
        column *c = &r->columns[i];
        c->spec = &specs[i];
        size_t len = OT_MIN(strlen(specs[i].name), (size_t)WHAT_MAX - 9);
        memcpy(c->what, "input '", 7);
        memcpy(c->what + 7, specs[i].name, len);
        c->what[7 + len] = '\'';
        c->rank = OT_MAX(specs[i].rank - 1, 0);
        c->known = true;
        for (int k = 0; k < c->rank; k++) {
            c->dims[k] = specs[i].dims[k + 1];
            c->known = c->known && c->dims[k] >= 0;
        }
        if (c->known && specs[i].dtype != OT_DT_BYTES &&
            !ot_shape_bytes(specs[i].dtype, c->dims, c->rank, &c->row_bytes)) {
            return ot_fail(err, OT_INVALID, "%s: its rows are too large", c->what);
        }
    }
    return OT_OK;
}

/* Room for n more bytes at the column's end; NULL when memory is short. */
static char *room(reader *r, column *c, size_t n)
{
    if (c->data == NULL || c->cap - c->len < n) {
        size_t cap;
        if (__builtin_add_overflow(OT_MAX(c->len, n), c->len, &cap)) {
            return NULL;
        }
        char *grown = ot_arena_alloc(r->arena, OT_MAX(cap, 1u));
        if (grown == NULL) {
            return NULL;
        }
        if (c->len > 0) {
            memcpy(grown, c->data, c->len);
        }
        c->data = grown;
        c->cap = cap;
    }
    return c->data + c->len;
}

/* Values of the array at the scan's position, which is taken. */
static ot_rc count_items(ot_json_scan *s, int64_t *n_out, ot_error *err)
{
    int64_t n = 0;
    bool more;
    OT_TRY(ot_json_enter_array(s, err));
    for (;;) {
        OT_TRY(ot_json_next_item(s, &more, err));
        if (!more) {
            *n_out = n;
            return OT_OK;
        }
        OT_TRY(ot_json_skip(s, err));
        n++;
    }
}

/* Dimensions that the signature leaves open are those of the first row. */
static ot_rc row_shape(reader *r, column *c, ot_error *err)
{
    ot_json_scan s = r->s;
    bool more = true;
    for (int k = 0; k < c->rank; k++) {
        if (!more) { /* an axis above is empty, and nothing shows the size of this one */
            c->dims[k] = OT_MAX(c->dims[k], 0);
            continue;
        }
        if (ot_json_peek(&s) != OT_JSON_ARRAY) {
            return ot_json_fail(&s, err, "%s: its data are nested %d deep here; a row has %d axes",
                                c->what, k, c->rank);
        }
        if (c->dims[k] < 0) {
            ot_json_scan level = s;
            OT_TRY(count_items(&level, &c->dims[k], err));
        }
        OT_TRY(ot_json_enter_array(&s, err));
        OT_TRY(ot_json_next_item(&s, &more, err));
    }
    if (c->spec->dtype != OT_DT_BYTES &&
        !ot_shape_bytes(c->spec->dtype, c->dims, c->rank, &c->row_bytes)) {
        return ot_json_fail(&r->s, err, "%s: its rows are too large", c->what);
    }
    c->known = true;
    return OT_OK;
}

/* ---- strings */

static ot_rc string_add(reader *r, column *c, ot_error *err)
{
    ot_text t;
    if (ot_json_peek(&r->s) == OT_JSON_OBJECT) {
        OT_TRY(ot_tfs_b64_read(&r->s, r->arena, &t, err));
    } else if (ot_json_peek(&r->s) == OT_JSON_STRING) {
        OT_TRY(ot_json_string(&r->s, r->arena, &t, err));
    } else {
        return ot_json_fail(&r->s, err, "%s is BYTES; its data hold %s", c->what,
                            ot_json_kind_name(ot_json_peek(&r->s)));
    }
    char *o = t.n <= UINT32_MAX ? room(r, c, t.n + 4) : NULL;
    if (o == NULL) {
        return no_memory(c, err);
    }
    uint32_t n = (uint32_t)t.n;
    memcpy(o, &n, sizeof n);
    if (n > 0) {
        memcpy(o + 4, t.p, n);
    }
    c->len += t.n + 4;
    return OT_OK;
}

/* Depth is limited by the rank of a tensor. */
static ot_rc strings_read(reader *r, column *c, int level, ot_error *err)
{
    if (level == c->rank) {
        return string_add(r, c, err);
    }
    int64_t n = 0;
    bool more;
    OT_TRY(ot_json_enter_array(&r->s, err));
    for (;;) {
        OT_TRY(ot_json_next_item(&r->s, &more, err));
        if (!more || n == c->dims[level]) {
            break;
        }
        OT_TRY(strings_read(r, c, level + 1, err));
        n++;
    }
    if (more || n < c->dims[level]) {
        char shape[OT_SHAPE_TEXT];
        return ot_json_fail(&r->s, err, "%s: a row is BYTES %s; axis %d has %s%lld values here",
                            c->what, ot_shape_format(c->dims, c->rank, shape), level,
                            more ? "over " : "", (long long)n);
    }
    return OT_OK;
}

/* ---- rows */

/* Data with several axes must be nested: where they begin with a value, say so. */
static ot_rc check_nested(reader *r, const column *c, ot_error *err)
{
    ot_json_scan s = r->s;
    bool more;
    OT_TRY(ot_json_enter_array(&s, err));
    OT_TRY(ot_json_next_item(&s, &more, err));
    char shape[OT_SHAPE_TEXT];
    return !more || ot_json_peek(&s) == OT_JSON_ARRAY
               ? OT_OK
               : ot_json_fail(&s, err,
                              "%s: a row is %s %s and must be nested like that; it is flat",
                              c->what, ot_dtype_name(c->spec->dtype),
                              ot_shape_format(c->dims, c->rank, shape));
}

static ot_rc row_read(reader *r, column *c, ot_error *err)
{
    if (!c->known) {
        OT_TRY(row_shape(r, c, err));
    }
    if (c->spec->dtype == OT_DT_BYTES) {
        OT_TRY(strings_read(r, c, 0, err));
        c->rows++;
        return OT_OK;
    }
    int64_t count;
    bool fits = ot_shape_count(c->dims, c->rank, &count) && count <= ot_json_values_max(&r->s);
    char *dst = fits ? room(r, c, c->row_bytes) : NULL;
    if (fits && dst == NULL) {
        return no_memory(c, err);
    }
    if (c->rank == 0) {
        OT_TRY(json_tensor_value(&r->s, c->what, c->spec->dtype, dst, err));
    } else {
        if (c->rank > 1) {
            OT_TRY(check_nested(r, c, err));
        }
        OT_TRY(ot_json_tensor_data(&r->s, c->what, c->spec->dtype, c->dims, c->rank, dst, err));
    }
    c->len += c->row_bytes;
    c->rows++;
    return OT_OK;
}

/* The whole of one input, its first axis being that of the rows. */
static ot_rc column_read(reader *r, column *c, ot_error *err)
{
    bool more;
    if (c->spec->rank == 0) {
        return row_read(r, c, err);
    }
    if (ot_json_peek(&r->s) != OT_JSON_ARRAY) {
        return ot_json_fail(&r->s, err, "%s: an array is expected here, not %s", c->what,
                            ot_json_kind_name(ot_json_peek(&r->s)));
    }
    OT_TRY(ot_json_enter_array(&r->s, err));
    for (;;) {
        OT_TRY(ot_json_next_item(&r->s, &more, err));
        if (!more) {
            return OT_OK;
        }
        OT_TRY(row_read(r, c, err));
    }
}

/* The column of this name; most objects have their members in the signature's order. */
static ot_rc column_find(reader *r, ot_text key, size_t *next, column **out, ot_error *err)
{
    for (size_t k = 0; k < r->n; k++) {
        size_t at = (*next + k) % r->n;
        if (ot_text_is(key, r->columns[at].spec->name)) {
            *next = at + 1;
            *out = &r->columns[at];
            return OT_OK;
        }
    }
    return ot_json_fail(&r->s, err, "there is no input '%.*s'; the first of %zu is '%s'",
                        (int)OT_MIN(key.n, (size_t)80), key.p, r->n,
                        r->n > 0 ? r->columns[0].spec->name : "");
}

/* An object with a member for each input: row number `row` of each, or with -1 the whole of it. */
static ot_rc members_read(reader *r, int64_t row, ot_error *err)
{
    size_t next = 0, found = 0;
    bool more;
    ot_text key;
    OT_TRY(ot_json_enter_object(&r->s, err));
    for (;;) {
        OT_TRY(ot_json_next_key(&r->s, r->arena, &key, &more, err));
        if (!more) {
            break;
        }
        column *c = NULL;
        OT_TRY(column_find(r, key, &next, &c, err));
        if (row >= 0 ? c->rows > row : c->seen) {
            return ot_json_fail(&r->s, err, "%s is there twice", c->what);
        }
        c->seen = true;
        OT_TRY(row >= 0 ? row_read(r, c, err) : column_read(r, c, err));
        found++;
    }
    for (size_t i = 0; found < r->n && i < r->n; i++) {
        const column *c = &r->columns[i];
        if (row >= 0 ? c->rows <= row : !c->seen) {
            char shape[OT_SHAPE_TEXT];
            return ot_json_fail(&r->s, err, "%s (%s %s) is missing", c->what,
                                ot_dtype_name(c->spec->dtype),
                                ot_shape_format(c->spec->dims, c->spec->rank, shape));
        }
    }
    return OT_OK;
}

/* An object names its inputs, unless it is the b64 form of the only input's string. */
static bool names_inputs(reader *r)
{
    return ot_json_peek(&r->s) == OT_JSON_OBJECT &&
           !(r->n == 1 && r->columns[0].spec->dtype == OT_DT_BYTES &&
             ot_tfs_b64_next(&r->s, r->arena));
}

static ot_rc plain_ok(reader *r, const char *key, ot_error *err)
{
    return r->n == 1
               ? OT_OK
               : ot_json_fail(&r->s, err,
                              "the signature has %zu inputs, the first is '%s': '%s' needs an "
                              "object with a member for each, not %s",
                              r->n, r->n > 0 ? r->columns[0].spec->name : "", key,
                              ot_json_kind_name(ot_json_peek(&r->s)));
}

static ot_rc instance_read(reader *r, int64_t row, ot_error *err)
{
    if (names_inputs(r)) {
        return members_read(r, row, err);
    }
    OT_TRY(plain_ok(r, "instances", err));
    return row_read(r, &r->columns[0], err);
}

static ot_rc instances_read(reader *r, ot_error *err)
{
    bool more;
    OT_TRY(ot_json_enter_array(&r->s, err));
    for (int64_t row = 0;; row++) {
        OT_TRY(ot_json_next_item(&r->s, &more, err));
        if (!more) {
            return OT_OK;
        }
        ot_error why;
        ot_rc rc = instance_read(r, row, &why);
        if (rc != OT_OK) {
            return ot_fail(err, rc, "instances[%lld]: %s", (long long)row, why.msg);
        }
    }
}

static ot_rc inputs_read(reader *r, ot_error *err)
{
    if (names_inputs(r)) {
        return members_read(r, -1, err);
    }
    OT_TRY(plain_ok(r, "inputs", err));
    return column_read(r, &r->columns[0], err);
}

static ot_rc columns_finish(reader *r, bool rows, ot_tfs_predict *out, ot_error *err)
{
    ot_oip_tensor *tensors = ot_arena_calloc(r->arena, OT_MAX(r->n, 1u), sizeof *tensors);
    if (tensors == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the request's tensors");
    }
    for (size_t i = 0; i < r->n; i++) {
        const column *c = &r->columns[i];
        ot_tensor *t = &tensors[i].tensor;
        *t = (ot_tensor){
            .name = c->spec->name, .dtype = c->spec->dtype, .data = c->data, .size_bytes = c->len};
        if (rows || c->spec->rank > 0) {
            t->dims[t->rank++] = c->rows;
        }
        for (int k = 0; k < c->rank; k++) {
            t->dims[t->rank++] = OT_MAX(c->dims[k], 0);
        }
    }
    out->inputs = tensors;
    out->n_inputs = (int)r->n;
    return OT_OK;
}

/* ---- the body */

typedef struct body {
    reader r;
    ot_tfs_inputs_fn *find;
    void *arg;
    ot_tfs_predict out;
    bool seen;       /* instances or inputs */
    bool guessed;    /* they were read before a signature was named */
    ot_json_scan at; /* where they stand */
} body;

static ot_rc data_read(body *b, ot_error *err)
{
    const ot_tensor_spec *specs;
    size_t n;
    b->guessed = b->out.signature == NULL;
    OT_TRY(b->find(b->arg, b->out.signature, &specs, &n, err));
    OT_TRY(columns_init(&b->r, specs, n, err));
    OT_TRY(b->out.rows ? instances_read(&b->r, err) : inputs_read(&b->r, err));
    return columns_finish(&b->r, b->out.rows, &b->out, err);
}

static ot_rc member_read(body *b, ot_text key, bool skip_data, ot_error *err)
{
    ot_json_scan *s = &b->r.s;
    bool rows = ot_text_is(key, "instances");
    if (ot_text_is(key, "signature_name")) {
        if (b->out.signature != NULL) {
            return ot_json_fail(s, err, "'signature_name' is there twice");
        }
        return ot_json_string_z(s, b->r.arena, &b->out.signature, err);
    }
    if (!rows && !ot_text_is(key, "inputs")) {
        return ot_json_skip(s, err);
    }
    if (b->seen) {
        return ot_json_fail(s, err,
                            b->out.rows == rows
                                ? "'%s' is there twice"
                                : "'instances' and 'inputs' are there; send '%s' alone",
                            b->out.rows ? "instances" : "inputs");
    }
    b->seen = true;
    b->out.rows = rows;
    b->at = *s;
    return skip_data ? ot_json_skip(s, err) : data_read(b, err);
}

static ot_rc body_read(body *b, bool skip_data, ot_error *err)
{
    bool more;
    ot_text key;
    OT_TRY(ot_json_enter_object(&b->r.s, err));
    for (;;) {
        OT_TRY(ot_json_next_key(&b->r.s, b->r.arena, &key, &more, err));
        if (!more) {
            return ot_json_finish(&b->r.s, err);
        }
        OT_TRY(member_read(b, key, skip_data, err));
    }
}

/* The signature's name may come behind the data, which were read by the default signature then. */
static ot_rc read_named(body *b, ot_rc rc, const char *p, size_t len, ot_error *err)
{
    if (rc != OT_OK) {
        ot_error malformed;
        b->seen = false;
        ot_json_scan_init(&b->r.s, p, len);
        if (body_read(b, true, &malformed) != OT_OK || b->out.signature == NULL) {
            return rc; /* with the first error */
        }
    }
    b->r.s = b->at;
    return data_read(b, err);
}

ot_rc ot_tfs_predict_decode(const char *p, size_t len, ot_tfs_inputs_fn *find, void *arg,
                            ot_arena *arena, ot_tfs_predict *out, ot_error *err)
{
    body b = {.r = {.arena = arena}, .find = find, .arg = arg};
    ot_json_scan_init(&b.r.s, p, len);
    ot_rc rc = body_read(&b, false, err);
    if (b.guessed && (rc != OT_OK ? b.out.signature == NULL : b.out.signature != NULL)) {
        rc = read_named(&b, rc, p, len, err);
    }
    OT_TRY(rc);
    if (!b.seen) {
        return ot_fail(err, OT_INVALID,
                       "the request has neither 'instances' (rows) nor 'inputs' (columns)");
    }
    *out = b.out;
    return OT_OK;
}

/* ---- base64 */

bool ot_tfs_b64_next(const ot_json_scan *s, ot_arena *arena)
{
    ot_json_scan ahead = *s;
    bool more;
    ot_text key;
    return ot_json_enter_object(&ahead, NULL) == OT_OK &&
           ot_json_next_key(&ahead, arena, &key, &more, NULL) == OT_OK && more &&
           ot_text_is(key, "b64") && ot_json_peek(&ahead) == OT_JSON_STRING;
}

ot_rc ot_tfs_b64_read(ot_json_scan *s, ot_arena *arena, ot_text *out, ot_error *err)
{
    bool more;
    ot_text key, text;
    if (!ot_tfs_b64_next(s, arena)) {
        return ot_json_fail(s, err,
                            "an object is here where a string is expected; bytes are "
                            "written {\"b64\": \"...\"}");
    }
    OT_TRY(ot_json_enter_object(s, err));
    OT_TRY(ot_json_next_key(s, arena, &key, &more, err));
    OT_TRY(ot_json_string(s, arena, &text, err));
    char *bytes = ot_arena_alloc(arena, ot_b64_bytes(text.n));
    if (bytes == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "base64 text is over the memory limit of a request");
    }
    size_t n;
    if (!ot_b64_decode(text.p, text.n, bytes, &n)) {
        return ot_json_fail(s, err, "the text of a b64 object is not base64");
    }
    OT_TRY(ot_json_next_key(s, arena, &key, &more, err));
    if (more) {
        return ot_json_fail(s, err, "a b64 object has no other member");
    }
    *out = (ot_text){bytes, n};
    return OT_OK;
}
