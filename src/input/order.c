#include "input/order.h"

#include "base/mem.h"

#include <assert.h>

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Halves of fewer bits leave traces of the order: few rows are walked to in a larger domain. */
#define BITS_MIN 8u

/* A Feistel network over the smallest power of two that holds n, walked until it is below n (cycle
 * walking: Black, Rogaway 2002): at most one more step on average. `tweak` makes networks of the
 * same keys differ. */
static uint64_t permute(const ot_order *o, uint64_t tweak, uint64_t n, uint64_t x)
{
    if (n < 2) {
        return 0;
    }
    unsigned bits = 64 - (unsigned)__builtin_clzll(n - 1);
    bits = OT_MAX(bits, BITS_MIN);
    unsigned low = bits / 2, high = bits - low;
    uint64_t t = mix(tweak);
    do {
        /* An even number of rounds, so that the halves are as long at the end as at the start. */
        uint64_t a = x >> low, b = x & ((UINT64_C(1) << low) - 1);
        for (int r = 0; r < OT_ORDER_ROUNDS; r++) {
            unsigned wide = r % 2 == 0 ? high : low;
            uint64_t next = (a ^ mix(b ^ o->keys[r] ^ t)) & ((UINT64_C(1) << wide) - 1);
            a = b;
            b = next;
        }
        x = a << low | b;
    } while (x >= n);
    return x;
}

void ot_order_init(ot_order *o, uint64_t rows, bool shuffled, uint64_t block, uint64_t seed,
                   uint64_t epoch)
{
    assert(rows < UINT64_C(1) << 62);
    *o = (ot_order){.rows = rows, .shuffled = shuffled, .block = block};
    uint64_t key = mix(mix(seed) ^ epoch);
    for (int r = 0; r < OT_ORDER_ROUNDS; r++) {
        key = mix(key);
        o->keys[r] = key;
    }
    if (block == 0 || block >= rows) {
        o->block = 0;
        return;
    }
    o->blocks = rows / block;
    o->short_rows = rows % block;
    o->short_slot = o->short_rows == 0 ? o->blocks : mix(key) % (o->blocks + 1);
}

/* Rows before slot k, where slots hold blocks in the order in which they are read. */
static uint64_t before_slot(const ot_order *o, uint64_t k)
{
    return k > o->short_slot ? (k - 1) * o->block + o->short_rows : k * o->block;
}

static uint64_t in_blocks(const ot_order *o, uint64_t p)
{
    uint64_t slots = o->blocks + (o->short_rows != 0);
    /* The slot of the position: one off at most, behind the short one. */
    uint64_t k = p / o->block;
    k += k < slots - 1 && before_slot(o, k + 1) <= p;
    uint64_t first = k / OT_ORDER_WINDOW * OT_ORDER_WINDOW;
    uint64_t last = OT_MIN(first + OT_ORDER_WINDOW, slots);
    uint64_t from = before_slot(o, first), rows = before_slot(o, last) - from;
    uint64_t q = from + permute(o, first + 1, rows, p - from);
    k = q / o->block;
    k += k < slots - 1 && before_slot(o, k + 1) <= q;
    uint64_t within = q - before_slot(o, k);
    if (o->short_rows != 0 && k == o->short_slot) {
        return o->blocks * o->block + within;
    }
    return permute(o, 0, o->blocks, k - (k > o->short_slot)) * o->block + within;
}

uint64_t ot_order_row(const ot_order *o, uint64_t position)
{
    assert(position < o->rows);
    if (!o->shuffled) {
        return position;
    }
    return o->block == 0 ? permute(o, 0, o->rows, position) : in_blocks(o, position);
}

uint64_t ot_deal_round(uint64_t left, uint64_t batch, uint64_t size, bool drop)
{
    uint64_t full = batch * size;
    if (drop || left >= full + size || left == full) {
        return left >= full ? full : 0;
    }
    if (left < full || batch == 1) {
        return OT_MIN(left, full);
    }
    /* A full round would leave fewer rows than ranks: two rounds of about the same
     * size. */
    return left - left / 2;
}

uint64_t ot_deal_share(uint64_t rows, uint64_t rank, uint64_t size, uint64_t *at)
{
    uint64_t each = rows / size, more = rows % size;
    *at = rank * each + OT_MIN(rank, more);
    return each + (rank < more);
}
