/* Looks whether this machine and a data directory are fit to run Overtake, and says what to do
 * where they are not. Changes nothing in the data directory; takes less than 30 s.
 *
 * Threads: one at a time; starts child processes and waits for them. */
#ifndef OT_DOCTOR_DOCTOR_H
#define OT_DOCTOR_DOCTOR_H

#include "base/error.h"
#include "base/sock.h"
#include "base/str.h"

typedef enum ot_check_state {
    OT_CHECK_OK,
    OT_CHECK_WARN, /* it works, and somebody should know */
    OT_CHECK_FAIL, /* it does not work */
} ot_check_state;

#define OT_CHECK_TEXT_MAX 1024

typedef struct ot_check {
    const char *name; /* "clock", "data.lock" */
    ot_check_state state;
    char text[OT_CHECK_TEXT_MAX]; /* what was found */
    char fix[OT_CHECK_TEXT_MAX];  /* what to do; "" when it is OK */
} ot_check;

const char *ot_check_state_name(ot_check_state s);

/* Called for each check when it is done. */
typedef void ot_check_fn(void *arg, const ot_check *check);

typedef struct ot_doctor_options {
    const char *data_dir; /* absolute; need not exist */
    const char *exe;      /* the overtake binary */
    ot_addr listen, control;
    bool no_app; /* leaves the small app out */
} ot_doctor_options;

void ot_doctor(const ot_doctor_options *o, ot_check_fn *fn, void *arg);

/* One check as a JSON object. */
void ot_check_json(const ot_check *c, ot_str *out);

#endif
