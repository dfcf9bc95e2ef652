/* Limits of callers without a key: so many requests a second from one address, and from all of
 * them.
 *
 * An address is an IPv4 address or the first 64 bits of an IPv6 one, which is what one host or
 * household has. Each has a bucket (see access.h) in a table of fixed size. A bucket that is full
 * again says nothing, so it is anybody's; while a set of the table has none such, further addresses
 * share the bucket that their hash names, and are held together. All workers share the table.
 * Threads: any. Lifetime: create/destroy. */
#ifndef OT_SERVE_GUESTS_H
#define OT_SERVE_GUESTS_H

#include "base/sock.h"
#include "serve/access.h"

#define OT_GUESTS_MAX 8192 /* addresses at once */

typedef struct ot_guests ot_guests;

/* Requests a second; 0: no limit. */
ot_rc ot_guests_create(double each, double all, ot_guests **g_out, ot_error *err) OT_CHECKED;
void ot_guests_destroy(ot_guests *g); /* NULL is fine */

/* One request from the other end of `fd`; a Unix socket has no address, and only the limit of all
 * holds there. False: `why` says which limit, and for how long. */
bool ot_guests_may(ot_guests *g, int fd, uint64_t now_ns, ot_denial *why);
/* The same by address; NULL: none. */
bool ot_guests_may_ip(ot_guests *g, const uint8_t ip[OT_SOCK_IP], uint64_t now_ns, ot_denial *why);

typedef struct ot_guests_counts {
    uint64_t admitted, limited_each, limited_all;
} ot_guests_counts;
void ot_guests_counts_get(const ot_guests *g, ot_guests_counts *out);

#endif
