/* What this rank's time goes to: an account that is always kept, and a ring of what happened, for a
 * timeline, while one is asked for.
 *
 * The account begins when the first operation has ended: what comes before it is start-up. Of the
 * time since then the program is blocked in waits (for ranks that had not asked yet: late; else for
 * the wire), waits for input as it says itself, and computes the rest.
 *
 * Who is late is known from the headers of messages: each carries the time at which the last rank
 * that its sender knows of had asked for the operation, on the clock of the meeting point, and all
 * who wait for bytes hear of it along with them.
 *
 * Threads: any. Lifetime: create/destroy. Times are of ot_clock_mono_ns of this process, unless
 * they are said to be of the common clock. */
#ifndef OT_COLLECTIVE_TRACE_H
#define OT_COLLECTIVE_TRACE_H

#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define OT_TRACE_EVENTS 32768                /* in the ring; the oldest give way */
#define OT_TRACE_NAME 96                     /* longer names are cut short from the front */
#define OT_TRACE_TEXT_MAX ((size_t)96 << 20) /* of a rank's events as text */

/* The last to ask for an operation, as far as it is known. */
typedef struct ot_late {
    uint64_t ns;  /* on the common clock; 0: not known */
    int32_t rank; /* of the world */
} ot_late;

/* When an operation was where; 0: not yet. */
typedef struct ot_times {
    uint64_t begun;  /* in its turn: all of its bucket are here */
    uint64_t active; /* its turn has come */
    uint64_t packed;
    uint64_t wired;                             /* all bytes are here and reduced */
    uint64_t reduce_first, reduce_last, reduce; /* reduce: the sum of the pieces between the two */
} ot_times;

typedef struct ot_trace_op {
    const char *name;
    uint8_t kind, dtype, lane;
    uint32_t companions; /* tensors in its bucket */
    uint64_t seq, epoch, bytes;
    uint64_t asked, done;
    ot_times times;
    ot_late late;
} ot_trace_op;

/* Microseconds since the account began; all are part of `wall`. */
typedef struct ot_account {
    uint64_t wall, blocked, late, input; /* late is part of blocked */
    uint64_t wire;                       /* operations were under way that no late rank held up */
    uint64_t steps;     /* as the program marks them, else repetitions of the plan */
    uint64_t late_most; /* part of late, put down to late_rank */
    int32_t late_rank;  /* -1: none */
    /* What the sums of F32 take by the cost model, over links that were measured: as they are, and
     * as OT_LOSS_ANY would have them. Not part of `wall`. */
    uint64_t exact, lossy;
} ot_account;

typedef struct ot_trace ot_trace;

ot_rc ot_trace_create(int32_t rank, int32_t size, ot_trace **out, ot_error *err) OT_CHECKED;
void ot_trace_destroy(ot_trace *t);

/* The common clock is this one and `offset_ns`, which is right to `error_ns`. */
void ot_trace_clock(ot_trace *t, int64_t offset_ns, uint64_t error_ns);
/* This rank asked at `ns`. */
ot_late ot_trace_asked(const ot_trace *t, uint64_t ns);
/* The later one of the two. */
static inline ot_late ot_late_later(ot_late a, ot_late b)
{
    return b.ns > a.ns ? b : a;
}

/* --- the account: NULL for `t` is no account ------------------------------------------------- */

/* A bucket has ended; repeats: it is of a plan (epoch), told apart by `hash`. */
void ot_trace_ran(ot_trace *t, const ot_times *times, ot_late late, uint64_t epoch, uint64_t hash);
/* A sum is predicted to take so long, and so long if bits might be lost. */
void ot_trace_predicted(ot_trace *t, double exact_us, double lossy_us);
/* The program waits for an operation, until unblock: by then it is known who was late. */
void ot_trace_block(ot_trace *t);
void ot_trace_unblock(ot_trace *t, const char *name, ot_late late);
void ot_trace_step(ot_trace *t);
/* The program has waited for input until now. */
void ot_trace_input(ot_trace *t, uint64_t us);
ot_account ot_trace_account(ot_trace *t);

/* --- the ring -------------------------------------------------------------------------------- */

/* OT_PRECONDITION: it is on already. */
ot_rc ot_trace_start(ot_trace *t, ot_error *err) OT_CHECKED;
bool ot_trace_on(const ot_trace *t);
void ot_trace_op_add(ot_trace *t, const ot_trace_op *op);
/* The progress thread slept because bytes of this rank were not there; pieces that follow closely
 * are put together. */
void ot_trace_waited(ot_trace *t, int32_t rank, const char *name, uint64_t from, uint64_t to);

typedef struct ot_trace_info {
    uint64_t events, dropped;
    int64_t offset_ns;
    uint64_t error_ns;
    bool clock_known;
} ot_trace_info;

/* Off; what was recorded is appended as events of Chrome's trace format, one a line, each with a
 * comma behind it, times on the common clock; the first ones name process and threads.
 * OT_PRECONDITION: it is not on. */
ot_rc ot_trace_stop(ot_trace *t, const char *host, ot_str *out, ot_trace_info *info_out,
                    ot_error *err) OT_CHECKED;
/* A file of those: `events` as above; `other` is a JSON object. */
void ot_trace_file(ot_str *out, const char *other, const char *events, size_t n);
/* What is said about a rank: a JSON object. */
void ot_trace_info_text(ot_str *out, int32_t rank, const char *host, const ot_trace_info *info);

#endif
