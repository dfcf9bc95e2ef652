/* Messages of the plan between the ranks of a group, over links of their own: a u32 length
 * (little-endian) and that many bytes. Nobody knows who will want to say something first: each
 * speaks on the link that it has asked for, and listens on the one that the other has.
 *
 * Threads: the progress thread. Lifetime: create/destroy. */
#ifndef OT_COLLECTIVE_CONTROL_H
#define OT_COLLECTIVE_CONTROL_H

#include "collective/link.h"

#define OT_CONTROL_MESSAGE_MAX ((uint32_t)64 << 20)

typedef struct ot_control_lane ot_control_lane;

typedef struct ot_control_lane_ops {
    void (*want)(void *arg, int32_t peer); /* ot_control_lane_link when it is up */
    void (*message)(void *arg, int32_t from, const void *p, size_t n);
    void (*broken)(void *arg, int32_t peer, const ot_error *why);
    void *arg;
} ot_control_lane_ops;

ot_rc ot_control_lane_create(int32_t size, const ot_control_lane_ops *ops, ot_control_lane **out,
                             ot_error *err) OT_CHECKED;
void ot_control_lane_destroy(ot_control_lane *c);
/* `asked`: by this rank. */
void ot_control_lane_link(ot_control_lane *c, int32_t peer, ot_link *l, bool asked);
/* Kept until the link is up and has room. */
void ot_control_lane_send(ot_control_lane *c, int32_t peer, const void *p, size_t n);
void ot_control_lane_look(ot_control_lane *c, uint64_t now_ns); /* at its links: ot_link_ops */
bool ot_control_lane_idle(const ot_control_lane *c);            /* everything has been sent */

#endif
