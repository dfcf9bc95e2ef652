#include "input/order.h"

#include "base/mem.h"
#include "tap.h"

static bool bijection(uint64_t rows, uint64_t block, uint64_t seed, uint64_t epoch)
{
    ot_order o;
    ot_order_init(&o, rows, true, block, seed, epoch);
    OT_AUTO(ot_free_ptr) unsigned char *seen = ot_calloc(rows, 1);
    for (uint64_t p = 0; p < rows; p++) {
        uint64_t row = ot_order_row(&o, p);
        if (row >= rows || seen[row]++ != 0) {
            printf("# %llu rows, block %llu: position %llu gives row %llu\n",
                   (unsigned long long)rows, (unsigned long long)block, (unsigned long long)p,
                   (unsigned long long)row);
            return false;
        }
    }
    return true;
}

static void test_bijection(void)
{
    bool good = true;
    for (uint64_t rows = 1; rows <= 300; rows++) {
        for (uint64_t block = 0; block <= 20; block++) {
            good = good && bijection(rows, block, rows * 31 + block, block);
        }
    }
    ok(good, "every row once: 1 to 300 rows, blocks of 0 to 20");
    ok(bijection(1000003, 0, 7, 3) && bijection(1000003, 997, 7, 3) && bijection(65536, 256, 1, 0),
       "and of a million");
    ot_order o;
    ot_order_init(&o, UINT64_C(1) << 61, true, 0, 5, 0);
    uint64_t big = ot_order_row(&o, 12345);
    ok(big < UINT64_C(1) << 61 && big != 12345, "2^61 rows cost no more");
    ot_order_init(&o, 10, false, 0, 5, 0);
    ok(ot_order_row(&o, 0) == 0 && ot_order_row(&o, 9) == 9, "not shuffled: as they lie");
}

/* Each of 7 rows stands at each position about as often as at any other: 42 degrees of freedom. */
static void test_uniform(uint64_t block)
{
    enum { N = 7, TRIES = 70000 };
    static unsigned count[N][N];
    memset(count, 0, sizeof count);
    for (uint64_t t = 0; t < TRIES; t++) {
        ot_order o;
        ot_order_init(&o, N, true, block, t / 100, t % 100);
        for (uint64_t p = 0; p < N; p++) {
            count[p][ot_order_row(&o, p)]++;
        }
    }
    double chi2 = 0, want = (double)TRIES / N;
    for (int p = 0; p < N; p++) {
        for (int r = 0; r < N; r++) {
            chi2 += (count[p][r] - want) * (count[p][r] - want) / want;
        }
    }
    ok(chi2 < 86, "rows are where chance would put them, block %d: chi square %.1f of 36",
       (int)block, chi2);
}

static void test_epochs_differ(void)
{
    ot_order a, b, c, again;
    ot_order_init(&a, 10000, true, 0, 1, 0);
    ot_order_init(&b, 10000, true, 0, 1, 1);
    ot_order_init(&c, 10000, true, 0, 2, 0);
    ot_order_init(&again, 10000, true, 0, 1, 0);
    int ab = 0, ac = 0, same = 0, ascending = 0;
    for (uint64_t p = 0; p < 10000; p++) {
        ab += ot_order_row(&a, p) == ot_order_row(&b, p);
        ac += ot_order_row(&a, p) == ot_order_row(&c, p);
        same += ot_order_row(&a, p) == ot_order_row(&again, p);
        ascending += p > 0 && ot_order_row(&a, p) > ot_order_row(&a, p - 1);
    }
    ok(ab < 12 && ac < 12 && same == 10000, "each seed and epoch its own order (%d, %d)", ab, ac);
    ok(ascending > 4700 && ascending < 5300, "neighbours know nothing of each other (%d)",
       ascending);
}

/* With blocks, any 1,000 rows in a row come from a window of 16 blocks, or two of them. */
static void test_locality(void)
{
    enum { ROWS = 100000, BLOCK = 250 };
    ot_order o;
    ot_order_init(&o, ROWS, true, BLOCK, 3, 9);
    size_t worst = 0;
    for (uint64_t at = 0; at + 1000 <= ROWS; at += 1000) {
        bool touched[ROWS / BLOCK] = {0};
        size_t n = 0;
        for (uint64_t p = at; p < at + 1000; p++) {
            uint64_t block = ot_order_row(&o, p) / BLOCK;
            n += !touched[block];
            touched[block] = true;
        }
        worst = OT_MAX(worst, n);
    }
    is_int(worst, 16, "blocks that a batch of 1,000 touches");
}

static void test_deal(void)
{
    bool whole = true, even = true, full = true;
    for (uint64_t rows = 0; rows <= 120; rows++) {
        for (uint64_t batch = 1; batch <= 6; batch++) {
            for (uint64_t size = 1; size <= 5; size++) {
                uint64_t left = rows, round;
                while ((round = ot_deal_round(left, batch, size, false)) > 0) {
                    uint64_t at = 0, sum = 0, n, from;
                    for (uint64_t r = 0; r < size; r++) {
                        n = ot_deal_share(round, r, size, &from);
                        whole = whole && from == at && n <= batch;
                        even = even && (n > 0 || batch == 1 || rows < size);
                        at = from + n;
                        sum += n;
                    }
                    whole = whole && sum == round && round <= left;
                    left -= round;
                }
                whole = whole && left == 0;
                left = rows;
                while ((round = ot_deal_round(left, batch, size, true)) > 0) {
                    full = full && round == batch * size;
                    left -= round;
                }
                full = full && left < batch * size;
            }
        }
    }
    ok(whole, "every position is dealt once, in no batch too large");
    ok(even, "no rank is left without a row where there is one for each");
    ok(full, "with the rest dropped every batch is full");
}

int main(void)
{
    test_bijection();
    test_uniform(0);
    test_uniform(2);
    test_epochs_differ();
    test_locality();
    test_deal();
    return tap_done();
}
