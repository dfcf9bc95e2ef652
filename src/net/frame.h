/* Frames of the agent protocol: a JSON part and a binary part over a stream socket.
 *
 *     0        4       8          12        16            16 + json_len
 *     | magic  | type  | json_len | bin_len | json bytes  | bin bytes |
 *
 * All words are 32-bit little-endian; the magic holds the version of the framing. JSON is opaque
 * here. The decoder is pure; ot_frame_conn puts it on a loop.
 *
 * Threads: a connection belongs to its loop's thread. */
#ifndef OT_NET_FRAME_H
#define OT_NET_FRAME_H

#include "base/error.h"
#include "net/loop.h"

#include <stddef.h>
#include <stdint.h>

#define OT_FRAME_MAGIC 0x3146544fu /* "OTF1" */
#define OT_FRAME_HEAD 16

typedef struct ot_frame {
    uint32_t type;
    const char *json; /* not NUL-terminated */
    size_t json_len;
    const uint8_t *bin; /* any alignment */
    size_t bin_len;
} ot_frame;

typedef struct ot_frame_limits {
    uint32_t json_max, bin_max; /* bytes of one frame */
    size_t queue_max;           /* bytes waiting to be sent */
} ot_frame_limits;

/* 1 MiB, 64 MiB, 96 MiB. */
extern const ot_frame_limits ot_frame_limits_default;

void ot_frame_head_put(uint8_t head[OT_FRAME_HEAD], uint32_t type, uint32_t json_len,
                       uint32_t bin_len);
/* Looks at buf[0, n). OT_OK: *need_out is the size of the first frame; it is complete when
 * n >= *need_out, and *frame_out is filled then (pointing into buf). While the head is incomplete
 * *need_out is OT_FRAME_HEAD. OT_DATA_LOSS on a wrong magic, OT_EXHAUSTED on a length over its
 * limit, seen as soon as the head is there. */
ot_rc ot_frame_decode(const uint8_t *buf, size_t n, const ot_frame_limits *limits,
                      ot_frame *frame_out, size_t *need_out, ot_error *err) OT_CHECKED;

typedef struct ot_frame_conn ot_frame_conn;

typedef struct ot_frame_ops {
    /* The frame's bytes are valid during the call. */
    void (*on_frame)(void *arg, ot_frame_conn *c, const ot_frame *f);
    /* Once, from the loop, never from inside ot_frame_send: the peer closed (OT_CANCELLED), broke,
     * or sent garbage; err says which. The owner calls ot_frame_conn_destroy then or later. Not
     * called after ot_frame_conn_destroy. */
    void (*on_close)(void *arg, ot_frame_conn *c, const ot_error *err);
    /* The queue is empty again after a send gave OT_EXHAUSTED. May be NULL. */
    void (*on_drain)(void *arg, ot_frame_conn *c);
} ot_frame_ops;

/* Takes a connected (or still connecting: ot_sock_connect_start) non-blocking socket and owns it
 * when OT_OK. `ops` must stay valid; `limits` NULL: default. */
ot_rc ot_frame_conn_create(ot_loop *loop, int fd, const ot_frame_limits *limits,
                           const ot_frame_ops *ops, void *arg, ot_frame_conn **conn_out,
                           ot_error *err) OT_CHECKED;
/* Closes at once; what was not sent is dropped. Safe inside callbacks and for NULL. */
void ot_frame_conn_destroy(ot_frame_conn *c);

/* Queues a whole frame (copied). OT_EXHAUSTED when queue_max would be passed: nothing was queued;
 * OT_INVALID over json_max or bin_max; OT_UNAVAILABLE after the connection broke. */
ot_rc ot_frame_send(ot_frame_conn *c, uint32_t type, const void *json, size_t json_len,
                    const void *bin, size_t bin_len, ot_error *err) OT_CHECKED;
size_t ot_frame_conn_queued(const ot_frame_conn *c); /* bytes not yet handed to the kernel */
int ot_frame_conn_fd(const ot_frame_conn *c);        /* for ot_sock_peer_uid; -1 when broken */

#endif
