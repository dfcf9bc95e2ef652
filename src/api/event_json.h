/* An event as the control API gives it: {"seq": ...} as docs/api.md has it, on one line.
 *
 * Threads: any; pure. */
#ifndef OT_API_EVENT_JSON_H
#define OT_API_EVENT_JSON_H

#include "base/str.h"
#include "store/events.h"

void ot_api_event_json(const ot_event *e, ot_str *out);

#endif
