/* Where a version runs: in this process, or in a worker process of its own (docs/isolation.md).
 *
 * Threads: the loader's. */
#ifndef OT_SERVE_ISOLATION_H
#define OT_SERVE_ISOLATION_H

#include "serve/load.h"

typedef struct ot_isolation_choice {
    ot_isolation how; /* points into this struct and the server */
    char name[2 * OT_SERVE_NAME + 24];
    char dir[OT_PATH_MAX];
} ot_isolation_choice;

/* What the target says, else the replica's option. */
ot_rc ot_isolation_choose(const ot_serve *s, const ot_load *load, ot_isolation_choice *out,
                          ot_error *err) OT_CHECKED;
/* Removes what workers of a process that was killed have left, under DATA/replica. */
void ot_isolation_tidy(const ot_serve *s);

/* What people should know of it: to the variant's note. */
void ot_isolation_note(ot_variant *v);

#endif
