#include "load/scrape.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_MAX 16
#define LINE_MAX_BYTES 4096

typedef struct label {
    ot_slice name, value; /* without escapes: ours need none */
} label;

typedef struct line {
    ot_slice name;
    label labels[LABELS_MAX];
    size_t n;
    double value;
} line;

static ot_slice take_name(const char **at, const char *end)
{
    const char *p = *at;
    while (*at < end && strchr("{}=, \t", **at) == NULL) {
        (*at)++;
    }
    return (ot_slice){p, (size_t)(*at - p)};
}

/* name="value", up to the closing brace. */
static bool take_labels(const char **at, const char *end, line *l)
{
    (*at)++;
    while (*at < end && **at != '}') {
        label x = {.name = take_name(at, end)};
        if (x.name.n == 0 || end - *at < 2 || (*at)[0] != '=' || (*at)[1] != '"') {
            return false;
        }
        *at += 2;
        x.value.p = *at;
        while (*at < end && **at != '"') {
            *at += **at == '\\' && *at + 1 < end ? 2 : 1;
        }
        if (*at >= end) {
            return false;
        }
        x.value.n = (size_t)(*at - x.value.p);
        (*at)++;
        if (l->n < LABELS_MAX) {
            l->labels[l->n++] = x;
        }
        if (*at < end && **at == ',') {
            (*at)++;
        }
    }
    if (*at >= end) {
        return false;
    }
    (*at)++;
    return true;
}

static bool take_value(const char *at, const char *end, double *out)
{
    char text[64], *stop;
    while (at < end && *at == ' ') {
        at++;
    }
    size_t n = (size_t)(end - at);
    if (n == 0 || n >= sizeof text) {
        return false;
    }
    memcpy(text, at, n);
    text[n] = '\0';
    *out = strtod(text, &stop);
    return stop != text && (*stop == '\0' || *stop == ' ' || *stop == '\r');
}

static bool read_line(const char *at, const char *end, line *l)
{
    l->n = 0;
    l->name = take_name(&at, end);
    if (l->name.n == 0 || (at < end && *at == '{' && !take_labels(&at, end, l))) {
        return false;
    }
    return take_value(at, end, &l->value);
}

static ot_slice label_of(const line *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (ot_slice_eq(l->labels[i].name, name)) {
            return l->labels[i].value;
        }
    }
    return (ot_slice){"", 0};
}

static void copy(char *out, size_t cap, ot_slice s)
{
    size_t n = OT_MIN(s.n, cap - 1);
    memcpy(out, s.p, n);
    out[n] = '\0';
}

const ot_scrape_variant *ot_scrape_find(const ot_scrape *s, const ot_scrape_variant *v)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->v[i].deployment, v->deployment) == 0 &&
            strcmp(s->v[i].model, v->model) == 0 && strcmp(s->v[i].version, v->version) == 0) {
            return &s->v[i];
        }
    }
    return NULL;
}

/* The row of the line's labels, made when it is new; NULL when there is no room or no label. */
static ot_scrape_variant *variant_of(ot_scrape *s, const line *l)
{
    ot_scrape_variant key = {0};
    copy(key.deployment, sizeof key.deployment, label_of(l, "deployment"));
    copy(key.model, sizeof key.model, label_of(l, "model"));
    copy(key.version, sizeof key.version, label_of(l, "version"));
    copy(key.role, sizeof key.role, label_of(l, "role"));
    if (key.deployment[0] == '\0') {
        return NULL;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (ot_scrape_find(&(ot_scrape){.n = 1, .v = &s->v[i]}, &key) != NULL) {
            return &s->v[i];
        }
    }
    if (s->n == OT_SCRAPE_VARIANTS_MAX) {
        return NULL;
    }
    s->v[s->n] = key;
    s->v[s->n].drift_psi = NAN;
    return &s->v[s->n++];
}

static void take_bucket(ot_scrape_hist *h, const line *l)
{
    char le[32];
    copy(le, sizeof le, label_of(l, "le"));
    if (h->n < OT_SCRAPE_STEPS_MAX) {
        h->le[h->n] = strcmp(le, "+Inf") == 0 ? INFINITY : strtod(le, NULL);
        h->count[h->n++] = l->value;
    }
}

static void take_line(ot_scrape *s, const line *l)
{
    static const struct {
        const char *name;
        size_t at;
    } of_variant[] = {
        {"overtake_requests_total", offsetof(ot_scrape_variant, requests)},
        {"overtake_rows_total", offsetof(ot_scrape_variant, rows)},
        {"overtake_failed_total", offsetof(ot_scrape_variant, failed)},
        {"overtake_queue_requests", offsetof(ot_scrape_variant, queue)},
        {"overtake_oldest_run_seconds", offsetof(ot_scrape_variant, oldest_run_s)},
        {"overtake_drift_psi", offsetof(ot_scrape_variant, drift_psi)},
    };
    static const struct {
        const char *name;
        size_t at;
    } of_replica[] = {
        {"overtake_ready", offsetof(ot_scrape, ready)},
        {"overtake_revision", offsetof(ot_scrape, revision)},
        {"process_resident_memory_bytes", offsetof(ot_scrape, memory_bytes)},
    };
    for (size_t i = 0; i < OT_COUNT(of_replica); i++) {
        if (ot_slice_eq(l->name, of_replica[i].name)) {
            *(double *)(void *)((char *)s + of_replica[i].at) = l->value;
        }
    }
    ot_slice class = label_of(l, "class");
    if (ot_slice_eq(l->name, "overtake_answers_total") && class.n == 3 && class.p[0] >= '0' &&
        class.p[0] <= '5') {
        s->answers[class.p[0] - '0'] = l->value;
    }
    ot_scrape_variant *v = variant_of(s, l);
    for (size_t i = 0; v != NULL && i < OT_COUNT(of_variant); i++) {
        if (ot_slice_eq(l->name, of_variant[i].name)) {
            *(double *)(void *)((char *)v + of_variant[i].at) = l->value;
        }
    }
    if (v != NULL && ot_slice_eq(l->name, "overtake_request_seconds_bucket")) {
        take_bucket(&v->latency, l);
    }
}

ot_rc ot_scrape_parse(const char *text, size_t n, ot_scrape *out, ot_error *err)
{
    ot_scrape s = {.v = out->v, .at_ns = ot_clock_mono_ns()};
    const char *at = text, *end = text + n;
    for (unsigned number = 1; at < end; number++) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        const char *stop = lf != NULL ? lf : end;
        line l;
        if (stop > at && *at != '#') {
            if (stop - at > LINE_MAX_BYTES || !read_line(at, stop, &l)) {
                return ot_fail(err, OT_INVALID, "line %u is no metric: '%.*s'", number,
                               (int)OT_MIN(stop - at, 80), at);
            }
            take_line(&s, &l);
        }
        at = stop + 1;
    }
    *out = s;
    return OT_OK;
}

ot_rc ot_scrape_get(ot_http_client *c, ot_scrape *out, ot_error *err)
{
    ot_http_reply r;
    ot_http_reply_init(&r);
    ot_rc rc = ot_http_client_simple(c, "GET", "/metrics", NULL, NULL, 0, &r, err);
    if (rc == OT_OK && r.status != 200) {
        rc = ot_fail(err, OT_UNAVAILABLE, "/metrics answers %d", r.status);
    }
    if (rc == OT_OK) {
        rc = ot_scrape_parse(r.body.data, r.body.len, out, err);
    }
    ot_http_reply_done(&r);
    return rc;
}

double ot_scrape_quantile(const ot_scrape_hist *now, const ot_scrape_hist *before, double q)
{
    double counts[OT_SCRAPE_STEPS_MAX], below = 0;
    for (size_t i = 0; i < now->n; i++) {
        counts[i] = now->count[i] - (before != NULL && i < before->n ? before->count[i] : 0);
    }
    double want = now->n > 0 ? q * counts[now->n - 1] : 0;
    if (!(want > 0)) {
        return NAN;
    }
    for (size_t i = 0; i < now->n; i++) {
        if (counts[i] >= want) {
            double low = i > 0 ? now->le[i - 1] : 0;
            if (isinf(now->le[i])) {
                return low;
            }
            return low + (now->le[i] - low) * (want - below) / (counts[i] - below);
        }
        below = counts[i];
    }
    return NAN;
}
