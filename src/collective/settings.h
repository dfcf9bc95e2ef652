/* The settings of a job: what its launcher says to all ranks, as text through the meeting point
 * ("key = value" lines; those of the cost model too, see cost.h).
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_SETTINGS_H
#define OT_COLLECTIVE_SETTINGS_H

#include "collective/cost.h"

#define OT_SETTINGS_MAX 2048 /* bytes of the text, with its end */

typedef struct ot_settings {
    int64_t timeout_us; /* of an operation; 0: none */
    ot_loss loss;       /* wire = exact, half, auto */
    ot_cost_model cost; /* written only if links were measured */
} ot_settings;

ot_settings ot_settings_default(void);
/* What a text leaves out is the default's. Errors name the line. */
ot_rc ot_settings_parse(const char *text, ot_settings *out, ot_error *err) OT_CHECKED;
void ot_settings_format(const ot_settings *s, char text[OT_SETTINGS_MAX]);
/* exact, half, auto */
ot_rc ot_loss_parse(const char *text, ot_loss *out, ot_error *err) OT_CHECKED;

#endif
