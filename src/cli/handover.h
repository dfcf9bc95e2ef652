/* What a supervisor hands to the binary that it executes in its place (docs/architecture.md,
 * "Upgrade"): descriptors that stay open across the exec, and in one of them, a memory file, a JSON
 * text that says what they are. The environment names both:
 *
 *     OVERTAKE_HANDOVER=MEMORY:BINARY   descriptors: the JSON text, and the binary from before
 *     OVERTAKE_HANDOVER=MEMORY:BINARY:unread   it comes back: the other one could not read it
 *     OVERTAKE_HANDOVER=check:MEMORY   nothing is handed over: who can read it says so and ends
 *
 * Threads: before others start. */
#ifndef OT_CLI_HANDOVER_H
#define OT_CLI_HANDOVER_H

#include "base/disk.h"
#include "base/error.h"
#include "cli/supervise.h"
#include "serve/serve.h"

#define OT_HANDOVER_ENV "OVERTAKE_HANDOVER"
#define OT_HANDOVER_VERSION 1
#define OT_HANDOVER_BYTES_MAX 65536

enum { OT_HANDOVER_SERVE, OT_HANDOVER_CONTROL, OT_HANDOVER_CHILDREN };

typedef struct ot_handover {
    char version[32]; /* of the binary that has handed over */
    int lock, inference, control;
    char inference_addr[300], control_addr[300];
    ot_serve_listener more[OT_SERVE_LISTENERS_MAX - 1]; /* beside `inference` */
    size_t n_more;
    ot_supervise_running children[OT_HANDOVER_CHILDREN];
    bool again;                     /* another upgrade was asked for */
    char why[OT_SUPERVISE_WHY_MAX]; /* not empty: the upgrade failed, it goes back */
} ot_handover;

/* OT_INVALID: it is none, or of a version that is not known. Members that are not known are passed
 * over. */
ot_rc ot_handover_parse(const char *json, size_t n, ot_handover *out, ot_error *err) OT_CHECKED;
/* A memory file with the JSON text, close-on-exec. */
ot_rc ot_handover_write(const ot_handover *h, int *memory_out, ot_error *err) OT_CHECKED;

typedef enum ot_handover_kind {
    OT_HANDOVER_NONE,
    OT_HANDOVER_CHECK,
    OT_HANDOVER_GIVEN,
    OT_HANDOVER_UNREAD, /* our own, given back */
} ot_handover_kind;

/* What the environment names; the variable is removed. Descriptors are -1 where there are none. */
ot_rc ot_handover_find(ot_handover_kind *kind_out, int *memory_out, int *binary_out,
                       ot_error *err) OT_CHECKED;
/* Reads it, and changes nothing. */
ot_rc ot_handover_read(int memory, ot_handover *out, ot_error *err) OT_CHECKED;
/* Reads it and takes the descriptors over (close-on-exec again). OT_INVALID also when one of them
 * is not what it should be, or a child is not ours. */
ot_rc ot_handover_take(int memory, ot_handover *out, ot_error *err) OT_CHECKED;
/* Keeps the descriptors open across an exec, or no longer. */
void ot_handover_keep(const ot_handover *h, bool keep);

#endif
