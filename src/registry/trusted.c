#include "registry/trusted.h"

#include "base/clock.h"
#include "base/mem.h"
#include "store/events.h"
#include "store/kv.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCOPE "trust"

typedef struct each {
    ot_trusted_fn *fn;
    void *arg;
} each;

static ot_rc read_one(void *arg, const char *key, const void *value, size_t n, ot_error *err)
{
    const each *e = arg;
    ot_trusted t = {0};
    const char *text = NULL, *actor = NULL;
    json_int_t added = 0;
    json_t *j = json_loadb(value, n, 0, NULL);
    ot_rc rc = OT_OK;
    if (json_unpack(j, "{s:s,s:s,s:I}", "key", &text, "actor", &actor, "added_us", &added) != 0 ||
        ot_key_parse(text, strlen(text), &t.key, NULL) != OT_OK) {
        rc = ot_fail(err, OT_DATA_LOSS, "trusted key '%.64s': its record is damaged", key);
    } else {
        snprintf(t.name, sizeof t.name, "%s", key);
        snprintf(t.actor, sizeof t.actor, "%s", actor);
        t.added_us = added;
        rc = e->fn(e->arg, &t, err);
    }
    json_decref(j);
    return rc;
}

ot_rc ot_trusted_each(ot_txn *txn, ot_trusted_fn *fn, void *arg, ot_error *err)
{
    each e = {.fn = fn, .arg = arg};
    return ot_kv_each(txn, SCOPE, NULL, OT_TRUSTED_MAX, read_one, &e, err);
}

/* ------------------------------------------------------------------ changes */

typedef struct change {
    const char *name;
    const ot_key *key;
    size_t n; /* keys that are there */
} change;

static ot_rc check_new(void *arg, const ot_trusted *t, ot_error *err)
{
    change *c = arg;
    c->n++;
    if (strcmp(t->name, c->name) == 0) {
        return ot_fail(err, OT_EXISTS,
                       "'%s' is trusted already; overtake trust remove %s first to put another "
                       "key under that name",
                       t->name, t->name);
    }
    if (ot_key_equal(&t->key, c->key)) {
        return ot_fail(err, OT_EXISTS, "this key is trusted already, as '%s'", t->name);
    }
    return OT_OK;
}

static ot_rc leave(ot_txn *txn, const char *type, const char *verb, const char *name,
                   const ot_key *key, const char *actor, uint64_t *seq_out, ot_error *err)
{
    char object[OT_TRUSTED_NAME + 8], id[OT_KEY_ID], text[OT_KEY_TEXT], payload[512];
    snprintf(object, sizeof object, "trust/%s", name);
    ot_key_id(key, id);
    snprintf(payload, sizeof payload,
             "{\"text\": \"key %s, '%s', is %s\", \"id\": \"%s\", \"key\": \"%s\"}", id, name, verb,
             id, ot_key_text(key, text));
    ot_event_in e = {.actor = actor, .type = type, .object = object, .payload = payload};
    return ot_event_append(txn, &e, seq_out, err);
}

ot_rc ot_trusted_add(ot_txn *txn, const char *name, const ot_key *key, const char *actor,
                     uint64_t *seq_out, ot_error *err)
{
    char text[OT_KEY_TEXT];
    change c = {.name = name, .key = key};
    if (!ot_name_ok(name)) {
        return ot_fail(err, OT_INVALID,
                       "'%.80s' is no name for a key: 1 to 64 characters of A-Z a-z 0-9 . _ -, not "
                       "starting with '.' or '-'",
                       name);
    }
    OT_TRY(ot_trusted_each(txn, check_new, &c, err));
    if (c.n >= OT_TRUSTED_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%d keys are trusted; that is the limit", OT_TRUSTED_MAX);
    }
    json_t *j = json_pack("{s:s,s:s,s:I}", "key", ot_key_text(key, text), "actor", actor,
                          "added_us", (json_int_t)ot_clock_wall_us());
    char *value = j == NULL ? NULL : json_dumps(j, JSON_COMPACT);
    json_decref(j);
    ot_rc rc = value == NULL ? ot_fail(err, OT_EXHAUSTED, "no memory for the key")
                             : ot_kv_set(txn, SCOPE, name, value, strlen(value), err);
    free(value);
    OT_TRY(rc);
    return leave(txn, "trust.added", "trusted from now on", name, key, actor, seq_out, err);
}

typedef struct found {
    const char *name;
    const ot_envelope *envelope;
    ot_trusted t;
    bool yes;
} found;

static ot_rc find_name(void *arg, const ot_trusted *t, ot_error *err)
{
    found *f = arg;
    (void)err;
    if (strcmp(t->name, f->name) == 0) {
        f->t = *t;
        f->yes = true;
    }
    return OT_OK;
}

ot_rc ot_trusted_remove(ot_txn *txn, const char *name, const char *actor, uint64_t *seq_out,
                        ot_error *err)
{
    found f = {.name = name};
    OT_TRY(ot_trusted_each(txn, find_name, &f, err));
    if (!f.yes) {
        return ot_fail(err, OT_NOT_FOUND, "no key is trusted under the name '%.64s'", name);
    }
    OT_TRY(ot_kv_delete(txn, SCOPE, name, err));
    return leave(txn, "trust.removed", "no longer trusted", name, &f.t.key, actor, seq_out, err);
}

/* ------------------------------------------------------------------ verification */

static ot_rc find_signer(void *arg, const ot_trusted *t, ot_error *err)
{
    found *f = arg;
    (void)err;
    if (!f->yes && ot_envelope_signed_by(f->envelope, &t->key)) {
        f->t = *t;
        f->yes = true;
    }
    return OT_OK;
}

ot_rc ot_trusted_verify(ot_txn *txn, const ot_envelope *e, ot_trusted *by_out, ot_error *err)
{
    found f = {.envelope = e};
    OT_TRY(ot_trusted_each(txn, find_signer, &f, err));
    if (!f.yes) {
        return ot_fail(err, OT_DENIED,
                       "no key that is trusted here signed this: it is another server's, or it was "
                       "changed on the way. `overtake trust list` shows the keys, `overtake trust "
                       "add NAME KEY` adds one");
    }
    *by_out = f.t;
    return OT_OK;
}
