/* links: quality registry runtime launch model store net stats codec base */
/* A push of a replica: what is malformed is refused as such and leaves nothing; what is taken is
 * taken once.
 *
 * The input is the JSON part, a line feed, and the binary part. Without a binary part it is that of
 * a real window, and %I, %O and %L in the JSON stand for the sizes of its histograms, so that
 * mutations get past them. */
#include "unit/quality/window_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ot_quality *quality;
static made_push real;
static size_t real_size[3];
static heard heard_all;

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
    fixture_start();
    int64_t version = add_version("digits", true);
    ot_quality_config cfg = config_of("d", &heard_all);
    cfg.sample_keep_us = 0;
    quality = open_quality(&cfg);
    promote(quality, version);
    window_of w = replica_of("d", version).w;
    w.start_us = BEGIN;
    make_window(&w, &real);
    json_t *j = json_loads(real.json.data, 0, NULL);
    static const char *const keys[] = {"inputs_bytes", "outputs_bytes", "latency_bytes"};
    for (size_t i = 0; i < 3; i++) {
        real_size[i] = (size_t)json_integer_value(json_object_get(j, keys[i]));
    }
    json_decref(j);
    now_us = BEGIN + 1000 * BLOCK;
    atexit(stop);
}

static void fill(const char *p, size_t n, ot_str *out)
{
    for (size_t i = 0; i < n; i++) {
        const char *which = i + 1 < n && p[i] == '%' ? memchr("IOL", p[i + 1], 3) : NULL;
        if (which != NULL) {
            static const char letters[] = "IOL";
            ot_str_addf(out, "%zu", real_size[strchr(letters, *which) - letters]);
            i++;
        } else {
            ot_str_addc(out, p[i]);
        }
    }
}

static int64_t windows(void)
{
    ot_service s = {0};
    if (ot_quality_service(quality, 0, INT64_MAX, 0, &s, NULL) != OT_OK) {
        abort();
    }
    return s.windows;
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
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    fill(p, n_json, &json);
    n_bin = n_bin > 0 ? n_bin : real.bin.len;
    int64_t before = windows();
    ot_error e = {0};
    ot_rc rc = ot_quality_push(quality, json.data, json.len, bin, n_bin, &e);
    int64_t after = windows();
    if ((rc != OT_OK && rc != OT_INVALID) || (rc == OT_INVALID && after != before)) {
        abort();
    }
    if (rc == OT_OK && (ot_quality_push(quality, json.data, json.len, bin, n_bin, &e) != OT_OK ||
                        windows() != after)) {
        abort();
    }
    return 0;
}
