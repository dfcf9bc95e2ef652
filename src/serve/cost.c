#include "serve/cost.h"

#include "base/mem.h"

#define EWMA_SHIFT 3

unsigned ot_cost_bucket(int64_t rows)
{
    if (rows < 2) {
        return 0;
    }
    unsigned b = 63u - (unsigned)__builtin_clzll((unsigned long long)rows);
    return OT_MIN(b, OT_COST_BUCKETS - 1u);
}

static uint64_t seen(const ot_cost *c, unsigned b)
{
    return atomic_load_explicit(&c->ns[b], memory_order_relaxed);
}

void ot_cost_add(ot_cost *c, int64_t rows, uint64_t ns)
{
    unsigned b = ot_cost_bucket(rows);
    /* Sizes inside a bucket differ by less than two: scaled to the bucket's own size. */
    uint64_t base = (uint64_t)1 << b;
    uint64_t scaled = rows > 0 ? (uint64_t)((double)ns * (double)base / (double)rows) : ns;
    scaled = OT_MAX(scaled, 1u);
    uint64_t old = seen(c, b);
    uint64_t now = scaled;
    if (old != 0) {
        /* One run that was interrupted says little: it counts for at most four times the average.
         */
        uint64_t capped = OT_MIN(scaled, old * 4);
        now = old - (old >> EWMA_SHIFT) + (capped >> EWMA_SHIFT);
        now = OT_MAX(now, 1u);
    }
    atomic_store_explicit(&c->ns[b], now, memory_order_relaxed);
}

uint64_t ot_cost_predict(const ot_cost *c, int64_t rows)
{
    unsigned b = ot_cost_bucket(rows);
    rows = OT_MAX(rows, 1);
    for (unsigned d = 0; d < OT_COST_BUCKETS; d++) {
        if (d <= b && seen(c, b - d) != 0) {
            double size = (double)((uint64_t)1 << (b - d));
            return (uint64_t)((double)seen(c, b - d) * (double)rows / size);
        }
        if (b + d < OT_COST_BUCKETS && seen(c, b + d) != 0) {
            return seen(c, b + d); /* not more than the larger batch took */
        }
    }
    return 0;
}

int64_t ot_cost_best(const ot_cost *c, int64_t rows, int64_t max)
{
    int64_t most = OT_MIN(rows, max);
    int64_t best = most;
    double best_row = (double)ot_cost_predict(c, most) / (double)OT_MAX(most, 1);
    for (unsigned b = 0; b < OT_COST_BUCKETS && ((int64_t)1 << b) < most; b++) {
        /* A tenth better, so that noise does not cut batches up. */
        double row = (double)seen(c, b) / (double)((int64_t)1 << b);
        if (row > 0 && row < 0.9 * best_row) {
            best = (int64_t)1 << b;
            best_row = row;
        }
    }
    return best;
}
