/* Names, statuses, aliases, deletion and collection; register.c and materialise.c have the rest. */
#include "registry/registry.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

char *ot_registry_object(char out[OT_OBJECT_TEXT], const char *model, int64_t version)
{
    snprintf(out, OT_OBJECT_TEXT, "model/%.64s@%" PRId64, model, version);
    return out;
}

/* Appends the caller's event, with what it left open filled in. */
static ot_rc leave_event(ot_txn *txn, const ot_event_in *event, const char *type,
                         const char *payload, const char *model, int64_t version, uint64_t *seq_out,
                         ot_error *err)
{
    char object[OT_OBJECT_TEXT];
    if (event == NULL) {
        return OT_OK;
    }
    ot_event_in e = *event;
    e.type = e.type == NULL ? type : e.type;
    e.payload = e.payload == NULL ? payload : e.payload;
    e.object = e.object == NULL ? ot_registry_object(object, model, version) : e.object;
    return ot_event_append(txn, &e, seq_out, err);
}

ot_rc ot_registry_set_status(ot_txn *txn, const char *model, int64_t version,
                             ot_version_status status, const ot_event_in *event, uint64_t *seq_out,
                             ot_error *err)
{
    if (status == OT_VERSION_CHAMPION) {
        return ot_fail(err, OT_INVALID, "model '%.64s': a version becomes champion by promotion",
                       model);
    }
    OT_TRY(ot_version_set_status(txn, model, version, status, ot_clock_wall_us(), err));
    char type[64];
    snprintf(type, sizeof type, "version.%s", ot_version_status_name(status));
    return leave_event(txn, event, type, NULL, model, version, seq_out, err);
}

ot_rc ot_registry_champion(ot_txn *txn, const char *model, ot_version_row *out, ot_error *err)
{
    int64_t version = 0;
    OT_TRY(ot_alias_get(txn, model, OT_ALIAS_CHAMPION, &version, err));
    return ot_version_get(txn, model, version, out, err);
}

/* The version an alias names; 0 when it names none. */
static ot_rc alias_or_none(ot_txn *txn, const char *model, const char *alias, int64_t *version_out,
                           ot_error *err)
{
    int64_t version = 0;
    ot_rc rc = ot_alias_get(txn, model, alias, &version, err);
    if (rc == OT_NOT_FOUND) {
        version = 0;
        rc = OT_OK;
    }
    OT_TRY(rc);
    *version_out = version;
    return OT_OK;
}

ot_rc ot_registry_promote(ot_txn *txn, const char *model, int64_t version,
                          ot_version_status previous_status, const ot_event_in *event,
                          int64_t *previous_out, uint64_t *seq_out, ot_error *err)
{
    int64_t now = ot_clock_wall_us(), previous = 0, challenger = 0;
    OT_TRY(alias_or_none(txn, model, OT_ALIAS_CHAMPION, &previous, err));
    OT_TRY(alias_or_none(txn, model, OT_ALIAS_CHALLENGER, &challenger, err));
    OT_TRY(ot_version_set_status(txn, model, version, OT_VERSION_CHAMPION, now, err));
    if (previous != 0 && previous != version) {
        OT_TRY(ot_version_set_status(txn, model, previous, previous_status, now, err));
    }
    OT_TRY(ot_alias_set(txn, model, OT_ALIAS_CHAMPION, version, now, err));
    if (challenger == version) {
        OT_TRY(ot_alias_remove(txn, model, OT_ALIAS_CHALLENGER, err));
    }
    char payload[64];
    if (previous == 0) {
        snprintf(payload, sizeof payload, "{\"previous\": null}");
    } else {
        snprintf(payload, sizeof payload, "{\"previous\": %" PRId64 "}", previous);
    }
    OT_TRY(leave_event(txn, event, "version.promoted", payload, model, version, seq_out, err));
    if (previous_out != NULL) {
        *previous_out = previous;
    }
    return OT_OK;
}

ot_rc ot_registry_find(ot_txn *txn, const char *ref, ot_version_row *out, ot_error *err)
{
    char model[OT_ROW_NAME];
    size_t n = strcspn(ref, "@");
    snprintf(model, sizeof model, "%.*s", (int)OT_MIN(n, sizeof model), ref);
    if (n >= sizeof model || !ot_name_ok(model) || (ref[n] == '@' && ref[n + 1] == 0)) {
        return ot_fail(err, OT_INVALID, "'%.128s': NAME, NAME@3 or NAME@champion is expected", ref);
    }
    const char *which = ref[n] == '@' ? ref + n + 1 : "";
    int64_t version = 0;
    if (which[0] == 0) {
        ot_model_row m;
        OT_TRY(ot_model_get(txn, model, &m, err));
        version = m.latest;
        if (version == 0) {
            return ot_fail(err, OT_NOT_FOUND, "model '%s': it has no version", model);
        }
    } else if (strspn(which, "0123456789") == strlen(which)) {
        OT_TRY(ot_parse_i64(which, &version, err));
    } else {
        OT_TRY(ot_alias_get(txn, model, which, &version, err));
    }
    return ot_version_get(txn, model, version, out, err);
}

/* --- deletion */

typedef struct deletion {
    const char *model;
    int64_t version;
    const ot_event_in *event;
} deletion;

static ot_rc count_version(void *arg, const ot_version_row *row, ot_error *err)
{
    (void)row;
    (void)err;
    ++*(size_t *)arg;
    return OT_OK;
}

static ot_rc check_deletable(ot_txn *txn, const ot_version_row *v, ot_error *err)
{
    if (v->status == OT_VERSION_CHAMPION || v->status == OT_VERSION_CANARY ||
        v->status == OT_VERSION_SHADOW) {
        return ot_fail(err, OT_PRECONDITION, "model '%s': version %" PRId64 " is %s: in use",
                       v->model, v->version, ot_version_status_name(v->status));
    }
    size_t same = 0;
    bool parent;
    OT_TRY(ot_version_each_of_bundle(txn, &v->bundle, count_version, &same, err));
    OT_TRY(ot_bundle_is_parent(txn, &v->bundle, &parent, err));
    if (parent && same == 1) {
        return ot_fail(err, OT_PRECONDITION,
                       "model '%s': a version that is kept was made from version %" PRId64,
                       v->model, v->version);
    }
    return OT_OK;
}

static ot_rc delete_txn(ot_txn *txn, void *arg, ot_error *err)
{
    const deletion *d = arg;
    ot_version_row v;
    bool removed;
    OT_TRY(ot_version_get(txn, d->model, d->version, &v, err));
    OT_TRY(check_deletable(txn, &v, err));
    OT_TRY(ot_version_delete(txn, d->model, d->version, err));
    OT_TRY(ot_bundle_row_drop_unused(txn, &v.bundle, &removed, err));
    static const ot_event_in plain = {.actor = "overtake"};
    return leave_event(txn, d->event == NULL ? &plain : d->event, "version.deleted", NULL, d->model,
                       d->version, NULL, err);
}

ot_rc ot_registry_delete(ot_store *store, const char *model, int64_t version,
                         const ot_event_in *event, ot_error *err)
{
    deletion d = {.model = model, .version = version, .event = event};
    return ot_store_write(store, delete_txn, &d, err);
}

/* --- collection */

ot_rc ot_registry_blob_live(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out,
                            ot_error *err)
{
    (void)arg;
    return ot_models_blob_live(txn, d, live_out, err);
}

typedef struct keepers {
    ot_blob_live_fn *also;
    void *arg;
} keepers;

static ot_rc any_live(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out, ot_error *err)
{
    const keepers *k = arg;
    bool live = false;
    OT_TRY(ot_models_blob_live(txn, d, &live, err));
    if (!live && k->also != NULL) {
        OT_TRY(k->also(txn, k->arg, d, &live, err));
    }
    *live_out = live;
    return OT_OK;
}

ot_rc ot_registry_collect(ot_store *store, int64_t grace_us, ot_blob_live_fn *also, void *arg,
                          ot_blob_report *report_out, ot_error *err)
{
    keepers k = {.also = also, .arg = arg};
    return ot_blob_collect(store, grace_us, any_live, &k, report_out, err);
}
