/* What the events of a streamed completion add up to: the answer as it comes in one piece
 * (https://platform.openai.com/docs/api-reference/chat-streaming). Texts, tool calls, how each
 * choice ended, usage; within a cap.
 *
 * Threads: one at a time. Lifetime: init, events, write, done. */
#ifndef OT_SERVE_COMPLETION_H
#define OT_SERVE_COMPLETION_H

#include "base/str.h"

#define OT_COMPLETION_MAX (1u << 20) /* bytes of all texts */
#define OT_COMPLETION_CHOICES_MAX 8
#define OT_COMPLETION_TOOLS_MAX 8 /* of a choice */

typedef struct ot_completion ot_completion;

ot_completion *ot_completion_new(void);    /* NULL: out of memory */
void ot_completion_free(ot_completion *c); /* NULL is fine */
void ot_completion_event(ot_completion *c, const char *json, size_t n);
/* False: there were none, they were too many or too long, or memory was short. */
bool ot_completion_write(const ot_completion *c, ot_str *out);

#endif
