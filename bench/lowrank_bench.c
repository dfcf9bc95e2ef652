/* links: collective base */
/* What low rank costs one core: each of its passes over square matrices that together are larger
 * than the caches, a copy of one beside them.
 *
 *     lowrank_bench [SIDE [COUNT]]      (1024, 12)
 *
 * One JSON line a pass and rank: the least, and the median, of microseconds a matrix. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "collective/lowrank.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 15
#define COUNT_MAX 64
#define SIDE_MAX 4096
#define RANK_MAX 16

enum { BEGIN, MIDDLE, END, COPY, PASSES };
static const char *const names[] = {"begin", "middle", "end", "copy"};

static void *room(size_t n)
{
    float *x = ot_calloc(n, sizeof *x);
    if (x == NULL) {
        fputs("lowrank_bench: no memory\n", stderr);
        exit(1);
    }
    return x;
}

static ot_lowrank matrix(size_t side, uint64_t seed)
{
    ot_lowrank l = {.rows = side, .cols = side, .in_step = side, .out_step = side, .before = 1};
    float *numbers = room(side * side);
    ot_rng r;
    ot_rng_seed(&r, seed);
    for (size_t i = 0; i < side * side; i++) {
        numbers[i] = (float)ot_rng_uniform(&r) - 0.5f;
    }
    l.in = l.out = numbers;
    l.after = 1;
    l.residual = room(side * side);
    l.p = room(RANK_MAX * side);
    l.q = room(RANK_MAX * side);
    l.sums = room(RANK_MAX * side);
    return l;
}

static void pass(ot_lowrank *l, int which, float *other)
{
    switch (which) {
    case BEGIN:
        ot_lowrank_begin(l);
        break;
    case MIDDLE:
        ot_lowrank_middle(l);
        break;
    case END:
        (void)ot_lowrank_end(l, 1);
        break;
    default:
        memcpy(other, l->in, l->rows * l->cols * sizeof *other);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    size_t side = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;
    size_t count = argc > 2 ? strtoul(argv[2], NULL, 10) : 12;
    static ot_lowrank all[COUNT_MAX];
    static double us[PASSES][ROUNDS * COUNT_MAX];
    if (side < 64 || side > SIDE_MAX || count < 1 || count > COUNT_MAX) {
        fprintf(stderr, "lowrank_bench: SIDE is 64 to %d, COUNT 1 to %d\n", SIDE_MAX, COUNT_MAX);
        return 2;
    }
    float *copy = room(side * side);
    for (size_t i = 0; i < count; i++) {
        all[i] = matrix(side, i);
    }
    for (size_t rank = 4; rank <= RANK_MAX; rank *= 2) {
        for (size_t i = 0; i < count; i++) {
            all[i].rank = rank;
            ot_lowrank_seed(&all[i]);
        }
        for (size_t n = 0; n < ROUNDS * PASSES * count; n++) {
            /* One pass over all, then the next: a matrix is cold when it is its turn again. */
            size_t round = n / (PASSES * count), p = n / count % PASSES, i = n % count;
            uint64_t start = ot_clock_mono_ns();
            pass(&all[i], (int)p, copy);
            us[p][round * count + i] = (double)(ot_clock_mono_ns() - start) / 1e3;
        }
        for (int p = 0; p < PASSES; p++) {
            qsort(us[p], ROUNDS * count, sizeof us[p][0], by_value);
            printf("{\"bench\":\"lowrank\",\"pass\":\"%s\",\"side\":%zu,\"rank\":%zu,"
                   "\"us_least\":%.0f,\"us_p25\":%.0f,\"us_median\":%.0f}\n",
                   names[p], side, rank, us[p][0], us[p][ROUNDS * count / 4],
                   us[p][ROUNDS * count / 2]);
        }
    }
    return 0;
}
