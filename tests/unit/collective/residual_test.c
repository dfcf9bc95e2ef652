/* What is kept of tensors: found again, dropped when it has not come for long, never while in use.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "collective/residual.h"
#include "tap.h"

static bool same(ot_residuals *r, uint64_t key, uint64_t count, const ot_residual *x)
{
    ot_residual *found = ot_residual_find(r, key, count);
    ot_residual_release(r, found);
    return found == x;
}

static uint64_t rehash(uint8_t *bytes, uint64_t n)
{
    uint64_t hash = ot_hash_stable(bytes, n - 8, 0);
    memcpy(bytes + n - 8, &hash, sizeof hash);
    return n;
}

static void saves(void)
{
    ot_residuals r, back;
    ot_error err;
    uint8_t bytes[256], bad[256];
    uint64_t n = 0, again = 0;
    ot_residuals_init(&r);
    ot_residuals_init(&back);
    ot_residual *a = ot_residual_take(&r, 7, 5), *b = ot_residual_take(&r, 9, 2);
    a->numbers[4] = 3;
    b->numbers[0] = -1;
    is_int(ot_residuals_save(&r, NULL, 0, &n, &err), OT_PRECONDITION, "not in a step: %s", err.msg);
    ot_residual_release(&r, a);
    ot_residual_release(&r, b);
    is_int(ot_residuals_save(&r, NULL, 0, &n, &err), OT_OK, "what it takes");
    is_int(n, 16 + 16 + 20 + 16 + 8 + 8, "is a head, two items and a hash");
    memset(bytes, 0x5a, sizeof bytes);
    ok(ot_residuals_save(&r, bytes, n - 1, &n, &err) == OT_OK && bytes[0] == 0x5a,
       "too little room: nothing is written");
    ok(ot_residuals_save(&r, bytes, n, &n, &err) == OT_OK && bytes[n] == 0x5a, "saved");
    ot_residual_release(&back, ot_residual_take(&back, 1, 1));
    is_int(ot_residuals_load(&back, bytes, n, &err), OT_OK, "loaded");
    ot_residual *c = ot_residual_take(&back, 7, 5);
    ok(c != NULL && c->numbers[4] == 3 && !c->fresh && ot_residual_find(&back, 1, 1) == NULL,
       "in the place of what was there");
    is_int(ot_residuals_load(&back, bytes, n, &err), OT_PRECONDITION, "not in a step: %s", err.msg);
    ot_residual_release(&back, c);
    ok(ot_residual_take(&back, 9, 3) == NULL, "another size is another tensor");
    static const struct {
        const char *what;
        int at;
        uint8_t byte;
        bool rehashed;
    } wrong[] = {{"a byte is another one", 40, 1, false},
                 {"another version", 6, '2', true},
                 {"more items", 8, 3, true},
                 {"fewer items", 8, 1, true},
                 {"a huge count", 31, 0xff, true},
                 {"many items", 15, 1, true},
                 {"an item twice", 16, 9, true},
                 {"a key of 0", 16, 0, true},
                 {"an infinity", 51, 0x7f, true}};
    for (size_t i = 0; i < OT_COUNT(wrong); i++) {
        memcpy(bad, bytes, n);
        bad[wrong[i].at] = wrong[i].byte;
        if (strcmp(wrong[i].what, "an infinity") == 0) {
            bad[50] = 0x80;
        }
        uint64_t m = wrong[i].rehashed ? rehash(bad, n) : n;
        is_int(ot_residuals_load(&back, bad, m, &err), OT_DATA_LOSS, "%s: %s", wrong[i].what,
               err.msg);
    }
    is_int(ot_residuals_load(&back, bytes, 9, &err), OT_DATA_LOSS, "cut short: %s", err.msg);
    ok(ot_residuals_save(&back, bad, sizeof bad, &again, &err) == OT_OK && again == n &&
           memcmp(bad, bytes, n) == 0,
       "nothing has changed");
    is_int(ot_residuals_load(&back, NULL, 0, &err), OT_OK, "no bytes: nothing is kept");
    ok(ot_residual_find(&back, 7, 5) == NULL &&
           ot_residuals_save(&back, bad, sizeof bad, &again, &err) == OT_OK && again == 0,
       "which takes no bytes");
    ot_residuals_done(&r);
    ot_residuals_done(&back);
}

int main(void)
{
    saves();
    ot_residuals r;
    ot_residuals_init(&r);
    ot_residual *a = ot_residual_take(&r, 7, 600);
    ok(a->fresh && a->numbers[599] == 0, "begins as zeros");
    a->numbers[3] = 5;
    ot_residual_release(&r, a);
    ot_residual *again = ot_residual_take(&r, 7, 600);
    ok(again == a && !a->fresh && a->numbers[3] == 5, "is there the next time");
    ok(same(&r, 7, 600, a) && ot_residual_find(&r, 8, 600) == NULL, "is found");
    ot_residual *used = ot_residual_take(&r, 9, 1);
    ot_residual_release(&r, a);
    for (uint64_t k = 100; k < 40000; k++) {
        ot_residual_release(&r, ot_residual_take(&r, k % 2 == 0 ? 7 : k, 600));
    }
    ok(same(&r, 7, 600, a) && a->numbers[3] == 5, "what comes again stays");
    ok(r.n < 8192 && ot_residual_find(&r, 101, 600) == NULL, "what comes no more goes (%zu kept)",
       r.n);
    ok(same(&r, 9, 1, used), "but not while it is in use");
    ot_residual_release(&r, used);
    ot_residual_release(&r, NULL);
    ot_mem_fail_nth(1);
    ok(ot_residual_take(&r, 50000, 4) == NULL, "no memory");
    ot_mem_fail_nth(0);
    ok(ot_residual_take(&r, 50001, UINT64_C(3) << 30) == NULL, "more than is ever kept");
    ot_residuals_done(&r);
    return tap_done();
}
