#include "registry/table.h"

#include "base/str.h"
#include "codec/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* "held_out" as eight little-endian bytes: the salt of the split. */
#define HELD_OUT_SALT UINT64_C(0x74756f5f646c6568)

#define ARENA_CHUNK 4096
#define ARENA_LIMIT (4u << 20)

struct ot_table_owner {
    ot_table_owner *next;
    void *p;
    size_t mapped; /* bytes of a mapping; 0: from ot_alloc */
};

static void release(void *p, size_t mapped)
{
    if (mapped == 0) {
        ot_free(p);
    } else {
        munmap(p, mapped);
    }
}

void ot_table_init(ot_table *t)
{
    *t = (ot_table){0};
    ot_arena_init(&t->arena, ARENA_CHUNK, ARENA_LIMIT);
}

void ot_table_done(ot_table *t)
{
    for (ot_table_owner *o = t->owners; o != NULL;) {
        ot_table_owner *next = o->next;
        release(o->p, o->mapped);
        ot_free(o);
        o = next;
    }
    ot_arena_done(&t->arena);
    ot_table_init(t);
}

bool ot_column_name_ok(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > 128 || s[0] == '.' || s[0] == '-') {
        return false;
    }
    return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

size_t ot_table_row_bytes(const ot_tensor *column)
{
    size_t bytes = ot_dtype_size(column->dtype);
    for (int k = 1; k < column->rank; k++) {
        bytes *= (size_t)column->dims[k]; /* was checked when it was added */
    }
    return bytes;
}

static ot_rc check_column(const ot_table *t, const char *name, const ot_tensor *c, ot_error *err)
{
    if (!ot_column_name_ok(name)) {
        return ot_fail(err, OT_INVALID,
                       "column '%.140s': 1 to 128 characters of A-Z a-z 0-9 _ . - are accepted, "
                       "not starting with '.' or '-'",
                       name);
    }
    if (c->dtype == OT_DT_BYTES || c->dtype == OT_DT_BF16 || ot_dtype_size(c->dtype) == 0) {
        return ot_fail(err, OT_INVALID, "column '%s': type %s; numbers and BOOL are accepted", name,
                       ot_dtype_name(c->dtype));
    }
    if (c->rank < 1) {
        return ot_fail(err, OT_INVALID, "column '%s': a single value; one value a row is expected",
                       name);
    }
    ot_rc rc = ot_tensor_check(c, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "column '%s'", name);
    }
    for (int k = 1; k < c->rank; k++) {
        if (c->dims[k] == 0) {
            return ot_fail(err, OT_INVALID, "column '%s': a row has no elements", name);
        }
    }
    if (t->n_columns > 0 && c->dims[0] != t->rows) {
        return ot_fail(err, OT_INVALID, "column '%s': %" PRId64 " rows; column '%s' has %" PRId64,
                       name, c->dims[0], t->columns[0].name, t->rows);
    }
    if (ot_table_column(t, name) != NULL) {
        return ot_fail(err, OT_INVALID, "column '%s': it is there twice", name);
    }
    size_t total = c->size_bytes;
    for (size_t i = 0; i < t->n_columns; i++) {
        total += t->columns[i].size_bytes;
    }
    if (t->n_columns == OT_TABLE_COLUMNS_MAX || total > OT_TABLE_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "column '%s': the %zuth, %zu bytes in all; the limits are %d columns and "
                       "%llu bytes",
                       name, t->n_columns + 1, total, OT_TABLE_COLUMNS_MAX, OT_TABLE_BYTES_MAX);
    }
    return OT_OK;
}

static ot_rc insert(ot_table *t, const char *name, const ot_tensor *c, void *p, size_t mapped,
                    ot_error *err)
{
    OT_TRY(check_column(t, name, c, err));
    if (t->columns == NULL) {
        t->columns = ot_arena_calloc(&t->arena, OT_TABLE_COLUMNS_MAX, sizeof *t->columns);
    }
    const char *copy = ot_arena_strdup(&t->arena, name);
    ot_table_owner *o = ot_alloc(sizeof *o);
    if (t->columns == NULL || copy == NULL || o == NULL) {
        ot_free(o);
        return ot_fail(err, OT_EXHAUSTED, "column '%s': no memory", name);
    }
    *o = (ot_table_owner){.next = t->owners, .p = p, .mapped = mapped};
    t->owners = o;
    size_t at = t->n_columns;
    while (at > 0 && strcmp(t->columns[at - 1].name, name) > 0) {
        t->columns[at] = t->columns[at - 1];
        at--;
    }
    t->columns[at] = *c;
    t->columns[at].name = copy;
    t->n_columns++;
    t->rows = c->dims[0];
    return OT_OK;
}

ot_rc ot_table_add_owned(ot_table *t, const char *name, const ot_tensor *column, void *data,
                         ot_error *err)
{
    ot_rc rc = insert(t, name, column, data, 0, err);
    if (rc != OT_OK) {
        ot_free(data);
    }
    return rc;
}

static ot_rc map_file(ot_disk *disk, const char *path, void **p_out, size_t *n_out, ot_error *err)
{
    ot_stat st;
    OT_TRY(disk->ops->stat(disk, path, &st, err));
    if (!st.is_regular) {
        return ot_fail(err, OT_INVALID, "%s: not a regular file", path);
    }
    ot_file *f;
    OT_TRY(disk->ops->open(disk, path, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &f, err));
    uint64_t size = 0;
    ot_rc rc = f->ops->size(f, &size, err);
    if (rc == OT_OK && (size == 0 || size > OT_TABLE_BYTES_MAX)) {
        rc = ot_fail(err, size == 0 ? OT_INVALID : OT_EXHAUSTED,
                     "%s: %" PRIu64 " bytes; 1 to %llu are accepted", path, size,
                     OT_TABLE_BYTES_MAX);
    }
    if (rc == OT_OK) {
        void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, f->ops->fd(f), 0);
        if (p == MAP_FAILED) {
            rc = ot_fail_errno(err, errno, "%s: map", path);
        } else {
            *p_out = p;
            *n_out = (size_t)size;
        }
    }
    ot_file_close(f);
    return rc;
}

ot_rc ot_table_add_npy_file(ot_table *t, ot_disk *disk, const char *name, const char *path,
                            ot_error *err)
{
    void *p = NULL;
    size_t n = 0;
    OT_TRY(map_file(disk, path, &p, &n, err));
    ot_tensor c;
    ot_rc rc = ot_npy_parse(p, n, &c, err);
    if (rc == OT_OK) {
        rc = insert(t, name, &c, p, n, err);
    }
    if (rc != OT_OK) {
        munmap(p, n);
        return ot_error_prefix(err, rc, "%s", path);
    }
    return OT_OK;
}

const ot_tensor *ot_table_column(const ot_table *t, const char *name)
{
    for (size_t i = 0; i < t->n_columns; i++) {
        if (strcmp(t->columns[i].name, name) == 0) {
            return &t->columns[i];
        }
    }
    return NULL;
}

ot_rc ot_table_set_label(ot_table *t, const char *label, ot_error *err)
{
    if (label == NULL) {
        t->label = NULL;
        return OT_OK;
    }
    const ot_tensor *c = ot_table_column(t, label);
    if (c == NULL) {
        OT_AUTO(ot_str_done) ot_str names = OT_STR_INIT;
        for (size_t i = 0; i < t->n_columns; i++) {
            ot_str_addf(&names, "%s%s", i == 0 ? "" : ", ", t->columns[i].name);
        }
        return ot_fail(err, OT_INVALID, "label '%.128s' is not among the columns: %.600s", label,
                       names.data);
    }
    t->label = c->name;
    return OT_OK;
}

ot_tensor ot_table_slice(const ot_tensor *column, int64_t at, int64_t n)
{
    ot_tensor s = *column;
    int64_t rows = column->dims[0];
    if (at < 0 || n < 0 || at > rows || n > rows - at) {
        at = n = 0;
    }
    size_t each = ot_table_row_bytes(column);
    s.dims[0] = n;
    s.size_bytes = each * (size_t)n;
    s.data = s.size_bytes == 0 ? NULL : (const char *)column->data + each * (size_t)at;
    return s;
}

static bool is_identity(const ot_tensor *c)
{
    return strcmp(c->name, OT_TABLE_WEIGHT) != 0;
}

ot_digest ot_table_row_digest(const ot_table *t, int64_t row)
{
    ot_sha256 sha;
    ot_sha256_init(&sha);
    for (size_t i = 0; i < t->n_columns; i++) {
        if (is_identity(&t->columns[i])) {
            size_t each = ot_table_row_bytes(&t->columns[i]);
            ot_sha256_add(&sha, (const char *)t->columns[i].data + each * (size_t)row, each);
        }
    }
    return ot_sha256_done(&sha);
}

ot_rc ot_table_row_places(const ot_table *t, int64_t at, int64_t n, double *places_out,
                          ot_error *err)
{
    size_t total = 0;
    if (at < 0 || n < 0 || at > t->rows || n > t->rows - at) {
        return ot_fail(err, OT_RANGE, "rows %" PRId64 " to %" PRId64 "; the table has %" PRId64, at,
                       at + n, t->rows);
    }
    for (size_t i = 0; i < t->n_columns; i++) {
        total += is_identity(&t->columns[i]) ? ot_table_row_bytes(&t->columns[i]) : 0;
    }
    OT_AUTO(ot_free_ptr) char *buf = ot_alloc(total);
    if (buf == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a row of %zu bytes", total);
    }
    for (int64_t r = 0; r < n; r++) {
        char *to = buf;
        for (size_t i = 0; i < t->n_columns; i++) {
            if (is_identity(&t->columns[i])) {
                size_t each = ot_table_row_bytes(&t->columns[i]);
                memcpy(to, (const char *)t->columns[i].data + each * (size_t)(at + r), each);
                to += each;
            }
        }
        uint64_t h = ot_hash_stable(buf, total, HELD_OUT_SALT);
        /* The upper 53 bits, so that the place is below 1 whatever the hash. */
        places_out[r] = (double)(h >> 11) * 0x1p-53;
    }
    return OT_OK;
}
