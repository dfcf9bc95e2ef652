#include "collective/residual.h"

#include "base/hash.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Tensors that did not come in so many operations come no more. */
#define USES_KEPT 8192
#define KEPT_BYTES_MAX ((uint64_t)8 << 30)
#define ITEMS_MAX 8192 /* of a checkpoint */

static void residual_free(ot_residual *x)
{
    ot_free(x->numbers);
    ot_free(x);
}

void ot_residuals_init(ot_residuals *r)
{
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
}

static void drop_all(ot_residuals *r)
{
    for (size_t i = 0; i < r->n; i++) {
        residual_free(r->items[i]);
    }
    ot_free(r->items);
    r->items = NULL;
    r->n = r->cap = 0;
    r->bytes = 0;
}

void ot_residuals_done(ot_residuals *r)
{
    drop_all(r);
    pthread_mutex_destroy(&r->lock);
}

/* Drops what is old, and of the rest the oldest until there is room. */
static void make_room(ot_residuals *r, uint64_t bytes)
{
    for (;;) {
        size_t oldest = r->n;
        for (size_t i = 0; i < r->n; i++) {
            if (r->items[i]->users == 0 &&
                (oldest == r->n || r->items[i]->used < r->items[oldest]->used)) {
                oldest = i;
            }
        }
        if (oldest == r->n ||
            (r->uses - r->items[oldest]->used <= USES_KEPT && r->bytes + bytes <= KEPT_BYTES_MAX)) {
            return;
        }
        r->bytes -= r->items[oldest]->bytes;
        residual_free(r->items[oldest]);
        r->items[oldest] = r->items[--r->n];
    }
}

static ot_residual *find_locked(ot_residuals *r, uint64_t key)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->items[i]->key == key) {
            return r->items[i];
        }
    }
    return NULL;
}

static ot_residual *use_locked(ot_residuals *r, ot_residual *x)
{
    x->used = r->uses;
    x->fresh = false;
    x->users++;
    return x;
}

/* One more, of zeros; NULL: no memory. */
static ot_residual *add_locked(ot_residuals *r, uint64_t key, uint64_t count)
{
    uint64_t bytes = count * sizeof(float);
    make_room(r, bytes);
    if (r->n == r->cap) {
        size_t cap = r->cap == 0 ? 16 : 2 * r->cap;
        ot_residual **items = ot_realloc(r->items, cap * sizeof *items);
        if (items == NULL) {
            return NULL;
        }
        r->items = items;
        r->cap = cap;
    }
    ot_residual *x = count <= KEPT_BYTES_MAX / sizeof(float) ? ot_calloc(1, sizeof *x) : NULL;
    float *numbers = x != NULL ? ot_calloc(count, sizeof *numbers) : NULL;
    if (numbers == NULL) {
        ot_free(x);
        return NULL;
    }
    r->bytes += bytes;
    *x = (ot_residual){key, r->uses, bytes, 0, true, numbers};
    return r->items[r->n++] = x;
}

ot_residual *ot_residual_take(ot_residuals *r, uint64_t key, uint64_t count)
{
    pthread_mutex_lock(&r->lock);
    r->uses++;
    ot_residual *x = find_locked(r, key);
    bool fresh = x == NULL;
    if (fresh) {
        x = add_locked(r, key, count);
    } else if (x->bytes != count * sizeof(float)) {
        x = NULL; /* hashes that are alike, or a checkpoint of another program */
    }
    if (x != NULL) {
        use_locked(r, x)->fresh = fresh;
    }
    pthread_mutex_unlock(&r->lock);
    return x;
}

ot_residual *ot_residual_find(ot_residuals *r, uint64_t key, uint64_t count)
{
    pthread_mutex_lock(&r->lock);
    ot_residual *x = find_locked(r, key);
    x = x != NULL && x->bytes == count * sizeof(float) ? use_locked(r, x) : NULL;
    pthread_mutex_unlock(&r->lock);
    return x;
}

void ot_residual_release(ot_residuals *r, ot_residual *x)
{
    if (x != NULL) {
        pthread_mutex_lock(&r->lock);
        x->users--;
        pthread_mutex_unlock(&r->lock);
    }
}

/* --- checkpoints -------------------------------------------------------------------------- */

enum { HEAD = 16, ITEM = 16, TAIL = 8 };
static const char magic[8] = {'O', 'T', 'K', 'E', 'P', 'T', '1', '\n'};

static void put_u64(uint8_t **at, uint64_t x)
{
    memcpy(*at, &x, sizeof x);
    *at += sizeof x;
}

static uint64_t get_u64(const uint8_t **at)
{
    uint64_t x;
    memcpy(&x, *at, sizeof x);
    *at += sizeof x;
    return x;
}

static ot_rc save_locked(ot_residuals *r, uint8_t *out, uint64_t room, uint64_t *bytes_out,
                         ot_error *err)
{
    uint64_t bytes = r->n == 0 ? 0 : HEAD + TAIL + r->bytes + r->n * ITEM;
    for (size_t i = 0; i < r->n; i++) {
        if (r->items[i]->users > 0) {
            return ot_fail(err, OT_PRECONDITION,
                           "operations are in flight: save what is kept between two steps");
        }
    }
    *bytes_out = bytes;
    if (out == NULL || room < bytes || bytes == 0) {
        return OT_OK;
    }
    uint8_t *at = out;
    memcpy(at, magic, sizeof magic);
    at += sizeof magic;
    put_u64(&at, r->n);
    for (size_t i = 0; i < r->n; i++) {
        const ot_residual *x = r->items[i];
        put_u64(&at, x->key);
        put_u64(&at, x->bytes / sizeof(float));
        memcpy(at, x->numbers, x->bytes);
        at += x->bytes;
    }
    put_u64(&at, ot_hash_stable(out, bytes - TAIL, 0));
    return OT_OK;
}

ot_rc ot_residuals_save(ot_residuals *r, void *out, uint64_t room, uint64_t *bytes_out,
                        ot_error *err)
{
    pthread_mutex_lock(&r->lock);
    ot_rc rc = save_locked(r, out, room, bytes_out, err);
    pthread_mutex_unlock(&r->lock);
    return rc;
}

static ot_rc not_saved(const char *why, ot_error *err)
{
    return ot_fail(err, OT_DATA_LOSS, "what is kept of tensors can't be loaded: %s", why);
}

static bool all_finite(const uint8_t *p, uint64_t count)
{
    bool good = true;
    for (uint64_t i = 0; i < count && good; i++) {
        float x;
        memcpy(&x, p + i * sizeof x, sizeof x);
        good = isfinite(x);
    }
    return good;
}

/* Into an empty store. */
static ot_rc load_items(ot_residuals *r, const uint8_t *at, const uint8_t *end, uint64_t n,
                        ot_error *err)
{
    for (uint64_t i = 0; i < n; i++) {
        if (end - at < ITEM) {
            return not_saved("it is cut short", err);
        }
        uint64_t key = get_u64(&at), count = get_u64(&at);
        if (count > (uint64_t)(end - at) / sizeof(float)) {
            return not_saved("it is cut short", err);
        }
        if (key == 0 || find_locked(r, key) != NULL || !all_finite(at, count)) {
            return not_saved("a tensor is there twice, or its numbers are not finite", err);
        }
        r->uses++;
        ot_residual *x = add_locked(r, key, count);
        if (x == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for what is kept of %" PRIu64 " numbers",
                           count);
        }
        memcpy(x->numbers, at, x->bytes);
        at += x->bytes;
    }
    return at == end ? OT_OK : not_saved("something comes behind it", err);
}

/* The items of `bytes`, into an empty store. */
static ot_rc load_checked(ot_residuals *r, const uint8_t *bytes, uint64_t n, ot_error *err)
{
    uint64_t hash;
    if (n < HEAD + TAIL || memcmp(bytes, magic, sizeof magic) != 0) {
        return not_saved("it does not begin as version 1 does", err);
    }
    memcpy(&hash, bytes + n - TAIL, sizeof hash);
    if (hash != ot_hash_stable(bytes, n - TAIL, 0)) {
        return not_saved("its hash is another one", err);
    }
    const uint8_t *at = bytes + sizeof magic;
    uint64_t items = get_u64(&at);
    if (items > ITEMS_MAX) {
        return not_saved("too many tensors", err);
    }
    return load_items(r, at, bytes + n - TAIL, items, err);
}

ot_rc ot_residuals_load(ot_residuals *r, const void *bytes, uint64_t n, ot_error *err)
{
    ot_residuals loaded = {0};
    ot_rc rc = n > 0 ? load_checked(&loaded, bytes, n, err) : OT_OK;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->n && rc == OT_OK; i++) {
        if (r->items[i]->users > 0) {
            rc = ot_fail(err, OT_PRECONDITION,
                         "operations are in flight: load what is kept between two steps");
        }
    }
    if (rc == OT_OK) {
        ot_residual **items_of = r->items;
        size_t had = r->n;
        r->items = loaded.items;
        r->n = loaded.n;
        r->cap = loaded.cap;
        r->bytes = loaded.bytes;
        for (size_t i = 0; i < r->n; i++) {
            r->items[i]->used = r->uses;
        }
        loaded.items = items_of;
        loaded.n = had;
    }
    pthread_mutex_unlock(&r->lock);
    drop_all(&loaded);
    return rc;
}
