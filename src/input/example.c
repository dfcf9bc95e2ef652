#include "input/example.h"

#include "base/mem.h"
#include "codec/pb.h"
#include "input/source_internal.h"

#include <stdio.h>
#include <string.h>

/* Example.features, Features.feature and an entry of that map: key, value; all are field 1, 2. */
enum { FIRST = 1, KEY = 1, VALUE = 2 };
enum { BYTES_LIST = 1, FLOAT_LIST = 2, INT64_LIST = 3 };

typedef struct feature {
    const char *name;
    size_t name_len;
    ot_input_feature kind;
    ot_pb list; /* BytesList, FloatList, Int64List */
} feature;

static ot_rc read_value(ot_pb *value, feature *out, ot_error *err)
{
    out->kind = OT_FEATURE_NONE;
    for (;;) {
        ot_pb_field f;
        OT_TRY(ot_pb_next(value, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number >= BYTES_LIST && f.number <= INT64_LIST) {
            OT_TRY(ot_pb_enter(value, &f, "list", "Feature's list", &out->list, err));
            out->kind = f.number == BYTES_LIST   ? OT_FEATURE_BYTES
                        : f.number == FLOAT_LIST ? OT_FEATURE_FLOAT
                                                 : OT_FEATURE_INT64;
        }
    }
}

static ot_rc read_entry(ot_pb *entry, feature *out, ot_error *err)
{
    *out = (feature){.name = ""};
    for (;;) {
        ot_pb_field f;
        OT_TRY(ot_pb_next(entry, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number == KEY) {
            OT_TRY(ot_pb_want(entry, &f, OT_PB_LEN, "key", err));
            out->name = (const char *)f.p;
            out->name_len = f.n;
        } else if (f.number == VALUE) {
            ot_pb value;
            OT_TRY(ot_pb_enter(entry, &f, "value", "Feature", &value, err));
            OT_TRY(read_value(&value, out, err));
        }
    }
}

/* Calls fn with each feature. */
typedef ot_rc feature_fn(void *arg, const feature *f, ot_error *err);

static ot_rc walk(const uint8_t *p, size_t n, feature_fn *fn, void *arg, ot_error *err)
{
    ot_pb example, features, entry;
    ot_pb_field outer, inner;
    ot_pb_init(&example, p, n, "Example");
    for (;;) {
        OT_TRY(ot_pb_next(&example, &outer, err));
        if (outer.number == 0) {
            return OT_OK;
        }
        if (outer.number != FIRST) {
            continue;
        }
        OT_TRY(ot_pb_enter(&example, &outer, "features", "Features", &features, err));
        for (;;) {
            OT_TRY(ot_pb_next(&features, &inner, err));
            if (inner.number == 0) {
                break;
            }
            if (inner.number != FIRST) {
                continue;
            }
            feature f;
            OT_TRY(ot_pb_enter(&features, &inner, "feature", "Features' entry", &entry, err));
            OT_TRY(read_entry(&entry, &f, err));
            OT_TRY(fn(arg, &f, err));
        }
    }
}

/* --- values */

/* Copies the list's values to out[0..room) bytes and says how many bytes there are in all. `out`
 * NULL: counts only. */
static ot_rc values_of(const feature *f, uint8_t *out, size_t room, size_t *bytes, ot_error *err)
{
    ot_pb list = f->list;
    size_t at = 0;
    for (;;) {
        ot_pb_field v;
        OT_TRY(ot_pb_next(&list, &v, err));
        if (v.number == 0) {
            *bytes = at;
            return OT_OK;
        }
        if (v.number != FIRST) {
            continue;
        }
        uint8_t number[8];
        const uint8_t *p = v.p, *end = v.n > 0 ? v.p + v.n : v.p;
        if (v.wire != OT_PB_LEN) { /* not packed: one value a field */
            OT_TRY(ot_pb_want(&list, &v,
                              f->kind == OT_FEATURE_FLOAT   ? OT_PB_FIXED32
                              : f->kind == OT_FEATURE_INT64 ? OT_PB_VARINT
                                                            : OT_PB_LEN,
                              "value", err));
            memcpy(number, &v.u, sizeof number);
            p = number;
            end = number + (f->kind == OT_FEATURE_FLOAT ? 4 : 8);
        }
        if (f->kind == OT_FEATURE_INT64 && v.wire == OT_PB_LEN) {
            while (p < end) {
                uint64_t x;
                if (!ot_pb_varint(&p, end, &x)) {
                    return ot_fail(err, OT_INVALID, "a list holds a broken varint");
                }
                if (out != NULL && room - at >= 8 && at <= room) {
                    memcpy(out + at, &x, 8);
                }
                at += 8;
            }
            continue;
        }
        size_t n = (size_t)(end - p);
        if (f->kind == OT_FEATURE_FLOAT && n % 4 != 0) {
            return ot_fail(err, OT_INVALID, "a list of floats of %zu bytes", n);
        }
        if (out != NULL && at <= room && n <= room - at) {
            memcpy(out + at, p, n);
        }
        at += n;
    }
}

static const char *kind_name(ot_input_feature k)
{
    return k == OT_FEATURE_FLOAT   ? "a float list"
           : k == OT_FEATURE_INT64 ? "an int64 list"
           : k == OT_FEATURE_BYTES ? "a bytes list"
                                   : "nothing";
}

typedef struct reading {
    const ot_input_column *columns;
    size_t n_columns, row, found;
    const ot_example_out *to;
    uint8_t seen[OT_INPUT_COLUMNS_MAX];
} reading;

/* The one string of a bytes list; an empty list is an empty one. */
static ot_rc string_of(const feature *f, const uint8_t **p_out, size_t *n_out, ot_error *err)
{
    ot_pb list = f->list;
    size_t strings = 0;
    *n_out = 0;
    for (;;) {
        ot_pb_field v;
        OT_TRY(ot_pb_next(&list, &v, err));
        if (v.number == 0) {
            break;
        }
        if (v.number == FIRST) {
            OT_TRY(ot_pb_want(&list, &v, OT_PB_LEN, "value", err));
            *p_out = v.p;
            *n_out = v.n;
            strings++;
        }
    }
    return strings <= 1
               ? OT_OK
               : ot_fail(err, OT_INVALID,
                         "feature '%.*s' has %zu strings; one a row is read: join them, "
                         "or write a feature for each",
                         (int)OT_MIN(f->name_len, (size_t)OT_INPUT_NAME_MAX), f->name, strings);
}

static ot_input_ragged *ragged_at(const ot_example_out *to, size_t c)
{
    return (void *)(to->out + to->offsets[c]);
}

/* Behind what the rows before have; of a name that is there twice the later stands. */
static ot_rc take_ragged(const reading *r, size_t c, const feature *f, ot_error *err)
{
    const ot_input_column *col = &r->columns[c];
    ot_grown *g = &r->to->grown[c];
    int64_t *splits = ragged_at(r->to, c)->splits;
    const uint8_t *string = NULL;
    size_t n;
    g->n = (size_t)splits[r->row] * col->element_bytes;
    OT_TRY(f->kind == OT_FEATURE_BYTES ? string_of(f, &string, &n, err)
                                       : values_of(f, NULL, 0, &n, err));
    if (n > OT_INPUT_VALUES_MAX - g->n || !ot_grown_reserve(g, n)) {
        return ot_fail(err, OT_EXHAUSTED,
                       "feature '%s': no memory for its %zu bytes behind %zu of the batch, which "
                       "may have %llu GiB; make the batch smaller",
                       col->name, n, g->n, OT_INPUT_VALUES_MAX >> 30);
    }
    if (string != NULL && n > 0) {
        memcpy(g->p + g->n, string, n);
    } else if (n > 0) {
        OT_TRY(values_of(f, g->p + g->n, n, &n, err));
    }
    g->n += n;
    splits[r->row + 1] = (int64_t)(g->n / col->element_bytes);
    return OT_OK;
}

static ot_rc take_fixed(const reading *r, size_t c, const feature *f, ot_error *err)
{
    const ot_input_column *col = &r->columns[c];
    size_t bytes;
    OT_TRY(values_of(f, r->to->out + r->to->offsets[c] + r->row * col->row_bytes, col->row_bytes,
                     &bytes, err));
    if (bytes == col->row_bytes) {
        return OT_OK;
    }
    return ot_fail(err, OT_INVALID,
                   "feature '%s' has %zu values, the column %zu: where rows are of any length, say "
                   "so with features={'%s': %s}, or leave it out with columns=",
                   col->name, bytes / col->element_bytes, col->row_bytes / col->element_bytes,
                   col->name,
                   col->feature == OT_FEATURE_BYTES   ? "bytes"
                   : col->feature == OT_FEATURE_FLOAT ? "('float32', None)"
                                                      : "('int64', None)");
}

static ot_rc take(void *arg, const feature *f, ot_error *err)
{
    reading *r = arg;
    for (size_t c = 0; c < r->n_columns; c++) {
        const ot_input_column *col = &r->columns[c];
        if (col->feature == OT_FEATURE_NONE || strlen(col->name) != f->name_len ||
            memcmp(col->name, f->name, f->name_len) != 0) {
            continue;
        }
        if (col->ragged && f->kind == OT_FEATURE_NONE) {
            return OT_OK; /* a feature without a list is an empty one */
        }
        if (f->kind != col->feature) {
            return ot_fail(err, OT_INVALID, "feature '%s' is %s; the column is %s", col->name,
                           kind_name(f->kind), kind_name(col->feature));
        }
        OT_TRY(col->ragged ? take_ragged(r, c, f, err) : take_fixed(r, c, f, err));
        r->found += !r->seen[c]; /* of a name that is there twice the later stands */
        r->seen[c] = 1;
        return OT_OK;
    }
    return OT_OK;
}

ot_rc ot_example_read(const uint8_t *p, size_t n, const ot_input_column *columns, size_t n_columns,
                      size_t row, const ot_example_out *to, ot_error *err)
{
    reading r = {.columns = columns, .n_columns = n_columns, .row = row, .to = to};
    for (size_t c = 0; c < n_columns; c++) {
        if (columns[c].ragged) {
            int64_t *splits = ragged_at(to, c)->splits;
            splits[row + 1] = splits[row];
            r.seen[c] = 1;
            r.found++;
        }
    }
    OT_TRY(walk(p, n, take, &r, err));
    size_t want = 0, missing = 0;
    for (size_t c = n_columns; c-- > 0;) {
        if (columns[c].feature != OT_FEATURE_NONE) {
            want++;
            missing = r.seen[c] ? missing : c;
        }
    }
    return r.found == want
               ? OT_OK
               : ot_fail(err, OT_INVALID, "it has no feature '%s'", columns[missing].name);
}

/* --- columns of the first record */

static ot_rc add_column(void *arg, const feature *f, ot_error *err)
{
    ot_source *s = arg;
    char name[OT_INPUT_NAME_MAX + 1];
    size_t bytes, i, before = s->n_columns;
    if (f->kind == OT_FEATURE_NONE) {
        return OT_OK; /* empty: nothing can be known of it */
    }
    if (f->name_len > OT_INPUT_NAME_MAX || memchr(f->name, '\0', f->name_len) != NULL) {
        return ot_fail(err, OT_INVALID,
                       "a feature's name has %zu bytes or a NUL; 1 to %d are taken", f->name_len,
                       OT_INPUT_NAME_MAX);
    }
    memcpy(name, f->name, f->name_len);
    name[f->name_len] = '\0';
    OT_TRY(values_of(f, NULL, 0, &bytes, err));
    if (bytes == 0) {
        return OT_OK;
    }
    OT_TRY(ot_source_column(s, name, &i, err));
    if (i < before) {
        return OT_OK; /* twice in the record */
    }
    ot_input_column *c = &s->columns[i];
    c->feature = f->kind;
    c->element_bytes = f->kind == OT_FEATURE_BYTES ? 1 : f->kind == OT_FEATURE_FLOAT ? 4 : 8;
    snprintf(c->descr, sizeof c->descr, "%s",
             f->kind == OT_FEATURE_BYTES   ? "|u1"
             : f->kind == OT_FEATURE_FLOAT ? "<f4"
                                           : "<i8");
    c->dims[0] = (int64_t)(bytes / c->element_bytes);
    c->rank = c->dims[0] > 1 || f->kind == OT_FEATURE_BYTES;
    return ot_source_row_bytes(c, err);
}

ot_rc ot_example_columns(ot_source *s, const uint8_t *p, size_t n, ot_error *err)
{
    return walk(p, n, add_column, s, err);
}
