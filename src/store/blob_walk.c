/* The content store as a whole: listing, verifying all, collecting what nothing refers to. */
#include "base/clock.h"
#include "base/mem.h"
#include "store/blob.h"
#include "store/blob_internal.h"

#include <string.h>

#define BATCH 64 /* looks in one write transaction */

/* The blobs of one of the 256 directories: listed first, because a walk may delete. */
typedef struct listing {
    ot_digest *items;
    size_t count, cap;
} listing;

static ot_rc list_one(void *arg, const char *name, ot_error *err)
{
    listing *l = arg;
    ot_digest d;
    if (!ot_digest_parse(name, &d)) {
        return OT_OK; /* not ours */
    }
    if (!ot_grow(&l->items, &l->cap, l->count, sizeof *l->items, 0)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to list more than %zu blobs", l->count);
    }
    l->items[l->count++] = d;
    return OT_OK;
}

typedef ot_rc part_fn(ot_store *s, const listing *l, void *arg, ot_error *err);

/* Calls `fn` with the blobs of each directory. */
static ot_rc each_part(ot_store *s, part_fn *fn, void *arg, ot_error *err)
{
    ot_disk *disk = ot_store_disk(s);
    listing l = {0};
    ot_rc rc = OT_OK;
    for (int i = 0; i < 256 && rc == OT_OK; i++) {
        char dir[OT_PATH_MAX];
        ot_digest first = {.b = {(uint8_t)i}};
        rc = ot_blob_fan_dir(s, &first, dir, err);
        l.count = 0;
        if (rc == OT_OK && ot_disk_exists(disk, dir)) {
            rc = disk->ops->list(disk, dir, list_one, &l, err);
            if (rc == OT_OK && l.count > 0) {
                rc = fn(s, &l, arg, err);
            }
        }
    }
    ot_free(l.items);
    return rc;
}

struct each_arg {
    ot_blob_each_fn *fn;
    void *arg;
};

static ot_rc each_in(ot_store *s, const listing *l, void *arg, ot_error *err)
{
    struct each_arg *a = arg;
    for (size_t i = 0; i < l->count; i++) {
        uint64_t size;
        ot_rc rc = ot_blob_size(s, &l->items[i], &size, err);
        if (rc == OT_OK) {
            rc = a->fn(a->arg, &l->items[i], size, err);
        } else if (rc == OT_NOT_FOUND) {
            continue; /* went meanwhile */
        }
        OT_TRY(rc);
    }
    return OT_OK;
}

ot_rc ot_blob_each(ot_store *s, ot_blob_each_fn *fn, void *arg, ot_error *err)
{
    struct each_arg a = {.fn = fn, .arg = arg};
    return each_part(s, each_in, &a, err);
}

struct verify_arg {
    ot_store *s;
    ot_blob_bad_fn *bad;
    void *arg;
    ot_blob_report report;
    ot_digest first_bad;
};

static ot_rc verify_one(void *arg, const ot_digest *d, uint64_t size, ot_error *err)
{
    struct verify_arg *a = arg;
    ot_error why;
    ot_rc rc = ot_blob_verify(a->s, d, &why);
    a->report.blobs++;
    a->report.bytes += size;
    if (rc == OT_DATA_LOSS) {
        a->first_bad = a->report.bad == 0 ? *d : a->first_bad;
        a->report.bad++;
        if (a->bad != NULL) {
            a->bad(a->arg, d, &why);
        }
    } else if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return ot_fail(err, rc, "%s", why.msg);
    }
    return OT_OK;
}

ot_rc ot_blob_verify_all(ot_store *s, ot_blob_bad_fn *bad, void *arg, ot_blob_report *report_out,
                         ot_error *err)
{
    struct verify_arg a = {.s = s, .bad = bad, .arg = arg};
    OT_TRY(ot_blob_each(s, verify_one, &a, err));
    *report_out = a.report;
    if (a.report.bad > 0) {
        char hex[OT_DIGEST_HEX];
        return ot_fail(err, OT_DATA_LOSS,
                       "store %s: %llu of %llu blobs are damaged, the first is %s", ot_store_dir(s),
                       (unsigned long long)a.report.bad, (unsigned long long)a.report.blobs,
                       ot_digest_hex(&a.first_bad, hex));
    }
    return OT_OK;
}

struct collect_arg {
    int64_t older_than_us;
    ot_blob_live_fn *live;
    void *arg;
    ot_blob_report report;
    const ot_digest *batch;
    size_t batch_count;
};

static ot_rc collect_one(ot_txn *txn, struct collect_arg *a, const ot_digest *d, ot_error *err)
{
    ot_store *s = ot_txn_store(txn);
    ot_disk *disk = ot_store_disk(s);
    char path[OT_PATH_MAX];
    ot_stat st;
    bool live = true;
    OT_TRY(ot_blob_path(s, d, path, err));
    ot_rc rc = disk->ops->stat(disk, path, &st, err);
    if (rc == OT_NOT_FOUND) {
        return OT_OK;
    }
    OT_TRY(rc);
    a->report.blobs++;
    a->report.bytes += st.size;
    /* The change time: a hard link or a rename onto it counts as use. */
    if (OT_MAX(st.mtime_us, st.ctime_us) > a->older_than_us) {
        return OT_OK;
    }
    OT_TRY(a->live(txn, a->arg, d, &live, err));
    if (!live) {
        OT_TRY(disk->ops->unlink(disk, path, err));
        a->report.deleted++;
        a->report.deleted_bytes += st.size;
    }
    return OT_OK;
}

static ot_rc collect_batch(ot_txn *txn, void *arg, ot_error *err)
{
    struct collect_arg *a = arg;
    if (ot_blob_is_held(ot_txn_store(txn))) {
        return OT_OK; /* the next round finds them again */
    }
    for (size_t i = 0; i < a->batch_count; i++) {
        OT_TRY(collect_one(txn, a, &a->batch[i], err));
    }
    return OT_OK;
}

static ot_rc collect_in(ot_store *s, const listing *l, void *arg, ot_error *err)
{
    struct collect_arg *a = arg;
    for (size_t at = 0; at < l->count; at += BATCH) {
        a->batch = &l->items[at];
        a->batch_count = OT_MIN((size_t)BATCH, l->count - at);
        OT_TRY(ot_store_write(s, collect_batch, a, err));
    }
    return OT_OK;
}

ot_rc ot_blob_collect(ot_store *s, int64_t grace_us, ot_blob_live_fn *live, void *arg,
                      ot_blob_report *report_out, ot_error *err)
{
    struct collect_arg a = {
        .older_than_us = ot_clock_wall_us() - grace_us,
        .live = live,
        .arg = arg,
    };
    OT_TRY(each_part(s, collect_in, &a, err));
    *report_out = a.report;
    return OT_OK;
}
