/* The access log: a line of JSON a request, in a file that is kept below a size.
 *
 * A worker puts a record into a ring of its own and never waits; a thread writes what is there a
 * few times a second. A full ring drops records, and counts them. No bodies, no keys, no query
 * strings. Requests that failed are always written, others by `sample`. Threads:
 * ot_access_log_begin and what a worker calls through it on that worker; the rest as it says.
 * Lifetime: create, start, stop (writes what is left), destroy. */
#ifndef OT_SERVE_ACCESS_LOG_H
#define OT_SERVE_ACCESS_LOG_H

#include "base/disk.h"
#include "net/http_server.h"

#define OT_ACCESS_LOG_KEPT 4 /* files: FILE, FILE.1, ... */

typedef struct ot_access_log ot_access_log;

/* What the log says of a request beside what HTTP knows; in the request's arena, at req->note. */
typedef struct ot_log_note {
    ot_access_log *log;
    unsigned worker;
    char client[65], deployment[65];
    uint64_t version; /* that answered; 0: none did */
    int64_t rows;
    char prediction[64]; /* its id, or "" */
} ot_log_note;

/* `max_bytes`: of all files together. */
ot_rc ot_access_log_create(ot_disk *disk, const char *path, double sample, uint64_t max_bytes,
                           unsigned n_workers, ot_access_log **log_out, ot_error *err) OT_CHECKED;
ot_rc ot_access_log_start(ot_access_log *l, ot_error *err) OT_CHECKED;
void ot_access_log_stop(ot_access_log *l);
void ot_access_log_destroy(ot_access_log *l); /* NULL is fine */

/* The request is written when it has been answered. Without memory it is not. */
void ot_access_log_begin(ot_access_log *l, unsigned worker, ot_http_req *req);

/* Any thread. */
typedef struct ot_access_log_stats {
    uint64_t lines, dropped, failed_writes;
} ot_access_log_stats;
void ot_access_log_stats_get(const ot_access_log *l, ot_access_log_stats *out);

#endif
