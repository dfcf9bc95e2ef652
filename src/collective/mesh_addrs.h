/* Where a rank is found: the addresses of its host.
 *
 * Threads: any. */
#ifndef OT_COLLECTIVE_MESH_ADDRS_H
#define OT_COLLECTIVE_MESH_ADDRS_H

#include "collective/meet.h"

/* As long as there is room for it. */
void ot_mesh_add_addr(ot_member *self, const ot_addr *a);
/* Addresses of this host's interfaces, with this port; those of the loopback only where there is no
 * other: on another host they would be somebody else's. */
void ot_mesh_list_addrs(ot_member *self, uint16_t port, bool v6);
/* A Unix socket in the abstract namespace, of a name that nobody else has. */
void ot_mesh_local_addr(ot_addr *out);
/* Whether `a`, of `other`, is one to try from `self`. */
bool ot_mesh_can_reach(const ot_member *self, const ot_member *other, const ot_addr *a,
                       bool no_shm);

#endif
