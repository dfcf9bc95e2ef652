/* Inference: which deployment and variant answer a call, and its way into this turn's batch. */
#include "serve/trace.h"
#include "serve/worker.h"

#include "base/clock.h"
#include "serve/external.h"

#include <stdio.h>
#include <string.h>

#define SAMPLE_SALT UINT64_C(0x73616d706c65)
#define DEADLINE_MS_MAX 3600000

bool ot_worker_number(ot_slice s, uint64_t max, uint64_t *out)
{
    if (s.n == 0 || s.n > 19) {
        return false;
    }
    uint64_t x = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
        x = x * 10 + (uint64_t)(s.p[i] - '0');
    }
    *out = x;
    return x <= max;
}

/* Headers of any protocol that say how a call is to be answered. */
static bool read_headers(ot_worker *w, ot_call *call, uint64_t *version)
{
    uint64_t x;
    ot_slice h = ot_http_req_header(call->req, "overtake-version");
    if (h.p != NULL && *version == 0) {
        if (!ot_worker_number(h, INT64_MAX, version) || *version == 0) {
            ot_worker_refuse(w, call, OT_INVALID, 400, 0,
                             "overtake-version '%.*s' is not a version number",
                             (int)OT_MIN(h.n, 40u), h.p);
            return false;
        }
    }
    if (call->label.p == NULL) {
        call->label = ot_http_req_header(call->req, "overtake-label");
    }
    if (call->label.p != NULL && *version != 0) {
        ot_worker_refuse(w, call, OT_INVALID, 400, 0,
                         "a version (%llu) and a label ('%.*s') are asked for; name one",
                         (unsigned long long)*version, (int)OT_MIN(call->label.n, 80u),
                         call->label.p);
        return false;
    }
    h = ot_http_req_header(call->req, "overtake-deadline-ms");
    if (h.p != NULL) {
        if (!ot_worker_number(h, DEADLINE_MS_MAX, &x)) {
            ot_worker_refuse(w, call, OT_INVALID, 400, 0,
                             "overtake-deadline-ms '%.*s' is not a number of 0 to %d",
                             (int)OT_MIN(h.n, 40u), h.p, DEADLINE_MS_MAX);
            return false;
        }
        call->deadline_ns = call->start_ns + x * 1000000;
    }
    h = ot_http_req_header(call->req, "overtake-priority");
    if (h.p != NULL && !ot_priority_parse(h.p, h.n, &call->priority)) {
        ot_worker_refuse(w, call, OT_INVALID, 400, 0,
                         "overtake-priority '%.*s' is not one of high, normal, low or a number (1 "
                         "is the highest)",
                         (int)OT_MIN(h.n, 40u), h.p);
        return false;
    }
    call->key = ot_http_req_header(call->req, "overtake-key");
    return true;
}

static void refuse_label(ot_worker *w, ot_call *call)
{
    const ot_dep *d = call->dep;
    OT_AUTO(ot_str_done) ot_str known = OT_STR_INIT;
    for (size_t i = 0; i < d->n_labels; i++) {
        ot_str_addf(&known, ", %s", d->labels[i].name);
    }
    ot_worker_refuse(w, call, OT_NOT_FOUND, 404, 0,
                     "model '%s' has no version loaded with the label '%.*s'; its labels are "
                     "stable, canary (while a version is released)%s",
                     d->name, (int)OT_MIN(call->label.n, 80u), call->label.p,
                     known.data != NULL ? known.data : "");
}

/* What a body may say about its turn, as Triton's clients do: parameters `priority` (1 is the
 * highest) and `timeout` (us). Headers win; what nobody says is the deployment's. */
static void read_turn(ot_call *call)
{
    const ot_limits *limits = &call->dep->limits;
    const ot_params *params = &call->in.params;
    const ot_param *p = params->n > 0 ? ot_params_find(params, "priority") : NULL;
    if (p != NULL && p->type == OT_PARAM_INT && call->priority == OT_PRIORITY_DEFAULT) {
        call->priority = (ot_priority)OT_MIN(OT_MAX(p->i, 0), (int64_t)OT_PRIORITY_LOW);
    }
    if (call->priority == OT_PRIORITY_DEFAULT) {
        call->priority =
            limits->priority != OT_PRIORITY_DEFAULT ? limits->priority : OT_PRIORITY_NORMAL;
    }
    p = params->n > 0 ? ot_params_find(params, "timeout") : NULL;
    int64_t us = p != NULL && p->type == OT_PARAM_INT ? p->i : 0;
    if (us <= 0 || us > DEADLINE_MS_MAX * INT64_C(1000)) {
        us = limits->deadline_us;
    }
    if (call->deadline_ns == 0 && us != 0) {
        call->deadline_ns = call->start_ns + (uint64_t)us * 1000;
    }
}

/* The variant that answers: the one asked for, else by the key's or the prediction id's hash. */
static bool choose(ot_worker *w, ot_call *call, uint64_t version)
{
    const ot_dep *d = call->dep;
    const ot_arm *arm;
    if (version != 0) {
        arm = ot_dep_version(d, version);
        if (arm == NULL) {
            ot_worker_refuse(w, call, OT_NOT_FOUND, 404, 0, "model '%s' has no version %llu loaded",
                             d->name, (unsigned long long)version);
            return false;
        }
    } else if (call->label.p != NULL && d->n_live > 0) {
        arm = ot_dep_label(d, call->label.p, call->label.n);
        if (arm == NULL) {
            refuse_label(w, call);
            return false;
        }
    } else if (d->n_live == 1) {
        arm = &d->arms[0];
    } else if (call->key.p != NULL) {
        arm = ot_dep_pick(d, call->key.p, call->key.n);
    } else {
        uint64_t id[2] = {w->serve->incarnation, w->seq};
        arm = ot_dep_pick(d, id, sizeof id);
    }
    if (arm == NULL) {
        ot_worker_refuse(w, call, OT_UNAVAILABLE, 503, 1, "model '%s' is not ready: %s", d->name,
                         d->state[0] != '\0' ? d->state : "it is being loaded");
        return false;
    }
    call->variant = call->asked = arm->variant;
    return true;
}

bool ot_worker_note_client(ot_http_req *req, const ot_client *client)
{
    ot_log_note *note = req->note;
    if (note != NULL && client != NULL) {
        memcpy(note->client, client->key.name, sizeof note->client);
    }
    return client != NULL;
}

static void note_call(const ot_call *call)
{
    ot_log_note *note = call->req->note;
    if (note == NULL) {
        return;
    }
    memcpy(note->deployment, call->dep->name, sizeof note->deployment);
    if (call->rc == OT_OK && call->variant != NULL) {
        note->version = call->variant->version;
        note->rows = call->rows;
        ot_prediction_id_format(note->prediction, call->worker->serve->incarnation, call->seq,
                                note->version, call->sampled && !call->constant);
    }
}

bool ot_worker_guest(ot_worker *w, const ot_http_req *req, ot_denial *why)
{
    ot_guests *g = w->serve->guests;
    return g == NULL || ot_guests_may(g, req->fd, ot_loop_now_ns(w->loop), why);
}

static bool refuse_denied(ot_worker *w, ot_call *call, const ot_denial *why)
{
    ot_worker_refuse(w, call, ot_rc_of_http(why->status), why->status, why->retry_s, "%s",
                     why->err.msg);
    return false;
}

/* Before the name is looked up: who may not ask does not learn what is there. */
static bool admit(ot_worker *w, ot_call *call, const ot_route *r, const char *name, size_t n)
{
    ot_denial why;
    call->client = NULL;
    if (r->access == NULL) {
        return ot_worker_guest(w, call->req, &why) || refuse_denied(w, call, &why);
    }
    call->client = ot_access_who(r->access, call->req, &why);
    return (ot_worker_note_client(call->req, call->client) &&
            ot_access_may(call->client, name, n, ot_loop_now_ns(w->loop), &why)) ||
           refuse_denied(w, call, &why);
}

bool ot_worker_begin(ot_worker *w, ot_call *call, const char *name, size_t n, uint64_t version)
{
    const ot_route *r = atomic_load_explicit(&w->serve->route, memory_order_acquire);
    call->worker = w;
    if (!admit(w, call, r, name, n)) {
        return false;
    }
    call->dep = ot_route_find(r, name, n);
    if (call->dep == NULL) {
        ot_worker_refuse(w, call, OT_NOT_FOUND, 404, 0, "model '%.*s' is not known",
                         (int)OT_MIN(n, 80u), name);
        return false;
    }
    return read_headers(w, call, &version) && choose(w, call, version);
}

void ot_worker_go(ot_worker *w, ot_call *call)
{
    const ot_dep *dep = call->dep;
    read_turn(call);
    ot_denial why;
    if (call->client != NULL &&
        !ot_access_rows(call->client, OT_MAX(call->rows, 1), ot_loop_now_ns(w->loop), &why)) {
        refuse_denied(w, call, &why);
        return;
    }
    call->seq = w->seq;
    w->seq += (uint64_t)OT_MAX(call->rows, 1);
    call->time_us = ot_clock_wall_us();
    call->sampled = dep->sampled && (dep->sample_below == UINT64_MAX ||
                                     ot_serve_mix(w->serve->incarnation, call->seq, SAMPLE_SALT) <
                                         dep->sample_below);
    if (w->serve->tracer != NULL) {
        ot_trace_begin(w->serve->tracer, call, ot_http_req_header(call->req, "traceparent"));
    }
    if (call->variant->external != NULL) {
        ot_external_go(w, call);
    } else if (!ot_worker_enqueue(w, call)) {
        ot_worker_refuse(w, call, OT_UNAVAILABLE, 503, 0, "out of memory for the batch");
    }
}

/* ---- answers */

/* Its body is not needed any more. */
static void let_go(ot_worker *w, ot_call *call)
{
    w->unpacked -= call->unpacked;
    call->unpacked = 0;
}

void ot_worker_refuse(ot_worker *w, ot_call *call, ot_rc rc, int status, unsigned retry_s,
                      const char *fmt, ...)
{
    char text[OT_ERROR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    let_go(w, call);
    call->wire->fail(w, call, &(ot_refusal){rc, status, retry_s, text});
}

void ot_worker_answer(ot_worker *w, ot_call *call)
{
    note_call(call);
    if (call->rc == OT_OK) {
        let_go(w, call);
        call->wire->answer(w, call);
        return;
    }
    int status = ot_rc_http(call->rc);
    unsigned retry_s = status == 429 || status == 503 ? OT_MAX(call->retry_s, 1u) : 0;
    ot_worker_refuse(w, call, call->rc, status, retry_s, "model '%s': %s", call->dep->name,
                     call->message);
}

void ot_worker_error(ot_worker *w, ot_http_req *req, int status, const char *fmt, ...)
{
    char text[OT_ERROR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ot_worker_count_answer(w, status);
    ot_http_respond_error(req, status, "%s", text);
}

void ot_worker_json(ot_worker *w, ot_http_req *req, int status, const ot_str *body)
{
    if (body->failed) {
        ot_worker_error(w, req, 503, "out of memory for the answer");
        return;
    }
    ot_worker_count_answer(w, status);
    ot_http_respond_bytes(req, status, "application/json", body->data, body->len);
}

bool ot_worker_allow(ot_worker *w, ot_http_req *req, bool post)
{
    bool is_get = req->method == OT_HTTP_GET || req->method == OT_HTTP_HEAD;
    if (post ? req->method == OT_HTTP_POST : is_get) {
        return true;
    }
    ot_http_field field = {"Allow", post ? "POST" : "GET, HEAD"};
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    ot_oip_error_body(&body, post ? "this takes POST" : "this takes GET");
    struct iovec iov = {body.data, body.len};
    ot_worker_count_answer(w, 405);
    ot_http_respond(req, &(ot_http_answer){.status = 405,
                                           .type = "application/json",
                                           .fields = &field,
                                           .n_fields = 1,
                                           .body = &iov,
                                           .n_body = 1});
    return false;
}
