/* A version as a tar archive: what is written is read, what is not whole or not plain is refused.
 */
#include "cli/archive.h"

#include "base/mem.h"
#include "unit/bundle_fixture.h"

#define LONG_DIR                                                                                   \
    "bundle/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
#define LONG_FILE "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static char long_name[] = LONG_DIR "/" LONG_FILE;

static ot_rc add(ot_archive_writer *w, const char *name, const char *text, ot_error *e)
{
    OT_TRY(ot_archive_entry_begin(w, name, strlen(text), e));
    size_t half = strlen(text) / 2;
    OT_TRY(ot_archive_entry_write(w, text, half, e));
    return ot_archive_entry_write(w, text + half, strlen(text) - half, e);
}

static ot_rc write_whole(const char *path, ot_error *e)
{
    ot_archive_writer w;
    OT_TRY(ot_archive_begin(disk, path, &w, e));
    OT_TRY(add(&w, "envelope.json", "{}", e));
    OT_TRY(add(&w, "bundle/manifest.json", "{\"a\": 1}", e));
    OT_TRY(add(&w, "bundle/empty", "", e));
    OT_TRY(add(&w, long_name, "long", e));
    OT_TRY(ot_archive_commit(&w, e));
    ot_archive_abandon(&w);
    return OT_OK;
}

static void test_whole(void)
{
    ot_error e = {0};
    ot_archive_writer w;
    OT_AUTO(ot_archive_close) ot_archive a = {0};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ok(write_whole(at("whole.otb"), &e) == OT_OK, "written %s", e.msg);
    ok(!ot_disk_exists(disk, at("whole.otb.tmp")), "nothing beside it");
    ok(ot_archive_begin(disk, at("whole.otb"), &w, &e) == OT_EXISTS, "not written over: %s", e.msg);
    ok(ot_archive_open(disk, at("whole.otb"), &a, &e) == OT_OK && a.n == 4, "read %s", e.msg);
    ok(ot_archive_read(&a, "bundle/manifest.json", 0, 100, &out, &e) == OT_OK, "an entry");
    is_str(out.data, "{\"a\": 1}", "its bytes");
    ot_str_clear(&out);
    ok(ot_archive_read(&a, long_name, 1, 2, &out, &e) == OT_OK, "a name of %zu", strlen(long_name));
    is_str(out.data, "on", "a piece of it");
    ot_str_clear(&out);
    ok(ot_archive_read(&a, long_name, 4, 2, &out, &e) == OT_OK && out.len == 0,
       "nothing at its end");
    ok(ot_archive_read(&a, "bundle/empty", 0, 2, &out, &e) == OT_OK && out.len == 0,
       "an empty one");
    ok(ot_archive_read(&a, "bundle/x", 0, 2, &out, &e) == OT_NOT_FOUND, "none: %s", e.msg);
}

static void test_writer(void)
{
    ot_error e = {0};
    ot_archive_writer w;
    char name[OT_TAR_NAME_MAX + 60];
    ok(ot_archive_begin(disk, at("half.otb"), &w, &e) == OT_OK, "begun");
    ok(ot_archive_entry_begin(&w, "envelope.json", 4, &e) == OT_OK, "an entry of four bytes");
    ok(ot_archive_entry_write(&w, "12345", 5, &e) == OT_DATA_LOSS, "takes no fifth: %s", e.msg);
    ok(ot_archive_entry_begin(&w, "bundle/x", 4, &e) == OT_INTERNAL, "and needs four: %s", e.msg);
    ok(ot_archive_entry_write(&w, "1234", 4, &e) == OT_OK, "four");
    ok(ot_archive_entry_begin(&w, "bundle/x", OT_TAR_SIZE_MAX + 1, &e) == OT_EXHAUSTED,
       "too large: %s", e.msg);
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    ok(ot_archive_entry_begin(&w, name, 1, &e) == OT_EXHAUSTED, "too long a name");
    name[120] = 0;
    ok(ot_archive_entry_begin(&w, name, 1, &e) == OT_EXHAUSTED, "nowhere to divide it");
    ot_archive_abandon(&w);
    ok(!ot_disk_exists(disk, at("half.otb")) && !ot_disk_exists(disk, at("half.otb.tmp")),
       "what is given up is gone");
}

/* The archive with some bytes changed and the checksum of the first header made good again. */
static ot_rc open_changed(const ot_str *good, size_t where, const char *bytes, size_t n,
                          ot_error *e)
{
    OT_AUTO(ot_archive_close) ot_archive a = {0};
    OT_AUTO(ot_str_done) ot_str b = OT_STR_INIT;
    unsigned sum = 0;
    ot_str_add(&b, good->data, good->len);
    memcpy(b.data + where, bytes, n);
    memset(b.data + 148, ' ', 8);
    for (int i = 0; i < 512; i++) {
        sum += (unsigned char)b.data[i];
    }
    char number[16];
    snprintf(number, sizeof number, "%06o", sum);
    memcpy(b.data + 148, number, 7);
    write_bytes(at("changed.otb"), b.data, b.len);
    return ot_archive_open(disk, at("changed.otb"), &a, e);
}

static void test_refused(void)
{
    ot_error e = {0};
    OT_AUTO(ot_str_done) ot_str good = OT_STR_INIT;
    ok(ot_disk_read_all(disk, at("whole.otb"), 1 << 20, &good, &e) == OT_OK, "the good one");
    ok(open_changed(&good, 0, "e", 1, &e) == OT_OK, "unchanged it is read %s", e.msg);
    ok(open_changed(&good, 0, "../../../../x", 14, &e) == OT_INVALID, "out of it: %s", e.msg);
    ok(open_changed(&good, 0, "/etc/passwd", 12, &e) == OT_INVALID, "absolute: %s", e.msg);
    ok(open_changed(&good, 0, "bundle/a/../b", 14, &e) == OT_INVALID, "through a parent: %s",
       e.msg);
    ok(open_changed(&good, 0, "other.json\0\0\0", 13, &e) == OT_INVALID, "unknown: %s", e.msg);
    ok(open_changed(&good, 0, "bundle/empty\0", 13, &e) == OT_INVALID, "twice: %s", e.msg);
    static const char types[] = "123456xgLKSV";
    for (size_t i = 0; types[i] != 0; i++) {
        ok(open_changed(&good, 156, &types[i], 1, &e) == OT_INVALID, "type %c: %s", types[i],
           e.msg);
    }
    ok(open_changed(&good, 124, "77777777777", 11, &e) == OT_DATA_LOSS, "a large size: %s", e.msg);
    ok(open_changed(&good, 124, "-0000000002", 11, &e) == OT_INVALID, "no number: %s", e.msg);
    ok(open_changed(&good, 124, "\x80\0\0\0\0\0\0\0\0\0\x02", 11, &e) == OT_INVALID, "base 256: %s",
       e.msg);
    ok(open_changed(&good, 257, "gnutar", 6, &e) == OT_INVALID, "another format: %s", e.msg);
    ok(open_changed(&good, 512, "zz", 2, &e) == OT_OK, "contents are not its concern");
    ok(open_changed(&good, 1024 + 136, "7", 1, &e) == OT_INVALID, "a damaged header: %s", e.msg);
    for (size_t n = 0; n + 1024 < good.len; n += n < 2048 ? 1 : 97) {
        OT_AUTO(ot_archive_close) ot_archive a = {0};
        write_bytes(at("cut.otb"), good.data, n);
        if (ot_archive_open(disk, at("cut.otb"), &a, &e) != OT_DATA_LOSS) {
            ok(false, "cut after %zu bytes: %s", n, e.msg);
        }
    }
}

int main(void)
{
    scratch_start();
    test_whole();
    test_writer();
    test_refused();
    scratch_end();
    return tap_done();
}
