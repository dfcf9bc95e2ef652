/* From counts to series: the few numbers a block of traffic contributes to the evidence.
 *
 * A plan is made once from a schema and its reference counts. It lists the series: for a numeric
 * feature the mean of the normal score (location), the mean of the scale score, the share missing
 * and the share outside the range; for a category the shares of its commonest cells, unseen and
 * missing. Means are in standard deviations of the reference; shares are 2 asin sqrt((c + 3/8) /
 * (n + 3/4)), whose sampling variance is 1/n.
 *
 * Threads: immutable once made; any. */
#ifndef OT_STATS_SCORE_H
#define OT_STATS_SCORE_H

#include "stats/hist.h"

typedef enum ot_score_kind {
    OT_SCORE_LOCATION, /* mean normal score, reference sigmas */
    OT_SCORE_SCALE,    /* mean scale score: s^2 - 1 made orthogonal to 1 and s, standardised */
    OT_SCORE_MISSING,  /* share of missing values */
    OT_SCORE_OUTSIDE,  /* share below or above the reference's range */
    OT_SCORE_UNSEEN,   /* share of categories that the reference does not have */
    OT_SCORE_CELL,     /* share of one category */
} ot_score_kind;
const char *ot_score_kind_name(ot_score_kind k); /* "location", ... */
bool ot_score_is_share(ot_score_kind k);

enum { OT_SCORE_CELLS_MAX = 12, /* cells of a category that get a series */ OT_SCORE_KINDS = 6 };

typedef struct ot_score_series {
    uint32_t feature; /* in the schema */
    uint16_t kind;    /* ot_score_kind */
    uint16_t cell;    /* of OT_SCORE_CELL */
    double weight;    /* share of the promise of false alarms; all add to 1 */
} ot_score_series;

typedef struct ot_score_plan ot_score_plan;

/* `importance`: one weight >= 0 a feature (NULL: equal); a feature's weight is shared equally by
 * its series. Features that are not counted get none. OT_INVALID when no feature is left. */
ot_rc ot_score_plan_create(const ot_hist_schema *s, const ot_hist_table *reference,
                           const double *importance, ot_score_plan **plan_out,
                           ot_error *err) OT_CHECKED;
void ot_score_plan_destroy(ot_score_plan *p);
size_t ot_score_plan_count(const ot_score_plan *p);
const ot_score_series *
ot_score_plan_series(const ot_score_plan *p); /* ot_score_plan_count of them */

/* The block's value and row count of each series (ot_score_plan_count each); n = 0: no evidence.
 * The table must be of the plan's schema. */
ot_rc ot_score_plan_eval(const ot_score_plan *p, const ot_hist_table *block, double *value_out,
                         double *n_out, ot_error *err) OT_CHECKED;

/* The scores of the OT_HIST_CELLS cells of one numeric feature under reference counts, standardised
 * (0 at MISSING): location and scale. For display and tests. */
void ot_score_cells(const uint32_t *reference_counts, size_t inner, double *location_out,
                    double *scale_out);

double ot_score_share(double count, double n); /* 2 asin sqrt((c + 3/8) / (n + 3/4)) */
double ot_score_share_inverse(double y);       /* the share that stands for y */

#endif
