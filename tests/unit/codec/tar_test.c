/* Headers of tar archives: there and back, and what does not fit. */
#include "codec/tar.h"

#include "tap.h"

static ot_tar_entry entry(const char *name, uint64_t size)
{
    ot_tar_entry e = {.size = size, .mtime_s = 1764318600, .mode = 0640};
    snprintf(e.name, sizeof e.name, "%s", name);
    return e;
}

static void comes_back(const char *name, uint64_t size)
{
    uint8_t block[OT_TAR_BLOCK];
    ot_error err = {0};
    ot_tar_entry e = entry(name, size), got = {0};
    ok(ot_tar_format(&e, block, &err) == OT_OK, "%.40s: %s", name, err.msg);
    ok(ot_tar_parse(block, &got), "is read");
    is_str(got.name, name, "its name");
    ok(got.size == size && got.mode == 0640 && got.mtime_s == 1764318600 && got.type == '0',
       "and the rest of it");
}

static void test_limits(void)
{
    uint8_t block[OT_TAR_BLOCK];
    ot_error err = {0};
    char name[300];
    ot_tar_entry e = entry("x", OT_TAR_SIZE_MAX + 1);
    is_int(ot_tar_format(&e, block, &err), OT_EXHAUSTED, "too large: %s", err.msg);
    e = entry("", 1);
    is_int(ot_tar_format(&e, block, &err), OT_EXHAUSTED, "without a name");
    memset(name, 'a', sizeof name);
    name[101] = 0;
    e = entry(name, 1);
    is_int(ot_tar_format(&e, block, &err), OT_EXHAUSTED, "101 letters and no '/'");
    name[100] = 0;
    comes_back(name, 1);
    memset(name, 'a', sizeof name);
    name[155] = '/';
    name[255] = 0;
    comes_back(name, OT_TAR_SIZE_MAX);
}

static void test_damage(void)
{
    uint8_t block[OT_TAR_BLOCK];
    ot_tar_entry e = entry("store/store.db", 4096), got;
    ok(ot_tar_format(&e, block, NULL) == OT_OK, "a header");
    size_t passed = 0;
    for (size_t i = 0; i < OT_TAR_BLOCK; i++) {
        block[i] ^= 0x40;
        passed += ot_tar_parse(block, &got);
        block[i] ^= 0x40;
    }
    is_int(passed, 0, "one wrong byte anywhere is seen");
    memset(block, 0, sizeof block);
    ok(!ot_tar_parse(block, &got), "zeros are no header");
}

int main(void)
{
    comes_back("manifest", 0);
    comes_back("store/blobs/ab/cdef", 123456789);
    test_limits();
    test_damage();
    ok(ot_tar_padding(0) == 0 && ot_tar_padding(1) == 511 && ot_tar_padding(512) == 0, "padding");
    return tap_done();
}
