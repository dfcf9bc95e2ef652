/* Archives: what NumPy and zipfile wrote (tests/golden/make_registry.py), and damage done to them.
 */
#include "registry/npz.h"

#include "base/str.h"
#include "unit/bundle_fixture.h"

#define GOLDEN_DIR "tests/golden/registry/"

static ot_str load(const char *name)
{
    char path[256];
    ot_str s = OT_STR_INIT;
    ot_error e;
    snprintf(path, sizeof path, GOLDEN_DIR "%s", name);
    if (ot_disk_read_all(ot_disk_posix(), path, 1 << 20, &s, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
    return s;
}

static bool as_written(const ot_table *t)
{
    const ot_tensor *x = ot_table_column(t, "x"), *y = ot_table_column(t, "y"),
                    *f = ot_table_column(t, "flag");
    if (t->rows != 6 || t->n_columns != 3 || x == NULL || y == NULL || f == NULL ||
        x->dtype != OT_DT_FP32 || y->dtype != OT_DT_INT64 || f->dtype != OT_DT_BOOL) {
        return false;
    }
    for (int i = 0; i < 12; i++) {
        if (ot_tensor_f64_at(x, i) != (i - 3) / 4.0) {
            return false;
        }
    }
    static const int flags[] = {1, 0, 1, 1, 0, 0};
    for (int i = 0; i < 6; i++) {
        if (ot_tensor_f64_at(y, i) != i % 3 || ot_tensor_f64_at(f, i) != flags[i]) {
            return false;
        }
    }
    return true;
}

static void test_good(void)
{
    static const char *const names[] = {"stored.npz", "deflated.npz", "streamed.npz",
                                        "comment.npz"};
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        OT_AUTO(ot_str_done) ot_str s = load(names[i]);
        OT_AUTO(ot_table_done) ot_table t;
        ot_error e = {0};
        ot_table_init(&t);
        ok(ot_npz_read(s.data, s.len, &t, &e) == OT_OK && as_written(&t), "%s: %s", names[i],
           e.msg);
    }
    OT_AUTO(ot_str_done) ot_str s = load("zip64.npz");
    OT_AUTO(ot_table_done) ot_table t;
    ot_error e = {0};
    ot_table_init(&t);
    ok(ot_npz_read(s.data, s.len, &t, &e) == OT_OK && t.rows == 6, "zip64 sizes: %s", e.msg);
}

static void test_refused(void)
{
    static const struct {
        const char *file, *says;
    } cases[] = {
        {"bzip2.npz", "zip method 12"},    {"folder.npz", "'a/x.npy'"},
        {"parent.npz", "'../x.npy'"},      {"text.npz", "'readme.txt'"},
        {"object.npz", "'x.npy'"},         {"rows.npz", "5 rows; column 'x' has 6"},
        {"scalar.npz", "one value a row"},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        OT_AUTO(ot_str_done) ot_str s = load(cases[i].file);
        OT_AUTO(ot_table_done) ot_table t;
        ot_error e = {0};
        ot_table_init(&t);
        if (!ok(ot_npz_read(s.data, s.len, &t, &e) == OT_INVALID &&
                    strstr(e.msg, cases[i].says) != NULL,
                "%s is refused", cases[i].file)) {
            printf("# %s\n", e.msg);
        }
    }
}

static void test_bomb(void)
{
    OT_AUTO(ot_str_done) ot_str s = load("bomb.npz");
    OT_AUTO(ot_table_done) ot_table t;
    OT_AUTO(ot_table_done) ot_table small;
    ot_error e = {0};
    ot_table_init(&t);
    ot_table_init(&small);
    ok(s.len < 8192 && ot_npz_read(s.data, s.len, &t, &e) == OT_OK && t.rows == 1 << 22,
       "4 MiB of zeros from 4 KiB: %s", e.msg);
    ok(ot_npz_read_capped(s.data, s.len, 1 << 20, &small, &e) == OT_EXHAUSTED &&
           strstr(e.msg, "'x.npy' inflates to") != NULL,
       "refused before it is inflated where the cap is lower: %s", e.msg);
}

/* Finds the record and overwrites n bytes at an offset in it. */
static void patch(ot_str *s, const char *sig, size_t offset, const void *p, size_t n)
{
    char *at_sig = memmem(s->data, s->len, sig, 4);
    memcpy(at_sig + offset, p, n);
}

static void test_lies(void)
{
    static const struct {
        const char *sig;
        size_t offset;
        const char *bytes;
        size_t n;
        const char *says, *what;
    } cases[] = {
        {"PK\1\2", 8, "\1\0", 2, "is encrypted", "the encryption bit"},
        {"PK\1\2", 16, "\1\2\3\4", 4, "CRC", "another CRC"},
        {"PK\1\2", 24, "\0\0\0\x7f", 4, "not possible", "a size that deflate cannot reach"},
        {"PK\1\2", 24, "\xd0\0\0\0", 4, "stated size", "a smaller size"},
        {"PK\1\2", 24, "\xff\1\0\0", 4, "stated size", "a larger size"},
        {"PK\1\2", 20, "\xff\xff\0\0", 4, "more than the file has", "more packed bytes"},
        {"PK\1\2", 42, "\xff\xff\0\0", 4, "no local header", "an offset beyond the end"},
        {"PK\1\2", 42, "\1\0\0\0", 4, "no local header", "an offset to elsewhere"},
        {"PK\1\2", 28, "\x86\0", 2, "cut off", "a name beyond the directory"},
        {"PK\1\2", 46, "\0", 1, "NUL", "a NUL in a name"},
        {"PK\1\2", 46, "z", 1, "headers disagree", "another name than the local one"},
        {"PK\1\2", 0, "XX", 2, "damaged", "no central header"},
        {"PK\5\6", 10, "\xff\1", 2, "disks", "another count on this disk"},
        {"PK\5\6", 8, "\0\0\0\0", 4, "0 members", "no members"},
        {"PK\5\6", 8, "\xff\3\xff\3", 4, "1023 members", "too many members"},
        {"PK\5\6", 16, "\xff\xff\xff\0", 4, "outside the file", "a directory beyond the end"},
        {"PK\5\6", 12, "\xff\xff\xff\0", 4, "outside the file", "a directory too long"},
        {"PK\5\6", 16, "\xff\xff\xff\xff", 4, "zip64", "zip64 without its records"},
        {"PK\5\6", 20, "\1\0", 2, "cut off", "a comment beyond the end"},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        OT_AUTO(ot_str_done) ot_str s = load("deflated.npz");
        OT_AUTO(ot_table_done) ot_table t;
        ot_error e = {0};
        ot_table_init(&t);
        patch(&s, cases[i].sig, cases[i].offset, cases[i].bytes, cases[i].n);
        ot_rc rc = ot_npz_read(s.data, s.len, &t, &e);
        if (!ok(rc != OT_OK && strstr(e.msg, cases[i].says) != NULL, "%s is refused",
                cases[i].what)) {
            printf("# rc %d: %s\n", (int)rc, e.msg);
        }
    }
}

static void test_cut_and_flipped(void)
{
    OT_AUTO(ot_str_done) ot_str whole = load("deflated.npz");
    size_t accepted = 0;
    for (size_t n = 0; n < whole.len; n++) {
        OT_AUTO(ot_table_done) ot_table t;
        OT_AUTO(ot_free_ptr) char *copy = ot_alloc(n); /* exact, so that a sanitizer sees more */
        memcpy(copy, whole.data, n);
        ot_table_init(&t);
        accepted += ot_npz_read(copy, n, &t, NULL) == OT_OK;
    }
    is_int(accepted, 0, "no archive that is cut short is accepted");
    size_t wrong = 0;
    for (size_t i = 0; i < whole.len * 8; i++) {
        OT_AUTO(ot_table_done) ot_table t;
        ot_table_init(&t);
        whole.data[i / 8] = (char)(whole.data[i / 8] ^ (1 << i % 8));
        /* A bit in a time or a version may pass; then the data are right. */
        if (ot_npz_read(whole.data, whole.len, &t, NULL) == OT_OK && t.rows == 6 &&
            t.n_columns == 3 && !as_written(&t)) {
            wrong++;
        }
        whole.data[i / 8] = (char)(whole.data[i / 8] ^ (1 << i % 8));
    }
    is_int(wrong, 0, "no flipped bit gives other data under these names");
}

static void test_memory(void)
{
    OT_AUTO(ot_str_done) ot_str s = load("deflated.npz");
    int failed = 0;
    for (uint64_t n = 1; n < 50; n++) {
        OT_AUTO(ot_table_done) ot_table t;
        ot_table_init(&t);
        ot_mem_fail_nth(n);
        ot_rc rc = ot_npz_read(s.data, s.len, &t, NULL);
        uint64_t seen = ot_mem_fail_nth(0);
        if (rc == OT_OK && seen < n) {
            break;
        }
        failed += rc == OT_EXHAUSTED;
    }
    ok(failed > 5, "memory that is short is an error");
}

int main(void)
{
    test_good();
    test_refused();
    test_bomb();
    test_lies();
    test_cut_and_flipped();
    test_memory();
    return tap_done();
}
