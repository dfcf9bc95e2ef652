/* Instances: runs answered inside submit, or late by a thread that each instance has; cancel and
 * deadline end the wait of either. */
#include "null.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* One more than the host may have in flight: the host sees a run end before its place is free. */
#define PLACES (NULL_IN_FLIGHT + 1)

typedef struct job {
    const overtake_submission *s;
    uint64_t ticket; /* `s` may not be looked at after its final response */
    bool cancelled;
} job;

struct overtake_instance {
    overtake_model *model;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on the monotonic clock */
    /* Synchronization: the lock. Runs in order of arrival, the first one being worked on. */
    job jobs[PLACES];
    unsigned first, n;
    bool stop;
    bool has_thread;
    pthread_t thread;
};

/* Waits until the model's delay has passed; OK, or how it ended early. */
static int32_t delay(overtake_instance *inst, job *j)
{
    uint64_t now = null_host->now_ns(null_host->self);
    uint64_t until = now + (uint64_t)inst->model->how.delay_us * 1000, deadline = j->s->deadline_ns;
    uint64_t wake = deadline != 0 && deadline < until ? deadline : until;
    int32_t rc = OVERTAKE_OK;
    pthread_mutex_lock(&inst->lock);
    while (!j->cancelled && (now = null_host->now_ns(null_host->self)) < wake) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t); /* the condition's clock; the host's may be simulated */
        uint64_t at = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + (wake - now);
        t.tv_sec = (time_t)(at / 1000000000u);
        t.tv_nsec = (long)(at % 1000000000u);
        pthread_cond_timedwait(&inst->changed, &inst->lock, &t);
    }
    if (j->cancelled) {
        rc = OVERTAKE_CANCELLED;
    } else if (deadline != 0 && now >= deadline) {
        rc = OVERTAKE_TIMEOUT;
    }
    pthread_mutex_unlock(&inst->lock);
    return rc;
}

static void answer_failure(const overtake_submission *s, int32_t code, const char *message,
                           uint32_t sequence, uint32_t flags)
{
    overtake_response r = {
        .struct_size = sizeof r,
        .ticket = s->ticket,
        .status = code,
        .flags = flags | OVERTAKE_RESPONSE_FINAL,
        .message = message,
        .sequence = sequence,
    };
    s->respond(s->user, &r);
}

/* One response with its own outputs. False when it was a failure, and so the last. */
static bool answer_once(overtake_instance *inst, const overtake_submission *s, uint32_t sequence,
                        bool last, uint32_t flags, int32_t *part_status)
{
    overtake_output outputs[NULL_IO_MAX];
    overtake_error err = {""};
    void *token = NULL;
    bool buffers = inst->model->how.responses == 1; /* several responses cannot share a buffer */
    int32_t rc = null_compute(inst->model, s, buffers, outputs, part_status, &token, &err);
    if (rc != OVERTAKE_OK) {
        answer_failure(s, rc, err.message, sequence, flags);
        return false;
    }
    overtake_response r = {
        .struct_size = sizeof r,
        .ticket = s->ticket,
        .flags = flags | (last ? OVERTAKE_RESPONSE_FINAL : 0),
        .sequence = sequence,
        .n_outputs = s->n_outputs,
        .outputs = outputs,
        .part_status = null_any_part_failed(s, part_status) ? part_status : NULL,
        .token = token,
    };
    s->respond(s->user, &r);
    return true;
}

static void run(overtake_instance *inst, job *j, uint32_t flags)
{
    const overtake_submission *s = j->s;
    const null_behaviour *how = &inst->model->how;
    int32_t rc = delay(inst, j);
    if (rc != OVERTAKE_OK) {
        answer_failure(s, rc, rc == OVERTAKE_TIMEOUT ? "the deadline passed" : "cancelled", 0,
                       flags);
        return;
    }
    unsigned long long count = atomic_fetch_add(&inst->model->runs, 1) + 1;
    if (how->fail_every > 0 && count % (unsigned long long)how->fail_every == 0) {
        char message[80];
        snprintf(message, sizeof message, "run %llu fails because fail_every is %lld", count,
                 (long long)how->fail_every);
        answer_failure(s, OVERTAKE_INTERNAL, message, 0, flags);
        return;
    }
    int32_t *part_status = null_alloc((s->n_parts + 1u) * sizeof *part_status);
    if (part_status == NULL) {
        answer_failure(s, OVERTAKE_EXHAUSTED, "out of memory", 0, flags);
        return;
    }
    bool more = true;
    for (int64_t i = 0; more && i < how->responses; i++) {
        more = answer_once(inst, s, (uint32_t)i, i == how->responses - 1, flags, part_status);
    }
    null_free(part_status);
}

/* ---- late answers */

static void *work(void *arg)
{
    overtake_instance *inst = arg;
    pthread_mutex_lock(&inst->lock);
    while (!inst->stop) {
        if (inst->n == 0) {
            pthread_cond_wait(&inst->changed, &inst->lock);
            continue;
        }
        job *j = &inst->jobs[inst->first];
        pthread_mutex_unlock(&inst->lock); /* no lock is held across a callback */
        run(inst, j, 0);
        pthread_mutex_lock(&inst->lock);
        inst->first = (inst->first + 1) % PLACES;
        inst->n--;
    }
    pthread_mutex_unlock(&inst->lock);
    return NULL;
}

int32_t null_submit(overtake_instance *inst, const overtake_submission *s, overtake_error *err)
{
    pthread_mutex_lock(&inst->lock);
    if (inst->n == PLACES) {
        pthread_mutex_unlock(&inst->lock);
        return null_fail(err, OVERTAKE_EXHAUSTED, "more than %d runs in flight", NULL_IN_FLIGHT);
    }
    job *j = &inst->jobs[(inst->first + inst->n) % PLACES];
    *j = (job){.s = s, .ticket = s->ticket};
    inst->n++;
    pthread_cond_broadcast(&inst->changed);
    pthread_mutex_unlock(&inst->lock);
    if (!inst->has_thread) {
        run(inst, j, OVERTAKE_RESPONSE_INLINE);
        pthread_mutex_lock(&inst->lock);
        inst->first = (inst->first + 1) % PLACES;
        inst->n--;
        pthread_mutex_unlock(&inst->lock);
    }
    return OVERTAKE_OK;
}

void null_cancel(overtake_instance *inst, uint64_t ticket)
{
    pthread_mutex_lock(&inst->lock);
    for (unsigned i = 0; i < inst->n; i++) {
        job *j = &inst->jobs[(inst->first + i) % PLACES];
        j->cancelled = j->cancelled || j->ticket == ticket;
    }
    pthread_cond_broadcast(&inst->changed);
    pthread_mutex_unlock(&inst->lock);
}

void null_release(overtake_instance *inst, void *token)
{
    (void)inst;
    null_free(token);
}

/* ---- making */

int32_t null_instance_create(overtake_model *model, overtake_instance **out, overtake_error *err)
{
    overtake_instance *inst = null_alloc(sizeof *inst);
    if (inst == NULL) {
        return null_fail(err, OVERTAKE_EXHAUSTED, "instance: out of memory");
    }
    memset(inst, 0, sizeof *inst);
    inst->model = model;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&inst->lock, NULL);
    pthread_cond_init(&inst->changed, &attr);
    pthread_condattr_destroy(&attr);
    inst->has_thread = model->how.late;
    if (inst->has_thread && pthread_create(&inst->thread, NULL, work, inst) != 0) {
        inst->has_thread = false;
        null_instance_destroy(inst);
        return null_fail(err, OVERTAKE_UNAVAILABLE, "instance: no thread could be started");
    }
    *out = inst;
    return OVERTAKE_OK;
}

void null_instance_destroy(overtake_instance *inst)
{
    if (inst->has_thread) {
        pthread_mutex_lock(&inst->lock);
        inst->stop = true;
        pthread_cond_broadcast(&inst->changed);
        pthread_mutex_unlock(&inst->lock);
        pthread_join(inst->thread, NULL);
    }
    pthread_cond_destroy(&inst->changed);
    pthread_mutex_destroy(&inst->lock);
    null_free(inst);
}
