#include "base/hash.h"

#include "tap.h"

int main(void)
{
    char hex[OT_DIGEST_HEX];
    ot_digest d = ot_sha256_of("abc", 3);
    /* FIPS 180-4, appendix. */
    is_str(ot_digest_hex(&d, hex),
           "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "SHA-256 of abc");
    d = ot_sha256_of("", 0);
    is_str(ot_digest_hex(&d, hex),
           "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
           "SHA-256 of nothing");
    ot_sha256 c;
    ot_sha256_init(&c);
    for (int i = 0; i < 1000000; i += 1000) {
        char block[1000];
        memset(block, 'a', sizeof block);
        ot_sha256_add(&c, block, sizeof block);
    }
    d = ot_sha256_done(&c);
    is_str(ot_digest_hex(&d, hex),
           "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "a million a's");
    ot_digest e;
    ok(ot_digest_parse(hex, &e) && ot_digest_equal(&d, &e), "parse");
    e.b[31] ^= 1;
    ok(!ot_digest_equal(&d, &e), "the last bit counts");
    hex[63] = 0;
    ok(!ot_digest_parse(hex, &e), "too short");
    ok(!ot_digest_parse("CDC76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", &e),
       "upper case");
    ok(!ot_digest_parse("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0a", &e),
       "too long");

    /* The reference vector of Aumasson and Bernstein: key 00..0f, input 00..0e. */
    uint8_t key[16], in[15];
    for (uint8_t i = 0; i < 16; i++) {
        key[i] = i;
        in[i < 15 ? i : 14] = i < 15 ? i : 14;
    }
    ok(ot_siphash(in, 15, key) == 0xa129ca6149be45e5u, "SipHash-2-4's reference vector");
    ok(ot_hash_stable("x", 1, 1) != ot_hash_stable("x", 1, 2), "the salt separates");
    ok(ot_hash_stable("x", 1, 1) == ot_hash_stable("x", 1, 1), "the same everywhere");
    unsigned low = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        low += ot_hash_stable(&i, sizeof i, 7) < UINT64_MAX / 5;
    }
    ok(low > 1850 && low < 2150, "a fifth falls below a fifth (%u of 10000)", low);
    ok(ot_secret_equal("abc", "abc", 3) && !ot_secret_equal("abc", "abd", 3) &&
           ot_secret_equal("a", "b", 0),
       "secrets");
    return tap_done();
}
