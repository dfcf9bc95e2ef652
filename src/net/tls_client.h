/* TLS towards a server: whom to trust, and the name that its certificate must be for.
 *
 * Through OpenSSL 3 as in net/tls.h, loaded with the first ot_tls_client_create.
 *
 * Threads: any; connections of several loops may use one. Lifetime: connections keep what they
 * began with. */
#ifndef OT_NET_TLS_CLIENT_H
#define OT_NET_TLS_CLIENT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_tls_client ot_tls_client;

typedef struct ot_tls_client_options {
    const char *name; /* a host name, which is told to the server (SNI) too, or an address */
    const char *ca;   /* PEM file of whom to trust; NULL: the system's */
    bool unverified;  /* any certificate will do */
} ot_tls_client_options;

/* OT_UNAVAILABLE without OpenSSL 3; OT_INVALID: not a PEM file. */
ot_rc ot_tls_client_create(const ot_tls_client_options *o, ot_tls_client **out,
                           ot_error *err) OT_CHECKED;
void ot_tls_client_destroy(ot_tls_client *t); /* NULL is fine */
/* Tells it from all others of the process; 0 for NULL. */
uint64_t ot_tls_client_id(const ot_tls_client *t);

#endif
