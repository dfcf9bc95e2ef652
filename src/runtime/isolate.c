/* The host's side of a lane: submissions become asks in shared memory, answers become responses. */
#include "runtime/isolate.h"

#include "base/clock.h"
#include "base/mem.h"
#include "runtime/isolate_model.h"
#include "runtime/isolate_segment.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

/* About what a wake-up takes; a host looks for as long as a short run takes, too. */
#define WORKER_LOOK_US 100
#define HOST_LOOK_US 300
#define FAR_MIN 16384 /* bytes of inputs; less than that are fetched from a cache in a few us */
#define DEADLINE_GRACE_NS UINT64_C(2000000) /* a worker that keeps deadlines answers by itself */

struct overtake_instance {
    overtake_model *m;
    ot_isolate_segments memory; /* and the process that knows it */
    ot_ring *ring;
    uint32_t seen; /* of worker_turn */
    ot_ring_looks looks;
    uint64_t out_hint;           /* room that runs have needed */
    bool late;                   /* the run before was answered for it: the worker still has it */
    uint64_t hang_ns;            /* when that run, or this one, has taken too long */
    ot_isolate_segment *current; /* of the run */
    ot_ring_answer answer;       /* our copy */
    int32_t *parts;
    size_t parts_cap;
    const ot_tensor_spec *asked[OT_RUNTIME_OUTPUTS_MAX];
};

/* ---- opening */

static void lane_forget(overtake_instance *l)
{
    ot_isolate_lane_ring(l->m, &l->ring, NULL);
    ot_isolate_segments_forget(&l->memory);
    l->late = false;
}

static ot_rc lane_open(overtake_instance *l, ot_error *err)
{
    int fd = -1;
    void *at;
    lane_forget(l);
    uint64_t up = ot_minder_up(l->m->minder);
    OT_TRY(ot_ring_memory("overtake-lane", sizeof(ot_ring), false, &fd, &at, err));
    ot_isolate_lane_ring(l->m, &l->ring, at);
    l->ring->version = OT_RING_VERSION;
    l->seen = 0;
    ot_rc rc = ot_minder_tell(l->m->minder, up,
                              json_pack("{s:s,s:i}", "op", "lane", "lane", (int)l->memory.lane), fd,
                              true, err);
    ot_fd_close(&fd);
    l->memory.up = rc == OT_OK ? up : 0;
    return rc;
}

/* ---- asking */

static uint64_t inputs_size(const overtake_submission *s)
{
    uint64_t total = ot_ring_align((uint64_t)s->n_parts * sizeof(overtake_part));
    for (uint32_t i = 0; i < s->n_inputs; i++) {
        uint64_t bytes = 0;
        for (uint32_t k = 0; k < s->inputs[i].n_segments; k++) {
            bytes += s->inputs[i].segments[k].size_bytes;
        }
        total += ot_ring_align(bytes);
    }
    return total;
}

static void copy(uint8_t *to, const overtake_segment *from, bool far)
{
    if (far && from->size_bytes > 0) {
        ot_ring_copy_far(to, from->data, from->size_bytes);
    } else if (from->size_bytes > 0) {
        memcpy(to, from->data, from->size_bytes);
    }
}

static ot_rc put_inputs(overtake_instance *l, const overtake_submission *s, ot_error *err)
{
    uint64_t at = 0, total = inputs_size(s);
    OT_TRY(ot_isolate_segments_inputs(&l->memory, total, err));
    bool far = total >= FAR_MIN && !ot_ring_is_here(&l->ring->worker_cpu);
    ot_ring_ask *ask = &l->ring->ask;
    uint8_t *base = l->memory.in;
    for (uint32_t i = 0; i < s->n_inputs; i++) {
        const overtake_input *from = &s->inputs[i];
        ot_ring_tensor *to = &ask->inputs[i];
        to->dtype = from->dtype;
        to->rank = from->rank;
        memcpy(to->dims, from->dims, sizeof to->dims);
        to->offset = at;
        for (uint32_t k = 0; k < from->n_segments; k++) {
            copy(base + at, &from->segments[k], far);
            at += from->segments[k].size_bytes;
        }
        to->size = at - to->offset;
        at = ot_ring_align(at);
    }
    ask->parts_offset = at;
    ask->n_parts = s->n_parts;
    if (s->n_parts > 0) {
        memcpy(base + at, s->parts, s->n_parts * sizeof *s->parts);
    }
    return OT_OK;
}

/* Bytes that an output will take: 0 when its shape doesn't say. */
static uint64_t expected_size(const ot_tensor_spec *spec, const overtake_submission *s)
{
    int64_t dims[OT_RANK_MAX];
    size_t bytes;
    memcpy(dims, spec->dims, sizeof dims);
    if (spec->rank > 0 && dims[0] < 0 && s->n_inputs > 0 && s->inputs[0].rank > 0) {
        dims[0] = s->inputs[0].dims[0];
    }
    return spec->dtype != OT_DT_BYTES && ot_shape_bytes(spec->dtype, dims, spec->rank, &bytes)
               ? bytes
               : 0;
}

static ot_rc put_outputs(overtake_instance *l, const overtake_submission *s, ot_error *err)
{
    ot_ring_ask *ask = &l->ring->ask;
    uint64_t at = 0;
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        uint32_t k = ot_isolate_output(l->m, s->outputs[i].name);
        l->asked[i] = &l->m->outputs[k];
        uint64_t size = expected_size(l->asked[i], s);
        ask->outputs[i] = (ot_ring_wanted){.index = k, .offset = at, .capacity = size};
        at += ot_ring_align(size);
    }
    at += ot_ring_align(s->n_parts * sizeof(int32_t));
    if (at > OT_RING_SEGMENT_MAX) { /* a shape that cannot be: let the runtime find out */
        for (uint32_t i = 0; i < s->n_outputs; i++) {
            ask->outputs[i].offset = ask->outputs[i].capacity = 0;
        }
        at = 0;
    }
    OT_TRY(ot_isolate_segment_take(&l->memory, OT_MAX(at, l->out_hint), &l->current, err));
    ask->n_outputs = s->n_outputs;
    ask->out_segment = l->current->id;
    ask->out_size = l->current->size;
    return OT_OK;
}

static void post(overtake_instance *l, uint32_t kind)
{
    l->ring->ask.kind = kind;
    ot_ring_here(&l->ring->host_cpu);
    ot_ring_post(&l->ring->host_turn);
}

/* ---- answers */

/* The worker's next answer, copied. OT_TIMEOUT: mono time `until` has come. OT_UNAVAILABLE: the
 * process has died, or was made to because this takes too long. */
static ot_rc next_answer(overtake_instance *l, uint64_t until, ot_error *err)
{
    const ot_minder *minder = l->m->minder;
    while (ot_minder_up(minder) == l->memory.up) {
        uint32_t turn = atomic_load_explicit(&l->ring->worker_turn, memory_order_acquire);
        if (turn != l->seen) {
            l->seen = turn;
            memcpy(&l->answer, &l->ring->answer, sizeof l->answer);
            l->answer.message[sizeof l->answer.message - 1] = '\0';
            return OT_OK;
        }
        if (ot_ring_wait(&l->ring->worker_turn, l->seen, OT_MIN(until, l->hang_ns))) {
            continue;
        }
        if (ot_clock_mono_ns() >= l->hang_ns) {
            char why[96], text[32];
            snprintf(why, sizeof why, "a run did not come back within %s",
                     ot_format_duration(l->m->how.hang_us, text));
            ot_minder_kill(l->m->minder, l->memory.up, why);
            l->hang_ns = until = UINT64_MAX; /* its death wakes us */
        } else {
            return ot_fail(err, OT_TIMEOUT, "the deadline passed during the run");
        }
    }
    ot_minder_why(l->m->minder, err);
    return OT_UNAVAILABLE;
}

/* What a process does that breaks the protocol is as good as a crash. */
static ot_rc broke(overtake_instance *l, const ot_error *what, ot_error *err)
{
    char why[200];
    snprintf(why, sizeof why, "it broke the protocol: %s", what->msg);
    ot_minder_kill(l->m->minder, l->memory.up, why);
    l->hang_ns = UINT64_MAX;
    while (next_answer(l, UINT64_MAX, err) == OT_OK) {
    }
    return OT_UNAVAILABLE;
}

/* More room: what is there stays until the answer has come. */
static ot_rc give_room(overtake_instance *l, ot_error *err)
{
    uint64_t need = l->answer.need;
    if (need <= l->current->size || need > OT_RING_SEGMENT_MAX) {
        ot_error what;
        (void)ot_fail(&what, OT_INTERNAL, "it asks for %llu bytes of room for outputs",
                      (unsigned long long)need);
        return broke(l, &what, err);
    }
    ot_isolate_segment *old = l->current;
    ot_rc rc = ot_isolate_segment_take(&l->memory, need, &l->current, err);
    if (rc == OT_OK) {
        l->out_hint = need;
        l->ring->ask.out_segment = l->current->id;
        l->ring->ask.out_size = l->current->size;
        post(l, OT_ASK_GO_ON);
        rc = next_answer(l, UINT64_MAX, err);
    } else if (rc != OT_UNAVAILABLE) {
        rc = broke(l, err, &(ot_error){0}); /* it can't be told to give up */
    }
    ot_isolate_segment_release(old);
    return rc;
}

/* Strings are read twice (their lengths first), so they are read from a copy; so are codes. */
static ot_rc copy_unsafe(overtake_instance *l, overtake_output *outputs, uint32_t n,
                         const int32_t **codes, uint32_t n_parts, ot_error *err)
{
    uint64_t total = 0, at = 0;
    for (uint32_t i = 0; i < n; i++) {
        total += outputs[i].dtype == OVERTAKE_DT_BYTES ? ot_ring_align(outputs[i].size_bytes) : 0;
    }
    uint8_t *own = total > 0 ? ot_alloc(total) : NULL;
    if (total > 0 && own == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the outputs");
    }
    for (uint32_t i = 0; i < n; i++) {
        if (outputs[i].dtype == OVERTAKE_DT_BYTES && own != NULL) {
            memcpy(own + at, outputs[i].data, outputs[i].size_bytes);
            outputs[i].data = own + at;
            at += ot_ring_align(outputs[i].size_bytes);
        }
    }
    l->current->own = own;
    if (*codes == NULL) {
        return OT_OK;
    }
    if (l->parts_cap < n_parts) {
        int32_t *grown = ot_realloc(l->parts, n_parts * sizeof *grown);
        if (grown == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "out of memory for codes of parts");
        }
        l->parts = grown;
        l->parts_cap = n_parts;
    }
    memcpy(l->parts, *codes, n_parts * sizeof *l->parts);
    *codes = l->parts;
    return OT_OK;
}

/* Passes one response on; *final_out when it was the last. */
static ot_rc pass_on(overtake_instance *l, const overtake_submission *s, bool *final_out,
                     ot_error *err)
{
    const ot_ring_answer *a = &l->answer;
    overtake_output outputs[OT_RUNTIME_OUTPUTS_MAX];
    ot_ring_expect expect = {.ticket = s->ticket,
                             .n_outputs = s->n_outputs,
                             .n_parts = s->n_parts,
                             .segment = l->current->at,
                             .size = l->current->size,
                             .specs = l->asked};
    const int32_t *codes = NULL;
    ot_error what;
    if (ot_ring_check(a, &expect, outputs, &codes, &what) != OT_OK) {
        return broke(l, &what, err);
    }
    bool ok = a->status == OVERTAKE_OK;
    *final_out = (a->flags & OVERTAKE_RESPONSE_FINAL) != 0 || !ok;
    if (ok && copy_unsafe(l, outputs, s->n_outputs, &codes, s->n_parts, &what) != OT_OK) {
        return broke(l, &what, err);
    }
    overtake_response r = {.struct_size = sizeof r,
                           .ticket = s->ticket,
                           .status = a->status,
                           .flags = OVERTAKE_RESPONSE_INLINE |
                                    (*final_out ? (uint32_t)OVERTAKE_RESPONSE_FINAL : 0u),
                           .message = a->message,
                           .sequence = a->sequence,
                           .n_outputs = ok ? s->n_outputs : 0,
                           .outputs = outputs,
                           .part_status = codes,
                           .token = ok ? l->current : NULL};
    ot_isolate_segment *mine = l->current;
    l->current = NULL;
    if (!ok) {
        ot_isolate_segment_release(mine);
    }
    s->respond(s->user, &r);
    return OT_OK;
}

/* After a response that was not the last: the next one goes elsewhere, this one may be held. */
static ot_rc ask_for_more(overtake_instance *l, ot_error *err)
{
    ot_rc rc =
        ot_isolate_segment_take(&l->memory, OT_MAX(l->out_hint, OT_SEGMENT_MIN), &l->current, err);
    if (rc != OT_OK) {
        return rc == OT_UNAVAILABLE ? rc : broke(l, err, &(ot_error){0});
    }
    l->ring->ask.out_segment = l->current->id;
    l->ring->ask.out_size = l->current->size;
    post(l, OT_ASK_GO_ON);
    return OT_OK;
}

static ot_rc answers(overtake_instance *l, const overtake_submission *s, ot_error *err)
{
    uint64_t until = s->deadline_ns != 0 ? s->deadline_ns + DEADLINE_GRACE_NS : UINT64_MAX;
    ot_ring *r = l->ring;
    (void)ot_ring_look(&l->looks, &r->worker_turn, &r->worker_cpu, l->seen,
                       r->ask.look_us > 0 ? HOST_LOOK_US : 0);
    for (bool final = false; !final;) {
        OT_TRY(next_answer(l, until, err));
        while (l->answer.kind == OT_ANSWER_ROOM) {
            OT_TRY(give_room(l, err));
        }
        OT_TRY(pass_on(l, s, &final, err));
        if (!final) {
            OT_TRY(ask_for_more(l, err));
            l->hang_ns = ot_clock_mono_ns() + (uint64_t)l->m->how.hang_us * 1000;
        }
    }
    return OT_OK;
}

/* The answer to a run that was given up for its deadline, so that the next one can be asked. */
static ot_rc drain(overtake_instance *l, uint64_t until, ot_error *err)
{
    while (l->late) {
        OT_TRY(next_answer(l, until, err));
        if (l->answer.kind == OT_ANSWER_ROOM) {
            OT_TRY(give_room(l, err));
        }
        if (l->answer.kind == OT_ANSWER_RESPONSE &&
            ((l->answer.flags & OVERTAKE_RESPONSE_FINAL) != 0 || l->answer.status != OVERTAKE_OK)) {
            l->late = false;
        } else {
            post(l, OT_ASK_GO_ON);
        }
    }
    if (l->current != NULL) {
        ot_isolate_segment_release(l->current);
        l->current = NULL;
    }
    return OT_OK;
}

static ot_rc prepare(overtake_instance *l, const overtake_submission *s, ot_error *err)
{
    if (l->memory.up == 0 || ot_minder_up(l->m->minder) != l->memory.up) {
        if (l->current != NULL) {
            ot_isolate_segment_release(l->current);
            l->current = NULL;
        }
        OT_TRY(lane_open(l, err));
    }
    OT_TRY(drain(l, s->deadline_ns != 0 ? s->deadline_ns : UINT64_MAX, err));
    OT_TRY(put_inputs(l, s, err));
    return put_outputs(l, s, err);
}

static void cancel(overtake_instance *l, uint64_t ticket);

static void fail_response(const overtake_submission *s, ot_rc rc, const char *message)
{
    overtake_response r = {.struct_size = sizeof r,
                           .ticket = s->ticket,
                           .status = (int32_t)rc,
                           .flags = OVERTAKE_RESPONSE_FINAL | OVERTAKE_RESPONSE_INLINE,
                           .message = message};
    s->respond(s->user, &r);
}

/* Synchronization: relaxed. Runs of all lanes of this process that are on their way. */
static _Atomic unsigned on_their_way;

/* One more; false: then there are not two processors for each. */
static bool enter(void)
{
    cpu_set_t all;
    unsigned others = atomic_fetch_add_explicit(&on_their_way, 1, memory_order_relaxed);
    return sched_getaffinity(0, sizeof all, &all) == 0 &&
           2 * (others + 1) <= (unsigned)CPU_COUNT(&all);
}

static void leave(void)
{
    atomic_fetch_sub_explicit(&on_their_way, 1, memory_order_relaxed);
}

static int32_t submit(overtake_instance *l, const overtake_submission *s, overtake_error *why)
{
    ot_error err;
    ot_rc rc = prepare(l, s, &err);
    if (rc != OT_OK) {
        snprintf(why->message, sizeof why->message, "%s", err.msg);
        return (int32_t)rc;
    }
    l->ring->ask.n_inputs = s->n_inputs;
    l->ring->ask.ticket = s->ticket;
    l->ring->ask.deadline_ns = s->deadline_ns;
    l->hang_ns = ot_clock_mono_ns() + (uint64_t)l->m->how.hang_us * 1000;
    l->ring->ask.look_us = enter() ? WORKER_LOOK_US : 0;
    post(l, OT_ASK_RUN);
    rc = answers(l, s, &err);
    leave();
    if (rc == OT_TIMEOUT) {
        l->late = true;
        if (l->m->table.cancel != NULL) {
            cancel(l, s->ticket);
        }
    } else if (rc != OT_OK && l->current != NULL) {
        ot_isolate_segment_release(l->current);
        l->current = NULL;
    }
    if (rc != OT_OK) {
        fail_response(s, rc, err.msg);
    }
    return OVERTAKE_OK;
}

/* ---- the rest of an instance's table */

static void cancel(overtake_instance *l, uint64_t ticket)
{
    char text[24];
    ot_error err;
    snprintf(text, sizeof text, "%llu", (unsigned long long)ticket);
    /* One that comes too late, or to nobody, is as good as none. */
    (void)!ot_minder_tell(
        l->m->minder, ot_minder_up(l->m->minder),
        json_pack("{s:s,s:i,s:s}", "op", "cancel", "lane", (int)l->memory.lane, "ticket", text), -1,
        false, &err);
}

static void release(overtake_instance *l, void *token)
{
    (void)l;
    ot_isolate_segment_release(token);
}

static void instance_destroy(overtake_instance *l)
{
    ot_error err;
    if (l->ring != NULL && l->memory.up != 0 && drain(l, UINT64_MAX, &err) == OT_OK) {
        post(l, OT_ASK_CLOSE);
        (void)!ot_minder_tell(l->m->minder, l->memory.up,
                              json_pack("{s:s,s:i}", "op", "close", "lane", (int)l->memory.lane),
                              -1, true, &err);
    }
    if (l->current != NULL) {
        ot_isolate_segment_release(l->current);
    }
    lane_forget(l);
    ot_isolate_lane_remove(l->m, l->memory.lane);
    ot_isolate_segments_done(&l->memory);
    ot_free(l->parts);
    ot_free(l);
}

static int32_t instance_create(overtake_model *m, overtake_instance **out, overtake_error *why)
{
    ot_error err;
    overtake_instance *l = ot_calloc(1, sizeof *l);
    if (l == NULL) {
        snprintf(why->message, sizeof why->message, "out of memory");
        return OVERTAKE_EXHAUSTED;
    }
    l->m = m;
    ot_isolate_segments_init(&l->memory, m->minder);
    ot_rc rc = ot_isolate_lane_add(m, &l->ring, &l->memory.lane, &err);
    if (rc == OT_OK) {
        rc = lane_open(l, &err);
        if (rc != OT_OK) {
            lane_forget(l);
            ot_isolate_lane_remove(m, l->memory.lane);
        }
    }
    if (rc != OT_OK) {
        snprintf(why->message, sizeof why->message, "%s", err.msg);
        ot_isolate_segments_done(&l->memory);
        ot_free(l);
        return (int32_t)rc;
    }
    *out = l;
    return OVERTAKE_OK;
}

void ot_isolate_fill_instances(overtake_plugin *table)
{
    table->instance_create = instance_create;
    table->instance_destroy = instance_destroy;
    table->submit = submit;
    table->cancel = table->cancel != NULL ? cancel : NULL;
    table->release = release;
}
