#include "quality/sample_list.h"

#include "base/log.h"
#include "base/mem.h"
#include "quality/segment.h"
#include "store/blob.h"
#include "store/samples.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct listing {
    ot_store *store;
    const char *deployment;
    int64_t before, limit;
    ot_str *out;
    int64_t rows, last;
    bool more;
} listing;

/* ------------------------------------------------------------------ one row */

static void add_text(const char *p, size_t n, ot_str *out)
{
    ot_str_addc(out, '"');
    ot_str_add_json(out, p, n);
    ot_str_addc(out, '"');
}

static void add_number(const ot_tensor *t, int64_t i, ot_str *out)
{
    double x = ot_tensor_f64_at(t, i);
    if (!isfinite(x)) {
        ot_str_adds(out, "null");
    } else if (t->dtype == OT_DT_BOOL) {
        ot_str_adds(out, x != 0 ? "true" : "false");
    } else {
        ot_str_addf(out, ot_dtype_is_float(t->dtype) ? "%.9g" : "%.17g", x);
    }
}

/* `at`: where this row's BYTES begin; moved to the next row's. */
static void add_tensor(const ot_tensor *t, size_t row, size_t *at, ot_str *out)
{
    int64_t each = ot_tensor_count(t) / t->dims[0];
    add_text(t->name, strlen(t->name), out);
    ot_str_adds(out, ":[");
    for (int64_t i = 0; i < each; i++) {
        const char *p = "";
        size_t n = 0;
        ot_str_adds(out, i > 0 ? "," : "");
        if (t->dtype != OT_DT_BYTES) {
            add_number(t, (int64_t)row * each + i, out);
        } else if (ot_tensor_bytes_next(t, at, &p, &n)) {
            add_text(p, n, out);
        }
    }
    ot_str_addc(out, ']');
}

static void add_tensors(const char *what, const ot_tensor *t, size_t n, size_t row, size_t *at,
                        ot_str *out)
{
    ot_str_addf(out, ",\"%s\":{", what);
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i > 0 ? "," : "");
        add_tensor(&t[i], row, &at[i], out);
    }
    ot_str_addc(out, '}');
}

static void add_rows(listing *l, const ot_segment_row *seg, const q_segment *s)
{
    size_t in[Q_SEGMENT_TENSORS_MAX] = {0}, outs[Q_SEGMENT_TENSORS_MAX] = {0}, keys = 0, n;
    const char *key;
    for (size_t i = 0; i < s->rows; i++) {
        ot_str_addf(l->out,
                    "%s{\"id\":\"%016" PRIx64 "-%" PRIx64 "-%" PRIx64 "-1\",\"segment\":%" PRId64
                    ",\"time_us\":%" PRId64 ",\"version\":%" PRId64
                    ",\"role\":\"%s\",\"probability\":%.9g,\"key\":",
                    l->rows++ > 0 ? "," : "", seg->incarnation, q_segment_seq(s, i),
                    (uint64_t)seg->version, seg->id, q_segment_time(s, i), seg->version,
                    seg->shadow ? "shadow" : "live", (double)q_segment_probability(s, i));
        if (q_segment_key(s, &keys, &key, &n) && n > 0) {
            add_text(key, n, l->out);
        } else {
            ot_str_adds(l->out, "null");
        }
        add_tensors("inputs", s->inputs, s->n_inputs, i, in, l->out);
        add_tensors("outputs", s->outputs, s->n_outputs, i, outs, l->out);
        ot_str_addc(l->out, '}');
    }
}

/* ------------------------------------------------------------------ segments */

static ot_rc list_segment(void *arg, const ot_segment_row *seg, ot_error *err)
{
    listing *l = arg;
    OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
    q_segment s;
    ot_error e = {0};
    if (l->rows >= l->limit || l->out->len > OT_SAMPLE_LIST_BYTES_MAX / 2) {
        l->more = true;
        return OT_CANCELLED;
    }
    l->last = seg->id;
    ot_rc rc = ot_blob_read(l->store, &seg->blob, Q_SEGMENT_BYTES_MAX, &bytes, &e);
    if (rc == OT_NOT_FOUND || rc == OT_DATA_LOSS) {
        ot_warn("quality", "deployment %s: the rows of segment %" PRId64 " are left out: %s",
                l->deployment, seg->id, e.msg);
        return OT_OK;
    }
    json_t *meta = rc == OT_OK ? json_loads(seg->meta, 0, NULL) : NULL;
    if (meta == NULL) {
        return ot_fail(err, rc != OT_OK ? rc : OT_EXHAUSTED, "segment %" PRId64 ": %s", seg->id,
                       rc != OT_OK ? e.msg : "no memory");
    }
    rc = q_segment_parse(meta, (const uint8_t *)bytes.data, bytes.len, &s, err);
    if (rc == OT_OK) {
        add_rows(l, seg, &s);
    }
    json_decref(meta);
    if (l->out->len > OT_SAMPLE_LIST_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "segment %" PRId64 ": its rows are over %u bytes as text",
                       seg->id, OT_SAMPLE_LIST_BYTES_MAX);
    }
    return rc;
}

static ot_rc list_txn(ot_txn *txn, void *arg, ot_error *err)
{
    listing *l = arg;
    ot_rc rc = ot_segments_newest(txn, l->deployment, l->before, list_segment, l, err);
    return rc == OT_CANCELLED ? OT_OK : rc;
}

ot_rc ot_samples_list(ot_store *store, const char *deployment, int64_t before, int64_t limit,
                      ot_str *out, ot_error *err)
{
    listing l = {
        .store = store, .deployment = deployment, .before = before, .limit = limit, .out = out};
    ot_str_adds(out, "{\"samples\":[");
    OT_TRY(ot_store_read(store, list_txn, &l, err));
    if (l.more) {
        ot_str_addf(out, "],\"next\":%" PRId64 "}", l.last);
    } else {
        ot_str_adds(out, "],\"next\":null}");
    }
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for the answer") : OT_OK;
}
