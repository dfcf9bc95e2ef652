#include "collective/auth.h"

#include "base/hash.h"
#include "base/random.h"

#include <inttypes.h>
#include <sodium.h>
#include <string.h>

/*  hello   0 magic 8 | version 4 | purpose 4 | from 4 | to 4 | group 4 | lane 4 | epoch 8 | nonce
 * 32 | zeros reply   0 nonce 32 | mac 32            or, of another version: magic 8 | version 4 |
 * zeros proof   0 mac 32 Numbers are little-endian. */
#define MAGIC "OvertkCo"
#define VERSION 3u
#define NONCE_AT 40
#define NONCE 32
#define MAC 32

_Static_assert(crypto_auth_hmacsha256_BYTES == MAC, "the length of HMAC-SHA256");

static void put32(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(x >> 8 * i);
    }
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* HMAC of the label, the hello and n bytes of the reply. The labels keep the proof of one side from
 * being sent back as the other's. */
static void mac_of(const ot_auth *a, const char *label, size_t n, uint8_t out[MAC])
{
    union {
        const char *c;
        const unsigned char *u;
    } text = {.c = label};
    crypto_auth_hmacsha256_state st;
    crypto_auth_hmacsha256_init(&st, a->key, sizeof a->key);
    crypto_auth_hmacsha256_update(&st, text.u, strlen(label));
    crypto_auth_hmacsha256_update(&st, a->hello, sizeof a->hello);
    crypto_auth_hmacsha256_update(&st, a->reply, n);
    crypto_auth_hmacsha256_final(&st, out);
}

void ot_auth_init(ot_auth *a, const void *secret, size_t n)
{
    static const unsigned char use[] = "overtake collective 1";
    memset(a, 0, sizeof *a);
    crypto_auth_hmacsha256_state st;
    crypto_auth_hmacsha256_init(&st, secret, n);
    crypto_auth_hmacsha256_update(&st, use, sizeof use - 1);
    crypto_auth_hmacsha256_final(&st, a->key);
}

void ot_auth_hello(ot_auth *a, const ot_auth_who *who, uint8_t out[OT_AUTH_HELLO])
{
    memset(a->hello, 0, sizeof a->hello);
    memcpy(a->hello, MAGIC, 8);
    put32(a->hello + 8, VERSION);
    put32(a->hello + 12, who->purpose);
    put32(a->hello + 16, (uint32_t)who->from);
    put32(a->hello + 20, (uint32_t)who->to);
    put32(a->hello + 24, (uint32_t)who->group);
    put32(a->hello + 28, (uint32_t)who->lane);
    put32(a->hello + 32, (uint32_t)who->epoch);
    put32(a->hello + 36, (uint32_t)(who->epoch >> 32));
    ot_random_bytes(a->hello + NONCE_AT, NONCE);
    memcpy(out, a->hello, OT_AUTH_HELLO);
}

ot_rc ot_auth_take_hello(ot_auth *a, const uint8_t in[OT_AUTH_HELLO], uint8_t out[OT_AUTH_REPLY],
                         ot_auth_who *who_out, ot_error *err)
{
    if (memcmp(in, MAGIC, 8) != 0) {
        return ot_fail(err, OT_DATA_LOSS,
                       "what came is not the protocol of a training job (a port scan, or another "
                       "program that was given this port)");
    }
    if (get32(in + 8) != VERSION) {
        memset(out, 0, OT_AUTH_REPLY);
        memcpy(out, MAGIC, 8);
        put32(out + 8, VERSION);
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "rank %" PRId32 " speaks version %" PRIu32 " of the protocol, this process "
                       "version %u; install the same Overtake on all hosts",
                       (int32_t)get32(in + 16), get32(in + 8), VERSION);
    }
    uint32_t purpose = get32(in + 12);
    if (purpose > OT_AUTH_LINK) {
        return ot_fail(err, OT_DATA_LOSS, "a connection for purpose %" PRIu32 ", which is none",
                       purpose);
    }
    memcpy(a->hello, in, sizeof a->hello);
    ot_random_bytes(a->reply, NONCE);
    mac_of(a, "acceptor", NONCE, a->reply + NONCE);
    memcpy(out, a->reply, OT_AUTH_REPLY);
    *who_out = (ot_auth_who){.purpose = (ot_auth_purpose)purpose,
                             .from = (int32_t)get32(in + 16),
                             .to = (int32_t)get32(in + 20),
                             .group = (int32_t)get32(in + 24),
                             .lane = (int32_t)get32(in + 28),
                             .epoch = get32(in + 32) | (uint64_t)get32(in + 36) << 32};
    return OT_OK;
}

ot_rc ot_auth_take_reply(ot_auth *a, const uint8_t in[OT_AUTH_REPLY], uint8_t out[OT_AUTH_PROOF],
                         ot_error *err)
{
    if (memcmp(in, MAGIC, 8) == 0) {
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "the other side speaks version %" PRIu32 " of the protocol, this process "
                       "version %u; install the same Overtake on all hosts",
                       get32(in + 8), VERSION);
    }
    uint8_t want[MAC];
    memcpy(a->reply, in, sizeof a->reply);
    mac_of(a, "acceptor", NONCE, want);
    if (!ot_secret_equal(want, in + NONCE, MAC)) {
        return ot_fail(err, OT_DENIED,
                       "the other side holds another key: it belongs to another job");
    }
    mac_of(a, "initiator", sizeof a->reply, out);
    return OT_OK;
}

ot_rc ot_auth_take_proof(ot_auth *a, const uint8_t in[OT_AUTH_PROOF], ot_error *err)
{
    uint8_t want[MAC];
    mac_of(a, "initiator", sizeof a->reply, want);
    return ot_secret_equal(want, in, MAC)
               ? OT_OK
               : ot_fail(err, OT_DENIED,
                         "the other side holds another key: it belongs to another job");
}
