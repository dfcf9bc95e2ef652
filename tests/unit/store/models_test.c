/* Rows of models, versions, aliases and datasets: what the registry's tests do not reach. */
#include "store/models.h"

#include "base/mem.h"
#include "store/blob.h"
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>

static ot_store *store;

typedef ot_rc body(ot_txn *txn, ot_error *err);
static ot_rc run_body(ot_txn *txn, void *arg, ot_error *err)
{
    body *const *fn = arg;
    return (*fn)(txn, err);
}
static ot_rc writing(body *fn, ot_error *err)
{
    return ot_store_write(store, run_body, &fn, err);
}
static ot_rc reading(body *fn, ot_error *err)
{
    return ot_store_read(store, run_body, &fn, err);
}

static ot_digest digest(int i)
{
    return ot_sha256_of(&i, sizeof i);
}

/* --- models and versions */

static ot_rc add_models(ot_txn *txn, ot_error *err)
{
    for (int i = 0; i < 5; i++) {
        char name[16];
        int64_t id = 0, again = 0;
        snprintf(name, sizeof name, "m%d", i);
        OT_TRY(ot_model_ensure(txn, name, i % 2 == 0 ? "even" : NULL, 1, &id, err));
        OT_TRY(ot_model_ensure(txn, name, "later", 2, &again, err));
        if (id != again) {
            return ot_fail(err, OT_INTERNAL, "another id the second time");
        }
    }
    return OT_OK;
}

static int seen;
static char names[64];

static ot_rc see_model(void *arg, const ot_model_row *m, ot_error *err)
{
    (void)arg;
    (void)err;
    seen++;
    strncat(names, m->name, sizeof names - strlen(names) - 1);
    return OT_OK;
}

static ot_rc list_models(ot_txn *txn, ot_error *err)
{
    OT_TRY(ot_model_each(txn, NULL, NULL, 2, see_model, NULL, err));
    OT_TRY(ot_model_each(txn, NULL, "m1", 0, see_model, NULL, err));
    return ot_model_each(txn, "even", "m0", 0, see_model, NULL, err);
}

static ot_rc add_versions(ot_txn *txn, ot_error *err)
{
    int64_t id = 0, version = 0;
    ot_digest b = digest(1);
    ot_bundle_file_row files[] = {{.path = "manifest.json", .size = 10, .blob = b},
                                  {.path = "model/m", .size = 7, .blob = digest(2)}};
    OT_TRY(ot_model_ensure(txn, "m0", NULL, 1, &id, err));
    OT_TRY(ot_bundle_row_add(txn, &b, "null", files, 2, 1, err));
    OT_TRY(ot_bundle_row_add(txn, &b, "null", files, 2, 2, err));
    for (int i = 1; i <= 3; i++) {
        ot_version_new v = {.model_id = id, .bundle = b, .run = i, .now_us = i};
        OT_TRY(ot_version_add(txn, &v, &version, err));
        if (version != i) {
            return ot_fail(err, OT_INTERNAL, "number %d", (int)version);
        }
    }
    return OT_OK;
}

static ot_rc same_run(ot_txn *txn, ot_error *err)
{
    int64_t id = 0, version = 0;
    OT_TRY(ot_model_ensure(txn, "m0", NULL, 1, &id, err));
    ot_version_new v = {.model_id = id, .bundle = digest(1), .run = 2, .now_us = 1};
    return ot_version_add(txn, &v, &version, err);
}

static ot_rc no_bundle(ot_txn *txn, ot_error *err)
{
    int64_t id = 0, version = 0;
    OT_TRY(ot_model_ensure(txn, "m0", NULL, 1, &id, err));
    ot_version_new v = {.model_id = id, .bundle = digest(99), .now_us = 1};
    return ot_version_add(txn, &v, &version, err);
}

static ot_rc see_version(void *arg, const ot_version_row *v, ot_error *err)
{
    (void)arg;
    (void)err;
    seen = seen * 10 + (int)v->version;
    return OT_OK;
}

static ot_rc stop_at_two(void *arg, const ot_version_row *v, ot_error *err)
{
    OT_TRY(see_version(arg, v, err));
    return v->version == 2 ? ot_fail(err, OT_CANCELLED, "enough") : OT_OK;
}

static ot_rc list_versions(ot_txn *txn, ot_error *err)
{
    OT_TRY(ot_version_each(txn, "m0", 3, 1, see_version, NULL, err)); /* 2 */
    return ot_version_each(txn, "m0", 0, 0, stop_at_two, NULL, err);  /* 3, 2 */
}

static ot_rc third_of_run(ot_txn *txn, ot_error *err)
{
    ot_version_row v;
    OT_TRY(ot_version_of_run(txn, "m0", 3, &v, err));
    return v.version == 3 && v.size_bytes == 17 ? ot_version_of_run(txn, "m0", 0, &v, err)
                                                : ot_fail(err, OT_INTERNAL, "another row");
}

static ot_rc write_in_read(ot_txn *txn, ot_error *err)
{
    return ot_version_set_status(txn, "m0", 1, OT_VERSION_GATED, 1, err);
}

static ot_rc bad_alias(ot_txn *txn, ot_error *err)
{
    return ot_alias_set(txn, "m0", "a b", 1, 1, err);
}

static ot_rc alias_of_nothing(ot_txn *txn, ot_error *err)
{
    return ot_alias_set(txn, "m0", "x", 9, 1, err);
}

static ot_rc bad_status(ot_txn *txn, ot_error *err)
{
    return ot_version_set_status(txn, "m0", 1, OT_VERSION_STATUS_COUNT_, 1, err);
}

static void test_models(void)
{
    ot_error e = {0};
    ok(writing(add_models, &e) == OT_OK, "models: %s", e.msg);
    ok(reading(list_models, &e) == OT_OK, "listed: %s", e.msg);
    is_str(names, "m0m1m2m3m4m2m4", "in order, paged, by app");
    ok(writing(add_versions, &e) == OT_OK, "versions: %s", e.msg);
    ok(writing(same_run, &e) == OT_EXISTS, "one version a run: %s", e.msg);
    ok(writing(no_bundle, &e) == OT_PRECONDITION, "its bundle must be there: %s", e.msg);
    seen = 0;
    ok(reading(list_versions, &e) == OT_CANCELLED && strcmp(e.msg, "enough") == 0,
       "the caller can stop a list");
    is_int(seen, 232, "newest first, paged");
    ok(reading(third_of_run, &e) == OT_NOT_FOUND, "by run, and run 0 is none: %s", e.msg);
    ok(reading(write_in_read, &e) == OT_PRECONDITION, "no writing while reading: %s", e.msg);
    ok(writing(bad_alias, &e) == OT_INVALID, "alias names: %s", e.msg);
    ok(writing(alias_of_nothing, &e) == OT_NOT_FOUND, "an alias of nothing: %s", e.msg);
    ok(writing(bad_status, &e) == OT_INVALID, "a status that is none: %s", e.msg);
}

/* --- datasets */

static ot_rc add_datasets(ot_txn *txn, ot_error *err)
{
    for (int i = 0; i < 4; i++) {
        ot_digest blobs[] = {digest(100 + i), digest(200)};
        ot_dataset_row d = {
            .digest = digest(10 + i), .rows = i, .size_bytes = 5, .created_us = 1000 - i};
        snprintf(d.name, sizeof d.name, "%s", i < 2 ? "base" : "");
        OT_TRY(ot_dataset_row_add(txn, &d, "{\"path\": \"x\"}", blobs, 2, err));
    }
    return OT_OK;
}

static ot_rc newest_base(ot_txn *txn, ot_error *err)
{
    ot_dataset_row d;
    OT_TRY(ot_dataset_by_name(txn, "base", &d, err));
    return d.rows == 0 && d.created_us == 1000 ? OT_OK
                                               : ot_fail(err, OT_INTERNAL, "not the newest");
}

static ot_rc renew(ot_txn *txn, ot_error *err)
{
    ot_dataset_row d = {
        .digest = digest(11), .name = "base", .rows = 1, .size_bytes = 5, .created_us = 2000};
    OT_TRY(ot_dataset_row_add(txn, &d, NULL, NULL, 0, err));
    OT_TRY(ot_dataset_by_name(txn, "base", &d, err));
    return d.rows == 1 ? OT_OK : ot_fail(err, OT_INTERNAL, "not renewed");
}

static ot_rc make_version_of(ot_txn *txn, ot_error *err)
{
    int64_t id = 0;
    ot_digest d = digest(11);
    OT_TRY(ot_model_ensure(txn, "m0", NULL, 1, &id, err));
    return ot_version_data_add(txn, id, 1, "base", &d, err);
}

static ot_rc drop_used(ot_txn *txn, ot_error *err)
{
    ot_digest d = digest(11);
    return ot_dataset_row_delete(txn, &d, err);
}

static ot_rc drop_version(ot_txn *txn, ot_error *err)
{
    return ot_version_delete(txn, "m0", 1, err);
}

static ot_rc see_data(void *arg, const char *name, const ot_digest *d, ot_error *err)
{
    (void)arg;
    (void)err;
    ot_digest want = digest(11);
    seen += strcmp(name, "base") == 0 && ot_digest_equal(d, &want);
    return OT_OK;
}

static ot_rc list_data(ot_txn *txn, ot_error *err)
{
    return ot_version_data_each(txn, "m0", 1, see_data, NULL, err);
}

static int live_mask;
static ot_rc ask_live(ot_txn *txn, ot_error *err)
{
    const int ids[] = {1, 2, 11, 101, 200, 999};
    live_mask = 0;
    for (size_t i = 0; i < OT_COUNT(ids); i++) {
        ot_digest d = digest(ids[i]);
        bool live = false;
        OT_TRY(ot_models_blob_live(txn, &d, &live, err));
        live_mask |= (int)live << i;
    }
    return OT_OK;
}

static void test_datasets(void)
{
    ot_error e = {0};
    ok(writing(add_datasets, &e) == OT_OK, "datasets: %s", e.msg);
    ok(reading(newest_base, &e) == OT_OK, "the newest of a name: %s", e.msg);
    ok(writing(renew, &e) == OT_OK, "recorded again it is the newest: %s", e.msg);
    ok(writing(make_version_of, &e) == OT_OK, "a version made from it: %s", e.msg);
    seen = 0;
    ok(reading(list_data, &e) == OT_OK && seen == 1, "its lineage");
    ok(reading(ask_live, &e) == OT_OK, "what is live: %s", e.msg);
    is_int(live_mask, 0x1f, "files of bundles, datasets and their columns; nothing else");
    ok(writing(drop_used, &e) == OT_PRECONDITION, "a dataset in use stays: %s", e.msg);
    ok(writing(drop_version, &e) == OT_OK && writing(drop_used, &e) == OT_OK,
       "without the version it goes: %s", e.msg);
    ok(writing(drop_used, &e) == OT_NOT_FOUND, "once: %s", e.msg);
    ok(reading(ask_live, &e) == OT_OK, "what is live now");
    is_int(live_mask, 0x13, "its own column is not, a shared one is");
}

int main(void)
{
    char dir[] = "/tmp/overtake-test-XXXXXX";
    ot_error e = {0};
    if (mkdtemp(dir) == NULL || ot_store_open(ot_disk_posix(), dir, NULL, &store, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        return 1;
    }
    test_models();
    test_datasets();
    ot_store_close(store);
    ok(ot_disk_remove_tree(ot_disk_posix(), dir, &e) == OT_OK, "the scratch directory goes");
    return tap_done();
}
