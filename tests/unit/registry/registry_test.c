/* The registry: a version and its event together, statuses and aliases, materialising, collection.
 */
#include "registry/registry.h"

#include "unit/bundle_fixture.h"

#include <pthread.h>

static ot_store *store;

static ot_rc add_bundle(const char *dir, const char *content, const char *lineage,
                        const ot_register *r, ot_registered *out, ot_error *err)
{
    ot_digest d;
    OT_TRY(fixture_build(dir, content, FIXTURE_GOLDEN, lineage, &d, err));
    return ot_registry_register(store, dir, r, out, err);
}

/* --- reading in transactions of their own */

typedef struct ask {
    const char *ref, *model;
    int64_t version;
    ot_version_row row;
    ot_model_row model_row;
    ot_str text;
    int n;
} ask;

static ot_rc find_txn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_registry_find(txn, a->ref, &a->row, err);
}

static ot_rc find(const char *ref, ot_version_row *out, ot_error *err)
{
    ask a = {.ref = ref};
    ot_rc rc = ot_store_read(store, find_txn, &a, err);
    *out = a.row;
    return rc;
}

static ot_rc model_txn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_model_get(txn, a->model, &a->model_row, err);
}

static ot_model_row model_row(const char *name)
{
    ask a = {.model = name};
    ot_error e = {0};
    if (ot_store_read(store, model_txn, &a, &e) != OT_OK) {
        ok(false, "model %s: %s", name, e.msg);
    }
    return a.model_row;
}

static ot_rc take_event(void *arg, const ot_event *ev, ot_error *err)
{
    ask *a = arg;
    (void)err;
    a->n++;
    ot_str_clear(&a->text);
    ot_str_addf(&a->text, "%s %s %s", ev->type, ev->object, ev->payload == NULL ? "" : ev->payload);
    return OT_OK;
}

static ot_rc events_txn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    ot_event_query q = {.object = a->model};
    a->n = 0;
    return ot_events_read(txn, &q, take_event, a, err);
}

/* How many events name the object; `last` gets the newest. */
static int events_of(const char *object, ot_str *last)
{
    ask a = {.model = object, .text = OT_STR_INIT};
    ot_error e = {0};
    if (ot_store_read(store, events_txn, &a, &e) != OT_OK) {
        ok(false, "events: %s", e.msg);
    }
    ot_str_clear(last);
    ot_str_adds(last, a.text.data);
    ot_str_done(&a.text);
    return a.n;
}

/* --- registration */

#define PARENT_NULL "{\"parent\": null, \"data\": {}}"

static void test_register(void)
{
    ot_error e = {0};
    ot_registered one = {0}, two = {0}, again = {0};
    const uint64_t because[] = {1, 2};
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    ot_register r = {.model = "digits",
                     .app = "app1",
                     .run = 12,
                     .metrics = "{ \"accuracy\": 0.97 }",
                     .actor = "pipeline",
                     .because = because,
                     .n_because = 2};
    ok(add_bundle(at("r1"), "{\"v\": 1}", PARENT_NULL, &r, &one, &e) == OT_OK, "registered: %s",
       e.msg);
    ok(one.version == 1 && !one.existed && one.event_seq > 0, "as version 1");
    is_int(events_of("model/digits@1", &last), 1, "with one event");
    ok(strstr(last.data, "version.registered model/digits@1") != NULL &&
           strstr(last.data, "\"because\": [1, 2]") != NULL &&
           strstr(last.data, "\"reported\": {\"accuracy\":0.97") != NULL &&
           strstr(last.data, "\"run\": 12") != NULL,
       "that says why: %s", last.data);

    ok(ot_registry_register(store, at("r1"), &r, &again, &e) == OT_OK && again.existed &&
           again.version == 1 && again.event_seq == one.event_seq,
       "the same run with the same bundle is the same version");
    is_int(events_of("model/digits@1", &last), 1, "and leaves no second event");
    ok(add_bundle(at("r2"), "{\"v\": 2}", PARENT_NULL, &r, &again, &e) == OT_EXISTS &&
           strstr(e.msg, "run 12") != NULL,
       "with another bundle it is refused: %s", e.msg);
    r.run = 13;
    char lineage[256], hex[OT_DIGEST_HEX];
    snprintf(lineage, sizeof lineage, "{\"parent\": \"%s\", \"data\": {\"base\": \"%s\"}}",
             ot_digest_hex(&one.bundle, hex), hex);
    ok(add_bundle(at("r3"), "{\"v\": 3}", lineage, &r, &two, &e) == OT_OK && two.version == 2,
       "another run, version 2: %s", e.msg);
    ot_version_row v;
    ok(find("digits", &v, &e) == OT_OK && v.version == 2 && v.has_parent &&
           ot_digest_equal(&v.parent, &one.bundle) && v.run == 13 &&
           v.status == OT_VERSION_REGISTERED && v.size_bytes > 500,
       "its row has all of it");
    is_str(v.format, "null", "format");
    ot_model_row m = model_row("digits");
    ok(m.versions == 2 && m.latest == 2 && m.champion == 0 && strcmp(m.app, "app1") == 0,
       "the model counts them");
}

static void test_register_refused(void)
{
    ot_error e = {0};
    ot_registered out = {0};
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    ot_register r = {.model = "bad"};
    static const struct {
        const char *lineage, *metrics, *says;
    } cases[] = {
        {"{\"parent\": 7}", NULL, "parent"},
        {"{\"data\": {\"base\": \"x\"}}", NULL, "data.base"},
        {"{\"data\": []}", NULL, "data"},
        {"[]", NULL, "lineage.json"},
        {PARENT_NULL, "{\"loss\": NaN}", "metrics"},
        {PARENT_NULL, "[1]", "metrics"},
        {PARENT_NULL, "{", "metrics"},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        char name[32];
        snprintf(name, sizeof name, "refused%zu", i);
        r.metrics = cases[i].metrics;
        ok(add_bundle(at(name), "{}", cases[i].lineage, &r, &out, &e) == OT_INVALID &&
               strstr(e.msg, cases[i].says) != NULL,
           "refused: %s", e.msg);
    }
    r.metrics = NULL;
    r.model = "a/b";
    ok(ot_registry_register(store, at("r1"), &r, &out, &e) == OT_INVALID, "a bad name: %s", e.msg);
    r.model = "bad";
    write_text(at("refused0/model/null.json"), "changed");
    ok(ot_registry_register(store, at("refused0"), &r, &out, &e) == OT_DATA_LOSS, "damage: %s",
       e.msg);
    is_int(events_of("model/bad@1", &last), 0, "nothing was added");
}

/* --- statuses */

typedef struct change {
    const char *model;
    int64_t version, previous;
    ot_version_status status;
    const ot_event_in *event;
    uint64_t seq;
    bool fail_after;
} change;

static ot_rc status_txn(ot_txn *txn, void *arg, ot_error *err)
{
    change *c = arg;
    OT_TRY(ot_registry_set_status(txn, c->model, c->version, c->status, c->event, &c->seq, err));
    return c->fail_after ? ot_fail(err, OT_ABORTED, "on purpose") : OT_OK;
}

static ot_rc promote_txn(ot_txn *txn, void *arg, ot_error *err)
{
    change *c = arg;
    return ot_registry_promote(txn, c->model, c->version, c->status, c->event, &c->previous,
                               &c->seq, err);
}

static ot_rc challenge_txn(ot_txn *txn, void *arg, ot_error *err)
{
    change *c = arg;
    return ot_alias_set(txn, c->model, OT_ALIAS_CHALLENGER, c->version, 1, err);
}

static void test_statuses(void)
{
    ot_error e = {0};
    ot_version_row v;
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    const ot_event_in gate = {
        .actor = "pipeline", .type = "gate.passed", .payload = "{\"p\": 0.01}"};
    change c = {.model = "digits", .version = 1, .status = OT_VERSION_GATED, .event = &gate};
    ok(ot_store_write(store, status_txn, &c, &e) == OT_OK && c.seq > 0, "gated: %s", e.msg);
    ok(find("digits@1", &v, &e) == OT_OK && v.status == OT_VERSION_GATED, "the row says so");
    is_int(events_of("model/digits@1", &last), 2, "and an event");
    is_str(last.data, "gate.passed model/digits@1 {\"p\": 0.01}", "the caller's");

    c.status = OT_VERSION_REFUSED;
    c.fail_after = true;
    ok(ot_store_write(store, status_txn, &c, &e) == OT_ABORTED, "a transaction that fails");
    ok(find("digits@1", &v, &e) == OT_OK && v.status == OT_VERSION_GATED &&
           events_of("model/digits@1", &last) == 2,
       "changes neither row nor log");
    c.fail_after = false;
    c.status = OT_VERSION_CHAMPION;
    ok(ot_store_write(store, status_txn, &c, &e) == OT_INVALID, "champion by status: %s", e.msg);
    c.status = OT_VERSION_CANARY;
    c.version = 9;
    ok(ot_store_write(store, status_txn, &c, &e) == OT_NOT_FOUND, "no such version: %s", e.msg);
    c.model = "nobody";
    ok(ot_store_write(store, status_txn, &c, &e) == OT_NOT_FOUND, "no such model: %s", e.msg);
    for (int s = 0; s < OT_VERSION_STATUS_COUNT_; s++) {
        ot_version_status back = OT_VERSION_STATUS_COUNT_;
        ok(ot_version_status_parse(ot_version_status_name((ot_version_status)s), &back) &&
               (int)back == s,
           "status %s", ot_version_status_name((ot_version_status)s));
    }
}

static void test_promote(void)
{
    ot_error e = {0};
    ot_version_row v;
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    const ot_event_in plain = {.actor = "pipeline"};
    change c = {.model = "digits", .version = 1, .status = OT_VERSION_RETIRED, .event = &plain};
    ok(find("digits@champion", &v, &e) == OT_NOT_FOUND, "no champion yet: %s", e.msg);
    ok(ot_store_write(store, promote_txn, &c, &e) == OT_OK && c.previous == 0, "the first: %s",
       e.msg);
    ok(find("digits@champion", &v, &e) == OT_OK && v.version == 1 &&
           v.status == OT_VERSION_CHAMPION,
       "it is champion");
    ok(events_of("model/digits@1", &last) == 3 &&
           strcmp(last.data, "version.promoted model/digits@1 {\"previous\": null}") == 0,
       "its event: %s", last.data);
    c.version = 2;
    ok(ot_store_write(store, challenge_txn, &c, &e) == OT_OK &&
           find("digits@challenger", &v, &e) == OT_OK && v.version == 2,
       "a challenger");
    ok(ot_store_write(store, promote_txn, &c, &e) == OT_OK && c.previous == 1, "the second: %s",
       e.msg);
    ok(find("digits@1", &v, &e) == OT_OK && v.status == OT_VERSION_RETIRED, "the first is retired");
    ok(find("digits@challenger", &v, &e) == OT_NOT_FOUND, "it is challenger no more");
    const ot_event_in back = {.actor = "pipeline", .type = "version.rolled_back"};
    c = (change){.model = "digits", .version = 1, .status = OT_VERSION_REFUSED, .event = &back};
    ok(ot_store_write(store, promote_txn, &c, &e) == OT_OK && c.previous == 2, "rolled back: %s",
       e.msg);
    ok(find("digits@2", &v, &e) == OT_OK && v.status == OT_VERSION_REFUSED, "the second refused");
    is_int(model_row("digits").champion, 1, "the first is champion again");
    c.version = 7;
    ok(ot_store_write(store, promote_txn, &c, &e) == OT_NOT_FOUND &&
           model_row("digits").champion == 1,
       "a version that is not there changes nothing: %s", e.msg);
}

static void test_find(void)
{
    ot_error e = {0};
    ot_version_row v;
    static const char *const bad[] = {"",    "@1",     "digits@",
                                      "a b", "../x@1", "digits@99999999999999999999"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(find(bad[i], &v, &e) != OT_OK, "'%s' finds nothing: %s", bad[i], e.msg);
    }
    ok(find("digits@3", &v, &e) == OT_NOT_FOUND, "no version 3: %s", e.msg);
    ok(find("nobody", &v, &e) == OT_NOT_FOUND, "no such model: %s", e.msg);
}

/* --- bundles out of the store */

static void test_materialise(void)
{
    ot_error e = {0};
    ot_version_row v;
    ot_stat blob, placed;
    char path[OT_PATH_MAX];
    ok(find("digits@1", &v, &e) == OT_OK, "a version");
    ok(ot_registry_materialise(store, &v.bundle, at("cache/one"), &e) == OT_OK, "placed: %s",
       e.msg);
    OT_AUTO(ot_bundle_done) ot_bundle b = {0};
    ok(ot_bundle_open(disk, at("cache/one"), 0, &v.bundle, &b, &e) == OT_OK, "it verifies: %s",
       e.msg);
    const ot_manifest_file *f = ot_manifest_file_find(&b.manifest, "model/null.json");
    ok(ot_blob_path(store, &f->sha256, path, &e) == OT_OK &&
           disk->ops->stat(disk, path, &blob, &e) == OT_OK &&
           disk->ops->stat(disk, at("cache/one/model/null.json"), &placed, &e) == OT_OK &&
           blob.inode == placed.inode,
       "as links: no byte is copied");
    ok(ot_registry_materialise(store, &v.bundle, at("cache/one"), &e) == OT_OK, "again is fine");
    ok(unlink(at("cache/one/model/null.json")) == 0, "a file lost");
    write_text(at("cache/one/model/null.json"), "{\"v\": 9}");
    ok(ot_registry_materialise(store, &v.bundle, at("cache/one"), &e) == OT_OK, "made anew: %s",
       e.msg);
    OT_AUTO(ot_bundle_done) ot_bundle anew = {0};
    ok(ot_bundle_open(disk, at("cache/one"), 0, &v.bundle, &anew, &e) == OT_OK, "and right: %s",
       e.msg);
    ok(ot_registry_copy_out(store, &v.bundle, at("cache/copy"), &e) == OT_OK &&
           disk->ops->stat(disk, at("cache/copy/model/null.json"), &placed, &e) == OT_OK &&
           blob.inode != placed.inode,
       "or as copies: %s", e.msg);
    ot_digest none = {{7}};
    ok(ot_registry_materialise(store, &none, at("cache/none"), &e) != OT_OK, "unknown: %s", e.msg);
    ok(!ot_disk_exists(disk, at("cache/none")), "nothing is left");

    /* A copy of the blobs with one damaged byte: as a far cache would be. */
    char command[3 * OT_PATH_MAX];
    snprintf(command, sizeof command, "cp -r '%s/store/blobs' '%s/far' && chmod -R u+w '%s/far'",
             scratch, scratch, scratch);
    ok(system(command) == 0, "another place");
    ok(ot_registry_materialise_from(disk, at("far"), &v.bundle, at("cache/far"), &e) == OT_OK,
       "from there: %s", e.msg);
    char hex[OT_DIGEST_HEX], damaged[OT_PATH_MAX];
    ot_digest_hex(&f->sha256, hex);
    snprintf(damaged, sizeof damaged, "%s/far/%.2s/%s", scratch, hex, hex);
    write_text(damaged, "{\"v\": 8}");
    ok(ot_disk_remove_tree(disk, at("cache/far"), &e) == OT_OK, "gone");
    ok(ot_registry_materialise_from(disk, at("far"), &v.bundle, at("cache/far"), &e) ==
           OT_DATA_LOSS,
       "a damaged blob is found: %s", e.msg);
    ok(!ot_disk_exists(disk, at("cache/far")), "and not placed");
}

/* --- deletion and collection */

static uint64_t blobs(void)
{
    ot_blob_report r = {0};
    ot_error e = {0};
    if (ot_blob_verify_all(store, NULL, NULL, &r, &e) != OT_OK) {
        ok(false, "blobs: %s", e.msg);
    }
    return r.blobs;
}

static ot_rc keep_all(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out, ot_error *err)
{
    (void)txn;
    (void)d;
    (void)err;
    ++*(int *)arg;
    *live_out = true;
    return OT_OK;
}

static void test_delete(void)
{
    ot_error e = {0};
    ot_registered free_one = {0};
    ot_version_row v;
    ot_blob_report report = {0};
    OT_AUTO(ot_str_done) ot_str last = OT_STR_INIT;
    ot_register r = {.model = "digits"};
    ok(add_bundle(at("d1"), "{\"only\": \"here\"}", NULL, &r, &free_one, &e) == OT_OK &&
           free_one.version == 3,
       "version 3: %s", e.msg);
    ok(ot_registry_collect(store, 0, NULL, NULL, &report, &e) == OT_OK, "collected: %s", e.msg);
    uint64_t before = blobs();
    ok(ot_registry_delete(store, "digits", 1, NULL, &e) == OT_PRECONDITION,
       "the champion stays: %s", e.msg);
    change c = {.model = "digits", .version = 3};
    ok(ot_store_write(store, challenge_txn, &c, &e) == OT_OK, "an alias");
    ok(ot_registry_delete(store, "digits", 3, NULL, &e) == OT_PRECONDITION &&
           strstr(e.msg, "alias") != NULL,
       "keeps it: %s", e.msg);
    c = (change){.model = "digits", .version = 2, .status = OT_VERSION_RETIRED};
    ok(ot_store_write(store, promote_txn, &c, &e) == OT_OK, "champion 2");
    ok(ot_registry_delete(store, "digits", 1, NULL, &e) == OT_PRECONDITION &&
           strstr(e.msg, "was made from version 1") != NULL,
       "a parent stays: %s", e.msg);
    c = (change){.model = "digits", .version = 2};
    ok(ot_store_write(store, challenge_txn, &c, &e) == OT_OK, "the alias elsewhere");
    ok(ot_registry_delete(store, "digits", 3, NULL, &e) == OT_OK, "deleted: %s", e.msg);
    ok(find("digits@3", &v, &e) == OT_NOT_FOUND, "gone");
    ok(events_of("model/digits@3", &last) == 2 && strncmp(last.data, "version.deleted", 15) == 0,
       "with an event: %s", last.data);
    ok(ot_registry_delete(store, "digits", 3, NULL, &e) == OT_NOT_FOUND, "twice: %s", e.msg);
    is_int(blobs(), before, "the blobs are there still");
    int asked = 0;
    ok(ot_registry_collect(store, 0, keep_all, &asked, &report, &e) == OT_OK && asked == 2 &&
           report.deleted == 0,
       "another owner can keep them");
    ok(ot_registry_collect(store, 0, NULL, NULL, &report, &e) == OT_OK && report.deleted == 2,
       "its manifest and its model go: %d", (int)report.deleted);
    is_int(blobs(), before - 2, "what others share stays");
    ok(find("digits@2", &v, &e) == OT_OK &&
           ot_registry_materialise(store, &v.bundle, at("cache/two"), &e) == OT_OK,
       "what is kept is whole: %s", e.msg);
    ok(add_bundle(at("d2"), "{\"v\": 4}", NULL, &r, &free_one, &e) == OT_OK &&
           free_one.version == 4,
       "a number is never used twice");
}

/* --- many at once */

typedef struct many {
    char dir[OT_PATH_MAX];
    int failed;
} many;

static void *register_many(void *arg)
{
    many *m = arg;
    for (int i = 0; i < 5; i++) {
        ot_registered out;
        ot_register r = {.model = "busy"};
        ot_error e = {0};
        if (ot_registry_register(store, m->dir, &r, &out, &e) != OT_OK) {
            m->failed++;
        }
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t t[4];
    static many m[4];
    for (int i = 0; i < 4; i++) {
        snprintf(m[i].dir, sizeof m[i].dir, "%s/r1", scratch);
        pthread_create(&t[i], NULL, register_many, &m[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        is_int(m[i].failed, 0, "thread %d registered", i);
    }
    ot_model_row row = model_row("busy");
    ok(row.versions == 20 && row.latest == 20, "each its own number");
}

static void test_memory(void)
{
    ot_error e = {0};
    ot_register r = {.model = "room", .metrics = "{\"a\": 1}"};
    ot_digest d;
    char dir[OT_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/room", scratch);
    ok(fixture_build(dir, "{}", FIXTURE_GOLDEN, PARENT_NULL, &d, &e) == OT_OK, "a bundle");
    int failed = 0;
    int64_t versions = 0;
    for (uint64_t n = 1; n < 400; n++) {
        ot_registered out;
        ot_mem_fail_nth(n);
        ot_rc rc = ot_registry_register(store, dir, &r, &out, &e);
        uint64_t seen = ot_mem_fail_nth(0);
        versions += rc == OT_OK;
        failed += rc != OT_OK;
        if (rc == OT_OK && seen < n) {
            break;
        }
    }
    ok(failed > 10, "memory that is short is an error (%d ways)", failed);
    is_int(model_row("room").versions, versions, "and then nothing was added");
}

static void test_reopen(void)
{
    ot_error e = {0};
    ot_version_row v;
    ot_store_close(store);
    ok(ot_store_open(disk, at("store"), NULL, &store, &e) == OT_OK, "opened again: %s", e.msg);
    ok(find("digits@champion", &v, &e) == OT_OK && v.version == 2, "all is there");
}

int main(void)
{
    scratch_start();
    ot_error e = {0};
    if (ot_store_open(disk, at("store"), NULL, &store, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        return 1;
    }
    test_register();
    test_register_refused();
    test_statuses();
    test_promote();
    test_find();
    test_materialise();
    test_delete();
    test_threads();
    test_memory();
    test_reopen();
    ot_store_close(store);
    scratch_end();
    return tap_done();
}
