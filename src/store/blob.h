/* The content store: files named by the SHA-256 of their bytes, DIR/blobs/<2 digits>/<64 digits>.
 *
 * A blob appears whole or not at all (temporary file, fsync, rename, fsync of the directory) and is
 * never changed afterwards. Putting the same bytes again is OK, also at the same time.
 *
 * Who stores a reference to a blob does so in a write transaction that checks ot_blob_exists: the
 * collector looks and deletes inside write transactions too, so the two cannot cross.
 *
 * A blob whose bytes no longer give its name is moved to DIR/blobs/corrupt/ when that is noticed,
 * reported as OT_DATA_LOSS and never served; putting the right bytes again heals it.
 *
 * Threads: any; a writer belongs to one thread at a time. Lifetime: the store's. */
#ifndef OT_STORE_BLOB_H
#define OT_STORE_BLOB_H

#include "base/hash.h"
#include "store/store.h"

#define OT_BLOB_SIZE_MAX (UINT64_C(1) << 40) /* 1 TiB */

/* `digest_out` may be NULL. */
ot_rc ot_blob_put(ot_store *store, const void *p, size_t n, ot_digest *digest_out,
                  ot_error *err) OT_CHECKED;
/* Copies a file (never links: its owner may change it later) and digests it on the way. At most
 * `size_max` bytes (0: OT_BLOB_SIZE_MAX). The outputs may be NULL. */
ot_rc ot_blob_put_file(ot_store *store, ot_disk *from, const char *path, uint64_t size_max,
                       ot_digest *digest_out, uint64_t *size_out, ot_error *err) OT_CHECKED;

/* Streams into a temporary file. */
typedef struct ot_blob_writer ot_blob_writer;
ot_rc ot_blob_writer_create(ot_store *store, uint64_t size_max, ot_blob_writer **writer_out,
                            ot_error *err) OT_CHECKED;
ot_rc ot_blob_writer_append(ot_blob_writer *w, const void *p, size_t n, ot_error *err) OT_CHECKED;
uint64_t ot_blob_writer_size(const ot_blob_writer *w); /* bytes appended so far */
/* Publishes. With `expect` (may be NULL) other bytes are refused as OT_DATA_LOSS. The writer still
 * has to be destroyed. The outputs may be NULL. */
ot_rc ot_blob_writer_commit(ot_blob_writer *w, const ot_digest *expect, ot_digest *digest_out,
                            uint64_t *size_out, ot_error *err) OT_CHECKED;
void ot_blob_writer_destroy(ot_blob_writer *w); /* without a commit nothing stays; NULL is OK */

bool ot_blob_exists(ot_store *store, const ot_digest *d);
ot_rc ot_blob_size(ot_store *store, const ot_digest *d, uint64_t *size_out,
                   ot_error *err) OT_CHECKED;
/* The file's path, for sendfile, hard links into read-only trees and child processes. Does not look
 * whether it exists. */
ot_rc ot_blob_path(ot_store *store, const ot_digest *d, char path_out[OT_PATH_MAX],
                   ot_error *err) OT_CHECKED;
/* Opens for reading; with `verify` the whole file is digested first. Close with ot_file_close. */
ot_rc ot_blob_open(ot_store *store, const ot_digest *d, bool verify, ot_file **file_out,
                   uint64_t *size_out, ot_error *err) OT_CHECKED;
/* Appends the whole blob, at most `max` bytes, to `out`; always verified. */
ot_rc ot_blob_read(ot_store *store, const ot_digest *d, uint64_t max, ot_str *out,
                   ot_error *err) OT_CHECKED;
/* Digests the file and compares. OT_NOT_FOUND, OT_DATA_LOSS. */
ot_rc ot_blob_verify(ot_store *store, const ot_digest *d, ot_error *err) OT_CHECKED;

/* Called for each blob; a code other than OT_OK ends the walk and is returned. */
typedef ot_rc ot_blob_each_fn(void *arg, const ot_digest *d, uint64_t size, ot_error *err);
ot_rc ot_blob_each(ot_store *store, ot_blob_each_fn *fn, void *arg, ot_error *err) OT_CHECKED;

typedef struct ot_blob_report {
    uint64_t blobs, bytes;           /* looked at */
    uint64_t bad;                    /* verify: corrupt, moved aside */
    uint64_t deleted, deleted_bytes; /* collect */
} ot_blob_report;

/* Verifies every blob; `bad` (may be NULL) is called for each corrupt one. OT_DATA_LOSS with
 * `report_out` set: there was at least one. */
typedef void ot_blob_bad_fn(void *arg, const ot_digest *d, const ot_error *why);
ot_rc ot_blob_verify_all(ot_store *store, ot_blob_bad_fn *bad, void *arg,
                         ot_blob_report *report_out, ot_error *err) OT_CHECKED;

/* Says whether something refers to the blob, in a write transaction. */
typedef ot_rc ot_blob_live_fn(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out,
                              ot_error *err);
/* Deletes blobs older than `grace_us` that are not live, in write transactions of at most 64 looks
 * each, so that writers wait for a batch at most; none while ot_blob_hold (store/backup.h). */
ot_rc ot_blob_collect(ot_store *store, int64_t grace_us, ot_blob_live_fn *live, void *arg,
                      ot_blob_report *report_out, ot_error *err) OT_CHECKED;

#endif
