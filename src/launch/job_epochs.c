/* The epochs of an elastic job, as the launcher hears of them. */
#include "base/clock.h"
#include "base/mem.h"
#include "launch/job_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAMED_MAX 16

void job_wake(job *j)
{
    uint64_t one = 1;
    ssize_t k = write(j->wake_fd, &one, sizeof one);
    (void)k; /* full: it is awake */
}

/* What the last epoch has done counts on; the pulses to come are those of other ranks. */
static void add_pulses(job *j)
{
    size_t bytes = OT_MEET_RANKS_MAX * sizeof *j->pulses;
    uint64_t steps = 0, operations = 0;
    for (int32_t r = 0; r < OT_MEET_RANKS_MAX; r++) {
        const ot_pulse *p = &j->pulses[r];
        steps = OT_MAX(steps, p->steps);
        operations = OT_MAX(operations, p->operations);
        j->before.samples += p->samples;
        j->before.bytes_out += p->bytes_out;
    }
    j->before.steps += steps;
    j->before.operations += operations;
    memset(j->pulses, 0, bytes);
    memset(j->pulses_before, 0, bytes);
}

void job_elastic_formed(void *arg, uint64_t epoch, const int32_t *processes, int32_t n)
{
    job *j = arg;
    pthread_mutex_lock(&j->lock);
    add_pulses(j);
    if (j->timeline != NULL) {
        ot_job_timeline_ranks(j->timeline, n);
    }
    j->formed = epoch;
    j->size_next = n;
    memcpy(j->members_next, processes, (size_t)n * sizeof *processes);
    pthread_mutex_unlock(&j->lock);
    job_wake(j);
}

/* Of the survivors, the ranks that they had: ": ranks 0, 2 of epoch 1"; "" if nobody is lost. */
static void name_survivors(const job *j, int32_t before, char out[240])
{
    char names[160] = "";
    int32_t stay = 0;
    size_t n = 0;
    for (int32_t r = 0; r < j->size; r++) {
        const job_rank *k = &j->ranks[j->members[r]];
        if (k->epoch > 0 && stay++ < NAMED_MAX) {
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%" PRId32, n > 0 ? ", " : "",
                                  k->rank);
        }
    }
    if (stay > NAMED_MAX) {
        snprintf(names + n, sizeof names - n, " and %" PRId32 " more", stay - NAMED_MAX);
    }
    out[0] = 0;
    if (stay < before && j->epoch > 1) {
        snprintf(out, 240, ": rank%s %s of epoch %" PRIu64, stay == 1 ? "" : "s", names,
                 j->epoch - 1);
    }
}

static void say_formed(job *j, int32_t fresh, int32_t before, const char *stayed)
{
    char more[64] = "";
    if (fresh > 0) {
        snprintf(more, sizeof more, ", %" PRId32 " of them new", fresh);
    }
    if (j->epoch > 1) {
        ot_job_print_say(j->print, "going on with %" PRId32 " rank%s%s (epoch %" PRIu64 ")%s",
                         j->size, j->size == 1 ? "" : "s", more, j->epoch, stayed);
    } else if (j->size != before) {
        ot_job_print_say(j->print, "beginning with %" PRId32 " of %" PRId32 " ranks", j->size,
                         before);
    }
}

static void keep(job *j, int32_t fresh)
{
    job_epoch *e = &j->epochs[(j->epoch - 1) % JOB_EPOCHS_KEPT];
    *e = (job_epoch){
        .number = j->epoch, .size = j->size, .fresh = fresh, .began_us = ot_clock_wall_us()};
}

void job_epoch_lost(job *j, uint64_t epoch)
{
    job_epoch *e = &j->epochs[(OT_MAX(epoch, (uint64_t)1) - 1) % JOB_EPOCHS_KEPT];
    e->lost += e->number == epoch;
}

void job_epochs_json(const job *j, ot_str *out)
{
    uint64_t first = j->epoch > JOB_EPOCHS_KEPT ? j->epoch - JOB_EPOCHS_KEPT : 0;
    bool any = false;
    ot_str_addf(out, ",\"epoch\":%" PRIu64 ",\"epochs\":[", j->epoch);
    for (uint64_t i = first; i < j->epoch; i++) {
        const job_epoch *e = &j->epochs[i % JOB_EPOCHS_KEPT];
        if (e->number != i + 1) {
            continue; /* over before it was heard of */
        }
        ot_str_addf(out,
                    "%s{\"epoch\":%" PRIu64 ",\"began_us\":%" PRId64 ",\"np\":%" PRId32
                    ",\"new\":%" PRId32 ",\"lost\":%" PRId32 "}",
                    any ? "," : "", e->number, e->began_us, e->size, e->fresh, e->lost);
        any = true;
    }
    ot_str_addc(out, ']');
}

void job_take_formed(job *j)
{
    int32_t before = j->size, fresh = 0;
    char stayed[240];
    pthread_mutex_lock(&j->lock);
    bool news = j->formed > j->epoch;
    if (news) {
        for (int32_t r = 0; r < before; r++) {
            j->ranks[j->members[r]].member = false;
        }
        j->epoch = j->formed;
        j->size = j->size_next;
        memcpy(j->members, j->members_next, (size_t)j->size * sizeof *j->members);
    }
    pthread_mutex_unlock(&j->lock);
    if (!news) {
        return;
    }
    name_survivors(j, before, stayed);
    for (int32_t r = 0; r < j->size; r++) {
        job_rank *k = &j->ranks[j->members[r]];
        fresh += k->epoch == 0 && j->epoch > 1;
        k->member = true;
        k->rank = r;
        k->epoch = j->epoch;
        k->lost = k->ended && k->code != 0; /* since, and it was taken for one that waits */
    }
    j->result->epochs = (int32_t)j->epoch;
    j->result->admitted += fresh;
    j->first_lost = -1;
    keep(j, fresh);
    say_formed(j, fresh, before, stayed);
    job_elastic_check(j);
}
