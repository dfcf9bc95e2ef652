#include "cli/cluster.h"

#include "base/mem.h"
#include "cli/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {"copy", "tcp", "round_trip", "barrier", "allreduce", "small"};

ot_cluster_figure *ot_cluster_add(ot_cluster *c, ot_cluster_kind kind, uint64_t bytes)
{
    if (c->n == OT_CLUSTER_FIGURES) {
        return NULL;
    }
    c->figures[c->n] = (ot_cluster_figure){.kind = kind, .bytes = bytes};
    return &c->figures[c->n++];
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between neighbours, where it falls between them. */
static double quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static void spread(ot_cluster_figure *f)
{
    double sorted[OT_CLUSTER_TIMES];
    if (f->n == 0) {
        return;
    }
    memcpy(sorted, f->us, f->n * sizeof *sorted);
    qsort(sorted, f->n, sizeof *sorted, by_size);
    f->median_us = quantile(sorted, f->n, 0.5);
    f->low_us = quantile(sorted, f->n, 0.25);
    f->high_us = quantile(sorted, f->n, 0.75);
}

/* The first of its kind, or the last that is of no more than so many bytes. */
static const ot_cluster_figure *find(const ot_cluster *c, ot_cluster_kind kind, double bytes)
{
    const ot_cluster_figure *found = NULL;
    for (size_t i = 0; i < c->n; i++) {
        const ot_cluster_figure *f = &c->figures[i];
        if (f->kind == kind && (found == NULL || (double)f->bytes <= bytes)) {
            found = f;
        }
    }
    return found;
}

static double rate(const ot_cluster_figure *f)
{
    return f != NULL && f->median_us > 0 ? (double)f->bytes / f->median_us : 0;
}

/* The least time of a sum's bytes. Between hosts each sends and receives 2(h-1)/h of them. On one
 * host a rank reads its share of all and writes it, then takes the others' shares over: 1.5 times
 * what a copy of 2(n-1)/n of the bytes moves. */
static double bytes_us(const ot_cluster *c, double bytes)
{
    double n = c->ranks, h = c->hosts;
    double tcp = rate(find(c, OT_CLUSTER_TCP, 0)), copy = rate(find(c, OT_CLUSTER_COPY, bytes));
    if (c->hosts > 1) {
        return tcp > 0 ? 2 * (h - 1) / h * bytes / tcp : 0;
    }
    return copy > 0 ? 1.5 * 2 * (n - 1) / n * bytes / copy : 0;
}

static double bound(const ot_cluster *c, const ot_cluster_figure *f)
{
    const ot_cluster_figure *barrier = find(c, OT_CLUSTER_BARRIER, 0),
                            *trip = find(c, OT_CLUSTER_TRIP, 0);
    double us = 0;
    switch (f->kind) {
    case OT_CLUSTER_COPY:
    case OT_CLUSTER_TCP:
    case OT_CLUSTER_TRIP:
        return 0;
    case OT_CLUSTER_BARRIER: /* who has heard of h hosts has been told by a tree at best */
        return trip != NULL ? trip->median_us / 2 * ceil(log2(c->hosts)) : 0;
    case OT_CLUSTER_SUM:
        us = bytes_us(c, (double)f->bytes);
        break;
    case OT_CLUSTER_SMALL_SUM:
        us = bytes_us(c, (double)f->bytes * OT_CLUSTER_SMALL);
        break;
    }
    return us > 0 && barrier != NULL ? us + barrier->median_us : us;
}

void ot_cluster_reckon(ot_cluster *c)
{
    for (size_t i = 0; i < c->n; i++) {
        spread(&c->figures[i]);
    }
    for (size_t i = 0; i < c->n; i++) {
        ot_cluster_figure *f = &c->figures[i];
        f->bound_us = bound(c, f);
        f->share = f->median_us > 0 ? f->bound_us / f->median_us : 0;
    }
}

/* --- the report ------------------------------------------------------------------------------ */

static void name_of(const ot_cluster_figure *f, char out[64])
{
    char size[32];
    ot_format_size(f->bytes, size);
    switch (f->kind) {
    case OT_CLUSTER_COPY:
        snprintf(out, 64, "copy of %s, all ranks at once", size);
        break;
    case OT_CLUSTER_TCP:
        snprintf(out, 64, "TCP both ways, all hosts at once, %s", size);
        break;
    case OT_CLUSTER_TRIP:
        snprintf(out, 64, "TCP round trip of a byte");
        break;
    case OT_CLUSTER_BARRIER:
        snprintf(out, 64, "barrier");
        break;
    case OT_CLUSTER_SUM:
        snprintf(out, 64, "allreduce of %s", size);
        break;
    case OT_CLUSTER_SMALL_SUM:
        snprintf(out, 64, "allreduce of %d x %s", OT_CLUSTER_SMALL, size);
        break;
    }
}

static void time_cell(ot_cli_table *t, double us)
{
    if (us <= 0) {
        ot_cli_table_cell(t, "-");
    } else if (us < 1e4) {
        ot_cli_table_cellf(t, "%.3f ms", us / 1e3);
    } else {
        ot_cli_table_cellf(t, "%.1f ms", us / 1e3);
    }
}

static double gbit(const ot_cluster_figure *f)
{
    return f->bytes > 0 && f->median_us > 0 ? (double)f->bytes * 8 / f->median_us / 1e3 : 0;
}

void ot_cluster_text(const ot_cluster *c, ot_str *out)
{
    static const char *const headings[] = {"WHAT",    ">MEDIAN", ">QUARTILE", ">QUARTILE",
                                           ">GBIT/S", ">BOUND",  ">OF IT",    "BY"};
    ot_cli_table t;
    ot_cli_table_init(&t, headings, OT_COUNT(headings));
    for (size_t i = 0; i < c->n; i++) {
        const ot_cluster_figure *f = &c->figures[i];
        char name[64];
        name_of(f, name);
        ot_cli_table_cell(&t, name);
        time_cell(&t, f->median_us);
        time_cell(&t, f->low_us);
        time_cell(&t, f->high_us);
        if (gbit(f) > 0 && f->kind != OT_CLUSTER_SMALL_SUM) {
            ot_cli_table_cellf(&t, "%.2f", gbit(f));
        } else {
            ot_cli_table_cell(&t, "");
        }
        time_cell(&t, f->bound_us);
        if (f->bound_us > 0) {
            ot_cli_table_cellf(&t, "%.0f%%", f->share * 100);
        } else {
            ot_cli_table_cell(&t, "");
        }
        ot_cli_table_cell(&t, f->by);
    }
    ot_str_addf(out, "%" PRId32 " ranks on %" PRId32 " host%s\n", c->ranks, c->hosts,
                c->hosts == 1 ? "" : "s");
    ot_cli_table_print(&t, out);
    ot_cli_table_done(&t);
    ot_str_addf(out, "\nA sum is bound by its bytes (%s) and one barrier.\n",
                c->hosts > 1 ? "2(h-1)/h of them over TCP as measured, h hosts"
                             : "1.5 x 2(n-1)/n of them by a copy as measured, n ranks");
    bool over = false;
    for (size_t i = 0; i < c->n; i++) {
        over |= c->figures[i].share > 1.02;
    }
    ot_str_adds(out, over ? "More than 100%: the bound was measured while something else ran here "
                            "(measure again when it is quiet), or the network lets short bursts "
                            "pass, as those of clouds do.\n"
                          : "");
    char model[1024];
    if (ot_cost_format(&c->links, model, sizeof model) > 0) {
        ot_str_addf(out, "\n# for overtake run --links:\n%s", model);
    }
}

void ot_cluster_json(const ot_cluster *c, ot_str *out)
{
    ot_str_addf(out, "{\"ranks\": %" PRId32 ", \"hosts\": %" PRId32 ", \"figures\": [", c->ranks,
                c->hosts);
    for (size_t i = 0; i < c->n; i++) {
        const ot_cluster_figure *f = &c->figures[i];
        ot_str_addf(out,
                    "%s\n  {\"what\": \"%s\", \"bytes\": %" PRIu64 ", \"n\": %zu"
                    ", \"median_us\": %.3f, \"low_quartile_us\": %.3f"
                    ", \"high_quartile_us\": %.3f",
                    i > 0 ? "," : "", kinds[f->kind], f->bytes, f->n, f->median_us, f->low_us,
                    f->high_us);
        if (f->kind == OT_CLUSTER_SMALL_SUM) {
            ot_str_addf(out, ", \"tensors\": %d", OT_CLUSTER_SMALL);
        }
        if (f->bound_us > 0) {
            ot_str_addf(out, ", \"bound_us\": %.3f, \"share_of_bound\": %.4f", f->bound_us,
                        f->share);
        }
        if (f->by[0] != 0) {
            ot_str_addf(out, ", \"algorithm\": \"%s\"", f->by);
        }
        ot_str_adds(out, "}");
    }
    char model[1024];
    (void)ot_cost_format(&c->links, model, sizeof model);
    ot_str_adds(out, "\n ], \"links\": ");
    ot_str_add_quoted(out, model);
    ot_str_adds(out, "}\n");
}
