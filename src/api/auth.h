/* Who may ask: Host, Origin and token of a request to the control API.
 *
 * Host and Origin stand against a page in a browser on this machine, which can send requests here
 * under another site's name; the token stands against everybody else.
 * Threads: any; pure. */
#ifndef OT_API_AUTH_H
#define OT_API_AUTH_H

#include "base/error.h"
#include "base/hash.h"
#include "net/http.h"

#include <stdbool.h>
#include <stdint.h>

#define OT_ACTOR_MAX 64 /* bytes of the header overtake-actor */

typedef struct ot_auth {
    uint16_t port;   /* of the listener; 0: a Unix socket, which no browser reaches */
    bool tls;        /* who came to another site's name by it would have found no certificate */
    ot_digest token; /* SHA-256: comparing digests tells nothing about the length */
} ot_auth;

/* Reads the token from DATA/token. OT_DENIED when others can read it. */
ot_rc ot_auth_load(ot_auth *a, const char *data_dir, uint16_t port, ot_error *err) OT_CHECKED;
/* OT_DENIED: 403. `local`: it came over a Unix socket. An absent Host is as wrong as a foreign one;
 * an absent Origin is no browser. */
ot_rc ot_auth_check_site(const ot_auth *a, bool local, ot_slice host, ot_slice origin,
                         ot_error *err) OT_CHECKED;
/* `authorization` is the header's value. OT_UNAUTHENTICATED: 401. */
ot_rc ot_auth_check_token(const ot_auth *a, ot_slice authorization, ot_error *err) OT_CHECKED;
/* What the log shows as the actor: the header, or `unnamed` when it is absent. OT_INVALID when it
 * is too long, not UTF-8 or has control characters. */
ot_rc ot_auth_actor(ot_slice header, const char *unnamed, char out[OT_ACTOR_MAX + 1],
                    ot_error *err) OT_CHECKED;

#endif
