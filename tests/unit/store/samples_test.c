/* Rows of segments, labels and outcomes: what the evidence's tests do not reach. */
#include "store/samples.h"

#include "base/mem.h"
#include "store/blob.h"
#include "store/models.h"
#include "store/outcomes.h"
#include "tap.h"

#include <stdlib.h>

#define D "d"

static ot_store *store;
static ot_error last;
static ot_digest blob;

typedef ot_rc body(ot_txn *txn, ot_error *err);
static ot_rc run_body(ot_txn *txn, void *arg, ot_error *err)
{
    body *const *fn = arg;
    return (*fn)(txn, err);
}
static ot_rc writing(body *fn)
{
    last = (ot_error){0};
    return ot_store_write(store, run_body, &fn, &last);
}
static ot_rc reading(body *fn)
{
    last = (ot_error){0};
    return ot_store_read(store, run_body, &fn, &last);
}

/* --- segments */

static ot_segment_row add;
static ot_answer answers[8];

static ot_rc insert(ot_txn *txn, ot_error *err)
{
    return ot_segment_insert(txn, &add, &add.id, err);
}

/* A segment of rows first, first + step, ... */
static ot_rc segment(const char *deployment, uint64_t first, uint64_t step, size_t n, bool shadow,
                     int64_t time_us)
{
    for (size_t i = 0; i < n; i++) {
        answers[i] = (ot_answer){.seq = first + i * step,
                                 .time_us = time_us,
                                 .prediction = i == 0 ? (double)NAN : (double)i,
                                 .probability = 0.5f,
                                 .row = (uint32_t)(n - 1 - i)};
    }
    add = (ot_segment_row){.deployment = deployment,
                           .incarnation = UINT64_MAX, /* does not fit an int64 */
                           .version = 3,
                           .shadow = shadow,
                           .start_us = time_us,
                           .end_us = time_us + 1,
                           .size_bytes = 100,
                           .blob = blob,
                           .meta = "{\"a\":1}",
                           .answers = answers,
                           .n = n};
    return writing(insert);
}

static int found, shadows;
static ot_segment_row seen;
static ot_answer seen_answers[8];

static ot_rc see(void *arg, const ot_segment_row *r, ot_error *err)
{
    (void)arg;
    (void)err;
    found++;
    shadows += r->shadow;
    seen = *r;
    memcpy(seen_answers, r->answers, OT_MIN(r->n, OT_COUNT(seen_answers)) * sizeof *r->answers);
    seen.meta = strcmp(r->meta, "{\"a\":1}") == 0 ? "right" : "wrong";
    return OT_OK;
}

static uint64_t lo, hi;
static bool live_only;
static ot_rc over(ot_txn *txn, ot_error *err)
{
    return ot_segments_over(txn, D, UINT64_MAX, lo, hi, live_only, see, NULL, err);
}

static int over_range(uint64_t first, uint64_t end)
{
    found = shadows = 0;
    lo = first;
    hi = end;
    if (reading(over) != OT_OK) {
        ok(false, "rows %d to %d: %s", (int)first, (int)end, last.msg);
    }
    return found;
}

static void test_segments(void)
{
    is_int(segment(D, 10, 1, 4, false, 1000), OT_OK, "rows 10 to 13: %s", last.msg);
    is_int(over_range(0, 9), 0, "not before");
    is_int(over_range(0, 10), 1, "from the first");
    is_int(over_range(13, 20), 1, "to the last");
    is_int(over_range(14, 20), 0, "not after");
    is_int(over_range(11, 11), 1, "and between");
    ok(seen.incarnation == UINT64_MAX && seen.version == 3 && !seen.shadow &&
           seen.start_us == 1000 && seen.end_us == 1001 && seen.size_bytes == 100 &&
           ot_digest_equal(&seen.blob, &blob) && seen.n == 4 && strcmp(seen.meta, "right") == 0,
       "as it was put in");
    ok(isnan(seen_answers[0].prediction) && seen_answers[3].prediction == 3 &&
           seen_answers[3].seq == 13 && seen_answers[3].row == 0 &&
           seen_answers[1].probability == 0.5f,
       "with its answers");

    is_int(segment(D, 100000, 300000, 3, false, 2000), OT_OK, "rows far apart");
    is_int(over_range(100001, 165000), 0, "are not found between");
    is_int(over_range(400000, 400000), 1, "but each where it is");
    is_int(over_range(700000 - OT_SPAN_MAX + 1, 700000), 1, "also at the end of the widest range");
    is_int(segment(D, 1000000, OT_SPAN_MAX - 1, 2, false, 2000), OT_OK, "the widest span");
    is_int(over_range(1000000 + OT_SPAN_MAX - 1, 1000000 + OT_SPAN_MAX - 1), 1,
           "is found by its last row");
    is_int(over_range(1000001, 1000001), 1, "and may hold any between");
    is_int(segment(D, 10, 1, 2, true, 3000), OT_OK, "a shadow of rows 10 and 11");
    is_int(over_range(10, 10), 2, "is there too");
    is_int(shadows, 1, "as one");
    live_only = true;
    is_int(over_range(10, 10), 1, "unless it is not asked for");
    live_only = false;
    is_int(segment("e", 10, 1, 2, false, 1), OT_OK, "another deployment");
    is_int(over_range(10, 10), 2, "has its own");
    is_int(segment(D, INT64_MAX - 1, 1, 2, false, 3000), OT_OK, "the last rows there can be");
    is_int(over_range(INT64_MAX, INT64_MAX), 1, "are found");
}

static void test_bad_segments(void)
{
    is_int(segment(D, (uint64_t)INT64_MAX, 1, 2, false, 1), OT_INVALID, "%s", last.msg);
    is_int(segment(D, 50, 0, 2, false, 1), OT_INVALID, "a number twice: %s", last.msg);
    is_int(segment(D, 50, 1, 0, false, 1), OT_INVALID, "no rows: %s", last.msg);
    (void)segment("e", 50, 1, 1, false, 1);
    add.n = OT_SEGMENT_ROWS_MAX + 1;
    is_int(writing(insert), OT_INVALID, "too many: %s", last.msg);
    add.n = 1;
    add.blob = ot_sha256_of("x", 1);
    is_int(writing(insert), OT_NOT_FOUND, "without its bytes: %s", last.msg);
    add.blob = blob;
    is_int(reading(insert), OT_PRECONDITION, "in a read: %s", last.msg);
    lo = 5;
    hi = 4;
    is_int(reading(over), OT_INVALID, "no range: %s", last.msg);
    hi = lo + OT_SPAN_MAX;
    is_int(reading(over), OT_INVALID, "too wide a range: %s", last.msg);
}

static int64_t rows_live, oldest, deleted;
static uint64_t freed, want_bytes;
static int64_t want_before;
static bool live;

static ot_rc measure(ot_txn *txn, ot_error *err)
{
    OT_TRY(ot_segment_rows_live(txn, D, 3, 2000, &rows_live, err));
    OT_TRY(ot_models_blob_live(txn, &blob, &live, err));
    return ot_segments_oldest(txn, D, &oldest, err);
}

static ot_rc expire(ot_txn *txn, ot_error *err)
{
    return ot_segments_expire(txn, D, want_before, want_bytes, &deleted, &freed, err);
}

static int64_t expired(int64_t before_us, uint64_t bytes)
{
    want_before = before_us;
    want_bytes = bytes;
    if (writing(expire) != OT_OK) {
        ok(false, "expire: %s", last.msg);
    }
    return deleted;
}

static void test_expire(void)
{
    is_int(reading(measure), OT_OK, "%s", last.msg);
    is_int(rows_live, 3 + 2 + 2, "live rows since then: no shadow, nothing earlier");
    is_int(oldest, 1000, "the oldest");
    ok(live, "its blob is referred to");
    is_int(expired(0, 0), 0, "nothing is too old or too much");
    is_int(expired(1001, 0), 0, "one that ended at that time stays");
    is_int(expired(1002, 0), 1, "one that ended before goes");
    is_int(freed, 100, "and frees its bytes");
    is_int(over_range(12, 12), 0, "its rows are gone");
    is_int(expired(0, 101), 2, "as many as the bytes need, the oldest first");
    is_int(over_range(10, 10), 1, "the shadow is still there");
    for (int i = 0; i < OT_SEGMENTS_EXPIRE_MAX; i++) {
        if (segment(D, 5000 + (uint64_t)i, 1, 1, false, 10) != OT_OK) {
            ok(false, "%s", last.msg);
        }
    }
    is_int(expired(INT64_MAX, UINT64_MAX), OT_SEGMENTS_EXPIRE_MAX, "in batches");
    is_int(expired(INT64_MAX, UINT64_MAX), 2, "until all are gone");
    is_int(reading(measure), OT_OK, "%s", last.msg);
    ok(live, "another deployment still refers to the blob");
    ok(rows_live == 0 && oldest == 0, "here is none left");
}

static ot_rc expire_other(ot_txn *txn, ot_error *err)
{
    OT_TRY(ot_segments_expire(txn, "e", INT64_MAX, 0, &deleted, &freed, err));
    return ot_models_blob_live(txn, &blob, &live, err);
}

static void test_blob(void)
{
    is_int(writing(expire_other), OT_OK, "the last segments go");
    ok(deleted == 2 && !live, "and with it the reference");
}

/* --- keys */

static ot_rc keys(ot_txn *txn, ot_error *err)
{
    uint64_t incarnation = 0, seq = 0;
    OT_TRY(ot_row_key_set(txn, D, "k", UINT64_MAX, 7, 100, err));
    OT_TRY(ot_row_key_set(txn, D, "k", 2, 8, 99, err));
    OT_TRY(ot_row_key_get(txn, D, "k", &incarnation, &seq, err));
    ok(incarnation == UINT64_MAX && seq == 7, "an older row does not take a key");
    OT_TRY(ot_row_key_set(txn, D, "k", 2, 8, 100, err));
    OT_TRY(ot_row_key_get(txn, D, "k", &incarnation, &seq, err));
    ok(incarnation == 2 && seq == 8, "a newer one does");
    is_int(ot_row_key_get(txn, "e", "k", &incarnation, &seq, &last), OT_NOT_FOUND, "%s", last.msg);
    for (int i = 0; i < 5; i++) {
        char key[8];
        snprintf(key, sizeof key, "o%d", i);
        OT_TRY(ot_row_key_set(txn, D, key, 1, 1, i, err));
    }
    OT_TRY(ot_row_keys_expire(txn, D, 4, 3, err));
    is_int(ot_row_key_get(txn, D, "o2", &incarnation, &seq, &last), OT_NOT_FOUND, "old ones go");
    OT_TRY(ot_row_key_get(txn, D, "o3", &incarnation, &seq, err));
    OT_TRY(ot_row_keys_expire(txn, D, 4, 3, err));
    is_int(ot_row_key_get(txn, D, "o3", &incarnation, &seq, &last), OT_NOT_FOUND, "in batches");
    OT_TRY(ot_row_key_get(txn, D, "o4", &incarnation, &seq, err));
    return ot_row_key_get(txn, D, "k", &incarnation, &seq, err);
}

/* --- labels and outcomes */

static int n_labels, joined;
static char sources[64];

static ot_rc see_label(void *arg, const ot_label_row *r, ot_error *err)
{
    (void)arg;
    (void)err;
    n_labels++;
    joined += r->joined;
    snprintf(sources + strlen(sources), sizeof sources - strlen(sources), "%d=%g(%s) ", (int)r->seq,
             r->value, r->source);
    return OT_OK;
}

static ot_rc put_label(ot_txn *txn, uint64_t seq, double value, const char *source,
                       int64_t received_us, ot_label_put *out, ot_error *err)
{
    ot_label_row r = {.incarnation = UINT64_MAX,
                      .seq = seq,
                      .value = value,
                      .source = source,
                      .time_us = 1,
                      .received_us = received_us};
    return ot_label_set(txn, D, &r, out, err);
}

static ot_rc labels(ot_txn *txn, ot_error *err)
{
    ot_label_put put;
    int64_t waiting = 0, newest = -1;
    bool known = true;
    OT_TRY(ot_labels_last(txn, D, &newest, err));
    is_int(newest, 0, "no label yet");
    OT_TRY(put_label(txn, 5, 1, "a", 50, &put, err));
    is_int(put, OT_LABEL_NEW, "new");
    OT_TRY(put_label(txn, 5, 1, "b", 60, &put, err));
    is_int(put, OT_LABEL_SAME, "the same");
    OT_TRY(put_label(txn, 5, 2, "c", 60, &put, err));
    is_int(put, OT_LABEL_CORRECTED, "corrected");
    OT_TRY(put_label(txn, 3, 1, "d", 40, &put, err));
    OT_TRY(put_label(txn, 9, 1, "e", 90, &put, err));
    OT_TRY(ot_labels_last(txn, D, &newest, err));
    is_int(newest, 90, "the newest");
    OT_TRY(ot_labels_waiting(txn, D, 50, &waiting, err));
    is_int(waiting, 2, "of those since then all wait");
    OT_TRY(ot_label_set_joined(txn, D, UINT64_MAX, 5, err));
    OT_TRY(ot_labels_waiting(txn, D, 0, &waiting, err));
    is_int(waiting, 2, "one less");
    OT_TRY(ot_labels_over(txn, D, UINT64_MAX, 3, 8, see_label, NULL, err));
    is_str(sources, "3=1(d) 5=2(c) ", "in a range, by number, corrected with its source");
    is_int(joined, 1, "and whether it joined");
    OT_TRY(ot_labels_over(txn, D, 1, 0, INT64_MAX, see_label, NULL, err));
    is_int(n_labels, 2, "each process has its own");
    sources[0] = 0;
    OT_TRY(ot_labels_received(txn, D, see_label, NULL, err));
    is_str(sources, "3=1(d) 5=2(c) 9=1(e) ", "all, in the order in which they came");
    n_labels -= 3;
    is_int(put_label(txn, (uint64_t)INT64_MAX + 1, 1, "", 1, &put, &last), OT_RANGE, "%s",
           last.msg);
    is_int(put_label(txn, 1, NAN, "", 1, &put, &last), OT_RANGE, "%s", last.msg);
    OT_TRY(ot_incarnation_known(txn, D, UINT64_MAX, &known, err));
    ok(!known, "an incarnation is known by its pushes, not by labels");
    OT_TRY(ot_outcomes_expire(txn, D, 60, 1, err));
    OT_TRY(ot_labels_over(txn, D, UINT64_MAX, 0, 100, see_label, NULL, err));
    is_int(n_labels, 4, "the oldest goes");
    OT_TRY(ot_outcomes_expire(txn, D, 60, 10, err));
    n_labels = 0;
    OT_TRY(ot_labels_over(txn, D, UINT64_MAX, 0, 100, see_label, NULL, err));
    is_int(n_labels, 1, "what came later stays");
    return OT_OK;
}

static ot_rc outcome(ot_txn *txn, uint64_t seq, int64_t version, bool shadow, int right,
                     ot_error *err)
{
    bool added = false;
    ot_outcome_row r = {.incarnation = 1,
                        .seq = seq,
                        .version = version,
                        .shadow = shadow,
                        .right = right,
                        .prediction = right < 0 ? (double)NAN : right,
                        .label = 1,
                        .time_us = (int64_t)seq,
                        .probability = 0.5,
                        .joined_us = (int64_t)seq + 7};
    OT_TRY(ot_outcome_add(txn, D, &r, &added, err));
    return added ? OT_OK : ot_fail(err, OT_EXISTS, "it is there");
}

static int n_outcomes;
static int64_t first_time, shadow_of[4];
static ot_rc see_outcome(void *arg, const ot_outcome_row *r, ot_error *err)
{
    (void)arg;
    (void)err;
    first_time = n_outcomes++ == 0 ? r->time_us : first_time;
    return OT_OK;
}
static ot_rc see_version(void *arg, int64_t version, bool shadow, ot_error *err)
{
    (void)arg;
    (void)err;
    shadow_of[version] = shadow ? 2 : 1;
    return OT_OK;
}

static ot_rc outcomes(ot_txn *txn, ot_error *err)
{
    ot_outcome_row r;
    ot_pair_counts all, arm;
    OT_TRY(outcome(txn, 1, 1, false, 1, err));
    OT_TRY(outcome(txn, 1, 2, true, 0, err));
    OT_TRY(outcome(txn, 2, 1, false, 0, err));
    OT_TRY(outcome(txn, 2, 2, true, 1, err));
    OT_TRY(outcome(txn, 3, 1, true, 1, err));
    OT_TRY(outcome(txn, 3, 2, false, 1, err));
    OT_TRY(outcome(txn, 4, 1, false, 1, err));
    OT_TRY(outcome(txn, 5, 1, false, -1, err));
    OT_TRY(outcome(txn, 5, 2, true, 1, err));
    is_int(outcome(txn, 1, 2, false, 1, &last), OT_EXISTS, "an outcome is added once");
    OT_TRY(ot_outcome_get(txn, D, 1, 1, 2, &r, err));
    ok(r.right == 0 && r.shadow && r.probability == 0.5 && r.label == 1 && r.joined_us == 8,
       "as it first was");
    OT_TRY(ot_outcome_get(txn, D, 1, 5, 1, &r, err));
    ok(r.right == -1 && isnan(r.prediction), "also without right and wrong");
    is_int(ot_outcome_get(txn, D, 1, 4, 2, &r, &last), OT_NOT_FOUND, "%s", last.msg);
    OT_TRY(ot_outcomes_pairs(txn, D, 2, 1, 0, &all, &arm, err));
    ok(all.n == 3 && all.candidate_right == 2 && all.champion_right == 2 &&
           all.only_candidate == 1 && all.only_champion == 1,
       "three rows have two judged answers");
    ok(arm.n == 1 && arm.candidate_right == 1 && arm.only_candidate == 0, "one is the candidate's");
    OT_TRY(ot_outcomes_pairs(txn, D, 1, 2, 0, &all, &arm, err));
    ok(all.n == 3 && arm.n == 2, "whichever way one asks");
    OT_TRY(ot_outcomes_pairs(txn, D, 2, 1, 3, &all, &arm, err));
    ok(all.n == 1 && arm.n == 1, "since then");
    OT_TRY(ot_outcomes_relabel(txn, D, 1, 1, 0, err));
    OT_TRY(ot_outcome_get(txn, D, 1, 1, 1, &r, err));
    ok(r.right == 0 && r.label == 0, "another label: wrong");
    OT_TRY(ot_outcome_get(txn, D, 1, 1, 2, &r, err));
    ok(r.right == 1, "and right");
    OT_TRY(ot_outcomes_relabel(txn, D, 1, 5, 3, err));
    OT_TRY(ot_outcome_get(txn, D, 1, 5, 1, &r, err));
    ok(r.right == -1 && r.label == 3, "what is not judged stays so");
    OT_TRY(ot_outcomes_of_version(txn, D, 1, 2, 5, 2, see_outcome, NULL, err));
    ok(n_outcomes == 2 && first_time == 4, "the newest first, before the end, at most so many");
    n_outcomes = 0;
    OT_TRY(ot_outcomes_after(txn, D, &(ot_outcome_row){.incarnation = 1, .seq = 2, .version = 1}, 4,
                             see_outcome, NULL, err));
    ok(n_outcomes == 4 && first_time == 2, "row by row, from the next one, at most so many");
    n_outcomes = 0;
    OT_TRY(ot_outcomes_after(txn, D, &(ot_outcome_row){.incarnation = (uint64_t)INT64_MIN}, 99,
                             see_outcome, NULL, err));
    ok(n_outcomes == 9 && first_time == 1, "all of them");
    uint8_t wrong[4] = {9, 9, 9, 9};
    int64_t n = -1, us = -1;
    OT_TRY(ot_outcomes_wrong(txn, D, 1, 1, 6, 4, wrong, &n, err));
    ok(n == 4 && memcmp(wrong, (uint8_t[]){0, 0, 1, 1}, 4) == 0,
       "wrong or not, the newest first, without those that are not judged");
    OT_TRY(ot_outcomes_wrong(txn, D, 1, 1, 4, 2, wrong, &n, err));
    ok(n == 2 && wrong[0] == 0 && wrong[1] == 1, "before the end, at most so many");
    OT_TRY(ot_outcomes_wrong(txn, D, 3, 0, 100, 4, wrong, &n, err));
    is_int(n, 0, "none of another version");
    OT_TRY(ot_outcome_nth(txn, D, 1, 3, &us, err));
    is_int(us, 3, "the third newest");
    OT_TRY(ot_outcome_nth(txn, D, 1, 99, &us, err));
    is_int(us, 1, "there are fewer: the oldest");
    OT_TRY(ot_outcome_nth(txn, D, 3, 1, &us, err));
    is_int(us, 0, "there is none");
    n_outcomes = 0;
    OT_TRY(ot_outcomes_live(txn, D, 2, 100, see_outcome, NULL, err));
    ok(n_outcomes == 4 && first_time == 5, "live ones of all versions");
    OT_TRY(ot_outcome_versions(txn, D, 0, see_version, NULL, err));
    ok(shadow_of[1] == 1 && shadow_of[2] == 1, "versions that answered anything live are live");
    ok(shadow_of[0] == 0 && shadow_of[3] == 0, "no others");
    memset(shadow_of, 0, sizeof shadow_of);
    OT_TRY(ot_outcome_versions(txn, D, 6, see_version, NULL, err));
    ok(shadow_of[1] == 0 && shadow_of[2] == 0, "none answered later");
    OT_TRY(ot_outcome_versions(txn, D, 5, see_version, NULL, err));
    ok(shadow_of[1] == 1 && shadow_of[2] == 2, "in that time");
    OT_TRY(ot_outcomes_expire(txn, D, 3, 3, err));
    n_outcomes = 0;
    OT_TRY(ot_outcomes_of_version(txn, D, 1, 0, 100, 100, see_outcome, NULL, err));
    OT_TRY(ot_outcomes_of_version(txn, D, 2, 0, 100, 100, see_outcome, NULL, err));
    is_int(n_outcomes, 6, "three of the four old ones went");
    return OT_OK;
}

int main(void)
{
    char dir[] = "/tmp/overtake-test-XXXXXX";
    ot_disk *disk = ot_disk_posix();
    if (mkdtemp(dir) == NULL || ot_store_open(disk, dir, NULL, &store, &last) != OT_OK) {
        printf("Bail out! no store: %s\n", last.msg);
        return 1;
    }
    is_int(ot_blob_put(store, "rows", 4, &blob, &last), OT_OK, "bytes");
    test_segments();
    test_bad_segments();
    test_expire();
    test_blob();
    is_int(writing(keys), OT_OK, "keys %s", last.msg);
    is_int(writing(labels), OT_OK, "labels %s", last.msg);
    is_int(writing(outcomes), OT_OK, "outcomes %s", last.msg);
    ot_store_close(store);
    is_int(ot_disk_remove_tree(disk, dir, &last), OT_OK, "the scratch directory goes");
    return tap_done();
}
