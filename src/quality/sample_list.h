/* The rows that are kept of a deployment's traffic, for people and programs.
 *
 * Threads: any; it reads a transaction of its own. */
#ifndef OT_QUALITY_SAMPLE_LIST_H
#define OT_QUALITY_SAMPLE_LIST_H

#include "base/error.h"
#include "base/str.h"
#include "store/store.h"

#define OT_SAMPLE_LIST_BYTES_MAX (64u << 20) /* of an answer */

/* Segments before number `before` (0: all), the newest first, until they have `limit` rows; a
 * segment is given whole. Appends {"samples": [{"id", "segment", "time_us", "version", "role",
 * "probability", "key", "inputs": {NAME: [VALUE...]}, "outputs": {...}}...], "next": SEGMENT or
 * null}; `next` is the `before` of the page that follows. Values are flat; BYTES are text, in which
 * what is not UTF-8 is U+FFFD. Shadow copies have no inputs: they are those of the live row with
 * the same number. */
ot_rc ot_samples_list(ot_store *store, const char *deployment, int64_t before, int64_t limit,
                      ot_str *out, ot_error *err) OT_CHECKED;

#endif
