/* Query parameters by type, each with its limits.
 *
 * Threads: one at a time. Values lie in the arena. An absent parameter leaves the output as it was,
 * so that the caller's initial value is the default. */
#ifndef OT_API_QUERY_H
#define OT_API_QUERY_H

#include "base/mem.h"
#include "net/http.h"

/* Every parameter is one of `allowed` (NULL at the end; NULL: none is) and comes once. */
ot_rc ot_query_check(ot_slice query, const char *const *allowed, ot_error *err) OT_CHECKED;
ot_rc ot_query_i64(ot_slice query, const char *name, ot_arena *arena, int64_t min, int64_t max,
                   int64_t *out, ot_error *err) OT_CHECKED;
/* At most `max` bytes of valid UTF-8. */
ot_rc ot_query_text(ot_slice query, const char *name, ot_arena *arena, size_t max, const char **out,
                    ot_error *err) OT_CHECKED;
/* "1" or "true", "0" or "false"; the bare name is true. */
ot_rc ot_query_flag(ot_slice query, const char *name, ot_arena *arena, bool *out,
                    ot_error *err) OT_CHECKED;

#endif
