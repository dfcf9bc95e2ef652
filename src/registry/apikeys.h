/* API keys of the inference side that the control plane manages (model/apikey.h): kept by name in
 * the store, each change with its event. The first one that is added makes keys needed; that holds
 * until a person says otherwise, also when the last one is revoked.
 *
 * Threads and lifetime: those of the transaction. Errors: OT_INVALID, OT_EXISTS, OT_NOT_FOUND name
 * the key. */
#ifndef OT_REGISTRY_APIKEYS_H
#define OT_REGISTRY_APIKEYS_H

#include "model/apikey.h"
#include "store/store.h"

/* Leaves `key.added`. */
ot_rc ot_apikeys_add(ot_txn *txn, const ot_apikey *k, const char *actor, uint64_t *seq_out,
                     ot_error *err) OT_CHECKED;
/* Leaves `key.revoked`. */
ot_rc ot_apikeys_revoke(ot_txn *txn, const char *name, const char *actor, uint64_t *seq_out,
                        ot_error *err) OT_CHECKED;
/* Nobody needs a key any more, until one is added. Leaves `keys.off`. OT_PRECONDITION: nobody does.
 */
ot_rc ot_apikeys_off(ot_txn *txn, const char *actor, uint64_t *seq_out, ot_error *err) OT_CHECKED;
ot_rc ot_apikeys_needed(ot_txn *txn, bool *needed_out, ot_error *err) OT_CHECKED;
/* All of them, by name: the objects of ot_apikey_json with `added_us` and `actor`. The list is the
 * caller's. */
ot_rc ot_apikeys_list(ot_txn *txn, json_t **list_out, ot_error *err) OT_CHECKED;

#endif
