/* The cost model: which algorithm an operation takes, from measured links.
 *
 * A message costs latency + bytes / rate on its link, and some time of the sender's processor; a
 * reduction bytes / rate. `overtake tune` measures them and writes them down; without that,
 * defaults by link type. All ranks choose alike because all hold the same numbers (rank 0's text,
 * spread at init) and the choice does not look at the own rank.
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_COST_H
#define OT_COLLECTIVE_COST_H

#include "collective/codec.h"
#include "collective/schedule.h"

typedef struct ot_link_cost {
    double latency_us, bytes_per_us;
    bool measured; /* the text said its rate */
} ot_link_cost;

typedef struct ot_cost_model {
    ot_link_cost local, remote; /* within a host, between hosts */
    double message_us;          /* one core, per message sent or received */
    double reduce_bytes_per_us; /* one core, fp32 */
    double codec_bytes_per_us;  /* one core, fp32 that a codec encodes or decodes */
} ot_cost_model;

/* Shared memory within a host; between hosts TCP over 1 Gbit/s. */
ot_cost_model ot_cost_default(void);
/* The same with another rate between hosts. */
ot_cost_model ot_cost_at(double gbit_per_s);
/* Predicted time of the algorithm, microseconds; infinite where it does not do the kind. */
double ot_cost_us(const ot_cost_model *m, ot_algorithm a, const ot_coll_shape *shape);
ot_algorithm ot_cost_choose(const ot_cost_model *m, const ot_coll_shape *shape);

/* Which bits an allreduce of F32 may lose: one setting of the user. */
typedef enum ot_loss {
    OT_LOSS_NONE,
    OT_LOSS_HALF, /* BF16: as many magnitudes as F32 */
    OT_LOSS_F16,
    OT_LOSS_ANY
} ot_loss;

/* What low rank (lowrank.h) makes of an operation: two sums of so many numbers, which stand, by
 * `columns` of each, for matrices of `within` ones. 0 of them: it can't. */
typedef struct ot_low_sizes {
    uint64_t first, second, within, columns;
} ot_low_sizes;

typedef enum ot_way { OT_WAY_EXACT, OT_WAY_CODED, OT_WAY_LOWRANK } ot_way;

/* Low rank or a codec is taken where it is predicted to be a tenth faster than the best exact way,
 * over links that have been measured. */
typedef struct ot_codec_choice {
    ot_way way;
    ot_algorithm exact; /* of the ways that are allowed; infinite: none is */
    ot_codec codec;
    double exact_us, coded_us, low_us;
} ot_codec_choice;

ot_codec_choice ot_cost_codec(const ot_cost_model *m, ot_loss loss, const ot_low_sizes *low,
                              const ot_coll_shape *shape);
/* The predicted time of the way that was chosen. */
double ot_codec_choice_us(const ot_codec_choice *c);
/* What was chosen and why, for people, in one line. */
void ot_codec_choice_text(const ot_codec_choice *c, const ot_cost_model *m, ot_loss loss,
                          const ot_coll_shape *shape, char *text, size_t size);

/* The model as text, "key = value" lines with '#' comments, and back. Values have up to three
 * decimals, more are rounded when written. What a text leaves out is the default's; unknown keys
 * are errors that name the line. */
ot_rc ot_cost_parse(const char *text, ot_cost_model *out, ot_error *err) OT_CHECKED;
/* Links that were not measured are left out. As snprintf: gives the length, even where size is
 * less. */
size_t ot_cost_format(const ot_cost_model *m, char *text, size_t size);

typedef struct ot_cost_sample {
    double bytes, us;
} ot_cost_sample;

/* The link that the measurements are of: least squares of relative errors, in which what lies far
 * off counts for little (Huber 1964, reweighted). OT_INVALID: fewer than two sizes, or times that
 * don't grow with the bytes. */
ot_rc ot_cost_fit(const ot_cost_sample *samples, size_t n, ot_link_cost *out,
                  ot_error *err) OT_CHECKED;

#endif
