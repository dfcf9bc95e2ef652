/* `overtake bench cluster`: what the ranks of a job and the links between them do, each figure
 * beside its bound, as far as one is known.
 *
 * A bound is made of what was measured raw in the same run: TCP in both directions between all
 * hosts at once, the copying of memory on all ranks at once, one barrier. Threads: one. */
#ifndef OT_CLI_CLUSTER_H
#define OT_CLI_CLUSTER_H

#include "cli/links.h"

#include "base/str.h"

#define OT_CLUSTER_TIMES 64
#define OT_CLUSTER_FIGURES 24
#define OT_CLUSTER_CACHED ((size_t)1 << 20) /* bytes that caches hold */
#define OT_CLUSTER_SMALL 100                /* tensors of 4 KiB in a step of small ones */

typedef enum ot_cluster_kind {
    OT_CLUSTER_COPY, /* of `bytes` of memory on each rank, all at once; the smaller size is first */
    OT_CLUSTER_TCP,  /* `bytes` there and back between neighbours of a ring of hosts, at once */
    OT_CLUSTER_TRIP, /* a byte there and back over TCP between two hosts */
    OT_CLUSTER_BARRIER,
    OT_CLUSTER_SUM,      /* an allreduce */
    OT_CLUSTER_SMALL_SUM /* OT_CLUSTER_SMALL of 4 KiB, as one step */
} ot_cluster_kind;

typedef struct ot_cluster_figure {
    ot_cluster_kind kind;
    char by[24]; /* the algorithm; "" */
    uint64_t bytes;
    double us[OT_CLUSTER_TIMES];
    size_t n;
    /* Filled in by ot_cluster_reckon. */
    double median_us, low_us, high_us; /* quartiles */
    double bound_us;                   /* 0: none is known */
    double share;                      /* bound / median */
} ot_cluster_figure;

typedef struct ot_cluster {
    int32_t ranks, hosts;
    ot_cost_model links; /* as overtake tune measures them */
    ot_cluster_figure figures[OT_CLUSTER_FIGURES];
    size_t n;
} ot_cluster;

/* The next figure, empty; NULL: there are too many. */
ot_cluster_figure *ot_cluster_add(ot_cluster *c, ot_cluster_kind kind, uint64_t bytes);
/* Medians, quartiles, bounds. */
void ot_cluster_reckon(ot_cluster *c);
void ot_cluster_text(const ot_cluster *c, ot_str *out);
void ot_cluster_json(const ot_cluster *c, ot_str *out);

/* Collective: on each rank of a job; what rank 0 gets is the report's. `chosen`: the numbers that
 * algorithms are chosen by in this job. */
ot_rc ot_cluster_measure(ot_links *t, const ot_cost_model *chosen, uint64_t max_bytes,
                         ot_cluster *c, ot_error *err) OT_CHECKED;

/* cluster_tcp.c. Collective: the first rank of each host sends to the next host's and receives from
 * the previous one's. Adds nothing where there is one host. */
ot_rc ot_cluster_tcp(ot_links *t, ot_cluster *c, ot_error *err) OT_CHECKED;
/* cluster_measure.c, for it */
ot_rc ot_cluster_agree(ot_links *t, double *x, overtake_reduction how, ot_error *err) OT_CHECKED;
ot_rc ot_cluster_barrier(ot_links *t, ot_error *err) OT_CHECKED;
/* The place of this rank's host among the hosts; *leads_out: it is its first rank. */
int32_t ot_cluster_host(const ot_links *t, bool *leads_out, int32_t *hosts_out);

#endif
