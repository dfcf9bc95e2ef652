/* Two versions on the same rows, and the accuracy of one: what is counted, whatever the order in
 * which rows, labels and other answers come. */
#include "unit/quality/sample_fixture.h"

#include "stats/labeltest.h"

#define T0 (BEGIN + 100 * BLOCK)

static ot_error last;

/* Who answered how: one row in each of eight. */
static const int candidate_says[] = {1, 1, 1, 1, 0, 0, 2, 1};
static const int champion_says[] = {1, 0, 1, 1, 1, 0, 1, 1};
/* All labels are 1: the candidate is right in 5, the champion in 6; 1 and 2 alone. */

static ot_pair_watch watch_of(int64_t candidate, int64_t champion)
{
    return (ot_pair_watch){
        .candidate = candidate, .champion = champion, .since_us = T0, .margin = 0.1, .alpha = 0.05};
}

static void watch(ot_quality *q, const ot_pair_watch *w)
{
    is_int(ot_quality_watch(q, w, &last), OT_OK, "watched");
}

static ot_pair_state pair_of(ot_quality *q)
{
    ot_pair_state s = {.compared = -1};
    (void)ot_quality_pair(q, &s);
    return s;
}

/* What the eight rows come to, `times` times over. */
static void is_counted(const ot_pair_state *s, int64_t times, const char *how)
{
    ok(s->compared == 8 * times && s->candidate_right == 5 * times &&
           s->champion_right == 6 * times && s->only_candidate_right == times &&
           s->only_champion_right == 2 * times,
       "%s: %d compared, %d and %d right, %d and %d alone", how, (int)s->compared,
       (int)s->candidate_right, (int)s->champion_right, (int)s->only_candidate_right,
       (int)s->only_champion_right);
}

static sample_of answers(const char *deployment, int64_t version, bool shadow, uint64_t first,
                         const int *says)
{
    static uint64_t seq;
    return (sample_of){.deployment = deployment,
                       .version = version,
                       .shadow = shadow,
                       .seq = ++seq,
                       .first = first,
                       .rows = 8,
                       .time_us = T0 + (int64_t)first,
                       .answers = says};
}

/* The three parts of a pair in each of their orders. */
static void test_orders(int64_t champion, int64_t candidate)
{
    static const char orders[6][4] = {"lsL", "lLs", "slL", "sLl", "Lls", "Lsl"};
    told t = {0};
    ot_quality_config cfg = labels_config("orders", &t);
    ot_quality *q = open_quality(&cfg);
    ot_pair_watch w = watch_of(candidate, champion);
    watch(q, &w);
    sample_of known = answers("orders", champion, false, 1 << 20, champion_says);
    is_int(push_sample(q, &known), OT_OK, "the process is known");
    for (uint64_t k = 0; k < 6; k++) {
        uint64_t first = 100 * k + 1;
        ot_label_report r;
        int bad = 0, before = t.pair;
        for (const char *p = orders[k]; *p != 0; p++) {
            sample_of s = answers("orders", *p == 'l' ? champion : candidate, *p == 's', first,
                                  *p == 'l' ? champion_says : candidate_says);
            label_run l = {.first = first, .n = 8, .value = 1};
            bad += *p == 'L' ? label_rows(q, &l, &r) != OT_OK : push_sample(q, &s) != OT_OK;
            bad += p[1] != 0 && t.pair != before;
        }
        is_int(bad, 0, "%s: nothing is told before all three are there", orders[k]);
        is_int(t.pair, before + 1, "then it is");
        ot_pair_state s = pair_of(q);
        is_counted(&s, (int64_t)k + 1, orders[k]);
    }
    ot_pair_state before = pair_of(q);
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    ot_pair_state after = pair_of(q);
    ok(memcmp(&before, &after, sizeof after) == 0, "a restart changes nothing");
    watch(q, &w);
    after = pair_of(q);
    ok(memcmp(&before, &after, sizeof after) == 0, "nor does the same watch again");
    is_int(after.verdict, OT_PAIR_UNDECIDED, "with this margin nothing is decided");
    w.margin = 0.9;
    watch(q, &w);
    after = pair_of(q);
    is_counted(&after, 6, "another margin: counted anew from what the store has");
    is_int(after.verdict, OT_PAIR_NOT_WORSE, "and judged by it");

    ot_label_report r;
    is_int(label_rows(q, &(label_run){.first = 1, .n = 8, .value = 0}, &r), OT_OK, "corrections");
    after = pair_of(q);
    ok(after.compared == 48 && after.candidate_right == 27 && after.champion_right == 32 &&
           after.only_candidate_right == 6 && after.only_champion_right == 11,
       "are counted: %d, %d, %d, %d, %d", (int)after.compared, (int)after.candidate_right,
       (int)after.champion_right, (int)after.only_candidate_right, (int)after.only_champion_right);
    is_int(
        label_rows(q, &(label_run){.first = 100, .n = 40, .each = (double[40]){2, 2, 0, 1, 2}}, &r),
        OT_OK, "rows of which some have no pair, or no label yet");
    before = pair_of(q);
    w.margin = 0.3;
    watch(q, &w);
    after = pair_of(q);
    ok(before.compared == after.compared && before.candidate_right == after.candidate_right &&
           before.champion_right == after.champion_right &&
           before.only_candidate_right == after.only_candidate_right &&
           before.only_champion_right == after.only_champion_right && after.candidate_right != 27,
       "one by one is as all together (%d and %d right)", (int)after.candidate_right,
       (int)after.champion_right);
    w.since_us = T0 + 301;
    watch(q, &w);
    after = pair_of(q);
    is_counted(&after, 3, "since later: only the later rows");
    is_int(label_rows(q, &(label_run){.first = 1, .n = 8, .value = 1}, &r), OT_OK,
           "corrections of earlier rows");
    after = pair_of(q);
    is_counted(&after, 3, "change nothing");
    sample_of late[] = {answers("orders", champion, false, 50, champion_says),
                        answers("orders", candidate, true, 50, candidate_says)};
    ok(push_sample(q, &late[0]) == OT_OK && push_sample(q, &late[1]) == OT_OK &&
           label_rows(q, &(label_run){.first = 50, .n = 8, .value = 1}, &r) == OT_OK,
       "earlier rows that come late");
    after = pair_of(q);
    is_counted(&after, 3, "are not of this comparison");
    ot_quality_unwatch(q);
    ok(!ot_quality_pair(q, &after), "unwatched");
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    ok(!ot_quality_pair(q, &after), "for good");
    ot_quality_destroy(q);
}

/* A canary answers some rows itself; the others it answers as a shadow. */
static void test_canary(int64_t champion, int64_t candidate)
{
    told t = {0};
    ot_quality_config cfg = labels_config("canary", &t);
    ot_quality *q = open_quality(&cfg);
    ot_pair_watch w = watch_of(candidate, champion);
    w.candidate_live_only = true;
    static const int right[] = {1, 1, 1, 1, 1, 1, 1, 1};
    watch(q, &w);
    int bad = 0;
    ot_label_report r;
    sample_of early = answers("canary", candidate, false, 5000, right);
    early.time_us = T0 - SECOND;
    bad += push_sample(q, &early) != OT_OK;
    is_int(pair_of(q).candidate_answered, 0, "what it answered before does not count");
    for (uint64_t k = 0; k < 50; k++) {
        bool own = k % 25 == 0;
        sample_of a = answers("canary", champion, own, 10 * k + 1, right);
        sample_of b = answers("canary", candidate, !own, 10 * k + 1, right);
        bad += push_sample(q, &a) != OT_OK || push_sample(q, &b) != OT_OK;
        bad += label_rows(q, &(label_run){.first = 10 * k + 1, .n = 8, .value = 1}, &r) != OT_OK;
    }
    is_int(bad, 0, "all was taken");
    ot_pair_state s = pair_of(q);
    is_int(s.candidate_answered, 16, "the candidate answered 16 rows itself");
    ok(s.compared == 400 && s.verdict == OT_PAIR_UNDECIDED,
       "400 rows are the same, but its own are too few to say so (%d, %d)", (int)s.compared,
       (int)s.verdict);
    w.candidate_live_only = false;
    watch(q, &w);
    s = pair_of(q);
    ok(s.verdict == OT_PAIR_NOT_WORSE && s.compared == 400 && s.upper < w.margin,
       "all rows together are enough (upper end %.3f)", s.upper);
    is_int(s.candidate_answered, 16, "counted from the store as it was when they came");
    w.since_us = T0 + 251;
    watch(q, &w);
    is_int(pair_of(q).candidate_answered, 8, "since then, half of them");
    w.since_us = T0;
    w.candidate_live_only = true;
    watch(q, &w);

    static const int wrong[] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (uint64_t k = 50; k < 80; k++) {
        sample_of a = answers("canary", champion, false, 10 * k + 1, right);
        sample_of b = answers("canary", candidate, true, 10 * k + 1, wrong);
        bad += push_sample(q, &a) != OT_OK || push_sample(q, &b) != OT_OK;
        bad += label_rows(q, &(label_run){.first = 10 * k + 1, .n = 8, .value = 1}, &r) != OT_OK;
    }
    is_int(bad, 0, "all was taken");
    s = pair_of(q);
    ok(s.verdict == OT_PAIR_WORSE && s.lower > 0 && s.e_worse >= 20,
       "where it answered as a shadow it can be found worse (lower end %.3f)", s.lower);
    is_int(s.candidate_answered, 16, "by rows that nobody got from it");
    ot_quality_destroy(q);
}

/* What the verdict stands on is what is shown: the candidate's own rows where those decided. */
static void test_canary_counts(int64_t champion, int64_t candidate)
{
    told t = {0};
    ot_quality_config cfg = labels_config("arm", &t);
    ot_quality *q = open_quality(&cfg);
    ot_pair_watch w = watch_of(candidate, champion);
    static const int right[] = {1, 1, 1, 1, 1, 1, 1, 1};
    int bad = 0;
    ot_label_report r;
    w.candidate_live_only = true;
    watch(q, &w);
    for (uint64_t k = 0; k < 100; k++) {
        bool own = k % 2 == 0;
        sample_of a = answers("arm", champion, own, 10 * k + 1, right);
        sample_of b = answers("arm", candidate, !own, 10 * k + 1, right);
        bad += push_sample(q, &a) != OT_OK || push_sample(q, &b) != OT_OK;
        bad += label_rows(q, &(label_run){.first = 10 * k + 1, .n = 8, .value = 1}, &r) != OT_OK;
    }
    ot_pair_state s = pair_of(q);
    is_int(bad, 0, "all was taken");
    ok(s.verdict == OT_PAIR_NOT_WORSE && s.compared == 400 && s.candidate_right == 400 &&
           s.champion_right == 400,
       "its own 400 of 800 rows: verdict %d on %d rows, %d and %d right", (int)s.verdict,
       (int)s.compared, (int)s.candidate_right, (int)s.champion_right);
    is_int(label_rows(q, &(label_run){.first = 1, .n = 8, .value = 0}, &r), OT_OK, "corrections");
    s = pair_of(q);
    ok(s.verdict == OT_PAIR_NOT_WORSE && s.compared == 400 && s.candidate_right == 392 &&
           s.champion_right == 392,
       "reach its own rows too: %d compared, %d and %d right", (int)s.compared,
       (int)s.candidate_right, (int)s.champion_right);
    ot_quality_destroy(q);
}

static void test_bad_watch(int64_t champion, int64_t candidate)
{
    told t = {0};
    ot_quality_config cfg = labels_config("watch", &t);
    ot_quality *q = open_quality(&cfg);
    ot_pair_watch good = watch_of(candidate, champion), w;
    ot_pair_state s;
    w = good;
    w.margin = 0;
    is_int(ot_quality_watch(q, &w, &last), OT_INVALID, "%s", last.msg);
    w.margin = 1;
    is_int(ot_quality_watch(q, &w, &last), OT_INVALID, "%s", last.msg);
    w.margin = NAN;
    is_int(ot_quality_watch(q, &w, &last), OT_INVALID, "%s", last.msg);
    w = good;
    w.alpha = 0;
    is_int(ot_quality_watch(q, &w, &last), OT_INVALID, "%s", last.msg);
    w.alpha = 1;
    is_int(ot_quality_watch(q, &w, &last), OT_INVALID, "%s", last.msg);
    w = good;
    w.candidate = 0;
    is_int(ot_quality_watch(q, &w, &last), OT_INVALID, "%s", last.msg);
    w = good;
    w.champion = candidate;
    is_int(ot_quality_watch(q, &w, &last), OT_INVALID, "%s", last.msg);
    ok(!ot_quality_pair(q, &s), "no watch came of it");
    watch(q, &good);
    ok(ot_quality_pair(q, &s) && s.compared == 0 && s.verdict == OT_PAIR_UNDECIDED &&
           s.lower == -1 && s.upper == 1,
       "without rows nothing is known");
    ot_quality_destroy(q);
}

static void test_accuracy(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("share", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    ot_accuracy a = {0};
    is_int(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, &last), OT_OK, "no labels");
    ok(a.labelled == 0 && a.right == 0 && a.lower == 0 && a.upper == 1, "nothing is known");
    sample_of s = {.deployment = "share", .version = v, .rows = 400, .time_us = T0};
    double each[400];
    ot_meanseq m;
    ok(ot_meanseq_init(&m, 1, &last) == OT_OK, "the mean by hand");
    for (int i = 0; i < 400; i++) {
        each[i] = i % 5 != 0;
        ot_meanseq_add(&m, each[i] == 0);
    }
    is_int(push_sample(q, &s), OT_OK, "rows");
    is_int(label_rows(q, &(label_run){.n = 400, .each = each}, &r), OT_OK, "labels");
    is_int(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, &last), OT_OK, "accuracy");
    ot_interval want = ot_meanseq_complement(&m, 0.05);
    ok(a.labelled == 400 && a.right == 320, "320 of 400");
    is_near(a.estimate, 0.8, 1e-12, "are 80%%");
    is_near(a.lower, want.lo, 1e-12, "at least");
    is_near(a.upper, want.hi, 1e-12, "at most");
    ok(a.lower > 0.65 && a.upper < 0.9, "an interval that says something (%.3f to %.3f)", a.lower,
       a.upper);
    is_int(ot_quality_accuracy(q, v, T0 + 100, T0 + 200, &a, &last), OT_OK, "of some time");
    ok(a.labelled == 100 && a.right == 80, "from its start, before its end");
    is_int(ot_quality_accuracy(q, v + 1, 0, INT64_MAX, &a, &last), OT_OK, "another version");
    is_int(a.labelled, 0, "has none");
    ot_quality_destroy(q);
}

int main(void)
{
    fixture_start();
    int64_t v = add_version("digits", false), w = add_version("digits", false);
    test_orders(v, w);
    test_canary(v, w);
    test_canary_counts(v, w);
    test_bad_watch(v, w);
    test_accuracy(v);
    fixture_end();
    return tap_done();
}
