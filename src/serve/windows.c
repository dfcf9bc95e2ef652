/* Windows: closed at the same wall-clock times on every replica, merged over the workers and
 * pushed.
 */
#include "serve/control.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void arm(ot_control *c);

/* ---- what becomes of a window */

static void push_window(ot_control *c, const ot_variant *v, const char *role, const ot_cell *cell,
                        int64_t start_us, int64_t length_us)
{
    OT_AUTO(ot_str_done) ot_str inputs = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str outputs = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str latency = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str fields = OT_STR_INIT;
    if (cell->has_inputs) {
        ot_hist_table_write(&cell->inputs, &inputs);
    }
    if (cell->has_outputs) {
        ot_hist_table_write(&cell->outputs, &outputs);
    }
    ot_latency_write(&cell->latency, &latency);
    ot_str_addf(&fields,
                "\"deployment\":\"%s\",\"model\":\"%s\",\"version\":%" PRIu64 ",\"role\":\"%s\","
                "\"start_us\":%" PRId64 ",\"length_us\":%" PRId64 ",\"requests\":%" PRIu64
                ",\"rows\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"counted_rows\":%" PRIu64
                ",\"probability\":%.9g,\"latency\":{\"p50_us\":%.3f,\"p99_us\":%.3f},"
                "\"inputs_bytes\":%zu,\"outputs_bytes\":%zu,\"latency_bytes\":%zu",
                v->deployment, v->model, v->version, role, start_us, length_us, cell->requests,
                cell->rows, cell->failed, cell->counted,
                cell->rows > 0 ? (double)cell->counted / (double)cell->rows : 1.0,
                (double)ot_latency_quantile(&cell->latency, 0.5) / 1000,
                (double)ot_latency_quantile(&cell->latency, 0.99) / 1000, inputs.len, outputs.len,
                latency.len);
    struct iovec bin[] = {
        {inputs.data, inputs.len}, {outputs.data, outputs.len}, {latency.data, latency.len}};
    ot_error err;
    if (inputs.failed || outputs.failed || latency.failed || fields.failed) {
        ot_err("serve", "window of %s: out of memory", v->deployment);
        ot_spool_count_dropped(c->serve->spool, v->deployment, cell->rows);
    } else if (ot_spool_add(c->serve->spool, OT_STREAM_WINDOW, v->deployment, cell->rows,
                            fields.data, bin, OT_COUNT(bin), &err) != OT_OK) {
        ot_err("serve", "window of %s: %s", v->deployment, err.msg);
    }
}

static void print_drift(const ot_variant *v, const ot_drift *d, const ot_cell *cell)
{
    char time[32];
    printf("%s  %s@%" PRIu64 "  %" PRIu64 " rows  p99 %.2f ms", ot_format_time(d->start_us, time),
           v->deployment, v->version, cell->rows,
           (double)ot_latency_quantile(&cell->latency, 0.99) / 1e6);
    if (d->n == 0) {
        printf("  drift: %s", v->schema.inputs == NULL ? "no reference" : "too few rows");
    }
    for (size_t i = 0; i < OT_MIN(d->n, 3u); i++) {
        const ot_drift_feature *f = &d->top[i];
        if (isnan(f->shift)) {
            printf("  %s psi %.2f", f->name, f->psi);
        } else {
            printf("  %s %+.2f sigma (psi %.2f)", f->name, f->shift, f->psi);
        }
    }
    printf("\n");
    fflush(stdout);
}

static void keep_drift(ot_control *c, ot_variant *v, const ot_cell *cell, int64_t start_us,
                       int64_t length_us)
{
    ot_drift d = {.start_us = start_us, .length_us = length_us, .rows = cell->counted};
    if (cell->has_inputs) {
        ot_drift_compare(v->schema.inputs, &v->schema.inputs_reference, &cell->inputs, &d);
    }
    if (c->serve->o.print_drift) {
        print_drift(v, &d, cell);
    }
    pthread_mutex_lock(&v->drift_lock);
    v->drift = d;
    pthread_mutex_unlock(&v->drift_lock);
}

void ot_drift_json(const ot_variant *cv, ot_str *out)
{
    ot_variant *v = (ot_variant *)(uintptr_t)cv;
    pthread_mutex_lock(&v->drift_lock);
    ot_drift d = v->drift;
    pthread_mutex_unlock(&v->drift_lock);
    ot_str_addf(out,
                "{\"version\":%" PRIu64 ",\"start_us\":%" PRId64 ",\"length_us\":%" PRId64
                ",\"rows\":%" PRIu64 ",\"reference\":%s,\"features\":[",
                v->version, d.start_us, d.length_us, d.rows,
                v->schema.inputs != NULL ? "\"trained_on\"" : "null");
    for (size_t i = 0; i < d.n; i++) {
        ot_str_adds(out, i > 0 ? ",{\"name\":\"" : "{\"name\":\"");
        ot_str_add_json(out, d.top[i].name, strlen(d.top[i].name));
        ot_str_addf(out, "\",\"psi\":%.6g,\"shift\":", d.top[i].psi);
        if (isnan(d.top[i].shift)) {
            ot_str_adds(out, "null}");
        } else {
            ot_str_addf(out, "%.6g}", d.top[i].shift);
        }
    }
    ot_str_adds(out, "]}");
}

/* ---- collecting */

static void merge(ot_variant *v, ot_cell *into, ot_cell *from)
{
    ot_error err;
    if (ot_cell_merge(into, from, &err) != OT_OK) {
        ot_err("serve", "window of %s: %s", v->deployment, err.msg);
    }
    ot_cell_clear(from);
}

static void collect(ot_control *c, ot_variant *v, const char *role, int64_t end_us, bool last)
{
    uint64_t any = 0;
    for (unsigned w = 0; w < v->n_workers; w++) {
        const ot_share *s = &v->shares[w];
        any += s->closed->requests + s->closed->failed;
        any += last ? s->active->requests + s->active->failed : 0;
    }
    ot_cell *total;
    ot_error err;
    if (any == 0) {
        return;
    }
    if (ot_cell_create(&v->schema, &total, &err) != OT_OK) {
        ot_err("serve", "window of %s: %s", v->deployment, err.msg);
        return;
    }
    for (unsigned w = 0; w < v->n_workers; w++) {
        merge(v, total, v->shares[w].closed);
        if (last) {
            merge(v, total, v->shares[w].active);
        }
    }
    int64_t length = OT_MAX(end_us - c->window_start_us, 1);
    keep_drift(c, v, total, c->window_start_us, length);
    if (c->serve->spool != NULL) {
        push_window(c, v, role, total, c->window_start_us, length);
    }
    ot_cell_destroy(total);
}

void ot_windows_collect(ot_control *c, int64_t end_us)
{
    const ot_route *r = atomic_load_explicit(&c->serve->route, memory_order_relaxed);
    for (size_t i = 0; i < r->n_deps; i++) {
        const ot_dep *d = r->deps[i];
        for (size_t k = 0; k < d->n_arms; k++) {
            collect(c, d->arms[k].variant, ot_role_name(d->arms[k].role), end_us, false);
        }
        if (d->previous != NULL) {
            collect(c, d->previous, ot_role_name((ot_role)d->previous->last_role), end_us, false);
        }
    }
    c->window_start_us = end_us;
    if (c->agent != NULL) {
        ot_agent_pump(c->agent);
    }
}

void ot_windows_collect_last(ot_control *c, ot_variant *v)
{
    collect(c, v, ot_role_name((ot_role)v->last_role), ot_clock_wall_us(), true);
}

/* ---- the clock */

static void on_closed(void *arg)
{
    ot_control *c = ((ot_ask *)arg)->arg;
    if (--c->window_left > 0) {
        return;
    }
    c->window_busy = false;
    if (!c->draining) {
        int64_t length = c->target->window_us;
        ot_windows_collect(c, ot_clock_wall_us() / length * length);
    }
}

static void on_due(void *arg)
{
    ot_control *c = arg;
    arm(c);
    if (c->window_busy || c->draining) {
        return; /* a worker is that late: this window becomes part of the next */
    }
    c->window_busy = true;
    c->window_left = c->serve->n_workers;
    for (unsigned i = 0; i < c->serve->n_workers; i++) {
        c->window_asks[i] = (ot_ask){
            .worker = c->serve->workers[i], .kind = OT_ASK_WINDOW, .then = on_closed, .arg = c};
        while (!ot_worker_ask(&c->window_asks[i])) {
            ot_clock_sleep_us(200);
        }
    }
}

static void arm(ot_control *c)
{
    int64_t now = ot_clock_wall_us(), length = c->target->window_us;
    int64_t wait = length - now % length;
    ot_loop_timer_set(c->serve->loop, &c->window_timer,
                      ot_clock_mono_ns() + (uint64_t)wait * 1000 + 1000, on_due, c);
}

void ot_windows_start(ot_control *c)
{
    if (c->window_start_us == 0) {
        c->window_start_us = ot_clock_wall_us() / c->target->window_us * c->target->window_us;
    }
    arm(c);
}

void ot_windows_stop(ot_control *c)
{
    ot_loop_timer_cancel(c->serve->loop, &c->window_timer);
}
