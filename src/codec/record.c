#include "codec/record.h"

#include <string.h>

enum { HEAD = 28, MAGIC = 0x5152544f /* "OTRQ" */ };

static void put_u32(char *p, uint32_t x)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (char)(uint8_t)(x >> (8 * i));
    }
}

static uint32_t get_u32(const char *p)
{
    uint32_t x = 0;
    for (int i = 0; i < 4; i++) {
        x |= (uint32_t)(uint8_t)p[i] << (8 * i);
    }
    return x;
}

/* Appends the blobs behind the JSON that begins at `from`; both lengths go into the record's head.
 */
static ot_rc finish(ot_str *out, size_t from, const ot_oip_encoded *e, size_t head, ot_error *err)
{
    size_t json = out->len - from;
    for (int i = 0; i < e->n_blobs; i++) {
        ot_str_add(out, e->blobs[i].iov_base, e->blobs[i].iov_len);
    }
    if (out->failed) {
        return ot_fail(err, OT_EXHAUSTED, "record: out of memory");
    }
    if (out->len - from > OT_RECORD_BODY_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "record: a body of %zu bytes; at most %u are kept",
                       out->len - from, OT_RECORD_BODY_MAX);
    }
    put_u32(out->data + head, (uint32_t)json);
    put_u32(out->data + head + 4, (uint32_t)(out->len - from));
    return OT_OK;
}

static ot_rc write_bodies(const ot_oip_request *request, const ot_oip_response *answer, ot_str *out,
                          size_t head, ot_error *err)
{
    ot_oip_encoded e;
    size_t from = out->len;
    OT_TRY(ot_oip_request_encode(request, out, &e, err));
    OT_TRY(finish(out, from, &e, head + 4, err));
    from = out->len;
    OT_TRY(ot_oip_response_encode(answer, out, &e, err));
    return finish(out, from, &e, head + 12, err);
}

ot_rc ot_record_write(uint64_t at_ns, const ot_oip_request *request, const ot_oip_response *answer,
                      ot_str *out, ot_error *err)
{
    char bytes[HEAD] = {0};
    size_t head = out->len;
    put_u32(bytes, MAGIC);
    put_u32(bytes + 20, (uint32_t)at_ns);
    put_u32(bytes + 24, (uint32_t)(at_ns >> 32));
    ot_str_add(out, bytes, sizeof bytes);
    ot_rc rc = out->failed ? ot_fail(err, OT_EXHAUSTED, "record: out of memory")
                           : write_bodies(request, answer, out, head, err);
    if (rc != OT_OK) { /* no half of a record */
        out->len = OT_MIN(out->len, head);
        out->data[out->len] = '\0';
    }
    return rc;
}

ot_rc ot_record_begin(const char *file, size_t n, size_t *at, ot_error *err)
{
    size_t magic = sizeof OT_RECORD_FILE_MAGIC - 1;
    if (n < magic || memcmp(file, OT_RECORD_FILE_MAGIC, magic) != 0) {
        return ot_fail(err, OT_INVALID, "this is no recording: it does not begin with %s",
                       OT_RECORD_FILE_MAGIC);
    }
    *at = magic;
    return OT_OK;
}

ot_rc ot_record_next(const char *file, size_t n, size_t *at, ot_record *out, bool *more_out,
                     ot_error *err)
{
    const char *p = file + *at;
    *more_out = false;
    if (n - *at < HEAD) {
        return OT_OK;
    }
    ot_record r = {.request_head = get_u32(p + 4),
                   .request_len = get_u32(p + 8),
                   .answer_head = get_u32(p + 12),
                   .answer_len = get_u32(p + 16),
                   .at_ns = get_u32(p + 20) | (uint64_t)get_u32(p + 24) << 32};
    if (get_u32(p) != MAGIC || r.request_head > r.request_len || r.answer_head > r.answer_len ||
        r.request_len > OT_RECORD_BODY_MAX || r.answer_len > OT_RECORD_BODY_MAX) {
        return ot_fail(err, OT_INVALID, "the recording is damaged at byte %zu", *at);
    }
    if (n - *at - HEAD < r.request_len + r.answer_len) {
        return OT_OK;
    }
    r.request = p + HEAD;
    r.answer = r.request + r.request_len;
    *at += HEAD + r.request_len + r.answer_len;
    *out = r;
    *more_out = true;
    return OT_OK;
}
