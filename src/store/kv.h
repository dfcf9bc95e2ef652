/* Small state of the machinery that has no table of its own: (scope, key) -> bytes.
 *
 * Threads and lifetime: those of the transaction. */
#ifndef OT_STORE_KV_H
#define OT_STORE_KV_H

#include "base/str.h"
#include "store/store.h"

#define OT_KV_NAME_MAX 255         /* scope and key: bytes, not empty */
#define OT_KV_VALUE_MAX (4u << 20) /* bytes */

ot_rc ot_kv_set(ot_txn *txn, const char *scope, const char *key, const void *value, size_t n,
                ot_error *err) OT_CHECKED;
/* Appends the value to `out`. OT_NOT_FOUND: there is none. */
ot_rc ot_kv_get(ot_txn *txn, const char *scope, const char *key, ot_str *out,
                ot_error *err) OT_CHECKED;
/* OT_OK also when there was none. */
ot_rc ot_kv_delete(ot_txn *txn, const char *scope, const char *key, ot_error *err) OT_CHECKED;
/* In key order, from the first key after `after_key` ("" or NULL: the first), `limit` at most. */
typedef ot_rc ot_kv_fn(void *arg, const char *key, const void *value, size_t n, ot_error *err);
ot_rc ot_kv_each(ot_txn *txn, const char *scope, const char *after_key, uint32_t limit,
                 ot_kv_fn *fn, void *arg, ot_error *err) OT_CHECKED;

#endif
