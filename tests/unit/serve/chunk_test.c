/* Rows of chunks, numbers and BYTES: what goes in comes out, row by row. */
#include "serve/chunk.h"

#include "serve/variant.h"
#include "tap.h"

#include <string.h>

static const char texts[] = "\1\0\0\0a\0\0\0\0\3\0\0\0bcd\1\0\0\0e"; /* rows "a" "", "bcd" "e" */

static ot_tensor bytes_of(int64_t rows)
{
    return (ot_tensor){.name = "s",
                       .dtype = OT_DT_BYTES,
                       .rank = 2,
                       .dims = {rows, 2},
                       .data = texts,
                       .size_bytes = sizeof texts - 1};
}

static void test_rows(ot_dep *dep, const ot_variant *v)
{
    static const float numbers[] = {1, 2, 3, 4};
    ot_tensor in[2] = {bytes_of(2),
                       {.name = "x",
                        .dtype = OT_DT_FP32,
                        .rank = 2,
                        .dims = {2, 2},
                        .data = numbers,
                        .size_bytes = sizeof numbers}};
    ot_chunk *c = NULL;
    ot_error err = {0};
    ot_rc rc = ot_chunk_create(dep, v, false, true, in, 2, &in[0], 1, 4, &c, &err);
    if (!ok(rc == OT_OK, "made: %s", err.msg)) {
        return;
    }
    is_int(ot_chunk_text(c, in, in, 0), 18, "what the first row takes, in and out");
    is_int(ot_chunk_text(c, in, in, 1), 24, "and the second");
    for (int64_t r = 1; r >= 0; r--) {
        ok(ot_chunk_add(c, 7, 8, 1, (ot_slice){0}, in, in, r), "row %d", (int)r);
    }
    is_int(c->text, 42, "all of them");
    ot_tensor t = ot_chunk_rows(c, &c->inputs[0], 1, 1);
    ok(t.rank == 2 && t.dims[0] == 1 && t.dims[1] == 2 && t.size_bytes == 9 &&
           memcmp(t.data, texts, 9) == 0,
       "texts of one row");
    t = ot_chunk_rows(c, &c->inputs[0], 0, 2);
    ok(t.size_bytes == 21 && memcmp(t.data, texts + 9, 12) == 0, "of both, in their order");
    t = ot_chunk_rows(c, &c->inputs[1], 1, 1);
    ok(t.size_bytes == 8 && memcmp(t.data, numbers, 8) == 0, "numbers of one row");
    ot_tensor lie = bytes_of(3);
    ot_tensor odd[2] = {lie, in[1]};
    ok(ot_chunk_text(c, odd, in, 2) == SIZE_MAX, "a row that is not there");
    ok(!ot_chunk_add(c, 7, 8, 1, (ot_slice){0}, odd, in, 2) && c->rows == 2, "is not added");
    ot_chunk_destroy(c);
}

static void test_whole(ot_dep *dep, const ot_variant *v)
{
    ot_tensor in = bytes_of(2);
    ot_chunk *c = NULL;
    ot_error err = {0};
    ot_rc rc = ot_chunk_create(dep, v, false, false, &in, 1, &in, 1, 4, &c, &err);
    if (!ok(rc == OT_OK, "made: %s", err.msg)) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        ok(ot_chunk_add(c, 7, 8, 1, (ot_slice){0}, &in, &in, 0), "a tensor is a row");
    }
    ot_tensor t = ot_chunk_rows(c, &c->inputs[0], 1, 1);
    ok(t.rank == 2 && t.dims[0] == 2 && t.size_bytes == 21 && memcmp(t.data, texts, 21) == 0,
       "and comes back whole");
    ot_chunk_destroy(c);
}

int main(void)
{
    ot_dep *dep = NULL;
    ot_variant *v = NULL;
    ot_error err = {0};
    if (ot_dep_create("d", &dep, &err) != OT_OK || ot_variant_create(1, 1, &v, &err) != OT_OK) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    test_rows(dep, v);
    test_whole(dep, v);
    ot_variant_destroy(v);
    ot_dep_unref(dep);
    return tap_done();
}
