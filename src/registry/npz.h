/* NumPy's .npz (codec/zip.h) as a table: every member a column, NAME.npy with a plain NAME.
 *
 * Threads: any; pure. */
#ifndef OT_REGISTRY_NPZ_H
#define OT_REGISTRY_NPZ_H

#include "base/error.h"
#include "codec/zip.h"
#include "registry/table.h"

#include <stddef.h>

#define OT_NPZ_BYTES_MAX (8ull << 30) /* inflated, all members together */

/* Adds every member of the archive in p[0..n) as a column of an initialised table. Data are copied.
 * On failure the table may hold some of the columns; drop it. */
ot_rc ot_npz_read(const void *p, size_t n, ot_table *t, ot_error *err) OT_CHECKED;
/* The same with a lower cap on the inflated bytes. */
ot_rc ot_npz_read_capped(const void *p, size_t n, unsigned long long bytes_max, ot_table *t,
                         ot_error *err) OT_CHECKED;

#endif
