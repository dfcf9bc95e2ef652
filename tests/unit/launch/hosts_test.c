#include "launch/hosts.h"

#include "base/mem.h"
#include "tap.h"

static ot_job_hosts h;
static ot_error err;

static bool is(size_t i, const char *name, int32_t slots)
{
    return i < h.n && strcmp(h.v[i].name, name) == 0 && h.v[i].slots == slots;
}

static ot_rc list(const char *text)
{
    ot_job_hosts_done(&h);
    err = (ot_error){0};
    return ot_job_hosts_list(&h, text, &err);
}

static ot_rc file(const char *text)
{
    ot_job_hosts_done(&h);
    err = (ot_error){0};
    return ot_job_hosts_file(&h, text, "hosts.txt", &err);
}

int main(void)
{
    ok(list("a") == OT_OK && h.n == 1 && is(0, "a", 1), "one");
    ok(list("a:2,b.example:30,me@c") == OT_OK && h.n == 3 && is(0, "a", 2) &&
           is(1, "b.example", 30) && is(2, "me@c", 1),
       "three");
    ok(list("a:2,b,a:3") == OT_OK && h.n == 2 && is(0, "a", 5), "the same again has more");
    ok(list("[::1]:2,[fe80::1%eth0]") == OT_OK && is(0, "::1", 2) && is(1, "fe80::1%eth0", 1),
       "IPv6");
    static const char *const bad[] = {"",       "a,",        "a:",   "a:x",  "a:0",       "a:-1",
                                      "a:4097", "-oProxy=x", "a b",  "a;b",  "[::1:2",    "[::1]x",
                                      ":2",     "a:2:x ",    "$(x)", "a\nb", "a\x1b[31m", ",a"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(list(bad[i]) == OT_INVALID, "refused: %s", err.msg);
    }
    char big[600];
    memset(big, 'h', sizeof big);
    big[599] = 0;
    ok(list(big) == OT_INVALID, "too long a name");

    ok(file("# mine\n a slots=2 # two\r\n\nb:3\nc\n") == OT_OK && h.n == 3 && is(0, "a", 2) &&
           is(1, "b", 3) && is(2, "c", 1),
       "a file");
    ok(file("a slots=4") == OT_OK && is(0, "a", 4), "without an end of line");
    ok(file("a\nb max=3\n") == OT_INVALID && strstr(err.msg, "hosts.txt:2") != NULL, "%s", err.msg);
    ok(file("a slots=\n") == OT_INVALID, "%s", err.msg);
    ok(file("# none\n") == OT_INVALID, "%s", err.msg);

    ot_job_hosts_done(&h);
    ok(ot_job_hosts_slurm(&h, "n[08-10,3],m1,r[1-2]c[7]", "2(x3),1,4(x2)", &err) == OT_OK &&
           h.n == 7 && is(0, "n08", 2) && is(1, "n09", 2) && is(2, "n10", 2) && is(3, "n3", 1) &&
           is(4, "m1", 4) && is(5, "r1c7", 4) && is(6, "r2c7", 4),
       "a Slurm allocation %s", err.msg);
    static const char *const no_nodes[] = {"",       "n[1-",         "n[]",        "n[x]",
                                           "n[3-1]", "n[1-]",        "n[1-99999]", "-o[1]",
                                           "n[1]]",  "n[0000000001]"};
    for (size_t i = 0; i < OT_COUNT(no_nodes); i++) {
        ot_job_hosts_done(&h);
        ok(ot_job_hosts_slurm(&h, no_nodes[i], "1", &err) == OT_INVALID, "refused: %s", err.msg);
    }
    ot_job_hosts_done(&h);
    ok(ot_job_hosts_slurm(&h, "a,b", "x", &err) == OT_OK && is(1, "b", 1), "tasks not told: one");

    int32_t np = 0;
    ok(list("a:2,b:2,c:2") == OT_OK && ot_job_hosts_deal(&h, 3, false, &np, &err) == OT_OK &&
           np == 3 && h.n == 2 && h.v[0].ranks == 2 && h.v[1].first == 2 && h.v[1].ranks == 1,
       "3 ranks on the first two");
    ok(list("a:2,b:2") == OT_OK && ot_job_hosts_deal(&h, 0, false, &np, &err) == OT_OK && np == 4,
       "all slots");
    ok(list("a:2") == OT_OK && ot_job_hosts_deal(&h, 3, false, &np, &err) == OT_EXHAUSTED, "%s",
       err.msg);
    ot_job_hosts_done(&h);
    return tap_done();
}
