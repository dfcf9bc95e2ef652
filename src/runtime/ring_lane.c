/* The worker's side of a lane: asks become submissions, responses become answers. The host is
 * trusted here; it is the host that doesn't trust us. */
#include "runtime/worker.h"

#include "base/disk.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

typedef struct segment {
    uint8_t *at;
    uint64_t size;
} segment;

struct ot_ring_lane {
    const overtake_plugin *plugin;
    overtake_instance *inst;
    const overtake_model_info *info;
    ot_ring *ring;
    uint32_t seen;    /* of host_turn */
    uint32_t look_us; /* as the last ask said */
    ot_ring_looks looks;
    pthread_t thread;
    bool running;
    /* Synchronization: the host's turns; a segment is mapped while no run looks at it. */
    segment segments[OT_RING_SEGMENTS_MAX];
    uint32_t out; /* the segment that outputs go to now, and how much of it */
    uint64_t out_size;
    overtake_submission sub;
    overtake_input inputs[OT_RUNTIME_INPUTS_MAX];
    overtake_segment whole[OT_RUNTIME_INPUTS_MAX];
    overtake_output_request outputs[OT_RUNTIME_OUTPUTS_MAX];
    /* A late answer comes from a thread of the plug-in. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool answered;
};

static void next_ask(ot_ring_lane *l)
{
    ot_ring *r = l->ring;
    uint32_t turn;
    (void)ot_ring_look(&l->looks, &r->host_turn, &r->host_cpu, l->seen, l->look_us);
    while ((turn = atomic_load_explicit(&r->host_turn, memory_order_acquire)) == l->seen) {
        (void)ot_ring_wait(&r->host_turn, l->seen, 0);
    }
    l->seen = turn;
    l->look_us = r->ask.look_us;
}

static void post(ot_ring_lane *l)
{
    ot_ring_here(&l->ring->worker_cpu);
    ot_ring_post(&l->ring->worker_turn);
}

/* After a response that is not the last one, or when there is no room: where to go on. */
static void go_on(ot_ring_lane *l)
{
    post(l);
    next_ask(l);
    l->out = l->ring->ask.out_segment;
    l->out_size = l->ring->ask.out_size;
}

/* ---- responses */

/* Where outputs and codes go that are not in the segment already: behind each other, from the end
 * of what the host laid out, so that none lies under another. */
static uint64_t place(const ot_ring_lane *l, const overtake_response *r, ot_ring_answer *a)
{
    const uint8_t *base = l->segments[l->out].at;
    uint64_t at = 0;
    for (uint32_t i = 0; i < r->n_outputs; i++) {
        const uint8_t *data = r->outputs[i].data;
        a->outputs[i].offset = UINT64_MAX;
        if (data >= base && data < base + l->out_size) {
            a->outputs[i].offset = (uint64_t)(data - base);
            at = OT_MAX(at, a->outputs[i].offset + r->outputs[i].size_bytes);
        }
    }
    for (uint32_t i = 0; i < r->n_outputs; i++) {
        if (a->outputs[i].offset == UINT64_MAX) {
            a->outputs[i].offset = ot_ring_align(at);
            at = a->outputs[i].offset + r->outputs[i].size_bytes;
        }
    }
    a->has_parts = r->part_status != NULL && l->sub.n_parts > 0;
    a->parts_offset = ot_ring_align(at);
    return a->has_parts ? a->parts_offset + l->sub.n_parts * sizeof(int32_t) : at;
}

static void fill(ot_ring_lane *l, const overtake_response *r, ot_ring_answer *a)
{
    uint8_t *base = l->segments[l->out].at;
    for (uint32_t i = 0; i < r->n_outputs; i++) {
        const overtake_output *from = &r->outputs[i];
        ot_ring_tensor *to = &a->outputs[i];
        to->dtype = from->dtype;
        to->rank = from->rank;
        memcpy(to->dims, from->dims, sizeof to->dims);
        to->size = from->size_bytes;
        if (base + to->offset != from->data && to->size > 0) {
            memcpy(base + to->offset, from->data, to->size);
        }
    }
    if (a->has_parts) {
        memcpy(base + a->parts_offset, r->part_status, l->sub.n_parts * sizeof(int32_t));
    }
}

static void answer(ot_ring_lane *l, const overtake_response *r)
{
    ot_ring_answer *a = &l->ring->answer;
    bool ok = r->status == OVERTAKE_OK && r->n_outputs <= OT_RUNTIME_OUTPUTS_MAX;
    a->n_outputs = ok ? r->n_outputs : 0;
    a->has_parts = 0;
    while (ok && (a->need = place(l, r, a)) > l->out_size) {
        a->kind = OT_ANSWER_ROOM;
        go_on(l);
    }
    if (ok) {
        fill(l, r, a);
    }
    a->kind = OT_ANSWER_RESPONSE;
    a->ticket = r->ticket;
    a->status = r->status;
    a->flags = r->flags & OVERTAKE_RESPONSE_FINAL;
    a->sequence = r->sequence;
    strncpy(a->message, r->message != NULL ? r->message : "", sizeof a->message - 1);
}

static void respond(void *user, const overtake_response *r)
{
    ot_ring_lane *l = user;
    bool final = (r->flags & OVERTAKE_RESPONSE_FINAL) != 0 || r->status != OVERTAKE_OK;
    answer(l, r);
    if (r->token != NULL) {
        l->plugin->release(l->inst, r->token);
    }
    if (!final) {
        go_on(l);
        return;
    }
    pthread_mutex_lock(&l->lock);
    l->answered = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

/* ---- runs */

static void fill_submission(ot_ring_lane *l)
{
    const ot_ring_ask *ask = &l->ring->ask;
    const uint8_t *in = l->segments[0].at;
    l->out = ask->out_segment;
    l->out_size = ask->out_size;
    l->sub = (overtake_submission){
        .struct_size = sizeof l->sub,
        .ticket = ask->ticket,
        .n_inputs = ask->n_inputs,
        .n_outputs = ask->n_outputs,
        .inputs = l->inputs,
        .outputs = l->outputs,
        .n_parts = ask->n_parts,
        .parts = ask->n_parts > 0 ? (const void *)(in + ask->parts_offset) : NULL,
        .deadline_ns = ask->deadline_ns,
        .respond = respond,
        .user = l,
    };
    for (uint32_t i = 0; i < ask->n_inputs; i++) {
        const ot_ring_tensor *t = &ask->inputs[i];
        l->whole[i] = (overtake_segment){in + t->offset, t->size};
        l->inputs[i] = (overtake_input){.name = l->info->inputs[i].name,
                                        .dtype = t->dtype,
                                        .rank = t->rank,
                                        .n_segments = 1,
                                        .segments = &l->whole[i]};
        memcpy(l->inputs[i].dims, t->dims, sizeof t->dims);
    }
    bool buffers = (l->plugin->capabilities & OVERTAKE_CAP_HOST_OUTPUTS) != 0;
    for (uint32_t i = 0; i < ask->n_outputs; i++) {
        const ot_ring_wanted *w = &ask->outputs[i];
        l->outputs[i] = (overtake_output_request){.name = l->info->outputs[w->index].name};
        if (buffers && w->capacity > 0) {
            l->outputs[i].buffer = l->segments[l->out].at + w->offset;
            l->outputs[i].capacity = w->capacity;
        }
    }
}

static void run(ot_ring_lane *l)
{
    overtake_error why = {""};
    l->answered = false;
    fill_submission(l);
    int32_t rc = l->plugin->submit(l->inst, &l->sub, &why);
    if (rc != OVERTAKE_OK) {
        why.message[sizeof why.message - 1] = '\0';
        overtake_response r = {.struct_size = sizeof r,
                               .ticket = l->sub.ticket,
                               .status = rc,
                               .flags = OVERTAKE_RESPONSE_FINAL,
                               .message = why.message};
        answer(l, &r);
    } else {
        pthread_mutex_lock(&l->lock);
        while (!l->answered) {
            pthread_cond_wait(&l->changed, &l->lock);
        }
        pthread_mutex_unlock(&l->lock);
    }
    post(l);
}

static void *lane_main(void *arg)
{
    ot_ring_lane *l = arg;
    for (;;) {
        next_ask(l);
        if (l->ring->ask.kind == OT_ASK_CLOSE) {
            return NULL;
        }
        if (l->ring->ask.kind == OT_ASK_RUN) {
            run(l);
        }
    }
}

/* ---- opening and closing */

static ot_rc map(int *fd, uint64_t size, bool writable, void **at_out, ot_error *err)
{
    void *at = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, *fd, 0);
    int errnum = errno;
    ot_fd_close(fd);
    if (at == MAP_FAILED) {
        return ot_fail_errno(err, errnum, "mapping %llu bytes", (unsigned long long)size);
    }
    *at_out = at;
    return OT_OK;
}

ot_rc ot_ring_lane_map(ot_ring_lane *l, uint32_t id, int fd, uint64_t size, ot_error *err)
{
    void *at;
    if (id >= OT_RING_SEGMENTS_MAX) {
        ot_fd_close(&fd);
        return ot_fail(err, OT_INVALID, "segment %u; the last one is %d", id,
                       OT_RING_SEGMENTS_MAX - 1);
    }
    OT_TRY(map(&fd, size, id != 0, &at, err));
    if (l->segments[id].at != NULL) {
        munmap(l->segments[id].at, l->segments[id].size);
    }
    l->segments[id] = (segment){at, size};
    return OT_OK;
}

ot_rc ot_ring_lane_open(const overtake_plugin *plugin, overtake_model *model,
                        const overtake_model_info *info, int ring_fd, ot_ring_lane **lane_out,
                        ot_error *err)
{
    ot_ring_lane *l = ot_calloc(1, sizeof *l);
    if (l == NULL) {
        ot_fd_close(&ring_fd);
        return ot_fail(err, OT_EXHAUSTED, "instance: out of memory");
    }
    l->plugin = plugin;
    l->info = info;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    void *ring = NULL;
    ot_rc rc = map(&ring_fd, sizeof(ot_ring), true, &ring, err);
    l->ring = ring;
    if (rc == OT_OK) {
        overtake_error why = {""};
        int32_t code = plugin->instance_create(model, &l->inst, &why);
        if (code != OVERTAKE_OK) {
            l->inst = NULL;
            why.message[sizeof why.message - 1] = '\0';
            rc = ot_fail(err, (ot_rc)code, "instance: %s", why.message);
        }
    }
    if (rc == OT_OK) {
        l->running = pthread_create(&l->thread, NULL, lane_main, l) == 0;
        rc = l->running ? OT_OK : ot_fail(err, OT_UNAVAILABLE, "instance: no thread");
    }
    if (rc != OT_OK) {
        ot_ring_lane_close(l);
        return rc;
    }
    *lane_out = l;
    return OT_OK;
}

void ot_ring_lane_cancel(ot_ring_lane *l, uint64_t ticket)
{
    if (l->plugin->cancel != NULL) {
        l->plugin->cancel(l->inst, ticket);
    }
}

void ot_ring_lane_close(ot_ring_lane *l)
{
    if (l == NULL) {
        return;
    }
    if (l->running) {
        pthread_join(l->thread, NULL); /* the host has asked it to close */
    }
    if (l->inst != NULL) {
        l->plugin->instance_destroy(l->inst);
    }
    for (uint32_t i = 0; i < OT_RING_SEGMENTS_MAX; i++) {
        if (l->segments[i].at != NULL) {
            munmap(l->segments[i].at, l->segments[i].size);
        }
    }
    if (l->ring != NULL) {
        munmap(l->ring, sizeof *l->ring);
    }
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    ot_free(l);
}
