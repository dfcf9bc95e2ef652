/* Answers compared: with expected outputs, or else with the first answer that the same version gave
 * to the same input. Versions that answered are counted.
 *
 * Numbers agree within a tolerance (|a - b| <= abs + rel * |b|): a runtime that puts rows of
 * several requests into one run may round differently. Threads: one at a time. Lifetime:
 * create/destroy. */
#ifndef OT_LOAD_CHECK_H
#define OT_LOAD_CHECK_H

#include "load/inputs.h"
#include "load/protocol.h"

#define OT_LOAD_VERSIONS_MAX 4096 /* told apart; a version beyond is a malformed answer */

typedef struct ot_load_check ot_load_check;

typedef struct ot_load_version {
    char name[24];
    uint64_t correct, wrong; /* measured ones */
} ot_load_version;

/* `expected`: outputs for each input in the order of the target's signature, or NULL. Both must
 * outlive the check. */
ot_rc ot_load_check_create(const ot_load_target *t, size_t n_inputs, const ot_load_inputs *expected,
                           double abs, double rel, ot_load_check **out, ot_error *err) OT_CHECKED;
void ot_load_check_destroy(ot_load_check *c); /* NULL is fine */

/* An ot_load_judge_fn; arg is the check. */
ot_load_outcome ot_load_check_judge(void *c, size_t request, const ot_load_answer *a,
                                    bool measured);

size_t ot_load_check_versions(const ot_load_check *c, const ot_load_version **out);
/* What the first answer that was not correct said, "" when all were. */
const char *ot_load_check_first_fault(const ot_load_check *c);

/* The version that answered, by the answer's head or its message; "" when neither says it. */
void ot_load_answered_by(const ot_load_target *t, const ot_load_answer *a, char out[24]);
/* Whether two tensors agree; `why` gets a text when not. */
bool ot_load_agrees(const ot_tensor *got, const ot_tensor *want, double abs, double rel, char *why,
                    size_t why_cap);

/* The same for all outputs of an answer, by name. */
bool ot_load_outputs_agree(const ot_load_outputs *got, const ot_tensor *want, size_t n, double abs,
                           double rel, char *why, size_t cap);

#endif
