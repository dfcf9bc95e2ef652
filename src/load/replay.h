/* `overtake replay`: requests of a recording sent again at their own times, their answers compared
 * with the recorded ones.
 *
 * Threads: one. Lifetime: a call; the result is plain values. */
#ifndef OT_LOAD_REPLAY_H
#define OT_LOAD_REPLAY_H

#include "load/bench.h"

#define OT_REPLAY_REQUESTS_MAX 4000000
#define OT_REPLAY_BYTES_MAX (4ull << 30)

typedef struct ot_replay_options {
    const char *file, *url;
    ot_load_trust trust;
    const char *model;         /* NULL: each request's own */
    ot_load_protocol protocol; /* not TFS, whose answers have no types */
    double speed;              /* 2: twice as fast as it was recorded */
    unsigned connections, streams;
    uint64_t timeout_ns;
    double abs, rel; /* tolerance of the comparison */
    const volatile sig_atomic_t *stop;
} ot_replay_options;
void ot_replay_options_init(ot_replay_options *o); /* file and url lack */

typedef struct ot_replay {
    size_t requests;
    double seconds;                       /* that the recording took */
    uint64_t same_version, other_version; /* answers by the recorded version, by another */
    uint64_t differ_other;                /* of those that differ: by another version */
    char first_fault[400];
    ot_load_result result;
} ot_replay;

ot_rc ot_replay_run(const ot_replay_options *o, ot_replay *out, ot_error *err) OT_CHECKED;
void ot_replay_text(const ot_replay_options *o, const ot_replay *r, ot_str *out);
void ot_replay_json(const ot_replay_options *o, const ot_replay *r, ot_str *out);

#endif
