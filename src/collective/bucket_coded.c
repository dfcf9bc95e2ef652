/* A bucket by a codec, in parts: one is encoded while others are on the wire, summed, or decoded.
 * Tensors are encoded where they lie, without a packed copy. */
#include "base/mem.h"
#include "collective/bucket_internal.h"

static uint64_t line(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static uint64_t total(const ot_work *w)
{
    uint64_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        n += w->items[i].count;
    }
    return n;
}

static ot_span span_of(const ot_work *w, const ot_item *it, uint64_t at, uint64_t count)
{
    float *out = ot_work_out(w, it);
    const float *in = it->ticket != NULL ? it->ticket->in : NULL;
    return (ot_span){.in = in != NULL ? in + at : NULL,
                     .out = out != NULL ? out + at : NULL,
                     .residual = it->kept != NULL ? it->kept->numbers + at : NULL,
                     .count = count,
                     .before = (float)it->before,
                     .after = (float)it->after};
}

/* Blocks are not cut, so a part may lack less than one. */
static size_t cut(ot_work *w, size_t *ends)
{
    size_t n = 0, parts = 0;
    uint64_t left = OT_CODEC_PART;
    for (size_t i = 0; i < w->n; i++) {
        for (uint64_t at = 0; at < w->items[i].count;) {
            uint64_t rest = w->items[i].count - at;
            uint64_t take = rest <= left ? rest : left / OT_CODEC_BLOCK * OT_CODEC_BLOCK;
            if (take > 0) {
                w->spans[n++] = span_of(w, &w->items[i], at, take);
                at += take;
                left -= take;
            }
            if (at < w->items[i].count) {
                ends[parts++] = n;
                left = OT_CODEC_PART;
            }
        }
    }
    ends[parts++] = n;
    return parts;
}

static void keep(ot_work *w)
{
    for (size_t i = 0; i < w->n && ot_codec_keeps(w->choice.codec); i++) {
        ot_item *it = &w->items[i];
        it->kept = ot_residual_take(w->place.residuals, it->key, it->count);
    }
}

ot_rc ot_work_coded_cut(ot_work *w, ot_error *err)
{
    size_t most = (size_t)(total(w) / (OT_CODEC_PART - OT_CODEC_BLOCK)) + 2;
    OT_AUTO(ot_free_ptr) size_t *ends = ot_calloc(most, sizeof *ends);
    w->spans = ot_calloc(w->n + most, sizeof *w->spans);
    w->parts = ot_calloc(most, sizeof *w->parts);
    if (ends == NULL || w->spans == NULL || w->parts == NULL) {
        return ot_work_short(w, most * sizeof *w->parts, err);
    }
    keep(w);
    w->n_parts = cut(w, ends);
    for (size_t i = 0; i < w->n_parts; i++) {
        size_t first = i == 0 ? 0 : ends[i - 1];
        OT_TRY(ot_twoshot_init(&w->parts[i].shots, w->choice.codec, w->place.rank, w->place.size,
                               w->spans + first, ends[i] - first, err));
    }
    return OT_OK;
}

static void *theirs(const ot_part *p)
{
    return (char *)p->room + line(p->shots.bytes);
}

static ot_rc build(ot_part *p, ot_run *r, overtake_kind kind, ot_error *err)
{
    const ot_team_place *place = &p->work->place;
    ot_coll_shape shape = {.kind = kind,
                           .rank = place->rank,
                           .size = place->size,
                           .elem_bytes = 1,
                           .counts = p->shots.sends,
                           .sends = p->shots.sends,
                           .recvs = p->shots.recvs,
                           .hosts = place->hosts};
    r->dtype = OVERTAKE_U8;
    r->buffers[OT_BUFFER_IN] = p->room;
    r->buffers[OT_BUFFER_OUT] = theirs(p);
    return ot_exec_plan(r, place->cost, &shape, err);
}

static ot_rc begin(ot_part *p, ot_error *err)
{
    uint64_t bytes =
        line(p->shots.bytes) + line(OT_MAX(p->shots.bytes, ot_twoshot_heard(&p->shots))) + 64;
    p->room = ot_pool_take(p->work->place.pool, bytes, &p->room_size);
    if (p->room == NULL) {
        return ot_work_short(p->work, bytes, err);
    }
    ot_twoshot_pack(&p->shots, p->room);
    return build(p, &p->first, OVERTAKE_ALLTOALL, err);
}

static void middle(ot_part *p)
{
    ot_twoshot_sum(&p->shots, p->room, theirs(p));
}

static ot_rc second(ot_part *p, ot_error *err)
{
    return build(p, &p->second, OVERTAKE_ALLGATHER, err);
}

static void end(ot_part *p)
{
    ot_twoshot_unpack(&p->shots, theirs(p));
}

const ot_part_ops ot_part_coded = {begin, middle, second, end};
