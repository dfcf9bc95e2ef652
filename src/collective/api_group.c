/* Groups of ranks, and where this one is in them. */
#include "base/hash.h"
#include "base/mem.h"
#include "collective/api_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OT_API_TAGS_MAX 65536

static ot_api_group *group_make(const int32_t *ranks, int32_t n, int32_t self)
{
    ot_api_group *g = ot_calloc(1, sizeof *g);
    if (g == NULL || (g->ranks = ot_alloc((size_t)n * sizeof *g->ranks)) == NULL) {
        ot_free(g);
        return NULL;
    }
    memcpy(g->ranks, ranks, (size_t)n * sizeof *g->ranks);
    g->n = n;
    g->me = -1;
    for (int32_t i = 0; i < n; i++) {
        g->me = ranks[i] == self ? i : g->me;
    }
    return g;
}

static void group_free(ot_api_group *g)
{
    if (g != NULL) {
        ot_free(g->ranks);
        ot_free(g);
    }
}

ot_api_group *ot_api_group_find_locked(ot_api *a, int32_t id)
{
    for (int32_t i = 0; i < a->n_groups; i++) {
        if (a->groups[i]->id == id) {
            return a->groups[i]->freed ? NULL : a->groups[i];
        }
    }
    return NULL;
}

/* The place of an opened group that was freed, else a new one. */
static ot_api_group **place_locked(ot_api *a)
{
    for (int32_t i = 0; i < a->n_groups; i++) {
        if (a->groups[i]->freed && a->groups[i]->id >= OT_API_GROUPS_MAX) {
            group_free(a->groups[i]);
            return &a->groups[i];
        }
    }
    ot_api_group **grown = NULL;
    if (a->n_groups < OT_API_GROUPS_MAX) {
        grown = ot_realloc(a->groups, ((size_t)a->n_groups + 1) * sizeof *grown);
    }
    if (grown == NULL) {
        return NULL;
    }
    a->groups = grown;
    return &grown[a->n_groups++];
}

static bool is_open_locked(const ot_api *a, uint64_t hash)
{
    for (int32_t i = 0; i < a->n_groups; i++) {
        if (hash != 0 && a->groups[i]->opened_as == hash && !a->groups[i]->freed) {
            return true;
        }
    }
    return false;
}

/* The id of an opened group is a hash, which its members compute alike: it lies above those of the
 * groups that all ranks make. One that is opened again has another id, so that links of the group
 * before it, which another member has not freed yet, are not taken for its. -1: memory is short. */
static int32_t opened_id_locked(ot_api *a, uint64_t hash)
{
    size_t i = 0;
    while (i < a->n_opened && a->opened[i].hash != hash) {
        i++;
    }
    if (i == a->n_opened) {
        if (!ot_grow(&a->opened, &a->cap_opened, i, sizeof *a->opened, OT_API_TAGS_MAX)) {
            return -1;
        }
        a->opened[a->n_opened++] = (struct ot_api_opened){.hash = hash};
    }
    uint32_t times = a->opened[i].times++;
    uint64_t mixed = ot_hash_stable(&hash, sizeof hash, times);
    return OT_API_GROUPS_MAX + (int32_t)(mixed % (INT32_MAX - OT_API_GROUPS_MAX));
}

/* `hash`: of an opened group; 0: the next one of those that all ranks make. */
static ot_rc append(ot_api *a, ot_api_group *g, uint64_t hash, ot_error *err)
{
    pthread_mutex_lock(&a->groups_lock);
    bool twice = is_open_locked(a, hash);
    int32_t id = twice ? -1 : hash == 0 ? a->created : opened_id_locked(a, hash);
    ot_api_group **place = id < 0 ? NULL : place_locked(a);
    if (place != NULL) {
        g->id = id;
        g->opened_as = hash;
        a->created += hash == 0;
        *place = g;
    }
    pthread_mutex_unlock(&a->groups_lock);
    if (twice) {
        return ot_fail(err, OT_EXISTS,
                       "a group with this tag and these ranks is open: free it first");
    }
    return place != NULL ? OT_OK
                         : ot_fail(err, OT_EXHAUSTED,
                                   "a job makes at most %d groups, and memory may be short",
                                   OT_API_GROUPS_MAX);
}

ot_rc ot_api_groups_init(ot_api *a, ot_engine *e, ot_error *err)
{
    int32_t n;
    (void)ot_engine_members(e, &n);
    OT_AUTO(ot_free_ptr) int32_t *all = ot_calloc((size_t)n, sizeof *all);
    for (int32_t r = 0; all != NULL && r < n; r++) {
        all[r] = r;
    }
    pthread_mutex_init(&a->groups_lock, NULL);
    ot_api_group *world = all != NULL ? group_make(all, n, a->rank) : NULL;
    if (world == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "job of %d ranks: out of memory", n);
    }
    return append(a, world, 0, err);
}

void ot_api_groups_done(ot_api *a)
{
    for (int32_t i = 0; i < a->n_groups; i++) {
        group_free(a->groups[i]);
    }
    ot_free(a->groups);
    a->groups = NULL;
    a->n_groups = a->created = 0;
    ot_free(a->opened);
    a->opened = NULL;
    a->n_opened = a->cap_opened = 0;
    pthread_mutex_destroy(&a->groups_lock);
}

/* --- where ----------------------------------------------------------------------------------- */

static void locate(const ot_api_group *g, const ot_member *members, overtake_place *p)
{
    const char *mine = members[g->ranks[g->me]].machine;
    p->rank = g->me;
    p->size = g->n;
    for (int32_t i = 0; i < g->n; i++) {
        bool same = strcmp(members[g->ranks[i]].machine, mine) == 0;
        p->local_size += same;
        p->local_rank += same && i < g->me;
    }
    /* Ranks that are the local_rank-th of their host. */
    for (int32_t i = 0; i < g->n; i++) {
        int32_t before = 0;
        for (int32_t k = 0; k < i; k++) {
            before += strcmp(members[g->ranks[k]].machine, members[g->ranks[i]].machine) == 0;
        }
        p->cross_size += before == p->local_rank;
        p->cross_rank += before == p->local_rank && i < g->me;
    }
}

int overtake_where(int32_t group, overtake_place *place_out)
{
    ot_api *a;
    int32_t n;
    ot_rc rc = ot_api_enter(&a, NULL);
    if (rc != OT_OK) {
        return rc;
    }
    overtake_place p = {0};
    const ot_member *members = ot_engine_members(a->engine, &n);
    pthread_mutex_lock(&a->groups_lock);
    const ot_api_group *g = ot_api_group_find_locked(a, group);
    if (g == NULL || g->me < 0) {
        rc = OT_NOT_FOUND;
    } else {
        locate(g, members, &p);
    }
    pthread_mutex_unlock(&a->groups_lock);
    ot_api_leave();
    if (rc == OT_OK) {
        p.struct_size =
            place_out->struct_size > 0 ? OT_MIN(place_out->struct_size, sizeof p) : sizeof p;
        memcpy(place_out, &p, p.struct_size);
    }
    return rc;
}

/* --- create and free ------------------------------------------------------------------------- */

/* Every rank of the job tells which ranks it means; all must mean the same. */
static ot_rc agree(ot_api *a, int32_t number, uint64_t hash, ot_error *err)
{
    int32_t n;
    (void)ot_engine_members(a->engine, &n);
    ot_prepared p = {.named = true, .in = &hash};
    p.sig.kind = OVERTAKE_ALLGATHER;
    p.sig.dtype = OVERTAKE_U64;
    p.sig.ndim = 1;
    p.sig.dims[0] = 1;
    snprintf(p.sig.name, sizeof p.sig.name, "overtake.group.%d", number);
    overtake_handle h;
    overtake_result r = {.struct_size = sizeof r};
    overtake_failure f = {.struct_size = sizeof f};
    OT_TRY(ot_api_start(a, &p, 1, &h, err));
    int rc = overtake_wait(h, 0, &r, &f);
    if (rc != 0) {
        return ot_fail(err, (ot_rc)rc, "%s", f.message);
    }
    const uint64_t *all = r.out;
    ot_rc same = OT_OK;
    for (int32_t i = 0; i < n && same == OT_OK; i++) {
        if (all[i] != hash) {
            same = ot_fail(err, OT_PRECONDITION,
                           "overtake_group_create: ranks %d and %d do not ask for the same group: "
                           "each rank of the job asks for every group, with the same ranks, in "
                           "the same order",
                           a->rank, i);
        }
    }
    (void)overtake_release(r.out);
    return same;
}

static ot_rc check_ranks(const ot_api *a, const int32_t *ranks, size_t n, ot_error *err)
{
    int32_t size;
    (void)ot_engine_members(a->engine, &size);
    if (n == 0 || n > (size_t)size) {
        return ot_fail(err, OT_INVALID, "overtake_group_create: %zu ranks of %d", n, size);
    }
    for (size_t i = 0; i < n; i++) {
        if (ranks[i] < 0 || ranks[i] >= size || (i > 0 && ranks[i] <= ranks[i - 1])) {
            return ot_fail(err, OT_INVALID,
                           "overtake_group_create: rank %d at place %zu: ranks are 0 to %d, "
                           "ascending",
                           ranks[i], i, size - 1);
        }
    }
    return OT_OK;
}

static void set_freed(ot_api *a, ot_api_group *g, bool freed)
{
    pthread_mutex_lock(&a->groups_lock);
    g->freed = freed;
    pthread_mutex_unlock(&a->groups_lock);
}

static ot_rc create(ot_api *a, const int32_t *ranks, size_t n, int32_t *group_out, ot_error *err)
{
    OT_TRY(check_ranks(a, ranks, n, err));
    ot_api_group *g = group_make(ranks, (int32_t)n, a->rank);
    if (g == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "overtake_group_create: out of memory");
    }
    g->freed = true; /* until all have agreed */
    ot_rc rc = append(a, g, 0, err);
    if (rc != OT_OK) {
        group_free(g);
        return rc;
    }
    OT_TRY(agree(a, g->id, ot_hash_stable(ranks, n * sizeof *ranks, 2), err));
    if (g->me >= 0) {
        OT_TRY(ot_engine_group_add(a->engine, g->id, ranks, (int32_t)n, err));
    }
    set_freed(a, g, false);
    *group_out = g->id;
    return OT_OK;
}

static ot_rc open_group(ot_api *a, const char *tag, const int32_t *ranks, size_t n,
                        int32_t *group_out, ot_error *err)
{
    OT_TRY(check_ranks(a, ranks, n, err));
    ot_api_group *g = group_make(ranks, (int32_t)n, a->rank);
    if (g == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "overtake_group_open: out of memory");
    }
    uint64_t hash = ot_hash_stable(ranks, n * sizeof *ranks, ot_hash_stable(tag, strlen(tag), 3));
    ot_rc rc = g->me < 0 ? ot_fail(err, OT_INVALID,
                                   "overtake_group_open: rank %d is not among the members", a->rank)
                         : append(a, g, hash | 1, err);
    if (rc != OT_OK) {
        group_free(g);
        return rc;
    }
    rc = ot_engine_group_add(a->engine, g->id, ranks, (int32_t)n, err);
    if (rc != OT_OK) {
        set_freed(a, g, true);
        return rc;
    }
    *group_out = g->id;
    return OT_OK;
}

int overtake_group_create(const int32_t *ranks, size_t n, int32_t *group_out, char *message,
                          size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, &err);
    if (rc == OT_OK) {
        rc = create(a, ranks, n, group_out, &err);
        ot_api_leave();
    }
    return ot_api_answer(&err, rc, message, message_size);
}

int overtake_group_open(const char *tag, const int32_t *ranks, size_t n, int32_t *group_out,
                        char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, &err);
    if (rc == OT_OK) {
        rc = open_group(a, tag, ranks, n, group_out, &err);
        ot_api_leave();
    }
    return ot_api_answer(&err, rc, message, message_size);
}

static bool group_busy(ot_api *a, int32_t group)
{
    ot_tickets *t = ot_engine_tickets(a->engine);
    bool busy = false;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; t->open > 0 && i < OT_TICKETS_MAX && !busy; i++) {
        const ot_ticket *k = t->slots[i];
        busy = k != NULL && !k->done && k->group == group;
    }
    pthread_mutex_unlock(&t->lock);
    return busy;
}

static ot_rc drop(ot_api *a, int32_t group, ot_error *err)
{
    if (group == OVERTAKE_WORLD) {
        return ot_fail(err, OT_INVALID, "the group of all ranks can't be freed");
    }
    if (group_busy(a, group)) {
        return ot_fail(err, OT_PRECONDITION,
                       "group %d has requests in flight: wait for them, then free it", group);
    }
    pthread_mutex_lock(&a->groups_lock);
    ot_api_group *g = ot_api_group_find_locked(a, group);
    bool there = g != NULL, in = there && g->me >= 0;
    if (there) {
        g->freed = true;
    }
    pthread_mutex_unlock(&a->groups_lock);
    if (in) {
        ot_engine_group_drop(a->engine, group);
    }
    return there ? OT_OK : ot_fail(err, OT_NOT_FOUND, "there is no group %d", group);
}

int overtake_group_free(int32_t group, char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, &err);
    if (rc == OT_OK) {
        rc = drop(a, group, &err);
        ot_api_leave();
    }
    return ot_api_answer(&err, rc, message, message_size);
}
