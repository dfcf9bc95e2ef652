/* Streams of gRPC: messages in as they come, answers out in their order, and what ends them.
 *
 * A client that sends faster than it is answered is held by HTTP/2's flow control: bytes are taken
 * as consumed only while there is room for items. A client that does not read its answers is held
 * the same way, since answers that do not leave keep their items. */
#include "protocol/grpc.h"

#include <stdio.h>
#include <string.h>

#define ITEMS_MAX 128 /* of a stream: received and not answered */
#define ITEM_CHUNK 8192
#define ITEM_LIMIT ((size_t)512 << 20)
#define ITEM_KEEP (256u << 10)      /* of answer and arena, for the next item */
#define BYTES_MAX (8u << 20)        /* of a stream's items; one may be larger */
#define WORKER_BYTES_MAX (1u << 30) /* of all streams of a worker */
#define IN_KEEP (1u << 20)          /* of the buffer for what comes, between messages */
#define LOOK_NS UINT64_C(250000000)
#define MOVE_NS UINT64_C(10000000000) /* in this time a message that has begun must move */
#define MOVE_BYTES 1024               /* so many bytes */

struct ot_grpc_stream {
    ot_grpc_open open; /* first */
    ot_worker *worker;
    ot_http_req *req;
    ot_grpc_item_fn *fn;
    ot_grpc_coding coding;
    ot_str in; /* what came and is no item yet */
    size_t unconsumed;
    size_t moved;      /* bytes that came since moved_ns */
    uint64_t moved_ns; /* 0: no message has begun, or it waits for us */
    ot_grpc_item *items, **tail, *spare;
    unsigned n_items;
    size_t bytes; /* of the items' messages and answers */
    bool whole;   /* the client has sent all */
    bool gone;    /* the client has gone, or can't be written to */
    bool busy;    /* its functions are on the stack: it may not end now */
    bool refused; /* what comes is not read any more */
    ot_rc rc;     /* refused: why */
    char why[256];
};

/* ---- what stays open */

static void look(void *arg)
{
    ot_worker *w = arg;
    for (ot_grpc_open *o = w->grpc_open, *next; o != NULL; o = next) {
        next = o->next;
        o->look(o);
    }
    if (w->grpc_open != NULL) {
        ot_loop_timer_set(w->loop, &w->grpc_timer, ot_loop_now_ns(w->loop) + LOOK_NS, look, w);
    }
}

void ot_grpc_open_add(ot_worker *w, ot_grpc_open *o, void (*fn)(ot_grpc_open *o))
{
    *o = (ot_grpc_open){.next = w->grpc_open, .at = &w->grpc_open, .worker = w, .look = fn};
    if (o->next != NULL) {
        o->next->at = &o->next;
    }
    w->grpc_open = o;
    if (!w->grpc_timer.active) {
        ot_loop_timer_set(w->loop, &w->grpc_timer, ot_loop_now_ns(w->loop) + LOOK_NS, look, w);
    }
}

void ot_grpc_open_remove(ot_grpc_open *o)
{
    if (o->at == NULL) {
        return;
    }
    *o->at = o->next;
    if (o->next != NULL) {
        o->next->at = o->at;
    }
    o->at = NULL;
}

/* ---- items */

static ot_grpc_item *item_new(ot_grpc_stream *s)
{
    ot_grpc_item *item = s->spare;
    if (item != NULL) {
        s->spare = item->next;
    } else {
        item = ot_calloc(1, sizeof *item);
        if (item == NULL) {
            return NULL;
        }
        ot_arena_init(&item->arena, ITEM_CHUNK, ITEM_LIMIT);
        ot_str_init(&item->answer);
    }
    item->stream = s;
    item->req = s->req;
    item->done = false;
    item->rc = OT_OK;
    item->message = (ot_slice){0};
    item->counted = 0;
    item->next = NULL;
    item->start_ns = ot_loop_now_ns(s->worker->loop);
    *s->tail = item;
    s->tail = &item->next;
    s->n_items++;
    return item;
}

static void item_free(ot_grpc_item *item)
{
    ot_arena_done(&item->arena);
    ot_str_done(&item->answer);
    ot_free(item);
}

static void item_count(ot_grpc_item *item, size_t n)
{
    item->counted += n;
    item->stream->bytes += n;
    item->stream->worker->grpc_bytes += n;
}

/* The first item is over. */
static void item_pop(ot_grpc_stream *s)
{
    ot_grpc_item *item = s->items;
    s->bytes -= item->counted;
    s->worker->grpc_bytes -= item->counted;
    s->items = item->next;
    if (s->items == NULL) {
        s->tail = &s->items;
    }
    s->n_items--;
    if (item->answer.cap + item->arena.used_total > ITEM_KEEP) {
        item_free(item);
        return;
    }
    ot_arena_reset(&item->arena);
    ot_str_clear(&item->answer);
    item->answer.failed = false;
    item->next = s->spare;
    s->spare = item;
}

size_t ot_grpc_item_frame(ot_grpc_item *item)
{
    size_t mark = item->answer.len;
    ot_str_add(&item->answer, "\0\0\0\0", OT_GRPC_PREFIX);
    return mark;
}

void ot_grpc_item_framed(ot_grpc_item *item, size_t mark)
{
    if (!item->answer.failed) {
        ot_grpc_prefix(item->answer.data + mark, item->answer.len - mark - OT_GRPC_PREFIX);
        item_count(item, item->answer.len - mark);
    }
}

/* ---- the end */

static void over(ot_grpc_stream *s, ot_rc rc, const char *why)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_http_req *req = s->req;
    char code[12];
    snprintf(code, sizeof code, "%d", -(int)rc);
    ot_grpc_status_text(why, &text);
    ot_http_field fields[] = {{"grpc-status", code}, {"grpc-message", text.data}};
    ot_grpc_open_remove(&s->open);
    while (s->items != NULL) {
        item_pop(s);
    }
    while (s->spare != NULL) {
        ot_grpc_item *item = s->spare;
        s->spare = item->next;
        item_free(item);
    }
    s->worker->grpc_bytes -= s->in.len;
    ot_str_done(&s->in);
    ot_worker_count_answer(s->worker, ot_rc_http(rc));
    ot_free(s);
    ot_http_stream_end_with(req, fields, rc == OT_OK ? 1 : 2);
}

/* No more is read; what was received before is still answered. */
static void refuse(ot_grpc_stream *s, ot_rc rc, const char *why)
{
    if (!s->refused) {
        s->refused = true;
        s->rc = rc;
        snprintf(s->why, sizeof s->why, "%s", why);
    }
}

/* ---- answers out */

static bool flush_first(ot_grpc_stream *s)
{
    ot_grpc_item *item = s->items;
    if (item->answer.failed) {
        refuse(s, OT_EXHAUSTED, "out of memory for the answer");
        item->done = true;
    } else if (item->answer.len > 0 && !s->gone) {
        ot_rc rc = ot_http_stream_write(s->req, item->answer.data, item->answer.len);
        if (rc == OT_EXHAUSTED) {
            return false; /* on_event goes on */
        }
        s->gone = rc != OT_OK;
        ot_str_clear(&item->answer);
    }
    if (!item->done) {
        return false;
    }
    if (item->rc != OT_OK) {
        refuse(s, item->rc, item->why != NULL ? item->why : "");
    }
    item_pop(s);
    return true;
}

static void read_items(ot_grpc_stream *s);

/* Sends what can be sent, reads on where there is room again, ends the stream when nothing is left.
 * The stream may be gone after this. */
static void settle(ot_grpc_stream *s)
{
    if (s->busy) {
        return;
    }
    s->busy = true;
    for (;;) {
        while (s->items != NULL && flush_first(s)) {
        }
        unsigned before = s->n_items;
        read_items(s);
        if (s->n_items == before || s->items == NULL || !s->items->done) {
            break;
        }
    }
    s->busy = false;
    if (s->n_items > 0) {
        return;
    }
    if (!s->whole && s->in.len == 0 &&
        atomic_load_explicit(&s->worker->serve->draining, memory_order_relaxed)) {
        /* With the answer before it in one write: a client that waits for each has none out. */
        refuse(s, OT_UNAVAILABLE, "the server is going down");
    }
    if (s->gone) {
        over(s, OT_CANCELLED, "the client has gone");
    } else if (s->refused) {
        over(s, s->rc, s->why);
    } else if (s->whole) {
        over(s, OT_OK, "");
    }
}

void ot_grpc_item_more(ot_grpc_item *item)
{
    /* The item is still being answered, so that it stays; the stream ends after it. */
    if (item->answer.failed || item->answer.len > BYTES_MAX) {
        refuse(item->stream, OT_EXHAUSTED, "the client does not read the answers");
        ot_str_clear(&item->answer);
        item->answer.failed = false;
    }
    settle(item->stream);
}

void ot_grpc_item_done(ot_grpc_item *item, ot_rc rc, const char *why)
{
    item->done = true;
    item->rc = rc;
    item->why = rc != OT_OK ? ot_arena_strdup(&item->arena, why) : NULL;
    settle(item->stream);
}

/* ---- messages in */

static bool take_item(ot_grpc_stream *s, const ot_grpc_frame *f)
{
    ot_grpc_item *item = item_new(s);
    ot_error err;
    if (item == NULL) {
        refuse(s, OT_EXHAUSTED, "out of memory for a message");
        return false;
    }
    ot_rc rc = OT_OK;
    if (f->compressed) {
        rc = ot_grpc_message(f, s->coding, s->worker->serve->o.body_max, &item->arena,
                             &item->message.p, &item->message.n, &err);
    } else {
        char *copy = ot_arena_alloc(&item->arena, f->n);
        if (copy == NULL) {
            rc = ot_fail(&err, OT_EXHAUSTED, "out of memory for a message of %zu bytes", f->n);
        } else if (f->n > 0) {
            memcpy(copy, f->p, f->n);
        }
        item->message = (ot_slice){.p = copy, .n = copy != NULL ? f->n : 0};
    }
    item_count(item, item->message.n);
    if (rc != OT_OK) {
        ot_grpc_item_done(item, rc, err.msg);
        return false;
    }
    s->fn(s->worker, item);
    return true;
}

static bool has_room(const ot_grpc_stream *s)
{
    return s->n_items < ITEMS_MAX && s->bytes < BYTES_MAX;
}

/* Takes n bytes off the front of what came. */
static void drop(ot_grpc_stream *s, size_t n)
{
    s->worker->grpc_bytes -= n;
    s->in.len -= n;
    memmove(s->in.data, s->in.data + n, s->in.len);
    if (s->in.len == 0 && s->in.cap > IN_KEEP) {
        ot_str_done(&s->in);
        ot_str_init(&s->in);
    }
}

/* Makes items of what has come while there is room for them. */
static void read_items(ot_grpc_stream *s)
{
    bool more = true;
    size_t at = 0;
    while (more && !s->refused && !s->gone && has_room(s)) {
        ot_grpc_frame f;
        ot_error err;
        size_t left = s->in.len - at;
        if (ot_grpc_frame_read(s->in.data + at, left, s->coding, s->worker->serve->o.body_max, &f,
                               &err) != OT_OK) {
            refuse(s, err.rc, err.msg);
        } else if (f.size > 0) {
            at += f.size;
            more = take_item(s, &f);
        } else {
            more = false;
            if (s->whole && left > 0) {
                refuse(s, OT_INVALID, "the last message is cut short");
            }
        }
    }
    if (at > 0) {
        drop(s, at);
    }
    if (s->unconsumed > 0 && has_room(s)) {
        size_t n = s->unconsumed;
        s->unconsumed = 0;
        ot_http_req_consumed(s->req, n);
    }
}

static void add_bytes(ot_grpc_stream *s, const char *p, size_t n)
{
    if (s->refused || s->gone) {
        return;
    }
    if (s->worker->grpc_bytes + n > WORKER_BYTES_MAX) {
        refuse(s, OT_EXHAUSTED, "the server is out of memory for streams; try again later");
        return;
    }
    ot_str_add(&s->in, p, n);
    if (s->in.failed) {
        refuse(s, OT_EXHAUSTED, "out of memory for a message");
        return;
    }
    s->worker->grpc_bytes += n;
}

static void on_data(void *arg, const char *p, size_t n, bool end)
{
    ot_grpc_stream *s = arg;
    s->whole = s->whole || end;
    s->gone = s->gone || s->req->cancelled;
    if (n > 0) {
        s->unconsumed += n;
        s->moved += n;
        add_bytes(s, p, n);
    }
    settle(s);
}

static void on_event(void *arg)
{
    ot_grpc_stream *s = arg;
    s->gone = s->gone || s->req->cancelled;
    settle(s);
}

/* A message that has begun may not take for ever: what came of it is memory. */
static void expire(ot_grpc_stream *s)
{
    uint64_t now = ot_loop_now_ns(s->worker->loop);
    if (s->in.len == 0 || !has_room(s) || s->whole) {
        s->moved_ns = 0;
    } else if (s->moved_ns == 0 || (now - s->moved_ns >= MOVE_NS && s->moved >= MOVE_BYTES)) {
        s->moved_ns = now;
        s->moved = 0;
    } else if (now - s->moved_ns >= MOVE_NS) {
        refuse(s, OT_TIMEOUT, "a message came too slowly: less than 1 KiB of it in 10 s");
    }
}

static void look_at_stream(ot_grpc_open *open)
{
    ot_grpc_stream *s = (ot_grpc_stream *)open;
    expire(s);
    settle(s);
}

void ot_grpc_stream_open(ot_worker *w, ot_http_req *req, ot_grpc_item_fn *fn, ot_grpc_coding coding)
{
    ot_grpc_stream *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        ot_grpc_fail(w, req, OT_EXHAUSTED, 0, "out of memory for a stream");
        return;
    }
    s->worker = w;
    s->req = req;
    s->fn = fn;
    s->coding = coding;
    s->tail = &s->items;
    ot_str_init(&s->in);
    ot_grpc_open_add(w, &s->open, look_at_stream);
    ot_http_stream_begin(req, &(ot_http_answer){.status = 200, .type = "application/grpc"},
                         on_event, s);
    ot_http_req_read(req, on_data, s);
}
