/* Buffers and arenas: who works takes them, who rests gives them back. */
#include "net/http_conn.h"

bool http_buf_resize(ot_http_server *s, http_buf *b, size_t cap)
{
    char *p = NULL;
    if (cap != 0) {
        p = ot_realloc(b->data, cap);
        if (p == NULL) {
            return false;
        }
    } else {
        ot_free(b->data);
        b->at = b->len = 0;
    }
    s->memory = s->memory - b->cap + cap;
    b->data = p;
    b->cap = cap;
    return true;
}

void http_kit_done(ot_http_server *s, http_kit *k)
{
    (void)http_buf_resize(s, &k->in, 0);
    (void)http_buf_resize(s, &k->out, 0);
    ot_arena_done(&k->arena);
}

void http_conn_equip(http_conn *c)
{
    ot_http_server *s = c->server;
    if (c->in.cap == 0 && c->out.cap == 0 && c->arena.head == NULL && s->n_kits > 0) {
        const http_kit *k = &s->kits[--s->n_kits];
        c->in = k->in;
        c->out = k->out;
        c->arena = k->arena;
    }
}

static void give_kit(http_conn *c)
{
    ot_http_server *s = c->server;
    c->in.at = c->out.at = 0;
    http_kit k = {c->in, c->out, c->arena};
    if (s->n_kits < HTTP_KITS_MAX) {
        s->kits[s->n_kits++] = k;
    } else {
        http_kit_done(s, &k);
    }
    c->in = c->out = (http_buf){0};
    ot_arena_init(&c->arena, HTTP_ARENA_CHUNK, HTTP_ARENA_LIMIT);
}

void http_conn_rest(http_conn *c)
{
    bool rests = !c->open || c->state == HTTP_H2 || (c->state == HTTP_READ && !c->started);
    if (rests && c->in.len == 0 && c->out.len == 0 && c->n_ext == 0 && c->in.cap + c->out.cap > 0 &&
        c->in.cap <= HTTP_KEEP_MAX && c->out.cap <= HTTP_KEEP_MAX) {
        give_kit(c);
    }
}

void http_conn_trim(http_conn *c)
{
    if (c->in.len == 0 && c->in.cap > HTTP_KEEP_MAX) {
        (void)http_buf_resize(c->server, &c->in, 0);
    }
    if (c->out.len == 0 && c->out.cap > HTTP_KEEP_MAX) {
        (void)http_buf_resize(c->server, &c->out, 0);
    }
    http_conn_rest(c);
}
