/* This server's key, and the keys whose statements it accepts. */
#include "api/internal.h"

#include "registry/trusted.h"

#include <string.h>

static json_t *key_json(const ot_key *k)
{
    char id[OT_KEY_ID], text[OT_KEY_TEXT];
    return json_pack("{s:s,s:s}", "id", ot_key_id(k, id), "key", ot_key_text(k, text));
}

ot_rc api_keys(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    (void)c;
    return api_give(key_json(&a->signer.key), out, err);
}

static ot_rc add_trusted(void *arg, const ot_trusted *t, ot_error *err)
{
    json_t *j = key_json(&t->key);
    json_object_set_new(j, "name", json_string(t->name));
    json_object_set_new(j, "added_us", json_integer(t->added_us));
    json_object_set_new(j, "actor", json_string(t->actor));
    return json_array_append_new(arg, j) == 0
               ? OT_OK
               : ot_fail(err, OT_EXHAUSTED, "no memory for the keys");
}

static ot_rc trust_txn(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_trusted_each(txn, add_trusted, arg, err);
}

ot_rc api_trust(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    (void)c;
    json_t *list = json_array();
    ot_rc rc = ot_store_read(a->store, trust_txn, list, err);
    if (rc != OT_OK) {
        json_decref(list);
        return rc;
    }
    return api_give(json_pack("{s:o}", "keys", list), out, err);
}

struct change {
    const char *name, *actor;
    ot_key key;
    uint64_t seq;
};

static ot_rc add_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct change *x = arg;
    return ot_trusted_add(txn, x->name, &x->key, x->actor, &x->seq, err);
}

static ot_rc remove_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct change *x = arg;
    return ot_trusted_remove(txn, x->name, x->actor, &x->seq, err);
}

static ot_rc give_change(const struct change *x, ot_str *out, ot_error *err)
{
    return api_give(json_pack("{s:s,s:I}", "name", x->name, "event", (json_int_t)x->seq), out, err);
}

ot_rc api_trust_add(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    static const char *const keys[] = {"name", "key", NULL};
    struct change x = {.actor = c->actor};
    json_t *j = NULL;
    OT_TRY(api_body_object(c, keys, &j, err));
    const char *key = json_string_value(json_object_get(j, "key"));
    x.name = json_string_value(json_object_get(j, "name"));
    ot_rc rc = x.name != NULL && key != NULL
                   ? ot_key_parse(key, strlen(key), &x.key, err)
                   : ot_fail(err, OT_INVALID, "body: 'name' and 'key' are needed, as text");
    if (rc == OT_OK) {
        rc = ot_store_write(a->store, add_txn, &x, err);
    }
    if (rc == OT_OK) {
        rc = give_change(&x, out, err);
    }
    json_decref(j);
    return rc;
}

ot_rc api_trust_remove(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct change x = {.name = c->name[0], .actor = c->actor};
    OT_TRY(ot_store_write(a->store, remove_txn, &x, err));
    return give_change(&x, out, err);
}
