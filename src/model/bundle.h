/* A bundle: one version of a model as a directory named by the SHA-256 of its manifest.json.
 *
 * Built once from its parts, then only read and verified. What is verified: every file that the
 * manifest names is there, is a regular file (no symbolic links), has the size and the digest it
 * should have; nothing else is there; the golden answers fit the signature and are finite.
 * Threads: any; an ot_bundle is immutable once open. Lifetime: init by open or build, done by
 * ot_bundle_done.
 * Errors: OT_NOT_FOUND names a missing file, OT_DATA_LOSS a wrong size or digest, OT_INVALID a
 * wrong content, OT_EXHAUSTED a limit. */
#ifndef OT_MODEL_BUNDLE_H
#define OT_MODEL_BUNDLE_H

#include "base/disk.h"
#include "base/error.h"
#include "base/hash.h"
#include "model/golden.h"
#include "model/manifest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_BUNDLE_BYTES_MAX (64ull << 30)    /* all files of a bundle together */
#define OT_BUNDLE_DEPTH_MAX 16               /* folders below the bundle */
#define OT_BUNDLE_PART_BYTES_MAX (64u << 20) /* each file beside the model's own */

/* Paths of the parts inside a bundle. */
#define OT_BUNDLE_MODEL "model"
#define OT_BUNDLE_TRAINED_ON "reference/trained_on.hist"
#define OT_BUNDLE_OUTPUTS "reference/outputs.hist"
#define OT_BUNDLE_GOLDEN "golden/golden.json"
#define OT_BUNDLE_LINEAGE "lineage.json"

typedef struct ot_bytes {
    const void *p; /* NULL: the part is absent */
    size_t n;
} ot_bytes;

typedef struct ot_bundle_parts {
    const char *model_path;       /* the user's model: a file or a directory; copied */
    const ot_manifest *signature; /* format, inputs, outputs, batch, prediction; its files are not
                                     looked at */
    ot_bytes trained_on;          /* stats/hist.h, binary; see model/reference.h */
    ot_bytes outputs;
    ot_bytes golden;  /* golden.json; see model/golden.h */
    ot_bytes lineage; /* lineage.json */
} ot_bundle_parts;

typedef struct ot_bundle {
    char *dir;
    ot_manifest manifest;
    ot_digest digest;    /* of manifest.json: the bundle's name */
    uint64_t size_bytes; /* of all files, manifest included */
} ot_bundle;

/* Builds a bundle at `dir`, which must not exist: written as a staging directory beside it, synced
 * and renamed, so that it is whole or not there. */
ot_rc ot_bundle_build(ot_disk *disk, const char *dir, const ot_bundle_parts *parts,
                      ot_digest *digest_out, ot_error *err) OT_CHECKED;

enum {
    OT_BUNDLE_TRUST_CONTENT = 1, /* check names, kinds and sizes but do not hash the files: for a
                                    private directory that was verified before */
};

/* Opens and verifies. With `expect` not NULL the manifest's digest must be that one. */
ot_rc ot_bundle_open(ot_disk *disk, const char *dir, unsigned flags, const ot_digest *expect,
                     ot_bundle *b_out, ot_error *err) OT_CHECKED;
void ot_bundle_done(ot_bundle *b); /* also of a zeroed one; also for OT_AUTO */

/* "DIR/model" or, when the model is a single file, "DIR/model/FILE": what a runtime is handed. */
ot_rc ot_bundle_model_path(const ot_bundle *b, char out[OT_PATH_MAX], ot_error *err) OT_CHECKED;

/* A part's bytes appended to out; OT_NOT_FOUND when the bundle does not have it. */
ot_rc ot_bundle_read_part(ot_disk *disk, const ot_bundle *b, const char *path, ot_str *out,
                          ot_error *err) OT_CHECKED;

/* The golden answers, checked against the signature; OT_NOT_FOUND when there are none. */
ot_rc ot_bundle_golden(ot_disk *disk, const ot_bundle *b, ot_golden *g_out,
                       ot_error *err) OT_CHECKED;

/* Walks the regular files below `dir` in no particular order; `rel` is the path below it. Refuses
 * symbolic links and special files, more than OT_MANIFEST_FILES_MAX files, a deeper tree than
 * OT_BUNDLE_DEPTH_MAX. */
typedef ot_rc ot_tree_fn(void *arg, const char *rel, const ot_stat *st, ot_error *err);
ot_rc ot_tree_walk(ot_disk *disk, const char *dir, ot_tree_fn *fn, void *arg,
                   ot_error *err) OT_CHECKED;

/* Copies a regular file to a new one, synced, and digests it on the way. */
ot_rc ot_file_copy(ot_disk *disk, const char *from, const char *to, unsigned mode,
                   ot_digest *digest_out, uint64_t *size_out, ot_error *err) OT_CHECKED;

/* SHA-256 and size of a regular file, read in pieces; refuses a symbolic link. */
ot_rc ot_file_digest(ot_disk *disk, const char *path, ot_digest *digest_out, uint64_t *size_out,
                     ot_error *err) OT_CHECKED;

#endif
