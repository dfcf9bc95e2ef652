#include "collective/cut.h"

#include <stddef.h>

static bool is_cut(const uint8_t *cut, int32_t n, int32_t a, int32_t b)
{
    return a != b && (cut[(size_t)a * (size_t)n + (size_t)b] != 0 ||
                      cut[(size_t)b * (size_t)n + (size_t)a] != 0);
}

static bool goes_before(const ot_cut_host *a, const ot_cut_host *b)
{
    return a->fresh != b->fresh ? a->fresh : a->missed >= b->missed; /* a is behind b */
}

void ot_cut_decide(ot_cut_host *hosts, const uint8_t *cut, int32_t n)
{
    for (int32_t a = 0; a < n; a++) {
        hosts[a].goes = false;
        hosts[a].missed = 0;
        hosts[a].cause = -1;
        for (int32_t b = 0; b < n; b++) {
            hosts[a].missed += is_cut(cut, n, a, b) ? hosts[b].ranks : 0;
        }
    }
    for (;;) {
        ot_cut_host *worst = NULL;
        for (int32_t a = 0; a < n; a++) {
            if (!hosts[a].goes && hosts[a].missed > 0 &&
                (worst == NULL || goes_before(&hosts[a], worst))) {
                worst = &hosts[a];
            }
        }
        if (worst == NULL) {
            return;
        }
        worst->goes = true;
        for (int32_t b = n - 1; b >= 0; b--) {
            if (!hosts[b].goes && is_cut(cut, n, (int32_t)(worst - hosts), b)) {
                worst->cause = b;
                worst->more = worst->missed > hosts[b].missed;
                hosts[b].missed -= worst->ranks;
            }
        }
    }
}
