/* Who may predict: API keys of the inference side. */
#include "api/internal.h"

#include "model/apikey.h"
#include "registry/apikeys.h"

#include <string.h>

struct change {
    const char *name, *actor;
    ot_apikey key;
    uint64_t seq;
    json_t *list;
    bool needed;
};

static ot_rc list_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct change *x = arg;
    OT_TRY(ot_apikeys_needed(txn, &x->needed, err));
    return ot_apikeys_list(txn, &x->list, err);
}

/* Not even the digest of a key leaves: nobody needs it who asks. */
ot_rc api_clients(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct change x = {0};
    size_t i;
    json_t *one;
    (void)c;
    OT_TRY(ot_store_read(a->store, list_txn, &x, err));
    json_array_foreach(x.list, i, one)
    {
        json_object_del(one, "hash");
    }
    return api_give(json_pack("{s:b,s:o}", "needed", x.needed, "clients", x.list), out, err);
}

static ot_rc add_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct change *x = arg;
    return ot_apikeys_add(txn, &x->key, x->actor, &x->seq, err);
}

static ot_rc revoke_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct change *x = arg;
    return ot_apikeys_revoke(txn, x->name, x->actor, &x->seq, err);
}

static ot_rc off_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct change *x = arg;
    return ot_apikeys_off(txn, x->actor, &x->seq, err);
}

/* The secret is in this answer and nowhere else. */
ot_rc api_client_add(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    static const char *const keys[] = {"name",       "deployments", "expires_us", "requests_per_s",
                                       "rows_per_s", "admin",       NULL};
    struct change x = {.actor = c->actor};
    char text[OT_APIKEY_TEXT], hex[OT_DIGEST_HEX];
    ot_apikey fresh;
    json_t *j = NULL;
    OT_TRY(api_body_object(c, keys, &j, err));
    ot_apikey_make(&fresh, text);
    json_object_set_new(j, "id", json_string(fresh.id));
    json_object_set_new(j, "hash", json_string(ot_digest_hex(&fresh.hash, hex)));
    ot_rc rc = ot_apikey_read(j, &x.key, err);
    json_decref(j);
    OT_TRY(rc);
    OT_TRY(ot_store_write(a->store, add_txn, &x, err));
    ot_pipeline_clients_changed(a->pipeline);
    return api_give(json_pack("{s:s,s:s,s:s,s:I}", "name", x.key.name, "id", x.key.id, "key", text,
                              "event", (json_int_t)x.seq),
                    out, err);
}

static ot_rc give_change(api *a, const struct change *x, ot_str *out, ot_error *err)
{
    ot_pipeline_clients_changed(a->pipeline);
    return api_give(json_pack("{s:s,s:I}", "name", x->name, "event", (json_int_t)x->seq), out, err);
}

ot_rc api_client_revoke(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct change x = {.name = c->name[0], .actor = c->actor};
    OT_TRY(ot_store_write(a->store, revoke_txn, &x, err));
    return give_change(a, &x, out, err);
}

ot_rc api_clients_off(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    struct change x = {.name = "keys", .actor = c->actor};
    OT_TRY(ot_store_write(a->store, off_txn, &x, err));
    return give_change(a, &x, out, err);
}
