#include "launch/job_channel.h"

#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES 65536

/* A spec has the environment in it. */
static const ot_frame_limits limits = {
    .json_max = 16u << 20, .bin_max = 1u << 20, .queue_max = 64u << 20};

void ot_job_channel_init(ot_job_channel *c, int in, int out)
{
    *c = (ot_job_channel){.in = in, .out = out, .rx = OT_STR_INIT, .tx = OT_STR_INIT};
    ot_sock_nonblock(in, true);
    ot_sock_nonblock(out, true);
}

void ot_job_channel_done(ot_job_channel *c)
{
    if (c->out != c->in) {
        ot_fd_close(&c->out);
    }
    ot_fd_close(&c->in);
    c->out = -1;
    ot_str_done(&c->rx);
    ot_str_done(&c->tx);
}

bool ot_job_channel_flush(ot_job_channel *c)
{
    while (c->out >= 0 && c->tx_at < c->tx.len) {
        ssize_t k = write(c->out, c->tx.data + c->tx_at, c->tx.len - c->tx_at);
        if (k < 0 && errno == EAGAIN) {
            return true;
        }
        if (k < 0 && errno != EINTR) {
            return false;
        }
        c->tx_at += k > 0 ? (size_t)k : 0;
    }
    ot_str_clear(&c->tx);
    c->tx_at = 0;
    return c->out >= 0 && !c->tx.failed;
}

void ot_job_channel_send(ot_job_channel *c, ot_job_frame type, json_t *json, const void *bin,
                         size_t n)
{
    uint8_t head[OT_FRAME_HEAD];
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    size_t len = text != NULL ? strlen(text) : 0;
    ot_frame_head_put(head, type, (uint32_t)len, (uint32_t)n);
    if (ot_str_reserve(&c->tx, sizeof head + len + n)) { /* whole or not at all */
        ot_str_add(&c->tx, head, sizeof head);
        ot_str_add(&c->tx, text != NULL ? text : "", len);
        ot_str_add(&c->tx, bin != NULL ? bin : "", n);
    }
    free(text);
    json_decref(json);
    (void)ot_job_channel_flush(c);
}

size_t ot_job_channel_queued(const ot_job_channel *c)
{
    return c->tx.len - c->tx_at;
}

bool ot_job_channel_fill(ot_job_channel *c)
{
    if (c->in < 0) {
        return false;
    }
    size_t left = c->rx.len - c->rx_at;
    if (c->rx_at > 0) {
        memmove(c->rx.data, c->rx.data + c->rx_at, left);
        c->rx.len = left;
        c->rx_at = 0;
    }
    if (!ot_str_reserve(&c->rx, READ_BYTES)) {
        return false;
    }
    ssize_t k = read(c->in, c->rx.data + c->rx.len, READ_BYTES);
    c->rx.len += k > 0 ? (size_t)k : 0;
    return k > 0 || (k < 0 && (errno == EAGAIN || errno == EINTR));
}

ot_rc ot_job_channel_take(ot_job_channel *c, ot_frame *out, ot_error *err)
{
    union {
        const char *c;
        const uint8_t *u;
    } p = {.c = c->rx.data + c->rx_at};
    size_t need = 0, n = c->rx.len - c->rx_at;
    OT_TRY(ot_frame_decode(p.u, n, &limits, out, &need, err));
    if (n < OT_FRAME_HEAD || n < need) {
        return OT_NOT_FOUND;
    }
    c->rx_at += need;
    return OT_OK;
}

json_t *ot_job_frame_json(const ot_frame *f)
{
    return f->json_len > 0 ? json_loadb(f->json, f->json_len, 0, NULL) : NULL;
}
