/* The log: pages of it, and the proof that it is whole. */
#include "api/internal.h"

#include "store/events.h"

#include <inttypes.h>
#include <string.h>

#define PAGE_MAX 1000
#define PAGE_BYTES                                                                                 \
    (8u << 20) /* a page ends there, so that large payloads stay a bounded answer                  \
                */
#define VERIFY_MAX 4

static void add_field(ot_str *out, const char *key, const char *value)
{
    ot_str_addf(out, ",\"%s\":\"", key);
    ot_str_add_json(out, value, strlen(value));
    ot_str_addc(out, '"');
}

void ot_api_event_json(const ot_event *e, ot_str *out)
{
    char hex[OT_DIGEST_HEX];
    ot_str_addf(out, "{\"seq\":%" PRIu64 ",\"time_us\":%" PRId64, e->seq, e->time_us);
    add_field(out, "actor", e->actor);
    add_field(out, "role", e->role);
    add_field(out, "scope", e->scope);
    add_field(out, "type", e->type);
    add_field(out, "object", e->object);
    ot_str_adds(out, ",\"payload\":");
    size_t from = out->len;
    ot_str_adds(out, e->payload != NULL ? e->payload : "null");
    /* A line break in JSON is only ever between tokens. */
    for (size_t i = from; i < out->len; i++) {
        out->data[i] = out->data[i] == '\n' || out->data[i] == '\r' ? ' ' : out->data[i];
    }
    ot_str_addf(out, ",\"hash\":\"%s\"}", ot_digest_hex(&e->hash, hex));
}

struct page {
    ot_event_query q;
    ot_str *out;
    size_t n;
    ot_event_head head;
};

static ot_rc add_event(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    struct page *p = arg;
    if (p->out->len > PAGE_BYTES) {
        return OT_CANCELLED;
    }
    if (p->n++ > 0) {
        ot_str_addc(p->out, ',');
    }
    ot_api_event_json(e, p->out);
    return OT_OK;
}

static ot_rc read_page(ot_txn *txn, void *arg, ot_error *err)
{
    struct page *p = arg;
    ot_rc rc = ot_events_read(txn, &p->q, add_event, p, err);
    if (rc != OT_OK && rc != OT_CANCELLED) {
        return rc;
    }
    return ot_events_head(txn, &p->head, err);
}

ot_rc api_event_filter(const ot_http_req *r, ot_event_query *q, ot_error *err)
{
    const char *object = NULL;
    OT_TRY(ot_query_text(r->query, "type", r->arena, OT_EVENT_NAME_MAX, &q->type_prefix, err));
    OT_TRY(ot_query_text(r->query, "object", r->arena, OT_EVENT_NAME_MAX, &object, err));
    size_t n = object != NULL ? strlen(object) : 0;
    q->object = object;
    if (n > 0 && object[n - 1] == '*') {
        q->object_prefix = true;
        q->object = ot_arena_strndup(r->arena, object, n - 1);
        if (q->object == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for the query");
        }
    }
    return OT_OK;
}

static ot_rc read_query(const ot_http_req *r, ot_event_query *q, ot_error *err)
{
    int64_t after = 0, before = 0, limit = 100;
    OT_TRY(ot_query_i64(r->query, "after", r->arena, 0, INT64_MAX, &after, err));
    OT_TRY(ot_query_i64(r->query, "before", r->arena, 0, INT64_MAX, &before, err));
    OT_TRY(ot_query_i64(r->query, "limit", r->arena, 1, PAGE_MAX, &limit, err));
    OT_TRY(ot_query_i64(r->query, "from_us", r->arena, 0, INT64_MAX, &q->from_time_us, err));
    OT_TRY(ot_query_i64(r->query, "to_us", r->arena, 0, INT64_MAX, &q->to_time_us, err));
    OT_TRY(ot_query_flag(r->query, "newest", r->arena, &q->newest_first, err));
    q->after_seq = (uint64_t)after;
    q->before_seq = (uint64_t)before;
    q->limit = (uint32_t)limit;
    return api_event_filter(r, q, err);
}

static void add_head(const ot_event_head *h, ot_str *out)
{
    char hex[OT_DIGEST_HEX];
    ot_str_addf(out, "\"head\":{\"seq\":%" PRIu64 ",\"hash\":\"%s\"}}", h->seq,
                ot_digest_hex(&h->hash, hex));
}

ot_rc api_events(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct page p = {.out = out};
    OT_TRY(read_query(c->req, &p.q, err));
    ot_str_adds(out, "{\"events\":[");
    OT_TRY(ot_store_read(a->store, read_page, &p, err));
    ot_str_adds(out, "],");
    add_head(&p.head, out);
    return OT_OK;
}

/* ------------------------------------------------------------------ verify, on the worker */

struct verify {
    api *a;
    ot_http_req *req;
    ot_events_verdict verdict;
    bool bad;
};

static ot_rc verify_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct verify *v = arg;
    ot_rc rc = ot_events_verify(txn, NULL, &v->verdict, err);
    v->bad = rc == OT_DATA_LOSS;
    return v->bad ? OT_OK : rc;
}

static ot_rc verify_work(void *arg, ot_error *err)
{
    struct verify *v = arg;
    return ot_store_read(v->a->store, verify_txn, v, err);
}

static void verify_done(void *arg, ot_rc rc, const ot_error *err)
{
    struct verify *v = arg;
    v->a->verifying--;
    if (rc != OT_OK) {
        api_fail(v->req, rc, err);
        ot_free(v);
        return;
    }
    ot_events_verdict *d = &v->verdict;
    uint64_t changed;
    const char *fault = ot_log_head_fault(v->a->log_head, &changed);
    if (fault != NULL && (!v->bad || changed < d->bad_seq)) {
        v->bad = true;
        d->bad_seq = changed;
        snprintf(d->what, sizeof d->what, "%s", fault);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_addf(&out,
                "{\"ok\":%s,\"rows\":%" PRIu64 ",\"erased\":%" PRIu64 ",\"bad_seq\":%" PRIu64
                ",\"what\":\"",
                v->bad ? "false" : "true", d->rows, d->erased, d->bad_seq);
    ot_str_add_json(&out, d->what, strlen(d->what));
    ot_str_adds(&out, "\",");
    add_head(&d->head, &out);
    ot_http_respond_bytes(v->req, out.failed ? 500 : 200, "application/json", out.data, out.len);
    ot_free(v);
}

ot_rc api_verify(api *a, const api_call *c, ot_error *err)
{
    if (a->verifying >= VERIFY_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%d proofs of the log are under way; try again then",
                       VERIFY_MAX);
    }
    struct verify *v = ot_calloc(1, sizeof *v);
    if (v == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "verify: no memory");
    }
    v->a = a;
    v->req = c->req;
    ot_rc rc = ot_aside_submit(a->aside, verify_work, verify_done, v, err);
    if (rc != OT_OK) {
        ot_free(v);
        return rc;
    }
    a->verifying++;
    return OT_OK;
}
