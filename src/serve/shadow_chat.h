/* Shadow copies of completions: sampled requests, asked of another server too.
 *
 * A server of language models takes seconds for an answer, so these copies wait on a loop of their
 * own, several at a time, and hold up no other deployment's samples. What waits has a limit; what
 * finds it reached is dropped and counted.
 *
 * Threads: ot_chat_shadow_add on the sampler's; `answered` is called on the loop's. Lifetime:
 * create, start, stop (drops what waits), destroy. */
#ifndef OT_SERVE_SHADOW_CHAT_H
#define OT_SERVE_SHADOW_CHAT_H

#include "serve/chunk.h"

#define OT_CHAT_SHADOW_WAIT_MAX 256          /* copies */
#define OT_CHAT_SHADOW_BYTES_MAX (16u << 20) /* of their requests */
#define OT_CHAT_SHADOW_AT_ONCE 8             /* requests */
#define OT_CHAT_SHADOW_ANSWER_MAX (1u << 20) /* a longer answer is a failed copy */

typedef struct ot_chat_shadow ot_chat_shadow;

typedef struct ot_chat_copy {
    struct ot_chat_copy *next;
    ot_dep *dep; /* a reference; keeps the variant */
    const ot_variant *variant;
    uint64_t seq;
    int64_t time_us;
    float probability;
    ot_str body, answer;
    const char *path;
    int status;
    struct ot_chat_shadow *owner;
    struct ot_upstream_call *call; /* while it is on */
    struct ot_chat_copy **at;      /* in the list of those that are on */
} ot_chat_copy;

/* The server's answer to a copy; NULL: it failed. */
typedef void ot_chat_answered_fn(void *arg, const ot_chat_copy *copy);

ot_rc ot_chat_shadow_create(ot_chat_answered_fn *answered, void *arg, ot_chat_shadow **out,
                            ot_error *err) OT_CHECKED;
ot_rc ot_chat_shadow_start(ot_chat_shadow *s, ot_error *err) OT_CHECKED;
void ot_chat_shadow_stop(ot_chat_shadow *s);    /* NULL is fine */
void ot_chat_shadow_destroy(ot_chat_shadow *s); /* NULL is fine */

/* Whether the copies of a variant go here. */
bool ot_chat_shadow_for(const ot_variant *v);
/* Copies of the chunk's rows; how many were taken. The others were dropped. */
size_t ot_chat_shadow_add(ot_chat_shadow *s, const ot_chunk *live, const ot_variant *v);

#endif
