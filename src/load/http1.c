/* HTTP/1.1 as a wire of the engine: one request at a time on a connection. */
#include "base/mem.h"
#include "load/engine_internal.h"
#include "load/reply.h"

#include <errno.h>

#define READ_LEAST 16384

typedef struct http1 {
    ot_load_reply reply;
    ot_str in;
    const ot_load_request *out; /* being sent */
    size_t sent;                /* of head and body together */
} http1;

static ot_rc open1(ot_load_conn *c, ot_error *err)
{
    http1 *h = ot_calloc(1, sizeof *h);
    if (h == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for a connection");
    }
    ot_str_init(&h->in);
    c->state = h;
    return OT_OK;
}

static void close1(ot_load_conn *c)
{
    http1 *h = c->state;
    if (h != NULL) {
        ot_str_done(&h->in);
        ot_free(h);
        c->state = NULL;
    }
}

/* Sends what is left of the request. A connection that broke shows when it is read. */
static bool writable1(ot_load_conn *c)
{
    http1 *h = c->state;
    c->wants_write = false;
    while (h->out != NULL) {
        const ot_str *head = &h->out->head, *body = &h->out->body;
        struct iovec iov[2];
        int n = 0;
        if (h->sent < head->len) {
            iov[n++] = (struct iovec){head->data + h->sent, head->len - h->sent};
        }
        size_t of_body = h->sent > head->len ? h->sent - head->len : 0;
        if (body->len > of_body) {
            iov[n++] = (struct iovec){body->data + of_body, body->len - of_body};
        }
        if (n == 0) {
            h->out = NULL;
            break;
        }
        ssize_t k = ot_load_write(c, iov, n);
        if (k < 0) {
            c->wants_write = errno == EAGAIN;
            h->out = errno == EAGAIN ? h->out : NULL;
            break;
        }
        h->sent += (size_t)k;
    }
    return true;
}

static void send1(ot_load_conn *c, ot_load_flight *f, const ot_load_request *r)
{
    (void)f;
    http1 *h = c->state;
    h->reply = (ot_load_reply){0};
    ot_str_clear(&h->in);
    h->out = r;
    h->sent = 0;
    (void)writable1(c);
}

static bool answer1(ot_load_conn *c, http1 *h)
{
    ot_load_reply *r = &h->reply;
    ot_load_answer a = {.status = r->status,
                        .grpc_status = -1,
                        .head = {h->in.data, r->head_len},
                        .body = {h->in.data + r->head_len, r->body_len}};
    /* An answer that came before its request was sent whole: the rest would be read as another. */
    bool stays = !r->close && h->out == NULL;
    ot_load_answered(c, &c->flights[0], &a);
    return stays;
}

static bool readable1(ot_load_conn *c)
{
    http1 *h = c->state;
    ot_load_flight *f = &c->flights[0];
    if (!ot_str_reserve(&h->in, READ_LEAST)) {
        return false;
    }
    ssize_t k = ot_load_read(c, h->in.data + h->in.len, h->in.cap - h->in.len - 1);
    if (k < 0) {
        return errno == EAGAIN;
    }
    h->in.len += (size_t)k;
    if (!f->busy) {
        return false; /* closed between requests, or bytes that nobody asked for */
    }
    const char *why;
    ot_http_step step = k == 0 ? ot_load_reply_end(&h->reply, h->in.len, &why)
                               : ot_load_reply_feed(&h->reply, h->in.data, &h->in.len, &why);
    if (step == OT_HTTP_DONE) {
        return answer1(c, h) && k > 0;
    }
    if (step == OT_HTTP_BAD && k > 0) {
        ot_load_ended(c, f, OT_LOAD_MALFORMED);
    }
    return step == OT_HTTP_MORE;
}

const ot_load_wire ot_load_http1 = {
    .open = open1,
    .send = send1,
    .readable = readable1,
    .writable = writable1,
    .close = close1,
};
