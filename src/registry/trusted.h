/* Whose statements this server accepts: public keys under the names that its operators gave them.
 *
 * Kept in the store; each change leaves its event. Threads and lifetime: those of the transaction.
 * Errors: OT_INVALID, OT_EXISTS, OT_NOT_FOUND, OT_DENIED name the key. */
#ifndef OT_REGISTRY_TRUSTED_H
#define OT_REGISTRY_TRUSTED_H

#include "model/trust.h"
#include "store/store.h"

#include <stdint.h>

#define OT_TRUSTED_MAX 64
#define OT_TRUSTED_NAME 65

typedef struct ot_trusted {
    char name[OT_TRUSTED_NAME];
    ot_key key;
    int64_t added_us;
    char actor[65]; /* who added it */
} ot_trusted;

/* Leaves `trust.added`. OT_EXISTS: the name or the key is there already. */
ot_rc ot_trusted_add(ot_txn *txn, const char *name, const ot_key *key, const char *actor,
                     uint64_t *seq_out, ot_error *err) OT_CHECKED;
/* Leaves `trust.removed`. What came with its signature stays. */
ot_rc ot_trusted_remove(ot_txn *txn, const char *name, const char *actor, uint64_t *seq_out,
                        ot_error *err) OT_CHECKED;

/* By name. */
typedef ot_rc ot_trusted_fn(void *arg, const ot_trusted *t, ot_error *err);
ot_rc ot_trusted_each(ot_txn *txn, ot_trusted_fn *fn, void *arg, ot_error *err) OT_CHECKED;

/* Whose signature the envelope carries. OT_DENIED: nobody's that is trusted here. */
ot_rc ot_trusted_verify(ot_txn *txn, const ot_envelope *e, ot_trusted *by_out,
                        ot_error *err) OT_CHECKED;

#endif
