#include "codec/npy.h"

#include <stdio.h>
#include <string.h>

static const char magic[6] = "\x93NUMPY";

static const struct {
    char kind;
    char size;
    ot_dtype dtype;
} descrs[] = {
    {'b', '1', OT_DT_BOOL},   {'u', '1', OT_DT_UINT8},  {'u', '2', OT_DT_UINT16},
    {'u', '4', OT_DT_UINT32}, {'u', '8', OT_DT_UINT64}, {'i', '1', OT_DT_INT8},
    {'i', '2', OT_DT_INT16},  {'i', '4', OT_DT_INT32},  {'i', '8', OT_DT_INT64},
    {'f', '2', OT_DT_FP16},   {'f', '4', OT_DT_FP32},   {'f', '8', OT_DT_FP64},
};

#define N_DESCRS (sizeof descrs / sizeof *descrs)

/* The header is a Python dictionary of a fixed kind: 'descr', 'fortran_order', 'shape'. */
typedef struct header {
    const char *at, *end;
} header;

static void space(header *h)
{
    while (h->at < h->end && strchr(" \t\r\n", *h->at) != NULL && *h->at != 0) {
        h->at++;
    }
}

static bool take(header *h, const char *word)
{
    size_t n = strlen(word);
    space(h);
    if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n) != 0) {
        return false;
    }
    h->at += n;
    return true;
}

static ot_rc broken(const header *h, const char *wanted, ot_error *err)
{
    return ot_fail(err, OT_INVALID, "not a .npy array: its header has '%.*s' where %s is expected",
                   (int)(h->end - h->at < 20 ? h->end - h->at : 20), h->at, wanted);
}

/* A quoted text; views the header. */
static bool quoted(header *h, const char **p_out, size_t *n_out)
{
    space(h);
    if (h->at == h->end || (*h->at != '\'' && *h->at != '"')) {
        return false;
    }
    const char *start = h->at + 1;
    const char *stop = memchr(start, *h->at, (size_t)(h->end - start));
    if (stop == NULL) {
        return false;
    }
    *p_out = start;
    *n_out = (size_t)(stop - start);
    h->at = stop + 1;
    return true;
}

/* Elements that NumPy has: texts of any length, numbers of some. */
static bool size_exists(char kind, size_t n)
{
    bool power = (n & (n - 1)) == 0;
    switch (kind) {
    case 'b':
        return n == 1;
    case 'i':
    case 'u':
        return power && n <= 8;
    case 'f':
        return n == 2 || n == 4 || n == 8 || n == 12 || n == 16;
    case 'c':
        return n == 8 || n == 16 || n == 24 || n == 32;
    case 'M':
    case 'm':
        return n == 8;
    default:
        return n <= OT_NPY_ELEMENT_MAX;
    }
}

/* "<f4", "|S5", "<M8[ns]": byte order, kind, bytes an element. */
static bool parse_descr(const char *p, size_t n, ot_npy_head *out)
{
    if (n < 3 || n >= sizeof out->descr || strchr("<>|=", p[0]) == NULL ||
        strchr("biufcSUMmV", p[1]) == NULL) {
        return false;
    }
    size_t i = 2, count = 0;
    while (i < n && p[i] >= '0' && p[i] <= '9' && count < OT_NPY_ELEMENT_MAX) {
        count = count * 10 + (size_t)(p[i++] - '0');
    }
    bool unit = i < n && (p[1] == 'M' || p[1] == 'm') && p[i] == '[' && p[n - 1] == ']';
    count *= p[1] == 'U' ? 4 : 1;
    if (p[0] == 0 || p[1] == 0 || count == 0 || !size_exists(p[1], count) || (i < n && !unit)) {
        return false;
    }
    memcpy(out->descr, p, n);
    out->descr[n] = '\0';
    out->kind = p[1];
    out->element_bytes = count;
    size_t swapped = p[1] == 'U' ? 4 : p[1] == 'c' ? count / 2 : count;
    bool text = p[1] == 'S' || p[1] == 'V';
    out->swap_bytes = p[0] == '>' && !text && swapped > 1 ? swapped : 0;
    return true;
}

static ot_rc read_descr(header *h, ot_npy_head *t, ot_error *err)
{
    const char *p;
    size_t n;
    space(h);
    if (h->at < h->end && *h->at == '[') {
        return ot_fail(err, OT_INVALID,
                       "the .npy array has a structured type; only plain numbers "
                       "and booleans can be read");
    }
    if (!quoted(h, &p, &n)) {
        return broken(h, "a type", err);
    }
    return parse_descr(p, n, t)
               ? OT_OK
               : ot_fail(err, OT_INVALID,
                         "the .npy array has type '%.*s'%s; b1, i1-i8, u1-u8, f2, f4 and f8 can "
                         "be read",
                         (int)(n < 20 ? n : 20), p,
                         n >= 2 && p[1] == 'O' ? " (Python objects, which are never loaded)" : "");
}

static ot_rc read_shape(header *h, ot_npy_head *t, ot_error *err)
{
    if (!take(h, "(")) {
        return broken(h, "a shape", err);
    }
    int rank = 0;
    while (!take(h, ")")) {
        if (rank > 0 && !take(h, ",")) {
            return broken(h, "',' or ')'", err);
        }
        if (take(h, ")")) {
            break;
        }
        int64_t v = 0;
        const char *start = h->at;
        while (h->at < h->end && *h->at >= '0' && *h->at <= '9') {
            if (__builtin_mul_overflow(v, INT64_C(10), &v) ||
                __builtin_add_overflow(v, (int64_t)(*h->at - '0'), &v)) {
                return ot_fail(err, OT_INVALID, "the .npy array has a dimension over 2^63 - 1");
            }
            h->at++;
        }
        if (h->at == start) {
            return broken(h, "a dimension", err);
        }
        take(h, "L"); /* Python 2 wrote long integers so */
        if (rank == OT_RANK_MAX) {
            return ot_fail(err, OT_INVALID, "the .npy array has more than %d dimensions",
                           OT_RANK_MAX);
        }
        t->dims[rank++] = v;
    }
    t->rank = rank;
    return OT_OK;
}

static ot_rc read_header(header *h, ot_npy_head *t, ot_error *err)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    unsigned seen = 0;
    if (!take(h, "{")) {
        return broken(h, "'{'", err);
    }
    while (!take(h, "}")) {
        const char *key;
        size_t n;
        if (!quoted(h, &key, &n) || !take(h, ":")) {
            return broken(h, "a key", err);
        }
        if (n == 5 && memcmp(key, "descr", 5) == 0) {
            OT_TRY(read_descr(h, t, err));
            seen |= DESCR;
        } else if (n == 13 && memcmp(key, "fortran_order", 13) == 0) {
            t->fortran = take(h, "True");
            if (!t->fortran && !take(h, "False")) {
                return broken(h, "True or False", err);
            }
            seen |= ORDER;
        } else if (n == 5 && memcmp(key, "shape", 5) == 0) {
            OT_TRY(read_shape(h, t, err));
            seen |= SHAPE;
        } else {
            return broken(h, "descr, fortran_order or shape", err);
        }
        take(h, ",");
    }
    space(h);
    return seen == (DESCR | ORDER | SHAPE) && h->at == h->end
               ? OT_OK
               : broken(h, "descr, fortran_order and shape, once each", err);
}

ot_rc ot_npy_head_read(const void *p, size_t n, ot_npy_head *out, ot_error *err)
{
    const unsigned char *b = p;
    if (n < 10 || memcmp(b, magic, sizeof magic) != 0) {
        return ot_fail(err, OT_INVALID, "not a .npy array: it does not begin with \\x93NUMPY");
    }
    if (b[6] < 1 || b[6] > 3) {
        return ot_fail(err, OT_INVALID, ".npy format %d.%d is not known; 1.0, 2.0 and 3.0 are",
                       b[6], b[7]);
    }
    size_t start = b[6] == 1 ? 10 : 12;
    size_t size = (size_t)b[8] | (size_t)b[9] << 8;
    if (b[6] > 1 && n >= 12) {
        size |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    }
    if (n < start || n - start < size) {
        return ot_fail(err, OT_INVALID, "the .npy header of %zu bytes is cut off: %zu are there",
                       size, n - (n < start ? n : start));
    }
    header h = {(const char *)b + start, (const char *)b + start + size};
    ot_npy_head t = {.data_at = start + size};
    OT_TRY(read_header(&h, &t, err));
    int64_t count;
    size_t have = n - t.data_at;
    char shape[OT_SHAPE_TEXT];
    if (!ot_shape_count(t.dims, t.rank, &count) ||
        __builtin_mul_overflow((size_t)count, t.element_bytes, &t.data_bytes) ||
        t.data_bytes != have) {
        return ot_fail(err, OT_INVALID,
                       "the .npy array is %s %s; %zu bytes of data do not fit that", t.descr,
                       ot_shape_format(t.dims, t.rank, shape), have);
    }
    *out = t;
    return OT_OK;
}

ot_rc ot_npy_parse(const void *p, size_t n, ot_tensor *out, ot_error *err)
{
    ot_npy_head h;
    OT_TRY(ot_npy_head_read(p, n, &h, err));
    size_t i = 0;
    while (i < N_DESCRS &&
           (descrs[i].kind != h.kind || h.element_bytes != (size_t)(descrs[i].size - '0'))) {
        i++;
    }
    if (i == N_DESCRS) {
        return ot_fail(err, OT_INVALID,
                       "the .npy array has type '%s'; b1, i1-i8, u1-u8, f2, f4 and f8 can be read",
                       h.descr);
    }
    if (h.swap_bytes != 0) {
        return ot_fail(err, OT_INVALID,
                       "the .npy array is big-endian (%s); save it with "
                       "a.astype(a.dtype.newbyteorder('<'))",
                       h.descr);
    }
    if (h.fortran) {
        return ot_fail(err, OT_INVALID,
                       "the .npy array is in Fortran order; save it with "
                       "numpy.ascontiguousarray(a)");
    }
    ot_tensor t = {.dtype = descrs[i].dtype,
                   .rank = h.rank,
                   .data = (const char *)p + h.data_at,
                   .size_bytes = h.data_bytes};
    memcpy(t.dims, h.dims, sizeof t.dims);
    *out = t;
    return OT_OK;
}

ot_rc ot_npy_header(const ot_tensor *t, ot_str *out, ot_error *err)
{
    OT_TRY(ot_tensor_check(t, err));
    size_t i = 0;
    while (i < N_DESCRS && descrs[i].dtype != t->dtype) {
        i++;
    }
    if (i == N_DESCRS) {
        return ot_fail(err, OT_INVALID, "tensor '%s' is %s, which .npy has no type for",
                       t->name != NULL ? t->name : "", ot_dtype_name(t->dtype));
    }
    char text[256 + OT_SHAPE_TEXT];
    int n = snprintf(text, sizeof text, "{'descr': '%c%c%c', 'fortran_order': False, 'shape': (",
                     descrs[i].size == '1' ? '|' : '<', descrs[i].kind, descrs[i].size);
    for (int d = 0; d < t->rank; d++) {
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%lld", d > 0 ? ", " : "",
                      (long long)t->dims[d]);
    }
    n += snprintf(text + n, sizeof text - (size_t)n, "%s), }", t->rank == 1 ? "," : "");
    /* Magic, version, length, text, padding and a newline are a multiple of 64 bytes. */
    size_t total = (10 + (size_t)n + 1 + 63) / 64 * 64, size = total - 10;
    unsigned char front[10] = {0, 0, 0, 0, 0, 0, 1, 0};
    memcpy(front, magic, sizeof magic);
    front[8] = (unsigned char)(size & 0xff);
    front[9] = (unsigned char)(size >> 8);
    ot_str_add(out, front, sizeof front);
    ot_str_add(out, text, (size_t)n);
    for (size_t pad = (size_t)n + 1; pad < size; pad++) {
        ot_str_addc(out, ' ');
    }
    ot_str_addc(out, '\n');
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "memory is short for a .npy header") : OT_OK;
}
