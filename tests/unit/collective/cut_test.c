#include "collective/cut.h"

#include "tap.h"

#define MAX 8

/* Hosts of so many ranks each; links that are missing as "ac bc"; those that go are `want`. */
static void decides(const int32_t *ranks, int32_t n, const char *fresh, const char *missing,
                    const char *want)
{
    ot_cut_host hosts[MAX] = {0};
    uint8_t cut[MAX * MAX] = {0};
    char got[MAX + 1] = "";
    for (int32_t i = 0; i < n; i++) {
        hosts[i].ranks = ranks[i];
        hosts[i].fresh = strchr(fresh, 'a' + i) != NULL;
    }
    for (const char *p = missing; p[0] != 0; p += p[2] == ' ' ? 3 : 2) {
        cut[(p[0] - 'a') * n + (p[1] - 'a')] = 1;
    }
    ot_cut_decide(hosts, cut, n);
    for (int32_t i = 0, k = 0; i < n; i++) {
        if (hosts[i].goes) {
            got[k++] = (char)('a' + i);
        }
        bool both = !hosts[i].goes;
        for (int32_t j = 0; j < n && both; j++) {
            both = hosts[j].goes || (cut[i * n + j] == 0 && cut[j * n + i] == 0);
        }
        ok(both || hosts[i].goes, "host %c stays, and has all its links", 'a' + i);
    }
    if (!ok(strcmp(got, want) == 0, "without %s: %s", missing, want)) {
        printf("# got '%s'\n", got);
    }
}

#define DECIDES(fresh, missing, want, ...)                                                         \
    decides((const int32_t[]){__VA_ARGS__}, (int32_t)(sizeof(int32_t[]){__VA_ARGS__} / 4), fresh,  \
            missing, want)

int main(void)
{
    DECIDES("", "", "", 1, 1, 1);
    DECIDES("", "bc", "c", 1, 1, 1);                       /* a tie: the higher */
    DECIDES("", "cb", "c", 1, 1, 1);                       /* one direction is enough */
    DECIDES("", "ab ac", "a", 1, 1, 1);                    /* whom more can't reach */
    DECIDES("", "bc", "b", 1, 1, 3);                       /* counted in ranks */
    DECIDES("", "ac ad bc bd", "cd", 1, 1, 1, 1);          /* two and two */
    DECIDES("", "ac ad ae bc bd be", "ab", 1, 1, 1, 1, 1); /* two and three */
    DECIDES("", "ab", "b", 2, 2);                          /* a whole host */
    DECIDES("", "ab ac bc", "bc", 1, 1, 1);                /* each alone: the first stays */
    DECIDES("b", "ab", "b", 1, 5);                         /* the state of the job is with a */
    DECIDES("a", "ab", "a", 1, 1);
    ot_cut_host h[2] = {{.ranks = 1}, {.ranks = 3}};
    ot_cut_decide(h, (const uint8_t[]){0, 1, 0, 0}, 2);
    ok(h[0].goes && h[0].cause == 1 && h[0].missed == 3 && h[0].more, "and why is said");
    return tap_done();
}
