/* links: stats base */
/* The written forms of stats: what is read is sound enough to count with, bet with and write again.
 *
 * The first byte chooses the form. Checksums would keep every mutation out, so the input is a
 * record's body; magic, length and checksum are put around it here. A detector's body needs its
 * version 1. */
#include "base/hash.h"
#include "stats/edetect.h"
#include "stats/hist.h"
#include "stats/labeltest.h"
#include "stats/latency.h"

#include "stats/bin.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
    if (!good) {
        abort();
    }
}

static void try_schema(const ot_str *rec)
{
    ot_hist_schema *s = NULL;
    ot_hist_table t;
    ot_error err;
    size_t used = 0;
    if (ot_hist_schema_read(rec->data, rec->len, &s, &used, &err) != OT_OK) {
        return;
    }
    size_t f = ot_hist_schema_features(s);
    float *row = calloc(f, sizeof *row);
    if (row != NULL && ot_hist_table_init(&t, s, &err) == OT_OK) {
        static const float x[] = {0, -1e30f, 1e30f, 0.5f, NAN, INFINITY, 3};
        for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) {
            for (size_t j = 0; j < f; j++) {
                row[j] = x[i];
                must(ot_hist_schema_cell(s, j, x[i]) < OT_HIST_CELLS);
            }
            ot_hist_add_rows(s, &t, row, 1, f);
        }
        ot_str again = OT_STR_INIT;
        ot_hist_reference_write(s, &t, &again);
        ot_hist_schema *s2 = NULL;
        ot_hist_table t2;
        must(ot_hist_reference_read(again.data, again.len, &s2, &t2, &err) == OT_OK);
        must(memcmp(t2.counts, t.counts, OT_HIST_MISSING * sizeof *t.counts) == 0);
        ot_str_done(&again);
        ot_hist_table_done(&t2);
        ot_hist_schema_destroy(s2);
        ot_hist_table_done(&t);
    }
    free(row);
    ot_hist_schema_destroy(s);
}

static void try_table(const ot_str *rec)
{
    static const float x[] = {1, 2, 3, 4};
    ot_hist_column col[2] = {{.kind = OT_HIST_NUMERIC}, {.kind = OT_HIST_CATEGORY}};
    ot_hist_schema *s = NULL;
    ot_hist_table t;
    ot_error err;
    must(ot_hist_schema_build(col, 2, x, 2, 2, &s, &err) == OT_OK &&
         ot_hist_table_init(&t, s, &err) == OT_OK);
    t.schema_id = 0x0101010101010101;
    if (ot_hist_table_read(&t, rec->data, rec->len, NULL, &err) == OT_OK) {
        ot_str again = OT_STR_INIT;
        ot_hist_table_write(&t, &again);
        must(ot_hist_table_read(&t, again.data, again.len, NULL, &err) == OT_OK);
        ot_str_done(&again);
    }
    ot_hist_table_done(&t);
    ot_hist_schema_destroy(s);
}

static void try_detector(const ot_str *rec)
{
    ot_edetect *d = NULL;
    ot_error err;
    if (ot_edetect_read(rec->data, rec->len, &d, &err) != OT_OK) {
        return;
    }
    ot_edetect_status st;
    ot_edetect_get_status(d, &st);
    ot_str again = OT_STR_INIT;
    ot_edetect_write(d, &again);
    static double value[OT_EDETECT_SERIES_MAX], n[OT_EDETECT_SERIES_MAX];
    static ot_edetect_outcome out;
    for (size_t i = 0; i < OT_EDETECT_SERIES_MAX; i++) {
        value[i] = 0.1;
        n[i] = 100;
    }
    for (int64_t i = 1; i <= 20; i++) {
        if (ot_edetect_add(d, st.last_block + i, value, n, &out, &err) != OT_OK) {
            break;
        }
        must(out.n_moved <= OT_EDETECT_MOVED_MAX);
    }
    (void)!ot_edetect_unlatch(d, UINT32_MAX, true, &err);
    ot_str_done(&again);
    ot_edetect_destroy(d);
}

static void try_small(const ot_str *rec)
{
    static ot_latency h;
    ot_degrade d;
    ot_meanseq m;
    ot_error err;
    if (ot_latency_read(&h, rec->data, rec->len, NULL, &err) == OT_OK) {
        (void)ot_latency_quantile(&h, 0.99);
    }
    if (ot_degrade_read(&d, rec->data, rec->len, &err) == OT_OK) {
        (void)ot_degrade_add(&d, 1);
    }
    if (ot_meanseq_read(&m, rec->data, rec->len, &err) == OT_OK) {
        (void)ot_meanseq_interval(&m, 0.05);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        char magic[4];
        void (*run)(const ot_str *);
    } forms[] = {{{'O', 'T', 'H', 'S'}, try_schema},   {{'O', 'T', 'H', 'T'}, try_table},
                 {{'O', 'T', 'D', 'E'}, try_detector}, {{'O', 'T', 'H', 'L'}, try_small},
                 {{'O', 'T', 'D', 'D'}, try_small},    {{'O', 'T', 'M', 'S'}, try_small}};
    if (size == 0) {
        return 0;
    }
    size_t k = data[0] % (sizeof forms / sizeof forms[0]);
    ot_str rec = OT_STR_INIT;
    uint32_t magic = 0;
    for (unsigned i = 0; i < 4; i++) {
        magic |= (uint32_t)(uint8_t)forms[k].magic[i] << (8 * i);
    }
    size_t body = bin_record_begin(&rec, magic, 1);
    ot_str_add(&rec, data + 1, size - 1);
    bin_record_end(&rec, body);
    forms[k].run(&rec);
    ot_str_done(&rec);
    return 0;
}
