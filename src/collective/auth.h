/* Proof of the job's key on every socket: a challenge in both directions, HMAC-SHA256 (RFC 2104, by
 * libsodium). The key itself never travels. Pure: the caller moves the bytes.
 *
 *     initiator -> acceptor   hello: magic, version, purpose, from, to, group, lane, nonce
 *     acceptor -> initiator   reply: nonce, HMAC(key, "acceptor" | hello | nonce)
 *     initiator -> acceptor   proof: HMAC(key, "initiator" | hello | reply)
 *
 * Threads: any. */
#ifndef OT_COLLECTIVE_AUTH_H
#define OT_COLLECTIVE_AUTH_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define OT_AUTH_KEY_MAX 128
#define OT_AUTH_HELLO 128 /* bytes on the wire */
#define OT_AUTH_REPLY 64
#define OT_AUTH_PROOF 32

typedef enum ot_auth_purpose {
    OT_AUTH_MEMBER, /* a rank to the meeting point */
    OT_AUTH_AGENT,  /* the agent of a host to the meeting point */
    OT_AUTH_LINK,   /* a rank to a rank */
} ot_auth_purpose;

typedef struct ot_auth_who {
    ot_auth_purpose purpose;
    int32_t from, to;    /* ranks of the world; -1: none */
    int32_t group, lane; /* LINK */
    uint64_t epoch;      /* of the membership */
} ot_auth_who;

typedef struct ot_auth {
    uint8_t key[32]; /* derived from the job's secret */
    uint8_t hello[OT_AUTH_HELLO], reply[OT_AUTH_REPLY];
} ot_auth;

void ot_auth_init(ot_auth *a, const void *secret, size_t n);
void ot_auth_hello(ot_auth *a, const ot_auth_who *who, uint8_t out[OT_AUTH_HELLO]);
/* OT_DATA_LOSS: not our protocol (a port scan). OT_UNIMPLEMENTED: another version, named; `out`
 * then holds what tells the initiator so, to be sent before closing. */
ot_rc ot_auth_take_hello(ot_auth *a, const uint8_t in[OT_AUTH_HELLO], uint8_t out[OT_AUTH_REPLY],
                         ot_auth_who *who_out, ot_error *err) OT_CHECKED;
/* OT_DENIED: another key; OT_UNIMPLEMENTED: the acceptor speaks another version. */
ot_rc ot_auth_take_reply(ot_auth *a, const uint8_t in[OT_AUTH_REPLY], uint8_t out[OT_AUTH_PROOF],
                         ot_error *err) OT_CHECKED;
ot_rc ot_auth_take_proof(ot_auth *a, const uint8_t in[OT_AUTH_PROOF], ot_error *err) OT_CHECKED;

#endif
