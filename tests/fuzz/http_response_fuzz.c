/* links: net base */
/* Answers of other servers. Cut in two ways they are read as the same. */
#include "base/mem.h"
#include "net/http_response.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static ot_http_step read_all(const uint8_t *data, size_t n, size_t cut, int *status, ot_str *body)
{
    ot_http_response r;
    ot_http_step step = OT_HTTP_MORE;
    const char *why = NULL;
    char *copy = ot_alloc(n + 1);
    memcpy(copy, data, n);
    ot_http_response_init(&r);
    for (size_t at = 0; at < n && step == OT_HTTP_MORE;) {
        size_t used = 0;
        ot_slice piece;
        step = ot_http_response_feed(&r, copy + at, OT_MIN(cut, n - at), &used, &piece, &why);
        ot_str_add(body, piece.p, piece.n);
        at += used;
    }
    if (step == OT_HTTP_MORE) {
        step = ot_http_response_end(&r, &why);
    }
    *status = r.head_done ? r.status : 0;
    ot_http_response_done(&r);
    ot_free(copy);
    return step;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int one, two;
    ot_str a, b;
    ot_str_init(&a);
    ot_str_init(&b);
    if (n == 0 || n > 100000) {
        return 0;
    }
    ot_http_step whole = read_all(data, n, n, &one, &a);
    ot_http_step cut = read_all(data, n, 1 + data[0] % 7, &two, &b);
    if (whole != cut ||
        (whole == OT_HTTP_DONE &&
         (one != two || a.len != b.len || (a.len > 0 && memcmp(a.data, b.data, a.len) != 0)))) {
        __builtin_trap();
    }
    ot_str_done(&a);
    ot_str_done(&b);
    return 0;
}
