/* links: net base */
/* The request parser: any bytes, cut at places that the input chooses, give what the whole gives;
 * then targets and queries are decoded. */
#include "net/http.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ot_http_limits limits = {
    .line_max = 200, .head_max = 1000, .headers_max = 16, .body_max = 500};

/* Feeds in steps (0: at once). The buffer is exact, so that reading past its end is found. */
static ot_http_step parse(ot_http_parser *p, const uint8_t *data, size_t size, size_t step,
                          char **buf, size_t *rest)
{
    size_t len = 0, at = 0;
    ot_http_step r = OT_HTTP_MORE;
    *buf = NULL;
    ot_http_parser_init(p, &limits);
    while (r == OT_HTTP_MORE && at < size) {
        size_t k = step != 0 && step < size - at ? step : size - at;
        char *grown = malloc(len + k);
        if (grown == NULL) {
            abort();
        }
        if (len > 0) {
            memcpy(grown, *buf, len);
        }
        memcpy(grown + len, data + at, k);
        free(*buf);
        *buf = grown;
        at += k;
        len += k;
        r = ot_http_parser_feed(p, *buf, &len);
    }
    *rest = r == OT_HTTP_DONE ? len - ot_http_parser_size(p) + (size - at) : 0;
    return r;
}

static void same(const ot_http_parser *a, const ot_http_parser *b, const char *x, const char *y)
{
    size_t n = ot_http_parser_size(a);
    if (ot_http_parser_size(b) != n || a->n_headers != b->n_headers ||
        a->keep_alive != b->keep_alive || memcmp(x, y, n) != 0 ||
        memcmp(&a->path, &b->path, sizeof a->path) != 0) {
        abort();
    }
}

static void decode(const ot_http_parser *p)
{
    ot_arena arena;
    ot_arena_init(&arena, 4096, 1 << 20);
    ot_slice segments[8], value;
    size_t n = 0;
    if (ot_http_path_split(ot_http_parser_text(p, p->path), &arena, segments, 8, &n, NULL) ==
        OT_OK) {
        for (size_t i = 0; i < n; i++) {
            if (strlen(segments[i].p) != segments[i].n || strchr(segments[i].p, '/') != NULL ||
                strcmp(segments[i].p, "..") == 0) {
                abort();
            }
        }
    }
    if (ot_http_query_get(ot_http_parser_text(p, p->query), "a", &arena, &value, NULL) == OT_OK &&
        strlen(value.p) != value.n) {
        abort();
    }
    ot_arena_done(&arena);
}

/* What follows on a connection: the message once more, with the head of the first known, and then
 * with one of its bytes changed. */
static void again(ot_http_parser *a, const uint8_t *data, size_t size)
{
    static ot_http_parser fresh;
    char *x = malloc(size), *y = malloc(size);
    if (x == NULL || y == NULL) {
        abort();
    }
    for (int change = 0; change < 2; change++) {
        size_t len_a = size, len_f = size;
        memcpy(x, data, size);
        x[data[0] * size / 256] ^= (char)change;
        memcpy(y, x, size);
        ot_http_parser_reset(a);
        ot_http_parser_init(&fresh, &limits);
        ot_http_step ra = ot_http_parser_feed(a, x, &len_a);
        if (ra != ot_http_parser_feed(&fresh, y, &len_f) || a->status != fresh.status ||
            len_a != len_f) {
            abort();
        }
        if (ra == OT_HTTP_DONE) {
            same(a, &fresh, x, y);
        }
    }
    free(x);
    free(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096) {
        return 0;
    }
    size_t step = (size_t)data[0] % 16 + 1;
    static ot_http_parser a, b;
    char *x, *y;
    size_t rest_a, rest_b;
    ot_http_step ra = parse(&a, data + 1, size - 1, 0, &x, &rest_a);
    ot_http_step rb = parse(&b, data + 1, size - 1, step, &y, &rest_b);
    if (ra != rb || (ra == OT_HTTP_BAD && a.status != b.status) || rest_a != rest_b) {
        abort();
    }
    if (ra == OT_HTTP_DONE) {
        same(&a, &b, x, y);
        decode(&a);
        again(&a, data + 1, size - 1);
    }
    free(x);
    free(y);
    return 0;
}
