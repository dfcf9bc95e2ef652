/* Checkpoints: from a training's folder into the registry and back, what does not give its digests,
 * and which of them stay. */
#include "registry/checkpoint.h"

#include "registry/registry.h"
#include "store/runs.h"
#include "unit/bundle_fixture.h"

#include <inttypes.h>

static ot_store *store;
static char last[OT_CHECKPOINT_NAME];

/* FOLDER/NAME with one file "w" of that content; `lie`: what its manifest says instead. */
static void keep(const char *folder, int64_t step, int64_t run, const char *content,
                 const char *lie)
{
    char manifest[512], saved[128], rel[256], hex[OT_DIGEST_HEX];
    ot_digest d = ot_sha256_of(lie != NULL ? lie : content, strlen(lie != NULL ? lie : content));
    snprintf(manifest, sizeof manifest,
             "{\"schema\": \"" OT_CHECKPOINT_SCHEMA "\", \"single\": true, \"files\": [{\"path\": "
             "\"w\", \"size\": %zu, \"sha256\": \"%s\"}]}",
             strlen(content), ot_digest_hex(&d, hex));
    snprintf(saved, sizeof saved,
             "{\"step\": %" PRId64 ", \"made_us\": %" PRId64 ", \"run\": %" PRId64
             ", \"metrics\": {\"loss\": 0.5}}",
             step, step * 10, run);
    d = ot_sha256_of(manifest, strlen(manifest));
    ot_checkpoint_name(last, step, &d);
    snprintf(rel, sizeof rel, "%s/%s/manifest.json", folder, last);
    write_text(at(rel), manifest);
    snprintf(rel, sizeof rel, "%s/%s/saved.json", folder, last);
    write_text(at(rel), saved);
    snprintf(rel, sizeof rel, "%s/%s/files/w", folder, last);
    write_text(at(rel), content);
}

/* --- what the registry has: "STEP(run) STEP(run) " */

struct listing {
    int64_t training;
    char text[256];
    ot_digest newest;
};

static ot_rc add(void *arg, const ot_checkpoint_row *row, ot_error *err)
{
    struct listing *l = arg;
    (void)err;
    size_t n = strlen(l->text);
    l->newest = n == 0 ? row->bundle : l->newest;
    snprintf(l->text + n, sizeof l->text - n, "%" PRId64 "(%" PRId64 ") ", row->step, row->run);
    ok(row->files == 1 && row->size_bytes > 0 && strcmp(row->metrics, "{\"loss\":0.5}") == 0 &&
           row->made_us == row->step * 10 && strcmp(row->app, "digits") == 0,
       "step %" PRId64 ": its row is as it was saved", row->step);
    return OT_OK;
}

static ot_rc list_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct listing *l = arg;
    return ot_checkpoint_each(txn, l->training, add, l, err);
}

static const char *listed(int64_t training)
{
    static struct listing l;
    ot_error e = {0};
    l = (struct listing){.training = training};
    ok(ot_store_read(store, list_txn, &l, &e) == OT_OK, "listed: %s", e.msg);
    return l.text;
}

static ot_rc take(const char *folder, int64_t training, size_t n, ot_error *err)
{
    ot_checkpoint_training t = {
        .dir = at(folder), .app = "digits", .training = training, .keep = n};
    return ot_checkpoint_take(store, &t, err);
}

static bool stored(const char *content)
{
    ot_digest d = ot_sha256_of(content, strlen(content));
    return ot_blob_exists(store, &d);
}

static void collect(void)
{
    ot_error e = {0};
    ot_blob_report r;
    ok(ot_registry_collect(store, -1000000, NULL, NULL, &r, &e) == OT_OK, "collected: %s", e.msg);
}

static void test_the_newest_stay(void)
{
    ot_error e = {0};
    ok(take("none", 100, 2, &e) == OT_OK, "no folder, no checkpoints");
    keep("seven", 10, 100, "ten", NULL);
    ok(take("seven", 100, 2, &e) == OT_OK, "taken: %s", e.msg);
    is_str(listed(100), "10(100) ", "it is there");
    keep("seven", 20, 100, "twenty", NULL);
    keep("seven", 30, 101, "thirty", NULL);
    keep("seven", 31, 101, "thirty", NULL);
    write_text(at("seven/000000000000099-junk/manifest.json"), "{}");
    for (int i = 0; i < 2; i++) {
        ok(take("seven", 100, 2, &e) == OT_OK, "taken: %s", e.msg);
        is_str(listed(100), "31(101) 30(101) ", "the newest two, with the try that kept each");
    }
    collect();
    ok(!stored("ten") && !stored("twenty") && stored("thirty"),
       "content goes with the last checkpoint that has it");
}

static void test_given_back(void)
{
    ot_error e = {0};
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    char rel[256];
    ot_checkpoint_training t = {.dir = at("back"), .app = "digits", .training = 100, .keep = 2};
    keep("seven", 40, 101, "forty", NULL);
    ok(take("seven", 100, 2, &e) == OT_OK, "taken: %s", e.msg);
    for (int i = 0; i < 2; i++) {
        ok(ot_disk_mkdirs(disk, at("back"), 0755, &e) == OT_OK &&
               ot_checkpoint_give(store, &t, &e) == OT_OK,
           "given back: %s", e.msg);
    }
    snprintf(rel, sizeof rel, "back/%s/files/w", last);
    ok(ot_disk_read_all(disk, at(rel), 100, &text, &e) == OT_OK, "its file: %s", e.msg);
    is_str(text.data, "forty", "the newest one");
    ok(take("back", 200, 2, &e) == OT_OK, "what was given back can be taken: %s", e.msg);
    is_str(listed(200), "40(200) ", "a run before its training's first is none of it");
}

static bool refused(const char *folder, const char *why)
{
    ot_error e = {0};
    bool right = take(folder, 300, 9, &e) != OT_OK && strstr(e.msg, why) != NULL;
    if (!right) {
        printf("# said: %s\n", e.msg);
    }
    return right;
}

static void test_nothing_is_believed(void)
{
    char rel[256];
    ot_error e = {0};
    keep("bad", 1, 300, "good", NULL);
    keep("bad", 2, 300, "changed", "another");
    ok(refused("bad", "does not give its digest"), "a file that was changed");
    is_str(listed(300), "1(300) ", "the good one beside it is taken");
    keep("other", 3, 300, "x", NULL);
    snprintf(rel, sizeof rel, "other/%s/files/w", last);
    ok(unlink(at(rel)) == 0 && mkfifo(at(rel), 0600) == 0, "a pipe in the place of a file");
    ok(refused("other", "is not the file of 1 bytes"), "nobody waits for a pipe");
    ok(unlink(at(rel)) == 0 && symlink("/etc/hostname", at(rel)) == 0, "a link");
    ok(refused("other", "is not the file of 1 bytes"), "no link is followed");
    keep("wrong", 4, 300, "y", NULL);
    snprintf(rel, sizeof rel, "wrong/%s/saved.json", last);
    write_text(at(rel), "{\"step\": 5, \"made_us\": 1, \"run\": 300}");
    ok(refused("wrong", "what its files say is"), "a step that is not that of its name");
    is_str(listed(300), "1(300) ", "none of these is taken");
    ok(take("bad", 300, 0, &e) == OT_OK, "none is wanted: none is looked at");
}

static void test_parse(void)
{
    static const char *const bad[] = {
        "[]",
        "{\"schema\": \"overtake.checkpoint/9\"}",
        "{\"schema\": \"overtake.checkpoint/2\", \"files\": []}",
        "{\"schema\": \"overtake.checkpoint/2\", \"files\": [{\"path\": \"../x\", \"size\": 1}]}",
        "{\"schema\": \"overtake.checkpoint/2\", \"files\": [{\"path\": \"x\", \"size\": -1, "
        "\"sha256\": \"0000000000000000000000000000000000000000000000000000000000000000\"}]}",
    };
    ot_checkpoint_manifest m;
    ot_checkpoint_saved s;
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_error e = {0};
        ok(ot_checkpoint_manifest_parse(bad[i], strlen(bad[i]), &m, &e) != OT_OK && e.msg[0] != 0,
           "refused: %s", e.msg);
    }
    ot_error e = {0};
    ok(ot_checkpoint_saved_parse("{\"step\": -1}", 12, &s, &e) != OT_OK, "refused: %s", e.msg);
    ok(ot_checkpoint_saved_parse("{\"step\": 1.5}", 13, &s, &e) != OT_OK, "refused: %s", e.msg);
}

/* --- which trainings' stay */

struct made {
    int64_t run, parent, first;
};

static ot_rc insert_run(ot_txn *txn, void *arg, ot_error *err)
{
    struct made *m = arg;
    ot_run r = {.app = "digits", .step = "train", .attempt = 1, .spec = "{}", .parent = m->parent};
    OT_TRY(ot_store_run_insert(txn, &r, &m->run, err));
    return ot_store_run_first(txn, m->run, &m->first, err);
}

/* A training that took two tries; its first run. */
static int64_t training(int64_t *last_try)
{
    ot_error e = {0};
    struct made first = {0}, second;
    ok(ot_store_write(store, insert_run, &first, &e) == OT_OK, "a run: %s", e.msg);
    second = (struct made){.parent = first.run};
    ok(ot_store_write(store, insert_run, &second, &e) == OT_OK, "its next try: %s", e.msg);
    is_int(second.first, first.run, "a try knows its training");
    char folder[32], content[32];
    snprintf(folder, sizeof folder, "t%" PRId64, first.run);
    snprintf(content, sizeof content, "weights of %" PRId64, first.run);
    keep(folder, 5, second.run, content, NULL);
    ok(take(folder, first.run, 2, &e) == OT_OK, "taken: %s", e.msg);
    *last_try = second.run;
    return first.run;
}

struct promote {
    int64_t version;
};

static ot_rc promote_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct promote *p = arg;
    return ot_registry_promote(txn, "digits", p->version, OT_VERSION_RETIRED, NULL, NULL, NULL,
                               err);
}

/* The version that a training made; its bundle names `parent`. */
static ot_digest version(const char *dir, int64_t run, const ot_digest *parent, bool champion)
{
    ot_error e = {0};
    char lineage[160], hex[OT_DIGEST_HEX];
    ot_digest d = {0};
    ot_registered out;
    snprintf(lineage, sizeof lineage, parent != NULL ? "{\"parent\": \"%s\"}" : "{}",
             parent != NULL ? ot_digest_hex(parent, hex) : "");
    ot_register r = {.model = "digits", .app = "digits", .run = run};
    ok(fixture_build(at(dir), dir, FIXTURE_GOLDEN, lineage, &d, &e) == OT_OK &&
           ot_registry_register(store, at(dir), &r, &out, &e) == OT_OK,
       "a version: %s", e.msg);
    struct promote p = {out.version};
    ok(!champion || ot_store_write(store, promote_txn, &p, &e) == OT_OK, "it serves: %s", e.msg);
    return d;
}

struct sweep {
    int64_t before, keep[2], removed;
};

static ot_rc sweep_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct sweep *s = arg;
    return ot_checkpoint_collect(txn, s->before, s->keep, OT_COUNT(s->keep), &s->removed, err);
}

static void test_collect(void)
{
    ot_error e = {0};
    int64_t tries[5], t[5];
    for (int i = 0; i < 5; i++) {
        t[i] = training(&tries[i]);
    }
    ot_digest first = version("v1", tries[0], NULL, true);
    version("v2", tries[1], &first, true); /* the champion, which comes from the first */
    version("v3", tries[2], &first, false);
    struct sweep s = {.before = t[4], .keep = {t[3], 0}};
    ok(ot_store_write(store, sweep_txn, &s, &e) == OT_OK, "swept: %s", e.msg);
    ok(s.removed >= 1, "some are gone");
    ok(listed(t[0])[0] != 0, "of the champion's parent they stay");
    ok(listed(t[1])[0] != 0, "of the champion they stay");
    is_str(listed(t[2]), "", "of a version that does not serve they are gone");
    ok(listed(t[3])[0] != 0, "of what is under way they stay");
    ok(listed(t[4])[0] != 0, "of a newer one they stay");
    char content[32];
    collect();
    snprintf(content, sizeof content, "weights of %" PRId64, t[2]);
    ok(!stored(content), "and so is what they held");
    snprintf(content, sizeof content, "weights of %" PRId64, t[0]);
    ok(stored(content), "what stays is whole");
}

int main(void)
{
    scratch_start();
    ot_error e = {0};
    if (ot_store_open(disk, at("store"), NULL, &store, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        return 1;
    }
    test_collect();
    test_the_newest_stay();
    test_given_back();
    test_nothing_is_believed();
    test_parse();
    ot_store_close(store);
    scratch_end();
    return tap_done();
}
