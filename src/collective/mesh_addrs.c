#include "collective/mesh_addrs.h"

#include "base/random.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

void ot_mesh_add_addr(ot_member *self, const ot_addr *a)
{
    char text[300];
    if (self->n_addrs < OT_MEET_ADDRS_MAX && strlen(ot_addr_format(a, text)) < 64) {
        memcpy(self->addrs[self->n_addrs++], text, strlen(text) + 1);
    }
}

void ot_mesh_list_addrs(ot_member *self, uint16_t port, bool v6)
{
    struct ifaddrs *list = NULL;
    int before = self->n_addrs;
    if (getifaddrs(&list) != 0) {
        return;
    }
    for (int loopback = 0; loopback < 2 && self->n_addrs == before; loopback++) {
        for (struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
            ot_addr a = {.port = port};
            int family = i->ifa_addr != NULL ? i->ifa_addr->sa_family : AF_UNSPEC;
            if ((i->ifa_flags & IFF_UP) == 0 || ((i->ifa_flags & IFF_LOOPBACK) != 0) != loopback) {
                continue;
            }
            if (family == AF_INET) {
                const struct sockaddr_in *s = (const void *)i->ifa_addr;
                (void)inet_ntop(AF_INET, &s->sin_addr, a.host, sizeof a.host);
                ot_mesh_add_addr(self, &a);
            } else if (family == AF_INET6 && v6) {
                const struct sockaddr_in6 *s = (const void *)i->ifa_addr;
                if (!IN6_IS_ADDR_LINKLOCAL(&s->sin6_addr)) {
                    (void)inet_ntop(AF_INET6, &s->sin6_addr, a.host, sizeof a.host);
                    ot_mesh_add_addr(self, &a);
                }
            }
        }
    }
    freeifaddrs(list);
}

void ot_mesh_local_addr(ot_addr *out)
{
    uint8_t name[12];
    char hex[2 * sizeof name + 1];
    ot_random_bytes(name, sizeof name);
    ot_hex(name, sizeof name, hex);
    *out = (ot_addr){.is_unix = true};
    snprintf(out->host, sizeof out->host, "@overtake-%s", hex);
}

bool ot_mesh_can_reach(const ot_member *self, const ot_member *other, const ot_addr *a, bool no_shm)
{
    return !a->is_unix || (!no_shm && strcmp(self->machine, other->machine) == 0);
}
