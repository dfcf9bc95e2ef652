#include "registry/apikeys.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/events.h"
#include "store/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCOPE "client"
#define STATE_SCOPE "clients"
#define NEEDED "needed"

static ot_rc leave(ot_txn *txn, const char *type, const char *object, json_t *payload,
                   const char *actor, uint64_t *seq_out, ot_error *err)
{
    char *text = payload != NULL ? json_dumps(payload, JSON_COMPACT) : NULL;
    json_decref(payload);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "event %s: no memory", type);
    }
    ot_event_in e = {
        .actor = actor, .role = "person", .type = type, .object = object, .payload = text};
    ot_rc rc = ot_event_append(txn, &e, seq_out, err);
    free(text);
    return rc;
}

static json_t *payload_of(const ot_apikey *k, const char *what)
{
    char text[256];
    OT_AUTO(ot_str_done) ot_str scope = OT_STR_INIT;
    for (size_t i = 0; i < k->n_deployments; i++) {
        ot_str_addf(&scope, "%s%s", i > 0 ? ", " : "", k->deployments[i]);
    }
    snprintf(text, sizeof text, "key %s of client '%s', for %.80s, %s", k->id, k->name,
             scope.len > 0 ? scope.data : "all models", what);
    return json_pack("{s:s,s:s,s:s}", "text", text, "name", k->name, "id", k->id);
}

/* ---- reading */

static ot_rc take_one(void *arg, const char *key, const void *value, size_t n, ot_error *err)
{
    json_t *j = json_loadb(value, n, 0, NULL);
    if (j == NULL) {
        return ot_fail(err, OT_DATA_LOSS, "key of client '%.64s': its record is damaged", key);
    }
    return json_array_append_new(arg, j) == 0
               ? OT_OK
               : ot_fail(err, OT_EXHAUSTED, "no memory for the keys");
}

ot_rc ot_apikeys_list(ot_txn *txn, json_t **list_out, ot_error *err)
{
    json_t *list = json_array();
    ot_rc rc = list != NULL ? ot_kv_each(txn, SCOPE, NULL, OT_APIKEYS_MAX, take_one, list, err)
                            : ot_fail(err, OT_EXHAUSTED, "no memory for the keys");
    if (rc != OT_OK) {
        json_decref(list);
        return rc;
    }
    *list_out = list;
    return OT_OK;
}

ot_rc ot_apikeys_needed(ot_txn *txn, bool *needed_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str value = OT_STR_INIT;
    ot_error why; /* that there is no value is an answer, and leaves nothing in `err` */
    ot_rc rc = ot_kv_get(txn, STATE_SCOPE, NEEDED, &value, &why);
    *needed_out = rc == OT_OK;
    return rc == OT_OK || rc == OT_NOT_FOUND ? OT_OK : ot_fail(err, rc, "%s", why.msg);
}

/* ---- changes */

static ot_rc check_new(ot_txn *txn, const ot_apikey *k, ot_error *err)
{
    json_t *list = NULL, *one;
    size_t i;
    OT_TRY(ot_apikeys_list(txn, &list, err));
    ot_rc rc =
        json_array_size(list) < OT_APIKEYS_MAX
            ? OT_OK
            : ot_fail(err, OT_EXHAUSTED, "%d keys are there; that is the limit", OT_APIKEYS_MAX);
    json_array_foreach(list, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (rc == OT_OK && name != NULL && strcmp(name, k->name) == 0) {
            rc = ot_fail(err, OT_EXISTS,
                         "client '%s' has a key already; give the new one another name, hand it "
                         "out, then overtake keys revoke %s",
                         k->name, k->name);
        }
    }
    json_decref(list);
    return rc;
}

static ot_rc save(ot_txn *txn, const ot_apikey *k, const char *actor, ot_error *err)
{
    json_t *j = ot_apikey_json(k);
    json_object_set_new(j, "added_us", json_integer((json_int_t)ot_clock_wall_us()));
    json_object_set_new(j, "actor", json_string(actor));
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    ot_rc rc = text != NULL ? ot_kv_set(txn, SCOPE, k->name, text, strlen(text), err)
                            : ot_fail(err, OT_EXHAUSTED, "no memory for the key");
    free(text);
    OT_TRY(rc);
    return ot_kv_set(txn, STATE_SCOPE, NEEDED, "1", 1, err);
}

ot_rc ot_apikeys_add(ot_txn *txn, const ot_apikey *k, const char *actor, uint64_t *seq_out,
                     ot_error *err)
{
    char object[80];
    OT_TRY(check_new(txn, k, err));
    OT_TRY(save(txn, k, actor, err));
    snprintf(object, sizeof object, "client/%s", k->name);
    return leave(txn, "key.added", object,
                 payload_of(k, k->admin ? "may predict, load and unload from now on"
                                        : "may predict from now on"),
                 actor, seq_out, err);
}

ot_rc ot_apikeys_revoke(ot_txn *txn, const char *name, const char *actor, uint64_t *seq_out,
                        ot_error *err)
{
    char object[80];
    ot_apikey k;
    OT_AUTO(ot_str_done) ot_str value = OT_STR_INIT;
    ot_rc rc = ot_name_ok(name) ? ot_kv_get(txn, SCOPE, name, &value, err) : OT_NOT_FOUND;
    if (rc == OT_NOT_FOUND) {
        return ot_fail(err, rc, "client '%.64s' has no key; overtake keys list shows them", name);
    }
    OT_TRY(rc);
    json_t *j = json_loadb(value.data, value.len, 0, NULL);
    rc = ot_apikey_read(j, &k, err);
    json_decref(j);
    OT_TRY(rc);
    OT_TRY(ot_kv_delete(txn, SCOPE, name, err));
    snprintf(object, sizeof object, "client/%s", name);
    return leave(txn, "key.revoked", object, payload_of(&k, "is revoked"), actor, seq_out, err);
}

ot_rc ot_apikeys_off(ot_txn *txn, const char *actor, uint64_t *seq_out, ot_error *err)
{
    bool needed;
    OT_TRY(ot_apikeys_needed(txn, &needed, err));
    if (!needed) {
        return ot_fail(err, OT_PRECONDITION, "no key is needed: there is nothing to turn off");
    }
    OT_TRY(ot_kv_delete(txn, STATE_SCOPE, NEEDED, err));
    return leave(txn, "keys.off", "clients",
                 json_pack("{s:s}", "text", "whoever reaches a replica may predict"), actor,
                 seq_out, err);
}
