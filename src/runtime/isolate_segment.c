#include "runtime/isolate_segment.h"

#include "base/disk.h"
#include "base/mem.h"

#include <sys/mman.h>

void ot_isolate_segments_init(ot_isolate_segments *s, ot_minder *minder)
{
    *s = (ot_isolate_segments){.minder = minder};
    pthread_mutex_init(&s->lock, NULL);
}

void ot_isolate_segments_done(ot_isolate_segments *s)
{
    pthread_mutex_destroy(&s->lock);
}

static void segment_free(ot_isolate_segment *g)
{
    munmap(g->at, g->size);
    ot_free(g->own);
    ot_free(g);
}

void ot_isolate_segment_release(ot_isolate_segment *g)
{
    ot_isolate_segments *s = g->of;
    ot_free(g->own);
    g->own = NULL;
    pthread_mutex_lock(&s->lock);
    g->busy = false;
    bool gone = g->stale;
    pthread_mutex_unlock(&s->lock);
    if (gone) {
        segment_free(g);
    }
}

void ot_isolate_segments_forget(ot_isolate_segments *s)
{
    if (s->in != NULL) {
        munmap(s->in, s->in_size);
        s->in = NULL;
        s->in_size = 0;
    }
    for (uint32_t i = 1; i < OT_RING_SEGMENTS_MAX; i++) {
        pthread_mutex_lock(&s->lock);
        ot_isolate_segment *g = s->all[i];
        s->all[i] = NULL;
        bool free_now = g != NULL && !g->busy;
        if (g != NULL && g->busy) {
            g->stale = true;
        }
        pthread_mutex_unlock(&s->lock);
        if (free_now) {
            segment_free(g);
        }
    }
    s->up = 0;
}

/* Gives the worker a piece of memory under number `id`. */
static ot_rc share(const ot_isolate_segments *s, uint32_t id, uint64_t size, void **at_out,
                   ot_error *err)
{
    int fd = -1;
    void *at;
    OT_TRY(ot_ring_memory("overtake-segment", size, id == 0, &fd, &at, err));
    ot_rc rc = ot_minder_tell(s->minder, s->up,
                              json_pack("{s:s,s:i,s:i,s:I}", "op", "segment", "lane", (int)s->lane,
                                        "id", (int)id, "size", (json_int_t)size),
                              fd, true, err);
    ot_fd_close(&fd);
    if (rc != OT_OK) {
        munmap(at, size);
        return rc;
    }
    *at_out = at;
    return OT_OK;
}

static uint64_t round_up(uint64_t size)
{
    size = OT_MAX(size + size / 4, OT_SEGMENT_MIN);
    return OT_MIN((size + 4095) & ~UINT64_C(4095), OT_RING_SEGMENT_MAX);
}

ot_rc ot_isolate_segments_inputs(ot_isolate_segments *s, uint64_t size, ot_error *err)
{
    if (size > OT_RING_SEGMENT_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "inputs of %llu bytes; the limit is %llu",
                       (unsigned long long)size, (unsigned long long)OT_RING_SEGMENT_MAX);
    }
    if (s->in != NULL && s->in_size >= size) {
        return OT_OK;
    }
    uint64_t rounded = round_up(size);
    void *in;
    OT_TRY(share(s, 0, rounded, &in, err));
    if (s->in != NULL) {
        munmap(s->in, s->in_size);
    }
    s->in = in;
    s->in_size = rounded;
    return OT_OK;
}

/* The largest free segment, or NULL; the number of a new one, 0 when there is none left. */
static ot_isolate_segment *largest_free_locked(const ot_isolate_segments *s, uint32_t *id_out)
{
    ot_isolate_segment *found = NULL;
    *id_out = 0;
    for (uint32_t i = 1; i < OT_RING_SEGMENTS_MAX; i++) {
        ot_isolate_segment *g = s->all[i];
        if (g != NULL && !g->busy && (found == NULL || g->size > found->size)) {
            found = g;
        } else if (g == NULL && *id_out == 0) {
            *id_out = i;
        }
    }
    return found;
}

static ot_rc make_segment(ot_isolate_segments *s, uint32_t id, uint64_t size,
                          ot_isolate_segment **out, ot_error *err)
{
    if (id == 0) {
        return ot_fail(err, OT_EXHAUSTED, "%d answers of this instance are still held",
                       OT_RING_SEGMENTS_MAX - 1);
    }
    ot_isolate_segment *g = ot_calloc(1, sizeof *g);
    if (g == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "shared memory: out of memory");
    }
    *g = (ot_isolate_segment){.of = s, .id = id, .size = round_up(size), .busy = true};
    ot_rc rc = size > OT_RING_SEGMENT_MAX
                   ? ot_fail(err, OT_EXHAUSTED, "outputs of %llu bytes; the limit is %llu",
                             (unsigned long long)size, (unsigned long long)OT_RING_SEGMENT_MAX)
                   : share(s, id, g->size, &g->at, err);
    if (rc != OT_OK) {
        ot_free(g);
        return rc;
    }
    pthread_mutex_lock(&s->lock);
    s->all[id] = g;
    pthread_mutex_unlock(&s->lock);
    *out = g;
    return OT_OK;
}

ot_rc ot_isolate_segment_take(ot_isolate_segments *s, uint64_t size, ot_isolate_segment **out,
                              ot_error *err)
{
    uint32_t id;
    pthread_mutex_lock(&s->lock);
    ot_isolate_segment *found = largest_free_locked(s, &id);
    if (found != NULL && found->size >= size) {
        found->busy = true;
        pthread_mutex_unlock(&s->lock);
        *out = found;
        return OT_OK;
    }
    if (found != NULL) { /* a larger one in its place */
        id = found->id;
        s->all[id] = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    if (found != NULL) {
        segment_free(found);
    }
    return make_segment(s, id, size, out, err);
}
