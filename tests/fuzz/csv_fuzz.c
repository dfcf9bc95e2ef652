/* links: cli base */
/* CSV in pieces of one byte and of many: the same records, or the same refusal. */
#include "cli/csv.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct source {
    const uint8_t *p;
    size_t left, step;
} source;

static ot_rc give(void *arg, char *p, size_t cap, size_t *n_out, ot_error *err)
{
    (void)err;
    source *s = arg;
    size_t n = s->left < s->step ? s->left : s->step;
    n = n < cap ? n : cap;
    memcpy(p, s->p, n);
    s->p += n;
    s->left -= n;
    *n_out = n;
    return OT_OK;
}

/* The records as one text; a refusal as its message. */
static void all(const uint8_t *data, size_t size, size_t step, ot_str *out)
{
    static ot_csv c;
    ot_error err = {0};
    source s = {data, size, step};
    ot_csv_init(&c, give, &s);
    for (;;) {
        size_t n = 0;
        int64_t line = 0, before = c.line;
        if (ot_csv_next(&c, &n, &line, &err) != OT_OK) {
            ot_str_adds(out, err.msg);
            break;
        }
        if (line < before || n > OT_CSV_FIELDS_MAX) {
            abort();
        }
        if (n == 0) {
            break;
        }
        for (size_t i = 0; i < n; i++) {
            ot_str_addf(out, "%lld[%s]", (long long)line, ot_csv_field(&c, i));
        }
    }
    ot_csv_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_str one = OT_STR_INIT, many = OT_STR_INIT;
    all(data, size, 1, &one);
    all(data, size, size > 0 ? size : 1, &many);
    if (one.len != many.len || memcmp(one.data, many.data, one.len) != 0) {
        abort();
    }
    ot_str_done(&one);
    ot_str_done(&many);
    return 0;
}
