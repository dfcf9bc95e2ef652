/* Which rank is the how-manieth of its machine. */
#include "base/mem.h"
#include "collective/meet_wire.h"

#include <string.h>

/* first[r]: the lowest rank on the machine of r. */
static void find_first(const ot_member *m, int32_t n, int32_t *first)
{
    for (int32_t r = 0; r < n; r++) {
        first[r] = r;
        for (int32_t q = 0; q < r; q++) {
            if (first[q] == q && strcmp(m[q].machine, m[r].machine) == 0) {
                first[r] = q;
                break;
            }
        }
    }
}

ot_rc ot_meet_place(ot_member *m, int32_t n)
{
    int32_t *first = ot_calloc(2 * (size_t)n, sizeof *first);
    if (first == NULL) {
        return OT_EXHAUSTED;
    }
    int32_t *at = first + n; /* at[k]: machines with a kth rank so far */
    find_first(m, n, first);
    for (int32_t r = 0; r < n; r++) {
        m[r].local_size = 0;
    }
    for (int32_t r = 0; r < n; r++) {
        m[r].local_rank = m[first[r]].local_size++;
    }
    for (int32_t f = 0; f < n; f++) {
        for (int32_t r = f; r < n && first[f] == f; r++) {
            if (first[r] == f) {
                m[r].cross_rank = at[m[r].local_rank]++;
            }
        }
    }
    for (int32_t r = 0; r < n; r++) {
        m[r].local_size = m[first[r]].local_size;
        m[r].cross_size = at[m[r].local_rank];
    }
    ot_free(first);
    return OT_OK;
}
