#include "collective/pool.h"

#include "base/mem.h"

#include <string.h>

void *ot_pool_take(ot_pool *p, size_t size, size_t *got)
{
    size_t best = OT_COUNT(p->kept);
    for (size_t i = 0; i < OT_COUNT(p->kept); i++) {
        if (p->kept[i].p != NULL && p->kept[i].size >= size && p->kept[i].size / 4 <= size &&
            (best == OT_COUNT(p->kept) || p->kept[i].size < p->kept[best].size)) {
            best = i;
        }
    }
    if (best < OT_COUNT(p->kept)) {
        void *q = p->kept[best].p;
        *got = p->kept[best].size;
        p->kept[best].p = NULL;
        return q;
    }
    *got = OT_MAX((size + 4095) / 4096 * 4096, (size_t)4096);
    return ot_aligned_alloc(4096, *got);
}

void ot_pool_give(ot_pool *p, void *q, size_t size)
{
    size_t least = 0;
    for (size_t i = 0; q != NULL && i < OT_COUNT(p->kept); i++) {
        if (p->kept[i].p == NULL) {
            p->kept[i].p = q;
            p->kept[i].size = size;
            return;
        }
        least = p->kept[i].size < p->kept[least].size ? i : least;
    }
    if (q != NULL && p->kept[least].size < size) {
        ot_free(p->kept[least].p);
        p->kept[least].p = q;
        p->kept[least].size = size;
        return;
    }
    ot_free(q);
}

void ot_pool_done(ot_pool *p)
{
    for (size_t i = 0; i < OT_COUNT(p->kept); i++) {
        ot_free(p->kept[i].p);
    }
    memset(p, 0, sizeof *p);
}
