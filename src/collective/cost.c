#include "collective/cost.h"

#include "base/mem.h"
#include "collective/schedule_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Many streams into one host get less out of the wire than one, and a hop that does not stream
 * leaves it idle while it sums. */
#define CROWDED 1.1
/* Halving where the number of ranks is no power of two: some ranks serve two. */
#define UNEVEN 1.25

/* What the formulas ask of a shape. */
typedef struct view {
    double n, hosts, per_host; /* ranks, hosts, ranks of the fullest */
    double bytes;              /* of the whole */
    double hop_us;             /* a message's way over the slowest link, and its handling */
    double latency_us, message_us;
    double alone, shared; /* us per byte over it: one rank of the host sends, all do */
    double reduce;        /* us per byte */
    bool measured;
} view;

static double hops(double n)
{
    return ceil(log2(n));
}

static void count_hosts(const ot_coll_shape *s, view *v)
{
    v->hosts = s->hosts == NULL ? s->size : 0;
    v->per_host = s->hosts == NULL ? 1 : 0;
    for (int32_t first = 0; s->hosts != NULL && first < s->size; first++) {
        int32_t before = first - 1;
        while (before >= 0 && s->hosts[before] != s->hosts[first]) {
            before--;
        }
        if (before >= 0) {
            continue;
        }
        double ranks = 0;
        for (int32_t r = first; r < s->size; r++) {
            ranks += s->hosts[r] == s->hosts[first];
        }
        v->hosts++;
        v->per_host = OT_MAX(v->per_host, ranks);
    }
}

static double bytes_of(const ot_coll_shape *s)
{
    double count = (double)s->count;
    const uint64_t *counts = s->kind == OVERTAKE_ALLTOALL ? s->sends
                             : s->kind == OVERTAKE_ALLGATHER || s->kind == OVERTAKE_REDUCESCATTER
                                 ? s->counts
                                 : NULL;
    for (int32_t r = 0; counts != NULL && r < s->size; r++) {
        count = (r == 0 ? 0 : count) + (double)counts[r];
    }
    return count * s->elem_bytes;
}

static view look(const ot_cost_model *m, const ot_coll_shape *s)
{
    view v = {.n = s->size, .bytes = bytes_of(s), .message_us = m->message_us};
    count_hosts(s, &v);
    ot_link_cost link = v.hosts > 1 ? m->remote : m->local;
    v.latency_us = link.latency_us;
    v.hop_us = link.latency_us + m->message_us;
    v.alone = 1 / link.bytes_per_us;
    v.shared = v.alone * (v.hosts > 1 ? v.per_host : 1);
    v.reduce = 1 / m->reduce_bytes_per_us;
    v.measured = link.measured;
    return v;
}

static double halving_factor(double n)
{
    return CROWDED * (exp2(hops(n)) > n ? UNEVEN : 1);
}

/* Inside the fullest host there and back, and between hosts. */
static double allreduce_hosts(const ot_cost_model *m, const view *v)
{
    double h = v->hosts, l = v->per_host;
    if (h < 2 || l < 2) {
        return INFINITY;
    }
    double inside = 2 * (l - 1) * (m->local.latency_us + v->message_us) +
                    (l - 1) / l * v->bytes * (2 / m->local.bytes_per_us + v->reduce);
    double between = 2 * (h - 1) * v->hop_us + (h - 1) / h * v->bytes * (2 * v->alone + v->reduce);
    return inside + between;
}

static double allreduce(const ot_cost_model *m, ot_algorithm a, const view *v)
{
    double share = (v->n - 1) / v->n * v->bytes, others = v->n - 1, log_n = hops(v->n);
    switch (a) {
    case OT_ALGO_RING:
        return 2 * others * v->hop_us + share * (2 * v->alone + v->reduce);
    case OT_ALGO_HALVING:
        return 2 * log_n * v->hop_us + halving_factor(v->n) * share * (2 * v->shared + v->reduce);
    case OT_ALGO_TREE:
        return 2 * log_n * v->hop_us + log_n * v->bytes * (2 * v->alone + v->reduce);
    case OT_ALGO_DIRECT:
        return v->bytes <= OT_DIRECT_ONCE_BYTES ? v->latency_us + 2 * others * v->message_us +
                                                      others * v->bytes * (v->shared + v->reduce)
                                                : 2 * v->latency_us + 4 * others * v->message_us +
                                                      CROWDED * share * (2 * v->shared + v->reduce);
    case OT_ALGO_HOSTS:
        return allreduce_hosts(m, v);
    default:
        return INFINITY;
    }
}

/* Half an allreduce: every rank's part to all, or all parts of a rank to it. */
static double half(ot_algorithm a, const view *v, double reduce)
{
    double share = (v->n - 1) / v->n * v->bytes, others = v->n - 1;
    switch (a) {
    case OT_ALGO_RING:
        return others * v->hop_us + share * (v->alone + reduce);
    case OT_ALGO_HALVING:
        return hops(v->n) * v->hop_us + halving_factor(v->n) * share * (v->shared + reduce);
    case OT_ALGO_DIRECT:
        return v->latency_us + 2 * others * v->message_us + CROWDED * share * (v->shared + reduce);
    default:
        return INFINITY;
    }
}

static double broadcast(const ot_cost_model *m, ot_algorithm a, const view *v)
{
    switch (a) {
    case OT_ALGO_RING:
        return (v->n - 1) * v->hop_us + v->bytes * v->alone;
    case OT_ALGO_TREE:
        return hops(v->n) * (v->hop_us + v->bytes * v->alone);
    case OT_ALGO_DIRECT:
        return v->latency_us + (v->n - 1) * (v->message_us + v->bytes * v->alone);
    case OT_ALGO_HOSTS:
        return v->hosts < 2 || v->per_host < 2
                   ? INFINITY
                   : hops(v->hosts) * (v->hop_us + v->bytes * v->alone) +
                         hops(v->per_host) * (m->local.latency_us + v->message_us +
                                              v->bytes / m->local.bytes_per_us);
    default:
        return INFINITY;
    }
}

static double predict(const ot_cost_model *m, ot_algorithm a, overtake_kind kind, const view *v)
{
    switch (kind) {
    case OVERTAKE_ALLREDUCE:
        return allreduce(m, a, v);
    case OVERTAKE_ALLGATHER:
        return half(a, v, 0);
    case OVERTAKE_REDUCESCATTER:
        return half(a, v, v->reduce);
    case OVERTAKE_BROADCAST:
        return broadcast(m, a, v);
    case OVERTAKE_ALLTOALL:
        return a == OT_ALGO_DIRECT ? half(a, v, 0) : INFINITY;
    case OVERTAKE_BARRIER:
        return a == OT_ALGO_HALVING ? hops(v->n) * v->hop_us : INFINITY;
    default:
        return INFINITY;
    }
}

double ot_cost_us(const ot_cost_model *m, ot_algorithm a, const ot_coll_shape *shape)
{
    view v = look(m, shape);
    return predict(m, a, shape->kind, &v);
}

ot_algorithm ot_cost_choose(const ot_cost_model *m, const ot_coll_shape *shape)
{
    view v = look(m, shape);
    ot_algorithm best = OT_ALGO_RING;
    double best_us = INFINITY;
    for (int a = 0; a < OT_ALGOS; a++) {
        double us = predict(m, (ot_algorithm)a, shape->kind, &v);
        if (us < best_us) {
            best = (ot_algorithm)a;
            best_us = us;
        }
    }
    return best;
}

/* Work on the processor and bytes on the wire, one after the other in each part, while other parts
 * do the other. */
static double overlapped(double wire, double work, double parts)
{
    return OT_MAX(wire, work) + OT_MIN(wire, work) / OT_MAX(parts, 1);
}

/* As DIRECT in two steps, with fewer bytes; every number is encoded, decoded, and decoded again, a
 * rank's share of the sums too. */
static double two_shots(const ot_cost_model *m, ot_codec c, const view *v)
{
    uint64_t n = (uint64_t)(v->bytes / sizeof(float));
    double share = (v->n - 1) / v->n * (double)ot_codec_bytes(c, n);
    return 2 * v->latency_us + 4 * (v->n - 1) * v->message_us +
           overlapped(CROWDED * share * 2 * v->shared,
                      (3 + 1 / v->n) * v->bytes / m->codec_bytes_per_us,
                      (double)n / (double)OT_CODEC_PART);
}

/* Two exact sums. The three passes over the matrices take as long as a codec's two for four
 * columns, of which half grows with the columns (bench/lowrank_bench.c); they overlap with the sums
 * of the buckets around. */
static double low_rank(const ot_cost_model *m, const ot_low_sizes *low, const ot_coll_shape *shape)
{
    double work = (1 + (double)low->columns / 4) * (double)low->within * sizeof(float) /
                  m->codec_bytes_per_us;
    double wire = 0;
    for (int part = 0; part < 2; part++) {
        ot_coll_shape s = *shape;
        s.count = part == 0 ? low->first : low->second;
        wire += ot_cost_us(m, ot_cost_choose(m, &s), &s);
    }
    return low->within > 0 ? OT_MAX(wire, work) : INFINITY;
}

ot_codec_choice ot_cost_codec(const ot_cost_model *m, ot_loss loss, const ot_low_sizes *low,
                              const ot_coll_shape *shape)
{
    view v = look(m, shape);
    ot_codec_choice c = {
        .exact = ot_cost_choose(m, shape), .coded_us = INFINITY, .low_us = INFINITY};
    c.exact_us = predict(m, c.exact, shape->kind, &v);
    if (shape->kind != OVERTAKE_ALLREDUCE || shape->size < 2) {
        return c;
    }
    static const ot_codec first[] = {[OT_LOSS_HALF] = OT_CODEC_BF16,
                                     [OT_LOSS_F16] = OT_CODEC_F16,
                                     [OT_LOSS_ANY] = OT_CODEC_INT8};
    if (loss != OT_LOSS_NONE) {
        c.codec = first[loss];
        c.coded_us = two_shots(m, c.codec, &v);
    }
    if (loss == OT_LOSS_ANY) {
        c.low_us = low_rank(m, low, shape);
    }
    if (v.measured && OT_MIN(c.low_us, c.coded_us) * 1.1 < c.exact_us) {
        c.way = c.low_us < c.coded_us ? OT_WAY_LOWRANK : OT_WAY_CODED;
    }
    return c;
}

double ot_codec_choice_us(const ot_codec_choice *c)
{
    return c->way == OT_WAY_LOWRANK ? c->low_us
           : c->way == OT_WAY_CODED ? c->coded_us
                                    : c->exact_us;
}

void ot_codec_choice_text(const ot_codec_choice *c, const ot_cost_model *m, ot_loss loss,
                          const ot_coll_shape *shape, char *text, size_t size)
{
    view v = look(m, shape);
    double gbit = (v.hosts > 1 ? m->remote : m->local).bytes_per_us / 125;
    if (loss == OT_LOSS_NONE) {
        snprintf(text, size, "exact: asked for");
        return;
    }
    if (!v.measured) {
        snprintf(text, size, "exact: the links have not been measured (overtake tune)");
        return;
    }
    const struct {
        const char *name;
        double us;
        bool taken;
    } ways[] = {{"low rank", c->low_us, c->way == OT_WAY_LOWRANK},
                {ot_codec_name(c->codec), c->coded_us, c->way == OT_WAY_CODED},
                {ot_algorithm_name(c->exact), c->exact_us, c->way == OT_WAY_EXACT}};
    const char *taken = "";
    char others[128] = "", own[32] = "";
    for (size_t i = 0; i < OT_COUNT(ways); i++) {
        size_t n = strlen(others);
        if (ways[i].taken) {
            taken = ways[i].name;
            snprintf(own, sizeof own, "%.1f ms", ways[i].us / 1000);
        } else if (isfinite(ways[i].us)) {
            snprintf(others + n, sizeof others - n, ", %s %.1f ms",
                     i + 1 == OT_COUNT(ways) ? "exact" : ways[i].name, ways[i].us / 1000);
        }
    }
    snprintf(text, size, "%s%s%s: %s%s (%.1f MiB, %d ranks, %.2f Gbit/s)",
             c->way == OT_WAY_EXACT ? "exact (" : "", taken, c->way == OT_WAY_EXACT ? ")" : "", own,
             others, v.bytes / 1048576, (int)shape->size, gbit);
}
