/* A version from one store to another: signed, in pieces, registered once; what breaks off goes on,
 * what is refused and what is given up leaves nothing. */
#include "registry/promote.h"

#include "model/statement.h"
#include "registry/trusted.h"
#include "unit/bundle_fixture.h"

#include <jansson.h>

#define LINEAGE "{\"parent\": null, \"run\": 12, \"data\": {\"base\": \"" A64 "\"}}"
#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static ot_store *source, *target;
static ot_signer signer;
static ot_incoming in;

typedef struct sent {
    ot_digest bundle;
    ot_str envelope, manifest;
    char dir[OT_PATH_MAX];
} sent;

/* A bundle built at SCRATCH/name, registered at the source and signed. */
static bool prepare(const char *name, const char *content, const char *lineage, sent *s,
                    ot_error *e)
{
    ot_digest d;
    ot_registered r;
    ot_register reg = {.model = "m", .metrics = "{\"loss\": 1}"};
    ot_str_init(&s->envelope);
    ot_str_init(&s->manifest);
    snprintf(s->dir, sizeof s->dir, "%s", at(name));
    return fixture_build(s->dir, content, FIXTURE_GOLDEN, lineage, &d, e) == OT_OK &&
           ot_registry_register(source, s->dir, &reg, &r, e) == OT_OK &&
           ot_registry_sign(source, &signer, "m", r.version, "anna", &s->envelope, e) == OT_OK &&
           ot_blob_read(source, &r.bundle, OT_MANIFEST_BYTES_MAX, &s->manifest, e) == OT_OK &&
           (s->bundle = r.bundle, true);
}

static void sent_done(sent *s)
{
    ot_str_done(&s->envelope);
    ot_str_done(&s->manifest);
}

static ot_rc open_it(const sent *s, ot_str *out, ot_error *e)
{
    ot_str_clear(out);
    return ot_incoming_open(&in, s->envelope.data, s->envelope.len, s->manifest.data,
                            s->manifest.len, out, e);
}

/* Sends what `status` says is lacking, in pieces of `piece` bytes, at most `n_max` of them. */
static ot_rc send_lacking(const sent *s, const ot_str *status, size_t piece, int n_max, ot_error *e)
{
    json_t *j = json_loadb(status->data, status->len, 0, NULL), *f;
    size_t i;
    ot_rc rc = OT_OK;
    json_array_foreach(json_object_get(j, "files"), i, f)
    {
        OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
        const char *path = json_string_value(json_object_get(f, "path"));
        size_t have = (size_t)json_integer_value(json_object_get(f, "have"));
        char from[OT_PATH_MAX];
        if (ot_path_join(from, s->dir, path, e) != OT_OK ||
            ot_disk_read_all(disk, from, 1 << 20, &bytes, e) != OT_OK) {
            return OT_INTERNAL;
        }
        while (rc == OT_OK && have < bytes.len && n_max-- > 0) {
            size_t n = OT_MIN(piece, bytes.len - have);
            rc = ot_incoming_write(&in, &s->bundle, path, have, bytes.data + have, n, e);
            have += n;
        }
    }
    json_decref(j);
    return rc;
}

static size_t lacking(const ot_str *status)
{
    json_t *j = json_loadb(status->data, status->len, 0, NULL);
    size_t n = json_array_size(json_object_get(j, "files"));
    json_decref(j);
    return n;
}

static bool is_kept(const sent *s)
{
    char path[OT_PATH_MAX], hex[OT_DIGEST_HEX];
    snprintf(path, sizeof path, "%s/%s", in.root, ot_digest_hex(&s->bundle, hex));
    return ot_disk_exists(disk, path);
}

static ot_rc trust_txn(ot_txn *txn, void *arg, ot_error *err)
{
    uint64_t seq;
    return ot_trusted_add(txn, arg, &signer.key, "ben", &seq, err);
}

static ot_rc distrust_txn(ot_txn *txn, void *arg, ot_error *err)
{
    uint64_t seq;
    return ot_trusted_remove(txn, arg, "ben", &seq, err);
}

static void trust(bool yes)
{
    ot_error e = {0};
    ok(ot_store_write(target, yes ? trust_txn : distrust_txn, "staging", &e) == OT_OK, "trust: %s",
       e.msg);
}

static ot_rc take_event(void *arg, const ot_event *ev, ot_error *err)
{
    (void)err;
    ot_str_clear(arg);
    ot_str_addf(arg, "%s %s", ev->actor, ev->payload);
    return OT_OK;
}

static ot_rc event_txn(ot_txn *txn, void *arg, ot_error *err)
{
    ot_event_query q = {.type_prefix = "version.registered", .newest_first = true, .limit = 1};
    return ot_events_read(txn, &q, take_event, arg, err);
}

/* ------------------------------------------------------------------ */

static void test_sign_refused(void)
{
    ot_error e = {0};
    sent s;
    ok(!prepare("bare", "{\"v\": 0}", NULL, &s, &e) && e.rc == OT_PRECONDITION,
       "nothing is signed without lineage: %s", e.msg);
    sent_done(&s);
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ok(ot_registry_sign(source, &signer, "m", 99, "anna", &out, &e) == OT_NOT_FOUND,
       "no version: %s", e.msg);
}

static void test_whole_way(void)
{
    ot_error e = {0};
    OT_AUTO(sent_done) sent s;
    OT_AUTO(ot_str_done) ot_str status = OT_STR_INIT;
    ot_received got;
    ok(prepare("one", "{\"v\": 1}", LINEAGE, &s, &e), "signed %s", e.msg);
    ok(open_it(&s, &status, &e) == OT_DENIED && !is_kept(&s), "nobody trusts it yet: %s", e.msg);
    trust(true);
    ok(open_it(&s, &status, &e) == OT_OK && lacking(&status) == 4, "opened: %s %s", status.data,
       e.msg);
    ok(send_lacking(&s, &status, 7, 3, &e) == OT_OK, "a few pieces %s", e.msg);
    ok(ot_incoming_finish(&in, &s.bundle, "carl", &got, &e) == OT_PRECONDITION && is_kept(&s),
       "not whole: %s", e.msg);
    ok(open_it(&s, &status, &e) == OT_OK && strstr(status.data, "\"have\":21") != NULL,
       "it goes on where it stood: %s", status.data);
    ok(send_lacking(&s, &status, 7, 1000, &e) == OT_OK, "the rest %s", e.msg);
    ok(!ot_blob_exists(target, &s.bundle), "the store knows nothing of it");
    ok(ot_incoming_finish(&in, &s.bundle, "carl", &got, &e) == OT_OK, "whole: %s", e.msg);
    ok(got.registered.version == 1 && !got.registered.existed, "v1 there");
    char id[OT_KEY_ID], want[256];
    snprintf(want, sizeof want,
             "came from staging as m@2, signed with key %s, trained on base aaaaaaaaaaaa by run 12",
             ot_key_id(&signer.key, id));
    is_str(got.text, want, "in words");
    ok(!is_kept(&s), "its folder is gone");
    ok(ot_blob_verify(target, &s.bundle, &e) == OT_OK, "its manifest is in the store");
    OT_AUTO(ot_str_done) ot_str event = OT_STR_INIT;
    ok(ot_store_read(target, event_txn, &event, &e) == OT_OK, "its event");
    ok(ot_has_prefix(event.data, "carl ") && strstr(event.data, want) != NULL &&
           strstr(event.data, "\"origin\": {\"server\":\"staging\"") != NULL &&
           strstr(event.data, "\"payloadType\":\"" OT_STATEMENT_TYPE "\"") != NULL &&
           strstr(event.data, "\"reported\": {\"loss\":1}") != NULL,
       "says who, what and from where");
    ok(open_it(&s, &status, &e) == OT_OK && strstr(status.data, "\"version\":1,") != NULL &&
           lacking(&status) == 0 && !is_kept(&s),
       "again: %s", status.data);
}

/* Two that come in before either is registered are one version. */
static void test_twice(void)
{
    ot_error e = {0};
    OT_AUTO(sent_done) sent s;
    OT_AUTO(ot_str_done) ot_str status = OT_STR_INIT;
    ot_received got;
    ot_registered r;
    ok(prepare("two", "{\"v\": 2}", LINEAGE, &s, &e), "signed %s", e.msg);
    ok(open_it(&s, &status, &e) == OT_OK && lacking(&status) == 1, "only the model is lacking: %s",
       status.data);
    ok(send_lacking(&s, &status, 1 << 20, 1000, &e) == OT_OK, "sent %s", e.msg);
    ot_register reg = {.model = "m"};
    ok(ot_registry_register(target, s.dir, &reg, &r, &e) == OT_OK && r.version == 2,
       "the same bundle came another way");
    ok(ot_incoming_finish(&in, &s.bundle, "carl", &got, &e) == OT_OK && got.registered.existed &&
           got.registered.version == 2 && !is_kept(&s),
       "it is that one");
}

/* The store collects while it comes in: what was linked stays. */
static void test_collected(void)
{
    ot_error e = {0};
    OT_AUTO(sent_done) sent s;
    OT_AUTO(ot_str_done) ot_str status = OT_STR_INIT;
    ot_received got;
    ot_blob_report report;
    ok(prepare("three", "{\"v\": 3}", LINEAGE, &s, &e), "signed %s", e.msg);
    const char *model = at("fixture-model/null.json");
    ot_digest blob;
    ok(ot_blob_put_file(target, disk, model, 0, &blob, NULL, &e) == OT_OK,
       "a blob that nobody has");
    ok(open_it(&s, &status, &e) == OT_OK && lacking(&status) == 0, "need not be sent: %s",
       status.data);
    ok(ot_registry_collect(target, -1000000, NULL, NULL, &report, &e) == OT_OK &&
           !ot_blob_exists(target, &blob),
       "and is collected");
    ok(ot_incoming_finish(&in, &s.bundle, "carl", &got, &e) == OT_OK &&
           got.registered.version == 3 && ot_blob_exists(target, &blob),
       "it is there all the same: %s", e.msg);
}

static void test_refused(void)
{
    ot_error e = {0};
    OT_AUTO(sent_done) sent s;
    OT_AUTO(ot_str_done) ot_str status = OT_STR_INIT;
    ot_received got;
    ok(prepare("four", "{\"v\": 4}", LINEAGE, &s, &e), "signed %s", e.msg);
    ot_str_addc(&s.manifest, ' ');
    ok(open_it(&s, &status, &e) == OT_INVALID && !is_kept(&s), "another manifest: %s", e.msg);
    s.manifest.data[--s.manifest.len] = 0;
    OT_AUTO(ot_envelope_done) ot_envelope envelope = {0};
    OT_AUTO(ot_str_done) ot_str forged = OT_STR_INIT;
    ot_signer stranger;
    ok(ot_signer_open(disk, at("stranger.key"), &stranger, &e) == OT_OK &&
           ot_envelope_parse(s.envelope.data, s.envelope.len, &envelope, &e) == OT_OK &&
           ot_envelope_sign(&stranger, envelope.type, envelope.payload.data, envelope.payload.len,
                            &forged, &e) == OT_OK,
       "the same statement in a stranger's envelope");
    ok(ot_incoming_open(&in, forged.data, forged.len, s.manifest.data, s.manifest.len, &status,
                        &e) == OT_DENIED &&
           !is_kept(&s),
       "is not trusted: %s", e.msg);
    /* Bytes changed on the way, or by a disk. */
    ok(open_it(&s, &status, &e) == OT_OK, "opened");
    ok(ot_incoming_write(&in, &s.bundle, "model/null.json", 0, "{\"v\": 5}", 8, &e) == OT_OK,
       "wrong bytes");
    ok(ot_incoming_finish(&in, &s.bundle, "carl", &got, &e) == OT_INVALID && !is_kept(&s),
       "are refused, and nothing is kept: %s", e.msg);
    ok(ot_incoming_finish(&in, &s.bundle, "carl", &got, &e) == OT_NOT_FOUND, "it is not open: %s",
       e.msg);
    /* Trust that ends. */
    ok(open_it(&s, &status, &e) == OT_OK, "opened again");
    ok(send_lacking(&s, &status, 1 << 20, 1000, &e) == OT_OK, "sent %s", e.msg);
    trust(false);
    ok(ot_incoming_finish(&in, &s.bundle, "carl", &got, &e) == OT_DENIED && !is_kept(&s),
       "nobody trusts it any more: %s", e.msg);
    trust(true);
}

/* A folder that broke off at its beginning, and one that a stranger put there. */
static void test_sweep(void)
{
    ot_error e = {0};
    OT_AUTO(sent_done) sent s;
    OT_AUTO(ot_str_done) ot_str status = OT_STR_INIT;
    ot_stat st;
    size_t n = 99;
    ok(prepare("five", "{\"v\": 5}", LINEAGE, &s, &e), "signed %s", e.msg);
    ok(open_it(&s, &status, &e) == OT_OK, "opened");
    char hex[OT_DIGEST_HEX];
    ot_digest_hex(&s.bundle, hex);
    const char *model = at("incoming/");
    char path[OT_PATH_MAX];
    snprintf(path, sizeof path, "%s%s/bundle/manifest.json", model, hex);
    ok(disk->ops->stat(disk, path, &st, &e) == OT_OK, "its manifest is there");
    ok(ot_incoming_sweep(disk, in.root, st.mtime_us - 1, &n, &e) == OT_OK && n == 0 && is_kept(&s),
       "what moved since then stays");
    ok(ot_incoming_sweep(disk, in.root, st.mtime_us + 3600000000, &n, &e) == OT_OK && n == 1 &&
           !is_kept(&s),
       "what did not is swept away");
    ok(ot_incoming_write(&in, &s.bundle, "model/null.json", 0, "x", 1, &e) == OT_NOT_FOUND,
       "and has to begin anew: %s", e.msg);
    ok(ot_incoming_sweep(disk, at("nowhere"), 0, &n, &e) == OT_OK && n == 0,
       "nothing ever came in");
}

/* Signed with the right key, and yet about another lineage than the bundle's own. */
static void test_lineage(void)
{
    ot_error e = {0};
    OT_AUTO(sent_done) sent s;
    OT_AUTO(ot_str_done) ot_str status = OT_STR_INIT, payload = OT_STR_INIT, forged = OT_STR_INIT;
    OT_AUTO(ot_envelope_done) ot_envelope envelope = {0};
    OT_AUTO(ot_statement_done) ot_statement said = {0};
    ot_received got;
    ok(prepare("six", "{\"v\": 6}", LINEAGE, &s, &e), "signed %s", e.msg);
    ok(ot_envelope_parse(s.envelope.data, s.envelope.len, &envelope, &e) == OT_OK &&
           ot_statement_parse(envelope.payload.data, envelope.payload.len, &said, &e) == OT_OK &&
           json_object_set_new(said.lineage, "run", json_integer(13)) == 0 &&
           ot_statement_write(&said, &payload, &e) == OT_OK &&
           ot_envelope_sign(&signer, envelope.type, payload.data, payload.len, &forged, &e) ==
               OT_OK,
       "another run in the statement: %s", e.msg);
    ot_str_clear(&s.envelope);
    ot_str_add(&s.envelope, forged.data, forged.len);
    ok(open_it(&s, &status, &e) == OT_OK, "opened: %s", e.msg);
    ok(send_lacking(&s, &status, 1 << 20, 1000, &e) == OT_OK, "sent %s", e.msg);
    ok(ot_incoming_finish(&in, &s.bundle, "carl", &got, &e) == OT_INVALID && !is_kept(&s) &&
           strstr(e.msg, "lineage") != NULL,
       "is refused: %s", e.msg);
}

static void test_limit(void)
{
    ot_error e = {0};
    OT_AUTO(sent_done) sent s;
    OT_AUTO(ot_str_done) ot_str status = OT_STR_INIT;
    char path[OT_PATH_MAX];
    size_t n = 0;
    ok(prepare("seven", "{\"v\": 7}", LINEAGE, &s, &e), "signed %s", e.msg);
    for (int i = 0; i < OT_INCOMING_MAX; i++) {
        snprintf(path, sizeof path, "%s/%064d", in.root, i);
        ok(disk->ops->mkdir(disk, path, 0700, &e) == OT_OK, "one is coming in %s", e.msg);
    }
    ok(open_it(&s, &status, &e) == OT_EXHAUSTED && !is_kept(&s), "no more than so many: %s", e.msg);
    ok(ot_incoming_sweep(disk, in.root, INT64_MAX, &n, &e) == OT_OK && n == OT_INCOMING_MAX,
       "they are given up");
    ok(open_it(&s, &status, &e) == OT_OK && is_kept(&s), "and there is room: %s", e.msg);
}

int main(void)
{
    scratch_start();
    ot_error e = {0};
    if (ot_store_open(disk, at("source"), NULL, &source, &e) != OT_OK ||
        ot_store_open(disk, at("target"), NULL, &target, &e) != OT_OK ||
        ot_signer_open(disk, at("signing.key"), &signer, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        return 1;
    }
    char root[OT_PATH_MAX];
    snprintf(root, sizeof root, "%s", at("incoming"));
    in = (ot_incoming){.store = target, .root = root};
    test_sign_refused();
    test_whole_way();
    test_twice();
    test_collected();
    test_refused();
    test_sweep();
    test_lineage();
    test_limit();
    ot_store_close(source);
    ot_store_close(target);
    scratch_end();
    return tap_done();
}
