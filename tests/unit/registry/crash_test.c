/* The power is cut after every write while bundles are registered and laid out: a version that is
 * there has all its files, whole; one that was acknowledged is there; what was broken off is done
 * again to the same end. */
#include "crash_disk.h"
#include "registry/registry.h"
#include "unit/bundle_fixture.h"

#define BUNDLES 4

static const ot_store_options options = {
    .struct_size = sizeof options, .readers_max = 1, .checkpoint_pages = 16};

static size_t acked_at[BUNDLES + 1]; /* operations on the disk when version n was there */

static const char *bundle_dir(int64_t n)
{
    char name[32];
    snprintf(name, sizeof name, "bundle-%d", (int)n);
    return at(name);
}

static ot_rc add(ot_store *store, int64_t n, ot_error *err)
{
    ot_register r = {.model = "m", .app = "a", .run = n};
    ot_registered out;
    OT_TRY(ot_registry_register(store, bundle_dir(n), &r, &out, err));
    return out.version == n
               ? ot_registry_materialise(store, &out.bundle, at("tree"), err)
               : ot_fail(err, OT_INTERNAL, "run %d made version %d", (int)n, (int)out.version);
}

static ot_rc build(int64_t n, ot_error *err)
{
    char content[32];
    ot_digest digest;
    snprintf(content, sizeof content, "{\"n\": %d}", (int)n / 2); /* two are the same */
    return fixture_build(bundle_dir(n), content, FIXTURE_GOLDEN, NULL, &digest, err);
}

static ot_rc build_again(int64_t n, ot_error *err)
{
    OT_TRY(ot_disk_remove_tree(disk, bundle_dir(n), err));
    OT_TRY(ot_disk_remove_tree(disk, at("fixture-model"), err));
    return build(n, err);
}

static void record(crash_disk *d)
{
    ot_store *store;
    ot_error e = {0};
    disk = &d->base;
    snprintf(scratch, sizeof scratch, "/b");
    ok(ot_store_open(disk, "/s", &options, &store, &e) == OT_OK, "opens %s", e.msg);
    for (int64_t n = 1; n <= BUNDLES; n++) {
        ot_rc rc = build(n, &e);
        rc = rc == OT_OK ? add(store, n, &e) : rc;
        is_int(rc, OT_OK, "version %d: %s", (int)n, e.msg);
        acked_at[n] = crash_disk_ops_done(d);
    }
    ot_store_close(store);
}

static ot_rc verify_file(void *arg, const ot_bundle_file_row *f, ot_error *err)
{
    return ot_blob_verify(arg, &f->blob, err);
}

/* `arg`: how many versions there are, each with its files. */
static ot_rc look(ot_txn *txn, void *arg, ot_error *err)
{
    int64_t *n = arg;
    for (*n = 0;; ++*n) {
        ot_version_row v;
        ot_rc rc = ot_version_of_run(txn, "m", *n + 1, &v, err);
        if (rc == OT_NOT_FOUND) {
            return OT_OK;
        }
        OT_TRY(rc);
        if (v.event_seq == 0) {
            return ot_fail(err, OT_DATA_LOSS, "version %d has no event", (int)v.version);
        }
        OT_TRY(ot_bundle_files_each(txn, &v.bundle, verify_file, ot_txn_store(txn), err));
    }
}

static ot_rc check(crash_disk *d, size_t ops, ot_error *err)
{
    ot_store *store;
    int64_t n = 0;
    disk = &d->base;
    OT_TRY(ot_store_open(disk, "/s", &options, &store, err));
    ot_rc rc = ot_store_read(store, look, &n, err);
    if (rc == OT_OK && n < BUNDLES && acked_at[n + 1] <= ops) {
        rc = ot_fail(err, OT_DATA_LOSS, "version %d is lost", (int)n + 1);
    }
    /* The run is registered again, from its directory as it is built again. */
    if (rc == OT_OK && n < BUNDLES) {
        rc = build_again(n + 1, err);
        rc = rc == OT_OK ? add(store, n + 1, err) : rc;
    }
    ot_store_close(store);
    return rc;
}

int main(void)
{
    crash_disk *d = crash_disk_create(true);
    record(d);
    crash_walk w;
    ot_rng rng;
    size_t bad = 0, cuts = 0;
    ot_rng_seed(&rng, 1);
    crash_walk_init(&w, d);
    while (crash_walk_step(&w)) {
        for (int mode = CRASH_DROP; mode <= CRASH_TEAR; mode++, cuts++) {
            ot_error e = {0};
            crash_disk *left = crash_walk_disk(&w, (crash_mode)mode, &rng);
            if (check(left, w.at, &e) != OT_OK && bad++ < 3) {
                printf("# cut after operation %zu: %s\n", w.at, e.msg);
            }
            crash_disk_destroy(left);
        }
    }
    ok(cuts > 100 * BUNDLES, "cuts between all of its steps");
    is_int(bad, 0, "%zu power cuts: no version without its files, none lost", cuts);
    crash_walk_done(&w);
    crash_disk_destroy(d);
    return tap_done();
}
