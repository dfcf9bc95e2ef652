#include "load/bench.h"

#include <string.h>

void ot_bench_options_init(ot_bench_options *o)
{
    *o = (ot_bench_options){
        .poisson = true,
        .connections = 16,
        .streams = 1,
        .warmup_ns = UINT64_C(1000000000),
        .duration_ns = UINT64_C(10000000000),
        .timeout_ns = UINT64_C(10000000000),
        .inputs = 64,
        .rows = 1,
        .open_dim = 1,
        .seed = 1,
        .abs = 1e-4,
        .rel = 1e-3,
    };
}

static ot_rc make_inputs(const ot_bench_options *o, ot_bench *b, ot_error *err)
{
    const ot_load_target *t = &b->target;
    if (o->data != NULL) {
        OT_TRY(ot_load_inputs_read(o->data, t->inputs, t->n_inputs, o->rows, o->inputs, &b->inputs,
                                   err));
    } else {
        OT_TRY(ot_load_inputs_make(t->inputs, t->n_inputs, o->inputs, o->rows, o->open_dim, o->seed,
                                   &b->inputs, err));
    }
    if (o->expect == NULL) {
        return OT_OK;
    }
    OT_TRY(ot_load_inputs_read(o->expect, t->outputs, t->n_outputs, o->rows, b->inputs.n,
                               &b->expected, err));
    return b->expected.n == b->inputs.n
               ? OT_OK
               : ot_fail(err, OT_INVALID, "%s has answers for %zu of %zu requests", o->expect,
                         b->expected.n, b->inputs.n);
}

static ot_rc make_requests(ot_bench *b, ot_error *err)
{
    b->requests = ot_calloc(b->inputs.n, sizeof *b->requests);
    if (b->requests == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for requests");
    }
    for (; b->n_requests < b->inputs.n; b->n_requests++) {
        OT_TRY(ot_load_encode(&b->target, ot_load_inputs_at(&b->inputs, b->n_requests),
                              &b->requests[b->n_requests], err));
    }
    return OT_OK;
}

static ot_rc prepare(const ot_bench_options *o, ot_bench *b, ot_error *err)
{
    OT_TRY(ot_load_target_open(o->url, &o->trust, o->model, o->protocol, &b->target, err));
    OT_TRY(make_inputs(o, b, err));
    OT_TRY(make_requests(b, err));
    return ot_load_check_create(&b->target, b->inputs.n, o->expect != NULL ? &b->expected : NULL,
                                o->abs, o->rel, &b->check, err);
}

ot_rc ot_bench_open(const ot_bench_options *o, ot_bench *b, ot_error *err)
{
    *b = (ot_bench){0};
    ot_rc rc = prepare(o, b, err);
    if (rc != OT_OK) {
        ot_bench_close(b);
    }
    return rc;
}

void ot_bench_close(ot_bench *b)
{
    ot_load_check_destroy(b->check);
    for (size_t i = 0; i < b->n_requests; i++) {
        ot_load_request_done(&b->requests[i]);
    }
    ot_free(b->requests);
    ot_load_inputs_done(&b->inputs);
    ot_load_inputs_done(&b->expected);
    ot_load_target_done(&b->target);
    *b = (ot_bench){0};
}

ot_rc ot_bench_run(const ot_bench_options *o, ot_bench *b, ot_error *err)
{
    ot_load_options load = {
        .addr = b->target.url.addr,
        .tls = b->target.url.tls,
        .wire = ot_load_protocol_wire(o->protocol),
        .connections = o->connections,
        .streams = o->streams,
        .requests = b->requests,
        .n_requests = b->n_requests,
        .rate = o->rate,
        .poisson = o->poisson,
        .seed = o->seed,
        .warmup_ns = o->warmup_ns,
        .duration_ns = o->duration_ns,
        .requests_max = o->requests,
        .timeout_ns = o->timeout_ns,
        .realtime = o->realtime,
        .judge = ot_load_check_judge,
        .arg = b->check,
        .stop = o->stop,
    };
    return ot_load_run(&load, &b->result, err);
}
