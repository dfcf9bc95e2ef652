/* The hub: the control plane's end of the agent protocol (docs/architecture.md).
 *
 * Accepts agents on a Unix socket, hands what they report to its owner, sends them the desired
 * state, and acknowledges a push only after the owner has made it durable. Two processes may have
 * one id for a while: the one that came last speaks for it, the other hands in what it still has.
 * Threads: the loop's. Lifetime: create/destroy; the listening socket stays the caller's. */
#ifndef OT_FLEET_HUB_H
#define OT_FLEET_HUB_H

#include "base/error.h"
#include "base/str.h"
#include "net/loop.h"

#include <stddef.h>

#define OT_AGENT_PROTOCOL 1
#define OT_HUB_AGENTS_MAX 256

enum {
    OT_AGENT_HELLO = 1, /* both ways */
    OT_AGENT_DESIRED = 2,
    OT_AGENT_OBSERVED = 3,
    OT_AGENT_PUSH = 4,
    OT_AGENT_ACK = 5,
    OT_AGENT_ASK = 6,
    OT_AGENT_ANSWER = 7,
};

typedef struct ot_hub ot_hub;

typedef struct ot_hub_ops {
    void *self;
    /* OT_OK: durable. OT_INVALID and OT_NOT_FOUND: never will be right; it is acknowledged and
     * logged. Anything else: the agent is cut off and sends it again later. */
    ot_rc (*push)(void *self, const char *json, size_t json_len, const void *bin, size_t bin_len,
                  ot_error *err);
    void (*observed)(void *self, const char *agent, const char *json, size_t json_len);
    /* What a caller of the agent's asks for. The answer's members are appended to `out`, without
     * braces and `seq`. */
    void (*asked)(void *self, const char *agent, const char *json, size_t json_len, ot_str *out);
    void (*connected)(void *self, const char *agent, bool is);
    ot_rc (*desired)(void *self, ot_str *json_out, ot_error *err);
} ot_hub_ops;

ot_rc ot_hub_create(ot_loop *loop, int listen_fd, const ot_hub_ops *ops, ot_hub **out,
                    ot_error *err) OT_CHECKED;
void ot_hub_destroy(ot_hub *hub);
/* Sends the desired state to every agent that has said hello. */
void ot_hub_desired_changed(ot_hub *hub);
/* 16 hex digits, as the agent said; NULL when it is not here. */
const char *ot_hub_incarnation(const ot_hub *hub, const char *agent);
size_t ot_hub_agents(const ot_hub *hub); /* that have said hello */
/* [{"id", "kind", "incarnation", "version", "pid", "observed": {...}}...] */
void ot_hub_json(const ot_hub *hub, ot_str *out);

#endif
