/* The store: SQLite behind one writer with group commit and a pool of readers, over the disk seam.
 *
 * What changes state runs inside ot_store_write() and leaves its event in the same transaction
 * (store/events.h). SQL and sqlite3.h stay inside src/store: other modules call typed operations
 * that take an ot_txn.
 *
 * Durability: when a write returns OT_OK its transaction is on the disk (one fsync of the
 * write-ahead log serves all writes of a group). After a failed fsync or a failed write other than
 * "disk full" the store is *failed*: nothing more is acknowledged until the process restarts.
 *
 * Threads: every function from any thread. Lifetime: ot_store_open .. ot_store_close; the disk must
 * outlive the store. One process at a time uses a directory. */
#ifndef OT_STORE_STORE_H
#define OT_STORE_STORE_H

#include "base/disk.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_store ot_store;
typedef struct ot_txn ot_txn; /* valid only inside the function it is given to */

/* Zero means the default in brackets. */
typedef struct ot_store_options {
    size_t struct_size;
    uint32_t readers_max;      /* read connections, opened when first needed [4, at most 32] */
    uint32_t queue_max;        /* waiting ot_store_submit calls [1024] */
    uint32_t group_max;        /* writes in one commit [256] */
    uint32_t cache_kib;        /* page cache of the writer; a reader has a quarter [1024] */
    uint32_t checkpoint_pages; /* write-ahead log length that starts a checkpoint [1000] */
} ot_store_options;

/* Opens or creates the store in directory `dir` (made if missing) and brings its schema forward, a
 * copy of the database kept beside it (docs/upgrade.md). A newer schema stays as it is.
 * `opt` may be NULL. OT_UNAVAILABLE: another process uses the directory. OT_PRECONDITION: the
 * schema is too new for this program, or the file is not a store. OT_DATA_LOSS: the file is
 * damaged.
 */
ot_rc ot_store_open(ot_disk *disk, const char *dir, const ot_store_options *opt,
                    ot_store **store_out, ot_error *err) OT_CHECKED;
/* A store to look at: reads, blobs and snapshots (store/backup.h) work, writes are refused, the
 * schema stays as it is and nothing on the disk changes. Takes no lock: the caller sees to it that
 * no process has the store open. OT_NOT_FOUND: there is none. */
ot_rc ot_store_open_view(ot_disk *disk, const char *dir, ot_store **store_out,
                         ot_error *err) OT_CHECKED;
int64_t ot_store_schema_newest(void); /* the schema's version that this program makes */
ot_rc ot_store_schema_version(ot_txn *txn, int64_t *version_out, ot_error *err) OT_CHECKED;
/* OT_PRECONDITION: it is of a newer program, and not for this one. */
ot_rc ot_store_schema_check(ot_txn *txn, ot_error *err) OT_CHECKED;
/* Finishes what is queued, stops the writer thread, closes. No other call may be running. */
void ot_store_close(ot_store *store);

/* Does the work of one transaction. A code other than OT_OK undoes exactly this function's changes
 * and is what the caller gets. Must be quick and must not block: every other writer waits. Must not
 * call ot_store_write (refused); may call ot_store_submit. Has no effect outside the transaction
 * until it is known to be durable. */
typedef ot_rc ot_store_fn(ot_txn *txn, void *arg, ot_error *err);

/* Runs `fn` in the current group and returns after the group is durable. `fn` runs on the writer
 * thread, on the calling thread, or on another thread that waits in this function, never two at a
 * time. OT_UNAVAILABLE: the store has failed; restart to recover; or the disk is full: nothing was
 * changed and later writes can succeed. */
ot_rc ot_store_write(ot_store *store, ot_store_fn *fn, void *arg, ot_error *err) OT_CHECKED;

/* Called on the writer thread or on a thread inside ot_store_write, after the group is durable or
 * has failed. `err` is set when rc is not OT_OK. Must be quick; post to a loop. */
typedef void ot_store_done_fn(void *arg, ot_rc rc, const ot_error *err);

/* The asynchronous form: returns at once. `done` (may be NULL) is called exactly once if and only
 * if this returns OT_OK. OT_EXHAUSTED: queue_max writes wait already; try again later. */
ot_rc ot_store_submit(ot_store *store, ot_store_fn *fn, ot_store_done_fn *done, void *arg,
                      ot_error *err) OT_CHECKED;

/* Runs `fn` on a read-only snapshot in the calling thread, beside the writer; waits while all
 * readers are busy. Sees every write that was acknowledged before the call. Not nested. */
ot_rc ot_store_read(ot_store *store, ot_store_fn *fn, void *arg, ot_error *err) OT_CHECKED;

typedef struct ot_store_stats {
    uint64_t writes;         /* acknowledged */
    uint64_t groups;         /* commits: one fsync each */
    uint64_t refused;        /* failed or rolled back */
    uint64_t queued;         /* waiting now */
    uint64_t checkpoints;    /* completed */
    uint64_t wal_pages;      /* length of the write-ahead log after the last commit */
    uint64_t commit_ns_last; /* the last commit, fsync included */
    bool failed;
} ot_store_stats;

void ot_store_stats_get(ot_store *store, ot_store_stats *out);
const char *ot_store_dir(const ot_store *store);
ot_disk *ot_store_disk(const ot_store *store);
ot_store *ot_txn_store(ot_txn *txn);

#endif
