/* NumPy's .npz: a zip of .npy members, read through a bounded reader of our own.
 *
 * Accepted: members stored or deflated, with or without data descriptor and zip64 sizes. Refused,
 * each by name: encryption, other methods, several disks, names that are not NAME.npy with a plain
 * NAME, duplicates, sizes that leave the file, a member that inflates to another size
 * than it states, a wrong CRC, more than the caps below.
 * Threads: any; pure. Source: PKWARE APPNOTE 6.3.10; RFC 1951. */
#ifndef OT_REGISTRY_NPZ_H
#define OT_REGISTRY_NPZ_H

#include "base/error.h"
#include "registry/table.h"

#include <stddef.h>

#define OT_NPZ_MEMBERS_MAX OT_TABLE_COLUMNS_MAX
#define OT_NPZ_BYTES_MAX (8ull << 30) /* inflated, all members together */
#define OT_NPZ_RATIO_MAX 1032         /* what deflate can reach; a member that states more lies */

/* Adds every member of the archive in p[0..n) as a column of an initialised table. Data are copied.
 * On failure the table may hold some of the columns; drop it. */
ot_rc ot_npz_read(const void *p, size_t n, ot_table *t, ot_error *err) OT_CHECKED;
/* The same with a lower cap on the inflated bytes. */
ot_rc ot_npz_read_capped(const void *p, size_t n, unsigned long long bytes_max, ot_table *t,
                         ot_error *err) OT_CHECKED;

#endif
