/* What `overtake bench cluster` measures on each rank. */
#include "cli/cluster.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define COPIES 15
#define WARM_UP 3 /* a plan is learnt in two steps */
#define SMALL_BYTES 4096
#define AT_LEAST 5    /* times of a size */
#define BUDGET_US 3e6 /* of a size, beyond which it is not measured more often */

static const uint64_t sizes[] = {4096, 65536, 1 << 20, 16 << 20, 100 << 20};

int32_t ot_cluster_host(const ot_links *t, bool *leads_out, int32_t *hosts_out)
{
    int32_t own = 0, hosts = 0;
    *leads_out = false;
    for (int32_t r = 0; r < t->place.size; r++) {
        int32_t first = 0;
        while (t->machines[first] != t->machines[r]) {
            first++;
        }
        if (first == r) {
            if (t->machines[r] == t->machines[t->place.rank]) {
                own = hosts;
                *leads_out = r == t->place.rank;
            }
            hosts++;
        }
    }
    *hosts_out = hosts;
    return own;
}

ot_rc ot_cluster_agree(ot_links *t, double *x, overtake_reduction how, ot_error *err)
{
    int64_t one = 1;
    overtake_request r = {.kind = OVERTAKE_ALLREDUCE,
                          .dtype = OVERTAKE_F64,
                          .reduction = (int32_t)how,
                          .dims = &one,
                          .in = x,
                          .out = x};
    return ot_links_run(t, &r, err);
}

ot_rc ot_cluster_barrier(ot_links *t, ot_error *err)
{
    overtake_request r = {.kind = OVERTAKE_BARRIER, .dims = &(int64_t){0}};
    return ot_links_run(t, &r, err);
}

/* A time that all ranks hold: that of the slowest. */
static ot_rc note(ot_links *t, ot_cluster_figure *f, double us, ot_error *err)
{
    OT_TRY(ot_cluster_agree(t, &us, OVERTAKE_MAX, err));
    if (f != NULL && f->n < OT_CLUSTER_TIMES) {
        f->us[f->n++] = us;
    }
    return OT_OK;
}

static ot_rc copies(ot_links *t, size_t n, ot_cluster *c, ot_error *err)
{
    ot_cluster_figure *f = ot_cluster_add(c, OT_CLUSTER_COPY, n);
    for (int i = 0; i <= COPIES; i++) {
        OT_TRY(ot_cluster_barrier(t, err));
        double began = ot_links_now_us();
        memcpy(t->buffer + n * (size_t)(i % 2), t->buffer + n * (size_t)(1 - i % 2), n);
        OT_TRY(note(t, i > 0 ? f : NULL, ot_links_now_us() - began, err));
    }
    return OT_OK;
}

static ot_rc barriers(ot_links *t, ot_cluster *c, ot_error *err)
{
    ot_cluster_figure *f = ot_cluster_add(c, OT_CLUSTER_BARRIER, 0);
    for (int i = 0; i < OT_CLUSTER_TIMES; i++) {
        OT_TRY(ot_cluster_barrier(t, err));
        double began = ot_links_now_us();
        OT_TRY(ot_cluster_barrier(t, err));
        OT_TRY(note(t, f, ot_links_now_us() - began, err));
    }
    return OT_OK;
}

/* `n` named sums of `bytes` each, as one step. */
static ot_rc step(ot_links *t, float *data, size_t n, uint64_t bytes, ot_error *err)
{
    int64_t count = (int64_t)(bytes / sizeof *data);
    overtake_handle handles[OT_CLUSTER_SMALL];
    overtake_request requests[OT_CLUSTER_SMALL];
    char names[OT_CLUSTER_SMALL][32];
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%llu.%zu", (unsigned long long)bytes, i);
        requests[i] = (overtake_request){.struct_size = sizeof requests[i],
                                         .kind = OVERTAKE_ALLREDUCE,
                                         .name = names[i],
                                         .dtype = OVERTAKE_F32,
                                         .ndim = 1,
                                         .dims = &count,
                                         .in = data + i * (size_t)count,
                                         .out = data + i * (size_t)count};
    }
    OT_TRY(ot_links_failed(overtake_start(requests, n, handles, t->text, sizeof t->text), t->text,
                           err));
    for (size_t i = 0; i < n; i++) {
        OT_TRY(ot_links_finish(handles[i], err));
    }
    return OT_OK;
}

static ot_rc sums(ot_links *t, ot_cluster_figure *f, float *data, size_t n, ot_error *err)
{
    double spent = 0;
    for (int i = 0; f != NULL && i < WARM_UP + OT_CLUSTER_TIMES; i++) {
        if (f->n >= AT_LEAST && spent > BUDGET_US) { /* the same on all ranks */
            break;
        }
        OT_TRY(ot_cluster_barrier(t, err));
        double began = ot_links_now_us();
        OT_TRY(step(t, data, n, f->bytes, err));
        OT_TRY(note(t, i >= WARM_UP ? f : NULL, ot_links_now_us() - began, err));
        spent += f->n > 0 ? f->us[f->n - 1] : 0;
    }
    return OT_OK;
}

static ot_rc all_sums(ot_links *t, const ot_cost_model *chosen, uint64_t max_bytes, ot_cluster *c,
                      ot_error *err)
{
    uint64_t most = OT_CLUSTER_SMALL * SMALL_BYTES;
    OT_AUTO(ot_free_ptr) int32_t *hosts = ot_calloc((size_t)t->place.size, sizeof *hosts);
    for (size_t i = 0; i < OT_COUNT(sizes); i++) {
        most = sizes[i] <= max_bytes ? OT_MAX(most, sizes[i]) : most;
    }
    OT_AUTO(ot_free_ptr) float *data = ot_calloc(most / sizeof(float), sizeof *data);
    if (data == NULL || hosts == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %llu bytes", (unsigned long long)most);
    }
    for (int32_t r = 0; r < t->place.size; r++) {
        while (t->machines[hosts[r]] != t->machines[r]) {
            hosts[r]++;
        }
    }
    for (size_t i = 0; i < OT_COUNT(sizes) && sizes[i] <= max_bytes; i++) {
        ot_coll_shape shape = {.kind = OVERTAKE_ALLREDUCE,
                               .rank = t->place.rank,
                               .size = t->place.size,
                               .hosts = hosts,
                               .elem_bytes = sizeof *data,
                               .count = sizes[i] / sizeof *data};
        ot_cluster_figure *f = ot_cluster_add(c, OT_CLUSTER_SUM, sizes[i]);
        if (f != NULL) {
            snprintf(f->by, sizeof f->by, "%s", ot_algorithm_name(ot_cost_choose(chosen, &shape)));
        }
        OT_TRY(sums(t, f, data, 1, err));
    }
    return sums(t, ot_cluster_add(c, OT_CLUSTER_SMALL_SUM, SMALL_BYTES), data, OT_CLUSTER_SMALL,
                err);
}

ot_rc ot_cluster_measure(ot_links *t, const ot_cost_model *chosen, uint64_t max_bytes,
                         ot_cluster *c, ot_error *err)
{
    bool leads;
    c->ranks = t->place.size;
    c->links = ot_cost_default();
    (void)ot_cluster_host(t, &leads, &c->hosts);
    OT_TRY(copies(t, OT_CLUSTER_CACHED, c, err));
    OT_TRY(copies(t, OT_LINKS_BUFFER / 2, c, err));
    OT_TRY(ot_cluster_tcp(t, c, err));
    OT_TRY(barriers(t, c, err));
    OT_TRY(all_sums(t, chosen, max_bytes, c, err));
    return ot_links_measure(t, &c->links, err);
}
