#include "collective/auth.h"

#include "base/hash.h"
#include "tap.h"

#include <sodium.h>
#include <string.h>

#define SECRET "a secret of this job"

static const ot_auth_who who = {.purpose = OT_AUTH_LINK,
                                .from = 3,
                                .to = 1,
                                .group = 7,
                                .lane = 1,
                                .epoch = 0x1122334455667788u};

struct talk {
    ot_auth a, b;
    uint8_t hello[OT_AUTH_HELLO], reply[OT_AUTH_REPLY], proof[OT_AUTH_PROOF];
    ot_auth_who got;
};

/* Both sides up to and with the reply's check. */
static ot_rc greet(struct talk *t, const char *other, ot_error *err)
{
    ot_auth_init(&t->a, SECRET, strlen(SECRET));
    ot_auth_init(&t->b, other, strlen(other));
    ot_auth_hello(&t->a, &who, t->hello);
    ot_rc rc = ot_auth_take_hello(&t->b, t->hello, t->reply, &t->got, err);
    return rc != OT_OK ? rc : ot_auth_take_reply(&t->a, t->reply, t->proof, err);
}

static void test_agree(void)
{
    struct talk t, again;
    ot_error err = {0};
    is_int(greet(&t, SECRET, &err), OT_OK, "the same key: the reply is taken %s", err.msg);
    is_int(ot_auth_take_proof(&t.b, t.proof, &err), OT_OK, "and the proof");
    ok(t.got.purpose == who.purpose && t.got.from == 3 && t.got.to == 1 && t.got.group == 7 &&
           t.got.lane == 1 && t.got.epoch == who.epoch,
       "who it is has come across");
    is_int(greet(&again, SECRET, &err), OT_OK, "once more");
    ok(memcmp(t.proof, again.proof, sizeof t.proof) != 0 &&
           memcmp(t.reply, again.reply, sizeof t.reply) != 0,
       "no two proofs are equal");
    is_int(ot_auth_take_proof(&again.b, t.proof, &err), OT_DENIED, "an old proof proves nothing");
}

/* The bytes on the wire, computed apart from auth.c. */
static void test_wire(void)
{
    struct talk t;
    uint8_t key[32], want[32], text[9 + OT_AUTH_HELLO + OT_AUTH_REPLY];
    crypto_auth_hmacsha256_state st;
    ok(greet(&t, SECRET, NULL) == OT_OK &&
           memcmp(t.hello, "OvertkCo\3\0\0\0\2\0\0\0\3\0\0\0", 20) == 0,
       "the hello's head");
    crypto_auth_hmacsha256_init(&st, (const unsigned char *)SECRET, strlen(SECRET));
    crypto_auth_hmacsha256_update(&st, (const unsigned char *)"overtake collective 1", 21);
    crypto_auth_hmacsha256_final(&st, key);
    memcpy(text, "initiator", 9);
    memcpy(text + 9, t.hello, OT_AUTH_HELLO);
    memcpy(text + 9 + OT_AUTH_HELLO, t.reply, OT_AUTH_REPLY);
    crypto_auth_hmacsha256(want, text, sizeof text, key);
    ok(memcmp(want, t.proof, 32) == 0, "the proof is HMAC-SHA256 of what was said");
    ok(memmem(t.hello, sizeof t.hello, SECRET, 8) == NULL, "the key does not travel");
}

static void test_other_key(void)
{
    struct talk t;
    ot_error err = {0};
    is_int(greet(&t, "another", &err), OT_DENIED, "another key: %s", err.msg);
    ok(strstr(err.msg, "another job") != NULL, "says what that means");
    memset(t.proof, 0, sizeof t.proof);
    is_int(ot_auth_take_proof(&t.b, t.proof, &err), OT_DENIED, "no proof, no entry");
    is_int(greet(&t, SECRET, &err), OT_OK, "the same key");
    memcpy(t.proof, t.reply + 32, 32);
    is_int(ot_auth_take_proof(&t.b, t.proof, &err), OT_DENIED, "its own words sent back to it");
}

static void test_foreign(void)
{
    struct talk t;
    ot_error err = {0};
    ot_auth_init(&t.b, SECRET, strlen(SECRET));
    memset(t.hello, 0, sizeof t.hello);
    memcpy(t.hello, "GET / HTTP/1.1\r\n", 16);
    is_int(ot_auth_take_hello(&t.b, t.hello, t.reply, &t.got, &err), OT_DATA_LOSS, "HTTP: %s",
           err.msg);
    (void)greet(&t, SECRET, &err);
    t.hello[12] = 9;
    is_int(ot_auth_take_hello(&t.b, t.hello, t.reply, &t.got, &err), OT_DATA_LOSS, "purpose: %s",
           err.msg);
    (void)greet(&t, SECRET, &err);
    t.hello[8] = 200;
    is_int(ot_auth_take_hello(&t.b, t.hello, t.reply, &t.got, &err), OT_UNIMPLEMENTED,
           "version: %s", err.msg);
    ok(strstr(err.msg, "version 200") != NULL && strstr(err.msg, "rank 3") != NULL, "names both");
    is_int(ot_auth_take_reply(&t.a, t.reply, t.proof, &err), OT_UNIMPLEMENTED,
           "and so does the other side: %s", err.msg);
}

/* Whatever bit is changed on the way, one of the sides says no. */
static void test_changed(void)
{
    struct talk t;
    int bad = 0;
    for (size_t bit = 0; bit < 8 * (OT_AUTH_HELLO + OT_AUTH_REPLY + OT_AUTH_PROOF); bit++) {
        size_t at = bit / 8;
        uint8_t flip = (uint8_t)(1u << bit % 8);
        ot_auth_init(&t.a, SECRET, strlen(SECRET));
        ot_auth_init(&t.b, SECRET, strlen(SECRET));
        ot_auth_hello(&t.a, &who, t.hello);
        t.hello[at < OT_AUTH_HELLO ? at : 0] ^= at < OT_AUTH_HELLO ? flip : 0;
        if (ot_auth_take_hello(&t.b, t.hello, t.reply, &t.got, NULL) != OT_OK) {
            continue;
        }
        at -= OT_AUTH_HELLO;
        t.reply[at < OT_AUTH_REPLY ? at : 0] ^= at < OT_AUTH_REPLY ? flip : 0;
        if (ot_auth_take_reply(&t.a, t.reply, t.proof, NULL) != OT_OK) {
            continue;
        }
        at -= OT_AUTH_REPLY;
        t.proof[at < OT_AUTH_PROOF ? at : 0] ^= at < OT_AUTH_PROOF ? flip : 0;
        bad += ot_auth_take_proof(&t.b, t.proof, NULL) == OT_OK;
    }
    is_int(bad, 0, "no changed bit passes");
}

int main(void)
{
    test_agree();
    test_wire();
    test_other_key();
    test_foreign();
    test_changed();
    return tap_done();
}
