/* MultiInference: each task is a call of its own on the variant of its signature, so that batches,
 * costs and counts are as if it had come alone; one version answers all of them. The answer leaves
 * with the last result, and one task that fails fails it.
 * Source: tensorflow_serving/servables/tensorflow/multi_inference.cc. */
#include "protocol/tfs_grpc.h"

#include "codec/tfs_multi.h"

#include <string.h>

typedef struct multi multi;

typedef struct task {
    ot_call call; /* first: the wire gets it back */
    multi *whole;
    ot_tfs_method method;
    ot_slice result; /* InferenceResult, in the request's arena */
} task;

struct multi {
    task *tasks;
    size_t n;
    size_t left; /* tasks without a result; 0 before they go */
    /* Of the tasks that failed the first in their order; rc OT_OK: none did. */
    ot_refusal why;
    const task *failed;
};

/* All tasks have their results, or none will. */
static void answer_whole(ot_worker *w, multi *m)
{
    ot_call *first = &m->tasks[0].call;
    if (m->why.rc != OT_OK) {
        ot_grpc_wire_fail(w, first, &m->why);
        return;
    }
    ot_grpc_frame_begin(&w->head);
    for (size_t i = 0; i < m->n; i++) {
        ot_pb_put_bytes(&w->head, 1, m->tasks[i].result.p, m->tasks[i].result.n);
    }
    ot_http_field fields[OT_GRPC_FIELDS];
    size_t n = ot_grpc_call_fields(w, first, fields);
    ot_grpc_answer(w, first->req, fields, n, &w->head, NULL, 0);
}

static void task_over(ot_worker *w, multi *m)
{
    if (--m->left == 0) {
        answer_whole(w, m);
    }
}

static ot_rc put_result(const task *t, ot_str *out, ot_error *err)
{
    const ot_call *call = &t->call;
    ot_tfs_pb_spec_put(out, 1,
                       &(ot_tfs_spec){.name = call->dep->name,
                                      .version = call->variant->version,
                                      .signature = ot_tfs_signature_name(call->variant)});
    return ot_tfs_result_put(call, t->method, t->method == OT_TFS_CLASSIFY ? 2 : 3, out, err);
}

static void answer(ot_worker *w, ot_call *call)
{
    task *t = (task *)call;
    ot_error err;
    ot_str *s = &w->head;
    ot_str_clear(s);
    s->failed = false;
    ot_rc rc = put_result(t, s, &err);
    char *kept = rc == OT_OK && !s->failed ? ot_arena_alloc(call->arena, s->len) : NULL;
    if (rc == OT_OK && kept == NULL) {
        rc = ot_fail(&err, OT_EXHAUSTED, "out of memory for the answer");
    }
    if (rc != OT_OK) {
        ot_call_fail(call, rc, err.msg);
        ot_worker_answer(w, call);
        return;
    }
    memcpy(kept, s->data, s->len);
    t->result = (ot_slice){.p = kept, .n = s->len};
    task_over(w, t->whole);
}

static void fail(ot_worker *w, ot_call *call, const ot_refusal *why)
{
    const task *t = (const task *)call;
    multi *m = t->whole;
    if (m->why.rc == OT_OK || t < m->failed) {
        char *text = m->left == 0 ? ot_arena_strdup(call->arena, why->message)
                                  : ot_arena_printf(call->arena, "tasks[%td]: %s", t - m->tasks,
                                                    why->message);
        m->why = *why;
        m->failed = t;
        m->why.message = text != NULL ? text : "a task failed";
    }
    if (m->left == 0) {
        answer_whole(w, m); /* refused before any went */
    } else {
        task_over(w, m);
    }
}

static const ot_wire wire = {.name = "tensorflow-serving-grpc", .answer = answer, .fail = fail};

static ot_rc method_of(const char *name, ot_tfs_method *out, ot_error *err)
{
    if (strcmp(name, "tensorflow/serving/classify") == 0) {
        *out = OT_TFS_CLASSIFY;
    } else if (strcmp(name, "tensorflow/serving/regress") == 0) {
        *out = OT_TFS_REGRESS;
    } else {
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "method_name '%.80s' is neither tensorflow/serving/classify nor "
                       "tensorflow/serving/regress",
                       name);
    }
    return OT_OK;
}

/* Makes task i ready to go, on the version that the first one has found. */
static ot_rc check_task(multi *m, size_t i, const ot_tfs_multi *q, ot_error *err)
{
    task *t = &m->tasks[i];
    if (i > 0) {
        t->call = m->tasks[0].call;
    }
    t->whole = m;
    OT_TRY(method_of(q->tasks[i].method, &t->method, err));
    OT_TRY(ot_tfs_signature(t->call.asked, q->tasks[i].spec.signature, &t->call.variant, err));
    for (size_t k = 0; k < i; k++) {
        if (m->tasks[k].call.variant == t->call.variant) {
            return ot_fail(err, OT_INVALID, "signature '%s' is tasks[%zu]'s already",
                           ot_tfs_signature_name(t->call.variant), k);
        }
    }
    OT_TRY(ot_tfs_take_examples(&t->call, &q->input, err));
    return ot_call_check(&t->call, t->call.variant, err);
}

static ot_rc check_tasks(multi *m, const ot_tfs_multi *q, ot_error *err)
{
    for (size_t i = 0; i < m->n; i++) {
        ot_error why;
        ot_rc rc = check_task(m, i, q, &why);
        if (rc != OT_OK) {
            return ot_fail(err, rc, "tasks[%zu]: %s", i, why.msg);
        }
    }
    return OT_OK;
}

void ot_tfs_multi_inference(ot_worker *w, ot_http_req *req, ot_slice message)
{
    ot_tfs_multi *q = ot_arena_calloc(req->arena, 1, sizeof *q);
    multi *m = ot_arena_calloc(req->arena, 1, sizeof *m);
    ot_error err;
    ot_rc rc = q == NULL || m == NULL ? ot_fail(&err, OT_EXHAUSTED, "out of memory for the call")
                                      : ot_tfs_multi_pb(message.p, message.n, req->arena, q, &err);
    if (rc == OT_OK) {
        m->n = q->n;
        m->tasks = ot_arena_calloc(req->arena, m->n, sizeof *m->tasks);
        rc = m->tasks != NULL ? OT_OK : ot_fail(&err, OT_EXHAUSTED, "out of memory for the tasks");
    }
    if (rc != OT_OK) {
        ot_grpc_fail(w, req, rc, 0, "%s", err.msg);
        return;
    }
    ot_call *first = &m->tasks[0].call;
    const ot_tfs_spec *spec = &q->tasks[0].spec;
    m->tasks[0].whole = m;
    first->label = (ot_slice){spec->label, spec->label != NULL ? strlen(spec->label) : 0};
    if (!ot_grpc_call_begin(w, first, &wire, req, req->arena, req->start_ns) ||
        !ot_worker_begin(w, first, spec->name, strlen(spec->name), spec->version)) {
        return;
    }
    rc = check_tasks(m, q, &err);
    if (rc != OT_OK) {
        ot_worker_refuse(w, first, rc, ot_rc_http(rc), 0, "%s", err.msg);
        return;
    }
    m->left = m->n; /* before the first goes: it may be answered at once */
    for (size_t i = 0, n = m->n; i < n; i++) {
        ot_worker_go(w, &m->tasks[i].call);
    }
}
