#include "serve/guests.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/random.h"

#include <stdio.h>
#include <string.h>

#define WAYS 8u
#define SETS (OT_GUESTS_MAX / WAYS)
_Static_assert((SETS & (SETS - 1)) == 0, "sets are named by bits of a hash");

typedef struct guest {
    /* Synchronization: relaxed. A hash of the address; 0: nobody's yet. Who takes a bucket over
     * while its last owner asks may count one request wrongly; no more depends on it. */
    _Atomic uint64_t tag;
    ot_bucket bucket;
} guest;

struct ot_guests {
    double each, all;
    uint64_t salt; /* of this process, so that nobody can choose who shares a set with them */
    ot_bucket everybody;
    /* Synchronization: relaxed. */
    _Atomic uint64_t admitted, limited_each, limited_all;
    guest guests[SETS][WAYS];
};

ot_rc ot_guests_create(double each, double all, ot_guests **g_out, ot_error *err)
{
    ot_guests *g = ot_calloc(1, sizeof *g);
    if (g == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the limits of callers without a key");
    }
    g->each = each;
    g->all = all;
    ot_random_bytes(&g->salt, sizeof g->salt);
    *g_out = g;
    return OT_OK;
}

void ot_guests_destroy(ot_guests *g)
{
    ot_free(g);
}

static bool is_v4(const uint8_t ip[OT_SOCK_IP])
{
    static const uint8_t head[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(ip, head, sizeof head) == 0;
}

static ot_bucket *bucket_of(ot_guests *g, const uint8_t ip[OT_SOCK_IP], uint64_t now_ns)
{
    uint64_t hash = ot_hash_stable(ip, is_v4(ip) ? OT_SOCK_IP : OT_SOCK_IP / 2, g->salt);
    uint64_t tag = OT_MAX(hash, 1u);
    guest *set = g->guests[hash % SETS];
    for (unsigned i = 0; i < WAYS; i++) {
        if (atomic_load_explicit(&set[i].tag, memory_order_relaxed) == tag) {
            return &set[i].bucket;
        }
    }
    for (unsigned i = 0; i < WAYS; i++) {
        uint64_t was = atomic_load_explicit(&set[i].tag, memory_order_relaxed);
        if (atomic_load_explicit(&set[i].bucket.full_ns, memory_order_relaxed) <= now_ns &&
            atomic_compare_exchange_strong_explicit(&set[i].tag, &was, tag, memory_order_relaxed,
                                                    memory_order_relaxed)) {
            return &set[i].bucket;
        }
    }
    return &set[hash / SETS % WAYS].bucket;
}

static bool limited(_Atomic uint64_t *count, uint64_t wait_ns, double rate, const char *whose,
                    ot_denial *why)
{
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
    *why = (ot_denial){.status = 429,
                       .retry_s = (unsigned)OT_MIN(wait_ns / UINT64_C(1000000000) + 1, 3600u)};
    snprintf(why->err.msg, sizeof why->err.msg,
             "without an API key %s may ask %g requests a second", whose, rate);
    return false;
}

bool ot_guests_may_ip(ot_guests *g, const uint8_t ip[OT_SOCK_IP], uint64_t now_ns, ot_denial *why)
{
    if (ip != NULL && g->each > 0) {
        uint64_t wait = ot_bucket_take(bucket_of(g, ip, now_ns), g->each, 1, now_ns);
        if (wait > 0) {
            return limited(&g->limited_each, wait, g->each, "one address", why);
        }
    }
    uint64_t wait = ot_bucket_take(&g->everybody, g->all, 1, now_ns);
    if (wait > 0) {
        return limited(&g->limited_all, wait, g->all, "all callers together", why);
    }
    atomic_fetch_add_explicit(&g->admitted, 1, memory_order_relaxed);
    return true;
}

bool ot_guests_may(ot_guests *g, int fd, uint64_t now_ns, ot_denial *why)
{
    uint8_t ip[OT_SOCK_IP];
    bool has = g->each > 0 && ot_sock_peer_ip(fd, ip);
    return ot_guests_may_ip(g, has ? ip : NULL, now_ns, why);
}

void ot_guests_counts_get(const ot_guests *g, ot_guests_counts *out)
{
    out->admitted = atomic_load_explicit(&g->admitted, memory_order_relaxed);
    out->limited_each = atomic_load_explicit(&g->limited_each, memory_order_relaxed);
    out->limited_all = atomic_load_explicit(&g->limited_all, memory_order_relaxed);
}
