/* links: api net base */
/* Query parameters: whatever is accepted is within its limits, and what is decoded is clean. */
#include "api/query.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const allowed[] = {"after", "limit", "newest", "object", NULL};
    ot_slice query = {.p = (const char *)data, .n = size};
    ot_arena arena;
    ot_error err;
    ot_arena_init(&arena, 1024, 1 << 20);
    bool known = ot_query_check(query, allowed, &err) == OT_OK;
    int64_t x = 5;
    ot_rc rc = ot_query_i64(query, "limit", &arena, 1, 1000, &x, &err);
    require(rc == OT_OK ? x >= 1 && x <= 1000 : x == 5);
    const char *text = NULL;
    if (ot_query_text(query, "object", &arena, 255, &text, &err) == OT_OK && text != NULL) {
        require(strlen(text) <= 255);
    }
    bool flag = false;
    rc = ot_query_flag(query, "newest", &arena, &flag, &err);
    require(rc == OT_OK || !flag);
    require(!known || size == 0 || data[0] != '=');
    ot_arena_done(&arena);
    return 0;
}
