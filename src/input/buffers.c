#include "input/buffers.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#define PAGE 4096 /* the head of a buffer takes one, so that the data begin a page */
#define MAGIC UINT64_C(0x6f762e6275666665)

typedef struct head {
    uint64_t magic;
    ot_buffers *pool;
    struct head *next;
    ot_grown *grown;
} head;

struct ot_buffers {
    pthread_mutex_t lock;
    size_t bytes, n_grown, keep;
    size_t n_free, refs; /* Synchronization: lock. refs: the reader's and buffers in use */
    head *free;
    pid_t pid;
};

ot_buffers *ot_buffers_create(size_t bytes, size_t grown, size_t keep)
{
    ot_buffers *b = ot_calloc(1, sizeof *b);
    if (b != NULL) {
        pthread_mutex_init(&b->lock, NULL);
        b->bytes = bytes;
        b->n_grown = grown;
        b->keep = keep;
        b->refs = 1;
        b->pid = getpid();
    }
    return b;
}

static void end(ot_buffers *b, head *h)
{
    for (size_t i = 0; h->grown != NULL && i < b->n_grown; i++) {
        ot_free(h->grown[i].p);
    }
    ot_free(h->grown);
    ot_free(h);
}

static head *begin(const ot_buffers *b)
{
    head *h = ot_aligned_alloc(PAGE, PAGE + (b->bytes + PAGE - 1) / PAGE * PAGE);
    if (h == NULL) {
        return NULL;
    }
    *h = (head){.grown = b->n_grown > 0 ? ot_calloc(b->n_grown, sizeof *h->grown) : NULL};
    if (b->n_grown > 0 && h->grown == NULL) {
        ot_free(h);
        return NULL;
    }
    return h;
}

static void let_go(ot_buffers *b)
{
    pthread_mutex_lock(&b->lock);
    bool last = --b->refs == 0;
    pthread_mutex_unlock(&b->lock);
    if (!last) {
        return;
    }
    while (b->free != NULL) {
        head *h = b->free;
        b->free = h->next;
        end(b, h);
    }
    pthread_mutex_destroy(&b->lock);
    ot_free(b);
}

void ot_buffers_unref(ot_buffers *b)
{
    if (b != NULL && b->pid == getpid()) {
        let_go(b);
    }
}

uint8_t *ot_buffers_take(ot_buffers *b)
{
    pthread_mutex_lock(&b->lock);
    head *h = b->free;
    if (h != NULL) {
        b->free = h->next;
        b->n_free--;
    }
    b->refs++;
    pthread_mutex_unlock(&b->lock);
    if (h == NULL) {
        h = begin(b);
    }
    if (h == NULL) {
        let_go(b);
        return NULL;
    }
    h->magic = MAGIC;
    h->pool = b;
    return (uint8_t *)h + PAGE;
}

ot_grown *ot_buffers_grown(uint8_t *data)
{
    const head *h = (void *)(data - PAGE);
    return h->grown;
}

bool ot_grown_reserve(ot_grown *g, size_t n)
{
    if (n <= g->room - g->n) {
        return true;
    }
    size_t room = OT_MAX(g->n + n, g->room + g->room / 2);
    uint8_t *p = ot_realloc(g->p, room);
    if (p != NULL) {
        g->p = p;
        g->room = room;
    }
    return p != NULL;
}

int ot_buffers_give(void *data)
{
    if (data == NULL) {
        return true;
    }
    if ((uintptr_t)data % PAGE != 0) {
        return false;
    }
    head *h = (void *)((uint8_t *)data - PAGE);
    if (h->magic != MAGIC) {
        return false;
    }
    ot_buffers *b = h->pool;
    if (b->pid != getpid()) {
        return true;
    }
    h->magic = 0;
    pthread_mutex_lock(&b->lock);
    bool keep = b->n_free < b->keep;
    if (keep) {
        h->next = b->free;
        b->free = h;
        b->n_free++;
    }
    pthread_mutex_unlock(&b->lock);
    if (!keep) {
        end(b, h);
    }
    let_go(b);
    return true;
}
