#include "collective/wire.h"

#include <stdio.h>
#include <string.h>

#define MAGIC 0x3143544fu /* "OTC1" */

static void put(uint8_t *p, uint64_t x, int n)
{
    for (int i = 0; i < n; i++) {
        p[i] = (uint8_t)(x >> (8 * i));
    }
}

static uint64_t get(const uint8_t *p, int n)
{
    uint64_t x = 0;
    for (int i = 0; i < n; i++) {
        x |= (uint64_t)p[i] << (8 * i);
    }
    return x;
}

void ot_wire_name(char out[OT_WIRE_NAME], const char *name)
{
    size_t n = strlen(name);
    if (n < OT_WIRE_NAME) {
        memset(out, 0, OT_WIRE_NAME);
        memcpy(out, name, n);
    } else {
        memcpy(out, "...", 3);
        memcpy(out + 3, name + n - (OT_WIRE_NAME - 4), OT_WIRE_NAME - 3);
    }
}

void ot_wire_write(const ot_wire_header *h, uint8_t out[OT_WIRE_HEADER])
{
    put(out, MAGIC, 4);
    put(out + 4, h->message, 4);
    put(out + 8, h->epoch, 8);
    put(out + 16, h->seq, 8);
    put(out + 24, h->hash, 8);
    put(out + 32, h->bytes, 8);
    out[40] = h->lane;
    out[41] = h->kind;
    out[42] = h->dtype;
    out[43] = h->reduction;
    put(out + 44, (uint32_t)h->late.rank, 4);
    memcpy(out + 48, h->name, OT_WIRE_NAME);
    put(out + 48 + OT_WIRE_NAME, h->late.ns, 8);
}

ot_rc ot_wire_read(const uint8_t in[OT_WIRE_HEADER], ot_wire_header *out, ot_error *err)
{
    if (get(in, 4) != MAGIC || in[41] >= OVERTAKE_KINDS || in[42] >= OVERTAKE_DTYPES ||
        in[43] >= OVERTAKE_REDUCTIONS || in[48 + OT_WIRE_NAME - 1] != 0) {
        return ot_fail(err, OT_DATA_LOSS,
                       "what came is no header of a message; the ranks run different versions or "
                       "the stream was damaged");
    }
    out->message = (uint32_t)get(in + 4, 4);
    out->epoch = get(in + 8, 8);
    out->seq = get(in + 16, 8);
    out->hash = get(in + 24, 8);
    out->bytes = get(in + 32, 8);
    out->lane = in[40];
    out->kind = in[41];
    out->dtype = in[42];
    out->reduction = in[43];
    memcpy(out->name, in + 48, OT_WIRE_NAME);
    out->late.rank = (int32_t)(uint32_t)get(in + 44, 4);
    out->late.ns = get(in + 48 + OT_WIRE_NAME, 8);
    return OT_OK;
}

static const char *const kinds[OVERTAKE_KINDS] = {
    "allreduce", "allgather", "reducescatter", "alltoall", "broadcast", "barrier", "join"};

const char *ot_wire_kind_text(uint8_t kind)
{
    return kind < OVERTAKE_KINDS ? kinds[kind] : "unknown";
}

static void describe(const ot_wire_header *h, char *out, size_t n)
{
    snprintf(out, n, "%s of '%s' (%s, %s, %llu bytes, operation %llu.%llu of lane %u, plan %llu)",
             kinds[h->kind], h->name, ot_dtype_text((overtake_dtype)h->dtype),
             ot_reduction_text((overtake_reduction)h->reduction), (unsigned long long)h->bytes,
             (unsigned long long)h->seq, (unsigned long long)h->message, h->lane,
             (unsigned long long)h->epoch);
}

ot_rc ot_wire_compare(const ot_wire_header *got, const ot_wire_header *want, ot_error *err)
{
    if (got->message == want->message && got->epoch == want->epoch && got->seq == want->seq &&
        got->hash == want->hash && got->bytes == want->bytes && got->lane == want->lane &&
        got->kind == want->kind && got->dtype == want->dtype && got->reduction == want->reduction) {
        return OT_OK;
    }
    char theirs[300], ours[300];
    describe(got, theirs, sizeof theirs);
    describe(want, ours, sizeof ours);
    return ot_fail(err, OT_PRECONDITION, "sent %s%s where this rank does %s", theirs,
                   strcmp(got->name, want->name) == 0 && got->hash != want->hash
                       ? " with another shape or other companions"
                       : "",
                   ours);
}
