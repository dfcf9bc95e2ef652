#include "serve/cost.h"

#include "tap.h"

static ot_cost empty(void)
{
    ot_cost c = {0};
    return c;
}

int main(void)
{
    is_int(ot_cost_bucket(-5), 0, "no rows count as one");
    is_int(ot_cost_bucket(1), 0, "1");
    is_int(ot_cost_bucket(3), 1, "3 is in the bucket of 2");
    is_int(ot_cost_bucket(64), 6, "64");
    is_int(ot_cost_bucket(INT64_MAX), OT_COST_BUCKETS - 1, "huge ones share the last");

    ot_cost c = empty();
    is_int(ot_cost_predict(&c, 8), 0, "nothing seen, nothing predicted");
    is_int(ot_cost_best(&c, 40, 64), 40, "nothing seen: all at once");
    ot_cost_add(&c, 1, 1000);
    is_int(ot_cost_predict(&c, 1), 1000, "what was seen");
    is_int(ot_cost_predict(&c, 8), 8000, "larger: in proportion");
    ot_cost_add(&c, 8, 2000);
    is_int(ot_cost_predict(&c, 8), 2000, "8 rows seen");
    is_int(ot_cost_predict(&c, 12), 3000, "inside a bucket in proportion");
    is_int(ot_cost_best(&c, 8, 64), 8, "8 cost less a row than 1");
    is_int(ot_cost_best(&c, 100, 64), 64, "never more than may be merged");

    /* 8 rows take 300 a row, 32 take 900 a row: run 8. */
    c = empty();
    ot_cost_add(&c, 1, 1000);
    ot_cost_add(&c, 8, 2400);
    ot_cost_add(&c, 32, 28800);
    is_int(ot_cost_best(&c, 32, 64), 8, "a dearer size is cut");
    ot_cost d = empty();
    ot_cost_add(&d, 8, 2400);
    ot_cost_add(&d, 32, 9900);
    is_int(ot_cost_best(&d, 32, 64), 32, "a few per cent are noise");

    c = empty();
    ot_cost_add(&c, 1, 1000);
    ot_cost_add(&c, 1, 1000000);
    ok(ot_cost_predict(&c, 1) <= 1400, "one run that was interrupted moves the average little");
    for (int i = 0; i < 100; i++) {
        ot_cost_add(&c, 1, 5000);
    }
    ok(ot_cost_predict(&c, 1) > 4800 && ot_cost_predict(&c, 1) <= 5000, "it follows a change");
    return tap_done();
}
