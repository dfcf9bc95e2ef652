#include "base/crc32c.h"

#include "base/random.h"
#include "tap.h"

int main(void)
{
    /* RFC 3720, B.4, and the check value of the catalogue of CRCs. */
    uint8_t b[300] = {0};
    is_int(ot_crc32c(b, 32), 0x8a9136aa, "32 zeros");
    is_int(ot_crc32c_portable(b, 32), 0x8a9136aa, "by tables");
    memset(b, 0xff, 32);
    is_int(ot_crc32c(b, 32), 0x62a8ab43, "32 ones");
    is_int(ot_crc32c("123456789", 9), 0xe3069283, "nine digits");
    is_int(ot_crc32c(b, 0), 0, "nothing");
    ot_rng r;
    ot_rng_seed(&r, 1);
    for (size_t i = 0; i < sizeof b; i++) {
        b[i] = (uint8_t)ot_rng_next(&r);
    }
    bool same = true;
    for (size_t at = 0; at < 16; at++) {
        for (size_t n = 0; n <= sizeof b - at; n++) {
            same = same && ot_crc32c(b + at, n) == ot_crc32c_portable(b + at, n);
        }
    }
    ok(same, "the instruction and the tables agree, at any address and length");
    return tap_done();
}
