#include "serve/guests.h"

#include "base/hash.h"
#include "tap.h"

#include <string.h>

#define SEC UINT64_C(1000000000)
#define NOW (1000 * SEC)

/* 10.x.y.z as IPv6 has it. */
static const uint8_t *v4(uint32_t host)
{
    static uint8_t ip[OT_SOCK_IP];
    memset(ip, 0, sizeof ip);
    ip[10] = ip[11] = 0xff;
    ip[12] = 10;
    for (unsigned i = 0; i < 3; i++) {
        ip[13 + i] = (uint8_t)(host >> (8 * (2 - i)));
    }
    return ip;
}

static int let_in(ot_guests *g, uint32_t host, int n, uint64_t now)
{
    ot_denial why;
    int got = 0;
    for (int i = 0; i < n; i++) {
        got += ot_guests_may_ip(g, v4(host), now, &why);
    }
    return got;
}

static ot_guests *guests(double each, double all)
{
    ot_guests *g = NULL;
    ot_error err;
    if (ot_guests_create(each, all, &g, &err) != OT_OK) {
        ok(false, "%s", err.msg);
    }
    return g;
}

static void each(void)
{
    ot_guests *g = guests(10, 0);
    ot_denial why = {0};
    ot_guests_counts n;
    is_int(let_in(g, 1, 30, NOW), 10, "a second's worth from one address");
    ok(!ot_guests_may_ip(g, v4(1), NOW, &why) && why.status == 429 && why.retry_s == 1,
       "then when to come again: %s", why.err.msg);
    is_int(let_in(g, 2, 30, NOW), 10, "another has its own");
    is_int(let_in(g, 1, 30, NOW + SEC / 2), 5, "it fills again");
    ok(ot_guests_may_ip(g, NULL, NOW, &why), "what has no address is not held by it");
    ot_guests_counts_get(g, &n);
    is_int((long long)n.admitted, 26, "counted: let in");
    is_int((long long)n.limited_each, 66, "and not");
    uint8_t a[OT_SOCK_IP] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1}, b[OT_SOCK_IP], c[OT_SOCK_IP];
    memcpy(b, a, sizeof b);
    memcpy(c, a, sizeof c);
    b[15] = 7;
    c[7] = 2;
    for (int i = 0; i < 10; i++) {
        ok(ot_guests_may_ip(g, a, NOW, &why), "an IPv6 host");
    }
    ok(!ot_guests_may_ip(g, b, NOW, &why), "the same one under another address");
    ok(ot_guests_may_ip(g, c, NOW, &why), "another network");
    ot_guests_destroy(g);
}

static void all(void)
{
    ot_guests *g = guests(10, 25);
    ot_denial why = {0};
    ot_guests_counts n;
    is_int(let_in(g, 1, 30, NOW) + let_in(g, 2, 30, NOW) + let_in(g, 3, 30, NOW), 25, "together");
    ok(!ot_guests_may_ip(g, v4(4), NOW, &why) && strstr(why.err.msg, "together") != NULL,
       "a new one too: %s", why.err.msg);
    ot_guests_counts_get(g, &n);
    is_int((long long)n.limited_all, 6, "counted apart");
    ot_guests_destroy(g);
    g = guests(0, 5);
    is_int(let_in(g, 1, 30, NOW), 5, "alone it is one for all");
    ot_guests_destroy(g);
}

/* More addresses than there is room for: the table takes no more memory, none is let in without
 * limit, and those that came first keep what is theirs. */
static void many(void)
{
    ot_guests *g = guests(2, 0);
    ot_denial why;
    uint64_t in = 0;
    is_int(let_in(g, 1, 5, NOW), 2, "one address");
    for (uint32_t i = 2; i < 20 * OT_GUESTS_MAX; i++) {
        in += ot_guests_may_ip(g, v4(i), NOW, &why);
    }
    ok(in > OT_GUESTS_MAX / 2 && in <= 2 * OT_GUESTS_MAX, "%llu are let in while it is full",
       (unsigned long long)in);
    is_int(let_in(g, 1, 5, NOW), 0, "the first is still known");
    is_int(let_in(g, 20 * OT_GUESTS_MAX, 5, NOW + 2 * SEC), 2, "idle ones make room");
    ot_guests_destroy(g);
}

int main(void)
{
    each();
    all();
    many();
    ot_guests_destroy(NULL);
    return tap_done();
}
