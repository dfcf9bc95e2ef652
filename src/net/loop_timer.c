#include "net/loop_timer.h"

static bool before(const ot_timer *a, const ot_timer *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

/* Two roots without siblings; either may be NULL. */
static ot_timer *meld(ot_timer *a, ot_timer *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    if (before(b, a)) {
        ot_timer *t = a;
        a = b;
        b = t;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL) {
        a->child->prev = b;
    }
    a->child = b;
    return a;
}

/* Melds a list of siblings: in pairs from the left, then the pairs from the right. */
static ot_timer *meld_siblings(ot_timer *first)
{
    ot_timer *pairs = NULL; /* linked through next, last pair first */
    while (first != NULL) {
        ot_timer *a = first, *b = a->next;
        first = b != NULL ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b != NULL) {
            b->next = b->prev = NULL;
        }
        ot_timer *m = meld(a, b);
        m->next = pairs;
        pairs = m;
    }
    ot_timer *root = NULL;
    while (pairs != NULL) {
        ot_timer *m = pairs;
        pairs = m->next;
        m->next = NULL;
        root = meld(root, m);
    }
    return root;
}

void ot_timer_heap_add(ot_timer_heap *h, ot_timer *t)
{
    t->child = t->next = t->prev = NULL;
    t->order = h->next_order++;
    t->active = true;
    h->root = meld(h->root, t);
}

void ot_timer_heap_remove(ot_timer_heap *h, ot_timer *t)
{
    ot_timer *below = meld_siblings(t->child);
    if (t == h->root) {
        h->root = below;
    } else {
        if (t->prev->child == t) {
            t->prev->child = t->next;
        } else {
            t->prev->next = t->next;
        }
        if (t->next != NULL) {
            t->next->prev = t->prev;
        }
        h->root = meld(h->root, below);
    }
    t->child = t->next = t->prev = NULL;
    t->active = false;
}
