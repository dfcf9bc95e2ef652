/* Values of the API's JSON as people read them.
 *
 * Threads: any (localtime_r). Nothing here allocates but the text that is appended to. */
#ifndef OT_CLI_TEXT_H
#define OT_CLI_TEXT_H

#include "base/error.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Members of an object; absent ones and those of another type are "", 0 and false. */
const char *ot_cli_get(const json_t *object, const char *key);
int64_t ot_cli_int(const json_t *object, const char *key);
double ot_cli_num(const json_t *object, const char *key);
bool ot_cli_true(const json_t *object, const char *key);

/* What the server says may hold what users of a program wrote: control characters, which a terminal
 * would obey, become '?', line ends a blank. */
void ot_cli_add_clean(ot_str *out, const char *text);
/* The same, then blanks up to `width` columns. */
void ot_cli_add_padded(ot_str *out, const char *text, size_t width);

#define OT_CLI_TIME_TEXT 32
/* Local time to the second, "2026-11-23 10:15:03". */
char *ot_cli_time(int64_t wall_us, char out[OT_CLI_TIME_TEXT]);
/* "4s", "12min 5s", "3h 5min", "2d 4h": how long something took or is ago; negative counts as 0. */
char *ot_cli_span(int64_t us, char out[OT_CLI_TIME_TEXT]);
/* "2026-11-23", "2026-11-23 10:15", "2026-11-23T10:15:03.5Z", "...+01:00" (local time without a
 * zone), or a duration: so long before `now_us`. */
ot_rc ot_cli_parse_time(const char *text, int64_t now_us, int64_t *us_out,
                        ot_error *err) OT_CHECKED;

/* Colours go to a terminal only, and not where NO_COLOR is set (https://no-color.org). */
bool ot_cli_colour(void);

#endif
