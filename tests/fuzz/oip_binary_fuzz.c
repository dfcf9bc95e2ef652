/* links: codec base */
/* Framed bodies, raw bodies and .npy files. The first two bytes are the header length,
 * little-endian (0xffff: absent); the rest is the body. Every view that comes out lies inside the
 * body or the arena and is consistent. */
#include "codec/npy.h"
#include "codec/oip_memo.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile double sink;

/* Touches each element, so that a view beyond its memory is found. */
static void touch(const ot_tensor *t)
{
    if (ot_tensor_check(t, NULL) != OT_OK) {
        abort();
    }
    size_t offset = 0, n;
    const char *p;
    while (t->dtype == OT_DT_BYTES && ot_tensor_bytes_next(t, &offset, &p, &n)) {
        sink += n != 0 ? p[0] + p[n - 1] : 0;
    }
    int64_t count = t->dtype == OT_DT_BYTES ? 0 : ot_tensor_count(t);
    for (int64_t i = 0; i < count; i++) {
        sink += ot_tensor_f64_at(t, i);
    }
}

static void npy(const uint8_t *body, size_t n)
{
    ot_tensor t, back;
    ot_error err;
    if (ot_npy_parse(body, n, &t, &err) != OT_OK) {
        return;
    }
    touch(&t);
    ot_str s = OT_STR_INIT;
    if (ot_npy_header(&t, &s, &err) != OT_OK) {
        abort();
    }
    ot_str_add(&s, t.data, t.size_bytes);
    if (ot_npy_parse(s.data, s.len, &back, &err) != OT_OK || back.dtype != t.dtype ||
        back.rank != t.rank || back.size_bytes != t.size_bytes) {
        abort();
    }
    ot_str_done(&s);
}

/* Twice through a memo, then with a byte of the head changed: as without one. */
static void memo(uint8_t *body, size_t n, int64_t header, const ot_tensor_spec *raw)
{
    static ot_oip_memo *kept;
    ot_arena arena;
    ot_error err;
    if (kept == NULL && ot_oip_memo_create(&kept, &err) != OT_OK) {
        abort();
    }
    ot_arena_init(&arena, 4096, 1 << 20);
    for (int i = 0; i < 3; i++) {
        ot_oip_request a, b;
        if (i == 2 && n > 0) {
            body[n / 3] ^= 1;
        }
        ot_rc x = ot_oip_request_decode(body, n, header, raw, &arena, &a, &err);
        ot_rc y = ot_oip_memo_request_decode(kept, body, n, header, raw, &arena, &b, &err);
        if (x != y || (x == OT_OK && (a.n_inputs != b.n_inputs || a.n_outputs != b.n_outputs ||
                                      a.binary_default != b.binary_default))) {
            abort();
        }
        for (int k = 0; x == OT_OK && k < a.n_inputs; k++) {
            const ot_tensor *s = &a.inputs[k].tensor, *t = &b.inputs[k].tensor;
            if (strcmp(s->name, t->name) != 0 || s->dtype != t->dtype || s->rank != t->rank ||
                s->size_bytes != t->size_bytes ||
                memcmp(s->dims, t->dims, (size_t)s->rank * sizeof s->dims[0]) != 0 ||
                (a.inputs[k].binary && s->data != t->data)) {
                abort();
            }
            touch(t);
        }
    }
    if (n > 0) {
        body[n / 3] ^= 1;
    }
    ot_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536) {
        return 0;
    }
    int64_t header = data[0] | data[1] << 8;
    size_t n = size - 2;
    uint8_t *body = malloc(n != 0 ? n : 1); /* exact, so that reading past its end is found */
    if (body == NULL) {
        return 0;
    }
    memcpy(body, data + 2, n);
    header = header == 0xffff ? -1 : header;
    const ot_tensor_spec raw = {.name = "x",
                                .dtype = (ot_dtype)(n % OT_DT_COUNT_),
                                .rank = 2,
                                .dims = {-1, (int64_t)(n % 5)}};
    ot_arena arena;
    ot_error err;
    ot_oip_request r;
    ot_oip_response p;
    ot_arena_init(&arena, 4096, 1 << 20);
    if (ot_oip_request_decode(body, n, header, &raw, &arena, &r, &err) == OT_OK) {
        for (int i = 0; i < r.n_inputs; i++) {
            touch(&r.inputs[i].tensor);
        }
    }
    memo(body, n, header, &raw);
    if (ot_oip_response_decode(body, n, header, &arena, &p, &err) == OT_OK) {
        for (int i = 0; i < p.n_outputs; i++) {
            touch(&p.outputs[i].tensor);
        }
    }
    npy(body, n);
    ot_arena_done(&arena);
    free(body);
    return 0;
}
