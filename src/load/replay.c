#include "load/replay.h"

#include "base/disk.h"
#include "codec/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A recorded request, ready to be sent. */
typedef struct entry {
    uint64_t at_ns;
    ot_load_request request;
    const ot_load_target *target; /* for the codec: model and how many inputs */
    const char *version;
    ot_tensor *want;
    size_t n_want;
} entry;

/* What entries share. */
typedef struct shared {
    struct shared *next;
    ot_load_target target;
} shared;

typedef struct replay {
    const ot_replay_options *o;
    ot_replay *out;
    ot_str file;
    ot_load_url url;
    ot_arena arena, scratch;
    shared *targets;
    entry *entries;
    size_t n, cap;
} replay;

void ot_replay_options_init(ot_replay_options *o)
{
    *o = (ot_replay_options){.protocol = OT_LOAD_OIP_BINARY,
                             .speed = 1,
                             .connections = 64,
                             .streams = 1,
                             .timeout_ns = UINT64_C(10000000000),
                             .abs = 1e-4,
                             .rel = 1e-3};
}

/* ---- reading */

static ot_rc out_of_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "replay: out of memory for the recording");
}

static ot_rc find_target(replay *x, const char *model, size_t n_inputs, const ot_load_target **out,
                         ot_error *err)
{
    shared *s = x->targets;
    while (s != NULL &&
           (strcmp(s->target.url.model, model) != 0 || s->target.n_inputs != n_inputs)) {
        s = s->next;
    }
    if (s == NULL) {
        if (strlen(model) >= sizeof s->target.url.model) {
            return ot_fail(err, OT_INVALID, "a model's name of %zu bytes", strlen(model));
        }
        s = ot_arena_calloc(&x->arena, 1, sizeof *s);
        if (s == NULL) {
            return out_of_memory(err);
        }
        s->target =
            (ot_load_target){.protocol = x->o->protocol, .url = x->url, .n_inputs = n_inputs};
        snprintf(s->target.url.model, sizeof s->target.url.model, "%s", model);
        s->next = x->targets;
        x->targets = s;
    }
    *out = &s->target;
    return OT_OK;
}

static ot_rc read_request(replay *x, const ot_record *r, const char *model, entry *e, ot_error *err)
{
    ot_oip_request request;
    ot_tensor inputs[OT_LOAD_TENSORS_MAX];
    OT_TRY(ot_oip_request_decode(r->request, r->request_len, (int64_t)r->request_head, NULL,
                                 &x->arena, &request, err));
    for (int i = 0; i < request.n_inputs; i++) {
        inputs[i] = request.inputs[i].tensor;
    }
    OT_TRY(find_target(x, model, (size_t)request.n_inputs, &e->target, err));
    return ot_load_encode(e->target, inputs, &e->request, err);
}

static ot_rc read_entry(replay *x, const ot_record *r, entry *e, ot_error *err)
{
    ot_oip_response answer;
    *e = (entry){.at_ns = (uint64_t)((double)r->at_ns / x->o->speed)};
    OT_TRY(ot_oip_response_decode(r->answer, r->answer_len, (int64_t)r->answer_head, &x->arena,
                                  &answer, err));
    const char *model = x->o->model != NULL         ? x->o->model
                        : answer.model_name != NULL ? answer.model_name
                                                    : "";
    e->version = answer.model_version != NULL ? answer.model_version : "";
    e->n_want = (size_t)answer.n_outputs;
    e->want = ot_arena_calloc(&x->arena, OT_MAX(e->n_want, 1u), sizeof *e->want);
    if (e->want == NULL) {
        return out_of_memory(err);
    }
    for (size_t i = 0; i < e->n_want; i++) {
        e->want[i] = answer.outputs[i].tensor;
    }
    return read_request(x, r, model, e, err);
}

static ot_rc add_entry(replay *x, const ot_record *r, ot_error *err)
{
    if (x->n == OT_REPLAY_REQUESTS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "more than %d requests", OT_REPLAY_REQUESTS_MAX);
    }
    if (!ot_grow(&x->entries, &x->cap, x->n, sizeof *x->entries, 0)) {
        return out_of_memory(err);
    }
    OT_TRY(read_entry(x, r, &x->entries[x->n], err));
    x->n++;
    return OT_OK;
}

/* Workers write when they answer: not in the order in which requests came. */
static int by_time(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return (x->at_ns > y->at_ns) - (x->at_ns < y->at_ns);
}

static ot_rc read_file(replay *x, ot_error *err)
{
    size_t at;
    ot_record r;
    bool more = true;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), x->o->file, OT_REPLAY_BYTES_MAX, &x->file, err));
    OT_TRY(ot_record_begin(x->file.data, x->file.len, &at, err));
    while (more) {
        OT_TRY(ot_record_next(x->file.data, x->file.len, &at, &r, &more, err));
        if (more) {
            OT_TRY(add_entry(x, &r, err));
        }
    }
    if (x->n == 0) {
        return ot_fail(err, OT_INVALID, "the recording has no request");
    }
    qsort(x->entries, x->n, sizeof *x->entries, by_time);
    return OT_OK;
}

/* ---- sending */

static ot_load_outcome fault(replay *x, ot_load_outcome how, size_t request, const char *text)
{
    if (x->out->first_fault[0] == '\0') {
        snprintf(x->out->first_fault, sizeof x->out->first_fault, "request %zu: %.350s", request,
                 text);
    }
    return how;
}

static ot_load_outcome judge(void *arg, size_t request, const ot_load_answer *a, bool measured)
{
    replay *x = arg;
    const entry *e = &x->entries[request];
    ot_load_outcome how = ot_load_status(a);
    char text[350], version[24];
    ot_load_outputs got;
    ot_error err;
    (void)measured;
    if (how != OT_LOAD_CORRECT) {
        snprintf(text, sizeof text, "status %d: %.*s",
                 a->grpc_status > 0 ? a->grpc_status : a->status, (int)OT_MIN(a->body.n, 300u),
                 a->body.p);
        return how == OT_LOAD_REFUSED ? how : fault(x, how, request, text);
    }
    ot_arena_reset(&x->scratch);
    if (ot_load_decode(e->target, a, &x->scratch, &got, &err) != OT_OK) {
        return fault(x, OT_LOAD_MALFORMED, request, err.msg);
    }
    ot_load_answered_by(e->target, a, version);
    bool same = strcmp(version, e->version) == 0;
    *(same ? &x->out->same_version : &x->out->other_version) += 1;
    if (!ot_load_outputs_agree(&got, e->want, e->n_want, x->o->abs, x->o->rel, text, sizeof text)) {
        x->out->differ_other += !same;
        return fault(x, OT_LOAD_WRONG, request, text);
    }
    return OT_LOAD_CORRECT;
}

static ot_rc send_all(replay *x, ot_error *err)
{
    uint64_t *at = ot_calloc(x->n, sizeof *at);
    ot_load_request *requests = ot_calloc(x->n, sizeof *requests);
    ot_rc rc = at == NULL || requests == NULL ? out_of_memory(err) : OT_OK;
    for (size_t i = 0; rc == OT_OK && i < x->n; i++) {
        at[i] = x->entries[i].at_ns - x->entries[0].at_ns;
        requests[i] = x->entries[i].request; /* the entry's */
    }
    if (rc == OT_OK) {
        x->out->requests = x->n;
        x->out->seconds = (double)at[x->n - 1] / 1e9 * x->o->speed;
        ot_load_options load = {.addr = x->url.addr,
                                .tls = x->url.tls,
                                .wire = ot_load_protocol_wire(x->o->protocol),
                                .connections = x->o->connections,
                                .streams = x->o->streams,
                                .requests = requests,
                                .n_requests = x->n,
                                .at_ns = at,
                                .timeout_ns = x->o->timeout_ns,
                                .judge = judge,
                                .arg = x,
                                .stop = x->o->stop};
        rc = ot_load_run(&load, &x->out->result, err);
    }
    ot_free(at);
    ot_free(requests);
    return rc;
}

ot_rc ot_replay_run(const ot_replay_options *o, ot_replay *out, ot_error *err)
{
    replay x = {.o = o, .out = out};
    *out = (ot_replay){0};
    ot_str_init(&x.file);
    ot_arena_init(&x.arena, 1u << 20, OT_REPLAY_BYTES_MAX);
    ot_arena_init(&x.scratch, 1u << 16, OT_RECORD_BODY_MAX * 2);
    ot_rc rc = ot_load_url_parse(o->url, &o->trust, &x.url, err);
    if (rc == OT_OK) {
        rc = read_file(&x, err);
        rc = rc == OT_OK ? rc : ot_error_prefix(err, rc, "%s", o->file);
    }
    if (rc == OT_OK) {
        rc = send_all(&x, err);
    }
    for (size_t i = 0; i < x.n; i++) {
        ot_load_request_done(&x.entries[i].request);
    }
    ot_free(x.entries);
    ot_load_url_done(&x.url);
    ot_arena_done(&x.arena);
    ot_arena_done(&x.scratch);
    ot_str_done(&x.file);
    return rc;
}

/* ---- what it says */

void ot_replay_text(const ot_replay_options *o, const ot_replay *r, ot_str *out)
{
    char took[32], n[32], same[32], other[32];
    ot_str_addf(out, "%s requests of %s, recorded in %s, sent at %g times that speed\n\n",
                ot_format_count(r->requests, n), o->file,
                ot_format_duration((int64_t)(r->seconds * 1e3) * 1000, took), o->speed);
    ot_load_result_text(&r->result, out);
    ot_str_addf(out, "%s answers by the recorded version, %s by another",
                ot_format_count(r->same_version, same), ot_format_count(r->other_version, other));
    ot_str_addf(out, "; %" PRIu64 " differ, %" PRIu64 " of them by another version\n",
                r->result.measured.n[OT_LOAD_WRONG], r->differ_other);
    if (r->first_fault[0] != '\0') {
        ot_str_addf(out, "first fault: %s\n", r->first_fault);
    }
}

void ot_replay_json(const ot_replay_options *o, const ot_replay *r, ot_str *out)
{
    ot_str_addf(
        out,
        "{\"requests\": %zu, \"recorded_s\": %.6f, \"speed\": %g, \"same_version\": %" PRIu64
        ", \"other_version\": %" PRIu64 ", \"differ_other_version\": %" PRIu64 ", ",
        r->requests, r->seconds, o->speed, r->same_version, r->other_version, r->differ_other);
    ot_load_result_json(&r->result, out);
    ot_str_adds(out, ", \"first_fault\": \"");
    ot_str_add_json(out, r->first_fault, strlen(r->first_fault));
    ot_str_adds(out, "\"}\n");
}
