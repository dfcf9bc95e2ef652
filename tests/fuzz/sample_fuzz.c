/* links: quality registry runtime launch model store net stats codec base */
/* A segment of sampled rows: what is malformed is refused as such and leaves nothing; what is taken
 * is taken once, and its rows can be labelled and read back.
 *
 * The input is the JSON part, a line feed, and the binary part. Without a binary part it is that of
 * a real segment of four rows, so that mutations of the JSON get past the sizes; %S in the JSON
 * stands for a number that no push had yet. */
#include "unit/quality/sample_fixture.h"

#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ot_quality *quality;
static made_push real;
static told heard_all;
static int64_t version;

static void stop(void)
{
    ot_quality_destroy(quality);
    made_push_done(&real);
    ot_store_close(store);
    ot_reference_done(&inputs_ref);
    ot_reference_done(&outputs_ref);
    ot_error e;
    (void)!ot_disk_remove_tree(disk, scratch, &e);
}

static void start(void)
{
    ot_quality_config cfg = labels_config("d", &heard_all);
    ot_log_setup("fuzz", OT_LOG_ERROR, OT_LOG_TEXT); /* rows that do not fit are told each time */
    fixture_start();
    version = add_version("digits", false);
    cfg.join_on_key = true;
    cfg.sample_max_bytes = 64u << 10;
    cfg.accuracy_at_least = 0.9;
    quality = open_quality(&cfg);
    promote(quality, version);
    sample_of s = {.deployment = "d",
                   .version = version,
                   .seq = 1,
                   .first = 1,
                   .rows = 4,
                   .time_us = BEGIN,
                   .keys = (const char *const[]){"a", "b", "", "dd"}};
    make_sample(&s, &real);
    atexit(stop);
}

typedef struct kept {
    double segments, bytes, dropped;
} kept;

static kept look_at(void)
{
    json_t *j = part_of(quality, "samples");
    kept k = {json_number_value(json_object_get(j, "segments")),
              json_number_value(json_object_get(j, "bytes")),
              json_number_value(json_object_get(j, "dropped_rows"))};
    json_decref(j);
    return k;
}

static bool same(const kept *a, const kept *b)
{
    return a->segments == b->segments && a->bytes == b->bytes && a->dropped == b->dropped;
}

/* Whatever is kept can be labelled by its keys and read back. */
static void use(void)
{
    static const char *const keys[] = {"a", "b", "dd"};
    for (size_t i = 0; i < OT_COUNT(keys); i++) {
        ot_label_in in = {.id = keys[i], .value = 1};
        ot_label_report r;
        ot_rc rc = ot_quality_labels(quality, &in, 1, "fuzz", &r, NULL);
        if (rc != OT_OK && rc != OT_INVALID) {
            abort();
        }
    }
    OT_AUTO(ot_table_done) ot_table t = {0};
    ot_rc rc = ot_quality_labelled(quality, 0, 1000, "y", &t, NULL);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        abort();
    }
}

static void fill(const char *p, size_t n, ot_str *out)
{
    static uint64_t seq;
    for (size_t i = 0; i < n; i++) {
        if (i + 1 < n && p[i] == '%' && p[i + 1] == 'S') {
            ot_str_addf(out, "%" PRIu64, ++seq);
            i++;
        } else {
            ot_str_addc(out, p[i]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (quality == NULL) {
        start();
    }
    const char *p = (const char *)data;
    const char *end = size == 0 ? NULL : memchr(p, '\n', size);
    size_t n_json = end == NULL ? size : (size_t)(end - p);
    size_t n_bin = end == NULL ? 0 : size - n_json - 1;
    const void *bin = n_bin > 0 ? end + 1 : real.bin.data;
    n_bin = n_bin > 0 ? n_bin : real.bin.len;
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    fill(p, n_json, &json);
    kept before = look_at();
    ot_error e = {0};
    ot_rc rc = ot_quality_push(quality, json.data, json.len, bin, n_bin, &e);
    kept after = look_at();
    if ((rc != OT_OK && rc != OT_INVALID) || (rc == OT_INVALID && !same(&before, &after))) {
        abort();
    }
    if (rc == OT_OK) {
        if (ot_quality_push(quality, json.data, json.len, bin, n_bin, &e) != OT_OK) {
            abort();
        }
        kept again = look_at();
        if (!same(&after, &again)) {
            abort();
        }
        use();
    }
    return 0;
}
