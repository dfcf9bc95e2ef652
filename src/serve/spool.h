/* The spool: pushes on disk until the control plane has acknowledged them.
 *
 * One file a push, named INCARNATION-STREAM-SEQ, with the finished JSON and the binary part. Files
 * of an earlier incarnation keep its name and are pushed when they are adopted. A file survives the
 * process, not the power: a sample is worth no fsync. Over its limit the oldest samples are dropped
 * and their rows counted for the next push of their deployment; windows have a limit of their own.
 *
 *     0          4         8          12
 *     | "OTSP"   | json_len | bin_len | json | bin |      32-bit little-endian
 *
 * Threads: any; pushes of one stream come from one thread. Lifetime: open/close. */
#ifndef OT_SERVE_SPOOL_H
#define OT_SERVE_SPOOL_H

#include "base/disk.h"
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define OT_SPOOL_WINDOWS_MAX 20000    /* files: two weeks of minutes */
#define OT_SPOOL_PUSH_MAX (16u << 20) /* bytes of one push */

typedef enum ot_stream { OT_STREAM_WINDOW, OT_STREAM_SAMPLE, OT_STREAMS } ot_stream;
const char *ot_stream_name(ot_stream s);

typedef struct ot_spool ot_spool;

ot_rc ot_spool_open(ot_disk *disk, const char *dir, uint64_t incarnation, uint64_t max_bytes,
                    ot_spool **spool_out, ot_error *err) OT_CHECKED;
/* Takes in what lies there of earlier incarnations, once; no process of theirs may be left. */
ot_rc ot_spool_adopt(ot_spool *s, ot_error *err) OT_CHECKED;
void ot_spool_close(ot_spool *s); /* the files stay; NULL is fine */
void ot_spool_set_max(ot_spool *s, uint64_t max_bytes);

/* Stores a push: `fields` are its JSON members without braces; stream, seq and incarnation are put
 * before them, and "dropped_rows" of the deployment when there are any. `rows` is what is lost when
 * the file has to be dropped. */
ot_rc ot_spool_add(ot_spool *s, ot_stream stream, const char *deployment, uint64_t rows,
                   const char *fields, const struct iovec *bin, size_t n_bin,
                   ot_error *err) OT_CHECKED;
/* Counts rows that never became a push. */
void ot_spool_count_dropped(ot_spool *s, const char *deployment, uint64_t rows);

/* A push as it lies on disk. */
typedef struct ot_spooled {
    uint64_t incarnation, seq;
    ot_str bytes;     /* the file */
    const char *json; /* into bytes */
    const uint8_t *bin;
    size_t json_len, bin_len;
} ot_spooled;

/* The first push of the stream that was not sent yet, marked as sent; pushes of different
 * incarnations are never in flight together. OT_NOT_FOUND when there is none now. An unreadable
 * file is removed with a warning. Free `bytes` with ot_str_done. */
ot_rc ot_spool_next(ot_spool *s, ot_stream stream, ot_spooled *out, ot_error *err) OT_CHECKED;
/* All is unsent again: for a new connection. */
void ot_spool_rewind(ot_spool *s);
/* Everything of the stream up to seq, of the incarnation that is in flight (0) or of that one, is
 * durable elsewhere. */
void ot_spool_ack(ot_spool *s, ot_stream stream, uint64_t incarnation, uint64_t seq);
/* What waits, for metrics and the drain. */
void ot_spool_pending(ot_spool *s, uint64_t *files_out, uint64_t *bytes_out,
                      uint64_t *dropped_rows_out);

#endif
