/* The API's answers as text for people; one function an answer. Pure but for the local time zone:
 * what the tests hold to the letter.
 *
 * Threads: any. `out` is appended to; a part that an answer lacks is left out. */
#ifndef OT_CLI_VIEW_H
#define OT_CLI_VIEW_H

#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

void ot_cli_view_applied(const json_t *answer, bool diff, ot_str *out);
/* {"arms": [...]}: versions that answer side by side, the champion first. */
void ot_cli_view_arms(const json_t *answer, ot_str *out);
void ot_cli_view_acted(const json_t *answer, ot_str *out);
void ot_cli_view_apps(const json_t *answer, int64_t now_us, ot_str *out);
void ot_cli_view_app(const json_t *app, int64_t now_us, ot_str *out);
/* What `quality` of an app holds: drift and labels. */
void ot_cli_view_quality(const json_t *app, ot_str *out);
/* What `budgets` of an app holds, and whether one has taken the automation away. */
void ot_cli_view_budgets(const json_t *app, ot_str *out);
void ot_cli_view_why(const json_t *answer, ot_str *out);
/* One line of the timeline. A mark before the text says what needs eyes without colour too: '!'
 * trouble, '?' somebody is waited for or something was refused, '+' something came good. */
void ot_cli_view_event(const json_t *event, bool colour, ot_str *out);
void ot_cli_view_verified(const json_t *answer, ot_str *out);
void ot_cli_view_checkpoints(const json_t *answer, ot_str *out);
void ot_cli_view_runs(const json_t *answer, ot_str *out);
void ot_cli_view_models(const json_t *answer, ot_str *out);
void ot_cli_view_model(const json_t *answer, ot_str *out);
void ot_cli_view_accuracy(const json_t *answer, ot_str *out);
void ot_cli_view_replicas(const json_t *answer, ot_str *out);
void ot_cli_view_backup(const json_t *answer, ot_str *out);
void ot_cli_view_restored(const json_t *answer, ot_str *out);
/* With `explain` also what happened in the rehearsal of the proposed policy, line by line. */
void ot_cli_view_simulated(const json_t *answer, bool explain, ot_str *out);

/* A line of a view: a name of up to 10 letters, then text. */
void ot_cli_view_name(ot_str *out, const char *name);

#endif
