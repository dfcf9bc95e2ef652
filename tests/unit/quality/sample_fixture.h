/* Sampled rows and their labels, as a replica and a labeller send them, on the store, clock and
 * models of window_fixture.h. One thread.
 *
 * Row SEQ has inputs x = (SEQ, SEQ + 0.5) and is answered with three scores. */
#ifndef OT_TESTS_SAMPLE_FIXTURE_H
#define OT_TESTS_SAMPLE_FIXTURE_H

#include "unit/quality/window_fixture.h"

#define FIRST_INCARNATION 0xabcdef0123456789u

/* ---- findings */

typedef struct told {
    int labels, pair, degraded, recovered;
    int64_t labels_new; /* of all */
    uint64_t seq;       /* of the newest with one */
    char text[256];
} told;

static void listen(void *arg, const ot_finding *f)
{
    told *t = arg;
    t->labels += f->kind == OT_FINDING_LABELS;
    t->pair += f->kind == OT_FINDING_PAIR;
    t->degraded += f->kind == OT_FINDING_DEGRADED;
    t->recovered += f->kind == OT_FINDING_RECOVERED;
    t->labels_new += f->labels_new;
    if (f->event_seq != 0) {
        t->seq = f->event_seq;
        snprintf(t->text, sizeof t->text, "%s", f->text);
    }
}

__attribute__((unused)) static ot_quality_config labels_config(const char *deployment, told *t)
{
    heard unused;
    ot_quality_config c = config_of(deployment, &unused);
    c.on_finding = listen;
    c.arg = t;
    return c;
}

/* ---- pushes */

typedef struct sample_of {
    const char *deployment, *model; /* NULL: digits */
    int64_t version;
    bool shadow, no_inputs;
    uint64_t incarnation, seq; /* 0: FIRST_INCARNATION */
    uint64_t first, step;      /* the rows' numbers; step 0: 1 */
    size_t rows;
    int64_t time_us;         /* of the first row; one microsecond later each */
    float probability;       /* 0: 1 */
    const int *answers;      /* a class a row; NULL: all class 1 */
    const double *values;    /* not NULL: the model answers with FP64 values */
    const char *const *keys; /* NULL: none */
    int64_t dropped_rows;
} sample_of;

static void add_columns(const sample_of *s, ot_str *bin)
{
    uint64_t step = s->step > 0 ? s->step : 1;
    for (size_t i = 0; i < s->rows; i++) {
        uint64_t n = s->first + i * step;
        ot_str_add(bin, &n, sizeof n);
    }
    for (size_t i = 0; i < s->rows; i++) {
        int64_t t = s->time_us + (int64_t)i;
        ot_str_add(bin, &t, sizeof t);
    }
    for (size_t i = 0; i < s->rows; i++) {
        float p = s->probability > 0 ? s->probability : 1;
        ot_str_add(bin, &p, sizeof p);
    }
    for (size_t i = 0; i < s->rows && !s->shadow && !s->no_inputs; i++) {
        float x = (float)(s->first + i * step);
        ot_str_add(bin, (float[]){x, x + 0.5f}, 2 * sizeof(float));
    }
    for (size_t i = 0; i < s->rows; i++) {
        float scores[3] = {0.1f, 0.1f, 0.1f};
        scores[s->answers != NULL ? s->answers[i] : 1] = 0.8f;
        if (s->values != NULL) {
            ot_str_add(bin, &s->values[i], sizeof s->values[i]);
        } else {
            ot_str_add(bin, scores, sizeof scores);
        }
    }
    for (size_t i = 0; i < s->rows && s->keys != NULL; i++) {
        uint16_t n = (uint16_t)strlen(s->keys[i]);
        ot_str_add(bin, &n, sizeof n);
        ot_str_add(bin, s->keys[i], n);
    }
}

static void make_sample(const sample_of *s, made_push *m)
{
    *m = (made_push){OT_STR_INIT, OT_STR_INIT};
    add_columns(s, &m->bin);
    ot_str_addf(
        &m->json,
        "{\"stream\":\"sample\",\"seq\":%" PRIu64 ",\"incarnation\":\"%016" PRIx64
        "\",\"deployment\":\"%s\",\"model\":\"%s\",\"version\":%" PRId64
        ",\"role\":\"%s\",\"rows\":%zu,\"inputs\":[%s],\"outputs\":[%s],\"keys\":%s",
        s->seq, s->incarnation != 0 ? s->incarnation : FIRST_INCARNATION, s->deployment,
        s->model != NULL ? s->model : "digits", s->version, s->shadow ? "shadow" : "live", s->rows,
        s->shadow || s->no_inputs ? "" : "{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2]}",
        s->values != NULL ? "{\"name\":\"price\",\"datatype\":\"FP64\",\"shape\":[]}"
                          : "{\"name\":\"scores\",\"datatype\":\"FP32\",\"shape\":[3]}",
        s->keys != NULL ? "true" : "false");
    if (s->dropped_rows > 0) {
        ot_str_addf(&m->json, ",\"dropped_rows\":%" PRId64, s->dropped_rows);
    }
    ot_str_adds(&m->json, "}");
}

/* Counts s->seq up, so that the same sample_of makes the next push of its stream. */
__attribute__((unused)) static ot_rc push_sample(ot_quality *q, sample_of *s)
{
    made_push m;
    ot_error e = {0};
    s->seq++;
    now_us = OT_MAX(now_us, s->time_us);
    make_sample(s, &m);
    ot_rc rc = push_made(q, &m, &e);
    if (rc != OT_OK) {
        printf("# push: %s\n", e.msg);
    }
    made_push_done(&m);
    return rc;
}

/* ---- labels */

/* The prediction id of a row; one of a few static buffers. */
static const char *id_of(uint64_t incarnation, uint64_t seq, int64_t version)
{
    static char buf[16][64];
    static int next;
    char *p = buf[next++ % 16];
    snprintf(p, 64, "%016" PRIx64 "-%" PRIx64 "-%" PRIx64 "-1", incarnation, seq,
             (uint64_t)version);
    return p;
}

typedef struct label_run {
    uint64_t incarnation; /* 0: FIRST_INCARNATION */
    uint64_t first, step; /* of the rows; step 0: 1 */
    size_t n;
    double value;       /* of all */
    const double *each; /* not NULL: of each */
    const char *source;
} label_run;

/* Labels rows first, first + step, ... in one call. */
__attribute__((unused)) static ot_rc label_rows(ot_quality *q, const label_run *r,
                                                ot_label_report *out)
{
    ot_error e = {0};
    ot_label_in *in = ot_calloc(r->n, sizeof *in);
    char(*ids)[64] = ot_calloc(r->n, sizeof *ids);
    *out = (ot_label_report){0};
    for (size_t i = 0; i < r->n; i++) {
        uint64_t seq = r->first + i * (r->step > 0 ? r->step : 1);
        snprintf(ids[i], sizeof ids[i], "%s",
                 id_of(r->incarnation != 0 ? r->incarnation : FIRST_INCARNATION, seq, 1));
        in[i] = (ot_label_in){
            .id = ids[i], .value = r->each != NULL ? r->each[i] : r->value, .source = r->source};
    }
    ot_rc rc = ot_quality_labels(q, in, r->n, "anna", out, &e);
    if (rc != OT_OK) {
        printf("# labels: %s\n", e.msg);
    }
    ot_free(in);
    ot_free(ids);
    return rc;
}

/* ---- looking */

/* A part of the summary ("labels", "samples", "accuracy"); the caller lets it go. */
__attribute__((unused)) static json_t *part_of(ot_quality *q, const char *part)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error e = {0};
    if (ot_quality_summary(q, &text, &e) != OT_OK) {
        ok(false, "summary: %s", e.msg);
    }
    json_t *all = json_loadb(text.data, text.len, 0, NULL);
    json_t *d = json_incref(json_object_get(all, part));
    json_decref(all);
    return d;
}

/* A number of a part; -1: it is not there. */
__attribute__((unused)) static double part_number(ot_quality *q, const char *part, const char *key)
{
    json_t *d = part_of(q, part), *v = json_object_get(d, key);
    double x = json_is_boolean(v) ? json_is_true(v) : json_is_number(v) ? json_number_value(v) : -1;
    json_decref(d);
    return x;
}

/* The kept state of the labels of two deployments is the same, byte for byte. */
__attribute__((unused)) static bool same_labels(const char *a, const char *b)
{
    OT_AUTO(ot_str_done) ot_str x = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str y = OT_STR_INIT;
    state_part(a, "labels", &x);
    state_part(b, "labels", &y);
    if (x.len != y.len || memcmp(x.data, y.data, x.len) != 0) {
        printf("# %s\n# %s\n", x.data, y.data);
        return false;
    }
    return x.len > 100;
}

/* Versions with other signatures than the fixture's. */
__attribute__((unused)) static int64_t add_version_of(const char *model, const char *signature)
{
    static int count;
    ot_error e = {0};
    ot_digest d;
    ot_registered reg = {0};
    char name[32], content[64];
    OT_AUTO(ot_manifest_done) ot_manifest sig = {0};
    snprintf(name, sizeof name, "other-%d", ++count);
    snprintf(content, sizeof content, "{\"other\": %d}", count);
    write_text(at("fixture-model/null.json"), content);
    ot_bundle_parts parts = {.model_path = at("fixture-model"), .signature = &sig};
    if (ot_manifest_parse_signature(signature, strlen(signature), &sig, &e) != OT_OK ||
        ot_bundle_build(disk, at(name), &parts, &d, &e) != OT_OK ||
        ot_registry_register(store, at(name), &(ot_register){.model = model}, &reg, &e) != OT_OK) {
        printf("Bail out! version of %s: %s\n", model, e.msg);
        exit(1);
    }
    return reg.version;
}

#define VALUE_SIGNATURE                                                                            \
    "{\"format\": \"null\","                                                                       \
    " \"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"                \
    " \"outputs\": [{\"name\": \"price\", \"datatype\": \"FP64\", \"shape\": [-1]}],"              \
    " \"prediction\": {\"output\": \"price\", \"kind\": \"value\"}}"

#endif
