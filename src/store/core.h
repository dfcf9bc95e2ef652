/* The structs behind store.h, for the machinery of src/store (store.c, writer.c, conn.c, events.c).
 * Domain files include store/internal.h instead. */
#ifndef OT_STORE_CORE_H
#define OT_STORE_CORE_H

#include "store/events.h"
#include "store/internal.h"
#include "store/vfs.h"

#include <pthread.h>
#include <stdatomic.h>

#define OT_STORE_STMTS_MAX 96
#define OT_STORE_READERS_MAX 32
#define OT_STORE_LISTENERS_MAX 16

typedef struct ot_conn_stmt {
    sqlite3_stmt *stmt;
    uint64_t hash; /* of its text */
    uint64_t used; /* tick of the last use */
} ot_conn_stmt;

/* A connection with its statements; used by one thread at a time. */
typedef struct ot_conn {
    sqlite3 *db;
    ot_conn_stmt stmts[OT_STORE_STMTS_MAX];
    size_t stmt_count;
    uint64_t tick;
    /* The transaction's frame. */
    sqlite3_stmt *begin, *commit, *rollback, *savepoint, *release, *rollback_to;
} ot_conn;

/* Events that the current group has appended, copied for the listeners. */
typedef struct ot_event_group {
    ot_arena arena;
    ot_event *items;
    size_t count, cap;
    bool head_known;
    int64_t head_time_us;
    ot_event_head head; /* with what the open transaction appended */
} ot_event_group;

struct ot_txn {
    ot_store *store;
    ot_conn *conn;
    bool writes;
};

typedef struct ot_write_req ot_write_req;

typedef struct ot_listener {
    ot_store_event_fn *fn;
    void *arg;
} ot_listener;

struct ot_store {
    ot_disk *disk;
    char *dir;
    int lock_fd;
    bool is_view;
    ot_store_options opt;
    ot_vfs *vfs;
    atomic_int snapshots;  /* under way: no checkpoints meanwhile */
    atomic_int blob_holds; /* set in write transactions; > 0: the collector deletes nothing */

    /* The writer. Synchronization: `leading` is the baton: the thread that set it (or was handed
     * it) owns writer, events, wal_pages, checkpoint_at, need_checkpoint, and is the only one to
     * set `failed`; m guards the rest of this block. */
    ot_conn *writer;
    ot_event_group events;
    int wal_pages, checkpoint_at;
    bool need_checkpoint;
    size_t last_group;     /* its writes */
    uint64_t commit_ns;    /* what the last commit took */
    _Atomic uint32_t turn; /* changes when a group was answered or the baton passed on */
    atomic_bool wake_due;  /* the first thread that wakes is to wake the others */
    pthread_mutex_t m;
    pthread_cond_t writer_cv;
    ot_write_req *queue_head, *queue_tail;
    size_t queued, queued_async;
    bool leading, writer_turn, stopping;
    bool failed;
    char failed_why[512];
    ot_store_stats stats;
    pthread_t thread;
    bool thread_started;

    /* Readers. Synchronization: readers_m. */
    pthread_mutex_t readers_m;
    pthread_cond_t readers_cv;
    ot_conn *readers_free[OT_STORE_READERS_MAX];
    size_t readers_free_count, readers_open;

    /* Synchronization: listeners_m. */
    pthread_mutex_t listeners_m;
    pthread_cond_t listeners_cv;
    ot_listener listeners[OT_STORE_LISTENERS_MAX];
    size_t listener_count;
    bool listeners_running;
};

/* conn.c */
ot_rc ot_conn_open(ot_store *s, bool writes, ot_conn **conn_out, ot_error *err) OT_CHECKED;
void ot_conn_close(ot_conn *c);
/* Steps one of the frame's statements; the SQLite code. */
int ot_conn_frame(sqlite3_stmt *stmt);
/* Ends reads of statements that the transaction's function left open. */
void ot_conn_reset_all(ot_conn *c);

/* store.c: gives the log's file room for so many pages; by the holder of the baton. */
void ot_log_lengthen(ot_store *s, uint64_t pages);

/* schema.c */
ot_rc ot_schema_migrate(ot_store *s, ot_conn *c, ot_error *err) OT_CHECKED;

/* writer.c */
ot_rc ot_writer_start(ot_store *s, ot_error *err) OT_CHECKED;
void ot_writer_stop(ot_store *s);
/* Marks the store failed if its files are broken. */
void ot_writer_check_broken(ot_store *s);

/* blob.c: makes the directories, removes what a crash left half written. */
ot_rc ot_blob_store_open(ot_store *s, ot_error *err) OT_CHECKED;

/* events.c: the group's bookkeeping. */
typedef struct ot_event_mark {
    size_t count;
    bool head_known;
    int64_t head_time_us;
    ot_event_head head;
} ot_event_mark;
ot_event_mark ot_event_group_mark(const ot_event_group *g);
void ot_event_group_rewind(ot_event_group *g, const ot_event_mark *mark);
void ot_event_group_clear(ot_event_group *g); /* after a commit; keeps the head */
void ot_event_group_deliver(ot_store *s);
/* Brings the index by object up to the log's head, a batch of it; in a write transaction. */
ot_rc ot_events_index(ot_txn *txn, ot_error *err) OT_CHECKED;

#endif
