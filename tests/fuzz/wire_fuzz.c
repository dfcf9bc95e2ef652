/* links: collective base */
/* What another rank may send: headers of messages, and the framing of control messages, which comes
 * in pieces of any size. */
#include "base/mem.h"
#include "collective/control.h"
#include "collective/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct feed {
    ot_link link;
    const uint8_t *data;
    size_t left, piece, handed;
} feed;

static ssize_t feed_recv(ot_link *l, void *p, size_t n)
{
    feed *f = (feed *)l;
    size_t k = OT_MIN(OT_MIN(n, f->left), f->piece);
    memcpy(p, f->data, k);
    f->data += k;
    f->left -= k;
    return (ssize_t)k;
}

static ssize_t feed_send(ot_link *l, const struct iovec *iov, int n)
{
    (void)l, (void)iov, (void)n;
    return 0;
}

static void feed_destroy(ot_link *l)
{
    (void)l;
}

static const ot_link_ops feed_ops = {
    .name = "feed", .send = feed_send, .recv = feed_recv, .destroy = feed_destroy};

static void on_want(void *arg, int32_t peer)
{
    (void)arg, (void)peer;
}

static void on_message(void *arg, int32_t from, const void *p, size_t n)
{
    feed *f = arg;
    const uint8_t *bytes = p;
    if (from != 0 || n > OT_CONTROL_MESSAGE_MAX) {
        abort();
    }
    f->handed += 4 + n;
    if (n > 0 && bytes[n - 1] == bytes[0]) { /* all of it may be read */
        f->handed += 0;
    }
}

static void on_broken(void *arg, int32_t peer, const ot_error *why)
{
    (void)arg;
    if (peer != 0 || why->msg[0] == 0) {
        abort();
    }
}

static void control(const uint8_t *data, size_t size, size_t piece)
{
    feed f = {.link = {.ops = &feed_ops}, .data = data, .left = size, .piece = piece};
    ot_control_lane_ops ops = {
        .want = on_want, .message = on_message, .broken = on_broken, .arg = &f};
    ot_control_lane *c;
    if (ot_control_lane_create(1, &ops, &c, NULL) == OT_OK) {
        ot_control_lane_link(c, 0, &f.link, false);
        if (f.handed > size) {
            abort();
        }
        ot_control_lane_destroy(c);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_wire_header h[2];
    ot_error err = {.rc = OT_OK};
    for (int i = 0; i < 2 && size >= (size_t)(i + 1) * OT_WIRE_HEADER; i++) {
        uint8_t again[OT_WIRE_HEADER];
        const uint8_t *in = data + (size_t)i * OT_WIRE_HEADER;
        if (ot_wire_read(in, &h[i], &err) != OT_OK) {
            if (err.msg[0] == 0) {
                abort();
            }
            break;
        }
        ot_wire_write(&h[i], again);
        if (memcmp(in, again, 44) != 0 || memcmp(in + 48, again + 48, OT_WIRE_NAME) != 0 ||
            ot_wire_compare(&h[i], &h[i], &err) != OT_OK) {
            abort();
        }
        if (i == 1 && ot_wire_compare(&h[0], &h[1], &err) != OT_OK && err.msg[0] == 0) {
            abort();
        }
    }
    if (size > 0) {
        control(data + 1, size - 1, data[0] + 1u);
    }
    return 0;
}
