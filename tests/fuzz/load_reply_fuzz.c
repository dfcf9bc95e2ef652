/* links: load net base */
/* A server's answer as the load generator reads it: any bytes, cut at places that the input
 * chooses, give what the whole gives when that is an answer. */
#include "load/reply.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Feeds in steps (0: at once). The buffer is exact, so that reading past its end is found. */
static ot_http_step read_reply(ot_load_reply *r, const uint8_t *data, size_t size, size_t step,
                               char **buf, size_t *len)
{
    size_t at = 0;
    ot_http_step s = OT_HTTP_MORE;
    const char *why;
    *r = (ot_load_reply){0};
    *buf = NULL;
    *len = 0;
    while (s == OT_HTTP_MORE && at < size) {
        size_t k = step != 0 && step < size - at ? step : size - at;
        char *grown = malloc(*len + k);
        if (grown == NULL) {
            abort();
        }
        if (*len > 0) {
            memcpy(grown, *buf, *len);
        }
        memcpy(grown + *len, data + at, k);
        free(*buf);
        *buf = grown;
        at += k;
        *len += k;
        s = ot_load_reply_feed(r, *buf, len, &why);
    }
    return s == OT_HTTP_MORE && at == size ? ot_load_reply_end(r, *len, &why) : s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    ot_load_reply whole, cut;
    char *a, *b;
    size_t n, m, step = 1 + data[0] % 61;
    ot_http_step s = read_reply(&whole, data + 1, size - 1, 0, &a, &n);
    ot_http_step t = read_reply(&cut, data + 1, size - 1, step, &b, &m);
    if (s == OT_HTTP_DONE &&
        (t != OT_HTTP_DONE || whole.status != cut.status || whole.body_len != cut.body_len ||
         whole.head_len + whole.body_len > n ||
         memcmp(a + whole.head_len, b + cut.head_len, whole.body_len) != 0)) {
        abort();
    }
    if (s == OT_HTTP_DONE) {
        (void)ot_load_reply_field(a, whole.head_len, "overtake-prediction-id");
    }
    free(a);
    free(b);
    return 0;
}
