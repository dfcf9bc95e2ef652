/* Figures over time, for charts: what replicas reported, and what labels said.
 *
 * A span of time is cut into at most `points` buckets of one length. Both are read on the worker: a
 * month of windows would hold up the loop. */
#include "api/internal.h"

#include "base/clock.h"
#include "stats/latency.h"
#include "store/outcomes.h"
#include "store/windows.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define HOUR_US INT64_C(3600000000)
#define POINTS_MAX 1000
#define POINTS_DEFAULT 240
#define VARIANTS_MAX 256 /* versions and roles in one bucket */
#define VERSIONS_MAX 64  /* with labels; the newest */
#define SERIES_MAX 8     /* asked for at a time */

typedef struct variant {
    int64_t version;
    ot_window_role role;
    int64_t requests, rows, failed;
    int64_t covered_us, until_us; /* time that windows cover; replicas' windows lie side by side */
    ot_latency latency;
} variant;

typedef struct series {
    api *a;
    ot_http_req *req;
    const char *deployment; /* in the request's arena */
    int64_t from_us, to_us, bucket_us;
    bool windows;
    ot_str out;
    size_t n;
    /* Windows come by their end: one bucket is open at a time. */
    int64_t at;
    variant *variants;
    size_t n_variants;
    /* Outcomes are read version by version. */
    int64_t versions[VERSIONS_MAX];
    size_t n_versions;
    int64_t version; /* the one that is read */
} series;

static void begin_point(series *s, int64_t bucket, int64_t version, const char *role)
{
    ot_str_addf(&s->out, "%s{\"start_us\":%" PRId64 ",\"version\":%" PRId64 ",\"role\":\"%s\"",
                s->n++ > 0 ? "," : "", s->from_us + bucket * s->bucket_us, version, role);
}

static void flush(series *s)
{
    for (size_t i = 0; i < s->n_variants; i++) {
        const variant *v = &s->variants[i];
        begin_point(s, s->at, v->version, ot_window_role_name(v->role));
        ot_str_addf(&s->out,
                    ",\"covered_us\":%" PRId64 ",\"requests\":%" PRId64 ",\"rows\":%" PRId64
                    ",\"failed\":%" PRId64,
                    v->covered_us, v->requests, v->rows, v->failed);
        if (v->latency.count > 0) {
            ot_str_addf(&s->out, ",\"p50_us\":%.1f,\"p99_us\":%.1f}",
                        (double)ot_latency_quantile(&v->latency, 0.5) / 1000,
                        (double)ot_latency_quantile(&v->latency, 0.99) / 1000);
        } else {
            ot_str_adds(&s->out, ",\"p50_us\":null,\"p99_us\":null}");
        }
    }
    s->n_variants = 0;
}

static variant *variant_of(series *s, const ot_window_row *r)
{
    for (size_t i = 0; i < s->n_variants; i++) {
        if (s->variants[i].version == r->version && s->variants[i].role == r->role) {
            return &s->variants[i];
        }
    }
    if (s->n_variants == VARIANTS_MAX) {
        return NULL;
    }
    variant *v = &s->variants[s->n_variants++];
    *v = (variant){.version = r->version, .role = r->role};
    return v;
}

static ot_rc add_window(void *arg, const ot_window_row *r, ot_error *err)
{
    series *s = arg;
    /* A window that ends with the bucket belongs to it. */
    int64_t bucket = OT_MAX(r->end_us - 1 - s->from_us, 0) / s->bucket_us;
    if (bucket != s->at) {
        flush(s);
        s->at = bucket;
    }
    variant *v = variant_of(s, r);
    if (v == NULL) {
        return ot_fail(err, OT_EXHAUSTED,
                       "more than %d versions answered within %" PRId64
                       " s; ask for a shorter span or more points",
                       VARIANTS_MAX, s->bucket_us / 1000000);
    }
    v->covered_us += OT_MAX(r->end_us - OT_MAX(r->start_us, v->until_us), 0);
    v->until_us = OT_MAX(v->until_us, r->end_us);
    v->requests += r->requests;
    v->rows += r->rows;
    v->failed += r->failed;
    return r->n_latency > 0
               ? ot_latency_merge_record(&v->latency, r->latency, r->n_latency, NULL, err)
               : OT_OK;
}

/* Wilson's interval, 95%: each bucket by itself, for the eye. Decisions are made elsewhere, on what
 * is valid at any time. */
static void wilson(double right, double n, double *lower, double *upper)
{
    double z = 1.959964, p = right / n, d = 1 + z * z / n;
    double mid = (p + z * z / (2 * n)) / d;
    double half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d;
    *lower = OT_MAX(0, mid - half);
    *upper = OT_MIN(1, mid + half);
}

static ot_rc add_outcomes(void *arg, const ot_outcome_bucket *b, ot_error *err)
{
    series *s = arg;
    double lower, upper;
    (void)err;
    wilson((double)b->right, (double)b->labelled, &lower, &upper);
    begin_point(s, b->bucket, s->version, b->shadow ? "shadow" : "live");
    ot_str_addf(&s->out,
                ",\"labelled\":%" PRId64 ",\"right\":%" PRId64 ",\"lower\":%.4f,\"upper\":%.4f}",
                b->labelled, b->right, lower, upper);
    return OT_OK;
}

static ot_rc keep_version(void *arg, int64_t version, bool shadow, ot_error *err)
{
    series *s = arg;
    (void)shadow;
    (void)err;
    if (s->n_versions == VERSIONS_MAX) {
        memmove(s->versions, s->versions + 1, (VERSIONS_MAX - 1) * sizeof s->versions[0]);
        s->n_versions--;
    }
    s->versions[s->n_versions++] = version;
    return OT_OK;
}

static ot_rc outcomes_txn(ot_txn *txn, series *s, ot_error *err)
{
    s->n_versions = 0;
    OT_TRY(ot_outcome_versions(txn, s->deployment, s->from_us, keep_version, s, err));
    for (size_t i = 0; i < s->n_versions; i++) {
        s->version = s->versions[i];
        OT_TRY(ot_outcome_buckets(txn, s->deployment, s->version, s->from_us, s->to_us,
                                  s->bucket_us, add_outcomes, s, err));
    }
    return OT_OK;
}

static ot_rc series_txn(ot_txn *txn, void *arg, ot_error *err)
{
    series *s = arg;
    if (!s->windows) {
        return outcomes_txn(txn, s, err);
    }
    OT_TRY(ot_windows_ended(txn, s->deployment, s->from_us, s->to_us, add_window, s, err));
    flush(s);
    return OT_OK;
}

static ot_rc series_work(void *arg, ot_error *err)
{
    series *s = arg;
    ot_str_addf(&s->out,
                "{\"from_us\":%" PRId64 ",\"to_us\":%" PRId64 ",\"bucket_us\":%" PRId64
                ",\"points\":[",
                s->from_us, s->to_us, s->bucket_us);
    OT_TRY(ot_store_read(s->a->store, series_txn, s, err));
    ot_str_adds(&s->out, "]}");
    return s->out.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for the answer") : OT_OK;
}

static void series_free(series *s)
{
    ot_str_done(&s->out);
    ot_free(s->variants);
    ot_free(s);
}

static void series_done(void *arg, ot_rc rc, const ot_error *err)
{
    series *s = arg;
    s->a->plotting--;
    if (rc != OT_OK) {
        api_fail(s->req, rc, err);
    } else {
        ot_http_respond_bytes(s->req, 200, "application/json", s->out.data, s->out.len);
    }
    series_free(s);
}

static ot_rc read_span(const ot_http_req *r, series *s, ot_error *err)
{
    int64_t points = POINTS_DEFAULT;
    s->to_us = ot_clock_wall_us() + 1;
    OT_TRY(ot_query_i64(r->query, "to_us", r->arena, 1, INT64_MAX, &s->to_us, err));
    s->from_us = OT_MAX(s->to_us - HOUR_US, 0);
    OT_TRY(ot_query_i64(r->query, "from_us", r->arena, 0, INT64_MAX, &s->from_us, err));
    OT_TRY(ot_query_i64(r->query, "points", r->arena, 1, POINTS_MAX, &points, err));
    if (s->from_us >= s->to_us) {
        return ot_fail(err, OT_INVALID,
                       "from_us is %" PRId64 " and to_us %" PRId64 "; the span must have a length",
                       s->from_us, s->to_us);
    }
    s->bucket_us = (s->to_us - s->from_us - 1) / points + 1;
    return OT_OK;
}

static ot_rc series_start(api *a, const api_call *c, bool windows, ot_error *err)
{
    OT_TRY(ot_pipeline_serves(a->pipeline, c->name[0], err));
    if (a->plotting >= SERIES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%d series are being read; try again then", SERIES_MAX);
    }
    series *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "series: no memory");
    }
    *s = (series){.a = a, .req = c->req, .deployment = c->name[0], .windows = windows, .at = -1};
    ot_str_init(&s->out);
    ot_rc rc = read_span(c->req, s, err);
    if (rc == OT_OK && windows) {
        s->variants = ot_calloc(VARIANTS_MAX, sizeof *s->variants);
        rc = s->variants != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "series: no memory");
    }
    if (rc == OT_OK) {
        rc = ot_aside_submit(a->aside, series_work, series_done, s, err);
    }
    if (rc != OT_OK) {
        series_free(s);
        return rc;
    }
    a->plotting++;
    return OT_OK;
}

ot_rc api_windows(api *a, const api_call *c, ot_error *err)
{
    return series_start(a, c, true, err);
}

ot_rc api_outcomes(api *a, const api_call *c, ot_error *err)
{
    return series_start(a, c, false, err);
}
