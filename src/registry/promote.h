/* Versions that go from one server to another: signed where they come from, received in pieces
 * where they go.
 *
 * What comes in lies in a folder of its own, ROOT/<bundle's digest>/, outside the content store: no
 * version, nothing that serves and nothing that is collected knows of it until it is whole and is
 * registered in one transaction. Files that the content store has are linked there when it is
 * opened, so they stay when the store collects them. What breaks off goes on where it stood; what
 * is refused leaves nothing; what is given up is swept away.
 *
 * Threads: one at a time. Lifetime: the store's; an ot_incoming is a plain value.
 * Errors: OT_DENIED: no trusted key signed it; OT_INVALID: it is not what it says it is;
 * OT_PRECONDITION: not yet, or not here; OT_EXHAUSTED: a limit. */
#ifndef OT_REGISTRY_PROMOTE_H
#define OT_REGISTRY_PROMOTE_H

#include "model/trust.h"
#include "registry/registry.h"

#define OT_INCOMING_DIR "incoming"                     /* in the data directory */
#define OT_INCOMING_MAX 8                              /* open at a time */
#define OT_INCOMING_PIECE_MAX (4u << 20)               /* bytes */
#define OT_INCOMING_KEPT_US (INT64_C(24) * 3600000000) /* after the last piece */

/* The source: appends an envelope about the version and leaves `version.signed` (object key/ID).
 * OT_PRECONDITION: its bundle has no lineage. */
ot_rc ot_registry_sign(ot_store *store, const ot_signer *signer, const char *model, int64_t version,
                       const char *actor, ot_str *envelope_out, ot_error *err) OT_CHECKED;

typedef struct ot_incoming {
    ot_store *store;
    const char *root; /* on the store's disk; made when it is first needed */
} ot_incoming;

/* Checks envelope and manifest, before anything is kept, and opens what they describe, or opens it
 * again. Appends what ot_incoming_status does. */
ot_rc ot_incoming_open(const ot_incoming *in, const char *envelope, size_t n_envelope,
                       const char *manifest, size_t n_manifest, ot_str *json_out,
                       ot_error *err) OT_CHECKED;
/* {"bundle", "model", "version": N or null, "status", "files": [{"path", "size", "have"}...]}:
 * `version` and `status` when it is registered here already; `files` are those that lack bytes.
 * OT_NOT_FOUND: not open. */
ot_rc ot_incoming_status(const ot_incoming *in, const ot_digest *bundle, ot_str *json_out,
                         ot_error *err) OT_CHECKED;
/* The next bytes of a file. They are not synced: what a power cut takes of them shows in the
 * digests at the end. OT_PRECONDITION: it has another length by now. */
ot_rc ot_incoming_write(const ot_incoming *in, const ot_digest *bundle, const char *path,
                        uint64_t offset, const void *p, size_t n, ot_error *err) OT_CHECKED;

typedef struct ot_received {
    ot_registered registered; /* `existed`: it was here already, and nothing was changed */
    char model[65];
    char text[256]; /* "came from staging as digits@7, signed ...": for people */
} ot_received;

/* Checks everything once more and registers it as a version of its model. OT_PRECONDITION: bytes
 * are still to come. OT_INVALID, OT_DENIED: refused; nothing is kept. */
ot_rc ot_incoming_finish(const ot_incoming *in, const ot_digest *bundle, const char *actor,
                         ot_received *out, ot_error *err) OT_CHECKED;

/* Removes what has not moved since `before_us` (wall clock); *n_out: how many. */
ot_rc ot_incoming_sweep(ot_disk *disk, const char *root, int64_t before_us, size_t *n_out,
                        ot_error *err) OT_CHECKED;

#endif
