/* Shared by blob.c and blob_walk.c. */
#ifndef OT_STORE_BLOB_INTERNAL_H
#define OT_STORE_BLOB_INTERNAL_H

#include "store/blob.h"

/* DIR/blobs/<first two digits>. */
ot_rc ot_blob_fan_dir(ot_store *s, const ot_digest *d, char out[OT_PATH_MAX],
                      ot_error *err) OT_CHECKED;
/* backup.c: nothing is to be deleted now. */
bool ot_blob_is_held(const ot_store *s);

#endif
