/* ROOT/<bundle>/envelope.json, and bundle/ with manifest.json and what has come of the files. */
#include "registry/promote.h"

#include "base/clock.h"
#include "base/mem.h"
#include "model/bundle.h"
#include "model/statement.h"
#include "registry/trusted.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENVELOPE "envelope.json"
#define BUNDLE "bundle"

/* What an envelope says once somebody who is trusted has said it. */
typedef struct claim {
    ot_envelope envelope;
    ot_statement s;
    ot_trusted by;
    ot_version_row here; /* version 0: not registered here */
} claim;

static void claim_done(claim *c)
{
    ot_statement_done(&c->s);
    ot_envelope_done(&c->envelope);
}

static ot_rc verify_txn(ot_txn *txn, void *arg, ot_error *err)
{
    claim *c = arg;
    return ot_trusted_verify(txn, &c->envelope, &c->by, err);
}

static ot_rc keep_version(void *arg, const ot_version_row *row, ot_error *err)
{
    claim *c = arg;
    (void)err;
    if (c->here.version == 0 && strcmp(row->model, c->s.model) == 0) {
        c->here = *row;
    }
    return OT_OK;
}

static ot_rc here_txn(ot_txn *txn, void *arg, ot_error *err)
{
    claim *c = arg;
    return ot_version_each_of_bundle(txn, &c->s.bundle, keep_version, c, err);
}

/* The signature comes first: nothing of a stranger's text is read but the envelope itself. */
static ot_rc read_claim(ot_store *store, const char *json, size_t n, claim *c, ot_error *err)
{
    char id[OT_KEY_ID];
    OT_TRY(ot_envelope_parse(json, n, &c->envelope, err));
    OT_TRY(ot_store_read(store, verify_txn, c, err));
    if (strcmp(c->envelope.type, OT_STATEMENT_TYPE) != 0) {
        return ot_fail(err, OT_INVALID, "envelope: its payload is '%s'; %s is expected",
                       c->envelope.type, OT_STATEMENT_TYPE);
    }
    OT_TRY(ot_statement_parse(c->envelope.payload.data, c->envelope.payload.len, &c->s, err));
    if (strcmp(c->s.key, ot_key_id(&c->by.key, id)) != 0) {
        return ot_fail(err, OT_INVALID, "statement: it names key %s and is signed with %s",
                       c->s.key, id);
    }
    return ot_store_read(store, here_txn, c, err);
}

/* ------------------------------------------------------------------ the folder */

static ot_rc paths(const ot_incoming *in, const ot_digest *bundle, char dir[OT_PATH_MAX],
                   char files[OT_PATH_MAX], ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    OT_TRY(ot_path_join(dir, in->root, ot_digest_hex(bundle, hex), err));
    return ot_path_join(files, dir, BUNDLE, err);
}

static ot_rc remove_dir(const ot_incoming *in, const ot_digest *bundle, ot_error *err)
{
    char dir[OT_PATH_MAX], files[OT_PATH_MAX];
    OT_TRY(paths(in, bundle, dir, files, err));
    return ot_disk_remove_tree(ot_store_disk(in->store), dir, err);
}

static ot_rc not_open(const ot_digest *bundle, ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    return ot_fail(err, OT_NOT_FOUND,
                   "nothing is coming in as %.12s; it was refused, swept away "
                   "after a day, or never opened: begin anew",
                   ot_digest_hex(bundle, hex));
}

static ot_rc read_manifest(const ot_incoming *in, const ot_digest *bundle, const char *files,
                           ot_manifest *m, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_path_join(path, files, OT_MANIFEST_FILE, err));
    ot_rc rc = ot_disk_read_all(ot_store_disk(in->store), path, OT_MANIFEST_BYTES_MAX, &text, err);
    if (rc == OT_NOT_FOUND) {
        return not_open(bundle, err);
    }
    OT_TRY(rc);
    return ot_manifest_parse(text.data, text.len, m, err);
}

/* Bytes of the file that are there. */
static ot_rc size_of(ot_disk *d, const char *files, const char *rel, char path[OT_PATH_MAX],
                     uint64_t *out, ot_error *err)
{
    ot_stat st;
    OT_TRY(ot_path_join(path, files, rel, err));
    ot_rc rc = d->ops->stat(d, path, &st, err);
    *out = rc == OT_OK ? st.size : 0;
    return rc == OT_NOT_FOUND ? OT_OK : rc;
}

static ot_rc make_parent(ot_disk *d, char path[OT_PATH_MAX], ot_error *err)
{
    char *slash = strrchr(path, '/');
    *slash = 0;
    ot_rc rc = ot_disk_mkdirs(d, path, 0700, err);
    *slash = '/';
    return rc;
}

/* What the content store has need not come again. */
static ot_rc take_known(const ot_incoming *in, const char *files, const ot_manifest_file *f,
                        ot_error *err)
{
    ot_disk *d = ot_store_disk(in->store);
    char path[OT_PATH_MAX], blob[OT_PATH_MAX];
    uint64_t have, size = 0;
    OT_TRY(size_of(d, files, f->path, path, &have, err));
    bool known = ot_blob_size(in->store, &f->sha256, &size, NULL) == OT_OK && size == f->size;
    if (have > 0 || (!known && f->size > 0)) {
        return OT_OK;
    }
    OT_TRY(make_parent(d, path, err));
    if (!known) {
        return ot_disk_write_atomic(d, path, "", 0, 0600, err); /* of no bytes none come */
    }
    OT_TRY(ot_blob_path(in->store, &f->sha256, blob, err));
    if (d->ops->link(d, blob, path, NULL) != OT_OK) {
        ot_digest digest;
        return ot_file_copy(d, blob, path, 0600, &digest, &size, err);
    }
    return OT_OK;
}

/* ------------------------------------------------------------------ opening */

static ot_rc check_manifest(const claim *c, const char *text, size_t n, ot_manifest *m,
                            ot_error *err)
{
    char want[OT_DIGEST_HEX], got[OT_DIGEST_HEX];
    ot_digest d = ot_sha256_of(text, n);
    uint64_t total = n;
    if (!ot_digest_equal(&d, &c->s.bundle)) {
        return ot_fail(err, OT_INVALID,
                       "%s has SHA-256 %.12s and the statement is about %.12s: it was changed",
                       OT_MANIFEST_FILE, ot_digest_hex(&d, got), ot_digest_hex(&c->s.bundle, want));
    }
    OT_TRY(ot_manifest_parse(text, n, m, err));
    for (size_t i = 0; i < m->n_files; i++) {
        if (m->files[i].size > OT_BUNDLE_BYTES_MAX - total) {
            return ot_fail(err, OT_EXHAUSTED, "larger than the limit of %llu bytes",
                           OT_BUNDLE_BYTES_MAX);
        }
        total += m->files[i].size;
    }
    if (ot_manifest_file_find(m, OT_BUNDLE_LINEAGE) == NULL) {
        return ot_fail(err, OT_INVALID, "there is no %s in it: lineage is missing",
                       OT_BUNDLE_LINEAGE);
    }
    return OT_OK;
}

static ot_rc count_open(void *arg, const char *name, ot_error *err)
{
    (void)name;
    (void)err;
    ++*(size_t *)arg;
    return OT_OK;
}

/* The envelope is written last: a folder without one broke off at its beginning. */
static ot_rc make_dir(const ot_incoming *in, const claim *c, const char *dir, const char *files,
                      const char *envelope, size_t n_envelope, const char *manifest,
                      size_t n_manifest, ot_error *err)
{
    ot_disk *d = ot_store_disk(in->store);
    char path[OT_PATH_MAX], at[OT_PATH_MAX];
    size_t n = 0;
    OT_TRY(ot_disk_mkdirs(d, in->root, 0700, err));
    OT_TRY(ot_path_join(at, dir, ENVELOPE, err));
    if (!ot_disk_exists(d, at)) {
        OT_TRY(remove_dir(in, &c->s.bundle, err));
        OT_TRY(d->ops->list(d, in->root, count_open, &n, err));
        if (n >= OT_INCOMING_MAX) {
            return ot_fail(
                err, OT_EXHAUSTED,
                "%zu versions are coming in, which is the limit; finish those first (one "
                "that does not move is given up after a day)",
                n);
        }
        OT_TRY(ot_disk_mkdirs(d, files, 0700, err));
        OT_TRY(ot_path_join(path, files, OT_MANIFEST_FILE, err));
        OT_TRY(ot_disk_write_atomic(d, path, manifest, n_manifest, 0600, err));
    }
    return ot_disk_write_atomic(d, at, envelope, n_envelope, 0600, err);
}

static ot_rc give_status(const ot_incoming *in, const claim *c, const char *files,
                         const ot_manifest *m, ot_str *out, ot_error *err)
{
    char hex[OT_DIGEST_HEX], path[OT_PATH_MAX];
    ot_disk *d = ot_store_disk(in->store);
    bool first = true;
    ot_str_addf(out, "{\"bundle\":\"%s\",\"model\":\"%s\",\"version\":",
                ot_digest_hex(&c->s.bundle, hex), c->s.model);
    if (c->here.version > 0) {
        ot_str_addf(out, "%" PRId64 ",\"status\":\"%s\",\"files\":[]}", c->here.version,
                    ot_version_status_name(c->here.status));
        return OT_OK;
    }
    ot_str_adds(out, "null,\"status\":null,\"files\":[");
    for (size_t i = 0; i < m->n_files; i++) {
        const ot_manifest_file *f = &m->files[i];
        uint64_t have;
        OT_TRY(size_of(d, files, f->path, path, &have, err));
        if (have < f->size) {
            ot_str_addf(out, "%s{\"path\":\"", first ? "" : ",");
            ot_str_add_json(out, f->path, strlen(f->path));
            ot_str_addf(out, "\",\"size\":%" PRIu64 ",\"have\":%" PRIu64 "}", f->size, have);
            first = false;
        }
    }
    ot_str_adds(out, "]}");
    return OT_OK;
}

static ot_rc open_claimed(const ot_incoming *in, const claim *c, const char *envelope,
                          size_t n_envelope, const char *manifest, size_t n_manifest,
                          ot_str *json_out, ot_error *err)
{
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    char dir[OT_PATH_MAX], files[OT_PATH_MAX];
    OT_TRY(check_manifest(c, manifest, n_manifest, &m, err));
    OT_TRY(paths(in, &c->s.bundle, dir, files, err));
    if (c->here.version == 0) {
        OT_TRY(make_dir(in, c, dir, files, envelope, n_envelope, manifest, n_manifest, err));
        for (size_t i = 0; i < m.n_files; i++) {
            OT_TRY(take_known(in, files, &m.files[i], err));
        }
    }
    return give_status(in, c, files, &m, json_out, err);
}

ot_rc ot_incoming_open(const ot_incoming *in, const char *envelope, size_t n_envelope,
                       const char *manifest, size_t n_manifest, ot_str *json_out, ot_error *err)
{
    OT_AUTO(claim_done) claim c = {0};
    OT_TRY(read_claim(in->store, envelope, n_envelope, &c, err));
    return open_claimed(in, &c, envelope, n_envelope, manifest, n_manifest, json_out, err);
}

/* What was opened before, read again: trust may have been taken back meanwhile. */
static ot_rc reopen(const ot_incoming *in, const ot_digest *bundle, claim *c, ot_str *envelope,
                    ot_error *err)
{
    char dir[OT_PATH_MAX], files[OT_PATH_MAX], path[OT_PATH_MAX];
    OT_TRY(paths(in, bundle, dir, files, err));
    OT_TRY(ot_path_join(path, dir, ENVELOPE, err));
    ot_rc rc = ot_disk_read_all(ot_store_disk(in->store), path, OT_ENVELOPE_MAX, envelope, err);
    if (rc == OT_NOT_FOUND) {
        return not_open(bundle, err);
    }
    OT_TRY(rc);
    return read_claim(in->store, envelope->data, envelope->len, c, err);
}

ot_rc ot_incoming_status(const ot_incoming *in, const ot_digest *bundle, ot_str *json_out,
                         ot_error *err)
{
    OT_AUTO(claim_done) claim c = {0};
    OT_AUTO(ot_str_done) ot_str envelope = OT_STR_INIT;
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    char dir[OT_PATH_MAX], files[OT_PATH_MAX];
    OT_TRY(reopen(in, bundle, &c, &envelope, err));
    OT_TRY(paths(in, bundle, dir, files, err));
    OT_TRY(read_manifest(in, bundle, files, &m, err));
    return give_status(in, &c, files, &m, json_out, err);
}

/* ------------------------------------------------------------------ pieces */

static ot_rc write_at(ot_disk *d, const char *path, uint64_t offset, const void *p, size_t n,
                      ot_error *err)
{
    ot_file *f;
    OT_TRY(d->ops->open(d, path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_NOFOLLOW, 0600, &f, err));
    ot_rc rc = f->ops->pwrite(f, p, n, offset, err);
    if (rc != OT_OK) {
        ot_rc cut = f->ops->truncate(f, offset, NULL); /* half a piece would count as sent */
        (void)cut;
    }
    ot_file_close(f);
    return rc;
}

ot_rc ot_incoming_write(const ot_incoming *in, const ot_digest *bundle, const char *path,
                        uint64_t offset, const void *p, size_t n, ot_error *err)
{
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    char dir[OT_PATH_MAX], files[OT_PATH_MAX], at[OT_PATH_MAX];
    uint64_t have;
    OT_TRY(paths(in, bundle, dir, files, err));
    OT_TRY(read_manifest(in, bundle, files, &m, err));
    const ot_manifest_file *f = ot_manifest_file_find(&m, path);
    if (f == NULL) {
        return ot_fail(err, OT_INVALID, "'%.200s' is not a file of this bundle", path);
    }
    OT_TRY(size_of(ot_store_disk(in->store), files, path, at, &have, err));
    if (offset != have) {
        return ot_fail(err, OT_PRECONDITION,
                       "'%s': %" PRIu64 " bytes are here; go on from there, not from %" PRIu64,
                       path, have, offset);
    }
    if (n == 0 || n > OT_INCOMING_PIECE_MAX || n > f->size - have) {
        return ot_fail(err, OT_INVALID,
                       "'%s': a piece of %zu bytes at %" PRIu64 "; it has %" PRIu64
                       ", and pieces have 1 to %u",
                       path, n, offset, f->size, OT_INCOMING_PIECE_MAX);
    }
    OT_TRY(make_parent(ot_store_disk(in->store), at, err));
    return write_at(ot_store_disk(in->store), at, offset, p, n, err);
}

/* ------------------------------------------------------------------ the end */

static ot_rc need_whole(const ot_incoming *in, const char *files, const ot_manifest *m,
                        ot_error *err)
{
    char path[OT_PATH_MAX];
    for (size_t i = 0; i < m->n_files; i++) {
        uint64_t have;
        OT_TRY(size_of(ot_store_disk(in->store), files, m->files[i].path, path, &have, err));
        if (have < m->files[i].size) {
            return ot_fail(err, OT_PRECONDITION,
                           "'%s' has %" PRIu64 " of %" PRIu64 " bytes: send the rest first",
                           m->files[i].path, have, m->files[i].size);
        }
    }
    return OT_OK;
}

/* The statement tells people and the log what the bundle tells the registry. */
static ot_rc same_lineage(const ot_incoming *in, const char *files, const ot_manifest *m,
                          const ot_statement *s, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    const ot_manifest_file *f = ot_manifest_file_find(m, OT_BUNDLE_LINEAGE);
    if (f == NULL) {
        return ot_fail(err, OT_INVALID, "lineage is missing");
    }
    OT_TRY(ot_path_join(path, files, OT_BUNDLE_LINEAGE, err));
    OT_TRY(ot_disk_read_all(ot_store_disk(in->store), path, OT_ENVELOPE_PAYLOAD_MAX, &text, err));
    ot_digest d = ot_sha256_of(text.data, text.len);
    if (!ot_digest_equal(&d, &f->sha256)) {
        return ot_fail(err, OT_INVALID, "'%s' is not what the manifest says: changed or damaged",
                       OT_BUNDLE_LINEAGE);
    }
    json_t *j = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    bool same = json_equal(j, s->lineage) != 0;
    json_decref(j);
    return same ? OT_OK
                : ot_fail(err, OT_INVALID, "the statement's lineage is not that of the bundle");
}

/* "came from staging as digits@7, signed with key ab12, trained on base 3f2a by run 12". */
static void tell(const claim *c, char *out, size_t size)
{
    OT_AUTO(ot_str_done) ot_str t = OT_STR_INIT;
    const json_t *data = json_object_get(c->s.lineage, "data");
    json_int_t run = json_integer_value(json_object_get(c->s.lineage, "run"));
    const char *name;
    json_t *v;
    ot_str_addf(&t, "came from %s as %s@%" PRId64 ", signed with key %s", c->by.name, c->s.model,
                c->s.version, c->s.key);
    const char *word = ", trained on";
    json_object_foreach((json_t *)(uintptr_t)data, name, v)
    {
        const char *hex = json_string_value(v);
        ot_str_addf(&t, "%s %.32s %.12s", word, name, hex != NULL ? hex : "?");
        word = ",";
    }
    if (run > 0) {
        ot_str_addf(&t, " by run %" JSON_INTEGER_FORMAT, run);
    }
    snprintf(out, size, "%s", t.failed ? "came from another server" : t.data);
}

/* Who said what, as it was said: it can be verified again from the log alone. */
static json_t *origin_of(const claim *c, const ot_str *envelope)
{
    json_error_t je;
    return json_pack("{s:s,s:s,s:s,s:I,s:I,s:s,s:o}", "server", c->by.name, "key", c->s.key,
                     "model", c->s.model, "version", (json_int_t)c->s.version, "time_us",
                     (json_int_t)c->s.time_us, "actor", c->s.actor, "envelope",
                     json_loadb(envelope->data, envelope->len, 0, &je));
}

static ot_rc register_claim(const ot_incoming *in, const claim *c, const ot_str *envelope,
                            const char *files, const char *actor, ot_received *out, ot_error *err)
{
    json_t *origin = origin_of(c, envelope);
    char *text = origin == NULL ? NULL : json_dumps(origin, JSON_COMPACT);
    char *reported = json_dumps(c->s.reported, JSON_COMPACT);
    ot_register r = {.model = c->s.model,
                     .metrics = reported,
                     .actor = actor,
                     .expect = &c->s.bundle,
                     .came = out->text,
                     .origin = text};
    ot_rc rc = text == NULL || reported == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "no memory to register it")
                   : ot_registry_register(in->store, files, &r, &out->registered, err);
    free(text);
    free(reported);
    json_decref(origin);
    return rc;
}

static ot_rc finish(const ot_incoming *in, const ot_digest *bundle, const claim *c,
                    const ot_str *envelope, const char *actor, ot_received *out, ot_error *err)
{
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    char dir[OT_PATH_MAX], files[OT_PATH_MAX];
    OT_TRY(paths(in, bundle, dir, files, err));
    OT_TRY(read_manifest(in, bundle, files, &m, err));
    OT_TRY(need_whole(in, files, &m, err));
    OT_TRY(same_lineage(in, files, &m, &c->s, err));
    ot_rc rc = register_claim(in, c, envelope, files, actor, out, err);
    if (rc != OT_DATA_LOSS && rc != OT_NOT_FOUND) {
        return rc;
    }
    if (err != NULL) {
        err->rc = OT_INVALID; /* that a sender's bytes are wrong is no loss of ours */
    }
    return OT_INVALID;
}

ot_rc ot_incoming_finish(const ot_incoming *in, const ot_digest *bundle, const char *actor,
                         ot_received *out, ot_error *err)
{
    OT_AUTO(claim_done) claim c = {0};
    OT_AUTO(ot_str_done) ot_str envelope = OT_STR_INIT;
    ot_received got = {0};
    ot_rc rc = reopen(in, bundle, &c, &envelope, err);
    if (rc == OT_OK) {
        snprintf(got.model, sizeof got.model, "%s", c.s.model);
        tell(&c, got.text, sizeof got.text);
        rc = finish(in, bundle, &c, &envelope, actor, &got, err);
    }
    if (rc == OT_OK || rc == OT_INVALID || rc == OT_DENIED) {
        ot_rc gone = remove_dir(in, bundle, rc == OT_OK ? err : NULL);
        OT_TRY(rc);
        OT_TRY(gone);
        *out = got;
    }
    return rc;
}

/* ------------------------------------------------------------------ what was given up */

typedef struct sweep {
    ot_disk *disk;
    const char *root;
    int64_t before_us, newest_us;
    size_t n;
} sweep;

static ot_rc note_time(void *arg, const char *rel, const ot_stat *st, ot_error *err)
{
    sweep *s = arg;
    (void)rel;
    (void)err;
    s->newest_us = OT_MAX(s->newest_us, st->mtime_us);
    return OT_OK;
}

static ot_rc sweep_one(void *arg, const char *name, ot_error *err)
{
    sweep *s = arg;
    char dir[OT_PATH_MAX];
    OT_TRY(ot_path_join(dir, s->root, name, err));
    s->newest_us = 0;
    /* What can't even be walked is not ours to keep. */
    if (ot_tree_walk(s->disk, dir, note_time, s, NULL) != OT_OK || s->newest_us < s->before_us) {
        OT_TRY(ot_disk_remove_tree(s->disk, dir, err));
        s->n++;
    }
    return OT_OK;
}

ot_rc ot_incoming_sweep(ot_disk *disk, const char *root, int64_t before_us, size_t *n_out,
                        ot_error *err)
{
    sweep s = {.disk = disk, .root = root, .before_us = before_us};
    if (ot_disk_exists(disk, root)) {
        OT_TRY(disk->ops->list(disk, root, sweep_one, &s, err));
    }
    *n_out = s.n;
    return OT_OK;
}
