/* What a host and the worker process of an isolated model share.
 *
 * Two channels. Rare things (load, a new lane, a new piece of memory, cancel) are messages on a
 * socket: JSON, each answered, see docs/isolation.md. Runs go through memory: each instance has a
 * lane, which is this struct in a memory file of its own, and segments, memory files that hold the
 * data. The host makes all of them, sealed against a change of size, and hands them over by
 * descriptor; segment 0 is what the worker reads, the others are what it writes.
 *
 * A lane has one run at a time and one side whose turn it is: it writes its part, adds one to its
 * turn and wakes the other. The host copies an answer before it checks it, because the worker can
 * change it at any time, and believes nothing in it.
 * The layout is part of the protocol: plugins/python/worker.py knows it by offset. */
#ifndef OT_RUNTIME_RING_H
#define OT_RUNTIME_RING_H

#include "overtake/plugin.h"
#include "runtime/runtime.h"

#include <stdatomic.h>
#include <stdbool.h>

#define OT_RING_VERSION 1u
#define OT_RING_SEGMENTS_MAX 16 /* of a lane; number 0 is the inputs */
#define OT_RING_LANES_MAX 256   /* of a worker process */
#define OT_RING_ALIGN 64u       /* of a tensor in a segment */
#define OT_RING_SEGMENT_MAX (UINT64_C(4) << 30)
#define OT_RING_TEXT_MAX (4u << 20) /* of a message on the socket */
#define OT_RING_CONTROL_FD 3        /* in the worker */

enum { OT_ASK_RUN = 1, OT_ASK_GO_ON = 2, OT_ASK_CLOSE = 3 };
enum { OT_ANSWER_RESPONSE = 1, OT_ANSWER_ROOM = 2 };

typedef struct ot_ring_tensor {
    int32_t dtype, rank;
    int64_t dims[OT_RANK_MAX];
    uint64_t offset, size; /* in its segment */
} ot_ring_tensor;

typedef struct ot_ring_wanted {
    uint32_t index; /* of the signature's outputs */
    uint32_t reserved;
    uint64_t offset, capacity; /* where it should lie; 0: no place is known yet */
} ot_ring_wanted;

/* RUN: a submission. GO_ON: the rest goes to another segment (out_segment, out_size). */
typedef struct ot_ring_ask {
    uint32_t kind, out_segment;
    uint32_t n_inputs, n_outputs, n_parts;
    uint32_t look_us; /* how long the worker may look for the next ask before it falls asleep */
    uint64_t ticket, deadline_ns;
    uint64_t parts_offset; /* overtake_part[n_parts] in segment 0 */
    uint64_t out_size;
    ot_ring_tensor inputs[OT_RUNTIME_INPUTS_MAX];
    ot_ring_wanted outputs[OT_RUNTIME_OUTPUTS_MAX];
} ot_ring_ask;

/* RESPONSE: one of the run's; the host asks to GO_ON unless it is final. ROOM: `need` bytes are
 * needed for the outputs; the host asks to GO_ON with as much. */
typedef struct ot_ring_answer {
    uint32_t kind, flags; /* OVERTAKE_RESPONSE_FINAL */
    int32_t status;
    uint32_t sequence, n_outputs, has_parts;
    uint64_t ticket, need;
    uint64_t parts_offset; /* int32_t[n_parts] in the output segment */
    ot_ring_tensor outputs[OT_RUNTIME_OUTPUTS_MAX];
    char message[OVERTAKE_ERROR_MAX];
} ot_ring_answer;

typedef struct ot_ring {
    uint32_t version, reserved;
    /* Synchronization: the turns are futexes, on cache lines of their own; beside each is the
     * processor that its side was on when it last handed over, plus one; 0: it did not say. */
    _Alignas(64) _Atomic uint32_t host_turn;
    _Atomic uint32_t host_cpu;
    _Alignas(64) _Atomic uint32_t worker_turn;
    _Atomic uint32_t worker_cpu;
    _Alignas(64) ot_ring_ask ask;
    _Alignas(64) ot_ring_answer answer;
} ot_ring;

_Static_assert(sizeof(ot_ring_tensor) == 88 && sizeof(ot_ring_wanted) == 24, "the protocol");
_Static_assert(offsetof(ot_ring, host_turn) == 64 && offsetof(ot_ring, worker_turn) == 128 &&
                   offsetof(ot_ring, ask) == 192,
               "the protocol");
_Static_assert(offsetof(ot_ring_ask, inputs) == 56 && offsetof(ot_ring_ask, outputs) == 22584,
               "the protocol");
_Static_assert(offsetof(ot_ring, answer) == 23552 && offsetof(ot_ring_answer, outputs) == 48 &&
                   offsetof(ot_ring_answer, message) == 2864,
               "the protocol");

static inline uint64_t ot_ring_align(uint64_t n)
{
    return (n + OT_RING_ALIGN - 1) & ~(uint64_t)(OT_RING_ALIGN - 1);
}

/* Waits until *turn is not `seen` any more, or mono time `until_ns` (0: for ever). False: the time
 * is up. Wakes up now and then without either. */
bool ot_ring_wait(_Atomic uint32_t *turn, uint32_t seen, uint64_t until_ns);
/* Hands the turn over. */
void ot_ring_post(_Atomic uint32_t *turn);
/* Says at *cpu which processor this is; whether that is the one where the other side last was. */
void ot_ring_here(_Atomic uint32_t *cpu);
bool ot_ring_is_here(const _Atomic uint32_t *cpu);
/* Copies what another processor reads next: past this one's caches, where it would only have to be
 * fetched from again. Seen by whoever sees the next hand-over. */
void ot_ring_copy_far(void *to, const void *from, size_t n);

/* Looking for the turn instead of falling asleep. Where each side has a processor to itself, being
 * woken up on it takes longer than a small model's run; where processors are short, looking takes
 * one from somebody. So it is done while it helps: not when the other side was last on this
 * processor (`cpu`), and seldom after it was in vain or in somebody's way. */
typedef struct ot_ring_looks {
    uint8_t passes; /* waits without a look after the last one that did not help; doubles */
    uint8_t left;   /* of these */
} ot_ring_looks;
/* True: *turn is not `seen` any more. For up to `us`; 0: not at all. */
bool ot_ring_look(ot_ring_looks *l, _Atomic uint32_t *turn, const _Atomic uint32_t *cpu,
                  uint32_t seen, uint32_t us);

/* What the host knows when it reads an answer. */
typedef struct ot_ring_expect {
    uint64_t ticket;
    uint32_t n_outputs, n_parts;
    const void *segment; /* where the outputs lie, `size` bytes */
    uint64_t size;
    const ot_tensor_spec *const *specs; /* of the n_outputs asked for */
} ot_ring_expect;

/* `a` is the host's own copy. Fills outputs_out (n_outputs of them, views of the segment) and
 * *parts_out (view, or NULL). The error says what the worker got wrong. */
ot_rc ot_ring_check(const ot_ring_answer *a, const ot_ring_expect *e, overtake_output *outputs_out,
                    const int32_t **parts_out, ot_error *err) OT_CHECKED;

/* A memory file of `size` bytes, mapped; sealed so that nobody can cut it short, and with
 * `read_only` so that whoever else maps it can't write. */
ot_rc ot_ring_memory(const char *name, uint64_t size, bool read_only, int *fd_out, void **at_out,
                     ot_error *err) OT_CHECKED;

#endif
