/* A version's statement, signed: what goes with it to another server. */
#include "registry/promote.h"

#include "base/clock.h"
#include "base/mem.h"
#include "model/bundle.h"
#include "model/statement.h"
#include "store/blob.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef struct signing {
    const char *model;
    int64_t version;
    ot_version_row row;
    json_t *evaluation, *reported;
    ot_statement s;
    ot_str payload;
    uint64_t seq;
} signing;

static ot_rc take_verdict(void *arg, const ot_event *e, ot_error *err)
{
    signing *g = arg;
    (void)err;
    json_decref(g->evaluation);
    g->evaluation = e->payload == NULL ? NULL : json_loads(e->payload, 0, NULL);
    json_object_del(g->evaluation, "because"); /* numbers of this server's own log */
    json_object_set_new(g->evaluation, "verdict", json_string(e->type));
    return OT_OK;
}

static ot_rc read_txn(ot_txn *txn, void *arg, ot_error *err)
{
    signing *g = arg;
    char object[OT_OBJECT_TEXT];
    OT_AUTO(ot_str_done) ot_str metrics = OT_STR_INIT;
    OT_TRY(ot_version_get(txn, g->model, g->version, &g->row, err));
    OT_TRY(ot_version_metrics(txn, g->model, g->version, &metrics, err));
    g->reported = json_loadb(metrics.data, metrics.len, 0, NULL);
    ot_event_query q = {.type_prefix = "gate.",
                        .object = ot_registry_object(object, g->model, g->version),
                        .newest_first = true,
                        .limit = 1};
    return ot_events_read(txn, &q, take_verdict, g, err);
}

static ot_rc read_lineage(ot_store *store, const ot_version_row *v, json_t **out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str manifest = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    OT_TRY(ot_blob_read(store, &v->bundle, OT_MANIFEST_BYTES_MAX, &manifest, err));
    OT_TRY(ot_manifest_parse(manifest.data, manifest.len, &m, err));
    const ot_manifest_file *f = ot_manifest_file_find(&m, OT_BUNDLE_LINEAGE);
    if (f == NULL) {
        return ot_fail(err, OT_PRECONDITION,
                       "model '%s': version %" PRId64 " has no %s, and nothing is sent without "
                       "lineage",
                       v->model, v->version, OT_BUNDLE_LINEAGE);
    }
    OT_TRY(ot_blob_read(store, &f->sha256, OT_ENVELOPE_PAYLOAD_MAX, &text, err));
    *out = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    return json_is_object(*out)
               ? OT_OK
               : ot_fail(err, OT_DATA_LOSS, "model '%s': version %" PRId64 ": %s is not an object",
                         v->model, v->version, OT_BUNDLE_LINEAGE);
}

static ot_rc fill(ot_store *store, const ot_signer *signer, const char *actor, signing *g,
                  ot_error *err)
{
    ot_statement *s = &g->s;
    s->bundle = g->row.bundle;
    s->version = g->version;
    s->time_us = ot_clock_wall_us();
    snprintf(s->model, sizeof s->model, "%s", g->model);
    snprintf(s->status, sizeof s->status, "%s", ot_version_status_name(g->row.status));
    snprintf(s->actor, sizeof s->actor, "%s", actor);
    ot_key_id(&signer->key, s->key);
    s->evaluation = g->evaluation != NULL ? g->evaluation : json_null();
    s->reported = g->reported != NULL ? g->reported : json_object();
    g->evaluation = g->reported = NULL;
    OT_TRY(read_lineage(store, &g->row, &s->lineage, err));
    return ot_statement_write(s, &g->payload, err);
}

static ot_rc event_txn(ot_txn *txn, void *arg, ot_error *err)
{
    const signing *g = arg;
    char object[OT_KEY_ID + 8], hex[OT_DIGEST_HEX], bundle[OT_DIGEST_HEX], payload[512];
    ot_digest d = ot_sha256_of(g->payload.data, g->payload.len);
    snprintf(payload, sizeof payload,
             "{\"text\": \"%s@%" PRId64
             " signed, to go elsewhere\", \"model\": \"%s\", \"version\": "
             "%" PRId64 ", \"bundle\": \"%s\", \"statement\": \"%s\"}",
             g->model, g->version, g->model, g->version, ot_digest_hex(&g->s.bundle, bundle),
             ot_digest_hex(&d, hex));
    snprintf(object, sizeof object, "key/%s", g->s.key);
    ot_event_in e = {
        .actor = g->s.actor, .type = "version.signed", .object = object, .payload = payload};
    return ot_event_append(txn, &e, NULL, err);
}

ot_rc ot_registry_sign(ot_store *store, const ot_signer *signer, const char *model, int64_t version,
                       const char *actor, ot_str *envelope_out, ot_error *err)
{
    signing g = {.model = model, .version = version, .payload = OT_STR_INIT};
    ot_rc rc = ot_store_read(store, read_txn, &g, err);
    if (rc == OT_OK) {
        rc = fill(store, signer, actor, &g, err);
    }
    if (rc == OT_OK) {
        rc = ot_envelope_sign(signer, OT_STATEMENT_TYPE, g.payload.data, g.payload.len,
                              envelope_out, err);
    }
    /* The log knows of a signature before anybody else does. */
    if (rc == OT_OK) {
        rc = ot_store_write(store, event_txn, &g, err);
    }
    json_decref(g.evaluation);
    json_decref(g.reported);
    ot_statement_done(&g.s);
    ot_str_done(&g.payload);
    return rc;
}
