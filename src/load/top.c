#include "load/top.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ASK_US 2000000

typedef struct side {
    ot_load_url url;
    ot_http_client *client;
    ot_scrape scrapes[2]; /* the last two, by turns */
    unsigned now;
    bool answers, again; /* now; and the time before */
    ot_error err;
} side;

struct ot_top {
    size_t n;
    side sides[OT_TOP_REPLICAS_MAX];
};

ot_rc ot_top_open(const char *const *urls, size_t n, const ot_load_trust *trust, ot_top **out,
                  ot_error *err)
{
    if (n < 1 || n > OT_TOP_REPLICAS_MAX) {
        return ot_fail(err, OT_INVALID, "%zu replicas; 1 to %d are shown", n, OT_TOP_REPLICAS_MAX);
    }
    ot_top *t = ot_calloc(1, sizeof *t);
    ot_rc rc = t == NULL ? ot_fail(err, OT_EXHAUSTED, "top: out of memory") : OT_OK;
    ot_http_client_options o = {.struct_size = sizeof o, .connect_us = ASK_US, .io_us = ASK_US};
    for (size_t i = 0; rc == OT_OK && i < n; i++) {
        side *s = &t->sides[t->n++];
        rc = ot_load_url_parse(urls[i], trust, &s->url, err);
        o.tls = s->url.tls;
        if (rc == OT_OK) {
            rc = ot_http_client_create(&s->url.addr, &o, &s->client, err);
        }
        for (unsigned k = 0; rc == OT_OK && k < 2; k++) {
            s->scrapes[k].v = ot_calloc(OT_SCRAPE_VARIANTS_MAX, sizeof *s->scrapes[k].v);
            rc = s->scrapes[k].v == NULL ? ot_fail(err, OT_EXHAUSTED, "top: out of memory") : OT_OK;
        }
    }
    if (rc != OT_OK) {
        ot_top_close(t);
        return rc;
    }
    *out = t;
    return OT_OK;
}

void ot_top_close(ot_top *t)
{
    for (size_t i = 0; t != NULL && i < t->n; i++) {
        ot_http_client_destroy(t->sides[i].client);
        ot_load_url_done(&t->sides[i].url);
        ot_free(t->sides[i].scrapes[0].v);
        ot_free(t->sides[i].scrapes[1].v);
    }
    ot_free(t);
}

void ot_top_refresh(ot_top *t)
{
    for (size_t i = 0; i < t->n; i++) {
        side *s = &t->sides[i];
        s->again = s->answers;
        s->now ^= 1;
        s->answers = ot_scrape_get(s->client, &s->scrapes[s->now], &s->err) == OT_OK;
    }
}

size_t ot_top_answering(const ot_top *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        n += t->sides[i].answers;
    }
    return n;
}

/* ---- figures */

/* A variant's figures a second; without an earlier scrape, of all time and without rates. */
typedef struct row {
    double requests, rows, failed, share, p50_s, p99_s;
} row;

static double seconds(const side *s)
{
    return (double)(s->scrapes[s->now].at_ns - s->scrapes[s->now ^ 1].at_ns) / 1e9;
}

/* A counter that is smaller than before belongs to a replica that has started again. */
static double rate(double now, double before, double s)
{
    return s > 0 ? (now >= before ? now - before : now) / s : NAN;
}

static double answers_rate(const side *s, unsigned class)
{
    return s->again ? rate(s->scrapes[s->now].answers[class], s->scrapes[s->now ^ 1].answers[class],
                           seconds(s))
                    : NAN;
}

static row row_of(const side *s, const ot_scrape_variant *v)
{
    static const ot_scrape_variant none;
    const ot_scrape *now = &s->scrapes[s->now], *past = &s->scrapes[s->now ^ 1];
    const ot_scrape_variant *b = s->again ? ot_scrape_find(past, v) : NULL;
    double all = 0, mine = 0;
    for (size_t i = 0; i < now->n; i++) {
        const ot_scrape_variant *o = &now->v[i];
        const ot_scrape_variant *ob = s->again ? ot_scrape_find(past, o) : NULL;
        double came = o->requests - (ob != NULL && ob->requests <= o->requests ? ob->requests : 0);
        all += strcmp(o->deployment, v->deployment) == 0 ? came : 0;
        mine = o == v ? came : mine;
    }
    double t = s->again ? seconds(s) : 0;
    b = b != NULL && b->requests <= v->requests ? b : &none;
    return (row){.requests = rate(v->requests, b->requests, t),
                 .rows = rate(v->rows, b->rows, t),
                 .failed = rate(v->failed, b->failed, t),
                 .share = all > 0 ? mine / all : NAN,
                 .p50_s = ot_scrape_quantile(&v->latency, &b->latency, 0.5),
                 .p99_s = ot_scrape_quantile(&v->latency, &b->latency, 0.99)};
}

/* ---- text */

static const char *number(double x, int digits, const char *unit, char out[32])
{
    if (isnan(x)) {
        return "-";
    }
    snprintf(out, 32, "%.*f%s", digits, x, unit);
    return out;
}

static const char *count(double x, char out[32])
{
    return isnan(x)          ? "-"
           : x < 10 && x > 0 ? number(x, 1, "", out)
                             : ot_format_count((uint64_t)(x + 0.5), out);
}

static const char *duration(double s, char out[32])
{
    return isnan(s) ? "-" : ot_format_duration((int64_t)(s * 1e6 + 0.5), out);
}

/* A line, cut at the width. */
static void add_line(ot_str *out, unsigned width, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void add_line(ot_str *out, unsigned width, const char *fmt, ...)
{
    size_t from = out->len;
    va_list ap;
    va_start(ap, fmt);
    ot_str_vaddf(out, fmt, ap);
    va_end(ap);
    if (width > 0 && out->len - from > width) {
        out->len = from + width;
        out->data[out->len] = '\0';
    }
    ot_str_addc(out, '\n');
}

static void add_side(const side *s, unsigned width, ot_str *out)
{
    const ot_scrape *now = &s->scrapes[s->now];
    if (!s->answers) {
        add_line(out, width, "%s  does not answer: %s", s->url.host, s->err.msg);
        return;
    }
    char memory[32], good[32], theirs[32], ours[32];
    add_line(out, width, "%s  %s  revision %.0f  %s  answers/s: 2xx %s, 4xx %s, 5xx %s",
             s->url.host, now->ready > 0 ? "ready" : "NOT READY", now->revision,
             ot_format_size((uint64_t)now->memory_bytes, memory), count(answers_rate(s, 2), good),
             count(answers_rate(s, 4), theirs), count(answers_rate(s, 5), ours));
    add_line(out, width, "  %-20s %7s %-9s %6s %9s %9s %9s %9s %6s %7s %6s", "deployment",
             "version", "role", "share", "req/s", "rows/s", "p50", "p99", "queue", "fail/s",
             "drift");
    for (size_t i = 0; i < now->n; i++) {
        const ot_scrape_variant *v = &now->v[i];
        row r = row_of(s, v);
        char b[8][32];
        add_line(out, width, "  %-20s %7s %-9s %6s %9s %9s %9s %9s %6.0f %7s %6s%s", v->deployment,
                 v->version, v->role, number(r.share * 100, 0, "%", b[0]), count(r.requests, b[1]),
                 count(r.rows, b[2]), duration(r.p50_s, b[3]), duration(r.p99_s, b[4]), v->queue,
                 count(r.failed, b[5]), number(v->drift_psi, 2, "", b[6]),
                 v->oldest_run_s > 1 ? "  A RUN HANGS" : "");
    }
}

void ot_top_text(const ot_top *t, unsigned width, ot_str *out)
{
    for (size_t i = 0; i < t->n; i++) {
        add_side(&t->sides[i], width, out);
    }
}

/* ---- JSON */

static void add_number(ot_str *out, const char *name, double x)
{
    if (isnan(x)) {
        ot_str_addf(out, ", \"%s\": null", name);
    } else {
        ot_str_addf(out, ", \"%s\": %.9g", name, x);
    }
}

static void add_variant_json(const side *s, const ot_scrape_variant *v, ot_str *out)
{
    row r = row_of(s, v);
    ot_str_addf(out,
                "{\"deployment\": \"%s\", \"model\": \"%s\", \"version\": \"%s\", \"role\": \"%s\"",
                v->deployment, v->model, v->version, v->role);
    add_number(out, "requests_total", v->requests);
    add_number(out, "failed_total", v->failed);
    add_number(out, "requests_per_s", r.requests);
    add_number(out, "rows_per_s", r.rows);
    add_number(out, "failed_per_s", r.failed);
    add_number(out, "share", r.share);
    add_number(out, "p50_s", r.p50_s);
    add_number(out, "p99_s", r.p99_s);
    add_number(out, "queue", v->queue);
    add_number(out, "oldest_run_s", v->oldest_run_s);
    add_number(out, "drift_psi", v->drift_psi);
    ot_str_addc(out, '}');
}

void ot_top_json(const ot_top *t, ot_str *out)
{
    ot_str_adds(out, "{\"replicas\": [");
    for (size_t i = 0; i < t->n; i++) {
        const side *s = &t->sides[i];
        const ot_scrape *now = &s->scrapes[s->now];
        ot_str_addf(out, "%s{\"address\": \"%s\", \"answers\": %s", i > 0 ? ", " : "", s->url.host,
                    s->answers ? "true" : "false");
        if (!s->answers) {
            ot_str_adds(out, ", \"error\": \"");
            ot_str_add_json(out, s->err.msg, strlen(s->err.msg));
            ot_str_adds(out, "\"}");
            continue;
        }
        ot_str_addf(out, ", \"ready\": %s, \"revision\": %.0f, \"memory_bytes\": %.0f",
                    now->ready > 0 ? "true" : "false", now->revision, now->memory_bytes);
        add_number(out, "answers_2xx_per_s", answers_rate(s, 2));
        add_number(out, "answers_4xx_per_s", answers_rate(s, 4));
        add_number(out, "answers_5xx_per_s", answers_rate(s, 5));
        ot_str_adds(out, ", \"variants\": [");
        for (size_t k = 0; k < now->n; k++) {
            ot_str_adds(out, k > 0 ? ", " : "");
            add_variant_json(s, &now->v[k], out);
        }
        ot_str_adds(out, "]}");
    }
    ot_str_adds(out, "]}\n");
}
