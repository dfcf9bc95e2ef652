/* Between golden.c and golden_read.c. */
#ifndef OT_MODEL_GOLDEN_INTERNAL_H
#define OT_MODEL_GOLDEN_INTERNAL_H

#include "model/golden.h"

void ot_golden_init(ot_golden *g, double abs, double rel);
ot_rc ot_golden_check_tolerance(double abs, double rel, ot_error *err) OT_CHECKED;
/* Golden values are finite: a model that answers NaN has nothing to be compared with. */
ot_rc ot_golden_check_finite(const ot_tensor *t, ot_error *err) OT_CHECKED;

#endif
