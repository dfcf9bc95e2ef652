/* The two streams of the plan: up the tree and down again.
 *
 *     message:  u8 direction | u64 number | records
 *     record:   u8 type | u32 bytes | content
 *
 * Up, the number is that of the last message from above which the sender had taken in; down, it
 * counts the messages. All numbers are little-endian; a text is u32 bytes and the bytes.
 *
 * READY      signature, u32 first rank that has it, u32 gap, u64 phases, u32 n, n times (u32 rank,
 * u64 dims[0]) CONFLICT   name, text              OFF        u64 epoch, name to leave out or ""
 * BEGUN      u64 buckets             CLOSED, JOINING
 * JOINED     u32 last rank           STALL      name           LACK  name, u32 rank
 * ORDER      u32 n, n signatures, u32 rows, rows times u64
 * FAIL       name, text              MARK, LEARN, FREEZE
 * ADOPT      u64 epoch, u32 buckets, each u32 n, n times u32 index in the learnt set
 * THAW       u64 buckets, name       ALL_JOINED u32 last rank  WHO name  LACKS name, u32 rank */
#include "collective/plan_internal.h"

#include <string.h>

void plan_put_u32(ot_str *s, uint32_t x)
{
    ot_str_add(s, &x, sizeof x);
}

void plan_put_u64(ot_str *s, uint64_t x)
{
    ot_str_add(s, &x, sizeof x);
}

void plan_put_text(ot_str *s, const char *text)
{
    uint32_t n = (uint32_t)strlen(text);
    plan_put_u32(s, n);
    ot_str_add(s, text, n);
}

static void get(plan_reader *r, void *out, size_t n)
{
    if (r->bad || (size_t)(r->end - r->at) < n) {
        r->bad = true;
        memset(out, 0, n);
        return;
    }
    memcpy(out, r->at, n);
    r->at += n;
}

uint32_t plan_get_u32(plan_reader *r)
{
    uint32_t x;
    get(r, &x, sizeof x);
    return x;
}

uint64_t plan_get_u64(plan_reader *r)
{
    uint64_t x;
    get(r, &x, sizeof x);
    return x;
}

void plan_get_text(plan_reader *r, char *out, size_t size)
{
    uint32_t n = plan_get_u32(r);
    out[0] = '\0';
    if (n >= size) {
        r->bad = true;
        return;
    }
    get(r, out, n);
    out[n] = '\0';
    r->bad = r->bad || memchr(out, '\0', n) != NULL;
}

void plan_put_signature(ot_str *s, const ot_signature *sig)
{
    plan_put_text(s, sig->name);
    const uint8_t head[4] = {sig->kind, sig->dtype, sig->reduction, (uint8_t)sig->ndim};
    ot_str_add(s, head, sizeof head);
    plan_put_u32(s, (uint32_t)sig->root);
    ot_str_add(s, sig->dims, (size_t)sig->ndim * sizeof *sig->dims);
    plan_put_u64(s, sig->splits);
    ot_str_add(s, &sig->prescale, sizeof sig->prescale);
    ot_str_add(s, &sig->postscale, sizeof sig->postscale);
}

void plan_get_signature(plan_reader *r, ot_signature *out)
{
    memset(out, 0, sizeof *out);
    plan_get_text(r, out->name, sizeof out->name);
    uint8_t head[4];
    get(r, head, sizeof head);
    if (head[0] >= OVERTAKE_KINDS || head[1] >= OVERTAKE_DTYPES || head[2] >= OVERTAKE_REDUCTIONS ||
        head[3] > OVERTAKE_DIMS_MAX) {
        r->bad = true;
        return;
    }
    out->kind = head[0];
    out->dtype = head[1];
    out->reduction = head[2];
    out->ndim = head[3];
    out->root = (int32_t)plan_get_u32(r);
    get(r, out->dims, (size_t)out->ndim * sizeof *out->dims);
    for (int32_t i = 0; i < out->ndim; i++) {
        r->bad = r->bad || out->dims[i] < 0;
    }
    out->splits = plan_get_u64(r);
    get(r, &out->prescale, sizeof out->prescale);
    get(r, &out->postscale, sizeof out->postscale);
}

size_t plan_record_begin(ot_str *s, plan_record type)
{
    ot_str_addc(s, (char)type);
    size_t at = s->len;
    plan_put_u32(s, 0);
    return at;
}

void plan_record_end(ot_str *s, size_t begun)
{
    if (s->failed) {
        return;
    }
    uint32_t n = (uint32_t)(s->len - begun - 4);
    memcpy(s->data + begun, &n, sizeof n);
}

static void send_out(ot_plan *p, int32_t to, const ot_str *message)
{
    p->stats.control_messages++;
    p->stats.control_bytes += message->len;
    p->ops.send(p->ops.arg, to, message->data, message->len);
}

static void flush(ot_plan *p, ot_str *records, uint8_t direction, uint64_t number)
{
    ot_str m;
    ot_str_init(&m);
    ot_str_addc(&m, (char)direction);
    plan_put_u64(&m, number);
    ot_str_add(&m, records->data, records->len);
    if (m.failed || records->failed) {
        (void)ot_fail(&p->broken, OT_EXHAUSTED, "no memory for a control message of %zu bytes",
                      records->len);
    } else if (direction == 0) {
        send_out(p, p->parent, &m);
    } else {
        for (unsigned k = 0; k < p->n_kids; k++) {
            send_out(p, p->kid0 + (int32_t)k, &m);
        }
    }
    ot_str_clear(records);
    records->failed = false;
    ot_str_done(&m);
}

void plan_flush_up(ot_plan *p)
{
    if (p->up.len > 0 || p->up.failed) {
        flush(p, &p->up, 0, p->seen);
    }
}

void plan_flush_down(ot_plan *p)
{
    if (p->down.len > 0 || p->down.failed) {
        flush(p, &p->down, 1, p->seen++);
    }
}
