/* The cost model: choices where the formulas cross, text and back, the fit. */
#include "base/mem.h"
#include "base/random.h"
#include "collective/cost.h"
#include "tap.h"

static ot_coll_shape allreduce(int32_t n, uint64_t bytes, const int32_t *hosts)
{
    return (ot_coll_shape){
        .kind = OVERTAKE_ALLREDUCE, .size = n, .elem_bytes = 4, .count = bytes / 4, .hosts = hosts};
}

static ot_algorithm chosen(const ot_cost_model *m, int32_t n, uint64_t bytes, const int32_t *hosts)
{
    ot_coll_shape s = allreduce(n, bytes, hosts);
    return ot_cost_choose(m, &s);
}

static void choices(void)
{
    static const int32_t two_hosts[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    ot_cost_model m = ot_cost_at(1);
    is_int(chosen(&m, 4, 100 << 20, NULL), OT_ALGO_RING, "100 MiB on 4 ranks: the ring");
    is_int(chosen(&m, 4, 1024, NULL), OT_ALGO_DIRECT, "1 KiB on 4 ranks: everybody at once");
    ot_algorithm small = chosen(&m, 1024, 1024, NULL);
    ok(small == OT_ALGO_HALVING || small == OT_ALGO_TREE, "1 KiB on 1,024 ranks: log n hops (%s)",
       ot_algorithm_name(small));
    is_int(chosen(&m, 8, 16 << 20, two_hosts), OT_ALGO_HOSTS, "16 MiB, 2 hosts of 4: by host");
    ok(chosen(&m, 8, 16 << 20, NULL) != OT_ALGO_HOSTS, "nothing by host without hosts");
    ot_coll_shape s = allreduce(8, 0, NULL);
    s.kind = OVERTAKE_BARRIER;
    is_int(ot_cost_choose(&m, &s), OT_ALGO_HALVING, "a barrier has one way");
    ot_coll_shape tiny = allreduce(8, 4, NULL);
    is_near(ot_cost_us(&m, OT_ALGO_TREE, &tiny), 6 * (60 + 10), 1, "3 hops up a tree of 8, 3 down");
    is_near(ot_cost_us(&m, OT_ALGO_RING, &tiny), 14 * (60 + 10), 1, "14 around a ring");
    s.kind = OVERTAKE_BROADCAST;
    s.count = 64 << 20;
    is_int(ot_cost_choose(&m, &s), OT_ALGO_RING, "a large broadcast goes along the chain");
    s.count = 16;
    ok(ot_cost_choose(&m, &s) != OT_ALGO_RING, "a small one does not");
}

/* The choice changes where the two predictions are one, and only there. */
static void crossings(void)
{
    ot_cost_model m = ot_cost_at(1);
    for (int32_t n = 3; n <= 64; n = n * 2 - 1) {
        int wrong = 0, changes = 0;
        ot_algorithm last = OT_ALGOS;
        for (double x = 4; x < 1e9; x *= 1.07) {
            ot_coll_shape s = allreduce(n, (uint64_t)x / 4 * 4, NULL);
            ot_algorithm best = ot_cost_choose(&m, &s);
            for (int a = 0; a < OT_ALGOS; a++) {
                wrong += ot_cost_us(&m, (ot_algorithm)a, &s) < ot_cost_us(&m, best, &s);
            }
            changes += best != last;
            last = best;
        }
        ok(wrong == 0 && changes >= 2, "%d ranks: always the least, %d choices", n, changes);
        is_int(last, OT_ALGO_RING, "the ring in the end");
    }
}

/* A faster wire moves the crossing to larger messages. */
static uint64_t ring_from(const ot_cost_model *m)
{
    uint64_t bytes = 4;
    while (bytes < 1u << 30 && chosen(m, 8, bytes, NULL) != OT_ALGO_RING) {
        bytes += bytes / 16 / 4 * 4 + 4;
    }
    return bytes;
}

static void same_everywhere(void)
{
    static const uint64_t counts[5] = {7, 0, 100000, 3, 12};
    static const int32_t hosts[5] = {2, 2, 0, 0, 2};
    ot_cost_model m = ot_cost_at(1), fast = ot_cost_at(10);
    int differ = 0;
    for (int k = 0; k <= OVERTAKE_BARRIER; k++) {
        ot_coll_shape s = {.kind = (overtake_kind)k,
                           .size = 5,
                           .elem_bytes = 4,
                           .count = 4711,
                           .counts = counts,
                           .sends = counts,
                           .recvs = counts,
                           .hosts = hosts};
        ot_algorithm of_0 = ot_cost_choose(&m, &s);
        differ += !isfinite(ot_cost_us(&m, of_0, &s));
        for (s.rank = 1; s.rank < 5; s.rank++) {
            differ += ot_cost_choose(&m, &s) != of_0;
        }
    }
    is_int(differ, 0, "every kind has a choice, the same on all ranks");
    uint64_t slow_at = ring_from(&m), fast_at = ring_from(&fast);
    ok(slow_at < fast_at, "the ring wins from %llu bytes at 1 Gbit/s, from %llu at 10",
       (unsigned long long)slow_at, (unsigned long long)fast_at);
}

static void text(void)
{
    ot_cost_model m = {{12.5, 4321, true}, {61.125, 117.5, true}, 7, 8000.001, 3000}, back = {0};
    char buf[512], again[512], small[16];
    ot_error err;
    size_t n = ot_cost_format(&m, buf, sizeof buf);
    is_int(n, strlen(buf), "the text's length");
    is_int(ot_cost_format(&m, small, sizeof small), n, "also where it does not fit");
    is_int(ot_cost_parse(buf, &back, &err), OT_OK, "what was written is read");
    ot_cost_format(&back, again, sizeof again);
    is_str(again, buf, "and is the same");
    ok(back.reduce_bytes_per_us == 8000.001 && back.local.measured && back.remote.measured,
       "to the last decimal, as measured");
    is_int(ot_cost_parse("# nothing\r\n\n  remote.latency_us=5 # here\n", &back, &err), OT_OK,
           "comments, blanks");
    ot_cost_model rest = ot_cost_default();
    ok(back.remote.latency_us == 5 && back.local.latency_us == rest.local.latency_us,
       "what is left out is the default's");
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"message_us = 1\nspeed = 3\n", "line 2: 'speed' is not known; there are "},
        {"message_us", "line 1: 'message_us' is not \"key = value\""},
        {"message_us = 1\nmessage_us = 1", "line 2: 'message_us' is there twice"},
        {"message_us = -1", "line 1: message_us: '-1' is not a number above 0"},
        {"message_us = 0", "line 1: message_us: '0' is not a number above 0"},
        {"message_us = 1.2345", "line 1: message_us: '1.2345' is not"},
        {"message_us = 1.", "line 1: message_us: '1.' is not"},
        {"message_us = 1e3", "line 1: message_us: '1e3' is not"},
        {"message_us =", "line 1: message_us: '' is not"},
        {"message_us = 99999999999999", "line 1: message_us: '99999999999999' is not"},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        back.message_us = 42;
        is_int(ot_cost_parse(bad[i].text, &back, &err), OT_INVALID, "refused: %s", bad[i].why);
        ok(strncmp(err.msg, bad[i].why, strlen(bad[i].why)) == 0 && back.message_us == 42,
           "says why: %s", err.msg);
    }
}

static void codecs(void)
{
    ot_cost_model slow = ot_cost_at(1), fast = ot_cost_at(100);
    ot_coll_shape large = allreduce(4, 50 << 20, NULL), small = allreduce(4, 4096, NULL);
    ot_low_sizes none = {0}, low = {.first = 100000, .second = 60000, .within = 12 << 20};
    char text[256];
    ok(ot_cost_codec(&slow, OT_LOSS_ANY, &none, &large).way == OT_WAY_EXACT,
       "nothing is lost over links not measured");
    slow.remote.measured = fast.remote.measured = true;
    ot_codec_choice c = ot_cost_codec(&slow, OT_LOSS_ANY, &none, &large);
    ok(c.way == OT_WAY_CODED && c.codec == OT_CODEC_INT8, "int8 at 1 Gbit/s");
    ot_codec_choice_text(&c, &slow, OT_LOSS_ANY, &large, text, sizeof text);
    ok(strncmp(text, "int8: ", 6) == 0 && strstr(text, "50.0 MiB, 4 ranks, 0.94 Gbit/s") != NULL,
       "and why: %s", text);
    c = ot_cost_codec(&slow, OT_LOSS_ANY, &low, &large);
    ok(c.way == OT_WAY_LOWRANK, "low rank where there are matrices");
    ot_codec_choice_text(&c, &slow, OT_LOSS_ANY, &large, text, sizeof text);
    ok(strncmp(text, "low rank: ", 10) == 0 && strstr(text, ", int8 ") != NULL &&
           strstr(text, ", exact ") != NULL,
       "and why: %s", text);
    is_near(ot_codec_choice_us(&c), c.low_us, 0, "its time");
    ot_low_sizes wider = low;
    wider.columns = 64;
    ok(ot_cost_codec(&slow, OT_LOSS_ANY, &wider, &large).low_us > c.low_us, "columns are work");
    ot_cost_model busy = slow;
    busy.codec_bytes_per_us = slow.remote.bytes_per_us * 8;
    double alone = (3 + 1 / 4.0) * (50 << 20) / busy.codec_bytes_per_us;
    double both = ot_cost_codec(&busy, OT_LOSS_ANY, &none, &large).coded_us;
    ok(both < c.coded_us + 0.2 * alone && both > c.coded_us,
       "work that is hidden behind the wire adds little (%.0f to %.0f us)", alone, c.coded_us);
    c = ot_cost_codec(&slow, OT_LOSS_HALF, &low, &large);
    ok(c.way == OT_WAY_CODED && c.codec == OT_CODEC_BF16, "bfloat16 where no more may be lost");
    ok(ot_cost_codec(&slow, OT_LOSS_F16, &low, &large).codec == OT_CODEC_F16,
       "float16 if asked for");
    ok(ot_cost_codec(&slow, OT_LOSS_NONE, &low, &large).way == OT_WAY_EXACT, "exact is exact");
    ok(ot_cost_codec(&slow, OT_LOSS_ANY, &none, &small).way == OT_WAY_EXACT,
       "4 KiB are not worth it");
    c = ot_cost_codec(&fast, OT_LOSS_ANY, &none, &large);
    ok(c.way == OT_WAY_EXACT, "nor is a wire of 100 Gbit/s");
    ot_codec_choice_text(&c, &fast, OT_LOSS_ANY, &large, text, sizeof text);
    ok(strncmp(text, "exact (", 7) == 0 && strstr(text, "94.00 Gbit/s") != NULL, "and why: %s",
       text);
    large.kind = OVERTAKE_BROADCAST;
    ok(ot_cost_codec(&slow, OT_LOSS_ANY, &none, &large).way == OT_WAY_EXACT, "only sums are coded");
}

static void fits(void)
{
    ot_rng r;
    ot_rng_seed(&r, 11);
    for (int outliers = 0; outliers <= 1; outliers++) {
        ot_cost_sample s[120];
        for (size_t i = 0; i < OT_COUNT(s); i++) {
            s[i].bytes = exp2((double)(i % 20) + 3);
            s[i].us = (50 + s[i].bytes / 117) * (1 + 0.03 * fabs(ot_rng_normal(&r)));
            if (outliers && ot_rng_below(&r, 5) == 0) {
                s[i].us *= 2 + 30 * ot_rng_uniform(&r);
            }
        }
        ot_link_cost link;
        ot_error err;
        is_int(ot_cost_fit(s, OT_COUNT(s), &link, &err), OT_OK, "a fit");
        is_near(link.latency_us, 51, 3, "latency, %s outliers", outliers ? "with" : "without");
        is_near(link.bytes_per_us, 114, 6, "rate");
    }
    static const ot_cost_sample exact[] = {{0, 10}, {1000, 20}, {2000, 30}};
    static const ot_cost_sample flat[] = {{1000, 20}, {1000, 30}}, falling[] = {{0, 10}, {9, 5}},
                                nothing[] = {{1, 0}, {2, 1}};
    ot_link_cost link = {0};
    ot_error err;
    is_int(ot_cost_fit(exact, 3, &link, &err), OT_OK, "three points on a line");
    is_near(link.latency_us, 10, 1e-6, "its latency");
    is_near(link.bytes_per_us, 100, 1e-6, "its rate");
    is_int(ot_cost_fit(flat, 2, &link, &err), OT_INVALID, "one size: %s", err.msg);
    is_int(ot_cost_fit(falling, 2, &link, &err), OT_INVALID, "falling times");
    is_int(ot_cost_fit(nothing, 2, &link, &err), OT_INVALID, "no time: %s", err.msg);
    is_int(ot_cost_fit(exact, 1, &link, &err), OT_INVALID, "one point");
    is_int(ot_cost_fit(exact, 0, &link, &err), OT_INVALID, "none");
    is_near(link.bytes_per_us, 100, 1e-6, "the output is untouched");
}

int main(void)
{
    choices();
    crossings();
    same_everywhere();
    text();
    codecs();
    fits();
    return tap_done();
}
